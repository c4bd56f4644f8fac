"""Authentication: the user is the subject of a verified bearer token, never a field of the body."""

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from api.errors import Code, Problem
from api.jwks import Keys
from api.schemas.requests import ID_PATTERN
from api.settings import Settings

ALGORITHM = "HS256"
_CLOCK_SKEW = timedelta(seconds=10)


def user_of(token: str, settings: Settings, key: jwt.PyJWK | None = None) -> str:
    """Return the id of the token's user. Raises `Problem` unless the token is valid in every respect.

    With a key the token must be signed by that key, in one of the settings' algorithms; without one, by the
    shared secret.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key or settings.token_secret,
            algorithms=settings.key_algorithms if key else [ALGORITHM],
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            leeway=_CLOCK_SKEW,
            options={
                "require": ["exp"],
                "verify_aud": settings.jwt_audience is not None,
                "verify_sub": False,  # The user may be a number: see below.
            },
        )
    except jwt.ExpiredSignatureError:
        raise Problem(Code.TOKEN_EXPIRED) from None
    except (jwt.PyJWTError, RecursionError):
        raise Problem(Code.INVALID_TOKEN) from None
    user = claims.get(settings.jwt_user_claim)
    if isinstance(user, int) and not isinstance(user, bool):
        user = str(user)
    if not isinstance(user, str) or not ID_PATTERN.fullmatch(user):
        raise Problem(Code.INVALID_TOKEN)
    return user


def mint(user: str, settings: Settings, lifetime: timedelta = timedelta(days=30)) -> str:
    """Return a token for `user`, on the local network only. Raises `ValueError` elsewhere."""
    if not settings.is_local or settings.jwt_jwks_url:
        raise ValueError("tokens are minted on the local network only, and for its secret")
    claims: dict[str, Any] = {settings.jwt_user_claim: user, "exp": datetime.now(UTC) + lifetime}
    if settings.jwt_audience is not None:
        claims["aud"] = settings.jwt_audience
    if settings.jwt_issuer is not None:
        claims["iss"] = settings.jwt_issuer
    return jwt.encode(claims, settings.token_secret, ALGORITHM)


async def key_of(token: str, keys: Keys) -> jwt.PyJWK:
    """Return the key that the token names. Raises `Problem` if there is none."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, RecursionError):
        raise Problem(Code.INVALID_TOKEN) from None
    if not isinstance(kid, str):
        raise Problem(Code.INVALID_TOKEN)
    key = await keys.get(kid)
    if key is None:
        raise Problem(Code.INVALID_TOKEN)
    return key
