"""Runs the contract's tests against byte codes, each in a fork of a process that has collected them.

A fork has a node of its own, deploys the byte code wherever a test deploys the escrow, and stops at the first
test that fails. Tests that killed a mutant nearby come first, then each test with its first parameters, then
the rest, those of many examples last. The state machine, which is faster, is before all of them where it
killed the nearest mutant, else after them.
"""

import hashlib
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException
from itertools import zip_longest
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, is_hypothesis_test, settings

from tools.mutation.compiler import CONTRACT, ROOT

TESTS = ROOT / "tests" / "contracts"
NOT_ABOUT_IT = ["test_gas.py", "test_token.py", "test_helpers.py", "test_properties.py"]
"""Of other contracts; or exact about gas, which every mutant changes; or run last, as the state machine."""

PATIENCE = 1800
"""Seconds of running after which a mutant is stopped, and after a second time counts as killed."""

PAUSE = 5
"""Seconds without a turn for this process: it was stopped and continued, and no time-out means anything."""

ANY_SIZE = "--disable-code-size-limit"
"""For the node: a contract with its mutants beside it is large."""

NEAR = 12
"""Tests that are tried first, beside the state machine: those that killed the nearest mutants."""

MACHINE = "the state machine"
SLOW, DIED = "did not end", "died"


class Runner:
    """A pytest plugin: once the tests are collected, it calls `campaign`, which asks it for killers."""

    def __init__(self, campaign: Callable[["Runner"], None], steps: int) -> None:
        self._campaign, self._steps = campaign, steps
        self.killers: list[tuple[int, str]] = []
        """The lines of mutants and the tests that killed them, in order of time."""

    def collect(self) -> None:
        """Collect the tests and calls the campaign."""
        from ape.pytest.runners import PytestApeRunner
        from ape_foundry import FoundryProvider

        build_command = FoundryProvider.build_command
        FoundryProvider.build_command = lambda provider: [*build_command(provider), ANY_SIZE]
        connect: Callable[[Any], None] = PytestApeRunner._connect
        PytestApeRunner._connect = lambda _: None  # type: ignore[method-assign]
        self._connect: Callable[[], None] = lambda: connect(self._ape)
        ignored = [f"--ignore={TESTS / name}" for name in NOT_ABOUT_IT]
        options = ["-q", "-p", "no:cacheprovider"]
        code = pytest.main([*options, *ignored, str(TESTS)], plugins=[self])
        if code != 0:
            raise RuntimeError(f"pytest: {code!r}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Stop at the first failing example: to find a simple one takes longer than all tests."""
        settings.register_profile(
            "mutants", settings.default, phases=[Phase.generate], report_multiple_bugs=False
        )
        settings.load_profile("mutants")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running the tests once."""
        from ape import project
        from ape.pytest.runners import PytestApeRunner

        sys.path.insert(0, str(TESTS))
        import fuzz.machine  # noqa: F401  # once, not in each fork

        project.load_contracts()
        plugins = session.config.pluginmanager.get_plugins()
        (self._ape,) = [plugin for plugin in plugins if isinstance(plugin, PytestApeRunner)]
        self._session = session
        self._campaign(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Into the log: nobody is there to see the summary."""
        if report.failed:
            print(report.nodeid, report.longreprtext, sep="\n", flush=True)

    def killer(self, bytecode: str, line: int, *, near: bool = False) -> str | None:
        """Return the test that fails with this byte code, of all tests or the near ones; None if none does.

        What fails around a pause, or does not end, is tried again: only the byte code may be the reason.
        """
        test, paused = self._try(bytecode, line, near)
        if test in {SLOW, DIED} and not paused:
            test, paused = self._try(bytecode, line, near)
        while test and paused:
            test, paused = self._try(bytecode, line, near)
        if test == DIED:
            raise RuntimeError("a test process died twice")
        if test not in {None, SLOW}:
            self.killers.append((line, str(test)))
        return test

    def _try(self, bytecode: str, line: int, near: bool) -> tuple[str | None, bool]:
        """Return the test that fails, and True if there was a pause."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            os.close(reader)
            self._run(bytecode, line, near, writer)
        os.close(writer)
        try:
            return self._wait(child, reader)
        finally:
            os.close(reader)

    def _wait(self, child: int, reader: int) -> tuple[str | None, bool]:
        """Return the child's last words, and True if there was a pause before them."""
        waited, paused, last = 0.0, False, time.monotonic()
        try:
            while os.waitpid(child, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
                turn, last = time.monotonic() - last, time.monotonic()
                paused |= turn > PAUSE
                waited += min(turn, PAUSE)
                if waited > PATIENCE:
                    os.killpg(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    return SLOW, paused
        except SystemExit:  # this process is told to end
            os.killpg(child, signal.SIGKILL)
            raise
        answer = os.read(reader, 10_000).decode()
        if not answer:
            return DIED, paused
        return (answer.removeprefix("killed by ") if answer.startswith("killed by ") else None), paused

    # --- In the fork ---

    def _run(self, bytecode: str, line: int, near: bool, writer: int) -> None:
        answer = ""
        try:
            if nearest(self.killers, line)[:1] in ([], [MACHINE]):
                test = self._machine(bytecode) or self._first_failure(bytecode, line, near)
            else:
                test = self._first_failure(bytecode, line, near) or self._machine(bytecode)
            answer = f"killed by {test}" if test else "survived"
        except BaseException:  # noqa: BLE001  # no test failed: the process could not work
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os.write(writer, answer.encode())
            os.killpg(0, signal.SIGKILL)  # itself and its node

    def _first_failure(self, bytecode: str, line: int, near: bool) -> str | None:
        deploy_instead(bytecode)
        self._connect()
        items = {item.nodeid: item for item in self._session.items if isinstance(item, pytest.Function)}
        once = set({(item.path, item.originalname): name for name, item in reversed(items.items())}.values())
        others = sorted(items, key=lambda name: (is_hypothesis_test(items[name].obj), name not in once))
        known = list(dict.fromkeys(test for test in nearest(self.killers, line) if test in items))
        order = [items[name] for name in (known[:NEAR] if near else dict.fromkeys(known + others))]
        for item, following in zip_longest(order, order[1:]):  # none at all, if no near one is known
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._session.testsfailed:
                return item.nodeid
        return None

    def _machine(self, bytecode: str) -> str | None:
        violation = break_machine(bytecode, self._steps) if self._steps else None
        return MACHINE if violation else None


def nearest(killers: list[tuple[int, str]], line: int) -> list[str]:
    """Return the tests that killed mutants, that of the nearest line first."""
    return [test for _, test in sorted(killers, key=lambda killer: abs(killer[0] - line))]


def deploy_instead(bytecode: str) -> None:
    """Has Ape deploy this as the escrow."""
    from ape import project

    contract = project.load_contracts()[CONTRACT].contract_type
    contract.deployment_bytecode.bytecode = "0x" + bytecode
    if project.BookingEscrow.contract_type.deployment_bytecode.bytecode != "0x" + bytecode:
        raise RuntimeError("Ape keeps the compiled contract elsewhere now")


class Broken(NamedTuple):
    """A violation that the state machine found, and the step at which it did."""

    step: int
    violation: Exception


def break_machine(
    bytecode: str, steps: int, checking: frozenset[int] | None = None, seed: int = 1
) -> Broken | None:
    """Return the first violation of these properties, or of any, within so many steps, or None."""
    from ape import project
    from fuzz.machine import EVERYTHING, EscrowMachine, run
    from fuzz.node import Node, Reverted
    from fuzz.properties import Violation
    from fuzz.world import World
    from test_properties import artifacts_of

    artifacts = artifacts_of(project)
    artifacts[CONTRACT]["bytecode"] = bytecode
    first: list[Broken] = []

    class Machine(EscrowMachine):
        def perform(self, *arguments: Any) -> None:
            try:
                super().perform(*arguments)
            except Exception as violation:
                first.append(Broken(self.tally.total(), violation))
                raise

    Machine.tally, Machine.seen = Counter(), Counter()
    Machine.checking = EVERYTHING if checking is None else checking
    with Node(ANY_SIZE) as node:
        try:
            Machine.world = World(node, artifacts)
        except AssertionError as refusal:  # it cannot be deployed
            return Broken(0, refusal)
        try:
            run(Machine, seed, steps, phases=(Phase.generate,))
        except (Reverted, Violation) as violation:  # where all is read, before a step or after it
            return first[0] if first else Broken(Machine.tally.total(), violation)
        except Exception:
            if first and not isinstance(first[0].violation, OSError | HTTPException):
                return first[0]
            raise  # not what the contract did: the node was lost, or this process is told to end
    return None


def tree() -> str:
    """Return a short hash of the tests, which changes with every test."""
    files = [ROOT / "tests" / "conftest.py", ROOT / "tests" / "helpers.py", *TESTS.rglob("*.py")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:12]
