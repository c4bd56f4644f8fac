"""The public keys of the tokens' issuer (JWKS, RFC 7517), fetched when one is needed, and kept.

A known key goes on working while the issuer is down, slow or wrong. An unknown key is asked for, but no more
often than the settings allow, so that made-up key ids can't be turned against the issuer. Requests wait
without a thread, and a fetch has one deadline for the whole answer. (PyJWT's client reads answers of any
length for any time, forgets expired keys while the issuer is down, and asks again after each failure.)
"""

import asyncio
import time
from collections.abc import Collection

import anyio
import anyio.to_thread
import httpx
import jwt
import structlog
from pydantic_core import from_json

from api.errors import Code, Problem

log = structlog.get_logger()

_SECONDS = 5.0
_PATIENCE_SECONDS = 1.0  # For a newer answer about a key that is known.
_MOST_BYTES = 256 * 1024


class Keys:
    """Signing keys by id, of the algorithms that count. One event loop uses an object at a time."""

    def __init__(self, url: str, algorithms: Collection[str], lifespan: float, pause: float) -> None:
        """Keys older than `lifespan` seconds are fetched again; no two fetches are closer than `pause`."""
        self._url, self._algorithms = url, frozenset(algorithms)
        self._lifespan, self._pause, self._seconds = lifespan, pause, _SECONDS
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._thread = anyio.CapacityLimiter(1)
        self._http = httpx.AsyncClient(
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=None,  # noqa: S113  # the whole answer has a deadline
            verify=httpx.create_ssl_context(),  # Which knows SSL_CERT_FILE.
            trust_env=False,
        )

    async def get(self, kid: str) -> jwt.PyJWK | None:
        """Return the key, fetched if need be; None if the issuer has none with that id.

        Raises `Problem` (503) if the key is unknown and the issuer can't be asked.
        """
        key = self._keys.get(kid)
        if key is not None and time.monotonic() < self._fetched_at + self._lifespan:
            return key
        is_mine = self._begin()
        if self._fetching is not None and (key is None or is_mine):
            # Who has a key, however old, waits for nobody else's fetch, and not long for this one.
            await asyncio.wait([self._fetching], timeout=None if key is None else _PATIENCE_SECONDS)
        if kid not in self._keys and self._fetched_at < self._tried_at:
            raise Problem(Code.KEYS_UNAVAILABLE)
        return self._keys.get(kid)

    def _begin(self) -> bool:
        """Fetch the keys, unless that goes on already, or is too soon. Return True if it begins now."""
        goes_on = self._fetching is not None and not self._fetching.done()
        if goes_on or time.monotonic() < self._tried_at + self._pause:
            return False
        self._tried_at = time.monotonic()
        self._fetching = asyncio.create_task(self._fetch())
        return True

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._ask()
            keys = await anyio.to_thread.run_sync(self._usable, body, limiter=self._thread)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
            log.warning("the keys of the tokens can't be fetched", reason=type(error).__name__)
            return
        self._keys = keys
        self._fetched_at = time.monotonic()

    async def _ask(self) -> bytes:
        body = bytearray()
        async with self._http.stream("GET", self._url) as answer:
            if answer.status_code != 200:
                raise ValueError(f"status {answer.status_code}")
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise ValueError("a body too large")
        return bytes(body)

    def _usable(self, body: bytes) -> dict[str, jwt.PyJWK]:
        """Return the keys that tokens can be signed with. Raises `ValueError` if there is none."""
        found = from_json(body)
        entries = found.get("keys") if isinstance(found, dict) else None
        keys = {}
        for entry in entries if isinstance(entries, list) else []:
            try:
                key = jwt.PyJWK(entry)
            except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
                continue  # Of a kind that is not known here, or no key at all.
            if (
                isinstance(key.key_id, str)
                and key.public_key_use in {"sig", None}
                and key.algorithm_name in self._algorithms
            ):
                keys[key.key_id] = key
        if not keys:
            raise ValueError("no usable key")
        return keys
