"""Bookings as people read them."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from creneau import Action, ActionResult, Batch, Listing, Order, Periods, Slot
from creneau.amounts import Token
from creneau.render import Week, columns, hours, moment, money, pretty, short, week_of

STUDENT, TUTOR = "0x" + "11" * 20, "0x" + "22" * 20
NINE = datetime(2030, 1, 7, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ANY_TIME = timedelta(0), timedelta(0)
TOKEN = Token("EDU")

ORDER = Order(
    student=STUDENT,
    tutor=TUTOR,
    listing=b"\x33" * 32,
    hourly_rate="35.5",
    deadline=NINE,
    slots=[Slot(start=NINE + n * HOUR, duration=HOUR) for n in range(6)],
)
BATCH = Batch(
    id=b"\x44" * 31 + b"\0",
    order=ORDER,
    periods=Periods(DAY, 2 * DAY, 14 * DAY),
    currency=TOKEN,
    booked=0b011111,
    confirmed=0b000010,
    disputed=0b000100,
    completed=0b001000,
    cancelled=0b010000,
    created_at=NINE - 9 * DAY,
    transaction_hash=b"\x55" * 32,
    block_number=7,
    gas_used=99543,
)


def test_a_batch() -> None:
    assert str(BATCH).splitlines() == [
        f"batch        0x{'44' * 31}00",
        "student      0x1111…1111",
        "tutor        0x2222…2222",
        "listing      0x3333…3333, 35.5 EDU an hour",
        "booked       5 of 6 lessons, 177.5 EDU",
        "created      2029-12-29 09:00 UTC",
        "transaction  0x5555…5555, block 7, 99,543 gas",
        "",
        "lesson  starts (UTC)          minutes  EDU   status     may be",
        "0       Mon 2030-01-07 09:00  60       35.5  PENDING    "
        "confirmed by tutor until 2030-01-07 08:59:59; cancelled by anyone from 2030-01-07 09:00",
        "1       Mon 2030-01-07 10:00  60       35.5  CONFIRMED  "
        "cancelled by student until 2030-01-06 10:00; completed by anyone from 2030-01-09 11:00:01; "
        "disputed by student from 2030-01-07 10:00 until 2030-01-09 11:00",
        "2       Mon 2030-01-07 11:00  60       35.5  DISPUTED   "
        "resolved by arbiter; resolved by anyone from 2030-01-23 12:00:01",
        "3       Mon 2030-01-07 12:00  60       35.5  COMPLETED  -",
        "4       Mon 2030-01-07 13:00  60       35.5  CANCELLED  -",
        "5       Mon 2030-01-07 14:00  60       -     left out   -",
    ]


def test_a_booking() -> None:
    assert str(BATCH.bookings[1]).splitlines() == [
        f"booking  0x{'44' * 31}01",
        "batch    0x4444…4400, lesson 1",
        "student  0x1111…1111",
        "tutor    0x2222…2222",
        "listing  0x3333…3333",
        "starts   Mon 2030-01-07 10:00 UTC, 60 minutes",
        "amount   35.5 EDU",
        "status   CONFIRMED",
        "",
        "may be     by       from (UTC)           until (UTC)",
        "cancelled  student                       2030-01-06 10:00",
        "cancelled  tutor",
        "completed  student",
        "completed  anyone   2030-01-09 11:00:01",
        "disputed   student  2030-01-07 10:00     2030-01-09 11:00",
        "settled    student",
        "settled    tutor",
    ]
    assert str(BATCH.bookings[3]).splitlines()[-1] == "status   COMPLETED"


def test_an_outcome() -> None:
    split = ActionResult(
        action=Action.RESOLVE,
        batch=BATCH,
        lessons=0b1010,
        to_student=Decimal("17.75"),
        to_tutor=Decimal("53.25"),
        transaction_hash=b"\x66" * 32,
        block_number=9,
        gas_used=65736,
    )
    assert str(split) == (
        "action       resolve, lessons 1, 3\n"
        "to student   17.75 EDU\n"
        "to tutor     53.25 EDU\n"
        f"transaction  0x6666…6666, block 9, 65,736 gas\n\n{BATCH}"
    )


def test_a_listing() -> None:
    assert str(Listing(Decimal(35), False, *ANY_TIME, 1, TOKEN)) == (
        "35 EDU an hour, lessons to be confirmed by the tutor, published once"
    )
    assert str(Listing(Decimal("0.5"), True, 2 * HOUR, 60 * DAY, 2, TOKEN)) == (
        "0.5 EDU an hour, lessons confirmed at once, booked 2 hours ahead or earlier, at most 1440 hours "
        "ahead, published 2 times"
    )
    assert str(Listing(Decimal(0), False, *ANY_TIME, 0)) == "not offered, published 0 times"


def test_a_week() -> None:
    midnight = datetime(2030, 1, 8, tzinfo=UTC)
    taken = [(NINE, NINE + HOUR), (NINE + 2 * HOUR, NINE + 3 * HOUR), (midnight - HOUR, midnight + HOUR)]
    assert str(Week(TUTOR, date(2030, 1, 7), taken)).splitlines() == [
        "week   of Mon 2030-01-07, times in UTC",
        f"tutor  {TUTOR}",
        "",
        "Mon 2030-01-07  09:00-10:00  11:00-12:00  23:00-24:00",
        "Tue 2030-01-08  00:00-01:00",
        *(
            f"{day} 2030-01-{number:02}  free"
            for number, day in enumerate(["Wed", "Thu", "Fri", "Sat", "Sun"], 9)
        ),
    ]


def test_the_week_of_a_day() -> None:
    monday = datetime(2030, 1, 7, tzinfo=UTC)
    for day in (date(2030, 1, 7), date(2030, 1, 13), NINE, monday + 7 * DAY - HOUR):
        assert week_of(day) == (monday, monday + 7 * DAY)
    # Sunday evening in New York is Monday in UTC.
    assert week_of(datetime.fromisoformat("2030-01-06T20:00-05:00")) == (monday, monday + 7 * DAY)


def test_words() -> None:
    assert short(b"\xab" * 32) == "0xabab…abab"
    assert moment(datetime.fromisoformat("2030-01-07T10:00:01+01:00")) == "2030-01-07 09:00:01"
    assert money("0.000000000000000001", TOKEN) == "0.000000000000000001 EDU"
    assert money("52.50", Token("USDC", 6)) == "52.5 USDC"
    assert money(35, Token()) == "35"
    assert hours(timedelta(minutes=90)) == "1.5 hours"
    assert columns([("a", "b"), ("long", "")]) == "a     b\nlong"


def test_ipython_shows_the_table() -> None:
    shown: list[str] = []
    printer: Any = SimpleNamespace(text=shown.append)
    everything = (
        BATCH,
        BATCH.bookings[0],
        Listing(Decimal(35), False, *ANY_TIME, 1),
        Week(TUTOR, date(2030, 1, 7), []),
    )
    for value in everything:
        value._repr_pretty_(printer, cycle=False)
    assert shown == [str(value) for value in everything]
    pretty(BATCH, printer, cycle=True)
    assert shown[-1] == repr(BATCH)
