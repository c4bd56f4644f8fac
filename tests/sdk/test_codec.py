"""The ABI codec: what goes in comes out, and what is not ours is left alone."""

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from hypothesis import given
from hypothesis import strategies as st
from strategies import addresses, orders, words

from creneau import Action, Listing, Order, Permit, SlotCode, Status, abi, events
from creneau.booking import BatchState
from creneau.errors import UnreadableOrder
from creneau.events import (
    BookingsCancelled,
    BookingsCompleted,
    BookingsConfirmed,
    BookingsCreated,
    BookingsDisputed,
    BookingsResolved,
    BookingsSettled,
    CallFailed,
    CreditWithdrawn,
    ListingPublished,
    OrderRevoked,
    PaymentCredited,
    Transfer,
)
from creneau.types import from_unix, to_address

ORDER = "(address,address,bytes32,uint96,uint8,uint40,bytes32,uint32[])"
PERMIT = "(uint256,uint256,uint8,bytes32,bytes32)"
ESCROW = to_address(b"\x05" * 20)
TOKEN = to_address(b"\x06" * 20)
STUDENT, TUTOR = to_address(b"\x01" * 20), to_address(b"\x02" * 20)
DAY = from_unix(0) + 5 * abi.PAGE


def selector(signature: str) -> bytes:
    return keccak(text=signature)[:4]


def account(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


def created(order: Order, booked: int, total: int, *, deadline: int | None = None) -> dict[str, Any]:
    """The log of `BookingsCreated`, as web3 has it."""
    _, _, listing, rate, least, until, salt, slots = order.as_abi()
    packed = b"".join(slot.to_bytes(4, "big") for slot in slots)
    values = [
        listing,
        rate,
        least,
        until if deadline is None else deadline,
        salt,
        packed,
        booked,
        True,
        total,
    ]
    types = ["bytes32", "uint96", "uint8", "uint40", "bytes32", "bytes", "uint40", "bool", "uint256"]
    return {
        "address": ESCROW,
        "topics": [
            HexBytes(topic)
            for topic in (
                events.BOOKINGS_CREATED,
                b"\x07" * 31 + b"\0",
                account(order.student),
                account(order.tutor),
            )
        ],
        "data": HexBytes(encode(types, values)),
    }


# --- Calls ---


@given(orders(), st.binary(max_size=100))
def test_create_bookings_data(order: Order, signature: bytes) -> None:
    data = abi.create_bookings_data(order, signature)
    assert data[:4] == selector(f"createBookings({ORDER},bytes)")
    terms, signed = decode([ORDER, "bytes"], data[4:])
    assert (Order.from_abi(terms), signed) == (order, signature)


@given(orders(), st.integers(0, 2**256 - 1), words(), words())
def test_create_bookings_data_with_permit(order: Order, value: int, r: bytes, s: bytes) -> None:
    permit = Permit(value=value, deadline=2**256 - 1, v=28, r=r, s=s)
    data = abi.create_bookings_data(order, b"", permit)
    assert data[:4] == selector(f"createBookingsWithPermit({ORDER},bytes,{PERMIT})")
    terms, signed, permitted = decode([ORDER, "bytes", PERMIT], data[4:])
    assert (Order.from_abi(terms), signed, permitted) == (order, b"", permit.as_abi())


def test_publish_data() -> None:
    values = [TUTOR, b"\3" * 32, 2**96 - 1, True, 7200, 86_400, 2**40 - 1, b"\4" * 65]
    types = ["address", "bytes32", "uint96", "bool", "uint32", "uint32", "uint40", "bytes"]
    assert abi.publish_data(*values) == selector(f"publish({','.join(types)})") + encode(types, values)


@given(orders(), st.integers(0, 2**40 - 1), st.binary(max_size=100), st.binary(max_size=100))
def test_settle_revoke_and_withdraw_data(order: Order, lessons: int, first: bytes, second: bytes) -> None:
    terms = order.as_abi()
    types = [ORDER, "uint40", "uint16", "uint40", "bytes", "bytes"]
    data = abi.settle_data(order, lessons, 2_500, 9, student_signature=first, tutor_signature=second)
    assert data == selector(f"settle({','.join(types)})") + encode(
        types, [terms, lessons, 2_500, 9, first, second]
    )
    types = [ORDER, "uint40", "bytes"]
    assert abi.revoke_data(order, 9, first) == selector(f"revoke({','.join(types)})") + encode(
        types, [terms, 9, first]
    )
    types = ["address", "address", "uint40", "bytes"]
    assert abi.withdraw_data(STUDENT, TUTOR, 9, first) == selector(f"withdraw({','.join(types)})") + encode(
        types, [STUDENT, TUTOR, 9, first]
    )


def test_try_multicall() -> None:
    data = abi.try_multicall_data([b"\1", b"\2\3"])
    assert data == selector("tryMulticall(bytes[])") + encode(["bytes[]"], [[b"\1", b"\2\3"]])
    answers = [(True, b"\4"), (False, b"\5")]
    assert abi.decode_try_multicall(encode(["(bool,bytes)[]"], [answers])) == answers


@given(orders(), st.integers(0, 2**40 - 1), st.binary(max_size=100))
def test_acts_on_lessons(order: Order, lessons: int, signature: bytes) -> None:
    terms = order.as_abi()
    signed: dict[str, Any] = {"deadline": 9, "signature": signature}
    for data, name, more, values in (
        (
            abi.action_data(Action.CONFIRM, order, lessons, **signed),
            "confirm",
            ["uint40", "bytes"],
            [9, signature],
        ),
        (
            abi.action_data(Action.DISPUTE, order, lessons, **signed),
            "dispute",
            ["uint40", "bytes"],
            [9, signature],
        ),
        (
            abi.action_data(Action.CANCEL, order, lessons, by=TUTOR, **signed),
            "cancel",
            ["address", "uint40", "bytes"],
            [TUTOR, 9, signature],
        ),
        (
            abi.action_data(Action.COMPLETE, order, lessons, by=TUTOR, **signed),
            "complete",
            ["address", "uint40", "bytes"],
            [TUTOR, 9, signature],
        ),
        (
            abi.action_data(Action.RESOLVE, order, lessons, tutor_share_bps=2500),
            "resolve",
            ["uint16"],
            [2500],
        ),
    ):
        types = [ORDER, "uint40", *more]
        assert data == selector(f"{name}({','.join(types)})") + encode(types, [terms, lessons, *values])
    assert abi.action_data(Action.CONFIRM, terms, lessons) == abi.action_data(Action.CONFIRM, order, lessons)


@given(st.lists(st.binary(max_size=70), max_size=5))
def test_multicall(calls: list[bytes]) -> None:
    assert abi.multicall_data(calls) == selector("multicall(bytes[])") + encode(["bytes[]"], [calls])
    assert abi.decode_multicall(encode(["bytes[]"], [calls])) == calls


def test_token_data() -> None:
    assert abi.balance_of_data(TUTOR) == selector("balanceOf(address)") + account(TUTOR)
    assert abi.nonces_data(TUTOR) == selector("nonces(address)") + account(TUTOR)
    assert abi.allowance_data(STUDENT, ESCROW) == selector("allowance(address,address)") + account(
        STUDENT
    ) + account(ESCROW)
    assert abi.approve_data(ESCROW, 7) == selector("approve(address,uint256)") + account(ESCROW) + encode(
        ["uint256"], [7]
    )


# --- Answers ---


def test_answers() -> None:
    assert abi.decode_create_bookings(encode(["bytes32", "uint40"], [b"\1" * 32, 5])) == (b"\1" * 32, 5)
    assert abi.decode_check(encode(["uint8[]", "uint256"], [range(7), 7])) == (list(SlotCode), 7)
    listing = encode(["(uint96,bool,uint32,uint32,uint64)"], [(35 * 10**18, True, 7200, 86_400, 2)])
    assert abi.decode_listing(listing) == Listing(Decimal(35), True, timedelta(hours=2), timedelta(days=1), 2)
    assert abi.decode_status(encode(["uint8"], [3])) is Status.DISPUTED
    assert abi.decode_uint(encode(["uint256"], [2**256 - 1])) == 2**256 - 1


def test_decode_batch() -> None:
    types = ["(uint40,uint40,uint40,uint40,uint40,uint40)"]
    state = abi.decode_batch(encode(types, [(1_900_000_000, 1, 2, 4, 8, 16)]))
    assert state == BatchState(from_unix(1_900_000_000), 1, 2, 4, 8, 16)
    assert state.booked == 31
    assert [state.status(index) for index in range(6)] == [
        Status.PENDING,
        Status.CONFIRMED,
        Status.DISPUTED,
        Status.COMPLETED,
        Status.CANCELLED,
        Status.NONE,
    ]
    assert abi.decode_batch(encode(types, [(0,) * 6])) == BatchState(None, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "decoder",
    [
        abi.decode_create_bookings,
        abi.decode_check,
        abi.decode_listing,
        abi.decode_batch,
        abi.decode_status,
        abi.decode_multicall,
        abi.decode_try_multicall,
        abi.decode_uint,
        lambda data: abi.decode_calendar(data, DAY, DAY + abi.PAGE),
    ],
)
@pytest.mark.parametrize("data", [b"", b"\xff" * 31, b"\xff" * 32])
def test_what_is_no_answer_is_a_value_error(decoder: Any, data: bytes) -> None:
    if decoder is abi.decode_uint and len(data) == 32:
        return
    with pytest.raises(ValueError, match="not an answer of"):
        decoder(data)


# --- Calendar ---


@given(st.sets(st.integers(0, 3 * 256 - 1)), st.integers(0, 255), st.integers(1, 400))
def test_calendar(taken: set[int], first: int, length: int) -> None:
    start, end = DAY + first * abi.QUARTER, DAY + (first + length) * abi.QUARTER
    data = abi.calendar_data(TUTOR, start, end)
    tutor, page, count = decode(["address", "uint256", "uint256"], data[4:])
    assert (to_address(tutor), page) == (TUTOR, 5)
    assert (count - 1) * 256 < first + length <= count * 256

    words = [sum(1 << bit for bit in range(256) if number * 256 + bit in taken) for number in range(count)]
    intervals = abi.decode_calendar(encode(["uint256[]"], [words]), start, end)

    quarters = {
        (at - DAY) // abi.QUARTER + step
        for at, until in intervals
        for step in range((until - at) // abi.QUARTER)
    }
    assert quarters == {quarter for quarter in taken if first <= quarter < first + length}
    assert all(before[1] < after[0] for before, after in pairwise(intervals))


def test_calendar_cuts_at_the_times_asked_for() -> None:
    start, end = DAY + timedelta(minutes=5), DAY + timedelta(minutes=20)
    assert abi.decode_calendar(encode(["uint256[]"], [[0b111]]), start, end) == [(start, end)]


@pytest.mark.parametrize("end", [DAY, DAY - timedelta(seconds=1)])
def test_calendar_refuses_no_time(end: datetime) -> None:
    with pytest.raises(ValueError, match="end is after its start"):
        abi.calendar_data(TUTOR, DAY, end)


# --- Logs ---


@given(orders(), st.integers(0, 2**40 - 1), st.integers(0, 2**256 - 1))
def test_bookings_created(order: Order, booked: int, total: int) -> None:
    [event] = events.decode_logs([created(order, booked, total)], ESCROW)
    assert isinstance(event, BookingsCreated)
    assert (event.batch, event.student, event.tutor) == (b"\x07" * 31 + b"\0", order.student, order.tutor)
    assert (event.order, event.booked, event.confirmed, event.total) == (order, booked, True, total)
    assert event.order_slots == [(slot.start_unix, slot.minutes) for slot in order.slots]


@given(orders())
def test_logs_of_plain_json_rpc(order: Order) -> None:
    log = created(order, 1, 2)
    plain = {
        "address": ESCROW.lower(),
        "topics": ["0x" + topic.hex() for topic in log["topics"]],
        "data": "0x" + log["data"].hex(),
    }
    assert events.decode_log(plain, ESCROW.lower()) == events.decode_log(log, ESCROW)


@given(orders(), st.integers(253402300800, 2**40 - 1))
def test_an_order_after_the_year_9999_is_an_event_all_the_same(order: Order, deadline: int) -> None:
    event = events.decode_log(created(order, 1, 2, deadline=deadline), ESCROW)
    assert isinstance(event, BookingsCreated)
    assert event.terms[5] == deadline
    with pytest.raises(UnreadableOrder, match=r"batch 0x0707.* names a time after the year 9999"):
        _ = event.order


def test_listing_published() -> None:
    log = {
        "address": ESCROW,
        "topics": [events.LISTING_PUBLISHED, account(TUTOR), b"\3" * 32],
        "data": encode(["uint96", "bool", "uint32", "uint32", "uint64"], [35, True, 7200, 86_400, 4]),
    }
    assert events.decode_log(log, ESCROW) == ListingPublished(TUTOR, b"\3" * 32, 35, True, 7200, 86_400, 4)
    assert events.decode_log(log, TOKEN) is None


BATCH = b"\x07" * 31 + b"\0"


@pytest.mark.parametrize(
    ("signature", "topics", "types", "values", "event"),
    [
        (
            "BookingsConfirmed(bytes32,address,uint40)",
            [BATCH, account(TUTOR)],
            ["uint40"],
            [5],
            BookingsConfirmed(BATCH, 5, TUTOR),
        ),
        (
            "BookingsCancelled(bytes32,address,uint40,uint256)",
            [BATCH, account(TUTOR)],
            ["uint40", "uint256"],
            [5, 7],
            BookingsCancelled(BATCH, 5, TUTOR, 7),
        ),
        (
            "BookingsCompleted(bytes32,address,uint40,uint256)",
            [BATCH, account(STUDENT)],
            ["uint40", "uint256"],
            [5, 7],
            BookingsCompleted(BATCH, 5, STUDENT, 7),
        ),
        (
            "BookingsDisputed(bytes32,address,uint40)",
            [BATCH, account(STUDENT)],
            ["uint40"],
            [5],
            BookingsDisputed(BATCH, 5, STUDENT),
        ),
        (
            "BookingsResolved(bytes32,address,uint40,uint256,uint256)",
            [BATCH, account(TOKEN)],
            ["uint40", "uint256", "uint256"],
            [5, 7, 8],
            BookingsResolved(BATCH, 5, TOKEN, 7, 8),
        ),
        (
            "BookingsSettled(bytes32,address,address,uint40,uint256,uint256)",
            [BATCH, account(STUDENT), account(TUTOR)],
            ["uint40", "uint256", "uint256"],
            [5, 7, 8],
            BookingsSettled(BATCH, 5, STUDENT, TUTOR, 7, 8),
        ),
        ("OrderRevoked(bytes32,address)", [BATCH, account(STUDENT)], [], [], OrderRevoked(BATCH, STUDENT)),
        (
            "PaymentCredited(address,uint256)",
            [account(STUDENT)],
            ["uint256"],
            [7],
            PaymentCredited(STUDENT, 7),
        ),
        (
            "CreditWithdrawn(address,address,uint256)",
            [account(STUDENT), account(TUTOR)],
            ["uint256"],
            [7],
            CreditWithdrawn(STUDENT, TUTOR, 7),
        ),
        (
            "CallFailed(uint256,bytes)",
            [(3).to_bytes(32, "big")],
            ["bytes"],
            [b"\1\2"],
            CallFailed(3, b"\1\2"),
        ),
    ],
)
def test_acts(
    signature: str, topics: list[bytes], types: list[str], values: list[Any], event: events.Event
) -> None:
    log = {
        "address": ESCROW,
        "topics": [keccak(text=signature), *topics],
        "data": encode(types, values),
    }
    assert events.decode_log(log, ESCROW) == event
    assert events.decode_log(log, TOKEN) is None
    assert log["topics"][0] in events.ESCROW_TOPICS


def test_the_escrow_s_topics_are_all_but_the_library_s() -> None:
    library = {"OwnershipTransferStarted", "OwnershipTransferred", "EIP712DomainChanged"}
    names = {
        entry["name"] for entry in abi.contract_abi("BookingEscrow") if entry["type"] == "event"
    } - library
    assert len(events.ESCROW_TOPICS) == len(names) == 12


@given(addresses(), addresses(), st.integers(0, 2**256 - 1))
def test_transfer(source: bytes, destination: bytes, value: int) -> None:
    log = {
        "address": TOKEN,
        "topics": [events.TRANSFER, bytes(12) + source, bytes(12) + destination],
        "data": encode(["uint256"], [value]),
    }
    assert events.decode_log(log, ESCROW) == Transfer(
        to_address(source), to_address(destination), value, TOKEN
    )


@pytest.mark.parametrize(
    ("topics", "data"),
    [
        ([], b""),
        ([keccak(text="Approval(address,address,uint256)"), account(STUDENT), account(TUTOR)], bytes(32)),
        ([events.TRANSFER, account(STUDENT), account(TUTOR), bytes(32)], b""),
        ([events.TRANSFER], bytes(96)),
        ([keccak(text="SomethingElse()")], b""),
    ],
)
@pytest.mark.parametrize("address", [ESCROW, TOKEN])
def test_other_logs_are_left_out(address: str, topics: list[bytes], data: bytes) -> None:
    assert events.decode_logs([{"address": address, "topics": topics, "data": data}], ESCROW) == []
