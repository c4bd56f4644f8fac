"""Options of the `ape run` scripts, and the network and the account that they work with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import click
from ape import accounts
from ape.api import AccountAPI, ProviderAPI
from ape.cli import ConnectedProviderCommand
from ape.exceptions import ApeException, ConfigError, ProviderError
from ape_accounts.accounts import InvalidPasswordError, KeyfileAccount
from ape_ethereum.provider import Web3Provider
from web3 import Web3

from creneau import published
from creneau.amounts import UINT96_MAX, to_wei
from creneau.ape.networks import Network, network_of
from creneau.order import MAX_SLOTS, listing_id
from creneau.types import to_address, to_bytes32

_Value = TypeVar("_Value")


# --- Options ---


class Read(click.ParamType):
    """An option's value, read by a function that raises `ValueError` with the reason it is refused."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value. A default may be one already."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


def _rate(text: str) -> Decimal:
    if to_wei(text) > UINT96_MAX:
        raise ValueError("a rate has at most 96 bits of base units")
    return Decimal(text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("a day is a date such as 2030-01-07") from None


def _basis_points(text: str) -> int:
    wei = to_wei(text)  # Exact, whatever the digits.
    points, rest = divmod(wei, to_wei("0.01"))
    if rest or points > 10_000:
        raise ValueError("a share is from 0 to 100 percent, with at most two decimal places")
    return points


def _lessons(text: str) -> list[int]:
    parts = text.replace(" ", "").split(",")
    if not all(part.isascii() and part.isdecimal() and int(part) < MAX_SLOTS for part in parts):
        raise ValueError(f"lessons are numbers from 0 to {MAX_SLOTS - 1}, with commas between them")
    return [int(part) for part in parts]


def _listing(text: str) -> tuple[str, bytes]:
    """Return a listing as it was given, and its key."""
    return text, to_bytes32(text) if text.startswith("0x") else listing_id(text)


ADDRESS = Read("address", to_address)
LISTING = Read("listing", _listing)
KEY = Read("key", to_bytes32)
RATE = Read("edu", _rate)
DAY = Read("day", _day)
PERCENT = Read("percent", _basis_points)
LESSONS = Read("lessons", _lessons)


def monday_of(day: date | None, now: datetime) -> datetime:
    """Return a time in the week that was asked for, or in the present one."""
    return now if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)


# --- Where, and who ---


class NetworkCommand(ConnectedProviderCommand):
    """A command on a network. Where Ape or its node refuses, it ends with a sentence that names the mend."""

    def invoke(self, ctx: click.Context) -> Any:
        """Connect and run the command. Raises `click.ClickException` for every error of Ape's."""
        chosen = ctx.params.get("network")
        try:
            return super().invoke(ctx)
        except (ConfigError, ProviderError) as error:
            chain_id = chosen.network.chain_id if isinstance(chosen, ProviderAPI) else 0
            found = network_of(chain_id)
            mend = (
                f" Set {found.rpc_variable} to the address of a node of {found.name}."
                if found and found.rpc_variable
                else ""
            )
            raise click.ClickException(f"{str(error).rstrip('.')}.{mend}") from None
        except InvalidPasswordError:
            account = getattr(ctx.params.get("account"), "alias", None)
            raise click.ClickException(
                f"The passphrase in APE_ACCOUNTS_{account}_PASSPHRASE, or that was typed, does not open the"
                f" keyfile of {account}."
            ) from None
        except ApeException as error:
            raise click.ClickException(str(error)) from None


def connected(provider: ProviderAPI) -> tuple[Web3, Network]:
    """Return the node and its network. Raises `click.UsageError` for an unknown network."""
    if not isinstance(provider, Web3Provider):
        raise click.UsageError(f"The provider {provider.name} does not give access to its node.")
    web3 = provider.web3
    network = network_of(web3.eth.chain_id)
    if network is None:
        raise click.UsageError(
            f"Nothing is decided for chain {web3.eth.chain_id}: add it to creneau/ape/networks.py."
        )
    return web3, network


def sender_on(network: Network, account: AccountAPI | None, *, does: str) -> AccountAPI:
    """Return the account given, or on a local network the first of its development accounts.

    Raises `click.UsageError` for none, or for one whose key everybody has, on a live network.
    """
    if network.local:
        return account or accounts.test_accounts[0]
    if account is None:
        raise click.UsageError(f"Name the account that {does} with --account.")
    refuse_development(account.address)
    return account


def refuse_development(address: str) -> None:
    """Raise `click.UsageError` for a development account. Ape accepts TEST::0 on any network."""
    if address in published.addresses() or address in {each.address for each in accounts.test_accounts}:
        raise click.UsageError(f"{address} is a development account: everybody has its key.")


@contextmanager
def signing(account: AccountAPI) -> Iterator[None]:
    """Signs what was shown and confirmed as a whole without asking again."""
    if not isinstance(account, KeyfileAccount):
        yield
        return
    account.set_autosign(True)
    try:
        yield
    finally:
        account.set_autosign(False)
