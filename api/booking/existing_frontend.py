"""Lessons and money as the existing frontend shows them: with names, notes and listings, asked once a page.

Names and e-mail addresses are for people who share a lesson. An operator sees everything else.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from api.booking.actions import LessonAction
from api.booking.models import BookedLesson
from api.booking.money import Account, Accounts, Movement
from api.booking.queries import LessonQueries
from api.chain.escrow import Chain
from api.chain.rpc import NodeUnavailable, RpcError
from api.db import money
from api.db.bookings import Side
from api.db.money import Notes
from api.db.store import Store
from api.errors import Code, Problem
from api.people.directory import NO_NAME, Annonce, Directory, Name, User
from api.schemas.requests import MOVEMENT_CURSOR
from api.settings import Settings
from creneau.lifecycle import Role
from creneau.types import from_unix

_CURSOR = re.compile(MOVEMENT_CURSOR)
MOST_LESSONS = 200  # To come, and likewise past, of a list that is asked for as a whole.


@dataclass(frozen=True)
class SharedLesson:
    """A lesson as one reader sees it, with the people and the listing that it is about."""

    lesson: BookedLesson
    role: Role
    student: Name
    tutor: Name
    annonce: Annonce | None
    notes: Notes
    cancelled_by: Role | None  # None also if the chain let anybody do it.


class Wallet(NamedTuple):
    """A user's account with its money, and the user's name if the reader may know it."""

    user: User
    name: Name
    account: Account


@dataclass(frozen=True)
class Entry:
    """A movement of money, with the lesson that it is for and the names of its people."""

    movement: Movement
    block_hash: str
    lesson: BookedLesson | None
    annonce: Annonce | None
    tutor: Name
    other: Name  # The other party of the lesson, or of the transfer.
    other_id: str | None  # Of the transfer, if the two share a lesson.


class Period(NamedTuple):
    """Sums in base units of the money that came and went."""

    sent: int
    received: int


class ExistingFrontend:
    """Reads lessons and money as the existing frontend shows them, and keeps its notes."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        chain: Chain,
        directory: Directory,
        lessons: LessonQueries,
    ) -> None:
        self._store = store
        self._chain = chain
        self._directory = directory
        self._lessons = lessons
        self._accounts = Accounts(settings, store, chain)
        self._operators = settings.operator_ids
        self._zone = ZoneInfo(settings.time_zone)

    # --- Lessons ---

    def now(self) -> datetime:
        """Return the time: the chain's, or this machine's if that is later, as before the next block.

        Without a node it is this machine's: by the time lessons are listed, and nothing is decided.
        """
        here = datetime.now(self._zone)
        with suppress(NodeUnavailable, RpcError):
            head = self._chain.node.call("eth_getBlockByNumber", "latest", False)
            return max(from_unix(int(head["timestamp"], 16)), here)
        return here

    def of_person(
        self, user_id: str, person_id: str, side: Side, statuses: Sequence[str] = ()
    ) -> list[SharedLesson]:
        """Return a person's lessons, those to come first. Raises `Problem` unless the user may see them."""
        lessons, role = self._lessons.nearest(user_id, person_id, side, statuses, self.now(), MOST_LESSONS)
        return self.shared([(each, role) for each in lessons])

    def on_both_sides(
        self, user_id: str, person_id: str, statuses: Sequence[str] = ()
    ) -> tuple[list[SharedLesson], list[SharedLesson]]:
        """Return a person's lessons as student, and as tutor, with one look at what is around all of them."""
        now, find = self.now(), self._lessons.nearest
        learnt, as_student = find(user_id, person_id, "student", statuses, now, MOST_LESSONS)
        given, as_tutor = find(user_id, person_id, "tutor", statuses, now, MOST_LESSONS)
        shared = self.shared(
            [*((each, as_student) for each in learnt), *((each, as_tutor) for each in given)]
        )
        return shared[: len(learnt)], shared[len(learnt) :]

    def one(self, user_id: str, booking_id: str) -> SharedLesson:
        """Return a lesson. Raises `Problem` unless the user may see it."""
        lesson, role = self._lessons.booking(booking_id, user_id)
        return self.shared([(lesson, role)])[0]

    def shared(self, lessons: Sequence[tuple[BookedLesson, Role]]) -> list[SharedLesson]:
        """Return lessons with everything around them, for a reader who has these roles in them."""
        ids = [batch.chain_id(place) for (batch, place), _ in lessons]
        party = [each for each, role in lessons if role != Role.ARBITER]
        names = self._names(party)
        annonces = self._annonces([each for each, _ in lessons])
        with self._store.read() as db:
            notes = money.notes(db, [batch.chain_id(place) for batch, place in party])
            cancelled = money.cancelled_by(db, ids)
        return [
            SharedLesson(
                lesson,
                role,
                names.get(lesson.batch.student_id, NO_NAME),
                names.get(lesson.batch.tutor_id, NO_NAME),
                annonces.get(lesson.batch.annonce_id or ""),
                notes.get(id_, Notes()),
                {lesson.batch.student: Role.STUDENT, lesson.batch.tutor: Role.TUTOR}.get(
                    cancelled.get(id_, "")
                ),
            )
            for (lesson, role), id_ in zip(lessons, ids, strict=True)
        ]

    def keep_note(self, db: Connection, action: LessonAction, **values: str | None) -> None:
        """Keep the actor's words about the lessons of an action. An empty text changes nothing."""
        said = {name: text for name, text in values.items() if text and text.strip()}
        if said:
            for place in action.todo:
                money.put_notes(db, action.batch.chain_id(place), **said)

    # --- Money ---

    def wallet(self, user_id: str, person_id: str) -> Wallet:
        """Return a user's account. Raises `Problem` unless it is the reader's, or the reader an operator."""
        if person_id != user_id and user_id not in self._operators:
            raise Problem(Code.NOT_YOURS)
        person = self._directory.user(person_id)
        if person is None:
            raise Problem(Code.UNKNOWN_USER if person_id == user_id else Code.USER_NOT_FOUND)
        name = person.name if person_id == user_id else NO_NAME
        return Wallet(person, name, self._accounts.read(person.wallet))

    def entries(self, user_id: str, wallet: Wallet, movements: Sequence[Movement]) -> list[Entry]:
        """Return movements of an account with everything around them."""
        of_batches = {each.lesson.batch_id for each in movements if each.lesson}
        batches = self._lessons.batches(of_batches)
        lessons = {
            each.lesson.id: BookedLesson(batches[each.lesson.batch_id], int(each.lesson.id[-2:], 16))
            for each in movements
            if each.lesson
        }
        known = self._sharers(wallet, movements)
        mine = user_id == wallet.user.id
        role = Role.STUDENT if mine else Role.ARBITER
        names = self._names([] if role == Role.ARBITER else list(lessons.values()))
        names |= self._directory.names({*known.values()}) if mine and known else {}
        annonces = self._annonces(list(lessons.values()))
        hashes = self._accounts.block_hashes([each.block_number for each in movements])
        found: list[Entry] = []
        for each in movements:
            lesson = lessons.get(each.lesson.id) if each.lesson else None
            other_id = known.get(each.other) if mine else None
            tutor, annonce = NO_NAME, None
            if lesson is not None:
                is_student = each.lesson is not None and each.lesson.student == wallet.account.address
                other_id = lesson.batch.tutor_id if is_student else lesson.batch.student_id
                tutor = names.get(lesson.batch.tutor_id, NO_NAME)
                annonce = annonces.get(lesson.batch.annonce_id or "")
            other = names.get(other_id or "", NO_NAME)
            found.append(Entry(each, hashes[each.block_number], lesson, annonce, tutor, other, other_id))
        return found

    def periods(self, account: Account) -> tuple[Period, Period, Period]:
        """Return the sums of today and of this month, by the service's time zone, and of all time."""
        day = datetime.now(self._zone).replace(hour=0, minute=0, second=0, microsecond=0)
        return (
            _sums(account.movements, day.timestamp()),
            _sums(account.movements, day.replace(day=1).timestamp()),
            _sums(account.movements, 0),
        )

    def chosen(
        self, account: Account, since: datetime | None, until: datetime | None, kind: str | None
    ) -> list[Movement]:
        """Return an account's movements from one time until just before another, of a kind or direction.

        A naive time is in the service's time zone. INCOMING and OUTGOING are the directions.
        """
        first, last = self._unix(since, 0.0), self._unix(until, inf)
        return [
            each
            for each in account.movements
            if first <= each.at < last
            and kind in {None, "", each.kind, "INCOMING" if each.incoming else "OUTGOING"}
        ]

    @staticmethod
    def after(movements: Sequence[Movement], cursor: str) -> Sequence[Movement]:
        """Return the movements after the page that gave this cursor. Raises `Problem` if none did."""
        match = _CURSOR.fullmatch(cursor)
        if match is None:
            raise Problem.of_field(Code.INVALID_CURSOR, "cursor")
        last = (int(match[1]), int(match[2]), match[3])
        return [each for each in movements if each.order < last]

    def _unix(self, moment: datetime | None, otherwise: float) -> float:
        if moment is None:
            return otherwise
        return (moment if moment.tzinfo else moment.replace(tzinfo=self._zone)).timestamp()

    # --- Names ---

    def _names(self, lessons: Sequence[BookedLesson]) -> dict[str, Name]:
        """Return the names of the people of these lessons, for a reader who shares them."""
        if not lessons:
            return {}
        ids = {id_ for each in lessons for id_ in (each.batch.student_id, each.batch.tutor_id)}
        return self._directory.names({id_ for id_ in ids if not id_.startswith("0x")})

    def _annonces(self, lessons: Sequence[BookedLesson]) -> dict[str, Annonce]:
        ids = {each.batch.annonce_id for each in lessons if each.batch.annonce_id}
        return self._directory.annonces(ids) if ids else {}

    def _sharers(self, wallet: Wallet, movements: Sequence[Movement]) -> dict[str, str]:
        """Return the users by account who made a transfer with this one, and share a lesson with it."""
        ours = {each.lesson for each in wallet.account.movements if each.lesson}
        shared = {each.student for each in ours} | {each.tutor for each in ours}
        others = {each.other for each in movements if each.lesson is None} & shared
        with self._store.read() as db:
            return money.owners(db, others) if others else {}


def _sums(movements: Sequence[Movement], since: float) -> Period:
    """Return the sums of the movements since then, in unix seconds, without what is still in the escrow."""
    changes = [each.signed for each in movements if each.at >= since]
    return Period(-sum(each for each in changes if each < 0), sum(each for each in changes if each > 0))
