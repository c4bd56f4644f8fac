"""Scenarios of real nodes and chains, each with the outcome that is right, on both databases.

The node is real, and behind a proxy; the shim works when a test says so, so nothing depends on who is faster.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from nodes import CLIENTS, ESTIMATE, RECEIPT
from proxy import Fault, Proxy
from pydantic import SecretStr
from rounds import Rounds
from scenario import EDU, Scenario, paused, slot
from sqlalchemy import select
from stacks import LONG, SETTINGS, ChaosStack, Shims
from structlog.testing import capture_logs
from waiting import until

from api.chain.escrow import WrongChain
from api.chain.rpc import NodeUnavailable
from api.db import prepared, repository
from api.db.tables import orders, webhooks
from api.errors import Code, Problem
from api.outbox.models import State, Submission, TransactionKind
from api.routes.health import readiness
from api.schemas.requests import CreateBatchBookingData, SubmitData
from creneau import abi
from creneau.lifecycle import Action
from creneau.types import to_hex
from tools.local_node import free_port

GWEI = 10**9
FINALITY = int(str(SETTINGS["confirmations"]))
COUNT, BLOCK = "eth_getTransactionCount", "eth_getBlockByNumber"

Maker = Callable[..., Rounds]


@pytest.fixture(scope="module")
def stack(shims: Shims) -> Iterator[ChaosStack]:
    """A node with the contracts, and people. Its own shim has nothing to do."""
    with ChaosStack(shims, settings=SETTINGS) as stack:
        stack.stop_shim()
        yield stack


@pytest.fixture
def proxy(stack: ChaosStack) -> Iterator[Proxy]:
    with Proxy(stack.rpc_url, 19) as proxy:
        yield proxy


@pytest.fixture
def make(stack: ChaosStack, proxy: Proxy, database_url: str, tmp_path: Path) -> Iterator[Maker]:
    """Processes of one shim: they share the database, and know only the proxy."""
    with ExitStack() as made:

        def make(keys: str | None = None, **settings: Any) -> Rounds:
            database = database_url or f"sqlite:///{tmp_path / 'own.db'}"
            own = {"rpc_url": proxy.url, "database_url": database}
            if keys:
                own["relayer_mnemonic_index"] = keys
            rounds = Rounds(stack, own | settings)
            made.callback(rounds.shim.close)
            rounds.read()
            return rounds

        yield make


@pytest.fixture
def rounds(make: Maker) -> Rounds:
    return make()


@pytest.fixture
def scenario(stack: ChaosStack) -> Scenario:
    return Scenario.of(stack)


def mine(stack: ChaosStack, count: int = 1) -> None:
    stack.rpc("anvil_mine", hex(count))


def add_to_count(more: int, call: dict[str, Any], result: Any) -> Any:
    return hex(int(result, 16) + more) if call["method"] == COUNT else result


def booked(rounds: Rounds, batch_id: str, scenario: Scenario, lessons: int = 1) -> Any:
    """The batch in its block, and the student has paid once for all batches so far."""
    row = rounds.work(batch_id, State.MINED, State.FINAL)
    assert (row.booked, row.code) == (1, None)
    assert scenario.balance() == (1000 - 35 * lessons) * EDU
    return row


# --- What a decision rests on ---


@pytest.mark.parametrize("code", ["not_published", "insufficient_balance"])
def test_a_preflight_by_a_node_that_is_behind(
    stack: ChaosStack, proxy: Proxy, rounds: Rounds, scenario: Scenario, code: str
) -> None:
    """The node does not know yet what acceptance saw: it is asked again, until it does."""
    if code == "not_published":
        rounds.work(rounds.place(scenario, "08:00"), State.MINED)
    else:
        scenario = Scenario(stack, stack.create_user("student"), scenario.tutor, scenario.annonce)
        stack.mint(scenario.student.wallet, 1000 * EDU)
    batch_id = rounds.place(scenario, "09:00")
    proxy.pool.ages = [1]
    for _ in range(5):
        rounds.round()
        assert rounds.row(batch_id).state == State.ACCEPTED
    assert proxy.pool.met
    proxy.pool.ages = [0]
    booked(rounds, batch_id, scenario, 2 if code == "not_published" else 1)


def test_a_head_before_the_block_of_a_receipt(proxy: Proxy, rounds: Rounds, scenario: Scenario) -> None:
    """A batch that waits for a listing's publication is not prepared by a block without it."""
    published, waits = rounds.place(scenario, "08:00"), rounds.place(scenario, "09:00")
    rounds.shim.sender.tick()
    assert rounds.row(published).state == State.MINED
    proxy.pool.ages = [1]
    for _ in range(5):
        rounds.shim.sender.tick()
        assert (rounds.row(waits).state, rounds.attempts(waits)) == (State.ACCEPTED, [])
    assert proxy.pool.met
    proxy.pool.ages = [0]
    booked(rounds, waits, scenario, 2)
    assert len(rounds.attempts(waits)) == 1


def test_a_pool_of_nodes_that_are_some_blocks_apart(stack: ChaosStack, proxy: Proxy, make: Maker) -> None:
    """Whichever node is asked: all are booked, and nobody hears of a block that was orphaned."""
    rounds = make(
        webhook_urls=f"http://127.0.0.1:{free_port()}", webhook_secret=SecretStr("whsec_" + "A" * 44)
    )
    scenarios = [Scenario.of(stack) for _ in range(40 if LONG else 4)]
    proxy.pool.ages = [0, 1, 2]
    with capture_logs() as logs:
        ids = [rounds.place(scenario, f"{hour:02}:00") for hour in range(8, 13) for scenario in scenarios]
        for batch_id in ids:
            rounds.work(batch_id, State.MINED, State.FINAL, meanwhile=lambda: mine(stack))
        for _ in range(3 * FINALITY):
            mine(stack)
            rounds.round()
    assert [rounds.row(batch_id).booked for batch_id in ids] == [1] * len(ids)
    assert not [line for line in logs if "orphaned" in line["event"] or "reorganised" in line["event"]]
    with rounds.shim.store.read() as db:
        told = Counter(db.scalars(select(webhooks.c.event)))
    assert told == dict.fromkeys(("batch.submitted", "batch.mined", "batch.final"), len(ids))
    assert [scenario.balance() for scenario in scenarios] == [(1000 - 5 * 35) * EDU] * len(scenarios)


def test_a_node_that_is_behind_is_not_shorter(
    stack: ChaosStack, proxy: Proxy, rounds: Rounds, scenario: Scenario
) -> None:
    """A block that a node does not have yet is not orphaned; one that is no more the chain's is."""
    batch_id = rounds.place(scenario, "09:00")
    rounds.work(batch_id, State.MINED)
    proxy.pool.ages = [2]
    for _ in range(4):
        rounds.again()
        rounds.round()
        assert rounds.row(batch_id).state == State.MINED
    proxy.pool.ages = [0]
    with paused(stack):
        stack.rpc("anvil_reorg", 1, [])
        rounds.round()
        assert rounds.row(batch_id).state == State.SUBMITTED
    booked(rounds, batch_id, scenario)


# --- Reverts, and the ground that a batch stands on ---


def test_the_bytes_of_one_process_before_the_publication_of_another(
    stack: ChaosStack, make: Maker, scenario: Scenario
) -> None:
    """Reverted, and reorganised once more: nobody is told that nothing was booked, and it is booked once."""
    one, two = make("301,302"), make("301,302")
    mine(stack, FINALITY + 2)
    first, second = one.place(scenario, "09:00"), two.place(scenario, "10:00")
    one.shim.sender.leases.renew()
    two.shim.sender.leases.renew()
    one.work(first, State.MINED)
    two.work(second, State.MINED)
    signers = {one.row(first).signer, one.row(second).signer}
    assert len(signers) == 2
    with paused(stack):
        stack.rpc("anvil_reorg", 2, [[two.raw(second), 0]])
        two.work(second, State.REVERTING)
        stack.rpc("anvil_reorg", 2, [[one.raw(first), 0], [two.raw(second), 1]])
        two.work(second, State.MINED)
    assert booked(two, second, scenario, 2).transaction_hash == two.attempts(second)[0].hash
    with paused(stack):
        stack.rpc("anvil_reorg", 3, [[two.raw(second), 0]])
        two.work(second, State.REVERTING)
    mine(stack, FINALITY + 1)
    one.work(first, State.MINED, State.FINAL)
    row = booked(two, second, scenario, 2)
    assert row.transaction_hash != two.attempts(second)[0].hash


def test_a_confirmation_before_its_creation(stack: ChaosStack, make: Maker, scenario: Scenario) -> None:
    """A batch that reverts after a reorganisation is sent again when the revert is final."""
    one, two = make("303,304"), make("303,304")
    mine(stack, FINALITY + 2)
    batch_id = one.place(scenario, "09:00")
    one.work(batch_id, State.MINED)
    one.read()
    two.read()
    two.shim.sender.leases.renew()
    act = two.act(scenario.tutor.id, Action.CONFIRM, batch_id)
    two.work(act, State.MINED)
    with paused(stack):
        stack.rpc("anvil_reorg", 2, [[two.raw(act), 0]])
        two.work(act, State.REVERTING)
    one.work(batch_id, State.MINED)
    mine(stack, FINALITY + 1)
    row = two.work(act, State.MINED)
    assert row.transaction_hash != two.attempts(act)[0].hash
    assert status(one, batch_id) == "CONFIRMED"


def status(rounds: Rounds, batch_id: str) -> str:
    """The first lesson's, by the view."""
    rounds.read()
    return str(rounds.shim.lessons.states(batch_id)[0].status.name)


def test_an_act_whose_receipt_is_late(
    stack: ChaosStack, proxy: Proxy, rounds: Rounds, scenario: Scenario
) -> None:
    """With the nonce used in a final block, and no receipt there, the view knows that the act was done."""
    batch_id = rounds.place(scenario, "09:00")
    rounds.work(batch_id, State.MINED)
    act = rounds.act(scenario.tutor.id, Action.CONFIRM, batch_id)
    proxy.rewrite = lambda call, result: None if call["method"] == RECEIPT else result
    rounds.work(act, State.SUBMITTED)
    for _ in range(FINALITY + 3):
        mine(stack)
        rounds.again()
        rounds.round()
    assert rounds.row(act).state == State.SUBMITTED
    proxy.rewrite = None
    assert rounds.work(act, State.MINED, State.FINAL).code is None


def test_a_gas_limit_that_is_too_low_in_the_block(
    stack: ChaosStack, proxy: Proxy, rounds: Rounds, scenario: Scenario
) -> None:
    """The parent chain's part of gas rose: it is sent again with more."""
    proxy.pool.gas_part = 0.2
    batch_id = rounds.place(scenario, "09:00")
    rounds.work(batch_id, State.REVERTING)
    row = rounds.work(batch_id, State.MINED, meanwhile=lambda: mine(stack))
    assert row.booked == 1
    gas = [attempt.gas for attempt in rounds.attempts(batch_id)]
    assert gas == sorted(gas)
    assert gas[-1] >= 2 * gas[0]


def test_a_transaction_that_reverted_is_final_once(
    stack: ChaosStack, proxy: Proxy, rounds: Rounds, scenario: Scenario
) -> None:
    """Sent again, it waits for its block: the receipt of the one before tells nothing of it."""
    proxy.pool.gas_part = 0.2
    batch_id = rounds.place(scenario, "09:00")
    rounds.work(batch_id, State.REVERTING)
    proxy.pool.gas_part = 1.0
    mine(stack, FINALITY)
    with paused(stack):
        rounds.work(batch_id, State.SUBMITTED)
        for _ in range(5):
            rounds.again()
            rounds.round()
        assert rounds.row(batch_id).state == State.SUBMITTED
    assert booked(rounds, batch_id, scenario).nonce == 1
    assert [attempt.nonce for attempt in rounds.attempts(batch_id)] == [0, 1]


# --- Finality ---


def test_a_reorganisation_deeper_than_finality(stack: ChaosStack, rounds: Rounds, scenario: Scenario) -> None:
    """An alarm is logged; the same bytes are sent again, and the key goes on."""
    batch_id = rounds.place(scenario, "09:00")
    first = rounds.work(batch_id, State.MINED)
    mine(stack, FINALITY + 2)
    rounds.work(batch_id, State.FINAL)
    with paused(stack), capture_logs() as logs:
        stack.rpc("anvil_reorg", FINALITY + 3, [])
        rounds.work(batch_id, State.SUBMITTED)
    assert [line["log_level"] for line in logs if "beyond finality" in line["event"]][:1] == ["error"]
    row = booked(rounds, batch_id, scenario)
    assert row.transaction_hash == first.transaction_hash
    booked(rounds, rounds.place(scenario, "10:00"), scenario, 2)
    assert status(rounds, batch_id) == "PENDING"


@pytest.mark.parametrize("seen_by", ["its block", "its nonce"])
def test_what_a_slow_process_called_final_is_looked_at_again(
    stack: ChaosStack, rounds: Rounds, scenario: Scenario, monkeypatch: pytest.MonkeyPatch, seen_by: str
) -> None:
    """A later final block is the chain's, and an earlier one is not: what was in that is sent again."""
    first = rounds.place(scenario, "09:00")
    rounds.work(first, State.MINED)
    later = rounds.place(scenario, "10:00")
    rounds.work(later, State.MINED)
    mine(stack, FINALITY + 2)
    rounds.work(first, State.FINAL)
    rounds.work(later, State.FINAL)
    by_nonce = seen_by == "its nonce"
    if by_nonce:
        monkeypatch.setattr("api.outbox.finality._NEWEST_FINAL", 1)
    with paused(stack):
        stack.rpc("anvil_reorg", FINALITY + 4, [])
        head = stack.rpc("eth_getBlockByNumber", "latest", False)
        rounds.change(later, block_number=int(head["number"], 16), block_hash=head["hash"])
        behind = [later, rounds.place(scenario, "11:00")] if by_nonce else []
    with capture_logs() as logs:
        for each in (first, *behind):
            rounds.work(each, State.MINED, State.FINAL, meanwhile=lambda: mine(stack))
    told = "what was final is in no block" if by_nonce else "what was final is sent again"
    assert [line["log_level"] for line in logs if told in line["event"]][:1] == ["error"]
    assert status(rounds, first) == "PENDING"


def test_only_the_tags_own_answer_makes_final(
    stack: ChaosStack, proxy: Proxy, make: Maker, scenario: Scenario
) -> None:
    """An error is no answer, however many blocks are on top."""
    rounds = make(finality="finalized")
    batch_id = rounds.place(scenario, "09:00")
    rounds.work(batch_id, State.MINED)
    mine(stack, 100)
    node, real = rounds.shim.chain.node, rounds.shim.chain.node.call_many
    proxy.rewrite = lambda call, result: None if call["params"][:1] == ["finalized"] else result
    for _ in range(3):
        rounds.again()
        rounds.round()
        assert rounds.row(batch_id).state == State.MINED
    assert node.call_many == real
    proxy.rewrite = None
    rounds.again()
    rounds.work(batch_id, State.FINAL)


# --- Fees, words, limits ---


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_floor_of_the_tip(proxy: Proxy, rounds: Rounds, scenario: Scenario, client: str) -> None:
    """In the words of each client: the transaction offers more until it is taken."""
    proxy.pool.tip_floor, proxy.pool.words = 25 * GWEI, CLIENTS[client]
    batch_id = rounds.place(scenario, "09:00")
    booked(rounds, batch_id, scenario)
    newest = rounds.attempts(batch_id)[-1]
    assert 25 * GWEI <= newest.priority_fee < 60 * GWEI


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_refusal_in_the_words_of_each_client(
    stack: ChaosStack, proxy: Proxy, rounds: Rounds, scenario: Scenario, client: str
) -> None:
    """The reason is known, and a transaction that the node has already counts as sent."""
    rounds.work(rounds.place(scenario, "08:00"), State.MINED)
    batch_id = rounds.place(scenario, "09:00")
    give_away(stack, rounds.shim.chain.token, scenario)
    proxy.pool.words = CLIENTS[client]
    row = rounds.work(batch_id, State.REJECTED, meanwhile=lambda: mine(stack))
    assert (row.code, row.nonce) == ("insufficient_balance", None)


def give_away(stack: ChaosStack, token: str, scenario: Scenario) -> None:
    """The student's money goes elsewhere."""
    stack.rpc("anvil_setBalance", scenario.student.wallet, hex(EDU))
    stack.rpc("anvil_impersonateAccount", scenario.student.wallet)
    stack.send(
        scenario.student.wallet,
        token,
        abi.call_data("EduToken", "transfer", stack.owner.address, scenario.balance()),
    )


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("client", CLIENTS)
def test_what_a_node_has_already_counts_as_sent(
    stack: ChaosStack, proxy: Proxy, rounds: Rounds, scenario: Scenario, client: str
) -> None:
    proxy.pool.words = CLIENTS[client]
    batch_id = rounds.place(scenario, "09:00")
    with paused(stack):
        rounds.work(batch_id, State.SUBMITTED)
        rounds.change(batch_id, state=State.SIGNED)
        rounds.again()
        rounds.round()
        assert rounds.row(batch_id).state == State.SUBMITTED
    booked(rounds, batch_id, scenario)


def test_an_estimate_that_fails_is_not_asked_for_again_and_again(
    proxy: Proxy, rounds: Rounds, scenario: Scenario
) -> None:
    """Such a preflight decides nothing, and the pauses between its repeats get longer."""
    proxy.pool.wrong[ESTIMATE] = {"error": {"code": -32000, "message": "gas required exceeds allowance (0)"}}
    batch_id = rounds.place(scenario, "09:00")
    before = proxy.answered[ESTIMATE]
    for _ in range(100):
        rounds.round()
    assert rounds.row(batch_id).state == State.ACCEPTED
    assert proxy.answered[ESTIMATE] - before < 15
    proxy.pool.wrong.clear()
    booked(rounds, batch_id, scenario)


def test_no_kind_starves_another(proxy: Proxy, rounds: Rounds, scenario: Scenario) -> None:
    """A hundred and two acts whose estimate fails, and a batch after them."""
    for number in range(102):
        act = Submission(
            id=f"act {number}",
            kind=TransactionKind.ACT,
            call=b"\1",
            locks={},
            chain_id=rounds.shim.settings.chain_id,
        )
        with rounds.shim.store.write() as db:
            repository.add(db, act)
    batch_id = rounds.place(scenario, "09:00")
    proxy.rewrite = None
    rounds.round()
    assert rounds.row(batch_id).state != State.ACCEPTED


@pytest.mark.parametrize("most", [10, 1, 0])
def test_batches_that_are_too_large_for_the_provider(
    stack: ChaosStack, proxy: Proxy, make: Maker, most: int
) -> None:
    """Fewer calls at once, down to single ones; also at the start. Words are logged, and no URL."""
    proxy.pool.most_calls = most
    with capture_logs() as logs:
        rounds = make()
        scenarios = [Scenario.of(stack) for _ in range(6)]
        ids = [rounds.place(scenario, "09:00") for scenario in scenarios]
        for batch_id, scenario in zip(ids, scenarios, strict=True):
            booked(rounds, batch_id, scenario)
    told = {line["reason"] for line in logs if line["event"] == "the node refuses so many calls at once"}
    assert told == {f"batch too large: at most {most}, see …"}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_provider_that_takes_less_and_more_again(proxy: Proxy, rounds: Rounds) -> None:
    """Every while all calls are tried at once; if that is too much, as many as before, and in their order."""
    node = rounds.shim.chain.node
    numbers: list[Any] = [("eth_getBlockByNumber", [hex(i % 3), False]) for i in range(100)]
    blocks = [hex(i % 3) for i in range(100)]

    def sizes() -> list[int]:
        before = len(proxy.sizes)
        assert [block["number"] for block in node.call_many(numbers)] == blocks
        return proxy.sizes[before:]

    assert sizes() == [100]
    proxy.pool.most_calls = 30
    assert sorted(sizes(), reverse=True) == [100, 50, 50, 25, 25, 25, 25]
    assert sizes() == [25] * 4
    node._tried -= 60
    assert sorted(sizes(), reverse=True) == [100, 25, 25, 25, 25]
    proxy.pool.most_calls = 0
    assert sizes()[-4:] == [1] * 4
    proxy.pool.most_calls = None
    assert sizes() == [1] * 100
    node._tried -= 60
    assert sizes() == [100]


def test_a_pause_that_the_provider_wants_is_kept(proxy: Proxy, rounds: Rounds, scenario: Scenario) -> None:
    batch_id = rounds.place(scenario, "09:00")
    proxy.pool.pauses = [1]
    with pytest.raises(NodeUnavailable, match="status 429"):
        rounds.shim.chain.node.head()
    asked = proxy.requests
    for _ in range(5):
        with pytest.raises(NodeUnavailable, match="wants a pause"):
            rounds.shim.sender.tick()
    assert proxy.requests == asked
    booked(rounds, batch_id, scenario)


def test_a_receipt_without_a_price(proxy: Proxy, rounds: Rounds, scenario: Scenario) -> None:
    proxy.pool.left_out = {"effectiveGasPrice"}
    row = booked(rounds, rounds.place(scenario, "09:00"), scenario)
    assert (row.fee, row.gas_used > 0) == (None, True)


def test_a_block_without_a_base_fee(proxy: Proxy, rounds: Rounds, scenario: Scenario) -> None:
    """No decision rests on it."""
    batch_id = rounds.place(scenario, "09:00")
    proxy.pool.left_out = {"baseFeePerGas"}
    with pytest.raises(NodeUnavailable, match="a block without 'baseFeePerGas'"):
        rounds.shim.sender.tick()
    proxy.pool.left_out = ()
    booked(rounds, batch_id, scenario)


def test_a_node_without_old_states(
    stack: ChaosStack, proxy: Proxy, rounds: Rounds, scenario: Scenario
) -> None:
    """Old states are needed for nothing."""
    proxy.pool.archive = 2
    batch_id = rounds.place(scenario, "09:00")
    booked(rounds, batch_id, scenario)
    mine(stack, FINALITY + 1)
    rounds.work(batch_id, State.FINAL)


def test_a_call_that_the_node_fails_is_no_reason_to_refuse(
    proxy: Proxy, rounds: Rounds, scenario: Scenario
) -> None:
    """An error of the node says nothing of the token, so the request can be repeated."""
    permits = to_hex(abi.nonces_data(scenario.student.wallet))
    proxy.pool.wrong[permits] = {"error": {"code": -32005, "message": "limit exceeded"}}
    with pytest.raises(NodeUnavailable, match="limit exceeded"):
        rounds.place(scenario, "09:00")
    proxy.pool.wrong.clear()
    booked(rounds, rounds.place(scenario, "09:00"), scenario)


def test_a_base_fee_above_the_cap_while_the_ground_is_reorganised(
    stack: ChaosStack, make: Maker, scenario: Scenario
) -> None:
    """Batches wait until blocks are cheap again: none is given up, and no fee is beyond the cap."""
    cap = 20 * GWEI
    rounds = make(max_fee_wei=cap)
    first = rounds.place(scenario, "09:00")
    rounds.work(first, State.MINED)
    with paused(stack):
        stack.rpc("anvil_reorg", 1, [])
        stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(5 * cap))
        mine(stack)
        second = rounds.place(scenario, "10:00")
        for _ in range(5):
            rounds.again()
            rounds.round()
        assert [rounds.row(each).state for each in (first, second)] == [State.SUBMITTED, State.ACCEPTED]
        stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        mine(stack)
    for each in (first, second):
        assert rounds.work(each, State.MINED, State.FINAL, meanwhile=lambda: mine(stack)).booked == 1
        assert max(attempt.max_fee for attempt in rounds.attempts(each)) <= cap
    assert scenario.balance() == (1000 - 2 * 35) * EDU


# --- Nonces ---


def test_a_count_that_is_too_high_once(
    stack: ChaosStack, proxy: Proxy, make: Maker, scenario: Scenario
) -> None:
    """The nonces before are used within two bump periods, and nothing behind them is bumped meanwhile."""
    rounds = make(bump_seconds=2)
    batch_id = rounds.place(scenario, "09:00")
    proxy.rewrite = partial(add_to_count, 2)
    rounds.round()
    proxy.rewrite = None
    assert rounds.row(batch_id).nonce == 2
    booked_row = rounds.work(batch_id, State.MINED, meanwhile=lambda: mine(stack))
    assert booked_row.booked == 1
    assert len(rounds.attempts(batch_id)) == 1


def test_a_nonce_that_was_called_used(
    stack: ChaosStack, proxy: Proxy, rounds: Rounds, scenario: Scenario
) -> None:
    """A node forgets the transaction, and errs about the count: signed anew, it may be the same again."""
    batch_id = rounds.place(scenario, "09:00")
    with paused(stack):
        proxy.misbehave(1, [Fault.FORGET])
        for _ in range(4):
            rounds.work(batch_id, State.SUBMITTED)
            proxy.rewrite = partial(add_to_count, 1)
            rounds.work(batch_id, State.ACCEPTED)
            proxy.rewrite = None
        proxy.heal()
    assert booked(rounds, batch_id, scenario).nonce == 0
    first, *_, last = signed = [attempt.gas for attempt in rounds.attempts(batch_id)]
    # Signed five times: the fourth was the third again, and the fifth has another block's base fee.
    assert (len(signed), last) == (4, 4 * first)


def test_a_block_has_the_transaction_with_the_earlier_nonce(
    stack: ChaosStack, proxy: Proxy, rounds: Rounds, scenario: Scenario
) -> None:
    """The earlier one counts, and the later nonce is for whatever comes next."""
    batch_id = rounds.place(scenario, "09:00")
    with paused(stack):
        proxy.misbehave(1, [Fault.FORGET])
        rounds.work(batch_id, State.SUBMITTED)
        earlier = rounds.raw(batch_id)
        proxy.rewrite = partial(add_to_count, 1)
        rounds.work(batch_id, State.ACCEPTED)
        rounds.work(batch_id, State.SUBMITTED)
        proxy.rewrite = None
        assert rounds.row(batch_id).nonce == 1
        stack.rpc("eth_sendRawTransaction", earlier)
    assert booked(rounds, batch_id, scenario).nonce == 0
    proxy.heal()
    mine(stack, FINALITY)
    rounds.work(batch_id, State.FINAL)
    following = rounds.place(scenario, "10:00")
    assert booked(rounds, following, scenario, 2).nonce == 1
    assert rounds.row(batch_id).state == State.FINAL


def test_a_filler_that_was_given_back(
    stack: ChaosStack, proxy: Proxy, make: Maker, scenario: Scenario
) -> None:
    """A node errs about the count, forgets the filler, and says that another used its nonce: filled again."""
    rounds = make(bump_seconds=0.1)
    batch_id = rounds.place(scenario, "09:00")
    proxy.misbehave(1, [Fault.FORGET])
    proxy.rewrite = partial(add_to_count, 1)
    rounds.round()
    proxy.rewrite = None
    until(lambda: rounds.round() or rounds.fillers(), "nobody fills the nonce")
    [noop] = rounds.fillers()
    proxy.rewrite = partial(add_to_count, 1)
    rounds.work(noop, State.EXPIRED)
    proxy.rewrite = None
    # No block since: at the same price, only another gas limit makes it another transaction.
    until(lambda: rounds.round() or len(rounds.fillers()) == 2, "nobody fills the nonce again")
    assert sorted(len(rounds.attempts(each)) for each in rounds.fillers()) == [1, 1]
    proxy.heal()
    assert rounds.work(batch_id, State.MINED, meanwhile=lambda: mine(stack)).booked == 1


def test_a_transfer_that_needs_more_gas(
    stack: ChaosStack, proxy: Proxy, make: Maker, scenario: Scenario
) -> None:
    """On some chains a transfer of nothing takes more than 50,000: it is estimated."""
    rounds = make(bump_seconds=0.1)
    batch_id = rounds.place(scenario, "09:00")
    proxy.pool.transfer_gas = 60_000
    proxy.rewrite = partial(add_to_count, 1)
    rounds.round()
    proxy.rewrite = None
    rounds.work(batch_id, State.MINED, meanwhile=lambda: mine(stack))
    [filler] = rounds.fillers()
    [noop] = rounds.attempts(filler)
    assert (noop.gas, noop.is_noop) == (75_000, True)


# --- Another database, another chain ---


@pytest.mark.parametrize("what", ["left out", "cancelled", "in flight"])
def test_an_older_copy_of_the_database(
    stack: ChaosStack, make: Maker, scenario: Scenario, tmp_path: Path, what: str
) -> None:
    """The copy does not know the key: the retry finds its batch, and the student pays once."""
    key = str(next(_COPIES))
    lost = make(key)
    rival = Scenario(stack, stack.create_user("student", balance=1000), scenario.tutor, scenario.annonce)
    lost.work(lost.place(rival, "10:00"), State.MINED)
    batch_id = lost.place(scenario, "09:00", "11:00", key="same")
    copy = {"database_url": f"sqlite:///{tmp_path / 'copy.db'}"}
    if what == "in flight":
        with paused(stack):
            lost.work(batch_id, State.SUBMITTED)
            restored = make(key, **copy)
            with pytest.raises(NodeUnavailable, match="not all is read"):
                restored.place(scenario, "09:00", "11:00", key="same")
    else:
        lost.work(batch_id, State.MINED)
        if what == "cancelled":
            lost.work(lost.act(scenario.student.id, Action.CANCEL, batch_id), State.MINED)
        restored = make(key, **copy)
    before = scenario.balance()
    assert restored.place(scenario, "09:00", "11:00", key="same") == batch_id
    row = restored.work(batch_id, State.MINED, State.FINAL)
    assert (row.booked, row.nonce, scenario.balance()) == (3, None, before)


@pytest.mark.parametrize("is_read", [True, False])
def test_an_older_copy_whose_view_is_behind(
    make: Maker, scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_read: bool
) -> None:
    """A lesson is called taken once the block is read: it may be the key's own batch that took it."""
    key = str(next(_COPIES))
    lost = make(key)
    restored = make(key, database_url=f"sqlite:///{tmp_path / 'copy.db'}")
    assert restored.shim.view.is_complete()
    batch_id = lost.place(scenario, "09:00", key="same")
    lost.work(batch_id, State.MINED)
    request = CreateBatchBookingData.model_validate(scenario.body(slot("09:00")))
    again = partial(restored.shim.bookings.create, scenario.student.id, request, "same", "test")
    if not is_read:
        monkeypatch.setattr("api.booking.view._PATIENCE_SECONDS", 0.05)
        with pytest.raises(NodeUnavailable, match=r"the block [0-9]+ is not read yet"):
            again()
        return
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(again)
        until(lambda: restored.shim.indexer._woken or answer.done())
        restored.read()
        assert answer.result().batch_id == batch_id
    assert booked(restored, batch_id, scenario).nonce is None


@pytest.mark.parametrize("taken_back", ["all blocks", "the last ones"])
def test_an_older_copy_whose_view_is_read_anew(
    make: Maker, scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken_back: str
) -> None:
    """The batch is neither in the view nor in the calendar: nothing is booked for its key meanwhile."""
    key = str(next(_COPIES))
    lost = make(key)
    batch_id = lost.place(scenario, "09:00", key="same")
    lost.work(batch_id, State.MINED)
    lost.work(lost.act(scenario.student.id, Action.CANCEL, batch_id), State.MINED)
    restored = make(key, database_url=f"sqlite:///{tmp_path / 'copy.db'}")
    restored.read()
    assert restored.shim.view.is_complete()
    projection, before = restored.shim.projection, scenario.balance()
    if taken_back == "all blocks":
        projection.clear()
    else:
        with restored.shim.store.read() as db:
            [created] = db.scalars(select(orders.c.block_number).where(orders.c.id == batch_id))
        [to] = [block for block in projection.kept() if block.number == created - 1]
        projection.roll_back(projection.position(), to)
    monkeypatch.setattr("api.booking.view._PATIENCE_SECONDS", 0.05)
    request = CreateBatchBookingData.model_validate(scenario.body(slot("09:00")))
    with pytest.raises(NodeUnavailable, match="not all is read of the chain yet"):
        restored.shim.bookings.create(scenario.student.id, request, "same", "test")
    assert not restored.shim.view.is_complete()
    restored.read()
    assert restored.place(scenario, "09:00", key="same") == batch_id
    row = restored.work(batch_id, State.MINED)
    assert (row.nonce, scenario.balance()) == (None, before)


@pytest.mark.parametrize("copy_has", ["nothing", "the prepared batch"])
def test_an_older_copy_knows_a_wallets_batch_by_the_chain(
    stack: ChaosStack, make: Maker, scenario: Scenario, tmp_path: Path, copy_has: str
) -> None:
    """To ask for it again finds it; if its block is orphaned then, its own signed call is sent again."""
    key, owner = str(next(_COPIES)), Account.create()
    student = stack.create_user("student", wallet=owner.address, balance=1000)
    wallet = Scenario(stack, student, scenario.tutor, scenario.annonce)
    lost = make(key)

    def prepare(rounds: Rounds) -> Any:
        request = CreateBatchBookingData.model_validate(wallet.body(slot("09:00"), slot("11:00")))
        return rounds.shim.prepared.prepare(student.id, request, "same", "test")

    def sign(typed_data: Any) -> str:
        return to_hex(Account.sign_typed_data(owner.key, full_message=typed_data).signature)

    lost.read()
    made = prepare(lost)
    given = {"signature": sign(made.order), "permitSignature": sign(made.permit)}
    signed = SubmitData.model_validate(given)
    batch_id = lost.shim.prepared.submit(student.id, made.prepared.batch.id, signed, "test").batch_id
    lost.work(batch_id, State.MINED)
    restored = make(key, database_url=f"sqlite:///{tmp_path / 'copy.db'}")
    if copy_has == "nothing":
        with pytest.raises(Problem) as refused:
            prepare(restored)
        assert (refused.value.code, refused.value.details) == (Code.ALREADY_SUBMITTED, {"batchId": batch_id})
    else:
        with restored.shim.store.write() as db:
            prepared.add(db, made.prepared)
        assert prepare(restored) == made
        again = restored.shim.prepared.submit(student.id, batch_id, signed, "test")
        assert again == (batch_id, False)  # Only the chain knew it.
    row = restored.work(batch_id, State.MINED)
    assert (row.booked, row.nonce, wallet.balance()) == (3, None, (1000 - 2 * 35) * EDU)
    with paused(stack):
        stack.rpc("anvil_reorg", 1, [])
        restored.work(batch_id, State.ACCEPTED)
    row = restored.work(batch_id, State.MINED)
    assert (row.booked, wallet.balance()) == (3, (1000 - 2 * 35) * EDU)
    assert row.transaction_hash == restored.attempts(batch_id)[-1].hash


@pytest.mark.parametrize("done", [Action.CONFIRM, Action.CANCEL])
def test_an_older_copy_is_asked_for_an_act_that_is_done(
    stack: ChaosStack, make: Maker, scenario: Scenario, tmp_path: Path, done: Action
) -> None:
    """Once the view has the transaction that did it, the act ends as done; another act refuses it."""
    key = str(next(_COPIES))
    lost = make(key)
    batch_id = lost.place(scenario, "09:00", "11:00")
    lost.work(batch_id, State.MINED)
    restored = make(key, database_url=f"sqlite:///{tmp_path / 'copy.db'}")
    act = restored.act(scenario.tutor.id, Action.CONFIRM, batch_id)
    by = lost.work(lost.act(scenario.tutor.id, done, batch_id), State.MINED).transaction_hash
    if done == Action.CANCEL:
        row = restored.work(act, State.REJECTED)
        assert (row.code, row.transaction_hash) == (Code.WRONG_STATUS, None)
        return
    for _ in range(3):
        restored.shim.sender.tick()
        mine(stack)
    assert restored.row(act).state == State.ACCEPTED
    row = restored.work(act, State.MINED)
    assert (row.code, row.nonce, row.transaction_hash) == (None, None, by)
    with paused(stack):
        stack.rpc("anvil_reorg", 4, [])
        restored.work(act, State.ACCEPTED)
    row = restored.work(act, State.MINED)
    assert row.transaction_hash == restored.attempts(act)[-1].hash
    assert status(restored, batch_id) == "CONFIRMED"


_COPIES = itertools.count(400)  # Keys that no other test has.


def test_another_chain_under_the_same_database(
    stack: ChaosStack, proxy: Proxy, make: Maker, scenario: Scenario
) -> None:
    """With a contract at the same address: a process that runs sends nothing; one that starts refuses to."""
    rounds = make()
    batch_id = rounds.place(scenario, "09:00")
    deployed = hex(stack.settings.deployment_block)

    def other(call: dict[str, Any], result: Any) -> Any:
        return result | {"hash": "0x" + "11" * 32} if call["params"][:1] == [deployed] else result

    proxy.rewrite = other
    mine(stack, 3)
    for _ in range(3):
        with pytest.raises(NodeUnavailable, match="another chain with the same id"):
            rounds.shim.sender.tick()
    assert rounds.row(batch_id).state == State.ACCEPTED
    with pytest.raises(WrongChain, match="the database is of another chain 31337"):
        make()
    proxy.rewrite = None
    make(deployment_block=0)  # The same chain, whatever the setting says of its first block.
    booked(rounds, batch_id, scenario)


def test_a_database_that_is_gone(make: Maker, tmp_path: Path) -> None:
    """Readiness writes, and looks that the file is there."""
    file = tmp_path / "gone.db"
    rounds = make(database_url=f"sqlite:///{file}")
    assert readiness(rounds.shim)["database"]["ok"]
    file.rename(tmp_path / "elsewhere.db")
    check = readiness(rounds.shim)["database"]
    assert (check["ok"], check["message"]) == (False, "The database can't be written (FileNotFoundError).")
