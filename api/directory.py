"""Users and annonces. Embedded: two tables of the shim's database."""

from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Row, func, insert, or_, select

from api import models
from api.custody import Custodian
from api.store import Store, annonces, users
from creneau.amounts import to_wei


@dataclass(frozen=True)
class User:
    """A student or a tutor; `custody_index` is None when the wallet is the user's own."""

    id: str
    role: str
    profile_id: str | None
    wallet: str
    custody_index: int | None


@dataclass(frozen=True)
class Annonce:
    """What a tutor offers, with its rate in base units an hour."""

    id: str
    tutor_id: str
    title: str
    hourly_rate: int
    time_zone: str | None


class Directory(Protocol):
    """Where users and annonces are looked up; None for one that does not exist."""

    def user(self, user_id: str) -> User | None:
        """A user by id."""

    def tutor(self, tutor_id: str) -> User | None:
        """A user by id, or by the id of the tutor's profile."""

    def annonce(self, annonce_id: str) -> Annonce | None:
        """An annonce by id."""


class TableDirectory:
    """The embedded directory."""

    def __init__(self, store: Store, custodian: Custodian) -> None:
        self._store = store
        self._custodian = custodian

    def user(self, user_id: str) -> User | None:
        """A user by id."""
        return _user(self._row(select(users).where(users.c.id == user_id)))

    def tutor(self, tutor_id: str) -> User | None:
        """A user by id, or by the id of the tutor's profile."""
        return _user(
            self._row(select(users).where(or_(users.c.id == tutor_id, users.c.profile_id == tutor_id)))
        )

    def annonce(self, annonce_id: str) -> Annonce | None:
        """An annonce by id."""
        row = self._row(select(annonces).where(annonces.c.id == annonce_id))
        return None if row is None else Annonce(**row._mapping)

    def create_user(
        self, user_id: str, role: str, *, profile_id: str | None = None, wallet: str | None = None
    ) -> User:
        """Adds a user, with a wallet of his own or the next custodial account. A known id stays as it is."""
        with self._store.write() as db:
            if known := _user(db.execute(select(users).where(users.c.id == user_id)).one_or_none()):
                return known
            last = db.execute(select(func.max(users.c.custody_index))).scalar_one()
            index = None if wallet else 0 if last is None else last + 1
            address = wallet or self._custodian.address(index or 0)
            user = User(user_id, role, profile_id, address, index)
            db.execute(insert(users).values(**vars(user)))
        return user

    def create_annonce(self, annonce: Annonce) -> None:
        """Adds an annonce. A known id stays as it is."""
        with self._store.write() as db:
            if db.execute(select(annonces.c.id).where(annonces.c.id == annonce.id)).one_or_none() is None:
                db.execute(insert(annonces).values(**vars(annonce)))

    def _row(self, query: Any) -> Row[Any] | None:
        with self._store.read() as db:
            return db.execute(query).one_or_none()


def seed(directory: TableDirectory) -> tuple[User, User, Annonce]:
    """The demonstration's student, tutor and annonce, created unless they are there."""
    student = directory.create_user(models.STUDENT, "student")
    tutor = directory.create_user(models.TUTOR, "tutor", profile_id=models.TUTOR_PROFILE)
    title = "Cours de Deep Learning avancé"
    annonce = Annonce(models.ANNONCE, tutor.id, title, to_wei(35), "Europe/Paris")
    directory.create_annonce(annonce)
    return student, tutor, annonce


def _user(row: Row[Any] | None) -> User | None:
    return None if row is None else User(**row._mapping)
