"""The project's compiler, kept warm: one source after another."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Self

import yaml

ROOT = Path(__file__).parents[2]
CONTRACT = "BookingEscrow"
FILE = f"contracts/{CONTRACT}.sol"
LIBRARY = "contracts/Slots.sol"

QUICKLY = {
    "inliner": False,
    "cse": False,
    "constantOptimizer": False,
    "yul": True,
    "yulDetails": {"stackAllocation": True, "optimizerSteps": "dhfoDgvulfnTUtnI:"},
}
"""The fewest steps of the optimizer: with less, the stack is too deep. They take half the time."""


def whole_source() -> str:
    """Return the contract's source with its library's below it, as one file: both are mutated."""
    contract, library = (re.sub(_OWN, "", (ROOT / name).read_text()) for name in (FILE, LIBRARY))
    return contract + re.sub(_HEAD, "", library)


_OWN = re.compile(r"(?<=\n)import \{Slots\}[^;]*;")
_HEAD = re.compile(r"(?m)^(//.*|pragma [^;]*;|import [^;]*;)$")


class DoesNotCompile(Exception):  # what the compiler said of it
    """The compiler refuses a source, in these places."""

    def __init__(self, reason: str, places: list[int] | None = None) -> None:
        super().__init__(reason)
        self.places = places or []


class Compiler:
    """A process of solc with the settings of `ape-config.yaml`. Asks one thing at a time."""

    def __init__(self) -> None:
        config = yaml.safe_load((ROOT / "ape-config.yaml").read_text())["solidity"]
        self._settings = {
            "evmVersion": config["evm_version"],
            "viaIR": config["via_ir"],
            "optimizer": {"enabled": config["optimize"], "runs": config["optimization_runs"]},
            "remappings": config["import_remapping"],
            # What the compiler says about its source would make every byte code differ.
            "metadata": {"appendCBOR": False},
            "debug": {"debugInfo": []},
        }
        command = ["node", str(Path(__file__).with_name("compiler.js"))]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe)
        self._questions, self._answers = self._process.stdin, iter(self._process.stdout or [])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes its pipes
            self._process.kill()

    def bytecode(self, source: str, *, quickly: bool = False) -> str:
        """Return the creation code of the contract, in hex, without metadata; larger if `quickly`.

        Raises `DoesNotCompile`.
        """
        optimizer = self._settings["optimizer"] | ({"details": QUICKLY} if quickly else {})
        output = self._ask(
            source, outputSelection={FILE: {CONTRACT: ["evm.bytecode.object"]}}, optimizer=optimizer
        )
        return str(output["contracts"][FILE][CONTRACT]["evm"]["bytecode"]["object"])

    def syntax(self, source: str) -> dict[str, Any]:
        """Return the syntax tree. Raises `DoesNotCompile`."""
        output = self._ask(source, outputSelection={FILE: {"": ["ast"]}}, stopAfter="parsing")
        tree: dict[str, Any] = output["sources"][FILE]["ast"]
        return tree

    def _ask(self, source: str, **settings: Any) -> dict[str, Any]:
        question = {
            "language": "Solidity",
            "sources": {FILE: {"content": source}},
            "settings": self._settings | settings,
        }
        print(json.dumps(question), file=self._questions, flush=True)
        answer: dict[str, Any] = json.loads(next(self._answers))
        errors = [error for error in answer.get("errors", []) if error["severity"] == "error"]
        if errors:
            reason = errors[0].get("formattedMessage", errors[0]["message"])
            locations = [error.get("sourceLocation") or {} for error in errors]
            raise DoesNotCompile(reason, [place["start"] for place in locations if place.get("file") == FILE])
        return answer
