"""`multicall`: several acts, of several people, in one transaction, all or none."""

import pytest
from acts import (
    ALL,
    REVIEW,
    act_call,
    booked,
    disputed,
    end_of,
    expected_events,
    sign_action,
    undone,
)
from helpers import Account, Receipt, call, calldata, event, reverts, send, send_data, sign_listing
from market import DEADLINE, LISTING, RATE, Market, quarters_of, slot

from creneau.abi import decode
from creneau.lifecycle import Status
from creneau.order import Order

OTHER = b"\1" * 32


@pytest.fixture
def second_student(market: Market) -> None:
    """The stranger has money too, and has approved the escrow."""
    market.mint(market.stranger, 10 * RATE)
    send(market.token.approve, market.escrow, 10 * RATE, sender=market.stranger)


def publication(market: Market, rate: int = RATE) -> bytes:
    terms = (OTHER, rate, False, 0, 0)
    signature = sign_listing(market.escrow, market.tutor, *terms, 0, DEADLINE)
    return calldata(market.escrow.publish, market.tutor, *terms, DEADLINE, signature)


def creation(market: Market, order: Order, signature: bytes) -> bytes:
    return calldata(market.escrow.createBookings, order, signature)


def created(market: Market, order: Order, booked: int, total: int) -> list[object]:
    """The events of a creation."""
    return market.creation_events(order, booked, total)


@pytest.mark.usefixtures("second_student")
def test_acts_of_several_people(market: Market) -> None:
    first = market.order(slot(0), slot(8), listing=OTHER)
    second = market.order(slot(8), slot(16), listing=OTHER, student=market.stranger.address)
    acts = [
        publication(market),
        creation(market, first, market.sign(first)),
        creation(market, second, market.sign(second, market.stranger)),
    ]
    answers = call(market.escrow.multicall, acts, sender=market.relayer)
    receipt: Receipt = send(market.escrow.multicall, acts, sender=market.relayer)

    terms = {"listing": OTHER, "hourlyRate": RATE, "instant": False, "minNotice": 0, "horizon": 0, "nonce": 1}
    assert receipt.events == [
        event(market.escrow, "ListingPublished", tutor=market.tutor, **terms),
        *created(market, first, 0b11, 2 * RATE),
        *created(market, second, 0b10, RATE),
    ]
    assert answers[0] == b""
    results = [decode(["bytes32", "uint40"], answer) for answer in answers[1:]]
    assert results == [(first.batch_id, 0b11), (second.batch_id, 0b10)]
    assert market.calendar() == quarters_of([slot(0), slot(8), slot(16)])
    assert market.balance(market.escrow) == 3 * RATE


@pytest.mark.usefixtures("second_student")
def test_one_failure_undoes_all(market: Market) -> None:
    balances = [market.balance(student) for student in (market.student, market.stranger)]
    first = market.order(slot(0), listing=OTHER)
    second = market.order(slot(0), listing=OTHER, student=market.stranger.address, partial=False)
    acts = [
        publication(market),
        creation(market, first, market.sign(first)),
        creation(market, second, market.sign(second, market.stranger)),
    ]
    with reverts("SlotTaken", index=0, start=slot(0).start_unix):
        send(market.escrow.multicall, acts, sender=market.relayer)
    assert call(market.escrow.listings, market.tutor, OTHER) == (0, False, 0, 0, 0)
    assert call(market.escrow.batches, first.batch_id) == (0,) * 6
    assert market.calendar() == set()
    assert [market.balance(student) for student in (market.student, market.stranger)] == balances


def test_the_same_order_twice(market: Market) -> None:
    order = market.order()
    act = creation(market, order, market.sign(order))
    with reverts("OrderExists", batch=order.batch_id):
        send(market.escrow.multicall, [act, act], sender=market.relayer)


def test_its_sender_is_the_sender_of_each_act(market: Market) -> None:
    order = market.order(listing=OTHER)
    acts = [publication(market), creation(market, order, b"")]
    with reverts("NotActor", actor=market.student, sender=market.relayer):
        send(market.escrow.multicall, acts, sender=market.relayer)
    receipt = send(market.escrow.multicall, acts, sender=market.student)
    assert receipt.events[1:] == created(market, order, 1, RATE)


def test_an_appended_sender_is_not_trusted(market: Market) -> None:
    act = creation(market, market.order(), b"") + bytes.fromhex(market.student.address[2:])
    with reverts("NotActor", actor=market.student, sender=market.stranger):
        send(market.escrow.multicall, [act], sender=market.stranger)


def test_an_unknown_function_undoes_all(market: Market) -> None:
    with reverts("FailedCall"):
        send(market.escrow.multicall, [publication(market), b"\xff" * 4], sender=market.relayer)
    assert call(market.escrow.listings, market.tutor, OTHER) == (0, False, 0, 0, 0)


def test_it_takes_no_ether(market: Market) -> None:
    data = calldata(market.escrow.multicall, [publication(market)])
    with reverts(None):
        send_data(market.escrow, data, sender=market.relayer, value=1)


def test_nothing_is_an_act_too(market: Market) -> None:
    assert send(market.escrow.multicall, [], sender=market.stranger).events == []
    assert call(market.escrow.listings, market.tutor, LISTING) == (RATE, False, 0, 0, 1)


# --- Acts on booked lessons ---


def signed(market: Market, act: str, order: Order, lessons: int, by: Account) -> bytes:
    signature = sign_action(market, act, order, lessons, by)
    return calldata(*act_call(market, act, order, lessons, by, signature=signature))


def test_acts_on_one_batch_follow_each_other(market: Market) -> None:
    order = booked(market)
    steps = [
        ("confirm", 0b011, market.tutor),
        ("cancel", 0b110, market.student),
        ("complete", 0b1, market.student),
    ]
    acts = [signed(market, act, order, lessons, by) for act, lessons, by in steps]
    receipt = send(market.escrow.multicall, acts, sender=market.relayer)
    assert receipt.events == [
        event for act, lessons, by in steps for event in expected_events(market, act, order, lessons, by)
    ]
    batch = call(market.escrow.batches, order.batch_id)
    assert batch[1:] == (0, 0, 0, 0b001, 0b110)
    assert market.calendar() == quarters_of([slot(0)])
    assert market.balance(market.escrow) == 0


def test_lessons_are_booked_and_confirmed_at_once(market: Market) -> None:
    order = market.order(slot(0), slot(8))
    acts = [creation(market, order, market.sign(order)), signed(market, "confirm", order, 0b11, market.tutor)]
    with reverts("UnknownBatch", batch=order.batch_id):
        send(market.escrow.multicall, acts[::-1], sender=market.relayer)
    receipt = send(market.escrow.multicall, acts, sender=market.relayer)
    assert receipt.events == [
        *created(market, order, 0b11, 2 * RATE),
        *expected_events(market, "confirm", order, 0b11, market.tutor),
    ]


def test_a_slot_changes_hands_at_once(market: Market) -> None:
    order = booked(market, slot(0))
    again = market.order(slot(0), salt=b"\2" * 32, partial=False)
    acts = [signed(market, "cancel", order, 0b1, market.student), creation(market, again, market.sign(again))]
    with reverts("SlotTaken", index=0, start=slot(0).start_unix):
        send(market.escrow.multicall, acts[::-1], sender=market.relayer)
    receipt = send(market.escrow.multicall, acts, sender=market.relayer)
    assert receipt.events == [
        *expected_events(market, "cancel", order, 0b1, market.student),
        *created(market, again, 0b1, RATE),
    ]
    assert market.calendar() == quarters_of(again.slots)


def test_a_keeper_completes_what_is_due(market: Market) -> None:
    """Two batches without anybody's signature, and what is not due undoes all."""
    first = booked(market, slot(0), slot(300), instant=True)
    second = booked(market, slot(8), instant=True, salt=b"\2" * 32)
    at = end_of(slot(8)) + REVIEW + 1
    acts = [
        calldata(*act_call(market, "complete", order, lessons, market.relayer))
        for order, lessons in ((second, 0b1), (first, 0b1), (first, 0b10))
    ]
    due = {"from": end_of(slot(300)) + REVIEW + 1, "timestamp": at}
    with undone(), reverts("TooEarly", index=1, **due):
        send(market.escrow.multicall, acts, sender=market.relayer, at=at)
    assert market.balance(market.tutor) == 0
    receipt = send(market.escrow.multicall, acts[:2], sender=market.relayer, at=at)
    assert receipt.events == [
        *expected_events(market, "complete", second, 0b1, market.relayer),
        *expected_events(market, "complete", first, 0b1, market.relayer),
    ]
    assert market.balance(market.tutor) == 2 * RATE


def test_an_act_is_not_done_twice_at_once(market: Market) -> None:
    order = booked(market)
    act = signed(market, "cancel", order, 0b1, market.student)
    allowed = 1 << Status.PENDING | 1 << Status.CONFIRMED
    with reverts("WrongStatus", index=0, actual=Status.CANCELLED, allowed=allowed):
        send(market.escrow.multicall, [act, act], sender=market.relayer)
    assert call(market.escrow.batches, order.batch_id)[1:] == (ALL, 0, 0, 0, 0)


def test_the_sender_of_all_acts_for_themselves_only(market: Market) -> None:
    order = booked(market)
    confirm = calldata(*act_call(market, "confirm", order, 0b1, market.tutor))
    cancel = calldata(*act_call(market, "cancel", order, 0b10, market.student))
    with reverts("NotActor", actor=market.tutor, sender=market.student):
        send(market.escrow.multicall, [cancel, confirm], sender=market.student)
    appended = confirm + bytes.fromhex(market.tutor.address[2:])
    with reverts("NotActor", actor=market.tutor, sender=market.student):
        send(market.escrow.multicall, [cancel, appended], sender=market.student)
    receipt = send(market.escrow.multicall, [cancel], sender=market.student)
    assert receipt.events == expected_events(market, "cancel", order, 0b10, market.student)


def test_the_arbiter_decides_several_disputes_at_once(market: Market) -> None:
    order = disputed(market)
    shares = {0b001: 0, 0b010: 5_000, 0b100: 10_000}
    acts = [
        calldata(*act_call(market, "resolve", order, lessons, market.arbiter, share=share))
        for lessons, share in shares.items()
    ]
    receipt = send(market.escrow.multicall, acts, sender=market.arbiter)
    assert receipt.events == [
        event
        for lessons, share in shares.items()
        for event in expected_events(market, "resolve", order, lessons, market.arbiter, share=share)
    ]
    assert (market.balance(market.escrow), market.balance(market.tutor)) == (0, RATE // 2 + RATE)
