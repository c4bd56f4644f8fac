"""Who is asking: the subject of a verified bearer token, never a field of the body."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import anyio.to_thread
import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.jwks import Keys
from api.refusals import Problem
from api.schemas.requests import ID_PATTERN
from api.settings import Settings

ALGORITHM = "HS256"
_CLOCK_SKEW = timedelta(seconds=10)

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token of the user service.")


def user_of(token: str, settings: Settings, key: jwt.PyJWK | None = None) -> str:
    """The id of the user whom the token names. Raises `Problem` unless it is valid in every respect.

    With a key it must be signed by that one, in one of the settings' algorithms; else by the shared secret.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key or settings.token_secret,
            algorithms=settings.key_algorithms if key else [ALGORITHM],
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            leeway=_CLOCK_SKEW,
            options={"require": ["exp"], "verify_aud": settings.jwt_audience is not None},
        )
    except jwt.ExpiredSignatureError:
        raise _refused("token_expired", "Your session has expired. Please sign in again.") from None
    except jwt.PyJWTError:
        raise _invalid() from None
    user = claims.get(settings.jwt_user_claim)
    if isinstance(user, int) and not isinstance(user, bool):
        user = str(user)
    if not isinstance(user, str) or not ID_PATTERN.fullmatch(user):
        raise _refused("invalid_token", "Your session names no user. Please sign in again.")
    return user


def mint(user: str, settings: Settings, lifetime: timedelta = timedelta(days=30)) -> str:
    """A token for `user`, on the local network only."""
    if not settings.is_local or settings.jwt_jwks_url:
        raise ValueError("tokens are minted on the local network only, and for its secret")
    claims: dict[str, Any] = {settings.jwt_user_claim: user, "exp": datetime.now(UTC) + lifetime}
    if settings.jwt_audience is not None:
        claims["aud"] = settings.jwt_audience
    if settings.jwt_issuer is not None:
        claims["iss"] = settings.jwt_issuer
    return jwt.encode(claims, settings.token_secret, ALGORITHM)


def _invalid() -> Problem:
    return _refused("invalid_token", "Your session is not valid. Please sign in again.")


def _refused(code: str, message: str) -> Problem:
    return Problem(401, code, message, headers={"WWW-Authenticate": "Bearer"})


async def _key(token: str, keys: Keys) -> jwt.PyJWK:
    """The key that the token says it is signed with."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except jwt.PyJWTError:
        raise _invalid() from None
    if not isinstance(kid, str):
        raise _invalid()
    key = keys.known(kid) or await anyio.to_thread.run_sync(keys.get, kid)
    if key is None:
        raise _invalid()
    return key


async def _current_user(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    if credentials is None:
        raise _refused("token_missing", "Please sign in.")
    shim, token = request.app.state.shim, credentials.credentials
    user = user_of(token, shim.settings, await _key(token, shim.keys) if shim.keys else None)
    request.app.state.limits.user(request.scope, user)
    return user


CurrentUser = Annotated[str, Depends(_current_user)]


async def _operator(request: Request, user: CurrentUser) -> str:
    if user not in request.app.state.shim.settings.operator_ids:
        raise Problem(403, "not_an_operator", "Only an operator can do this.")
    return user


Operator = Annotated[str, Depends(_operator)]
"""The id of a user whom the settings name as an operator."""
