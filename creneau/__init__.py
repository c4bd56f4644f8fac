"""Creneau's SDK: books several lessons with a tutor in one transaction that moves the student's tokens once.

    from creneau import BookingEscrow, Slot

    escrow = BookingEscrow("0x…")
    batch = escrow.create_bookings(tutor, annonce_id, [Slot(start=…, duration=…)], sender=student)
    batch.bookings, batch.left_out, batch.total
    batch.bookings[0].cancellable_until
    escrow.cancel(batch, [0], sender=student).to_student

Models, amounts, hashes and the ABI codec need no node. `BookingEscrow` works on the network that Ape is
connected to, and is imported when it is first asked for, so that services that talk to a node themselves do
without Ape.
"""

from typing import TYPE_CHECKING, Any

from creneau.amounts import DECIMALS, Token, format_amount, from_wei, lesson_amount, to_wei
from creneau.booking import ActionResult, Batch, BatchState, Booking, Listing
from creneau.errors import ContractError, CreneauError, LessonError, SlotError, decode_revert
from creneau.lifecycle import FOREVER, Action, Periods, Role, Status, Window, windows
from creneau.order import MAX_SLOTS, Order, Permit, Slot, SlotCode, batch_of, booking_id, index_of, listing_id
from creneau.typed_data import (
    Domain,
    action_typed_data,
    listing_typed_data,
    permit_typed_data,
    revoke_typed_data,
    settle_typed_data,
    withdraw_typed_data,
)

if TYPE_CHECKING:
    from creneau.ape.escrow import BookingEscrow

__version__ = "0.1.0"

__all__ = [
    "DECIMALS",
    "FOREVER",
    "MAX_SLOTS",
    "Action",
    "ActionResult",
    "Batch",
    "BatchState",
    "Booking",
    "BookingEscrow",
    "ContractError",
    "CreneauError",
    "Domain",
    "LessonError",
    "Listing",
    "Order",
    "Periods",
    "Permit",
    "Role",
    "Slot",
    "SlotCode",
    "SlotError",
    "Status",
    "Token",
    "Window",
    "action_typed_data",
    "batch_of",
    "booking_id",
    "decode_revert",
    "format_amount",
    "from_wei",
    "index_of",
    "lesson_amount",
    "listing_id",
    "listing_typed_data",
    "permit_typed_data",
    "revoke_typed_data",
    "settle_typed_data",
    "to_wei",
    "windows",
    "withdraw_typed_data",
]


def __getattr__(name: str) -> Any:
    if name == "BookingEscrow":
        try:
            from creneau.ape.escrow import BookingEscrow
        except ModuleNotFoundError as error:
            raise ImportError(f"BookingEscrow needs Ape: pip install 'creneau[ape]' ({error})") from error
        return BookingEscrow
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
