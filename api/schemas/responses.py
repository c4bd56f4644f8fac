"""What is answered, as the existing frontend knows it. Names and examples are its documentation."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.errors import LESSON_CODES, Code
from api.schemas.requests import ANNONCE, TUTOR, BookingStatus, Model, Number


class Answer(Model):
    """What every answer that is no refusal begins with."""

    success: Literal[True]
    message: str


class Challenge(Model):
    """A message to sign (EIP-4361), until when, and once."""

    message: str = Field(description="To be signed to the letter.")
    nonce: str
    expires_at: str


class ChallengeAnswer(Answer):
    """What to sign."""

    data: Challenge


class WalletData(Model):
    """The account that pays or is paid; custodial: it is kept for the user."""

    address: str
    custodial: bool


class WalletAnswer(Answer):
    """The account in force."""

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
    code: str = Field(json_schema_extra={"enum": [code.value for code in LESSON_CODES]})
    error: str


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


class PreparedAnswer(Answer):
    """Nothing is booked before it is signed and submitted."""

    data: PreparedData


class FieldError(Model):
    """A field that can't be read; `slot` is its lesson's number from 1, if it belongs to one."""

    field: str
    slot: int | None
    message: str


class Problem(Model):
    """RFC 9457, with the `message` that people read."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(json_schema_extra={"enum": [code.value for code in sorted(Code)]})
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
    return {status: {"description": "Refused", "model": Problem} for status in statuses}


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
