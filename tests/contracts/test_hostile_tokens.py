"""Tokens that misbehave: they can refuse a batch, and can't break the accounts."""

from dataclasses import replace

import pytest
from ape import project
from helpers import call, calldata, event, reverts, send, sign_listing, sign_permit
from market import DEADLINE, LISTING, RATE, Market, quarters_of, slot
from tokens import WEALTH, assert_callback_failed, funded_market_in, market_in, reenter_with

from creneau.order import Order, Permit

NO_PERMIT = Permit(value=WEALTH, deadline=DEADLINE, v=27, r=b"\1" * 32, s=b"\1" * 32)


def assert_untouched(market: Market, order: Order) -> None:
    assert call(market.escrow.batches, order.batch_id) == (0,) * 6
    assert market.calendar() == set()


# --- Tokens that refuse ---


def test_returning_false_is_a_failure(market: Market) -> None:
    market = market_in(market, project.FalseToken)
    with reverts("SafeERC20FailedOperation", token=market.token):
        market.book(market.order())
    assert_untouched(market, market.order())


def test_a_tokens_reason_is_passed_on(market: Market) -> None:
    market = market_in(market, project.RevertingToken, False)
    transfer = {"from": market.student, "to": market.escrow, "amount": RATE}
    with reverts("TransferRefused", **transfer):
        market.book(market.order())
    assert_untouched(market, market.order())


def test_a_token_may_refuse_without_a_reason(market: Market) -> None:
    market = market_in(market, project.RevertingToken, True)
    with reverts(None):
        market.book(market.order())
    assert_untouched(market, market.order())


# --- A token that returns nothing ---


def test_a_token_that_returns_nothing_refuses(market: Market) -> None:
    market = funded_market_in(market, project.NoReturnToken)
    market.approve(RATE - 1)
    with reverts(None):
        market.book(market.order())
    assert_untouched(market, market.order())


def test_a_token_that_returns_nothing_works(market: Market) -> None:
    market = funded_market_in(market, project.NoReturnToken)
    order = market.order(slot(0), slot(8))
    market.assert_booked(market.book(order), order)
    assert (market.balance(market.student), market.balance(market.escrow)) == (WEALTH - 2 * RATE, 2 * RATE)


@pytest.mark.parametrize("name", ["NoReturnToken", "PhantomPermitToken"])
def test_a_token_without_permits_leaves_it_to_the_allowance(market: Market, name: str) -> None:
    market = funded_market_in(market, getattr(project, name))
    order = market.order()
    create = (market.escrow.createBookingsWithPermit, order, market.sign(order), NO_PERMIT)
    market.approve(RATE - 1)
    with reverts(None):
        send(*create, sender=market.relayer)
    market.approve(RATE)
    market.assert_booked(send(*create, sender=market.relayer), order)


# --- A token that calls back ---


@pytest.fixture
def reentrant(market: Market) -> Market:
    return funded_market_in(market, project.ReentrantToken)


def test_the_same_order_is_not_created_in_its_own_transfer(reentrant: Market) -> None:
    order = reentrant.order()
    reenter_with(reentrant, calldata(reentrant.escrow.createBookings, order, reentrant.sign(order)))
    reentrant.assert_booked(reentrant.book(order), order)
    assert_callback_failed(reentrant, "OrderExists", batch=order.batch_id)
    assert reentrant.balance(reentrant.escrow) == RATE


@pytest.mark.parametrize("partial", [True, False])
def test_the_slots_are_taken_before_the_transfer(reentrant: Market, partial: bool) -> None:
    order = reentrant.order(slot(254), slot(252, 30))
    rival = reentrant.order(slot(255), slot(252, 15), partial=partial)
    reenter_with(reentrant, calldata(reentrant.escrow.createBookings, rival, reentrant.sign(rival)))
    reentrant.assert_booked(reentrant.book(order), order)
    if partial:
        assert_callback_failed(reentrant, "TooFewFree", actual=0, min=1)
    else:
        assert_callback_failed(reentrant, "SlotTaken", index=0, start=slot(255).start_unix)
    assert reentrant.calendar() == quarters_of(order.slots)


@pytest.mark.parametrize("through_multicall", [False, True])
def test_another_order_in_the_transfer_is_booked_beside_it(
    reentrant: Market, through_multicall: bool
) -> None:
    order, other = reentrant.order(slot(0)), reentrant.order(slot(4), slot(8))
    inner = calldata(reentrant.escrow.createBookings, other, reentrant.sign(other))
    if through_multicall:
        inner = calldata(reentrant.escrow.multicall, [inner])
    reenter_with(reentrant, inner)
    receipt = reentrant.book(order)
    assert call(reentrant.token.succeeded) is True

    # The escrow's event, then whatever the token does: the inner two are between the outer two.
    reentrant.assert_booked(replace(receipt, logs=[receipt.logs[0], receipt.logs[3]]), order)
    reentrant.assert_booked(replace(receipt, logs=receipt.logs[1:3]), other)
    assert len(receipt.logs) == 4
    assert reentrant.calendar() == quarters_of(order.slots + other.slots)
    assert reentrant.balance(reentrant.escrow) == 3 * RATE


def test_a_publication_in_the_transfer_changes_nothing_for_the_order(reentrant: Market) -> None:
    order = reentrant.order()
    terms = (LISTING, 2 * RATE, True, 0, 0)
    signature = sign_listing(reentrant.escrow, reentrant.tutor, *terms, 1, DEADLINE)
    terms = (reentrant.tutor, *terms, DEADLINE, signature)
    reenter_with(reentrant, calldata(reentrant.escrow.publish, *terms))
    receipt = reentrant.book(order)
    assert call(reentrant.escrow.listings, reentrant.tutor, LISTING) == (2 * RATE, True, 0, 0, 2)
    reentrant.assert_booked(replace(receipt, logs=[receipt.logs[0], receipt.logs[2]]), order)


def test_an_unsigned_act_in_the_transfer_is_the_tokens_own(reentrant: Market) -> None:
    order, other = reentrant.order(slot(0)), reentrant.order(slot(8))
    reenter_with(reentrant, calldata(reentrant.escrow.createBookings, other, b""))
    reentrant.assert_booked(reentrant.book(order), order)
    assert_callback_failed(reentrant, "NotActor", actor=reentrant.student, sender=reentrant.token)


def permit_in(market: Market) -> Permit:
    return sign_permit(market.token, market.student, market.escrow, 5 * RATE, deadline=DEADLINE)


def test_an_order_created_in_its_own_permit_is_not_created_twice(reentrant: Market) -> None:
    order, had = reentrant.order(), reentrant.balance(reentrant.student)
    signature = reentrant.sign(order)
    reenter_with(reentrant, calldata(reentrant.escrow.createBookings, order, signature))
    with reverts("OrderExists", batch=order.batch_id):
        send(
            reentrant.escrow.createBookingsWithPermit,
            order,
            signature,
            permit_in(reentrant),
            sender=reentrant.relayer,
        )
    assert_untouched(reentrant, order)
    assert reentrant.balance(reentrant.student) == had


def test_a_rival_in_the_permit_is_simply_earlier(reentrant: Market) -> None:
    order, rival = reentrant.order(slot(0), slot(8)), reentrant.order(slot(8))
    reenter_with(reentrant, calldata(reentrant.escrow.createBookings, rival, reentrant.sign(rival)))
    terms = (order, reentrant.sign(order), permit_in(reentrant))
    receipt = send(reentrant.escrow.createBookingsWithPermit, *terms, sender=reentrant.relayer)
    approval, *logs = receipt.logs
    owner, spender = reentrant.student, reentrant.escrow
    assert replace(receipt, logs=[approval]).events == [
        event(reentrant.token, "Approval", owner=owner, spender=spender, value=5 * RATE)
    ]
    reentrant.assert_booked(replace(receipt, logs=logs[:2]), rival)
    reentrant.assert_booked(replace(receipt, logs=logs[2:]), order, 0b01)
    assert reentrant.calendar() == quarters_of(order.slots)
