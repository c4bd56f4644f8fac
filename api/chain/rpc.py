"""JSON-RPC to the node over kept connections: many calls take one round trip."""

import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import structlog
import urllib3

from api.metrics import RPC, RPC_ERRORS
from creneau.types import to_hex

log = structlog.get_logger()

Call = tuple[str, list[Any]]

_MAY_BE_NULL = frozenset({"eth_getBlockByNumber", "eth_getTransactionReceipt", "eth_getTransactionByHash"})

_QUANTITY, _DATA = re.compile("0x[0-9a-fA-F]+"), re.compile("0x(?:[0-9a-fA-F]{2})*")
_QUANTITIES = frozenset(
    {
        *("eth_blockNumber", "eth_chainId", "eth_estimateGas", "eth_gasPrice", "eth_getBalance"),
        *("eth_getTransactionCount", "eth_maxPriorityFeePerGas"),
    }
)
_FIELDS = {
    "eth_getBlockByNumber": ("number", "timestamp"),
    "eth_getLogs": ("blockNumber", "logIndex"),
    "eth_getTransactionReceipt": ("blockNumber", "gasUsed"),
}
"""Quantities in the objects that these methods return."""

MOST_CALLS = 100  # In one HTTP request, unless the node takes fewer.
_SIDE_BY_SIDE = 4  # HTTP requests, where it takes several.
_MORE_SECONDS = 20.0
_LONGEST_PAUSE = 60  # Seconds that a `Retry-After` may ask for.
_MOST_BYTES, _MOST_AT_ONCE = 64 * 1024 * 1024, 256 * 1024  # Of an answer, and of a part of one.
_TOO_LARGE = (400, 413)  # What servers answer to a request that is too large for them.

_KNOWN = (
    *("already known", "alreadyknown", "already_exists", "already exists", "already imported", "already in "),
    *("known transaction", "same hash", "replacement"),
)
"""Parts of the sentences in which nodes say that they have a transaction already, or another at its nonce."""

_UNDERPRICED = (
    *("underpriced", "price too low", "fee too low", "feetoolow", "tip too low", "price below", "tip below"),
    *("fee below", "below the minimum", "below configured minimum", "less than block base fee"),
    *("lower than the minimum", "minimum needed", "fee less than", "is too low to", "price is too low"),
)
"""Parts of the sentences in which nodes say that a transaction offers too little."""

_FORGET_SECONDS = 10.0
"""A newest block that no node has shown for so long counts no more: the chain may have become shorter."""


class Head(NamedTuple):
    """A block's header. The timestamp is in unix seconds, the base fee in wei for each unit of gas."""

    number: int
    hash: str
    parent_hash: str
    timestamp: int
    base_fee: int

    @classmethod
    def from_rpc(cls, block: Mapping[str, Any]) -> Self:
        """Return the header of a block that `eth_getBlockByNumber` gave.

        Raises `NodeUnavailable` if a field is missing.
        """
        try:
            number, timestamp, base_fee = (
                int(block[name], 16) for name in ("number", "timestamp", "baseFeePerGas")
            )
            return cls(number, block["hash"], block["parentHash"], timestamp, base_fee)
        except (KeyError, TypeError, ValueError) as error:
            raise NodeUnavailable(f"a block without {error}") from None

    @property
    def moment(self) -> int:
        """The timestamp in microseconds."""
        return self.timestamp * 1_000_000


class NodeUnavailable(Exception):
    """The node can't be reached, or its answer is not JSON-RPC. The outcome of the calls is not known."""


class NodeBehind(NodeUnavailable):
    """The node does not have the newest block, which another one of a pool has shown."""


class RpcError(Exception):
    """The node's answer is an error; `data` is the data of a contract that reverted, if one did."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code = error.get("code")
        self.message = str(error.get("message", ""))
        data = error.get("data")
        # Nethermind and OpenEthereum write "Reverted 0x…".
        self._words = data.partition("0x")[0].strip() if isinstance(data, str) else ""
        self.data = _bytes_in(data)
        super().__init__(self.message)

    @property
    def is_known_transaction(self) -> bool:
        """True if the node has the transaction already that it was sent."""
        return any(known in self.message.lower() for known in _KNOWN)

    @property
    def is_underpriced(self) -> bool:
        """True if the transaction that was sent offers too little for its gas."""
        return not self.is_known_transaction and any(words in self.message.lower() for words in _UNDERPRICED)

    @property
    def is_revert(self) -> bool:
        """True if a contract refused, rather than the node."""
        return self.code == 3 or bool(self.data) or "revert" in f"{self.message} {self._words}".lower()


def _bytes_in(data: Any) -> bytes | None:
    """Return the bytes of 0x hex at the end of an error's data."""
    if not isinstance(data, str) or "0x" not in data:
        return None
    try:
        return bytes.fromhex(data.partition("0x")[2])
    except ValueError:
        return None


class Node:
    """One node, shared by all threads."""

    def __init__(self, url: str, *, timeout: float = 10, connections: int = 64) -> None:
        self._url = url
        self._timeout = timeout
        self._lock = threading.Lock()
        self._newest: Head | None = None
        self.answered: Head | None = None
        """The block that a node answered last, which may be behind the newest."""
        self._shown = self._asked = 0.0  # When a node had it last, and when one was asked.
        self._most, self._taken, self._tried = MOST_CALLS, 0, 0.0
        self._threads = ThreadPoolExecutor(2 * _SIDE_BY_SIDE, "node")
        self._quiet_until = 0.0
        self.block_seconds = 0.0
        """The time that the newest blocks took, in seconds by their own clock; 0 at first."""
        self._http = urllib3.PoolManager(
            maxsize=connections,
            timeout=timeout,
            retries=urllib3.Retry(connect=1, read=0, redirect=0),
            headers={"Content-Type": "application/json"},
        )

    def call_many(self, calls: Sequence[Call]) -> list[Any]:
        """Return the result of each call, in order; an `RpcError` in place of a result that is one.

        Where the node takes few calls at once, some requests go side by side. Transactions keep their order.
        """
        results: list[Any] = []
        ordered = any(method == "eth_sendRawTransaction" for method, _ in calls)
        while len(results) < len(calls):
            size, begin = self._at_once(), len(results)
            end = min(len(calls), begin + size * (1 if ordered else _SIDE_BY_SIDE))
            parts = [calls[i : min(i + size, end)] for i in range(begin, end, size)]
            for answers in self._threads.map(self._post, parts) if len(parts) > 1 else [self._post(parts[0])]:
                if not answers:
                    break  # Too many at once: these, and what follows, again.
                results += answers
        return results

    def call(self, method: str, *params: Any) -> Any:
        """Return the result of one call. Raises its `RpcError`."""
        [result] = self.call_many([(method, list(params))])
        if isinstance(result, RpcError):
            raise result
        return result

    def head(self, within: float = 0) -> Head:
        """Return the newest block that was seen, by any thread. Raises `NodeUnavailable` if there is none.

        A node of a pool may be behind another one that answered before: then the other's block is returned.
        If a node was asked `within` so many seconds, none is asked now.
        """
        with self._lock:
            if self._newest is not None and time.monotonic() - self._asked < within:
                return self._newest
        block = self.call("eth_getBlockByNumber", "latest", False)
        if block is None:
            raise NodeUnavailable("no head")
        return self.see(Head.from_rpc(block))

    def see(self, head: Head) -> Head:
        """Remember a node's newest block. Return the newest that was seen, by any thread."""
        with self._lock:
            self._asked, self.answered, newest = time.monotonic(), head, self._newest
            if newest is not None and head.number < newest.number:
                if self._asked - self._shown < _FORGET_SECONDS:
                    return newest
            elif newest is not None and head.number > newest.number:
                blocks, seconds = head.number - newest.number, head.timestamp - newest.timestamp
                self.block_seconds = seconds / blocks
            self._newest, self._shown = head, self._asked
            return head

    # --- HTTP ---

    def _at_once(self) -> int:
        """Return how many calls go into the next request: all again, a while after some were too many."""
        with self._lock:
            if self._most < MOST_CALLS and time.monotonic() - self._tried > _MORE_SECONDS:
                self._taken, self._most, self._tried = self._most, MOST_CALLS, time.monotonic()
            return self._most

    def _post(self, calls: Sequence[Call]) -> list[Any]:
        """Return the results of one request; none if the node refuses so many calls at once."""
        bodies = [
            {"jsonrpc": "2.0", "id": place, "method": method, "params": params}
            for place, (method, params) in enumerate(calls)
        ]
        methods, began = {method for method, _ in calls}, time.perf_counter()
        try:
            # One call is no batch: some providers refuse those altogether.
            answers = self._ask(bodies if len(bodies) > 1 else bodies[0])
            by_place = {answer.get("id"): answer for answer in answers}
            if by_place.keys() != {*range(len(calls))}:
                self._refused(len(calls), next((a["error"] for a in answers if a.get("error")), None))
                return [] if len(calls) > 1 else [_result(calls[0][0], answers[0])]
            results = [_result(method, by_place[place]) for place, (method, _) in enumerate(calls)]
        except NodeUnavailable:
            for method in methods:
                RPC_ERRORS.labels(method, "unavailable").inc()
            raise
        with self._lock:
            if self._taken:
                self._taken = max(self._taken, len(calls))
        for method in methods:
            RPC.labels(method).observe(time.perf_counter() - began)
        return results

    def _ask(self, body: Any) -> list[dict[str, Any]]:
        """Return what the node answers. Raises `NodeUnavailable` if it wants a pause, or talks nonsense."""
        if (left := self._quiet_until - time.monotonic()) > 0:
            raise NodeUnavailable(f"the node wants a pause of {left:.0f} seconds")
        try:
            until = time.monotonic() + self._timeout
            response = self._http.request("POST", self._url, body=json.dumps(body), preload_content=False)
            content = _content(response, until)
            if (pause := response.headers.get("Retry-After", "")).isdecimal() and response.status >= 400:
                self._quiet_until = time.monotonic() + min(int(pause), _LONGEST_PAUSE)
                raise NodeUnavailable(f"status {response.status}: {_told(content.decode(errors='replace'))}")
            if response.status in _TOO_LARGE and isinstance(body, list):
                return [{"error": {"message": f"status {response.status}"}}]
            parsed = json.loads(content)
        except (urllib3.exceptions.HTTPError, ValueError, RecursionError) as error:
            # Not the error's text: it may name the URL, and that may hold an access key.
            why = error.reason or error if isinstance(error, urllib3.exceptions.MaxRetryError) else error
            raise NodeUnavailable(type(why).__name__) from None
        answers = parsed if isinstance(parsed, list) else [parsed]
        if not answers or not all(isinstance(answer, dict) for answer in answers):
            raise NodeUnavailable("not JSON-RPC")
        return answers

    def _refused(self, count: int, error: Any) -> None:
        """Take fewer calls at once from now on. Raises `NodeUnavailable` if that was not the reason."""
        if error is None:
            raise NodeUnavailable("answers are missing")
        told = _told(str(error.get("message", "")) if isinstance(error, dict) else str(error))
        if count == 1:
            return
        with self._lock:
            # As many as it took before all were tried again; or else half of them.
            self._most = self._taken if 0 < self._taken < count else min(self._most, max(count // 2, 1))
            self._taken, self._tried = 0, time.monotonic()
        log.warning("the node refuses so many calls at once", calls=count, reason=told)


def _content(response: urllib3.BaseHTTPResponse, until: float) -> bytes:
    """Return what was answered. Raises `NodeUnavailable` if it is too large, or not complete in time."""
    content = bytearray()
    try:
        while part := response.read1(_MOST_AT_ONCE):
            content += part
            if len(content) > _MOST_BYTES:
                raise NodeUnavailable("an answer too large")
            if time.monotonic() > until:
                raise NodeUnavailable("an answer without end")
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return bytes(content)


def _told(message: str) -> str:
    """Return a provider's own words, without an address: that may hold an access key."""
    return re.sub(r"\w+://\S+", "…", message)[:200]


def _result(method: str, answer: dict[str, Any]) -> Any:
    if answer.get("error") is not None:
        error = answer["error"]
        failed = RpcError(error if isinstance(error, dict) else {"message": str(error)})
        RPC_ERRORS.labels(method, "reverted" if failed.is_revert else "refused").inc()
        return failed
    result = answer.get("result")
    if result is None:
        return None if method in _MAY_BE_NULL else RpcError({"message": "no result"})
    if not _fits(method, result):
        raise NodeUnavailable(f"a result that {method} can't have")
    return result


def _fits(method: str, result: Any) -> bool:
    """Return True if a method of JSON-RPC can have this result, as far as it is read here."""
    if method in _QUANTITIES:
        return _is(_QUANTITY, result)
    if method in {"eth_call", "eth_getCode"}:
        return _is(_DATA, result)
    if fields := _FIELDS.get(method):
        objects = result if method == "eth_getLogs" else [result]
        return isinstance(objects, list) and all(
            isinstance(each, dict) and all(_is(_QUANTITY, each.get(name)) for name in fields)
            for each in objects
        )
    return True


def _is(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def at(call: Call, head: Head) -> Call:
    """Return a call whose last parameter is a block, in the state of this one (EIP-1898).

    A node that does not have the block answers with an error, and not from another state.
    """
    method, params = call
    return method, [*params[:-1], {"blockHash": head.hash}]


def eth_call(to: str, data: bytes, sender: str | None = None) -> Call:
    """Return the call of a contract's view, in the latest block."""
    call = {"to": to, "data": to_hex(data)}
    if sender is not None:
        call["from"] = sender
    return "eth_call", [call, "latest"]
