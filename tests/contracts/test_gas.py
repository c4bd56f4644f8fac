"""Gas of whole transactions against a committed table, exactly, and against the budgets.

`UPDATE_GAS=1 pytest tests/contracts/test_gas.py` rewrites the table. Everything that gas depends on is fixed:
addresses, keys, salts, times and therefore signatures.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from acts import MONTH, do, end_of, sign_action
from ape import project
from eth_utils.crypto import keccak
from helpers import Contract, Receipt, deploy, rpc, send, set_back, sign_permit
from market import DEADLINE, PAGE, RATE, Market, slot

from creneau.order import Order, Permit

TABLE = Path(__file__).with_name("gas.json")
TEN = 2**10 - 1
LESSONS = [1, 2, 5, 10, 20, 40]
BUDGETS = {
    "2 lessons": 88_000,
    "10 lessons": 103_000,
    "40 lessons": 168_000,
    "10 lessons, relayed": 112_000,
    "10 lessons, relayed, later permit": 132_000,
    "confirm 10, relayed": 52_000,
    "complete 10, relayed": 70_000,
    "complete 10, by a keeper": 70_000,
    "cancel 10 confirmed, by the student, relayed": 84_000,
    "cancel 10 pending, by the tutor, relayed": 84_000,
}
CODE_BUDGET = 24_576 * 8 // 10
"""A fifth of what a contract's code may measure is left."""


def lessons(market: Market, count: int) -> Order:
    """One after another, in the calendar word that the first lesson of the day is in."""
    return market.order(
        *(slot(8 + 4 * place) for place in range(count)), salt=keccak(text=f"{count} lessons")
    )


def open_word(market: Market) -> None:
    """The tutor gives a lesson already: his calendar word is in use, and the escrow has money."""
    market.book(market.order(slot(0), salt=keccak(text="before")))


def sent(count: int) -> Callable[[Market], Receipt]:
    """The student sends it himself, on a standing allowance: the usual case."""

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
    """Nobody's signature: the lessons are over."""
    order = ten(market, instant=True)
    return do(market, "complete", order, TEN, market.relayer, at=end_of(order.slots[-1]) + MONTH)


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
    "publish": lambda market: market.publish(listing=keccak(text="new")),
    "publish again": lambda market: market.publish(2 * RATE),
}


@pytest.fixture(scope="module")
def fixed_market(market: Market) -> Market:
    """The market again, at addresses that do not depend on what was deployed before."""
    builder = "0x" + keccak(text="gas").hex()[:40]
    rpc("anvil_setBalance", builder, hex(10**20))
    rpc("anvil_impersonateAccount", builder)
    token: Contract = deploy(project.EduToken, market.deployer, sender=builder)
    escrow = deploy(project.BookingEscrow, token, market.arbiter, 1, 2, 3, sender=builder)
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
    if os.environ.get("UPDATE_GAS"):
        TABLE.write_text(json.dumps(table, indent=2) + "\n")
    return table


def test_gas_is_what_the_table_says(measured: dict[str, int]) -> None:
    assert measured == json.loads(TABLE.read_text()), "UPDATE_GAS=1 rewrites the table"


@pytest.mark.parametrize("name", BUDGETS)
def test_gas_is_within_its_budget(measured: dict[str, int], name: str) -> None:
    assert measured[name] <= BUDGETS[name]


def test_the_code_leaves_room(fixed_market: Market) -> None:
    code = bytes.fromhex(rpc("eth_getCode", fixed_market.escrow.address, "latest")[2:])
    assert 0 < len(code) <= CODE_BUDGET
