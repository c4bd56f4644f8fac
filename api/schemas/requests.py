"""The requests, as the existing frontend sends them. Field names and examples are the API's documentation."""

import re
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict
from typing_extensions import TypeAliasType

from api.settings import TIME_ZONES
from creneau.amounts import from_wei, to_wei
from creneau.order import MAX_SLOTS
from creneau.types import to_address

ID_PATTERN = re.compile(r"[A-Za-z0-9._:@-]{1,64}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
YEARS = "(197[1-9]|19[89][0-9]|[2-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])"
_TIME = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?")
_REAL_TIME = "^([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$"
_TEXT: JsonDict = {"pattern": "^[^\0]*$"}  # Half characters are no JSON.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # What databases, or UTF-8, can't hold.
_MOST_SIGNATURE = (
    4096  # It is paid for, byte by byte. An account's has 65; a contract wallet's may be longer, or empty.
)
_SIGNATURE = re.compile(f"0x([0-9a-fA-F]{{2}}){{0,{_MOST_SIGNATURE}}}")
_MOST_DIGITS = 100
_AMOUNT = re.compile(r"[0-9]{1,59}(\.[0-9]{1,18})?")
_MOST_AMOUNT = Decimal(10) ** 59  # Of base units, 256 bits hold a little more.
_LEAST_EXPONENT = -400  # No number of JavaScript has a smaller one. No price has it, but it can be told so.
_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]+([Zz]|[+-][0-9:]+)")
_FIRST_DAY, _LAST_DAY = date(1971, 1, 1), date(9998, 12, 31)  # A day inside what every time zone can reckon.


def _date(value: object) -> date:
    try:
        if not isinstance(value, str) or not _DATE.fullmatch(value):
            raise ValueError
        day = date.fromisoformat(value)
    except ValueError:
        raise ValueError("a date looks like 2035-03-05, and exists") from None
    in_reach(value)
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


def text(value: str) -> str:
    """Return a text that databases, and UTF-8, can hold. Raises `ValueError` for any other."""
    if _NO_TEXT.search(value):
        raise ValueError("a text has no zero bytes and no half characters")
    return value


def _time_zone(value: str) -> str:
    if value not in TIME_ZONES:
        raise ValueError("not an IANA time zone, such as Europe/Paris")
    return value


def _signature(value: object) -> bytes:
    if not isinstance(value, str) or not _SIGNATURE.fullmatch(value):
        raise ValueError(f"a signature is hex, 0x and up to {_MOST_SIGNATURE} bytes")
    return bytes.fromhex(value[2:])


def _amount(value: object) -> Decimal:
    """Read an amount. Texts such as " 35 " or "3.5e1", which `Decimal` would read, are none.

    A number may have more decimal places than the token: it is the price of nothing, and refused as such.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise ValueError("not a number")
    if isinstance(value, str) and not _AMOUNT.fullmatch(value):
        raise ValueError("an amount in a text looks like 35 or 35.50")
    amount = Decimal(value)
    if amount < 0:
        raise ValueError("an amount is not negative")
    if amount > _MOST_AMOUNT or int(amount.as_tuple().exponent) < _LEAST_EXPONENT:
        raise ValueError("an amount has at most 59 digits before the point, and 400 after it")
    try:
        return from_wei(to_wei(amount))  # 35.0 is the same request as 35.
    except ValueError:
        return amount


def _integer(value: object) -> object:
    """Take 60.0 for 60, as JSON Schema does."""
    if isinstance(value, Decimal) and value.adjusted() < _MOST_DIGITS and value == value.to_integral_value():
        return int(value)
    return value


def _rfc_3339(value: object) -> object:
    """Refuse numbers, which Pydantic would take for seconds since 1970."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("a time looks like 2035-03-05T09:00:00Z")
    return value


def in_reach(value: str) -> str:
    """Return a day or a time that every time zone can reckon. Raises `ValueError` for any other."""
    if not re.match(YEARS, value):
        raise ValueError(f"a date is from {_FIRST_DAY} to {_LAST_DAY}")
    return value


Id = Annotated[
    str, AfterValidator(_id), WithJsonSchema({"type": "string", "pattern": f"^{ID_PATTERN.pattern}$"})
]
Amount = Annotated[
    Decimal,
    BeforeValidator(_amount),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 10**59},
                {"type": "string", "pattern": f"^{_AMOUNT.pattern}$"},
            ]
        }
    ),
]
_INTEGRAL = BeforeValidator(_integer)
Note = Annotated[str, Field(max_length=2_000, json_schema_extra=_TEXT), AfterValidator(text)]
Description = Annotated[str, Field(max_length=10_000, json_schema_extra=_TEXT), AfterValidator(text)]
_DATES = "(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_ANY_YEAR = "(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_HOURS = "([01][0-9]|2[0-3]):[0-5][0-9]"
DAY_SCHEMA = {"type": "string", "format": "date", "pattern": f"^{YEARS}-{_DATES}$"}
MOMENT_SCHEMA = {
    "type": "string",
    "format": "date-time",
    "pattern": f"^{_ANY_YEAR}-{_DATES}[Tt]{_HOURS}:[0-5][0-9](\\.[0-9]{{1,9}})?([Zz]|[+-]{_HOURS})$",
}
Day = Annotated[date, BeforeValidator(_date), WithJsonSchema(DAY_SCHEMA)]
Clock = Annotated[time, BeforeValidator(_time), WithJsonSchema({"type": "string", "pattern": _REAL_TIME})]
Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), WithJsonSchema(MOMENT_SCHEMA)]
TimeZone = TypeAliasType(
    "TimeZone",
    Annotated[
        str,
        AfterValidator(_time_zone),
        WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(map(re.escape, sorted(TIME_ZONES)))})$"}),
    ],
)
"""A name of IANA's that this service knows."""
Address = Annotated[
    str, BeforeValidator(to_address), WithJsonSchema({"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"})
]
Signature = Annotated[
    bytes,
    BeforeValidator(_signature),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIGNATURE.pattern}$"}),
]
Number = Annotated[Decimal, WithJsonSchema({"type": "number"})]
"""Exact, and written as a plain JSON number."""
STUDENT = "d755226e-bb7b-4bec-9af0-e578da8362dc"
TUTOR = "d085706f-9304-4011-a28a-08fd871afe4f"
TUTOR_PROFILE = "7c1f6a52-3e0d-4b8a-9a57-2f64c8d1b0e3"
ANNONCE = "3f2b9c1e-5a7d-4c88-9e21-6b1f0a4d7c55"


class Model(BaseModel):
    """A model whose fields have the frontend's names."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class _Time(Model):
    date: Day = Field(examples=["2035-03-05"])
    time: Clock = Field(examples=["09:00"])
    duration: Annotated[StrictInt, _INTEGRAL] = 60
    starts_at: Moment | None = Field(
        default=None,
        description="The instant that date and time mean to you. Where the service's time zone data read "
        "them as another one, the lesson is refused (`time_zone_mismatch`); of an hour that comes twice it "
        "says which is meant.",
        examples=["2035-03-05T08:00:00Z"],
    )


class SlotData(_Time):
    """A lesson: day and time in the request's time zone, price in EDU, length in minutes."""

    amount: Amount = Field(
        description="Hourly rate times duration, exact or rounded to cents; a number or a decimal string.",
        examples=[35],
    )


class _Terms(Model):
    tutor_id: Id = Field(description="Of the tutor's user, or of the tutor's profile.", examples=[TUTOR])
    annonce_id: Id = Field(examples=[ANNONCE])
    description: Description | None = None
    student_notes: Note | None = None
    time_zone: TimeZone | None = Field(
        default=None, description="IANA name; else the annonce's.", examples=["Europe/Paris"]
    )


_BOTH_GIVEN: JsonDict = {
    "required": ["allowPartial", "minLessons"],
    "properties": {"minLessons": {"type": "integer"}},
}


class CreateBatchBookingData(_Terms):
    """Several lessons with one tutor, booked in one transaction."""

    model_config = ConfigDict(json_schema_extra={"not": _BOTH_GIVEN})

    bookings: list[SlotData] = Field(min_length=1, max_length=MAX_SLOTS)
    allow_partial: StrictBool = Field(
        default=True, description="Book the lessons that can be booked, when others can't."
    )
    min_lessons: Annotated[StrictInt, Field(ge=1, le=MAX_SLOTS), _INTEGRAL] | None = Field(
        default=None,
        description="The same, if so many can be booked at least. Instead of `allowPartial`, not beside it.",
    )

    @property
    def gives_both(self) -> bool:
        """True if the request says in two ways how many lessons it needs."""
        return {"allow_partial", "min_lessons"} <= self.model_fields_set and self.min_lessons is not None

    @property
    def least(self) -> int:
        """The number of lessons that have to be booked, at least."""
        if self.min_lessons is not None:
            return self.min_lessons
        return 1 if self.allow_partial else len(self.bookings)


class CreateBookingData(_Terms, SlotData):
    """One lesson."""

    def as_batch(self) -> CreateBatchBookingData:
        """Return the request as a batch of one."""
        slot = SlotData.model_construct(**{name: getattr(self, name) for name in SlotData.model_fields})
        terms = {name: getattr(self, name) for name in _Terms.model_fields}
        return CreateBatchBookingData.model_construct(bookings=[slot], **terms)


class SubmitData(Model):
    """The signatures that a wallet gave to `eth_signTypedData_v4`."""

    signature: Signature = Field(
        description="Of the order: 65 bytes of an account, or what an ERC-1271 wallet takes."
    )
    permit_signature: Signature | None = Field(default=None, description="Of the permit, if there is one.")


class ChallengeData(Model):
    """The wallet to link."""

    address: Address = Field(examples=["0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"])


class LinkData(Model):
    """The message of a challenge, to the letter, and the wallet's signature by `personal_sign`."""

    message: str = Field(max_length=2000, description="As the challenge gave it.")
    signature: Signature


# --- Lessons once they are booked, and what can be booked ---


BookingStatus = Literal["PENDING", "CONFIRMED", "DISPUTED", "COMPLETED", "CANCELLED"]
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
BOOKING_ID = f"^(0x[0-9a-f]{{62}}[0-2][0-9a-f]|{_UUID})$"
"""The frontend's id of a booking, or the chain's."""


class _Strict(Model):
    """A model that takes no other fields: a misspelled `lessons` must not become all lessons."""

    model_config = ConfigDict(extra="forbid")


Deadline = Annotated[StrictInt, Field(ge=0, lt=2**40, examples=[2051262000]), _INTEGRAL]
"""The last second at which a signature counts, in unix time: the contract's `uint40`."""


_TOGETHER: JsonDict = {
    "if": {"required": ["signature"], "properties": {"signature": {"type": "string"}}},
    "then": {"required": ["deadline"], "properties": {"deadline": {"type": "integer"}}},
    "else": {"properties": {"deadline": {"type": "null"}}},
}


class _Signed(Model):
    model_config = ConfigDict(json_schema_extra=_TOGETHER)

    signature: Signature | None = Field(
        default=None, description="Of a wallet of one's own, for the typed data that `prepare` gave."
    )
    deadline: Deadline | None = Field(
        default=None, description="With the signature: the `deadline` of that typed data."
    )

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.signature is None) != (self.deadline is None):
            raise ValueError("a signature and its deadline go together")
        return self


class ActData(_Strict, _Signed):
    """The signature of an act. Custodial accounts need none."""


class LessonChoice(_Strict):
    """A choice of lessons of a batch."""

    lessons: list[Annotated[str, Field(pattern=BOOKING_ID)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_SLOTS,
        description="The bookings' ids. Without it: all lessons of the batch that it can be done to.",
    )


class BatchActData(ActData, LessonChoice):
    """An act on lessons of a batch: on all of them, or on none."""


class Share(_Strict):
    """The arbiter's split of a price."""

    tutor_share_bps: Annotated[StrictInt, Field(ge=0, le=10_000), _INTEGRAL] = Field(
        examples=[5000],
        description="The tutor's share in basis points; the student gets the rest.",
    )


class BatchShare(Share, LessonChoice):
    """The arbiter's split of the prices of lessons of a batch."""


class SignedShare(BatchActData, BatchShare):
    """A split of the prices of lessons of a batch, with the party's signature."""


class To(_Strict):
    """The address that gets a credit."""

    to: Address = Field(examples=["0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"])


class SignedTo(ActData, To):
    """The same, with the account's signature."""


class TimeData(_Strict, _Time):
    """A time of a tutor's own, in the request's time zone."""


class OwnTimeData(_Strict):
    """Times that a tutor takes out of the calendar."""

    slots: list[TimeData] = Field(
        min_length=1, max_length=MAX_SLOTS, description="All of them are taken, or none."
    )
    time_zone: TimeZone | None = Field(default=None, description="IANA name; else the tutor's.")


class SignedOwnTimeData(ActData, OwnTimeData):
    """The same, with the tutor's signature."""


def _statuses(value: object) -> object:
    """Take statuses in any case, with commas between them; `all` is no choice at all."""
    names = [name.strip().upper() for part in _listed(value) for name in str(part).split(",")]
    return [] if "ALL" in names else names


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]


Statuses = Annotated[
    list[BookingStatus],
    BeforeValidator(_statuses),
    Field(description="Those that stand so, in any case; several may be named. `all`, or none: all."),
]


CURSOR = "([0-9]{1,15})\\.(0x[0-9a-f]{64})"
"""The end of a page: unix seconds, and the booking's id on the chain."""
MOVEMENT_CURSOR = "([0-9]{1,15})\\.([0-9]{1,15})\\.([0-9A-Za-z:]{1,80})"
"""The end of a page of movements: unix seconds, the block's number, and the movement's id."""
Cursor = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{CURSOR}$"})]
MovementCursor = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{MOVEMENT_CURSOR}$"})]


class Selection(Model):
    """A choice of lessons, and the size of a page."""

    status: Statuses = Field(default=[])
    from_: Moment | None = Field(default=None, alias="from", description="That begin then or later,")
    to: Moment | None = Field(default=None, description="and before.")
    order: Literal["asc", "desc"] = Field(default="asc", description="By their beginning.")
    limit: int = Field(default=50, ge=1, le=100)
    cursor: Cursor | None = Field(default=None, description="The `nextCursor` of the page before.")


Seconds = Annotated[StrictInt, Field(ge=0, lt=2**32), _INTEGRAL]


class PublishData(_Signed):
    """The terms to publish of a listing: its own rate, or none at all."""

    hourly_rate: Amount | None = Field(
        default=None, description="Without it the annonce's; 0 withdraws it; nothing else is taken."
    )
    instant: StrictBool | None = Field(
        default=None, description="Lessons are confirmed as they are booked. Without it: as before."
    )
    min_notice: Seconds | None = Field(
        default=None,
        description="Lessons start at least so many seconds after their booking. Without it: as before.",
    )
    horizon: Seconds | None = Field(
        default=None,
        description="And at most so many seconds after it; 0: no limit. Without it: as before.",
    )
