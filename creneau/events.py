"""The events of the escrow and the token's transfers, from the logs of a node.

Each class has the name of the contract's event and its arguments in the ABI's order, in snake case and as the
chain has them: base units, sets of lessons as bits (bit i for slot i), keys of 32 bytes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from eth_utils.abi import collapse_if_tuple, event_abi_to_log_topic

from creneau.abi import decode, entries, snake
from creneau.errors import UnreadableOrder
from creneau.lifecycle import Action
from creneau.order import Order, unpack_slot
from creneau.types import to_address, to_bytes32, to_hex


@dataclass(frozen=True)
class ListingPublished:
    """A tutor set the terms of a listing.

    `hourly_rate` in base units, zero if withdrawn; `min_notice` and `horizon` in seconds.
    """

    tutor: str
    listing: bytes
    hourly_rate: int
    instant: bool
    min_notice: int
    horizon: int
    nonce: int


@dataclass(frozen=True)
class BookingsCreated:
    """Lessons were booked: `booked` is their set, `total` the base units paid.

    `confirmed` says whether they are confirmed already; `slots` are those of the order, four bytes each.
    """

    batch: bytes
    student: str
    tutor: str
    listing: bytes
    hourly_rate: int
    min_lessons: int
    deadline: int
    salt: bytes
    slots: bytes
    booked: int
    confirmed: bool
    total: int

    @property
    def terms(self) -> tuple[Any, ...]:
        """The contract's `Order` as the ABI codec takes it."""
        rules = (self.hourly_rate, self.min_lessons, self.deadline, self.salt)
        return (self.student, self.tutor, self.listing, *rules, self._words)

    @property
    def order_slots(self) -> list[tuple[int, int]]:
        """The order's slots: unix starts in seconds, and minutes."""
        return [unpack_slot(word) for word in self._words]

    @property
    def _words(self) -> list[int]:
        return [int.from_bytes(self.slots[at : at + 4], "big") for at in range(0, len(self.slots), 4)]

    @cached_property
    def order(self) -> Order:
        """The order. Raises `UnreadableOrder` for a time after the year 9999, which the contract allows."""
        try:
            return Order.from_abi(self.terms)
        except ValueError as error:
            raise UnreadableOrder(f"batch {to_hex(self.batch)} names a time after the year 9999") from error


@dataclass(frozen=True)
class LessonEvent:
    """An action was done to a set of a batch's lessons."""

    action: ClassVar[Action]

    batch: bytes
    lessons: int

    @property
    def to_student(self) -> int:
        """The base units that the student got back."""
        return 0

    @property
    def to_tutor(self) -> int:
        """The base units that the tutor got."""
        return 0


@dataclass(frozen=True)
class OrderRevoked:
    """The student, `by`, took back an order before it was created."""

    batch: bytes
    by: str


@dataclass(frozen=True)
class OneActorEvent(LessonEvent):
    """An action of one account, `by`."""

    by: str


class BookingsConfirmed(OneActorEvent):
    """The tutor agreed to these lessons."""

    action = Action.CONFIRM


class BookingsDisputed(OneActorEvent):
    """The student contests these lessons."""

    action = Action.DISPUTE


@dataclass(frozen=True)
class BookingsCancelled(OneActorEvent):
    """Lessons were called off, and the student got `refund` base units back."""

    action = Action.CANCEL

    refund: int

    @property
    def to_student(self) -> int:
        """The refund."""
        return self.refund


@dataclass(frozen=True)
class BookingsCompleted(OneActorEvent):
    """Lessons are over, and the tutor got `amount` base units."""

    action = Action.COMPLETE

    amount: int

    @property
    def to_tutor(self) -> int:
        """The amount."""
        return self.amount


@dataclass(frozen=True)
class BookingsResolved(OneActorEvent):
    """The arbiter decided, or anyone in their place; the amounts are in base units."""

    action = Action.RESOLVE

    tutor_amount: int
    student_amount: int

    @property
    def to_student(self) -> int:
        """The student's part."""
        return self.student_amount

    @property
    def to_tutor(self) -> int:
        """The tutor's part."""
        return self.tutor_amount


@dataclass(frozen=True)
class BookingsSettled(LessonEvent):
    """The student and the tutor agreed how to split the money; the amounts are in base units."""

    action = Action.SETTLE

    student: str
    tutor: str
    tutor_amount: int
    student_amount: int

    @property
    def to_student(self) -> int:
        """The student's part."""
        return self.student_amount

    @property
    def to_tutor(self) -> int:
        """The tutor's part."""
        return self.tutor_amount


@dataclass(frozen=True)
class PaymentCredited:
    """The token refused to pay `amount` base units to `account`, which can withdraw them."""

    account: str
    amount: int


@dataclass(frozen=True)
class CreditWithdrawn:
    """The credit of `account`, in base units, was paid to `to`."""

    account: str
    to: str
    amount: int


@dataclass(frozen=True)
class CallFailed:
    """Call `index` of a `tryMulticall`, from zero, reverted with `reason`."""

    index: int
    reason: bytes


@dataclass(frozen=True)
class Transfer:
    """A token moved `value` base units. `token` is the contract that says so."""

    source: str
    destination: str
    value: int
    token: str


Credit = PaymentCredited | CreditWithdrawn
Event = ListingPublished | BookingsCreated | OrderRevoked | LessonEvent | Credit | CallFailed | Transfer

_CLASSES = (
    ListingPublished,
    BookingsCreated,
    BookingsConfirmed,
    BookingsCancelled,
    BookingsCompleted,
    BookingsDisputed,
    BookingsResolved,
    BookingsSettled,
    OrderRevoked,
    PaymentCredited,
    CreditWithdrawn,
    CallFailed,
)
_ABI = {event_abi_to_log_topic(entry): entry for entry in entries("BookingEscrow", "event").values()}
_TOPICS = {entry["name"]: topic for topic, entry in _ABI.items()}
_BY_TOPIC: dict[bytes, Callable[..., Event]] = {_TOPICS[each.__name__]: each for each in _CLASSES}

ESCROW_TOPICS = tuple(_BY_TOPIC)
"""The first topics of all the escrow's events that are listed here, for filters."""
LISTING_PUBLISHED = _TOPICS["ListingPublished"]
"""The first topic of the event's logs, for filters; so are the next two."""
BOOKINGS_CREATED = _TOPICS["BookingsCreated"]
TRANSFER = event_abi_to_log_topic(entries("EduToken", "event")["Transfer"])


def decode_log(log: Mapping[str, Any], escrow: str) -> Event | None:
    """Return the event of one log, in the form of web3 or Ape, or None for any that is not listed here.

    `Transfer` is read from any contract, the others from the escrow at that address only.
    """
    topics = [_bytes(topic) for topic in log["topics"]]
    data = _bytes(log["data"])
    address = to_address(log["address"])
    if not topics:
        return None
    # An NFT's transfer has four topics and no data.
    if topics[0] == TRANSFER and len(topics) == 3 and len(data) == 32:
        return Transfer(_account(topics[1]), _account(topics[2]), int.from_bytes(data, "big"), address)
    if address != to_address(escrow) or topics[0] not in _BY_TOPIC:
        return None
    inputs = _ABI[topics[0]]["inputs"]
    words = iter(topics[1:])
    values = iter(decode([collapse_if_tuple(each) for each in inputs if not each["indexed"]], data))
    event = _BY_TOPIC[topics[0]]
    return event(
        **{
            snake(each["name"]): _indexed(each, next(words)) if each["indexed"] else next(values)
            for each in inputs
        }
    )


def decode_logs(logs: Iterable[Mapping[str, Any]], escrow: str) -> list[Event]:
    """Return the events of a receipt's logs, in order, without what `decode_log` does not know."""
    return [event for log in logs if (event := decode_log(log, escrow)) is not None]


def _indexed(argument: Mapping[str, Any], topic: bytes) -> bytes | str | int:
    match argument["type"]:
        case "address":
            return _account(topic)
        case "uint256":
            return int.from_bytes(topic, "big")
    return topic


def _bytes(value: bytes | str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)


def _account(topic: bytes) -> str:
    return to_address(to_bytes32(topic)[12:])
