"""The world of the contract tests: who is who, a published listing, fixed times, and orders in one line."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from eth_utils.crypto import keccak
from helpers import Account, Actor, Contract, Event, Receipt, call, domain_of, event, send, sign

from creneau.amounts import from_wei
from creneau.lifecycle import Status
from creneau.order import Order, Slot, booking_id
from creneau.typed_data import Domain
from creneau.types import from_unix

NOW = 2_051_222_400
"""The beginning of every test file: 2035-01-01 00:00 UTC, whatever the day."""

DEADLINE = NOW + 24 * 60 * 60
QUARTER = 15 * 60
PAGE = 8904
"""The calendar word that most lessons are in. It begins on 2035-01-04 at 00:00 UTC and lasts 64 hours."""

LISTING = keccak(text="3f2b9c1e-5a7d-4c88-9e21-6b1f0a4d7c55")
RATE = 35 * 10**18
SALT = bytes(31) + b"\1"
NOBODY = "0x" + "00" * 20


def time_of(quarter: int, page: int = PAGE) -> int:
    """The unix time at which a quarter of a calendar word starts; quarters of its neighbours count on."""
    return (page * 256 + quarter) * QUARTER


def slot(quarter: int, minutes: int = 60, page: int = PAGE) -> Slot:
    """The lesson that starts at a quarter of a calendar word."""
    return Slot.of(time_of(quarter, page), minutes)


def quarters_of(slots: Iterable[Slot]) -> set[int]:
    """The quarters that lessons fill, counted from 1970."""
    return {slot.start_unix // QUARTER + quarter for slot in slots for quarter in range(slot.minutes // 15)}


@dataclass(frozen=True)
class Market:
    """The contracts and the people. The tutor offers `LISTING` at `RATE`; the student can pay for it."""

    escrow: Contract
    token: Contract
    deployer: Account
    arbiter: Account
    relayer: Account
    tutor: Account
    student: Account
    stranger: Account

    @property
    def domain(self) -> Domain:
        return domain_of(self.escrow)

    def order(
        self, *slots: Slot, rate: int = RATE, deadline: int = DEADLINE, partial: bool = True, **others: Any
    ) -> Order:
        """An order of the student to the tutor, of one lesson unless slots are given: of any, or of all."""
        terms = {
            "student": self.student.address,
            "tutor": self.tutor.address,
            "listing": LISTING,
            "salt": SALT,
            "slots": slots or (slot(0),),
        }
        if not partial:
            terms["min_lessons"] = len(terms["slots"])
        return Order(hourly_rate=from_wei(rate), deadline=from_unix(deadline), **(terms | others))

    def sign(self, order: Order, account: Account | None = None) -> bytes:
        """The student's signature of an order, or another account's."""
        return sign(account or self.student, order.typed_data(self.domain))

    def book(
        self, order: Order, signature: bytes = b"", *, sender: Account | None = None, at: int | None = None
    ) -> Receipt:
        """Sends `createBookings`: the student does, unless another sender is named."""
        return send(self.escrow.createBookings, order, signature, sender=sender or self.student, at=at)

    def publish(
        self,
        rate: int = RATE,
        *,
        listing: bytes = LISTING,
        instant: bool = False,
        notice: int = 0,
        horizon: int = 0,
        tutor: Account | None = None,
    ) -> Receipt:
        """Sends `publish` as the tutor, or as another one; notice and horizon are in seconds."""
        tutor = tutor or self.tutor
        terms = (tutor, listing, rate, instant, notice, horizon, 0, b"")
        return send(self.escrow.publish, *terms, sender=tutor)

    def mint(self, account: Actor, amount: int) -> None:
        """Gives an account money."""
        send(self.token.mint, account, amount, sender=self.deployer)

    def approve(self, amount: int) -> None:
        """Sets what the escrow may take from the student."""
        send(self.token.approve, self.escrow, amount, sender=self.student)

    def balance(self, account: Actor) -> int:
        """The tokens of an account, in base units."""
        balance: int = call(self.token.balanceOf, account)
        return balance

    def calendar(self, tutor: Actor | None = None) -> set[int]:
        """The quarters set in the calendar of the tutor, or of another one, within ten days around `PAGE`."""
        first = PAGE - 4
        words = call(self.escrow.calendar, tutor or self.tutor, first, 9)
        return {
            (first + page) * 256 + bit
            for page, word in enumerate(words)
            for bit in range(256)
            if word >> bit & 1
        }

    def creation_events(self, order: Order, booked: int, total: int, *, instant: bool = False) -> list[Event]:
        """The events of a creation: its own, then the transfer if there is anything to pay."""
        names = ("student", "tutor", "listing", "hourlyRate", "minLessons", "deadline", "salt")
        terms = dict(zip(names, order.as_abi()[:-1], strict=True))
        packed = b"".join(slot.packed.to_bytes(4, "big") for slot in order.slots)
        about = {"batch": order.batch_id, "slots": packed, "booked": booked, "confirmed": instant}
        transfer = {"from": order.student, "to": self.escrow, "value": total}
        return [
            event(self.escrow, "BookingsCreated", **terms, **about, total=total),
            *([event(self.token, "Transfer", **transfer)] if total else []),
        ]

    def assert_booked(
        self, receipt: Receipt, order: Order, booked: int | None = None, *, instant: bool = False
    ) -> None:
        """Checks all that a creation leaves: its two events and no other, the batch, each lesson's status."""
        batch = order.batch_id
        if booked is None:
            booked = (1 << len(order.slots)) - 1
        lessons = [index for index in range(len(order.slots)) if booked >> index & 1]
        total = sum(order.amounts_wei[index] for index in lessons)
        instant = instant or order.student == order.tutor
        assert receipt.events == self.creation_events(order, booked, total, instant=instant)
        sets = (0, booked) if instant else (booked, 0)
        assert call(self.escrow.batches, batch) == (receipt.timestamp, *sets, 0, 0, 0)
        live = Status.CONFIRMED if instant else Status.PENDING
        assert [
            call(self.escrow.statusOf, booking_id(batch, index)) for index in range(len(order.slots))
        ] == [live if index in lessons else Status.NONE for index in range(len(order.slots))]


TAMPERED: dict[str, Callable[[Order], dict[str, Any]]] = {
    "student": lambda order: {"student": order.tutor},
    "tutor": lambda order: {"tutor": order.student},
    "listing": lambda _: {"listing": b"\1" * 32},
    "rate": lambda _: {"hourly_rate": from_wei(RATE - 1)},
    "least": lambda order: {"min_lessons": order.min_lessons + 1},
    "deadline": lambda _: {"deadline": from_unix(DEADLINE + 1)},
    "salt": lambda _: {"salt": b"\1" * 32},
    "start": lambda order: {"slots": (slot(1), *order.slots[1:])},
    "duration": lambda order: {"slots": (slot(0, 75), *order.slots[1:])},
    "slot added": lambda order: {"slots": (*order.slots, slot(40))},
    "slot removed": lambda order: {"slots": order.slots[:-1]},
    "slots swapped": lambda order: {"slots": order.slots[::-1]},
    "no slots": lambda _: {"slots": ()},
}
"""Every way to change one term of an order of several lessons."""
