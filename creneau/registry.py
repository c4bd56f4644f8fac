"""What is deployed where: the `deployments:` block of ape-config.yaml, which Ape reads too.

Each entry names a contract, its address, and the block and transaction that created it. The rest of the file
is kept to the letter.
"""

import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from creneau.deployment import Creation
from creneau.fields import to_hex

_BLOCK = re.compile(r"^deployments:.*\n(?:(?:[ \t]+.*)?\n|#.*\n)*", re.MULTILINE)


def entries(config: Path, network: str, contract: str) -> list[dict[str, Any]]:
    """The deployments of a contract on `ecosystem:network`, the latest last."""
    ecosystem, _, name = network.partition(":")
    known = _deployments(config.read_text()).get(ecosystem, {}).get(name, [])
    return [entry for entry in known if entry["contract_type"] == contract]


def record(config: Path, network: str, contract: str, creation: Creation) -> bool:
    """Adds a deployment to the file, unless it is there already; whether it was added."""
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
    loaded = yaml.load(text, Loader=yaml.BaseLoader).get("deployments") or {}  # noqa: S506  # strings only
    for networks in loaded.values():
        for known in networks.values():
            for entry in known:
                entry["block"] = int(entry["block"])
    return dict(loaded)
