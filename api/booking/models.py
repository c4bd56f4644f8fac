"""The types of a batch of bookings on its way from the request to the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypedDict

from api.outbox.models import Submission


class Lesson(TypedDict):
    """A lesson that can be booked as far as the request tells; `index` is its place there, from 1."""

    index: int
    date: str
    time: str
    amount: Decimal
    duration: int
    start: int


class Failure(TypedDict):
    """A lesson that can't be booked, and why."""

    index: int
    slot: dict[str, Any]
    code: str
    error: str


def order_slots(lessons: Sequence[Lesson]) -> list[tuple[int, int]]:
    """Return the lessons as the order has them: unix starts in seconds, and minutes."""
    return [(lesson["start"], lesson["duration"]) for lesson in lessons]


@dataclass(frozen=True)
class Batch:
    """A batch of bookings: who asked for what, the order, and its outcome on the chain."""

    id: str  # The contract's key.
    student_id: str
    tutor_id: str
    annonce_id: str | None  # None: nobody here knows the listing's.
    idempotency_key: str
    request_hash: str
    description: str | None
    student_notes: str | None
    lessons: Sequence[Lesson]  # Those of the order, in its order.
    failures: Sequence[Failure]  # The request's other lessons.
    # The order
    student: str
    tutor: str
    listing: str
    hourly_rate: int  # Base units.
    allow_partial: bool
    deadline: int  # Unix seconds.
    salt: str
    # The outcome
    booked: int | None  # Bit i: lesson i. None until a block says so.
    left_out: Sequence[Failure]  # The order's lessons that the contract did not book.
    instant: bool  # Booked lessons are confirmed, not pending.
    created_at: int  # Microseconds of unix time.
    submission: Submission | None = None  # None until it is in the outbox, or if somebody else's was sent.
