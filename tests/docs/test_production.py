"""A start by the guides alone: their commands, one after the other, from an empty PostgreSQL to a lesson.

Typed is what docs/deployment.md and docs/operations.md show, with other values where a stranger has values of
their own: addresses, ports, passphrases. The chain is anvil under the id of a live network. Whoever pays the
coin and the tokens, and the user service, is the test.
"""

import json
import os
import re
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import jwt
import pytest
import services
import yaml
from blocks import ROOT, Block, blocks_of
from caddy import OPTIONS, PROGRAM, authority, caddy, environment, replace, wait
from postgres import PostgreSQL
from scenario import BATCH, slot
from service import Answer, service
from waiting import PATIENCE, http, until
from web3 import HTTPProvider, Web3

from creneau import abi
from creneau.types import to_hex
from tools.dev_stack import free_port
from tools.local_node import LocalNode, end

DEPLOYMENT, OPERATIONS = ROOT / "docs/deployment.md", ROOT / "docs/operations.md"
HERE = "tested-by=tests/docs/test_production.py"
CHAIN_ID = 656476
PASSPHRASE = "correct horse battery"  # Of this test's accounts.
GENERATED = f"some noise\nn\n{PASSPHRASE}\n{PASSPHRASE}\n"
ANSWERS = {"ape accounts generate": GENERATED, "ape run deploy": f"y\n{PASSPHRASE}\n"}
"""Typed where a command asks."""


def shown(page: Path, heading: str) -> list[Block]:
    """The consoles under a heading that are typed here."""
    return [block for block in blocks_of(page) if (block.heading, block.info) == (heading, HERE)]


class Shell:
    """Types commands in a folder, each in a shell that has the variables of those before."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir()
        self._state = self.home / "variables"
        self._state.touch()
        self._given = variables
        self._processes: list[subprocess.Popen[bytes]] = []

    def type(self, block: Block, other: Mapping[str, str] = MappingProxyType({})) -> str:
        """Types the lines of a block, with other values, and returns what they print."""
        lines = replace(block.commands, other).splitlines()
        return "".join(self.line(line) for line in lines)

    def start(self, line: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Types a command that goes on; its process, and what it prints."""
        log = self.home / f"log{len(self._processes)}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"source {self._state}; exec env {line}"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._processes.append(process)
        return process, log

    def close(self) -> None:
        """Ends what goes on."""
        for process in reversed(self._processes):
            end(process)

    def line(self, line: str) -> str:
        """Types one line, and returns what it prints."""
        done = subprocess.run(
            ["bash", "-c", f"set -eu -o pipefail; source {self._state}\n{line}\nexport -p > {self._state}"],
            input=next((text for name, text in ANSWERS.items() if line.startswith(name)), ""),
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # Without a terminal it is the standard input that answers.
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CRENEAU_", "APE_", "PG"))}
        path = f"{PROGRAM.parent}{os.pathsep}{inherited['PATH']}"
        return inherited | environment(self.home) | {"PATH": path} | self._given


def project(folder: Path) -> Path:
    """A checkout, whose files are this one's; what the deployment writes is its own."""
    folder.mkdir()
    for name in ("contracts", "node_modules", "scripts", "creneau", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "ape-config.yaml").write_text((ROOT / "ape-config.yaml").read_text())
    return folder


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web3]:
    options = ("--chain-id", str(CHAIN_ID))
    with LocalNode(tmp_path_factory.mktemp("node"), block_time=1, options=options) as node:
        yield Web3(HTTPProvider(node.url))


def url_of(node: Web3) -> str:
    """The node's address."""
    assert isinstance(node.provider, HTTPProvider)
    return str(node.provider.endpoint_uri)


def send_coin(node: Web3, printed: str) -> list[str]:
    """Sends the accounts that a command says it has made the network's coin."""
    accounts = re.findall(r"new account '(0x[0-9a-fA-F]{40})'", printed)
    for account in accounts:
        node.provider.make_request("anvil_setBalance", [account, hex(10**19)])  # type: ignore[arg-type]
    return accounts


def send_tokens(node: Web3, owner: str, token: str, account: str) -> None:
    """Sends an account tokens of the test network, as their owner."""
    node.provider.make_request("anvil_impersonateAccount", [owner])  # type: ignore[arg-type]
    mint = to_hex(abi.call_data("EduToken", "mint", account, 1000 * 10**18))
    sent = node.eth.send_transaction({"from": owner, "to": token, "data": mint})  # type: ignore[typeddict-item]
    assert node.eth.wait_for_transaction_receipt(sent, poll_latency=0.02)["status"] == 1


def ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until a process says that it is ready."""

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(httpx.TransportError):
            return http.get(f"{url}/readyz").status_code == 200
        return False

    until(is_ready)


def users_at(folder: Path, port: int, url: str) -> AbstractContextManager[Path]:
    """The user service, by https."""
    here = f"https://localhost:{port}"
    folder.mkdir()
    return caddy(folder, f"{here} {{\n\treverse_proxy {url}\n}}\n", here)


PEOPLE: dict[str, dict[str, Any]] = {
    "/api/users/4711": {"id": "4711", "role": "student", "firstName": "Camille", "lastName": "Durand"},
    "/api/users/4712": {"id": "4712", "role": "tutor"},
    "/api/profile/tutors/88": {"id": "88", "userId": "4712"},
    "/api/annonces/9001": {"id": "9001", "tutorId": "88", "title": "Deep Learning", "hourlyRate": "35.00"},
}


def deployed(shell: Shell, node: Web3) -> tuple[str, dict[str, str], dict[str, str]]:
    """The deployer, and the records of token and escrow, after the guide to deployments."""
    generate, deploy = shown(DEPLOYMENT, "Deploying")
    [deployer] = send_coin(node, shell.type(generate))
    shell.type(deploy, {"https://…": url_of(node)})
    recorded = yaml.load((shell.folder / "ape-config.yaml").read_text(), yaml.BaseLoader)  # noqa: S506
    token, escrow = recorded["deployments"]["edu-chain"]["codex"]
    assert (token["contract_type"], escrow["contract_type"]) == ("EduToken", "BookingEscrow")
    return deployer, token, escrow


def client_of(user_id: str, shell: Shell, origin: str) -> httpx.Client:
    """A client with a token of the user service, that trusts the proxy's authority."""
    secret = (shell.folder / "secrets" / "jwt").read_text().strip()
    claims = {"sub": user_id, "aud": "creneau", "iss": "https://users.example.org"}
    bearer = jwt.encode(claims | {"exp": datetime.now(UTC) + timedelta(hours=1)}, secret)
    return httpx.Client(
        base_url=origin,
        headers={"Authorization": f"Bearer {bearer}"},
        verify=ssl.create_default_context(cafile=authority(shell.home)),
        timeout=PATIENCE,
    )


def test_from_an_empty_postgresql_to_a_lesson(node: Web3, tmp_path: Path) -> None:
    if (programs := services.postgresql()) is None:
        pytest.skip(services.LACKING["PostgreSQL"])
    first, second, public, theirs = (free_port() for _ in range(4))
    origin = f"https://localhost:{public}"
    with ExitStack() as held:
        users = held.enter_context(service())
        users.answers |= {path: Answer({"data": data}) for path, data in PEOPLE.items()}
        held.enter_context(users_at(tmp_path / "users", theirs, users.url))
        database = held.enter_context(PostgreSQL(programs, empty=True))
        shell = Shell(
            project(tmp_path / "checkout"),
            PGHOST=database.host,
            PGUSER=database.administrator,
            SSL_CERT_FILE=str(authority(tmp_path / "users")),
        )
        held.callback(shell.close)

        deployer, token, escrow = deployed(shell, node)
        [secrets] = shown(OPERATIONS, "Secrets")
        shell.type(secrets)
        [relayers] = shown(OPERATIONS, "Keys and funding")
        assert len(send_coin(node, shell.type(relayers, {"…": f"'{PASSPHRASE}'"}))) == 2
        [roles] = shown(OPERATIONS, "Database")
        shell.type(roles)
        [env] = [
            each
            for each in blocks_of(OPERATIONS)
            if "CRENEAU_RPC_URL" in each.text and each.language == "env"
        ]
        settings = {
            "https://rpc.example.org": url_of(node),
            "41923": str(CHAIN_ID),
            "0x5FbDB2315678afecb367f032d93F642f64180aa3": escrow["address"],
            "1234567": escrow["block"],
            "@db.internal/creneau": f"@/creneau?host={database.host}",
            "https://book.example.org": origin,
            "https://users.internal": f"https://localhost:{theirs}",
        }
        tables, accounts = shown(OPERATIONS, "Settings of a live network")
        dotenv, all_settings = shell.folder / ".env", replace(env.text, settings)
        dotenv.write_text(re.sub("^CRENEAU_DIRECTORY_URL=.*\n", "", all_settings, flags=re.MULTILINE))
        assert shell.type(tables).count("4712") == 2
        dotenv.write_text(all_settings)
        student, account = shell.type(accounts).split()
        send_tokens(node, deployer, token["address"], account)

        [serve] = shown(OPERATIONS, "Start")
        lines = replace(serve.commands, {"8001": str(first), "8002": str(second)}).splitlines()
        for line, port in zip(lines, (first, second), strict=True):
            ready(f"http://127.0.0.1:{port}", *shell.start(line))
        rule, asks = shown(OPERATIONS, "Proxy")
        site = {"book.example.org": origin, ":8001": f":{first}", ":8002": f":{second}"}
        (shell.folder / "Caddyfile").write_text(OPTIONS + replace(rule.text, site))
        run, ask = asks.commands.splitlines()
        wait(origin, *shell.start(run))
        trusts = {"curl": f"curl --cacert {authority(shell.home)}", "https://book.example.org": origin}
        told = json.loads(shell.line(replace(ask, trusts)))
        assert told["status"] == "ok"
        assert {tuple(check) for check in told["checks"].values()} == {("ok",)}  # Strangers see no more.

        with client_of(student, shell, origin) as client:
            lesson = {"tutorId": "88", "annonceId": "9001", "bookings": [slot("09:00"), slot("10:00")]}
            booked = client.post(BATCH, json=lesson)
            assert (booked.status_code, booked.json()["data"]["count"]) == (200, 2)
            until(lambda: len(client.get(f"/api/blockchain/booking/user/{student}").json()["data"]) == 2)
        assert users.asked["/api/annonces/9001"] >= 1
