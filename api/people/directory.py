"""Users and listings. The embedded directory is two tables of the service's own database."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Row, Select, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from api.chain.signers import Custodian
from api.db.store import Store
from api.db.tables import annonces, users
from api.people.schedule import SCHEDULE, Schedule
from api.schemas import requests
from creneau.amounts import to_wei


class AccountTaken(ValueError):
    """A user's account, or profile, is another user's already."""


class Name(NamedTuple):
    """A person's name and e-mail address, for people who share a lesson; empty where nothing is known."""

    first_name: str = ""
    last_name: str = ""
    email: str = ""


NO_NAME = Name()


@dataclass(frozen=True)
class User:
    """A student or a tutor; `custodial_account` is None if the wallet is the user's own.

    Both accounts are the custodian's references. `kept_account` is the custodial one, in force or not:
    earlier orders and their money are its.
    """

    id: str
    role: str
    profile_id: str | None
    wallet: str
    custodial_account: str | None
    kept_account: str | None = None
    schedule: Schedule | None = None  # None: no limits.
    time_zone: str | None = None  # The schedule's; None: the annonce's.
    name: Name = NO_NAME


@dataclass(frozen=True)
class Annonce:
    """A tutor's listing, with its rate in base units an hour."""

    id: str
    tutor_id: str
    title: str
    hourly_rate: int
    time_zone: str | None
    subject: str | None = None
    description: str | None = None
    level: str | None = None
    teaching_mode: str | None = None


class Directory(Protocol):
    """A source of users and listings, with None for those that do not exist."""

    def user(self, user_id: str) -> User | None:
        """Return a user by id."""

    def tutor(self, tutor_id: str) -> User | None:
        """Return a user by id, or by the id of the tutor's profile."""

    def annonce(self, annonce_id: str) -> Annonce | None:
        """Return a listing by id."""

    def names(self, user_ids: Collection[str]) -> dict[str, Name]:
        """Return the names of those of these users that are known, perhaps a minute old."""

    def annonces(self, annonce_ids: Collection[str]) -> dict[str, Annonce]:
        """Return those of these listings that are known, perhaps a minute old."""


class TableDirectory:
    """The embedded directory."""

    def __init__(self, store: Store, custodian: Custodian) -> None:
        self._store = store
        self._custodian = custodian

    def user(self, user_id: str) -> User | None:
        """Return a user by id."""
        return self._user(select(users).where(users.c.id == user_id))

    def tutor(self, tutor_id: str) -> User | None:
        """Return a user by id, or by the id of the tutor's profile."""
        return self._user(select(users).where(or_(users.c.id == tutor_id, users.c.profile_id == tutor_id)))

    def annonce(self, annonce_id: str) -> Annonce | None:
        """Return a listing by id."""
        with self._store.read() as db:
            row = db.execute(select(annonces).where(annonces.c.id == annonce_id)).one_or_none()
        return None if row is None else Annonce(**row._mapping)

    def names(self, user_ids: Collection[str]) -> dict[str, Name]:
        """Return the names of those of these users that are known."""
        with self._store.read() as db:
            rows = db.execute(select(users).where(users.c.id.in_(user_ids))).all()
        return {row.id: _name(row) for row in rows}

    def annonces(self, annonce_ids: Collection[str]) -> dict[str, Annonce]:
        """Return those of these listings that are known."""
        with self._store.read() as db:
            rows = db.execute(select(annonces).where(annonces.c.id.in_(annonce_ids))).all()
        return {row.id: Annonce(**row._mapping) for row in rows}

    def create_user(
        self,
        user_id: str,
        role: str,
        *,
        profile_id: str | None = None,
        wallet: str | None = None,
        schedule: list[dict[str, Any]] | None = None,
        name: Name = NO_NAME,
    ) -> User:
        """Add a user, with a wallet of their own or a custodial account. A known id stays as it is.

        Raises `AccountTaken` if the account or the profile is somebody else's.
        """
        if known := self.user(user_id):
            return known
        account = None if wallet else self._custodian.account_of(user_id)
        address = wallet or self._custodian.signer(self._custodian.account_of(user_id)).address
        user = User(user_id, role, profile_id, address, account, account, _schedule(schedule), name=name)
        row = {name: value for name, value in vars(user).items() if name in users.c}
        try:
            with self._store.write() as db:
                db.execute(insert(users), row | name._asdict() | {"schedule": schedule})
        except IntegrityError:
            if known := self.user(user_id):  # Added twice at once.
                return known
            taken = f"{user_id}: the account {address}, or the profile, is another user's"
            raise AccountTaken(taken) from None
        return user

    def set_wallet(self, db: Connection, user: User, wallet: str | None) -> None:
        """Put a user's own wallet in force or, with None, the user's custodial account.

        Raises `IntegrityError` if the wallet is somebody's already.
        """
        values: dict[str, Any] = {"wallet": wallet, "custodial_account": None}
        if wallet is None:
            account = user.kept_account or self._custodian.account_of(user.id)
            address = self._custodian.signer(account).address
            values = {"wallet": address, "custodial_account": account, "kept_account": account}
        db.execute(update(users).where(users.c.id == user.id).values(values))

    def create_annonce(self, annonce: Annonce) -> None:
        """Add a listing. A known id stays as it is."""
        with self._store.write() as db:
            if db.execute(select(annonces.c.id).where(annonces.c.id == annonce.id)).one_or_none() is None:
                db.execute(insert(annonces).values(**vars(annonce)))

    def _user(self, query: Select[Any]) -> User | None:
        with self._store.read() as db:
            row = db.execute(query).one_or_none()
        if row is None:
            return None
        known = {name: value for name, value in row._mapping.items() if name not in Name._fields}
        return User(**known | {"schedule": _schedule(row.schedule), "name": _name(row)})


def seed(directory: TableDirectory) -> tuple[User, User, Annonce]:
    """Return the demonstration's student, tutor and listing, which are added unless they are there."""
    camille = Name("Camille", "Durand", "camille@example.org")
    student = directory.create_user(requests.STUDENT, "student", name=camille)
    dominique = Name("Dominique", "Moreau", "dominique@example.org")
    tutor = directory.create_user(requests.TUTOR, "tutor", profile_id=requests.TUTOR_PROFILE, name=dominique)
    title = "Cours de Deep Learning avancé"
    about = {"subject": "Deep Learning", "level": "Master", "teaching_mode": "En ligne"}
    annonce = Annonce(requests.ANNONCE, tutor.id, title, to_wei(35), "Europe/Paris", **about)
    directory.create_annonce(annonce)
    return student, tutor, annonce


def _name(row: Row[Any]) -> Name:
    return Name(row.first_name or "", row.last_name or "", row.email or "")


def _schedule(days: list[dict[str, Any]] | None) -> Schedule | None:
    return None if days is None else SCHEDULE.validate_python(days)
