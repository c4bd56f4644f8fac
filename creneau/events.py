"""The events of the escrow and the token's transfers, from the logs of a node.

Each class has the name of the contract's event and its arguments in the ABI's order, in snake case and as the
chain has them: base units, sets of lessons as bits (bit i for slot i), keys of 32 bytes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from eth_utils.abi import collapse_if_tuple, event_abi_to_log_topic

from creneau.abi import decode, entries
from creneau.errors import UnreadableOrder
from creneau.lifecycle import Action
from creneau.order import Order
from creneau.types import to_address, to_bytes32, to_hex


@dataclass(frozen=True)
class ListingPublished:
    """A tutor set the terms of a listing; `hourly_rate` in base units, zero if withdrawn."""

    tutor: str
    listing: bytes
    hourly_rate: int
    instant: bool
    nonce: int


@dataclass(frozen=True)
class BookingsCreated:
    """Lessons were booked: `booked` is their set, `total` the base units paid, `terms` the ABI's order."""

    batch: bytes
    student: str
    tutor: str
    terms: tuple[Any, ...]
    booked: int
    total: int

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


class BookingsConfirmed(LessonEvent):
    """The tutor agreed to these lessons."""

    action = Action.CONFIRM


class BookingsDisputed(LessonEvent):
    """The student contests these lessons."""

    action = Action.DISPUTE


@dataclass(frozen=True)
class BookingsCancelled(LessonEvent):
    """Lessons were called off, and the student got `refund` base units back."""

    action = Action.CANCEL

    by: str
    refund: int

    @property
    def to_student(self) -> int:
        """The refund."""
        return self.refund


@dataclass(frozen=True)
class BookingsCompleted(LessonEvent):
    """Lessons are over, and the tutor got `amount` base units."""

    action = Action.COMPLETE

    amount: int

    @property
    def to_tutor(self) -> int:
        """The amount."""
        return self.amount


@dataclass(frozen=True)
class BookingsResolved(LessonEvent):
    """The arbiter decided; the amounts are in base units."""

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
class Transfer:
    """A token moved `value` base units. `token` is the contract that says so."""

    source: str
    destination: str
    value: int
    token: str


Event = ListingPublished | BookingsCreated | LessonEvent | Transfer

_CLASSES = (
    ListingPublished,
    BookingsCreated,
    BookingsConfirmed,
    BookingsCancelled,
    BookingsCompleted,
    BookingsDisputed,
    BookingsResolved,
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
    return event(*(_indexed(each, next(words)) if each["indexed"] else next(values) for each in inputs))


def decode_logs(logs: Iterable[Mapping[str, Any]], escrow: str) -> list[Event]:
    """Return the events of a receipt's logs, in order, without what `decode_log` does not know."""
    return [event for log in logs if (event := decode_log(log, escrow)) is not None]


def _indexed(argument: Mapping[str, Any], topic: bytes) -> bytes | str:
    return _account(topic) if argument["type"] == "address" else topic


def _bytes(value: bytes | str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)


def _account(topic: bytes) -> str:
    return to_address(to_bytes32(topic)[12:])
