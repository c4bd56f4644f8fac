"""A node that is wrong, huge, nested or drips, at a real HTTP server: each is a node that does not answer."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import urllib3
from forked import Stack
from prometheus_client.parser import text_string_to_metric_families
from scenario import Scenario, slot
from waiting import PATIENCE, http, until

from api.chain import rpc
from api.chain.rpc import Node, NodeUnavailable
from tools.dev_stack import DevStack, free_port

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


@pytest.mark.parametrize(
    ("method", "lies"),
    [
        ("eth_chainId", ["0x", 7, {}, [], "", "0xzz", True]),
        ("eth_call", [7, {}, "0x0", "zz"]),
        ("eth_getBlockByNumber", ["0x", 7, {}, [], {"number": "0x1"}, {"number": 1, "timestamp": "0x1"}]),
        ("eth_getTransactionReceipt", ["0x", {}, {"blockNumber": None, "gasUsed": "0x1"}]),
        ("eth_getLogs", ["0x", {}, [7], [{}], [{"blockNumber": "0x1"}]]),
    ],
)
def test_a_result_that_the_method_can_not_have_is_none(
    server: ThreadingHTTPServer, method: str, lies: list[Any]
) -> None:
    node = Node(f"http://127.0.0.1:{server.server_port}", timeout=PATIENCE)
    for lie in lies:
        server.body = json.dumps({"jsonrpc": "2.0", "id": 0, "result": lie}).encode()  # type: ignore[attr-defined]
        with pytest.raises(NodeUnavailable, match=f"a result that {method} can't have"):
            node.call(method)


# --- What a person sees ---


class Between:
    """A server between the shim and its node, that passes on what it is asked, or does what it is told."""

    def __init__(self, node: str) -> None:
        self.does: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.lie: object = None
        pool, between = urllib3.PoolManager(timeout=PATIENCE), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers["Content-Length"]))
                with suppress(BrokenPipeError, ConnectionResetError):
                    if between.does is not None:
                        self.close_connection = True
                        between.does(self)
                        return
                    try:
                        body = pool.request("POST", node, body=asked, headers=JSON).data
                    except urllib3.exceptions.HTTPError:  # The node has been stopped: the test is over.
                        self.close_connection = True
                        return
                    self.answer(between.told(json.loads(body)))

            def answer(self, told: Any) -> None:
                body = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def told(self, answers: Any) -> Any:
        """The answers, or a lie in place of each result."""
        if self.lie is not None:
            for answer in answers if isinstance(answers, list) else [answers]:
                answer["result"] = self.lie
        return answers

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[DevStack, Between]]:
    """A shim, and what is between it and its node."""
    port = free_port()
    between = Between(f"http://127.0.0.1:{port}")
    settings: dict[str, object] = {"rpc_url": between.url, "rpc_timeout_seconds": 3}
    with Stack(node_port=port, settings=settings) as stack:
        yield stack, between
    between.close()


def hangs(handler: BaseHTTPRequestHandler) -> None:
    handler.rfile.read(1)  # Until the other side gives up.


def goes_away(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def goes_on(part: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(part)

    return write


def says(body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)

    return write


REFUSAL = {"jsonrpc": "2.0", "id": 0, "error": {"code": -32005, "message": "request rate exceeded"}}
DOES: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
    "away": goes_away,
    "slow": hangs,
    "dripping": goes_on(b" "),
    "huge": goes_on(b" " * 2**20),
    "nested": says(b"[" * 100_000),
    "wrong": says(b"<html>"),
    "refusing": says(json.dumps(REFUSAL).encode()),
}
LIES: dict[str, object] = {"lying 0x": "0x", "lying 7": 7, "lying zeros": "0x" + "00" * 32, "lying []": []}


def value(stack: DevStack, name: str) -> float:
    families = text_string_to_metric_families(http.get(f"{stack.url}/metrics").text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


@pytest.mark.parametrize("fault", [*DOES, *LIES])
def test_bookings_are_refused_while_lists_go_on(behind: tuple[DevStack, Between], fault: str) -> None:
    stack, between = behind
    scenario = Scenario.of(stack)
    booked = scenario.book(slot("09:00"))
    assert booked.status_code == 200
    lists = f"/api/blockchain/booking/user/{scenario.student.id}"
    assert scenario.client.get(lists).status_code == 200  # Once its block was read.
    failed = value(stack, "creneau_rpc_errors_total")
    try:
        between.does, between.lie = DOES.get(fault), LIES.get(fault)
        refused = scenario.book(slot("10:00"))
        assert (refused.status_code, refused.json()["code"]) == (503, "node_unavailable")
        assert refused.headers["retry-after"] == "5"
        lesson = booked.json()["data"]["bookings"][0]["id"]
        for path in (lists, f"/api/blockchain/booking/{lesson}"):
            assert scenario.client.get(path).status_code == 200
        assert stack.client().get("/livez").status_code == 200
        until(lambda: http.get(f"{stack.url}/readyz").status_code == 503)
        if fault in DOES:
            assert value(stack, "creneau_node_up") == 0
        assert value(stack, "creneau_rpc_errors_total") > failed
    finally:
        between.does = between.lie = None
    until(lambda: scenario.book(slot("10:00")).status_code == 200)
    until(lambda: http.get(f"{stack.url}/readyz").status_code == 200)
