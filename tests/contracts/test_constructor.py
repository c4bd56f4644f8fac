"""The constructor, what it fixes, and the arbiter, who can hand over and not leave."""

import pytest
from ape import project
from helpers import call, deploy, event, reverts, send
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


# --- The arbiter ---


@pytest.mark.parametrize("role", ["arbiter", "deployer", "stranger"])
def test_the_place_is_never_empty(market: Market, role: str) -> None:
    with reverts("ArbiterRequired"):
        send(market.escrow.renounceOwnership, sender=getattr(market, role))
    with reverts("ArbiterRequired"):
        call(market.escrow.renounceOwnership, sender=getattr(market, role))
    assert call(market.escrow.arbiter) == market.arbiter.address


@pytest.mark.parametrize("role", ["deployer", "stranger", "tutor"])
def test_only_the_arbiter_hands_over(market: Market, role: str) -> None:
    sender = getattr(market, role)
    with reverts("OwnableUnauthorizedAccount", account=sender):
        send(market.escrow.transferOwnership, sender, sender=sender)


@pytest.mark.parametrize("role", ["deployer", "stranger", "arbiter"])
def test_only_the_successor_accepts(market: Market, role: str) -> None:
    sender = getattr(market, role)
    with reverts("OwnableUnauthorizedAccount", account=sender):  # nobody was named
        send(market.escrow.acceptOwnership, sender=sender)
    send(market.escrow.transferOwnership, market.relayer, sender=market.arbiter)
    with reverts("OwnableUnauthorizedAccount", account=sender):
        send(market.escrow.acceptOwnership, sender=sender)


def test_the_arbiter_hands_over_in_two_steps(market: Market) -> None:
    escrow, before, after = market.escrow, market.arbiter, market.stranger
    people = {"previousOwner": before, "newOwner": after}
    receipt = send(escrow.transferOwnership, after, sender=before)
    assert receipt.events == [event(escrow, "OwnershipTransferStarted", **people)]
    assert (call(escrow.arbiter), call(escrow.pendingOwner)) == (before.address, after.address)

    receipt = send(escrow.acceptOwnership, sender=after)
    assert receipt.events == [event(escrow, "OwnershipTransferred", **people)]
    assert (call(escrow.arbiter), call(escrow.pendingOwner)) == (after.address, NOBODY)
    with reverts("OwnableUnauthorizedAccount", account=before):
        send(escrow.transferOwnership, before, sender=before)


def test_the_arbiter_changes_his_mind(market: Market) -> None:
    send(market.escrow.transferOwnership, market.stranger, sender=market.arbiter)
    send(market.escrow.transferOwnership, NOBODY, sender=market.arbiter)
    with reverts("OwnableUnauthorizedAccount", account=market.stranger):
        send(market.escrow.acceptOwnership, sender=market.stranger)
    assert call(market.escrow.arbiter) == market.arbiter.address
