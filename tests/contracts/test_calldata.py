"""`createBookings` against calldata that no honest encoder writes: dirty bits, odd offsets, missing bytes."""

from collections.abc import Callable

import pytest
from helpers import call_data, calldata, reverts, send_data
from market import DEADLINE as DEADLINE_OF_LISTING
from market import Market, slot

from creneau.order import Order, Permit

# The words of `createBookings(order, signature)` as encoders write them, counted after the selector.
ORDER, SIGNATURE = 0, 1
STUDENT, TUTOR, LISTING, RATE, LEAST, DEADLINE, SALT, SLOTS = range(2, 10)
COUNT, FIRST, LAST = range(10, 13)


def words_of(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 32]) for at in range(4, len(data), 32)]


def data_of(selector: bytes, words: list[int]) -> bytes:
    return selector + b"".join((word % 2**256).to_bytes(32) for word in words)


@pytest.fixture
def order(market: Market) -> Order:
    return market.order(slot(0), slot(254))


@pytest.fixture
def honest(market: Market, order: Order) -> bytes:
    return calldata(market.escrow.createBookings, order, b"")


def test_the_words_are_where_these_tests_think(market: Market, order: Order, honest: bytes) -> None:
    words = words_of(honest)
    assert words[: ORDER + 2] == [0x40, 32 * (LAST + 1)]
    assert words[STUDENT : SLOTS + 1] == [
        int(order.student, 16),
        int(order.tutor, 16),
        int.from_bytes(order.listing),
        order.hourly_rate_wei,
        1,
        int(order.deadline.timestamp()),
        int.from_bytes(order.salt),
        0x100,
    ]
    assert words[COUNT:] == [2, slot(0).packed, slot(254).packed, 0]
    market.assert_booked(send_data(market.escrow, honest, sender=market.student), order)


@pytest.mark.parametrize(
    ("word", "bits"),
    [
        (STUDENT, 160),
        (TUTOR, 160),
        (RATE, 96),
        (LEAST, 8),
        (DEADLINE, 40),
        (FIRST, 32),
        (LAST, 32),
    ],
)
@pytest.mark.parametrize("top", [False, True], ids=["next bit", "highest bit"])
def test_dirty_upper_bits_are_refused(market: Market, honest: bytes, word: int, bits: int, top: bool) -> None:
    words = words_of(honest)
    words[word] |= 1 << (255 if top else bits)
    with reverts(None):
        send_data(market.escrow, data_of(honest[:4], words), sender=market.student)


@pytest.mark.parametrize("bit", [32, 255])
@pytest.mark.parametrize("word", [FIRST, LAST])
def test_check_refuses_dirty_slots(market: Market, order: Order, word: int, bit: int) -> None:
    # One argument only, so that everything is a word earlier.
    data = calldata(market.escrow.check, order)
    words = words_of(data)
    words[word - 1] |= 1 << bit
    with reverts(None):
        call_data(market.escrow, data_of(data[:4], words))


PUBLISHED = {
    "tutor": (0, 160),
    "rate": (2, 96),
    "instant": (3, 1),
    "notice": (4, 32),
    "horizon": (5, 32),
    "deadline": (6, 40),
}
"""The word of each argument of `publish`, and its bits."""


@pytest.mark.parametrize("argument", PUBLISHED)
def test_publish_refuses_dirty_bits(market: Market, argument: str) -> None:
    word, bits = PUBLISHED[argument]
    data = calldata(market.escrow.publish, market.tutor, bytes(32), 1, True, 2, 3, DEADLINE_OF_LISTING, b"")
    words = words_of(data)
    words[word] |= 1 << bits
    with reverts(None):
        send_data(market.escrow, data_of(data[:4], words), sender=market.tutor)


def test_a_permit_with_dirty_bits_is_not_ignored(market: Market, order: Order) -> None:
    permit = Permit(value=0, deadline=0, v=0, r=bytes(32), s=bytes(32))
    data = calldata(market.escrow.createBookingsWithPermit, order, b"", permit)
    words = words_of(data)
    words[4] |= 1 << 8  # v, after the two offsets, the value and the deadline
    with reverts(None):
        send_data(market.escrow, data_of(data[:4], words), sender=market.student)
    market.assert_booked(send_data(market.escrow, data, sender=market.student), order)


def with_junk_between(words: list[int]) -> list[int]:
    """The order after a gap, and its slots after another."""
    junk = [2**256 - 1] * 3
    signature = 2 + 3 + 8 + 3 + 3
    head = [0x40 + 32 * 3, 32 * signature]
    return head + junk + [*words[STUDENT:SLOTS], 0x100 + 32 * 3] + junk + words[COUNT:]


def with_signature_first(words: list[int]) -> list[int]:
    return [0x60, 0x40, 0, *words[STUDENT : LAST + 1]]


def with_slots_before(words: list[int]) -> list[int]:
    """The slots lie before the order that they belong to, which only a wrapping offset could reach."""
    slots = words[COUNT : LAST + 1]
    order = 2 + len(slots) + 1
    return [32 * order, 32 * (order - 1), *slots, 0, *words[STUDENT:SLOTS], 32 * (2 - order)]


def with_more_after(words: list[int]) -> list[int]:
    return [*words, 1, 2**256 - 1]


@pytest.mark.parametrize(
    "shape", [with_junk_between, with_signature_first, with_slots_before, with_more_after]
)
def test_offsets_change_neither_hash_nor_event(
    market: Market, order: Order, honest: bytes, shape: Callable[[list[int]], list[int]]
) -> None:
    data = data_of(honest[:4], shape(words_of(honest)))
    assert data != honest
    market.assert_booked(send_data(market.escrow, data, sender=market.student), order)


def test_a_signed_order_may_be_encoded_oddly(market: Market, order: Order) -> None:
    signature = market.sign(order)
    data = calldata(market.escrow.createBookings, order, signature)
    words = words_of(data)
    slots = words[COUNT : LAST + 1]
    signed = words[LAST + 1 :]
    order_at = 2 + len(signed) + 3
    odd = [32 * order_at, 64, *signed, 7, 7, 7, *words[STUDENT:SLOTS], 0x140, 7, 7, *slots]
    market.assert_booked(send_data(market.escrow, data_of(data[:4], odd), sender=market.relayer), order)


@pytest.mark.parametrize("missing", [1, 32, 33, 64, 96, 160, 192, 480])
def test_missing_bytes_are_refused(market: Market, honest: bytes, missing: int) -> None:
    with reverts(None):
        send_data(market.escrow, honest[:-missing], sender=market.student)


@pytest.mark.parametrize("word", [ORDER, SIGNATURE, SLOTS])
@pytest.mark.parametrize("offset", [2**64 - 1, 2**64, 2**256 - 32, 10_000], ids=hex)
def test_offsets_out_of_the_calldata_are_refused(
    market: Market, honest: bytes, word: int, offset: int
) -> None:
    words = words_of(honest)
    words[word] = offset
    with reverts(None):
        send_data(market.escrow, data_of(honest[:4], words), sender=market.student)


def test_slots_beyond_all_calldata_are_none(market: Market, honest: bytes) -> None:
    words = words_of(honest)
    words[SLOTS] = 2**255
    with reverts("SlotCount", actual=0, max=40):
        send_data(market.escrow, data_of(honest[:4], words), sender=market.student)


@pytest.mark.parametrize("count", [4, 40, 2**64 - 1, 2**64, 2**250 + 2, 2**256 - 1], ids=hex)
def test_more_slots_than_there_are_bytes_are_refused(market: Market, honest: bytes, count: int) -> None:
    words = words_of(honest)
    words[COUNT] = count
    with reverts(None):
        send_data(market.escrow, data_of(honest[:4], words), sender=market.student)


def test_ether_is_refused(market: Market, honest: bytes) -> None:
    for data in (honest, b""):
        with reverts(None):
            send_data(market.escrow, data, sender=market.student, value=1)


def test_unknown_functions_are_refused(market: Market) -> None:
    for data in (b"", b"\1", b"\xff" * 4):
        with reverts(None):
            send_data(market.escrow, data, sender=market.student)
