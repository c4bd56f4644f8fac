"""A JSON-RPC proxy between the shim and its node that goes wrong on purpose, as its seed has it.

Each fault is one that real nodes and the networks before them show. What a fault does to the request and to
its answer is said at its name; everything else is passed on as it is.
"""

import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import urllib3
from eth_utils.crypto import keccak
from nodes import Pool


class Fault(StrEnum):
    """A fault of one request."""

    DROP = "drop"  # The connection is closed; the node never saw the request.
    RESET = "reset"  # The same, and rudely.
    LOSE = "lose"  # The node took it; the connection is closed before its answer.
    HANG = "hang"  # The node took it; the answer comes later than anybody waits.
    DUPLICATE = "duplicate"  # The node gets it twice, and the answer is the second one.
    HALF = "half"  # Half of the answer, then the end of the connection.
    TOO_MANY = "429"  # Not passed on.
    BROKEN = "500"  # Passed on, and yet.
    REFUSED = "refused"  # Each call of it is answered with an error, and was carried out nevertheless.
    NONSENSE = "nonsense"  # An answer that is JSON, but not JSON-RPC.
    SHUFFLED = "shuffled"  # The answers of a batch in another order, which JSON-RPC allows.
    STALE = "stale"  # From a node that lags: old head, old nonces, no receipts.
    LOW_NONCE = "low nonce"  # A transaction count that is too low,
    HIGH_NONCE = "high nonce"  # or too high.
    FORGET = "forget"  # Transactions are taken with thanks, and never passed on.


TRANSIENT = [fault for fault in Fault if fault != Fault.HANG]
"""All but the one that takes long."""

_BY_HEAD = ("eth_blockNumber", "eth_getTransactionCount", "eth_getBlockByNumber")


class Proxy:
    """Serves on a port of its own while the context lasts."""

    def __init__(self, node_url: str, seed: int) -> None:
        self.node_url = node_url
        self._random = random.Random(seed)
        self._http = urllib3.PoolManager(maxsize=64, retries=False, timeout=60)
        self._lock = threading.RLock()
        self._rate = 0.0
        self._faults: list[Fault] = []
        self._next: list[Fault] = []
        self._only: str | None = None
        self._old: dict[str, Any] = {}
        self.rewrite: Callable[[dict[str, Any], Any], Any] | None = None
        """Called with each call and its result, for faults that are not in the list; what to tell instead."""
        self.hang_seconds = 12.0
        self._held: Callable[[dict[str, Any]], bool] | None = None
        self._let_go = threading.Condition(self._lock)
        self.answered: Counter[str] = Counter()
        """The number of calls of each method that were answered, and not only passed on."""
        self.sizes: list[int] = []
        """The number of calls of each request."""
        self.seen: Counter[str] = Counter()
        """The number of times that each fault happened."""
        self.pool = Pool(self._rpc, self._random)
        """The nodes that requests meet."""
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def requests(self) -> int:
        """The number of requests."""
        return len(self.sizes)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self._server.shutdown()
        self._server.server_close()
        self._http.clear()

    def hold(self, held: Callable[[dict[str, Any]], bool]) -> None:
        """From now on a request with a call for which `held` is true is not passed on before `let_go`."""
        with self._let_go:
            self._held = held

    def let_go(self) -> None:
        """Passes on what is held."""
        with self._let_go:
            self._held = None
            self._let_go.notify_all()

    def enter(self, calls: list[dict[str, Any]]) -> None:
        """Waits as long as such a request is held."""
        with self._let_go:
            self._let_go.wait_for(lambda: self._held is None or not any(map(self._held, calls)))

    def misbehave(self, rate: float, faults: Iterable[Fault] = TRANSIENT) -> None:
        """From now on so many of the requests go wrong, in one of these ways. A rate of 0 heals it."""
        with self._lock:
            self._rate, self._faults = rate, list(faults)

    def heal(self) -> None:
        """From now on nothing goes wrong."""
        self.misbehave(0, [])
        with self._lock:
            self._next.clear()
            self.pool = Pool(self._rpc, self._random)
        self.rewrite = None

    def next(self, *faults: Fault, method: str = "eth_sendRawTransaction") -> None:
        """Orders faults for the next requests that have a call of this method, in this order."""
        with self._lock:
            self._next, self._only = list(faults), method

    @property
    def pending(self) -> int:
        """The number of faults that `next` ordered and that are still to come."""
        with self._lock:
            return len(self._next)

    def choose(self, calls: list[dict[str, Any]]) -> Fault | None:
        """Chooses the fault of this request, if it gets one."""
        with self._lock:
            self.sizes.append(len(calls))
            fault: Fault | None = None
            if self._next and any(call["method"] == self._only for call in calls):
                fault = self._next.pop(0)
            elif self._rate and self._random.random() < self._rate:
                fault = self._random.choice(self._faults)
            if fault:
                self.seen[fault] += 1
            return fault

    def _rpc(self, method: str, *params: Any) -> Any:
        call = {"jsonrpc": "2.0", "id": 0, "method": method, "params": params}
        return self._post(json.dumps(call).encode())[0]["result"]

    def forward(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers of the node that is met."""
        passed, answers, newest = self.pool.before(calls)
        if passed:
            by_id = {call["id"]: call for call in passed}
            for answer in self._post(json.dumps(passed).encode()):
                answers[answer["id"]] = self.pool.after(by_id[answer["id"]], answer, newest)
        return [answers[call["id"]] for call in calls]

    def _post(self, body: bytes) -> list[dict[str, Any]]:
        headers = {"Content-Type": "application/json"}
        answers = json.loads(self._http.request("POST", self.node_url, body=body, headers=headers).data)
        return answers if isinstance(answers, list) else [answers]

    def edit(
        self, fault: Fault | None, calls: list[dict[str, Any]], answers: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """The answers with the fault in them."""
        by_id = {answer["id"]: answer for answer in answers}
        for call in calls:
            answer = by_id[call["id"]]
            if "result" not in answer:
                continue
            if self.rewrite is not None:
                answer["result"] = self.rewrite(call, answer["result"])
            self._age(fault, call, answer)
        if fault == Fault.REFUSED:
            error = {"code": -32005, "message": "request rate exceeded"}
            return [{"jsonrpc": "2.0", "id": answer["id"], "error": error} for answer in answers]
        if fault == Fault.SHUFFLED:
            with self._lock:
                self._random.shuffle(answers)
        return answers

    def _age(self, fault: Fault | None, call: dict[str, Any], answer: dict[str, Any]) -> None:
        """Remembers what a node that lags would say, or says it."""
        if call["method"] == "eth_getTransactionReceipt":
            if fault == Fault.STALE:
                answer["result"] = None
        elif call["method"] in _BY_HEAD:
            key = json.dumps([call["method"], call["params"]])
            with self._lock:
                if fault == Fault.STALE:
                    answer["result"] = self._old.get(key, answer["result"])
                elif self._random.random() < 0.2:
                    self._old[key] = answer["result"]
            if call["method"] == "eth_getTransactionCount":
                wrong = {Fault.LOW_NONCE: -3, Fault.HIGH_NONCE: 3}.get(fault, 0) if fault else 0
                answer["result"] = hex(max(0, int(answer["result"], 16) + wrong))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what this is about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # Else each answer takes 40 ms: its body waits for an acknowledgement.
    proxy: Proxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parsed = json.loads(body)
        calls = parsed if isinstance(parsed, list) else [parsed]
        self.proxy.enter(calls)
        fault = self.proxy.choose(calls)
        if fault in {Fault.DROP, Fault.RESET}:
            if fault == Fault.RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            self._hang_up()
            return
        refusal = self.proxy.pool.refusal(calls, is_batch=isinstance(parsed, list))
        if fault == Fault.TOO_MANY:
            refusal = 429, {"error": "too many requests"}, {}
        if refusal is not None:
            status, answer, headers = refusal
            self._reply(status, json.dumps(answer).encode(), **headers)
            return
        forgotten = [c for c in calls if fault == Fault.FORGET and c["method"] == "eth_sendRawTransaction"]
        passed = [call for call in calls if call not in forgotten]
        try:
            if fault == Fault.DUPLICATE:
                self.proxy.forward(passed)
            answers = self.proxy.forward(passed)
            for call in forgotten:
                sent = "0x" + keccak(hexstr=call["params"][0]).hex()
                answers.append({"jsonrpc": "2.0", "id": call["id"], "result": sent})
            answers = self.proxy.edit(fault, calls, answers)
        except (urllib3.exceptions.HTTPError, ValueError):
            self._hang_up()  # The node is gone.
            return
        if fault == Fault.HANG:
            time.sleep(self.proxy.hang_seconds)
        if fault in {Fault.LOSE, Fault.HANG}:
            self._hang_up()
        elif fault == Fault.BROKEN:
            self._reply(500, b"<html>Internal Server Error</html>")
        elif fault == Fault.NONSENSE:
            self._reply(200, b'{"jsonrpc":"2.0","id":null,"result":null}')
        else:
            content = json.dumps(answers if isinstance(parsed, list) else answers[0]).encode()
            self._reply(200, content, half=fault == Fault.HALF)
            self.proxy.answered.update(call["method"] for call in calls)

    def _reply(self, status: int, content: bytes, *, half: bool = False, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
        """Quietly."""
