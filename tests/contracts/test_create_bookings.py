"""`createBookings`: on what terms, for what money, what it leaves. See also `test_actor`, `test_slots`."""

import pytest
from helpers import call, reverts, send
from market import (
    LISTING,
    NOW,
    RATE,
    Market,
    quarters_of,
    slot,
)

# --- On what terms ---


def test_a_tutor_does_not_book_himself(market: Market) -> None:
    order = market.order(student=market.tutor.address)
    with reverts("StudentIsTutor", account=market.tutor):
        market.book(order, sender=market.tutor)
    with reverts("StudentIsTutor", account=market.tutor):
        market.book(order, market.sign(order, market.tutor), sender=market.relayer)


def test_an_order_expires_after_its_deadline(market: Market) -> None:
    order = market.order(deadline=NOW + 600)
    with reverts("OrderExpired", deadline=NOW + 600, timestamp=NOW + 601):
        market.book(order, at=NOW + 601)
    with reverts("OrderExpired", deadline=NOW + 600, timestamp=NOW + 602):
        market.book(order, market.sign(order), sender=market.relayer, at=NOW + 602)


def test_the_deadline_is_the_last_second(market: Market) -> None:
    order = market.order(deadline=NOW + 600)
    market.assert_booked(market.book(order, at=NOW + 600), order)


@pytest.mark.parametrize("instant", [True, False])
def test_an_order_is_created_once(market: Market, instant: bool) -> None:
    market.publish(instant=instant)
    order = market.order(slot(0), slot(8))
    market.book(order)
    with reverts("OrderExists", batch=order.batch_id):
        market.book(order)
    with reverts("OrderExists", batch=order.batch_id):
        market.book(order, market.sign(order), sender=market.relayer)


def test_a_relayed_order_is_created_once(market: Market) -> None:
    order = market.order()
    signature = market.sign(order)
    market.book(order, signature, sender=market.relayer)
    for sender in (market.relayer, market.student):
        with reverts("OrderExists", batch=order.batch_id):
            market.book(order, signature, sender=sender)


def test_the_rest_of_a_partial_order_is_not_created_later(market: Market) -> None:
    market.book(market.order(slot(8)))
    order = market.order(slot(0), slot(8))
    market.assert_booked(market.book(order), order, 0b01)
    with reverts("OrderExists", batch=order.batch_id):
        market.book(order)


def test_the_same_terms_with_another_salt_are_another_order(market: Market) -> None:
    market.book(market.order(slot(0)))
    again = market.order(slot(0), salt=b"\2" * 32)
    with reverts("SlotTaken", index=0, start=slot(0).start_unix):
        market.book(again)
    other = market.order(slot(4), salt=b"\2" * 32)
    market.assert_booked(market.book(other), other)


def test_the_listing_must_be_published(market: Market) -> None:
    with reverts("NotListed", tutor=market.tutor, listing=b"\1" * 32):
        market.book(market.order(listing=b"\1" * 32))
    with reverts("NotListed", tutor=market.stranger, listing=LISTING):  # another tutor's is not theirs
        market.book(market.order(tutor=market.stranger.address))
    market.publish(0)  # withdrawn
    with reverts("NotListed", tutor=market.tutor, listing=LISTING):
        market.book(market.order())
    with reverts("NotListed", tutor=market.tutor, listing=LISTING):  # rate zero is not a price
        market.book(market.order(rate=0))


@pytest.mark.parametrize("rate", [0, RATE - 1, RATE + 1, 2**96 - 1])
def test_the_rate_must_be_the_published_one(market: Market, rate: int) -> None:
    with reverts("RateMismatch", actual=rate, expected=RATE):
        market.book(market.order(rate=rate))


def test_the_rate_is_the_one_published_last(market: Market) -> None:
    market.publish(2 * RATE)
    with reverts("RateMismatch", actual=RATE, expected=2 * RATE):
        market.book(market.order())
    order = market.order(rate=2 * RATE)
    market.assert_booked(market.book(order), order)


# --- For what money ---


def test_the_student_needs_the_balance(market: Market) -> None:
    order = market.order(slot(0), slot(8))
    rest = market.balance(market.student) - (2 * RATE - 1)
    send(market.token.transfer, market.stranger, rest, sender=market.student)
    with reverts("ERC20InsufficientBalance", sender=market.student, balance=2 * RATE - 1, needed=2 * RATE):
        market.book(order)


def test_the_exact_balance_is_enough(market: Market) -> None:
    order = market.order(slot(0), slot(8))
    rest = market.balance(market.student) - 2 * RATE
    send(market.token.transfer, market.stranger, rest, sender=market.student)
    market.assert_booked(market.book(order), order)
    assert market.balance(market.student) == 0


@pytest.mark.parametrize("allowance", [0, 2 * RATE - 1])
def test_the_escrow_needs_the_allowance(market: Market, allowance: int) -> None:
    market.approve(allowance)
    with reverts("ERC20InsufficientAllowance", spender=market.escrow, allowance=allowance, needed=2 * RATE):
        market.book(market.order(slot(0), slot(8)))


def test_the_exact_allowance_is_enough(market: Market) -> None:
    market.approve(2 * RATE)
    order = market.order(slot(0), slot(8))
    market.assert_booked(market.book(order), order)
    assert call(market.token.allowance, market.student, market.escrow) == 0


def test_only_the_booked_lessons_are_paid(market: Market) -> None:
    market.book(market.order(slot(8)))
    market.approve(RATE)
    order = market.order(slot(0), slot(8))
    market.assert_booked(market.book(order), order, 0b01)


@pytest.mark.parametrize(
    ("rate", "lengths", "amounts"),
    [
        (RATE, [60, 60], [RATE, RATE]),
        (RATE, [15, 90, 480], [RATE // 4, RATE * 3 // 2, RATE * 8]),
        (7, [15, 45], [1, 5]),  # 1.75 and 5.25: six, though an hour is seven
        (61, [15, 30, 45, 60], [15, 30, 45, 61]),
        (3, [15, 15, 15, 15], [0, 0, 0, 0]),  # 0.75 each
        (4, [15, 15], [1, 1]),
    ],
)
def test_each_amount_is_rounded_down(
    market: Market, rate: int, lengths: list[int], amounts: list[int]
) -> None:
    market.publish(rate)
    balances = market.balance(market.student), market.balance(market.escrow)
    order = market.order(*(slot(40 * place, minutes) for place, minutes in enumerate(lengths)), rate=rate)
    assert order.amounts_wei == amounts
    market.assert_booked(market.book(order), order)
    assert market.balance(market.student) == balances[0] - sum(amounts)
    assert market.balance(market.escrow) == balances[1] + sum(amounts)


def test_the_largest_total_does_not_overflow(market: Market) -> None:
    rate = 2**96 - 1
    market.publish(rate)
    market.mint(market.student, 40 * 8 * rate)
    market.approve(40 * 8 * rate)
    order = market.order(*(slot(32 * place, 480, page=8903) for place in range(40)), rate=rate)
    market.assert_booked(market.book(order), order)
    assert market.balance(market.escrow) == 40 * 8 * rate


def test_only_the_student_pays_and_only_the_escrow_is_paid(market: Market) -> None:
    accounts = (market.student, market.escrow, market.tutor, market.relayer)
    before = [market.balance(account) for account in accounts]
    order = market.order(slot(0), slot(8))
    market.book(order, market.sign(order), sender=market.relayer)
    after = [market.balance(account) for account in accounts]
    assert [new - old for new, old in zip(after, before, strict=True)] == [-2 * RATE, 2 * RATE, 0, 0]


# --- What it leaves ---


@pytest.mark.parametrize("count", [1, 2, 5, 10, 39, 40])
def test_any_number_of_lessons_is_one_batch(market: Market, count: int) -> None:
    order = market.order(*(slot(4 * place) for place in range(count)))
    market.assert_booked(market.book(order), order)
    assert market.calendar() == quarters_of(order.slots)


@pytest.mark.parametrize("partial", [True, False])
def test_the_key_and_the_lessons_are_returned(market: Market, partial: bool) -> None:
    order = market.order(slot(0), slot(8), slot(16), partial=partial)
    batch = order.batch_id
    assert call(market.escrow.createBookings, order, b"", sender=market.student) == (batch, 0b111)


def test_a_failure_leaves_nothing(market: Market) -> None:
    balance = market.balance(market.student)
    market.approve(0)
    order = market.order(slot(0), slot(254))
    with reverts("ERC20InsufficientAllowance", spender=market.escrow, allowance=0, needed=2 * RATE):
        market.book(order)
    assert call(market.escrow.batches, order.batch_id) == (0,) * 6
    assert market.calendar() == set()
    assert market.balance(market.student) == balance


def test_lessons_of_an_instant_listing_are_confirmed(market: Market) -> None:
    market.publish(RATE, instant=True)
    market.book(market.order(slot(8)))
    order = market.order(slot(0), slot(8), slot(16))
    market.assert_booked(market.book(order), order, 0b101, instant=True)


def test_lessons_keep_their_terms(market: Market) -> None:
    order = market.order()
    created = market.book(order).timestamp
    market.publish(2 * RATE, instant=True)
    market.publish(0)
    assert call(market.escrow.batches, order.batch_id) == (created, 1, 0, 0, 0, 0)


def test_batches_add_up(market: Market) -> None:
    first, second = market.order(slot(0), slot(8)), market.order(slot(4), slot(300))
    market.assert_booked(market.book(first), first)
    market.assert_booked(market.book(second), second)
    assert market.balance(market.escrow) == 4 * RATE
    assert market.calendar() == quarters_of(first.slots + second.slots)
