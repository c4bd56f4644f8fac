"""Writes the ABI and bytecode that the SDK carries. To be run when a contract has changed."""

import json
from pathlib import Path

import ape
import click
from ape.contracts import ContractContainer

FOLDER = Path(__file__).parents[1] / "creneau" / "artifacts"
CONTRACTS = ["BookingEscrow", "EduToken"]


def packaged(contract: ContractContainer) -> str:
    """What the SDK carries of a contract, as the text of its file."""
    compiled = contract.contract_type.model_dump(mode="json", by_alias=True, exclude_none=True)
    content = {"abi": compiled["abi"], "bytecode": compiled["deploymentBytecode"]["bytecode"]}
    return json.dumps(content, indent=1) + "\n"


@click.command(short_help="Write the SDK's copy of the ABIs (creneau/artifacts)")
def cli() -> None:
    """Writes creneau/artifacts from the compiled contracts."""
    for name in CONTRACTS:
        path = FOLDER / f"{name}.json"
        path.write_text(packaged(ape.project.get_contract(name)))
        click.echo(f"wrote {path.relative_to(FOLDER.parents[1])}")
