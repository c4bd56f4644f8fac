"""Two processes behind the guide's proxy are started again, one after the other, and no request fails.

No step goes by a clock: a process ends once the proxy has left it out and each client has had an answer of
its other one since.
"""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest
from caddy import caddy, rule_of
from forked import Stack
from outside import statuses
from postgres import PostgreSQL
from scenario import BATCH, DAY, EDU, Scenario, slot, wait_for
from waiting import PATIENCE, until

from creneau.order import booking_id
from creneau.types import to_bytes32, to_hex
from tools.dev_stack import DevStack, free_port

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
LESSON = 35 * EDU


@dataclass
class Client:
    """A student who books a lesson after the other, or reads, for as long as it is to go on."""

    scenario: Scenario
    http: httpx.Client
    answers: list[httpx.Response] = field(default_factory=list)

    def book(self) -> None:
        """Books a lesson that nobody has."""
        days, hour = divmod(len(self.answers), 20)
        day = (date.fromisoformat(DAY) + timedelta(days=days)).isoformat()
        body = self.scenario.body(slot(f"{hour + 2:02}:00", day=day))
        self.answers.append(self.http.post(BATCH, json=body))

    def read(self) -> None:
        """Reads a list and the listing."""
        path = ("booking/user/" + self.scenario.student.id, "annonce/" + self.scenario.annonce.id)
        self.answers.append(self.http.get(f"/api/blockchain/{path[len(self.answers) % 2]}"))


@contextmanager
def going_on(doings: list[Callable[[], None]]) -> Iterator[None]:
    """Does these again and again, each in a thread of its own. Raises what they raise."""
    stopped = threading.Event()

    def again(do: Callable[[], None]) -> None:
        while not stopped.is_set():
            do()

    with ThreadPoolExecutor(len(doings)) as pool:
        running = [pool.submit(again, do) for do in doings]
        try:
            yield
        finally:
            stopped.set()
            for each in running:
                each.result()


class Proxy:
    """The proxy, by its log."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def said(self, message: str, port: int) -> int:
        """The number of times that it was said of the process at a port."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        of = [line for line in lines if str(line.get("host", "")).endswith(f":{port}")]
        return sum(line["msg"] == message for line in of)


@pytest.fixture
def stack(postgres: PostgreSQL) -> Iterator[DevStack]:
    """A process that ends at the second signal alone, and closes no connection that the proxy may use."""
    settings: dict[str, object] = {
        "database_url": postgres.database(),
        "relayer_mnemonic_index": "1,2",
        "drain_seconds": 10 * PATIENCE,
        "keep_alive_seconds": int(PATIENCE),
        "receive_seconds": PATIENCE,
    }
    with Stack(settings=settings) as stack:
        stack.rpc("anvil_setBalance", stack.account(2).address, hex(10**22))
        yield stack
        stack.stop_shim(kill=True)  # It would wait for a second signal.


def test_no_request_fails_while_one_process_after_the_other_is_started_again(
    stack: DevStack, tmp_path: Path
) -> None:
    ports = (free_port(), free_port())
    processes = {port: stack.start_process(port=port) for port in ports}
    for port, process in processes.items():
        stack.wait_until_ready(process, f"http://127.0.0.1:{port}")
    url = f"http://127.0.0.1:{(public := free_port())}"
    site = {"book.example.org": f":{public}", ":8001": f":{ports[0]}", ":8002": f":{ports[1]}"}
    rule = rule_of(OPERATIONS, site | {"lb_try_duration 10s": f"lb_try_duration {PATIENCE:.0f}s"})
    bookers, readers = (
        [Client(each, stack.client(each.student.id, url=url)) for each in scenarios]
        for scenarios in ([Scenario.of(stack, balance=100_000) for _ in range(2)], [Scenario.of(stack)])
    )
    clients = [*bookers, *readers]

    def each_has_answers(more: int) -> None:
        least = [len(client.answers) + more for client in clients]
        until(lambda: all(len(c.answers) >= n for c, n in zip(clients, least, strict=True)))

    with caddy(tmp_path, rule, url) as log:
        proxy = Proxy(log)
        doings = [*(booker.book for booker in bookers), *(reader.read for reader in readers)]
        with going_on(doings):
            for port in ports:
                each_has_answers(3)
                up, process = proxy.said("host is up", port), processes[port]
                process.send_signal(signal.SIGTERM)
                left_out = "status code out of tolerances"  # Said before it is done, so it counts twice.
                until(lambda port=port, said=left_out: proxy.said(said, port) > 1)  # type: ignore[misc]
                each_has_answers(2)  # One of them was begun since.
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == -signal.SIGTERM
                processes[port] = stack.start_process(port=port)
                stack.wait_until_ready(processes[port], f"http://127.0.0.1:{port}")
                until(lambda port=port, up=up: proxy.said("host is up", port) > up)  # type: ignore[misc]
            each_has_answers(3)
    assert {answer.status_code for reader in readers for answer in reader.answers} == {200}
    booked: list[str] = []
    for booker in bookers:
        assert {answer.status_code for answer in booker.answers} <= {200, 202}, booker.answers[-1].text
        ids = [answer.json()["data"]["batchId"] for answer in booker.answers]
        for each in ids:
            assert wait_for(booker.scenario, f"{BATCH}/{each}", "mined", "final")["count"] == 1
        assert booker.scenario.balance() == 100_000 * EDU - len(ids) * LESSON
        booked += ids
    assert len({*booked}) == len(booked)
    on_chain = {to_hex(booking_id(to_bytes32(each), 0)) for each in booked}
    assert {booking for booking, status in statuses(stack).items() if status != "NONE"} == on_chain
    for process in processes.values():
        process.send_signal(signal.SIGTERM)  # The first of two; the other one is the stack's.
