"""`createBookingsWithPermit`: a permit that works, one that fails, and whoever uses it first."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from eth_account.account import Account as Keys
from eth_account.messages import encode_typed_data
from helpers import Account, Receipt, call, event, reverts, send, sign_permit
from market import DEADLINE, NOW, RATE, Market, slot

from creneau.order import Order, Permit
from creneau.typed_data import permit_typed_data


def permit_of(market: Market, value: int, *, nonce: int = 0, deadline: int = DEADLINE) -> Permit:
    terms = (market.token, market.student, market.escrow, value)
    return sign_permit(*terms, nonce=nonce, deadline=deadline)


def book(market: Market, order: Order, permit: Permit, *, sender: Account | None = None) -> Receipt:
    """The relayer sends it with the student's signature, unless the student sends it."""
    sender = sender or market.relayer
    signature = b"" if sender == market.student else market.sign(order)
    return send(market.escrow.createBookingsWithPermit, order, signature, permit, sender=sender)


def use(market: Market, permit: Permit) -> Receipt:
    """A stranger gives the permit to the token."""
    owner, spender = market.student, market.escrow
    return send(market.token.permit, owner, spender, *permit.as_abi(), sender=market.stranger)


def assert_booked_and_approved(market: Market, receipt: Receipt, order: Order, approved: int) -> None:
    """Beside the token's `Approval` of the permit, the events are those of any creation."""
    owner, spender = market.student, market.escrow
    assert receipt.events[0] == event(market.token, "Approval", owner=owner, spender=spender, value=approved)
    market.assert_booked(replace(receipt, logs=receipt.logs[1:]), order)


def allowance(market: Market) -> int:
    value: int = call(market.token.allowance, market.student, market.escrow)
    return value


# --- Failures ---


def test_a_permit_is_no_signature_of_the_order(market: Market) -> None:
    order, permit = market.order(), permit_of(market, RATE)
    for signature in (b"", market.sign(order, market.stranger)):
        with reverts("NotActor", actor=market.student, sender=market.relayer):
            send(market.escrow.createBookingsWithPermit, order, signature, permit, sender=market.relayer)


def test_the_rules_are_those_of_create_bookings(market: Market) -> None:
    market.book(market.order(slot(8)))
    permit = permit_of(market, RATE)
    with reverts("RateMismatch", actual=1, expected=RATE):
        book(market, market.order(rate=1), permit)
    with reverts("SlotTaken", index=1, start=slot(8).start_unix):
        book(market, market.order(slot(0), slot(8), partial=False), permit)
    with reverts("OrderExists", batch=market.order(slot(8)).batch_id):
        book(market, market.order(slot(8)), permit)


def test_an_order_that_fails_does_not_use_the_permit(market: Market) -> None:
    market.approve(0)
    permit = permit_of(market, RATE)
    with reverts("RateMismatch", actual=1, expected=RATE):
        book(market, market.order(rate=1), permit)
    assert (call(market.token.nonces, market.student), allowance(market)) == (0, 0)


def test_a_permit_must_be_large_enough(market: Market) -> None:
    market.approve(0)
    with reverts("ERC20InsufficientAllowance", spender=market.escrow, allowance=RATE - 1, needed=RATE):
        book(market, market.order(), permit_of(market, RATE - 1))


def test_a_permit_replaces_a_larger_allowance(market: Market) -> None:
    with reverts("ERC20InsufficientAllowance", spender=market.escrow, allowance=RATE - 1, needed=RATE):
        book(market, market.order(), permit_of(market, RATE - 1))


# The token refuses each of these.
FAILING: dict[str, Callable[[Market], Permit]] = {
    "expired": lambda market: permit_of(market, RATE, deadline=NOW - 1),
    "of a later nonce": lambda market: permit_of(market, RATE, nonce=1),
    "signed by another": lambda market: sign_permit(
        market.token, market.stranger, market.escrow, RATE, deadline=DEADLINE, owner=market.student
    ),
    "for another spender": lambda market: sign_permit(
        market.token, market.student, market.stranger, RATE, deadline=DEADLINE
    ),
    "of another value": lambda market: permit_of(market, RATE + 1).model_copy(update={"value": RATE}),
    "zeros": lambda _: Permit(value=0, deadline=0, v=0, r=bytes(32), s=bytes(32)),
    "garbage": lambda _: Permit(value=2**256 - 1, deadline=2**256 - 1, v=255, r=b"\xff" * 32, s=b"\xff" * 32),
}


@pytest.mark.parametrize("failing", FAILING)
def test_a_failing_permit_gives_nothing(market: Market, failing: str) -> None:
    market.approve(0)
    permit = FAILING[failing](market)
    for sender in (market.relayer, market.student):
        with reverts("ERC20InsufficientAllowance", spender=market.escrow, allowance=0, needed=RATE):
            book(market, market.order(), permit, sender=sender)


# --- Successes ---


@pytest.mark.parametrize("failing", FAILING)
def test_a_failing_permit_is_ignored_where_the_allowance_is_enough(market: Market, failing: str) -> None:
    market.approve(RATE)
    order = market.order()
    market.assert_booked(book(market, order, FAILING[failing](market)), order)
    assert (call(market.token.nonces, market.student), allowance(market)) == (0, 0)


@pytest.mark.parametrize("role", ["relayer", "student"])
def test_a_permit_gives_the_allowance(market: Market, role: str) -> None:
    market.approve(0)
    order = market.order(slot(0), slot(8))
    receipt = book(market, order, permit_of(market, 2 * RATE), sender=getattr(market, role))
    assert_booked_and_approved(market, receipt, order, 2 * RATE)
    assert (call(market.token.nonces, market.student), allowance(market)) == (1, 0)


def test_what_a_permit_allows_beyond_the_total_stands(market: Market) -> None:
    market.approve(0)
    order = market.order()
    assert_booked_and_approved(market, book(market, order, permit_of(market, 5 * RATE)), order, 5 * RATE)
    assert allowance(market) == 4 * RATE
    later = market.order(slot(8))
    market.assert_booked(market.book(later), later)


def test_a_student_gives_one_permit_after_another(market: Market) -> None:
    market.approve(0)
    for nonce in range(3):
        order = market.order(slot(8 * nonce))
        receipt = book(market, order, permit_of(market, RATE, nonce=nonce))
        assert_booked_and_approved(market, receipt, order, RATE)


def test_a_permit_that_somebody_used_first_has_done_its_work(market: Market) -> None:
    market.approve(0)
    order, permit = market.order(), permit_of(market, RATE)
    use(market, permit)
    with reverts("ERC2612InvalidSigner", signer=signer_of_used(market, permit), owner=market.student):
        use(market, permit)
    market.assert_booked(book(market, order, permit), order)


def signer_of_used(market: Market, permit: Permit) -> str:
    """The account that the token takes for the signer of a permit whose nonce is past."""
    terms = (market.token.address, market.student.address, market.escrow.address, permit.value, 1)
    name, chain_id = call(market.token.name), market.domain.chain_id
    message = encode_typed_data(full_message=permit_typed_data(name, "1", chain_id, *terms, permit.deadline))
    return str(Keys.recover_message(message, signature=permit.r + permit.s + bytes([permit.v])))


def test_a_permit_works_until_its_deadline(market: Market) -> None:
    market.approve(0)
    order = market.order()
    permit = permit_of(market, RATE, deadline=NOW + 600)
    data = (market.escrow.createBookingsWithPermit, order, market.sign(order), permit)
    with reverts("ERC20InsufficientAllowance", spender=market.escrow, allowance=0, needed=RATE):
        call(*data, sender=market.relayer, at=NOW + 601)
    receipt = send(*data, sender=market.relayer, at=NOW + 600)
    assert_booked_and_approved(market, receipt, order, RATE)


def test_the_key_and_the_lessons_are_returned(market: Market) -> None:
    market.book(market.order(slot(8)))
    order = market.order(slot(0), slot(8), slot(16))
    data = (market.escrow.createBookingsWithPermit, order, market.sign(order), permit_of(market, 2 * RATE))
    assert call(*data, sender=market.relayer) == (order.batch_id, 0b101)
