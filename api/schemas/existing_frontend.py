"""The requests and the answers of the existing frontend: its fields, beside the service's own."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from api.language import say
from api.schemas.lesson_responses import Stats
from api.schemas.requests import ActData, BookingStatus, Model, Number, Selection, Text
from api.schemas.responses import Answer, BookingData

MOST_CHARACTERS = 2000


def _statuses(value: object) -> object:
    """Take statuses in any case, with commas between them; `all` is no choice at all."""
    if not isinstance(value, list | str):
        return value
    parts = value if isinstance(value, list) else [value]
    names = [name.strip().upper() for part in parts for name in str(part).split(",")]
    return [] if "ALL" in names else [name for name in names if name]


class AnyCaseSelection(Selection):
    """Which lessons, and how many at once; without `limit` and `cursor` all of them, those to come first."""

    status: Annotated[list[BookingStatus], BeforeValidator(_statuses)] = Field(
        default=[], description="Those that stand so, in any case; `all`, or none: all."
    )
    limit: int | None = Field(default=None, ge=1, le=100)  # type: ignore[assignment]

    @property
    def is_whole(self) -> bool:
        """True if no page of the list is asked for."""
        return self.limit is None and self.cursor is None and not (self.from_ or self.to)


class StatusSelection(Model):
    """Which lessons."""

    status: Annotated[list[BookingStatus], BeforeValidator(_statuses)] = Field(
        default=[], description="Those that stand so, in any case; `all`, or none: all."
    )


Note = Annotated[Text, Field(max_length=MOST_CHARACTERS)]


class ConfirmData(ActData):
    """A confirmation, and what the tutor wants the student to know."""

    tutor_notes: Note | None = Field(default=None, description="Kept, and shown to both; empty: no note.")


class CancelData(ActData):
    """A cancellation, and why."""

    reason: Note | None = Field(default=None, description="Kept, and shown to both.")


def _day_or_moment(value: object) -> object:
    """Read a day, or a time of RFC 3339; a day is its beginning, in the service's time zone."""
    if not isinstance(value, str):
        raise ValueError("a day looks like 2035-03-05")
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("a day looks like 2035-03-05") from None


_DAY = {"type": "string", "examples": ["2035-03-05"]}
_MIDNIGHT_LENGTH = len("2035-03-05")


def _end(value: object) -> object:
    """Read the last day, whole, or a time."""
    moment = _day_or_moment(value)
    whole = isinstance(value, str) and len(value) == _MIDNIGHT_LENGTH
    return moment + timedelta(days=1) if whole and isinstance(moment, datetime) else moment


class HistorySelection(Model):
    """Which movements of an account, and how many at once."""

    user_id: str = Field(description="The caller's own id, or for an operator anybody's.")
    page: int = Field(default=1, ge=1, le=1_000_000, description="Which page, from 1.")
    limit: int = Field(default=20, ge=1, le=100)
    start_date: Annotated[datetime | None, BeforeValidator(_day_or_moment), WithJsonSchema(_DAY)] = Field(
        default=None, description="The first day, in the service's time zone, or a time of RFC 3339."
    )
    end_date: Annotated[datetime | None, BeforeValidator(_end), WithJsonSchema(_DAY)] = Field(
        default=None, description="The last day, whole, or a time before which they were."
    )
    transaction_type: Annotated[str | None, AfterValidator(str.upper)] = Field(
        default=None, max_length=20, description="BOOKING, REFUND, DEPOSIT, TRANSFER, incoming or outgoing."
    )


# --- Answers ---


class Person(Model):
    """A name, for people who share a lesson; empty for others."""

    first_name: str
    last_name: str
    email: str


class UserPerson(Person):
    """A name with its user's id."""

    id: str


class ListingFacts(Model):
    """What a listing is about."""

    id: str
    title: str
    subject: str
    description: str
    level: str
    teaching_mode: str


class ExistingLesson(BookingData):
    """A lesson, as one of its people sees it."""

    blockchain_id: str = Field(description="The booking's id on the chain.")
    annonce_title: str
    annonce: ListingFacts
    student: Person
    tutor: Person
    my_role: Literal["student", "tutor"] | None = Field(description="The reader's; null for an operator.")
    start_time: int = Field(description="Unix seconds.")
    is_skill_exchange: Literal[False]
    student_confirmed: bool = Field(description="The lesson was held, by the student's word or silence.")
    tutor_confirmed: bool = Field(description="The tutor agreed to the lesson.")
    tutor_notes: str | None
    cancelled_by: Literal["student", "tutor"] | None
    cancellation_reason: str | None


class ExistingCourse(ExistingLesson):
    """A confirmed or completed lesson."""

    course_passed: bool = Field(description="It has begun.")


class ExistingDetails(ExistingLesson):
    """A lesson, and what its reader may do with it now."""

    can_confirm_outcome: bool
    can_cancel: bool
    outcome: Literal["NOT_DECIDED", "COURSE_HELD", "COURSE_NOT_HELD"]


class DetailsAnswer(Answer):
    """One lesson."""

    data: ExistingDetails


class LessonsAnswer(Answer):
    """A list of lessons; `nextCursor` is null unless a page of it was asked for."""

    data: list[ExistingLesson]
    next_cursor: str | None


class CoursesAnswer(Answer):
    """A student's courses."""

    data: list[ExistingCourse]


class BothSides(Model):
    """A person's lessons, on both sides."""

    as_student: list[ExistingLesson]
    as_tutor: list[ExistingLesson]
    total: int


class BothSidesAnswer(Answer):
    """A person's lessons, on both sides."""

    data: BothSides


class ExistingStats(Stats):
    """How many lessons stand where, and their prices."""

    total: int
    pending: int
    confirmed: int
    cancelled: int
    completed: int
    total_amount: Number
    pending_amount: Number


class ExistingStatsAnswer(Answer):
    """Counts and sums."""

    data: ExistingStats


class AccountUser(UserPerson):
    """Whose account it is."""

    role: str


class WalletMoney(Model):
    """An account's money in EDU: `locked` is what the escrow holds for a tutor."""

    available: Number = Field(description="In EDU: what the account has.")
    available_wei: str
    locked: Number
    locked_wei: str
    total: Number
    total_wei: str
    wallet_address: str
    kyc_status: Literal["none"]


class Balance(Model):
    """Whose account, and its money."""

    user: AccountUser
    wallet: WalletMoney


class BalanceAnswer(Answer):
    """An account's money."""

    data: Balance


class HistoryWallet(Model):
    """One end of a movement; of the escrow, `user` is the other party of the lesson."""

    id: str
    user_id: str | None
    wallet_address: str
    user: UserPerson | None


class LedgerBlock(Model):
    """The block of a movement."""

    id: str
    hash: str
    timestamp: str


class Transaction(Model):
    """A movement of money; pending: still in the escrow."""

    id: str
    from_wallet_id: str
    to_wallet_id: str
    amount: Number
    amount_wei: str
    fee: Number
    transaction_type: Literal["BOOKING", "REFUND", "DEPOSIT", "TRANSFER"]
    status: Literal["completed", "pending"]
    description: str
    metadata: dict[str, Any]
    created_at: str
    from_wallet: HistoryWallet
    to_wallet: HistoryWallet
    ledger_block: LedgerBlock


class History(Model):
    """A page of an account's movements, the newest first."""

    transactions: list[Transaction]
    total: int
    page: int
    total_pages: int


class HistoryAnswer(Answer):
    """A page of an account's movements."""

    data: History


class Sums(Model):
    """Sums of all that came and went, in EDU."""

    sent: Number = Field(description="In EDU: what went.")
    received: Number


class AllTime(Sums):
    """The same of all time."""

    transactions: int
    fees: Number


class WalletSums(Model):
    """An account's money in EDU."""

    available: Number = Field(description="In EDU: what the account has.")
    locked: Number
    total: Number
    address: str
    kyc_status: Literal["none"]


class AccountStats(Model):
    """An account's money, and what came and went."""

    wallet: WalletSums
    today: Sums
    monthly: Sums
    all_time: AllTime


class AccountStatsAnswer(Answer):
    """An account's money, and what came and went."""

    data: AccountStats


def lessons_in_words(count: int) -> str:
    """Return so many lessons, in a sentence."""
    return say(f"{count} lesson{'' if count == 1 else 's'}.", f"{count} cours.")


def answer(message: str, data: Any) -> dict[str, Any]:
    """Return an answer that is no refusal."""
    return {"success": True, "message": message, "data": data}


def page_of(items: Sequence[Any], page: int, limit: int) -> tuple[Sequence[Any], int]:
    """Return one page of these items, and how many pages there are: one at least."""
    return items[(page - 1) * limit : page * limit], max(-(-len(items) // limit), 1)
