"""An account's money, as the projection has it. Each function joins the caller's connection."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, or_, select

from api.db.tables import bookings, index_position, lesson_notes, orders, transfers, users
from creneau.lifecycle import Status


class LessonMoney(NamedTuple):
    """A lesson's price, and the shares of it that left the escrow: base units, and unix seconds of blocks."""

    id: str  # On the chain.
    batch_id: str
    student: str
    tutor: str
    start: int
    minutes: int
    amount: int
    status: Status
    to_tutor: int
    to_student: int
    paid_at: int
    paid_block: int
    paid_hash: str
    changed_at: int
    changed_block: int
    changed_hash: str


class TokenTransfer(NamedTuple):
    """A transfer of the token between two accounts, neither of which is the escrow."""

    block_number: int
    log_index: int
    sender: str
    recipient: str
    amount: int
    at: int
    transaction_hash: str


class Notes(NamedTuple):
    """The words of student and tutor about a lesson, besides those of the booking."""

    tutor_notes: str | None = None
    cancellation_reason: str | None = None


def position(db: Connection) -> int:
    """Return the number of the block that the projection is at."""
    return int(db.scalars(select(index_position.c.number)).one())


def lessons(db: Connection, account: str) -> list[LessonMoney]:
    """Return all lessons that this account pays for, or is paid for."""
    its = or_(bookings.c.student == account, bookings.c.tutor == account)
    query = select(
        bookings, orders.c.block_number.label("paid_block"), orders.c.transaction_hash.label("paid_hash")
    ).join(orders, orders.c.id == bookings.c.batch_id)
    return [
        LessonMoney(
            row.id,
            row.batch_id,
            row.student,
            row.tutor,
            row.start,
            row.minutes,
            row.amount,
            Status[row.status],
            row.to_tutor or 0,
            row.to_student or 0,
            row.created_at,
            row.paid_block,
            row.paid_hash,
            row.updated_at,
            row.block_number,
            row.transaction_hash,
        )
        for row in db.execute(query.where(its))
    ]


def token_transfers(db: Connection, account: str) -> list[TokenTransfer]:
    """Return all transfers from or to this account, without those from or to the escrow."""
    its = or_(transfers.c.sender == account, transfers.c.recipient == account)
    return [TokenTransfer(*row) for row in db.execute(select(transfers).where(its))]


def owners(db: Connection, accounts: Collection[str]) -> dict[str, str]:
    """Return the ids of the users whose account in force is one of these."""
    rows = db.execute(select(users.c.wallet, users.c.id).where(users.c.wallet.in_(accounts)))
    return {row.wallet: row.id for row in rows}


def cancelled_by(db: Connection, lesson_ids: Collection[str]) -> dict[str, str]:
    """Return the account that cancelled each of these lessons, of those that were cancelled."""
    by = bookings.c.cancelled_by
    rows = db.execute(select(bookings.c.id, by).where(bookings.c.id.in_(lesson_ids), by.is_not(None)))
    return {row.id: row.cancelled_by for row in rows}


def notes(db: Connection, lesson_ids: Collection[str]) -> dict[str, Notes]:
    """Return the notes of those of these lessons that have any."""
    rows = db.execute(select(lesson_notes).where(lesson_notes.c.id.in_(lesson_ids)))
    return {row.id: Notes(row.tutor_notes, row.cancellation_reason) for row in rows}


def put_notes(db: Connection, lesson_id: str, **values: str) -> None:
    """Keep a note of a lesson, in place of an earlier one."""
    its = lesson_notes.c.id == lesson_id
    if not db.execute(lesson_notes.update().where(its).values(values)).rowcount:
        db.execute(lesson_notes.insert().values(id=lesson_id, **values))
