"""The rules of slots in `createBookings`: count, time, length, the calendar, partial and strict orders."""

from itertools import permutations

import pytest
from helpers import call, reverts
from market import (
    NOW,
    PAGE,
    Market,
    quarters_of,
    slot,
    time_of,
)

from creneau.order import Slot

STEP = 900
EITHER = pytest.mark.parametrize("partial", [True, False], ids=["partial", "strict"])
"""Only a slot that was taken meanwhile is left out; whatever else is wrong refuses either kind of order."""


# --- Count ---


@EITHER
@pytest.mark.parametrize("count", [0, 41, 42, 100])
def test_an_order_has_1_to_40_slots(market: Market, count: int, partial: bool) -> None:
    order = market.order(partial=partial)
    slots = tuple(slot(4 * place) for place in range(count))
    with reverts("SlotCount", actual=count, max=40):
        market.book(order.model_copy(update={"slots": slots}))


# --- Time ---


@EITHER
@pytest.mark.parametrize(
    ("start", "now"), [(NOW + STEP, NOW + STEP), (NOW + STEP, NOW + STEP + 1), (0, NOW + 9)]
)
def test_a_lesson_starts_after_its_block(market: Market, start: int, now: int, partial: bool) -> None:
    with reverts("SlotInPast", index=1, start=start, timestamp=now):
        market.book(market.order(slot(0), Slot.of(start, 60), partial=partial), at=now)


def test_a_lesson_may_start_a_second_later(market: Market) -> None:
    order = market.order(Slot.of(NOW + STEP, 60))
    market.assert_booked(market.book(order, at=NOW + STEP - 1), order)


def test_a_slot_in_the_past_is_in_the_past_whatever_else(market: Market) -> None:
    order = market.order(Slot.of(STEP, 0))
    with reverts("SlotInPast", index=0, start=STEP, timestamp=NOW + 10):
        market.book(order, at=NOW + 10)


@EITHER
@pytest.mark.parametrize("minutes", [0, 495, 510, 960, 3_825])
def test_a_lesson_lasts_quarters(market: Market, minutes: int, partial: bool) -> None:
    with reverts("SlotDuration", index=1, duration=minutes, step=15, max=480):
        market.book(market.order(slot(0), slot(8, minutes), partial=partial))


@pytest.mark.parametrize("minutes", range(15, 495, 15))
def test_a_lesson_lasts_15_minutes_to_8_hours(market: Market, minutes: int) -> None:
    order = market.order(slot(100, minutes))
    market.assert_booked(market.book(order), order)
    assert call(market.escrow.calendar, market.tutor, PAGE - 1, 3) == (0, (1 << minutes // 15) - 1 << 100, 0)


# --- The calendar's words ---

TOP = 1 << 255


@pytest.mark.parametrize(
    ("quarter", "minutes", "words"),
    [
        (0, 15, (0, 1, 0)),  # the first quarter of a word
        (0, 480, (0, 2**32 - 1, 0)),
        (255, 15, (0, TOP, 0)),  # the last quarter, ending exactly with the word
        (224, 480, (0, 2**256 - 2**224, 0)),
        (252, 60, (0, 2**256 - 2**252, 0)),
        (255, 30, (0, TOP, 1)),  # one quarter on either side
        (255, 480, (0, TOP, 2**31 - 1)),
        (225, 480, (0, 2**256 - 2**225, 1)),
        (254, 60, (0, 2**256 - 2**254, 0b11)),
        (-1, 30, (TOP, 1, 0)),
        (-31, 480, (2**256 - 2**225, 1, 0)),
        (256, 60, (0, 0, 0b1111)),
    ],
)
def test_a_lesson_fills_its_quarters(
    market: Market, quarter: int, minutes: int, words: tuple[int, int, int]
) -> None:
    order = market.order(slot(quarter, minutes))
    market.assert_booked(market.book(order), order)
    assert call(market.escrow.calendar, market.tutor, PAGE - 1, 3) == words


FULL_DAYS = tuple(slot(quarter, 480) for quarter in range(-16, 1264, 32))
"""40 lessons without a pause, over six words; those at the words' ends cross into the next."""


@pytest.mark.parametrize(
    "slots",
    [FULL_DAYS, FULL_DAYS[::-1], FULL_DAYS[::2] + FULL_DAYS[1::2], FULL_DAYS[20:] + FULL_DAYS[:20]],
    ids=["in order", "backwards", "odd after even", "second half first"],
)
@EITHER
def test_slots_come_in_any_order(market: Market, slots: tuple[Slot, ...], partial: bool) -> None:
    order = market.order(*slots, partial=partial)
    market.assert_booked(market.book(order), order)
    assert market.calendar() == quarters_of(slots)


@pytest.mark.parametrize("order_of_slots", list(permutations(range(4))))
def test_words_are_kept_whichever_slot_comes_first(market: Market, order_of_slots: tuple[int, ...]) -> None:
    # Before a boundary, across it, after it, and in a word further on.
    slots = [slot(248), slot(254), slot(258), slot(600)]
    order = market.order(*(slots[place] for place in order_of_slots))
    market.assert_booked(market.book(order), order)
    assert market.calendar() == quarters_of(slots)


# --- Taken ---

GIVEN = {"inside a word": 100, "across a boundary": 252, "after a boundary": 256}
"""Quarters at which the tutor already gives two hours."""

CLASHES = {
    "the same": (0, 120),
    "its first quarter": (0, 15),
    "its last quarter": (7, 15),
    "inside": (2, 60),
    "over its start": (-3, 60),
    "over its end": (7, 60),
    "all of it and more": (-8, 480),
}
"""Start, in quarters from the given lesson's, and minutes."""


@pytest.mark.parametrize("clash", CLASHES)
@pytest.mark.parametrize("given", GIVEN)
def test_a_taken_slot_refuses_a_strict_order(market: Market, given: str, clash: str) -> None:
    first = slot(GIVEN[given], 120)
    market.book(market.order(first))
    offset, minutes = CLASHES[clash]
    taken = slot(GIVEN[given] + offset, minutes)
    with reverts("SlotTaken", index=1, start=taken.start_unix):
        market.book(market.order(slot(20), taken, slot(30), partial=False))
    assert market.calendar() == quarters_of([first])


@pytest.mark.parametrize("clash", CLASHES)
@pytest.mark.parametrize("given", GIVEN)
def test_a_taken_slot_is_left_out_of_a_partial_order(market: Market, given: str, clash: str) -> None:
    first = slot(GIVEN[given], 120)
    market.book(market.order(first))
    offset, minutes = CLASHES[clash]
    order = market.order(slot(20), slot(GIVEN[given] + offset, minutes), slot(30))
    market.assert_booked(market.book(order), order, 0b101)
    assert market.calendar() == quarters_of([first, slot(20), slot(30)])


@EITHER
@pytest.mark.parametrize("given", GIVEN)
def test_lessons_may_follow_each_other(market: Market, given: str, partial: bool) -> None:
    first = slot(GIVEN[given], 120)
    market.book(market.order(first))
    before, after = slot(GIVEN[given] - 4, 60), slot(GIVEN[given] + 8, 15)
    order = market.order(before, after, partial=partial)
    market.assert_booked(market.book(order), order)
    assert market.calendar() == quarters_of([first, before, after])


@pytest.mark.parametrize("count", [2, 40])
def test_a_partial_order_needs_one_free_slot(market: Market, count: int) -> None:
    slots = tuple(slot(4 * place) for place in range(count))
    market.book(market.order(*slots))
    with reverts("TooFewFree", actual=0, min=1):
        market.book(market.order(*slots, salt=b"\2" * 32))


def test_an_order_of_one_slot_is_all_or_nothing(market: Market) -> None:
    market.book(market.order(slot(0)))
    with reverts("SlotTaken", index=0, start=time_of(0)):
        market.book(market.order(slot(0), salt=b"\2" * 32))


@pytest.mark.parametrize("least", range(1, 6))
@pytest.mark.parametrize("free", range(6))
def test_as_many_are_free_as_the_order_asks_for_at_least(market: Market, free: int, least: int) -> None:
    slots = [slot(8 * place) for place in range(6)]
    if free < 6:
        market.book(market.order(*slots[free:]))
    order = market.order(*slots, salt=b"\2" * 32, min_lessons=least)
    if free < least:
        with reverts("TooFewFree", actual=free, min=least):
            market.book(order)
    else:
        market.assert_booked(market.book(order), order, (1 << free) - 1)


@pytest.mark.parametrize(("count", "least"), [(1, 0), (1, 2), (40, 0), (40, 41), (40, 255)])
def test_an_order_asks_for_one_lesson_at_least_and_no_more_than_it_has(
    market: Market, count: int, least: int
) -> None:
    slots = [slot(8 * place) for place in range(count)]
    with reverts("MinLessons", actual=least, max=count):
        market.book(market.order(*slots, min_lessons=least))
    order = market.order(*slots, min_lessons=count)
    market.assert_booked(market.book(order), order)


@pytest.mark.parametrize("free", [0, 17, 39])
def test_one_free_slot_is_enough(market: Market, free: int) -> None:
    slots = tuple(slot(7 * place) for place in range(40))
    market.book(market.order(*(slots[:free] + slots[free + 1 :])))
    order = market.order(*slots)
    market.assert_booked(market.book(order), order, 1 << free)


def test_the_first_taken_slot_refuses_a_strict_order(market: Market) -> None:
    market.book(market.order(slot(8), slot(16)))
    with reverts("SlotTaken", index=1, start=time_of(16)):
        market.book(market.order(slot(24), slot(16), slot(8), partial=False))


def test_what_is_wrong_is_told_though_another_slot_is_taken(market: Market) -> None:
    market.book(market.order(slot(8)))
    with reverts("SlotDuration", index=1, duration=495, step=15, max=480):
        market.book(market.order(slot(8), slot(16, 495)))


def test_tutors_have_calendars_of_their_own(market: Market) -> None:
    market.publish(tutor=market.stranger)
    market.book(market.order(slot(0), slot(254)))
    assert market.calendar(market.stranger) == set()
    same = market.order(slot(0), slot(254), tutor=market.stranger.address, partial=False)
    market.assert_booked(market.book(same), same)
    assert market.calendar(market.stranger) == market.calendar() == quarters_of(same.slots)


def test_a_tutors_listings_share_his_calendar(market: Market) -> None:
    market.publish(listing=b"\1" * 32)
    market.book(market.order(slot(0)))
    with reverts("SlotTaken", index=0, start=time_of(0)):
        market.book(market.order(slot(0), listing=b"\1" * 32, partial=False))


def test_a_student_may_have_two_lessons_at_once(market: Market) -> None:
    market.publish(tutor=market.stranger)
    market.book(market.order(slot(0)))
    other = market.order(slot(0), tutor=market.stranger.address)
    market.assert_booked(market.book(other), other)
    assert market.calendar(market.student) == set()


# --- Overlap inside one order ---

PAIRS = {
    "the same": ((100, 60), (100, 60)),
    "one quarter": ((100, 60), (103, 60)),
    "one in the other": ((100, 480), (110, 15)),
    "the same, across a boundary": ((254, 60), (254, 60)),
    "before a boundary": ((252, 75), (255, 15)),
    "after a boundary": ((252, 75), (256, 15)),
    "both across a boundary": ((250, 120), (255, 480)),
    "one quarter, after a boundary": ((254, 60), (257, 15)),
}


@EITHER
@pytest.mark.parametrize("reverse", [False, True], ids=["in time", "out of time"])
@pytest.mark.parametrize("pair", PAIRS)
def test_slots_of_an_order_do_not_overlap(market: Market, pair: str, reverse: bool, partial: bool) -> None:
    one, other = (slot(*times) for times in PAIRS[pair])
    pair_ = (other, one) if reverse else (one, other)
    with reverts("SlotOverlap", index=1, other=0):
        market.book(market.order(*pair_, partial=partial))
    # The one that is overlapped is named, whatever lies between.
    slots = (slot(20), slot(30), pair_[0], slot(700), pair_[1])
    with reverts("SlotOverlap", index=4, other=2):
        market.book(market.order(*slots, partial=partial))


@EITHER
def test_the_first_of_several_overlapped_slots_is_named(market: Market, partial: bool) -> None:
    with reverts("SlotOverlap", index=3, other=1):
        market.book(market.order(slot(0), slot(16), slot(12), slot(10, 180), partial=partial))


@EITHER
def test_an_overlap_is_told_before_a_taken_slot(market: Market, partial: bool) -> None:
    market.book(market.order(slot(8)))
    with reverts("SlotOverlap", index=1, other=0):  # which would not be free alone
        market.book(market.order(slot(12), slot(10), partial=partial))


def test_a_slot_that_is_left_out_blocks_nothing(market: Market) -> None:
    market.book(market.order(slot(8)))
    # The first is taken by that lesson, so it does not count as overlapping the second.
    order = market.order(slot(10), slot(12))
    market.assert_booked(market.book(order), order, 0b10)
    assert market.calendar() == quarters_of([slot(8), slot(12)])
