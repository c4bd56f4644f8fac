"""The contract's ABI without a node: call data, answers and logs, to and from the SDK's models.

Functions in `_data` give the data of a transaction or an `eth_call`. Functions with `decode_` read what came
back, and raise `ValueError` for what is no answer to that call.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from eth_abi.exceptions import DecodingError
from eth_utils.abi import (
    event_abi_to_log_topic,
    function_abi_to_4byte_selector,
    get_abi_input_types,
    get_abi_output_types,
)

from creneau.amounts import from_wei
from creneau.booking import BatchState, Listing, SlotCode, Status
from creneau.errors import UnreadableOrder
from creneau.fields import from_unix, to_address, to_bytes32, to_hex, to_unix
from creneau.order import Order, Permit
from creneau.strict_abi import decode, encode

QUARTER = timedelta(minutes=15)
"""What one bit of a calendar stands for."""
PAGE = 256 * QUARTER
"""What one word of a calendar stands for."""

ContractName = Literal["BookingEscrow", "EduToken"]


# --- The packaged ABI ---


@cache
def _packaged(contract: ContractName) -> Any:
    return json.loads(files("creneau").joinpath("abi", f"{contract}.json").read_text())


def abi(contract: ContractName) -> list[Any]:
    """The ABI of a contract, as JSON has it."""
    return list(_packaged(contract)["abi"])


def creation_data(contract: ContractName, *args: Any) -> bytes:
    """The data of the transaction that deploys a contract with these constructor arguments."""
    [constructor] = [entry for entry in abi(contract) if entry["type"] == "constructor"]
    code = bytes.fromhex(_packaged(contract)["bytecode"].removeprefix("0x"))
    return code + encode(get_abi_input_types(constructor), args)


class _Function(NamedTuple):
    selector: bytes
    inputs: list[str]
    outputs: list[str]


@cache
def _function(contract: ContractName, name: str) -> _Function:
    [entry] = [entry for entry in abi(contract) if entry["type"] == "function" and entry["name"] == name]
    return _Function(
        function_abi_to_4byte_selector(entry),
        get_abi_input_types(entry),
        get_abi_output_types(entry),
    )


def call_data(contract: ContractName, function: str, *args: Any) -> bytes:
    """The data of a call of any function of a contract, with its arguments as the ABI has them."""
    selector, inputs, _ = _function(contract, function)
    return selector + encode(inputs, args)


def decode_result(contract: ContractName, function: str, data: bytes) -> tuple[Any, ...]:
    """What any function of a contract returned, as the ABI has it."""
    try:
        return tuple(decode(_function(contract, function).outputs, data))
    except (DecodingError, OverflowError) as error:
        raise ValueError(f"not an answer of {function}: {to_hex(data)[:140]}") from error


# --- Acts ---


def create_bookings_data(order: Order, signature: bytes = b"", permit: Permit | None = None) -> bytes:
    """`createBookings`, or `createBookingsWithPermit` if there is a permit.

    The signature is the student's for the order; he needs none if he sends it himself.
    """
    if permit is None:
        return call_data("BookingEscrow", "createBookings", order.as_abi(), signature)
    return call_data("BookingEscrow", "createBookingsWithPermit", order.as_abi(), signature, permit.as_abi())


def decode_create_bookings(data: bytes) -> tuple[bytes, int]:
    """The batch's key and the set of booked lessons, from an `eth_call` of either function."""
    batch, booked = decode_result("BookingEscrow", "createBookings", data)
    return batch, booked


def publish_data(
    tutor: str, listing: bytes, hourly_rate_wei: int, instant: bool, signature: bytes = b""
) -> bytes:
    """`publish`. The rate is in base units an hour; zero withdraws the listing.

    The signature is the tutor's for the listing; he needs none if he sends it himself.
    """
    return call_data("BookingEscrow", "publish", tutor, listing, hourly_rate_wei, instant, signature)


def multicall_data(calls: Sequence[bytes]) -> bytes:
    """`multicall`: several acts in one transaction, all or nothing."""
    return call_data("BookingEscrow", "multicall", list(calls))


def decode_multicall(data: bytes) -> list[bytes]:
    """What each call of a multicall returned, from an `eth_call`."""
    [results] = decode_result("BookingEscrow", "multicall", data)
    return list(results)


# --- Views ---


def check_data(order: Order) -> bytes:
    """`check`."""
    return call_data("BookingEscrow", "check", order.as_abi())


def decode_check(data: bytes) -> tuple[list[SlotCode], int]:
    """A code for each slot, and the total of the slots that are OK in base units."""
    codes, total = decode_result("BookingEscrow", "check", data)
    return [SlotCode(code) for code in codes], total


def hash_order_data(order: Order) -> bytes:
    """`hashOrder`, whose answer is the digest's 32 bytes."""
    return call_data("BookingEscrow", "hashOrder", order.as_abi())


def listings_data(tutor: str, listing: bytes) -> bytes:
    """`listings`."""
    return call_data("BookingEscrow", "listings", tutor, listing)


def decode_listing(data: bytes) -> Listing:
    """The terms of a listing; a rate of zero if it is not offered."""
    [(rate, instant, nonce)] = decode_result("BookingEscrow", "listings", data)
    return Listing(from_wei(rate), instant, nonce)


def batches_data(batch: bytes) -> bytes:
    """`batches`."""
    return call_data("BookingEscrow", "batches", batch)


def decode_batch(data: bytes) -> BatchState:
    """The contract's record of a batch; `created_at` is None if there is none."""
    [(created_at, *lessons)] = decode_result("BookingEscrow", "batches", data)
    return BatchState(from_unix(created_at) if created_at else None, *lessons)


def status_data(booking: bytes) -> bytes:
    """`statusOf`."""
    return call_data("BookingEscrow", "statusOf", booking)


def decode_status(data: bytes) -> Status:
    """The status of a lesson."""
    [status] = decode_result("BookingEscrow", "statusOf", data)
    return Status(status)


def calendar_data(tutor: str, start: datetime, end: datetime) -> bytes:
    """`calendar`, for the words that hold the time from `start` until `end`."""
    first, count = _pages(start, end)
    return call_data("BookingEscrow", "calendar", tutor, first, count)


def decode_calendar(data: bytes, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """The tutor's taken times between `start` and `end`, as the longest intervals, in order.

    The answer to `calendar_data` with the same two times.
    """
    [words] = decode_result("BookingEscrow", "calendar", data)
    first, _ = _pages(start, end)
    taken: list[tuple[datetime, datetime]] = []
    for number, word in enumerate(words, start=first):
        for bit in range(256) if word else ():
            if not word >> bit & 1:
                continue
            quarter = from_unix(0) + number * PAGE + bit * QUARTER
            begins, ends = max(quarter, start), min(quarter + QUARTER, end)
            if begins >= ends:
                continue
            if taken and taken[-1][1] == begins:
                begins = taken.pop()[0]
            taken.append((begins, ends))
    return taken


def _pages(start: datetime, end: datetime) -> tuple[int, int]:
    if start >= end:
        raise ValueError("a calendar's end is after its start")
    seconds = int(PAGE.total_seconds())
    first = to_unix(start) // seconds
    return first, -(-to_unix(end) // seconds) - first


# --- Token ---


def balance_of_data(account: str) -> bytes:
    """`balanceOf` of the token."""
    return call_data("EduToken", "balanceOf", account)


def allowance_data(owner: str, spender: str) -> bytes:
    """`allowance` of the token."""
    return call_data("EduToken", "allowance", owner, spender)


def nonces_data(owner: str) -> bytes:
    """`nonces` of the token: the nonce that the owner's next permit must carry."""
    return call_data("EduToken", "nonces", owner)


def approve_data(spender: str, wei: int) -> bytes:
    """`approve` of the token, in base units."""
    return call_data("EduToken", "approve", spender, wei)


def decode_uint(data: bytes) -> int:
    """The one integer that a function returned: base units of a balance or allowance, or a nonce."""
    [number] = decode_result("EduToken", "balanceOf", data)
    return int(number)


# --- Logs ---


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
    """Lessons were booked.

    `booked` is their set, bit i for slot i; `total` is what was paid, in base units; `terms` is the order as
    the ABI has it.
    """

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
class Transfer:
    """A token moved `value` base units. `token` is the contract that says so."""

    source: str
    destination: str
    value: int
    token: str


Event = ListingPublished | BookingsCreated | Transfer


def _topic(contract: ContractName, name: str) -> bytes:
    [entry] = [entry for entry in abi(contract) if entry["type"] == "event" and entry["name"] == name]
    return event_abi_to_log_topic(entry)


LISTING_PUBLISHED = _topic("BookingEscrow", "ListingPublished")
"""The first topic of the event's logs, for filters; so are the next two."""
BOOKINGS_CREATED = _topic("BookingEscrow", "BookingsCreated")
TRANSFER = _topic("EduToken", "Transfer")

_ORDER = "(address,address,bytes32,uint96,bool,uint40,bytes32,(uint40,uint16)[])"


def decode_log(log: Mapping[str, Any], escrow: str) -> Event | None:
    """The event of one log, in the form of web3 or Ape, or None for any that is not listed here.

    `Transfer` is read from any contract, the others from the escrow at that address only.
    """
    topics = [_bytes(topic) for topic in log["topics"]]
    data = _bytes(log["data"])
    address = to_address(log["address"])
    if not topics:
        return None
    if (
        topics[0] == TRANSFER and len(topics) == 3 and len(data) == 32
    ):  # An NFT's has four topics and no data.
        return Transfer(_account(topics[1]), _account(topics[2]), int.from_bytes(data, "big"), address)
    if address != to_address(escrow):
        return None
    if topics[0] == LISTING_PUBLISHED:
        rate, instant, nonce = decode(["uint96", "bool", "uint64"], data)
        return ListingPublished(_account(topics[1]), topics[2], rate, instant, nonce)
    if topics[0] == BOOKINGS_CREATED:
        terms, booked, total = decode([_ORDER, "uint40", "uint256"], data)
        return BookingsCreated(topics[1], _account(topics[2]), _account(topics[3]), terms, booked, total)
    return None


def decode_logs(logs: Iterable[Mapping[str, Any]], escrow: str) -> list[Event]:
    """The events of a receipt's logs, in order, leaving out what `decode_log` does not know."""
    return [event for log in logs if (event := decode_log(log, escrow)) is not None]


def _bytes(value: bytes | str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)


def _account(topic: bytes) -> str:
    return to_address(to_bytes32(topic)[12:])
