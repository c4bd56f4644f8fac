"""Surroundings that give way: a locked database, a full disk, clocks that jump."""

import json
import resource
import sqlite3
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing

import httpx
import psycopg
import pytest
from ledger import Ledger, Refused
from postgres import PostgreSQL
from scenario import paused, watching
from stacks import LONG, SETTINGS, ChaosStack, StackMaker
from waiting import http, until

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def is_booked(asked: Future[httpx.Response | None]) -> bool:
    """Return True if the client was told that the batch is booked."""
    answer = asked.result()
    return answer is not None and answer.status_code == 200


def waiting(stack: ChaosStack) -> int:
    """The number of transactions that wait for a block."""
    return int(stack.rpc("txpool_status")["pending"], 16)


def test_a_locked_sqlite(make_stack: StackMaker) -> None:
    """No answer says that it is booked, and it goes on afterwards. In long for longer than anybody waits."""
    stack = make_stack()
    ledger = Ledger(stack)
    requests = [ledger.request(scenario) for scenario in ledger.scenarios(3)]
    with closing(sqlite3.connect(stack.data_dir / "creneau.db", isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(request.ask) for request in requests]
            # Its time-out is 10 seconds.
            assert not any(map(is_booked, wait(asked, timeout=11 if LONG else 1).done))
            lock.execute("ROLLBACK")
            for future in asked:
                future.result()
    ledger.settle()
    ledger.prove(relayers=stack.relayers)


def test_a_locked_postgresql(make_stack: StackMaker, postgres: PostgreSQL) -> None:
    url = postgres.database()
    stack = make_stack(database_url=url)
    ledger = Ledger(stack)
    requests = [ledger.request(scenario) for scenario in ledger.scenarios(3)]
    with psycopg.connect(url.replace("+psycopg", "")) as lock, ThreadPoolExecutor(3) as pool:
        lock.execute("LOCK TABLE batches IN ACCESS EXCLUSIVE MODE")
        asked = [pool.submit(request.ask) for request in requests]
        assert not any(map(is_booked, wait(asked, timeout=11 if LONG else 1).done))
        lock.rollback()
        for future in asked:
            future.result()
    ledger.settle()
    ledger.prove(relayers=stack.relayers)


def test_a_full_disk(make_stack: StackMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of the shim's can grow: requests are refused, and nothing is sent that is not stored."""
    monkeypatch.setenv("CHAOS_DETACH_LOG", "1")
    stack = make_stack()
    ledger = Ledger(stack)
    requests = [ledger.request(scenario) for scenario in ledger.scenarios(3) for _ in range(2)]
    with paused(stack):
        for request in requests[:2]:
            request.ask(prefer="respond-async")
        until(lambda: waiting(stack) == 1)  # The other one waits for its publication.
        resource.prlimit(stack.shim.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        answers = [request.ask() for request in requests[2:]]
        assert waiting(stack) == 1
        until(lambda: http.get(f"{stack.url}/readyz").status_code == 503)  # It may be a second old.
        assert http.get(f"{stack.url}/readyz").json()["checks"]["database"]["ok"] is False
    told = {(answer.status_code, answer.json()["code"]) for answer in answers if answer is not None}
    assert told == {(503, "database_unavailable")}
    time.sleep(1)  # Blocks come, and what they say can't be stored.
    assert stack.shim.poll() is None
    resource.prlimit(stack.shim.pid, resource.RLIMIT_FSIZE, UNLIMITED)
    ledger.settle()
    until(lambda: http.get(f"{stack.url}/readyz").status_code == 200)
    ledger.prove(relayers=stack.relayers)


@pytest.mark.parametrize("jump", [3600, -3600])
def test_the_shims_clock_jumps(make_stack: StackMaker, jump: int) -> None:
    """While batches are under way: they neither expire nor are they forgotten."""
    stack = make_stack()
    ledger = Ledger(stack)
    *requests, later = (ledger.request(scenario) for scenario in ledger.scenarios(4))
    with paused(stack):
        for request in requests:
            request.ask(prefer="respond-async")
        until(lambda: waiting(stack) == len(requests))
        stack.set_clock(jump)
        later.ask(prefer="respond-async")
        until(lambda: waiting(stack) == len(requests) + 1)  # All were looked at by the new clock.
    more = [ledger.request(request.scenario) for request in requests]
    ledger.settle(more)
    stack.set_clock(0)
    ledger.settle()
    ledger.prove(relayers=stack.relayers)


def test_the_chains_clock_jumps(make_stack: StackMaker) -> None:
    """Past the deadline of what is signed: it fails, costs the student nothing, and is answered so."""
    stack = make_stack()
    ledger = Ledger(stack)
    early, late = (ledger.request(scenario) for scenario in ledger.scenarios(2))
    with paused(stack):
        early.ask(prefer="respond-async")
        until(lambda: waiting(stack) == 1)
        stack.rpc("evm_increaseTime", 3600)
    answer = early.ask(prefer="respond-async")
    assert answer is not None
    assert answer.status_code == 202  # Until the block in which it failed is final.
    stack.rpc("anvil_mine", hex(int(str(SETTINGS["confirmations"])) + 2))
    with pytest.raises(Refused) as refused:
        early.settle()
    assert json.loads(str(refused.value))["code"] == "expired"
    ledger.requests.remove(early)
    late.settle()
    ledger.prove(relayers=stack.relayers)
    assert early.scenario.balance() == 100_000 * 10**18


def test_many_in_each_block(make_stack: StackMaker) -> None:
    """None waits for another's receipt: those that publish are in one block, and all others in the next."""
    each = 5 if LONG else 3
    stack = make_stack(wait_seconds=60)
    ledger = Ledger(stack)
    requests = [ledger.request(scenario) for scenario in ledger.scenarios(20) for _ in range(each)]
    with watching(stack) as seen:
        with paused(stack):
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(lambda request: request.ask(prefer="respond-async"), requests))
            until(lambda: waiting(stack) == 20)
            stack.rpc("evm_mine")
            until(lambda: waiting(stack) == 20 * (each - 1))
        ledger.settle()
    blocks = Counter(int(sent["blockNumber"], 16) for sent in seen.transactions)
    assert [blocks[number] for number in sorted(blocks)] == [20, 20 * (each - 1)]
    ledger.prove(relayers=stack.relayers)
