"""Deployments on live networks: anvil under their chain ids, a project and an account of their own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ape
import pytest
import yaml
from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3

from creneau import abi
from creneau.ape.deploy import check_token, check_transfer, deploy, plan, send_by_web3
from creneau.ape.deployments import record
from creneau.ape.networks import LIVE, network_of
from creneau.errors import UnsupportedToken
from tools.local_node import LocalNode

ROOT = Path(__file__).parents[2]
DEVELOPMENT = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
NOBODY = "0x" + "00" * 20
VARIABLE = {41923: "EDU_CHAIN_RPC_URL", 656476: "CODEX_RPC_URL", 11155111: "SEPOLIA_RPC_URL"}


IN_TURN = """
import json, sys
from ape._cli import cli
from click.testing import CliRunner

commands = json.load(sys.stdin)
done = [CliRunner(mix_stderr=False).invoke(cli, ["run", *command], prog_name="ape") for command in commands]
print()
print(json.dumps([[each.exit_code, each.stderr] for each in done]))
"""
"""Runs the commands of standard input, as `ape run` does each."""


def deployment(*options: str, network: str, account: str = "deployer") -> tuple[str, ...]:
    """The words after `ape run`."""
    return ("deploy", "--network", network, "--account", account, "--yes", *options)


@dataclass(frozen=True)
class Place:
    """A network, and a checkout from which it is deployed to."""

    web3: Web3
    url: str
    project: Path
    deployer: LocalAccount
    environment: dict[str, str]

    def deploy(self, *options: str, network: str, **environment: str) -> Any:
        return self.run(*deployment(*options, network=network), **environment)

    def run(self, *command: str, given: str = "", **environment: str) -> Any:
        return self.process("ape", "run", *command, given=given, **environment)

    def refusals(self, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
        """Exit code and standard error of each command, from one process: Ape starts slowly."""
        done = self.process(sys.executable, "-c", IN_TURN, given=json.dumps(commands))
        assert done.returncode == 0, done.stderr
        return [(code, error) for code, error in json.loads(done.stdout.splitlines()[-1])]

    def process(self, *command: str, given: str = "", **environment: str) -> Any:
        return subprocess.run(
            command,
            input=given,
            cwd=self.project,
            env=os.environ | self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def config(self) -> str:
        return (self.project / "ape-config.yaml").read_text()

    def sent(self) -> int:
        return self.web3.eth.get_transaction_count(self.deployer.address)

    def create(self, data: bytes) -> str:
        [owner, *_] = self.web3.eth.accounts
        sent = self.web3.eth.send_transaction({"from": owner, "data": "0x" + data.hex()})
        return str(self.web3.eth.wait_for_transaction_receipt(sent, poll_latency=0.02)["contractAddress"])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[[int], Place]]:
    """`place(41923)`: a node with this chain id, a copy of the project, and a funded account `deployer`."""
    nodes = ExitStack()

    def make(chain_id: int) -> Place:
        options = ("--chain-id", str(chain_id), "--block-time", "0.2")
        node = nodes.enter_context(LocalNode(tmp_path, options=options))
        web3 = Web3(HTTPProvider(node.url))
        deployer = Account.create()
        web3.provider.make_request("anvil_setBalance", [deployer.address, hex(10**19)])  # type: ignore[arg-type]
        accounts = tmp_path / "ape" / "accounts"
        accounts.mkdir(parents=True)
        keyfile = Account.encrypt(deployer.key, "secret", kdf="pbkdf2", iterations=2)
        (accounts / "deployer.json").write_text(json.dumps(keyfile))
        project = tmp_path / "project"
        project.mkdir()
        for name in ("contracts", "node_modules", "scripts", "creneau", "pyproject.toml"):
            (project / name).symlink_to(ROOT / name)
        (project / "ape-config.yaml").write_text((ROOT / "ape-config.yaml").read_text())
        environment = {
            "APE_DATA_FOLDER": str(tmp_path / "ape"),
            "APE_ACCOUNTS_deployer_PASSPHRASE": "secret",
            VARIABLE[chain_id]: node.url,
        }
        return Place(web3, node.url, project, deployer, environment)

    with nodes:
        yield make


def test_ape_config_says_what_the_networks_are() -> None:
    for network in LIVE:
        ecosystem, _, name = network.name.partition(":")
        known = ape.networks.get_ecosystem(ecosystem).get_network(name)
        assert (known.chain_id, known.required_confirmations) == (network.chain_id, network.confirmations)
        assert known.is_mainnet == (not network.test)
        assert network_of(network.chain_id) == network
    assert network_of(1) is None


def test_another_ecosystem(place: Any) -> None:
    there = place(11155111)
    done = there.deploy(network="ethereum:sepolia")
    assert done.returncode == 0, done.stderr
    recorded = yaml.load(there.config, Loader=yaml.BaseLoader)["deployments"]  # noqa: S506  # strings only
    assert [entry["contract_type"] for entry in recorded["ethereum"]["sepolia"]] == [
        "EduToken",
        "BookingEscrow",
    ]
    assert there.sent() == 2


def test_first_and_repeated(place: Any) -> None:
    there = place(656476)
    comments = [line for line in there.config.splitlines() if line.lstrip().startswith("#")]
    planned = plan(there.web3, owner=there.deployer.address)

    done = there.deploy(network="edu-chain:codex")

    assert done.returncode == 0, done.stderr
    assert there.sent() == 2
    assert planned.new_token is not None
    recorded = yaml.load(there.config, Loader=yaml.BaseLoader)["deployments"]  # noqa: S506  # strings only
    entries = recorded["edu-chain"]["codex"]
    assert [(entry["contract_type"], entry["address"]) for entry in entries] == [
        ("EduToken", planned.new_token.address),
        ("BookingEscrow", planned.escrow.address),
    ]
    for entry in entries:
        receipt = there.web3.eth.get_transaction_receipt(entry["transaction"])
        assert (receipt["status"], receipt["blockNumber"]) == (1, int(entry["block"]))
    assert [line for line in there.config.splitlines() if line.lstrip().startswith("#")] == comments

    # What the explorer is given compiles to the same code.
    given = (there.project / ".build" / "verify" / "656476-BookingEscrow.json").read_text()
    compiler = str(ROOT / "tools" / "solc" / "solc-v0.8.37")
    compiling = subprocess.run(
        [compiler, "--standard-json"], input=given, capture_output=True, text=True, check=True
    )
    [compiled] = json.loads(compiling.stdout)["contracts"]["contracts/BookingEscrow.sol"].values()
    packaged = json.loads((ROOT / "creneau" / "artifacts" / "BookingEscrow.json").read_text())
    assert compiled["evm"]["bytecode"]["object"] == packaged["bytecode"].removeprefix("0x")

    before = there.config
    again = there.deploy(network="edu-chain:codex")
    assert again.returncode == 0, again.stderr
    assert (there.sent(), there.config) == (2, before)
    assert f"{planned.escrow.address}, there already" in again.stdout

    # A record that was lost is found again on the chain.
    (there.project / "ape-config.yaml").write_text((ROOT / "ape-config.yaml").read_text())
    assert there.deploy(network="edu-chain:codex").returncode == 0
    assert (there.sent(), there.config) == (2, before)


def test_half_done(place: Any) -> None:
    there = place(656476)
    planned = plan(there.web3, owner=there.deployer.address)

    def only_one(send: Any) -> Any:
        sent = []

        def once(to: str, data: bytes) -> Any:
            if sent:
                raise KeyboardInterrupt
            sent.append(send(to, data))
            return sent[0]

        return once

    with pytest.raises(KeyboardInterrupt):
        deploy(there.web3, only_one(send_by_web3(there.web3, there.deployer)), owner=there.deployer.address)
    assert planned.new_token is not None
    assert there.sent() == 1

    done = there.deploy(network="edu-chain:codex")
    assert done.returncode == 0, done.stderr
    assert there.sent() == 2
    assert f"{planned.new_token.address}, there already" in done.stdout
    assert f"{planned.escrow.address}, to be deployed" in done.stdout


def test_the_main_network_wants_a_token_an_arbiter_and_a_default_share(place: Any) -> None:
    there = place(41923)
    [owner, *_] = there.web3.eth.accounts
    token = there.create(abi.creation_data("EduToken", owner))
    arbiter = Account.create().address

    share = "--default-tutor-share", "62.5"
    asked = "Name the token, the arbiter and the default share of edu-chain:mainnet with --token, "
    public = f"{DEVELOPMENT} is a development account: everybody has its key."
    refused: list[tuple[tuple[str, ...], str, int, str]] = [
        (("--arbiter", arbiter, *share), "deployer", 2, asked),
        (("--token", token, *share), "deployer", 2, asked),
        (("--token", token, "--arbiter", arbiter), "deployer", 2, asked),
        (("--token", NOBODY, "--arbiter", arbiter, *share), "deployer", 2, "The token is the zero address."),
        (("--token", token, "--arbiter", NOBODY, *share), "deployer", 2, "The arbiter is the zero address."),
        (("--token", token, "--arbiter", DEVELOPMENT, *share), "deployer", 2, public),
        (("--token", token, "--arbiter", arbiter, *share), "TEST::0", 2, public),
        (
            ("--token", arbiter, "--arbiter", arbiter, *share),
            "deployer",
            1,
            f"There is no token contract at {arbiter}.",
        ),
    ]
    commands = [
        deployment(*options, network="edu-chain:mainnet", account=account)
        for options, account, _, _ in refused
    ]
    for (options, account, code, said), (ended, error) in zip(
        refused, there.refusals(*commands), strict=True
    ):
        assert (ended, f"Error: {said}" in error) == (code, True), (options, account, error)
    assert there.sent() == 0
    assert "deployments:" not in there.config

    done = there.deploy("--token", token, "--arbiter", arbiter, *share, network="edu-chain:mainnet")
    assert done.returncode == 0, done.stderr
    assert there.sent() == 1
    assert "a transfer of the token, on a fork: exact" in done.stdout
    assert re.search(rf"^arbiter +{arbiter}$", done.stdout, re.MULTILINE)
    assert re.search(r"^undecided +the tutor gets 62.5 %$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({VARIABLE[41923]: ""}, "Set EDU_CHAIN_RPC_URL to the address of a node of edu-chain:mainnet."),
        ({VARIABLE[41923]: "http://127.0.0.1:9/KEY"}, "Set EDU_CHAIN_RPC_URL to the address of a node of"),
    ],
)
def test_a_node_that_is_not_named_or_away_is_one_line(
    place: Any, variables: dict[str, str], said: str
) -> None:
    done = place(41923).deploy(network="edu-chain:mainnet", **variables)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert said in done.stderr
    assert "KEY" not in done.stderr + done.stdout


def test_a_wrong_passphrase_is_one_line(place: Any) -> None:
    there = place(656476)
    done = there.deploy(network="edu-chain:codex", APE_ACCOUNTS_deployer_PASSPHRASE="wrong")  # noqa: S106
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "Error: The passphrase in APE_ACCOUNTS_deployer_PASSPHRASE, or that was typed, does not open the"
        " keyfile of deployer.",
    )
    assert "Traceback" not in done.stderr
    assert there.sent() == 0


def test_a_permit_that_gives_nothing_is_found_out(place: Any) -> None:
    there = place(41923)
    code = bytes(ape.project.IdlePermitToken.contract_type.get_deployment_bytecode())
    token = there.create(code)
    with pytest.raises(UnsupportedToken) as refused:
        check_token(there.web3, token)
    assert str(refused.value) == f"{token} takes no permits (EIP-2612) in the domain that it names."
    check_token(there.web3, there.create(fee_token(always=False)))


@pytest.mark.parametrize("always", [True, False])
def test_a_token_that_takes_a_fee_is_found_out(place: Any, always: bool) -> None:
    there = place(41923)
    token = there.create(fee_token(always=always))
    check_token(there.web3, token)  # It looks right.
    with pytest.raises(UnsupportedToken, match="Creneau needs a token that moves exactly what it is told to"):
        check_transfer(there.web3, token)


def fee_token(*, always: bool) -> bytes:
    code = ape.project.FeeToken.contract_type.get_deployment_bytecode()
    return bytes(code) + encode(["bool"], [always])


def test_an_escrow_is_managed(place: Any) -> None:
    there = place(656476)
    deployment = deploy(there.web3, send_by_web3(there.web3, there.deployer), owner=there.deployer.address)
    escrow = deployment.escrow
    record(there.project / "ape-config.yaml", "edu-chain:codex", "BookingEscrow", escrow)
    network = ("--network", "edu-chain:codex")

    publish = ("manage", "publish", "piano", "35", *network)
    refused = there.run(*publish, "--account", "deployer", given="n\n")
    assert refused.returncode == 1
    assert "Aborted!" in refused.stderr
    assert there.sent() == 2

    done = there.run(*publish, "--account", "deployer", given="y\n")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^escrow +{escrow.address}$", done.stdout, re.MULTILINE)
    assert "listing: 35 EDU an hour, lessons to be confirmed by the tutor, published once" in done.stdout
    assert there.sent() == 3


def test_a_node_of_another_chain_is_refused(place: Any) -> None:
    there = place(656476)
    done = there.deploy(network="edu-chain:mainnet", EDU_CHAIN_RPC_URL=there.url)
    assert done.returncode != 0
    assert "does not match network chain ID '41923'" in done.stdout + done.stderr
    assert there.sent() == 0
