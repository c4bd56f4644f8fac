"""The world of the contract tests with another token, and what a token that calls back is told to do."""

from dataclasses import replace
from typing import Any

from acts import ARBITRATION, CANCEL_WINDOW, DEFAULT_SHARE, REVIEW
from ape import project
from ape.contracts.base import ContractContainer
from helpers import Reverted, call, deploy, reverts, send
from market import RATE, Market

WEALTH = 100 * RATE
"""The student's balance of the other token."""


def market_in(market: Market, container: ContractContainer, *arguments: Any) -> Market:
    """The same people, with an escrow for another token."""
    token = deploy(container, *arguments, sender=market.deployer)
    terms = (token, market.arbiter, CANCEL_WINDOW, REVIEW, ARBITRATION, DEFAULT_SHARE)
    other = replace(market, token=token, escrow=deploy(project.BookingEscrow, *terms, sender=market.deployer))
    other.publish()
    return other


def funded_market_in(market: Market, container: ContractContainer, *arguments: Any) -> Market:
    """The same, and the student can pay."""
    other = market_in(market, container, *arguments)
    other.mint(other.student, WEALTH)
    other.approve(WEALTH)
    return other


def reenter_with(market: Market, data: bytes) -> None:
    """Has the token call the escrow with this in its next transfer."""
    send(market.token.reenterWith, market.escrow, data, sender=market.deployer)


def assert_callback_failed(market: Market, name: str, **arguments: Any) -> None:
    """The token kept what its callback reverted with."""
    assert call(market.token.succeeded) is False
    with reverts(name, **arguments):
        raise Reverted(call(market.token.answer))
