"""The periods at their extremes, none and a year: the boundaries to the second."""

from dataclasses import replace

import pytest
from acts import booked, disputed, do, done, end_of, undone
from ape import project
from helpers import deploy, reverts
from market import NOW, Market, slot

YEAR = 365 * 24 * 60 * 60
START, END = slot(0).start_unix, end_of(slot(0))


@pytest.fixture
def market_with(market: Market, request: pytest.FixtureRequest) -> Market:
    terms = (market.token, market.arbiter, *request.param)
    other = replace(market, escrow=deploy(project.BookingEscrow, *terms, sender=market.deployer))
    other.publish()
    other.approve(market.balance(market.student))
    return other


@pytest.mark.parametrize("market_with", [(0, 0, 0)], indirect=True)
def test_without_any_period(market_with: Market) -> None:
    market = market_with
    order = booked(market, slot(0), instant=True)
    with undone(), reverts("TooLate", index=0, until=START, timestamp=START + 1):
        do(market, "cancel", order, 0b1, market.student, at=START + 1)
    with undone():
        done(market, "cancel", order, 0b1, market.student, at=START)
    with undone(), reverts("TooEarly", index=0, **{"from": END + 1, "timestamp": END}):
        do(market, "complete", order, 0b1, market.tutor, at=END)
    with undone():
        done(market, "complete", order, 0b1, market.tutor, at=END + 1)
    with undone(), reverts("TooLate", index=0, until=END, timestamp=END + 1):
        do(market, "dispute", order, 0b1, market.student, at=END + 1)
    done(market, "dispute", order, 0b1, market.student, at=END - 1)
    with undone(), reverts("TooEarly", index=0, **{"from": END + 1, "timestamp": END}):
        do(market, "cancel", order, 0b1, market.student, at=END)
    done(market, "cancel", order, 0b1, market.student, at=END + 1)


@pytest.mark.parametrize("market_with", [(YEAR, YEAR, YEAR)], indirect=True)
def test_a_year_each(market_with: Market) -> None:
    market = market_with
    order = booked(market, slot(0), instant=True)
    with undone(), reverts("TooLate", index=0, until=START - YEAR, timestamp=NOW + 600):
        do(market, "cancel", order, 0b1, market.student, at=NOW + 600)  # its time was over before
    with undone(), reverts("TooEarly", index=0, **{"from": END + YEAR + 1, "timestamp": END + YEAR}):
        do(market, "complete", order, 0b1, market.tutor, at=END + YEAR)
    done(market, "complete", order, 0b1, market.tutor, at=END + YEAR + 1)


@pytest.mark.parametrize("market_with", [(1, YEAR, YEAR), (1, 0, YEAR)], indirect=True)
def test_arbitration_follows_the_review(market_with: Market, request: pytest.FixtureRequest) -> None:
    market = market_with
    _, review, arbitration = request.node.callspec.params["market_with"]
    order = disputed(market, slot(0))
    over = END + review + arbitration
    with undone(), reverts("TooEarly", index=0, **{"from": over + 1, "timestamp": over}):
        do(market, "cancel", order, 0b1, market.stranger, at=over)
    done(market, "cancel", order, 0b1, market.stranger, at=over + 1)
