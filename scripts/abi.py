"""Writes the ABI and byte code that the SDK carries, after a contract was changed."""

import json
from pathlib import Path

import ape
import click
from ape.contracts import ContractContainer

FOLDER = Path(__file__).parents[1] / "creneau" / "artifacts"
CONTRACTS = ["BookingEscrow", "EduToken"]


def packaged(contract: ContractContainer) -> str:
    """Return the text of the SDK's file of a contract: an entry of the ABI a line, then the byte code."""
    compiled = contract.contract_type.model_dump(mode="json", by_alias=True, exclude_none=True)
    abi = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in compiled["abi"])
    return f'{{"abi":[\n{abi}\n],\n"bytecode":"{compiled["deploymentBytecode"]["bytecode"]}"}}\n'


@click.command(short_help="Write the SDK's copy of the ABIs (creneau/artifacts)")
def cli() -> None:
    """Write creneau/artifacts from the compiled contracts."""
    for name in CONTRACTS:
        path = FOLDER / f"{name}.json"
        path.write_text(packaged(ape.project.get_contract(name)))
        click.echo(f"wrote {path.relative_to(FOLDER.parents[1])}")
