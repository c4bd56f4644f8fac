"""What the escrow promises, in plain Python: no hashes, no bits, no gas.

The state machine does the same things to this model and to the contract, and compares all that can be seen of
them. To check the intention, read `RULES`: who may do what to a lesson, and when. The rest is bookkeeping.

Times are unix seconds, money is in base units of the token. Whoever sends an act is its `sender`; `signer` is
whoever signed exactly these terms, if anybody did. How signatures work does not matter here.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

QUARTER = 15 * 60
FOREVER = 2**256
NONE, PENDING, CONFIRMED, DISPUTED, COMPLETED, CANCELLED = range(6)
LIVE = {PENDING, CONFIRMED, DISPUTED}


class Refused(Exception):  # noqa: N818  # nothing went wrong: it was not allowed
    """An act is not possible: the name of the reason, and its details."""


# --- What people deal in ---


class Slot(NamedTuple):
    """A lesson's time."""

    start: int
    minutes: int

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
    allow_partial: bool
    deadline: int
    salt: bytes
    slots: tuple[Slot, ...]

    def amount(self, lesson: int) -> int:
        return self.hourly_rate * self.slots[lesson].minutes // 60

    def total(self, lessons: Iterable[int]) -> int:
        return sum(self.amount(lesson) for lesson in lessons)


class Listing(NamedTuple):
    """What a tutor offers. A rate of zero is no offer."""

    hourly_rate: int = 0
    instant: bool = False
    publications: int = 0


class Periods(NamedTuple):
    """Until how long before the start a student may cancel; for how long after the end who may do what."""

    cancel_window: int
    review: int
    arbitration: int


# --- Who may do what, and when ---

Window = tuple[int, int]
"""The first and the last second at which something may be done."""


def any_time(_lesson: Slot, _periods: Periods) -> Window:
    return 0, FOREVER


def before_it_starts(lesson: Slot, _periods: Periods) -> Window:
    return 0, lesson.start - 1


def in_good_time(lesson: Slot, periods: Periods) -> Window:
    return 0, lesson.start - periods.cancel_window


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
    ("cancel", "student"): {PENDING: any_time, CONFIRMED: in_good_time, DISPUTED: once_arbitrated},
    ("cancel", "tutor"): {PENDING: any_time, CONFIRMED: any_time, DISPUTED: any_time},
    ("cancel", "anyone"): {DISPUTED: once_arbitrated},
    ("complete", "student"): {PENDING: any_time, CONFIRMED: any_time, DISPUTED: any_time},
    ("complete", "anyone"): {CONFIRMED: once_reviewed},
    ("dispute", "student"): {CONFIRMED: from_its_start_until_reviewed},
    ("resolve", "arbiter"): {DISPUTED: any_time},
}
"""Nothing else moves a lesson."""

BECOMES = {
    "confirm": CONFIRMED,
    "cancel": CANCELLED,  # its money goes to the student
    "complete": COMPLETED,  # its money goes to the tutor
    "dispute": DISPUTED,
    "resolve": COMPLETED,  # its money is split
}


def role_of(act: str, actor: str, order: Order) -> str:
    """In which role somebody does something to the lessons of an order."""
    if act == "resolve":
        return "arbiter"
    if actor == order.student and (act, "student") in RULES:
        return "student"
    if actor == order.tutor and (act, "tutor") in RULES:
        return "tutor"
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
    listings: dict[tuple[str, bytes], Listing] = field(default_factory=lambda: defaultdict(Listing))
    batches: dict[Order, Batch] = field(default_factory=dict)
    created: dict[Order, int] = field(default_factory=dict)
    calendars: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    events: list[tuple[object, ...]] = field(default_factory=list)

    def publish(  # noqa: PLR0917  # what a tutor says
        self, tutor: str, listing: bytes, rate: int, instant: bool, sender: str, signer: str | None
    ) -> None:
        _require_actor(tutor, sender, signer)
        publications = self.listings[tutor, listing].publications + 1
        self.listings[tutor, listing] = Listing(rate, instant, publications)
        self._emit("ListingPublished", tutor, listing, rate, instant, publications)

    def approve(self, student: str, value: int) -> None:
        """What the escrow may take of a student's money. He says it to the token, or signs it (a permit)."""
        self.allowance[student] = value
        self._emit("Approval", student, self.escrow, value)

    def create(self, order: Order, now: int, sender: str, signer: str | None) -> set[int]:
        """Books an order and says which of its lessons were booked."""
        _require_actor(order.student, sender, signer)
        listing = self.listings[order.tutor, order.listing]
        _require(order.student != order.tutor, "StudentIsTutor", order.student)
        _require(now <= order.deadline, "OrderExpired", order.deadline, now)
        _require(order not in self.batches, "OrderExists", self.name_of(order))
        _require(listing.hourly_rate != 0, "NotListed", order.tutor, order.listing)
        _require(
            order.hourly_rate == listing.hourly_rate, "RateMismatch", order.hourly_rate, listing.hourly_rate
        )
        _require(1 <= len(order.slots) <= 40, "SlotCount", len(order.slots), 40)
        booked = self._free_lessons(order, now)
        _require(booked != set(), "NothingFree", len(order.slots))
        total = order.total(booked)
        allowed, owned = self.allowance[order.student], self.money[order.student]
        _require(allowed >= total, "ERC20InsufficientAllowance", self.escrow, allowed, total)
        _require(owned >= total, "ERC20InsufficientBalance", order.student, owned, total)

        self.batches[order] = dict.fromkeys(booked, CONFIRMED if listing.instant else PENDING)
        self.created[order] = now
        for lesson in booked:
            self.calendars[order.tutor] |= order.slots[lesson].quarters
        if allowed != 2**256 - 1:  # the token's convention for "as much as you like"
            self.allowance[order.student] -= total
        batch = self.name_of(order)
        self._emit("BookingsCreated", batch, order.student, order.tutor, order, booked, total)
        self._move(order.student, self.escrow, total)
        return booked

    def _free_lessons(self, order: Order, now: int) -> set[int]:
        booked: set[int] = set()
        for lesson, slot in enumerate(order.slots):
            _require(slot.start > now, "SlotInPast", lesson, slot.start, now)
            _require(slot.start % QUARTER == 0, "SlotMisaligned", lesson, slot.start, QUARTER)
            fits = slot.minutes % 15 == 0 and 15 <= slot.minutes <= 480
            _require(fits, "SlotDuration", lesson, slot.minutes, 15, 480)
            for earlier in sorted(booked):
                _require(not slot.overlaps(order.slots[earlier]), "SlotOverlap", lesson, earlier)
            if self.calendars[order.tutor].isdisjoint(slot.quarters):
                booked.add(lesson)
            else:
                _require(order.allow_partial, "SlotTaken", lesson, slot.start)
        return booked

    def act(  # noqa: PLR0917  # who does what to which lessons, and when
        self,
        act: str,
        order: Order,
        lessons: set[int],
        now: int,
        actor: str,
        sender: str,
        signer: str | None = None,
        tutor_share_bps: int = 0,
    ) -> None:
        """Confirms, cancels, completes, disputes or resolves lessons: all of them, or none."""
        if act == "resolve":
            _require(sender == self.arbiter, "NotActor", self.arbiter, sender)
            _require(tutor_share_bps <= 10_000, "ShareTooLarge", tutor_share_bps, 10_000)
        _require(order in self.batches, "UnknownBatch", self.name_of(order))
        if act != "resolve":
            _require_actor(actor, sender, signer)
        _require(lessons != set(), "NoLessons")
        batch = self.batches[order]
        rules = RULES[act, role_of(act, actor, order)]
        for lesson in sorted(lessons):
            status = batch.get(lesson, NONE)
            _require(status in rules, "WrongStatus", lesson, status, set(rules))
        for lesson in sorted(lessons):
            first, last = rules[batch[lesson]](order.slots[lesson], self.periods)
            _require(now >= first, "TooEarly", lesson, first, now)
            _require(now <= last, "TooLate", lesson, last, now)

        batch.update(dict.fromkeys(lessons, BECOMES[act]))
        total = order.total(lessons)
        match act:
            case "confirm":
                self._emit("BookingsConfirmed", self.name_of(order), lessons)
            case "dispute":
                self._emit("BookingsDisputed", self.name_of(order), lessons)
            case "cancel":
                for lesson in lessons:
                    self.calendars[order.tutor] -= order.slots[lesson].quarters
                self._emit("BookingsCancelled", self.name_of(order), lessons, actor, total)
                self._pay(order.student, total)
            case "complete":
                self._emit("BookingsCompleted", self.name_of(order), lessons, total)
                self._pay(order.tutor, total)
            case "resolve":
                share = sum(order.amount(lesson) * tutor_share_bps // 10_000 for lesson in lessons)
                self._emit("BookingsResolved", self.name_of(order), lessons, share, total - share)
                self._pay(order.tutor, share)
                self._pay(order.student, total - share)

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
        """Somebody has to resolve disputes."""
        raise Refused("ArbiterRequired")

    def _pay(self, account: str, amount: int) -> None:
        if amount:
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


def _require_actor(actor: str, sender: str, signer: str | None) -> None:
    _require(actor in {sender, signer}, "NotActor", actor, sender)
