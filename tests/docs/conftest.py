"""One shim for all pages, that also tells a receiver of webhooks what it does."""

import base64
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from dev_stack import DevStack

Message = tuple[dict[str, str], bytes]


class Receiver:
    """A small server that remembers what it was sent."""

    secret = "whsec_" + base64.b64encode(b"d" * 32).decode()

    def __init__(self) -> None:
        self.got: list[Message] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def stack(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """What `make serve` starts, with JSON for a log and few confirmations."""
    secret = tmp_path_factory.mktemp("secrets") / "webhooks"
    secret.write_text(receiver.secret)
    settings = {"log_format": "json", "confirmations": 2, "webhook_urls": receiver.url}
    with DevStack(settings=settings | {"webhook_secret_file": secret}) as stack:
        stack.seed()
        yield stack
