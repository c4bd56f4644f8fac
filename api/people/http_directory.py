"""The directory of an existing user service, over HTTP.

    GET /api/users/{id}                      {"data": {"id", "role", "firstName"?, "lastName"?, "email"?}}
    GET /api/profile/tutors/{id}             {"data": {"id", "userId", "timeZone"?, "schedule"?}}
    GET /api/profile/tutors/user/{userId}    the same
    GET /api/annonces/{id}                   {"data": {"id", "tutorId", "title", "hourlyRate", "timeZone"?,
                                                       "subject"?, "description"?, "level"?, "teachingMode"?}}

Names, roles, titles, rates and schedules are the user service's. Accounts are not: the table `users` has
them, because only a signature tells whose a wallet is. Users get their custodial account with the first
look-up.
"""

import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
import structlog
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from api.db import decimal_json as exact
from api.errors import Code, Problem
from api.people.directory import Annonce, Name, TableDirectory, User
from api.people.schedule import Schedule
from api.schemas.requests import ID_PATTERN, Id, TimeZone
from api.settings import Settings
from creneau.amounts import to_wei
from creneau.types import TokenAmount

log = structlog.get_logger()

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.1
_BUSY = frozenset({429, 502, 503, 504})
_MOST_BYTES = 1024 * 1024
_NOT_FOUND = {"annonces": {400, 404}}  # A service may call an unknown listing a bad request.
_KEPT_SECONDS, _MOST_KEPT = 60.0, 10_000
_AT_ONCE = 8

caller_token: ContextVar[str | None] = ContextVar("caller_token", default=None)
"""The token of the request that is being answered, if the settings have it forwarded."""


class _Found(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)

    id: Id


class _User(_Found):
    role: str
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None

    @property
    def name(self) -> Name:
        return Name(self.first_name or "", self.last_name or "", self.email or "")


class _Tutor(_Found):
    user_id: Id
    time_zone: TimeZone | None = None
    schedule: Schedule | None = None


class _Annonce(_Found):
    tutor_id: Id
    title: str
    hourly_rate: TokenAmount
    time_zone: TimeZone | None = None
    subject: str | None = None
    description: str | None = None
    level: str | None = None
    teaching_mode: str | None = None


_Model = TypeVar("_Model", bound=_Found)
_Entry = TypeVar("_Entry")


class _Kept(Generic[_Entry]):
    """Entries that were looked up within the last minute, and those that were not there."""

    def __init__(self, look_up: Callable[[str], _Entry | None]) -> None:
        self._look_up = look_up
        self._kept: dict[str, tuple[float, _Entry | None]] = {}

    def get(self, ids: Collection[str]) -> dict[str, _Entry]:
        """Return those of these entries that are there; each is asked for once, several at a time."""
        moment = time.monotonic()
        kept = {id_: entry for id_ in ids if (entry := self._kept.get(id_)) and entry[0] > moment}
        missing = sorted({*ids} - {*kept})
        if missing:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                asked = [pool.submit(copy_context().run, self._ask, id_) for id_ in missing]
            kept |= {
                id_: (moment + _KEPT_SECONDS, each.result()) for id_, each in zip(missing, asked, strict=True)
            }
            if len(self._kept) > _MOST_KEPT:
                self._kept = {}
            self._kept.update((id_, kept[id_]) for id_ in missing)
        return {id_: entry for id_, (_, entry) in kept.items() if entry is not None}

    def _ask(self, id_: str) -> _Entry | None:
        try:
            return self._look_up(id_)
        except Problem:  # Which the log tells. A list of lessons is worth more than the names on it.
            return None


class HttpDirectory:
    """Looks up users and listings at the user service; threads share it. Raises `Problem` if that fails."""

    def __init__(self, settings: Settings, accounts: TableDirectory) -> None:
        self._accounts = accounts
        self._seconds = settings.directory_timeout_seconds
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if settings.directory_bearer:
            headers["Authorization"] = f"Bearer {settings.directory_bearer}"
        self._http = httpx.Client(
            base_url=str(settings.directory_url), headers=headers, timeout=self._seconds, trust_env=False
        )
        self._names = _Kept(self._name)
        self._annonces = _Kept(self.annonce)

    def user(self, user_id: str) -> User | None:
        """Return a user by id."""
        found = self._get("users", user_id, _User)
        return None if found is None else self._account(found.id, found.role.lower(), name=found.name)

    def tutor(self, tutor_id: str) -> User | None:
        """Return a user by id, or by the id of the tutor's profile. Nobody is a tutor without a profile."""
        found = self._profile(tutor_id) or self._get("profile/tutors/user", tutor_id, _Tutor, by="user_id")
        if found is None:
            return None
        known = {"profile_id": found.id, "time_zone": found.time_zone, "schedule": found.schedule}
        return self._account(found.user_id, "tutor", **known)

    def annonce(self, annonce_id: str) -> Annonce | None:
        """Return a listing by id, which has the id of the tutor's user or profile."""
        found = self._get("annonces", annonce_id, _Annonce)
        if found is None:
            return None
        return Annonce(**vars(found) | {"hourly_rate": to_wei(found.hourly_rate)})

    def names(self, user_ids: Collection[str]) -> dict[str, Name]:
        """Return the names of those of these users that are known, at most a minute old."""
        return self._names.get(user_ids)

    def annonces(self, annonce_ids: Collection[str]) -> dict[str, Annonce]:
        """Return those of these listings that are known, at most a minute old."""
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
        account = self._accounts.user(user_id) or self._accounts.create_user(user_id, role)
        return User(**vars(account) | {"role": role, **known})

    def _get(self, path: str, entry: str, model: type[_Model], *, by: str | None = "id") -> _Model | None:
        if not ID_PATTERN.fullmatch(entry) or not entry.strip("."):
            return None
        status, body = self._fetch(f"/api/{path}/{quote(entry, safe='')}")
        if status in _NOT_FOUND.get(path, {404}):
            return None
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
            except httpx.TransportError as error:
                reason = type(error).__name__
                continue
            if status not in _BUSY:
                return status, body
            reason = f"status {status}"
        log.warning("the user service does not answer", reason=reason)
        raise Problem(Code.DIRECTORY_UNAVAILABLE)

    def _ask(self, path: str) -> tuple[int, bytes]:
        until, body = time.monotonic() + self._seconds, bytearray()
        token = caller_token.get()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        with self._http.stream("GET", path, headers=headers) as answer:
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise _odd("a body too large")
                if time.monotonic() > until:
                    raise httpx.ReadTimeout("it goes on and on")
        return answer.status_code, bytes(body)


def _odd(reason: str) -> Problem:
    log.warning("the user service answers oddly", reason=reason)
    return Problem(Code.DIRECTORY_INVALID)
