"""Lessons as they stand, from the projection of the chain: one, a batch, a person's in pages, and their sums.

Readers find what they were told before: a request waits for the projection to have it, for a second at most.

Lessons that were booked elsewhere (from a console, by a wallet) are here too: their batches have no
description and no notes, and an account in place of a person whom nobody here knows.
"""

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from api.booking.models import Batch, BookedLesson, Lesson, LessonPage, LessonState, Stats, batch_range
from api.chain.signers import Custodian
from api.db import bookings, repository
from api.db.bookings import ListedLesson, Position, Side
from api.db.store import Store
from api.errors import Code, Problem
from api.people.directory import Directory, User
from api.schemas.requests import CURSOR, Selection
from api.settings import Settings
from creneau.lifecycle import Role, Status
from creneau.types import to_address, to_unix

OPEN = (Status.PENDING, Status.CONFIRMED, Status.DISPUTED)

_PAGE = 50
_LAG_SECONDS, _PAUSE_SECONDS = 1.0, 0.02
_CURSOR = re.compile(CURSOR)


def wait_until(is_so: Callable[[], bool], seconds: float = _LAG_SECONDS) -> bool:
    """Wait for the projection. Return False if the time was over before."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


def wait_for_projection(store: Store, side: Side, accounts: Collection[str]) -> None:
    """Give the projection the time to show the newest batches of these accounts."""

    def is_shown() -> bool:
        with store.read() as db:
            return bookings.is_projected(db, side, accounts)

    wait_until(is_shown)


def own_batches(store: Store, student: str, tutor: str, lessons: Sequence[Lesson]) -> dict[int, str]:
    """Return the batches of a student's account that have taken these times, by the lessons' indexes."""
    if not lessons:
        return {}
    with store.read() as db:
        return bookings.own_batches(db, student, tutor, lessons)


class LessonQueries:
    """Reads lessons for those who may read them."""

    def __init__(self, settings: Settings, store: Store, directory: Directory, custodian: Custodian) -> None:
        self._store = store
        self._directory = directory
        self._custodian = custodian
        self._zone = ZoneInfo(settings.time_zone)
        self._operators = settings.operator_ids

    # --- One, or a batch ---

    def batch(self, batch_id: str, user_id: str) -> tuple[Batch, Role]:
        """Return a batch and its reader's role. Raises `Problem`, as for no batch, for everybody else."""
        batch = self.batches([batch_id]).get(batch_id)
        role = None if batch is None else self._role(batch, user_id)
        if batch is None or role is None:
            raise Problem(Code.BATCH_NOT_FOUND)
        return _for_reader(replace(batch, states=self.states(batch_id)), role), role

    def booking(self, booking_id: str, user_id: str) -> tuple[BookedLesson, Role]:
        """Return a lesson and its reader's role. Raises `Problem` for everybody else, likewise."""
        first, last, place = batch_range(booking_id)
        with self._store.read() as db:
            ids = bookings.batch_ids(db, first, last)
        batch = next(iter(self.batches(ids).values()), None) if len(ids) == 1 else None
        if batch and place < len(batch.lessons) and batch.is_booked(place):
            role = self._role(batch, user_id)
            if role is not None:
                seen = replace(batch, states=self.states(batch.id))
                return BookedLesson(_for_reader(seen, role), place), role
        raise Problem(Code.BOOKING_NOT_FOUND)

    def states(self, batch_id: str) -> Mapping[int, LessonState]:
        """Return a batch's lessons as they stand, by place; none that the projection does not have yet."""
        with self._store.read() as db:
            return bookings.states(db, batch_id)

    # --- A person's ---

    def page(self, user_id: str, person_id: str, side: Side, which: Selection) -> LessonPage:
        """Return some lessons of a person in order of time. Raises `Problem` unless the user may see them."""
        person = self._person(user_id, person_id, side)
        accounts = self._accounts(person)
        wait_for_projection(self._store, side, accounts)
        limit = which.limit or _PAGE
        with self._store.read() as db:
            found = bookings.page(
                db,
                side,
                accounts,
                limit + 1,
                after=None if which.cursor is None else _position(which.cursor),
                statuses=which.status,
                since=which.from_,
                until=which.to,
                descending=which.order == "desc",
            )
        page = found[:limit]
        role = Role(side) if person.id == user_id else Role.ARBITER
        cursor = _cursor(page[-1].position) if len(found) > len(page) else None
        return LessonPage(self._listed(page, role), role, cursor)

    def _listed(self, page: Sequence[ListedLesson], role: Role) -> list[BookedLesson]:
        batches = self.batches({each.batch_id for each in page})
        return [
            BookedLesson(
                _for_reader(replace(batches[each.batch_id], states={each.place: each.state}), role),
                each.place,
            )
            for each in page
        ]

    def nearest(
        self,
        user_id: str,
        person_id: str,
        side: Side,
        statuses: Collection[str],
        moment: datetime,
        limit: int,
    ) -> tuple[list[BookedLesson], Role]:
        """Return a person's lessons and their reader's role: first those to come, the next one first.

        Of those to come and of those past there are at most `limit` each. Raises `Problem` like `page`.
        """
        person = self._person(user_id, person_id, side)
        accounts = self._accounts(person)
        wait_for_projection(self._store, side, accounts)
        with self._store.read() as db:
            ahead = bookings.page(db, side, accounts, limit, statuses=statuses, since=moment)
            past = bookings.page(db, side, accounts, limit, statuses=statuses, until=moment, descending=True)
        role = Role(side) if person.id == user_id else Role.ARBITER
        return self._listed([*ahead, *past], role), role

    def stats(self, user_id: str, person_id: str) -> Stats:
        """Return the sums of a person's lessons, a tutor's as a tutor. Raises `Problem` like `page`."""
        person = self._person(user_id, person_id, "student")
        side: Side = "tutor" if person.role == "tutor" else "student"
        accounts = self._accounts(person)
        wait_for_projection(self._store, side, accounts)
        with self._store.read() as db:
            groups = bookings.groups(db, side, accounts)
        counts = {status: 0 for status in Status if status}
        amounts = dict(counts)
        for each in groups:
            counts[each.status] += each.count
            amounts[each.status] += each.count * each.amount
        return Stats(
            person.id,
            side,
            counts,
            amounts,
            paid=sum(each.count * each.to_tutor for each in groups),
            in_escrow=sum(each.count * each.amount for each in groups if each.status in OPEN),
            refunded=sum(each.count * each.to_student for each in groups),
        )

    # --- Who is who ---

    def _person(self, user_id: str, person_id: str, side: Side) -> User:
        """Return the person whose lessons are asked for: the reader, or for an operator anybody."""
        person = None
        if side == "tutor" and person_id != user_id:
            person = self._directory.tutor(person_id)
        person = person or self._directory.user(person_id)
        if (person is None or person.id != user_id) and user_id not in self._operators:
            raise Problem(Code.NOT_YOURS)
        if person is None:
            raise Problem(Code.USER_NOT_FOUND)
        return person

    def _role(self, batch: Batch, user_id: str) -> Role | None:
        if user_id in {batch.student_id, batch.tutor_id}:
            # A tutor's own time is a batch of the tutor's to themselves.
            return Role.TUTOR if user_id == batch.tutor_id else Role.STUDENT
        if user_id in self._operators:
            return Role.ARBITER
        user = self._directory.user(user_id)
        accounts = set() if user is None else self._accounts(user)
        return Role.TUTOR if batch.tutor in accounts else Role.STUDENT if batch.student in accounts else None

    def _accounts(self, user: User) -> set[str]:
        """Return the account in force and the custodial one: lessons go on with the account that booked."""
        kept = set() if user.kept_account is None else {self._custodian.signer(user.kept_account).address}
        return {to_address(user.wallet), *kept}

    def batches(self, batch_ids: Collection[str]) -> dict[str, Batch]:
        """Return these batches, whoever may see them."""
        with self._store.read() as db:
            here = repository.batches_by_id(db, batch_ids)
            missing = set(batch_ids) - set(here)
            return here | (bookings.batches_elsewhere(db, missing, self._zone) if missing else {})


def _for_reader(batch: Batch, role: Role) -> Batch:
    """Return the batch as this reader may see it: notes are between student and tutor."""
    return batch if role != Role.ARBITER else replace(batch, description=None, student_notes=None)


def beginning(page: LessonPage, count: int) -> LessonPage:
    """Return the first lessons of a page, as a page."""
    if count >= len(page.lessons):
        return page
    batch, place = page.lessons[count - 1]
    cursor = _cursor(Position(to_unix(batch.slot(place).start), batch.chain_id(place)))
    return LessonPage(page.lessons[:count], page.role, cursor)


def _cursor(position: Position) -> str:
    return f"{position.start}.{position.id}"


def _position(cursor: str) -> Position:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise Problem.of_field(Code.INVALID_CURSOR, "cursor")
    return Position(int(match[1]), match[2])
