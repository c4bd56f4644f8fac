"""The typed dependencies of routes: services, the user, the request's id, and common headers."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import Response

from api.auth import key_of, user_of
from api.errors import Code, Problem
from api.json_io import ExactRoute
from api.people.http_directory import caller_token
from api.services import Services

if TYPE_CHECKING:
    from api.routes.health import Recent

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token of the user service.")


@dataclass(frozen=True)
class _State:
    services: Services
    readiness: "Recent"


def install(app: FastAPI, services: Services, readiness: "Recent") -> None:
    """Give the application's routes their services, and the checks of these."""
    app.state.shim = _State(services, readiness)


def _state_of(request: Request) -> _State:
    state = request.app.state.shim
    if not isinstance(state, _State):
        raise TypeError("an application without services")
    return state


def services_of(request: Request) -> Services:
    """Return the services of the application that serves the request."""
    return _state_of(request).services


def readiness_of(request: Request) -> "Recent":
    """Return the checks of the services of the application that serves the request."""
    return _state_of(request).readiness


async def _services(request: Request) -> Services:
    return services_of(request)


ServicesDep = Annotated[Services, Depends(_services)]


async def _request_id(request: Request) -> str:
    return str(request.state.request_id)


RequestId = Annotated[str, Depends(_request_id)]
"""The name of the request in the log."""


async def _identify(request: Request, credentials: HTTPAuthorizationCredentials | None) -> str:
    if credentials is None:
        raise Problem(Code.TOKEN_MISSING)
    services = services_of(request)
    keys, token = services.keys, credentials.credentials
    key = None if keys is None else await key_of(token, keys)
    user = user_of(token, services.settings, key)
    request.state.user = user  # For the log.
    services.limits.user(request.scope, user)
    if services.settings.directory_forwards_token:
        caller_token.set(token)
    return user


async def _current_user(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> str:
    # A route has asked before its body was read.
    user: str | None = getattr(request.state, "user", None)
    return user or await _identify(request, credentials)


async def visitor(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """Check the token, if one was sent. The user service may want it."""
    if credentials is not None:
        await _identify(request, credentials)


class BearerRoute(ExactRoute):
    """A route that looks at the token, if it needs one, before it reads the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler."""
        handle = super().get_route_handler()
        if not _needs_user(self.dependant):
            return handle

        async def identified(request: Request) -> Response:
            await _identify(request, await _bearer(request))
            return await handle(request)

        return identified


def _needs_user(dependant: Dependant) -> bool:
    return dependant.call is _current_user or any(map(_needs_user, dependant.dependencies))


CurrentUser = Annotated[str, Depends(_current_user)]
"""The id of the user whose token was sent."""


async def _operator(services: ServicesDep, user: CurrentUser) -> str:
    if user not in services.settings.operator_ids:
        raise Problem(Code.NOT_AN_OPERATOR)
    return user


Operator = Annotated[str, Depends(_operator)]
"""The id of a user whom the settings name as an operator."""

_KEY = "The same key and body are the same batch, however often they are sent."
Key = Annotated[str | None, Header(alias="Idempotency-Key", pattern="^[ -~]{1,255}$", description=_KEY)]
_TAG = "The `ETag` of the answer that the client has: 304 if it is still the same."
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", description=_TAG)]
_PREFER = "`respond-async`: do not wait for the block."
Prefer = Annotated[str | None, Header(description=_PREFER)]
