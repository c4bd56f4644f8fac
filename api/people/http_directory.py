"""The directory of an existing user service, over HTTP.

    GET /api/users/{id}            {"data": {"id", "role", "profileId"?}}
    GET /api/profile/tutors/{id}   {"data": {"id", "userId", "timeZone"?, "schedule"?}}
    GET /api/annonces/{id}         {"data": {"id", "tutorId", "title", "hourlyRate", "timeZone"?}}

Roles, titles, rates and schedules are the user service's. Accounts are not: the table `users` has them,
because only a signature tells whose a wallet is. Users get their custodial account with the first look-up.
"""

import time
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import structlog
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from api.db import decimal_json as exact
from api.errors import Code, Problem
from api.people.directory import Annonce, TableDirectory, User
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


class _Found(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)

    id: Id


class _User(_Found):
    role: str
    profile_id: Id | None = None


class _Tutor(_Found):
    user_id: Id
    time_zone: TimeZone | None = None
    schedule: Schedule | None = None


class _Annonce(_Found):
    tutor_id: Id
    title: str
    hourly_rate: TokenAmount
    time_zone: TimeZone | None = None


_Model = TypeVar("_Model", bound=_Found)


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

    def user(self, user_id: str) -> User | None:
        """Return a user by id."""
        found = self._get("users", user_id, _User)
        return None if found is None else self._account(found.id, found.role.lower())

    def tutor(self, tutor_id: str) -> User | None:
        """Return a user by id, or by the id of the tutor's profile. Nobody is a tutor without a profile."""
        found = self._profile(tutor_id)
        if found is None:
            user = self._get("users", tutor_id, _User)
            if user is None or user.profile_id is None:
                return None
            found = self._profile(user.profile_id)
            if found is not None and found.user_id != user.id:
                raise _odd("the profile is another user's")
        if found is None:
            return None
        known = {"profile_id": found.id, "time_zone": found.time_zone, "schedule": found.schedule}
        return self._account(found.user_id, "tutor", **known)

    def annonce(self, annonce_id: str) -> Annonce | None:
        """Return a listing by id, which has the id of the tutor's user or profile."""
        found = self._get("annonces", annonce_id, _Annonce)
        if found is None:
            return None
        rate = to_wei(found.hourly_rate)
        return Annonce(found.id, found.tutor_id, found.title, rate, found.time_zone)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _profile(self, tutor_id: str) -> _Tutor | None:
        found = self._get("profile/tutors", tutor_id, _Tutor, by_id=False)
        if found is not None and tutor_id not in {found.id, found.user_id}:
            raise _odd("another tutor's profile")
        return found

    def _account(self, user_id: str, role: str, **known: Any) -> User:
        account = self._accounts.user(user_id) or self._accounts.create_user(user_id, role)
        return User(**vars(account) | {"role": role, **known})

    def _get(self, path: str, entry: str, model: type[_Model], *, by_id: bool = True) -> _Model | None:
        if not ID_PATTERN.fullmatch(entry) or not entry.strip("."):
            return None
        status, body = self._fetch(f"/api/{path}/{quote(entry, safe='')}")
        if status == 404:
            return None
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
        if by_id and found.id != entry:
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
        with self._http.stream("GET", path) as answer:
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
