"""Nodes as they are: what the proxy does to each call besides the faults of its list.

A `Pool` stands for several nodes behind one address, of which each request meets one. Its limits, words and
habits are those of real clients and providers, by name.
"""

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

Call = dict[str, Any]
Answer = dict[str, Any]
Ask = Callable[..., Any]
"""Asks the real node: a method and its parameters."""

ESTIMATE, SEND, RECEIPT = "eth_estimateGas", "eth_sendRawTransaction", "eth_getTransactionReceipt"
_NO_LIMIT = 2**63
_TAGS = {"latest", "pending", "safe"}


@dataclass(frozen=True)
class Words:
    """The words of a client: for a revert, for a transaction that it has, and for one that offers too little.

    `{data}` is what the contract said.
    """

    code: int
    revert: str
    data: str | None
    known: str
    underpriced: str


CLIENTS = {
    "geth": Words(3, "execution reverted", "{data}", "already known", "transaction underpriced: tip needed"),
    "erigon": Words(3, "execution reverted", "{data}", "ALREADY_EXISTS: already known", "UNDERPRICED: tip"),
    "nethermind": Words(-32015, "VM execution error.", "Reverted {data}", "AlreadyKnown", "FeeTooLow, low"),
    "besu": Words(
        -32000,
        "Execution reverted",
        "{data}",
        "Known transaction",
        "Gas price below configured minimum gas price",
    ),
    "reth": Words(3, "execution reverted", "{data}", "already known", "transaction underpriced"),
    "nitro": Words(
        -32000,
        "execution reverted: no reason",
        "{data}",
        "already known",
        "max fee per gas less than block base fee",
    ),
    "openethereum": Words(
        -32015,
        "VM execution error.",
        "Reverted {data}",
        "Transaction with the same hash was already imported.",
        "Transaction gas price is too low. It does not satisfy your node's minimal gas price",
    ),
    "bor": Words(
        -32000,
        "execution reverted",
        "{data}",
        "already in mempool",
        "transaction underpriced: minimum needed 25000000000",
    ),
    "bsc": Words(
        3,
        "execution reverted",
        "{data}",
        "transaction already exists",
        "transaction gas price below the minimum",
    ),
}
"""By the client's name."""


@dataclass
class Pool:
    """The nodes behind the proxy. Everything is as it should be until a test says otherwise."""

    ask: Ask
    chosen: random.Random
    ages: Sequence[int] = (0,)  # Blocks that the nodes are behind; each request meets one of them.
    most_calls: int | None = None  # In one request; 0: no batch at all.
    words: Words | None = None
    left_out: Collection[str] = ()  # Fields of blocks and receipts.
    archive: int | None = None  # Blocks for which there is state.
    tip_floor: int = 0  # Wei.
    wrong: dict[str, Answer] = field(default_factory=dict)  # Errors by method or by a call's data.
    gas_part: float = 1.0  # Of what a transaction will take, in estimates: the parent chain's part rises.
    transfer_gas: int | None = None  # What a transfer takes, in estimates.
    pauses: list[int] = field(default_factory=list)  # `Retry-After` of the next requests.
    met: int = 0
    """The number of requests that met a node that is behind."""

    def refusal(self, calls: Sequence[Call], *, is_batch: bool) -> tuple[int, Answer, dict[str, str]] | None:
        """Return status, body and headers of a request that the provider refuses as a whole."""
        if self.pauses:
            return 429, {"error": "too many requests"}, {"Retry-After": str(self.pauses.pop(0))}
        if not is_batch or self.most_calls is None or len(calls) <= self.most_calls:
            return None
        most = f"batch too large: at most {self.most_calls}, see https://rpc.example/key"
        return 200, _error(None, -32600, most), {}

    def before(self, calls: Sequence[Call]) -> tuple[list[Call], dict[Any, Answer], int]:
        """Return the calls to pass on, the answers to all others by id, and the number of the node's head."""
        age = self.chosen.choice(self.ages)
        self.met += age > 0
        newest = _NO_LIMIT
        if age or self.archive is not None:
            newest = max(int(self.ask("eth_blockNumber"), 16) - age, 0)
        passed: list[Call] = []
        answers: dict[Any, Answer] = {}
        for call in calls:
            answer = self._own(call, newest)
            if answer is not None:
                answers[call["id"]] = answer
            else:
                passed.append(self._aged(call, newest) if age else call)
        return passed, answers, newest

    def after(self, call: Call, answer: Answer, newest: int) -> Answer:
        """Return the answer as the node that is met tells it."""
        if "error" in answer:
            return self._in_words(call, answer)
        result = answer["result"]
        if isinstance(result, dict):
            number = result.get("number") or result.get("blockNumber")
            if number and int(number, 16) > newest:
                result = None
            else:
                result = {name: value for name, value in result.items() if name not in self.left_out}
        elif call["method"] == "eth_getLogs":
            result = [each for each in result if int(each["blockNumber"], 16) <= newest]
        elif call["method"] == "eth_blockNumber":
            result = hex(min(newest, int(result, 16)))
        elif call["method"] == ESTIMATE:
            is_transfer = "data" not in call["params"][0]
            gas = self.transfer_gas if is_transfer and self.transfer_gas else int(result, 16)
            result = hex(gas if is_transfer else int(gas * self.gas_part))
        return answer | {"result": result}

    def _own(self, call: Call, newest: int) -> Answer | None:
        """Return the answer of a node that does not ask its chain."""
        called = call["params"][0] if call["params"] else None
        data = called.get("data") if isinstance(called, dict) else None
        if wrong := self.wrong.get(call["method"]) or self.wrong.get(data):
            return {"jsonrpc": "2.0", "id": call["id"], **wrong}
        if call["method"] == SEND and self.tip_floor:
            sent = TypedTransaction.from_bytes(HexBytes(call["params"][0])).as_dict()
            if sent["maxPriorityFeePerGas"] < self.tip_floor:
                words = self.words.underpriced if self.words else "transaction underpriced"
                return _error(call["id"], -32000, words)
        block = call["params"][-1] if call["params"] else None
        number: int | None = None
        if isinstance(block, dict) and "blockHash" in block:
            found = self.ask("eth_getBlockByHash", block["blockHash"], False)
            if found is None or int(found["number"], 16) > newest:
                return _error(call["id"], -32000, "header not found")
            number = int(found["number"], 16)
        elif (
            isinstance(block, str) and block.startswith("0x") and call["method"] == "eth_getTransactionCount"
        ):
            number = int(block, 16)
        if self.archive is not None and number is not None and number < newest - self.archive:
            return _error(call["id"], -32000, f"missing trie node at block {number}")
        return None

    def _aged(self, call: Call, newest: int) -> Call:
        """Return the call as a node takes it whose newest block is that one."""
        params = [
            hex(newest) if isinstance(param, str) and param in _TAGS else param for param in call["params"]
        ]
        if call["method"] == ESTIMATE and len(params) == 1:
            params.append(hex(newest))
        return call | {"params": params}

    def _in_words(self, call: Call, answer: Answer) -> Answer:
        """Return an error of the node in the words of the client."""
        error, words = answer["error"], self.words
        if words is None:
            return answer
        message = str(error.get("message", "")).lower()
        if error.get("code") == 3 or "revert" in message:
            data = None if words.data is None else words.data.format(data=error.get("data") or "0x")
            return _error(call["id"], words.code, words.revert, data)
        if "already" in message:
            return _error(call["id"], -32000, words.known)
        return answer


def _error(id_: Any, code: int, message: str, data: str | None = None) -> Answer:
    more = {} if data is None else {"data": data}
    return {"jsonrpc": "2.0", "id": id_, "error": {"code": code, "message": message, **more}}
