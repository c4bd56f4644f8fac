"""Deploys the escrow, and a token of its own where there is none yet.

One function for the Ape script and for programs that use web3. They differ in how a transaction is signed and
sent, and so pass that in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.types import TxParams

from creneau import codec
from creneau.amounts import DECIMALS
from creneau.errors import ContractError, TokenWithoutCode, TransactionFailed, UnsupportedToken
from creneau.fields import to_address, to_hex
from creneau.node import call


@dataclass(frozen=True)
class Creation:
    """A contract that was just deployed, and what it took."""

    address: str
    transaction_hash: bytes
    block_number: int
    gas_used: int


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


Send = Callable[[bytes], Creation]
"""Signs and sends the transaction that creates a contract with this data, and waits until it is mined."""


def deploy(
    web3: Web3,
    send: Send,
    *,
    owner: str,
    arbiter: str | None = None,
    token: str | None = None,
    cancel_window: timedelta = timedelta(hours=24),
    review_period: timedelta = timedelta(hours=48),
    arbitration_period: timedelta = timedelta(days=14),
) -> Deployment:
    """Deploys the escrow for `token`; without one, first an EduToken that `owner` may mint.

    The arbiter is the owner unless given. Each creation is tried as a call first. Raises `TokenWithoutCode`,
    `UnsupportedToken`, or the constructor's own error.
    """

    def create(data: bytes) -> Creation:
        call(web3, None, data, sender=owner)
        return send(data)

    new_token = None
    if token is None:
        new_token = create(codec.creation_data("EduToken", owner))
        token = new_token.address
    token = to_address(token)
    _require_decimals(web3, token)
    arbiter = to_address(arbiter or owner)
    periods = [int(period.total_seconds()) for period in (cancel_window, review_period, arbitration_period)]
    escrow = create(codec.creation_data("BookingEscrow", token, arbiter, *periods))
    return Deployment(web3.eth.chain_id, arbiter, token, new_token, escrow)


def send_by_web3(web3: Web3, account: LocalAccount) -> Send:
    """Sends with a key that this process has. Raises `TransactionFailed` if a creation reverts when mined."""

    def send(data: bytes) -> Creation:
        priority_fee = web3.eth.max_priority_fee
        base_fee = web3.eth.get_block("latest")["baseFeePerGas"]
        transaction: dict[str, Any] = {
            "from": account.address,
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
        if not receipt["status"] or receipt["contractAddress"] is None:
            raise TransactionFailed(f"the creation {to_hex(transaction_hash)} reverted")
        return Creation(
            receipt["contractAddress"], bytes(transaction_hash), receipt["blockNumber"], receipt["gasUsed"]
        )

    return send


def _require_decimals(web3: Web3, token: str) -> None:
    """Every conversion of the SDK relies on it."""
    if not web3.eth.get_code(Web3.to_checksum_address(token)):
        raise TokenWithoutCode(token)
    try:
        decimals = codec.decode_uint(call(web3, token, codec.call_data("EduToken", "decimals")))
    except (ContractError, ValueError):
        raise UnsupportedToken(f"{token} does not say how many decimal places it has.") from None
    if decimals != DECIMALS:
        raise UnsupportedToken(f"{token} has {decimals} decimal places; Creneau counts in {DECIMALS}.")
