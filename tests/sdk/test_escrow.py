"""The SDK over the escrow on a local node: every act, what it gives back, and what it raises."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import ape
import pytest
from ape.api import AccountAPI
from ape.contracts import ContractInstance
from strategies import ANNONCE
from web3.eth import Eth

from creneau import (
    BookingEscrow,
    ContractError,
    Order,
    Slot,
    SlotCode,
    SlotError,
    Status,
    batch_of,
    errors,
    events,
    index_of,
    listing_id,
)
from creneau.events import BookingsCreated, Transfer
from creneau.types import to_unix

EDU = 10**18
HOUR = timedelta(hours=1)
Hours = Callable[..., list[Slot]]
Make = Callable[..., Order]


@pytest.fixture
def order(listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI, hours: Hours) -> Make:
    """An order of two lessons, with other terms if given."""

    def make(slots: list[Slot] | None = None, **terms: Any) -> Order:
        start: dict[str, Any] = {"student": student, "tutor": tutor, "listing": ANNONCE}
        slots = hours(0, 1) if slots is None else slots
        return listed.order(**(start | {"slots": slots} | terms))

    return make


@pytest.fixture
def raises(listed: BookingEscrow) -> Callable[..., None]:
    """Creating an order raises exactly this error, and nothing is sent."""

    def check(expected: ContractError, order: Order, sender: AccountAPI, **how: Any) -> ContractError:
        block = ape.chain.blocks.head.number
        with pytest.raises(type(expected)) as raised:
            listed.create(order, sender=sender, **how)
        assert raised.value.args == expected.args
        assert ape.chain.blocks.head.number == block
        return raised.value

    return check


# --- Booking ---


def test_two_lessons(
    listed: BookingEscrow, token: ContractInstance, student: AccountAPI, tutor: AccountAPI, hours: Hours
) -> None:
    before = token.balanceOf(student)

    batch = listed.create_bookings(tutor, ANNONCE, hours(0, 1), sender=student)

    assert before - token.balanceOf(student) == 70 * EDU
    assert token.balanceOf(listed.address) == 70 * EDU
    assert batch.total == Decimal(70)
    assert batch.left_out == []
    assert batch.booked == 0b11
    assert batch.id == batch.order.batch_id
    assert (batch.order.student, batch.order.tutor) == (student.address, tutor.address)
    assert batch.order.listing == listing_id(ANNONCE)
    assert batch.order.hourly_rate == Decimal(35)
    receipt = ape.chain.provider.get_receipt("0x" + batch.transaction_hash.hex())
    assert (batch.block_number, batch.gas_used) == (receipt.block_number, receipt.gas_used)
    assert batch.created_at is not None
    assert to_unix(batch.created_at) == receipt.timestamp
    for index, (booking, slot) in enumerate(zip(batch.bookings, hours(0, 1), strict=True)):
        assert (batch_of(booking.id), index_of(booking.id)) == (batch.id, index)
        assert (booking.batch, booking.index, booking.slot) == (batch.id, index, slot)
        assert (booking.start, booking.end) == (slot.start, slot.start + HOUR)
        assert (booking.amount, booking.status) == (Decimal(35), Status.PENDING)
        assert (booking.student, booking.tutor) == (student.address, tutor.address)
        assert booking.listing == listing_id(ANNONCE)


def test_the_receipt_has_one_transfer_and_the_whole_order(
    listed: BookingEscrow, student: AccountAPI, order: Make, token: ContractInstance
) -> None:
    asked = order()
    batch = listed.create(asked, sender=student)
    receipt = ape.chain.provider.get_receipt("0x" + batch.transaction_hash.hex())
    of_web3 = ape.chain.provider.web3.eth.get_transaction_receipt(batch.transaction_hash)["logs"]

    for logs in (receipt.logs, of_web3):
        created, transfer = events.decode_logs(logs, listed.address)
        assert isinstance(created, BookingsCreated)
        assert created.order == asked
        assert (created.booked, created.total) == (0b11, 70 * EDU)
        assert transfer == Transfer(student.address, listed.address, 70 * EDU, token.address)


def test_lessons_of_an_instant_listing_are_confirmed(
    listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI, hours: Hours
) -> None:
    listed.publish("instant", "12.5", instant=True, sender=tutor)
    batch = listed.create_bookings(tutor, "instant", hours(0), sender=student)
    assert [booking.status for booking in batch.bookings] == [Status.CONFIRMED]
    assert batch.total == Decimal("12.5")


def test_a_lesson_that_is_taken_is_left_out(
    listed: BookingEscrow, student: AccountAPI, order: Make, hours: Hours, token: ContractInstance
) -> None:
    listed.create(order(hours(1)), sender=student)
    before = token.balanceOf(student)

    asked = order(hours(0, 1, 2))
    assert listed.check(asked) == [SlotCode.OK, SlotCode.TAKEN, SlotCode.OK]
    batch = listed.create(asked, sender=student)

    assert batch.left_out == [1]
    assert [booking.index for booking in batch.bookings] == [0, 2]
    assert [booking.slot for booking in batch.bookings] == hours(0, 2)
    assert [batch.status(index) for index in range(3)] == [Status.PENDING, Status.NONE, Status.PENDING]
    assert batch.total == Decimal(70)
    assert before - token.balanceOf(student) == 70 * EDU


def test_somebody_else_sends_what_the_student_signed(
    listed: BookingEscrow, student: AccountAPI, relayer: AccountAPI, order: Make
) -> None:
    asked = order()
    batch = listed.create(asked, sender=relayer, signature=listed.sign_order(asked, student))
    assert batch.order == asked
    assert batch.booked == 0b11


def test_a_permit_takes_the_place_of_the_approval(
    listed: BookingEscrow, student: AccountAPI, relayer: AccountAPI, order: Make, hours: Hours
) -> None:
    listed.approve(0, sender=student)
    with pytest.raises(errors.ERC20InsufficientAllowance) as raised:
        listed.create(order(), sender=student)
    assert raised.value.args == (listed.address, 0, 70 * EDU)

    batch = listed.create(order(), sender=student, permit=listed.sign_permit(70, student))
    assert batch.total == Decimal(70)

    asked = order(hours(2))
    by_relayer = listed.create(
        asked,
        sender=relayer,
        signature=listed.sign_order(asked, student),
        permit=listed.sign_permit(35, student),
    )
    assert by_relayer.total == Decimal(35)


def test_an_expired_permit_leaves_it_to_the_allowance(
    listed: BookingEscrow, student: AccountAPI, order: Make
) -> None:
    expired = listed.sign_permit(1, student, deadline=listed.now() - HOUR)
    assert listed.create(order(), sender=student, permit=expired).booked == 0b11


def test_defaults_of_an_order(
    listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI, hours: Hours
) -> None:
    first = listed.order(student, tutor.address, listing_id(ANNONCE), hours(0))
    second = listed.order(
        student, tutor, ANNONCE, hours(0), hourly_rate="40", deadline=listed.now(), salt=b"\1" * 32
    )
    assert (first.hourly_rate, first.min_lessons) == (Decimal(35), 1)
    assert first.deadline == listed.now() + HOUR
    assert (second.hourly_rate, second.deadline, second.salt) == (Decimal(40), listed.now(), b"\1" * 32)


# --- Listings ---


def test_publish(listed: BookingEscrow, tutor: AccountAPI) -> None:
    nothing = timedelta(0)
    rules: dict[str, Any] = {"instant": True, "min_notice": 2 * HOUR, "horizon": timedelta(days=60)}
    listing = listed.publish("new", "12.000000000000000001", sender=tutor, **rules)
    terms = Decimal("12.000000000000000001"), True, 2 * HOUR, timedelta(days=60), 1
    assert listing[:5] == listed.listing(tutor, listing_id("new"))[:5] == terms
    assert listing.rules == (True, 7200, 60 * 86_400)
    withdrawn = Decimal(0), False, nothing, nothing, 2
    assert listed.publish("new", 0, sender=tutor)[:5] == withdrawn
    assert listed.listing(tutor, listing_id("new"))[:5] == withdrawn


def test_notice_and_horizon(
    listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI, order: Make, tomorrow: datetime
) -> None:
    listed.publish(ANNONCE, 35, min_notice=3 * HOUR, horizon=timedelta(days=30), sender=tutor)
    now = listed.now()
    first = tomorrow + timedelta(days=1)
    slots = [Slot(start=first + timedelta(days=days), duration=HOUR) for days in (0, 60)]
    assert listed.check(order(slots)) == [SlotCode.OK, SlotCode.TOO_FAR]
    with pytest.raises(errors.SlotTooFar) as raised:
        listed.create(order(slots), sender=student)
    assert raised.value.args[:2] == (1, slots[1].start_unix)
    assert raised.value.latest >= to_unix(now + timedelta(days=30))
    listed.publish(ANNONCE, 35, min_notice=timedelta(days=30), sender=tutor)
    assert listed.check(order(slots)) == [SlotCode.TOO_SOON, SlotCode.OK]
    with pytest.raises(errors.SlotTooSoon) as early:
        listed.create(order(slots), sender=student)
    assert early.value.args[:2] == (0, slots[0].start_unix)


def test_publish_for_a_tutor_who_signed(
    listed: BookingEscrow, tutor: AccountAPI, relayer: AccountAPI
) -> None:
    signature = listed.sign_listing(ANNONCE, 40, tutor, instant=True)
    terms: dict[str, Any] = {"instant": True, "tutor": tutor, "sender": relayer, "signature": signature}
    listing = listed.publish(ANNONCE, 40, **terms)
    assert (listing.hourly_rate, listing.instant, listing.nonce) == (Decimal(40), True, 2)
    with pytest.raises(errors.NotActor) as raised:  # A signature publishes once.
        listed.publish(ANNONCE, 40, **terms)
    assert raised.value.args == (tutor.address, relayer.address)


def test_a_listing_is_its_key_or_any_other_text(listed: BookingEscrow, tutor: AccountAPI) -> None:
    key = listing_id(ANNONCE)
    assert (
        listed.listing(tutor, key)
        == listed.listing(tutor, "0x" + key.hex())
        == listed.listing(tutor, ANNONCE)
    )
    with pytest.raises(ValueError, match="a bytes32 is 32 bytes"):
        listed.listing(tutor, "0x1234")


# --- Views ---


def test_batch(
    listed: BookingEscrow, student: AccountAPI, order: Make, hours: Hours, raw_escrow: ContractInstance
) -> None:
    created = listed.create(order(), sender=student)
    listed.create(order(hours(5)), sender=student)
    found = listed.batch(created.id)
    assert found == listed.batch("0x" + created.id.hex())
    assert found == created.model_copy(update={"gas_used": None})
    assert [raw_escrow.statusOf(booking.id) for booking in found.bookings] == [Status.PENDING] * 2


def test_batch_is_found_with_a_node_that_searches_few_blocks_at_once(
    listed: BookingEscrow, student: AccountAPI, order: Make, hours: Hours, chain: Any, monkeypatch: Any
) -> None:
    chain.provider.make_request("anvil_mine", ["0x28", "0x1"])
    created = listed.create(order(), sender=student)
    chain.provider.make_request("anvil_mine", ["0x28", "0x1"])
    listed.create(order(hours(5)), sender=student)
    get_logs = Eth.get_logs

    def few(self: Eth, criteria: Any) -> Any:
        assert criteria["toBlock"] - criteria["fromBlock"] < 10
        return get_logs(self, criteria)

    monkeypatch.setattr(Eth, "get_logs", few)
    assert listed.batch(created.id) == created.model_copy(update={"gas_used": None})


def test_batch_that_is_not_there(listed: BookingEscrow, order: Make) -> None:
    missing = order().batch_id
    with pytest.raises(
        errors.BatchNotFound, match=f"There is no batch 0x{missing.hex()} in {listed.address}"
    ):
        listed.batch(missing)


def test_batch_is_looked_for_from_the_deployment_block_on(
    listed: BookingEscrow, student: AccountAPI, order: Make
) -> None:
    created = listed.create(order(), sender=student)
    assert created.block_number is not None
    assert BookingEscrow(listed.address, created.block_number).batch(created.id).id == created.id
    ape.chain.mine()
    with pytest.raises(errors.BatchNotFound):
        BookingEscrow(listed.address, created.block_number + 1).batch(created.id)


def test_hash_order(listed: BookingEscrow, order: Make) -> None:
    asked = order()
    assert listed.hash_order(asked) == asked.digest(listed.domain)


def test_calendar(
    listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI, order: Make, hours: Hours
) -> None:
    tomorrow = hours(0)[0].start
    week = (tomorrow - timedelta(days=1), tomorrow + timedelta(days=6))
    assert listed.calendar(tutor, *week) == []
    listed.create(order(hours(0, 1, 3, 100)), sender=student)
    assert listed.calendar(tutor, *week) == [
        (tomorrow, tomorrow + 2 * HOUR),
        (tomorrow + 3 * HOUR, tomorrow + 4 * HOUR),
        (tomorrow + 100 * HOUR, tomorrow + 101 * HOUR),
    ]
    assert listed.calendar(student, *week) == []


def test_check_gives_every_reason_at_once(
    listed: BookingEscrow,
    student: AccountAPI,
    tutor: AccountAPI,
    order: Make,
    hours: Hours,
    tomorrow: datetime,
) -> None:
    listed.create(order(hours(5)), sender=student)
    slots = [
        *hours(0),
        Slot(start=tomorrow - timedelta(days=9), duration=HOUR),
        Slot(start=tomorrow - timedelta(hours=1), duration=HOUR),
        Slot(start=tomorrow + timedelta(days=90), duration=HOUR),
        Slot(start=tomorrow + HOUR, duration=timedelta(minutes=495)),
        *hours(5),
        *hours(0),
    ]
    notice = tomorrow - listed.now() - timedelta(minutes=30)
    listed.publish(ANNONCE, 35, min_notice=notice, horizon=timedelta(days=60), sender=tutor)
    assert listed.check(order(slots)) == list(SlotCode)


def test_attributes(listed: BookingEscrow, token: ContractInstance) -> None:
    assert listed.token == token.address
    assert listed.domain == (ape.chain.chain_id, listed.address)
    assert BookingEscrow(listed.address.lower()).address == listed.address
    assert repr(listed) == f"<BookingEscrow {listed.address}>"


# --- Refusals: the contract's errors, before anything is sent ---


def test_not_actor(
    raises: Any, order: Make, student: AccountAPI, stranger: AccountAPI, listed: BookingEscrow
) -> None:
    expected = errors.NotActor(student.address, stranger.address)
    raises(expected, order(), stranger)
    raises(expected, order(), stranger, signature=listed.sign_order(order(), student))  # Another salt.
    asked = order()
    raises(expected, asked, stranger, signature=listed.sign_order(asked, stranger))


def test_student_is_tutor(raises: Any, order: Make, tutor: AccountAPI) -> None:
    raises(errors.StudentIsTutor(tutor.address), order(student=tutor), tutor)


def test_order_expired(listed: BookingEscrow, order: Make, student: AccountAPI) -> None:
    deadline = listed.now() - HOUR
    with pytest.raises(errors.OrderExpired) as raised:
        listed.create(order(deadline=deadline), sender=student)
    assert raised.value.deadline == to_unix(deadline)
    assert 0 <= raised.value.timestamp - to_unix(listed.now()) <= 5


@pytest.mark.parametrize("count", [0, 41])
def test_slot_count(raises: Any, order: Make, student: AccountAPI, hours: Hours, count: int) -> None:
    raises(errors.SlotCount(count, 40), order(hours(*range(count))), student)


def test_order_exists(raises: Any, order: Make, student: AccountAPI, listed: BookingEscrow) -> None:
    asked = order()
    listed.create(asked, sender=student)
    raises(errors.OrderExists(asked.batch_id), asked, student)


def test_not_listed(
    raises: Any, order: Make, student: AccountAPI, tutor: AccountAPI, listed: BookingEscrow
) -> None:
    raises(
        errors.NotListed(tutor.address, listing_id("unknown")),
        order(listing="unknown", hourly_rate=35),
        student,
    )
    listed.publish(ANNONCE, 0, sender=tutor)
    raises(errors.NotListed(tutor.address, listing_id(ANNONCE)), order(hourly_rate=35), student)


def test_rate_mismatch(raises: Any, order: Make, student: AccountAPI) -> None:
    raises(errors.RateMismatch(30 * EDU, 35 * EDU), order(hourly_rate=30), student)


def test_slot_in_past(listed: BookingEscrow, order: Make, student: AccountAPI, tomorrow: datetime) -> None:
    past = Slot(start=tomorrow - timedelta(days=9), duration=HOUR)
    with pytest.raises(errors.SlotInPast) as raised:
        listed.create(order([past]), sender=student)
    assert raised.value.args[:2] == (0, past.start_unix)
    assert 0 <= raised.value.timestamp - to_unix(listed.now()) <= 5


@pytest.mark.parametrize("minutes", [0, 495, 3825])
def test_slot_duration(
    raises: Any, order: Make, student: AccountAPI, tomorrow: datetime, minutes: int
) -> None:
    slot = Slot(start=tomorrow, duration=timedelta(minutes=minutes))
    raises(errors.SlotDuration(0, minutes, 15, 480), order([slot]), student)


def test_slot_taken(
    raises: Any, order: Make, student: AccountAPI, hours: Hours, listed: BookingEscrow
) -> None:
    listed.create(order(hours(1)), sender=student)
    error = raises(errors.SlotTaken(2, hours(1)[0].start_unix), order(hours(3, 2, 1), min_lessons=3), student)
    assert isinstance(error, SlotError)
    assert str(error) == f"The 3rd slot, at {hours(1)[0].start:%Y-%m-%d} 10:00 UTC, is already taken."


def test_slot_overlap(
    raises: Any, order: Make, student: AccountAPI, hours: Hours, tomorrow: datetime
) -> None:
    slot = Slot(start=tomorrow + timedelta(minutes=45), duration=HOUR)
    raises(errors.SlotOverlap(2, 1), order([*hours(5, 0), slot]), student)


def test_nothing_free(raises: Any, order: Make, student: AccountAPI, listed: BookingEscrow) -> None:
    listed.create(order(), sender=student)
    raises(errors.TooFewFree(0, 1), order(), student)


def test_too_few_free(
    raises: Any, order: Make, student: AccountAPI, hours: Hours, listed: BookingEscrow
) -> None:
    listed.create(order(hours(1, 2)), sender=student)
    raises(errors.TooFewFree(2, 3), order(hours(0, 1, 2, 3), min_lessons=3), student)
    assert listed.create(order(hours(0, 1, 2, 3), min_lessons=2), sender=student).booked == 0b1001
    raises(errors.MinLessons(0, 2), order(hours(5, 6), min_lessons=0), student)
    raises(errors.MinLessons(3, 2), order(hours(5, 6), min_lessons=3), student)


def test_insufficient_balance(raises: Any, order: Make, stranger: AccountAPI, listed: BookingEscrow) -> None:
    listed.approve(70, sender=stranger)
    raises(errors.ERC20InsufficientBalance(stranger.address, 0, 70 * EDU), order(student=stranger), stranger)


def test_insufficient_allowance(raises: Any, order: Make, student: AccountAPI, listed: BookingEscrow) -> None:
    listed.approve("69.5", sender=student)
    raises(errors.ERC20InsufficientAllowance(listed.address, 695 * EDU // 10, 70 * EDU), order(), student)


def test_an_address_without_a_contract_is_no_escrow(tutor: AccountAPI) -> None:
    nothing = BookingEscrow("0x" + "99" * 20)
    with pytest.raises(ValueError, match="not an answer of listings"):
        nothing.listing(tutor, ANNONCE)


def test_a_transaction_that_fails_only_in_its_block(
    listed: BookingEscrow, student: AccountAPI, order: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call before it passes, and the transaction reverts: another account was quicker."""
    asked = order()
    send = type(student).call

    def call_second(self: AccountAPI, transaction: Any, **options: Any) -> Any:
        monkeypatch.undo()
        listed.create(asked, sender=student)
        transaction.nonce = None
        return send(self, transaction, **options)

    monkeypatch.setattr(type(student), "call", call_second)
    with pytest.raises(errors.OrderExists) as raised:
        listed.create(asked, sender=student)
    assert raised.value.args == (asked.batch_id,)
