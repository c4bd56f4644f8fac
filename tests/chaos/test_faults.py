"""A node that goes wrong in every way that nodes do, and a chain that does what chains do meanwhile."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from ledger import Ledger, Request, seed
from proxy import TRANSIENT, Fault, Proxy
from scenario import Scenario, paused
from stacks import LONG, RUNS, SETTINGS, ChaosStack, StackMaker
from waiting import until

from tools.dev_stack import free_port

GWEI = 10**9
QUICK: dict[str, object] = {"bump_seconds": 0.5, "max_fee_wei": 500 * GWEI}


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """In front of the node that the test's stack starts at its port."""
    with Proxy(f"http://127.0.0.1:{free_port()}", seed()) as proxy:
        yield proxy


@pytest.fixture
def stack(make_stack: StackMaker, proxy: Proxy, database_url: str) -> ChaosStack:
    """A stack whose shim knows only the proxy; the test asks the node itself."""
    port = int(proxy.node_url.rpartition(":")[2])
    return make_stack(node_port=port, rpc_url=proxy.url, database_url=database_url, **QUICK)


def ask(requests: list[Request]) -> None:
    with ThreadPoolExecutor(len(requests)) as pool:
        list(pool.map(lambda request: request.ask(prefer="respond-async"), requests))


def test_a_node_without_the_contract_is_no_answer(stack: ChaosStack, proxy: Proxy) -> None:
    """One that is far behind, or that lost the block of the deployment: its calls return nothing."""
    ledger = Ledger(stack)
    [scenario] = ledger.scenarios(1)
    request = ledger.request(scenario)
    proxy.rewrite = lambda call, result: "0x" if call["method"] == "eth_call" else result
    answer = request.ask()
    assert answer is not None
    assert (answer.status_code, answer.json()["code"]) == (503, "node_unavailable")
    proxy.heal()
    request.settle()


SENDS, LOOKS = "eth_sendRawTransaction", "eth_getTransactionReceipt"
LOOKS_FIRST = "eth_estimateGas"
BOTH = ["sqlite", "postgresql"]
COMBINATIONS = [(database, method) for database in BOTH for method in (SENDS, LOOKS)]


@pytest.mark.parametrize(
    ("database_url", "method"), COMBINATIONS if LONG else COMBINATIONS[::3], indirect=["database_url"]
)
def test_each_fault_once(stack: ChaosStack, proxy: Proxy, method: str) -> None:
    """While transactions are sent, and while their receipts are looked for."""
    ledger = Ledger(stack)
    [scenario] = ledger.scenarios(1)
    ledger.request(scenario).settle()
    for fault in TRANSIENT:
        request = ledger.request(scenario)
        proxy.next(fault, method=method)
        ask([request])
        request.settle()
        assert not proxy.pending, fault
        assert proxy.seen[fault] == 1
    ledger.prove(relayers=stack.relayers)


@pytest.mark.parametrize("database_url", BOTH if LONG else BOTH[:1], indirect=True)
def test_an_answer_that_never_comes(stack: ChaosStack, proxy: Proxy) -> None:
    """The node took the transaction; nobody waits for ever to hear so."""
    ledger = Ledger(stack)
    [scenario] = ledger.scenarios(1)
    ledger.request(scenario).settle()
    proxy.next(Fault.HANG)
    request = ledger.request(scenario)
    ask([request])
    request.settle()
    assert proxy.seen[Fault.HANG] == 1
    ledger.prove(relayers=stack.relayers)


@pytest.mark.parametrize("ground", ["publication", "permit"])
def test_what_a_batch_relies_on_is_reorganised_away(stack: ChaosStack, proxy: Proxy, ground: str) -> None:
    """The first batch publishes or permits; the second is accepted on top, and sent when that is gone."""
    ledger = Ledger(stack)
    one, other = ledger.scenarios(2)
    # One's student permits, or other's annonce is published: both are final, and only the ground is missing.
    ledger.request(one if ground == "publication" else other).settle()
    stack.rpc("anvil_mine", hex(int(str(SETTINGS["confirmations"])) + 2))
    scenario = Scenario(stack, one.student, other.tutor, other.annonce)
    ledger.request(scenario).settle()
    second = ledger.request(scenario)
    stack.rpc("evm_setAutomine", False)
    proxy.hold(lambda call: call["method"] == LOOKS_FIRST)
    ask([second])
    assert [answer.json()["data"]["state"] for answer in second.answers] == ["accepted"]
    stack.rpc("anvil_reorg", 1, [])
    before = proxy.answered[LOOKS_FIRST]
    proxy.let_go()
    until(lambda: proxy.answered[LOOKS_FIRST] > before)
    stack.rpc("evm_setAutomine", True)
    stack.rpc("evm_mine")
    ledger.settle()
    ledger.prove(relayers=stack.relayers)


def test_anything_at_any_time(stack: ChaosStack, proxy: Proxy) -> None:
    """Faults at random rates, on top of a chain that jumps, forgets and reorganises."""
    chosen = random.Random(seed())
    ledger = Ledger(stack)
    scenarios = ledger.scenarios(4)
    # Their money is final; nothing else is.
    stack.rpc("anvil_mine", hex(int(str(SETTINGS["confirmations"])) + 2))
    for _ in range(RUNS):
        some = [
            ledger.request(chosen.choice(scenarios), chosen.randint(1, 3))
            for _ in range(chosen.randint(2, 8))
        ]
        kinds = chosen.sample(TRANSIENT, chosen.randint(1, len(TRANSIENT)))
        proxy.misbehave(chosen.uniform(0.1, 0.6), kinds)
        with paused(stack):
            ask(some)
            for happens in chosen.sample(WEATHER, chosen.randint(0, len(WEATHER))):
                time.sleep(chosen.uniform(0, 0.5))  # Of the weather, too, nobody knows when.
                happens(stack, chosen)
        if chosen.random() < 0.5:
            stack.rpc("anvil_reorg", chosen.randint(1, 3), [])
        proxy.heal()
        # A nonce that somebody else used is free again when that is final.
        ledger.settle_meanwhile(lambda: mine(stack, chosen), some)
    ledger.prove(relayers=stack.relayers)
    faults = {str(fault): count for fault, count in sorted(proxy.seen.items())}
    print(f"{len(ledger.requests)} keys, {proxy.requests} requests to the node, {faults}")


# --- Weather ---


def mine(stack: ChaosStack, _: random.Random) -> None:
    stack.rpc("evm_mine")


def jump(stack: ChaosStack, chosen: random.Random) -> None:
    stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(chosen.randint(1, 100) * GWEI))
    stack.rpc("evm_mine")


def forget(stack: ChaosStack, chosen: random.Random) -> None:
    content = stack.rpc("txpool_content")
    for by_nonce in [*content["pending"].values(), *content["queued"].values()]:
        for sent in by_nonce.values():
            if chosen.random() < 0.5:
                stack.rpc("anvil_dropTransaction", sent["hash"])


def interfere(stack: ChaosStack, _: random.Random) -> None:
    """Another program with the relayer's key uses its next nonce, and pays more."""
    relayer = stack.relayers[0]
    nonce = int(stack.rpc("eth_getTransactionCount", relayer, "latest"), 16)
    fee = {"maxFeePerGas": hex(900 * GWEI), "maxPriorityFeePerGas": hex(900 * GWEI), "nonce": hex(nonce)}
    stack.rpc("eth_sendTransaction", {"from": relayer, "to": relayer, "gas": hex(21_000)} | fee)


WEATHER: list[Callable[[ChaosStack, random.Random], None]] = [mine, jump, forget, interfere]
