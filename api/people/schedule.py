"""Schedules: the days and times at which a tutor gives lessons, as the profile has them, on local clocks."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, model_validator
from pydantic.alias_generators import to_camel

from api.schemas.requests import Clock, Day

Hours = list[tuple[datetime, datetime]]

_MIDNIGHT = time()


def _day(value: Any) -> Any:
    """Return a day from a service that keeps it as a moment: midnight in UTC."""
    return value[:10] if isinstance(value, str) and value[10:] in {"T00:00:00Z", "T00:00:00.000Z"} else value


def _clock(value: Any) -> Any:
    return "00:00" if value == "24:00" else value  # The end of the day is the next one's beginning.


class TimeSlot(BaseModel):
    """A span from one time until another, which is the next day's if it is not later; or all day."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)

    start_time: Clock | None = None
    end_time: Annotated[Clock | None, BeforeValidator(_clock)] = None
    all_day: bool = False

    @model_validator(mode="after")
    def _has_times(self) -> "TimeSlot":
        if not self.all_day and (self.start_time is None or self.end_time is None):
            raise ValueError("a time slot has a start and an end, or is all day")
        return self


class ScheduleDay(BaseModel):
    """The times of one day."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)

    date: Annotated[Day, BeforeValidator(_day)]
    time_slots: list[TimeSlot]


Schedule = tuple[ScheduleDay, ...]
SCHEDULE: TypeAdapter[Schedule] = TypeAdapter(Schedule)


def hours(schedule: Schedule, zone: ZoneInfo) -> Hours:
    """Return the schedule's spans in UTC, in order; those that touch become one."""
    joined: Hours = []
    for span in sorted(_span(day.date, slot, zone) for day in schedule for slot in day.time_slots):
        if joined and span[0] <= joined[-1][1]:
            begins, ends = joined.pop()
            joined.append((begins, max(ends, span[1])))
        else:
            joined.append(span)
    return joined


def covers(during: Sequence[tuple[datetime, datetime]], start: datetime, minutes: int) -> bool:
    """Return True if a lesson is within one of these spans."""
    end = start + timedelta(minutes=minutes)
    return any(begins <= start and end <= ends for begins, ends in during)


def _span(day: date, slot: TimeSlot, zone: ZoneInfo) -> tuple[datetime, datetime]:
    start, end = slot.start_time or _MIDNIGHT, slot.end_time or _MIDNIGHT
    if slot.all_day:
        start = end = _MIDNIGHT
    last = day + timedelta(days=end <= start)
    # Of an hour that comes twice, all of it.
    return (
        datetime.combine(day, start, zone).astimezone(UTC),
        datetime.combine(last, end, zone).replace(fold=1).astimezone(UTC),
    )
