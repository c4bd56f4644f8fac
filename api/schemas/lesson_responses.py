"""What is answered about lessons once they are booked, and about what can be booked."""

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import Field

from api.schemas.requests import BOOKING_ID, BookingStatus, Model, Number
from api.schemas.responses import Answer, BookingData, Payment

_ID = "a1b2c3d4-e5f6-8a7b-8c9d-0e1f2a3b4c5d"
BookingId = Annotated[str, Path(alias="id", pattern=BOOKING_ID, examples=[_ID])]
BatchId = Annotated[str, Path(alias="batchId", pattern="^0x[0-9a-f]{62}00$")]


class PreparedAct(Model):
    """What a wallet has to sign for an act, as `eth_signTypedData_v4` takes it."""

    act: str
    batch_id: str
    lessons: list[str] = Field(description="Which lessons; send them with the signature.")
    signer: str
    typed_data: dict[str, Any]


class PreparedActAnswer(Answer):
    """Nothing has happened yet."""

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


class DoneAnswer(Answer):
    """Done, or (202) on its way."""

    data: Done


class BookingAnswer(Answer):
    """One lesson."""

    data: BookingData


class BookingsAnswer(Answer):
    """A page of lessons; `nextCursor` is null on the last one."""

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


class StatsAnswer(Answer):
    """Counts and sums."""

    data: Stats


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


class AnnonceAnswer(Answer):
    """An annonce."""

    data: AnnonceData


class Published(AnnonceData):
    """An annonce after its publication."""

    state: Literal["accepted", "signed", "submitted", "mined", "final"]
    transaction_hash: str | None = Field(description="Null if nothing was left to do.")


class PublishedAnswer(Answer):
    """Published, or (202) on its way."""

    data: Published


class PreparedListing(Model):
    """What a wallet has to sign for a publication, as `eth_signTypedData_v4` takes it."""

    signer: str
    typed_data: dict[str, Any]


class PreparedListingAnswer(Answer):
    """Nothing has happened yet."""

    data: PreparedListing


class Calendar(Model):
    """When a tutor's time is taken."""

    tutor_id: str
    from_: str = Field(alias="from")
    to: str
    taken: list[Interval] = Field(description="The longest such intervals, in order.")


class CalendarAnswer(Answer):
    """A tutor's calendar."""

    data: Calendar
