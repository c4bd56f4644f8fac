"""An HTTP service of others, on loopback, and a shim of the test's own that uses it."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import uvicorn
from waiting import PATIENCE, until

from api.app import create_app
from api.services import Services
from tools.dev_stack import DevStack, free_port


@dataclass
class Answer:
    """The content of an answer: JSON of the body, unless the body is bytes already."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    waits_for: threading.Event | None = None
    drips: bool = False
    """Send the answer a byte at a time, its headers too, for as long as anybody listens."""

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Service:
    """Answers paths as it is told, 404 else; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | list[Answer]] = {}  # Of a list each once; the last goes on.
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked[self.path] += 1
                service.headers.append({name.lower(): value for name, value in self.headers.items()})
                answer = service.answers.get(self.path, Answer({"message": "not found"}, 404))
                if isinstance(answer, list):
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                if answer.waits_for is not None:
                    answer.waits_for.wait(PATIENCE)
                try:
                    if answer.drips:
                        self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
                        while True:
                            self.wfile.write(b"x")
                            time.sleep(0.01)
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(answer.content)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # It has gone away, as it may.

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextmanager
def service() -> Iterator[Service]:
    """A running service."""
    running = Service()
    running.start()
    try:
        yield running
    finally:
        running.stop()


@contextmanager
def serving(stack: DevStack, folder: Path, key: int, **settings: Any) -> Iterator[Services]:
    """A shim in this process, with a database and a relayer's key of its own."""
    stack.rpc("anvil_setBalance", stack.account(key).address, hex(10**21))
    own: dict[str, Any] = {"relayer_mnemonic_index": key, "port": free_port()}
    own["database_url"] = f"sqlite:///{folder / 'own.db'}"
    shim = Services.build(stack.settings.model_copy(update=own | settings))
    server = uvicorn.Server(uvicorn.Config(create_app(shim), port=shim.settings.port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        until(shim.view.is_complete)
        yield shim
    finally:
        server.should_exit = True
        thread.join()
