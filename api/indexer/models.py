"""The records of the projection. Times are unix seconds, amounts are base units, sets of lessons are bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from creneau.order import pack_slot
from creneau.types import to_bytes32


class Block(NamedTuple):
    """A block by its number and hash."""

    number: int
    hash: str


@dataclass(frozen=True)
class IndexedOrder:
    """A batch on the chain, whoever sent it: the terms that later actions supply again."""

    id: str
    student: str
    tutor: str
    listing: str
    hourly_rate: int
    min_lessons: int
    deadline: int
    salt: str
    slots: Sequence[tuple[int, int]]  # Starts and minutes.
    booked: int
    total: int
    created_at: int
    block_number: int
    transaction_hash: str
    instant: bool  # The lessons were confirmed from the beginning.

    @property
    def terms(self) -> tuple[Any, ...]:
        """The order as the ABI codec takes it."""
        listing, salt = to_bytes32(self.listing), to_bytes32(self.salt)
        rules = self.hourly_rate, self.min_lessons, self.deadline, salt
        return self.student, self.tutor, listing, *rules, [pack_slot(*slot) for slot in self.slots]


@dataclass(frozen=True)
class IndexedAction:
    """An action on lessons of an order."""

    block_number: int
    log_index: int
    batch_id: str
    lessons: int
    status: str  # The status of the lessons afterwards.
    to_tutor: int | None  # Of what left the escrow; the rest went to the student. None: nothing left.
    cancelled_by: str | None  # The account, of a cancellation.
    at: int
    transaction_hash: str


@dataclass(frozen=True)
class IndexedTransfer:
    """A transfer of the token between two accounts, neither of which is the escrow."""

    block_number: int
    log_index: int
    sender: str
    recipient: str
    amount: int
    at: int
    transaction_hash: str


@dataclass(frozen=True)
class IndexedBooking:
    """A lesson of an order, as the actions so far leave it."""

    id: str
    batch_id: str
    place: int
    student: str
    tutor: str
    listing: str
    start: int
    minutes: int
    amount: int
    status: str
    to_tutor: int | None  # None until the amount has left the escrow.
    to_student: int | None
    cancelled_by: str | None
    created_at: int
    updated_at: int
    block_number: int
    transaction_hash: str
