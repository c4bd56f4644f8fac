"""Growth of the store: waiting times, memory, the indexer, rebuilds, a calendar of ten years.

For waiting times, memory and the follower the store is filled with copies of a batch that was really booked,
of other students and tutors; the student who is measured has the same number of lessons each time, and the
node as many blocks, so what grows is the store alone. What a rebuild reads was really booked, all of it.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from eth_account import Account
from sqlalchemy import Connection, Table, create_engine, func, select, text

from api.db.tables import attempts, batches, bookings, metadata, orders, transactions
from bench import Part
from bench.load import LESSONS, Meter, new_client, together
from bench.market import Market
from creneau import abi
from creneau.types import to_hex
from tools.dev_stack import DevStack

SIZES = (10_000, 100_000, 1_000_000)  # Bookings.
OF_ONE = 200  # Batches of each copied student.
TIMES = 60
YEARS = 10
_LONGEST = 300  # Seconds, until the view has what is on the chain.


def run(short: bool) -> Part:
    """Short, with the smaller two sizes only."""
    sizes = SIZES[:2] if short else SIZES
    raw: dict[str, Any] = {}
    with DevStack() as stack:
        rebuilt = _rebuilt(stack, sizes)
    for size in sizes:
        raw[f"{size} bookings"] = its = {**_grown(size), "rebuilt a second": rebuilt[size]}
        print(f"  {size:,} bookings: {_told(its)}", flush=True)
    if not short:
        with DevStack() as stack:
            raw["calendar"] = _calendar(stack)
        print(f"  calendar: {_told(raw['calendar'])}", flush=True)
        raw["blocks every second"] = _blocks_every_second()
    first, last = (raw[f"{size} bookings"] for size in (sizes[0], sizes[-1]))
    return {
        "raw": raw,
        "ratios": {
            "growth_post": last["POST p50 ms"] / first["POST p50 ms"],
            "growth_list": last["list p50 ms"] / first["list p50 ms"],
            "growth_memory": last["shim MB"] / first["shim MB"],
        },
    }


def _told(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:,.1f}" for name, value in figures.items())


def _grown(size: int) -> dict[str, float]:
    with DevStack() as stack:
        client = new_client(stack, stack.url)
        client.book()
        _seen(stack, LESSONS)
        stack.stop_shim()
        _fill(stack.data_dir / "creneau.db", size)
        stack.start_shim()
        client = new_client(stack, stack.url)
        for _ in range(5):
            client.book()
        posts = [client.book() for _ in range(TIMES)]
        path = f"/api/blockchain/booking/user/{client.student_id}"
        lists = [_seconds(lambda: client.http.get(path, params={"limit": 50})) for _ in range(3 * TIMES)]
        figures = {"POST p50 ms": 1000 * median(posts), "list p50 ms": 1000 * median(lists)}
        figures["shim MB"] = _memory_mb(stack.pids[1])

        market = Market(stack, stack.account(5), stack.account(6))
        there, new = _count(stack), 100
        market.book_many(market.order(40, first=8, page=page) for page in range(new))
        figures["followed a second"] = 40 * new / _seen(stack, there + 40 * new)
        figures["database MB"] = (stack.data_dir / "creneau.db").stat().st_size / 1e6
        return figures


def _count(stack: DevStack) -> int:
    engine = create_engine(stack.settings.database)
    with engine.connect() as db:
        count = db.scalar(select(func.count()).select_from(bookings))
    engine.dispose()
    return int(count or 0)


def _seen(stack: DevStack, count: int) -> float:
    """Wait until the index has so many bookings. Return the seconds it took."""
    began = time.perf_counter()
    engine = create_engine(stack.settings.database)
    with engine.connect() as db:
        while db.scalar(select(func.count()).select_from(bookings)) != count:
            if time.perf_counter() - began > _LONGEST:
                raise RuntimeError(f"the view has no {count} bookings")
            db.rollback()
            time.sleep(0.02)
    engine.dispose()
    return time.perf_counter() - began


def _seconds(ask: Callable[[], Any]) -> float:
    began = time.perf_counter()
    ask().raise_for_status()
    return time.perf_counter() - began


def _memory_mb(pid: int) -> float:
    """Return the memory that a process holds now (`VmRSS`), in MB."""
    [line] = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) / 1024


# --- The copies ---


def _fill(database: Path, size: int) -> None:
    """Copy the first batch, with all rows that belong to it, until there are so many bookings."""
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as db:
        batch = db.scalar(select(batches.c.id).limit(1))
        there = db.scalar(select(func.count()).select_from(bookings)) or 0
        lessons = db.scalar(select(func.count()).where(bookings.c.batch_id == batch)) or 0
        count = (size - there) // lessons
        person = f"printf('0x%040x', 65536 + n / {OF_ONE} * 2 {{}})"
        new: Mapping[str, str] = {
            "id": "printf('0x%062x00', 65536 + n)",
            "hash": "printf('0x%064x', 65536 + n)",
            "student": person.format(""),
            "tutor": person.format("+ 1"),
            "student_id": f"'student ' || n / {OF_ONE}",
            "tutor_id": f"'tutor ' || n / {OF_ONE}",
            "idempotency_key": "'copy ' || n",
            "salt": "printf('0x%064x', 65536 + n)",
            "signer": f"'0x{'0' * 40}'",  # Nonces of the relayer's own would be counted on.
            "nonce": "n",
            "signed_at": "signed_at - 60000000 * n",  # One a minute: the budget of a day is read each time.
            "state": "'final'",
        }
        of_batch = {"batch_id": new["id"], "transaction_id": new["id"]}
        for table in (batches, transactions, attempts, orders):
            key = "transaction_id" if table is attempts else "id"
            _copy(db, table, f"{key} = :batch", {**new, **of_batch}, batch, count)
        its_place = {"id": "printf('0x%062x%02x', 65536 + n, place)", "start": "start + n * 86400"}
        _copy(db, bookings, "batch_id = :batch", {**new, **of_batch, **its_place}, batch, count)
    with engine.connect() as db:
        found = db.scalar(select(func.count()).select_from(bookings)) or 0
    engine.dispose()
    if abs(found - size) > lessons:
        raise RuntimeError(f"{found} bookings, not {size}")


def _copy(
    db: Connection, table: Table, where: str, values: Mapping[str, str], batch: str | None, count: int
) -> None:
    names = [column.name for column in metadata.tables[table.name].columns]
    chosen = ", ".join(values.get(name, name) for name in names)
    series = f"WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {count})"  # noqa: S608
    query = f"INSERT INTO {table.name} {series} SELECT {chosen} FROM series, {table.name} WHERE {where}"  # noqa: S608
    db.execute(text(query), {"batch": batch})


# --- The chain ---


def _rebuilt(stack: DevStack, sizes: Sequence[int]) -> dict[int, float]:
    """Return the bookings a second that `python -m api rebuild` reads, by their number."""
    stack.stop_shim()
    speeds: dict[int, float] = {}
    there = 0
    for size in sizes:
        # A tutor's calendar has room for so many; then comes another one, with another student.
        while there < size:
            market = Market(stack, Account.create(), Account.create())
            more = min(size - there, 10_000)
            market.book_many(market.order(40, first=8, page=page) for page in range(more // 40))
            there += more
        _rebuild(stack, size)  # The first one finds nothing to drop.
        speeds[size] = size / _rebuild(stack, size)
        print(f"  {size:,} bookings on chain: rebuilt {speeds[size]:,.0f} a second", flush=True)
    return speeds


def _rebuild(stack: DevStack, size: int) -> float:
    """Return the seconds that the rebuild says it took."""
    if stack.start_process("rebuild").wait():
        raise RuntimeError(f"the rebuild failed: {stack.log_file.read_text()[-500:]}")
    said = re.findall(r"^(\d+) bookings up to .*, in ([\d.]+) s$", stack.log_file.read_text(), re.MULTILINE)
    last = said[-1]
    if int(last[0]) != size:
        raise RuntimeError(f"{last[0]} bookings were rebuilt, not {size}")
    return float(last[1])


def _calendar(stack: DevStack) -> dict[str, float]:
    """Return the gas of a batch and of a view, before and after ten years with a lesson nearly every hour."""
    market = Market(stack, stack.account(5), stack.account(6))
    # The escrow has money before, and the tutor a lesson, far from all others.
    market.send(abi.create_bookings_data(market.order(1, page=-1)), market.student)
    first = market.send(abi.create_bookings_data(market.order(10, first=8)), market.student)
    words = int(YEARS * 365.25 * 24 / 64)
    began = time.perf_counter()
    market.book_many(market.order(40, first=8, page=page) for page in range(1, words))
    there = 11 + 40 * (words - 1)
    _seen(stack, there)
    followed = time.perf_counter() - began
    later = market.send(abi.create_bookings_data(market.order(10, first=8, page=words)), market.student)
    figures: dict[str, float] = {
        "bookings": there,
        "sent and followed a second": there / followed,
        "gas of 10 lessons in the first word": first,
        "gas of 10 lessons after ten years": later,
    }
    start = market.order(1).slots[0].start
    node = stack.client()
    for name, days in (("week", 7), ("year", 365)):
        data = abi.calendar_data(market.tutor.address, start, start + timedelta(days=days))
        call = {"to": stack.escrow, "data": to_hex(data)}
        figures[f"gas of a view of a {name}"] = int(stack.rpc("eth_estimateGas", call), 16)
        figures[f"ms of a view of a {name}"] = 1000 * median(
            _seconds(partial(node.post, stack.rpc_url, json=_eth_call(call))) for _ in range(TIMES)
        )
    return figures


def _eth_call(call: Mapping[str, str]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [call, "latest"]}


def _blocks_every_second() -> dict[str, Any]:
    """Measure the same requests with a block every second, however many wait for it."""
    with DevStack(block_time=1) as stack:
        clients = [new_client(stack, stack.url).book for _ in range(64)]
        together(clients, 1)
        meter = Meter(LESSONS, {"shim": stack.pids[1:], "node": stack.pids[:1]})
        meter.measure(clients, 4)
        return meter.figures("blocks every second, 64 clients")
