"""The periods at their extremes, the shortest and a year: the boundaries to the second."""

from dataclasses import replace

import pytest
from acts import DEFAULT_SHARE, booked, disputed, do, done, end_of, undone
from ape import project
from helpers import deploy, reverts
from market import NOW, Market, slot

HOUR = 60 * 60
DAY = 24 * HOUR
YEAR = 365 * DAY
START, END = slot(0).start_unix, end_of(slot(0))


@pytest.fixture
def market_with(market: Market, request: pytest.FixtureRequest) -> Market:
    terms = (market.token, market.arbiter, *request.param, DEFAULT_SHARE)
    other = replace(market, escrow=deploy(project.BookingEscrow, *terms, sender=market.deployer))
    other.publish()
    other.approve(market.balance(market.student))
    return other


@pytest.mark.parametrize("market_with", [(0, HOUR, DAY)], indirect=True)
def test_the_shortest_of_each(market_with: Market) -> None:
    market = market_with
    order = booked(market, slot(0), instant=True)
    with undone(), reverts("TooLate", index=0, until=START, timestamp=START + 1):
        do(market, "cancel", order, 0b1, market.student, at=START + 1)
    with undone():
        done(market, "cancel", order, 0b1, market.student, at=START)
    reviewed = END + HOUR
    with undone(), reverts("TooEarly", index=0, **{"from": reviewed + 1, "timestamp": reviewed}):
        do(market, "complete", order, 0b1, market.tutor, at=reviewed)
    with undone():
        done(market, "complete", order, 0b1, market.tutor, at=reviewed + 1)
    with undone(), reverts("TooLate", index=0, until=reviewed, timestamp=reviewed + 1):
        do(market, "dispute", order, 0b1, market.student, at=reviewed + 1)
    done(market, "dispute", order, 0b1, market.student, at=reviewed)
    over = reviewed + DAY
    how = {"share": DEFAULT_SHARE}
    with undone(), reverts("TooEarly", index=0, **{"from": over + 1, "timestamp": over}):
        do(market, "resolve", order, 0b1, market.student, at=over, **how)
    done(market, "resolve", order, 0b1, market.student, at=over + 1, **how)


@pytest.mark.parametrize("market_with", [(YEAR, YEAR, YEAR)], indirect=True)
def test_a_year_each(market_with: Market) -> None:
    market = market_with
    order = booked(market, slot(0), instant=True)
    with undone(), reverts("TooLate", index=0, until=START - YEAR, timestamp=NOW + 600):
        do(market, "cancel", order, 0b1, market.student, at=NOW + 600)  # its time was over before
    with undone(), reverts("TooEarly", index=0, **{"from": END + YEAR + 1, "timestamp": END + YEAR}):
        do(market, "complete", order, 0b1, market.tutor, at=END + YEAR)
    done(market, "complete", order, 0b1, market.tutor, at=END + YEAR + 1)


@pytest.mark.parametrize("market_with", [(1, YEAR, YEAR), (1, HOUR, YEAR), (1, YEAR, DAY)], indirect=True)
def test_arbitration_follows_the_review(market_with: Market, request: pytest.FixtureRequest) -> None:
    market = market_with
    _, review, arbitration = request.node.callspec.params["market_with"]
    order = disputed(market, slot(0))
    over = END + review + arbitration
    with undone(), reverts("TooEarly", index=0, **{"from": over + 1, "timestamp": over}):
        do(market, "resolve", order, 0b1, market.stranger, share=DEFAULT_SHARE, at=over)
    done(market, "resolve", order, 0b1, market.stranger, share=DEFAULT_SHARE, at=over + 1)
