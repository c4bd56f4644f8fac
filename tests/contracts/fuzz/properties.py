"""Properties 1 to 8 of the escrow, in words, each with a check of what the chain says after every step.

The checks know nothing of the model's state. They read the contract's storage and events, before and after a
step, and the rules of `model.RULES`; so they hold, or not, whatever the model believes.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations

from fuzz.model import (
    BECOMES,
    COMPLETED,
    CONFIRMED,
    DISPUTED,
    LIVE,
    NONE,
    PENDING,
    RULES,
    Batch,
    Listing,
    Order,
    Periods,
    Proof,
    role_of,
)
from fuzz.node import Log

MOVES = {"confirm", "cancel", "complete", "dispute", "resolve", "settle"}


@dataclass(frozen=True)
class State:
    """All that can be read of the escrow and the token at one time."""

    arbiter: str
    money: dict[str, int]
    allowance: dict[str, int]
    listings: dict[tuple[str, bytes], Listing]
    batches: dict[Order, Batch]
    created: dict[Order, int]
    calendars: dict[str, set[int]]
    credits: dict[str, int]
    blocked: set[str]

    def lessons(self) -> Iterator[tuple[Order, int, int]]:
        """Every lesson that was ever booked, and its status."""
        for order, batch in self.batches.items():
            for lesson, status in batch.items():
                yield order, lesson, status


@dataclass(frozen=True)
class Act:
    """An attempt: `actor` is the account it is done for, `proof` its sender and its signer."""

    name: str
    actor: str
    proof: Proof
    order: Order | None = None
    lessons: frozenset[int] = frozenset()
    listing: bytes = b""
    offer: Listing | None = None
    share: int = 0
    to: str = ""

    def authorised_by(self, account: str, now: int) -> bool:
        """True if an account sends it, or signed it and the signature's deadline is not over."""
        signed = account in self.proof.signers and now <= self.proof.deadline
        return account == self.proof.sender or signed


@dataclass(frozen=True)
class Step:
    """One transaction that succeeded: the acts in it, in order, and what it emitted."""

    escrow: str
    periods: Periods
    now: int
    acts: list[Act]
    logs: list[Log]
    before: State
    after: State
    owed: dict[bytes, dict[int, int]]
    """The escrow's debt for each lesson of each batch, before this step."""
    orders: dict[bytes, Order] = field(default_factory=dict)


class Violation(AssertionError):  # a property broke, not the test
    """A property does not hold."""


def require(condition: bool, *what: object) -> None:
    """Like assert, but also where Python runs without them."""
    if not condition:
        raise Violation(*what)


@contextmanager
def named(number: int) -> Iterator[None]:
    """A violation says which property it is of."""
    try:
        yield
    except Violation as violation:
        raise Violation(f"property {number}", *violation.args) from None


def balance_is_what_is_owed(step: Step) -> None:
    """1. The escrow's balance equals the amounts of its live lessons plus the credits."""
    owed = sum(order.amount(lesson) for order, lesson, status in step.after.lessons() if status in LIVE)
    owed += sum(step.after.credits.values())
    require(step.after.money[step.escrow] == owed, "balance", step.after.money[step.escrow], "owed", owed)


def each_amount_leaves_once(step: Step) -> None:
    """2. A lesson's amount leaves the escrow exactly once, to its receiver or into their credit.

    What is owed is kept from the events alone: a creation adds its lessons, an end takes its lessons away,
    which must be there, and moves their sum: to the student if cancelled, to the tutor if completed, to the
    two if resolved or settled, the tutor's share of each lesson rounded down. What is left over is owed for
    the live lessons, and for no others.
    """
    owed = step.owed
    shares = {(act.order, act.lessons): act.share for act in step.acts if act.name in {"resolve", "settle"}}
    expected: Counter[str] = Counter()
    moved: Counter[str] = Counter()
    credited: Counter[str] = Counter()
    for log in step.logs:
        match log.name, log.arguments:
            case "BookingsCreated", (batch, *_, booked, _, _):
                order = step.orders[batch]
                owed[batch] = {lesson: order.amount(lesson) for lesson in bits(booked)}
            case "BookingsSettled", (batch, student, tutor, lessons, *amounts):
                order = step.orders[batch]
                require((student, tutor) == (order.student, order.tutor), "parties", log)
                require(amounts[0] == _share(shares, order, lessons), "the tutor's share", log)
                expected += _ended(owed, order, batch, lessons, *amounts, log)
            case "BookingsResolved", (batch, _, lessons, *amounts):
                order = step.orders[batch]
                require(amounts[0] == _share(shares, order, lessons), "the tutor's share", log)
                expected += _ended(owed, order, batch, lessons, *amounts, log)
            case "BookingsCompleted", (batch, _, lessons, amount):
                expected += _ended(owed, step.orders[batch], batch, lessons, amount, 0, log)
            case "BookingsCancelled", (batch, _, lessons, refund):
                expected += _ended(owed, step.orders[batch], batch, lessons, 0, refund, log)
            case "CreditWithdrawn", (account, destination, amount):
                expected[destination] += amount
                credited[account] -= amount
            case "PaymentCredited", (account, amount):
                moved[account] += amount
                credited[account] += amount
            case "Transfer", (step.escrow, destination, amount):
                moved[destination] += amount
            case _:
                pass
    require(+moved == +expected, "moved", moved, "expected", expected)
    for account, had in step.before.credits.items():
        require(step.after.credits[account] == had + credited[account], "credits", account, credited)
    live = {(order, lesson) for order, lesson, status in step.after.lessons() if status in LIVE}
    still = {(step.orders[batch], lesson) for batch, lessons in owed.items() for lesson in lessons}
    require(live == still, "live", live ^ still)


def _share(shares: dict[tuple[Order | None, frozenset[int]], int], order: Order, lessons: int) -> int:
    """The tutor's part of a split that was asked for."""
    share = shares[order, frozenset(bits(lessons))]
    return sum(order.amount(lesson) * share // 10_000 for lesson in bits(lessons))


def _ended(
    owed: dict[bytes, dict[int, int]],
    order: Order,
    batch: bytes,
    lessons: int,
    to_tutor: int,
    to_student: int,
    log: Log,
) -> Counter[str]:
    """Takes lessons off the books, and says who is to get how much for them."""
    require(bits(lessons) <= owed[batch].keys(), "paid twice", log)
    total = sum(owed[batch].pop(lesson) for lesson in bits(lessons))
    require(to_tutor + to_student == total, "amounts", log, total)
    return Counter({order.tutor: to_tutor}) + Counter({order.student: to_student})


def no_two_lessons_overlap(step: Step) -> None:
    """3. No two live lessons of a tutor overlap; a cancelled one blocks nothing.

    The calendar holds the quarters of the lessons that were booked and not cancelled, and no others.
    """
    live = [(order, lesson) for order, lesson, status in step.after.lessons() if status in LIVE]
    for (order, lesson), (other_order, other) in combinations(live, 2):
        same = order.tutor == other_order.tutor
        overlap = same and order.slots[lesson].overlaps(other_order.slots[other])
        require(not overlap, "overlap", order, lesson, other_order, other)
    filled: dict[str, set[int]] = {tutor: set() for tutor in step.after.calendars}
    for order, lesson, status in step.after.lessons():
        if status in LIVE | {COMPLETED}:
            filled[order.tutor] |= order.slots[lesson].quarters
    require(step.after.calendars == filled, "calendars", step.after.calendars, filled)


def one_transfer_for_each_creation(step: Step) -> None:
    """4. A creation causes one `Transfer` from the student, of exactly the total, none of nothing; nobody
    without the student's transaction or signature can cause it; the same order cannot be created twice."""
    created = [log for log in step.logs if log.name == "BookingsCreated"]
    taken = [log.arguments for log in step.logs if log.name == "Transfer" and log.arguments[0] != step.escrow]
    ordered = [act for act in step.acts if act.name == "create"]
    require(len(created) == len(ordered), "creations", created, ordered)
    paid = [(log.arguments[1], step.escrow, log.arguments[-1]) for log in created if log.arguments[-1]]
    require(taken == paid, "transfers", taken, paid)
    for log, act in zip(created, ordered, strict=True):
        batch, *terms, packed, booked, _, total = log.arguments
        order = step.orders[batch]
        slots = b"".join(slot.packed.to_bytes(4) for slot in order.slots)
        require((order, *terms, packed) == (act.order, *order[:7], slots), "not what was ordered", log, act)
        require(act.authorised_by(order.student, step.now), "not authorised", act)
        require(act.order not in step.before.batches, "created twice", act)
        require(total == order.total(bits(booked)), "total", log)
    require(len({log.arguments[0] for log in created}) == len(created), "created twice", created)


def statuses_move_by_the_table(step: Step) -> None:
    """5. Statuses move only along the table, by the actor and in the time it names, and no signature counts
    after its deadline."""
    expected = {order: dict(batch) for order, batch in step.before.batches.items()}
    offers = dict(step.before.listings)
    arbiter = step.before.arbiter
    for act in step.acts:
        order, now = act.order, step.now
        if act.name == "publish":
            require(act.authorised_by(act.actor, now), "not authorised", act)
            assert act.offer is not None
            offers[act.actor, act.listing] = act.offer
        elif act.name == "withdraw":
            require(act.authorised_by(act.actor, now), "not authorised", act)
        elif act.name == "accept":
            arbiter = act.proof.sender
        elif act.name == "revoke":
            assert order is not None
            require(act.authorised_by(order.student, now), "not authorised", act)
            expected[order] = {}
        elif act.name == "create":
            assert order is not None
            own_time = order.student == order.tutor
            offer = Listing(instant=True) if own_time else offers[order.tutor, order.listing]
            booked = step.after.batches[order]
            require(act.authorised_by(order.student, now) and now <= order.deadline, "creation", act)
            require(order.hourly_rate == offer.hourly_rate, "not the rate", act, offer)
            require(own_time or offer.hourly_rate > 0, "not offered", act, offer)
            first, last = offer.limits(now)
            in_time = all(first <= order.slots[lesson].start <= last for lesson in booked)
            require(in_time, "not in the time that is offered", act, offer)
            expected[order] = dict.fromkeys(booked, CONFIRMED if offer.instant else PENDING)
        elif act.name in MOVES:
            assert order is not None
            _move_by_the_table(act, order, expected[order], step, arbiter)
    require(step.after.batches == expected, "statuses", step.after.batches, expected)


def _move_by_the_table(act: Act, order: Order, batch: Batch, step: Step, arbiter: str) -> None:
    role = role_of(act.name, act.actor, order, arbiter)
    named = {"confirm": {"tutor"}, "dispute": {"student"}, "resolve": {"arbiter", "anyone"}}
    require(role in named.get(act.name, {role}), "not the actor", act)
    actors = {order.student, order.tutor} if act.name == "settle" else {act.actor}
    require(all(act.authorised_by(actor, step.now) for actor in actors), "not authorised", act)
    if act.name == "resolve" and role == "anyone":
        require(act.share == step.periods.default_share, "not the default share", act)
    require(bool(act.lessons), "an act on no lesson", act)
    for lesson in act.lessons:
        window = RULES[act.name, role].get(batch.get(lesson, NONE))
        require(window is not None, "not in the table", act, batch)
        assert window is not None
        first, last = window(order.slots[lesson], step.periods)
        require(first <= step.now <= last, "not the time", act, first, step.now, last)
        batch[lesson] = BECOMES[act.name]


def orders_leave_out_what_was_taken(step: Step) -> None:
    """7. A slot is left out only if it was taken, and never so many that too few are left."""
    filled = {tutor: set(quarters) for tutor, quarters in step.before.calendars.items()}
    for log in step.logs:
        if log.name == "BookingsCancelled":  # earlier in the same transaction
            order = step.orders[log.arguments[0]]
            for lesson in bits(log.arguments[2]):
                filled[order.tutor] -= order.slots[lesson].quarters
        if log.name == "BookingsCreated":
            booked = bits(log.arguments[-3])
            order = step.orders[log.arguments[0]]
            require(len(booked) >= max(order.min_lessons, 1), "too few", log)
            for lesson in set(range(len(order.slots))) - booked:
                taken = not filled[order.tutor].isdisjoint(order.slots[lesson].quarters)
                require(taken, "left out, but free", lesson, log)
            for lesson in booked:
                filled[order.tutor] |= order.slots[lesson].quarters


Check = Callable[[Step], None]

CHECKS: dict[int, Check] = {
    1: balance_is_what_is_owed,
    2: each_amount_leaves_once,
    3: no_two_lessons_overlap,
    4: one_transfer_for_each_creation,
    5: statuses_move_by_the_table,
    7: orders_leave_out_what_was_taken,
}
"""Number 6 needs the node: `World.anyone_ends_it` has it. Number 8 needs many steps: `ROWS` are looked up in
the tally at the end."""

OUTS = {PENDING: "cancel", CONFIRMED: "complete", DISPUTED: "resolve"}
"""6. How anyone ends it from every live status, with time."""

ROWS = [(act, role, status) for (act, role), rules in RULES.items() for status in rules]
"""8. Each entry of the table, which must have been done."""


def bits(lessons: int) -> set[int]:
    """The lessons of a bit set."""
    return {lesson for lesson in range(lessons.bit_length()) if lessons >> lesson & 1}


def bitmap(lessons: "set[int] | frozenset[int]") -> int:
    """The bit set of lessons."""
    return sum(1 << lesson for lesson in lessons)
