"""Orders: their hash, what they refuse, and the ids that follow from them."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal

import ape
import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_utils.crypto import keccak
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from strategies import LAST_SLOT, addresses, orders, words

from creneau import (
    BookingEscrow,
    Domain,
    Order,
    Permit,
    Slot,
    abi,
    action_typed_data,
    batch_of,
    booking_id,
    from_wei,
    index_of,
    listing_id,
    listing_typed_data,
    permit_typed_data,
    revoke_typed_data,
    settle_typed_data,
    withdraw_typed_data,
)
from creneau.types import to_address, to_unix

NINE = datetime(2030, 5, 6, 9, tzinfo=UTC)
ORDER = Order(
    student="0x" + "11" * 20,
    tutor="0x" + "22" * 20,
    listing="0x" + "33" * 32,
    hourly_rate="35",
    deadline=NINE,
    salt=bytes(32),
    slots=[Slot(start=NINE, duration=timedelta(minutes=90))],
)
EXTREME = Order(
    student="0x" + "ff" * 20,
    tutor="0x" + "00" * 20,
    listing=b"\xff" * 32,
    hourly_rate=from_wei(2**96 - 1),
    deadline=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    salt=b"\xff" * 32,
    min_lessons=255,
    slots=[LAST_SLOT] * 40,
)
domains = st.builds(Domain, st.integers(1, 2**256 - 1), addresses().map(to_address))


def hashed(typed_data: dict[str, Any]) -> bytes:
    """The digest by eth_account, of the data as a wallet gets it: through JSON."""
    return _hash_eip191_message(encode_typed_data(full_message=json.loads(json.dumps(typed_data))))


# --- The hash ---


@given(orders(), domains)
@example(EXTREME, Domain(1, "0x" + "44" * 20))
def test_digest_equals_eth_account(order: Order, domain: Domain) -> None:
    assert order.digest(domain) == hashed(order.typed_data(domain))


# The escrow is deployed once, and examples only ask it for hashes.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(orders(), min_size=1, max_size=8))
@example([EXTREME, ORDER.model_copy(update={"slots": ()})])
def test_digest_equals_the_contract(escrow: BookingEscrow, many: list[Order]) -> None:
    data = abi.multicall_data([abi.hash_order_data(order) for order in many])
    answer = ape.chain.provider.web3.eth.call({"to": escrow.address, "data": data})
    assert abi.decode_multicall(answer) == [order.digest(escrow.domain) for order in many]


def test_batch_id_equals_the_contract(raw_escrow: Any) -> None:
    assert raw_escrow.batchOf(ORDER.as_abi()) == ORDER.batch_id


@pytest.mark.parametrize(
    "change",
    [
        {"student": "0x" + "12" * 20},
        {"tutor": "0x" + "12" * 20},
        {"listing": bytes(32)},
        {"hourly_rate": from_wei(35 * 10**18 + 1)},
        {"min_lessons": 2},
        {"deadline": NINE + timedelta(seconds=1)},
        {"salt": b"\1" * 32},
        {"slots": (*ORDER.slots, *ORDER.slots)},
        {"slots": (Slot(start=NINE, duration=timedelta(minutes=105)),)},
        {"slots": (Slot(start=NINE + timedelta(minutes=15), duration=timedelta(minutes=90)),)},
    ],
)
def test_every_term_is_in_the_digest(change: dict[str, Any]) -> None:
    domain = Domain(1, "0x" + "44" * 20)
    assert ORDER.model_copy(update=change).digest(domain) != ORDER.digest(domain)


def test_the_domain_is_in_the_digest() -> None:
    digest = ORDER.digest(Domain(1, "0x" + "44" * 20))
    assert digest != ORDER.digest(Domain(2, "0x" + "44" * 20))
    assert digest != ORDER.digest(Domain(1, "0x" + "45" * 20))


def test_a_domain_needs_an_address() -> None:
    assert Domain(1, "0x" + "AB" * 20).separator == Domain(1, "0x" + "ab" * 20).separator
    with pytest.raises(ValueError, match="an address is 20 bytes"):
        _ = Domain(1, "44" * 20).separator


def test_the_domain_is_the_contracts(escrow: BookingEscrow, raw_escrow: Any) -> None:
    fields, name, version, chain_id, contract, salt, extensions = raw_escrow.eip712Domain()
    assert (fields, salt, extensions) == (b"\x0f", bytes(32), [])
    assert escrow.domain.typed_data() == {
        "name": name,
        "version": version,
        "chainId": chain_id,
        "verifyingContract": contract,
    }


def test_two_orders_of_the_same_terms_differ_by_salt() -> None:
    terms = ORDER.model_dump(exclude={"salt"})
    first, second = Order(**terms), Order(**terms)
    assert len(first.salt) == 32
    assert first.salt != second.salt


# --- Amounts ---


def test_amounts_and_total() -> None:
    order = ORDER.model_copy(update={"slots": (Slot.of(0, 60), Slot.of(0, 90), Slot.of(0, 15))})
    assert order.amounts == [Decimal(35), Decimal("52.5"), Decimal("8.75")]
    assert order.total == Decimal("96.25")


def test_the_total_is_the_sum_of_the_rounded_amounts() -> None:
    order = ORDER.model_copy(update={"hourly_rate": from_wei(59), "slots": (Slot.of(0, 75),) * 2})
    assert order.amounts_wei == [73, 73]
    assert order.total == from_wei(146)


def test_the_largest_rate_is_exact() -> None:
    assert EXTREME.hourly_rate_wei == 2**96 - 1
    assert EXTREME.total == from_wei(40 * ((2**96 - 1) * 255 // 4))


# --- What a model refuses ---


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"student": "0x12"}, "an address is 20 bytes"),
        ({"tutor": 1}, "an address is 20 bytes"),
        ({"listing": "annonce"}, "a bytes32 is 32 bytes"),
        ({"salt": b"1"}, "a bytes32 is 32 bytes"),
        ({"hourly_rate": 35.0}, "not float"),
        ({"hourly_rate": "-1"}, "not negative"),
        ({"hourly_rate": from_wei(2**96)}, "96 bits"),
        ({"hourly_rate": "0.0000000000000000001"}, "18 decimal places"),
        ({"deadline": datetime(2030, 5, 6)}, "timezone"),  # noqa: DTZ001  # that is the point
        ({"deadline": datetime(1969, 12, 31, tzinfo=UTC)}, "from 1970"),
        ({"deadline": datetime(2030, 5, 6, microsecond=1, tzinfo=UTC)}, "whole seconds"),
        ({"deadline": 1_900_000_000}, "not a number"),
        ({"min_lessons": 256}, "less than 256"),
        ({"min_lessons": -1}, "greater than or equal to 0"),
    ],
)
def test_an_order_refuses_what_cannot_be_encoded(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Order(**(ORDER.model_dump() | change))


@pytest.mark.parametrize(
    ("start", "duration", "reason"),
    [
        (datetime(2030, 5, 6), timedelta(hours=1), "timezone"),  # noqa: DTZ001
        (NINE, timedelta(seconds=90), "whole minutes"),
        (NINE, timedelta(minutes=-15), "at most 16 bits"),
        (NINE, timedelta(minutes=65536), "at most 16 bits"),
        (NINE, timedelta(minutes=3840), "at most 3825"),
        (NINE, timedelta(minutes=50), "a multiple of 15 minutes"),
        (NINE + timedelta(minutes=5), timedelta(hours=1), "on a quarter of an hour"),
        (NINE + timedelta(seconds=1), timedelta(hours=1), "on a quarter of an hour"),
        (NINE, 60, "not a number"),
        (datetime(2448, 7, 3, 2, tzinfo=UTC), timedelta(hours=1), "before the year 2449"),
    ],
)
def test_a_slot_refuses_what_cannot_be_encoded(start: Any, duration: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Slot(start=start, duration=duration)


def test_what_the_contract_refuses_is_an_order_all_the_same() -> None:
    past = Slot(start=datetime(1999, 1, 1, 0, 15, tzinfo=UTC), duration=timedelta(minutes=0))
    order = Order(**(ORDER.model_dump() | {"slots": [past, past], "student": ORDER.tutor}))
    assert order.slots == (past, past)


def test_times_are_utc_inside() -> None:
    paris = timezone(timedelta(hours=2))
    slot = Slot(start=datetime(2030, 5, 6, 11, tzinfo=paris), duration=timedelta(hours=1))
    assert slot.start == NINE
    assert slot.start.tzinfo is UTC
    assert (slot.start_unix, slot.minutes) == (to_unix(NINE), 60)
    assert slot.end == NINE + timedelta(hours=1)
    assert Slot.of(slot.start_unix, slot.minutes) == slot


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ORDER.hourly_rate = Decimal(1)  # type: ignore[misc]


@given(orders())
def test_json_round_trip(order: Order) -> None:
    assert Order.model_validate_json(order.model_dump_json()) == order


# --- Ids ---


def test_listing_id_is_a_hash_of_any_text() -> None:
    assert listing_id("") == bytes.fromhex("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")
    assert listing_id("é") != listing_id("e")


@given(words(), st.integers(0, 39))
def test_a_booking_id_names_its_batch_and_place(word: bytes, index: int) -> None:
    batch = word[:31] + b"\0"
    booking = booking_id(batch, index)
    assert (batch_of(booking), index_of(booking)) == (batch, index)


def test_booking_id_refuses_what_the_contract_has_not() -> None:
    with pytest.raises(ValueError, match="an index is from 0 to 39"):
        booking_id(bytes(32), 40)
    with pytest.raises(ValueError, match="an index is from 0 to 39"):
        booking_id(bytes(32), -1)
    with pytest.raises(ValueError, match="ends in a zero byte"):
        booking_id(b"\1" * 32, 0)


# --- The other typed data ---


def test_typed_data_is_ready_for_json() -> None:
    """JavaScript rounds numbers above 2^53, so such fields are text."""
    texts = [
        ORDER.typed_data(Domain(1, "0x" + "44" * 20))["message"]["hourlyRate"],
        listing_typed_data(
            Domain(1, "0x" + "44" * 20), ORDER.tutor, ORDER.listing, 35 * 10**18, False, 0, 0, 0, 0
        )["message"]["hourlyRate"],
        permit_typed_data("EDU", "1", 1, ORDER.tutor, ORDER.student, ORDER.tutor, 2**256 - 1, 0, 2**256 - 1)[
            "message"
        ]["value"],
    ]
    assert texts == [str(35 * 10**18), str(35 * 10**18), str(2**256 - 1)]


@pytest.mark.parametrize("act", ["Confirm", "Cancel", "Complete", "Dispute"])
def test_act_typed_data(act: Literal["Confirm", "Cancel", "Complete", "Dispute"]) -> None:
    domain, batch = Domain(1, "0x" + "44" * 20), b"\5" * 31 + b"\0"
    message = json.loads(json.dumps(action_typed_data(domain, act, batch, 2**40 - 1, 7)))
    signable = encode_typed_data(full_message=message)
    typehash = keccak(text=f"{act}(bytes32 batch,uint40 lessons,uint40 deadline)")
    assert signable.header == domain.separator
    assert signable.body == keccak(typehash + batch + _words(2**40 - 1, 7))


def _words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in numbers)


@pytest.mark.parametrize(
    ("message", "struct", "words"),
    [
        (
            lambda domain: settle_typed_data(domain, b"\5" * 31 + b"\0", 3, 2_500, 7),
            "Settle(bytes32 batch,uint40 lessons,uint16 tutorShareBps,uint40 deadline)",
            b"\5" * 31 + b"\0" + _words(3, 2_500, 7),
        ),
        (
            lambda domain: revoke_typed_data(domain, b"\5" * 31 + b"\0", 7),
            "Revoke(bytes32 batch,uint40 deadline)",
            b"\5" * 31 + b"\0" + _words(7),
        ),
        (
            lambda domain: withdraw_typed_data(domain, ORDER.student, ORDER.tutor, 7),
            "Withdraw(address account,address to,uint40 deadline)",
            _words(int(ORDER.student, 16), int(ORDER.tutor, 16), 7),
        ),
    ],
)
def test_the_other_signed_structs(message: Any, struct: str, words: bytes) -> None:
    domain = Domain(1, "0x" + "44" * 20)
    signable = encode_typed_data(full_message=json.loads(json.dumps(message(domain))))
    assert signable.header == domain.separator
    assert signable.body == keccak(keccak(text=struct) + words)


def test_the_key_of_a_batch_does_not_depend_on_the_chain() -> None:
    assert ORDER.batch_id == ORDER.struct_hash[:31] + b"\0"
    for chain_id in (1, 2):
        domain = Domain(chain_id, "0x" + "44" * 20)
        assert ORDER.digest(domain) == keccak(b"\x19\x01" + domain.separator + ORDER.struct_hash)


def test_permit_from_signature() -> None:
    permit = Permit.from_signature(1, 2, b"\3" * 32 + b"\4" * 32 + b"\x1b")
    assert permit.as_abi() == (1, 2, 27, b"\3" * 32, b"\4" * 32)
    with pytest.raises(ValueError, match="65 bytes"):
        Permit.from_signature(1, 2, b"")
