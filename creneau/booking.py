"""What was booked: batches, their lessons, where each lesson stands, and what may be done with it.

`windows` is the table of the contract's rules: which act, by whom, from when, until when. A `Booking` reads
its dates and its `may` from it, a `Batch` asks its bookings. As text, and on the console, each is a table for
people (tables.py); `repr` shows the values.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from creneau import tables
from creneau.amounts import from_wei
from creneau.fields import Address, Bytes32, Edu, Timestamp
from creneau.order import MAX_SLOTS, Order, Slot, booking_id

FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""The end of what has no end: the last second that a datetime can tell."""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


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

    def __str__(self) -> str:
        return tables.listing(self)

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        tables.pretty(self, printer, cycle)


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


# --- What may be done with a lesson ---


class Act(StrEnum):
    """What is done with lessons once they are booked."""

    CONFIRM = "confirm"
    CANCEL = "cancel"
    COMPLETE = "complete"
    DISPUTE = "dispute"
    RESOLVE = "resolve"


class Role(StrEnum):
    """Who acts. `ANYONE` is everybody: the student, the tutor and the arbiter too."""

    STUDENT = "student"
    TUTOR = "tutor"
    ARBITER = "arbiter"
    ANYONE = "anyone"


class Periods(NamedTuple):
    """The escrow's periods, fixed when it was deployed.

    A student may cancel a confirmed lesson until `cancel_window` before its start. He may dispute it until
    `review_period` after its end; then the tutor can be paid. A dispute that is not resolved within
    `arbitration_period` more can be refunded.
    """

    cancel_window: timedelta
    review_period: timedelta
    arbitration_period: timedelta


class Window(NamedTuple):
    """`by` may do `act` from `since` until `until`: the first and the last second, by a block's timestamp."""

    act: Act
    by: Role
    since: datetime = _BEGINNING
    until: datetime = FOREVER


def windows(status: Status, slot: Slot, periods: Periods) -> list[Window]:
    """The contract's rules for a lesson at `slot`, as long as it stands as it does."""
    reviewed = _later(slot.end, periods.review_period)
    arbitrated = _later(reviewed, periods.arbitration_period)
    match status:
        case Status.PENDING:
            return [
                Window(Act.CONFIRM, Role.TUTOR, until=slot.start - _SECOND),
                Window(Act.CANCEL, Role.STUDENT),
                Window(Act.CANCEL, Role.TUTOR),
                Window(Act.COMPLETE, Role.STUDENT),
            ]
        case Status.CONFIRMED:
            return [
                Window(Act.CANCEL, Role.STUDENT, until=slot.start - periods.cancel_window),
                Window(Act.CANCEL, Role.TUTOR),
                Window(Act.COMPLETE, Role.STUDENT),
                Window(Act.COMPLETE, Role.ANYONE, since=_later(reviewed, _SECOND)),
                Window(Act.DISPUTE, Role.STUDENT, since=slot.start, until=reviewed),
            ]
        case Status.DISPUTED:
            return [
                Window(Act.CANCEL, Role.TUTOR),
                Window(Act.CANCEL, Role.ANYONE, since=_later(arbitrated, _SECOND)),
                Window(Act.COMPLETE, Role.STUDENT),
                Window(Act.RESOLVE, Role.ARBITER),
            ]
        case Status.NONE | Status.COMPLETED | Status.CANCELLED:
            return []


def _later(moment: datetime, period: timedelta) -> datetime:
    return moment + period if period <= FOREVER - moment else FOREVER


# --- Lessons and batches ---


class Booking(BaseModel):
    """One lesson of a batch.

    `index` is its place in the order, from zero; `amount` is what it cost, in EDU. The dates say what may be
    done as long as the lesson stands as it does, and are None when its status does not allow it at all: an
    act is possible in a block whose timestamp is neither before its `_from` nor after its `_until`.
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
    periods: Periods

    @property
    def start(self) -> datetime:
        """When the lesson begins, in UTC."""
        return self.slot.start

    @property
    def end(self) -> datetime:
        """When the lesson is over, in UTC."""
        return self.slot.end

    @property
    def confirmable_until(self) -> datetime | None:
        """The last second at which the tutor may confirm the lesson."""
        return self._until(Act.CONFIRM, Role.TUTOR)

    @property
    def cancellable_until(self) -> datetime | None:
        """The last second at which the student may cancel the lesson; `FOREVER` while it is pending."""
        return self._until(Act.CANCEL, Role.STUDENT)

    @property
    def disputable_from(self) -> datetime | None:
        """The first second at which the student may dispute the lesson."""
        return self._since(Act.DISPUTE, Role.STUDENT)

    @property
    def disputable_until(self) -> datetime | None:
        """The last second at which the student may dispute the lesson."""
        return self._until(Act.DISPUTE, Role.STUDENT)

    @property
    def completable_from(self) -> datetime | None:
        """The first second at which anyone may have the tutor paid. The student may at any time."""
        return self._since(Act.COMPLETE, Role.ANYONE)

    @property
    def refundable_from(self) -> datetime | None:
        """The first second at which anyone may have the student refunded, after a dispute."""
        return self._since(Act.CANCEL, Role.ANYONE)

    @property
    def windows(self) -> list[Window]:
        """All that may be done with the lesson, by whom and when."""
        return windows(self.status, self.slot, self.periods)

    def may(self, act: Act, by: Role, now: datetime) -> bool:
        """Whether `by` may do this in a block of timestamp `now`."""
        return any(
            window.act == act and window.by in {by, Role.ANYONE} and window.since <= now <= window.until
            for window in self.windows
        )

    def __str__(self) -> str:
        return tables.booking(self)

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        tables.pretty(self, printer, cycle)

    def _since(self, act: Act, by: Role) -> datetime | None:
        return next((window.since for window in self.windows if window[:2] == (act, by)), None)

    def _until(self, act: Act, by: Role) -> datetime | None:
        return next((window.until for window in self.windows if window[:2] == (act, by)), None)


class Batch(BaseModel):
    """Lessons that were booked by one order.

    Sets of lessons are bits, bit i standing for the order's slot i. Booked lessons that are in no other set
    are pending. `transaction_hash`, `block_number` and `gas_used` are of the transaction that created the
    batch, as far as they are known.
    """

    model_config = ConfigDict(frozen=True)

    id: Bytes32
    order: Order
    periods: Periods
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
                periods=self.periods,
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

    def lessons_that_may(self, act: Act, by: Role, now: datetime) -> list[Booking]:
        """The lessons with which `by` may do this in a block of timestamp `now`."""
        return [booking for booking in self.bookings if booking.may(act, by, now)]

    def set_of(self, lessons: Iterable[int | Booking] | None = None) -> int:
        """A set of lessons as the contract takes it, bit i for slot i: from indexes or bookings.

        Without any, all that were booked. Raises `ValueError` for a lesson that is none of this batch's.
        """
        if lessons is None:
            return self.booked
        bits = 0
        for lesson in lessons:
            index = lesson.index if isinstance(lesson, Booking) else lesson
            if isinstance(lesson, Booking) and lesson.batch != self.id:
                raise ValueError(f"lesson {index} is of another batch")
            if not 0 <= index < MAX_SLOTS:
                raise ValueError(f"an index is from 0 to {MAX_SLOTS - 1}")
            bits |= 1 << index
        return bits

    def __str__(self) -> str:
        return tables.batch(self)

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        tables.pretty(self, printer, cycle)


class Outcome(BaseModel):
    """What an act did: to which lessons, and who got how much of their money, in EDU.

    `lessons` are bits, bit i standing for the order's slot i. `batch` is the whole batch as it stands now.
    """

    model_config = ConfigDict(frozen=True)

    act: Act
    batch: Batch
    lessons: int
    to_student: Edu = Decimal(0)
    to_tutor: Edu = Decimal(0)
    transaction_hash: Bytes32
    block_number: int
    gas_used: int

    @property
    def bookings(self) -> list[Booking]:
        """The lessons that it was done to, as they stand now."""
        return [booking for booking in self.batch.bookings if self.lessons >> booking.index & 1]

    def __str__(self) -> str:
        return tables.outcome(self)

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        tables.pretty(self, printer, cycle)
