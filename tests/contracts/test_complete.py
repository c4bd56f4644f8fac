"""`complete`: by whom and from when, and what it pays. The rest is in `test_acts`."""

from typing import Any

import pytest
from acts import ALL, MONTH, REVIEW, booked, disputed, do, done, end_of, sign_action, undone
from helpers import reverts
from market import RATE, Market, slot

from creneau.lifecycle import Status

OTHERS = ["tutor", "arbiter", "relayer", "stranger", "deployer"]
OVER = end_of(slot(0)) + REVIEW


@pytest.mark.parametrize("early", [0, 1, REVIEW, REVIEW + 3600])
@pytest.mark.parametrize("role", OTHERS)
def test_nobody_completes_a_lesson_under_review(market: Market, role: str, early: int) -> None:
    order = booked(market, instant=True)
    with reverts("TooEarly", index=0, **{"from": OVER + 1, "timestamp": OVER - early}):
        do(market, "complete", order, 0b1, getattr(market, role), at=OVER - early)


@pytest.mark.parametrize("late", [1, MONTH])
@pytest.mark.parametrize("role", OTHERS)
def test_anyone_completes_a_reviewed_lesson(market: Market, role: str, late: int) -> None:
    order = booked(market, instant=True)
    done(market, "complete", order, 0b1, getattr(market, role), at=OVER + late)


@pytest.mark.parametrize("role", ["tutor", "stranger"])
def test_a_signature_does_not_turn_the_clock(market: Market, role: str) -> None:
    order, by = booked(market, instant=True), getattr(market, role)
    how: dict[str, Any] = {
        "signature": sign_action(market, "complete", order, 0b1, by),
        "sender": market.relayer,
    }
    with undone(), reverts("TooEarly", index=0, **{"from": OVER + 1, "timestamp": OVER}):
        do(market, "complete", order, 0b1, by, at=OVER, **how)
    done(market, "complete", order, 0b1, by, at=OVER + 1, **how)


@pytest.mark.parametrize("minutes", [15, 60, 480])
def test_the_review_begins_at_the_end(market: Market, minutes: int) -> None:
    order = booked(market, slot(0, minutes), instant=True)
    over = slot(0).start_unix + 60 * minutes + REVIEW
    with undone(), reverts("TooEarly", index=0, **{"from": over + 1, "timestamp": over}):
        do(market, "complete", order, 0b1, market.tutor, at=over)
    done(market, "complete", order, 0b1, market.tutor, at=over + 1)


@pytest.mark.parametrize("index", range(3))
def test_the_lesson_that_is_too_early_is_named(market: Market, index: int) -> None:
    slots = [slot(0), slot(8), slot(16)]
    slots[index] = slot(100)
    order = booked(market, *slots, instant=True)
    over = end_of(slot(100)) + REVIEW
    with undone(), reverts("TooEarly", index=index, **{"from": over + 1, "timestamp": over}):
        do(market, "complete", order, ALL, market.tutor, at=over)
    done(market, "complete", order, ALL & ~(1 << index), market.tutor, at=over)


@pytest.mark.parametrize("role", OTHERS)
def test_only_the_student_completes_what_is_not_confirmed(market: Market, role: str) -> None:
    order, by = booked(market), getattr(market, role)
    with reverts("WrongStatus", index=0, actual=Status.PENDING, allowed=1 << Status.CONFIRMED):
        do(market, "complete", order, 0b1, by, at=OVER + MONTH)


@pytest.mark.parametrize("role", OTHERS)
def test_only_the_student_completes_what_is_disputed(market: Market, role: str) -> None:
    order, by = disputed(market), getattr(market, role)
    with reverts("WrongStatus", index=0, actual=Status.DISPUTED, allowed=1 << Status.CONFIRMED):
        do(market, "complete", order, 0b1, by, at=OVER + MONTH)


@pytest.mark.parametrize("at", [None, slot(0).start_unix, OVER, OVER + 1])
@pytest.mark.parametrize("instant", [True, False])
def test_the_student_completes_at_any_time(market: Market, instant: bool, at: int | None) -> None:
    done(market, "complete", booked(market, instant=instant), ALL, market.student, at=at)


@pytest.mark.parametrize("at", [None, OVER + MONTH])
def test_the_student_gives_in(market: Market, at: int | None) -> None:
    done(market, "complete", disputed(market), ALL, market.student, at=at)


def test_the_student_completes_lessons_of_all_live_statuses_together(market: Market) -> None:
    order = booked(market, slot(0), slot(100), slot(200))
    do(market, "confirm", order, 0b11, market.tutor)
    do(market, "dispute", order, 0b1, market.student, at=slot(0).start_unix)
    done(market, "complete", order, ALL, market.student)


def test_its_time_stays_taken(market: Market) -> None:
    order = booked(market)
    done(market, "complete", order, ALL, market.student)
    with reverts("TooFewFree", actual=0, min=1):
        market.book(market.order(*order.slots, salt=b"\2" * 32))


def test_the_payment_is_the_sum_of_the_amounts(market: Market) -> None:
    order = booked(market, slot(0, 15), slot(8, 45), slot(16, 90), rate=7)  # 1.75, 5.25 and 10.5
    assert done(market, "complete", order, 0b11, market.student).events[0].arguments["amount"] == 1 + 5
    assert done(market, "complete", order, 0b100, market.student).events[0].arguments["amount"] == 10


def test_the_rate_is_the_one_of_the_order(market: Market) -> None:
    order = booked(market)
    market.publish(2 * RATE)
    done(market, "complete", order, ALL, market.student)


def test_the_largest_payment_does_not_overflow(market: Market) -> None:
    rate = 2**96 - 1
    market.mint(market.student, 40 * 8 * rate)
    market.approve(40 * 8 * rate)
    order = booked(market, *(slot(32 * place, 480, page=8903) for place in range(40)), rate=rate)
    done(market, "complete", order, 2**40 - 1, market.student)
