"""The escrow on the network that Ape is connected to: for the console, scripts and tests.

The only module that imports Ape. Ape chooses the network, signs and sends; reads go straight to its node,
because Ape's own view calls take many times as long and do not decode reverts. Whatever is sent is tried as
an `eth_call` first, so that a refusal costs no gas and is raised as the contract's own error.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, TypeVar, cast

from ape import chain
from ape.api import AccountAPI, ReceiptAPI
from ape.api.address import BaseAddress
from ape.exceptions import ContractLogicError, SignatureError
from ape_ethereum.provider import Web3Provider
from eth_account.messages import encode_typed_data
from web3 import Web3

from creneau import codec
from creneau.amounts import from_wei, to_wei
from creneau.booking import Batch, BatchState, Listing, SlotCode
from creneau.codec import BookingsCreated, ListingPublished
from creneau.errors import BatchNotFound, TransactionFailed
from creneau.fields import from_unix, to_address, to_bytes32, to_hex, to_unix
from creneau.node import call
from creneau.order import Domain, Order, Permit, Slot, listing_id, listing_typed_data, permit_typed_data

ORDER_LIFE = timedelta(hours=1)
"""How long an order or a permit without a deadline of its own can be used, by the chain's clock."""

Who = str | BaseAddress
"""An address, or an Ape account."""

_Event = TypeVar("_Event", BookingsCreated, ListingPublished)


class BookingEscrow:
    """The escrow at an address.

    `sender` is always the Ape account that pays the gas; it also is who acts, unless somebody else's
    signature is given. Whoever else is named is an address or an Ape account. A `listing` is its bytes32 key,
    or the annonce's id, which `listing_id` turns into the key. `deployment_block` is where searches for
    events begin. Methods raise the contract's errors as `ContractError`s.
    """

    def __init__(self, address: str, deployment_block: int = 0) -> None:
        self.address = to_address(address)
        self.deployment_block = deployment_block

    def __repr__(self) -> str:
        return f"<BookingEscrow {self.address}>"

    @cached_property
    def domain(self) -> Domain:
        """The EIP-712 domain that orders and listings are signed in."""
        return Domain(chain.chain_id, self.address)

    @cached_property
    def token(self) -> str:
        """The address of the ERC-20 that lessons are paid in."""
        return to_address(self._ask("token")[0])

    # --- Acts ---

    def publish(
        self,
        listing: bytes | str,
        hourly_rate: Decimal | int | str,
        *,
        sender: AccountAPI,
        instant: bool = False,
        tutor: Who | None = None,
        signature: bytes = b"",
    ) -> Listing:
        """Sets the rate of a listing, in EDU an hour; zero withdraws it.

        Lessons of an instant listing need no confirmation. With the tutor's address and signature
        (`sign_listing`), anyone may send it.
        """
        data = codec.publish_data(
            _address(tutor or sender), _key(listing), to_wei(hourly_rate), instant, signature
        )
        event = self._event(self._send(self.address, data, sender), ListingPublished)
        return Listing(from_wei(event.hourly_rate), event.instant, event.nonce)

    def create_bookings(
        self,
        tutor: Who,
        listing: bytes | str,
        slots: Iterable[Slot],
        *,
        sender: AccountAPI,
        hourly_rate: Decimal | int | str | None = None,
        allow_partial: bool = True,
        deadline: datetime | None = None,
        salt: bytes | None = None,
        permit: Permit | None = None,
    ) -> Batch:
        """Books lessons for the sender, who needs to have approved the escrow or to give a permit.

        The rate, in EDU an hour, is the published one unless given, which guards against a change meanwhile.
        """
        order = self.order(
            sender,
            tutor,
            listing,
            slots,
            hourly_rate=hourly_rate,
            allow_partial=allow_partial,
            deadline=deadline,
            salt=salt,
        )
        return self.create(order, sender=sender, permit=permit)

    def order(
        self,
        student: Who,
        tutor: Who,
        listing: bytes | str,
        slots: Iterable[Slot],
        *,
        hourly_rate: Decimal | int | str | None = None,
        allow_partial: bool = True,
        deadline: datetime | None = None,
        salt: bytes | None = None,
    ) -> Order:
        """An order, not sent: at the published rate, usable for an hour, with a random salt, unless given."""
        key = _key(listing)
        terms: dict[str, Any] = {} if salt is None else {"salt": salt}
        return Order(
            student=_address(student),
            tutor=_address(tutor),
            listing=key,
            hourly_rate=self.listing(tutor, key).hourly_rate if hourly_rate is None else hourly_rate,
            allow_partial=allow_partial,
            deadline=self.now() + ORDER_LIFE if deadline is None else deadline,
            slots=tuple(slots),
            **terms,
        )

    def create(
        self, order: Order, *, sender: AccountAPI, signature: bytes = b"", permit: Permit | None = None
    ) -> Batch:
        """Books the lessons of an order. With the student's signature (`sign_order`), anyone may send it."""
        receipt = self._send(self.address, codec.create_bookings_data(order, signature, permit), sender)
        event = self._event(receipt, BookingsCreated)
        return self._batch(event, to_bytes32(receipt.txn_hash), receipt.block_number, receipt.gas_used)

    def approve(self, amount: Decimal | int | str, *, sender: AccountAPI) -> None:
        """Allows the escrow to take up to `amount` EDU of the sender's, from now on."""
        self._send(self.token, codec.approve_data(self.address, to_wei(amount)), sender)

    # --- Signatures ---

    def sign_order(self, order: Order, account: AccountAPI) -> bytes:
        """The account's signature of an order. Raises Ape's `SignatureError` if it is refused."""
        return _sign(account, order.typed_data(self.domain))

    def sign_listing(
        self,
        listing: bytes | str,
        hourly_rate: Decimal | int | str,
        account: AccountAPI,
        *,
        instant: bool = False,
    ) -> bytes:
        """The account's signature of the terms of a listing of its own, good until it is published again."""
        key = _key(listing)
        nonce = self.listing(account.address, key).nonce
        typed_data = listing_typed_data(
            self.domain, account.address, key, to_wei(hourly_rate), instant, nonce
        )
        return _sign(account, typed_data)

    def sign_permit(
        self, amount: Decimal | int | str, account: AccountAPI, *, deadline: datetime | None = None
    ) -> Permit:
        """The account's permit for the escrow to take up to `amount` EDU, usable for an hour unless said."""
        value, until = to_wei(amount), to_unix(self.now() + ORDER_LIFE if deadline is None else deadline)
        _, name, version, *_ = self._ask_token("eip712Domain")
        [nonce] = self._ask_token("nonces", account.address)
        typed_data = permit_typed_data(
            name,
            version,
            self.domain.chain_id,
            self.token,
            account.address,
            self.address,
            value,
            nonce,
            until,
        )
        return Permit.from_signature(value, until, _sign(account, typed_data))

    # --- Views ---

    def check(self, order: Order) -> list[SlotCode]:
        """What would become of each slot if the order were created now. Looks at the slots only."""
        return codec.decode_check(call(self._web3, self.address, codec.check_data(order)))[0]

    def hash_order(self, order: Order) -> bytes:
        """The order's digest as the contract computes it; equal to `order.digest(escrow.domain)`."""
        return call(self._web3, self.address, codec.hash_order_data(order))

    def listing(self, tutor: Who, listing: bytes | str) -> Listing:
        """The terms of a tutor's listing; a rate of zero if it is not offered."""
        return codec.decode_listing(
            call(self._web3, self.address, codec.listings_data(_address(tutor), _key(listing)))
        )

    def calendar(self, tutor: Who, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
        """The tutor's taken times from `start` until `end`, as intervals in order."""
        data = call(self._web3, self.address, codec.calendar_data(_address(tutor), start, end))
        return codec.decode_calendar(data, start, end)

    def batch(self, batch: bytes | str) -> Batch:
        """A batch by its key, as it stands now. Raises `BatchNotFound`.

        Looks for the order from the deployment block on.
        """
        key = to_bytes32(batch)
        logs = self._web3.eth.get_logs(
            {
                "address": Web3.to_checksum_address(self.address),
                "topics": [to_hex(codec.BOOKINGS_CREATED), to_hex(key)],
                "fromBlock": self.deployment_block,
            }
        )
        if not logs:
            raise BatchNotFound(f"There is no batch {to_hex(key)} in {self.address}.")
        event = cast(BookingsCreated, codec.decode_log(cast(dict[str, Any], logs[0]), self.address))
        return self._batch(event, bytes(logs[0]["transactionHash"]), logs[0]["blockNumber"], None)

    def now(self) -> datetime:
        """The timestamp of the latest block."""
        return from_unix(self._web3.eth.get_block("latest")["timestamp"])

    # --- The node ---

    @property
    def _web3(self) -> Web3:
        return cast(Web3Provider, chain.provider).web3

    def _ask(self, function: str, *args: Any) -> tuple[Any, ...]:
        data = codec.call_data("BookingEscrow", function, *args)
        return codec.decode_result("BookingEscrow", function, call(self._web3, self.address, data))

    def _ask_token(self, function: str, *args: Any) -> tuple[Any, ...]:
        data = codec.call_data("EduToken", function, *args)
        return codec.decode_result("EduToken", function, call(self._web3, self.token, data))

    def _send(self, to: str, data: bytes, sender: AccountAPI) -> ReceiptAPI:
        call(self._web3, to, data, sender=sender.address)
        ecosystem = chain.provider.network.ecosystem
        transaction = ecosystem.create_transaction(sender=sender.address, receiver=to, data=data)
        try:
            return sender.call(transaction)
        except ContractLogicError as error:
            call(self._web3, to, data, sender=sender.address)
            raise TransactionFailed(str(error)) from error

    def _event(self, receipt: ReceiptAPI, kind: type[_Event]) -> _Event:
        [event] = [
            event for event in codec.decode_logs(receipt.logs, self.address) if isinstance(event, kind)
        ]
        return event

    def _batch(
        self, event: BookingsCreated, transaction_hash: bytes, block_number: int, gas_used: int | None
    ) -> Batch:
        state: BatchState = codec.decode_batch(
            call(self._web3, self.address, codec.batches_data(event.batch))
        )
        return Batch(
            id=event.batch,
            order=event.order,
            booked=event.booked,
            confirmed=state.confirmed,
            disputed=state.disputed,
            completed=state.completed,
            cancelled=state.cancelled,
            created_at=state.created_at,
            transaction_hash=transaction_hash,
            block_number=block_number,
            gas_used=gas_used,
        )


def _address(who: Who) -> str:
    return to_address(str(who))


def _key(listing: bytes | str) -> bytes:
    try:
        return to_bytes32(listing)
    except ValueError:
        if isinstance(listing, str) and not listing.startswith("0x"):
            return listing_id(listing)
        raise


def _sign(account: AccountAPI, typed_data: dict[str, Any]) -> bytes:
    signature = account.sign_message(encode_typed_data(full_message=typed_data))
    if signature is None:
        raise SignatureError("The account did not sign.")
    return bytes(signature.encode_rsv())
