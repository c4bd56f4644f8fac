"""Tokens that misbehave when the escrow pays: what they refuse waits for its receiver, nobody else."""

from typing import Any

import pytest
from acts import (
    ALL,
    DEFAULT_SHARE,
    LESSONS,
    MONTH,
    TARGETS,
    act_call,
    booked,
    disputed,
    do,
    done,
    expected_events,
    lessons_of,
    payments,
    sign_action,
    undone,
)
from ape import project
from helpers import Account, Actor, Receipt, Reverted, call, calldata, event, send, send_data
from market import RATE, Market, quarters_of, slot
from tokens import WEALTH, assert_callback_failed, funded_market_in, reenter_with

from creneau.lifecycle import Status
from creneau.order import Order, booking_id

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


def done_with_credit(
    market: Market, act: str, order: Order, lessons: int, by: Account, **how: Any
) -> Receipt:
    """Does it, and checks that whom the token refuses has a credit, and the others their money."""
    share = how.get("share", 10_000)
    paid = dict(zip((order.tutor, order.student), payments(act, order, lessons, share), strict=True))
    blocked = {account for account in paid if paid[account] and call(market.token.blocked, account)}
    had = {account: market.balance(account) for account in paid}
    credit = {account: call(market.escrow.credits, account) for account in paid}
    calendar, held = market.calendar(order.tutor), market.balance(market.escrow)

    receipt = do(market, act, order, lessons, by, **how)

    expected = [
        event(market.escrow, "PaymentCredited", account=told.arguments["to"], amount=told.arguments["value"])
        if told.name == "Transfer" and told.arguments["to"] in blocked
        else told
        for told in expected_events(market, act, order, lessons, by, share=share)
    ]
    assert receipt.events == expected
    for account, amount in paid.items():
        refused = amount if account in blocked else 0
        assert call(market.escrow.credits, account) == credit[account] + refused
        assert market.balance(account) == had[account] + amount - refused
    assert market.balance(market.escrow) == held - sum(
        paid[account] for account in paid if account not in blocked
    )
    freed = (
        quarters_of(order.slots[index] for index in lessons_of(order, lessons)) if act == "cancel" else set()
    )
    assert market.calendar(order.tutor) == calendar - freed
    statuses = {
        call(market.escrow.statusOf, booking_id(order.batch_id, index))
        for index in lessons_of(order, lessons)
    }
    assert statuses == {TARGETS[act]}
    return receipt


def test_a_blocked_student_gets_a_credit(blocking: Market) -> None:
    order = booked(blocking)
    block(blocking, blocking.student)
    done_with_credit(blocking, "cancel", order, 0b1, blocking.student)
    done_with_credit(blocking, "cancel", order, 0b100, blocking.tutor)
    assert call(blocking.escrow.credits, blocking.student) == 2 * RATE
    done_with_credit(blocking, "complete", order, 0b10, blocking.student)  # the tutor is not held up


def test_a_blocked_tutor_gets_a_credit(blocking: Market) -> None:
    order = booked(blocking, instant=True)
    block(blocking, blocking.tutor)
    done_with_credit(blocking, "complete", order, 0b1, blocking.student)
    done_with_credit(blocking, "cancel", order, 0b10, blocking.tutor)  # the student is not held up
    done_with_credit(blocking, "complete", order, 0b100, blocking.stranger, at=AFTER)
    block(blocking, blocking.tutor, False)
    assert call(blocking.escrow.credits, blocking.tutor) == 2 * RATE  # what was refused stays a credit


@pytest.mark.parametrize("share", [0, 1, 5_000, 10_000])
@pytest.mark.parametrize("roles", [("tutor",), ("student",), ("tutor", "student")], ids=" and ".join)
@pytest.mark.parametrize("act", ["resolve", "settle"])
def test_a_split_pays_whom_the_token_pays(
    blocking: Market, act: str, roles: tuple[str, ...], share: int
) -> None:
    order = disputed(blocking)
    for role in roles:
        block(blocking, getattr(blocking, role))
    by = blocking.arbiter if act == "resolve" else blocking.student
    done_with_credit(blocking, act, order, ALL, by, share=share)


@pytest.mark.parametrize("status", [Status.PENDING, Status.CONFIRMED, Status.DISPUTED])
def test_anyone_ends_it_whatever_the_token_does_to_both(blocking: Market, status: Status) -> None:
    act = {Status.PENDING: "cancel", Status.CONFIRMED: "complete", Status.DISPUTED: "resolve"}[status]
    order = booked(blocking, slot(0), instant=status != Status.PENDING)
    if status == Status.DISPUTED:
        do(blocking, "dispute", order, 0b1, blocking.student, at=slot(0).start_unix)
    block(blocking, blocking.student)
    block(blocking, blocking.tutor)
    done_with_credit(blocking, act, order, 0b1, blocking.stranger, share=DEFAULT_SHARE, at=AFTER)


def test_what_moves_no_money_goes_on_for_a_blocked_account(blocking: Market) -> None:
    order = booked(blocking, slot(0))
    block(blocking, blocking.student)
    block(blocking, blocking.tutor)
    done(blocking, "confirm", order, 0b1, blocking.tutor)
    done(blocking, "dispute", order, 0b1, blocking.student, at=slot(0).start_unix)


def test_others_are_not_held_up(blocking: Market) -> None:
    """A credit in the escrow is nobody else's money, and an act of others pays it not."""
    order = booked(blocking)
    others = blocking.order(slot(40), slot(48), student=blocking.stranger.address)
    blocking.book(others, sender=blocking.stranger)
    block(blocking, blocking.student)
    done_with_credit(blocking, "cancel", order, ALL, blocking.tutor)
    done(blocking, "cancel", others, 0b01, blocking.stranger)
    done(blocking, "complete", others, 0b10, blocking.stranger)
    assert blocking.balance(blocking.escrow) == call(blocking.escrow.credits, blocking.student) == 3 * RATE


# Gas at which a payment could fail for want of it while what follows still succeeds; see `_pay`.
FROM, UNTIL, STEP = 60_000, 160_000, 1_009


def test_too_little_gas_never_makes_a_credit(market: Market) -> None:
    """A sender with little gas can't turn another's payment into a credit."""
    order = booked(market, slot(0))
    terms = act_call(market, "complete", order, 0b1, market.student)
    data, outcomes = calldata(*terms), set()
    for gas in range(FROM, UNTIL, STEP):
        with undone():
            outcomes.add(outcome := sent_with(market, data, gas))
        assert outcome != "credited", f"{gas} gas made a credit"
    assert outcomes == {"failed", "paid"}


def sent_with(market: Market, data: bytes, gas: int) -> str:
    """The outcome of the student's transaction with so much gas."""
    try:
        receipt = send_data(market.escrow, data, sender=market.student, gas=gas)
    except (Reverted, RuntimeError):  # of the escrow's own, or out of gas
        return "failed"
    return "credited" if "PaymentCredited" in [event.name for event in receipt.events] else "paid"


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
    batch = call(reentrant.escrow.batches, order.batch_id)
    assert batch[1:] == (0b100, 0, 0, 0b1, 0b10)
    assert reentrant.balance(reentrant.escrow) == RATE
    assert reentrant.calendar() == quarters_of([slot(0), slot(16)])


def test_an_unsigned_act_in_the_payment_is_the_tokens_own(reentrant: Market) -> None:
    order = booked(reentrant)
    reenter_with(reentrant, calldata(*act_call(reentrant, "cancel", order, 0b10, reentrant.student)))
    done(reentrant, "complete", order, 0b1, reentrant.student)
    assert_callback_failed(reentrant, "NotActor", actor=reentrant.student, sender=reentrant.token)
