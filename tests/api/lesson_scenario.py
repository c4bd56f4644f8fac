"""Lives of lessons: a scenario on the chain's own clock, whose parties act over HTTP."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
from scenario import SINGLE, Scenario, slot

from api.people.directory import User
from api.schemas.responses import BookingData
from creneau.amounts import lesson_amount
from tools.dev_stack import DevStack

OPERATOR = "the-operator"
SETTINGS: dict[str, object] = {
    "log_format": "json",
    "confirmations": 3,
    "wait_seconds": 50,  # A busy machine is not a failure.
    "follow_seconds": 0.2,
    "operators": OPERATOR,
    "keeper": False,  # A slow test would be finished by it.
}


_FIELDS = [field.alias or name for name, field in BookingData.model_fields.items()]


def own(lesson: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a lesson that batches and acts have, without the existing frontend's."""
    return {name: lesson[name] for name in _FIELDS}


@dataclass
class LessonScenario:
    """A student and a tutor, and the lessons between them."""

    scenario: Scenario

    def __post_init__(self) -> None:
        self.stack: DevStack = self.scenario.stack
        self.student = self.scenario.client
        self.tutor = self.stack.client(self.scenario.tutor.id)
        self.operator = self.stack.client(OPERATOR)

    @classmethod
    def of(cls, stack: DevStack, *, rate: Decimal | int = 35, time_zone: str = "UTC") -> "LessonScenario":
        """New people, and an annonce of this rate."""
        return cls(Scenario.of(stack, hourly_rate=rate, time_zone=time_zone))

    def client(self, who: str) -> httpx.Client:
        """Of the student, the tutor or the operator."""
        client: httpx.Client = getattr(self, who)
        return client

    # --- Time ---

    def now(self) -> int:
        """The chain's time."""
        return int(self.stack.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def at(self, timestamp: int) -> None:
        """The chain's time is this, unless it is later already."""
        if timestamp > self.now():
            self.stack.rpc("evm_setNextBlockTimestamp", timestamp)
            self.stack.rpc("evm_mine")

    # --- Lessons ---

    def book(self, *minutes: int, days: int = 10, **more: Any) -> dict[str, Any]:
        """Books lessons from 9:00 UTC on, two hours apart, so many days after the chain's present."""
        day = (datetime.fromtimestamp(self.now(), UTC) + timedelta(days=days)).date().isoformat()
        rate = self.scenario.annonce.hourly_rate
        slots = [
            slot(f"{9 + 2 * place:02}:00", Decimal(lesson_amount(rate, each)) / 10**18, each, day)
            for place, each in enumerate(minutes or (60,))
        ]
        answer = self.scenario.book(*slots, **more)
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def act(
        self, who: str, act: str, booking: dict[str, Any], body: dict[str, Any] | None = None, **more: Any
    ) -> httpx.Response:
        """An act on one lesson."""
        path = f"{SINGLE}/{booking['id']}/{act}"
        method = "PATCH" if act in {"confirm", "cancel", "complete"} else "POST"
        return self.client(who).request(method, path, **({} if body is None else {"json": body}), **more)

    def booking(self, booking: dict[str, Any], who: str = "student") -> dict[str, Any]:
        """A lesson as it stands."""
        answer = self.client(who).get(f"{SINGLE}/{booking['id']}")
        assert answer.status_code == 200, answer.text
        return own(answer.json()["data"])

    def start(self, booking: dict[str, Any]) -> int:
        """The start of a lesson, in unix seconds."""
        return int(datetime.fromisoformat(booking["startsAt"]).timestamp())

    def money(self) -> tuple[int, int, int]:
        """The tokens of student, tutor and escrow, in base units."""
        wallets = (self.scenario.student.wallet, self.scenario.tutor.wallet, self.stack.escrow)
        student, tutor, escrow = (self.stack.balance(wallet) for wallet in wallets)
        return student, tutor, escrow


def wallet_of(stack: DevStack, role: str, index: int) -> User:
    """A user with a wallet of their own: one of the node's accounts."""
    return stack.create_user(role, wallet=stack.account(index).address)
