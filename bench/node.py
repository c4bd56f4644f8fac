"""Requests to the node with a block every twelve seconds, and how soon after its block a batch is answered.

The shim meets the node through a proxy that counts. It works on one batch at a time.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "chaos"))

from proxy import Proxy

from bench import Part
from bench.load import new_client
from tools.dev_stack import DevStack
from tools.local_node import free_port

_SECONDS = 12.0  # A block, as on Ethereum.
_BLOCKS = 4


def run(short: bool) -> Part:
    """Count over blocks; one that is short is enough to look for large losses."""
    port, blocks = free_port(), 1 if short else _BLOCKS
    with (
        Proxy(f"http://127.0.0.1:{port}", 0) as proxy,
        DevStack(node_port=port, settings={"rpc_url": proxy.url}) as stack,
        ThreadPoolExecutor(1) as pool,
    ):
        client = new_client(stack, stack.url)
        client.book()
        stack.rpc("evm_setAutomine", False)
        _block(stack, proxy)  # From here on the shim knows how long a block takes.
        idle = [_block(stack, proxy) for _ in range(blocks)]
        in_flight, late = [], []
        for _ in range(blocks):
            booked = pool.submit(client.book)
            in_flight.append(_block(stack, proxy))
            mined = time.perf_counter()
            booked.result()
            late.append(time.perf_counter() - mined)
    raw: dict[str, Any] = {
        "idle, requests a second": median(idle),
        "a batch in flight, requests a second": median(in_flight),
        "from the block to the answer, seconds": max(late),
    }
    for name, value in raw.items():
        print(f"  {name}: {value:.2f}", flush=True)
    ratios = zip(("requests_idle", "requests_in_flight", "answer_seconds"), raw.values(), strict=True)
    return {"raw": raw, "ratios": dict(ratios)}


def _block(stack: DevStack, proxy: Proxy) -> float:
    """Make the next block in its time. Return the requests a second until then."""
    before = proxy.requests
    time.sleep(_SECONDS)
    count = proxy.requests - before
    stack.rpc("evm_mine")
    return count / _SECONDS
