"""The escrow on the network that Ape is connected to: for the console, scripts and tests."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from ape.api import AccountAPI

from creneau import abi
from creneau.amounts import from_wei, to_wei
from creneau.ape.connection import NOBODY, Connection, Result, Who, address_of, sign
from creneau.booking import ActionResult, Batch, Booking, Listing
from creneau.lifecycle import ACTIONS, Action
from creneau.order import Order, Permit, Slot, SlotCode, listing_id
from creneau.typed_data import action_typed_data, listing_typed_data, permit_typed_data
from creneau.types import to_bytes32, to_unix

ORDER_LIFE = timedelta(hours=1)
"""The life of an order or a permit without a deadline of its own, by the chain's clock."""

Lessons = Iterable[int | Booking] | None
"""Lessons of a batch, by their indexes from zero or as bookings; None for all that were booked."""


class BookingEscrow(Connection):
    """The escrow at an address.

    `sender` is always the Ape account that pays the gas, and the actor unless another account's signature is
    given. Other accounts are addresses or Ape accounts. A `listing` is its bytes32 key,
    or the annonce's id, which `listing_id` turns into the key. `deployment_block` is where searches for
    events begin. Methods raise the contract's errors as `ContractError`s.

    An action on lessons is done to all of those named, or to none.
    """

    # --- Listings and orders ---

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
        """Set the rate of a listing, in tokens an hour; zero withdraws it.

        Lessons of an instant listing need no confirmation. With the tutor's address and signature
        (`sign_listing`), anyone may send it.
        """
        data = abi.publish_data(
            address_of(tutor or sender), _key(listing), to_wei(hourly_rate), instant, signature
        )
        [listed] = self._results(self._send(data, sender))
        return cast(Listing, listed)

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
        """Book lessons for the sender, who needs to have approved the escrow or to give a permit.

        The rate, in tokens an hour, is the published one unless given; a given one guards against a change.
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
        """Return an unsent order: at the published rate, for an hour, with a random salt, unless given."""
        key = _key(listing)
        terms: dict[str, Any] = {} if salt is None else {"salt": salt}
        return Order(
            student=address_of(student),
            tutor=address_of(tutor),
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
        """Book the lessons of an order. With the student's signature (`sign_order`), anyone may send it."""
        data = abi.create_bookings_data(order, signature, permit)
        [created] = self._results(self._send(data, sender))
        return cast(Batch, created)

    def approve(self, amount: Decimal | int | str, *, sender: AccountAPI) -> None:
        """Allow the escrow to take up to `amount` of the sender's tokens, from now on."""
        self._send(abi.approve_data(self.address, to_wei(amount)), sender, to=self.token)

    def allowance(self, student: Who) -> Decimal:
        """Return the amount of a student's tokens that the escrow may take."""
        return from_wei(self._ask_token("allowance", address_of(student), self.address)[0])

    def balance(self, who: Who) -> Decimal:
        """Return the tokens of an account."""
        return from_wei(self._ask_token("balanceOf", address_of(who))[0])

    # --- Actions on lessons ---

    def confirm(
        self, batch: Batch, lessons: Lessons = None, *, sender: AccountAPI, signature: bytes = b""
    ) -> ActionResult:
        """Confirm pending lessons before they start, as the tutor.

        With the tutor's signature (`sign_action`), anyone may send it.
        """
        return self._act(Action.CONFIRM, batch, lessons, sender, signature=signature)

    def cancel(
        self,
        batch: Batch,
        lessons: Lessons = None,
        *,
        sender: AccountAPI,
        by: Who | None = None,
        signature: bytes = b"",
    ) -> ActionResult:
        """Cancel lessons, which refunds the student and frees the tutor's time.

        The tutor may at any time; the student as long as they are pending, and until the cancel window before
        they start; anyone once a dispute is too old. With the address and signature (`sign_action`) of the
        account that cancels, anyone may send it.
        """
        by = address_of(by or sender)
        return self._act(Action.CANCEL, batch, lessons, sender, by=by, signature=signature)

    def complete(
        self,
        batch: Batch,
        lessons: Lessons = None,
        *,
        sender: AccountAPI,
        by: Who | None = None,
        signature: bytes = b"",
    ) -> ActionResult:
        """Pay the tutor for lessons.

        The student may at any time; anyone once they are confirmed and the review period is over. With the
        address and signature (`sign_action`) of who completes, anyone may send it.
        """
        by = address_of(by or sender)
        return self._act(Action.COMPLETE, batch, lessons, sender, by=by, signature=signature)

    def dispute(
        self, batch: Batch, lessons: Lessons = None, *, sender: AccountAPI, signature: bytes = b""
    ) -> ActionResult:
        """Dispute confirmed lessons, as the student, from their start to the end of the review period.

        With the student's signature (`sign_action`), anyone may send it.
        """
        return self._act(Action.DISPUTE, batch, lessons, sender, signature=signature)

    def resolve(
        self, batch: Batch, lessons: Lessons = None, *, tutor_share_bps: int, sender: AccountAPI
    ) -> ActionResult:
        """Split the money of disputed lessons, as the arbiter.

        The tutor gets so many basis points of each lesson's amount, rounded down; the student gets the rest.
        """
        return self._act(Action.RESOLVE, batch, lessons, sender, tutor_share_bps=tutor_share_bps)

    def multicall(self, calls: Iterable[bytes], *, sender: AccountAPI) -> list[Result]:
        """Send several calls, as the functions of `abi` give them, in one transaction: all or none.

        Returns a listing for each publication, a batch for each creation, and a result for each action.
        """
        return self._results(self._send(abi.multicall_data(list(calls)), sender))

    # --- The arbiter's place ---

    def transfer_arbiter(self, to: Who | None, *, sender: AccountAPI) -> None:
        """Hand the arbiter's place over to an account, once it accepts; None takes it back."""
        new = NOBODY if to is None else address_of(to)
        self._send(abi.call_data("BookingEscrow", "transferOwnership", new), sender)

    def accept_arbiter(self, *, sender: AccountAPI) -> None:
        """Become the arbiter, as the account that was named."""
        self._send(abi.call_data("BookingEscrow", "acceptOwnership"), sender)

    # --- Signatures ---

    def sign_order(self, order: Order, account: AccountAPI) -> bytes:
        """Return the account's signature of an order. Raises Ape's `SignatureError` if it is refused."""
        return sign(account, order.typed_data(self.domain))

    def sign_listing(
        self,
        listing: bytes | str,
        hourly_rate: Decimal | int | str,
        account: AccountAPI,
        *,
        instant: bool = False,
    ) -> bytes:
        """Return the account's signature of the terms of its listing, valid until the next publication."""
        key = _key(listing)
        nonce = self.listing(account.address, key).nonce
        typed_data = listing_typed_data(
            self.domain, account.address, key, to_wei(hourly_rate), instant, nonce
        )
        return sign(account, typed_data)

    def sign_action(
        self, action: Action, batch: Batch, account: AccountAPI, lessons: Lessons = None
    ) -> bytes:
        """Return the account's signature of an action on exactly these lessons.

        Raises `ValueError` for an action of the arbiter, which can't be signed.
        """
        struct = ACTIONS[action].signed_as
        if struct is None:
            raise ValueError(f"{action} can't be signed")
        typed_data = action_typed_data(self.domain, struct, batch.id, batch.set_of(lessons))
        return sign(account, typed_data)

    def sign_permit(
        self, amount: Decimal | int | str, account: AccountAPI, *, deadline: datetime | None = None
    ) -> Permit:
        """Return the account's permit of up to `amount` tokens for the escrow, for an hour unless given."""
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
        return Permit.from_signature(value, until, sign(account, typed_data))

    # --- Views ---

    def check(self, order: Order) -> list[SlotCode]:
        """Return the code of each slot if the order were created now. Only slots are checked."""
        return abi.decode_check(self._call(abi.check_data(order)))[0]

    def hash_order(self, order: Order) -> bytes:
        """Return the order's digest as the contract computes it; equal to `order.digest(escrow.domain)`."""
        return self._call(abi.hash_order_data(order))

    def listing(self, tutor: Who, listing: bytes | str) -> Listing:
        """Return the terms of a tutor's listing; a rate of zero if it is not offered."""
        data = self._call(abi.listings_data(address_of(tutor), _key(listing)))
        return abi.decode_listing(data)._replace(currency=self.currency)

    def calendar(self, tutor: Who, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
        """Return the tutor's taken times from `start` until `end`, as intervals in order."""
        data = self._call(abi.calendar_data(address_of(tutor), start, end))
        return abi.decode_calendar(data, start, end)

    def _act(
        self, action: Action, batch: Batch, lessons: Lessons, sender: AccountAPI, **given: Any
    ) -> ActionResult:
        data = abi.action_data(action, batch.order, batch.set_of(lessons), **given)
        [result] = self._results(self._send(data, sender), batch)
        return cast(ActionResult, result)


def _key(listing: bytes | str) -> bytes:
    try:
        return to_bytes32(listing)
    except ValueError:
        if isinstance(listing, str) and not listing.startswith("0x"):
            return listing_id(listing)
        raise
