"""Money is never stuck: from every live status its beneficiary alone gets it out, if he waits long enough."""

import pytest
from acts import ARBITRATION, MONTH, REVIEW, done, end_of, in_every_status, sign_action, undone
from market import PAGE, Market, slot

from creneau.lifecycle import Status

LAST = end_of(slot(40, page=PAGE + 1))
"""No lesson ends later."""
WAYS = {
    Status.PENDING: ("cancel", "student"),
    Status.CONFIRMED: ("complete", "tutor"),
    Status.DISPUTED: ("cancel", "student"),
}
FIRST = {
    Status.PENDING: LAST,
    Status.CONFIRMED: end_of(slot(16, page=PAGE + 1)) + REVIEW + 1,
    Status.DISPUTED: end_of(slot(0)) + REVIEW + ARBITRATION + 1,
}
"""The first second at which it is possible whatever the others do; a pending lesson has no first."""


@pytest.mark.parametrize("late", [0, MONTH, 100 * 12 * MONTH])
@pytest.mark.parametrize("status", WAYS)
def test_its_beneficiary_alone_gets_the_money_out(market: Market, status: Status, late: int) -> None:
    order, (act, role) = in_every_status(market), WAYS[status]
    by, at = getattr(market, role), FIRST[status] + late
    with undone():
        done(market, act, order, 1 << status, by, at=at)
    signature = sign_action(market, act, order, 1 << status, by)  # or anyone sends it for them
    done(market, act, order, 1 << status, by, signature=signature, sender=market.relayer, at=at)


@pytest.mark.parametrize("status", [Status.CONFIRMED, Status.DISPUTED])
def test_a_keeper_gets_it_out_for_him(market: Market, status: Status) -> None:
    order = in_every_status(market)
    act, _ = WAYS[status]
    done(market, act, order, 1 << status, market.relayer, at=FIRST[status])


def test_everything_gets_out_in_the_end(market: Market) -> None:
    order = in_every_status(market)
    other = market.balance(market.escrow) - sum(order.amounts_wei[status] for status in WAYS)
    for status, (act, role) in WAYS.items():
        done(market, act, order, 1 << status, getattr(market, role), at=max(FIRST.values()) + MONTH + status)
    assert market.balance(market.escrow) == other  # what is left is of another batch
