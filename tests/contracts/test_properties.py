"""The escrow and its model live the same random life; properties 1 to 7 are checked after every step.

Property 8, that what can be done is possible, is the tally's: every entry of the table must have been done,
and each rare case, without which some mistakes are never seen, must have happened.

`CRENEAU_FUZZ_STEPS` says how many steps at least (2,500), `CRENEAU_FUZZ_SEED` where to begin (1). The
run goes on for at most eight times as many, until all of that happened.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from fuzz.machine import EscrowMachine, report, run
from fuzz.node import Json, Node
from fuzz.properties import ROWS
from fuzz.world import World

CONTRACTS = ("BookingEscrow", "BlockingToken", "Wallet1271")
RARE: list[object] = [
    "the first named lesson is in time, a later one is not",
    "a relayed creation lives by its permit",
    ("each share is rounded, not their sum", "resolve"),
    ("each share is rounded, not their sum", "settle"),
    "only the part in the second word is taken",
    "a successor resolves before accepting",
    "an arbiter decides on themselves",
    "some are free, but too few",
    "some are left out of an order of at least so many",
    "a signature comes too late",
    "a tutor's own time",
    "some calls failed, and others went on",
    "PaymentCredited",
    "CreditWithdrawn",
    "OrderRevoked",
]


@pytest.fixture(scope="module")
def market() -> None:
    """Instead of the other tests' market, which is on Ape's node."""


@pytest.fixture(scope="module")
def artifacts() -> dict[str, Json]:
    """The contracts as Ape compiles them."""
    from ape import project

    return artifacts_of(project)


def artifacts_of(project: Any) -> dict[str, Json]:
    """The ABIs and the byte codes of the contracts that the state machine needs."""
    found = project.load_contracts()
    types = {name: found[name].contract_type for name in CONTRACTS}
    return {
        name: {
            "abi": [entry.model_dump(mode="json", by_alias=True) for entry in contract.abi],
            "bytecode": str(contract.deployment_bytecode.bytecode),
        }
        for name, contract in types.items()
    }


@pytest.fixture(scope="module")
def world(artifacts: dict[str, Json]) -> Iterator[World]:
    with Node() as node:
        yield World(node, artifacts)


@pytest.mark.timeout(3600)
def test_contract_and_model_agree_and_every_property_holds(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = int(os.environ.get("CRENEAU_FUZZ_STEPS", "2500"))
    first_seed = int(os.environ.get("CRENEAU_FUZZ_SEED", "1"))

    class Machine(EscrowMachine):
        pass

    Machine.world, Machine.tally, Machine.seen = world, Counter(), Counter()
    missing: list[object] = []
    try:
        for enough in range(steps, 8 * steps, max(1, steps // 5)):  # What is rare may need some more.
            run(Machine, first_seed, enough)
            if not (missing := never_happened(Machine)):
                break
            first_seed += 1000
    finally:
        with capsys.disabled():
            print(f"\n{report(Machine.tally)}\nfrom seed {first_seed}")
    assert not missing, f"never happened, so these steps prove little: {missing}"


def never_happened(machine: type[EscrowMachine]) -> list[object]:
    """The kinds of steps, entries of the table and rare cases that did not occur."""
    kinds = ("publish", "create", "accept", "several together")
    missing: list[object] = [kind for kind in kinds if not machine.tally[kind, "done"]]
    return missing + [case for case in [*ROWS, *RARE] if not machine.seen[case]]
