"""The whole stack with shims that start quickly, can be killed at a point, and are accounted for."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from forked import Shims, Stack
from waiting import PATIENCE

from tools.local_node import free_port

SETTINGS: dict[str, object] = {
    "log_format": "json",
    "confirmations": 5,
    "resend_seconds": 0.5,
    "wait_seconds": 5,
    "lease_seconds": 0.5,  # So long the next process waits for the killed one's key.
}

LONG = bool(os.environ.get("CHAOS_LONG"))
KILLS = int(os.environ.get("CHAOS_KILLS") or 8)
RUNS = int(os.environ.get("CHAOS_RUNS") or 2)

KILLABLE = Path(__file__).with_name("killable.py")


class ChaosStack(Stack):
    """The whole stack; its shims can be killed at a point."""

    def __init__(self, shims: Shims, **options: Any) -> None:
        super().__init__(**options)
        self._shims = shims
        self._known: dict[tuple[str | None, str], httpx.Client] = {}

    def client(self, user_id: str | None = None, *, url: str | None = None) -> httpx.Client:
        """An HTTP client of one process, for a user; the same each time."""
        key = (user_id, url or self.url)
        if key not in self._known:
            self._known[key] = super().client(user_id, url=url)
        return self._known[key]

    @property
    def shims(self) -> Shims:
        """The process that forks them."""
        return self._shims

    @property
    def shim(self) -> subprocess.Popen[bytes]:
        """The process that serves at `url`."""
        assert self._shim is not None
        return self._shim

    def restart(self) -> None:
        """The next process, after the last one has ended or been killed."""
        self.stop_shim(kill=True)
        self.start_shim()

    def start_another(self, **settings: object) -> tuple[subprocess.Popen[bytes], str]:
        """One more process of the shim, and where it serves."""
        port = free_port()
        process = self.start_process(port=port, **settings)
        url = f"http://127.0.0.1:{port}"
        self.wait_until_ready(process, url)
        return process, url

    @property
    def relayers(self) -> list[str]:
        """Accounts that send transactions for shims: all that the node has but the owner's."""
        return [self.account(index).address for index in range(1, 10)]

    def arm(self, point: str, count: int = 1, sent: str = "SIGKILL") -> Path:
        """The shim is killed, or gets another signal, at the count-th time that it gets there."""
        plan = self.data_dir / "kill"
        draft = plan.with_suffix(".new")
        draft.write_text(f"{point} {count} {sent}")
        draft.rename(plan)
        return plan

    def set_clock(self, ahead: float, url: str | None = None) -> None:
        """Puts the clock of one process of the shim so many seconds ahead."""
        port = (url or self.url).rpartition(":")[2]
        (self.data_dir / f"clock-{port}").write_text(str(ahead))

    def disarm(self) -> None:
        """The shim is not killed any more."""
        (self.data_dir / "kill").unlink(missing_ok=True)

    def was_killed(self, seconds: float = PATIENCE) -> bool:
        """True if the shim is killed by itself within this time."""
        try:
            return self.shim.wait(timeout=seconds) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False


StackMaker = Callable[..., ChaosStack]
"""Of running stacks, which the end of the test stops."""


def alive(group: int) -> bool:
    """True if a process of this group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
