"""The shim, started so that it can be killed at a point that matters, or be given another clock.

The shim itself knows nothing of this: the functions at its borders are wrapped here. What is to happen is
read from files in the working directory, so that it can be changed while the shim runs:

    kill           "<point> <count> <signal>": to the whole process at the count-th time that it gets there
    clock-<port>   seconds that the clock of the one at this port is ahead
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from threading import Lock
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import forker

from api.booking import create as booking
from api.chain import rpc as node
from api.db import repository
from api.outbox.models import UNSETTLED
from api.schemas import responses

POINTS = (
    "after accept",  # The request is in the outbox, nobody was told.
    "after claim",  # In the transaction that claims the batch, before its signed bytes are written.
    "after sign",  # In the same transaction, with the signed bytes, before it is committed.
    "after commit",  # The signed bytes are stored, and not sent.
    "after broadcast",  # They are sent; nobody stored that they are.
    "after receipt",  # The node showed the receipt; nobody stored it.
    "before answer",  # Everything is stored; the client hears nothing.
)

ACCEPT, CLAIM, SIGN, COMMIT, BROADCAST, RECEIPT, ANSWER = POINTS

_lock = Lock()
_count = 0
_armed = ""


def reached(point: str) -> None:
    """Ends the process if it is to be killed here."""
    global _armed, _count  # noqa: PLW0603  # one process, one plan
    with _lock:
        try:
            plan = Path("kill").read_text()
        except FileNotFoundError:
            return
        if plan != _armed:
            _armed, _count = plan, 0
        name, number, sent = plan.rsplit(" ", 2)
        if name != point:
            return
        _count += 1
        if _count < int(number):
            return
        # The plan is done, lest the next process is killed as well.
        with suppress(FileNotFoundError):
            Path("kill").unlink()
        os.kill(os.getpid(), signal.Signals[sent])


def ahead() -> float:
    """The seconds that this process's clock is ahead."""
    try:
        return float(Path(f"clock-{os.environ['CRENEAU_PORT']}").read_text() or 0)
    except (FileNotFoundError, KeyError):
        return 0.0


def _wrap(owner: Any, name: str, *, before: str = "", after: str = "", when: Callable[..., bool]) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before and when(None, *args, **kwargs):
            reached(before)
        result = original(*args, **kwargs)
        if after and when(result, *args, **kwargs):
            reached(after)
        return result

    setattr(owner, name, wrapped)


def _always(*_: Any, **__: Any) -> bool:
    return True


def _any(claimed: Any, *_: Any) -> bool:
    return bool(claimed)


def _some(_: Any, __: Any, signed: Any) -> bool:
    return bool(signed)


def _sends(_: Any, __: Any, calls: Any) -> bool:
    return any(method == "eth_sendRawTransaction" for method, _ in calls)


def _has_receipt(answers: Any, _: Any, calls: Any) -> bool:
    receipts = [a for (method, _), a in zip(calls, answers, strict=True) if method.endswith("Receipt")]
    return any(isinstance(receipt, dict) for receipt in receipts)


def _settled(_: Any, row: Any, *__: Any) -> bool:
    return row.state not in UNSETTLED


class _Datetime(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return datetime.now(tz) + timedelta(seconds=ahead())


def install() -> None:
    """Wraps the borders."""
    _wrap(booking.Bookings, "create", after=ACCEPT, when=_always)
    _wrap(repository, "claim", after=CLAIM, when=_any)
    _wrap(repository, "add_attempts", after=SIGN, when=_some)
    _wrap(node.Node, "call_many", before=COMMIT, after=BROADCAST, when=_sends)
    _wrap(node.Node, "call_many", after=RECEIPT, when=_has_receipt)
    _wrap(responses.BatchAnswer, "from_batch", before=ANSWER, when=_settled)
    real_time, real_time_ns = time.time, time.time_ns
    time.time = lambda: real_time() + ahead()
    time.time_ns = lambda: real_time_ns() + int(ahead() * 10**9)
    booking.datetime = _Datetime  # type: ignore[misc]


def detach_the_log() -> None:
    """Puts a process between the log and its file, so that a limit on this one's files spares the log."""
    cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=2)
    assert cat.stdin is not None
    os.dup2(cat.stdin.fileno(), 2)
    cat.stdin.close()  # The copy is the only writing end: the log ends with this process.


def prepare() -> None:
    """Put the log of a shim that was just forked behind a process, if its environment asks for that."""
    if "CHAOS_DETACH_LOG" in os.environ:
        detach_the_log()


if __name__ == "__main__":
    install()
    forker.main(prepare)
