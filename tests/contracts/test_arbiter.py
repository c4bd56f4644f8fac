"""The arbiter, who can hand over in two steps and not leave, and who resolves at each of them."""

import pytest
from acts import ALL, DEFAULT_SHARE, act_call, disputed, do, done
from ape import project
from helpers import call, calldata, deploy, event, reverts, send
from market import NOBODY, Market


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


def test_the_arbiter_changes_their_mind(market: Market) -> None:
    send(market.escrow.transferOwnership, market.stranger, sender=market.arbiter)
    send(market.escrow.transferOwnership, NOBODY, sender=market.arbiter)
    with reverts("OwnableUnauthorizedAccount", account=market.stranger):
        send(market.escrow.acceptOwnership, sender=market.stranger)
    assert call(market.escrow.arbiter) == market.arbiter.address


# --- Who resolves ---


def test_a_successor_resolves_once_they_have_accepted(market: Market) -> None:
    order, before, after = disputed(market), market.arbiter, market.stranger
    with reverts("ShareNotDefault", actual=10_000, expected=DEFAULT_SHARE):
        do(market, "resolve", order, 0b1, after)
    send(market.escrow.transferOwnership, after, sender=before)
    with reverts("ShareNotDefault", actual=10_000, expected=DEFAULT_SHARE):
        do(market, "resolve", order, 0b1, after)
    done(market, "resolve", order, 0b1, before, share=2_500)

    send(market.escrow.acceptOwnership, sender=after)
    with reverts("ShareNotDefault", actual=10_000, expected=DEFAULT_SHARE):
        do(market, "resolve", order, 0b110, before)
    done(market, "resolve", order, 0b110, after, share=7_500)


def test_a_contract_that_the_arbiter_calls_is_not_the_arbiter(market: Market) -> None:
    order = disputed(market)
    contract = deploy(project.Wallet1271, market.arbiter, sender=market.deployer)
    data = calldata(market.escrow.resolve, order, ALL, 10_000)
    with reverts("ShareNotDefault", actual=10_000, expected=DEFAULT_SHARE):
        send(contract.execute, market.escrow, data, sender=market.arbiter)
    done(market, "resolve", order, ALL, market.arbiter)


def test_a_place_that_was_not_left_still_resolves(market: Market) -> None:
    order = disputed(market)
    with reverts("ArbiterRequired"):
        send(market.escrow.renounceOwnership, sender=market.arbiter)
    assert call(*act_call(market, "resolve", order, ALL, market.arbiter), sender=market.arbiter) == ()
    done(market, "resolve", order, ALL, market.arbiter)
