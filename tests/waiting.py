"""Waiting for what another thread or process does: for the event, and never for a time."""

import time
from collections.abc import Callable

import httpx

PATIENCE = 120.0
"""Seconds after which what is waited for did not happen. Only a failure takes so long."""

http = httpx.Client(timeout=PATIENCE, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
"""For single requests: it waits like everything here, where `httpx.get` gives up after five seconds."""


def until(condition: Callable[[], object], what: str = "it never was so", seconds: float = PATIENCE) -> None:
    """Returns once the condition holds. Raises `AssertionError` with `what` if it does not come to that."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, what
        # The longer it takes, the less often it is asked: asking takes the time of who does the work.
        time.sleep(min(0.005 + waited / 20, 0.1))
