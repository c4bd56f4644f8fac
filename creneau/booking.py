"""Batches and their lessons: the status of each, and the actions that it allows.

A `Booking` reads its dates and its `may` from the table in lifecycle.py, a `Batch` asks its bookings. As
text, and on the console, each is a table for people (render.py); `repr` shows the values. Amounts are in
tokens; `currency` is the token that they are shown in.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from creneau import render
from creneau.amounts import Token, from_wei
from creneau.lifecycle import Action, Periods, Role, Status, Window, windows
from creneau.order import MAX_SLOTS, Order, Slot, booking_id
from creneau.types import Address, Bytes32, Timestamp, TokenAmount


class Listing(NamedTuple):
    """A tutor's offer as the contract knows it.

    `hourly_rate` in tokens, zero if it is not offered; `instant` lessons need no confirmation; lessons start
    from `min_notice` to `horizon` after their booking, a horizon of zero setting no limit; `nonce` is how
    often it was published, and what the next publication's signature must carry.
    """

    hourly_rate: Decimal
    instant: bool
    min_notice: timedelta
    horizon: timedelta
    nonce: int
    currency: Token = Token()

    @property
    def rules(self) -> tuple[bool, int, int]:
        """Instant, notice and horizon as the contract has them, in seconds."""
        notice, horizon = self.min_notice.total_seconds(), self.horizon.total_seconds()
        return self.instant, int(notice), int(horizon)

    def __str__(self) -> str:
        return render.listing(self)

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        render.pretty(self, printer, cycle)


class BatchState(NamedTuple):
    """The contract's record of a batch: when it was created, and five disjoint sets of lessons as bits.

    `created_at` is None for a batch that does not exist. An order that was revoked has no lessons.
    """

    created_at: datetime | None
    pending: int
    confirmed: int
    disputed: int
    completed: int
    cancelled: int

    @property
    def booked(self) -> int:
        """The set of all lessons that were ever booked."""
        return self.pending | self.confirmed | self.disputed | self.completed | self.cancelled

    def having(self, status: Status) -> int:
        """Return the set of lessons that have this status."""
        return (0, *self[1:])[status]

    def status(self, index: int) -> Status:
        """Return the status of lesson `index`, from zero; `NONE` if it was never booked."""
        for status, lessons in enumerate(self[1:], start=1):
            if lessons >> index & 1:
                return Status(status)
        return Status.NONE


# --- Lessons and batches ---


class _Shown(BaseModel):
    """A frozen model that the console shows as its text."""

    model_config = ConfigDict(frozen=True)

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        render.pretty(self, printer, cycle)


class Booking(_Shown):
    """One lesson of a batch.

    `index` is its place in the order, from zero; `amount` its price in tokens. The dates hold as long as
    the lesson keeps its status, and are None when that does not allow the action at all: an action is
    possible in a block whose timestamp is neither before its `_from` nor after its `_until`.
    """

    id: Bytes32
    batch: Bytes32
    index: int
    student: Address
    tutor: Address
    listing: Bytes32
    slot: Slot
    amount: TokenAmount
    status: Status
    periods: Periods
    currency: Token = Token()

    @property
    def start(self) -> datetime:
        """The time at which the lesson begins, in UTC."""
        return self.slot.start

    @property
    def end(self) -> datetime:
        """The time at which the lesson is over, in UTC."""
        return self.slot.end

    @property
    def confirmable_until(self) -> datetime | None:
        """The last second at which the tutor may confirm the lesson."""
        return self._until(Action.CONFIRM, Role.TUTOR)

    @property
    def cancellable_until(self) -> datetime | None:
        """The last second at which the student may cancel the lesson; `FOREVER` while it is pending."""
        return self._until(Action.CANCEL, Role.STUDENT)

    @property
    def disputable_from(self) -> datetime | None:
        """The first second at which the student may dispute the lesson."""
        return self._since(Action.DISPUTE, Role.STUDENT)

    @property
    def disputable_until(self) -> datetime | None:
        """The last second at which the student may dispute the lesson."""
        return self._until(Action.DISPUTE, Role.STUDENT)

    @property
    def completable_from(self) -> datetime | None:
        """The first second at which anyone may have the tutor paid. The student may at any time."""
        return self._since(Action.COMPLETE, Role.ANYONE)

    @property
    def refundable_from(self) -> datetime | None:
        """The first second at which anyone may refund the student: a lesson that begins unconfirmed."""
        return self._since(Action.CANCEL, Role.ANYONE)

    @property
    def resolvable_from(self) -> datetime | None:
        """The first second at which anyone may have a dispute split with the deployment's default share."""
        return self._since(Action.RESOLVE, Role.ANYONE)

    @property
    def windows(self) -> list[Window]:
        """The actions that the lesson allows now or later, each with its role and its times."""
        return windows(self.status, self.slot, self.periods)

    def may(self, action: Action, by: Role, now: datetime) -> bool:
        """Return True if `by` may do this in a block of timestamp `now`."""
        return any(
            window.action == action and window.by in {by, Role.ANYONE} and window.since <= now <= window.until
            for window in self.windows
        )

    def __str__(self) -> str:
        return render.booking(self)

    def _since(self, action: Action, by: Role) -> datetime | None:
        return next((window.since for window in self.windows if window[:2] == (action, by)), None)

    def _until(self, action: Action, by: Role) -> datetime | None:
        return next((window.until for window in self.windows if window[:2] == (action, by)), None)


class Batch(_Shown):
    """Lessons that were booked by one order.

    Sets of lessons are bits, bit i standing for the order's slot i. Booked lessons that are in no other set
    are pending. `transaction_hash`, `block_number` and `gas_used` are of the transaction that created the
    batch, as far as they are known.
    """

    id: Bytes32
    order: Order
    periods: Periods
    currency: Token = Token()
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
                currency=self.currency,
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
        """The price that the student paid in tokens: the sum of the booked lessons' amounts."""
        return from_wei(
            sum(wei for index, wei in enumerate(self.order.amounts_wei) if self.booked >> index & 1)
        )

    def status(self, index: int) -> Status:
        """Return the status of lesson `index`, from zero; `NONE` if it was not booked."""
        sets = (self.confirmed, self.disputed, self.completed, self.cancelled)
        for status, lessons in enumerate(sets, start=Status.CONFIRMED):
            if lessons >> index & 1:
                return Status(status)
        return Status.PENDING if self.booked >> index & 1 else Status.NONE

    def lessons_that_may(self, action: Action, by: Role, now: datetime) -> list[Booking]:
        """Return the lessons with which `by` may do this in a block of timestamp `now`."""
        return [booking for booking in self.bookings if booking.may(action, by, now)]

    def set_of(self, lessons: Iterable[int | Booking] | None = None) -> int:
        """Return a set of lessons as the contract takes it, bit i for slot i: from indexes or bookings.

        Without any, the set of all that were booked. Raises `ValueError` for a lesson of another batch.
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
        return render.batch(self)


class ActionResult(_Shown):
    """The result of an action: its lessons, and the tokens that the student and the tutor got for them.

    `lessons` are bits, bit i standing for the order's slot i. `batch` is the whole batch as it stands now.
    """

    action: Action
    batch: Batch
    lessons: int
    to_student: TokenAmount = Decimal(0)
    to_tutor: TokenAmount = Decimal(0)
    transaction_hash: Bytes32
    block_number: int
    gas_used: int

    @property
    def bookings(self) -> list[Booking]:
        """The lessons of the action, as they stand now."""
        return [booking for booking in self.batch.bookings if self.lessons >> booking.index & 1]

    def __str__(self) -> str:
        return render.result(self)
