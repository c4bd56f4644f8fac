from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import click
from ape import accounts, project
from ape.api import AccountAPI, ProviderAPI
from ape.cli import account_option
from ape.exceptions import SignatureError
from web3 import Web3
from web3.exceptions import Web3Exception

from creneau import render
from creneau.ape.cli_types import (
    ADDRESS,
    DAY,
    KEY,
    LESSONS,
    LISTING,
    PERCENT,
    RATE,
    NetworkCommand,
    connected,
    monday_of,
    refuse_development,
    sender_on,
    signing,
)
from creneau.ape.deployments import locate
from creneau.ape.escrow import BookingEscrow
from creneau.ape.networks import Network
from creneau.errors import CreneauError
from creneau.order import batch_of, index_of
from creneau.types import to_hex

Command = Callable[..., Any]

NOBODY = "0x" + "00" * 20


@click.group(short_help="Publish, look at what was booked, resolve, hand over")
def cli() -> None:
    """Look after an escrow: the last one that ape-config.yaml records for the network, or --escrow.

    \b
      ape run manage show --network edu-chain:codex
      ape run manage publish deep-learning 35 --network edu-chain:codex --account tutor
      ape run manage batch 0x9f3a…00 --network edu-chain:codex

    Amounts are in tokens, exact; times are in UTC; lessons are numbered from 0. A transaction is shown first,
    and on a live network confirmed. Each command has more help of its own.
    """  # noqa: D301  # click's mark for what is not to be wrapped


# --- Options that several commands have ---


def _reading(command: Command) -> Command:
    """Options of what looks at an escrow."""
    command = click.option(
        "--block",
        type=click.IntRange(min=0),
        envvar="CRENEAU_DEPLOYMENT_BLOCK",
        show_envvar=True,
        help="The block in which it was deployed: events are searched from there. Without it: as recorded.",
    )(command)
    return click.option(
        "--escrow",
        "address",
        type=ADDRESS,
        envvar="CRENEAU_ESCROW",
        show_envvar=True,
        help="The escrow's address. Without it: the last one recorded for the network.",
    )(command)


def _sending(command: Command) -> Command:
    """Options of what sends a transaction."""
    command = click.option("--yes", is_flag=True, help="Do not ask whether to go on.")(command)
    command = account_option(prompt=False)(_reading(command))
    option = next(each for each in command.__click_params__ if each.name == "account")  # type: ignore[attr-defined]
    option.help = "Who sends: the alias of an Ape account. On a local network without it: TEST::0."
    return command


class _Place:
    """The escrow that a command is about, and its network."""

    def __init__(self, web3: Web3, network: Network, escrow: BookingEscrow) -> None:
        self.web3 = web3
        self.network = network
        self.escrow = escrow

    @contextmanager
    def sends(
        self, account: AccountAPI | None, *, does: str, yes: bool, **facts: str
    ) -> Iterator[AccountAPI]:
        """Show a transaction, ask on a live network, and yield its sender."""
        sender = sender_on(self.network, account, does=does)
        lines = {
            "network": f"{self.network.name}, chain id {self.web3.eth.chain_id}",
            "escrow": self.escrow.address,
            "sender": sender.address,
            **facts,
        }
        click.echo(render.columns(lines.items()) + "\n")
        if not self.network.local and not yes:
            click.confirm("Send this?", abort=True)
        with signing(sender):
            yield sender


@contextmanager
def _at(provider: ProviderAPI, address: str | None, block: int | None) -> Iterator[_Place]:
    """Yield the escrow; a refusal of the escrow or the node becomes a sentence."""
    web3, network = connected(provider)
    try:
        developer = accounts.test_accounts[0].address
        config = project.path / "ape-config.yaml"
        found = locate(web3, config, address=address, block=block, developer=developer)
        yield _Place(web3, network, BookingEscrow(*found))
    except (CreneauError, SignatureError, Web3Exception, OSError) as error:
        raise click.ClickException(f"{error}") from None


# --- Looking ---


@cli.command(cls=NetworkCommand, short_help="Show the escrow: its token, arbiter and periods")
@_reading
def show(*, provider: ProviderAPI, address: str | None, block: int | None) -> None:
    """Show the escrow: its token, its arbiter, the next arbiter, and its periods."""
    with _at(provider, address, block) as place:
        escrow = place.escrow
        cancel, review, arbitration = escrow.periods
        click.echo(
            render.columns(
                [
                    ("network", f"{place.network.name}, chain id {place.web3.eth.chain_id}"),
                    ("escrow", f"{escrow.address}, from block {escrow.deployment_block}"),
                    ("token", escrow.token),
                    ("holds", render.money(escrow.balance(escrow.address), escrow.currency)),
                    ("arbiter", escrow.arbiter),
                    ("handed over to", escrow.pending_arbiter or "nobody"),
                    ("cancel", f"until {render.hours(cancel)} before the start"),
                    ("review", f"until {render.hours(review)} after the end"),
                    ("arbitration", f"{render.hours(arbitration)} more"),
                    ("undecided", f"the tutor gets {escrow.default_tutor_share_bps / 100:g} %"),
                ]
            )
        )


@cli.command(cls=NetworkCommand, short_help="Show a batch and each of its lessons")
@click.argument("key", type=KEY)
@_reading
def batch(*, provider: ProviderAPI, key: bytes, address: str | None, block: int | None) -> None:
    """Show a batch: its order, and each lesson with its status, its actions and their times.

    KEY is the batch's key, or the on-chain id of one of its bookings: 0x and 64 hex digits.
    """
    with _at(provider, address, block) as place:
        click.echo(render.batch(place.escrow.batch(batch_of(key)), whole=True))


@cli.command(cls=NetworkCommand, short_help="Show a booking, and what may be done with it")
@click.argument("key", metavar="ID", type=KEY)
@_reading
def booking(*, provider: ProviderAPI, key: bytes, address: str | None, block: int | None) -> None:
    """Show one lesson and its actions, each with its role and its times.

    ID is the booking's on-chain id: 0x and 64 hex digits, the last two being its place in the batch.
    """
    with _at(provider, address, block) as place:
        lessons = place.escrow.batch(batch_of(key)).bookings
        found = [lesson for lesson in lessons if lesson.index == index_of(key)]
        if not found:
            booked = ", ".join(str(lesson.index) for lesson in lessons)
            raise click.ClickException(f"The batch has no lesson {index_of(key)}; it has {booked}.")
        click.echo(render.booking(found[0], whole=True))


@cli.command(cls=NetworkCommand, short_help="Show the taken times of a tutor in a week")
@click.argument("tutor", type=ADDRESS)
@click.option("--week", type=DAY, help="A day of the week, such as 2030-01-07. Without it: this week.")
@_reading
def calendar(
    *, provider: ProviderAPI, tutor: str, week: date | None, address: str | None, block: int | None
) -> None:
    """Show the taken times of a tutor, from Monday to Sunday, in UTC.

    TUTOR is an address.
    """
    with _at(provider, address, block) as place:
        begin, end = render.week_of(monday_of(week, place.escrow.now()))
        taken = place.escrow.calendar(tutor, begin, end)
        click.echo(str(render.Week(tutor, begin.date(), taken)))


# --- Sending ---


@cli.command(cls=NetworkCommand, short_help="Show a credit, or have it paid")
@click.argument("account_address", metavar="ACCOUNT", type=ADDRESS)
@click.option("--to", type=ADDRESS, help="Pay it to this address; the sender is the account.")
@_sending
def credit(
    *,
    provider: ProviderAPI,
    account: AccountAPI | None,
    account_address: str,
    to: str | None,
    address: str | None,
    block: int | None,
    yes: bool,
) -> None:
    """Show what the token refused to pay an account, and with --to have it paid to an address.

    ACCOUNT is an address. The escrow keeps such a payment for the account, which alone can withdraw it.
    """
    with _at(provider, address, block) as place:
        kept = render.money(place.escrow.credit(account_address), place.escrow.currency)
        if to is None:
            click.echo(f"credit: {kept}")
            return
        facts = {"credit": f"{kept} of {account_address}", "to": to}
        with place.sends(account, does="withdraws", yes=yes, **facts) as sender:
            paid = place.escrow.withdraw(to, account=account_address, sender=sender)
            click.echo(f"paid: {render.money(paid, place.escrow.currency)}")


@cli.command(cls=NetworkCommand, short_help="Set the rate of a listing, or withdraw it")
@click.argument("listing", type=LISTING)
@click.argument("rate", type=RATE)
@click.option("--instant", is_flag=True, help="Lessons are confirmed at once, without the tutor.")
@click.option(
    "--notice-hours",
    type=click.IntRange(min=0),
    default=0,
    help="How long before its start it can be booked.",
)
@click.option(
    "--horizon-days", type=click.IntRange(min=0), default=0, help="How far ahead. Without it: any time."
)
@_sending
def publish(
    *,
    provider: ProviderAPI,
    account: AccountAPI | None,
    listing: tuple[str, bytes],
    rate: Decimal,
    instant: bool,
    notice_hours: int,
    horizon_days: int,
    address: str | None,
    block: int | None,
    yes: bool,
) -> None:
    """Publish a listing of the account's, the tutor's, at a rate; a rate of 0 withdraws it.

    LISTING is the annonce's id, or its key on chain (0x and 64 hex digits). RATE is in tokens an hour: 35,
    52.5.
    """
    name, key = listing
    with _at(provider, address, block) as place:
        terms = f"{render.money(rate, place.escrow.currency)} an hour, "
        terms += "confirmed at once" if instant else "to be confirmed"
        terms += f", {notice_hours} hours ahead" if notice_hours else ""
        terms += f", within {horizon_days} days" if horizon_days else ""
        facts = {"listing": f"{name}, key {to_hex(key)}", "rate": terms if rate else "withdrawn"}
        with place.sends(account, does="publishes", yes=yes, **facts) as sender:
            listed = place.escrow.publish(
                key,
                rate,
                instant=instant,
                min_notice=timedelta(hours=notice_hours),
                horizon=timedelta(days=horizon_days),
                sender=sender,
            )
            click.echo(f"listing: {listed}")


@cli.command(cls=NetworkCommand, short_help="Decide disputed lessons")
@click.argument("key", metavar="BATCH", type=KEY)
@click.option(
    "--tutor-share",
    type=PERCENT,
    help="Percent that the tutor gets: 0, 62.5, 100. Without it: the deployment's default share.",
)
@click.option("--lessons", type=LESSONS, help="Which, such as 0,2. Without it: all that are disputed.")
@_sending
def resolve(
    *,
    provider: ProviderAPI,
    account: AccountAPI | None,
    key: bytes,
    tutor_share: int | None,
    lessons: list[int] | None,
    address: str | None,
    block: int | None,
    yes: bool,
) -> None:
    """Split the money of disputed lessons between tutor and student.

    The account is the arbiter's; or anybody's, once the arbitration period is over, with the default share.
    BATCH is the batch's key, or the on-chain id of one of its bookings. Each lesson's tutor share is rounded
    down, and the student gets the rest.
    """
    with _at(provider, address, block) as place:
        of = place.escrow.batch(batch_of(key))
        disputed = [lesson.index for lesson in of.bookings if of.disputed >> lesson.index & 1]
        if lessons is None and not disputed:
            raise click.ClickException("No lesson of this batch is disputed.")
        lessons = disputed if lessons is None else lessons
        share = place.escrow.default_tutor_share_bps if tutor_share is None else tutor_share
        facts = {
            "batch": to_hex(of.id),
            "lessons": ", ".join(map(str, lessons)),
            "tutor's share": f"{Decimal(share) / 100:f} %",
        }
        with place.sends(account, does="resolves", yes=yes, **facts) as sender:
            told = place.escrow.resolve(of, lessons, tutor_share_bps=share, sender=sender)
            click.echo(str(told))


@cli.command("hand-over", cls=NetworkCommand, short_help="Hand over the arbiter's place, the first step")
@click.argument("to", type=ADDRESS, required=False)
@click.option("--take-back", is_flag=True, help="Instead of TO: nobody is to become the arbiter any more.")
@_sending
def hand_over(
    *,
    provider: ProviderAPI,
    account: AccountAPI | None,
    to: str | None,
    take_back: bool,
    address: str | None,
    block: int | None,
    yes: bool,
) -> None:
    """Names who is to become the arbiter; the account is the present arbiter's.

    It takes two steps, so that the place never goes to an address that nobody has: the account of address TO
    takes it with `ape run manage accept`. Until then the arbiter stays.
    """
    if (to is None) != take_back:
        raise click.UsageError("Give either TO, the address of the next arbiter, or --take-back.")
    if to == NOBODY:
        raise click.BadParameter(
            "the zero address can't accept; to take it back: --take-back", param_hint="TO"
        )
    with _at(provider, address, block) as place:
        if to is not None and not place.network.local:
            refuse_development(to)
        facts = {"to": to or "nobody"}
        with place.sends(account, does="hands over", yes=yes, **facts) as sender:
            place.escrow.transfer_arbiter(to, sender=sender)
            click.echo(
                f"arbiter: {place.escrow.arbiter}, handed over to {place.escrow.pending_arbiter or 'nobody'}"
            )


@cli.command(cls=NetworkCommand, short_help="Take the arbiter's place, the second step")
@_sending
def accept(
    *,
    provider: ProviderAPI,
    account: AccountAPI | None,
    address: str | None,
    block: int | None,
    yes: bool,
) -> None:
    """Take the arbiter's place, which was handed over to the account."""
    with _at(provider, address, block) as place, place.sends(account, does="accepts", yes=yes) as sender:
        place.escrow.accept_arbiter(sender=sender)
        click.echo(f"arbiter: {place.escrow.arbiter}")
