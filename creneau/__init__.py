"""Creneau's SDK: books several lessons with a tutor in one transaction that moves the student's tokens once.

    from creneau import BookingEscrow, Slot

    escrow = BookingEscrow("0x…")
    batch = escrow.create_bookings(tutor, annonce_id, [Slot(start=…, duration=…)], sender=student)
    batch.bookings, batch.left_out, batch.total

Models, amounts, hashes and the ABI codec need no node. `BookingEscrow` works on the network that Ape is
connected to, and is imported when it is first asked for, so that services that talk to a node themselves do
without Ape.
"""

from typing import TYPE_CHECKING, Any

from creneau.amounts import DECIMALS, format_edu, from_wei, lesson_amount, to_wei
from creneau.booking import Batch, BatchState, Booking, Listing, SlotCode, Status
from creneau.errors import ContractError, CreneauError, SlotError, decode_revert
from creneau.order import (
    MAX_SLOTS,
    Domain,
    Order,
    Permit,
    Slot,
    batch_of,
    booking_id,
    index_of,
    listing_id,
    listing_typed_data,
    permit_typed_data,
)

if TYPE_CHECKING:
    from creneau.escrow import BookingEscrow

__version__ = "0.1.0"

__all__ = [
    "DECIMALS",
    "MAX_SLOTS",
    "Batch",
    "BatchState",
    "Booking",
    "BookingEscrow",
    "ContractError",
    "CreneauError",
    "Domain",
    "Listing",
    "Order",
    "Permit",
    "Slot",
    "SlotCode",
    "SlotError",
    "Status",
    "batch_of",
    "booking_id",
    "decode_revert",
    "format_edu",
    "from_wei",
    "index_of",
    "lesson_amount",
    "listing_id",
    "listing_typed_data",
    "permit_typed_data",
    "to_wei",
]


def __getattr__(name: str) -> Any:
    if name == "BookingEscrow":
        from creneau.escrow import BookingEscrow

        return BookingEscrow
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
