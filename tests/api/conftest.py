"""One node and one shim for all tests of the shim; each test has people and an annonce of its own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from desk import Desk
from dev_stack import DevStack

from api.models import STUDENT


@pytest.fixture(scope="session")
def stack() -> Iterator[DevStack]:
    with DevStack(settings={"log_format": "json", "resend_seconds": 0.5, "confirmations": 3}) as stack:
        stack.seed()
        yield stack


@pytest.fixture
def desk(stack: DevStack) -> Desk:
    """A student with 1,000 EDU at an annonce of 35 EDU an hour, in Paris."""
    return Desk.of(stack)


@pytest.fixture(autouse=True)
def shim_without_errors(stack: DevStack) -> Iterator[None]:
    """No test may make the shim log an unexpected error."""
    before = stack.log_file.stat().st_size
    yield
    with stack.log_file.open("rb") as log:
        log.seek(before)
        assert b"Traceback" not in log.read()


@pytest.fixture
def seeded(stack: DevStack) -> httpx.Client:
    """The demonstration's student."""
    return stack.client(STUDENT)
