"""`multicall`: several acts, of several people, in one transaction, all or none."""

import pytest
from eth_abi.abi import decode
from helpers import Receipt, call, calldata, event, reverts, send, send_data, sign_listing
from market import LISTING, RATE, Market, quarters_of, slot

from creneau.order import Order

OTHER = b"\1" * 32


@pytest.fixture
def second_student(market: Market) -> None:
    """The stranger has money too, and has approved the escrow."""
    market.mint(market.stranger, 10 * RATE)
    send(market.token.approve, market.escrow, 10 * RATE, sender=market.stranger)


def publication(market: Market, rate: int = RATE) -> bytes:
    signature = sign_listing(market.escrow, market.tutor, OTHER, rate, False, 0)
    return calldata(market.escrow.publish, market.tutor, OTHER, rate, False, signature)


def creation(market: Market, order: Order, signature: bytes) -> bytes:
    return calldata(market.escrow.createBookings, order, signature)


def created(market: Market, order: Order, booked: int, total: int) -> list[object]:
    """The events of a creation."""
    terms = {"student": order.student, "tutor": order.tutor, "order": order, "booked": booked, "total": total}
    transfer = {"from": order.student, "to": market.escrow, "value": total}
    return [
        event(market.escrow, "BookingsCreated", batch=order.batch_id(market.domain), **terms),
        event(market.token, "Transfer", **transfer),
    ]


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

    terms = {"listing": OTHER, "hourlyRate": RATE, "instant": False, "nonce": 1}
    assert receipt.events == [
        event(market.escrow, "ListingPublished", tutor=market.tutor, **terms),
        *created(market, first, 0b11, 2 * RATE),
        *created(market, second, 0b10, RATE),
    ]
    assert answers[0] == b""
    results = [decode(["bytes32", "uint40"], answer) for answer in answers[1:]]
    assert results == [(first.batch_id(market.domain), 0b11), (second.batch_id(market.domain), 0b10)]
    assert market.calendar() == quarters_of([slot(0), slot(8), slot(16)])
    assert market.balance(market.escrow) == 3 * RATE


@pytest.mark.usefixtures("second_student")
def test_one_failure_undoes_all(market: Market) -> None:
    balances = [market.balance(student) for student in (market.student, market.stranger)]
    first = market.order(slot(0), listing=OTHER)
    second = market.order(slot(0), listing=OTHER, student=market.stranger.address, allow_partial=False)
    acts = [
        publication(market),
        creation(market, first, market.sign(first)),
        creation(market, second, market.sign(second, market.stranger)),
    ]
    with reverts("SlotTaken", index=0, start=slot(0).start_unix):
        send(market.escrow.multicall, acts, sender=market.relayer)
    assert call(market.escrow.listings, market.tutor, OTHER) == (0, False, 0)
    assert call(market.escrow.batches, first.batch_id(market.domain)) == (0,) * 6
    assert market.calendar() == set()
    assert [market.balance(student) for student in (market.student, market.stranger)] == balances


def test_the_same_order_twice(market: Market) -> None:
    order = market.order()
    act = creation(market, order, market.sign(order))
    with reverts("OrderExists", batch=order.batch_id(market.domain)):
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
    assert call(market.escrow.listings, market.tutor, OTHER) == (0, False, 0)


def test_it_takes_no_ether(market: Market) -> None:
    data = calldata(market.escrow.multicall, [publication(market)])
    with reverts(None):
        send_data(market.escrow, data, sender=market.relayer, value=1)


def test_nothing_is_an_act_too(market: Market) -> None:
    assert send(market.escrow.multicall, [], sender=market.stranger).events == []
    assert call(market.escrow.listings, market.tutor, LISTING) == (RATE, False, 1)
