"""The students' requests, kept beside the system, and the proof that they and nothing else happened."""

import os
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import date as date_type
from datetime import timedelta
from typing import Any

import httpx
from outside import Following, statuses
from scenario import DAY, EDU, Scenario
from waiting import PATIENCE

from api.__main__ import rebuild
from api.booking.models import frontend_id
from creneau import abi, events
from creneau.events import BookingsCreated, LessonEvent, Transfer
from creneau.order import booking_id
from creneau.types import to_bytes32, to_hex
from tools.dev_stack import DevStack

TIMES = [f"{hour:02}:00" for hour in range(6, 22)]


ACTS = {
    "confirm": ("tutor", "CONFIRMED"),
    "cancel": ("student", "CANCELLED"),
    "complete": ("student", "COMPLETED"),
}
"""The party that acts, and the status that follows."""
AGAIN = {"expired", "not_booked_yet", "booking_not_found", "batch_not_found"}
"""Codes after which an act may be asked for again: the batch may be out of its block for a while."""


def seed(usual: int | None = None) -> int:
    """The seed of this run: `CHAOS_SEED`, the usual one, or a new one; a failure shows what is printed."""
    drawn = random.SystemRandom().randrange(10**6) if usual is None else usual
    chosen = int(os.environ.get("CHAOS_SEED") or drawn)
    print(f"CHAOS_SEED={chosen}")
    return chosen


class Refused(AssertionError):
    """A batch that had to be booked was refused."""


@dataclass
class Request:
    """One key: asked for again and again, it must stay one batch."""

    scenario: Scenario
    key: str
    lessons: list[dict[str, Any]]
    answers: list[httpx.Response] = field(default_factory=list)

    @property
    def is_booked(self) -> bool:
        """True if the newest answer says so."""
        return bool(self.answers) and self.answers[-1].status_code == 200

    @property
    def total(self) -> int:
        """The price of all lessons, in base units."""
        return len(self.lessons) * 35 * EDU

    def ask(self, url: str | None = None, **headers: str) -> httpx.Response | None:
        """Asks once; None if nobody answers."""
        client = self.scenario.stack.client(self.scenario.student.id, url=url)
        given = {"Idempotency-Key": self.key, **{k.title(): v for k, v in headers.items()}}
        try:
            answer = client.post(
                "/api/blockchain/booking/batch", json=self.scenario.body(*self.lessons), headers=given
            )
        except httpx.HTTPError:
            return None
        self.answers.append(answer)
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        return answer

    def settle(self, url: str | None = None, seconds: float = PATIENCE) -> dict[str, Any]:
        """Asks until the batch is in a block, as a client does; the answer's data."""
        until = time.monotonic() + seconds
        last: object = "nobody answers"
        while time.monotonic() < until:
            answer = self.ask(url)
            if answer is not None:
                last = answer.text
                if answer.status_code == 200:
                    data: dict[str, Any] = answer.json()["data"]
                    return data
                if answer.status_code not in {202, 503}:
                    raise Refused(answer.text)
            time.sleep(0.1)
        raise AssertionError(f"{self.key} is not settled: {last}")


@dataclass
class LessonAct:
    """An act on the first lesson of a batch that is booked, asked for until it is done."""

    request: Request
    name: str
    answers: list[httpx.Response] = field(default_factory=list)

    @property
    def booked(self) -> dict[str, Any]:
        """The lesson by the newest answer: lost by database and chain, and retried, it has another id."""
        answer = next(each for each in reversed(self.request.answers) if each.status_code == 200)
        lesson: dict[str, Any] = answer.json()["data"]["bookings"][0]
        return lesson

    @property
    def booking(self) -> str:
        """The lesson's id."""
        return str(self.booked["id"])

    @property
    def chain_id(self) -> str:
        """The lesson's id on the chain."""
        return str(self.booked["blockchainTransactionId"])

    def ask(self, url: str | None = None, **headers: str) -> httpx.Response | None:
        """Asks once; None if nobody answers."""
        scenario = self.request.scenario
        who = scenario.tutor if ACTS[self.name][0] == "tutor" else scenario.student
        try:
            answer = scenario.stack.client(who.id, url=url).patch(
                f"/api/blockchain/booking/{self.booking}/{self.name}", headers=headers
            )
        except httpx.HTTPError:
            return None
        self.answers.append(answer)
        assert answer.status_code != 202 or answer.headers["location"].startswith("/api/blockchain/act/0x")
        return answer

    def settle(self, url: str | None = None, seconds: float = PATIENCE) -> None:
        """Asks until it is done."""
        end, last = time.monotonic() + seconds, "nobody answers"
        while time.monotonic() < end:
            answer = self.ask(url)
            if answer is not None:
                last = answer.text
                if answer.status_code == 200:
                    return
                assert answer.status_code in {202, 503} or answer.json().get("code") in AGAIN, last
            time.sleep(0.1)
        raise AssertionError(f"{self.name} of {self.booking} is not done: {last}")


class Ledger:
    """Every request made to a stack."""

    def __init__(self, stack: DevStack) -> None:
        self.stack = stack
        self.requests: list[Request] = []
        self._first = int(stack.rpc("eth_blockNumber"), 16) + 1
        self._at: Counter[str] = Counter()

    def scenarios(self, count: int, *, balance: int = 100_000) -> list[Scenario]:
        """New students, each at a new tutor's."""
        return [Scenario.of(self.stack, balance=balance) for _ in range(count)]

    def request(self, scenario: Scenario, count: int = 1) -> Request:
        """A new key, for the next lessons that are free there."""
        lessons = []
        for _ in range(count):
            day, place = divmod(self._at[scenario.annonce.id], len(TIMES))
            self._at[scenario.annonce.id] += 1
            date = (date_type.fromisoformat(DAY) + timedelta(days=day)).isoformat()
            lessons.append({"date": date, "time": TIMES[place], "amount": 35, "duration": 60})
        made = Request(scenario, uuid.uuid4().hex, lessons)
        self.requests.append(made)
        return made

    def settle(self, requests: Sequence[Request] | None = None, *, urls: Sequence[str] = ()) -> None:
        """Asks for all of them until they are in blocks."""
        wanted = self.requests if requests is None else requests
        targets: list[str | None] = [urls[i % len(urls)] if urls else None for i in range(len(wanted))]
        if wanted:
            with ThreadPoolExecutor(min(16, len(wanted))) as pool:
                list(pool.map(lambda pair: pair[0].settle(pair[1]), zip(wanted, targets, strict=True)))

    def settle_meanwhile(
        self, happens: Callable[[], object], requests: Sequence[Request] | None = None
    ) -> None:
        """Settles them, while this happens ten times a second."""
        with ThreadPoolExecutor(1) as pool:
            settled = pool.submit(self.settle, requests)
            while not wait([settled], timeout=0.1).done:
                happens()
            settled.result()

    # --- Proof ---

    def prove(
        self,
        requests: Sequence[Request] | None = None,
        *,
        relayers: Iterable[str] = (),
        acts: Sequence[str] = (),
    ) -> None:
        """Exactly one batch for each key, debited exactly once, the answer what the chain says, nothing else.

        `requests` are those to compare with; all of the ledger's unless given. `acts` are the lessons that
        were acted on, once each.
        """
        wanted = self.requests if requests is None else requests
        created, paid, transactions = self._chain()
        batches: set[bytes] = set()
        for request in wanted:
            data = request.settle()
            batch = to_bytes32(data["batchId"])
            batches.add(batch)
            events = created[batch]
            assert len(events) == 1, f"{request.key}: {len(events)} batches on the chain"
            self._compare(request, data, *events[0])
        assert len(batches) == len(wanted), "two keys are one batch"
        known = {request.scenario.student.wallet for request in self.requests}
        ours = [batch for batch, events in created.items() if events[0][0].student in known]
        assert len(ours) == len(self.requests), f"{len(ours)} batches, {len(self.requests)} keys"
        for scenario in {request.scenario.student.id: request.scenario for request in wanted}.values():
            mine = [
                request for request in self.requests if request.scenario.student.id == scenario.student.id
            ]
            debits = sorted(paid[scenario.student.wallet])
            assert debits == sorted(request.total for request in mine), f"debited {debits}"
        assert sorted(self._acted) == sorted(acts)
        # No other transaction of a relayer's moves anything: it creates one batch, or it failed, or is empty.
        senders = {address.lower() for address in relayers}
        for sent in transactions:
            if sent["from"] in senders and sent["hash"] not in self._creating | {*self._acted.values()}:
                receipt = self.stack.rpc("eth_getTransactionReceipt", sent["hash"])
                assert receipt["status"] == "0x0" or (sent["input"] == "0x" and sent["value"] == "0x0"), sent
        self._prove_view()

    def _prove_view(self) -> None:
        """The view comes to say what the contract says of each lesson, and a rebuild leaves the same rows."""
        following = Following(self.stack.settings)
        try:
            until = time.monotonic() + PATIENCE
            while (view := _statuses(following)) != (chain := statuses(self.stack)):
                assert time.monotonic() < until, f"the view has {view}, the chain {chain}"
                time.sleep(0.05)
            before = _view(following)
            rebuild(self.stack.settings)
            assert _view(following) == before
        finally:
            following.close()

    def _chain(
        self,
    ) -> tuple[
        dict[bytes, list[tuple[BookingsCreated, dict[str, Any]]]], dict[str, list[int]], list[dict[str, Any]]
    ]:
        """Batches by id, debits by account, and all transactions since the ledger began."""
        stack = self.stack
        head = int(stack.rpc("eth_blockNumber"), 16)
        created: dict[bytes, list[tuple[BookingsCreated, dict[str, Any]]]] = defaultdict(list)
        paid: dict[str, list[int]] = defaultdict(list)
        transactions: list[dict[str, Any]] = []
        self._creating: set[str] = set()
        self._acted: dict[str, str] = {}  # The transactions of lessons that were acted on.
        for number in range(self._first, head + 1):
            transactions += stack.rpc("eth_getBlockByNumber", hex(number), True)["transactions"]
        span = {"fromBlock": hex(self._first), "toBlock": hex(head)}
        if self._first <= head:
            for log in stack.rpc("eth_getLogs", span | {"address": [stack.escrow, stack.edu]}):
                event = events.decode_log(log, stack.escrow)
                if isinstance(event, BookingsCreated):
                    created[event.batch].append((event, log))
                    self._creating.add(log["transactionHash"])
                elif isinstance(event, LessonEvent):
                    for place in (each for each in range(40) if event.lessons >> each & 1):
                        lesson = to_hex(booking_id(event.batch, place))
                        assert lesson not in self._acted, f"{lesson} was acted on twice"
                        self._acted[lesson] = log["transactionHash"]
                elif isinstance(event, Transfer) and int(event.source, 16):
                    paid[event.source].append(event.value)
        return created, paid, transactions

    def _compare(
        self, request: Request, data: dict[str, Any], event: BookingsCreated, log: dict[str, Any]
    ) -> None:
        """The answer against the chain's event, its receipt and the contract's own record."""
        stack = self.stack
        receipt = stack.rpc("eth_getTransactionReceipt", log["transactionHash"])
        assert receipt["status"] == "0x1"
        assert data["transactionHash"] == log["transactionHash"]
        assert data["gasUsed"] == int(receipt["gasUsed"], 16)
        assert data["totalAmountWei"] == str(event.total) == str(request.total)
        assert (data["count"], data["failures"]) == (len(request.lessons), None)
        assert event.booked == (1 << len(request.lessons)) - 1
        ids = [booking_id(event.batch, place) for place in range(len(request.lessons))]
        assert [b["blockchainTransactionId"] for b in data["bookings"]] == [to_hex(i) for i in ids]
        assert [b["id"] for b in data["bookings"]] == [frontend_id(to_hex(i), i[31]) for i in ids]
        assert {b["blockchainStatus"] for b in data["bookings"]} == {"CONFIRMED"}
        assert event.student == request.scenario.student.wallet
        assert event.tutor == request.scenario.tutor.wallet
        call = {"to": stack.escrow, "data": to_hex(abi.batches_data(event.batch))}
        record = abi.decode_batch(bytes.fromhex(stack.rpc("eth_call", call, "latest")[2:]))
        assert record.created_at is not None
        assert record.booked == event.booked


def _statuses(following: Following) -> dict[str, str]:
    return {row.id: row.status for row in following.bookings().values()}


def _view(following: Following) -> dict[str, list[Any]]:
    """The view's rows, but for those of blocks: more may come."""
    rows = following.rows()
    return {table: rows[table] for table in ("orders", "actions", "bookings")}
