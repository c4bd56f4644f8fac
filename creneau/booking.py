"""What was booked: batches, their lessons, and where each lesson stands."""

from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from creneau.amounts import from_wei
from creneau.fields import Address, Bytes32, Edu, Timestamp
from creneau.order import Order, Slot, booking_id


class Status(IntEnum):
    """Where a lesson stands; it only moves forward. The contract's `Status`."""

    NONE = 0
    PENDING = 1
    CONFIRMED = 2
    DISPUTED = 3
    COMPLETED = 4
    CANCELLED = 5


class SlotCode(IntEnum):
    """What `check` says about one slot. The contract's `SlotCode`."""

    OK = 0
    IN_PAST = 1
    MISALIGNED = 2
    DURATION = 3
    TAKEN = 4
    OVERLAP = 5


class Listing(NamedTuple):
    """A tutor's offer as the contract knows it.

    `hourly_rate` in EDU, zero if it is not offered; `instant` lessons need no confirmation; `nonce` is how
    often it was published, and what the next publication's signature must carry.
    """

    hourly_rate: Decimal
    instant: bool
    nonce: int


class BatchState(NamedTuple):
    """The contract's record of a batch: when it was created, and five disjoint sets of lessons as bits.

    `created_at` is None for a batch that does not exist.
    """

    created_at: datetime | None
    pending: int
    confirmed: int
    disputed: int
    completed: int
    cancelled: int

    @property
    def booked(self) -> int:
        """Every lesson that was ever booked."""
        return self.pending | self.confirmed | self.disputed | self.completed | self.cancelled

    def status(self, index: int) -> Status:
        """The status of lesson `index`, from zero; `NONE` if it was never booked."""
        for status, lessons in enumerate(self[1:], start=1):
            if lessons >> index & 1:
                return Status(status)
        return Status.NONE


class Booking(BaseModel):
    """One lesson of a batch.

    `index` is its place in the order, from zero; `amount` is what it cost, in EDU.
    """

    model_config = ConfigDict(frozen=True)

    id: Bytes32
    batch: Bytes32
    index: int
    student: Address
    tutor: Address
    listing: Bytes32
    slot: Slot
    amount: Edu
    status: Status

    @property
    def start(self) -> datetime:
        """When the lesson begins, in UTC."""
        return self.slot.start

    @property
    def end(self) -> datetime:
        """When the lesson is over, in UTC."""
        return self.slot.end


class Batch(BaseModel):
    """Lessons that were booked by one order.

    Sets of lessons are bits, bit i standing for the order's slot i. Booked lessons that are in no other set
    are pending. `transaction_hash`, `block_number` and `gas_used` are of the transaction that created the
    batch, as far as they are known.
    """

    model_config = ConfigDict(frozen=True)

    id: Bytes32
    order: Order
    booked: int
    confirmed: int = 0
    disputed: int = 0
    completed: int = 0
    cancelled: int = 0
    created_at: Timestamp | None = None
    transaction_hash: Bytes32 | None = None
    block_number: int | None = None
    gas_used: int | None = None

    @property
    def bookings(self) -> list[Booking]:
        """The lessons that were booked, in the order's order."""
        order = self.order
        return [
            Booking(
                id=booking_id(self.id, index),
                batch=self.id,
                index=index,
                student=order.student,
                tutor=order.tutor,
                listing=order.listing,
                slot=slot,
                amount=amount,
                status=self.status(index),
            )
            for index, (slot, amount) in enumerate(zip(order.slots, order.amounts, strict=True))
            if self.booked >> index & 1
        ]

    @property
    def left_out(self) -> list[int]:
        """The indexes, from zero, of the slots that were taken meanwhile and so not booked."""
        return [index for index in range(len(self.order.slots)) if not self.booked >> index & 1]

    @property
    def total(self) -> Decimal:
        """What the student paid in EDU: the sum of the amounts of the booked lessons."""
        return from_wei(
            sum(wei for index, wei in enumerate(self.order.amounts_wei) if self.booked >> index & 1)
        )

    def status(self, index: int) -> Status:
        """The status of lesson `index`, from zero; `NONE` if it was not booked."""
        sets = (self.confirmed, self.disputed, self.completed, self.cancelled)
        for status, lessons in enumerate(sets, start=Status.CONFIRMED):
            if lessons >> index & 1:
                return Status(status)
        return Status.PENDING if self.booked >> index & 1 else Status.NONE
