"""Names for `ape console`: `escrow`, `token`, `me`, `book`, `batch`, `booking`, `calendar`.

On a local network `escrow` is deployed when it is first used, and `me` then has tokens to book with.
Elsewhere it is the one that CRENEAU_ESCROW names, else the last one that ape-config.yaml records. A name that
can't be resolved says so when it is used, and not before: a console without an escrow is better than none.

The token has its symbol in lower case as a second name; a local network's EduToken is `edu`.
"""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from ape import accounts, chain
from ape.api import AccountAPI
from ape.contracts import ContractInstance
from eth_account import Account

import creneau
from creneau import abi
from creneau.amounts import to_wei
from creneau.ape.connection import Who, address_of
from creneau.ape.deploy import deploy, send_by_web3
from creneau.ape.deployments import locate
from creneau.ape.escrow import BookingEscrow
from creneau.ape.networks import network_of
from creneau.booking import Batch, Booking
from creneau.errors import BatchNotFound, NoAccount, NotDeployed
from creneau.order import Slot, batch_of, index_of
from creneau.render import Week, money, week_of
from creneau.types import to_bytes32, to_hex

FUNDS = 10_000
"""Tokens that `me` gets on a local network along with the escrow."""

_PLACE = ("CRENEAU_ESCROW", "CRENEAU_DEPLOYMENT_BLOCK")
_SDK = ("Action", "BookingEscrow", "Order", "Role", "Slot", "Status", "format_amount", "listing_id")


def names(project: Path) -> dict[str, Any]:
    """Return all values by their names, for Ape's console in this project. Never raises."""
    console = Console(project / "ape-config.yaml")
    token = _now_or_later(ContractInstance, lambda: token_of(console.found), lambda: token_of(console.escrow))
    return {
        "UTC": UTC,
        "Decimal": Decimal,
        "datetime": datetime,
        "timedelta": timedelta,
        **{name: getattr(creneau, name) for name in _SDK},
        "escrow": _now_or_later(BookingEscrow, lambda: console.found, lambda: console.escrow),
        **dict.fromkeys(("token", console.symbol), token),
        "me": _now_or_later(AccountAPI, lambda: console.me, lambda: console.me),
        "book": console.book,
        "batch": console.batch,
        "booking": console.booking,
        "calendar": console.calendar,
    }


class Console:
    """The values behind the console's names."""

    def __init__(self, config: Path) -> None:
        self._config = config

    # --- Values ---

    @cached_property
    def found(self) -> BookingEscrow:
        """The escrow, if it is deployed already. Raises `NotDeployed`."""
        address, block = (os.environ.get(name) or None for name in _PLACE)
        if block is not None and not block.isdecimal():
            raise NotDeployed(f"{_PLACE[1]} is a block number, not {block!r}.")
        try:
            place = locate(
                self._web3,
                self._config,
                address=address,
                block=None if block is None else int(block),
                developer=self._developer.address,
            )
        except ValueError as error:
            raise NotDeployed(f"{_PLACE[0]}: {error}") from None
        except NotDeployed:
            if self._deployable:
                raise NotDeployed("not deployed yet: that is done when it is first used") from None
            raise
        return BookingEscrow(*place)

    @cached_property
    def escrow(self) -> BookingEscrow:
        """The escrow, deployed if a local network has none."""
        try:
            return self.found
        except NotDeployed:
            if not self._deployable:
                raise
        key = self._developer.private_key
        send = send_by_web3(self._web3, Account.from_key(key))
        deployment = deploy(self._web3, send, owner=self._developer.address)
        send(deployment.token, abi.call_data("EduToken", "mint", self.me.address, to_wei(FUNDS)))
        escrow = BookingEscrow(deployment.escrow.address, deployment.escrow.block_number)
        print(
            f"Deployed on this local network: escrow {deployment.escrow.address}, token {deployment.token}; "
            f"{money(FUNDS, escrow.currency)} for {self.me.address} (me)"
        )
        return escrow

    @property
    def symbol(self) -> str:
        """The token's symbol as a name, or that of the EduToken which a local network will have."""
        try:
            symbol = self.found.currency.symbol.lower()
        except Exception:  # noqa: BLE001  # whatever it was, the console starts
            symbol = ""
        return symbol if symbol.isidentifier() else "edu"

    @cached_property
    def me(self) -> AccountAPI:
        """The account that sends: the one that CRENEAU_ACCOUNT names, or the only one. Raises `NoAccount`.

        On a local network the first development account.
        """
        alias = os.environ.get("CRENEAU_ACCOUNT")
        known = {account.alias: account for account in accounts}
        if alias:
            if alias not in known:
                raise NoAccount(f"CRENEAU_ACCOUNT names {alias!r}; there is {_list(known)}.")
            return known[alias]
        if self._local:
            return self._developer
        if len(known) != 1:
            make = (
                "make one with: ape accounts generate NAME" if not known else "choose one in CRENEAU_ACCOUNT"
            )
            raise NoAccount(f"There is {_list(known)}: {make}; or name a sender, sender=accounts.load(NAME).")
        [only] = known.values()
        return only

    @property
    def _deployable(self) -> bool:
        return self._local and not any(os.environ.get(name) for name in _PLACE)

    @property
    def _developer(self) -> Any:
        return accounts.test_accounts[0]

    @property
    def _web3(self) -> Any:
        return chain.provider.web3

    @property
    def _local(self) -> bool:
        network = network_of(self._web3.eth.chain_id)
        return network is not None and network.local

    # --- Commands ---

    def book(
        self,
        tutor: Who,
        listing: bytes | str,
        *starts: datetime | str | Slot,
        minutes: int = 60,
        sender: AccountAPI | None = None,
    ) -> Batch:
        """Book lessons with a tutor for `me`, or for the `sender`, in one transaction.

            book(tutor, "deep-learning", "2030-01-07 09:00", "2030-01-07 10:00")

        Each start is a time of UTC as text, a datetime with a zone, or a Slot with a length of its own. A
        permit goes along if the escrow may not take the sum yet.
        """
        student = sender or self.me
        length = timedelta(minutes=minutes)
        slots = [
            start if isinstance(start, Slot) else Slot(start=when(start), duration=length) for start in starts
        ]
        order = self.escrow.order(student, tutor, listing, slots)
        permit = None
        if self.escrow.allowance(student) < order.total:
            permit = self.escrow.sign_permit(order.total, student)
        return self.escrow.create(order, sender=student, permit=permit)

    def batch(self, key: bytes | str | Batch) -> Batch:
        """Return a batch as it stands now: by its key, by the id of one of its bookings, or by itself."""
        return self.escrow.batch(key.id if isinstance(key, Batch) else batch_of(to_bytes32(key)))

    def booking(self, key: bytes | str | Booking) -> Booking:
        """Return a booking as it stands now: by its id, or by itself."""
        key = key.id if isinstance(key, Booking) else to_bytes32(key)
        for booking in self.batch(key).bookings:
            if booking.index == index_of(key):
                return booking
        raise BatchNotFound(f"There is no booking {to_hex(key)} in {self.escrow.address}.")

    def calendar(self, tutor: Who | None = None, day: date | str | None = None) -> Week:
        """Return the taken times of a tutor, or of `me`, in the week of a day, or in this week."""
        tutor = address_of(self.me if tutor is None else tutor)
        if day is None:
            day = self.escrow.now()
        elif isinstance(day, str):
            day = when(day)
        begin, end = week_of(day)
        return Week(tutor, begin.date(), self.escrow.calendar(tutor, begin, end))


def token_of(escrow: BookingEscrow) -> ContractInstance:
    """Return the token of an escrow as a contract of Ape's."""
    return chain.contracts.instance_at(
        escrow.token, abi=abi.contract_abi("EduToken"), fetch_from_explorer=False
    )


def when(moment: datetime | str) -> datetime:
    """Return a time: text without a zone is UTC. Raises `ValueError` for a datetime without one."""
    if isinstance(moment, str):
        parsed = datetime.fromisoformat(moment)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    if moment.tzinfo is None:
        raise ValueError(f"{moment} is in no time zone: datetime(…, tzinfo=UTC)")
    return moment


def _list(known: dict[str | None, AccountAPI]) -> str:
    return "no account" if not known else f"the account{'s' * (len(known) > 1)} {', '.join(map(str, known))}"


# --- Missing values ---


class Later:
    """Stand-in for a value that is found, or made, when it is first used; looking at it does neither."""

    def __init__(self, kind: type, look: Callable[[], Any], find: Callable[[], Any]) -> None:
        self.__kind = kind
        self.__look = look
        self.__find = find

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # IPython looks for its hooks in everything that it shows.
            raise AttributeError(name)
        return getattr(self.__find(), name)

    def __dir__(self) -> list[str]:
        return [name for name in dir(self.__kind) if not name.startswith("_")]

    def __str__(self) -> str:
        return str(self.__find())

    def __repr__(self) -> str:
        try:
            return repr(self.__look())
        except Exception as error:  # noqa: BLE001  # its text is all there is to see
            return f"<{self.__kind.__name__}: {error}>"


def _now_or_later(kind: type, look: Callable[[], Any], find: Callable[[], Any]) -> Any:
    try:
        return look()
    except Exception:  # noqa: BLE001  # whatever it was, the console starts
        return Later(kind, look, find)
