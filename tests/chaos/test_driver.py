"""Anything at any time, to batches, wallets and acts: nothing lost, nothing twice, no contradiction."""

import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from driver import Driver
from ledger import seed
from proxy import Proxy
from stacks import StackMaker

from tools.dev_stack import free_port

STEPS = int(os.environ.get("CHAOS_STEPS") or 120)
QUICK: dict[str, object] = {"bump_seconds": 1, "order_seconds": 600, "relayer_mnemonic_index": "1,2"}


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """In front of the node that the test's stack starts at its port."""
    with Proxy(f"http://127.0.0.1:{free_port()}", 0) as proxy:
        yield proxy


def test_anything_at_any_time(make_stack: StackMaker, proxy: Proxy, database_url: str) -> None:
    chosen, began = seed(), time.monotonic()
    port = int(proxy.node_url.rpartition(":")[2])
    stack = make_stack(node_port=port, rpc_url=proxy.url, database_url=database_url, **QUICK)
    stack.rpc("anvil_setBalance", stack.account(2).address, hex(10**22))
    driver = Driver(stack, proxy, chosen, block_seconds=1 if STEPS >= 100 else 0.2)
    driver.run(STEPS)
    driver.check()
    codes = Counter(answer.status_code for r in driver.ledger.requests for answer in r.answers)
    print(f"{len(driver.ledger.requests)} keys, {len(driver.acts)} acts, {dict(codes)} answers")
    print(f"{dict(driver.happened)}, {proxy.requests} requests, {time.monotonic() - began:.0f} s")
