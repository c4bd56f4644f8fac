"""Lessons as they stand, from the view of the chain: one, a batch, a person's in pages, and their sums.

A reader finds what he was told before: who asks waits for the view to have it, for a second at most.

Lessons that were booked elsewhere (from a console, by a wallet) are here too. They have an order, and no row
in `batches`: so no description and no notes, and a wallet's address in place of a person nobody here knows.
"""

import base64
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import Row, func, select, tuple_

from api.chain.escrow import Chain
from api.chain.signers import Custodian
from api.db import repository
from api.db.store import Store
from api.db.tables import batches, bookings, index_position, orders, transactions, users
from api.errors import Code, Problem
from api.outbox.models import State
from api.people.directory import Directory, User
from api.schemas.build import LessonState, answer, batch_range, booking_data, is_booked
from api.schemas.requests import Selection
from api.settings import Settings
from api.words import lessons
from creneau.amounts import from_wei, lesson_amount
from creneau.lifecycle import FOREVER, Role, Status
from creneau.types import from_unix, to_address, to_unix

Side = Literal["student", "tutor"]

OPEN = (Status.PENDING, Status.CONFIRMED, Status.DISPUTED)

_LAST = to_unix(FOREVER) - 366 * 86_400
"""Later lessons, which the contract takes, no answer could tell the time of: they are for a console."""
_LAG_SECONDS, _LOOK_SECONDS = 1.0, 0.02
_CURSOR = re.compile(r"([0-9]{1,15})\.(0x[0-9a-f]{64})")


class LessonQueries:
    """What may be read of lessons, and by whom."""

    def __init__(
        self, settings: Settings, store: Store, chain: Chain, directory: Directory, custodian: Custodian
    ) -> None:
        self._store = store
        self._directory = directory
        self._custodian = custodian
        self._zone = ZoneInfo(settings.time_zone)
        self._operators = settings.operator_ids
        self._periods = chain.periods

    # --- One, or a batch ---

    def batch(self, batch_id: str, user_id: str) -> tuple[Any, Role]:
        """A batch, and what its reader is to it. Nobody else learns that it exists."""
        row = self._rows([batch_id]).get(batch_id)
        role = row and self._role(row, user_id)
        if not role:
            raise Problem(Code.BATCH_NOT_FOUND)
        return row, role

    def booking(self, booking_id: str, user_id: str) -> tuple[Any, int, Role]:
        """A lesson as its batch and its place there, and what its reader is to it."""
        first, last, place = batch_range(booking_id)
        with self._store.read() as db:
            ids = {
                *db.scalars(select(batches.c.id).where(batches.c.id.between(first, last))),
                *db.scalars(select(orders.c.id).where(orders.c.id.between(first, last))),
            }
        row = next(iter(self._rows(ids).values()), None) if len(ids) == 1 else None
        if row and place < len(row.lessons) and is_booked(row, place) and (role := self._role(row, user_id)):
            return row, place, role
        raise Problem(Code.BOOKING_NOT_FOUND)

    def seen(self, batch_id: str) -> dict[int, LessonState]:
        """A batch's lessons as they stand, by their places; none that the view does not have yet."""
        with self._store.read() as db:
            rows = db.execute(select(bookings).where(bookings.c.batch_id == batch_id)).all()
        return {row.place: _seen(row) for row in rows}

    def shown(self, row: Any, place: int, role: Role, seen: Mapping[int, LessonState]) -> dict[str, Any]:
        """A lesson as its reader may see it: the notes are between student and tutor."""
        data = booking_data(row, place, self._periods, seen)
        return data if role != Role.ARBITER else data | {"description": None, "studentNotes": None}

    def booking_answer(self, booking_id: str, user_id: str) -> dict[str, Any]:
        """The answer about one lesson."""
        row, place, role = self.booking(booking_id, user_id)
        data = self.shown(row, place, role, self.seen(row.id))
        return {"success": True, "message": "1 lesson.", "data": data}

    def batch_answer(self, batch_id: str, user_id: str) -> dict[str, Any]:
        """The answer about a batch."""
        row, role = self.batch(batch_id, user_id)
        seen = self.seen(batch_id)
        whole = answer(row, self._periods, seen)
        places = [place for place in range(len(row.lessons)) if is_booked(row, place)]
        whole["data"]["bookings"] = [self.shown(row, place, role, seen) for place in places]
        return whole

    # --- A person's ---

    def page(self, user_id: str, person_id: str, side: Side, which: Selection) -> dict[str, Any]:
        """Some lessons of a person's in order of time, and where the next page begins."""
        person = self._person(user_id, person_id, side)
        self.wait(lambda: self._is_listed(person, side))
        key = (bookings.c.start, bookings.c.id)
        query = select(bookings).where(bookings.c[side].in_(self._accounts(person)), key[0] < _LAST)
        if which.cursor is not None:
            after = tuple_(*_position(which.cursor))
            query = query.where(tuple_(*key) < after if which.order == "desc" else tuple_(*key) > after)
        if which.status:
            query = query.where(bookings.c.status.in_(which.status))
        if which.from_:
            query = query.where(key[0] >= to_unix(which.from_))
        if which.to:
            query = query.where(key[0] < to_unix(which.to))
        query = query.order_by(*(part.desc() if which.order == "desc" else part for part in key))
        with self._store.read() as db:
            found = db.execute(query.limit(which.limit + 1)).all()
        page = found[: which.limit]
        rows = self._rows({row.batch_id for row in page})
        role = Role(side) if person.id == user_id else Role.ARBITER
        return {
            "success": True,
            "message": f"{lessons(len(page))}.",
            "data": [
                self.shown(rows[row.batch_id], row.place, role, {row.place: _seen(row)}) for row in page
            ],
            "nextCursor": _cursor(page[-1]) if len(found) > len(page) else None,
        }

    def stats(self, user_id: str, person_id: str) -> dict[str, Any]:
        """How many lessons of a person's stand where, and where their money is."""
        person = self._person(user_id, person_id, "student")
        side: Side = "tutor" if person.role == "tutor" else "student"
        self.wait(lambda: self._is_listed(person, side))
        parts = (bookings.c.status, bookings.c.amount, bookings.c.to_tutor, bookings.c.to_student)
        mine = bookings.c[side].in_(self._accounts(person))
        with self._store.read() as db:
            rows = db.execute(select(*parts, func.count()).where(mine).group_by(*parts)).all()
        counts = {status.name: 0 for status in Status if status}
        held = paid = refunded = 0
        for status, amount, to_tutor, to_student, count in rows:
            counts[status] += count
            held += count * amount if Status[status] in OPEN else 0
            paid += count * (to_tutor or 0)
            refunded += count * (to_student or 0)
        sums = {"earned" if side == "tutor" else "spent": paid, "inEscrow": held, "refunded": refunded}
        exact = {f"{name}Wei": str(wei) for name, wei in sums.items()}
        edu = {name: from_wei(wei) for name, wei in sums.items()}
        total = sum(counts.values())
        data = {"userId": person.id, "role": side, "count": total, "byStatus": counts} | edu | exact
        return {"success": True, "message": f"{lessons(total)}.", "data": data}

    # --- What was answered ---

    @staticmethod
    def wait(shown: Callable[[], bool]) -> None:
        """Gives the view the time to have it."""
        until = time.monotonic() + _LAG_SECONDS
        while not shown() and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)

    def _is_listed(self, person: User, side: Side) -> bool:
        """Whether the view has all of this person's batches that are in a block."""
        mined = select(func.max(transactions.c.block_number)).join(batches, batches.c.id == transactions.c.id)
        mine = batches.c[side].in_(self._accounts(person))
        with self._store.read() as db:
            newest = db.scalar(mined.where(transactions.c.state == State.MINED, mine))
            return newest is None or newest <= (db.scalar(select(index_position.c.number)) or 0)

    # --- Who is who ---

    def _person(self, user_id: str, person_id: str, side: Side) -> User:
        """Whose lessons are asked for: the reader's own, or anybody's if he is an operator."""
        person = (self._directory.tutor if side == "tutor" else self._directory.user)(person_id)
        if (person is None or person.id != user_id) and user_id not in self._operators:
            raise Problem(Code.NOT_YOURS)
        if person is None:
            raise Problem(Code.USER_NOT_FOUND)
        return person

    def _role(self, row: Any, user_id: str) -> Role | None:
        if user_id in {row.student_id, row.tutor_id}:
            return Role.STUDENT if user_id == row.student_id else Role.TUTOR
        if user_id in self._operators:
            return Role.ARBITER
        user = self._directory.user(user_id)
        accounts = set() if user is None else self._accounts(user)
        return Role.STUDENT if row.student in accounts else Role.TUTOR if row.tutor in accounts else None

    def _accounts(self, user: User) -> set[str]:
        """The account in force, and the one that is kept for him: lessons go on with theirs."""
        kept = set() if user.kept_index is None else {self._custodian.address(user.kept_index)}
        return {to_address(user.wallet), *kept}

    def _rows(self, batch_ids: Collection[str]) -> dict[str, Any]:
        """The batches, each as its row, or as the like of one that its order makes."""
        with self._store.read() as db:
            rows: dict[str, Any] = {**repository.batches_by_id(db, batch_ids)}
        if missing := set(batch_ids) - set(rows):
            with self._store.read() as db:
                found = db.execute(select(orders).where(orders.c.id.in_(missing))).all()
            if found:
                rows |= self._from_elsewhere(found)
        return rows

    def _from_elsewhere(self, found: Sequence[Row[Any]]) -> dict[str, Any]:
        people = {row.student for row in found} | {row.tutor for row in found}
        listed = select(batches.c.listing, batches.c.annonce_id).where(
            batches.c.listing.in_({row.listing for row in found})
        )
        with self._store.read() as db:
            ids = {row.wallet: row.id for row in db.execute(select(users).where(users.c.wallet.in_(people)))}
            annonces = {row.listing: row.annonce_id for row in db.execute(listed.distinct())}
        return {
            row.id: SimpleNamespace(
                **dict(row._mapping)
                | {
                    "student_id": ids.get(row.student, row.student),
                    "tutor_id": ids.get(row.tutor, row.tutor),
                    "annonce_id": annonces.get(row.listing),
                    "description": None,
                    "student_notes": None,
                    "lessons": [self._lesson(row, *slot) for slot in enumerate(row.slots)],
                    "booked": booked,
                    "failures": [],
                    "left_out": [],
                    "state": State.MINED,
                    "gas_used": None,
                    "created_at": row.created_at * 1_000_000,
                    "updated_at": 0,
                }
            )
            for row in found
            if (booked := sum(row.booked & 1 << i for i, slot in enumerate(row.slots) if slot[0] < _LAST))
        }

    def _lesson(self, row: Row[Any], place: int, slot: tuple[int, int]) -> dict[str, Any]:
        start, minutes = slot
        local = from_unix(min(start, _LAST)).astimezone(self._zone)
        return {
            "index": place + 1,
            "date": local.date().isoformat(),
            "time": local.time().isoformat("minutes"),
            "amount": from_wei(lesson_amount(row.hourly_rate, minutes)),
            "duration": minutes,
            "start": start,
        }


def _seen(row: Row[Any]) -> LessonState:
    changed = row.updated_at if row.updated_at > row.created_at else 0
    return LessonState(Status[row.status], row.to_tutor or 0, row.to_student or 0, changed)


def _cursor(row: Row[Any]) -> str:
    return base64.urlsafe_b64encode(f"{row.start}.{row.id}".encode()).decode().rstrip("=")


def _position(cursor: str) -> tuple[int, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        match = _CURSOR.fullmatch(text)
    except ValueError:
        match = None
    if match is None:
        raise Problem.of_field(Code.INVALID_CURSOR, "cursor")
    return int(match[1]), match[2]
