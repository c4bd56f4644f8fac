"""Settling, revoking, credits, own time, notice and horizon, and several calls of which some fail."""

from typing import Any

import pytest
from acts import (
    ALL,
    ARBITRATION,
    DEFAULT_SHARE,
    FOREVER,
    MONTH,
    REVIEW,
    act_call,
    booked,
    disputed,
    do,
    done,
    end_of,
    expected_events,
    sign_action,
    undone,
)
from ape import project
from helpers import call, calldata, event, plain, reverts, rpc, send, sign
from market import DEADLINE, NOW, RATE, Market, slot
from tokens import funded_market_in

from creneau.lifecycle import Status
from creneau.order import Order
from creneau.typed_data import action_typed_data, revoke_typed_data, withdraw_typed_data

LAST = slot(16)
KEEPER = "0x" + "ab" * 20


def over(order: Order) -> int:
    """The first second at which the time for arbitration of all lessons is over."""
    return max(end_of(lesson) for lesson in order.slots) + REVIEW + ARBITRATION + 1


# --- Settling ---


@pytest.mark.parametrize("share", [0, 1, 2_500, 9_999, 10_000])
@pytest.mark.parametrize("role", ["student", "tutor"])
def test_both_parties_split_the_money_as_they_agree(market: Market, share: int, role: str) -> None:
    done(market, "settle", booked(market), ALL, getattr(market, role), share=share)


def test_anybody_sends_what_both_signed(market: Market) -> None:
    order = booked(market)
    signature = sign_action(market, "settle", order, ALL, market.student, share=4_000)
    how: dict[str, Any] = {"share": 4_000, "signature": signature, "sender": market.relayer}
    done(market, "settle", order, ALL, market.student, **how)


@pytest.mark.parametrize("change", ["share", "lessons", "deadline"])
def test_nobody_settles_on_other_terms(market: Market, change: str) -> None:
    order = booked(market)
    signed: dict[str, Any] = {"share": 4_000, "lessons": ALL, "deadline": DEADLINE}
    other = sign_action(
        market, "settle", order, account=market.tutor, **signed | {change: signed[change] - 1}
    )
    terms = signed | {"other": other}
    with reverts("NotActor", actor=market.tutor, sender=market.student):
        do(market, "settle", order, by=market.student, **terms)
    do(market, "settle", order, by=market.student, **signed)


@pytest.mark.parametrize("role", ["student", "tutor"])
def test_neither_settles_alone(market: Market, role: str) -> None:
    order, by = booked(market), getattr(market, role)
    partner = market.tutor if role == "student" else market.student
    for other in (b"", bytes(65), sign_action(market, "settle", order, ALL, by)):
        with reverts("NotActor", actor=partner, sender=by):
            do(market, "settle", order, ALL, by, other=other)
    done(market, "settle", order, ALL, by)


def test_a_share_of_a_settlement_has_a_limit(market: Market) -> None:
    order = booked(market)
    with reverts("ShareTooLarge", actual=10_001, max=10_000):
        do(market, "settle", order, ALL, market.student, share=10_001)
    done(market, "settle", order, ALL, market.student, share=10_000)


# --- Deadlines ---


@pytest.mark.parametrize(
    ("act", "role"),
    [("confirm", "tutor"), ("cancel", "tutor"), ("complete", "student"), ("settle", "student")],
)
def test_a_signature_counts_until_its_deadline(market: Market, act: str, role: str) -> None:
    order, by = booked(market), getattr(market, role)
    signature = sign_action(market, act, order, ALL, by, deadline=NOW + 500)
    how: dict[str, Any] = {"signature": signature, "deadline": NOW + 500, "sender": market.relayer}
    with reverts("SignatureExpired", deadline=NOW + 500, timestamp=NOW + 501):
        call(*act_call(market, act, order, ALL, by, signature=signature, deadline=NOW + 500), at=NOW + 501)
    done(market, act, order, ALL, by, at=NOW + 500, **how)


def test_a_completion_signed_while_pending_does_nothing_after_a_dispute(market: Market) -> None:
    """The student signs while the lesson is pending; the tutor keeps the signature for later."""
    order = booked(market, slot(0))
    until = NOW + 600
    signature = sign_action(market, "complete", order, 1, market.student, deadline=until)
    do(market, "confirm", order, 1, market.tutor)
    do(market, "dispute", order, 1, market.student, at=slot(0).start_unix)
    terms = act_call(market, "complete", order, 1, market.student, signature=signature, deadline=until)
    at = slot(0).start_unix + 1
    with reverts("SignatureExpired", deadline=until, timestamp=at):
        send(*terms, sender=market.tutor, at=at)
    done(market, "resolve", order, 1, market.arbiter, share=0)


# --- Revoking ---


def revoke(market: Market, order: Order, signature: bytes = b"", *, sender: Any = None, **how: Any) -> Any:
    terms = (market.escrow.revoke, order, how.pop("deadline", FOREVER), signature)
    return send(*terms, sender=sender or market.student, **how)


@pytest.mark.parametrize("relayed", [True, False])
def test_a_revoked_order_is_never_created(market: Market, relayed: bool) -> None:
    order = market.order(slot(0), slot(8))
    signature = sign(market.student, revoke_typed_data(market.domain, order.batch_id, FOREVER))
    receipt = revoke(market, order, signature if relayed else b"", sender=market.relayer if relayed else None)
    assert receipt.events == [event(market.escrow, "OrderRevoked", batch=order.batch_id, by=market.student)]
    assert call(market.escrow.batches, order.batch_id) == (receipt.timestamp, 0, 0, 0, 0, 0)
    with reverts("OrderExists", batch=order.batch_id):
        market.book(order, market.sign(order), sender=market.relayer)
    with reverts("OrderExists", batch=order.batch_id):
        revoke(market, order)
    with reverts("WrongStatus", index=0, actual=Status.NONE, allowed=1 << Status.PENDING):
        do(market, "confirm", order, 0b11, market.tutor)
    market.book(market.order(slot(0), slot(8), salt=b"\2" * 32))


def test_a_created_order_is_not_revoked(market: Market) -> None:
    order = booked(market)
    with reverts("OrderExists", batch=order.batch_id):
        revoke(market, order)


def test_nobody_revokes_anothers_order(market: Market) -> None:
    order = market.order()
    late = sign(market.student, revoke_typed_data(market.domain, order.batch_id, NOW))
    for sender in (market.tutor, market.stranger):
        foreign = sign(sender, revoke_typed_data(market.domain, order.batch_id, FOREVER))
        for signature in (b"", foreign):
            with reverts("NotActor", actor=market.student, sender=sender):
                revoke(market, order, signature, sender=sender)
    with reverts("SignatureExpired", deadline=NOW, timestamp=NOW + 900):
        revoke(market, order, late, sender=market.relayer, deadline=NOW, at=NOW + 900)
    market.book(order)


# --- What was never confirmed ---


@pytest.mark.parametrize("years", [0, 1, 100])
def test_anybody_refunds_what_was_pending_when_it_began(market: Market, years: int) -> None:
    order, start = booked(market, slot(0)), slot(0).start_unix
    with reverts("TooEarly", index=0, **{"from": start, "timestamp": start - 1}):
        do(market, "cancel", order, 1, market.stranger, at=start - 1)
    done(market, "cancel", order, 1, market.stranger, at=start + years * 365 * 24 * 60 * 60)


# --- What nobody decided ---


def test_anybody_resolves_with_the_default_share_when_arbitration_is_over(market: Market) -> None:
    order = disputed(market)
    first = end_of(order.slots[0]) + REVIEW + ARBITRATION + 1
    with reverts("ShareNotDefault", actual=DEFAULT_SHARE + 1, expected=DEFAULT_SHARE):
        do(market, "resolve", order, ALL, market.stranger, share=DEFAULT_SHARE + 1)
    with reverts("TooEarly", index=0, **{"from": first, "timestamp": first - 1}):
        do(market, "resolve", order, ALL, market.stranger, share=DEFAULT_SHARE, at=first - 1)
    done(market, "resolve", order, ALL, market.stranger, share=DEFAULT_SHARE, at=over(order))


@pytest.mark.parametrize("role", ["student", "tutor"])
def test_an_arbiter_does_not_decide_on_themselves(market: Market, role: str) -> None:
    order, party = disputed(market), getattr(market, role)
    send(market.escrow.transferOwnership, party, sender=market.arbiter)
    send(market.escrow.acceptOwnership, sender=party)
    with reverts("ShareNotDefault", actual=10_000, expected=DEFAULT_SHARE):
        do(market, "resolve", order, ALL, party, share=10_000)
    with reverts("ShareNotDefault", actual=9_000, expected=DEFAULT_SHARE):
        do(market, "resolve", order, ALL, market.arbiter, share=9_000)
    send(market.escrow.transferOwnership, market.stranger, sender=party)
    send(market.escrow.acceptOwnership, sender=market.stranger)
    done(market, "resolve", order, ALL, market.stranger, share=9_000)


# --- Credits ---


@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize("act", ["cancel", "complete", "settle"])
def test_a_payment_that_the_token_refuses_becomes_a_credit(market: Market, act: str, silent: bool) -> None:
    blocking = funded_market_in(market, project.BlockingToken, silent)
    order = booked(blocking)
    total = sum(order.amounts_wei)
    payee, other = blocking.student, blocking.tutor
    if act == "complete":
        payee, other = other, payee
    send(blocking.token.setBlocked, payee, True, sender=blocking.deployer)
    by = blocking.student if act == "complete" else blocking.tutor
    to_payee = total // 2 if act == "settle" else total
    receipt = do(blocking, act, order, ALL, by, share=5_000)
    credited = event(blocking.escrow, "PaymentCredited", account=payee, amount=to_payee)
    assert credited in receipt.events
    assert call(blocking.escrow.credits, payee) == to_payee
    assert call(blocking.escrow.credits, other) == 0
    assert blocking.balance(blocking.escrow) == to_payee
    assert blocking.calendar() == set() or act != "cancel"

    stranger = blocking.stranger
    with reverts("NotActor", actor=payee, sender=stranger):
        send(blocking.escrow.withdraw, payee, stranger, FOREVER, b"", sender=stranger)
    with reverts("InvalidRecipient", to=blocking.escrow):
        send(blocking.escrow.withdraw, payee, blocking.escrow, FOREVER, b"", sender=payee)
    signature = sign(payee, withdraw_typed_data(blocking.domain, plain(payee), plain(stranger), FOREVER))
    had = blocking.balance(stranger)
    receipt = send(blocking.escrow.withdraw, payee, stranger, FOREVER, signature, sender=blocking.relayer)
    transfer = {"from": blocking.escrow, "to": stranger, "value": to_payee}
    assert receipt.events == [
        event(blocking.escrow, "CreditWithdrawn", account=payee, to=stranger, amount=to_payee),
        event(blocking.token, "Transfer", **transfer),
    ]
    assert blocking.balance(stranger) == had + to_payee
    assert blocking.balance(blocking.escrow) == call(blocking.escrow.credits, payee) == 0
    with reverts("NoCredit", account=payee):
        send(blocking.escrow.withdraw, payee, stranger, FOREVER, b"", sender=payee)


def test_a_credit_stays_if_the_token_refuses_it_again(market: Market) -> None:
    blocking = funded_market_in(market, project.BlockingToken, False)
    order, student = booked(blocking), blocking.student
    send(blocking.token.setBlocked, student, True, sender=blocking.deployer)
    do(blocking, "cancel", order, ALL, blocking.tutor)
    with reverts("Blocked", account=student):
        send(blocking.escrow.withdraw, student, student, 0, b"", sender=student)
    assert call(blocking.escrow.credits, student) == sum(order.amounts_wei)


# --- A tutor's own time ---


@pytest.mark.parametrize("relayed", [True, False])
def test_a_tutor_takes_their_own_time_for_nothing(market: Market, relayed: bool) -> None:
    own = market.order(
        slot(0), slot(8, 480), student=market.tutor.address, rate=0, listing=b"\7" * 32, salt=b"\3" * 32
    )
    signature = market.sign(own, market.tutor) if relayed else b""
    receipt = market.book(own, signature, sender=market.relayer if relayed else market.tutor)
    market.assert_booked(receipt, own, instant=True)
    with reverts("SlotTaken", index=0, start=slot(8).start_unix):
        market.book(market.order(slot(8)))
    receipt = do(market, "cancel", own, 0b10, market.tutor)
    assert len(receipt.events) == 1
    market.book(market.order(slot(8)))


def test_own_time_has_no_price_and_no_other_owner(market: Market) -> None:
    own = market.order(student=market.tutor.address)
    with reverts("StudentIsTutor", account=market.tutor):
        market.book(own, sender=market.tutor)
    free = market.order(student=market.tutor.address, rate=0)
    with reverts("NotActor", actor=market.tutor, sender=market.stranger):
        market.book(free, sender=market.stranger)
    with reverts("RateMismatch", actual=0, expected=RATE):
        market.book(market.order(rate=0))
    market.book(free, sender=market.tutor)


# --- Notice and horizon ---


@pytest.mark.parametrize(
    ("before", "error"),
    [
        (7_201, ("SlotTooFar", {"latest": slot(0).start_unix - 1})),
        (7_200, None),
        (3_600, None),
        (3_599, ("SlotTooSoon", {"earliest": slot(0).start_unix + 1})),
    ],
)
def test_notice_and_horizon_count_to_the_second(
    market: Market, before: int, error: tuple[str, dict[str, int]] | None
) -> None:
    market.publish(notice=3_600, horizon=7_200)
    start = slot(0).start_unix
    order = market.order(deadline=start)
    codes, _ = call(market.escrow.check, order, at=start - before)
    if error is None:
        assert codes == (0,)
        market.book(order, at=start - before)
        return
    name, arguments = error
    assert codes == ({"SlotTooSoon": 2, "SlotTooFar": 3}[name],)
    with reverts(name, index=0, start=start, **arguments):
        market.book(order, at=start - before)


# --- Several calls, of which some fail ---


def test_try_multicall_goes_on_where_a_call_fails(market: Market) -> None:
    order = booked(market)
    calls = [
        calldata(*act_call(market, "confirm", order, 0b1, market.tutor)),
        calldata(*act_call(market, "confirm", order, 0b1, market.tutor)),
        b"\1\2\3\4",
        calldata(*act_call(market, "cancel", order, 0b10, market.tutor)),
    ]
    results = call(market.escrow.tryMulticall, calls, sender=market.tutor)
    receipt = send(market.escrow.tryMulticall, calls, sender=market.tutor)
    assert [success for success, _ in results] == [True, False, False, True]
    reason = results[1][1]
    failures = [log for log in receipt.events if log.name == "CallFailed"]
    assert failures == [
        event(market.escrow, "CallFailed", index=1, reason=reason),
        event(market.escrow, "CallFailed", index=2, reason=b""),
    ]
    assert call(market.escrow.batches, order.batch_id)[1:] == (0b100, 0b1, 0, 0, 0b10)
    with reverts("WrongStatus", index=0, actual=Status.CONFIRMED, allowed=1 << Status.PENDING):
        send(market.escrow.multicall, calls, sender=market.tutor)


def test_forty_short_lessons_are_completed_together(market: Market) -> None:
    """40 quarters of an hour at a base unit each: one act when the last is due, for less gas than booking."""
    slots = [slot(place, 15) for place in range(40)]
    market.publish(4, instant=True)
    order = market.order(*slots, rate=4)
    cost = market.book(order, market.sign(order), sender=market.relayer).gas_used
    due = end_of(slots[-1]) + REVIEW + 1
    early = {"from": due, "timestamp": due - 1}
    with undone(), reverts("TooEarly", index=39, **early):
        do(market, "complete", order, 2**40 - 1, market.relayer, at=due - 1)
    receipt = done(market, "complete", order, 2**40 - 1, market.relayer, at=due)
    assert receipt.gas_used < cost, (receipt.gas_used, cost)


# --- A chain that changes its id ---


def test_lessons_outlive_a_change_of_the_chains_id(market: Market) -> None:
    order = booked(market, instant=True)
    old = market.domain
    signed = sign(market.tutor, action_typed_data(old, "Cancel", order.batch_id, 1, FOREVER))
    try:
        rpc("anvil_setChainId", 424_242)
        new = old._replace(chain_id=424_242)
        assert call(market.escrow.hashOrder, order) == order.digest(new)
        assert call(market.escrow.batchOf, order) == order.batch_id
        cancel = (market.escrow.cancel, order, 1, market.tutor, FOREVER)
        with reverts("NotActor", actor=market.tutor, sender=market.relayer):
            call(*cancel, signed, sender=market.relayer)
        renewed = sign(market.tutor, action_typed_data(new, "Cancel", order.batch_id, 1, FOREVER))
        call(*cancel, renewed, sender=market.relayer)
        at = end_of(LAST) + MONTH
        # The node's own keys sign for the old id, so the sender is an account without a key.
        rpc("anvil_setBalance", KEEPER, hex(10**20))
        rpc("anvil_impersonateAccount", KEEPER)
        terms = act_call(market, "complete", order, ALL, KEEPER)
        receipt = send(*terms, sender=KEEPER, at=at)
        assert receipt.events == expected_events(market, "complete", order, ALL, KEEPER)
    finally:
        rpc("anvil_setChainId", old.chain_id)
