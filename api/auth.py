"""Who is asking: the subject of a verified bearer token, never a field of the body."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.models import ID_PATTERN
from api.problems import Problem
from api.settings import Settings

ALGORITHM = "HS256"
_CLOCK_SKEW = timedelta(seconds=10)

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token of the user service.")


def user_of(token: str, settings: Settings) -> str:
    """The id of the user whom the token names. Raises `Problem` unless it is valid in every respect."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            settings.token_secret,
            algorithms=[ALGORITHM],
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            leeway=_CLOCK_SKEW,
            options={"require": ["exp"], "verify_aud": settings.jwt_audience is not None},
        )
    except jwt.ExpiredSignatureError:
        raise _refused("token_expired", "Your session has expired. Please sign in again.") from None
    except jwt.InvalidTokenError:
        raise _refused("invalid_token", "Your session is not valid. Please sign in again.") from None
    user = claims.get(settings.jwt_user_claim)
    if isinstance(user, int) and not isinstance(user, bool):
        user = str(user)
    if not isinstance(user, str) or not ID_PATTERN.fullmatch(user):
        raise _refused("invalid_token", "Your session names no user. Please sign in again.")
    return user


def mint(user: str, settings: Settings, lifetime: timedelta = timedelta(days=30)) -> str:
    """A token for `user`, on the local network only."""
    if not settings.is_local:
        raise ValueError("tokens are minted on the local network only")
    claims: dict[str, Any] = {settings.jwt_user_claim: user, "exp": datetime.now(UTC) + lifetime}
    if settings.jwt_audience is not None:
        claims["aud"] = settings.jwt_audience
    if settings.jwt_issuer is not None:
        claims["iss"] = settings.jwt_issuer
    return jwt.encode(claims, settings.token_secret, ALGORITHM)


def _refused(code: str, message: str) -> Problem:
    return Problem(401, code, message, headers={"WWW-Authenticate": "Bearer"})


async def _current_user(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    if credentials is None:
        raise _refused("token_missing", "Please sign in.")
    return user_of(credentials.credentials, request.app.state.shim.settings)


CurrentUser = Annotated[str, Depends(_current_user)]
