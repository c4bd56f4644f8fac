"""What is sent and answered, as the existing frontend knows it. Names and examples are its documentation."""

import re
from datetime import date, time
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from api.settings import TIME_ZONES
from creneau.fields import Edu
from creneau.order import MAX_SLOTS

ID_PATTERN = re.compile(r"[A-Za-z0-9._:@-]{1,64}")

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # What databases, or UTF-8, can't hold.
_FIRST_DAY, _LAST_DAY = date(1971, 1, 1), date(9998, 12, 31)  # A day inside what every time zone can reckon.


def _date(value: object) -> date:
    try:
        if not isinstance(value, str) or not _DATE.fullmatch(value):
            raise ValueError
        day = date.fromisoformat(value)
    except ValueError:
        raise ValueError("a date looks like 2035-03-05, and exists") from None
    if not _FIRST_DAY <= day <= _LAST_DAY:
        raise ValueError(f"a date is from {_FIRST_DAY} to {_LAST_DAY}")
    return day


def _time(value: object) -> time:
    try:
        if not isinstance(value, str) or not _TIME.fullmatch(value):
            raise ValueError
        return time.fromisoformat(value.zfill(8 if value.count(":") == 2 else 5))
    except ValueError:
        raise ValueError("a time looks like 09:30") from None


def _id(value: str) -> str:
    if not ID_PATTERN.fullmatch(value):
        raise ValueError("not an id")
    return value


def _text(value: str) -> str:
    if _NO_TEXT.search(value):
        raise ValueError("a text has no zero bytes and no half characters")
    return value


def _time_zone(value: str) -> str:
    if value not in TIME_ZONES:
        raise ValueError("not an IANA time zone, such as Europe/Paris")
    return value


Id = Annotated[str, AfterValidator(_id)]
Text = Annotated[str, AfterValidator(_text)]
Day = Annotated[date, BeforeValidator(_date)]
Clock = Annotated[
    time, BeforeValidator(_time), WithJsonSchema({"type": "string", "pattern": f"^{_TIME.pattern}$"})
]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Number = Annotated[Decimal, WithJsonSchema({"type": "number"})]
"""Exact, and written as a plain JSON number."""

STUDENT = "d755226e-bb7b-4bec-9af0-e578da8362dc"
TUTOR = "d085706f-9304-4011-a28a-08fd871afe4f"
TUTOR_PROFILE = "7c1f6a52-3e0d-4b8a-9a57-2f64c8d1b0e3"
ANNONCE = "3f2b9c1e-5a7d-4c88-9e21-6b1f0a4d7c55"


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class SlotData(_Model):
    """A lesson: day and time in the request's time zone, price in EDU, length in minutes."""

    date: Day = Field(examples=["2035-03-05"])
    time: Clock = Field(examples=["09:00"])
    amount: Edu = Field(
        description="Hourly rate times duration, exact or rounded to cents; a number or a decimal string.",
        examples=[35],
    )
    duration: StrictInt = 60


class _Terms(_Model):
    tutor_id: Id = Field(description="Of the tutor's user, or of his profile.", examples=[TUTOR])
    annonce_id: Id = Field(examples=[ANNONCE])
    description: Text | None = None
    student_notes: Text | None = None
    time_zone: TimeZone | None = Field(
        default=None, description="IANA name; else the annonce's.", examples=["Europe/Paris"]
    )


class CreateBatchBookingData(_Terms):
    """Several lessons with one tutor, booked in one transaction."""

    bookings: list[SlotData] = Field(min_length=1, max_length=MAX_SLOTS)
    allow_partial: StrictBool = Field(
        default=True, description="Book the lessons that can be booked, when others can't."
    )


class CreateBookingData(_Terms, SlotData):
    """One lesson."""

    def as_batch(self) -> CreateBatchBookingData:
        """The same as a batch of one."""
        slot = SlotData.model_construct(
            date=self.date, time=self.time, amount=self.amount, duration=self.duration
        )
        terms = {name: getattr(self, name) for name in _Terms.model_fields}
        return CreateBatchBookingData.model_construct(bookings=[slot], **terms)


class SlotEcho(_Model):
    """A lesson as it was asked for."""

    date: str
    time: str
    amount: Number
    duration: int


class Failure(_Model):
    """A lesson that was not booked. `index` counts from 1, in the order of the request."""

    index: int
    slot: SlotEcho
    code: Literal[
        "in_past",
        "misaligned",
        "invalid_duration",
        "overlap",
        "taken",
        "amount_mismatch",
        "nonexistent_time",
        "ambiguous_time",
    ]
    error: str


class BookingData(_Model):
    """One booked lesson."""

    id: str
    tutor_id: str
    student_id: str
    annonce_id: str
    date: str
    time: str
    starts_at: str
    duration: int
    status: Literal["PENDING", "CONFIRMED", "DISPUTED", "COMPLETED", "CANCELLED"]
    amount: Number
    amount_wei: str
    transaction_hash: str | None
    blockchain_status: Literal["PENDING", "CONFIRMED", "FAILED", "CANCELLED"]
    blockchain_transaction_id: str = Field(description="The booking's id on the chain.")
    description: str | None
    student_notes: str | None
    created_at: str
    updated_at: str


class BatchData(_Model):
    """What became of a batch."""

    batch_id: str
    state: Literal["accepted", "signed", "submitted", "mined", "final", "rejected", "failed", "expired"]
    bookings: list[BookingData]
    total_amount: Number
    total_amount_wei: str
    count: int
    failed_count: int
    failures: list[Failure] | None
    transaction_hash: str | None
    gas_used: int | None
    finality: Literal["pending", "mined", "final"] = Field(
        description="mined: in a block; final: in one that can't be undone any more."
    )


class BatchAnswer(_Model):
    """`success`: at least one lesson is booked, or (202) is on its way."""

    success: bool
    message: str
    data: BatchData


class FieldError(_Model):
    """A field that can't be read; `slot` is its lesson's number from 1, if it belongs to one."""

    field: str
    slot: int | None
    message: str


class ProblemAnswer(_Model):
    """RFC 9457, with the `message` that people read."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    success: Literal[False]
    message: str
    errors: list[FieldError] | None = None
    failures: list[Failure] | None = None
    batch_id: str | None = None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of a route's refusals."""
    return {status: {"description": "Refused", "model": ProblemAnswer} for status in statuses}


def _slot(day: str, clock: str, amount: object, duration: int) -> dict[str, object]:
    return {"date": day, "time": clock, "amount": amount, "duration": duration}


_PARTIES = {"tutorId": TUTOR, "annonceId": ANNONCE}
BATCH_EXAMPLES: dict[str, Any] = {
    "twoLessons": {
        "summary": "Two consecutive lessons, as the booking page sends them",
        "value": {
            **_PARTIES,
            "bookings": [_slot("2035-03-05", "09:00", 35, 60), _slot("2035-03-05", "10:00", 35, 60)],
            "studentNotes": "Réseaux de neurones, chapitre 3",
        },
    },
    "allOrNothing": {
        "summary": "All or nothing, in another time zone, amounts as text",
        "value": {
            **_PARTIES,
            "bookings": [_slot("2035-03-06", "14:30", "52.5", 90), _slot("2035-03-07", "14:30", "17.50", 30)],
            "timeZone": "America/Montreal",
            "allowPartial": False,
        },
    },
}
BOOKING_EXAMPLES: dict[str, Any] = {
    "oneLesson": {"summary": "One lesson", "value": _PARTIES | _slot("2035-03-08", "18:00", 70, 120)}
}
