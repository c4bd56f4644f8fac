"""JSON-RPC to the node over kept connections: many calls take one round trip."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import urllib3

from api.metrics import RPC, RPC_ERRORS
from creneau.types import to_hex

Call = tuple[str, list[Any]]

_MAY_BE_NULL = frozenset({"eth_getBlockByNumber", "eth_getTransactionReceipt", "eth_getTransactionByHash"})

MOST_CALLS = 100  # In one HTTP request: nodes limit how many they take.

_ALREADY_KNOWN = ("already known", "already imported", "alreadyknown", "already_exists", "known transaction")


class Head(NamedTuple):
    """A block's header. The timestamp is in unix seconds, the base fee in wei for each unit of gas."""

    number: int
    hash: str
    parent_hash: str
    timestamp: int
    base_fee: int

    @classmethod
    def from_rpc(cls, block: Mapping[str, Any]) -> Self:
        """Return the header of a block that `eth_getBlockByNumber` gave."""
        return cls(
            int(block["number"], 16),
            block["hash"],
            block["parentHash"],
            int(block["timestamp"], 16),
            int(block.get("baseFeePerGas", "0x0"), 16),
        )

    @property
    def moment(self) -> int:
        """The timestamp in microseconds."""
        return self.timestamp * 1_000_000


class NodeUnavailable(Exception):
    """The node can't be reached, or its answer is not JSON-RPC. The outcome of the calls is not known."""


class RpcError(Exception):
    """The node's answer is an error; `data` is the data of a contract that reverted, if one did."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code = error.get("code")
        self.message = str(error.get("message", ""))
        data = error.get("data")
        self.data = bytes.fromhex(data[2:]) if isinstance(data, str) and data.startswith("0x") else None
        super().__init__(self.message)

    @property
    def is_known_transaction(self) -> bool:
        """True if the node has the transaction already that it was sent."""
        return any(known in self.message.lower() for known in _ALREADY_KNOWN)

    @property
    def is_revert(self) -> bool:
        """True if a contract refused, rather than the node."""
        return self.code == 3 or self.data is not None or "revert" in self.message


class Node:
    """One node, shared by all threads."""

    def __init__(self, url: str, *, timeout: float = 10, connections: int = 64) -> None:
        self._url = url
        self._http = urllib3.PoolManager(
            maxsize=connections,
            timeout=timeout,
            retries=urllib3.Retry(connect=1, read=0, redirect=0),
            headers={"Content-Type": "application/json"},
        )

    def call_many(self, calls: Sequence[Call]) -> list[Any]:
        """Return the result of each call, in order; an `RpcError` in place of a result that is one."""
        results: list[Any] = []
        for first in range(0, len(calls), MOST_CALLS):
            results += self._post(calls[first : first + MOST_CALLS])
        return results

    def call(self, method: str, *params: Any) -> Any:
        """Return the result of one call. Raises its `RpcError`."""
        [result] = self.call_many([(method, list(params))])
        if isinstance(result, RpcError):
            raise result
        return result

    def head(self) -> Head:
        """Return the newest block. Raises `NodeUnavailable` if the node has none."""
        block = self.call("eth_getBlockByNumber", "latest", False)
        if block is None:
            raise NodeUnavailable("no head")
        return Head.from_rpc(block)

    def _post(self, calls: Sequence[Call]) -> list[Any]:
        body = [
            {"jsonrpc": "2.0", "id": place, "method": method, "params": params}
            for place, (method, params) in enumerate(calls)
        ]
        methods, began = {method for method, _ in calls}, time.perf_counter()
        try:
            answers = json.loads(self._http.request("POST", self._url, body=json.dumps(body)).data)
            by_place = {answer["id"]: answer for answer in answers}
            ordered = [by_place[place] for place in range(len(calls))]
        except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError) as error:
            for method in methods:
                RPC_ERRORS.labels(method, "unavailable").inc()
            # Not the error's text: it may name the URL, and that may hold an access key.
            raise NodeUnavailable(type(error).__name__) from None
        for method in methods:
            RPC.labels(method).observe(time.perf_counter() - began)
        return [_result(method, answer) for (method, _), answer in zip(calls, ordered, strict=True)]


def _result(method: str, answer: dict[str, Any]) -> Any:
    if answer.get("error") is not None:
        error = answer["error"]
        failed = RpcError(error if isinstance(error, dict) else {"message": str(error)})
        RPC_ERRORS.labels(method, "reverted" if failed.is_revert else "refused").inc()
        return failed
    if answer.get("result") is None and method not in _MAY_BE_NULL:
        return RpcError({"message": "no result"})
    return answer.get("result")


def eth_call(to: str, data: bytes, sender: str | None = None) -> Call:
    """Return the call of a contract's view, in the latest block."""
    call = {"to": to, "data": to_hex(data)}
    if sender is not None:
        call["from"] = sender
    return "eth_call", [call, "latest"]
