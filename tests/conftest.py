"""Fixtures that the contract tests and the SDK's share: accounts, the two contracts, and times.

Nothing here runs unless a test asks for it, because the shim's tests start a node of their own. What has no
state on the chain says so (`chain_isolation=False`): Ape would start everything anew when it comes late.
"""

import gc
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import ape
import pytest
import services
from ape.api import AccountAPI
from ape.contracts import ContractInstance
from ape_foundry import FoundryProvider
from helpers import set_back
from hypothesis import HealthCheck, settings
from web3.eth import Eth

from creneau.ape.escrow import BookingEscrow

# A busy machine is not a failure.
settings.register_profile("creneau", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("creneau")


class Unreached:
    """Error codes that no process of the session reached, when pytest-xdist shares the tests out."""

    codes: set[str] | None = None

    def pytest_testnodedown(self, node: Any) -> None:
        """A process has ended; what it says is in tests/api/conftest.py."""
        its = getattr(node, "workeroutput", {}).get("unreached codes")
        if its is not None:
            self.codes = set(its) if self.codes is None else self.codes & set(its)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.codes and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.codes:
            terminalreporter.write_line(f"documented, and reached by no test: {sorted(self.codes)}", red=True)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from what was imported: looking through it took a seventh of all CPU."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Unreached())


HOUR = 60 * 60
PERIODS = (24 * HOUR, 48 * HOUR, 14 * 24 * HOUR)
"""cancelWindow, reviewPeriod, arbitrationPeriod of the escrow under test, in seconds."""

DEFAULT_SHARE = 3_000
"""defaultTutorShareBps of the escrow under test."""

FUNDS = 1_000_000 * 10**18
"""The student's balance, in base units."""


@ape.fixture(scope="session", chain_isolation=False)
def deployer(accounts: Any) -> AccountAPI:
    return accounts[0]


@ape.fixture(scope="session", chain_isolation=False)
def arbiter(accounts: Any) -> AccountAPI:
    return accounts[1]


@ape.fixture(scope="session", chain_isolation=False)
def relayer(accounts: Any) -> AccountAPI:
    return accounts[2]


@ape.fixture(scope="session", chain_isolation=False)
def tutor(accounts: Any) -> AccountAPI:
    return accounts[3]


@ape.fixture(scope="session", chain_isolation=False)
def student(accounts: Any) -> AccountAPI:
    return accounts[4]


@ape.fixture(scope="session", chain_isolation=False)
def stranger(accounts: Any) -> AccountAPI:
    return accounts[5]


@ape.fixture(scope="session", chain_isolation=False)
def quick_receipts() -> Any:
    """Asks for receipts every 5 ms instead of every 100."""
    wait = Eth.wait_for_transaction_receipt

    def wait_quickly(
        self: Eth, transaction_hash: Any, timeout: float = 120, poll_latency: float = 0.005
    ) -> Any:
        return wait(self, transaction_hash, timeout, min(poll_latency, 0.005))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Eth, "wait_for_transaction_receipt", wait_quickly)
        yield


@ape.fixture(scope="session", chain_isolation=False)
def clean_restores() -> Any:
    """Between tests the chain is set back with nothing left in the pool: see `set_back`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FoundryProvider, "restore", lambda _, snapshot: set_back(snapshot))
        yield


@pytest.fixture(scope="session")
def token(
    quick_receipts: None,  # noqa: ARG001  # asked for its effect
    clean_restores: None,  # noqa: ARG001  # the same
    deployer: AccountAPI,
    student: AccountAPI,
) -> ContractInstance:
    """EduToken, owned by the deployer; the student has `FUNDS`."""
    token = deployer.deploy(ape.project.EduToken, deployer)
    token.mint(student, FUNDS, sender=deployer)
    return token


@pytest.fixture(scope="session")
def raw_escrow(token: ContractInstance, deployer: AccountAPI, arbiter: AccountAPI) -> ContractInstance:
    """The escrow as Ape has it. The student has not approved it."""
    return deployer.deploy(ape.project.BookingEscrow, token, arbiter, *PERIODS, DEFAULT_SHARE)


@ape.fixture(scope="session", chain_isolation=False)
def escrow(raw_escrow: ContractInstance) -> BookingEscrow:
    """The SDK over the same escrow."""
    return BookingEscrow(raw_escrow.address)


@pytest.fixture
def tomorrow() -> datetime:
    """09:00 UTC on the second day after the chain's present: aligned, and never in the past."""
    now = datetime.fromtimestamp(ape.chain.pending_timestamp, UTC)
    return now.replace(hour=9, minute=0, second=0, microsecond=0) + timedelta(days=2)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says last how many tests were skipped for want of PostgreSQL or a browser, and what mends it."""
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", ())]
    for service, why in services.LACKING.items():
        if count := sum(why in reason for reason in skipped):
            text = f"{count} tests skipped: there is no {service}. This mends it: {services.MENDED_BY}"
            terminalreporter.write_line(text, yellow=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI nothing may be skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    controls = not hasattr(session.config, "workerinput")
    if os.environ.get("CI") == "true" and controls and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
