"""A student's booking beside 2,000 half-open connections, and after the deadline has closed them.

Another process holds them: a third idle, a third with half a header, a third with half a body. Meanwhile
`/livez` is asked without a pause. Bookings are compared with those of a process that has no such connections,
in turns. Run as a program, this module is that other process.
"""

import os
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from statistics import median
from urllib.parse import urlsplit

import httpx

from bench import Part
from bench.load import Client, _cpu, new_client
from tools.dev_stack import DevStack

_BEGINS = (
    b"",
    b"GET /livez HTTP/1.1\r\nHost: shi",
    b"POST /api/blockchain/booking/batch HTTP/1.1\r\nHost: shim\r\nContent-Length: 100\r\n\r\n{",
)
_COUNT, _BOOKINGS = 2_000, 9


@dataclass
class Alive:
    """The answers of `/livez`: the seconds that each took."""

    took: list[float] = field(default_factory=list)

    @contextmanager
    def asked(self, url: str) -> Iterator[None]:
        """Ask without a pause, each time on a connection of its own. Raises what is not an answer."""
        ends, failed = threading.Event(), []

        def ask() -> None:
            try:
                while not ends.is_set():
                    began = time.perf_counter()
                    httpx.get(f"{url}/livez", timeout=60).raise_for_status()
                    self.took.append(time.perf_counter() - began)
            except httpx.HTTPError as error:
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()
        if failed:
            raise failed[0]


def run(short: bool) -> Part:
    """With the settings as they are; short, with fewer connections and bookings."""
    count, bookings = (300, 5) if short else (_COUNT, _BOOKINGS)
    alive, load = Alive(), os.getloadavg()[0]
    with DevStack() as stack, DevStack() as idle:
        clients = new_client(stack, stack.url), new_client(idle, idle.url)
        _, before = _in_turns(clients, 3)
        command = [sys.executable, "-m", "bench.connections", stack.url, str(count)]
        _, shim = stack.pids
        spent = -_cpu([shim])
        with (
            alive.asked(stack.url),
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder,
        ):
            assert holder.stdout is not None  # noqa: S101  # asked for above
            held = holder.stdout.readline()
            beside, _ = _in_turns(clients, 3)
            closed = float(holder.stdout.readline())
            spent += _cpu([shim])
        after, elsewhere = _in_turns(clients, bookings)
        seconds = stack.settings.receive_seconds
    raw = {
        "connections": int(held),
        "load of the machine before": load,
        "a booking before, ms": before * 1000,
        "a booking beside them, ms": beside * 1000,
        "a booking after them, ms": after * 1000,
        "a booking meanwhile at a process without them, ms": elsewhere * 1000,
        "the last one is closed after, s": closed,
        "the deadline, s": seconds,
        "CPU of the shim until then, s": spent,
        "requests to /livez meanwhile": len(alive.took),
        "the slowest of them, ms": max(alive.took) * 1000,
    }
    for name, value in raw.items():
        print(f"  {name}: {value:,.1f}", flush=True)
    return {"raw": raw, "ratios": {"half_open_booking": after / elsewhere}}


def _in_turns(clients: Sequence[Client], times: int) -> Sequence[float]:
    """Return the median time of each client's bookings, the first of which does not count."""
    took = [[client.book() for client in clients] for _ in range(times + 1)][1:]
    return [median(its) for its in zip(*took, strict=True)]


def hold(url: str, count: int) -> None:
    """Open the connections, print their number, and the seconds until the last of them was closed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    where, began = urlsplit(url), 0.0
    with selectors.DefaultSelector() as waiting:
        for number in range(count):
            connection = socket.create_connection((where.hostname, where.port or 80))
            connection.sendall(_BEGINS[number % len(_BEGINS)])
            began = time.monotonic()
            waiting.register(connection, selectors.EVENT_READ)
        print(count, flush=True)
        while waiting.get_map():
            for key, _ in waiting.select():
                with suppress(ConnectionResetError):
                    if key.fileobj.recv(1 << 16):  # type: ignore[union-attr]  # a socket
                        continue  # The answer to half a body, say.
                waiting.unregister(key.fileobj)
        print(time.monotonic() - began, flush=True)


if __name__ == "__main__":
    hold(sys.argv[1], int(sys.argv[2]))
