"""A student and a tutor of the existing user service at the existing frontend, and the chain under them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import httpx
from frontend import ORIGIN, Frontend, price
from pydantic import HttpUrl
from user_service import UserService

from api.db import decimal_json as exact
from api.settings import DEVELOPMENT_SECRET
from creneau.amounts import to_wei
from tools.dev_stack import DevStack

SETTINGS: dict[str, object] = {
    "log_format": "json",
    "confirmations": 3,
    "follow_seconds": 0.2,
    "keeper": False,  # The tests' own steps end lessons.
    "jwt_user_claim": "id",
    "cors_origins": ORIGIN,
    "directory_forwards_token": True,
    "operators": "the-operator",
}
ZONE = ZoneInfo("Europe/Paris")
RATE = "33.33"  # EDU an hour: lessons of other lengths have more than two decimals.


def stack_at(users: UserService) -> DevStack:
    """A stack whose shim asks this user service."""
    return DevStack(settings=SETTINGS | {"directory_url": HttpUrl(users.url)})


SECRET = DEVELOPMENT_SECRET


@dataclass
class Scene:
    """Two people who share lessons, and everything that they see."""

    stack: DevStack
    users: UserService
    rate: str = RATE
    answers: list[httpx.Response] = field(default_factory=list)

    _people: list[Frontend] = field(default_factory=list)
    _days = count(3)

    def __post_init__(self) -> None:
        self.student_id = self.users.add_user("student", "Camille", "Durand")
        self.tutor_id = self.users.add_user("tutor", "Dominique", "Moreau")
        self.profile_id = self.users.add_profile(self.tutor_id)
        self.listing_id = self.users.add_listing(self.profile_id, self.rate, "Cours de Deep Learning avancé")
        self.student = self.frontend(self.student_id)
        self.tutor = self.frontend(self.tutor_id)

    def frontend(self, user_id: str) -> Frontend:
        """Return this person at the frontend. What is answered is kept in `answers`."""
        person = Frontend(self.stack.url, self.users.token(user_id))
        person.client.event_hooks["response"].append(self._keep)
        self._people.append(person)
        return person

    def close(self) -> None:
        """Close everybody's connections."""
        for person in self._people:
            person.client.close()

    def _keep(self, answer: httpx.Response) -> None:
        answer.read()
        self.answers.append(answer)

    def fund(self, user_id: str, edu: int) -> None:
        """Mint tokens for a person."""
        self.stack.mint(self.wallet(user_id), to_wei(edu))

    def wallet(self, user_id: str) -> str:
        """Return the account that is kept for a person."""
        return self.stack.directory.create_user(user_id, self.users.users[user_id]["role"]).wallet

    # --- Time ---

    def now(self) -> int:
        """Return the chain's time."""
        return int(self.stack.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def pass_until(self, timestamp: int) -> None:
        """Let the chain's time pass."""
        if timestamp > self.now():
            self.stack.rpc("evm_setNextBlockTimestamp", timestamp)
            self.stack.rpc("evm_mine")

    def free_day(self) -> str:
        """Return a day on which nobody has a lesson yet, and that has not come."""
        day = datetime.fromtimestamp(self.now(), UTC) + timedelta(days=next(self._days))
        return day.date().isoformat()

    # --- Lessons ---

    def order(self, *lessons: tuple[str, int], day: str = "", **more: Any) -> dict[str, Any]:
        """Return the body of a batch as the booking page sends it: (clock, minutes) of each lesson."""
        day = day or self.free_day()
        rate = float(self.rate)
        slots = [
            {"date": day, "time": clock, "duration": minutes, "amount": price(rate, minutes)}
            for clock, minutes in lessons
        ]
        terms = {"tutorId": self.profile_id, "annonceId": self.listing_id, "bookings": slots}
        return terms | {"description": "Réseaux de neurones", "studentNotes": ""} | more

    def book(self, *lessons: tuple[str, int], **more: Any) -> list[dict[str, Any]]:
        """Book lessons; they."""
        data = self.student.data("POST", "/booking/batch", self.order(*lessons, **more))
        assert data["failedCount"] == 0
        booked: list[dict[str, Any]] = data["bookings"]
        return booked

    def lesson(self, stands: str) -> dict[str, Any]:
        """Book a lesson and bring it to where it is pending, begun, or reviewed."""
        [lesson] = self.book(("10:00", 60))
        if stands != "pending":
            self.tutor.data("PATCH", f"/booking/{lesson['id']}/confirm", {"tutorNotes": ""})
            start = int(datetime.fromisoformat(lesson["startsAt"]).timestamp())
            self.pass_until(start if stands == "begun" else start + 3600 + 48 * 3600 + 1)
        return lesson

    def courses(self) -> list[dict[str, Any]]:
        """Return the student's courses."""
        path = f"/booking/student-courses/{self.student_id}"
        courses: list[dict[str, Any]] = self.student.data("GET", path)
        return courses

    # --- Money ---

    def assert_adds_up(self) -> None:
        """The balance that each sees is the token's, and the history of each adds up to it, to the wei."""
        for user_id, person in ((self.student_id, self.student), (self.tutor_id, self.tutor)):
            wallet = self.money(person, f"/balance?userId={user_id}")["wallet"]
            assert to_wei(wallet["available"]) == self.stack.balance(self.wallet(user_id))
            assert wallet["total"] == wallet["available"] + wallet["locked"]
            signed = [(entry["status"], _signed(entry, user_id)) for entry in self.history(person, user_id)]
            done = sum(amount for status, amount in signed if status == "completed")
            held = sum(amount for status, amount in signed if status == "pending")
            assert (done, held) == (wallet["available"], wallet["locked"])
            stats = self.money(person, f"/stats?userId={user_id}")
            assert {**wallet, "address": wallet["walletAddress"]} | stats["wallet"] == {
                **wallet,
                "address": wallet["walletAddress"],
            }
            assert stats["allTime"]["received"] - stats["allTime"]["sent"] == wallet["available"]

    def history(self, person: Frontend, user_id: str) -> list[dict[str, Any]]:
        """Return the whole history, page by page."""
        entries: list[dict[str, Any]] = []
        for page in count(1):
            data = self.money(person, f"/history?userId={user_id}&page={page}&limit=5")
            entries += data["transactions"]
            assert data["page"] == page
            if page >= data["totalPages"]:
                break
        assert len(entries) == len({entry["id"] for entry in entries}) == data["total"]
        assert [entry["createdAt"] for entry in entries] == sorted(
            (entry["createdAt"] for entry in entries), reverse=True
        )
        return entries

    def money(self, person: Frontend, path: str) -> Any:
        """Return the data of an answer with its numbers exact."""
        answer = person.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return exact.loads(answer.content)["data"]


def _signed(entry: dict[str, Any], user_id: str) -> Decimal:
    """Return what an entry gave to a person, as the wallet page decides it."""
    outgoing = entry["fromWallet"]["userId"] == user_id
    incoming = entry["toWallet"]["userId"] == user_id or entry["toWalletId"] == user_id
    assert outgoing != incoming, entry
    return Decimal(-entry["amount"] if outgoing else entry["amount"])


# --- What is said ---

_SENTENCES = frozenset({"message", "error", "detail", "description", "title"})
ENGLISH = re.compile(
    r"\b(the|is|was|are|of|for|and|or|no|not|you|your|lessons?|booked|booking|nothing|please|already|"
    r"tutor|student|taken|cancelled|confirmed|completed|transaction is|way|try|again|wrong|conflict|payment|"
    r"required|found)\b",
    re.IGNORECASE,
)


def sentences(body: Any) -> Iterator[str]:
    """Yield every text of an answer that a person reads."""
    if isinstance(body, dict):
        for name, value in body.items():
            if name in _SENTENCES and isinstance(value, str):
                yield value
            else:
                yield from sentences(value)
    elif isinstance(body, list):
        for each in body:
            yield from sentences(each)
