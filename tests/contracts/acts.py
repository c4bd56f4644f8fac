"""The acts on booked lessons, each in one line, and a check of all that an act changes and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from helpers import Account, Actor, Event, Receipt, call, event, plain, rpc, send, set_back, sign
from market import PAGE, RATE, Market, quarters_of, slot

from creneau.lifecycle import Status
from creneau.order import Order, Slot
from creneau.typed_data import action_typed_data, settle_typed_data

DAY = 24 * 60 * 60
CANCEL_WINDOW, REVIEW, ARBITRATION = DAY, 2 * DAY, 14 * DAY
"""The periods of the escrow under test, in seconds."""

DEFAULT_SHARE = 3_000
"""The tutor's share of what nobody decided, in basis points."""

FOREVER = 2**40 - 1
"""The last deadline that a signature can have."""

MONTH = 30 * DAY
"""Long enough after a lesson for everything that takes time."""

LESSONS = (slot(0), slot(8), slot(16))
ALL = 0b111

TARGETS = {
    "confirm": Status.CONFIRMED,
    "cancel": Status.CANCELLED,
    "complete": Status.COMPLETED,
    "dispute": Status.DISPUTED,
    "resolve": Status.COMPLETED,
    "settle": Status.COMPLETED,
}
"""The acts, and the status that each leads to."""


def end_of(lesson: Slot) -> int:
    """The unix time at which a lesson is over."""
    return lesson.start_unix + 60 * lesson.minutes


def lessons_of(order: Order, lessons: int) -> list[int]:
    """The indexes of a set of lessons."""
    return [index for index in range(len(order.slots)) if lessons >> index & 1]


def act_call(
    market: Market,
    act: str,
    order: Order,
    lessons: int,
    by: Actor,
    *,
    signature: bytes = b"",
    share: int = 10_000,
    deadline: int = FOREVER,
    other: bytes | None = None,
) -> tuple[Any, ...]:
    """The function and its arguments, as `send`, `call` and `calldata` take them.

    To settle is `by`'s, whose signature is given like in every act, and the other party's, who signs it here
    unless another signature is given.
    """
    function = getattr(market.escrow, act)
    if act == "resolve":
        return function, order, lessons, share
    if act == "settle":
        is_student = plain(by) == order.student
        if other is None:
            partner = order.tutor if is_student else order.student
            keys = {plain(account): account for account in (market.student, market.tutor)}
            signer = keys.get(partner, market.stranger)  # who owns the contract wallets
            other = sign_action(market, act, order, lessons, signer, share=share, deadline=deadline)
        signatures = (signature, other) if is_student else (other, signature)
        return function, order, lessons, share, deadline, *signatures
    if act in {"cancel", "complete"}:
        return function, order, lessons, by, deadline, signature
    return function, order, lessons, deadline, signature


def sign_action(
    market: Market,
    act: str,
    order: Order,
    lessons: int,
    account: Account,
    *,
    share: int = 10_000,
    deadline: int = FOREVER,
) -> bytes:
    """An account's signature of an act."""
    if act == "settle":
        terms = settle_typed_data(market.domain, order.batch_id, lessons, share, deadline)
        return sign(account, terms)
    name: Any = act.capitalize()
    return sign(account, action_typed_data(market.domain, name, order.batch_id, lessons, deadline))


def do(
    market: Market,
    act: str,
    order: Order,
    lessons: int,
    by: Actor,
    *,
    sender: Actor | None = None,
    at: int | None = None,
    **how: Any,
) -> Receipt:
    """Sends an act: the actor does, unless another sender is named. `how` is what `act_call` takes."""
    return send(*act_call(market, act, order, lessons, by, **how), sender=sender or by, at=at)


def done(
    market: Market,
    act: str,
    order: Order,
    lessons: int,
    by: Actor,
    *,
    share: int = 10_000,
    **how: Any,
) -> Receipt:
    """Does it, and checks the events, each lesson's status, the calendar and everybody's money."""
    batch = order.batch_id
    payees = [order.tutor, order.student, plain(market.escrow)]
    others = [plain(account) for account in (market.relayer, market.stranger, market.arbiter)]
    people = payees + [account for account in others if account not in payees]
    calendar = market.calendar(order.tutor)
    money = [market.balance(account) for account in people]
    created, *sets = call(market.escrow.batches, batch)

    receipt = do(market, act, order, lessons, by, share=share, **how)

    to_tutor, to_student = payments(act, order, lessons, share)
    assert receipt.events == expected_events(market, act, order, lessons, by, share=share)
    sets = [kept & ~lessons for kept in sets]
    sets[TARGETS[act] - 1] |= lessons
    assert call(market.escrow.batches, batch) == (created, *sets)
    if act == "cancel":
        calendar -= quarters_of(order.slots[index] for index in lessons_of(order, lessons))
    assert market.calendar(order.tutor) == calendar
    moved = [to_tutor, to_student, -to_tutor - to_student]
    moved += [0] * (len(people) - len(moved))
    assert [market.balance(account) for account in people] == [
        had + got for had, got in zip(money, moved, strict=True)
    ]
    return receipt


def payments(act: str, order: Order, lessons: int, share: int = 10_000) -> tuple[int, int]:
    """The payments of an act to the tutor and the student."""
    amounts = [order.amounts_wei[index] for index in lessons_of(order, lessons)]
    if act in {"confirm", "dispute"}:
        return 0, 0
    share = {"cancel": 0, "complete": 10_000}.get(act, share)
    shares = [amount * share // 10_000 for amount in amounts]
    return sum(shares), sum(amounts) - sum(shares)


def expected_events(
    market: Market, act: str, order: Order, lessons: int, by: Actor, *, share: int = 10_000
) -> list[Event]:
    """The events of an act: its own, then a transfer to everyone who gets something."""
    to_tutor, to_student = payments(act, order, lessons, share)
    named: dict[str, tuple[str, dict[str, Any]]] = {
        "confirm": ("BookingsConfirmed", {"by": by}),
        "cancel": ("BookingsCancelled", {"by": by, "refund": to_student}),
        "complete": ("BookingsCompleted", {"by": by, "amount": to_tutor}),
        "dispute": ("BookingsDisputed", {"by": by}),
        "resolve": ("BookingsResolved", {"by": by, "tutorAmount": to_tutor, "studentAmount": to_student}),
        "settle": (
            "BookingsSettled",
            {
                "student": order.student,
                "tutor": order.tutor,
                "tutorAmount": to_tutor,
                "studentAmount": to_student,
            },
        ),
    }
    name, details = named[act]
    transfers = [
        event(market.token, "Transfer", **{"from": market.escrow, "to": account, "value": amount})
        for account, amount in ((order.tutor, to_tutor), (order.student, to_student))
        if amount
    ]
    return [event(market.escrow, name, batch=order.batch_id, lessons=lessons, **details), *transfers]


# --- Lessons that stand somewhere ---


def booked(market: Market, *slots: Slot, instant: bool = False, rate: int = RATE, **terms: Any) -> Order:
    """An order that was created, of three lessons unless slots are given."""
    if instant or rate != RATE:
        market.publish(rate, instant=instant)
    order = market.order(*(slots or LESSONS), rate=rate, **terms)
    market.book(order)
    if instant or rate != RATE:
        market.publish()
    return order


def disputed(market: Market, *slots: Slot, **terms: Any) -> Order:
    """The same, with all lessons disputed as soon as the last one has started."""
    order = booked(market, *slots, instant=True, **terms)
    start = max(slot.start_unix for slot in order.slots)
    do(market, "dispute", order, (1 << len(order.slots)) - 1, market.student, at=start)
    return order


def in_every_status(market: Market) -> Order:
    """An order whose lesson i has status i; the disputed one has just started, the others are days away."""
    later = [slot(8 * place, page=PAGE + 1) for place in range(5)]
    market.book(market.order(later[0], salt=b"\7" * 32))
    order = booked(market, later[0], later[1], later[2], slot(0), later[3], later[4])
    do(market, "confirm", order, 1 << Status.CONFIRMED | 1 << Status.DISPUTED, market.tutor)
    do(market, "complete", order, 1 << Status.COMPLETED, market.student)
    do(market, "cancel", order, 1 << Status.CANCELLED, market.student)
    do(market, "dispute", order, 1 << Status.DISPUTED, market.student, at=slot(0).start_unix)
    return order


@contextmanager
def undone() -> Iterator[None]:
    """Sets the chain back afterwards, its time too."""
    snapshot = rpc("evm_snapshot")
    yield
    set_back(snapshot)
