"""Waiting for what another thread or process does: for the event, and never for a time."""

import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds after which what is waited for did not happen. Only a failure takes so long."""


def until(condition: Callable[[], object], what: str = "it never was so", seconds: float = PATIENCE) -> None:
    """Returns once the condition holds. Raises `AssertionError` with `what` if it does not come to that."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)
