"""Rules of all acts: whose they are, of which order, on which lessons, and in which status."""

from copy import deepcopy
from typing import Any, NamedTuple

import pytest
from acts import (
    ALL,
    DEFAULT_SHARE,
    FOREVER,
    MONTH,
    TARGETS,
    act_call,
    booked,
    disputed,
    do,
    done,
    expected_events,
    in_every_status,
    sign_action,
)
from ape import project
from helpers import (
    Account,
    Actor,
    Contract,
    call,
    call_data,
    calldata,
    deploy,
    reverts,
    send,
    send_data,
    sign,
)
from market import LISTING, NOBODY, RATE, TAMPERED, Market, slot

from creneau.lifecycle import Status
from creneau.order import Order
from creneau.typed_data import action_typed_data, settle_typed_data

PENDING, CONFIRMED, DISPUTED = (1 << status for status in (Status.PENDING, Status.CONFIRMED, Status.DISPUTED))
EARLY = slot(0).start_unix + 60
LATE = slot(0).start_unix + 2 * MONTH


class Rule(NamedTuple):
    """A right: a role's act on lessons of some statuses; `times` says when with each of them."""

    act: str
    role: str
    times: dict[Status, int]

    @property
    def allowed(self) -> int:
        return sum(1 << status for status in self.times)

    @property
    def how(self) -> dict[str, int]:
        """The act's other arguments: whoever is not the arbiter resolves with the default share."""
        return {"share": DEFAULT_SHARE} if (self.act, self.role) == ("resolve", "stranger") else {}

    def __str__(self) -> str:
        return f"{self.act} by {self.role}"


RULES = [
    Rule("confirm", "tutor", {Status.PENDING: EARLY}),
    Rule("cancel", "student", {Status.PENDING: LATE, Status.CONFIRMED: EARLY}),
    Rule("cancel", "tutor", {Status.PENDING: LATE, Status.CONFIRMED: LATE, Status.DISPUTED: EARLY}),
    Rule("cancel", "arbiter", {Status.PENDING: LATE}),
    Rule("cancel", "stranger", {Status.PENDING: LATE}),
    Rule("complete", "student", {Status.PENDING: EARLY, Status.CONFIRMED: EARLY, Status.DISPUTED: EARLY}),
    Rule("complete", "tutor", {Status.CONFIRMED: LATE}),
    Rule("complete", "arbiter", {Status.CONFIRMED: LATE}),
    Rule("complete", "stranger", {Status.CONFIRMED: LATE}),
    Rule("dispute", "student", {Status.CONFIRMED: slot(16, page=8905).start_unix}),
    Rule("resolve", "arbiter", {Status.DISPUTED: EARLY}),
    Rule("resolve", "stranger", {Status.DISPUTED: LATE}),
    Rule("settle", "student", {Status.PENDING: LATE, Status.CONFIRMED: LATE, Status.DISPUTED: EARLY}),
    Rule("settle", "tutor", {Status.PENDING: EARLY, Status.CONFIRMED: EARLY, Status.DISPUTED: LATE}),
]
ACTORS = {
    "confirm": "tutor",
    "cancel": "student",
    "complete": "student",
    "dispute": "student",
    "settle": "student",
}
SIGNED = [
    (act, role)
    for act, role in [*ACTORS.items(), ("cancel", "tutor"), ("complete", "tutor"), ("settle", "tutor")]
]
"""The acts that can be signed, and who signs them."""


def prepared(market: Market, act: str, **terms: Any) -> tuple[Order, int | None]:
    """An order of three lessons with which this can be done, and when if not at once."""
    if act == "resolve":
        return disputed(market, **terms), None
    return booked(market, instant=act == "dispute", **terms), slot(
        16
    ).start_unix if act == "dispute" else None


def actor_of(market: Market, act: str) -> Account:
    account: Account = getattr(market, ACTORS.get(act, "arbiter"))
    return account


# --- The order ---


@pytest.mark.parametrize("act", TARGETS)
def test_the_order_is_the_one_that_was_created(market: Market, act: str) -> None:
    order, at = prepared(market, act)
    for change in TAMPERED.values():
        other = order.model_copy(update=change(order))
        with reverts("UnknownBatch", batch=other.batch_id):
            do(market, act, other, 0b1, actor_of(market, act))
    done(market, act, order, ALL, actor_of(market, act), at=at)


@pytest.mark.parametrize("act", TARGETS)
def test_an_order_that_was_not_created_is_unknown_to_everybody(market: Market, act: str) -> None:
    order = market.order()
    for role in ("tutor", "student", "stranger") if act != "resolve" else ("arbiter",):
        with reverts("UnknownBatch", batch=order.batch_id):
            do(market, act, order, 0b1, getattr(market, role))


@pytest.mark.parametrize("act", TARGETS)
def test_dirty_bits_are_refused(market: Market, act: str) -> None:
    order, at = prepared(market, act)
    by = actor_of(market, act)
    data = calldata(*act_call(market, act, order, ALL, by))
    dirty = {"lessons": (1, 40)}
    dirty["deadline"] = {"cancel": (3, 40), "complete": (3, 40), "settle": (3, 40)}.get(act, (2, 40))
    if act in {"cancel", "complete"}:
        dirty["by"] = (2, 160)
    if act in {"resolve", "settle"}:
        dirty["share"] = (2, 16)
    if act == "resolve":
        del dirty["deadline"]
    for word, bits in dirty.values():
        place = 4 + 32 * word
        changed = int.from_bytes(data[place : place + 32]) | 1 << bits
        with reverts(None):
            send_data(market.escrow, data[:place] + changed.to_bytes(32) + data[place + 32 :], sender=by)
    assert send_data(market.escrow, data, sender=by, at=at).logs


@pytest.mark.parametrize("act", TARGETS)
def test_slots_with_dirty_bits_are_other_slots(market: Market, act: str) -> None:
    order, at = prepared(market, act)
    by = actor_of(market, act)
    data, view = calldata(*act_call(market, act, order, ALL, by)), calldata(market.escrow.batchOf, order)
    clean = order.slots[1].packed.to_bytes(32)
    for bit in (32, 255):
        dirty = (order.slots[1].packed | 1 << bit).to_bytes(32)
        batch = call_data(market.escrow, view.replace(clean, dirty))
        assert batch != order.batch_id
        with reverts("UnknownBatch", batch=batch):
            send_data(market.escrow, data.replace(clean, dirty), sender=by)
    assert send_data(market.escrow, data, sender=by, at=at).logs


# --- The lessons ---


def test_every_status_is_told(market: Market) -> None:
    """The tests below begin with this: lesson i has status i."""
    order = in_every_status(market)
    batch = order.batch_id
    told = [call(market.escrow.statusOf, batch[:31] + bytes([index])) for index in (*range(7), 39, 40, 255)]
    assert told == [*Status, 0, 0, 0, 0]
    assert call(market.escrow.batches, batch)[1:] == tuple(1 << index for index in range(1, 6))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_an_act_names_a_lesson(market: Market, rule: Rule) -> None:
    order, _ = prepared(market, rule.act)
    with reverts("NoLessons"):
        do(market, rule.act, order, 0, getattr(market, rule.role), **rule.how)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_wrong_status_is_refused(market: Market, rule: Rule) -> None:
    order, by = in_every_status(market), getattr(market, rule.role)
    for status in set(Status) - set(rule.times):
        for lessons in (1 << status, 1 << status | rule.allowed, 1 << status | 1 << 6):
            with reverts("WrongStatus", index=status, actual=status, allowed=rule.allowed):
                do(market, rule.act, order, lessons, by, **rule.how)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_lesson_beyond_the_order_is_none(market: Market, rule: Rule) -> None:
    order, by = in_every_status(market), getattr(market, rule.role)
    for index in (6, 7, 38, 39):
        for lessons in (1 << index, 1 << index | rule.allowed, 1 << index | 1 << 39):
            with reverts("WrongStatus", index=index, actual=Status.NONE, allowed=rule.allowed):
                do(market, rule.act, order, lessons, by, **rule.how)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_lowest_wrong_lesson_is_named(market: Market, rule: Rule) -> None:
    order, by = in_every_status(market), getattr(market, rule.role)
    wrong = [status for status in Status if status not in rule.times]
    with reverts("WrongStatus", index=wrong[0], actual=wrong[0], allowed=rule.allowed):
        do(market, rule.act, order, 2**40 - 1, by, **rule.how)
    with reverts("WrongStatus", index=wrong[1], actual=wrong[1], allowed=rule.allowed):
        do(market, rule.act, order, 2**40 - 2, by, **rule.how)


@pytest.mark.parametrize(
    ("rule", "status"),
    [pytest.param(rule, status, id=f"{rule} of {status.name}") for rule in RULES for status in rule.times],
)
def test_the_right_status_is_enough(market: Market, rule: Rule, status: Status) -> None:
    order, by = in_every_status(market), getattr(market, rule.role)
    done(market, rule.act, order, 1 << status, by, at=rule.times[status], **rule.how)
    target = TARGETS[rule.act]  # and only once
    if target not in rule.times:
        with reverts("WrongStatus", index=status, actual=target, allowed=rule.allowed):
            do(market, rule.act, order, 1 << status, by, **rule.how)


@pytest.mark.parametrize("lessons", [0b1, 0b10, 0b100, 0b11, 0b101, 0b110, 0b111])
@pytest.mark.parametrize("act", TARGETS)
def test_any_set_of_lessons(market: Market, act: str, lessons: int) -> None:
    order, at = prepared(market, act)
    done(market, act, order, lessons, actor_of(market, act), at=at)
    if rest := ALL & ~lessons:
        done(market, act, order, rest, actor_of(market, act))


@pytest.mark.parametrize("act", TARGETS)
def test_the_last_lesson_of_forty(market: Market, act: str) -> None:
    slots = [slot(2 * place, 15) for place in range(40)]
    order = disputed(market, *slots) if act == "resolve" else booked(market, *slots, instant=act == "dispute")
    at = slots[-1].start_unix if act == "dispute" else None
    done(market, act, order, 1 << 39, actor_of(market, act), at=at)
    done(market, act, order, 2**39 - 1, actor_of(market, act))


@pytest.mark.parametrize("act", TARGETS)
def test_lessons_without_a_price_move_no_money(market: Market, act: str) -> None:
    slots, rate = (slot(0, 15), slot(8, 15)), 3  # 0.75 each
    if act == "resolve":
        order = disputed(market, *slots, rate=rate)
    else:
        order = booked(market, *slots, instant=act == "dispute", rate=rate)
    at = slots[-1].start_unix if act == "dispute" else None
    receipt = done(market, act, order, 0b11, actor_of(market, act), at=at, share=5000)
    assert len(receipt.logs) == 1


# --- The actor ---


@pytest.mark.parametrize(("act", "role"), SIGNED)
def test_nobody_acts_for_another_without_their_signature(market: Market, act: str, role: str) -> None:
    order, _ = prepared(market, act)
    actor = getattr(market, role)
    for other in ("student", "tutor", "arbiter", "relayer", "stranger", "deployer"):
        if other == role:
            continue
        sender = getattr(market, other)
        foreign = sign_action(market, act, order, ALL, sender)
        for signature in (b"", bytes(65), foreign):
            with reverts("NotActor", actor=actor, sender=sender):
                do(market, act, order, ALL, actor, signature=signature, sender=sender)


@pytest.mark.parametrize(("act", "role"), SIGNED)
def test_a_signature_is_for_one_act_on_these_lessons(market: Market, act: str, role: str) -> None:
    order, at = prepared(market, act)
    actor = getattr(market, role)
    others = [sign_action(market, other, order, ALL, actor) for other in ACTORS if other != act]
    others += [sign_action(market, act, order, lessons, actor) for lessons in (0, 0b1, 0b11, 0b1111)]
    others += [sign_action(market, act, market.order(*order.slots, salt=b"\5" * 32), ALL, actor)]
    others += [market.sign(order, actor)]
    for signature in others:
        with reverts("NotActor", actor=actor, sender=market.relayer):
            do(market, act, order, ALL, actor, signature=signature, sender=market.relayer)
    if role != "tutor" or act != "complete":
        signature = sign_action(market, act, order, ALL, actor)
        done(market, act, order, ALL, actor, signature=signature, sender=market.relayer, at=at)


DOMAINS = {"name": "Creneaux", "version": "2", "chainId": 1, "verifyingContract": NOBODY}


def terms_of_act(market: Market, act: Any, order: Order) -> dict[str, Any]:
    """The typed data that is signed for an act on all lessons."""
    if act == "settle":
        return settle_typed_data(market.domain, order.batch_id, ALL, 10_000, FOREVER)
    return action_typed_data(market.domain, act.capitalize(), order.batch_id, ALL, FOREVER)


@pytest.mark.parametrize("act", ACTORS)
def test_a_signature_is_for_this_contract_on_this_chain(market: Market, act: Any) -> None:
    order, _ = prepared(market, act)
    actor = actor_of(market, act)
    for field, value in DOMAINS.items():
        typed_data = deepcopy(terms_of_act(market, act, order))
        typed_data["domain"][field] = value
        with reverts("NotActor", actor=actor, sender=market.relayer):
            do(market, act, order, ALL, actor, signature=sign(actor, typed_data), sender=market.relayer)


@pytest.mark.parametrize("act", ["cancel", "complete"])
def test_nobody_is_not_an_actor(market: Market, act: str) -> None:
    order, _ = prepared(market, act)
    for signature in (b"", bytes(65), b"\xff" * 65, b"\1" * 64 + b"\x1b"):
        with reverts("NotActor", actor=NOBODY, sender=market.relayer):
            do(market, act, order, ALL, NOBODY, signature=signature, sender=market.relayer)


@pytest.mark.parametrize("act", ACTORS)
def test_a_signature_acts_once(market: Market, act: str) -> None:
    order, at = prepared(market, act)
    actor = actor_of(market, act)
    signature = sign_action(market, act, order, ALL, actor)
    done(market, act, order, ALL, actor, signature=signature, sender=market.relayer, at=at)
    [rule] = [rule for rule in RULES if (rule.act, rule.role) == (act, ACTORS[act])]
    with reverts("WrongStatus", index=0, actual=TARGETS[act], allowed=rule.allowed):
        do(market, act, order, ALL, actor, signature=signature, sender=market.relayer)


@pytest.mark.parametrize("sender", ["student", "tutor", "arbiter", "stranger"])
@pytest.mark.parametrize("act", ACTORS)
def test_whoever_has_the_signature_may_send_it(market: Market, act: str, sender: str) -> None:
    order, at = prepared(market, act)
    actor = actor_of(market, act)
    signature = sign_action(market, act, order, 0b101, actor)
    done(market, act, order, 0b101, actor, signature=signature, sender=getattr(market, sender), at=at)


@pytest.mark.parametrize("act", ACTORS)
def test_the_actor_needs_no_signature(market: Market, act: str) -> None:
    order, at = prepared(market, act)
    done(market, act, order, ALL, actor_of(market, act), signature=b"garbage", at=at)


# --- Wallets that are contracts ---


def wallet_of(market: Market, name: str = "Wallet1271") -> Contract:
    """The stranger's wallet."""
    return deploy(getattr(project, name), market.stranger, sender=market.deployer)


def execute(market: Market, wallet: Contract, target: Actor, data: bytes) -> None:
    send(wallet.execute, target, data, sender=market.stranger)


def wallets_order(market: Market, act: str, student: Contract, tutor: Contract) -> tuple[Order, int | None]:
    """An order of one wallet to another, with which this can be done."""
    instant = act == "dispute"
    publication = calldata(market.escrow.publish, tutor, LISTING, RATE, instant, 0, 0, 0, b"")
    execute(market, tutor, market.escrow, publication)
    market.mint(student, 10 * RATE)
    execute(market, student, market.token, calldata(market.token.approve, market.escrow, 10 * RATE))
    order = market.order(slot(0), slot(8), slot(16), student=student.address, tutor=tutor.address)
    execute(market, student, market.escrow, calldata(market.escrow.createBookings, order, b""))
    return order, slot(16).start_unix if instant else None


@pytest.mark.parametrize("act", ACTORS)
def test_a_wallet_acts_by_its_owners_signature(market: Market, act: str) -> None:
    student, tutor = wallet_of(market), wallet_of(market)
    order, at = wallets_order(market, act, student, tutor)
    wallet = tutor if act == "confirm" else student
    for signature in (b"", b"garbage", sign_action(market, act, order, ALL, market.student)):
        with reverts("NotActor", actor=wallet, sender=market.relayer):
            do(market, act, order, ALL, wallet, signature=signature, sender=market.relayer)
    with reverts("NotActor", actor=wallet, sender=market.stranger):  # its owner is not the wallet
        do(market, act, order, ALL, wallet, sender=market.stranger)
    signature = sign_action(market, act, order, ALL, market.stranger)
    done(market, act, order, ALL, wallet, signature=signature, sender=market.relayer, at=at)


@pytest.mark.parametrize("act", ACTORS)
def test_a_wallet_that_refuses_its_owner_acts_only_itself(market: Market, act: str) -> None:
    student = wallet_of(market, "RefusingWallet")  # A tutor who refuses can't settle either.
    tutor = wallet_of(market, "RefusingWallet" if act == "confirm" else "Wallet1271")
    order, at = wallets_order(market, act, student, tutor)
    wallet = tutor if act == "confirm" else student
    signature = sign_action(market, act, order, ALL, market.stranger)
    with reverts("NotActor", actor=wallet, sender=market.relayer):
        do(market, act, order, ALL, wallet, signature=signature, sender=market.relayer)
    data = calldata(*act_call(market, act, order, ALL, wallet))
    receipt = send(wallet.execute, market.escrow, data, sender=market.stranger, at=at)
    assert receipt.events == expected_events(market, act, order, ALL, wallet)


def test_an_act_by_a_wallet_names_it(market: Market) -> None:
    student, tutor = wallet_of(market), wallet_of(market)
    order, _ = wallets_order(market, "cancel", student, tutor)
    signature = sign_action(market, "cancel", order, 0b10, market.stranger)
    receipt = done(market, "cancel", order, 0b10, tutor, signature=signature, sender=market.relayer)
    assert receipt.events[0].arguments["by"] == tutor.address
