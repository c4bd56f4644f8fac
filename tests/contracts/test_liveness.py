"""Money is never stuck: from every live status its beneficiary alone gets it out, and anyone can end it."""

import pytest
from acts import (
    ARBITRATION,
    DEFAULT_SHARE,
    MONTH,
    REVIEW,
    do,
    done,
    end_of,
    in_every_status,
    sign_action,
    undone,
)
from helpers import reverts
from market import PAGE, Market, slot

from creneau.lifecycle import Status

WAYS = {Status.PENDING: "cancel", Status.CONFIRMED: "complete", Status.DISPUTED: "resolve"}
"""The acts by which anyone ends it."""

OWN_WAYS = {Status.PENDING: ("cancel", "student"), Status.CONFIRMED: ("complete", "tutor")}
"""The acts by which the payee ends it, with a signature; of a dispute both get a part, unsigned."""

FIRST = {
    Status.PENDING: slot(8, page=PAGE + 1).start_unix,
    Status.CONFIRMED: end_of(slot(16, page=PAGE + 1)) + REVIEW + 1,
    Status.DISPUTED: end_of(slot(0)) + REVIEW + ARBITRATION + 1,
}
"""The first second at which anyone can, whatever the others do."""
YEARS_100 = 100 * 365 * 24 * 60 * 60


@pytest.mark.parametrize("late", [0, MONTH, YEARS_100])
@pytest.mark.parametrize("status", OWN_WAYS)
def test_its_beneficiary_alone_gets_the_money_out(market: Market, status: Status, late: int) -> None:
    order, (act, role) = in_every_status(market), OWN_WAYS[status]
    by, at = getattr(market, role), FIRST[status] + late
    with undone():
        done(market, act, order, 1 << status, by, at=at)
    signature = sign_action(market, act, order, 1 << status, by)  # or anyone sends it for them
    done(market, act, order, 1 << status, by, signature=signature, sender=market.relayer, at=at)


@pytest.mark.parametrize("late", [0, MONTH, YEARS_100])
@pytest.mark.parametrize("role", ["student", "tutor", "relayer", "stranger", "deployer"])
@pytest.mark.parametrize("status", WAYS)
def test_anyone_ends_it(market: Market, status: Status, role: str, late: int) -> None:
    order, by = in_every_status(market), getattr(market, role)
    at = FIRST[status] + late
    done(market, WAYS[status], order, 1 << status, by, share=DEFAULT_SHARE, at=at)


@pytest.mark.parametrize("status", WAYS)
def test_not_a_second_earlier(market: Market, status: Status) -> None:
    order, at = in_every_status(market), FIRST[status]
    early = {"from": at, "timestamp": at - 1}
    with reverts("TooEarly", index=status, **early):
        do(market, WAYS[status], order, 1 << status, market.stranger, share=DEFAULT_SHARE, at=at - 1)


def test_everything_gets_out_in_the_end(market: Market) -> None:
    order = in_every_status(market)
    other = market.balance(market.escrow) - sum(order.amounts_wei[status] for status in WAYS)
    for status, act in WAYS.items():
        at = max(FIRST.values()) + MONTH + status
        done(market, act, order, 1 << status, market.stranger, share=DEFAULT_SHARE, at=at)
    assert market.balance(market.escrow) == other  # what is left is of another batch
