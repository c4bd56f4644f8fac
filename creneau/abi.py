"""The contracts' ABI without a node: call data and answers, to and from the SDK's models.

Functions in `_data` give the data of a transaction or an `eth_call`. Functions with `decode_` read an answer,
and raise `ValueError` for what is no answer to that call. Events are in events.py, errors in errors.py.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from eth_abi.codec import ABICodec
from eth_abi.decoding import UnsignedIntegerDecoder
from eth_abi.encoding import UnsignedIntegerEncoder
from eth_abi.exceptions import DecodingError
from eth_abi.registry import ABIRegistry, BaseEquals, registry
from eth_utils.abi import function_abi_to_4byte_selector, get_abi_input_types, get_abi_output_types

from creneau.amounts import from_wei
from creneau.booking import BatchState, Listing
from creneau.lifecycle import Action, Status
from creneau.order import Order, Permit, SlotCode
from creneau.types import from_unix, to_hex, to_unix

QUARTER = timedelta(minutes=15)
"""The time that one bit of a calendar stands for."""
PAGE = 256 * QUARTER
"""The time that one word of a calendar stands for."""

ContractName = Literal["BookingEscrow", "EduToken"]
"""The packaged contracts. `EduToken` stands for any ERC-20 with permits (EIP-2612)."""

Terms = Order | tuple[Any, ...]
"""An order, or what `as_abi` gives of it: an order on chain may name times that no datetime can tell."""


# --- The codec ---

# Ape changes eth_abi's decoder of unsigned integers for the whole process: missing bytes count as zeros, and
# so an address without a contract would answer with a balance of zero. This registry keeps the strict one.
_registry: ABIRegistry = registry.copy()  # type: ignore[no-untyped-call]
_registry.unregister("uint")
_registry.register(
    BaseEquals("uint"),  # type: ignore[no-untyped-call]
    UnsignedIntegerEncoder,
    UnsignedIntegerDecoder,
    label="uint",
)
_codec = ABICodec(_registry)

encode = _codec.encode
decode = _codec.decode


# --- The packaged contracts ---


@cache
def _packaged(contract: ContractName) -> Any:
    return json.loads(files("creneau").joinpath("artifacts", f"{contract}.json").read_text())


def contract_abi(contract: ContractName) -> list[Any]:
    """Return the ABI of a contract, as JSON has it."""
    return list(_packaged(contract)["abi"])


def entries(contract: ContractName, kind: Literal["function", "event", "error"]) -> dict[str, Any]:
    """Return the functions, events or errors in a contract's ABI, by name."""
    return {entry["name"]: entry for entry in contract_abi(contract) if entry["type"] == kind}


def creation_data(contract: ContractName, *args: Any) -> bytes:
    """Return the data of the transaction that deploys a contract with these constructor arguments."""
    [constructor] = [entry for entry in contract_abi(contract) if entry["type"] == "constructor"]
    code = bytes.fromhex(_packaged(contract)["bytecode"].removeprefix("0x"))
    return code + encode(get_abi_input_types(constructor), args)


class _Function(NamedTuple):
    selector: bytes
    names: list[str]
    inputs: list[str]
    outputs: list[str]


@cache
def _function(contract: ContractName, name: str) -> _Function:
    entry = entries(contract, "function")[name]
    return _Function(
        function_abi_to_4byte_selector(entry),
        [argument["name"] for argument in entry["inputs"]],
        get_abi_input_types(entry),
        get_abi_output_types(entry),
    )


def call_data(contract: ContractName, function: str, *args: Any) -> bytes:
    """Return the data of a call of any function of a contract, with its arguments as the ABI has them."""
    called = _function(contract, function)
    return called.selector + encode(called.inputs, args)


def decode_result(contract: ContractName, function: str, data: bytes) -> tuple[Any, ...]:
    """Return the results of any function of a contract, as the ABI has them."""
    try:
        return tuple(decode(_function(contract, function).outputs, data))
    except (DecodingError, OverflowError) as error:
        raise ValueError(f"not an answer of {function}: {to_hex(data)[:140]}") from error


def snake(name: str) -> str:
    """Return the name of an argument in snake case."""
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)


# --- Transactions ---


def create_bookings_data(order: Order, signature: bytes = b"", permit: Permit | None = None) -> bytes:
    """Return the data of `createBookings`, or of `createBookingsWithPermit` if there is a permit.

    The signature is the student's for the order; a student who sends the transaction needs none.
    """
    if permit is None:
        return call_data("BookingEscrow", "createBookings", order.as_abi(), signature)
    return call_data("BookingEscrow", "createBookingsWithPermit", order.as_abi(), signature, permit.as_abi())


def decode_create_bookings(data: bytes) -> tuple[bytes, int]:
    """Return the batch's key and the set of booked lessons, from an `eth_call` of either function."""
    batch, booked = decode_result("BookingEscrow", "createBookings", data)
    return batch, booked


def creation_in(data: bytes, batch: bytes) -> bytes | None:
    """Return the creation of that batch among the calls of a transaction's data; None if it is not there."""
    functions = [
        _function("BookingEscrow", name)
        for name in ("createBookings", "createBookingsWithPermit", "multicall", "tryMulticall")
    ]
    for function in functions:
        if data[:4] != function.selector:
            continue
        first, *_ = _codec.decode(function.inputs, data[4:])
        if function in functions[:2]:
            return data if Order.from_abi(first).batch_id == batch else None
        return next((found for call in first if (found := creation_in(call, batch))), None)
    return None


def publish_data(
    tutor: str,
    listing: bytes,
    hourly_rate_wei: int,
    instant: bool,
    min_notice: int = 0,
    horizon: int = 0,
    deadline: int = 0,
    signature: bytes = b"",
) -> bytes:
    """Return the data of `publish`. The rate is in base units an hour; zero withdraws the listing.

    `min_notice` and `horizon` are in seconds; a horizon of zero sets no limit. The signature is the tutor's
    for the listing, until `deadline` in unix seconds; a tutor who sends the transaction needs none.
    """
    terms = (tutor, listing, hourly_rate_wei, instant, min_notice, horizon, deadline, signature)
    return call_data("BookingEscrow", "publish", *terms)


def revoke_data(order: Terms, deadline: int = 0, signature: bytes = b"") -> bytes:
    """Return the data of `revoke`. A student who sends the transaction needs no signature."""
    return call_data("BookingEscrow", "revoke", _terms(order), deadline, signature)


def withdraw_data(account: str, to: str, deadline: int = 0, signature: bytes = b"") -> bytes:
    """Return the data of `withdraw`. An account that sends the transaction needs no signature."""
    return call_data("BookingEscrow", "withdraw", account, to, deadline, signature)


def settle_data(
    order: Terms,
    lessons: int,
    tutor_share_bps: int,
    deadline: int,
    *,
    student_signature: bytes = b"",
    tutor_signature: bytes = b"",
) -> bytes:
    """Return the data of `settle`. Of student and tutor, whoever sends the transaction needs no signature.

    The tutor's share is in basis points.
    """
    signatures = (student_signature, tutor_signature)
    terms = (_terms(order), lessons, tutor_share_bps, deadline)
    return call_data("BookingEscrow", "settle", *terms, *signatures)


def action_data(
    action: Action,
    order: Terms,
    lessons: int,
    *,
    by: str | None = None,
    deadline: int = 0,
    signature: bytes = b"",
    tutor_share_bps: int = 0,
) -> bytes:
    """Return the data of an action on a set of the order's lessons, bit i standing for slot i.

    `by` is the account that cancels or completes; the others know theirs. The signature is the actor's for
    the action, until `deadline` in unix seconds; an actor who sends the transaction needs none. The tutor's
    share of a resolved lesson is in basis points. `settle` has a function of its own.
    """
    given = {
        "order": _terms(order),
        "lessons": lessons,
        "by": by,
        "deadline": deadline,
        "signature": signature,
        "tutorShareBps": tutor_share_bps,
    }
    names = _function("BookingEscrow", action).names
    return call_data("BookingEscrow", action, *(given[name] for name in names))


def action_of(data: bytes) -> Action | None:
    """Return the action whose call this is, if it is one."""
    called = (each for each in Action if _function("BookingEscrow", each).selector == data[:4])
    return next(called, None)


def _terms(order: Terms) -> tuple[Any, ...]:
    return order.as_abi() if isinstance(order, Order) else order


def multicall_data(calls: Sequence[bytes]) -> bytes:
    """`multicall`: several acts in one transaction, all or nothing."""
    return call_data("BookingEscrow", "multicall", list(calls))


def decode_multicall(data: bytes) -> list[bytes]:
    """Return the result of each call of a multicall, from an `eth_call`."""
    [results] = decode_result("BookingEscrow", "multicall", data)
    return list(results)


def try_multicall_data(calls: Sequence[bytes]) -> bytes:
    """`tryMulticall`: several acts in one transaction, of which some may fail."""
    return call_data("BookingEscrow", "tryMulticall", list(calls))


def decode_try_multicall(data: bytes) -> list[tuple[bool, bytes]]:
    """Return for each call whether it succeeded, and what it returned or reverted with."""
    [results] = decode_result("BookingEscrow", "tryMulticall", data)
    return [(success, answer) for success, answer in results]


# --- Views ---


def check_data(order: Order) -> bytes:
    """`check`."""
    return call_data("BookingEscrow", "check", order.as_abi())


def decode_check(data: bytes) -> tuple[list[SlotCode], int]:
    """Return a code for each slot, and the total of the slots that are OK in base units."""
    codes, total = decode_result("BookingEscrow", "check", data)
    return [SlotCode(code) for code in codes], total


def hash_order_data(order: Order) -> bytes:
    """`hashOrder`, whose answer is the digest's 32 bytes."""
    return call_data("BookingEscrow", "hashOrder", order.as_abi())


def listings_data(tutor: str, listing: bytes) -> bytes:
    """Return the data of `listings`."""
    return call_data("BookingEscrow", "listings", tutor, listing)


def decode_listing(data: bytes) -> Listing:
    """Return the terms of a listing; a rate of zero if it is not offered."""
    [(rate, instant, min_notice, horizon, nonce)] = decode_result("BookingEscrow", "listings", data)
    return Listing(from_wei(rate), instant, timedelta(seconds=min_notice), timedelta(seconds=horizon), nonce)


def batches_data(batch: bytes) -> bytes:
    """`batches`."""
    return call_data("BookingEscrow", "batches", batch)


def decode_batch(data: bytes) -> BatchState:
    """Return the contract's record of a batch; `created_at` is None if there is none."""
    [(created_at, *lessons)] = decode_result("BookingEscrow", "batches", data)
    return BatchState(from_unix(created_at) if created_at else None, *lessons)


def status_data(booking: bytes) -> bytes:
    """`statusOf`."""
    return call_data("BookingEscrow", "statusOf", booking)


def decode_status(data: bytes) -> Status:
    """Return the status of a lesson."""
    [status] = decode_result("BookingEscrow", "statusOf", data)
    return Status(status)


def calendar_data(tutor: str, start: datetime, end: datetime) -> bytes:
    """`calendar`, for the words that hold the time from `start` until `end`."""
    first, count = _pages(start, end)
    return call_data("BookingEscrow", "calendar", tutor, first, count)


def decode_calendar(data: bytes, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Return the tutor's taken times between `start` and `end`, as the longest intervals, in order.

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
    """Return the data of `allowance`, of the token."""
    return call_data("EduToken", "allowance", owner, spender)


def nonces_data(owner: str) -> bytes:
    """`nonces` of the token: the nonce that the owner's next permit must carry."""
    return call_data("EduToken", "nonces", owner)


def approve_data(spender: str, wei: int) -> bytes:
    """`approve` of the token, in base units."""
    return call_data("EduToken", "approve", spender, wei)


def decode_uint(data: bytes) -> int:
    """Return the one integer that a function returned: base units of a balance or allowance, or a nonce."""
    [number] = decode_result("EduToken", "balanceOf", data)
    return int(number)
