"""The requests and answers of the existing frontend: its fields, beside the service's own."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from api.schemas.lesson_responses import Stats
from api.schemas.requests import (
    DAY_SCHEMA,
    MOMENT_SCHEMA,
    YEARS,
    ActData,
    Id,
    Model,
    MovementCursor,
    Note,
    Number,
    Statuses,
    in_reach,
)
from api.schemas.responses import Answer, BookingData, Response


class StatusSelection(Model):
    """A choice of lessons."""

    status: Statuses = Field(default=[])


class ConfirmData(ActData):
    """A confirmation, and what the tutor wants the student to know."""

    tutor_notes: Note | None = Field(default=None, description="Kept, and shown to both; empty: no note.")


class CancelData(ActData):
    """A cancellation, and its reason."""

    reason: Note | None = Field(default=None, description="Kept, and shown to both; empty: no reason.")


def _day_or_moment(value: object) -> datetime:
    """Read a day, or a time of RFC 3339; a day is its beginning, in the service's time zone."""
    try:
        return datetime.fromisoformat(in_reach(value).upper() if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("a day looks like 2035-03-05") from None


def _end(value: object) -> datetime:
    """Read the last day, whole, or a time."""
    return _day_or_moment(value) + timedelta(days=len(str(value)) == len("2035-03-05"))


_DAY = WithJsonSchema(
    {"anyOf": [DAY_SCHEMA, MOMENT_SCHEMA | {"pattern": f"^{YEARS}-.*[Tt].*$"}], "examples": ["2035-03-05"]}
)


class HistorySelection(Model):
    """A choice of an account's movements, and a page of them."""

    user_id: Id | None = Field(default=None, description="The caller's own id, or for an operator anybody's.")
    page: int = Field(default=1, ge=1, le=1_000_000, description="The page's number, from 1.")
    limit: int = Field(default=20, ge=1, le=100)
    start_date: Annotated[datetime | None, BeforeValidator(_day_or_moment), _DAY] = Field(
        default=None, description="The first day, in the service's time zone, or a time of RFC 3339."
    )
    end_date: Annotated[datetime | None, BeforeValidator(_end), _DAY] = Field(
        default=None, description="The last day, whole, or a time before which they were."
    )
    cursor: MovementCursor | None = Field(
        default=None, description="The `nextCursor` of the page before, in place of `page`."
    )
    transaction_type: Annotated[str | None, AfterValidator(str.upper)] = Field(
        default=None, max_length=20, description="BOOKING, REFUND, DEPOSIT, TRANSFER, incoming or outgoing."
    )


# --- Lessons ---


class Person(Response):
    """A name, for people who share a lesson; empty for others."""

    first_name: str = Field(description="Of a person who shares a lesson with the reader; else empty.")
    last_name: str = Field(description="Likewise.")
    email: str = Field(description="Likewise.")


class UserPerson(Person):
    """A name with its user's id."""

    id: str = Field(description="The user's.")


class ListingFacts(Response):
    """The facts of a listing, as the user service has them; empty if it has none."""

    id: str = Field(description="The listing's.")
    title: str = Field(description="The listing's.")
    subject: str = Field(description="What is taught; without one the title.")
    description: str = Field(description="The listing's.")
    level: str = Field(description="The listing's.")
    teaching_mode: str = Field(description="The listing's.")


class ExistingLesson(BookingData):
    """A lesson, as one of its people sees it."""

    blockchain_id: str = Field(description="The booking's id on the chain.")
    annonce_title: str = Field(description="The listing's title.")
    annonce: ListingFacts = Field(description="What the listing is about.")
    student: Person = Field(description="Who learns.")
    tutor: Person = Field(description="Who teaches.")
    my_role: Literal["student", "tutor"] | None = Field(description="The reader's; null for an operator.")
    start_time: int = Field(description="Unix seconds.")
    is_skill_exchange: Literal[False] = Field(
        default=False, description="Exchanges of skills are not booked here."
    )
    student_confirmed: bool = Field(description="The lesson was held, by the student's word or silence.")
    tutor_confirmed: bool = Field(description="The tutor agreed to the lesson.")
    tutor_notes: str | None = Field(description="The tutor's words to the student; for the two only.")
    cancelled_by: Literal["student", "tutor"] | None = Field(
        description="Null also if the chain let anybody do it."
    )
    cancellation_reason: str | None = Field(description="For student and tutor only.")


class ExistingCourse(ExistingLesson):
    """A confirmed or completed lesson."""

    course_passed: bool = Field(description="The lesson has begun.")


class ExistingDetails(ExistingLesson):
    """A lesson, and what its reader may do with it now."""

    can_confirm_outcome: bool = Field(
        description="The lesson has begun, and nobody has said yet if it was held."
    )
    can_cancel: bool = Field(description="The reader may cancel the lesson now.")
    outcome: Literal["NOT_DECIDED", "COURSE_HELD", "COURSE_NOT_HELD"] = Field(
        description="What is decided of it."
    )


class BookingAnswer(Answer):
    """One lesson."""

    data: ExistingDetails


class BookingsAnswer(Answer):
    """A list of lessons; `nextCursor` is null unless a page of it was asked for."""

    data: list[ExistingLesson]
    next_cursor: str | None


class CoursesAnswer(Answer):
    """A student's courses."""

    data: list[ExistingCourse]


class BothSides(Response):
    """A person's lessons, on both sides."""

    as_student: list[ExistingLesson] = Field(description="The lessons that the person booked.")
    as_tutor: list[ExistingLesson] = Field(description="The lessons that the person gives.")
    total: int = Field(description="How many there are.")


class BothSidesAnswer(Answer):
    """A person's lessons, on both sides."""

    data: BothSides


class ExistingStats(Stats):
    """The number of lessons by status, and the sums of their prices."""

    total: int = Field(description="How many there are.")
    pending: int = Field(description="How many are pending.")
    confirmed: int = Field(description="How many are confirmed.")
    cancelled: int = Field(description="How many are cancelled.")
    completed: int = Field(description="How many are completed.")
    total_amount: Number = Field(description="The price of all of them, in EDU.")
    pending_amount: Number = Field(description="The price of the pending ones, in EDU.")


class StatsAnswer(Answer):
    """Counts and sums."""

    data: ExistingStats


# --- Money ---


class Money(Response):
    """An account's money in EDU, and in base units."""

    available: Number = Field(description="In EDU: what the account has.")
    available_wei: str = Field(description="The same in base units.")
    locked: Number = Field(description="In EDU: what the escrow holds for a tutor.")
    locked_wei: str = Field(description="The same in base units.")
    total: Number = Field(description="In EDU: available and locked.")
    total_wei: str = Field(description="The same in base units.")
    kyc_status: Literal["none"] = Field(default="none", description="Identities are not checked here.")


class WalletMoney(Money):
    """An account with its money, as a balance has it."""

    wallet_address: str = Field(description="The account.")


class WalletSums(Money):
    """An account with its money, as sums have it."""

    address: str = Field(description="The account.")


class AccountUser(UserPerson):
    """An account's user."""

    role: str = Field(description="In the user service.")


class Balance(Response):
    """A user, and the user's money."""

    user: AccountUser = Field(description="Whose account it is.")
    wallet: WalletMoney = Field(description="The account and its money.")


class BalanceAnswer(Answer):
    """An account's money."""

    data: Balance


class HistoryWallet(Response):
    """One end of a movement; of the escrow, `user` is the other party of the lesson."""

    id: str = Field(description="The account.")
    user_id: str | None = Field(description="Null for the escrow, and for who shares no lesson.")
    wallet_address: str = Field(description="The account.")
    user: UserPerson | None = Field(description="Null if the reader shares no lesson with them.")


class LedgerBlock(Response):
    """The block of a movement."""

    id: str = Field(description="The block's number.")
    hash: str = Field(description="Of the block.")
    timestamp: str = Field(description="RFC 3339, UTC.")


class Metadata(Response):
    """The lesson that a movement is for; all null, but the transaction, of any other movement."""

    transaction_hash: str = Field(description="Empty for what the account had before the escrow.")
    booking_id: str | None = Field(default=None, description="The lesson's.")
    tutor_id: str | None = Field(default=None, description="Who teaches.")
    tutor_name: str | None = Field(default=None, description="The tutor's name.")
    annonce_id: str | None = Field(default=None, description="The listing's.")
    start_time: int | None = Field(default=None, description="Unix seconds.")
    duration: int | None = Field(default=None, description="Minutes.")


class Transaction(Response):
    """A movement of money; pending: still in the escrow."""

    id: str = Field(description="The movement's own.")
    from_wallet_id: str = Field(description="The paying account.")
    to_wallet_id: str = Field(description="The paid account; of a lesson's price to a tutor, the tutor.")
    amount: Number
    amount_wei: str
    fee: Literal[0] = Field(default=0, description="There are none.")
    transaction_type: Literal["BOOKING", "REFUND", "DEPOSIT", "TRANSFER"] = Field(
        description="What moved the money."
    )
    status: Literal["completed", "pending"] = Field(description="Pending: still in the escrow.")
    description: str = Field(description="In words.")
    metadata: Metadata = Field(description="The lesson that it is for.")
    created_at: str
    from_wallet: HistoryWallet = Field(description="Who paid.")
    to_wallet: HistoryWallet = Field(description="Who was paid.")
    ledger_block: LedgerBlock = Field(description="The block that it is in.")


class History(Response):
    """A page of an account's movements, the newest first."""

    transactions: list[Transaction] = Field(description="The movements of this page.")
    total: int = Field(description="How many there are, on all pages.")
    page: int = Field(description="The page's number, from 1.")
    total_pages: int = Field(description="How many pages there are.")


class HistoryAnswer(Answer):
    """A page of an account's movements; one that would be too large ends sooner, and the cursor goes on."""

    data: History
    next_cursor: str | None


class Sums(Response):
    """Sums of all that came and went, in EDU."""

    sent: Number = Field(description="In EDU: what went.")
    received: Number = Field(description="In EDU: what came.")


class AllTime(Sums):
    """The same of all time."""

    transactions: int = Field(description="How many movements.")
    fees: Literal[0] = Field(default=0, description="There are none.")


class AccountStats(Response):
    """An account's money, and what came and went."""

    wallet: WalletSums = Field(description="The account and its money.")
    today: Sums = Field(description="Of this day, in the service's time zone.")
    monthly: Sums = Field(description="Of this month, likewise.")
    all_time: AllTime = Field(description="Of all time.")


class AccountStatsAnswer(Answer):
    """An account's money, and what came and went."""

    data: AccountStats
