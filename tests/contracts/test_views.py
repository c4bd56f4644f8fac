"""The views, but for `check`: the hash and the key of an order, batches, statuses, listings, the calendar."""

from typing import Any

import pytest
from eth_account.messages import encode_typed_data
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from helpers import Contract, call, reverts, rpc
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from market import LISTING, NOBODY, NOW, PAGE, RATE, Market, slot, time_of

from creneau.lifecycle import Status

# --- Hash and key ---

TYPES = {
    "Order": [
        {"name": "student", "type": "address"},
        {"name": "tutor", "type": "address"},
        {"name": "listing", "type": "bytes32"},
        {"name": "hourlyRate", "type": "uint96"},
        {"name": "minLessons", "type": "uint8"},
        {"name": "deadline", "type": "uint40"},
        {"name": "salt", "type": "bytes32"},
        {"name": "slots", "type": "Slot[]"},
    ],
    "Slot": [{"name": "start", "type": "uint40"}, {"name": "duration", "type": "uint16"}],
}
ADDRESS = st.binary(min_size=20, max_size=20).map(to_checksum_address)
WORD = st.binary(min_size=32, max_size=32)


def unsigned(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**bits - 1)


TERMS = st.tuples(
    ADDRESS,
    ADDRESS,
    WORD,
    unsigned(96),
    unsigned(8),
    unsigned(40),
    WORD,
    st.lists(unsigned(32), max_size=45).map(tuple),
)


def hashes_of(escrow: Contract, chain_id: int, terms: tuple[Any, ...]) -> tuple[bytes, bytes]:
    """The digest and the struct's hash as wallets compute them, from types written out here."""
    message = dict(zip((field["name"] for field in TYPES["Order"]), terms, strict=True))
    message["slots"] = [
        {"start": (packed >> 8) * 900, "duration": (packed & 0xFF) * 15} for packed in terms[-1]
    ]
    domain = {"name": "Creneau", "version": "1", "chainId": chain_id, "verifyingContract": escrow.address}
    signable = encode_typed_data(domain, TYPES, message)
    return keccak(b"\x19" + signable.version + signable.header + signable.body), signable.body


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(terms=TERMS)
@example(terms=(NOBODY, NOBODY, bytes(32), 0, 0, 0, bytes(32), ()))
@example(
    terms=("0x" + "ff" * 20,) * 2
    + (b"\xff" * 32, 2**96 - 1, 2**8 - 1, 2**40 - 1, b"\xff" * 32, (2**32 - 1,) * 41)
)
def test_any_order_hashes_as_wallets_hash_it(market: Market, terms: tuple[Any, ...]) -> None:
    digest, struct = hashes_of(market.escrow, market.domain.chain_id, terms)
    assert call(market.escrow.hashOrder, terms) == digest
    assert call(market.escrow.batchOf, terms) == struct[:31] + b"\0"


def test_the_sdk_hashes_alike(market: Market) -> None:
    order = market.order(slot(0), slot(254, 480))
    digest, _ = hashes_of(market.escrow, market.domain.chain_id, order.as_abi())
    assert order.digest(market.domain) == call(market.escrow.hashOrder, order) == digest
    assert order.batch_id == call(market.escrow.batchOf, order)


# --- Batches and statuses ---


def test_what_was_never_created_is_empty(market: Market) -> None:
    for batch in (bytes(32), market.order().batch_id, b"\xff" * 32):
        assert call(market.escrow.batches, batch) == (0,) * 6
        assert call(market.escrow.statusOf, batch) == Status.NONE


@pytest.mark.parametrize("instant", [True, False])
def test_a_batch_is_found_by_its_exact_key(market: Market, instant: bool) -> None:
    market.publish(instant=instant)
    order = market.order(slot(0), slot(8))
    created = market.book(order).timestamp
    batch = order.batch_id
    assert call(market.escrow.batches, batch) == (created, *((0, 3) if instant else (3, 0)), 0, 0, 0)
    for other in (batch[:31] + b"\1", b"\0" + batch[1:]):
        assert call(market.escrow.batches, other) == (0,) * 6


@pytest.mark.parametrize("instant", [True, False])
def test_a_booking_id_names_its_place(market: Market, instant: bool) -> None:
    market.publish(instant=instant)
    market.book(market.order(slot(4)))
    places = [0, 2, 39]
    slots = [slot(4)] * 40
    for place in places:
        slots[place] = slot(100 + 4 * place)
    order = market.order(*slots)
    market.book(order)
    batch = order.batch_id
    live = Status.CONFIRMED if instant else Status.PENDING
    for place in (*range(48), 64, 128, 255):
        status = call(market.escrow.statusOf, batch[:31] + bytes([place]))
        assert status == (live if place in places else Status.NONE)


def test_each_set_of_lessons_is_a_status(market: Market) -> None:
    """Written into the contract's storage: every set at once, with its lowest and its highest lesson."""
    order = market.order()
    market.book(order)
    batch = order.batch_id
    (place,) = (
        key
        for key in (keccak(batch + base.to_bytes(32)) for base in range(32))
        if int(rpc("eth_getStorageAt", market.escrow.address, "0x" + key.hex(), "latest"), 16)
    )
    sets = [1 << (status - 1) | 1 << (40 - status) for status in Status if status]
    word = sum(lessons << 40 * status for status, lessons in enumerate([NOW, *sets]))
    rpc("anvil_setStorageAt", market.escrow.address, "0x" + place.hex(), "0x" + word.to_bytes(32).hex())
    assert call(market.escrow.batches, batch) == (NOW, *sets)
    statuses = [call(market.escrow.statusOf, batch[:31] + bytes([index])) for index in range(40)]
    assert statuses == [1, 2, 3, 4, 5, *[0] * 30, 5, 4, 3, 2, 1]


# --- Listings ---


def test_a_listing_that_was_never_published_is_empty(market: Market) -> None:
    assert call(market.escrow.listings, market.tutor, b"\1" * 32) == (0, False, 0, 0, 0)
    assert call(market.escrow.listings, market.student, LISTING) == (0, False, 0, 0, 0)


def test_a_withdrawn_listing_keeps_its_nonce(market: Market) -> None:
    assert call(market.escrow.listings, market.tutor, LISTING) == (RATE, False, 0, 0, 1)
    market.publish(0)
    assert call(market.escrow.listings, market.tutor, LISTING) == (0, False, 0, 0, 2)


# --- Calendar ---


def test_a_calendar_is_read_in_any_stretch(market: Market) -> None:
    market.book(market.order(slot(0, 15), slot(254), slot(512 + 255, 30)))
    words = {PAGE: 1 | 3 << 254, PAGE + 1: 3, PAGE + 2: 1 << 255, PAGE + 3: 1}
    calendar = market.escrow.calendar
    assert call(calendar, market.tutor, PAGE - 1, 6) == (0, *words.values(), 0)
    for page in range(PAGE - 1, PAGE + 5):
        assert call(calendar, market.tutor, page, 1) == (words.get(page, 0),)
    assert call(calendar, market.tutor, PAGE, 0) == ()
    assert call(calendar, market.student, PAGE - 1, 6) == (0,) * 6
    assert time_of(0) == 256 * PAGE * 900


def test_a_calendar_reaches_to_the_last_time_there_is(market: Market) -> None:
    terms = list(market.order().as_abi())
    last = 2**24 - 1  # the last quarter that a slot can name, in 2448
    terms[-1] = [last << 8 | 32]
    page, bit = divmod(last, 256)
    market.book(tuple(terms))  # type: ignore[arg-type]  # the ABI's own
    assert call(market.escrow.calendar, market.tutor, page, 2) == (
        ((2**32 - 1) << bit) % 2**256,
        (2**32 - 1) << bit >> 256,
    )


def test_pages_past_the_last_number_are_refused(market: Market) -> None:
    assert call(market.escrow.calendar, market.tutor, 2**256 - 1, 1) == (0,)
    with reverts("Panic", code=0x11):
        call(market.escrow.calendar, market.tutor, 2**256 - 1, 2)
