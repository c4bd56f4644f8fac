"""Scenarios: a student at a tutor's annonce, and the chain's view of their requests."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
from sqlalchemy import select
from waiting import until

from api.db import decimal_json as exact
from api.db.store import Store
from api.db.tables import batches, transactions
from api.people.directory import Annonce, User
from creneau.events import TRANSFER
from creneau.types import to_hex
from tools.dev_stack import DevStack

BATCH = "/api/blockchain/booking/batch"
SINGLE = "/api/blockchain/booking"
DAY = (datetime.now(UTC) + timedelta(days=60)).date().isoformat()
"""A day that is not in the past."""
EDU = 10**18


def slot(time: str, amount: object = 35, duration: int = 60, day: str = DAY) -> dict[str, Any]:
    """A lesson, as the booking page sends it."""
    if isinstance(amount, float):
        amount = Decimal(str(amount))  # As JavaScript writes it.
    return {"date": day, "time": time, "amount": amount, "duration": duration}


def clock_change(month: int) -> date:
    """The day in that month (3 or 10) of next year on which Europe's clocks change: its last Sunday."""
    last = date(datetime.now(UTC).year + 1, month, 31)
    return last - timedelta(days=(last.weekday() + 1) % 7)


@dataclass
class Scenario:
    """One student at one tutor's annonce."""

    stack: DevStack
    student: User
    tutor: User
    annonce: Annonce
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.stack.client(self.student.id)

    @classmethod
    def of(cls, stack: DevStack, *, balance: Decimal | int = 1000, **annonce: Any) -> "Scenario":
        """New people and a new annonce, which is not on the chain yet."""
        tutor = stack.create_user("tutor")
        return cls(
            stack,
            stack.create_user("student", balance=balance),
            tutor,
            stack.create_annonce(tutor, **annonce),
        )

    def body(self, *slots: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The request of a batch."""
        return {"tutorId": self.tutor.id, "annonceId": self.annonce.id, "bookings": list(slots)} | more

    def book(
        self, *slots: dict[str, Any], headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        """Asks for a batch."""
        return self.post(self.body(*slots, **more), headers=headers)

    def post(self, body: Any, *, path: str = BATCH, headers: dict[str, str] | None = None) -> httpx.Response:
        """Sends any body; decimals as exact numbers."""
        content = body if isinstance(body, bytes) else exact.dumps(body).encode()
        return self.client.post(
            path, content=content, headers={"Content-Type": "application/json", **(headers or {})}
        )

    def balance(self) -> int:
        """The student's tokens, in base units."""
        return self.stack.balance(self.student.wallet)


@dataclass
class Seen:
    """Transactions and transfers of a while."""

    transactions: list[dict[str, Any]]
    transfers: list[dict[str, Any]]

    def sent_by(self, wallet: str) -> list[int]:
        """The values of the transfers from an account."""
        sender = "0x" + wallet[2:].lower().rjust(64, "0")
        return [int(log["data"], 16) for log in self.transfers if log["topics"][1] == sender]


@contextmanager
def watching(stack: DevStack) -> Iterator[Seen]:
    """Collects all that the chain sees during the block."""
    seen = Seen([], [])
    first = int(stack.rpc("eth_blockNumber"), 16) + 1
    yield seen
    last = int(stack.rpc("eth_blockNumber"), 16)
    for number in range(first, last + 1):
        seen.transactions += stack.rpc("eth_getBlockByNumber", hex(number), True)["transactions"]
    if first <= last:
        criteria = {
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "address": stack.edu,
            "topics": [to_hex(TRANSFER)],
        }
        seen.transfers += stack.rpc("eth_getLogs", criteria)


def log_lines(stack: DevStack, **fields: object) -> list[dict[str, Any]]:
    """The shim's log lines that have these fields."""
    lines = [json.loads(line) for line in stack.log_file.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if fields.items() <= line.items()]


def rows_of(store: Store, submission_ids: Sequence[str]) -> list[Any]:
    """The rows of submissions in this order, each with its batch's columns if it has a batch."""
    of_batch = [column for column in batches.c if column.name not in transactions.c]
    joined = select(transactions, *of_batch).outerjoin(batches, batches.c.id == transactions.c.id)
    with store.read() as db:
        rows = {row.id: row for row in db.execute(joined.where(transactions.c.id.in_(submission_ids)))}
    return [rows[each] for each in submission_ids]


def failures(answer: httpx.Response) -> list[tuple[int, str]]:
    """Index and code of each failure of an answer, booked or not."""
    body = answer.json()
    return [(failure["index"], failure["code"]) for failure in body.get("data", body)["failures"] or []]


@contextmanager
def paused(stack: DevStack) -> Iterator[None]:
    """No block during this; then one with everything that waits."""
    stack.rpc("evm_setAutomine", False)
    try:
        yield
    finally:
        stack.rpc("evm_mine")
        stack.rpc("evm_setAutomine", True)


def wait_for(scenario: Scenario, location: str, *states: str) -> dict[str, Any]:
    """The batch once it is in one of these states."""
    data: dict[str, Any] = {}

    def is_so() -> bool:
        data.update(scenario.client.get(location).json()["data"])
        return data["state"] in states

    until(is_so, f"it is in none of {states}")
    return data
