"""Sees the state machine fail with contracts that are broken on purpose. `make broken` runs it.

Each patch of `tests/contracts/broken.toml` breaks one property. The machine checks that property alone, and
must name it.
"""

import argparse
import sys
import tomllib
from typing import Any

from tools.mutation.compiler import Compiler, whole_source
from tools.mutation.tests import TESTS, Broken, break_machine

PATCHES = TESTS / "broken.toml"
# Property 8, that what can be done is possible, is the model's to say: it compares each answer.
MODEL, POSSIBLE = 0, 8


def main() -> int:
    """Print a line for each patch. Return 1 if the machine let one pass."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5000, help="after which the machine gives up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="a property")
    options = parser.parse_args()

    patches = tomllib.loads(PATCHES.read_text())["broken"]
    sys.path.insert(0, str(TESTS))
    source, unseen = whole_source(), 0
    print("property  step  what is broken", flush=True)
    with Compiler() as compiler:
        for patch in patches:
            number = patch["property"]
            if options.only not in {None, number}:
                continue
            bytecode = compiler.bytecode(patched(source, patch), quickly=True)
            checking = frozenset({MODEL if number == POSSIBLE else number})
            broken = break_machine(bytecode, options.steps, checking, options.seed)
            seen = names(broken, number)
            unseen += not seen
            step = str(broken.step) if broken and seen else "-"
            print(f"{number:8}{step:>6}  {patch['what']}", flush=True)
            if not seen:
                print(f"{'':16}not seen: {broken}", flush=True)
    return 1 if unseen else 0


def patched(source: str, patch: dict[str, Any]) -> str:
    """Return the source with a patch applied, which must fit in exactly one place."""
    if source.count(patch["before"]) != 1:
        raise SystemExit(f"{source.count(patch['before'])} places for: {patch['what']}")
    return source.replace(patch["before"], patch["after"])


def names(broken: Broken | None, number: int) -> bool:
    """Return True if the machine failed because of this property, and said so."""
    said = {"refused", "refusal", "result", "state"} if number == POSSIBLE else {f"property {number}"}
    return broken is not None and broken.violation.args[0] in said


if __name__ == "__main__":
    sys.exit(main())
