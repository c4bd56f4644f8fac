"""`confirm`: until when, and what it leaves. What it shares with the other acts is in `test_acts`."""

import pytest
from acts import ALL, DAY, booked, do, done, sign_action, undone
from helpers import reverts
from market import Market, slot

from creneau.lifecycle import Status

START = slot(0).start_unix


@pytest.mark.parametrize("late", [0, 1, DAY])
def test_a_lesson_that_has_started_is_not_confirmed(market: Market, late: int) -> None:
    order = booked(market)
    with reverts("TooLate", index=0, until=START - 1, timestamp=START + late):
        do(market, "confirm", order, 0b1, market.tutor, at=START + late)


def test_a_signature_does_not_stop_the_clock(market: Market) -> None:
    order = booked(market)
    signature = sign_action(market, "confirm", order, 0b1, market.tutor)
    with reverts("TooLate", index=0, until=START - 1, timestamp=START):
        do(market, "confirm", order, 0b1, market.tutor, signature=signature, sender=market.relayer, at=START)


@pytest.mark.parametrize("index", range(3))
def test_the_lesson_that_is_too_late_is_named(market: Market, index: int) -> None:
    slots = [slot(40), slot(80), slot(120)]
    slots[index] = slot(0)
    order = booked(market, *slots)
    with undone(), reverts("TooLate", index=index, until=START - 1, timestamp=START):
        do(market, "confirm", order, ALL, market.tutor, at=START)
    done(market, "confirm", order, ALL & ~(1 << index), market.tutor, at=START)


def test_the_first_of_several_late_lessons_is_named(market: Market) -> None:
    order = booked(market, slot(80), slot(8), slot(0))
    until = slot(8).start_unix - 1
    with reverts("TooLate", index=1, until=until, timestamp=until + 1):
        do(market, "confirm", order, ALL, market.tutor, at=until + 1)


@pytest.mark.parametrize("early", [1, 2, DAY])
def test_a_lesson_is_confirmed_until_it_starts(market: Market, early: int) -> None:
    done(market, "confirm", booked(market), ALL, market.tutor, at=START - early)


def test_an_instant_lesson_is_confirmed_already(market: Market) -> None:
    order = booked(market, instant=True)
    with reverts("WrongStatus", index=0, actual=Status.CONFIRMED, allowed=1 << Status.PENDING):
        do(market, "confirm", order, ALL, market.tutor)


def test_lessons_are_confirmed_one_by_one(market: Market) -> None:
    order = booked(market)
    for index in (2, 0, 1):
        done(market, "confirm", order, 1 << index, market.tutor)


def test_a_lesson_is_confirmed_after_its_listing_is_gone(market: Market) -> None:
    order = booked(market)
    market.publish(0)
    done(market, "confirm", order, ALL, market.tutor, at=START - 1)
