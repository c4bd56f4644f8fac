"""A connection to an escrow on the network that Ape is connected to: calls, transactions and receipts.

Ape chooses the network, signs and sends; reads go straight to its node, because Ape's own view calls take
many times as long and do not decode reverts. Every transaction is tried as an `eth_call` first, so that a
refusal costs no gas and is raised as the contract's own error.
"""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, cast

from ape import chain
from ape.api import AccountAPI, ReceiptAPI
from ape.api.address import BaseAddress
from ape.exceptions import ContractLogicError, SignatureError
from ape_ethereum.provider import Web3Provider
from eth_account.messages import encode_typed_data
from eth_typing import BlockNumber
from web3 import Web3
from web3.types import LogReceipt

from creneau import abi, events
from creneau.amounts import Token, from_wei
from creneau.ape.node import call, token_of
from creneau.booking import ActionResult, Batch, BatchState, Listing
from creneau.errors import BatchNotFound, ContractError, TransactionFailed, decode_revert
from creneau.events import BookingsCreated, CallFailed, Event, LessonEvent, ListingPublished
from creneau.lifecycle import Periods
from creneau.typed_data import Domain
from creneau.types import from_unix, to_address, to_bytes32, to_hex, to_unix

Who = str | BaseAddress
"""An address, or an Ape account."""

Result = Listing | Batch | ActionResult
"""The result of an event: a listing was published, a batch created, or an action done to lessons."""

Tried = Result | ContractError
"""The result of one call of `try_multicall`: what it did, or the error for which it did nothing."""

NOBODY = "0x" + "00" * 20


class Connection:
    """The escrow at an address; `deployment_block` is where searches for events begin."""

    def __init__(self, address: str, deployment_block: int = 0) -> None:
        self.address = to_address(address)
        self.deployment_block = deployment_block

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    # --- Constants ---

    @cached_property
    def domain(self) -> Domain:
        """The EIP-712 domain that orders, listings and acts are signed in."""
        return Domain(chain.chain_id, self.address)

    @cached_property
    def token(self) -> str:
        """The address of the ERC-20 that lessons are paid in."""
        return to_address(self._ask("token")[0])

    @cached_property
    def currency(self) -> Token:
        """The symbol and the decimal places of the token, which amounts are shown with."""
        return token_of(self._web3, self.token)

    @cached_property
    def periods(self) -> Periods:
        """The periods in which lessons can be cancelled, disputed and resolved."""
        names = ("cancelWindow", "reviewPeriod", "arbitrationPeriod")
        return Periods(*(timedelta(seconds=self._ask(name)[0]) for name in names))

    @cached_property
    def default_tutor_share_bps(self) -> int:
        """The tutor's share, in basis points, of a dispute that the arbiter leaves undecided."""
        return int(self._ask("defaultTutorShareBps")[0])

    @property
    def arbiter(self) -> str:
        """The address of the account that resolves disputes."""
        return to_address(self._ask("arbiter")[0])

    @property
    def pending_arbiter(self) -> str | None:
        """The account that the arbiter hands over to, once it accepts."""
        address = self._ask("pendingOwner")[0]
        return None if address == NOBODY else to_address(address)

    def now(self) -> datetime:
        """Return the timestamp of the latest block."""
        return from_unix(self._web3.eth.get_block("latest")["timestamp"])

    def batch(self, batch: bytes | str) -> Batch:
        """Return a batch by its key, as it stands now. Raises `BatchNotFound`.

        The contract knows when it was created, so its event is looked for in the blocks of that second: nodes
        search few blocks at once.
        """
        key = to_bytes32(batch)
        created_at = abi.decode_batch(self._call(abi.batches_data(key))).created_at
        its_second = 0 if created_at is None else to_unix(created_at)
        first, last = self._first_block(its_second), self._first_block(its_second + 1) - 1
        logs: Sequence[LogReceipt] = ()
        if its_second and first <= last:
            logs = self._web3.eth.get_logs(
                {
                    "address": Web3.to_checksum_address(self.address),
                    "topics": [to_hex(events.BOOKINGS_CREATED), to_hex(key)],
                    "fromBlock": BlockNumber(first),
                    "toBlock": BlockNumber(last),
                }
            )
        if not logs:
            raise BatchNotFound(f"There is no batch {to_hex(key)} in {self.address}.")
        event = cast(BookingsCreated, events.decode_log(cast(dict[str, Any], logs[0]), self.address))
        return self._batch(event, bytes(logs[0]["transactionHash"]), logs[0]["blockNumber"], None)

    # --- The node ---

    def _first_block(self, timestamp: int) -> int:
        """Return the first block from that second on, or the one after the newest."""
        eth = self._web3.eth
        blocks = range(self.deployment_block, eth.block_number + 1)
        return blocks.start + bisect_left(
            blocks, timestamp, key=lambda number: eth.get_block(number)["timestamp"]
        )

    @property
    def _web3(self) -> Web3:
        return cast(Web3Provider, chain.provider).web3

    def _call(self, data: bytes, *, to: str | None = None, sender: str | None = None) -> bytes:
        try:
            return call(self._web3, to or self.address, data, sender=sender)
        except ContractError as error:
            error.currency = self.currency
            raise

    def _ask(self, function: str, *args: Any) -> tuple[Any, ...]:
        data = abi.call_data("BookingEscrow", function, *args)
        return abi.decode_result("BookingEscrow", function, self._call(data))

    def _ask_token(self, function: str, *args: Any) -> tuple[Any, ...]:
        data = abi.call_data("EduToken", function, *args)
        return abi.decode_result("EduToken", function, call(self._web3, self.token, data))

    def _send(self, data: bytes, sender: AccountAPI, *, to: str | None = None) -> ReceiptAPI:
        to = to or self.address
        self._call(data, to=to, sender=sender.address)
        ecosystem = chain.provider.network.ecosystem
        transaction = ecosystem.create_transaction(sender=sender.address, receiver=to, data=data)
        try:
            return sender.call(transaction)
        except ContractLogicError as error:
            self._call(data, to=to, sender=sender.address)
            raise TransactionFailed(str(error)) from error

    # --- Receipts ---

    def _results(self, receipt: ReceiptAPI, batch: Batch | None = None) -> list[Result]:
        """Return the results of a receipt's events, in order; `batch` is that of its actions, if known."""
        return [each for each in self._tried(receipt, batch) if not isinstance(each, ContractError)]

    def _tried(self, receipt: ReceiptAPI, batch: Batch | None = None) -> list[Tried]:
        """Return the same, with the errors of the calls that failed in a `tryMulticall`."""
        found = (
            self._result(event, receipt, batch) for event in events.decode_logs(receipt.logs, self.address)
        )
        return [each for each in found if each is not None]

    def _result(self, event: Event, receipt: ReceiptAPI, batch: Batch | None) -> Tried | None:
        """Return None for an event that goes with another one, or that nothing comes of."""
        transaction_hash = to_bytes32(receipt.txn_hash)
        if isinstance(event, ListingPublished):
            notice, horizon = timedelta(seconds=event.min_notice), timedelta(seconds=event.horizon)
            rate = from_wei(event.hourly_rate)
            return Listing(rate, event.instant, notice, horizon, event.nonce, self.currency)
        if isinstance(event, CallFailed):
            return decode_revert(event.reason, self.currency)
        if not isinstance(event, BookingsCreated | LessonEvent):
            return None
        if isinstance(event, BookingsCreated):
            return self._batch(event, transaction_hash, receipt.block_number, receipt.gas_used)
        return ActionResult(
            action=event.action,
            batch=self.batch(event.batch) if batch is None else self._again(batch),
            lessons=event.lessons,
            to_student=from_wei(event.to_student),
            to_tutor=from_wei(event.to_tutor),
            transaction_hash=transaction_hash,
            block_number=receipt.block_number,
            gas_used=receipt.gas_used,
        )

    def _batch(
        self, event: BookingsCreated, transaction_hash: bytes, block_number: int, gas_used: int | None
    ) -> Batch:
        created = Batch(
            id=event.batch,
            order=event.order,
            periods=self.periods,
            currency=self.currency,
            booked=event.booked,
            transaction_hash=transaction_hash,
            block_number=block_number,
            gas_used=gas_used,
        )
        return self._again(created)

    def _again(self, batch: Batch) -> Batch:
        """Return the batch as it stands now."""
        state: BatchState = abi.decode_batch(self._call(abi.batches_data(batch.id)))
        changing = ("confirmed", "disputed", "completed", "cancelled", "created_at")
        return batch.model_copy(update={name: getattr(state, name) for name in changing})


def address_of(who: Who) -> str:
    """Return the address of an account."""
    return to_address(str(who))


def sign(account: AccountAPI, typed_data: dict[str, Any]) -> bytes:
    """Return the account's signature of typed data. Raises Ape's `SignatureError` if it is refused."""
    signature = account.sign_message(encode_typed_data(full_message=typed_data))
    if signature is None:
        raise SignatureError("The account did not sign.")
    return bytes(signature.encode_rsv())
