"""`resolve`: by whom and from when, and who gets how much. The rest is in `test_acts`."""

import pytest
from acts import (
    ALL,
    ARBITRATION,
    DEFAULT_SHARE,
    MONTH,
    REVIEW,
    booked,
    disputed,
    do,
    done,
    end_of,
    payments,
    sign_action,
    undone,
)
from helpers import call, calldata, reverts
from market import RATE, Market, slot

from creneau.lifecycle import Status

OVER = end_of(slot(16)) + REVIEW + ARBITRATION


OTHERS = ["student", "tutor", "relayer", "stranger", "deployer"]


@pytest.mark.parametrize("at", [None, OVER, OVER + 1])
@pytest.mark.parametrize("role", OTHERS)
def test_only_the_arbiter_chooses_the_share(market: Market, role: str, at: int | None) -> None:
    order, sender = disputed(market), getattr(market, role)
    for share in (0, DEFAULT_SHARE - 1, DEFAULT_SHARE + 1, 10_000, 10_001):
        act = calldata(market.escrow.resolve, order, 0b1, share)
        with reverts("ShareNotDefault", actual=share, expected=DEFAULT_SHARE):
            call(market.escrow.resolve, order, 0b1, share, sender=sender, at=at)
        with reverts("ShareNotDefault", actual=share, expected=DEFAULT_SHARE):
            call(market.escrow.multicall, [act], sender=sender, at=at)
    done(market, "resolve", order, ALL, market.arbiter, share=DEFAULT_SHARE + 1, at=at)


@pytest.mark.parametrize("role", OTHERS)
def test_the_others_wait_until_arbitration_is_over(market: Market, role: str) -> None:
    order, sender = disputed(market), getattr(market, role)
    with undone(), reverts("TooEarly", index=2, **{"from": OVER + 1, "timestamp": OVER}):
        do(market, "resolve", order, 0b100, sender, share=DEFAULT_SHARE, at=OVER)
    done(market, "resolve", order, ALL, sender, share=DEFAULT_SHARE, at=OVER + 1)


def test_the_dispute_that_is_too_early_is_named(market: Market) -> None:
    order = disputed(market)
    first, second = (end_of(slot(place)) + REVIEW + ARBITRATION + 1 for place in (0, 8))
    with undone(), reverts("TooEarly", index=1, **{"from": second, "timestamp": first}):
        do(market, "resolve", order, ALL, market.stranger, share=DEFAULT_SHARE, at=first)
    done(market, "resolve", order, 0b1, market.stranger, share=DEFAULT_SHARE, at=first)


@pytest.mark.parametrize("share", [10_001, 2**16 - 1])
def test_a_share_is_a_whole_at_most(market: Market, share: int) -> None:
    order = disputed(market)
    with reverts("ShareTooLarge", actual=share, max=10_000):
        do(market, "resolve", order, 0b1, market.arbiter, share=share)


@pytest.mark.parametrize("status", [Status.PENDING, Status.CONFIRMED])
def test_only_disputes_are_resolved(market: Market, status: Status) -> None:
    order = booked(market, instant=status == Status.CONFIRMED)
    with reverts("WrongStatus", index=0, actual=status, allowed=1 << Status.DISPUTED):
        do(market, "resolve", order, 0b1, market.arbiter, at=OVER)


def test_a_decision_is_final(market: Market) -> None:
    order = disputed(market)
    done(market, "resolve", order, 0b1, market.arbiter, share=0)
    with reverts("WrongStatus", index=0, actual=Status.COMPLETED, allowed=1 << Status.DISPUTED):
        do(market, "resolve", order, ALL, market.arbiter)


@pytest.mark.parametrize(
    ("share", "to_tutor", "to_student"),
    [
        (0, 0, 3 * RATE),
        (1, 3 * RATE // 10_000, 3 * RATE - 3 * RATE // 10_000),
        (5_000, 3 * RATE // 2, 3 * RATE // 2),
        (9_999, 3 * RATE - 3 * RATE // 10_000, 3 * RATE // 10_000),
        (10_000, 3 * RATE, 0),
    ],
)
def test_the_money_is_split(market: Market, share: int, to_tutor: int, to_student: int) -> None:
    receipt = done(market, "resolve", disputed(market), ALL, market.arbiter, share=share)
    paid = [(event.arguments["to"], event.arguments["value"]) for event in receipt.events[1:]]
    parts = [(market.tutor.address, to_tutor), (market.student.address, to_student)]
    assert paid == [part for part in parts if part[1]]


@pytest.mark.parametrize(
    ("rate", "lengths", "share", "to_tutor", "to_student"),
    [
        (5, [60, 60], 5_000, 4, 6),  # 2.5 twice: not the half of ten
        (5, [60, 60], 9_999, 8, 2),
        (5, [60, 60], 1, 0, 10),
        (7, [45, 45, 15], 5_000, 4, 7),  # of 5, 5 and 1
        (1, [60, 60], 9_999, 0, 2),
        (1, [60, 60], 10_000, 2, 0),
        (9_999, [60], 1, 0, 9_999),
        (10_000, [60], 1, 1, 9_999),
    ],
)
def test_the_tutors_share_of_each_lesson_is_rounded_down(
    market: Market, rate: int, lengths: list[int], share: int, to_tutor: int, to_student: int
) -> None:
    order = disputed(market, *(slot(8 * place, length) for place, length in enumerate(lengths)), rate=rate)
    lessons = (1 << len(lengths)) - 1
    assert payments("resolve", order, lessons, share) == (to_tutor, to_student)
    done(market, "resolve", order, lessons, market.arbiter, share=share)


def test_each_lesson_may_be_decided_differently(market: Market) -> None:
    order = disputed(market)
    for index, share in enumerate([10_000, 0, 2_500]):
        done(market, "resolve", order, 1 << index, market.arbiter, share=share)
    assert market.balance(market.escrow) == 0


@pytest.mark.parametrize("at", [None, OVER, OVER + 1, OVER + MONTH])
def test_a_dispute_is_resolved_at_any_time(market: Market, at: int | None) -> None:
    done(market, "resolve", disputed(market), ALL, market.arbiter, share=1, at=at)


def test_no_signature_of_the_arbiter_exists(market: Market) -> None:
    """A signature of the arbiter for another act is for their own act: it never resolves."""
    order = disputed(market)
    for act in ("cancel", "complete"):
        signature = sign_action(market, act, order, 0b1, market.arbiter)
        with reverts("NotActor", actor=market.student, sender=market.relayer):
            do(market, act, order, 0b1, market.student, signature=signature, sender=market.relayer)
    assert call(market.escrow.statusOf, order.batch_id) == Status.DISPUTED


def test_the_largest_split_does_not_overflow(market: Market) -> None:
    rate = 2**96 - 1
    market.mint(market.student, 40 * 8 * rate)
    market.approve(40 * 8 * rate)
    slots = [slot(place, 480, page=8904) for place in range(0, 160, 32)]  # 40 hours, within the review
    order = disputed(market, *slots, rate=rate)
    done(market, "resolve", order, (1 << len(slots)) - 1, market.arbiter, share=9_999)
