"""Middleware around the routes: rate limits, the limit of a body, security headers, and CORS.

Limits are kept in this process's memory: n processes allow n times as much, and a restart forgets. They keep
one client from crowding out the others; an exact limit of the whole belongs in the proxy in front.
"""

import ipaddress
import math
import time
from contextlib import suppress

from fastapi import FastAPI
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import Code, Problem
from api.language import language, preferred
from api.problems import response, unexpected
from api.settings import Settings

UNLIMITED = frozenset({"/livez", "/readyz", "/metrics"})

_MOST_COUNTERS = 10_000
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_PAGE = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)  # Wallets announce themselves with icons in data URLs (EIP-6963).


class _Counters(MemoryStorage):
    """Counters of a bounded number: beyond it the oldest are forgotten, which lets somebody ask more."""

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count, and return how many there were."""
        count = super().incr(key, expiry, amount)
        while len(self.storage) > _MOST_COUNTERS:
            with suppress(RuntimeError, StopIteration):  # The storage's own thread forgets, too.
                self.clear(next(iter(self.storage)))
        return count


class Limits:
    """The rate limits of addresses and of users."""

    def __init__(self, settings: Settings) -> None:
        self._limiter = FixedWindowRateLimiter(_Counters())
        self._address = _parsed(settings.address_limit)
        self._user = _parsed(settings.user_limit)
        self._writes = _parsed(settings.user_write_limit)

    def address(self, scope: Scope) -> None:
        """Count a request of an address. Raises `Problem` (429) beyond the limit."""
        if scope["path"] not in UNLIMITED:
            self._hit(self._address, "address", network((scope.get("client") or ("", 0))[0]))

    def user(self, scope: Scope, user: str) -> None:
        """Count a request of a user whose token is valid; requests that change something, also apart."""
        self._hit(self._user, "user", user)
        if scope["method"] not in _READS:
            self._hit(self._writes, "writes", user)

    def _hit(self, limits: list[RateLimitItem], kind: str, who: str) -> None:
        for limit in limits:
            if self._limiter.hit(limit, kind, who):
                continue
            seconds = max(
                1, math.ceil(self._limiter.get_window_stats(limit, kind, who).reset_time - time.time())
            )
            raise Problem(Code.TOO_MANY_REQUESTS, seconds=seconds, headers={"Retry-After": str(seconds)})


class Guard:
    """ASGI middleware: limits of an address and a body, security headers, an answer to a fault."""

    def __init__(self, app: ASGIApp, limits: Limits, settings: Settings) -> None:
        self._app = app
        self._limits = limits
        self._max_body_bytes = settings.max_body_bytes
        self._headers = dict(_HEADERS)
        if settings.hsts_seconds:
            self._headers["Strict-Transport-Security"] = f"max-age={settings.hsts_seconds}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        language.set(preferred(Headers(scope=scope).get("accept-language", "")))
        started, received = False, 0
        private = scope["path"].startswith("/api/")
        policy = _NOTHING if private else _PAGE

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise HTTPException(413)
            return message

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                headers["Content-Security-Policy"] = policy
                if private:
                    headers.setdefault("Cache-Control", "no-store")
                    headers.setdefault("Content-Language", language.get())
                    headers.add_vary_header("Accept-Language")
            await send(message)

        try:
            self._limits.address(scope)
            await self._app(scope, bounded, guarded)
        except Problem as problem:
            await response(problem, scope)(scope, receive, guarded)
        except Exception as error:
            if started:
                raise
            await response(unexpected(error), scope)(scope, receive, guarded)


class Heads:
    """ASGI middleware: answers HEAD as GET. The server leaves out the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send)
        finally:
            scope["route"] = asked.get("route")  # For the metrics.


def install(app: FastAPI, settings: Settings, limits: Limits) -> None:
    """Add the middleware. A later one is further out."""
    app.add_middleware(Heads)
    app.add_middleware(Guard, limits=limits, settings=settings)
    if origins := settings.cors_origins.split():
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"],
            allow_headers=["*"],  # Tracing adds its own. No cookie counts, so no header gives a page rights.
            expose_headers=[
                *("ETag", "Idempotent-Replayed", "Location", "Retry-After", "WWW-Authenticate"),
                "X-Request-ID",
            ],
        )


def _parsed(text: str) -> list[RateLimitItem]:
    return [] if text == "off" else parse_many(text)


def network(host: str) -> str:
    """Return a client's address; for IPv6 the /64 network, which one client has to itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address) and not address.ipv4_mapped:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
