"""Several processes on one PostgreSQL: racing, dying, and with clocks that disagree."""

import os
import random
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from killable import BROADCAST, CLAIM, COMMIT, SIGN
from ledger import Ledger, Request, seed
from postgres import PostgreSQL
from scenario import watching
from stacks import LONG, RUNS, ChaosStack, StackMaker
from waiting import http, until


@pytest.fixture
def stack(make_stack: StackMaker, postgres: PostgreSQL) -> ChaosStack:
    """Three relayer keys, and a process that has one of them."""
    stack = make_stack(database_url=postgres.database(), relayer_mnemonic_index="1,2,3", lease_seconds=1)
    for index in (2, 3):
        stack.rpc("anvil_setBalance", stack.account(index).address, hex(10**22))
    return stack


def ask_all(requests: Sequence[Request], urls: Sequence[str]) -> None:
    """Each once, whether or not anybody answers."""
    with ThreadPoolExecutor(16) as pool:
        pairs = [(request, urls[place % len(urls)]) for place, request in enumerate(requests)]
        list(pool.map(lambda pair: pair[0].ask(pair[1]), pairs))


def test_fifty_racing_retries_of_forty_keys(stack: ChaosStack) -> None:
    """At three processes at once: forty batches, and no other transaction that moves money. Ten in short."""
    retries = 50 if LONG else 10
    chosen = random.Random(seed())
    urls = [stack.url, stack.start_another()[1], stack.start_another()[1]]
    ledger = Ledger(stack)
    requests = [ledger.request(scenario, 2) for scenario in ledger.scenarios(8) for _ in range(5)]
    asked = [(request, url) for request in requests for url in (urls * 17)[:retries]]
    chosen.shuffle(asked)
    with watching(stack) as seen:
        with ThreadPoolExecutor(48) as pool:
            list(pool.map(lambda pair: pair[0].ask(pair[1]), asked))
        ledger.settle(urls=urls)
    answers = [answer for request in requests for answer in request.answers]
    assert len(answers) >= retries * 40
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert all(len({a.json()["data"]["batchId"] for a in request.answers}) == 1 for request in requests)
    assert len(seen.transactions) == len(seen.transfers) == 40
    ledger.prove(relayers=stack.relayers)


def held(url: str) -> list[str]:
    """The keys of the process that serves there."""
    return list(http.get(f"{url}/readyz").json()["checks"]["relayer"]["held"])


def test_keys_are_shared_out(stack: ChaosStack) -> None:
    """Each process sends with a key of its own; a fourth one has none, and serves all the same."""
    stack.stop_shim()
    patient = {"lease_seconds": 600}  # Who is stopped below keeps its key.
    processes = {stack.url: stack.start_shim(**patient)}
    while len(processes) < 4:
        process, url = stack.start_another(**patient)
        processes[url] = process
    until(lambda: sum(bool(held(url)) for url in processes) == 3)
    keys = {url: held(url) for url in processes if held(url)}
    assert sorted(key for [key] in keys.values()) == sorted(stack.relayers[:3])
    ledger = Ledger(stack)
    [scenario] = ledger.scenarios(1)
    ledger.request(scenario).settle()  # Publishes.
    for url, [key] in keys.items():
        for other in processes.keys() - {url}:
            os.killpg(processes[other].pid, signal.SIGSTOP)
        data = ledger.request(scenario).settle(url)
        for other in processes.keys() - {url}:
            os.killpg(processes[other].pid, signal.SIGCONT)
        assert stack.rpc("eth_getTransactionByHash", data["transactionHash"])["from"] == key.lower()
    [keyless] = processes.keys() - keys.keys()
    ledger.request(scenario).settle(keyless)
    ledger.prove(relayers=stack.relayers)


@pytest.mark.parametrize("point", [SIGN, COMMIT, BROADCAST])
def test_a_dead_process_is_replaced(stack: ChaosStack, point: str) -> None:
    """Signed transactions are taken over with the key; nobody starts the process again."""
    ledger = Ledger(stack)
    requests = [ledger.request(scenario) for scenario in ledger.scenarios(3) for _ in range(2)]
    stack.arm(point)
    assert requests[0].ask() is None
    assert stack.was_killed()
    _, url = stack.start_another()
    ask_all(requests, [url])
    ledger.settle(urls=[url])
    stack.stop_shim()
    stack.start_shim()
    ledger.prove(relayers=stack.relayers)


def test_a_frozen_process_is_replaced(stack: ChaosStack) -> None:
    """In the middle of signing, with the locks in its hands. When it thaws, its key is another one's."""
    ledger = Ledger(stack)
    first, *more = (ledger.request(scenario) for scenario in ledger.scenarios(3))
    frozen = stack.shim
    stack.arm(CLAIM, sent="SIGSTOP")
    _, url = stack.start_another(relayer_mnemonic_index="1")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(first.ask)
        for request in (first, *more):
            request.settle(url)
        os.killpg(frozen.pid, signal.SIGCONT)
        asked.result()
    ledger.settle()
    ledger.prove(relayers=stack.relayers)


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_clocks_that_disagree(stack: ChaosStack, ahead: int) -> None:
    """A process whose clock is an hour wrong takes no lease, and no batch for expired."""
    _, wrong = stack.start_another()
    stack.set_clock(ahead, wrong)
    ledger = Ledger(stack)
    requests = [ledger.request(scenario, 2) for scenario in ledger.scenarios(4) for _ in range(4)]
    ask_all(requests, [stack.url, wrong])
    ledger.settle(urls=[stack.url, wrong])
    ledger.prove(relayers=stack.relayers)


def test_processes_come_and_go(stack: ChaosStack) -> None:
    """Killed and started in any order while they are asked; the keys go from one to the next."""
    chosen = random.Random(seed())
    ledger = Ledger(stack)
    scenarios = ledger.scenarios(4)
    others = [stack.start_another()]
    for _ in range(RUNS):
        fresh = [ledger.request(chosen.choice(scenarios)) for _ in range(8)]
        with ThreadPoolExecutor(1) as background:
            asked = background.submit(ask_all, fresh, [stack.url, *(url for _, url in others)])
            time.sleep(chosen.random() / 2)
            process, _ = others.pop(chosen.randrange(len(others)))
            stack.stop_process(process, kill=chosen.random() < 0.7)
            others.append(stack.start_another())
            asked.result()
        ledger.settle(fresh, urls=[stack.url, *(url for _, url in others)])
    ledger.prove(relayers=stack.relayers)
