"""Windows of a lesson's actions: the SDK allows exactly the calls that the contract accepts."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import ape
import pytest
from ape.api import AccountAPI
from ape.contracts import ContractInstance
from helpers import Reverted, call_data, rpc
from hypothesis import given
from hypothesis import strategies as st
from strategies import ANNONCE, orders

from creneau import (
    FOREVER,
    Action,
    Batch,
    Booking,
    BookingEscrow,
    Order,
    Periods,
    Role,
    Slot,
    Status,
    abi,
    errors,
    windows,
)
from creneau.types import from_unix, to_unix

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
PERIODS = Periods(cancel_window=DAY, review_period=2 * DAY, arbitration_period=14 * DAY)
SHARE = 5_000
LAST_DEADLINE = 2**37
NINE = from_unix(1_904_288_400)
"""2030-05-06 09:00 UTC."""
ORDER = Order(
    student="0x" + "11" * 20,
    tutor="0x" + "22" * 20,
    listing=b"\3" * 32,
    hourly_rate=Decimal(35),
    deadline=NINE - DAY,
    salt=b"\4" * 32,
    slots=tuple(Slot(start=NINE + hours * HOUR, duration=HOUR) for hours in range(6)),
)
BATCH = Batch(
    id=b"\5" * 31 + b"\0",
    order=ORDER,
    periods=PERIODS,
    booked=0b011111,
    confirmed=0b00010,
    disputed=0b00100,
    completed=0b01000,
    cancelled=0b10000,
)
PENDING, CONFIRMED, DISPUTED, COMPLETED, CANCELLED = BATCH.bookings


# --- Without a node ---


def dates(booking: Booking) -> dict[str, datetime]:
    """The dates that are not None, by their names."""
    names = [name for name in dir(Booking) if name.endswith(("able_from", "able_until"))]
    return {name: date for name in names if (date := getattr(booking, name)) is not None}


def test_dates_of_each_status() -> None:
    assert dates(PENDING) == {
        "confirmable_until": NINE - SECOND,
        "cancellable_until": FOREVER,
        "refundable_from": NINE,
    }
    assert dates(CONFIRMED) == {
        "cancellable_until": CONFIRMED.start - DAY,
        "disputable_from": CONFIRMED.start,
        "disputable_until": CONFIRMED.end + 2 * DAY,
        "completable_from": CONFIRMED.end + 2 * DAY + SECOND,
    }
    assert dates(DISPUTED) == {"resolvable_from": DISPUTED.end + 16 * DAY + SECOND}
    assert dates(COMPLETED) == dates(CANCELLED) == {}


def test_names_can_be_text() -> None:
    assert PENDING.may("cancel", "student", NINE)  # type: ignore[arg-type]  # as one writes in the console
    assert not PENDING.may("cancel", "anyone", NINE - SECOND)  # type: ignore[arg-type]


def test_lessons_that_may() -> None:
    def indexes(act: Action, by: Role, now: datetime) -> list[int]:
        return [booking.index for booking in BATCH.lessons_that_may(act, by, now)]

    assert indexes(Action.CANCEL, Role.STUDENT, NINE) == [0]
    assert indexes(Action.CANCEL, Role.STUDENT, NINE - 2 * DAY) == [0, 1]
    assert indexes(Action.CANCEL, Role.TUTOR, NINE) == [0, 1, 2]
    assert indexes(Action.CANCEL, Role.ANYONE, NINE - SECOND) == []
    assert indexes(Action.CANCEL, Role.ANYONE, NINE + 30 * DAY) == [0]
    assert indexes(Action.SETTLE, Role.STUDENT, NINE) == indexes(Action.SETTLE, Role.TUTOR, NINE) == [0, 1, 2]
    assert indexes(Action.SETTLE, Role.ARBITER, NINE) == []
    assert indexes(Action.COMPLETE, Role.STUDENT, NINE) == [0, 1, 2]
    assert indexes(Action.COMPLETE, Role.ARBITER, NINE + 30 * DAY) == [1]
    assert indexes(Action.RESOLVE, Role.ARBITER, NINE) == [2]
    assert indexes(Action.RESOLVE, Role.TUTOR, NINE) == []
    assert indexes(Action.RESOLVE, Role.TUTOR, NINE + 30 * DAY) == [2]


def test_set_of() -> None:
    assert BATCH.set_of() == 0b11111
    assert BATCH.set_of([]) == 0
    assert BATCH.set_of([0, DISPUTED, 39]) == 1 | 1 << 2 | 1 << 39
    assert BATCH.set_of(booking for booking in BATCH.bookings[:2]) == 0b11
    for index in (-1, 40):
        with pytest.raises(ValueError, match="an index is from 0 to 39"):
            BATCH.set_of([index])
    other = PENDING.model_copy(update={"batch": b"\6" * 31 + b"\0"})
    with pytest.raises(ValueError, match="lesson 0 is of another batch"):
        BATCH.set_of([other])


@given(orders(), st.sampled_from(Status))
def test_every_order_that_a_datetime_can_tell_has_its_windows(order: Order, status: Status) -> None:
    year = timedelta(days=365)
    for slot in order.slots:
        for window in windows(status, slot, Periods(year, year, year)):
            assert window.since <= FOREVER
            assert window.until <= FOREVER


# --- Against the contract ---


@pytest.fixture(scope="module", params=[PERIODS, Periods(timedelta(), HOUR, DAY)], ids=["days", "least"])
def lived(
    request: Any,
    token: ContractInstance,
    deployer: AccountAPI,
    arbiter: AccountAPI,
    tutor: AccountAPI,
    student: AccountAPI,
) -> tuple[BookingEscrow, Batch]:
    """An escrow with these periods, and a batch with a lesson in every status."""
    seconds = [int(period.total_seconds()) for period in request.param]
    contract = deployer.deploy(ape.project.BookingEscrow, token, arbiter, *seconds, SHARE)
    escrow = BookingEscrow(contract.address)
    assert escrow.periods == request.param
    escrow.publish(ANNONCE, 35, sender=tutor)
    escrow.approve(1000, sender=student)
    first = escrow.now().replace(hour=9, minute=0, second=0) + 3 * DAY
    slots = [
        Slot(start=first + hours * HOUR, duration=timedelta(minutes=minutes))
        for hours, minutes in [(20, 60), (6, 15), (0, 45), (8, 480), (17, 30), (24, 60)]
    ]

    escrow.create_bookings(tutor, ANNONCE, slots[5:], sender=student)
    batch = escrow.create_bookings(tutor, ANNONCE, slots, sender=student)
    escrow.confirm(batch, [1, 2, 3, 4], sender=tutor)
    rpc("evm_setNextBlockTimestamp", to_unix(slots[2].start))
    rpc("evm_mine")
    escrow.dispute(batch, [2], sender=student)
    escrow.complete(batch, [3], sender=student)
    return escrow, escrow.cancel(batch, [4], sender=tutor).batch


def test_the_contract_accepts_what_may_be_done(
    lived: tuple[BookingEscrow, Batch],
    student: AccountAPI,
    tutor: AccountAPI,
    arbiter: AccountAPI,
    stranger: AccountAPI,
) -> None:
    """Every act of everybody on a lesson of every status, a second before, at and after every boundary."""
    escrow, batch = lived
    order = batch.order
    accounts = {Role.STUDENT: student, Role.TUTOR: tutor, Role.ARBITER: arbiter, Role.ANYONE: stranger}

    def settle(lessons: int, by: str) -> bytes:
        """Sent by one party with the other's signature; by anybody else with the tutor's alone."""
        given: dict[str, Any] = {"tutor_share_bps": SHARE, "deadline": from_unix(LAST_DEADLINE)}
        named = [index for index in range(6) if lessons >> index & 1]
        signer, side = (student, "student") if by == tutor.address else (tutor, "tutor")
        signed = {f"{side}_signature": escrow.sign_settlement(batch, signer, named, **given).signature}
        return abi.settle_data(order, lessons, SHARE, LAST_DEADLINE, **signed)

    unsigned = {"deadline": LAST_DEADLINE}
    data: dict[Action, Callable[[int, str], bytes]] = {
        Action.CONFIRM: lambda lessons, _: abi.action_data(Action.CONFIRM, order, lessons, **unsigned),
        Action.CANCEL: lambda lessons, by: abi.action_data(Action.CANCEL, order, lessons, by=by, **unsigned),
        Action.COMPLETE: lambda lessons, by: abi.action_data(
            Action.COMPLETE, order, lessons, by=by, **unsigned
        ),
        Action.DISPUTE: lambda lessons, _: abi.action_data(Action.DISPUTE, order, lessons, **unsigned),
        Action.RESOLVE: lambda lessons, _: abi.action_data(
            Action.RESOLVE, order, lessons, tutor_share_bps=SHARE
        ),
        Action.SETTLE: settle,
    }
    assert [batch.status(index) for index in range(6)] == [
        Status.PENDING,
        Status.CONFIRMED,
        Status.DISPUTED,
        Status.COMPLETED,
        Status.CANCELLED,
        Status.NONE,
    ]
    bookings = {booking.index: booking for booking in batch.bookings}
    cancel_window, review_period, arbitration_period = escrow.periods

    accepted, acceptable = set(), set()
    for index, act, role in product(range(6), Action, Role):
        slot, by = order.slots[index], accounts[role].address
        reviewed = slot.end + review_period
        call = data[act](1 << index, by)
        times = {slot.start - cancel_window, slot.start, slot.end, reviewed, reviewed + arbitration_period}
        allowed = windows(batch.status(index), slot, escrow.periods)
        window = next(
            (each for each in allowed if each.action == act and each.by in {role, Role.ANYONE}), None
        )
        if window is not None:
            acceptable.add((index, act, role))
        for now in (
            {time + seconds * SECOND for time in times for seconds in (-1, 0, 1)} if allowed else times
        ):
            possible = index in bookings and bookings[index].may(act, role, now)
            timestamp = to_unix(now)
            try:
                call_data(escrow.address, call, sender=by, at=timestamp)
            except Reverted as reverted:
                error = errors.decode_revert(reverted.data)
                case = f"{batch.status(index)!r} {act} by {role} at {now}: {error}"
                assert not possible, case
                if window is None:
                    assert isinstance(error, errors.NotActor | errors.WrongStatus), case
                elif now < window.since:
                    assert type(error) is errors.TooEarly, case
                    assert error.args == (index, to_unix(window.since), timestamp), case
                else:
                    assert type(error) is errors.TooLate, case
                    assert error.args == (index, to_unix(window.until), timestamp), case
            else:
                assert possible, f"{batch.status(index)!r} {act} by {role} at {now} was accepted"
                accepted.add((index, act, role))
    assert accepted == acceptable
