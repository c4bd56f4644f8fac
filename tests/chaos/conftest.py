"""Fixtures of all chaos tests: stacks whose shim can be killed, on SQLite and on PostgreSQL.

Each test has a short form, which is the default, and a long one, which `make chaos` runs by the environment:

    CHAOS_LONG=1    all combinations, and as many retries as the bars ask for
    CHAOS_KILLS=200 of processes at random points, half of them on each database
    CHAOS_RUNS=20   of what is repeated otherwise
    CHAOS_STEPS=120 of the random driver, of one to three blocks each
    CHAOS_SEED=7    repeats what a run printed
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "api"))

from postgres import PostgreSQL, postgres  # noqa: F401  # pytest finds the fixture here
from stacks import KILLABLE, SETTINGS, ChaosStack, Shims, StackMaker, alive
from waiting import until


@pytest.fixture(scope="session")
def shims() -> Iterator[Shims]:
    """Starts shims, and sees to it that at the end no process is left."""
    with Shims(KILLABLE) as shims:
        yield shims
    with suppress(AssertionError):
        until(lambda: not any(map(alive, shims.groups)))
    for group in (left := [group for group in shims.groups if alive(group)]):
        os.killpg(group, signal.SIGKILL)
    assert not left, f"process groups {left} were left running"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database; for SQLite the setting that means a file in the data directory."""
    if request.param == "sqlite":
        return ""
    server: PostgreSQL = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def make_stack(shims: Shims) -> Iterator[StackMaker]:
    """Makes running stacks, which the end of the test stops; what is no option of theirs is a setting."""
    with ExitStack() as stacks:

        def make(
            *, block_time: int | None = None, node_port: int | None = None, **settings: Any
        ) -> ChaosStack:
            options = {"block_time": block_time, "node_port": node_port}
            return stacks.enter_context(ChaosStack(shims, settings=SETTINGS | settings, **options))

        yield make
