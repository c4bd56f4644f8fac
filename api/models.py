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

from api import codes
from api.settings import TIME_ZONES
from creneau.fields import Address, Edu
from creneau.order import MAX_SLOTS

ID_PATTERN = re.compile(r"[A-Za-z0-9._:@-]{1,64}")

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?")
_REAL_TIME = "^([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$"
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # What databases, or UTF-8, can't hold.
_MOST_SIGNATURE = (
    4096  # It is paid for, byte by byte. An account's has 65; a contract wallet's may be longer.
)
_SIGNATURE = re.compile(f"0x([0-9a-fA-F]{{2}}){{1,{_MOST_SIGNATURE}}}")
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


def _signature(value: object) -> bytes:
    if not isinstance(value, str) or not _SIGNATURE.fullmatch(value):
        raise ValueError(f"a signature is hex, 0x and up to {_MOST_SIGNATURE} bytes")
    return bytes.fromhex(value[2:])


Id = Annotated[
    str, AfterValidator(_id), WithJsonSchema({"type": "string", "pattern": f"^{ID_PATTERN.pattern}$"})
]
Amount = Annotated[
    Edu,
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}]}),
]


Text = Annotated[str, AfterValidator(_text)]
Day = Annotated[date, BeforeValidator(_date)]
Clock = Annotated[time, BeforeValidator(_time), WithJsonSchema({"type": "string", "pattern": _REAL_TIME})]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
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
    """Its fields' names are the frontend's."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class SlotData(Model):
    """A lesson: day and time in the request's time zone, price in EDU, length in minutes."""

    date: Day = Field(examples=["2035-03-05"])
    time: Clock = Field(examples=["09:00"])
    amount: Amount = Field(
        description="Hourly rate times duration, exact or rounded to cents; a number or a decimal string.",
        examples=[35],
    )
    duration: StrictInt = 60


class _Terms(Model):
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


class SubmitData(Model):
    """What a wallet answered to `eth_signTypedData_v4`."""

    signature: Signature = Field(
        description="Of the order: 65 bytes of an account, or what an ERC-1271 wallet takes."
    )
    permit_signature: Signature | None = Field(default=None, description="Of the permit, if there is one.")


class ChallengeData(Model):
    """The wallet to link."""

    address: Address = Field(examples=["0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"])


class LinkData(Model):
    """The message of a challenge, to the letter, and what the wallet answered to `personal_sign`."""

    message: str = Field(max_length=2000, description="As the challenge gave it.")
    signature: Signature


class Challenge(Model):
    """A message to sign (EIP-4361), until when, and once."""

    message: str = Field(description="To be signed to the letter.")
    nonce: str
    expires_at: str


class ChallengeAnswer(Model):
    """What to sign."""

    success: Literal[True]
    message: str
    data: Challenge


class WalletData(Model):
    """The account that pays or is paid; custodial: it is kept for the user."""

    address: str
    custodial: bool


class WalletAnswer(Model):
    """The account in force."""

    success: Literal[True]
    message: str
    data: WalletData


class SlotEcho(Model):
    """A lesson as it was asked for."""

    date: str
    time: str
    amount: Number
    duration: int


class Failure(Model):
    """A lesson that was not booked. `index` counts from 1, in the order of the request."""

    index: int
    slot: SlotEcho
    code: str = Field(json_schema_extra={"enum": [*codes.LESSON]})
    error: str


BookingStatus = Literal["PENDING", "CONFIRMED", "DISPUTED", "COMPLETED", "CANCELLED"]


class Payment(Model):
    """What somebody got out of the escrow."""

    to: Literal["student", "tutor"]
    user_id: str
    amount: Number
    amount_wei: str


class Possible(Model):
    """Something that may be done with a lesson as it stands, from a first to a last second."""

    act: Literal["confirm", "cancel", "complete", "dispute", "resolve"]
    by: Literal["student", "tutor", "arbiter", "anyone"]
    from_: str | None = Field(alias="from", description="Null: at once.")
    until: str | None = Field(description="Null: as long as it stands so.")


class BookingData(Model):
    """One booked lesson."""

    id: str
    tutor_id: str = Field(description="Or his wallet's address, if this service does not know him.")
    student_id: str = Field(description="Likewise.")
    annonce_id: str | None = Field(description="Null for a listing that this service does not know.")
    date: str
    time: str
    starts_at: str
    duration: int
    status: BookingStatus
    amount: Number
    amount_wei: str
    transaction_hash: str | None
    blockchain_status: Literal["PENDING", "CONFIRMED", "FAILED", "CANCELLED"]
    blockchain_transaction_id: str = Field(description="The booking's id on the chain.")
    description: str | None
    student_notes: str | None = Field(description="For student and tutor only.")
    created_at: str
    updated_at: str
    cancellable_until: str | None = Field(
        description="The last second at which the student may cancel it: the end of 9999 while it is pending."
    )
    may: list[Possible]
    payments: list[Payment] = Field(description="What became of its price, once it left the escrow.")


class BatchData(Model):
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
    block_number: int | None
    gas_used: int | None
    finality: Literal["pending", "mined", "final"] = Field(
        description="mined: in a block; final: in one that can't be undone any more."
    )


class BatchAnswer(Model):
    """`success`: at least one lesson is booked, or (202) is on its way."""

    success: bool
    message: str
    data: BatchData


class TypedData(Model):
    """EIP-712, as `eth_signTypedData_v4` takes it. Numbers that JavaScript would round are text."""

    types: dict[str, Any]
    primary_type: Literal["Order", "Permit"]
    domain: dict[str, Any]
    message: dict[str, Any]


class PreparedData(Model):
    """What to sign, until when, and what it will cost."""

    batch_id: str
    expires_at: str
    total_amount: Number
    total_amount_wei: str
    count: int
    failed_count: int
    failures: list[Failure] | None = Field(description="Lessons that the order leaves out.")
    order: TypedData
    permit: TypedData | None = Field(description="EIP-2612, if the contract may not take the total yet.")


class PreparedAnswer(Model):
    """Nothing is booked before it is signed and submitted."""

    success: Literal[True]
    message: str
    data: PreparedData


class FieldError(Model):
    """A field that can't be read; `slot` is its lesson's number from 1, if it belongs to one."""

    field: str
    slot: int | None
    message: str


class ProblemAnswer(Model):
    """RFC 9457, with the `message` that people read."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(json_schema_extra={"enum": [*codes.every()]})
    success: Literal[False] = Field(description="Nothing was booked.")
    message: str
    errors: list[FieldError] | None = None
    failures: list[Failure] | None = None
    batch_id: str | None = None


class Alive(Model):
    """The process answers."""

    status: Literal["ok"]


class Check(BaseModel):
    """One thing that has to be right, in words; some have figures of their own beside them."""

    model_config = ConfigDict(extra="allow")

    ok: bool
    message: str = Field(examples=["The database can be written."])


class Readiness(Model):
    """`ok`, or `unavailable` and why. `pending` is an alarm only, and makes nothing unavailable."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, Check]


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
