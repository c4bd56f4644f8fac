"""Tables of batches and lessons for people: on the console, and for the scripts.

Amounts name their token and times are in UTC. Addresses and keys are shortened unless they are asked for
whole; the subject of a table keeps its own key whole, to be copied. Lessons are numbered from zero, as every
function takes them.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from creneau.amounts import Token, format_amount, to_wei
from creneau.lifecycle import ACTIONS, Window
from creneau.types import to_hex

if TYPE_CHECKING:
    from creneau.booking import ActionResult, Batch, Booking, Listing

_DAY = timedelta(days=1)
_WEEK = 7 * _DAY


# --- Words ---


def short(key: bytes | str) -> str:
    """Return both ends of an address, key or hash, which people compare."""
    text = key if isinstance(key, str) else to_hex(key)
    return f"{text[:6]}…{text[-4:]}"


def moment(when: datetime) -> str:
    """Return a time in UTC, with seconds where there are some."""
    when = when.astimezone(UTC)
    return f"{when:%Y-%m-%d %H:%M:%S}" if when.second else f"{when:%Y-%m-%d %H:%M}"


def money(amount: Decimal | int | str, currency: Token) -> str:
    """Return an amount of tokens with the token's symbol."""
    return currency.text(to_wei(amount, currency.decimals))


def hours(period: timedelta) -> str:
    """Return a period in hours."""
    return f"{period / timedelta(hours=1):g} hours"


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Return lines whose cells stand below each other."""
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
    return "\n".join(line.rstrip() for line in lines)


# --- Lessons ---


def batch(of: "Batch", *, whole: bool = False) -> str:
    """Return a batch and its lessons, each with the actions that time limits."""
    order = of.order
    name = str if whole else short
    facts = [
        ("batch", to_hex(of.id)),
        ("student", name(order.student)),
        ("tutor", name(order.tutor)),
        ("listing", f"{name(to_hex(order.listing))}, {money(order.hourly_rate, of.currency)} an hour"),
        ("booked", f"{len(of.bookings)} of {len(order.slots)} lessons, {money(of.total, of.currency)}"),
    ]
    if of.created_at is not None:
        facts.append(("created", f"{moment(of.created_at)} UTC"))
    if of.transaction_hash is not None:
        block = "" if of.block_number is None else f", block {of.block_number}"
        gas = "" if of.gas_used is None else f", {of.gas_used:,} gas"
        facts.append(("transaction", f"{name(to_hex(of.transaction_hash))}{block}{gas}"))
    lessons: list[tuple[str, ...]] = [
        ("lesson", "starts (UTC)", "minutes", of.currency.symbol or "amount", "status", "may be")
    ]
    lessons += [_lesson(lesson) for lesson in of.bookings]
    lessons += [
        (str(index), _start(order.slots[index].start), str(order.slots[index].minutes), "-", "left out", "-")
        for index in of.left_out
    ]
    return f"{columns(facts)}\n\n{columns(lessons)}"


def booking(of: "Booking", *, whole: bool = False) -> str:
    """Return a lesson and its actions, each with its role and its times."""
    name = str if whole else short
    facts = [
        ("booking", to_hex(of.id)),
        ("batch", f"{to_hex(of.batch) if whole else short(of.batch)}, lesson {of.index}"),
        ("student", name(of.student)),
        ("tutor", name(of.tutor)),
        ("listing", name(to_hex(of.listing))),
        ("starts", f"{_start(of.start)} UTC, {of.slot.minutes} minutes"),
        ("amount", money(of.amount, of.currency)),
        ("status", of.status.name),
    ]
    if not of.windows:
        return columns(facts)
    actions = [("may be", "by", "from (UTC)", "until (UTC)")]
    actions += [(ACTIONS[window.action].done, window.by.value, *_limits(window)) for window in of.windows]
    return f"{columns(facts)}\n\n{columns(actions)}"


def result(of: "ActionResult") -> str:
    """Return the result of an action, and the batch as it stands since."""
    lessons = ", ".join(str(lesson.index) for lesson in of.bookings)
    facts = [
        ("action", f"{of.action.value}, lesson{'s' * (len(of.bookings) != 1)} {lessons}"),
        ("to student", money(of.to_student, of.batch.currency)),
        ("to tutor", money(of.to_tutor, of.batch.currency)),
        ("transaction", f"{short(of.transaction_hash)}, block {of.block_number}, {of.gas_used:,} gas"),
    ]
    return f"{columns(facts)}\n\n{batch(of.batch)}"


def listing(of: "Listing") -> str:
    """Return the terms of a listing in one line."""
    if not of.hourly_rate:
        return f"not offered, published {_times(of.nonce)}"
    how = "confirmed at once" if of.instant else "to be confirmed by the tutor"
    when = f", booked {hours(of.min_notice)} ahead or earlier" if of.min_notice else ""
    when += f", at most {hours(of.horizon)} ahead" if of.horizon else ""
    return f"{money(of.hourly_rate, of.currency)} an hour, lessons {how}{when}, published {_times(of.nonce)}"


def _lesson(of: "Booking") -> tuple[str, ...]:
    # Actions that the student or the tutor can do at any time would fill the screen.
    told = [window for window in of.windows if any(_limits(window)) or window.by.value == "arbiter"]
    return (
        str(of.index),
        _start(of.start),
        str(of.slot.minutes),
        format_amount(to_wei(of.amount)),
        of.status.name,
        "; ".join(map(_sentence, told)) or "-",
    )


def _sentence(window: Window) -> str:
    since, until = _limits(window)
    words = [ACTIONS[window.action].done, f"by {window.by.value}"]
    if since:
        words.append(f"from {since}")
    if until:
        words.append(f"until {until}")
    return " ".join(words)


def _limits(window: Window) -> tuple[str, str]:
    """Return the beginning and the end of a window, empty where nothing limits it."""
    unlimited = window._field_defaults
    since = "" if window.since == unlimited["since"] else moment(window.since)
    return since, "" if window.until == unlimited["until"] else moment(window.until)


def _start(when: datetime) -> str:
    return f"{when.astimezone(UTC):%a} {moment(when)}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


# --- Calendars ---


class Week(NamedTuple):
    """The taken times of a tutor in a week, from Monday 00:00 UTC on."""

    tutor: str
    monday: date
    taken: list[tuple[datetime, datetime]]

    def __str__(self) -> str:
        rows = [("week", f"of {self.monday:%a %Y-%m-%d}, times in UTC"), ("tutor", self.tutor)]
        days = [(f"{day:%a %Y-%m-%d}", self._of(day)) for day in map(self._day, range(7))]
        return f"{columns(rows)}\n\n{columns(days)}"

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        pretty(self, printer, cycle)

    def _day(self, number: int) -> date:
        return self.monday + number * _DAY

    def _of(self, day: date) -> str:
        begin = datetime.combine(day, time(), UTC)
        end = begin + _DAY
        parts = [
            f"{max(since, begin):%H:%M}-{'24:00' if until >= end else f'{until:%H:%M}'}"
            for since, until in self.taken
            if since < end and until > begin
        ]
        return "  ".join(parts) or "free"


def week_of(day: date | datetime) -> tuple[datetime, datetime]:
    """Return the beginning and the end, in UTC, of the week that a day is in."""
    if isinstance(day, datetime):
        day = day.astimezone(UTC).date()
    begin = datetime.combine(day - day.weekday() * _DAY, time(), UTC)
    return begin, begin + _WEEK


# --- IPython ---


def pretty(value: object, printer: object, cycle: bool) -> None:
    """Show the table of a value in IPython, and so on Ape's console; for the classes' `_repr_pretty_`."""
    printer.text(repr(value) if cycle else str(value))  # type: ignore[attr-defined]  # IPython's
