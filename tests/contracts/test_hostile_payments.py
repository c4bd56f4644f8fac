"""Tokens that misbehave when the escrow pays: they can hold up one recipient, and nobody else."""

from typing import Any

import pytest
from acts import ALL, LESSONS, MONTH, act_call, booked, disputed, do, done, expected_events, sign_action
from ape import project
from helpers import Actor, Reverted, call, calldata, reverts, send
from market import RATE, Market, quarters_of, slot
from tokens import WEALTH, assert_callback_failed, funded_market_in, reenter_with

from creneau.lifecycle import Status

LIVE = 1 << Status.PENDING | 1 << Status.CONFIRMED | 1 << Status.DISPUTED
AFTER = slot(0).start_unix + MONTH

# --- A token that blocks a recipient ---


@pytest.fixture(params=[False, True], ids=["reverts", "returns false"])
def blocking(market: Market, request: pytest.FixtureRequest) -> Market:
    """The stranger is a student too."""
    other = funded_market_in(market, project.BlockingToken, request.param)
    other.mint(other.stranger, WEALTH)
    send(other.token.approve, other.escrow, WEALTH, sender=other.stranger)
    return other


def block(market: Market, account: Actor, blocked: bool = True) -> None:
    send(market.token.setBlocked, account, blocked, sender=market.deployer)


def refused(market: Market, account: Actor) -> Any:
    """How the token refuses to pay an account."""
    try:
        call(market.token.transfer, account, 0, sender=market.escrow)
    except Reverted:
        return reverts("Blocked", account=account)
    return reverts("SafeERC20FailedOperation", token=market.token)


def test_a_blocked_student_is_not_refunded(blocking: Market) -> None:
    order = booked(blocking)
    block(blocking, blocking.student)
    for by in (blocking.student, blocking.tutor):
        with refused(blocking, blocking.student):
            do(blocking, "cancel", order, 0b1, by)
    done(blocking, "complete", order, 0b10, blocking.student)  # the tutor is not held up
    block(blocking, blocking.student, False)
    done(blocking, "cancel", order, 0b101, blocking.student)


def test_a_blocked_tutor_is_not_paid(blocking: Market) -> None:
    order = booked(blocking, instant=True)
    block(blocking, blocking.tutor)
    with refused(blocking, blocking.tutor):
        do(blocking, "complete", order, 0b1, blocking.student)
    with refused(blocking, blocking.tutor):
        do(blocking, "complete", order, 0b1, blocking.stranger, at=AFTER)
    done(blocking, "cancel", order, 0b10, blocking.tutor)  # the student is not held up
    block(blocking, blocking.tutor, False)
    done(blocking, "complete", order, 0b101, blocking.tutor)


@pytest.mark.parametrize(("role", "share"), [("tutor", 0), ("student", 10_000)])
def test_a_split_that_gives_a_blocked_account_nothing_goes_through(
    blocking: Market, role: str, share: int
) -> None:
    order, account = disputed(blocking), getattr(blocking, role)
    block(blocking, account)
    for other in {1, 5_000, 10_000 - share}:
        with refused(blocking, account):
            do(blocking, "resolve", order, ALL, blocking.arbiter, share=other)
    done(blocking, "resolve", order, ALL, blocking.arbiter, share=share)


def test_what_moves_no_money_goes_on_for_a_blocked_account(blocking: Market) -> None:
    order = booked(blocking, slot(0))
    block(blocking, blocking.student)
    block(blocking, blocking.tutor)
    done(blocking, "confirm", order, 0b1, blocking.tutor)
    done(blocking, "dispute", order, 0b1, blocking.student, at=slot(0).start_unix)


def test_others_are_not_held_up(blocking: Market) -> None:
    order = booked(blocking)
    others = blocking.order(slot(40), slot(48), student=blocking.stranger.address)
    blocking.book(others, sender=blocking.stranger)
    block(blocking, blocking.student)
    with refused(blocking, blocking.student):
        do(blocking, "cancel", order, ALL, blocking.tutor)
    done(blocking, "cancel", others, 0b01, blocking.stranger)
    done(blocking, "complete", others, 0b10, blocking.stranger)
    assert blocking.balance(blocking.escrow) == 3 * RATE


# --- A token that returns nothing ---


def test_a_token_that_returns_nothing_pays(market: Market) -> None:
    market = funded_market_in(market, project.NoReturnToken)
    order = booked(market, instant=True)
    done(market, "cancel", order, 0b1, market.tutor)
    done(market, "complete", order, 0b10, market.student)
    do(market, "dispute", order, 0b100, market.student, at=slot(16).start_unix)
    done(market, "resolve", order, 0b100, market.arbiter, share=5_000)
    assert market.balance(market.escrow) == 0


# --- A token that calls back ---


@pytest.fixture
def reentrant(market: Market) -> Market:
    return funded_market_in(market, project.ReentrantToken)


@pytest.mark.parametrize("inner", ["cancel", "complete"])
@pytest.mark.parametrize("outer", ["cancel", "complete", "resolve"])
def test_a_lesson_is_not_paid_twice(reentrant: Market, outer: str, inner: str) -> None:
    order = disputed(reentrant)
    by = reentrant.tutor if inner == "cancel" else reentrant.student
    signature = sign_action(reentrant, inner, order, ALL, by)
    reenter_with(reentrant, calldata(*act_call(reentrant, inner, order, ALL, by, signature=signature)))
    actors = {"cancel": reentrant.tutor, "complete": reentrant.student, "resolve": reentrant.arbiter}
    done(reentrant, outer, order, ALL, actors[outer], share=5_000)
    status = Status.CANCELLED if outer == "cancel" else Status.COMPLETED
    assert_callback_failed(reentrant, "WrongStatus", index=0, actual=status, allowed=LIVE)
    assert reentrant.balance(reentrant.escrow) == 0


def test_the_time_is_free_when_the_refund_is_paid(reentrant: Market) -> None:
    order = booked(reentrant)
    again = reentrant.order(*LESSONS, salt=b"\2" * 32)
    data = calldata(reentrant.escrow.createBookings, again, reentrant.sign(again))
    reenter_with(reentrant, data)
    do(reentrant, "cancel", order, ALL, reentrant.student)
    assert call(reentrant.token.succeeded) is True
    assert reentrant.calendar() == quarters_of(LESSONS)
    assert reentrant.balance(reentrant.escrow) == 3 * RATE


def test_another_lesson_in_the_payment_is_settled_beside_it(reentrant: Market) -> None:
    order = booked(reentrant)
    signature = sign_action(reentrant, "cancel", order, 0b10, reentrant.tutor)
    inner = act_call(reentrant, "cancel", order, 0b10, reentrant.tutor, signature=signature)
    reenter_with(reentrant, calldata(*inner))
    receipt = do(reentrant, "complete", order, 0b1, reentrant.student)
    assert call(reentrant.token.succeeded) is True
    completed, paid = expected_events(reentrant, "complete", order, 0b1, reentrant.student)
    cancelled = expected_events(reentrant, "cancel", order, 0b10, reentrant.tutor)
    assert receipt.events == [completed, *cancelled, paid]
    batch = call(reentrant.escrow.batches, order.batch_id(reentrant.domain))
    assert batch[1:] == (0b100, 0, 0, 0b1, 0b10)
    assert reentrant.balance(reentrant.escrow) == RATE
    assert reentrant.calendar() == quarters_of([slot(0), slot(16)])


def test_an_unsigned_act_in_the_payment_is_the_tokens_own(reentrant: Market) -> None:
    order = booked(reentrant)
    reenter_with(reentrant, calldata(*act_call(reentrant, "cancel", order, 0b10, reentrant.student)))
    done(reentrant, "complete", order, 0b1, reentrant.student)
    assert_callback_failed(reentrant, "NotActor", actor=reentrant.student, sender=reentrant.token)
