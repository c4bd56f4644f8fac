"""The lessons of a request: local times become UTC, and each lesson that can't be booked gets its reason."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Unpack
from zoneinfo import ZoneInfo

from api.booking.models import Batch, Failure, Lesson, answered, reason, why_not
from api.errors import SLOT_CODES, Code, Parameters, Problem
from api.language import say
from api.people.schedule import Hours, covers
from api.schemas.requests import SlotData
from creneau.amounts import DECIMALS, lesson_amount, to_wei
from creneau.order import QUARTER_SECONDS, SlotCode
from creneau.types import to_unix

STEP_MINUTES, MOST_MINUTES = 15, 480  # The contract's.
LEAD = timedelta(seconds=60)
"""A lesson that starts sooner could begin before its transaction is in a block."""

LAST_START = (2**24 - 1) * QUARTER_SECONDS
"""The latest lesson that the contract can name begins then, in the year 2448: unix seconds."""

_CENT = 10 ** (DECIMALS - 2)


def failure(lesson: Lesson, code: Code, **terms: Unpack[Parameters]) -> Failure:
    """Return the failure of a lesson, with the sentence of its code."""
    terms |= {"date": lesson["date"], "time": lesson["time"]}
    failure: Failure = {
        "index": lesson["index"],
        "slot": {name: lesson[name] for name in ("date", "time", "amount", "duration")},
        "code": code,
        "error": code.sentence("en", **terms),
        "french": code.sentence("fr", **terms),
    }
    return failure | {"batch": terms["batch"]} if "batch" in terms else failure


def refused(
    lessons: Sequence[Lesson], codes: Iterable[SlotCode], own: Mapping[int, str] = MappingProxyType({})
) -> list[Failure]:
    """Return the failures of those lessons that the contract's `check` refuses.

    `own` has the student's own batches that have taken lessons, by the lessons' indexes.
    """
    failures: list[Failure] = []
    for lesson, code in zip(lessons, codes, strict=True):
        if code == SlotCode.TAKEN and lesson["index"] in own:
            failures.append(failure(lesson, Code.TAKEN, batch=own[lesson["index"]]))
        elif code in SLOT_CODES:
            failures.append(failure(lesson, SLOT_CODES[code]))
    return failures


def nothing_booked(failures: Sequence[Failure], code: str = "", said: str = "", **details: object) -> Problem:
    """Return the refusal that names its first reason, and carries every failure."""
    why = said or reason(failures[0])
    message = say(f"Nothing was booked. {why}", f"Rien n'est réservé. {why}")
    more = {"failures": answered(failures), **details}
    return Problem(Code(code or failures[0]["code"]), message=message, details=more)


def not_created(batch: Batch) -> Problem:
    """Return the refusal of a batch of which no lesson was booked."""
    return nothing_booked(batch.not_booked, batch.code or "", why_not(batch), batchId=batch.id)


def plan(
    slots: list[SlotData],
    zone: ZoneInfo,
    hourly_rate: int,
    now: datetime,
    during: Hours | None = None,
) -> tuple[list[Lesson], list[Failure]]:
    """Return the lessons that can be booked, and the failures of the others, before the chain is asked."""
    lessons: list[Lesson] = []
    failures: list[Failure] = []
    for index, slot in enumerate(slots, start=1):
        local = datetime.combine(slot.date, slot.time, zone)
        readings = [local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)]
        start = slot.starts_at if slot.starts_at in readings else readings[0]
        lesson: Lesson = {
            "index": index,
            "date": slot.date.isoformat(),
            "time": slot.time.isoformat("seconds" if slot.time.second else "minutes"),
            "amount": slot.amount,
            "duration": slot.duration,
            "start": to_unix(start),
        }
        if slot.duration % STEP_MINUTES or not STEP_MINUTES <= slot.duration <= MOST_MINUTES:
            failures.append(failure(lesson, Code.INVALID_DURATION))
        elif start.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
            failures.append(failure(lesson, Code.NONEXISTENT_TIME, zone=zone.key))
        elif slot.starts_at is not None and slot.starts_at != start:
            picked = slot.starts_at.astimezone(UTC)
            failures.append(
                failure(lesson, Code.TIME_ZONE_MISMATCH, picked=picked, read=start, zone=zone.key)
            )
        elif slot.starts_at is None and len({*readings}) > 1:
            failures.append(failure(lesson, Code.AMBIGUOUS_TIME, zone=zone.key))
        elif lesson["start"] % QUARTER_SECONDS:
            failures.append(failure(lesson, Code.MISALIGNED))
        elif lesson["start"] > LAST_START:
            failures.append(failure(lesson, Code.TOO_FAR))
        elif start < now + LEAD:
            failures.append(failure(lesson, Code.IN_PAST))
        elif during is not None and not covers(during, start, slot.duration):
            failures.append(failure(lesson, Code.OUTSIDE_SCHEDULE))
        elif not is_price(slot.amount, hourly_rate, slot.duration):
            price = lesson_amount(hourly_rate, slot.duration)
            failures.append(failure(lesson, Code.AMOUNT_MISMATCH, price=price, amount=slot.amount))
        else:
            lessons.append(lesson)
    return lessons, failures


def is_price(amount: Decimal, hourly_rate: int, minutes: int) -> bool:
    """Return True for the price: the exact one, or that rounded to two decimals (a half either way)."""
    try:
        wei = to_wei(amount)
    except ValueError:  # Decimal places that no price has.
        return False
    cents, rest = divmod(hourly_rate * minutes, 60 * _CENT)
    rounded = {cents + (2 * rest >= 60 * _CENT), cents + (2 * rest > 60 * _CENT)}
    return wei == lesson_amount(hourly_rate, minutes) or wei in {cent * _CENT for cent in rounded}
