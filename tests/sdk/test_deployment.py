"""The packaged contracts, and the script that deploys them."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import ape
import pytest
from eth_account import Account
from web3 import HTTPProvider, Web3
from web3.eth import Eth
from web3.exceptions import Web3RPCError

import creneau
from creneau import abi
from creneau.ape.deploy import PROXY, Deployment, deploy, plan, send_by_web3
from creneau.errors import (
    DeploymentDiffers,
    OwnableInvalidOwner,
    PeriodOutOfRange,
    ProxyMissing,
    ShareTooLarge,
    TokenWithoutCode,
    UnsupportedToken,
)
from tools.local_node import LocalNode

ROOT = Path(__file__).parents[2]
DEVELOPER = Account.from_key("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
DAY = 24 * 60 * 60


@pytest.fixture(scope="module", params=[31337])
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web3]:
    """A node of this module's own, as one that a deployment's user has."""
    folder = tmp_path_factory.mktemp("node")
    with LocalNode(folder, options=("--chain-id", str(request.param))) as node:
        yield Web3(HTTPProvider(node.url))


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def url(node: Web3) -> str:
    assert isinstance(node.provider, HTTPProvider)
    return str(node.provider.endpoint_uri)


# --- The package ---


@pytest.mark.parametrize("contract", ["BookingEscrow", "EduToken"])
def test_the_packaged_abi_and_bytecode_are_the_contracts(contract: Any) -> None:
    compiled = ape.project.get_contract(contract).contract_type.model_dump(mode="json", exclude_none=True)
    packaged = json.loads((ROOT / "creneau" / "artifacts" / f"{contract}.json").read_text())
    hint = "the contract changed: make abi"
    assert packaged["abi"] == compiled["abi"], hint
    assert packaged["bytecode"] == compiled["deploymentBytecode"]["bytecode"], hint


@pytest.mark.parametrize(
    "module", ["creneau", "creneau.abi", "creneau.ape.deploy", "creneau.ape.node", "creneau.events"]
)
def test_only_the_escrow_imports_ape(module: str) -> None:
    code = f"import sys, {module}; sys.exit('ape' in sys.modules)"
    assert run(sys.executable, "-c", code).returncode == 0


def test_public_names() -> None:
    assert [name for name in creneau.__all__ if not hasattr(creneau, name)] == []
    assert sorted(creneau.__all__) == sorted(set(creneau.__all__))
    with pytest.raises(AttributeError, match="module 'creneau' has no attribute 'Nothing'"):
        _ = creneau.Nothing


def test_the_version_is_the_project_s() -> None:
    assert f'version = "{creneau.__version__}"' in (ROOT / "pyproject.toml").read_text()


# --- deploy() ---


@pytest.fixture(autouse=True)
def afresh(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test finds the node of its module as new, where it uses it."""
    if "node" not in request.fixturenames:
        yield
        return
    node = request.getfixturevalue("node")
    snapshot = node.provider.make_request("evm_snapshot", [])["result"]
    yield
    assert node.provider.make_request("evm_revert", [snapshot])["result"]


def create(node: Web3, data: bytes) -> str:
    """Creates a contract in the ordinary way, at an address that says nothing."""
    sent = node.eth.send_transaction({"from": DEVELOPER.address, "data": "0x" + data.hex()})
    return str(node.eth.wait_for_transaction_receipt(sent, poll_latency=0.02)["contractAddress"])


def edu_token(node: Web3) -> str:
    return create(node, abi.creation_data("EduToken", DEVELOPER.address))


def periods(node: Web3, deployment: Deployment) -> list[int]:
    contract = node.eth.contract(
        node.to_checksum_address(deployment.escrow.address), abi=abi.contract_abi("BookingEscrow")
    )
    names = ["cancelWindow", "reviewPeriod", "arbitrationPeriod", "defaultTutorShareBps"]
    return [contract.functions[name]().call() for name in names]


def test_deploy(node: Web3) -> None:
    planned = plan(node, owner=DEVELOPER.address)
    deployment = deploy(node, send_by_web3(node, DEVELOPER), owner=DEVELOPER.address)

    assert (deployment.chain_id, deployment.arbiter) == (31337, DEVELOPER.address)
    assert deployment.new_token is not None
    assert planned.new_token is not None
    assert deployment.token == deployment.new_token.address == planned.new_token.address
    assert deployment.escrow.address == planned.escrow.address
    for creation in (deployment.new_token, deployment.escrow):
        receipt = node.eth.get_transaction_receipt(creation.transaction_hash)
        assert node.eth.get_code(node.to_checksum_address(creation.address))
        assert (creation.block_number, creation.gas_used) == (receipt["blockNumber"], receipt["gasUsed"])
    assert periods(node, deployment) == [DAY, 2 * DAY, 14 * DAY, 5_000]


def test_deploy_again_finds_it_and_other_terms_are_another_escrow(node: Web3) -> None:
    send = send_by_web3(node, DEVELOPER)
    first = deploy(node, send, owner=DEVELOPER.address)
    count = node.eth.get_transaction_count(DEVELOPER.address)

    again = deploy(node, send, owner=DEVELOPER.address)
    assert node.eth.get_transaction_count(DEVELOPER.address) == count
    assert again.escrow == dataclasses.replace(first.escrow, gas_used=None)
    assert again.token == first.token

    other = deploy(node, send, owner=DEVELOPER.address, cancel_window=timedelta(hours=1))
    assert node.eth.get_transaction_count(DEVELOPER.address) == count + 1
    assert other.token == first.token
    assert other.escrow.address != first.escrow.address


def test_deploy_again_with_a_node_that_searches_few_blocks_says_so(
    node: Web3, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = send_by_web3(node, DEVELOPER)
    deploy(node, send, owner=DEVELOPER.address)

    def few(*_: object) -> NoReturn:
        raise Web3RPCError("ranges over 10000 blocks are not supported")

    monkeypatch.setattr(Eth, "get_logs", few)
    with pytest.raises(DeploymentDiffers, match=r"search its whole history .* over 10000 blocks"):
        deploy(node, send, owner=DEVELOPER.address)


def test_deploy_for_a_token_that_exists(node: Web3) -> None:
    token = edu_token(node)
    arbiter = node.eth.accounts[1]

    deployment = deploy(
        node,
        send_by_web3(node, DEVELOPER),
        owner=DEVELOPER.address,
        arbiter=arbiter,
        token=token.lower(),
        cancel_window=timedelta(0),
        review_period=timedelta(hours=1),
        arbitration_period=timedelta(days=365),
        default_tutor_share_bps=10_000,
    )

    assert (deployment.token, deployment.new_token, deployment.arbiter) == (token, None, arbiter)
    assert periods(node, deployment) == [0, 3600, 365 * DAY, 10_000]


def test_deploy_refuses(node: Web3) -> None:
    def refused(error: type[Exception], **terms: Any) -> tuple[Any, ...]:
        before = node.eth.get_transaction_count(DEVELOPER.address)
        with pytest.raises(error) as raised:
            deploy(node, send, owner=DEVELOPER.address, **terms)
        assert node.eth.get_transaction_count(DEVELOPER.address) == before
        return raised.value.args

    send = send_by_web3(node, DEVELOPER)
    deployment = deploy(node, send, owner=DEVELOPER.address)
    token, escrow = deployment.token, deployment.escrow.address
    nobody = "0x" + "00" * 20

    assert refused(TokenWithoutCode, token=DEVELOPER.address) == (DEVELOPER.address,)
    assert refused(UnsupportedToken, token=escrow) == (
        f"{escrow} does not say how many decimal places it has.",
    )
    year = 365 * DAY
    for term, least, wrong in (
        ("cancel_window", 0, year + 1),
        ("review_period", 3600, 3599),
        ("review_period", 3600, year + 1),
        ("arbitration_period", DAY, DAY - 1),
        ("arbitration_period", DAY, year + 1),
    ):
        terms = {"token": token, term: timedelta(seconds=wrong)}
        assert refused(PeriodOutOfRange, **terms) == (wrong, least, year)
    assert refused(ShareTooLarge, token=token, default_tutor_share_bps=10_001) == (10_001, 10_000)
    assert refused(OwnableInvalidOwner, token=token, arbiter=nobody) == (nobody,)
    # The same while there is no token yet.
    other = node.eth.accounts[2]
    with pytest.raises(PeriodOutOfRange) as raised:
        deploy(node, send, owner=other, cancel_window=timedelta(days=366))
    assert raised.value.args == (366 * DAY, 0, 365 * DAY)


def returning(number: int) -> bytes:
    """The creation of a contract that returns this, whatever it is asked."""
    code = bytes.fromhex(f"60{number:02x}60005260206000f3")
    return bytes([0x60, len(code), 0x60, 12, 0x60, 0, 0x39, 0x60, len(code), 0x60, 0, 0xF3]) + code


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (6, "has 6 decimal places; Creneau counts in 18."),
        (18, "takes no permits (EIP-2612) in the domain that it names."),
    ],
)
def test_deploy_refuses_a_token_without_what_it_needs(node: Web3, number: int, reason: str) -> None:
    token = create(node, returning(number))
    with pytest.raises(UnsupportedToken) as raised:
        deploy(node, send_by_web3(node, DEVELOPER), owner=DEVELOPER.address, token=token)
    assert raised.value.args == (f"{token} {reason}",)


def test_deploy_needs_the_proxy(node: Web3) -> None:
    node.provider.make_request("anvil_setCode", [PROXY, "0x"])  # type: ignore[arg-type]
    with pytest.raises(ProxyMissing, match=f"Chain 31337 has no deterministic deployment proxy at {PROXY}"):
        deploy(node, send_by_web3(node, DEVELOPER), owner=DEVELOPER.address)
    assert node.eth.get_transaction_count(DEVELOPER.address) == 0


# --- ape run ---


def test_ape_run_lists_commands_and_nothing_else() -> None:
    done = run("ape", "run", "--help")
    listed = re.findall(r"^  (\w+)  +(\S.*)$", done.stdout.partition("Commands:")[2], re.MULTILINE)
    assert [name for name, _ in listed] == ["abi", "demo", "deploy", "manage"]
    assert not [help_ for _, help_ in listed if help_.startswith("Run ")]
    assert done.stderr == ""


# --- ape run deploy, on a local network ---

ROW = re.compile(r"^(\w+) +(0x\w{40}) +(\d+) +([\d,]+|-)  (0x\w{64})$", re.MULTILINE)


def test_ape_run_deploy(node: Web3) -> None:
    done = run("ape", "run", "deploy", "--network", "ethereum:local:foundry", APE_FOUNDRY_HOST=url(node))

    assert done.returncode == 0, done.stderr
    rows = ROW.findall(done.stdout)
    assert [row[0] for row in rows] == ["EduToken", "BookingEscrow"]
    for _, address, block, gas, transaction_hash in rows:
        receipt = node.eth.get_transaction_receipt(transaction_hash)
        assert node.eth.get_code(address)
        assert (receipt["blockNumber"], receipt["gasUsed"]) == (int(block), int(gas.replace(",", "")))
    assert re.search(rf"^arbiter +{DEVELOPER.address}$", done.stdout, re.MULTILINE)


def test_ape_run_deploy_for_a_token_that_exists(node: Web3) -> None:
    token, arbiter = edu_token(node), node.eth.accounts[1]
    options = ["--token", token, "--arbiter", arbiter, "--account", "TEST::2"]

    done = run("ape", "run", "deploy", "--network", url(node), *options)

    assert done.returncode == 0, done.stderr
    assert re.search(rf"^token +{token}, given$", done.stdout, re.MULTILINE)
    assert re.search(rf"^arbiter +{arbiter}$", done.stdout, re.MULTILINE)
    assert re.search(rf"^deployer +{node.eth.accounts[2]}$", done.stdout, re.MULTILINE)


def test_ape_run_deploy_says_why_not(node: Web3) -> None:
    done = run("ape", "run", "deploy", "--network", url(node), "--token", DEVELOPER.address)
    assert done.returncode == 1
    assert f"Error: There is no token contract at {DEVELOPER.address}." in done.stderr
