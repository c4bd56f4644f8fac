"""Known deployments: the `deployments:` block of ape-config.yaml, which Ape reads too.

Each entry names a contract, its address, and the block and transaction that created it. The rest of the file
is kept to the letter.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from web3 import Web3

from creneau import abi
from creneau.ape.deploy import Creation, plan
from creneau.ape.networks import network_of
from creneau.ape.node import call
from creneau.errors import ContractError, NotDeployed
from creneau.types import to_address, to_hex


class Located(NamedTuple):
    """An escrow, and the block from which its events are searched."""

    address: str
    block: int


def locate(
    web3: Web3, config: Path, *, address: str | None = None, block: int | None = None, developer: str
) -> Located:
    """Return the escrow of the network: the one that is named, else the last that is recorded in `config`.

    On a local network, where nothing is recorded, it is also found where `developer` deployed it with the
    terms of networks.py. Raises `NotDeployed`.
    """
    network = network_of(web3.eth.chain_id)
    name = network.name if network else f"chain {web3.eth.chain_id}"
    known = entries(config, name, "BookingEscrow") if network and config.exists() else []
    if address is None and known:
        address, block = known[-1]["address"], known[-1]["block"] if block is None else block
    if address is None and network and network.local:
        planned = plan(web3, owner=developer)
        address = planned.escrow.address if planned.escrow.exists else None
    if address is None:
        raise NotDeployed(
            f"No escrow is known on {name}: deploy it (ape run deploy --network …), or name it in "
            "CRENEAU_ESCROW, and its block in CRENEAU_DEPLOYMENT_BLOCK."
        )
    address = to_address(address)
    if block is None:
        recorded = [entry["block"] for entry in known if entry["address"] == address]
        if not recorded and not (network and network.local):
            raise NotDeployed(
                f"Name the block in which {address} was deployed in CRENEAU_DEPLOYMENT_BLOCK: "
                "its events are searched from there."
            )
        block = recorded[-1] if recorded else 0
    _check_escrow(web3, address, name)
    return Located(address, block)


def _check_escrow(web3: Web3, address: str, network: str) -> None:
    if not web3.eth.get_code(Web3.to_checksum_address(address)):
        raise NotDeployed(f"There is no contract at {address} on {network}.")
    for view in ("cancelWindow", "arbiter"):
        try:
            answer = call(web3, address, abi.call_data("BookingEscrow", view))
            abi.decode_result("BookingEscrow", view, answer)
        except (ContractError, ValueError):
            raise NotDeployed(f"The contract at {address} on {network} is no BookingEscrow.") from None


# --- The file ---

_BLOCK = re.compile(r"^deployments:.*\n(?:(?:[ \t]+.*)?\n|#.*\n)*", re.MULTILINE)


def entries(config: Path, network: str, contract: str) -> list[dict[str, Any]]:
    """Return the deployments of a contract on `ecosystem:network`, the latest last."""
    ecosystem, _, name = network.partition(":")
    known = _deployments(config.read_text()).get(ecosystem, {}).get(name, [])
    return [entry for entry in known if entry["contract_type"] == contract]


def record(config: Path, network: str, contract: str, creation: Creation) -> bool:
    """Add a deployment to the file. Return False if the file has it already."""
    if any(entry["address"] == creation.address for entry in entries(config, network, contract)):
        return False
    ecosystem, _, name = network.partition(":")
    text = config.read_text()
    deployments = _deployments(text)
    deployments.setdefault(ecosystem, {}).setdefault(name, []).append(
        {
            "contract_type": contract,
            "address": creation.address,
            "block": creation.block_number,
            "transaction": to_hex(creation.transaction_hash),
        }
    )
    block = yaml.safe_dump({"deployments": deployments}, sort_keys=False)
    if found := _BLOCK.search(text):
        text = text[: found.start()] + block + ("\n" if text[found.end() :] else "") + text[found.end() :]
    else:
        text = text.rstrip("\n") + "\n\n" + block
    # Another file first: a full disk loses nothing.
    written = config.with_suffix(".new")
    written.write_text(text)
    written.replace(config)
    return True


def _deployments(text: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    # YAML would read an address without quotes as a number.
    whole = yaml.load(text, Loader=yaml.BaseLoader) or {}  # noqa: S506  # strings only
    loaded = whole.get("deployments") or {}
    for networks in loaded.values():
        for known in networks.values():
            for entry in known:
                entry["block"] = int(entry["block"])
    return dict(loaded)
