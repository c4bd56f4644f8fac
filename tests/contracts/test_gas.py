"""Gas of whole transactions against a committed table, exactly, and against the budgets.

`UPDATE_GAS=1 pytest tests/contracts/test_gas.py` rewrites the table. Everything that gas depends on is fixed:
addresses, keys, salts, times and therefore signatures.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from acts import MONTH, act_call, do, end_of, sign_action
from ape import project
from eth_account.account import Account as Keys
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from helpers import Contract, Receipt, calldata, deploy, rpc, send, send_data, set_back, sign_permit
from market import DEADLINE, LISTING, PAGE, RATE, Market, slot

from creneau.order import Order, Permit

TABLE = Path(__file__).with_name("gas.json")
TEN = 2**10 - 1
LESSONS = [1, 2, 5, 10, 20, 40]
BUDGETS = {
    "1 lesson": 84_500,
    "10 lessons": 92_000,
    "40 lessons": 119_000,
    "10 lessons, relayed": 97_500,
    "10 lessons, relayed, later permit": 108_500,
    "confirm 10, relayed": 45_000,
    "complete 10, relayed": 61_000,
    "complete 10, by a keeper": 58_500,
    "cancel 10 confirmed, by the student, relayed": 72_000,
    "cancel 10 pending, by the tutor, relayed": 69_500,
    "20 batches of 10 in one transaction, each": 73_500,
    "20 completions of 10 by a keeper in one transaction, each": 34_000,
}
FIXED_TERMS = (0, 60 * 60, 24 * 60 * 60, 5_000)
MARGINAL_BUDGET = 900
FLOOR_BUDGET = 1.17
CODE_BUDGET = 24_576 * 8 // 10
"""A fifth of what a contract's code may measure is left."""


def lessons(market: Market, count: int) -> Order:
    """One after another, in the calendar word that the first lesson of the day is in."""
    return market.order(
        *(slot(8 + 4 * place) for place in range(count)), salt=keccak(text=f"{count} lessons")
    )


def open_word(market: Market) -> None:
    """The tutor gives a lesson already: their calendar word is in use, and the escrow has money."""
    market.book(market.order(slot(0), salt=keccak(text="before")))


def sent(count: int) -> Callable[[Market], Receipt]:
    """The student sends it, on a standing allowance: the usual case."""

    def act(market: Market) -> Receipt:
        open_word(market)
        return market.book(lessons(market, count))

    return act


def relayed(market: Market) -> Receipt:
    open_word(market)
    order = lessons(market, 10)
    return market.book(order, market.sign(order), sender=market.relayer)


def permit_of(market: Market, nonce: int) -> Permit:
    return sign_permit(market.token, market.student, market.escrow, 10 * RATE, nonce=nonce, deadline=DEADLINE)


def relayed_with_permit(nonce: int) -> Callable[[Market], Receipt]:
    """With a permit of exactly the total, after `nonce` others that are used up."""

    def act(market: Market) -> Receipt:
        open_word(market)
        market.approve(0)
        owner, spender = market.student, market.escrow
        for used in range(nonce):
            send(market.token.permit, owner, spender, *permit_of(market, used).as_abi(), sender=owner)
        if nonce:
            market.approve(0)
        order = lessons(market, 10)
        terms = (order, market.sign(order), permit_of(market, nonce))
        return send(market.escrow.createBookingsWithPermit, *terms, sender=market.relayer)

    return act


def first_ever(market: Market) -> Receipt:
    return market.book(lessons(market, 1))


def fresh_word(market: Market) -> Receipt:
    market.book(market.order(slot(0, page=PAGE + 2), salt=keccak(text="before")))
    return market.book(lessons(market, 1))


def partly_taken(market: Market) -> Receipt:
    market.book(market.order(slot(8), slot(20), slot(32), salt=keccak(text="before")))
    return market.book(lessons(market, 10))


def ten(market: Market, instant: bool) -> Order:
    """Ten lessons that are booked or confirmed, beside another one; the tutor has been paid before."""
    open_word(market)
    market.mint(market.tutor, RATE)
    market.publish(instant=instant)
    order = lessons(market, 10)
    market.book(order)
    return order


def acted(act: str, role: str, *, instant: bool) -> Callable[[Market], Receipt]:
    """An act on all ten, by signature."""

    def perform(market: Market) -> Receipt:
        order, by = ten(market, instant), getattr(market, role)
        signature = sign_action(market, act, order, TEN, by)
        return do(market, act, order, TEN, by, signature=signature, sender=market.relayer)

    return perform


def kept(market: Market) -> Receipt:
    """An act without a signature: the lessons are over."""
    order = ten(market, instant=True)
    return do(market, "complete", order, TEN, market.relayer, at=end_of(order.slots[-1]) + MONTH)


# --- Twenty batches in one transaction ---


def students(market: Market) -> list[LocalAccount]:
    """Twenty students who can pay and have approved the escrow."""
    accounts = [Keys.from_key(keccak(text=f"student {number}")) for number in range(20)]
    for account in accounts:
        market.mint(account.address, 1_000 * RATE)
        rpc("anvil_setBalance", account.address, hex(10**20))
        rpc("anvil_impersonateAccount", account.address)
        send(market.token.approve, market.escrow, 500 * RATE, sender=account.address)
        rpc("anvil_stopImpersonatingAccount", account.address)
    return accounts


def twenty(market: Market) -> tuple[list[Order], list[bytes]]:
    """A batch of ten lessons for each student, two to a calendar word, and the calls that create them."""
    for page in range(10):  # the tutor's words are in use
        market.book(market.order(slot(250, 15, PAGE + page), salt=keccak(text=f"before {page}")))
    orders, calls = [], []
    for number, account in enumerate(students(market)):
        first = 4 + 120 * (number % 2)
        slots = [slot(first + 4 * place, page=PAGE + number // 2) for place in range(10)]
        order = market.order(*slots, student=account.address, salt=keccak(text=f"batch {number}"))
        signed = account.sign_typed_data(full_message=order.typed_data(market.domain))
        orders.append(order)
        calls.append(calldata(market.escrow.createBookings, order, bytes(signed.signature)))
    return orders, calls


def created_together(market: Market) -> Receipt:
    """A relayer sends twenty students' orders."""
    _, calls = twenty(market)
    return send(market.escrow.tryMulticall, calls, sender=market.relayer)


def kept_together(market: Market) -> Receipt:
    """A keeper completes twenty batches."""
    market.publish(instant=True)
    market.mint(market.tutor, RATE)
    orders, calls = twenty(market)
    send(market.escrow.tryMulticall, calls, sender=market.relayer)
    over = max(end_of(order.slots[-1]) for order in orders) + MONTH
    acts = [
        calldata(*act_call(market, "complete", order, TEN, market.relayer, deadline=0)) for order in orders
    ]
    return send(market.escrow.tryMulticall, acts, sender=market.relayer, at=over)


def floor(market: Market) -> int:
    """The gas of ten lessons by the least contract that keeps the same guarantees."""
    least = deploy(project.Floor, market.token, sender=market.deployer)
    send(least.publish, LISTING, RATE, sender=market.tutor)
    send(market.token.approve, least, 1_000 * RATE, sender=market.student)
    market.mint(least, 1)
    orders = [market.order(slot(0)), lessons(market, 10)]
    for order in orders:
        head = bytes.fromhex(order.tutor[2:]) + order.listing + RATE.to_bytes(12) + DEADLINE.to_bytes(5)
        packed = b"".join(slot.packed.to_bytes(4) for slot in order.slots)
        data = bytes(4) + head + bytes([len(order.slots)]) + order.salt[:8] + packed
        receipt = send_data(least, data, sender=market.student)
    return receipt.gas_used


CASES: dict[str, Callable[[Market], Receipt]] = {
    **{f"{count} lesson{'s' if count > 1 else ''}": sent(count) for count in LESSONS},
    "1 lesson, new calendar word": fresh_word,
    "1 lesson, first order of all": first_ever,
    "10 lessons, 3 of them taken": partly_taken,
    "10 lessons, relayed": relayed,
    "10 lessons, relayed, first permit": relayed_with_permit(0),
    "10 lessons, relayed, later permit": relayed_with_permit(1),
    "confirm 10, relayed": acted("confirm", "tutor", instant=False),
    "complete 10, relayed": acted("complete", "student", instant=True),
    "complete 10, by a keeper": kept,
    "cancel 10 confirmed, by the student, relayed": acted("cancel", "student", instant=True),
    "cancel 10 pending, by the tutor, relayed": acted("cancel", "tutor", instant=False),
    "cancel 10 confirmed, by the tutor, relayed": acted("cancel", "tutor", instant=True),
    "publish": lambda market: market.publish(listing=keccak(text="new")),
    "publish again": lambda market: market.publish(2 * RATE),
}


TOGETHER: dict[str, Callable[[Market], Receipt]] = {
    "20 batches of 10 in one transaction, each": created_together,
    "20 completions of 10 by a keeper in one transaction, each": kept_together,
}


@pytest.fixture(scope="module")
def fixed_market(market: Market) -> Market:
    """The market again, at addresses that do not depend on what was deployed before."""
    builder = "0x" + keccak(text="gas").hex()[:40]
    rpc("anvil_setBalance", builder, hex(10**20))
    rpc("anvil_impersonateAccount", builder)
    token: Contract = deploy(project.EduToken, market.deployer, sender=builder)
    escrow = deploy(project.BookingEscrow, token, market.arbiter, *FIXED_TERMS, sender=builder)
    rpc("anvil_stopImpersonatingAccount", builder)
    fixed = replace(market, token=token, escrow=escrow)
    fixed.publish()
    fixed.mint(fixed.student, 10_000 * RATE)
    fixed.approve(5_000 * RATE)
    return fixed


@pytest.fixture(scope="module")
def measured(fixed_market: Market) -> dict[str, int]:
    table = {}
    for name, act in CASES.items():
        snapshot = rpc("evm_snapshot")
        table[name] = act(fixed_market).gas_used
        set_back(snapshot)
    for name, together in TOGETHER.items():
        snapshot = rpc("evm_snapshot")
        receipt = together(fixed_market)
        assert not [log for log in receipt.events if log.name == "CallFailed"]
        table[name] = -(-receipt.gas_used // 20)
        set_back(snapshot)
    snapshot = rpc("evm_snapshot")
    table["10 lessons, the floor"] = floor(fixed_market)
    set_back(snapshot)
    if os.environ.get("UPDATE_GAS"):
        TABLE.write_text(json.dumps(table, indent=2) + "\n")
    return table


def test_gas_is_what_the_table_says(measured: dict[str, int]) -> None:
    assert measured == json.loads(TABLE.read_text()), "UPDATE_GAS=1 rewrites the table"


@pytest.mark.parametrize("name", BUDGETS)
def test_gas_is_within_its_budget(measured: dict[str, int], name: str) -> None:
    assert measured[name] <= BUDGETS[name]


def test_a_further_lesson_is_within_its_budget(measured: dict[str, int]) -> None:
    for few, many in pairwise(LESSONS):
        further = measured[f"{many} lessons"] - measured[f"{few} lesson{'s' if few > 1 else ''}"]
        assert further <= MARGINAL_BUDGET * (many - few)


def test_ten_lessons_are_near_the_floor(measured: dict[str, int]) -> None:
    assert measured["10 lessons"] <= FLOOR_BUDGET * measured["10 lessons, the floor"]


def test_the_code_leaves_room(fixed_market: Market) -> None:
    code = bytes.fromhex(rpc("eth_getCode", fixed_market.escrow.address, "latest")[2:])
    assert 0 < len(code) <= CODE_BUDGET
