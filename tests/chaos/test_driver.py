"""The random driver: nothing lost, nothing twice, no contradiction of batches, wallets and acts."""

import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from driver import ORDER_SECONDS, Driver
from ledger import seed
from proxy import Proxy
from stacks import LONG, StackMaker

from tools.dev_stack import free_port

STEPS = int(os.environ.get("CHAOS_STEPS") or (120 if LONG else 25))
BLOCK_SECONDS = 1
QUICK: dict[str, object] = {"bump_seconds": 1, "order_seconds": ORDER_SECONDS}
KEYS = ["1,2", "1,2,3"]


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """In front of the node that the test's stack starts at its port."""
    with Proxy(f"http://127.0.0.1:{free_port()}", 0) as proxy:
        yield proxy


def test_anything_at_any_time(make_stack: StackMaker, proxy: Proxy, database_url: str) -> None:
    # The short form draws the same each time: what a new seed finds is for `make chaos`.
    chosen, began = seed(None if LONG else 7), time.monotonic()
    keys = KEYS[chosen % len(KEYS)]
    port = int(proxy.node_url.rpartition(":")[2])
    own = {"database_url": database_url, "relayer_mnemonic_index": keys}
    stack = make_stack(node_port=port, rpc_url=proxy.url, **QUICK, **own)
    for key in keys.split(","):
        stack.rpc("anvil_setBalance", stack.account(int(key)).address, hex(10**22))
    driver = Driver(stack, proxy, chosen, block_seconds=BLOCK_SECONDS)
    driver.run(STEPS)
    driver.check()
    codes = Counter(answer.status_code for r in driver.ledger.requests for answer in r.answers)
    print(f"{len(driver.ledger.requests)} keys, {len(driver.acts)} acts, {dict(codes)} answers")
    print(f"{dict(driver.happened)}, {proxy.requests} requests, {time.monotonic() - began:.0f} s")
