"""A remote signer that holds keys, and answers as Web3Signer does; it goes wrong on purpose."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from coincurve import PrivateKey
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from waiting import PATIENCE

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class Fault(StrEnum):
    """A fault of an answer."""

    GONE = "the connection is closed"
    HANGS = "no answer"
    DRIPS = "an answer without end"
    HUGE = "an answer too large"
    FAILS = "status 500"
    BUSY = "status 503"
    REFUSES = "status 401"
    ELSEWHERE = "a redirect"
    UNKNOWN = "no such key"
    PAGE = "a page for people"
    NESTED = "nested JSON"
    NO_TEXT = "bytes that are no text"
    SHORT = "a signature without v"
    STRANGE_V = "a signature with another v"
    UPPER_HALF = "a signature that the contract does not take"
    OTHER_KEY = "another account's signature"
    OTHER_MESSAGE = "a signature of another message"


_INSTEAD: dict[Fault | None, tuple[int, bytes]] = {
    Fault.HUGE: (200, b"0" * (5 * 1024 * 1024)),
    Fault.FAILS: (500, b""),
    Fault.BUSY: (503, b""),
    Fault.REFUSES: (401, b""),
    Fault.ELSEWHERE: (302, b""),
    Fault.UNKNOWN: (404, b""),
    Fault.PAGE: (200, b"<html>Sign in</html>"),
    Fault.NESTED: (200, b"[" * 100_000),
    Fault.NO_TEXT: (200, b"\xff\xfe" * 66),
}
"""Status and body of the answers that have no signature."""


@dataclass
class KeyServer:
    """Serves on a port of its own while the context lasts."""

    keys: dict[str, LocalAccount] = field(default_factory=dict)  # By identifier.
    faults: dict[str, Fault] = field(default_factory=dict)  # By the account's address.
    adds_27: bool = True
    asked: Counter[str] = field(default_factory=Counter)  # By address.
    credentials: set[str | None] = field(default_factory=set)
    let_go: threading.Event = field(default_factory=threading.Event)
    on_sign: Callable[[str], object] = lambda _: None
    """Called with the address before each signature."""
    port: int = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go.set()
        self.stop()

    @property
    def url(self) -> str:
        """The address, with a user and a password."""
        return f"http://shim:a-password-of-the-signer@127.0.0.1:{self.port}/keys"

    def add(self, key: str | None = None) -> LocalAccount:
        """Holds a key, or makes one."""
        account: LocalAccount = Account.create() if key is None else Account.from_key(key)
        public = PrivateKey(bytes(account.key)).public_key.format(compressed=False)[1:]
        self.keys[f"0x{public.hex()}"] = account
        return account

    def start(self) -> None:
        """Serves; after `stop` at the same port."""
        handler = type("Handler", (_Handler,), {"server_of_keys": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Goes away."""
        self._server.shutdown()
        self._server.server_close()

    def signature(self, key: LocalAccount, data: bytes) -> bytes:
        """The signature of data, right or wrong."""
        fault = self.faults.get(key.address)
        signer = Account.create() if fault is Fault.OTHER_KEY else key
        message = b"something else" if fault is Fault.OTHER_MESSAGE else data
        signature = PrivateKey(bytes(signer.key)).sign_recoverable(keccak(message), hasher=None)
        r_s, v = signature[:64], signature[64]
        if fault is Fault.UPPER_HALF:
            r_s = r_s[:32] + (ORDER - int.from_bytes(r_s[32:])).to_bytes(32)
            v = 1 - v
        v = 99 if fault is Fault.STRANGE_V else v + 27 * self.adds_27
        return r_s if fault is Fault.SHORT else r_s + bytes([v])


class _Handler(BaseHTTPRequestHandler):
    server_of_keys: KeyServer

    def do_GET(self) -> None:
        assert self.path == "/keys/api/v1/eth1/publicKeys"
        self._note()
        self._answer(200, json.dumps([*self.server_of_keys.keys]).encode(), "application/json")

    def do_POST(self) -> None:
        server = self.server_of_keys
        path, _, identifier = self.path.rpartition("/")
        assert path == "/keys/api/v1/eth1/sign"
        self._note()
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = server.keys.get(identifier)
        if key is None:
            self._answer(404)
            return
        server.asked[key.address] += 1
        server.on_sign(key.address)
        fault = server.faults.get(key.address)
        if fault is Fault.HANGS:
            server.let_go.wait(PATIENCE)
        elif fault is Fault.DRIPS:
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
            while not server.let_go.is_set():
                self.wfile.write(b"x")
                time.sleep(0.01)
        elif fault in _INSTEAD:
            self._answer(*_INSTEAD[fault])
        elif fault is not Fault.GONE:
            signature = server.signature(key, bytes.fromhex(body["data"][2:]))
            self._answer(200, f"0x{signature.hex()}".encode())

    def _note(self) -> None:
        self.server_of_keys.credentials.add(self.headers["Authorization"])

    def _answer(self, status: int, body: bytes = b"", kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        """One request. Whoever asked may have gone away."""
        with suppress(BrokenPipeError, ConnectionResetError):
            super().handle()

    def log_message(self, *_: object) -> None:
        pass
