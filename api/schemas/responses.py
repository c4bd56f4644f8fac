"""The responses, as the existing frontend reads them; field names and examples document the API."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from api.booking.models import Batch, BookedLesson, SigningRequest, answered, reason, why_not
from api.errors import LESSON_CODES, Code
from api.language import say
from api.outbox.models import State
from api.schemas.requests import BookingStatus, Model, Number
from api.words import lessons, rfc3339, utc
from creneau.amounts import format_amount, from_wei
from creneau.lifecycle import FOREVER, Action, Periods, Role, Status, Window, windows
from creneau.types import to_unix


def is_none(value: object) -> bool:
    """Return True for a field that is left out when it has no value."""
    return value is None


class Response(Model):
    """A part of a response, built by the names of its fields and dumped by their aliases."""

    model_config = ConfigDict(populate_by_name=True)


class Answer(Response):
    """The beginning of every response that is no refusal."""

    success: Literal[True]
    message: str


class Challenge(Response):
    """A message to sign (EIP-4361), until when, and once."""

    message: str = Field(description="To be signed to the letter.")
    nonce: str
    expires_at: str


class ChallengeAnswer(Answer):
    """A message to sign."""

    data: Challenge

    @classmethod
    def from_message(cls, message: str, nonce: str, expires_at: int) -> Self:
        """Build the response with a message to sign, which expires at microseconds of unix time."""
        data = Challenge(message=message, nonce=nonce, expires_at=rfc3339(expires_at))
        return cls(
            success=True,
            message=say("Sign this message with the wallet.", "Signez ce message avec le portefeuille."),
            data=data,
        )


class WalletData(Response):
    """The account that pays or is paid; custodial: it is kept for the user."""

    address: str
    custodial: bool


class WalletAnswer(Answer):
    """The account in force."""

    data: WalletData

    @classmethod
    def from_account(cls, address: str, *, custodial: bool) -> Self:
        """Build the response about the account in force."""
        kept = say("This account is kept for you.", "Ce compte est tenu pour vous.")
        message = kept if custodial else say("This wallet is your own.", "Ce portefeuille est le vôtre.")
        return cls(success=True, message=message, data=WalletData(address=address, custodial=custodial))


class SlotEcho(Response):
    """A lesson as it was asked for."""

    date: str
    time: str
    amount: Number
    duration: int


class Failure(Response):
    """A lesson that was not booked. `index` counts from 1, in the order of the request."""

    index: int
    slot: SlotEcho
    code: str = Field(json_schema_extra={"enum": [code.value for code in LESSON_CODES]})
    error: str
    batch_id: str | None = Field(
        default=None, exclude_if=is_none, description="The student's own batch that has taken it."
    )


class Payment(Response):
    """A sum that student or tutor got out of the escrow."""

    to: Literal["student", "tutor"]
    user_id: str
    amount: Number
    amount_wei: str

    @classmethod
    def of_lessons(cls, booked: Sequence[BookedLesson]) -> list[Self]:
        """Build the sums that student and tutor got of lessons of one batch."""
        batch, states = booked[0].batch, [each.batch.lesson_state(each.place) for each in booked]
        parts: tuple[tuple[Literal["student", "tutor"], str, int], ...] = (
            ("student", batch.student_id, sum(state.to_student for state in states)),
            ("tutor", batch.tutor_id, sum(state.to_tutor for state in states)),
        )
        return [
            cls(to=to, user_id=user_id, amount=from_wei(wei), amount_wei=str(wei))
            for to, user_id, wei in parts
            if wei
        ]


class Possible(Response):
    """An act that a lesson allows as it stands, from a first to a last second."""

    act: Literal["confirm", "cancel", "complete", "dispute", "resolve", "settle"]
    by: Literal["student", "tutor", "arbiter", "anyone"]
    from_: str | None = Field(alias="from", description="Null: at once.")
    until: str | None = Field(description="Null: as long as it stands so.")

    @classmethod
    def from_window(cls, window: Window) -> Self:
        """Build the act from the contract's rule."""
        return cls.model_validate(
            {
                "act": window.action,
                "by": window.by,
                "from_": None if not to_unix(window.since) else utc(window.since),
                "until": None if window.until == FOREVER else utc(window.until),
            }
        )


class BookingData(Response):
    """One booked lesson."""

    id: str
    tutor_id: str = Field(description="Or the tutor's wallet, if this service does not know the tutor.")
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
        description="The last second at which the student may cancel it. Null: as long as it is PENDING; "
        "of a lesson of another status, not at all."
    )
    may: list[Possible]
    payments: list[Payment] = Field(description="What became of its price, once it left the escrow.")

    @classmethod
    def from_lesson(cls, lesson: BookedLesson, periods: Periods) -> Self:
        """Build one lesson of a batch."""
        batch, place = lesson
        slot, asked = batch.slot(place), batch.lessons[place]
        state, booked, wei = batch.lesson_state(place), batch.booked is not None, batch.amount(place)
        chain_status = "CONFIRMED" if booked else "PENDING"
        may = windows(state.status, slot, periods)
        cancellable = next((w.until for w in may if w[:2] == (Action.CANCEL, Role.STUDENT)), None)
        return cls.model_validate(
            {
                "id": batch.booking_id(place),
                "tutor_id": batch.tutor_id,
                "student_id": batch.student_id,
                "annonce_id": batch.annonce_id,
                "date": asked["date"],
                "time": asked["time"],
                "starts_at": utc(slot.start),
                "duration": asked["duration"],
                "status": state.status.name,
                "amount": from_wei(wei),
                "amount_wei": str(wei),
                "transaction_hash": batch.transaction_hash,
                "blockchain_status": "CANCELLED" if state.status == Status.CANCELLED else chain_status,
                "blockchain_transaction_id": batch.chain_id(place),
                "description": batch.description,
                "student_notes": batch.student_notes,
                "created_at": rfc3339(batch.created_at),
                "updated_at": rfc3339(max(batch.created_at, batch.updated_at, state.updated_at * 1_000_000)),
                "cancellable_until": None if cancellable in {None, FOREVER} else utc(cancellable),
                "may": [Possible.from_window(window) for window in may if booked],
                "payments": Payment.of_lessons([lesson]),
            }
        )


class BatchData(Response):
    """The outcome of a batch."""

    batch_id: str
    state: Literal["accepted", "signed", "submitted", "reverting", "mined", "final", "rejected", "expired"]
    bookings: list[BookingData] = Field(
        description="The lessons that are booked or on their way. Long words are at the first one only."
    )
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


class BatchAnswer(Response):
    """`success`: at least one lesson is booked, or (202) is on its way."""

    success: bool
    message: str
    data: BatchData

    @classmethod
    def from_batch(cls, batch: Batch, periods: Periods) -> Self:
        """Build the response about a batch."""
        places, failed = batch.places, batch.not_booked
        data = BatchData.model_validate(
            {
                "batch_id": batch.id,
                "state": batch.state,
                "bookings": [
                    BookingData.from_lesson(BookedLesson(batch, place), periods) for place in places
                ],
                "total_amount": from_wei(batch.total),
                "total_amount_wei": str(batch.total),
                "count": len(places),
                "failed_count": len(failed),
                "failures": answered(failed) or None,
                "transaction_hash": batch.transaction_hash,
                "block_number": batch.block_number,
                "gas_used": batch.gas_used,
                "finality": batch.state if batch.state in {State.MINED, State.FINAL} else "pending",
            }
        )
        return cls(success=bool(places), message=_message(batch), data=data)


_ON_THE_WAY = {
    "en": (
        "the transaction is not in a block yet",
        "the transaction did nothing in its block, which is not final yet",
    ),
    "fr": (
        "la transaction n'est pas encore dans un bloc",
        "la transaction n'a rien fait dans son bloc, qui n'est pas encore définitif",
    ),
}


def _message(batch: Batch) -> str:
    count, failed = len(batch.places), batch.not_booked
    if not count:
        return say("Nothing was booked. ", "Rien n'est réservé. ") + why_not(batch)
    price, number, nombre = format_amount(batch.total), lessons(count), lessons(count, "fr")
    if failed:
        of = count + len(failed)
        number, nombre = f"{count} of {lessons(of)}", f"{count} sur {of} cours"
    if batch.booked is None:
        message = say(
            f"{number} for {price} EDU on the way; {_ON_THE_WAY['en'][batch.state is State.REVERTING]}.",
            f"{nombre} pour {price} EDU en route ; {_ON_THE_WAY['fr'][batch.state is State.REVERTING]}.",
        )
    else:
        message = say(
            f"{number} booked for {price} EDU in one transaction.",
            f"{nombre} pour {price} EDU en une seule transaction.",
        )
    return f"{message} {reason(failed[0])}" if failed else message


class TypedData(Response):
    """EIP-712, as `eth_signTypedData_v4` takes it. Numbers that JavaScript would round are text."""

    types: dict[str, Any]
    primary_type: Literal["Order", "Permit"]
    domain: dict[str, Any]
    message: dict[str, Any]


class PreparedData(Response):
    """The typed data to sign, the last time to do so, and the price."""

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
    """A batch that waits for its signature."""

    data: PreparedData

    @classmethod
    def from_request(cls, request: SigningRequest) -> Self:
        """Build the response about a prepared batch."""
        batch = request.prepared.batch
        data = PreparedData.model_validate(
            {
                "batch_id": batch.id,
                "expires_at": rfc3339(request.prepared.expires_at),
                "total_amount": from_wei(batch.total),
                "total_amount_wei": str(batch.total),
                "count": len(batch.lessons),
                "failed_count": len(batch.failures),
                "failures": answered(batch.failures) or None,
                "order": request.order,
                "permit": request.permit,
            }
        )
        price = format_amount(batch.total)
        message = say(
            f"Sign to book for {price} EDU. Nothing is booked yet.",
            f"Signez pour réserver à {price} EDU. Rien n'est encore réservé.",
        )
        return cls(success=True, message=message, data=data)


class FieldError(Response):
    """A field that can't be read; `slot` is its lesson's number from 1, if it belongs to one."""

    field: str
    slot: int | None
    message: str


class Problem(Response):
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


class Alive(Response):
    """The process answers."""

    status: Literal["ok"]


class Check(BaseModel):
    """One thing that has to be right. Who may read the metrics sees words, and for some figures."""

    model_config = ConfigDict(extra="allow")

    ok: bool
    message: str | None = Field(default=None, exclude_if=is_none, examples=["The database can be written."])


class Readiness(Response):
    """`ok`, or `unavailable`, a second ago. `pending` is an alarm only, and makes nothing unavailable."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, Check]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of a route's refusals."""
    return {status: {"description": "Refused", "model": Problem} for status in statuses}
