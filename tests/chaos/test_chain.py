"""Moods of a chain: it raises its price, forgets, reorganises, lets others use the key."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes
from ledger import Ledger, Request
from scenario import EDU, log_lines, paused
from scenario import wait_for as at
from stacks import SETTINGS, ChaosStack, StackMaker
from waiting import until

GWEI = 10**9
FINALITY = int(str(SETTINGS["confirmations"]))
ASYNC = {"prefer": "respond-async"}


@pytest.fixture
def stack(make_stack: StackMaker) -> ChaosStack:
    return make_stack(bump_seconds=0.5, max_fee_wei=200 * GWEI)


@pytest.fixture
def ledger(stack: ChaosStack) -> Ledger:
    return Ledger(stack)


def submitted(request: Request) -> str:
    """Asks without waiting; the hash of its transaction, once the node has it."""
    answer = request.ask(**ASYNC)
    assert answer is not None
    return wait_for(request, "submitted")["transactionHash"]


def wait_for(request: Request, *states: str) -> dict[str, Any]:
    """Waits until the batch is in one of these states; its answer."""
    return at(request.scenario, f"/api/blockchain/booking/batch/{batch_id(request)}", *states)


def batch_id(request: Request) -> str:
    """The batch of the last answer."""
    return str(request.answers[-1].json()["data"]["batchId"])


def pool(stack: ChaosStack) -> list[dict[str, Any]]:
    """The relayer's transactions that wait for a block."""
    content = stack.rpc("txpool_content")
    return [
        sent
        for kind in ("pending", "queued")
        for by_nonce in content[kind].values()
        for sent in by_nonce.values()
        if sent["from"].lower() in {relayer.lower() for relayer in stack.relayers}
    ]


def offers(stack: ChaosStack) -> list[int]:
    """The offer for gas of every transaction that was ever signed, as its bytes say."""
    with closing(sqlite3.connect(stack.data_dir / "creneau.db")) as db:
        signed = db.execute("SELECT raw FROM attempts").fetchall()
    assert signed
    return [TypedTransaction.from_bytes(HexBytes(raw)).as_dict()["maxFeePerGas"] for (raw,) in signed]


# --- Fees ---


def test_a_base_fee_that_jumps_is_followed(stack: ChaosStack, ledger: Ledger) -> None:
    """The transaction offers too little for the next block; its replacement does not."""
    requests = [ledger.request(scenario) for scenario in ledger.scenarios(3)]
    with paused(stack):
        first = [submitted(request) for request in requests]
        offered = {int(sent["maxFeePerGas"], 16) for sent in pool(stack)}
        stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(max(offered) * 3))
        stack.rpc("evm_mine")
        assert all(stack.rpc("eth_getTransactionReceipt", sent) is None for sent in first)
        until(lambda: {sent["hash"] for sent in pool(stack)}.isdisjoint(first), "not replaced")
    ledger.settle()
    ledger.prove(relayers=stack.relayers)
    assert {request.settle()["transactionHash"] for request in requests}.isdisjoint(first)


def test_nothing_is_offered_above_the_cap(stack: ChaosStack, ledger: Ledger) -> None:
    """Above the cap it waits, and goes on when the price has come down."""
    request, *more = (ledger.request(scenario) for scenario in ledger.scenarios(4))
    dear = "gas costs more than the caps allow"
    with paused(stack):
        submitted(request)
        for later in more:
            stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(1000 * GWEI))
            stack.rpc("evm_mine")
            later.ask(**ASYNC)
            until(lambda: log_lines(stack, event=dear, submission_id=batch_id(later)))  # noqa: B023  # at once
        stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        stack.rpc("evm_mine")
    ledger.settle()
    assert max(offers(stack)) <= 200 * GWEI
    ledger.prove(relayers=stack.relayers)


# --- The pool ---


def test_transactions_that_the_node_forgets(stack: ChaosStack, ledger: Ledger) -> None:
    requests = [ledger.request(scenario) for scenario in ledger.scenarios(4)]
    with paused(stack):
        sent = [submitted(request) for request in requests]
        for one in sent[::2]:
            stack.rpc("anvil_dropTransaction", one)
        until(lambda: len(pool(stack)) == len(requests), "not sent again")
    ledger.settle()
    ledger.prove(relayers=stack.relayers)


def test_an_outsider_uses_the_relayers_nonce(stack: ChaosStack, ledger: Ledger) -> None:
    """With the same key elsewhere: the batch gets another nonce only when that transaction is final."""
    relayer = stack.account(1).address
    [scenario] = ledger.scenarios(1)
    ledger.request(scenario).settle()
    requests = [ledger.request(scenario) for _ in range(2)]
    with paused(stack):
        for request in requests:
            sent = submitted(request)
            stack.rpc("anvil_dropTransaction", sent)
            theirs = {"from": relayer, "to": relayer, "value": "0x1", "gas": hex(21_000)}
            nonce = hex(int(stack.rpc("eth_getTransactionCount", relayer, "latest"), 16))
            rich = {"maxFeePerGas": hex(500 * GWEI), "maxPriorityFeePerGas": hex(400 * GWEI), "nonce": nonce}
            stack.rpc("eth_sendTransaction", theirs | rich)
            stack.rpc("evm_mine")
    ledger.settle_meanwhile(lambda: stack.rpc("evm_mine"))
    ledger.prove()


# --- Reorganisations ---


@pytest.mark.parametrize("depth", [1, FINALITY - 1])
@pytest.mark.parametrize("survives", [True, False], ids=["kept", "dropped"])
def test_reorganisations(stack: ChaosStack, ledger: Ledger, depth: int, survives: bool) -> None:
    """The blocks go; the transactions are in the new ones, or nowhere."""
    scenarios = ledger.scenarios(2)
    stack.rpc("anvil_mine", hex(FINALITY + 2))
    requests = [ledger.request(scenario) for scenario in scenarios for _ in range(2)]
    for request in requests:
        request.settle()
    before = [request.settle()["transactionHash"] for request in requests]
    raw = [stack.rpc("eth_getRawTransactionByHash", sent) for sent in before] if survives else []
    moved = [[one, place % depth] for place, one in enumerate(raw[-depth:])]
    stack.rpc("anvil_reorg", depth, moved)

    def are_final() -> bool:
        stack.rpc("evm_mine")
        states = (wait_for(request, "submitted", "mined", "final", "signed") for request in requests)
        return {told["state"] for told in states} == {"final"}

    until(are_final)
    ledger.prove(relayers=stack.relayers)
    assert all(request.scenario.balance() == 100_000 * EDU - 2 * 35 * EDU for request in requests)


def test_it_says_so_within_two_looks(stack: ChaosStack, ledger: Ledger) -> None:
    """A block that is gone: what is told of the batch follows, without anybody asking for it."""
    [scenario] = ledger.scenarios(1)
    request = ledger.request(scenario)
    request.settle()
    stack.rpc("evm_setAutomine", False)
    stack.rpc("anvil_reorg", 1, [])
    assert wait_for(request, "submitted")["finality"] == "pending"
    stack.rpc("evm_setAutomine", True)  # The bytes are sent again a moment after that is told,
    stack.rpc("evm_mine")  # or were before.
    assert wait_for(request, "mined")["finality"] == "mined"
    ledger.prove(relayers=stack.relayers)
