from datetime import timedelta

import click
from ape import accounts
from ape.api import AccountAPI, ProviderAPI
from ape.cli import ConnectedProviderCommand, account_option
from ape_ethereum.provider import Web3Provider

from creneau.deployment import Creation, Deployment, deploy
from creneau.errors import CreneauError
from creneau.fields import to_address, to_hex

LOCAL_CHAINS = {1337, 31337}
"""A node that was started on its own and is reached by its URL is local too."""


def _address(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else to_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(cls=ConnectedProviderCommand, short_help="Deploy the escrow, and a token where there is none")
@account_option(prompt=False)
@click.option(
    "--token", callback=_address, help="The ERC-20 that lessons are paid in. Without it: a new EduToken."
)
@click.option("--arbiter", callback=_address, help="Who resolves disputes. Without it: the deployer.")
@click.option(
    "--cancel-hours",
    default=24,
    show_default=True,
    help="Until when before its start a lesson can be cancelled.",
)
@click.option(
    "--review-hours", default=48, show_default=True, help="Until when after its end it can be disputed."
)
@click.option(
    "--arbitration-days", default=14, show_default=True, help="How long a dispute can stay open after that."
)
def cli(
    *,
    provider: ProviderAPI,
    account: AccountAPI | None,
    token: str | None,
    arbiter: str | None,
    cancel_hours: int,
    review_hours: int,
    arbitration_days: int,
) -> None:
    """Deploys the escrow, and an EduToken unless --token names a token that exists."""
    account = _deployer(provider, account)
    if token is None and provider.network.is_mainnet:
        raise click.UsageError("EduToken is for test networks: name the network's token with --token.")
    if not isinstance(provider, Web3Provider):
        raise click.UsageError(f"The provider {provider.name} does not give access to its node.")

    def send(data: bytes) -> Creation:
        transaction = provider.network.ecosystem.create_transaction(sender=account.address, data=data)
        receipt = account.call(transaction)
        return Creation(
            str(receipt.contract_address),
            bytes.fromhex(receipt.txn_hash.removeprefix("0x")),
            receipt.block_number,
            receipt.gas_used,
        )

    try:
        deployment = deploy(
            provider.web3,
            send,
            owner=account.address,
            arbiter=arbiter,
            token=token,
            cancel_window=timedelta(hours=cancel_hours),
            review_period=timedelta(hours=review_hours),
            arbitration_period=timedelta(days=arbitration_days),
        )
    except CreneauError as error:
        raise click.ClickException(str(error)) from None
    _report(provider, account, deployment)


def _deployer(provider: ProviderAPI, account: AccountAPI | None) -> AccountAPI:
    """The account given, or on a local network the first of its development accounts."""
    development = list(accounts.test_accounts)
    if provider.network.is_dev or provider.chain_id in LOCAL_CHAINS:
        return account or development[0]
    if account is None:
        raise click.UsageError("Name the account that deploys with --account.")
    # Their keys are public. Ape accepts TEST::0 on any network.
    if account.address in {each.address for each in development}:
        raise click.UsageError(f"{account.address} is a development account: everybody has its key.")
    return account


def _report(provider: ProviderAPI, account: AccountAPI, deployment: Deployment) -> None:
    network = f"{provider.network.ecosystem.name}:{provider.network.name}"
    click.echo(f"\nnetwork   {network}, chain id {deployment.chain_id}")
    click.echo(f"deployer  {account.address}")
    click.echo(f"arbiter   {deployment.arbiter}\n")
    rows = [("contract", "address", "block", "gas", "transaction")]
    if deployment.new_token:
        rows.append(_row("EduToken", deployment.new_token))
    else:
        rows.append(("token", deployment.token, "", "", "there already"))
    rows.append(_row("BookingEscrow", deployment.escrow))
    for contract, address, block, gas, transaction in rows:
        click.echo(f"{contract:<14} {address:<42} {block:>9} {gas:>10}  {transaction}")


def _row(contract: str, creation: Creation) -> tuple[str, str, str, str, str]:
    block, gas = str(creation.block_number), f"{creation.gas_used:,}"
    return contract, creation.address, block, gas, to_hex(creation.transaction_hash)
