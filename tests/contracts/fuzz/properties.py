"""Properties 1 to 7 of the escrow, in words, each with a check of what the chain says after every step.

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
    role_of,
)
from fuzz.node import Log

MOVES = {"confirm", "cancel", "complete", "dispute", "resolve"}


@dataclass(frozen=True)
class State:
    """What can be read of the escrow and the token at one time."""

    arbiter: str
    money: dict[str, int]
    allowance: dict[str, int]
    listings: dict[tuple[str, bytes], Listing]
    batches: dict[Order, Batch]
    created: dict[Order, int]
    calendars: dict[str, set[int]]

    def lessons(self) -> Iterator[tuple[Order, int, int]]:
        """Every lesson that was ever booked, and its status."""
        for order, batch in self.batches.items():
            for lesson, status in batch.items():
                yield order, lesson, status


@dataclass(frozen=True)
class Act:
    """Something somebody tried: `actor` is who it is done for, `signer` who signed exactly it, if anybody."""

    name: str
    actor: str
    sender: str
    signer: str | None = None
    order: Order | None = None
    lessons: frozenset[int] = frozenset()
    listing: bytes = b""
    instant: bool = False

    @property
    def authorised(self) -> bool:
        return self.actor in {self.sender, self.signer}


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
    """What the escrow owes for each lesson of each batch, before this step."""
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
    """1. The escrow's balance equals the sum of the amounts of its Pending, Confirmed, Disputed lessons."""
    owed = sum(order.amount(lesson) for order, lesson, status in step.after.lessons() if status in LIVE)
    require(step.after.money[step.escrow] == owed, "balance", step.after.money[step.escrow], "owed", owed)


def each_amount_leaves_once(step: Step) -> None:
    """2. A lesson's amount leaves the escrow exactly once.

    What is owed is kept from the events alone: a creation adds its lessons, an end takes its lessons away,
    which must be there, and moves their sum: to the student if cancelled, to the tutor if completed, to the
    two if resolved. What is left over is owed for the live lessons, and for no others.
    """
    owed = step.owed
    expected: Counter[str] = Counter()
    moved: Counter[str] = Counter()
    for log in step.logs:
        match log.name, log.arguments:
            case "BookingsCreated", (batch, _, _, terms, booked, _):
                order = step.orders[batch]
                require(terms == order, "terms", terms, order)
                owed[batch] = {lesson: order.amount(lesson) for lesson in bits(booked)}
            case (
                ("BookingsCancelled" | "BookingsCompleted" | "BookingsResolved"),
                (batch, lessons, *details),
            ):
                order = step.orders[batch]
                require(bits(lessons) <= owed[batch].keys(), "paid twice", log)
                total = sum(owed[batch].pop(lesson) for lesson in bits(lessons))
                to_tutor = {"BookingsCancelled": 0, "BookingsCompleted": total}.get(log.name, details[0])
                to_student = total - to_tutor
                amounts = [to_tutor, to_student] if log.name == "BookingsResolved" else [total]
                require(list(details[-len(amounts) :]) == amounts, "amounts", log, amounts)
                expected += Counter({order.tutor: to_tutor}) + Counter({order.student: to_student})
            case "Transfer", (step.escrow, destination, amount):
                moved[destination] += amount
            case _:
                pass
    require(+moved == +expected, "moved", moved, "expected", expected)
    live = {(order, lesson) for order, lesson, status in step.after.lessons() if status in LIVE}
    still = {(step.orders[batch], lesson) for batch, lessons in owed.items() for lesson in lessons}
    require(live == still, "live", live ^ still)


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
    """4. A creation causes exactly one `Transfer` from the student, of exactly the total; nobody without the
    student's transaction or signature can cause it; the same order cannot be created twice."""
    created = [log for log in step.logs if log.name == "BookingsCreated"]
    taken = [log.arguments for log in step.logs if log.name == "Transfer" and log.arguments[0] != step.escrow]
    ordered = [act for act in step.acts if act.name == "create"]
    require(len(created) == len(taken) == len(ordered), "creations", created, taken, ordered)
    for log, transfer, act in zip(created, taken, ordered, strict=True):
        batch, student, tutor, terms, booked, total = log.arguments
        require((terms, terms[0], terms[1]) == (act.order, student, tutor), "not what was ordered", log, act)
        require(act.authorised and act.actor == student, "not authorised", act)
        require(act.order not in step.before.batches, "created twice", act)
        require(total == step.orders[batch].total(bits(booked)), "total", log)
        require(transfer == (student, step.escrow, total), "transfer", transfer, log)
    require(len({log.arguments[0] for log in created}) == len(created), "created twice", created)


def statuses_move_by_the_table(step: Step) -> None:
    """5. Statuses move only along the table, by the actor and in the time it names."""
    expected = {order: dict(batch) for order, batch in step.before.batches.items()}
    instant = {listing: terms.instant for listing, terms in step.before.listings.items()}
    arbiter = step.before.arbiter
    for act in step.acts:
        if act.name == "publish":
            require(act.authorised, "not authorised", act)
            instant[act.actor, act.listing] = act.instant
        elif act.name == "accept":
            arbiter = act.sender
        elif act.name == "create":
            assert act.order is not None
            first = CONFIRMED if instant[act.order.tutor, act.order.listing] else PENDING
            booked = step.after.batches[act.order]
            require(act.authorised and step.now <= act.order.deadline, "creation", act)
            require(all(act.order.slots[lesson].start > step.now for lesson in booked), "in the past", act)
            expected[act.order] = dict.fromkeys(booked, first)
        elif act.name in MOVES:
            assert act.order is not None
            require(act.authorised, "not authorised", act)
            role = role_of(act.name, act.actor, act.order)
            named = {"confirm": "tutor", "dispute": "student", "resolve": "arbiter"}
            require(named.get(act.name, role) == role, "not the actor", act)
            require(role != "arbiter" or act.actor == arbiter, "not the arbiter", act)
            batch = expected[act.order]
            require(bool(act.lessons), "an act on no lesson", act)
            for lesson in act.lessons:
                window = RULES[act.name, role].get(batch.get(lesson, NONE))
                require(window is not None, "not in the table", act, batch)
                assert window is not None
                first, last = window(act.order.slots[lesson], step.periods)
                require(first <= step.now <= last, "not the time", act, first, step.now, last)
                batch[lesson] = BECOMES[act.name]
    require(step.after.batches == expected, "statuses", step.after.batches, expected)


def partial_orders_leave_out_what_was_taken(step: Step) -> None:
    """7. A slot of a partial order is left out only if it was taken; a strict order leaves out nothing."""
    filled = {tutor: set(quarters) for tutor, quarters in step.before.calendars.items()}
    for log in step.logs:
        if log.name == "BookingsCreated":
            batch, _, _, _, booked, _ = log.arguments
            order = step.orders[batch]
            left_out = set(range(len(order.slots))) - bits(booked)
            require(bool(bits(booked)) and (order.allow_partial or not left_out), "left out", log)
            for lesson in left_out:
                taken = not filled[order.tutor].isdisjoint(order.slots[lesson].quarters)
                require(taken, "left out, but free", lesson, log)
            for lesson in bits(booked):
                filled[order.tutor] |= order.slots[lesson].quarters


Check = Callable[[Step], None]

CHECKS: dict[int, Check] = {
    1: balance_is_what_is_owed,
    2: each_amount_leaves_once,
    3: no_two_lessons_overlap,
    4: one_transfer_for_each_creation,
    5: statuses_move_by_the_table,
    7: partial_orders_leave_out_what_was_taken,
}
"""Number 6 needs the node: `World.everybody_gets_his_money_out` has it."""

OUTS = {PENDING: ("cancel", "student"), CONFIRMED: ("complete", "tutor"), DISPUTED: ("cancel", "student")}
"""6. From every live status, whose money it becomes with time, and the act by which he gets it out alone."""


def bits(lessons: int) -> set[int]:
    """The lessons of a bit set."""
    return {lesson for lesson in range(lessons.bit_length()) if lessons >> lesson & 1}


def bitmap(lessons: "set[int] | frozenset[int]") -> int:
    """The bit set of lessons."""
    return sum(1 << lesson for lesson in lessons)
