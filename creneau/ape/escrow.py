"""The escrow on the network that Ape is connected to: for the console, scripts and tests."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, cast

from ape.api import AccountAPI

from creneau import abi
from creneau.amounts import from_wei, to_wei
from creneau.ape.connection import NOBODY, Connection, Result, Tried, Who, address_of, sign
from creneau.booking import ActionResult, Batch, Booking, Listing
from creneau.lifecycle import ACTIONS, Action
from creneau.order import Order, Permit, Slot, SlotCode, listing_id
from creneau.typed_data import (
    action_typed_data,
    listing_typed_data,
    permit_typed_data,
    revoke_typed_data,
    settle_typed_data,
    withdraw_typed_data,
)
from creneau.types import to_bytes32, to_unix

ORDER_LIFE = timedelta(hours=1)
"""The life of an order, a permit or a signature without a deadline of its own, by the chain's clock."""

NO_TIME = timedelta(0)

# Where nobody signs: so the contract says that the sender is not the actor, not that a signature is too old.
_LAST_DEADLINE = 2**40 - 1

Lessons = Iterable[int | Booking] | None
"""Lessons of a batch, by their indexes from zero or as bookings; None for all that were booked."""


class Signed(NamedTuple):
    """A signature, and the last second at which it counts."""

    signature: bytes
    deadline: datetime


class BookingEscrow(Connection):
    """The escrow at an address.

    `sender` is always the Ape account that pays the gas, and the actor unless another account's signature is
    given: by a method that begins with `sign`, until its deadline, which is in an hour unless it is named.
    Other accounts are addresses or Ape accounts. A `listing` is its bytes32 key, or the annonce's id, which
    `listing_id` turns into the key. `deployment_block` is where searches for events begin. Methods raise the
    contract's errors as `ContractError`s.

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
        min_notice: timedelta = NO_TIME,
        horizon: timedelta = NO_TIME,
        tutor: Who | None = None,
        signature: Signed | None = None,
    ) -> Listing:
        """Set the terms of a listing: its rate in tokens an hour, and which lessons can be booked.

        A rate of zero withdraws it. Lessons of an instant listing need no confirmation. They start at least
        `min_notice` after they are booked, and at most `horizon` after it, unless that is zero. With the
        tutor's address and signature (`sign_listing`) of the same terms, anyone may send it.
        """
        data = abi.publish_data(
            address_of(tutor or sender),
            _key(listing),
            to_wei(hourly_rate),
            instant,
            _seconds(min_notice),
            _seconds(horizon),
            **_signed(signature),
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
        min_lessons: int = 1,
        deadline: datetime | None = None,
        salt: bytes | None = None,
        permit: Permit | None = None,
    ) -> Batch:
        """Book lessons for the sender, who needs to have approved the escrow or to give a permit.

        Slots that are taken are left out, as long as `min_lessons` of them are free. The rate, in tokens an
        hour, is the published one unless given; a given one guards against a change.
        """
        order = self.order(
            sender,
            tutor,
            listing,
            slots,
            hourly_rate=hourly_rate,
            min_lessons=min_lessons,
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
        min_lessons: int = 1,
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
            min_lessons=min_lessons,
            deadline=self._deadline(deadline),
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

    def block_time(self, slots: Iterable[Slot], *, sender: AccountAPI, salt: bytes | None = None) -> Batch:
        """Take time of the sender's own out of their calendar as a tutor: holidays, lessons elsewhere.

        It costs nothing and needs no listing; to cancel its lessons gives the time back. All of it must be
        free.
        """
        slots = tuple(slots)
        order = self.order(sender, sender, bytes(32), slots, hourly_rate=0, min_lessons=len(slots), salt=salt)
        return self.create(order, sender=sender)

    def revoke(self, order: Order, *, sender: AccountAPI, signature: Signed | None = None) -> None:
        """Take back an order that was signed and not created: it never can be.

        With the student's signature (`sign_revocation`), anyone may send it.
        """
        self._send(abi.revoke_data(order, **_signed(signature)), sender)

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
        self, batch: Batch, lessons: Lessons = None, *, sender: AccountAPI, signature: Signed | None = None
    ) -> ActionResult:
        """Confirm pending lessons before they start, as the tutor.

        With the tutor's signature (`sign_action`), anyone may send it.
        """
        return self._act(Action.CONFIRM, batch, lessons, sender, **_signed(signature))

    def cancel(
        self,
        batch: Batch,
        lessons: Lessons = None,
        *,
        sender: AccountAPI,
        by: Who | None = None,
        signature: Signed | None = None,
    ) -> ActionResult:
        """Cancel lessons, which refunds the student and frees the tutor's time.

        The tutor may at any time; the student as long as they are pending, and until the cancel window before
        they start; anyone once they have begun without a confirmation. With the address and signature
        (`sign_action`) of the account that cancels, anyone may send it.
        """
        by = address_of(by or sender)
        return self._act(Action.CANCEL, batch, lessons, sender, by=by, **_signed(signature))

    def complete(
        self,
        batch: Batch,
        lessons: Lessons = None,
        *,
        sender: AccountAPI,
        by: Who | None = None,
        signature: Signed | None = None,
    ) -> ActionResult:
        """Pay the tutor for lessons.

        The student may at any time; anyone once they are confirmed and the review period is over. With the
        address and signature (`sign_action`) of who completes, anyone may send it.
        """
        by = address_of(by or sender)
        return self._act(Action.COMPLETE, batch, lessons, sender, by=by, **_signed(signature))

    def dispute(
        self, batch: Batch, lessons: Lessons = None, *, sender: AccountAPI, signature: Signed | None = None
    ) -> ActionResult:
        """Dispute confirmed lessons, as the student, from their start to the end of the review period.

        With the student's signature (`sign_action`), anyone may send it.
        """
        return self._act(Action.DISPUTE, batch, lessons, sender, **_signed(signature))

    def resolve(
        self,
        batch: Batch,
        lessons: Lessons = None,
        *,
        tutor_share_bps: int | None = None,
        sender: AccountAPI,
    ) -> ActionResult:
        """Split the money of disputed lessons.

        The tutor gets so many basis points of each lesson's amount, rounded down; the student gets the rest.
        The arbiter names a share at any time. Anyone may have the default one applied, without naming it,
        once the arbitration period is over.
        """
        share = self.default_tutor_share_bps if tutor_share_bps is None else tutor_share_bps
        return self._act(Action.RESOLVE, batch, lessons, sender, tutor_share_bps=share)

    def settle(
        self,
        batch: Batch,
        lessons: Lessons = None,
        *,
        tutor_share_bps: int,
        sender: AccountAPI,
        student: Signed | None = None,
        tutor: Signed | None = None,
    ) -> ActionResult:
        """Split the money of lessons as the student and the tutor agree, at any time before they are over.

        The tutor gets so many basis points of each lesson's amount, rounded down; the student gets the rest.
        Both sign the same share and deadline (`sign_settlement`), or one does and the other one sends it.
        """
        deadlines = {each.deadline for each in (student, tutor) if each is not None}
        if len(deadlines) > 1:
            raise ValueError("the two signatures have different deadlines")
        data = abi.settle_data(
            batch.order,
            batch.set_of(lessons),
            tutor_share_bps,
            to_unix(deadlines.pop()) if deadlines else _LAST_DEADLINE,
            student_signature=student.signature if student else b"",
            tutor_signature=tutor.signature if tutor else b"",
        )
        [result] = self._results(self._send(data, sender), batch)
        return cast(ActionResult, result)

    # --- Credits ---

    def credit(self, who: Who) -> Decimal:
        """Return the tokens that the token refused to pay an account, and that the escrow keeps for it."""
        return from_wei(self._ask("credits", address_of(who))[0])

    def withdraw(
        self,
        to: Who | None = None,
        *,
        sender: AccountAPI,
        account: Who | None = None,
        signature: Signed | None = None,
    ) -> Decimal:
        """Pay an account's credit to any address, its own unless another is named. Return the tokens.

        With the address and signature (`sign_withdrawal`) of the account, anyone may send it.
        """
        of = address_of(account or sender)
        amount = self.credit(of)
        self._send(abi.withdraw_data(of, address_of(to or of), **_signed(signature)), sender)
        return amount

    # --- Several calls ---

    def multicall(self, calls: Iterable[bytes], *, sender: AccountAPI) -> list[Result]:
        """Send several calls, as the functions of `abi` give them, in one transaction: all or none.

        Returns a listing for each publication, a batch for each creation, and a result for each action.
        """
        return self._results(self._send(abi.multicall_data(list(calls)), sender))

    def try_multicall(self, calls: Iterable[bytes], *, sender: AccountAPI) -> list[Tried]:
        """Send several calls in one transaction, of which some may fail and move nothing.

        Returns in order the result of each that did something, and the error of each that failed.
        """
        return self._tried(self._send(abi.try_multicall_data(list(calls)), sender))

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
        min_notice: timedelta = NO_TIME,
        horizon: timedelta = NO_TIME,
        deadline: datetime | None = None,
    ) -> Signed:
        """Return the account's signature of the terms of its listing, valid until the next publication."""
        key, until = _key(listing), self._deadline(deadline)
        nonce = self.listing(account.address, key).nonce
        terms = to_wei(hourly_rate), instant, _seconds(min_notice), _seconds(horizon), nonce, to_unix(until)
        return Signed(sign(account, listing_typed_data(self.domain, account.address, key, *terms)), until)

    def sign_action(
        self,
        action: Action,
        batch: Batch,
        account: AccountAPI,
        lessons: Lessons = None,
        *,
        deadline: datetime | None = None,
    ) -> Signed:
        """Return the account's signature of an action on exactly these lessons.

        Raises `ValueError` for an action of the arbiter, which can't be signed, and for a settlement, which
        has a method of its own.
        """
        struct = ACTIONS[action].signed_as
        if struct is None or struct == "Settle":
            raise ValueError(f"{action} can't be signed alone")
        until = self._deadline(deadline)
        terms = struct, batch.id, batch.set_of(lessons), to_unix(until)
        return Signed(sign(account, action_typed_data(self.domain, *terms)), until)

    def sign_settlement(
        self,
        batch: Batch,
        account: AccountAPI,
        lessons: Lessons = None,
        *,
        tutor_share_bps: int,
        deadline: datetime | None = None,
    ) -> Signed:
        """Return the account's signature of a split of exactly these lessons' money."""
        until = self._deadline(deadline)
        terms = batch.id, batch.set_of(lessons), tutor_share_bps, to_unix(until)
        return Signed(sign(account, settle_typed_data(self.domain, *terms)), until)

    def sign_revocation(
        self, order: Order, account: AccountAPI, *, deadline: datetime | None = None
    ) -> Signed:
        """Return the account's signature that takes back an order."""
        until = self._deadline(deadline)
        return Signed(sign(account, revoke_typed_data(self.domain, order.batch_id, to_unix(until))), until)

    def sign_withdrawal(
        self, account: AccountAPI, to: Who | None = None, *, deadline: datetime | None = None
    ) -> Signed:
        """Return the account's signature that pays its credit to an address, its own unless named."""
        until = self._deadline(deadline)
        terms = account.address, address_of(to or account), to_unix(until)
        return Signed(sign(account, withdraw_typed_data(self.domain, *terms)), until)

    def sign_permit(
        self, amount: Decimal | int | str, account: AccountAPI, *, deadline: datetime | None = None
    ) -> Permit:
        """Return the account's permit of up to `amount` tokens for the escrow, for an hour unless given."""
        value, until = to_wei(amount), to_unix(self._deadline(deadline))
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

    def _deadline(self, deadline: datetime | None) -> datetime:
        return self.now() + ORDER_LIFE if deadline is None else deadline

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


def _seconds(period: timedelta) -> int:
    return int(period.total_seconds())


def _signed(signature: Signed | None) -> dict[str, Any]:
    """Return the arguments of a call by somebody who signed, or by the sender."""
    if signature is None:
        return {"deadline": _LAST_DEADLINE}
    return {"deadline": to_unix(signature.deadline), "signature": signature.signature}
