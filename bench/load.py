"""Lessons a second and waiting times over HTTP: beside the old way, and beside the same transactions raw.

All on one machine; on SQLite all on one node, too, which mines as soon as it has transactions. Ten lessons a
request. Each client is a student with a tutor of their own, so that no one waits for another's calendar.

The node copies its whole state at each block, so it gets slower as it goes. What is compared is therefore
measured in turns: all sides meet the same node at the same age.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import services
from eth_account import Account
from postgres import PostgreSQL
from web3 import Web3

from bench import Part
from bench.market import Market
from creneau import abi
from creneau.amounts import to_wei
from creneau.types import to_hex
from tools.dev_stack import DevStack
from tools.local_node import free_port
from tools.per_slot_baseline import AMOUNT, deploy_compiled, lesson_data

LESSONS = 10  # A request.
CLIENTS = (1, 16, 64)
FAST_POLLING = 0.005  # Seconds.
POLLING = {"default polling": 0.1, "5 ms polling": FAST_POLLING}  # The default is web3's own.
_ASK_AGAIN = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Client:
    """A student who books one day of lessons after another with the same tutor."""

    http: httpx.Client
    student_id: str
    tutor_id: str
    annonce_id: str
    days: int = 2

    def book(self) -> float:
        """Return the seconds that a request took; all its lessons are booked then."""
        self.days += 1
        day = (datetime.now(UTC) + timedelta(days=self.days)).date().isoformat()
        body = {
            "tutorId": self.tutor_id,
            "annonceId": self.annonce_id,
            "bookings": [
                {"date": day, "time": f"{hour:02}:00", "amount": 35, "duration": 60}
                for hour in range(8, 8 + LESSONS)
            ],
        }
        began = time.perf_counter()
        answer = self.http.post("/api/blockchain/booking/batch", json=body)
        while answer.status_code == 202:  # It waits for its block still, and so does the student.
            time.sleep(_ASK_AGAIN)
            answer = self.http.get(f"/api/blockchain/booking/batch/{answer.json()['data']['batchId']}")
        took = time.perf_counter() - began
        if answer.status_code != 200 or answer.json()["data"]["count"] != LESSONS:
            raise RuntimeError(f"not booked: {answer.status_code} {answer.text}")
        return took


def run(short: bool) -> Part:
    """Short, on SQLite only, with one client and 16, and for a few seconds."""
    raw: dict[str, Any] = {}
    with DevStack() as stack:
        raw["SQLite, one process"], raw["beside it"] = _beside_each_other(stack, short)
    programs = services.postgresql()
    if not short and programs is None:
        raise SystemExit(services.LACKING["PostgreSQL"])
    if not short and programs is not None:
        for processes, name in ((1, "PostgreSQL, one process"), (2, "PostgreSQL, two processes")):
            with PostgreSQL(programs, durable=True) as database:
                raw[name] = _on_postgres(name, database, processes)
    ours, beside = raw["SQLite, one process"], raw["beside it"]
    lps = ours["16"]["lessons a second"]
    return {
        "raw": raw,
        "ratios": {
            "lps16_over_baseline": lps / beside["old way, default polling"]["lessons a second"],
            "lps16_over_baseline_5ms": lps / beside["old way, 5 ms polling"]["lessons a second"],
            "lps16_over_raw": lps / beside["raw, 16 senders"]["lessons a second"],
            "p50_over_raw": ours["1"]["p50 ms"] / beside["raw, 1 sender"]["p50 ms"],
        },
    }


@dataclass
class Meter:
    """The durations of jobs of so many lessons, and the CPU that these processes used meanwhile."""

    lessons: int
    pids: Mapping[str, Sequence[int]]
    took: list[float] = field(default_factory=list)
    whole: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)

    def measure(self, jobs: Sequence[Callable[[], float]], times: int) -> None:
        """Each job so many times, all of them at once; added to what was measured before."""
        before = self._spent()
        took, whole = together(jobs, times)
        self.took += took
        self.whole += whole
        for who, seconds in self._spent().items():
            self.cpu[who] = self.cpu.get(who, 0.0) + seconds - before[who]

    def _spent(self) -> dict[str, float]:
        return {who: _cpu(its) for who, its in self.pids.items()} | {"clients": time.process_time()}

    def figures(self, name: str) -> dict[str, Any]:
        """All of it; also printed."""
        figures: dict[str, Any] = {
            "lessons a second": len(self.took) * self.lessons / self.whole,
            "p50 ms": 1000 * median(self.took),
            "p99 ms": 1000 * quantiles(self.took, n=100, method="inclusive")[98],
            "jobs": len(self.took),
            "CPU ms a job": {who: 1000 * seconds / len(self.took) for who, seconds in self.cpu.items()},
            "cores in use": sum(self.cpu.values()) / self.whole,
        }
        print(f"  {name}: {told(figures)}", flush=True)
        return figures


def told(figures: Mapping[str, Any]) -> str:
    """Return the main figures in a line."""
    return ", ".join(f"{figures[name]:.0f} {name}" for name in ("lessons a second", "p50 ms", "p99 ms"))


def _beside_each_other(stack: DevStack, short: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the shim's figures by clients, and those of the other ways by name, on one node."""
    node, shim = stack.pids
    of_node, of_all = {"node": [node]}, {"shim": [shim], "node": [node]}
    clients = [client.book for client in _clients(stack, [stack.url], 16 if short else max(CLIENTS))]
    contract = deploy_compiled(stack, "OldBookings", stack.edu)
    turns = 2 if short else 3
    # (name, what does it, how often in a turn, what is measured)
    contest = [
        *(
            (f"old way, {name}", [_baseline_lesson(stack, contract, polling)], 10, Meter(1, of_node))
            for name, polling in POLLING.items()
        ),
        ("raw, 1 sender", [_raw_sender(stack, 1 + turns * 20)], 20, Meter(LESSONS, of_node)),
        ("1 client", clients[:1], 20, Meter(LESSONS, of_all)),
        (
            "raw, 16 senders",
            [_raw_sender(stack, 1 + turns * 8) for _ in range(16)],
            8,
            Meter(LESSONS, of_node),
        ),
        ("16 clients", clients[:16], 5 if short else 12, Meter(LESSONS, of_all)),
    ]
    for _, jobs, _, _ in contest:
        together(jobs, 1)
    for _ in range(turns):
        for _, jobs, times, meter in contest:
            meter.measure(jobs, times)
    figures = {name: meter.figures(name) for name, _, _, meter in contest}
    if not short:
        figures["64 clients"] = _many(clients, of_all)
        for name, polling in POLLING.items():
            lessons = [_baseline_lesson(stack, contract, polling) for _ in range(16)]
            together(lessons, 1)
            meter = Meter(1, of_node)
            meter.measure(lessons, 5)
            figures[f"old way, {name}, 16 wallets"] = meter.figures(f"old way, {name}, 16 wallets")
    ours = {name.split()[0]: its for name, its in figures.items() if "client" in name}
    return ours, {name: its for name, its in figures.items() if "client" not in name}


def _on_postgres(name: str, database: PostgreSQL, processes: int) -> dict[str, Any]:
    """Return the shim's figures by clients, who are spread over so many processes of it."""
    print(f"  {name}:", flush=True)
    settings = {"database_url": database.database(), "relayer_mnemonic_index": "1,2"}
    with DevStack(settings=settings) as stack:
        node, shim = stack.pids
        urls, pids = [stack.url], {"shim": [shim], "node": [node], "database": [database.pid]}
        for _ in range(processes - 1):
            urls.append(f"http://127.0.0.1:{(port := free_port())}")
            process = stack.start_process(port=port)
            stack.wait_until_ready(process, urls[-1])
            pids["shim"].append(process.pid)
        clients = [client.book for client in _clients(stack, urls, max(CLIENTS))]
        return {str(count): _many(clients[:count], pids) for count in CLIENTS}


def _clients(stack: DevStack, urls: Sequence[str], count: int) -> list[Client]:
    """Clients who have booked before: that publishes the listings, and gives the allowances."""
    clients = [new_client(stack, url) for url, _ in zip(cycle(urls), range(count), strict=False)]
    together([client.book for client in clients], 1)
    together([client.book for client in clients[:16]], 1)
    return clients


def _many(clients: Sequence[Callable[[], float]], pids: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    meter, count = Meter(LESSONS, pids), len(clients)
    meter.measure(clients, max(576 // count, 8) if count > 1 else 60)
    return meter.figures(f"{count} client{'s' * (count > 1)}")


def new_client(stack: DevStack, url: str) -> Client:
    """Return a student and a tutor who have lessons with each other only."""
    student = stack.create_user("student", balance=1_000_000)
    tutor = stack.create_user("tutor")
    annonce = stack.create_annonce(tutor)
    return Client(stack.client(student.id, url=url), student.id, tutor.id, annonce.id)


def _baseline_lesson(stack: DevStack, contract: str, polling: float) -> Callable[[], float]:
    """One lesson: an approval and a booking, each waited for as web3 does."""
    student, tutor = Account.create().address, Account.create().address
    stack.rpc("anvil_setBalance", student, hex(10**20))
    stack.rpc("anvil_impersonateAccount", student)
    stack.mint(student, to_wei(1_000_000))
    web3 = Web3(Web3.HTTPProvider(stack.rpc_url))

    def book() -> float:
        began = time.perf_counter()
        approval = abi.approve_data(contract, AMOUNT)
        for to, data in ((stack.edu, approval), (contract, lesson_data(tutor, "Cours"))):
            sent = web3.provider.make_request(
                "eth_sendTransaction",  # type: ignore[arg-type]
                [{"from": student, "to": to, "data": to_hex(data)}],
            )["result"]
            receipt = web3.eth.wait_for_transaction_receipt(sent, poll_latency=polling)
            if not receipt["status"]:
                raise RuntimeError("the old way failed")
        return time.perf_counter() - began

    return book


def _raw_sender(stack: DevStack, count: int) -> Callable[[], float]:
    """Signed `createBookings` that a relayer's key has signed before, sent one after another."""
    student, tutor, relayer = (Account.create() for _ in range(3))
    stack.rpc("anvil_setBalance", relayer.address, hex(10**20))
    market = Market(stack, student, tutor)
    orders = [market.order(LESSONS, first=8, page=page) for page in range(count)]
    ready = iter(
        [
            market.presigned(relayer, nonce, abi.create_bookings_data(order, market.sign(order)))
            for nonce, order in enumerate(orders)
        ]
    )
    http = httpx.Client(base_url=stack.rpc_url, timeout=60)  # As the shim's clients have.

    def ask(method: str, value: str) -> Any:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": [value]}
        return http.post("", json=call).json()["result"]

    def send() -> float:
        transaction = next(ready)
        began = time.perf_counter()
        sent = ask("eth_sendRawTransaction", transaction)
        while not (receipt := ask("eth_getTransactionReceipt", sent)):
            time.sleep(FAST_POLLING)
        took = time.perf_counter() - began
        if receipt["status"] != "0x1":
            raise RuntimeError("a raw transaction reverted")
        return took

    return send


def together(jobs: Sequence[Callable[[], float]], times: int) -> tuple[list[float], float]:
    """Each job so many times, all of them at once: what each took, and all, in seconds."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        began = time.perf_counter()
        took = pool.map(lambda job: [job() for _ in range(times)], jobs)
        return [seconds for each in took for seconds in each], time.perf_counter() - began


def _cpu(pids: Sequence[int]) -> float:
    """Return the seconds of CPU that processes and their children have used."""
    seconds = 0.0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(entry.name) in pids:
            seconds += sum(int(ticks) for ticks in fields[11:15]) / _TICKS  # With those of ended children.
        elif int(fields[1]) in pids:
            seconds += sum(int(ticks) for ticks in fields[11:13]) / _TICKS
    return seconds
