import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import click
from ape import compilers, project
from ape.api import AccountAPI, ProviderAPI
from ape.cli import account_option
from web3 import HTTPProvider, Web3

from creneau.ape.cli_types import (
    ADDRESS,
    PERCENT,
    NetworkCommand,
    connected,
    refuse_development,
    sender_on,
    signing,
)
from creneau.ape.deploy import Deployment, Plan, Sent, carry_out, check_transfer, creations, plan
from creneau.ape.deployments import record
from creneau.ape.networks import Network
from creneau.errors import CreneauError
from creneau.render import hours
from creneau.types import to_hex

NOBODY = "0x" + "00" * 20


@click.command(cls=NetworkCommand, short_help="Deploy the escrow, and a token where there is none")
@account_option(prompt=False)
@click.option(
    "--token", type=ADDRESS, help="The ERC-20 that lessons are paid in. Without it: a new EduToken."
)
@click.option("--arbiter", type=ADDRESS, help="Who resolves disputes. Without it: the deployer.")
@click.option("--cancel-hours", type=int, help="Until when before its start a lesson can be cancelled.")
@click.option("--review-hours", type=int, help="Until when after its end it can be disputed.")
@click.option("--arbitration-days", type=int, help="How long a dispute can stay open after that.")
@click.option(
    "--default-tutor-share",
    type=PERCENT,
    help="Percent that the tutor gets of a dispute nobody decides. Without it, on a test network: 50.",
)
@click.option("--yes", is_flag=True, help="Do not ask whether to go on.")
def cli(
    *,
    provider: ProviderAPI,
    account: AccountAPI | None,
    token: str | None,
    arbiter: str | None,
    cancel_hours: int | None,
    review_hours: int | None,
    arbitration_days: int | None,
    default_tutor_share: int | None,
    yes: bool,
) -> None:
    """Deploys the escrow, and on a test network an EduToken unless a token is named.

    Terms that are not given are those of the network in creneau/ape/networks.py. The addresses follow from
    the terms: they are shown before anything is sent. A contract that exists is found, not deployed again.

    On a live network the contracts are recorded under `deployments:` in ape-config.yaml, and the input for
    the explorer's source verification is written to .build/verify.
    """
    web3, network = connected(provider)
    account = sender_on(network, account, does="deploys")
    token = token or network.token
    arbiter = arbiter or network.arbiter
    share = network.default_tutor_share_bps if default_tutor_share is None else default_tutor_share
    if not network.test and (token is None or arbiter is None or share is None):
        raise click.UsageError(
            f"Name the token, the arbiter and the default share of {network.name} with --token, --arbiter "
            "and --default-tutor-share."
        )
    if not network.local:
        _refuse_nobody(token=token, arbiter=arbiter)
    try:
        planned = plan(
            web3,
            owner=account.address,
            arbiter=arbiter,
            token=token,
            cancel_window=network.cancel_window if cancel_hours is None else timedelta(hours=cancel_hours),
            review_period=network.review_period if review_hours is None else timedelta(hours=review_hours),
            arbitration_period=network.arbitration_period
            if arbitration_days is None
            else timedelta(days=arbitration_days),
            **({} if share is None else {"default_tutor_share_bps": share}),
        )
        _show(network, account, planned)
        if token is not None and not network.local:
            with _fork(str(provider.http_uri)) as fork:
                check_transfer(fork, token)
            click.echo("a transfer of the token, on a fork: exact\n")
        missing = not planned.escrow.exists or (planned.new_token and not planned.new_token.exists)
        if missing and not network.local and not yes:
            click.confirm("Deploy this?", abort=True)
        deployment = _carry_out(web3, provider, account, planned, network)
    except CreneauError as error:
        raise click.ClickException(str(error)) from None
    _report(deployment)
    if not network.local:
        _keep(network, deployment, planned)


def _refuse_nobody(**named: str | None) -> None:
    for what, address in named.items():
        if address == NOBODY:
            raise click.UsageError(f"The {what} is the zero address.")
        if address is not None:
            refuse_development(address)


# --- Doing it ---


def _carry_out(
    web3: Web3, provider: ProviderAPI, account: AccountAPI, planned: Plan, network: Network
) -> Deployment:
    def send(to: str, data: bytes) -> Sent:
        transaction = provider.network.ecosystem.create_transaction(
            sender=account.address, receiver=to, data=data
        )
        # A network that is reached by its URL has no number of its own in ape-config.yaml.
        transaction.required_confirmations = network.confirmations
        receipt = account.call(transaction)
        return Sent(
            bytes.fromhex(receipt.txn_hash.removeprefix("0x")), receipt.block_number, receipt.gas_used
        )

    if planned.escrow.exists and (planned.new_token is None or planned.new_token.exists):
        return carry_out(web3, send, planned)
    with signing(account):
        return carry_out(web3, send, planned)


@contextmanager
def _fork(url: str) -> Iterator[Web3]:
    """Start a local node that goes on from the network's present."""
    command = ["anvil", "--port", "0", "--fork-url", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None  # noqa: S101  # asked for above
        told = []
        for line in process.stdout:
            told.append(line)
            if line.startswith("Listening on"):
                break
        else:
            raise click.ClickException("The network could not be forked: " + "".join(told)[-500:].strip())
        threading.Thread(target=process.stdout.read, daemon=True).start()
        try:
            yield Web3(HTTPProvider(f"http://{told[-1].split()[-1]}"))
        finally:
            process.terminate()


# --- Telling ---


def _show(network: Network, account: AccountAPI, planned: Plan) -> None:
    cancel, review, arbitration = (timedelta(seconds=period) for period in planned.periods)
    lines = {
        "network": f"{network.name}, chain id {planned.chain_id}",
        "deployer": account.address,
        "token": planned.token + _state(planned.new_token),
        "escrow": planned.escrow.address + _state(planned.escrow),
        "arbiter": planned.arbiter,
        "cancel": f"until {hours(cancel)} before the start",
        "review": f"until {hours(review)} after the end",
        "arbitration": f"{hours(arbitration)} more",
        "undecided": f"the tutor gets {planned.default_tutor_share_bps / 100:g} %",
        "confirmations": str(network.confirmations),
    }
    click.echo("".join(f"\n{name:<14}{value}" for name, value in lines.items()) + "\n")


def _state(planned: Any) -> str:
    if planned is None:
        return ", given"
    return ", there already" if planned.exists else ", to be deployed"


def _report(deployment: Deployment) -> None:
    rows = [("contract", "address", "block", "gas", "transaction")]
    for contract, creation in creations(deployment):
        gas = "-" if creation.gas_used is None else f"{creation.gas_used:,}"
        found = to_hex(creation.transaction_hash)
        rows.append((contract, creation.address, str(creation.block_number), gas, found))
    for name, address, block, gas, transaction in rows:
        click.echo(f"{name:<14} {address:<42} {block:>9} {gas:>10}  {transaction}")
    click.echo("read back: token, arbiter, periods and default share are as planned")


def _keep(network: Network, deployment: Deployment, planned: Plan) -> None:
    config = project.path / "ape-config.yaml"
    for contract, creation in creations(deployment):
        added = record(config, network.name, contract, creation)
        click.echo(f"ape-config.yaml: {contract} {'recorded' if added else 'was recorded already'}")
    folder = project.path / ".build" / "verify"
    folder.mkdir(parents=True, exist_ok=True)
    for each in (planned.new_token, planned.escrow):
        if each is not None:
            file = folder / f"{network.chain_id}-{each.contract}.json"
            file.write_text(json.dumps(standard_json(each.contract), indent=1) + "\n")
            click.echo(f"source verification ({network.explorer}): {file.relative_to(project.path)}")


def standard_json(contract: str) -> dict[str, Any]:
    """Return the compiler's input for a contract; compiled again, it gives the same code."""
    path = project.path / "contracts" / f"{contract}.sol"
    [given] = compilers.solidity.get_standard_input_json([path], project=project).values()
    # Where a folder is a link, the names would lead outside; they are part of the code's metadata.
    inside = re.compile("(node_modules|contracts)/.*")
    named = {found[0]: text for name, text in given["sources"].items() if (found := inside.search(name))}
    settings = given["settings"] | {"outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}}}
    return {"language": "Solidity", "sources": named, "settings": settings}
