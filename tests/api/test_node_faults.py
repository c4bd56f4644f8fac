"""A node that is wrong, huge, nested or drips, at a real HTTP server: each is a node that does not answer."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from waiting import PATIENCE

from api.chain import rpc
from api.chain.rpc import Node, NodeUnavailable

RIGHT = b'{"jsonrpc":"2.0","id":0,"result":"0x7a69"}'
FAULTS = {
    b"<html>": "JSONDecodeError",
    b"[" * 5_000: "RecursionError|JSONDecodeError",  # By the limit that tests may have raised.
    b"[]": "not JSON-RPC",
    b"[7]": "not JSON-RPC",
    b" " * 10_001 + RIGHT: "an answer too large",
}


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            body: bytes | None = self.server.body  # type: ignore[attr-defined]
            try:
                while body is None:  # A byte at a time, for as long as anybody listens.
                    self.wfile.write(b" ")
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                pass

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("body", FAULTS, ids=lambda body: str(body[:6]))
def test_an_answer_that_is_none_is_told_and_the_next_one_counts(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(rpc, "_MOST_BYTES", 10_000)
    node = Node(f"http://127.0.0.1:{server.server_port}", timeout=PATIENCE)
    server.body = body  # type: ignore[attr-defined]
    with pytest.raises(NodeUnavailable, match=FAULTS[body]):
        node.call("eth_chainId")
    server.body = RIGHT  # type: ignore[attr-defined]
    assert node.call("eth_chainId") == "0x7a69"


def test_an_answer_without_end_is_not_waited_for(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "_MOST_BYTES", 2**40)
    node = Node(f"http://127.0.0.1:{server.server_port}", timeout=0.2)
    server.body = None  # type: ignore[attr-defined]
    with pytest.raises(NodeUnavailable, match="an answer without end"):
        node.call("eth_chainId")
