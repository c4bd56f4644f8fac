"""A local node of its own, spoken to in plain JSON-RPC: what it takes to take a step in milliseconds.

The unit tests go through Ape's node and `tests/helpers.py`. Here thousands of transactions are sent, at
times that the test chooses to the second, so there is nothing between the test and anvil but a socket.
"""

import http.client
import json
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from creneau.abi import decode, encode
from tools.local_node import LocalNode

GAS = 15_000_000
MNEMONIC = "test test test test test test test test test test test junk"

Json = dict[str, Any]


class Reverted(Exception):  # it says what the call did
    """A call reverted with this data."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data.hex())
        self.data = data


@dataclass(frozen=True)
class Log:
    """One event: who emitted it, its name, its arguments in the order of the source."""

    emitter: str
    name: str
    arguments: tuple[Any, ...]


class Node:
    """An anvil process with `accounts` unlocked accounts and these options, and one connection to it."""

    def __init__(self, *options: str, accounts: int = 20) -> None:
        given = ["--accounts", str(accounts), "--mnemonic", MNEMONIC]
        given += ["--base-fee", "0", "--gas-limit", "100000000", "--order", "fifo", *options]
        with tempfile.TemporaryDirectory() as folder:  # Of the log, which stays empty.
            self._node = LocalNode(Path(folder), options=given)
            self._node.start(_spawn)
        self._connection = http.client.HTTPConnection("127.0.0.1", self._node.port, timeout=300)
        self.accounts = [to_checksum_address(account) for account in self.rpc("eth_accounts")]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._node.stop()

    def rpc(self, method: str, *params: Any) -> Any:
        """One call of the node."""
        return self.batch([(method, params)])[0]

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Several calls that do not depend on each other, in one request."""
        body = [{"jsonrpc": "2.0", "id": i, "method": m, "params": list(p)} for i, (m, p) in enumerate(calls)]
        self._connection.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
        answers = json.loads(self._connection.getresponse().read())
        return [_result(answer) for answer in sorted(answers, key=lambda answer: int(answer["id"]))]

    def call(self, transaction: Json, at: int) -> bytes:
        """The result that a transaction would have in a block of time `at`."""
        answer = self.rpc("eth_call", transaction, "latest", {}, {"time": hex(at)})
        return bytes.fromhex(answer[2:])

    def send(self, transaction: Json, at: int) -> Json:
        """The receipt of a transaction in a block of time `at`."""
        self.rpc("evm_setNextBlockTimestamp", at)
        receipt: Json = self.rpc("eth_sendTransactionSync", transaction)
        return receipt

    def set_back(self, snapshot: str) -> None:
        """Sets the chain back, once the pool has let go of what was mined: it would be mined again."""
        while self.rpc("txpool_status") != {"pending": "0x0", "queued": "0x0"}:
            time.sleep(0.001)
        if self.rpc("evm_revert", snapshot) is not True:
            raise RuntimeError(f"there is no snapshot {snapshot}")

    def simulate(self, transactions: Iterable[Json], at: int) -> list[Json]:
        """Simulates transactions one after the other in a block of time `at`; nothing is kept."""
        block = {"blockOverrides": {"time": hex(at)}, "calls": list(transactions)}
        answer = self.rpc("eth_simulateV1", {"blockStateCalls": [block]}, "latest")
        calls: list[Json] = answer[0]["calls"]
        return calls

    def deploy(self, bytecode: str, types: Sequence[str], arguments: Sequence[Any], at: int) -> str:
        """The address of a new contract, deployed by the first account."""
        data = bytes.fromhex(bytecode.removeprefix("0x")) + encode(types, arguments)
        receipt = self.send(transaction(self.accounts[0], None, data), at)
        assert receipt["status"] == "0x1", "the constructor reverted"
        return to_checksum_address(receipt["contractAddress"])


class Contract:
    """Encodes calls of a deployed contract and decodes its answers, from its ABI."""

    def __init__(self, address: str, abi: list[Json]) -> None:
        self.address = address
        self._functions = {entry["name"]: _signature(entry) for entry in abi if entry["type"] == "function"}

    def data(self, name: str, *arguments: Any) -> bytes:
        """The bytes that call a function."""
        selector, types, _ = self._functions[name]
        return selector + encode(types, arguments)

    def transaction(self, sender: str, name: str, *arguments: Any) -> Json:
        """A transaction that calls a function."""
        return transaction(sender, self.address, self.data(name, *arguments))

    def decode(self, name: str, answer: bytes) -> tuple[Any, ...]:
        """The result of a function."""
        values: tuple[Any, ...] = plain(decode(self._functions[name][2], answer))
        return values


class Codec:
    """Names the errors and events of several contracts."""

    def __init__(self, abis: Iterable[list[Json]]) -> None:
        entries = [entry for abi in abis for entry in abi]
        entries += [_error("Error", "string"), _error("Panic", "uint256")]
        self._errors = {_signature(e)[0]: e for e in entries if e["type"] == "error"}
        self._reasons = {e["name"]: e for e in self._errors.values()}
        self._events = {keccak(text=_selector(e)): e for e in entries if e["type"] == "event"}

    def error(self, data: bytes) -> tuple[Any, ...]:
        """The name and the arguments of what a call reverted with."""
        if data[:4] not in self._errors:
            return ("", data.hex())
        entry = self._errors[data[:4]]
        return (entry["name"], *plain(decode(_types(entry["inputs"]), data[4:])))

    def reason(self, name: str, *arguments: Any) -> bytes:
        """The data that a call reverts with for an error."""
        entry = self._reasons[name]
        return _signature(entry)[0] + encode(_types(entry["inputs"]), arguments)

    def logs(self, logs: Iterable[Mapping[str, Any]]) -> list[Log]:
        """The events of a receipt."""
        return [self._log(log) for log in logs]

    def _log(self, log: Mapping[str, Any]) -> Log:
        entry = self._events[bytes.fromhex(log["topics"][0][2:])]
        topics = iter(log["topics"][1:])
        data = bytes.fromhex(log["data"][2:])
        others = [field for field in entry["inputs"] if not field["indexed"]]
        values = iter(decode(_types(others), data))
        assert encode(_types(others), decode(_types(others), data)) == data, (
            "an event is not encoded canonically"
        )
        arguments = [
            decode(_types([field]), bytes.fromhex(next(topics)[2:]))[0] if field["indexed"] else next(values)
            for field in entry["inputs"]
        ]
        return Log(to_checksum_address(log["address"]), entry["name"], plain(arguments))


def transaction(sender: str, to: str | None, data: bytes) -> Json:
    """A transaction as the node takes it."""
    fields = {"from": sender, "data": "0x" + data.hex(), "gas": hex(GAS), "gasPrice": "0x0"}
    return fields | ({"to": to} if to else {})


def keys(count: int) -> dict[str, bytes]:
    """The private keys of the node's accounts."""
    Account.enable_unaudited_hdwallet_features()
    accounts = [Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{i}") for i in range(count)]
    return {account.address: bytes(account.key) for account in accounts}


def plain(value: Any) -> Any:
    """Tuples all the way down, and checksummed addresses."""
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return to_checksum_address(value) if isinstance(value, str) and value.startswith("0x") else value


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A node in this process's group, which a run over mutants ends as one."""
    with log.open("ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


def _result(answer: Json) -> Any:
    error = answer.get("error")
    if error is None:
        return answer["result"]
    if error["code"] == 3:
        raise Reverted(bytes.fromhex(error["data"][2:]))
    raise RuntimeError(str(error))


def _signature(entry: Json) -> tuple[bytes, list[str], list[str]]:
    return keccak(text=_selector(entry))[:4], _types(entry["inputs"]), _types(entry.get("outputs", []))


def _selector(entry: Json) -> str:
    return f"{entry['name']}({','.join(_types(entry['inputs']))})"


def _types(fields: Iterable[Json]) -> list[str]:
    return [_type(field) for field in fields]


def _type(field: Json) -> str:
    kind: str = field["type"]
    return f"({','.join(_types(field['components']))}){kind[5:]}" if kind.startswith("tuple") else kind


def _error(name: str, kind: str) -> Json:
    return {"type": "error", "name": name, "inputs": [{"name": "", "type": kind}]}
