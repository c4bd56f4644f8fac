"""The types of a batch of bookings on its way from the request to the answer."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from api.errors import Code
from api.language import say
from api.outbox.models import UNSETTLED, State
from creneau.amounts import lesson_amount
from creneau.booking import Listing
from creneau.lifecycle import Role, Status
from creneau.order import Order, Slot, booking_id, index_of, pack_slot
from creneau.types import to_bytes32, to_hex

_PREFIX = 29
"""Hex digits of a batch's key that a booking's id begins with: 116 bits."""


class Lesson(TypedDict):
    """A lesson that can be booked as far as the request tells; `index` is its place there, from 1."""

    index: int
    date: str
    time: str
    amount: Decimal
    duration: int
    start: int


class Failure(TypedDict):
    """A lesson that can't be booked, and why."""

    index: int
    slot: dict[str, Any]
    code: str
    error: str  # In English, and
    french: str  # the same in French.
    batch: NotRequired[str]  # The student's own batch that has taken the time.


class LessonState(NamedTuple):
    """A lesson's status on the chain, and each party's share of its price once that left the escrow."""

    status: Status
    to_tutor: int = 0  # Base units.
    to_student: int = 0
    updated_at: int = 0  # Unix seconds; 0: unchanged since it was booked.


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch of bookings: who asked for what, the order, and its outcome on the chain.

    Times are microseconds of unix time, but for `deadline` and the lessons' starts (unix seconds).
    """

    id: str  # The contract's key.
    student_id: str  # Or the student's account, if nobody here is known by it.
    tutor_id: str  # Likewise.
    annonce_id: str | None  # None: no annonce here is known to be the listing.
    idempotency_key: str = ""
    request_hash: str = ""
    description: str | None = None
    student_notes: str | None = None
    lessons: Sequence[Lesson]  # Those of the order, in its order.
    failures: Sequence[Failure] = ()  # The request's other lessons.
    # The order
    student: str
    tutor: str
    listing: str
    hourly_rate: int  # Base units.
    min_lessons: int
    deadline: int
    salt: str
    instant: bool  # Booked lessons are confirmed, not pending.
    created_at: int
    # The outcome
    booked: int | None = None  # Bit i: lesson i. None until a block says so.
    left_out: Sequence[Failure] = ()  # The order's lessons that the contract did not book.
    state: State = State.ACCEPTED
    transaction_hash: str | None = None  # Of the newest attempt, or of the one in a block.
    block_number: int | None = None
    gas_used: int | None = None
    code: str | None = None  # Why the batch was not created,
    detail: str | None = None  # and the same in words.
    updated_at: int = 0
    states: Mapping[int, LessonState] = field(default_factory=dict)  # By place, as the projection has them.

    @property
    def slots(self) -> list[tuple[int, int]]:
        """The order's slots: unix starts in seconds, and minutes."""
        return order_slots(self.lessons)

    @property
    def terms(self) -> tuple[Any, ...]:
        """The order as the ABI codec takes it."""
        listing, salt = to_bytes32(self.listing), to_bytes32(self.salt)
        rules = self.hourly_rate, self.min_lessons, self.deadline, salt
        return self.student, self.tutor, listing, *rules, [pack_slot(*slot) for slot in self.slots]

    @property
    def order(self) -> Order:
        """The order. Raises `ValueError` if it has a time that a datetime can't tell."""
        return Order.from_abi(self.terms)

    @property
    def places(self) -> list[int]:
        """The places in the order of the lessons that are booked, or still may be."""
        return [place for place in range(len(self.lessons)) if self.is_booked(place)]

    @property
    def not_booked(self) -> list[Failure]:
        """The failures of all lessons that were not booked, in the order of the request."""
        return sorted([*self.failures, *self.left_out], key=lambda failure: failure["index"])

    @property
    def total(self) -> int:
        """The price of the lessons that are booked, or still may be, in base units."""
        return sum(map(self.amount, self.places))

    @property
    def came_to_nothing(self) -> bool:
        """True if no lesson of it was booked, or will be."""
        return self.state not in UNSETTLED and not self.booked

    def is_booked(self, place: int) -> bool:
        """Return True if the lesson at this place of the order is booked, or still may be."""
        if self.booked is None:
            return self.state in UNSETTLED
        return bool(self.booked >> place & 1)

    def amount(self, place: int) -> int:
        """Return the price of the lesson at this place, in base units."""
        return lesson_amount(self.hourly_rate, self.lessons[place]["duration"])

    def slot(self, place: int) -> Slot:
        """Return the time of the lesson at this place."""
        lesson = self.lessons[place]
        return Slot.of(lesson["start"], lesson["duration"])

    def lesson_state(self, place: int) -> LessonState:
        """Return the state of the lesson at this place; if the projection has none yet, its first one."""
        begins = Status.CONFIRMED if self.instant and self.booked is not None else Status.PENDING
        return self.states.get(place) or LessonState(begins)

    def chain_id(self, place: int) -> str:
        """Return the id on the chain of the lesson at this place: 0x hex of 32 bytes."""
        return to_hex(booking_id(to_bytes32(self.id), place))

    def booking_id(self, place: int) -> str:
        """Return the frontend's id of the lesson at this place."""
        return frontend_id(self.id, place)


class BookedLesson(NamedTuple):
    """A lesson by its batch, and its place in the order."""

    batch: Batch
    place: int


class LessonPage(NamedTuple):
    """Some lessons of a list; the cursor of the next page is None on the last one."""

    lessons: list[BookedLesson]
    role: Role  # The reader's, in all of them.
    next_cursor: str | None


class Stats(NamedTuple):
    """The number of a person's lessons by status, and the sums of their prices in base units."""

    user_id: str
    role: Literal["student", "tutor"]
    counts: Mapping[Status, int]
    amounts: Mapping[Status, int]  # Base units, by status.
    paid: int  # To tutors.
    in_escrow: int
    refunded: int  # To students.


class EarlierOrder(NamedTuple):
    """An order on the chain whose request the database has lost. Times are unix seconds."""

    tutor: str
    listing: str
    hourly_rate: int  # Base units.
    deadline: int
    slots: list[tuple[int, int]]  # Starts, and minutes.
    created_at: int
    transaction_hash: str


@dataclass(frozen=True)
class PreparedBatch:
    """A batch that waits for its student's signature, and the permit that has to be signed with it."""

    batch: Batch
    permit_value: int | None  # Base units; None: the allowance is enough.
    permit_nonce: int | None
    expires_at: int  # Microseconds of unix time.


class SigningRequest(NamedTuple):
    """A prepared batch, and what its student signs: the order and perhaps a permit, as typed data."""

    prepared: PreparedBatch
    order: dict[str, Any]
    permit: dict[str, Any] | None


class PreparedAction(NamedTuple):
    """An action on lessons, and what its actor signs."""

    action: str
    word: str  # For the action once it is done.
    lessons: list[BookedLesson]
    signer: str
    typed_data: dict[str, Any]


class ActionResult(NamedTuple):
    """The outcome of an action: its lessons as they stand, and how far its transaction is."""

    action: str  # Or "acknowledge", which changes nothing.
    word: str  # For the action once it is done.
    lessons: list[BookedLesson]
    is_done: bool
    state: State
    transaction_hash: str | None  # None if nothing was left to do.
    gas_used: int | None


@dataclass(frozen=True)
class SettlementOffer:
    """A split of lessons' money that one party of a batch has signed."""

    batch_id: str
    by: str  # The party's account.
    lessons: int  # Bits.
    share: int  # The tutor's, in basis points.
    deadline: int  # Unix seconds.
    signature: bytes


class ListingDetails(NamedTuple):
    """A listing as its tutor's directory and the chain have it."""

    id: str
    tutor_id: str
    title: str
    hourly_rate: int  # Base units.
    time_zone: str
    hours: Sequence[tuple[datetime, datetime]] | None  # When lessons are given; None: at any time.
    published: Listing


class PublicationResult(NamedTuple):
    """A listing after its publication, and how far the transaction is."""

    details: ListingDetails
    is_withdrawal: bool
    is_done: bool
    state: State
    transaction_hash: str | None  # None if nothing was left to do.


class TakenTimes(NamedTuple):
    """The times of a tutor that are taken from one time until another, in order."""

    tutor_id: str
    since: datetime
    until: datetime
    taken: Sequence[tuple[datetime, datetime]]


def frontend_id(batch_id: str, place: int) -> str:
    """Return the frontend's id of a booking: an UUID of version 8 (RFC 9562).

    It is cut from the id on the chain, so a rebuild finds it again, and the batch is found by it without a
    table of its own.
    """
    bits = int(batch_id[2 : 2 + _PREFIX], 16) << 6 | place
    high, middle, low = bits >> 74, bits >> 62 & 0xFFF, bits & (1 << 62) - 1
    return str(uuid.UUID(int=high << 80 | 8 << 76 | middle << 64 | 2 << 62 | low))


def batch_range(booking: str) -> tuple[str, str, int]:
    """Return the first and the last key that a booking's batch can have, and the booking's place there.

    `booking` is the frontend's id of the booking, or the one on the chain.
    """
    if booking.startswith("0x"):
        key = to_bytes32(booking)
        return (batch := to_hex(key[:31] + b"\0")), batch, index_of(key)
    number = uuid.UUID(booking).int
    bits = number >> 80 << 74 | (number >> 64 & 0xFFF) << 62 | number & (1 << 62) - 1
    prefix = f"0x{bits >> 6:0{_PREFIX}x}"
    return prefix.ljust(66, "0"), prefix.ljust(66, "f"), bits & 0x3F


def order_slots(lessons: Sequence[Lesson]) -> list[tuple[int, int]]:
    """Return the lessons as the order has them: unix starts in seconds, and minutes."""
    return [(lesson["start"], lesson["duration"]) for lesson in lessons]


@dataclass(frozen=True)
class BatchResult:
    """The lessons that a batch's transaction booked, as bits, and the others with their reasons."""

    booked: int | None  # None: there is no transaction.
    left_out: Sequence[Failure] = ()


def reason(failure: Failure) -> str:
    """Return why a lesson was not booked, in the request's language."""
    return say(failure["error"], failure["french"])


def answered(failures: Sequence[Failure]) -> list[dict[str, Any]]:
    """Return failures as answers have them."""
    return [
        {
            "index": each["index"],
            "slot": each["slot"],
            "code": each["code"],
            "error": reason(each),
            **({"batchId": each["batch"]} if "batch" in each else {}),
        }
        for each in failures
    ]


def why_not(batch: Batch) -> str:
    """Return why nothing of a batch was booked, in the request's language."""
    detail, code = batch.detail or "", Code(batch.code or Code.REFUSED)
    if not detail or code.is_lesson:
        failed = batch.not_booked
        return (
            reason(next((each for each in failed if each["code"] == code), failed[0])) if failed else detail
        )
    try:
        return say(detail, code.sentence("fr"))
    except LookupError:
        return say(detail, Code.REFUSED.sentence("fr"))


@dataclass(frozen=True)
class Withdrawal:
    """A credit in base units, and the address that is to get it."""

    user_id: str
    account: str
    amount: int
    to: str


@dataclass(frozen=True)
class OwnTime:
    """Times that a tutor wants to take, and the salt of the order that does."""

    tutor_id: str
    account: str
    lessons: Sequence[Lesson]
    salt: bytes
    key: str  # The same key is the same submission.
