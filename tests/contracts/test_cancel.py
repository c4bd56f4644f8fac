"""`cancel`: by whom and until when, and the time that it gives back. The rest is in `test_acts`."""

from typing import Any

import pytest
from acts import (
    ALL,
    ARBITRATION,
    CANCEL_WINDOW,
    MONTH,
    REVIEW,
    booked,
    disputed,
    do,
    done,
    end_of,
    sign_action,
    undone,
)
from helpers import reverts
from market import NOW, RATE, Market, quarters_of, slot

from creneau.lifecycle import Status
from creneau.order import Slot

EVERYONE = ["student", "arbiter", "relayer", "stranger", "deployer"]
"""All but the tutor, who needs not wait."""

# --- The student, and lessons that are confirmed ---

UNTIL = slot(0).start_unix - CANCEL_WINDOW


@pytest.mark.parametrize("late", [1, CANCEL_WINDOW, CANCEL_WINDOW + 1, MONTH])
def test_a_student_does_not_cancel_late(market: Market, late: int) -> None:
    order = booked(market, instant=True)
    with reverts("TooLate", index=0, until=UNTIL, timestamp=UNTIL + late):
        do(market, "cancel", order, 0b1, market.student, at=UNTIL + late)


def test_a_students_signature_does_not_stop_the_clock(market: Market) -> None:
    order = booked(market, instant=True)
    how: dict[str, Any] = {
        "signature": sign_action(market, "cancel", order, 0b1, market.student),
        "sender": market.tutor,
    }
    with undone(), reverts("TooLate", index=0, until=UNTIL, timestamp=UNTIL + 1):
        do(market, "cancel", order, 0b1, market.student, at=UNTIL + 1, **how)
    done(market, "cancel", order, 0b1, market.student, at=UNTIL, **how)


@pytest.mark.parametrize("early", [0, 1])
def test_a_student_cancels_in_time(market: Market, early: int) -> None:
    done(market, "cancel", booked(market, instant=True), ALL, market.student, at=UNTIL - early)


@pytest.mark.parametrize("index", range(3))
def test_the_lesson_that_is_too_late_is_named(market: Market, index: int) -> None:
    slots = [slot(40), slot(80), slot(120)]
    slots[index] = slot(0)
    order = booked(market, *slots, instant=True)
    with undone(), reverts("TooLate", index=index, until=UNTIL, timestamp=UNTIL + 1):
        do(market, "cancel", order, ALL, market.student, at=UNTIL + 1)
    done(market, "cancel", order, ALL & ~(1 << index), market.student, at=UNTIL + 1)


def test_a_pending_lesson_has_no_window(market: Market) -> None:
    order = booked(market)
    do(market, "confirm", order, 0b10, market.tutor)
    until = slot(8).start_unix - CANCEL_WINDOW
    with undone(), reverts("TooLate", index=1, until=until, timestamp=until + 1):
        do(market, "cancel", order, ALL, market.student, at=until + 1)
    done(market, "cancel", order, 0b101, market.student, at=until + 1)


@pytest.mark.parametrize("at", [UNTIL + 1, slot(0).start_unix, slot(0).start_unix + MONTH])
def test_a_pending_lesson_is_cancelled_at_any_time(market: Market, at: int) -> None:
    done(market, "cancel", booked(market), 0b1, market.student, at=at)


# --- Anyone, and lessons that nobody confirmed before they began ---

START = slot(16).start_unix
OVER = end_of(slot(16)) + REVIEW + ARBITRATION
OTHERS = EVERYONE[1:]


@pytest.mark.parametrize("role", OTHERS)
def test_nobody_else_cancels_before_the_start(market: Market, role: str) -> None:
    order = booked(market)
    with reverts("TooEarly", index=2, **{"from": START, "timestamp": START - 1}):
        do(market, "cancel", order, 0b100, getattr(market, role), at=START - 1)


@pytest.mark.parametrize("late", [0, 1, MONTH])
@pytest.mark.parametrize("role", OTHERS)
def test_anyone_cancels_what_is_pending_when_it_begins(market: Market, role: str, late: int) -> None:
    done(market, "cancel", booked(market), ALL, getattr(market, role), at=START + late)


@pytest.mark.parametrize("index", range(3))
def test_the_lesson_that_has_not_begun_is_named(market: Market, index: int) -> None:
    slots = [slot(0), slot(8), slot(16)]
    slots[index] = slot(100)
    order, start = booked(market, *slots), slot(100).start_unix
    with undone(), reverts("TooEarly", index=index, **{"from": start, "timestamp": start - 1}):
        do(market, "cancel", order, ALL, market.stranger, at=start - 1)
    done(market, "cancel", order, ALL & ~(1 << index), market.stranger, at=start - 1)


@pytest.mark.parametrize("role", OTHERS)
def test_a_signature_of_another_does_not_turn_the_clock(market: Market, role: str) -> None:
    order, by = booked(market, slot(16)), getattr(market, role)
    signature = sign_action(market, "cancel", order, 0b1, by)
    sender = market.stranger if role == "relayer" else market.relayer
    how: dict[str, Any] = {"signature": signature, "sender": sender}
    with undone(), reverts("TooEarly", index=0, **{"from": START, "timestamp": START - 1}):
        do(market, "cancel", order, 0b1, by, at=START - 1, **how)
    done(market, "cancel", order, 0b1, by, at=START, **how)


def test_a_confirmed_lesson_among_the_pending_ones_is_not_anyones(market: Market) -> None:
    order = booked(market)
    do(market, "confirm", order, 0b10, market.tutor)
    with undone(), reverts("WrongStatus", index=1, actual=Status.CONFIRMED, allowed=1 << Status.PENDING):
        do(market, "cancel", order, ALL, market.stranger, at=START)
    done(market, "cancel", order, 0b101, market.stranger, at=START)


@pytest.mark.parametrize("at", [OVER, OVER + MONTH])
@pytest.mark.parametrize("role", OTHERS)
def test_others_cancel_nothing_else(market: Market, role: str, at: int) -> None:
    confirmed, by = booked(market, instant=True), getattr(market, role)
    with undone(), reverts("WrongStatus", index=0, actual=Status.CONFIRMED, allowed=1 << Status.PENDING):
        do(market, "cancel", confirmed, 0b1, by, at=at)
    do(market, "dispute", confirmed, 0b1, market.student, at=START)
    with reverts("WrongStatus", index=0, actual=Status.DISPUTED, allowed=1 << Status.PENDING):
        do(market, "cancel", confirmed, 0b1, by, at=at)


def test_a_student_does_not_take_a_dispute_back(market: Market) -> None:
    order = disputed(market)
    allowed = 1 << Status.PENDING | 1 << Status.CONFIRMED
    with reverts("WrongStatus", index=0, actual=Status.DISPUTED, allowed=allowed):
        do(market, "cancel", order, 0b1, market.student, at=OVER + MONTH)


# --- The tutor ---


@pytest.mark.parametrize("at", [None, UNTIL + 1, slot(0).start_unix, OVER + MONTH])
@pytest.mark.parametrize("instant", [True, False])
def test_a_tutor_cancels_at_any_time(market: Market, instant: bool, at: int | None) -> None:
    done(market, "cancel", booked(market, instant=instant), ALL, market.tutor, at=at)


@pytest.mark.parametrize("at", [None, OVER, OVER + 1])
def test_a_tutor_gives_in(market: Market, at: int | None) -> None:
    done(market, "cancel", disputed(market), ALL, market.tutor, at=at)


def test_a_tutor_cancels_lessons_of_all_live_statuses_together(market: Market) -> None:
    order = booked(market, slot(0), slot(100), slot(200))
    do(market, "confirm", order, 0b11, market.tutor)
    do(market, "dispute", order, 0b1, market.student, at=slot(0).start_unix)
    done(market, "cancel", order, ALL, market.tutor)


# --- The time that it gives back ---

LAYOUTS = {
    "across a word": [slot(254)],
    "up to the end of a word": [slot(252)],
    "from the start of a word": [slot(256)],
    "the longest across a word": [slot(240, 480)],
    "all but one quarter before the next word": [slot(255, 480)],
    "two words in turn": [slot(0), slot(300), slot(8), slot(308), slot(16)],
    "backwards": [slot(270), slot(254), slot(200), slot(100)],
    "one after another": [slot(place, 15) for place in range(250, 262)],
    "back across the boundary": [slot(254), slot(240), slot(258), slot(0)],
}


def neighbours(slots: list[Slot]) -> list[Slot]:
    """The quarters just before and after each lesson that no lesson fills."""
    taken = quarters_of(slots)
    around = {quarter + step for quarter in taken for step in (-1, 1)} - taken
    return [Slot.of(quarter * 900, 15) for quarter in sorted(around)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_exactly_its_quarters_are_free_again(market: Market, layout: str) -> None:
    slots = LAYOUTS[layout]
    around = neighbours(slots)
    order = booked(market, *slots)
    booked(market, *around, salt=b"\2" * 32)
    done(market, "cancel", order, (1 << len(slots)) - 1, market.student)
    assert market.calendar() == quarters_of(around)


@pytest.mark.parametrize("layout", [name for name, slots in LAYOUTS.items() if len(slots) > 1])
def test_the_other_lessons_of_the_batch_stay(market: Market, layout: str) -> None:
    slots = LAYOUTS[layout]
    order = booked(market, *slots)
    for lessons in ((1 << len(slots)) // 3, 0b1):  # every second one, then the first
        with undone():
            kept = [lesson for index, lesson in enumerate(slots) if not lessons >> index & 1]
            done(market, "cancel", order, lessons, market.tutor)
            assert market.calendar() == quarters_of(kept)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_free_slot_is_booked_again(market: Market, layout: str) -> None:
    slots = LAYOUTS[layout]
    order = booked(market, *slots)
    again = market.order(*slots, salt=b"\2" * 32, partial=False)
    with reverts("SlotTaken", index=0, start=slots[0].start_unix):
        market.book(again)
    done(market, "cancel", order, (1 << len(slots)) - 1, market.tutor)
    market.assert_booked(market.book(again), again)
    with reverts("OrderExists", batch=order.batch_id):  # the old order stays what it was
        market.book(order)


def test_a_lesson_that_another_student_booked_is_not_freed(market: Market) -> None:
    """A cancelled lesson is over for good: it can't free the time a second time."""
    order = booked(market, slot(0), slot(8))
    do(market, "cancel", order, 0b1, market.student)
    other = booked(market, slot(0), salt=b"\2" * 32)
    students = 1 << Status.PENDING | 1 << Status.CONFIRMED
    for by, allowed in ((market.student, students), (market.tutor, students | 1 << Status.DISPUTED)):
        with reverts("WrongStatus", index=0, actual=Status.CANCELLED, allowed=allowed):
            do(market, "cancel", order, 0b11, by)
    done(market, "cancel", order, 0b10, market.student)
    assert market.calendar() == quarters_of(other.slots)


def test_a_slot_that_was_left_out_is_not_freed(market: Market) -> None:
    booked(market, slot(8), salt=b"\2" * 32)
    order = booked(market, slot(0), slot(8))
    done(market, "cancel", order, 0b1, market.tutor)
    assert market.calendar() == quarters_of([slot(8)])


def test_time_is_the_tutors_own(market: Market) -> None:
    market.publish(tutor=market.stranger)
    order, other = market.order(), market.order(tutor=market.stranger.address)
    market.book(order)
    market.book(other)
    done(market, "cancel", order, 0b1, market.student)
    assert market.calendar(market.stranger) == quarters_of(other.slots)


def test_time_may_be_long_past(market: Market) -> None:
    order = booked(market)
    done(market, "cancel", order, ALL, market.student, at=NOW + 12 * MONTH)
    assert market.calendar() == set()


# --- Money ---


def test_the_refund_is_the_sum_of_the_amounts(market: Market) -> None:
    order = booked(market, slot(0, 15), slot(8, 45), slot(16, 90), rate=7)  # 1.75, 5.25 and 10.5
    assert done(market, "cancel", order, 0b11, market.student).events[0].arguments["refund"] == 1 + 5
    assert done(market, "cancel", order, 0b100, market.tutor).events[0].arguments["refund"] == 10


def test_the_rate_is_the_one_of_the_order(market: Market) -> None:
    order = booked(market)
    market.publish(2 * RATE)
    done(market, "cancel", order, ALL, market.student)


def test_the_largest_refund_does_not_overflow(market: Market) -> None:
    rate = 2**96 - 1
    market.mint(market.student, 40 * 8 * rate)
    market.approve(40 * 8 * rate)
    order = booked(market, *(slot(32 * place, 480, page=8903) for place in range(40)), rate=rate)
    done(market, "cancel", order, 2**40 - 1, market.tutor)
