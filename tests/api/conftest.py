"""One node and one shim for all tests of the shim; each test has people and an annonce of its own."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from forked import Stack
from postgres import PostgreSQL, postgres  # noqa: F401  # pytest finds the fixture here
from scenario import Scenario

from api.chain.signers import MnemonicCustodian, relayer_account
from api.errors import Code
from api.people.directory import User
from api.schemas.requests import STUDENT, TUTOR
from api.settings import DEVELOPMENT_ACCOUNTS, DEVELOPMENT_CUSTODY, DEVELOPMENT_SECRET, Settings
from tools.dev_stack import DevStack


@dataclass
class Traffic:
    """Requests and answers of the whole session, and the log lines of each of its shims."""

    private: set[str] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)
    logs: list[str] = field(default_factory=list)
    people: set[str] = field(default_factory=lambda: {STUDENT, TUTOR})

    def note(self, request: httpx.Request, response: httpx.Response) -> None:
        """Remembers codes of answers, and what nobody may log."""
        self.private.add(request.headers.get("authorization", "").removeprefix("Bearer "))
        try:  # Python's parser dies of some, where a test raised the recursion limit.
            body = json.loads(request.content) if request.content.startswith(b"{") else None
        except (ValueError, httpx.RequestNotRead):  # The other is of a body that was streamed.
            body = None
        if isinstance(body, dict):
            names = [name for name in body if re.search(r"(?i)notes|description|signature|permit", name)]
            self.private |= {body[name] for name in names if isinstance(body[name], str)}
        if "problem" in response.headers.get("content-type", "") or response.status_code < 300:
            self.codes |= set(re.findall(r'"code": ?"([a-z_]+)"', response.text))


@pytest.fixture(scope="session", autouse=True)
def traffic(request: pytest.FixtureRequest) -> Iterator[Traffic]:
    """At the end of the session: no log has a secret and, if all ran, every documented code was reached."""
    traffic, send, close = Traffic(), httpx.Client.send, DevStack.close
    create_user = DevStack.create_user

    def noting(client: httpx.Client, *asked: Any, **more: Any) -> httpx.Response:
        response = send(client, *asked, **more)
        if not more.get("stream"):
            traffic.note(response.request, response)
        return response

    def creating(stack: DevStack, *asked: Any, **more: Any) -> User:
        user = create_user(stack, *asked, **more)
        traffic.people.add(user.id)
        return user

    def reading(stack: DevStack) -> None:
        if stack.log_file.exists():
            traffic.logs.append(stack.log_file.read_text())
        close(stack)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", noting)
        patch.setattr(DevStack, "close", reading)
        patch.setattr(DevStack, "create_user", creating)
        yield traffic
    log = "\n".join(traffic.logs)
    for secret in traffic.private | _development_secrets(traffic.people):
        assert len(secret) < 8 or secret not in log, f"logged: {secret[:8]}…"
    for what in (r"eyJ[\w-]{20,}\.", r"0x[0-9a-f]{130}", r"0x02f8[0-9a-f]{100}", r"whsec_\w"):
        assert not re.search(what, log), f"logged: {what}"
    here = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    config = request.config
    if here <= {item.path.name for item in request.session.items} and not config.option.keyword:
        # As text: xdist cannot send an enum from a worker.
        missing = {str(code) for code in set(Code) - traffic.codes}
        if hasattr(config, "workeroutput"):  # One process of several: tests/conftest.py adds them up.
            config.workeroutput["unreached codes"] = sorted(missing)
        else:
            assert missing == set(), "documented, and reached by no test"


def _development_secrets(people: Iterable[str]) -> set[str]:
    custodian = MnemonicCustodian(DEVELOPMENT_CUSTODY)
    keys = {bytes(custodian.signer(custodian.account_of(user)).account.key).hex() for user in people}
    for index in range(10):
        keys.add(bytes(relayer_account(Settings.model_construct(relayer_mnemonic_index=index)).key).hex())
    return keys | {DEVELOPMENT_SECRET, DEVELOPMENT_CUSTODY, DEVELOPMENT_ACCOUNTS}


@pytest.fixture(scope="session")
def stack() -> Iterator[DevStack]:
    with Stack(
        settings={
            "log_format": "json",
            "resend_seconds": 0.5,
            "confirmations": 3,
            "lease_seconds": 1,
            "wait_seconds": 50,  # A busy machine is not a failure.
        }
    ) as stack:
        stack.seed()
        yield stack


@pytest.fixture
def scenario(stack: DevStack) -> Scenario:
    """A student with 1,000 EDU at an annonce of 35 EDU an hour, in Paris."""
    return Scenario.of(stack)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of the test's own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'own.db'}"
    server: PostgreSQL = request.getfixturevalue("postgres")
    return server.database()


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
