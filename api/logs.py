"""Structured logs, and the request id that every line of a request carries.

Lines are chosen word by word: no token, signature, key or note is ever in one.
"""

import logging
import re
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import REQUESTS

log = structlog.get_logger()

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = {
    name: name for name in ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS")
}  # Clients invent others.
_KNOWN = frozenset({"code", "user"})  # Of a refusal; of a valid token.
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})


def configure(style: Literal["console", "json"], hidden: Sequence[str] = ()) -> None:
    """Configure lines for people or for programs, on standard error, for this program and every library.

    Warnings and exceptions that nobody caught are lines, too. None of the `hidden` texts is in any of them.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        Repeats(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        Harmless(hidden),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name],
            processors=[meta, *shared, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Of each attempt it says the path, which may be a key; of the outcome the caller says enough.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    sys.excepthook = _uncaught
    threading.excepthook = lambda raised: _uncaught(raised.exc_type, raised.exc_value, raised.exc_traceback)
    sys.unraisablehook = lambda raised: _uncaught(raised.exc_type, raised.exc_value, raised.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    log.error("an exception that nobody caught", exc_info=(kind, error, trace))


class Harmless:
    """A processor that leaves out what may not be shown, and what a terminal would obey."""

    _OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
    _IN_TRACES = re.compile(f"(?!\n){_OBEYED.pattern}")

    def __init__(self, hidden: Sequence[str]) -> None:
        self._hidden = re.compile("|".join(map(re.escape, hidden))) if hidden else None

    def __call__(self, _: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Return the line; of values that are no text nor number, the text."""
        return {name: self._shown(name, value) for name, value in line.items()}

    def _shown(self, name: str, value: Any) -> Any:
        if value is None or isinstance(value, int | float):
            return value
        if isinstance(value, dict):
            return {str(key): self._shown("", each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._shown("", each) for each in value]
        return self.text(str(value), traces=name == "exception")

    def text(self, text: str, *, traces: bool = False) -> str:
        """Return a text with marks in place of what is hidden, and of what a terminal would obey."""
        if self._hidden is not None:
            text = self._hidden.sub("…", text)
        obeyed = self._IN_TRACES if traces else self._OBEYED
        return obeyed.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Repeats:
    """A processor that lets a lasting fault have a page's worth of lines an hour, and no more.

    Each of these warnings is let through once in ten minutes for each submission, and for each reason of a
    worker, and a few times in all.
    """

    EVENTS = frozenset(
        {
            *("the node does not answer", "the node refuses to answer", "the database does not answer"),
            *(
                "preflight failed",
                "the node did not take the transaction",
                "gas costs more than the caps allow",
            ),
            *("a replacement would cost more than the caps allow", "another process has the key now"),
            *("how the batch was created is not known", "the node refuses so many calls at once"),
            "the remote signer does not sign",
            *(
                "the node is behind what is final",
                "lessons that are due wait: half of the day's fees are spent",
            ),
        }
    )
    SECONDS, MOST = 600.0, 10

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, dict[str, float]] = {}  # By event and submission: when it was let through.

    def __call__(self, _: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Return the line. Raises `DropEvent` if it is one too many."""
        event = str(line.get("event"))
        if event not in self.EVENTS:
            return line
        # Of a worker, each reason: a node that was away may be another chain's when it is back.
        of_worker = f"{line.get('worker', '')} {line.get('reason', '')}"
        about = str(line.get("batch_id") or line.get("submission_id") or of_worker)
        clock = time.monotonic()
        with self._lock:
            lately = {k: at for k, at in self._lines.get(event, {}).items() if clock - at < self.SECONDS}
            self._lines[event] = lately
            if about in lately or len(lately) >= self.MOST:
                raise structlog.DropEvent
            lately[about] = clock
        return line


class RequestLog:
    """ASGI middleware: gives each request its id, or takes the client's `X-Request-ID`, and logs its end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500
        began = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                seconds = time.perf_counter() - began
                route = getattr(scope.get("route"), "path", "none")
                REQUESTS.labels(_METHODS.get(scope["method"], "other"), route, status).observe(seconds)
                if scope["path"] not in _QUIET:
                    took = round(seconds * 1000)
                    known = {name: value for name, value in scope["state"].items() if name in _KNOWN}
                    line = log.bind(method=scope["method"], path=scope["path"], status=status, ms=took)
                    address = (scope.get("client") or ("unknown",))[0]
                    line.info("request", address=address, **known)
