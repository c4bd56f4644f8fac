"""The public keys of the tokens' issuer (JWKS, RFC 7517), fetched when one is needed, and kept.

A known key goes on working while the issuer is down. An unknown key is asked for, but no more often than the
settings allow, so that made-up key ids can't be turned against the issuer. (PyJWT's
cache forgets expired keys while the issuer is down, and asks again after each failure.)
"""

import threading
import time

import anyio
import jwt
import structlog

from api.errors import Code, Problem

log = structlog.get_logger()

_TIMEOUT_SECONDS = 5.0
_MOST_WAITING = 32  # In threads of their own: an issuer that hangs holds up nobody else.


class Keys:
    """Signing keys by id. Threads may share one object."""

    def __init__(self, url: str, lifespan: float, pause: float) -> None:
        """Keys older than `lifespan` seconds are fetched again; no two fetches are closer than `pause`."""
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=_TIMEOUT_SECONDS)
        self._lifespan, self._pause = lifespan, pause
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = threading.Lock()
        self.threads = anyio.CapacityLimiter(_MOST_WAITING)

    def known(self, kid: str) -> jwt.PyJWK | None:
        """Return the key if it is here and fresh. Never waits."""
        fresh = time.monotonic() < self._fetched_at + self._lifespan
        return self._keys.get(kid) if fresh else None

    def get(self, kid: str) -> jwt.PyJWK | None:
        """Return the key, fetched if need be; None if the issuer has none with that id.

        Raises `Problem` (503) if the key is unknown and the issuer can't be asked.
        """
        # Who has a key, however old, waits for nobody else's fetch.
        if self._fetching.acquire(blocking=kid not in self._keys):
            try:
                if self.known(kid) is None and time.monotonic() >= self._tried_at + self._pause:
                    self._fetch()
            finally:
                self._fetching.release()
        if kid not in self._keys and self._fetched_at < self._tried_at:
            raise Problem(Code.KEYS_UNAVAILABLE)
        return self._keys.get(kid)

    def _fetch(self) -> None:
        self._tried_at = time.monotonic()
        try:
            keys = self._client.get_signing_keys()
        except (jwt.PyJWTError, OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("the keys of the tokens can't be fetched", reason=type(error).__name__)
            return
        self._keys = {key.key_id: key for key in keys if isinstance(key.key_id, str)}
        self._fetched_at = time.monotonic()
