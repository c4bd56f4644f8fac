"""`check`: every reason at once, and always what `createBookings` then does."""

import pytest
from helpers import call, reverts, rpc, set_back
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from market import NOW, QUARTER, RATE, Market, quarters_of, slot, time_of

from creneau.order import Order, Slot, SlotCode

OK, IN_PAST, TOO_SOON, TOO_FAR, DURATION, TAKEN, OVERLAP = SlotCode
HOUR = 60 * 60


@pytest.mark.parametrize("count", [0, 41])
def test_an_order_has_1_to_40_slots(market: Market, count: int) -> None:
    order = market.order().model_copy(update={"slots": (slot(0),) * count})
    with reverts("SlotCount", actual=count, max=40):
        call(market.escrow.check, order)


@pytest.mark.parametrize("partial", [True, False])
def test_it_tells_every_reason_at_once(market: Market, partial: bool) -> None:
    market.book(market.order(slot(8), slot(254), slot(512)))
    now = slot(0).start_unix - HOUR
    market.publish(notice=HOUR, horizon=(3 * 64 + 10) * HOUR)
    slots = {
        slot(0): OK,
        Slot.of(NOW, 60): IN_PAST,
        Slot.of(now, 0): IN_PAST,
        slot(-1, 495): TOO_SOON,
        slot(-1): TOO_SOON,
        slot(24, 495): DURATION,
        slot(24, 0): DURATION,
        slot(8, 15): TAKEN,
        slot(256, 30): TAKEN,
        slot(510): TAKEN,
        slot(3): OVERLAP,
        slot(24, 480): OK,
        slot(3 * 256 + 36): OK,
        slot(3 * 256 + 37, 0): TOO_FAR,
        slot(3 * 256 + 300): TOO_FAR,
    }
    codes, total = call(market.escrow.check, market.order(*slots, partial=partial), at=now)
    assert list(codes) == list(slots.values())
    assert total == 10 * RATE


def test_it_looks_at_the_slots_only(market: Market) -> None:
    market.approve(0)
    created = market.order()
    expected = ((OK,), RATE)
    others = [
        market.order(),
        market.order(deadline=0),
        market.order(listing=b"\1" * 32),
        market.order(student=market.tutor.address),
        market.order(student=market.stranger.address),
    ]
    assert [call(market.escrow.check, order) for order in others] == [expected] * len(others)
    # It counts by the rate that the order names.
    assert call(market.escrow.check, market.order(rate=7)) == ((OK,), 7)
    market.approve(RATE)
    market.book(created)
    assert call(market.escrow.check, created) == ((TAKEN,), 0)


def test_the_present_second_is_past(market: Market) -> None:
    order = market.order(Slot.of(NOW + QUARTER, 60))
    assert call(market.escrow.check, order, at=NOW + QUARTER - 1) == ((OK,), RATE)
    assert call(market.escrow.check, order, at=NOW + QUARTER) == ((IN_PAST,), 0)


def test_it_counts_each_amount_rounded_down(market: Market) -> None:
    assert call(market.escrow.check, market.order(slot(0, 15), slot(8, 45), rate=7)) == ((OK, OK), 6)


def test_a_taken_slot_overlaps_nothing(market: Market) -> None:
    market.book(market.order(slot(8)))
    codes, total = call(market.escrow.check, market.order(slot(10), slot(12), slot(15)))
    assert (codes, total) == ((TAKEN, OK, OVERLAP), RATE)


def test_it_looks_into_the_word_that_a_slot_runs_into(market: Market) -> None:
    market.book(market.order(slot(256)))  # The first quarters of a word.
    # The first slot runs into these; the second begins in their word and runs into the next, which is free.
    codes, total = call(market.escrow.check, market.order(slot(254), slot(510)))
    assert (codes, total) == ((TAKEN, OK), RATE)


# --- Any order against any calendar ---

FIRST = time_of(244)
"""The slots crowd around a word's end, at the beginning of which they are mostly taken."""

TIME = NOW + QUARTER
"""The time at which orders are created."""

NOTICE = FIRST + 4 * QUARTER - TIME
FAR = FIRST + 50 * QUARTER - TIME

WELL_FORMED = st.builds(
    Slot.of,
    st.integers(0, 60).map(lambda quarter: FIRST + quarter * QUARTER),
    st.sampled_from([15, 30, 45, 60, 15, 30, 480]),
)
ANY = st.builds(
    Slot.of,
    st.integers(0, 60).map(lambda quarter: FIRST + quarter * QUARTER)
    | st.sampled_from([0, NOW, NOW + QUARTER, NOW + 2 * QUARTER, FIRST]),
    st.sampled_from([0, 15, 60, 480, 495, 960, 3825]),
)
LIMITS = st.sampled_from(
    [(0, 0), (0, 0), (1, 1), (NOTICE, 0), (0, FAR), (NOTICE, FAR), (NOTICE + 1, FAR - 1)]
)
"""Notice and horizon of the listing, in seconds: some slots are on the edge of both."""

# Most orders have nothing wrong but overlaps and taken slots, so that many get as far as the calendar.
WELL = st.lists(WELL_FORMED, min_size=1, max_size=7)
APART = st.lists(WELL_FORMED, min_size=2, max_size=9, unique_by=lambda one: one.start_unix // (4 * QUARTER))
SLOTS = APART | WELL | st.lists(WELL_FORMED | ANY, min_size=1, max_size=7)
GIVEN = {
    "across the boundary": [slot(246, 30), slot(250), slot(255, 30), slot(260, 15)],
    "after it": [slot(246, 30), slot(250), slot(256, 15), slot(260, 15)],
}


def model(order: Order, taken: set[int], now: int, limits: tuple[int, int]) -> list[tuple[SlotCode, int]]:
    """The rules again: a code for each slot, and for an overlap the slot that it overlaps."""
    earliest, latest = bounds(now, limits)
    verdicts: list[tuple[SlotCode, int]] = []
    booked: dict[int, set[int]] = {}
    for index, one in enumerate(order.slots):
        quarters = quarters_of([one])
        overlapped = [earlier for earlier, filled in booked.items() if filled & quarters]
        if one.start_unix <= now:
            code = IN_PAST
        elif one.start_unix < earliest:
            code = TOO_SOON
        elif one.start_unix > latest:
            code = TOO_FAR
        elif not 15 <= one.minutes <= 480:
            code = DURATION
        elif overlapped:
            code = OVERLAP
        elif quarters & taken:
            code = TAKEN
        else:
            code = OK
            booked[index] = quarters
        verdicts.append((code, overlapped[0] if overlapped else -1))
    return verdicts


def bounds(now: int, limits: tuple[int, int]) -> tuple[int, int]:
    """From when until when a lesson may start."""
    notice, horizon = limits
    return now + max(notice, 1), now + horizon if horizon else 2**40


def refusal(
    order: Order, verdicts: list[tuple[SlotCode, int]], now: int, limits: tuple[int, int]
) -> tuple[str, dict[str, int]] | None:
    """The error that refuses the order: what is wrong with a slot by itself comes before the calendar."""
    earliest, latest = bounds(now, limits)
    named = {
        IN_PAST: ("SlotInPast", lambda one, _: {"start": one.start_unix, "timestamp": now}),
        TOO_SOON: ("SlotTooSoon", lambda one, _: {"start": one.start_unix, "earliest": earliest}),
        TOO_FAR: ("SlotTooFar", lambda one, _: {"start": one.start_unix, "latest": latest}),
        DURATION: ("SlotDuration", lambda one, _: {"duration": one.minutes, "step": 15, "max": 480}),
        OVERLAP: ("SlotOverlap", lambda _, other: {"other": other}),
        TAKEN: ("SlotTaken", lambda one, _: {"start": one.start_unix}),
    }
    strict = order.min_lessons == len(order.slots)
    for codes in ({IN_PAST, TOO_SOON, TOO_FAR, DURATION}, {OVERLAP, TAKEN} if strict else {OVERLAP}):
        for index, (one, (code, other)) in enumerate(zip(order.slots, verdicts, strict=True)):
            if code in codes:
                name, arguments = named[code]
                return name, {"index": index, **arguments(one, other)}
    free = sum(code is OK for code, _ in verdicts)
    return ("TooFewFree", {"actual": free, "min": order.min_lessons}) if free < order.min_lessons else None


@pytest.fixture(params=GIVEN)
def taken(market: Market, request: pytest.FixtureRequest) -> set[int]:
    """The quarters of lessons that the tutor gives already."""
    lessons = GIVEN[request.param]
    market.book(market.order(*lessons))
    return quarters_of(lessons)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(slots=SLOTS, least=st.integers(0, 6), limits=LIMITS)
def test_check_and_creation_agree_with_the_rules(
    market: Market, taken: set[int], slots: list[Slot], least: int, limits: tuple[int, int]
) -> None:
    order = market.order(*slots, min_lessons=least % len(slots) + 1)
    snapshot = rpc("evm_snapshot")
    try:
        market.publish(notice=limits[0], horizon=limits[1])
        verdicts = model(order, taken, TIME, limits)
        free = [index for index, (code, _) in enumerate(verdicts) if code is OK]
        codes, total = call(market.escrow.check, order, at=TIME)
        assert list(codes) == [code for code, _ in verdicts]
        assert total == sum(order.amounts_wei[index] for index in free)

        if expected := refusal(order, verdicts, TIME, limits):
            name, arguments = expected
            event(name)
            with reverts(name, **arguments):
                market.book(order, at=TIME)
            assert market.calendar() == taken
        else:
            event(f"{len(free)} of {len(slots)} booked")
            receipt = market.book(order, at=TIME)
            market.assert_booked(receipt, order, sum(1 << index for index in free))
            assert market.calendar() == taken | quarters_of(slots[index] for index in free)
    finally:
        set_back(snapshot)
