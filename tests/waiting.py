"""Waiting for what another thread or process does: for the event, and never for a time."""

import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds after which what is waited for did not happen. Only a failure takes so long."""


def until(condition: Callable[[], object], what: str = "it never was so", seconds: float = PATIENCE) -> None:
    """Returns once the condition holds. Raises `AssertionError` with `what` if it does not come to that."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, what
        # The longer it takes, the less often it is asked: asking takes the time of who does the work.
        time.sleep(min(0.005 + waited / 20, 0.1))
