"""The running shim against its own documentation, by all checks of Schemathesis (`make contract-test`)."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Stack

from api.schemas.requests import STUDENT
from tools.dev_stack import DevStack

HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"  # It is what is served: test_openapi.py.
OPERATIONS = len(DOCUMENT.read_text().split('"operationId"')) - 1
CASES = int(os.environ.get("CASES") or 200)
SEED = int(os.environ.get("SEED") or 1)
"""Fixed: what a run of all tests says of a change does not depend on luck."""


def run(stack: DevStack, tmp_path: Path, *options: str, cases: int) -> int:
    """The number of cases that were generated. Fails with the report if one of them broke a check."""
    command = [
        "schemathesis",
        "run",
        str(DOCUMENT),
        "--url",
        stack.url,
        "--checks",
        "all",
    ]
    command += [
        "--max-examples",
        str(max(1, cases // OPERATIONS)),  # The phases of coverage and states add their own.
        "--seed",
        str(SEED),
        "--no-color",
        *options,
    ]
    hooked = os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS)}
    ran = subprocess.run(command, cwd=tmp_path, env=hooked, capture_output=True, text=True, check=False)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = re.search(r"([0-9,]+) generated", ran.stdout)
    assert found
    return int(found[1].replace(",", ""))


@pytest.fixture(scope="module")
def stack() -> Iterator[DevStack]:
    """One of its own: what is booked here is in nobody's way."""
    with Stack(settings={"log_format": "json"}) as stack:
        stack.seed()
        yield stack


def nonce(stack: DevStack) -> int:
    return int(stack.rpc("eth_getTransactionCount", stack.account(1).address, "pending"), 16)


@pytest.mark.timeout(3000)
def test_every_answer_to_a_student_is_documented(stack: DevStack, tmp_path: Path) -> None:
    token = f"Authorization: Bearer {stack.token(STUDENT)}"
    generated = run(stack, tmp_path, "--header", token, cases=CASES)
    print(f"{generated} cases, seed {SEED}")
    assert generated >= min(CASES, 5000)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("bearer", "phases"),
    [
        ("", "examples,coverage,fuzzing"),
        ("Bearer guessed", "examples,fuzzing"),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", "examples,fuzzing"),
    ],
)
def test_nothing_is_sent_for_whom_nobody_knows(
    stack: DevStack, tmp_path: Path, bearer: str, phases: str
) -> None:
    before = nonce(stack)
    header = ["--header", f"Authorization: {bearer}"] if bearer else []
    run(
        stack,
        tmp_path,
        *header,
        "--phases",
        phases,
        cases=CASES // 4,
    )
    assert nonce(stack) == before
