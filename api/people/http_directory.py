"""The directory of an existing user service, over HTTP.

    GET /api/users/{id}                      {"data": {"id", "role", "firstName"?, "lastName"?, "email"?}}
    GET /api/profile/tutors/{id}             {"data": {"id", "userId", "timeZone"?, "schedule"?,
                                                       "user": {"id", "firstName"?, "lastName"?, "email"?}?}}
    GET /api/profile/tutors/user/{userId}    the same
    GET /api/annonces/{id}                   {"data": {"id", "tutorId", "title", "hourlyRate", "timeZone"?,
                                                       "subject"?, "description"?, "level"?, "teachingMode"?}}

Names, roles, titles, rates and schedules are the user service's. Accounts are not: the table `users` has
them, because only a signature tells whose a wallet is. Users get their custodial account with the first
look-up.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import quote

import httpx
import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from sqlalchemy.exc import IntegrityError

from api.db import decimal_json as exact
from api.db import entries
from api.db.store import Store
from api.errors import Code, Problem
from api.http_client import HttpClient, OddAnswer
from api.people.directory import AccountTaken, Annonce, Name, TableDirectory, User
from api.people.schedule import Schedule
from api.schemas.requests import ID_PATTERN, Description, Id, TimeZone, text
from api.settings import Settings
from creneau.amounts import to_wei
from creneau.types import TokenAmount

log = structlog.get_logger()

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.1
_BUSY = frozenset({429, 502, 503, 504})
_MOST_BYTES = 1024 * 1024
_NOT_FOUND = {"annonces": {400, 404}}  # A service may call an unknown listing a bad request.
_FRESH_SECONDS, _MOST_FRESH = 60.0, 10_000
_MOST_ASKED = 8
"""Entries of a kind that a list asks for, at once."""

caller_token: ContextVar[str | None] = ContextVar("caller_token", default=None)
"""The token of the request that is being answered, if the settings have it forwarded."""


class _Found(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)

    id: Id


_Line = Annotated[str, Field(max_length=1_000), AfterValidator(text)]


class _Person(_Found):
    first_name: _Line | None = None
    last_name: _Line | None = None
    email: _Line | None = None

    @property
    def name(self) -> Name:
        return Name(self.first_name or "", self.last_name or "", self.email or "")


class _User(_Person):
    role: Annotated[str, Field(max_length=64), AfterValidator(text)]


class _Tutor(_Found):
    user_id: Id
    user: _Person | None = None
    time_zone: TimeZone | None = None
    schedule: Schedule | None = None


class _Annonce(_Found):
    tutor_id: Id
    title: _Line
    hourly_rate: TokenAmount
    time_zone: TimeZone | None = None
    subject: _Line | None = None
    description: Description | None = None
    level: _Line | None = None
    teaching_mode: _Line | None = None


_Model = TypeVar("_Model", bound=_Found)
_Entry = TypeVar("_Entry")


class _Kept(Generic[_Entry]):
    """The last known entries of a kind.

    A list asks the user service for few of them, however long it is: for those that nobody ever asked for,
    then for those that were asked for longest ago. The others are as they were said last.
    """

    def __init__(
        self, store: Store, kind: str, look_up: Callable[[str], _Entry | None], load: Callable[[Any], _Entry]
    ) -> None:
        self._store, self._kind = store, kind
        self._look_up, self._load = look_up, load
        self._fresh: dict[str, tuple[float, _Entry | None]] = {}  # With the times at which they were said.

    def get(self, ids: Collection[str]) -> dict[str, _Entry]:
        """Return those of these entries that are known."""
        now = time.monotonic()
        found = {id_: entry for id_ in ids if (entry := self._fresh.get(id_))}
        old = {*ids} - {id_ for id_, (said, _) in found.items() if now - said < _FRESH_SECONDS}
        known = {id_: entry for id_, (_, entry) in found.items()}
        if old:
            stored = self._stored(old)
            known |= {id_: self._load(entry) for id_, entry in stored.items()}
            said = self._ask(sorted(old, key=lambda id_: (id_ in known, found.get(id_, (0.0, None))[0])))
            self._keep(said, stored)
            known |= said
        return {id_: entry for id_, entry in known.items() if entry is not None}

    def keep(self, said: Mapping[str, _Entry | None]) -> None:
        """Keep what the user service said of entries."""
        self._keep(said, self._stored(said))

    def _stored(self, ids: Collection[str]) -> dict[str, Any]:
        with self._store.read() as db:
            return entries.entries(db, self._kind, ids)

    def _keep(self, said: Mapping[str, _Entry | None], stored: Mapping[str, Any]) -> None:
        new = {id_: None if entry is None else _plain(entry) for id_, entry in said.items()}
        changed = {id_: entry for id_, entry in new.items() if entry != stored.get(id_)}
        if changed:
            # Where two keep the same at once, one is enough.
            with suppress(IntegrityError), self._store.write() as db:
                entries.keep(db, self._kind, changed)

    def _ask(self, ids: Sequence[str]) -> dict[str, _Entry | None]:
        """Return what the service says of the first of these, all at a time; no entry where it fails."""
        with ThreadPoolExecutor(_MOST_ASKED) as pool:
            asked = {id_: pool.submit(copy_context().run, self._look_up, id_) for id_ in ids[:_MOST_ASKED]}
        said: dict[str, _Entry | None] = {}
        for id_, each in asked.items():
            # The log tells of a problem. A list of lessons is worth more than the names on it.
            with suppress(Problem):
                said[id_] = each.result()
        if len(self._fresh) > _MOST_FRESH:
            self._fresh = {}
        now = time.monotonic()
        self._fresh |= {id_: (now, entry) for id_, entry in said.items()}
        return said


def _plain(entry: Any) -> dict[str, Any]:
    """Return an entry as the database has it."""
    return dict(entry._asdict() if isinstance(entry, Name) else vars(entry))


class HttpDirectory:
    """Looks up users and listings at the user service; threads share it. Raises `Problem` if that fails."""

    def __init__(self, settings: Settings, store: Store, accounts: TableDirectory) -> None:
        self._accounts = accounts
        self._needs_caller = settings.directory_forwards_token and not settings.directory_bearer
        headers = {"Accept": "application/json"}
        if settings.directory_bearer:
            headers["Authorization"] = f"Bearer {settings.directory_bearer}"
        url, seconds = str(settings.directory_url), settings.directory_timeout_seconds
        self._http = HttpClient(url, seconds, _MOST_BYTES, headers)
        self._names = _Kept(store, "name", self._name, lambda entry: Name(**entry))
        self._annonces = _Kept(store, "annonce", self._annonce, lambda entry: Annonce(**entry))

    def user(self, user_id: str) -> User | None:
        """Return a user by id."""
        found = self._get("users", user_id, _User)
        if found is None:
            return None
        self._names.keep({found.id: found.name})
        return self._account(found.id, found.role.lower(), name=found.name)

    def tutor(self, tutor_id: str) -> User | None:
        """Return a user by id, or by the id of the tutor's profile. Nobody is a tutor without a profile."""
        found = self._profile(tutor_id) or self._get("profile/tutors/user", tutor_id, _Tutor, by="user_id")
        if found is None:
            return None
        if found.user is not None and found.user.id == found.user_id:
            self._names.keep({found.user_id: found.user.name})
        known = {"profile_id": found.id, "time_zone": found.time_zone, "schedule": found.schedule}
        return self._account(found.user_id, "tutor", **known)

    def annonce(self, annonce_id: str) -> Annonce | None:
        """Return a listing by id, which has the id of the tutor's user or profile."""
        found = self._annonce(annonce_id)
        if found is not None:
            self._annonces.keep({found.id: found})
        return found

    def _annonce(self, annonce_id: str) -> Annonce | None:
        found = self._get("annonces", annonce_id, _Annonce)
        if found is None:
            return None
        return Annonce(**vars(found) | {"hourly_rate": to_wei(found.hourly_rate)})

    def names(self, user_ids: Collection[str]) -> dict[str, Name]:
        """Return the last known names of these users, most of them at most a minute old."""
        return self._names.get(user_ids)

    def annonces(self, annonce_ids: Collection[str]) -> dict[str, Annonce]:
        """Return the last known of these listings, most of them at most a minute old."""
        return self._annonces.get(annonce_ids)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _name(self, user_id: str) -> Name | None:
        found = self._get("users", user_id, _User)
        return None if found is None else found.name

    def _profile(self, tutor_id: str) -> _Tutor | None:
        found = self._get("profile/tutors", tutor_id, _Tutor, by=None)
        if found is not None and tutor_id not in {found.id, found.user_id}:
            raise _odd("another tutor's profile")
        return found

    def _account(self, user_id: str, role: str, **known: Any) -> User:
        try:
            account = self._accounts.user(user_id) or self._accounts.create_user(user_id, role)
        except AccountTaken as error:
            log.error("a new user would have another user's account", reason=str(error))
            raise Problem(Code.ACCOUNT_TAKEN) from None
        return User(**vars(account) | {"role": role, **known})

    def _get(self, path: str, entry: str, model: type[_Model], *, by: str | None = "id") -> _Model | None:
        if not ID_PATTERN.fullmatch(entry) or not entry.strip("."):
            return None
        status, body = self._fetch(f"/api/{path}/{quote(entry, safe='')}")
        if status in _NOT_FOUND.get(path, {404}):
            return None
        if status == 401 and self._needs_caller and caller_token.get() is None:
            raise Problem(Code.TOKEN_MISSING)
        if status in {401, 403}:
            log.warning("the user service refuses", status=status)
            raise Problem(Code.DIRECTORY_REFUSED, reason=str(status))
        if status != 200:
            raise _odd(f"status {status}")
        try:
            data = exact.loads(body)["data"]
            found = model.model_validate(data)
        except ValidationError as error:
            names = {".".join(map(str, each["loc"])) for each in error.errors()}
            raise _odd(f"fields {', '.join(sorted(names)) or 'missing'}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise _odd(type(error).__name__) from None
        if by is not None and getattr(found, by) != entry:
            raise _odd("another id")
        return found

    def _fetch(self, path: str) -> tuple[int, bytes]:
        """Return status and body. Try again if the service is busy or the connection fails."""
        reason = ""
        for attempt in range(_ATTEMPTS):
            time.sleep(_PAUSE_SECONDS * attempt)
            try:
                status, body = self._ask(path)
            except (httpx.TransportError, TimeoutError) as error:
                reason = type(error).__name__
                continue
            if status not in _BUSY:
                return status, body
            reason = f"status {status}"
        log.warning("the user service does not answer", reason=reason)
        raise Problem(Code.DIRECTORY_UNAVAILABLE)

    def _ask(self, path: str) -> tuple[int, bytes]:
        token = caller_token.get()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            return self._http.run(self._http.ask("GET", path, **headers))
        except OddAnswer as error:
            raise _odd(str(error)) from None


def _odd(reason: str) -> Problem:
    log.warning("the user service answers oddly", reason=reason)
    return Problem(Code.DIRECTORY_INVALID)
