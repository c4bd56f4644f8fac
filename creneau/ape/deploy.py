"""Deploys the escrow, and a token of its own where there is none yet, at addresses that are known beforehand.

A contract is created through the deterministic deployment proxy (CREATE2, EIP-1014): its address follows from
its code and its constructor's arguments alone. So a plan can be shown before anything is sent, and a repeat
finds what is there and sends the rest.

One module for the Ape script and for programs that use web3. They differ in how a transaction is signed and
sent, and so pass that in.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, cast

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3 import Web3
from web3.exceptions import Web3Exception
from web3.types import TxParams

from creneau import abi
from creneau.amounts import DECIMALS, UINT256_MAX
from creneau.ape.node import call
from creneau.errors import (
    ContractError,
    DeploymentDiffers,
    ProxyMissing,
    TokenWithoutCode,
    TransactionFailed,
    UnsupportedToken,
)
from creneau.typed_data import permit_typed_data
from creneau.types import to_address, to_hex

PROXY = "0x4e59b44847b379578588920cA78FbF26c0B4956C"
"""The deterministic deployment proxy, at the same address on every network that has it."""
PROXY_CODE = bytes.fromhex(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
)
SALT = keccak(text="Creneau 1")

_OWNERSHIP_TRANSFERRED = keccak(text="OwnershipTransferred(address,address)")
_NOBODY = bytes(32)


class Sent(NamedTuple):
    """A transaction that is in a block."""

    transaction_hash: bytes
    block_number: int
    gas_used: int


@dataclass(frozen=True)
class Creation:
    """A contract and the transaction that created it; `gas_used` is None for one that was found."""

    address: str
    transaction_hash: bytes
    block_number: int
    gas_used: int | None


@dataclass(frozen=True)
class Planned:
    """A contract of a plan: where it will be, the data that creates it, and whether it is there already."""

    contract: abi.ContractName
    address: str
    creation_data: bytes
    exists: bool


@dataclass(frozen=True)
class Plan:
    """The outcome of a deployment, before anything is sent. `new_token` is None where the token is given."""

    chain_id: int
    arbiter: str
    token: str
    new_token: Planned | None
    escrow: Planned
    periods: tuple[int, int, int]
    default_tutor_share_bps: int


@dataclass(frozen=True)
class Deployment:
    """The contracts of one network.

    `token` is the escrow's ERC-20, and `new_token` tells of it if it was deployed for this escrow. Searches
    for events begin at the escrow's block.
    """

    chain_id: int
    arbiter: str
    token: str
    new_token: Creation | None
    escrow: Creation


Send = Callable[[str, bytes], Sent]
"""Signs and sends a transaction to this address with this data, and waits until it is mined."""


def plan(
    web3: Web3,
    *,
    owner: str,
    arbiter: str | None = None,
    token: str | None = None,
    cancel_window: timedelta = timedelta(hours=24),
    review_period: timedelta = timedelta(hours=48),
    arbitration_period: timedelta = timedelta(days=14),
    default_tutor_share_bps: int = 5_000,
) -> Plan:
    """Return the plan of an escrow for `token`, or for an EduToken that `owner` may mint.

    The arbiter is the owner unless given. Of a dispute that the arbiter leaves undecided the tutor gets the
    default share: half, unless given. Sends nothing. Raises `ProxyMissing`; for a token that exists
    `TokenWithoutCode` or `UnsupportedToken`; and what the escrow's constructor raises.
    """
    if web3.eth.get_code(Web3.to_checksum_address(PROXY)) != PROXY_CODE:
        raise ProxyMissing(
            f"Chain {web3.eth.chain_id} has no deterministic deployment proxy at {PROXY}, "
            "through which Creneau is deployed. Anyone can put it there."
        )
    new_token = None
    if token is None:
        new_token = _planned(web3, "EduToken", to_address(owner))
        token = new_token.address
    else:
        token = to_address(token)
        check_token(web3, token)
    arbiter = to_address(arbiter or owner)
    cancel, review, arbitration = (
        int(period.total_seconds()) for period in (cancel_window, review_period, arbitration_period)
    )
    terms = arbiter, cancel, review, arbitration, default_tutor_share_bps
    escrow = _planned(web3, "BookingEscrow", token, *terms)
    if not escrow.exists:
        # Where the token is not there yet, the token of any address will do to try the other terms.
        tried = token if new_token is None or new_token.exists else PROXY
        call(web3, None, abi.creation_data("BookingEscrow", tried, *terms), sender=owner)
    periods = cancel, review, arbitration
    return Plan(web3.eth.chain_id, arbiter, token, new_token, escrow, periods, default_tutor_share_bps)


def carry_out(web3: Web3, send: Send, planned: Plan) -> Deployment:
    """Create what is missing of the plan, and reads it back.

    Raises `TransactionFailed`, or `DeploymentDiffers` if what is on the chain is not what was planned.
    """
    new_token = None if planned.new_token is None else _create(web3, send, planned.new_token)
    escrow = _create(web3, send, planned.escrow)
    check_token(web3, planned.token)
    verify(web3, planned)
    return Deployment(planned.chain_id, planned.arbiter, planned.token, new_token, escrow)


def deploy(web3: Web3, send: Send, *, owner: str, **terms: Any) -> Deployment:
    """Plans and carries out; the terms are `plan`'s, and so are the errors."""
    return carry_out(web3, send, plan(web3, owner=owner, **terms))


def _planned(web3: Web3, contract: abi.ContractName, *arguments: Any) -> Planned:
    data = abi.creation_data(contract, *arguments)
    address = to_address(keccak(b"\xff" + bytes.fromhex(PROXY[2:]) + SALT + keccak(data))[12:])
    return Planned(contract, address, data, bool(web3.eth.get_code(Web3.to_checksum_address(address))))


def _create(web3: Web3, send: Send, planned: Planned) -> Creation:
    if planned.exists:
        return _found(web3, planned.address)
    sent = send(PROXY, SALT + planned.creation_data)
    if not web3.eth.get_code(Web3.to_checksum_address(planned.address)):
        raise TransactionFailed(
            f"after {to_hex(sent.transaction_hash)} there is no contract at {planned.address}"
        )
    return Creation(planned.address, *sent)


def _found(web3: Web3, address: str) -> Creation:
    """Return the creation of a contract that exists, from its first event: the one that names its owner."""
    try:
        logs = web3.eth.get_logs(
            {
                "address": Web3.to_checksum_address(address),
                "topics": [to_hex(_OWNERSHIP_TRANSFERRED), to_hex(_NOBODY)],
                "fromBlock": 0,
            }
        )
    except Web3Exception as error:
        raise DeploymentDiffers(
            f"{address} is there, and the node does not search its whole history for the transaction that"
            f" created it ({error}). Use a node that does."
        ) from error
    if not logs:
        raise DeploymentDiffers(
            f"The node knows no transaction that created {address}; it keeps too little history."
        )
    return Creation(address, bytes(logs[0]["transactionHash"]), logs[0]["blockNumber"], None)


def verify(web3: Web3, planned: Plan) -> None:
    """Read the escrow's constants back. Raises `DeploymentDiffers` for the first that is not as planned.

    The arbiter may have handed over since, and is compared only in an escrow that was not there before.
    """
    names = ("token", "cancelWindow", "reviewPeriod", "arbitrationPeriod", "defaultTutorShareBps", "arbiter")
    expected = (planned.token, *planned.periods, planned.default_tutor_share_bps, planned.arbiter)
    for name, value in zip(names, expected, strict=True):
        if name == "arbiter" and planned.escrow.exists:
            continue
        answer = call(web3, planned.escrow.address, abi.call_data("BookingEscrow", name))
        [found] = abi.decode_result("BookingEscrow", name, answer)
        found = to_address(found) if isinstance(value, str) else found
        if found != value:
            raise DeploymentDiffers(f"{name} of {planned.escrow.address} is {found}, and was to be {value}.")


# --- The token ---


def check_token(web3: Web3, token: str) -> None:
    """Raise `TokenWithoutCode` or `UnsupportedToken` for a token that Creneau can't work with.

    It counts in 18 decimal places and takes permits (EIP-2612) of the domain that it names (EIP-5267): a
    permit of an account made for this is tried, in an `eth_call`, and the allowance is there afterwards.
    """
    if not web3.eth.get_code(Web3.to_checksum_address(token)):
        raise TokenWithoutCode(token)
    try:
        decimals = abi.decode_uint(call(web3, token, abi.call_data("EduToken", "decimals")))
    except (ContractError, ValueError):
        raise UnsupportedToken(f"{token} does not say how many decimal places it has.") from None
    if decimals != DECIMALS:
        raise UnsupportedToken(f"{token} has {decimals} decimal places; Creneau counts in {DECIMALS}.")
    try:
        domain = abi.decode_result(
            "EduToken", "eip712Domain", call(web3, token, abi.call_data("EduToken", "eip712Domain"))
        )
        _try_permit(web3, token, domain[1], domain[2])
    except (ContractError, ValueError):
        raise UnsupportedToken(f"{token} takes no permits (EIP-2612) in the domain that it names.") from None


def _try_permit(web3: Web3, token: str, name: str, version: str) -> None:
    owner = Account.create()
    typed_data = permit_typed_data(
        name, version, web3.eth.chain_id, token, owner.address, PROXY, 1, 0, UINT256_MAX
    )
    signed = Account.sign_typed_data(owner.key, full_message=typed_data)
    parts = (signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big"))
    data = abi.call_data("EduToken", "permit", owner.address, PROXY, 1, UINT256_MAX, *parts)
    allowance = abi.call_data("EduToken", "allowance", owner.address, PROXY)
    if call(web3, None, _one_after_the_other(token, data, allowance)) != (1).to_bytes(32, "big"):
        raise ValueError("the permit gave nothing")


def _one_after_the_other(to: str, first: bytes, second: bytes) -> bytes:
    """Return code that calls a contract twice, and returns the word that the second call returns.

    As a creation in an `eth_call` it leaves nothing behind. It reverts with what the first call reverts with.
    """

    def push(number: int) -> bytes:
        return b"\x61" + number.to_bytes(2, "big")

    address, behind = b"\x73" + bytes.fromhex(to[2:]), len(first) + len(second)

    def written(data: int, success: int) -> tuple[bytes, bytes]:
        copy = push(behind) + push(data) + b"\x5f\x39"  # CODECOPY, of both calls' data
        call = b"\x5f\x5f" + push(len(first)) + b"\x5f\x5f" + address + b"\x5a\xf1"  # CALL
        fail = push(success) + b"\x57\x3d\x5f\x5f\x3e\x3d\x5f\xfd"  # JUMPI; RETURNDATACOPY, REVERT
        ask = b"\x60\x20" + push(behind) + push(len(second)) + push(len(first)) + address + b"\x5a\xfa"
        return copy + call + fail, b"\x5b" + ask + b"\x60\x20" + push(behind) + b"\xf3"  # STATICCALL, RETURN

    before, after = map(len, written(0, 0))
    return b"".join(written(before + after, before)) + first + second


def check_transfer(fork: Web3, token: str) -> None:
    """Move some of the token on a fork of the network, made by anvil, as the escrow does: in, and out again.

    Raises `UnsupportedToken` if what arrives is not what left: a token that takes a fee.
    """
    payer, escrow, payee = (Account.create().address for _ in range(3))
    amount = 10**DECIMALS
    try:
        _rpc(fork, "anvil_dealERC20", payer, token, hex(amount))
        _send_as(fork, payer, token, abi.call_data("EduToken", "approve", escrow, amount))
        _send_as(fork, escrow, token, abi.call_data("EduToken", "transferFrom", payer, escrow, amount))
        balances = [_balance(fork, token, each) for each in (payer, escrow)]
        if balances == [0, amount]:
            _send_as(fork, escrow, token, abi.call_data("EduToken", "transfer", payee, amount))
            balances = [_balance(fork, token, each) for each in (escrow, payee)]
    except (Web3Exception, ContractError, ValueError) as error:
        raise UnsupportedToken(f"A transfer of {token} could not be tried on a fork: {error}") from None
    if balances != [0, amount]:
        raise UnsupportedToken(
            f"Of {amount} base units of {token} that were sent, {balances[1]} arrived and "
            f"{balances[0]} stayed; Creneau needs a token that moves exactly what it is told to."
        )


def _send_as(fork: Web3, sender: str, to: str, data: bytes) -> None:
    _rpc(fork, "anvil_setBalance", sender, hex(10**18))
    _rpc(fork, "anvil_impersonateAccount", sender)
    sent = _rpc(fork, "eth_sendTransaction", {"from": sender, "to": to, "data": to_hex(data)})
    if not fork.eth.wait_for_transaction_receipt(sent, poll_latency=0.02)["status"]:
        raise ValueError(f"the transaction {sent} reverted")


def _balance(web3: Web3, token: str, who: str) -> int:
    return abi.decode_uint(call(web3, token, abi.balance_of_data(who)))


def _rpc(web3: Web3, method: str, *params: Any) -> Any:
    answer = web3.provider.make_request(cast(Any, method), list(params))
    if "error" in answer:
        raise ValueError(answer["error"].get("message", answer["error"]))
    return answer["result"]


# --- Sending ---


def send_by_web3(web3: Web3, account: LocalAccount) -> Send:
    """Return a `Send` with a key of this process. It raises `TransactionFailed` if a creation reverts."""

    def send(to: str, data: bytes) -> Sent:
        priority_fee = web3.eth.max_priority_fee
        base_fee = web3.eth.get_block("latest")["baseFeePerGas"]
        transaction: dict[str, Any] = {
            "from": account.address,
            "to": to,
            "data": to_hex(data),
            "nonce": web3.eth.get_transaction_count(account.address, "pending"),
            "chainId": web3.eth.chain_id,
            "maxPriorityFeePerGas": priority_fee,
            "maxFeePerGas": 2 * base_fee + priority_fee,
        }
        transaction["gas"] = web3.eth.estimate_gas(cast(TxParams, transaction))
        signed = account.sign_transaction(transaction)
        transaction_hash = web3.eth.send_raw_transaction(signed.raw_transaction)
        receipt = web3.eth.wait_for_transaction_receipt(transaction_hash, poll_latency=0.02)
        if not receipt["status"]:
            raise TransactionFailed(f"the creation {to_hex(transaction_hash)} reverted")
        return Sent(bytes(transaction_hash), receipt["blockNumber"], receipt["gasUsed"])

    return send


def creations(deployment: Deployment) -> Iterator[tuple[abi.ContractName, Creation]]:
    """Return the contracts of a deployment, in the order in which they were created."""
    if deployment.new_token:
        yield "EduToken", deployment.new_token
    yield "BookingEscrow", deployment.escrow
