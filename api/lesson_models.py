"""What is sent and answered about lessons once they are booked, and about what can be booked."""

import re
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import AwareDatetime, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt

from api.models import BookingData, BookingStatus, Model, Number, Payment, Signature
from creneau.fields import Edu
from creneau.order import MAX_SLOTS

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
BOOKING_ID = f"^(0x[0-9a-f]{{62}}[0-2][0-9a-f]|{_UUID})$"
"""The frontend's id of a booking, or the chain's."""
_ID = "a1b2c3d4-e5f6-8a7b-8c9d-0e1f2a3b4c5d"

BookingId = Annotated[str, Path(alias="id", pattern=BOOKING_ID, examples=[_ID])]
BatchId = Annotated[str, Path(alias="batchId", pattern="^0x[0-9a-f]{62}00$")]


_RFC_3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]+([Zz]|[+-][0-9:]+)")


def _rfc_3339(text: str) -> str:
    """Refuses numbers, which Pydantic would take for seconds since 1970."""
    if not _RFC_3339.fullmatch(text):
        raise ValueError("a time looks like 2035-03-05T09:00:00Z")
    return text


Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339)]


class _Strict(Model):
    """Takes no other fields: a misspelled `lessons` must not become all of them."""

    model_config = ConfigDict(extra="forbid")


class ActData(_Strict):
    """How an act is signed. Custodial accounts need nothing."""

    signature: Signature | None = Field(
        default=None, description="Of a wallet of one's own, for the typed data that `prepare` gave."
    )


class Lessons(_Strict):
    """Which lessons of a batch."""

    lessons: list[Annotated[str, Field(pattern=BOOKING_ID)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_SLOTS,
        description="The bookings' ids. Without it: all lessons of the batch that it can be done to.",
    )


class BatchActData(ActData, Lessons):
    """An act on lessons of a batch: on all of them, or on none."""


class Share(_Strict):
    """How the arbiter splits."""

    tutor_share_bps: StrictInt = Field(
        ge=0,
        le=10_000,
        examples=[5000],
        description="The tutor's share in basis points; the student gets the rest.",
    )


class BatchShare(Share, Lessons):
    """The same for lessons of a batch."""


class PreparedAct(Model):
    """What a wallet has to sign for an act, as `eth_signTypedData_v4` takes it."""

    act: str
    batch_id: str
    lessons: list[str] = Field(description="Which lessons; send them with the signature.")
    signer: str
    typed_data: dict[str, Any]


class PreparedActAnswer(Model):
    """Nothing has happened yet."""

    success: Literal[True]
    message: str
    data: PreparedAct


class Done(Model):
    """What became of an act."""

    act: Literal["confirm", "cancel", "complete", "dispute", "resolve", "acknowledge"]
    batch_id: str
    state: Literal["accepted", "signed", "submitted", "mined", "final"]
    transaction_hash: str | None = Field(description="Null if nothing was left to do.")
    gas_used: int | None
    bookings: list[BookingData] = Field(description="The lessons it was about, as they stand now.")
    payments: list[Payment] = Field(description="Who got how much of their price.")


class DoneAnswer(Model):
    """Done, or (202) on its way."""

    success: Literal[True]
    message: str
    data: Done


class Selection(Model):
    """Which lessons, and how many at once."""

    status: list[BookingStatus] = Field(default=[], description="Those that stand so; several may be named.")
    from_: Moment | None = Field(default=None, alias="from", description="That begin then or later,")
    to: Moment | None = Field(default=None, description="and before.")
    order: Literal["asc", "desc"] = Field(default="asc", description="By their beginning.")
    limit: int = Field(default=50, ge=1, le=100)
    cursor: str | None = Field(
        default=None, max_length=200, description="The `nextCursor` of the page before."
    )


class BookingAnswer(Model):
    """One lesson."""

    success: Literal[True]
    message: str
    data: BookingData


class BookingsAnswer(Model):
    """A page of lessons; `nextCursor` is null on the last one."""

    success: Literal[True]
    message: str
    data: list[BookingData]
    next_cursor: str | None


class Stats(Model):
    """How many lessons stand where, and where their money is."""

    user_id: str
    role: Literal["student", "tutor"]
    count: int
    by_status: dict[BookingStatus, int]
    spent: Number | None = Field(default=None, description="A student's: what tutors got.")
    spent_wei: str | None = None
    earned: Number | None = Field(default=None, description="A tutor's: what he got.")
    earned_wei: str | None = None
    in_escrow: Number
    in_escrow_wei: str
    refunded: Number = Field(description="What students got back.")
    refunded_wei: str


class StatsAnswer(Model):
    """Counts and sums."""

    success: Literal[True]
    message: str
    data: Stats


class PublishData(Model):
    """What is published of an annonce: its rate, which is the annonce's own, or nothing at all."""

    hourly_rate: Edu | None = Field(
        default=None, description="Without it the annonce's; 0 withdraws it; nothing else is taken."
    )
    instant: StrictBool | None = Field(
        default=None, description="Lessons are confirmed as they are booked. Without it: as before."
    )
    signature: Signature | None = Field(
        default=None, description="Of a wallet of one's own, for the typed data that `prepare` gave."
    )


class Interval(Model):
    """Half open: from `start` until just before `end`, both RFC 3339 in UTC."""

    start: str
    end: str


class AnnonceData(Model):
    """What anybody may know of an annonce."""

    id: str
    tutor_id: str
    title: str
    hourly_rate: Number
    hourly_rate_wei: str
    time_zone: str
    schedule: list[Interval] | None = Field(
        description="When the tutor gives lessons; null: at any time. The calendar tells what is taken."
    )
    published: bool = Field(description="It is on the chain, at this rate.")
    published_rate: Number | None = Field(description="On the chain; null: none.")
    published_rate_wei: str | None
    instant: bool = Field(description="Lessons are confirmed as they are booked.")


class AnnonceAnswer(Model):
    """An annonce."""

    success: Literal[True]
    message: str
    data: AnnonceData


class Published(AnnonceData):
    """An annonce after its publication."""

    state: Literal["accepted", "signed", "submitted", "mined", "final"]
    transaction_hash: str | None = Field(description="Null if nothing was left to do.")


class PublishedAnswer(Model):
    """Published, or (202) on its way."""

    success: Literal[True]
    message: str
    data: Published


class PreparedListing(Model):
    """What a wallet has to sign for a publication, as `eth_signTypedData_v4` takes it."""

    signer: str
    typed_data: dict[str, Any]


class PreparedListingAnswer(Model):
    """Nothing has happened yet."""

    success: Literal[True]
    message: str
    data: PreparedListing


class Calendar(Model):
    """When a tutor's time is taken."""

    tutor_id: str
    from_: str = Field(alias="from")
    to: str
    taken: list[Interval] = Field(description="The longest such intervals, in order.")


class CalendarAnswer(Model):
    """A tutor's calendar."""

    success: Literal[True]
    message: str
    data: Calendar
