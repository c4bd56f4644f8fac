"""The constructor, and what it fixes."""

from typing import Any

import pytest
from ape import project
from helpers import call, deploy, reverts
from market import NOBODY, Market

HOUR = 60 * 60
DAY = 24 * HOUR
YEAR = 365 * DAY
LEAST = {"cancelWindow": 0, "reviewPeriod": HOUR, "arbitrationPeriod": DAY}
"""The periods, and the shortest of each in seconds."""


def deployed(market: Market, *terms: Any, token: Any = None, arbiter: Any = None) -> Any:
    """An escrow; the terms are the periods and the default share."""
    people = (token or market.token, arbiter or market.arbiter)
    return deploy(project.BookingEscrow, *people, *terms, sender=market.deployer)


@pytest.mark.parametrize("codeless", [NOBODY, "0x" + "11" * 20])
def test_the_token_has_code(market: Market, codeless: str) -> None:
    with reverts("TokenWithoutCode", token=codeless):
        deployed(market, *LEAST.values(), 0, token=codeless)


@pytest.mark.parametrize("seconds", [YEAR + 1, 2**256 - 1])
@pytest.mark.parametrize("name", LEAST)
def test_a_period_lasts_a_year_at_most(market: Market, name: str, seconds: int) -> None:
    with reverts("PeriodOutOfRange", actual=seconds, min=LEAST[name], max=YEAR):
        deployed(market, *(LEAST | {name: seconds}).values(), 0)


@pytest.mark.parametrize("name", [name for name, least in LEAST.items() if least])
def test_a_period_has_a_shortest(market: Market, name: str) -> None:
    for seconds in (0, LEAST[name] - 1):
        with reverts("PeriodOutOfRange", actual=seconds, min=LEAST[name], max=YEAR):
            deployed(market, *(LEAST | {name: seconds}).values(), 0)


@pytest.mark.parametrize("share", [10_001, 2**16, 2**256 - 1])
def test_the_default_share_is_a_whole_at_most(market: Market, share: int) -> None:
    with reverts("ShareTooLarge", actual=share, max=10_000):
        deployed(market, *LEAST.values(), share)


def test_somebody_is_the_arbiter(market: Market) -> None:
    with reverts("OwnableInvalidOwner", owner=NOBODY):
        deployed(market, *LEAST.values(), 0, arbiter=NOBODY)


@pytest.mark.parametrize("share", [0, 1, 10_000])
@pytest.mark.parametrize("periods", [(0, HOUR, DAY), (1, HOUR + 1, DAY + 2), (YEAR, YEAR, YEAR)])
def test_what_was_given_is_what_it_says(market: Market, periods: tuple[int, ...], share: int) -> None:
    escrow = deployed(market, *periods, share)
    assert call(escrow.defaultTutorShareBps) == share
    assert call(escrow.token) == market.token.address
    assert tuple(call(getattr(escrow, name)) for name in LEAST) == periods
    assert call(escrow.arbiter) == call(escrow.owner) == market.arbiter.address
    assert call(escrow.pendingOwner) == NOBODY


def test_it_describes_its_domain(market: Market) -> None:
    """ERC-5267, which wallets and libraries read."""
    fields = b"\x0f"  # name, version, chain id and contract; no salt, no extensions
    domain = (fields, "Creneau", "1", market.domain.chain_id, market.escrow.address, bytes(32), ())
    assert call(market.escrow.eip712Domain) == domain
