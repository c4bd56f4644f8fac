"""`dispute`: from when and until when. The rest is in `test_acts`."""

from typing import Any

import pytest
from acts import ALL, CANCEL_WINDOW, MONTH, REVIEW, booked, do, done, end_of, sign_action, undone
from helpers import reverts
from market import Market, slot

from creneau.lifecycle import Status

START = slot(0).start_unix
UNTIL = end_of(slot(0)) + REVIEW


@pytest.mark.parametrize("early", [1, CANCEL_WINDOW])
def test_a_lesson_that_has_not_started_is_not_disputed(market: Market, early: int) -> None:
    order = booked(market, instant=True)
    with reverts("TooEarly", index=0, **{"from": START, "timestamp": START - early}):
        do(market, "dispute", order, 0b1, market.student, at=START - early)


@pytest.mark.parametrize("late", [1, MONTH])
def test_a_lesson_is_not_disputed_after_its_review(market: Market, late: int) -> None:
    order = booked(market, instant=True)
    with reverts("TooLate", index=0, until=UNTIL, timestamp=UNTIL + late):
        do(market, "dispute", order, 0b1, market.student, at=UNTIL + late)


@pytest.mark.parametrize("at", [START, START + 1, UNTIL - REVIEW, UNTIL - 1, UNTIL])
def test_a_lesson_is_disputed_from_its_start_to_the_end_of_its_review(market: Market, at: int) -> None:
    done(market, "dispute", booked(market, instant=True), 0b1, market.student, at=at)


@pytest.mark.parametrize("minutes", [15, 480])
def test_the_review_begins_at_the_end(market: Market, minutes: int) -> None:
    order = booked(market, slot(0, minutes), instant=True)
    until = START + 60 * minutes + REVIEW
    with undone(), reverts("TooLate", index=0, until=until, timestamp=until + 1):
        do(market, "dispute", order, 0b1, market.student, at=until + 1)
    done(market, "dispute", order, 0b1, market.student, at=until)


def test_a_signature_does_not_stop_the_clock(market: Market) -> None:
    order = booked(market, instant=True)
    how: dict[str, Any] = {
        "signature": sign_action(market, "dispute", order, 0b1, market.student),
        "sender": market.relayer,
    }
    with undone(), reverts("TooEarly", index=0, **{"from": START, "timestamp": START - 1}):
        do(market, "dispute", order, 0b1, market.student, at=START - 1, **how)
    with undone(), reverts("TooLate", index=0, until=UNTIL, timestamp=UNTIL + 1):
        do(market, "dispute", order, 0b1, market.student, at=UNTIL + 1, **how)
    done(market, "dispute", order, 0b1, market.student, at=UNTIL, **how)


@pytest.mark.parametrize("index", range(3))
def test_the_lesson_that_is_too_early_is_named(market: Market, index: int) -> None:
    slots = [slot(0), slot(8), slot(16)]
    slots[index] = slot(100)
    order = booked(market, *slots, instant=True)
    start = slot(100).start_unix
    with undone(), reverts("TooEarly", index=index, **{"from": start, "timestamp": start - 1}):
        do(market, "dispute", order, ALL, market.student, at=start - 1)
    done(market, "dispute", order, ALL & ~(1 << index), market.student, at=start - 1)


@pytest.mark.parametrize("index", range(3))
def test_the_lesson_that_is_too_late_is_named(market: Market, index: int) -> None:
    slots = [slot(40), slot(80), slot(120)]
    slots[index] = slot(0)
    order = booked(market, *slots, instant=True)
    with undone(), reverts("TooLate", index=index, until=UNTIL, timestamp=UNTIL + 1):
        do(market, "dispute", order, ALL, market.student, at=UNTIL + 1)
    done(market, "dispute", order, ALL & ~(1 << index), market.student, at=UNTIL + 1)


@pytest.mark.parametrize("at", [START, UNTIL])
def test_a_lesson_that_nobody_confirmed_is_not_disputed(market: Market, at: int) -> None:
    order = booked(market)
    with reverts("WrongStatus", index=0, actual=Status.PENDING, allowed=1 << Status.CONFIRMED):
        do(market, "dispute", order, 0b1, market.student, at=at)


def test_a_disputed_lesson_is_not_paid_when_its_review_is_over(market: Market) -> None:
    order = booked(market, instant=True)
    done(market, "dispute", order, 0b1, market.student, at=UNTIL)
    with undone(), reverts("WrongStatus", index=0, actual=Status.DISPUTED, allowed=1 << Status.CONFIRMED):
        do(market, "complete", order, 0b1, market.tutor, at=UNTIL + 1)
    done(market, "complete", order, 0b10, market.tutor, at=end_of(slot(8)) + REVIEW + 1)
