"""The constructor, and what it fixes."""

import pytest
from ape import project
from helpers import call, deploy, reverts
from market import NOBODY, Market

DAY = 24 * 60 * 60
YEAR = 365 * DAY
PERIODS = ("cancelWindow", "reviewPeriod", "arbitrationPeriod")


@pytest.mark.parametrize("codeless", [NOBODY, "0x" + "11" * 20])
def test_the_token_has_code(market: Market, codeless: str) -> None:
    with reverts("TokenWithoutCode", token=codeless):
        deploy(project.BookingEscrow, codeless, market.arbiter, 1, 2, 3, sender=market.deployer)


@pytest.mark.parametrize("seconds", [YEAR + 1, 2**256 - 1])
@pytest.mark.parametrize("place", range(3), ids=PERIODS)
def test_a_period_lasts_a_year_at_most(market: Market, place: int, seconds: int) -> None:
    periods = [1, 2, 3]
    periods[place] = seconds
    with reverts("PeriodTooLong", actual=seconds, max=YEAR):
        deploy(project.BookingEscrow, market.token, market.arbiter, *periods, sender=market.deployer)


def test_somebody_is_the_arbiter(market: Market) -> None:
    with reverts("OwnableInvalidOwner", owner=NOBODY):
        deploy(project.BookingEscrow, market.token, NOBODY, 1, 2, 3, sender=market.deployer)


@pytest.mark.parametrize("periods", [(0, 0, 0), (1, 2, 3), (YEAR, YEAR, YEAR)])
def test_what_was_given_is_what_it_says(market: Market, periods: tuple[int, ...]) -> None:
    escrow = deploy(project.BookingEscrow, market.token, market.arbiter, *periods, sender=market.deployer)
    assert call(escrow.token) == market.token.address
    assert tuple(call(getattr(escrow, name)) for name in PERIODS) == periods
    assert call(escrow.arbiter) == call(escrow.owner) == market.arbiter.address
    assert call(escrow.pendingOwner) == NOBODY


def test_it_describes_its_domain(market: Market) -> None:
    """ERC-5267, which wallets and libraries read."""
    fields = b"\x0f"  # name, version, chain id and contract; no salt, no extensions
    domain = (fields, "Creneau", "1", market.domain.chain_id, market.escrow.address, bytes(32), ())
    assert call(market.escrow.eip712Domain) == domain
