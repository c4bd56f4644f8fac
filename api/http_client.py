"""A client of one outside service: each answer has one deadline for the whole of it, and a largest size."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import httpx

_Result = TypeVar("_Result")


class OddAnswer(Exception):
    """The service answers what can't be used. The text names no address."""


class HttpClient:
    """Asks a service; threads share it. It has a thread and connections of its own, from the first use on.

    Only a loop of events can leave an answer in the middle of a line.
    """

    def __init__(self, url: str, seconds: float, most_bytes: int, headers: Mapping[str, str]) -> None:
        self._url, self.seconds, self._most_bytes = url, seconds, most_bytes
        self._headers = {"Accept-Encoding": "identity"} | dict(headers)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Return the result of a coroutine that asks, once it is there."""
        with self._lock:
            if self._thread is None:
                self._start()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def ask(self, method: str, path: str, *, json: Any = None, **headers: str) -> tuple[int, bytes]:
        """Return status and body. Raises `TimeoutError`, `httpx.TransportError` or `OddAnswer`."""
        body = bytearray()
        asked = self._http.stream(method, path, json=json, headers=headers)
        async with asyncio.timeout(self.seconds), asked as answer:
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > self._most_bytes:
                    raise OddAnswer("a body too large")
        return answer.status_code, bytes(body)

    def close(self) -> None:
        """Close the connections, and end the thread."""
        if self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._http.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _start(self) -> None:
        self._http = httpx.AsyncClient(
            base_url=self._url,
            headers=self._headers,
            timeout=None,  # noqa: S113  # the whole answer has a deadline
            verify=httpx.create_ssl_context(),  # Which knows SSL_CERT_FILE.
            trust_env=False,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http", daemon=True)
        self._thread.start()
