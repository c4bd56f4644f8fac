"""The tools that break the contract on purpose do what they say, and their lists fit the contract."""

import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_abi.exceptions import InsufficientDataBytes
from eth_utils.crypto import keccak

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "contracts")]

from audit.broken import BREAKS  # noqa: E402
from fuzz.node import Codec, Node, Reverted, transaction  # noqa: E402

from tools.mutation.broken import names, patched  # noqa: E402
from tools.mutation.compiler import Compiler, DoesNotCompile, whole_source  # noqa: E402
from tools.mutation.mutants import Mutant, mutants  # noqa: E402
from tools.mutation.schemata import Schemata, numbered  # noqa: E402
from tools.mutation.tests import break_machine  # noqa: E402

SMALL = """pragma solidity 0.8.37;
interface INext {}
contract BookingEscrow is INext {
    uint8 private constant STEP = 1;
    function next(uint256 number) external view returns (uint256) {
        return number == 0 ? 7 : _sum(number, STEP);
    }
    function _sum(uint256 one, uint8 other) private pure returns (uint256) {
        return one + other;
    }
}
"""

CHANGES = [
    ("constants", "uint8 private constant STEP = 0;"),
    ("constants", "uint8 private constant STEP = 2;"),
    ("next", "{}"),
    ("next", "return true ? 7 : _sum(number, STEP);"),
    ("next", "return false ? 7 : _sum(number, STEP);"),
    ("next", "return number != 0 ? 7 : _sum(number, STEP);"),
    ("next", "return number == 1 ? 7 : _sum(number, STEP);"),
    ("next", "return number == 0 ? 6 : _sum(number, STEP);"),
    ("next", "return number == 0 ? 8 : _sum(number, STEP);"),
    ("next", "return number == 0 ? 7 : _sum(STEP, number);"),
    ("_sum", "{}"),
    ("_sum", "return one - other;"),
]


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    with Compiler() as compiler:
        yield compiler


@pytest.fixture(scope="module")
def small(compiler: Compiler) -> list[Mutant]:
    return mutants(SMALL, compiler.syntax(SMALL))


def test_a_mutant_differs_from_the_source_in_one_place(small: list[Mutant]) -> None:
    assert Counter((mutant.function, mutant.after) for mutant in small) == Counter(CHANGES)
    for mutant in small:
        assert " ".join(mutant.source.split()) == " ".join(SMALL.split()).replace(mutant.before, mutant.after)


def test_mutants_that_are_compiled_together_each_do_what_they_would_do_alone(
    compiler: Compiler, small: list[Mutant]
) -> None:
    schemata = Schemata(SMALL, compiler)
    inside = [mutant for mutant in small if schemata.place(mutant)]
    assert {mutant.function for mutant in small} - {mutant.function for mutant in inside} == {"constants"}
    together, good = schemata.compiled(inside)
    (wrong,) = [mutant for mutant in inside if mutant not in good]
    assert wrong.after == "return number == 0 ? 7 : _sum(STEP, number);"
    with pytest.raises(DoesNotCompile, match="Invalid implicit conversion from uint256 to uint8"):
        compiler.bytecode(wrong.source)

    with Node() as node:
        alone = [answers(node, compiler.bytecode(source)) for source in (SMALL, *(m.source for m in good))]
        assert alone[0] == [7, 2, 6]
        assert len(set(map(tuple, alone))) > len(good) // 2
        assert [answers(node, numbered(together, number)) for number in range(len(good) + 1)] == alone


def answers(node: Node, bytecode: str) -> list[int]:
    """The answers of `next` to 0, 1 and 5."""
    now = int(node.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    contract = node.deploy(bytecode, [], [], now + 1)
    selector = keccak(text="next(uint256)")[:4]
    calls = [transaction(node.accounts[0], contract, selector + n.to_bytes(32)) for n in (0, 1, 5)]
    return [int.from_bytes(node.call(call, now + 2)) for call in calls]


def test_the_state_machine_passes_the_contract_and_stops_at_a_broken_one(compiler: Compiler) -> None:
    source = whole_source()
    patch = next(each for each in entries_of("broken.toml", "broken") if each["what"] == "anybody confirms")
    contract, broken = (compiler.bytecode(each, quickly=True) for each in (source, patched(source, patch)))
    assert break_machine(contract, 300) is None
    stopped = break_machine(broken, 2_500, frozenset({patch["property"]}))
    assert names(stopped, patch["property"]), stopped


def test_a_view_that_reverts_stops_the_state_machine(compiler: Compiler) -> None:
    source = whole_source()
    patch = {"before": "words = new uint256[](count);", "after": "words = new uint256[](count / 2);"}
    stopped = break_machine(compiler.bytecode(patched(source, patch), quickly=True), 300)
    assert stopped is not None
    assert isinstance(stopped.violation, Reverted)


def test_an_event_that_says_to_be_longer_than_it_is_does_not_hold_the_state_machine_up() -> None:
    numbers = {"type": "uint256[]", "name": "numbers", "indexed": False}
    codec = Codec([[{"type": "event", "name": "Numbers", "inputs": [numbers]}]])
    data = (32).to_bytes(32) + (1 << 60).to_bytes(32) + bytes(64)
    topic = keccak(text="Numbers(uint256[])")
    log = {"address": "0x" + "11" * 20, "topics": ["0x" + topic.hex()], "data": "0x" + data.hex()}
    with pytest.raises(InsufficientDataBytes):
        codec.logs([log])


# --- The lists ---


def test_every_survivor_is_a_mutant_of_the_contract_and_has_a_reason(compiler: Compiler) -> None:
    source = whole_source()
    known = {mutant.key for mutant in mutants(source, compiler.syntax(source))}
    entries = entries_of("survivors.toml", "survivor")
    keys = [(entry["function"], entry["before"], entry["after"]) for entry in entries]
    assert [key for key in keys if key not in known] == []
    assert [key for key, count in Counter(keys).items() if count > 1] == []
    assert [entry for entry in entries if not entry["reason"].endswith(".")] == []


def test_every_break_by_hand_fits_in_one_place() -> None:
    source = whole_source()
    entries = entries_of("broken.toml", "broken")
    every = [*entries, *entries_of("broken.toml", "signature")]
    assert {entry["what"]: source.count(entry["before"]) for entry in every} == {
        entry["what"]: 1 for entry in every
    }
    assert min(Counter(entry["property"] for entry in entries)[number] for number in range(1, 8)) >= 3


def test_every_proof_has_a_break_that_fits_in_one_place() -> None:
    source = whole_source()
    assert {old: source.count(old) for old, _, _ in BREAKS} == {old: 1 for old, _, _ in BREAKS}
    text = "".join(path.read_text() for path in sorted((ROOT / "tests" / "proofs").glob("*.t.sol")))
    proofs = set(re.findall(r"function check_(\w+)", text))
    broken = {name for _, _, names in BREAKS for name in names}
    assert {proof for proof in proofs if not any(proof.startswith(name) for name in broken)} == set()
    assert {name for name in broken if not any(proof.startswith(name) for proof in proofs)} == set()


def entries_of(file: str, name: str) -> list[dict[str, Any]]:
    entries = tomllib.loads((ROOT / "tests" / "contracts" / file).read_text())
    found: list[dict[str, Any]] = entries.get(name, [])
    return found
