"""One-liners of the contract tests: sending and calling, exact reverts, events and signatures.

Sends and calls go to the node as they are, because Ape's own take longer and hide what a revert said.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from time import monotonic, sleep
from typing import Any, TypeAlias

import pytest
from ape import chain, project
from ape.api.accounts import AccountAPI
from ape.contracts.base import ContractContainer, ContractInstance
from eth_account.account import Account as Keys
from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak
from ethpm_types.abi import ABIType, ErrorABI, EventABI, MethodABI
from waiting import PATIENCE

from creneau.abi import decode, encode
from creneau.order import Order, Permit
from creneau.typed_data import Domain, listing_typed_data, permit_typed_data

Account: TypeAlias = AccountAPI
Contract: TypeAlias = ContractInstance
Actor: TypeAlias = Account | Contract | str
"""An object that has an address, or the address."""

GAS = 10_000_000
"""The limit of every transaction. Fixed, because a node that estimates it refuses what would revert."""


# --- Sending and calling ---


class Reverted(Exception):  # the word for it
    """A call or a transaction reverted with `data`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        super().__init__(describe(data))


@dataclass(frozen=True)
class Event:
    """One log of a receipt: who emitted it, its name, and its arguments as the ABI codec has them."""

    emitter: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Receipt:
    """A transaction that succeeded."""

    contract: str | None
    gas_used: int
    timestamp: int
    logs: list[dict[str, Any]]

    @property
    def events(self) -> list[Event]:
        """All logs, decoded."""
        return [decode_log(log) for log in self.logs]


def rpc(method: str, *parameters: Any) -> Any:
    """The node's answer. A revert raises `Reverted` with its data, any other error `RuntimeError`."""
    answer = chain.provider.web3.provider.make_request(method, list(parameters))
    if error := answer.get("error"):
        if error["code"] == 3:
            raise Reverted(bytes.fromhex(error["data"][2:]))
        raise RuntimeError(f"{method}: {error}")
    return answer["result"]


def send(function: Any, *arguments: Any, sender: Actor, at: int | None = None) -> Receipt:
    """Sends a transaction that calls a contract's function, in a block of timestamp `at` if that is given."""
    return send_data(function.contract, calldata(function, *arguments), sender=sender, at=at)


def send_data(
    to: Actor | None,
    data: bytes,
    *,
    sender: Actor,
    at: int | None = None,
    value: int = 0,
    gas: int | None = None,
) -> Receipt:
    """Sends a transaction with these bytes. Raises `Reverted` with what it reverted with."""
    if at is not None:
        rpc("evm_setNextBlockTimestamp", at)
    transaction = _transaction(to, data, sender) | {"value": hex(value), "gas": hex(gas or GAS)}
    receipt = mined(rpc("eth_sendTransaction", transaction))
    timestamp: int = receipt["blockTimestamp"]
    if at not in {None, timestamp}:
        raise RuntimeError(f"mined at {timestamp}, not at {at}")
    if receipt["status"] != "0x1":
        trace = rpc(
            "debug_traceTransaction",
            receipt["transactionHash"],
            {"tracer": "callTracer", "tracerConfig": {"onlyTopCall": True}},
        )
        if trace["error"] != "execution reverted":
            raise RuntimeError(f"failed, but did not revert: {trace['error']}")
        raise Reverted(bytes.fromhex(trace.get("output", "0x")[2:]))
    return Receipt(receipt["contractAddress"], int(receipt["gasUsed"], 16), timestamp, receipt["logs"])


def mined(transaction_hash: str) -> dict[str, Any]:
    """Returns the receipt, after the block that the node mines a moment after it has answered."""
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        receipt: dict[str, Any] | None = rpc("eth_getTransactionReceipt", transaction_hash)
        if receipt:
            return receipt
        sleep(0.001)
    raise RuntimeError(f"{transaction_hash} was not mined")


def call(function: Any, *arguments: Any, sender: Actor | None = None, at: int | None = None) -> Any:
    """The result of a contract's function, now or in a block of time `at`: a value, or a tuple of them."""
    answer = call_data(function.contract, calldata(function, *arguments), sender=sender, at=at)
    values = plain(decode([output.canonical_type for output in _method(function).outputs], answer))
    return values[0] if len(values) == 1 else values


def call_data(to: Actor, data: bytes, *, sender: Actor | None = None, at: int | None = None) -> bytes:
    """The result of a call with these bytes."""
    block: dict[str, str] = {} if at is None else {"time": hex(at)}
    answer: str = rpc("eth_call", _transaction(to, data, sender), "latest", {}, block)
    return bytes.fromhex(answer[2:])


def calldata(function: Any, *arguments: Any) -> bytes:
    """The bytes that call a contract's function."""
    abi = _method(function)
    return _selector(abi) + _encode(abi.inputs, arguments)


def deploy(container: ContractContainer, *arguments: Any, sender: Actor) -> Contract:
    """A new contract."""
    code = bytes(container.contract_type.get_deployment_bytecode() or b"")
    receipt = send_data(None, code + _encode(container.constructor.abi.inputs, arguments), sender=sender)
    # Not `container.at`, which remembers what an address was before the chain was set back.
    return Contract(to_checksum_address(str(receipt.contract)), container.contract_type)


def now() -> int:
    """The timestamp of the latest block."""
    return int(rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)


def set_back(snapshot: str, rpc: Callable[..., Any] = rpc) -> None:
    """Sets the chain, of the node that is asked by `rpc`, back to a snapshot, which is gone then.

    The node shows a receipt a moment before it takes the transaction out of its pool. One that is still there
    when the chain is set back would be mined again, together with the next.
    """
    deadline = monotonic() + PATIENCE
    while rpc("txpool_status") != {"pending": "0x0", "queued": "0x0"}:
        if monotonic() > deadline:
            raise RuntimeError(f"the node still holds transactions: {rpc('txpool_inspect')}")
        sleep(0.001)
    if rpc("evm_revert", snapshot) is not True:
        raise RuntimeError(f"there is no snapshot {snapshot}")


def plain(value: Any) -> Any:
    """A value as the ABI codec takes it and as it is compared: tuples, and checksummed addresses."""
    if isinstance(value, Order | Permit):
        return plain(value.as_abi())
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, Account | Contract):
        return str(value.address)
    return to_checksum_address(value) if isinstance(value, str) and is_address(value) else value


def _method(function: Any) -> MethodABI:
    abi: MethodABI
    (abi,) = function.abis
    return abi


def _selector(abi: MethodABI | ErrorABI) -> bytes:
    return keccak(text=abi.selector)[:4]


def _encode(inputs: Iterable[ABIType], values: Iterable[Any]) -> bytes:
    return encode([input_.canonical_type for input_ in inputs], plain(list(values)))


def _transaction(to: Actor | None, data: bytes, sender: Actor | None) -> dict[str, str]:
    transaction = {"data": "0x" + data.hex(), "gas": hex(GAS)}
    if to is not None:
        transaction["to"] = plain(to)
    if sender is not None:
        transaction["from"] = plain(sender)
    return transaction


# --- Reverts ---

SOLIDITY_ERRORS = [
    ErrorABI(name="Error", inputs=[ABIType(name="message", type="string")]),
    ErrorABI(name="Panic", inputs=[ABIType(name="code", type="uint256")]),
]


@contextmanager
def reverts(error: str | None, **arguments: Any) -> Iterator[None]:
    """Passes if the block's call or transaction reverts with exactly this error and these arguments.

    `error` is the name of a custom error of the project's contracts, `Error`, or `Panic`; all its arguments
    must be given, by name. None means a revert without any data. Use it around `send`, `call` and their like,
    one in each block.
    """
    expected = b"" if error is None else _revert_data(error, arguments)
    try:
        yield
    except Reverted as reverted:
        if reverted.data != expected:
            pytest.fail(f"expected a revert with {describe(expected)}, it was {describe(reverted.data)}")
    else:
        pytest.fail(f"expected a revert with {describe(expected)}, there was none")


def describe(data: bytes) -> str:
    """The error that a call reverted with, for people."""
    if not data:
        return "no data"
    for abi in _errors().values():
        if data[:4] == _selector(abi):
            values = plain(decode([input_.canonical_type for input_ in abi.inputs], data[4:], strict=False))
            named = zip(abi.inputs, values, strict=True)
            return f"{abi.name}({', '.join(f'{input_.name}={value!r}' for input_, value in named)})"
    return "0x" + data.hex()


def _revert_data(error: str, arguments: dict[str, Any]) -> bytes:
    abi = _errors()[error]
    names = [input_.name for input_ in abi.inputs]
    if set(arguments) != set(names):
        raise TypeError(f"{error} has the arguments {names}, given are {list(arguments)}")
    return _selector(abi) + _encode(abi.inputs, (arguments[str(name)] for name in names))


@cache
def _errors() -> dict[str, ErrorABI]:
    found = {abi.name: abi for abi in SOLIDITY_ERRORS}
    for container in project.load_contracts().values():
        for abi in container.contract_type.errors:
            if found.setdefault(abi.name, abi).selector != abi.selector:
                raise RuntimeError(f"two errors of different arguments are called {abi.name}")
    return found


# --- Events ---


def decode_log(log: dict[str, Any]) -> Event:
    """A log of one of the project's contracts. All of its bytes must be accounted for."""
    topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
    data = bytes.fromhex(log["data"][2:])
    abi = _events()[topics[0]]
    indexed = [input_ for input_ in abi.inputs if input_.indexed]
    others = [input_ for input_ in abi.inputs if not input_.indexed]
    values = plain(decode([input_.canonical_type for input_ in others], data))
    if _encode(others, values) != data:
        raise RuntimeError(f"{abi.name} is not encoded canonically")
    words = [
        plain(decode([input_.canonical_type], topic))[0]
        for input_, topic in zip(indexed, topics[1:], strict=True)
    ]
    names = [str(input_.name) for input_ in indexed + others]
    return Event(
        to_checksum_address(log["address"]), abi.name, dict(zip(names, [*words, *values], strict=True))
    )


def event(emitter: Actor, name: str, **arguments: Any) -> Event:
    """An event to compare with."""
    return Event(plain(emitter), name, {name: plain(value) for name, value in arguments.items()})


@cache
def _events() -> dict[bytes, EventABI]:
    return {
        keccak(text=abi.selector): abi
        for container in project.load_contracts().values()
        for abi in container.contract_type.events
    }


# --- Signatures ---


def domain_of(escrow: Contract) -> Domain:
    """The EIP-712 domain of an escrow."""
    return Domain(chain.chain_id, str(escrow.address))


def sign(account: Account, typed_data: dict[str, Any]) -> bytes:
    """The 65 bytes of a wallet's signature of typed data. Deterministic (RFC 6979)."""
    return bytes(Keys.sign_typed_data(key_of(account), full_message=typed_data).signature)


def key_of(account: Account) -> str:
    """The private key of a test account."""
    return str(account.private_key)  # type: ignore[attr-defined]  # not every account has it at hand


def sign_listing(escrow: Contract, account: Account, *terms: Any) -> bytes:
    """An account's signature of a listing of its own.

    The terms are listing, rate, instant, notice, horizon, nonce and deadline.
    """
    return sign(account, listing_typed_data(domain_of(escrow), account.address, *terms))


def sign_permit(
    token: Contract,
    account: Account,
    spender: Actor,
    value: int,
    *,
    deadline: int,
    nonce: int = 0,
    owner: Actor | None = None,
) -> Permit:
    """An account's permit of the token, for its own money unless another owner is named."""
    terms = (token.address, plain(owner or account), plain(spender), value, nonce, deadline)
    typed_data = permit_typed_data(call(token.name), "1", chain.chain_id, *terms)
    return Permit.from_signature(value, deadline, sign(account, typed_data))
