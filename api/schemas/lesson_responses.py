"""The responses about lessons once they are booked, and about listings."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import Path
from pydantic import Field

from api.booking.models import (
    ActionResult,
    BookedLesson,
    LessonPage,
    ListingDetails,
    PreparedAction,
    PublicationResult,
    TakenTimes,
)
from api.booking.models import Stats as Sums
from api.language import language, say
from api.outbox.models import UNSETTLED, Submission
from api.schemas.requests import BOOKING_ID, BookingStatus, Number
from api.schemas.responses import Answer, BookingData, Payment, Response, is_none
from api.words import DONE, lessons, utc
from creneau.amounts import format_amount, from_wei, to_wei
from creneau.lifecycle import Action, Periods

_ID = "a1b2c3d4-e5f6-8a7b-8c9d-0e1f2a3b4c5d"
BookingId = Annotated[str, Path(alias="id", pattern=BOOKING_ID, examples=[_ID])]
BatchId = Annotated[str, Path(alias="batchId", pattern="^0x[0-9a-f]{62}00$")]
ActId = Annotated[str, Path(alias="actId", pattern="^0x[0-9a-f]{64}$")]
Sent = Literal["accepted", "signed", "submitted", "reverting", "mined", "final"]


class PreparedAct(Response):
    """The typed data that a wallet signs for an act, as `eth_signTypedData_v4` takes them."""

    act: str
    batch_id: str
    lessons: list[str] = Field(description="Which lessons; send them with the signature.")
    signer: str
    typed_data: dict[str, Any]


class PreparedActAnswer(Answer):
    """An act that waits for its signature."""

    data: PreparedAct

    @classmethod
    def from_action(cls, prepared: PreparedAction) -> Self:
        """Build the response about an action that waits for its signature."""
        data = PreparedAct(
            act=prepared.action,
            batch_id=prepared.lessons[0].batch.id,
            lessons=[batch.booking_id(place) for batch, place in prepared.lessons],
            signer=prepared.signer,
            typed_data=prepared.typed_data,
        )
        count = len(prepared.lessons)
        message = say(
            f"To be signed, to have {lessons(count)} {prepared.word}.",
            f"À signer : {lessons(count, 'fr')}, {_word(prepared.action, count)}.",
        )
        return cls(success=True, message=message, data=data)


class Done(Response):
    """The outcome of an act."""

    act: Literal["confirm", "cancel", "complete", "dispute", "resolve", "settle", "acknowledge"]
    batch_id: str
    state: Sent
    transaction_hash: str | None = Field(description="Null if nothing was left to do.")
    gas_used: int | None
    bookings: list[BookingData] = Field(
        description="The lessons it was about, as they stand now. Long words are at the first one only."
    )
    payments: list[Payment] = Field(description="Who got how much of their price.")


class DoneAnswer(Answer):
    """Done, or (202) on its way."""

    data: Done

    @classmethod
    def from_result(cls, result: ActionResult, periods: Periods) -> Self:
        """Build the response about an action."""
        payments = Payment.of_lessons(result.lessons)
        count = len(result.lessons)
        to = {
            "student": say("to the student", "pour l'élève"),
            "tutor": say("to the tutor", "pour le professeur"),
        }
        sums = [f"{format_amount(int(each.amount_wei))} EDU {to[each.to]}" for each in payments]
        french = f"{lessons(count, 'fr')}, {_word(result.action, count)}"
        message = say(f"{lessons(count)} {result.word}", french)
        message += "" if result.is_done else say(", on the way", ", en route")
        if sums:
            message += say(": ", " : ") + say(" and ", " et ").join(sums)
        data = Done.model_validate(
            {
                "act": result.action,
                "batch_id": result.lessons[0].batch.id,
                "state": result.state,
                "transaction_hash": result.transaction_hash,
                "gas_used": result.gas_used,
                "bookings": [BookingData.from_lesson(lesson, periods) for lesson in result.lessons],
                "payments": payments,
            }
        )
        return cls(success=True, message=f"{message}.", data=data)


def _word(action: str, count: int) -> str:
    """Return the French word for lessons to which an action is done."""
    word = DONE["fr"][Action(action)] if action in {*Action} else "pris en compte"
    return f"{word}s" if count > 1 and not word.endswith(("s", "e")) else word


class Act(Response):
    """The progress of an act."""

    act_id: str = Field(description="0x and 64 hex digits.")
    batch_id: str | None = Field(description="Null for a publication.")
    state: Literal["accepted", "signed", "submitted", "reverting", "mined", "final", "rejected", "expired"]
    transaction_hash: str | None
    block_number: int | None
    gas_used: int | None
    code: str | None = Field(description="Why it came to nothing.")


class ActAnswer(Answer):
    """`success`: done, or on its way."""

    data: Act

    @classmethod
    def from_submission(cls, sent: Submission) -> Self:
        """Build the response about an act, or a publication."""
        data = Act(
            act_id=sent.id,
            batch_id=sent.batch_id,
            state=sent.state.value,
            transaction_hash=sent.transaction_hash,
            block_number=sent.block_number,
            gas_used=sent.gas_used,
            code=sent.code,
        )
        message = say("On its way.", "En route.")
        if sent.state not in UNSETTLED:
            message = sent.detail or say("Done.", "Fait.")
        return cls(success=not sent.failed, message=message, data=data)


class BookingAnswer(Answer):
    """One lesson."""

    data: BookingData

    @classmethod
    def from_lesson(cls, lesson: BookedLesson, periods: Periods) -> Self:
        """Build the response about one lesson."""
        return cls(
            success=True,
            message=f"{lessons(1, language.get())}.",
            data=BookingData.from_lesson(lesson, periods),
        )


class BookingsAnswer(Answer):
    """A page of lessons; `nextCursor` is null on the last one."""

    data: list[BookingData]
    next_cursor: str | None

    @classmethod
    def from_page(cls, page: LessonPage, periods: Periods) -> Self:
        """Build the response with some lessons of a list."""
        data = [BookingData.from_lesson(lesson, periods) for lesson in page.lessons]
        return cls(
            success=True,
            message=f"{lessons(len(data), language.get())}.",
            data=data,
            next_cursor=page.next_cursor,
        )


class Stats(Response):
    """The number of lessons by status, and the sums of their prices."""

    user_id: str
    role: Literal["student", "tutor"]
    count: int
    by_status: dict[BookingStatus, int]
    spent: Number | None = Field(
        default=None, exclude_if=is_none, description="A student's: what tutors got."
    )
    spent_wei: str | None = Field(default=None, exclude_if=is_none)
    earned: Number | None = Field(
        default=None, exclude_if=is_none, description="A tutor's: what the tutor got."
    )
    earned_wei: str | None = Field(default=None, exclude_if=is_none)
    in_escrow: Number
    in_escrow_wei: str
    refunded: Number = Field(description="What students got back.")
    refunded_wei: str


class StatsAnswer(Answer):
    """Counts and sums."""

    data: Stats

    @classmethod
    def from_stats(cls, stats: Sums) -> Self:
        """Build the response about a person's sums."""
        paid = "earned" if stats.role == "tutor" else "spent"
        sums = {paid: stats.paid, "in_escrow": stats.in_escrow, "refunded": stats.refunded}
        total = sum(stats.counts.values())
        data = Stats.model_validate(
            {
                "user_id": stats.user_id,
                "role": stats.role,
                "count": total,
                "by_status": {status.name: count for status, count in stats.counts.items()},
                **{name: from_wei(wei) for name, wei in sums.items()},
                **{f"{name}_wei": str(wei) for name, wei in sums.items()},
            }
        )
        return cls(success=True, message=f"{lessons(total, language.get())}.", data=data)


class Interval(Response):
    """A half-open interval: from `start` until just before `end`, both RFC 3339 in UTC."""

    start: str
    end: str

    @classmethod
    def of_times(cls, times: Sequence[tuple[datetime, datetime]]) -> list[Self]:
        """Build an interval of each pair of times."""
        return [cls(start=utc(start), end=utc(end)) for start, end in times]


class AnnonceData(Response):
    """The public facts of a listing."""

    id: str
    tutor_id: str
    title: str
    hourly_rate: Number
    hourly_rate_wei: str
    time_zone: str
    schedule: list[Interval] | None = Field(
        description="When the tutor gives lessons from now on, 2,000 spans at most; null: at any time. The "
        "calendar tells what is taken."
    )
    published: bool = Field(description="It is on the chain, at this rate.")
    published_rate: Number | None = Field(description="On the chain; null: none.")
    published_rate_wei: str | None
    instant: bool = Field(description="Lessons are confirmed as they are booked.")
    min_notice: int = Field(description="Lessons start so many seconds after their booking, at least.")
    horizon: int = Field(description="And at most so many seconds after it; 0: no limit.")

    @classmethod
    def from_details(cls, details: ListingDetails, **more: object) -> Self:
        """Build the facts of a listing."""
        rate = details.published.hourly_rate
        published = to_wei(rate)
        return cls.model_validate(
            {
                "id": details.id,
                "tutor_id": details.tutor_id,
                "title": details.title,
                "hourly_rate": from_wei(details.hourly_rate),
                "hourly_rate_wei": str(details.hourly_rate),
                "time_zone": details.time_zone,
                "schedule": None if details.hours is None else Interval.of_times(details.hours),
                "published": published == details.hourly_rate,
                "published_rate": rate if published else None,
                "published_rate_wei": str(published) if published else None,
                **dict(zip(("instant", "min_notice", "horizon"), details.published.rules, strict=True)),
                **more,
            }
        )


class AnnonceAnswer(Answer):
    """A listing."""

    data: AnnonceData

    @classmethod
    def from_details(cls, details: ListingDetails) -> Self:
        """Build the response about a listing."""
        return cls(success=True, message=details.title, data=AnnonceData.from_details(details))


class Published(AnnonceData):
    """A listing after its publication."""

    state: Sent
    transaction_hash: str | None = Field(description="Null if nothing was left to do.")


class PublishedAnswer(Answer):
    """Published, or (202) on its way."""

    data: Published

    @classmethod
    def from_result(cls, result: PublicationResult) -> Self:
        """Build the response about a listing's publication."""
        word = say("Withdrawn", "Retirée") if result.is_withdrawal else say("Published", "Publiée")
        later = say(f"{word} as soon as it is in a block.", f"{word} dès que ce sera dans un bloc.")
        more = {"state": result.state, "transaction_hash": result.transaction_hash}
        return cls(
            success=True,
            message=f"{word}." if result.is_done else later,
            data=Published.from_details(result.details, **more),
        )


class PreparedListing(Response):
    """The typed data that a wallet signs for a publication, as `eth_signTypedData_v4` takes them."""

    signer: str
    typed_data: dict[str, Any]


class PreparedListingAnswer(Answer):
    """A publication that waits for its signature."""

    data: PreparedListing

    @classmethod
    def from_typed_data(cls, signer: str, typed_data: dict[str, Any]) -> Self:
        """Build the response about a publication that waits for its signature."""
        data = PreparedListing(signer=signer, typed_data=typed_data)
        return cls(
            success=True,
            message=say("To be signed, to publish the annonce.", "À signer, pour publier l'annonce."),
            data=data,
        )


class Calendar(Response):
    """The times of a tutor that are taken."""

    tutor_id: str
    from_: str = Field(alias="from")
    to: str
    taken: list[Interval] = Field(description="The longest such intervals, in order.")


class CalendarAnswer(Answer):
    """A tutor's calendar."""

    data: Calendar

    @classmethod
    def from_times(cls, times: TakenTimes) -> Self:
        """Build the response about a tutor's calendar."""
        data = Calendar(
            tutor_id=times.tutor_id,
            from_=utc(times.since),
            to=utc(times.until),
            taken=Interval.of_times(times.taken),
        )
        none = say("Nothing is taken.", "Rien n'est pris.")
        some = say("The taken times.", "Les heures prises.")
        return cls(success=True, message=some if times.taken else none, data=data)
