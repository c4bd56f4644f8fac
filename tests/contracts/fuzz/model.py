"""The escrow's promises in plain Python: no hashes, no bits, no gas.

The state machine does the same things to this model and to the contract, and compares all that can be seen of
them. To check the intention, read `RULES`: who may do what to a lesson, and when. The rest is bookkeeping.

Times are unix seconds, money is in base units of the token. How signatures work does not matter here: a
`Proof` says who signed exactly these terms, and until when that counts.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

QUARTER = 15 * 60
FOREVER = 2**256
NONE, PENDING, CONFIRMED, DISPUTED, COMPLETED, CANCELLED = range(6)
LIVE = {PENDING, CONFIRMED, DISPUTED}


Window = tuple[int, int]
"""The first and the last second at which something may be done."""


class Refused(Exception):  # nothing went wrong: it was not allowed
    """An act is not possible: the name of the reason, and its details."""


# --- What people deal in ---


class Slot(NamedTuple):
    """A lesson's time, which starts on a quarter of an hour."""

    start: int
    minutes: int

    @property
    def packed(self) -> int:
        """The contract's form: quarters since 1970 and quarters, 8 bits."""
        return self.start // QUARTER << 8 | self.minutes // 15

    @property
    def end(self) -> int:
        return self.start + self.minutes * 60

    @property
    def quarters(self) -> set[int]:
        """The quarters of an hour that it fills, counted from 1970."""
        return set(range(self.start // QUARTER, self.end // QUARTER))

    def overlaps(self, other: "Slot") -> bool:
        return self.start < other.end and other.start < self.end


class Order(NamedTuple):
    """The terms of a batch of lessons. The same terms are the same order."""

    student: str
    tutor: str
    listing: bytes
    hourly_rate: int
    min_lessons: int
    deadline: int
    salt: bytes
    slots: tuple[Slot, ...]

    @property
    def abi(self) -> tuple[object, ...]:
        """The contract's form."""
        return (*self[:7], [slot.packed for slot in self.slots])

    def amount(self, lesson: int) -> int:
        return self.hourly_rate * self.slots[lesson].minutes // 60

    def total(self, lessons: Iterable[int]) -> int:
        return sum(self.amount(lesson) for lesson in lessons)


class Listing(NamedTuple):
    """A tutor's offer. With a rate of zero there is none."""

    hourly_rate: int = 0
    instant: bool = False
    min_notice: int = 0
    horizon: int = 0
    publications: int = 0

    def limits(self, now: int) -> Window:
        """The first and the last second at which a lesson may start that is booked now."""
        return now + max(self.min_notice, 1), now + self.horizon if self.horizon else FOREVER


class Periods(NamedTuple):
    """Until how long before the start a student may cancel; for how long after the end who may do what.

    The tutor's share of what nobody decided is in basis points.
    """

    cancel_window: int
    review: int
    arbitration: int
    default_share: int


class Proof(NamedTuple):
    """The sender of a call, its true signer, and the last second at which a signature counts."""

    sender: str
    signers: frozenset[str] = frozenset()
    deadline: int = FOREVER

    def require(self, actor: str, now: int) -> None:
        """Refuses unless the actor sends it, or signed it in time."""
        if self.sender != actor:
            _require(now <= self.deadline, "SignatureExpired", self.deadline, now)
            _require(actor in self.signers, "NotActor", actor, self.sender)


# --- Who may do what, and when ---


def any_time(_lesson: Slot, _periods: Periods) -> Window:
    return 0, FOREVER


def before_it_starts(lesson: Slot, _periods: Periods) -> Window:
    return 0, lesson.start - 1


def in_good_time(lesson: Slot, periods: Periods) -> Window:
    return 0, lesson.start - periods.cancel_window


def once_it_has_begun(lesson: Slot, _periods: Periods) -> Window:
    return lesson.start, FOREVER


def from_its_start_until_reviewed(lesson: Slot, periods: Periods) -> Window:
    return lesson.start, lesson.end + periods.review


def once_reviewed(lesson: Slot, periods: Periods) -> Window:
    return lesson.end + periods.review + 1, FOREVER


def once_arbitrated(lesson: Slot, periods: Periods) -> Window:
    return lesson.end + periods.review + periods.arbitration + 1, FOREVER


Rules = dict[int, Callable[[Slot, Periods], Window]]

RULES: dict[tuple[str, str], Rules] = {
    # what, and who           from which status, and when
    ("confirm", "tutor"): {PENDING: before_it_starts},
    ("cancel", "student"): {PENDING: any_time, CONFIRMED: in_good_time},
    ("cancel", "tutor"): {PENDING: any_time, CONFIRMED: any_time, DISPUTED: any_time},
    ("cancel", "anyone"): {PENDING: once_it_has_begun},
    ("complete", "student"): {PENDING: any_time, CONFIRMED: any_time, DISPUTED: any_time},
    ("complete", "anyone"): {CONFIRMED: once_reviewed},
    ("dispute", "student"): {CONFIRMED: from_its_start_until_reviewed},
    ("resolve", "arbiter"): {DISPUTED: any_time},
    ("resolve", "anyone"): {DISPUTED: once_arbitrated},
    ("settle", "both"): {PENDING: any_time, CONFIRMED: any_time, DISPUTED: any_time},
}
"""The only way by which a lesson moves."""

BECOMES = {
    "confirm": CONFIRMED,
    "cancel": CANCELLED,  # its money goes to the student
    "complete": COMPLETED,  # its money goes to the tutor
    "dispute": DISPUTED,
    "resolve": COMPLETED,  # its money is split
    "settle": COMPLETED,  # the same
}


def role_of(act: str, actor: str, order: Order, arbiter: str = "") -> str:
    """In which role somebody does something to the lessons of an order."""
    if act == "settle":
        return "both"
    if act == "resolve":
        return "arbiter" if actor == arbiter and actor not in {order.student, order.tutor} else "anyone"
    if actor == order.tutor and (act, "tutor") in RULES:
        return "tutor"
    if actor == order.student and (act, "student") in RULES:
        return "student"
    return "anyone"


# --- The escrow ---

Batch = dict[int, int]
"""The status of each lesson that was booked, by its place in the order."""


@dataclass
class Model:
    """The escrow and the token's accounts. An act that is not possible raises `Refused`, changing nothing."""

    escrow: str
    arbiter: str
    periods: Periods
    name_of: Callable[[Order], bytes]
    next_arbiter: str | None = None
    money: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    allowance: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    credits: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    blocked: set[str] = field(default_factory=set)
    """Accounts that the token does not pay."""
    listings: dict[tuple[str, bytes], Listing] = field(default_factory=lambda: defaultdict(Listing))
    batches: dict[Order, Batch] = field(default_factory=dict)
    created: dict[Order, int] = field(default_factory=dict)
    calendars: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    events: list[tuple[object, ...]] = field(default_factory=list)

    def publish(self, tutor: str, listing: bytes, offer: Listing, now: int, proof: Proof) -> None:
        """A tutor says what they offer; the publications are counted here."""
        proof.require(tutor, now)
        publications = self.listings[tutor, listing].publications + 1
        self.listings[tutor, listing] = offer._replace(publications=publications)
        self._emit("ListingPublished", tutor, listing, *offer[:4], publications)

    def approve(self, student: str, value: int) -> None:
        """The part of a student's money that the escrow may take, said to the token or signed (a permit)."""
        self.allowance[student] = value
        self._emit("Approval", student, self.escrow, value)

    def offer(self, order: Order) -> Listing:
        """A tutor's offer to a student: their own time to themselves, at once and for nothing."""
        if order.student == order.tutor:
            return Listing(instant=True)
        return self.listings[order.tutor, order.listing]

    def create(self, order: Order, now: int, proof: Proof) -> set[int]:
        """Books an order and says which of its lessons were booked. The order has a deadline of its own."""
        _require(order.student in {proof.sender, *proof.signers}, "NotActor", order.student, proof.sender)
        offer = self.offer(order)
        _require(now <= order.deadline, "OrderExpired", order.deadline, now)
        _require(order not in self.batches, "OrderExists", self.name_of(order))
        if order.student == order.tutor:
            _require(order.hourly_rate == 0, "StudentIsTutor", order.student)
        else:
            _require(offer.hourly_rate != 0, "NotListed", order.tutor, order.listing)
        _require(order.hourly_rate == offer.hourly_rate, "RateMismatch", order.hourly_rate, offer.hourly_rate)
        count = len(order.slots)
        _require(1 <= count <= 40, "SlotCount", count, 40)
        self._require_slots(order, offer.limits(now), now)
        booked = self._free_lessons(order)
        _require(1 <= order.min_lessons <= count, "MinLessons", order.min_lessons, count)
        _require(len(booked) >= order.min_lessons, "TooFewFree", len(booked), order.min_lessons)
        total = order.total(booked)
        if total:
            allowed, owned = self.allowance[order.student], self.money[order.student]
            _require(allowed >= total, "ERC20InsufficientAllowance", self.escrow, allowed, total)
            _require(owned >= total, "ERC20InsufficientBalance", order.student, owned, total)
            if allowed != 2**256 - 1:  # the token's convention for "as much as you like"
                self.allowance[order.student] -= total

        self.batches[order] = dict.fromkeys(booked, CONFIRMED if offer.instant else PENDING)
        self.created[order] = now
        for lesson in booked:
            self.calendars[order.tutor] |= order.slots[lesson].quarters
        packed = b"".join(slot.packed.to_bytes(4) for slot in order.slots)
        self._emit("BookingsCreated", self.name_of(order), *order[:7], packed, booked, offer.instant, total)
        if total:
            self._move(order.student, self.escrow, total)
        return booked

    def _require_slots(self, order: Order, limits: Window, now: int) -> None:
        earliest, latest = limits
        for lesson, slot in enumerate(order.slots):
            _require(slot.start > now, "SlotInPast", lesson, slot.start, now)
            _require(slot.start >= earliest, "SlotTooSoon", lesson, slot.start, earliest)
            _require(slot.start <= latest, "SlotTooFar", lesson, slot.start, latest)
            _require(15 <= slot.minutes <= 480, "SlotDuration", lesson, slot.minutes, 15, 480)

    def _free_lessons(self, order: Order) -> set[int]:
        booked: set[int] = set()
        for lesson, slot in enumerate(order.slots):
            for earlier in sorted(booked):
                _require(not slot.overlaps(order.slots[earlier]), "SlotOverlap", lesson, earlier)
            if self.calendars[order.tutor].isdisjoint(slot.quarters):
                booked.add(lesson)
            else:
                _require(order.min_lessons < len(order.slots), "SlotTaken", lesson, slot.start)
        return booked

    def revoke(self, order: Order, now: int, proof: Proof) -> None:
        """The student takes an order back before it is created."""
        proof.require(order.student, now)
        _require(order not in self.batches, "OrderExists", self.name_of(order))
        self.batches[order] = {}
        self.created[order] = now
        self._emit("OrderRevoked", self.name_of(order), order.student)

    def act(
        self, act: str, order: Order, lessons: set[int], now: int, actor: str, proof: Proof, share: int = 0
    ) -> None:
        """Confirms, cancels, completes, disputes, resolves or settles lessons: all of them, or none.

        To settle needs the student and the tutor; whoever resolves is the sender.
        """
        _require(order in self.batches, "UnknownBatch", self.name_of(order))
        role = role_of(act, actor, order, self.arbiter)
        match act:
            case "resolve" if role == "anyone":
                default = self.periods.default_share
                _require(share == default, "ShareNotDefault", share, default)
            case "resolve":
                _require(share <= 10_000, "ShareTooLarge", share, 10_000)
            case "settle":
                _require(share <= 10_000, "ShareTooLarge", share, 10_000)
                proof.require(order.student, now)
                proof.require(order.tutor, now)
            case _:
                proof.require(actor, now)
        self._require_possible(RULES[act, role], order, lessons, now)

        self.batches[order].update(dict.fromkeys(lessons, BECOMES[act]))
        name, total = self.name_of(order), order.total(lessons)
        to_tutor = sum(order.amount(lesson) * share // 10_000 for lesson in lessons)
        match act:
            case "confirm":
                self._emit("BookingsConfirmed", name, actor, lessons)
            case "dispute":
                self._emit("BookingsDisputed", name, actor, lessons)
            case "cancel":
                for lesson in lessons:
                    self.calendars[order.tutor] -= order.slots[lesson].quarters
                self._emit("BookingsCancelled", name, actor, lessons, total)
                self._pay(order.student, total)
            case "complete":
                self._emit("BookingsCompleted", name, actor, lessons, total)
                self._pay(order.tutor, total)
            case "resolve":
                self._emit("BookingsResolved", name, actor, lessons, to_tutor, total - to_tutor)
            case "settle":
                parties = (order.student, order.tutor)
                self._emit("BookingsSettled", name, *parties, lessons, to_tutor, total - to_tutor)
        if act in {"resolve", "settle"}:
            self._pay(order.tutor, to_tutor)
            self._pay(order.student, total - to_tutor)

    def _require_possible(self, rules: Rules, order: Order, lessons: set[int], now: int) -> None:
        _require(lessons != set(), "NoLessons")
        batch = self.batches[order]
        for lesson in sorted(lessons):
            status = batch.get(lesson, NONE)
            _require(status in rules, "WrongStatus", lesson, status, set(rules))
        for lesson in sorted(lessons):
            first, last = rules[batch[lesson]](order.slots[lesson], self.periods)
            _require(now >= first, "TooEarly", lesson, first, now)
            _require(now <= last, "TooLate", lesson, last, now)

    def withdraw(self, account: str, to: str, now: int, proof: Proof) -> int:
        """Pays an account's whole credit, to anyone."""
        proof.require(account, now)
        _require(to != self.escrow, "InvalidRecipient", to)
        amount = self.credits[account]
        _require(amount != 0, "NoCredit", account)
        _require(to not in self.blocked, "Blocked", to)
        self.credits[account] = 0
        self._emit("CreditWithdrawn", account, to, amount)
        self._move(self.escrow, to, amount)
        return amount

    def block(self, account: str, blocked: bool) -> None:
        """The token pays an account no more, or pays it again."""
        (self.blocked.add if blocked else self.blocked.discard)(account)

    def hand_over(self, next_arbiter: str, sender: str) -> None:
        """The arbiter names a successor, who has to accept."""
        _require(sender == self.arbiter, "OwnableUnauthorizedAccount", sender)
        self.next_arbiter = next_arbiter
        self._emit("OwnershipTransferStarted", self.arbiter, next_arbiter)

    def accept(self, sender: str) -> None:
        """The successor becomes the arbiter."""
        _require(sender == self.next_arbiter, "OwnableUnauthorizedAccount", sender)
        self._emit("OwnershipTransferred", self.arbiter, sender)
        self.arbiter, self.next_arbiter = sender, None

    def renounce(self) -> None:
        """Refuses: an arbiter has to be there for disputes."""
        raise Refused("ArbiterRequired")

    def _pay(self, account: str, amount: int) -> None:
        if amount and account in self.blocked:
            self.credits[account] += amount
            self._emit("PaymentCredited", account, amount)
        elif amount:
            self._move(self.escrow, account, amount)

    def _move(self, source: str, destination: str, amount: int) -> None:
        self.money[source] -= amount
        self.money[destination] += amount
        self._emit("Transfer", source, destination, amount)

    def _emit(self, *event: object) -> None:
        self.events.append(event)


def _require(condition: bool, *reason: object) -> None:
    if not condition:
        raise Refused(*reason)
