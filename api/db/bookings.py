"""Lessons as the projection has them, as typed records. Each function joins the caller's connection."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, and_, func, select, tuple_

from api.booking.models import Batch, EarlierOrder, Lesson, LessonState
from api.db.tables import batches, bookings, index_position, orders, transactions, users
from api.outbox.models import State
from creneau.amounts import from_wei, lesson_amount
from creneau.lifecycle import Status
from creneau.types import from_unix, to_hex, to_unix

Side = Literal["student", "tutor"]

_AHEAD = (Status.PENDING.name, Status.CONFIRMED.name)


class Position(NamedTuple):
    """The place of a lesson in a list: its start in unix seconds, and its id on the chain."""

    start: int
    id: str


class ListedLesson(NamedTuple):
    """A lesson by its batch and its place there."""

    position: Position
    batch_id: str
    place: int
    state: LessonState


@dataclass(frozen=True)
class LessonGroup:
    """A number of lessons that have status, price and shares in common; in base units."""

    status: Status
    amount: int
    to_tutor: int
    to_student: int
    count: int


def states(db: Connection, batch_id: str) -> dict[int, LessonState]:
    """Return a batch's lessons by their places; none that the projection does not have yet."""
    rows = db.execute(select(bookings).where(bookings.c.batch_id == batch_id))
    return {row.place: _state(row) for row in rows}


def batch_ids(db: Connection, first: str, last: str) -> set[str]:
    """Return the ids from first to last that batches have, whether they were booked here or elsewhere."""
    tables = (batches, orders)
    return {
        id_ for each in tables for id_ in db.scalars(select(each.c.id).where(each.c.id.between(first, last)))
    }


def earlier_order(db: Connection, student: str, salt: bytes) -> tuple[EarlierOrder | None, int]:
    """Return the order on the chain of a student's account that has this salt, and the view's block.

    Both in one statement: what is not in a view that is read anew meanwhile proves nothing.
    """
    same = and_(orders.c.salt == to_hex(salt), orders.c.student == student)
    query = select(orders, index_position.c.number).select_from(index_position.outerjoin(orders, same))
    row = db.execute(query.limit(1)).one()
    if row.id is None:
        return None, row.number
    slots = [(start, minutes) for start, minutes in row.slots]
    terms = row.tutor, row.listing, row.hourly_rate, row.deadline, slots
    return EarlierOrder(*terms, row.created_at, row.transaction_hash), row.number


def page(
    db: Connection,
    side: Side,
    accounts: Collection[str],
    limit: int,
    *,
    after: Position | None = None,
    statuses: Collection[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    descending: bool = False,
) -> list[ListedLesson]:
    """Return at most `limit` lessons of these accounts in order of time, those `after` a position."""
    key = (bookings.c.start, bookings.c.id)
    query = select(bookings).where(bookings.c[side].in_(accounts))
    if after is not None:
        begin, place = tuple_(*after), tuple_(*key)
        query = query.where(place < begin if descending else place > begin)
    if statuses:
        query = query.where(bookings.c.status.in_(statuses))
    if since:
        query = query.where(key[0] >= to_unix(since))
    if until:
        query = query.where(key[0] < to_unix(until))
    query = query.order_by(*(part.desc() if descending else part for part in key))
    return [
        ListedLesson(Position(row.start, row.id), row.batch_id, row.place, _state(row))
        for row in db.execute(query.limit(limit))
    ]


def groups(db: Connection, side: Side, accounts: Collection[str]) -> list[LessonGroup]:
    """Return all lessons of these accounts, those together that have everything in common."""
    parts = (bookings.c.status, bookings.c.amount, bookings.c.to_tutor, bookings.c.to_student)
    query = select(*parts, func.count()).where(bookings.c[side].in_(accounts)).group_by(*parts)
    return [
        LessonGroup(Status[status], amount, to_tutor or 0, to_student or 0, count)
        for status, amount, to_tutor, to_student, count in db.execute(query)
    ]


def is_projected(db: Connection, side: Side, accounts: Collection[str]) -> bool:
    """Return True if the projection has every batch of these accounts that is in a block."""
    mined = select(func.max(transactions.c.block_number)).join(batches, batches.c.id == transactions.c.id)
    mine = batches.c[side].in_(accounts)
    newest = db.scalar(mined.where(transactions.c.state == State.MINED, mine))
    return newest is None or newest <= (db.scalar(select(index_position.c.number)) or 0)


def own_batches(db: Connection, student: str, tutor: str, lessons: Sequence[Lesson]) -> dict[int, str]:
    """Return the batches of a student's account that have taken these times, by the lessons' indexes."""
    ends = {each["index"]: each["start"] + each["duration"] * 60 for each in lessons}
    first, last = min(each["start"] for each in lessons), max(ends.values())
    end = bookings.c.start + bookings.c.minutes * 60
    live = bookings.c.status.in_((*_AHEAD, Status.DISPUTED.name))
    its = (bookings.c.student == student) & (bookings.c.tutor == tutor) & live
    rows = db.execute(select(bookings).where(its, bookings.c.start < last, end > first)).all()
    return {
        each["index"]: row.batch_id
        for each in lessons
        for row in rows
        if row.start < ends[each["index"]] and row.start + row.minutes * 60 > each["start"]
    }


def has_lessons_ahead(db: Connection, tutor: str, moment: int) -> bool:
    """Return True if the tutor's account still has lessons that end after that time, in unix seconds."""
    live = (bookings.c.tutor == tutor) & bookings.c.status.in_(_AHEAD)
    ahead = live & (bookings.c.start + bookings.c.minutes * 60 > moment)
    return db.execute(select(bookings.c.id).where(ahead).limit(1)).first() is not None


# --- Batches that were booked elsewhere ---


def batches_elsewhere(db: Connection, batch_ids: Collection[str], zone: ZoneInfo) -> dict[str, Batch]:
    """Return those of these batches that are on the chain, as their orders tell; days and times in the zone.

    An order has no description and no notes. An account stands for a person whom nobody here knows.
    """
    found = db.execute(select(orders).where(orders.c.id.in_(batch_ids))).all()
    people = {row.student for row in found} | {row.tutor for row in found}
    wallets = select(users.c.wallet, users.c.id).where(users.c.wallet.in_(people))
    listings = {row.listing for row in found}
    known = select(batches.c.listing, batches.c.annonce_id).where(batches.c.listing.in_(listings)).distinct()
    ids = {row.wallet: row.id for row in db.execute(wallets)}
    annonces = {row.listing: row.annonce_id for row in db.execute(known)}
    made = (_elsewhere(row, ids, annonces.get(row.listing), zone) for row in found)
    return {batch.id: batch for batch in made}


def _elsewhere(row: Row[Any], ids: Mapping[str, str], annonce_id: str | None, zone: ZoneInfo) -> Batch:
    return Batch(
        id=row.id,
        student_id=ids.get(row.student, row.student),
        tutor_id=ids.get(row.tutor, row.tutor),
        annonce_id=annonce_id,
        lessons=_lessons(row.slots, row.hourly_rate, zone),
        student=row.student,
        tutor=row.tutor,
        listing=row.listing,
        hourly_rate=row.hourly_rate,
        min_lessons=row.min_lessons,
        deadline=row.deadline,
        salt=row.salt,
        instant=row.instant,
        created_at=row.created_at * 1_000_000,
        booked=row.booked,
        state=State.MINED,
        transaction_hash=row.transaction_hash,
        block_number=row.block_number,
    )


def _lessons(slots: Sequence[tuple[int, int]], hourly_rate: int, zone: ZoneInfo) -> list[Lesson]:
    lessons: list[Lesson] = []
    for index, (start, minutes) in enumerate(slots, start=1):
        local = from_unix(start).astimezone(zone)
        lessons.append(
            {
                "index": index,
                "date": local.date().isoformat(),
                "time": local.time().isoformat("minutes"),
                "amount": from_wei(lesson_amount(hourly_rate, minutes)),
                "duration": minutes,
                "start": start,
            }
        )
    return lessons


def _state(row: Row[Any]) -> LessonState:
    changed = row.updated_at if row.updated_at > row.created_at else 0
    return LessonState(Status[row.status], row.to_tutor or 0, row.to_student or 0, changed)
