"""The strict `reverts` must itself fail wherever a lax one would pass."""

from collections.abc import Callable
from typing import Any

import pytest
from helpers import (
    Receipt,
    Reverted,
    call,
    call_data,
    calldata,
    event,
    now,
    reverts,
    send,
    send_data,
)
from market import (
    DEADLINE,
    NOW,
    RATE,
    Market,
    slot,
)

from creneau.order import Order

Act = Callable[..., Any]


@pytest.fixture(params=["send", "call"])
def act(request: pytest.FixtureRequest) -> Act:
    return send if request.param == "send" else call


@pytest.fixture
def wrong_rate(market: Market) -> Order:
    """Reverts with `RateMismatch(1, RATE)`."""
    return market.order(rate=1)


def test_passes_on_the_exact_error(market: Market, act: Act, wrong_rate: Order) -> None:
    with reverts("RateMismatch", actual=1, expected=RATE):
        act(market.escrow.createBookings, wrong_rate, b"", sender=market.student)


def test_fails_without_a_revert(market: Market, act: Act) -> None:
    with (
        pytest.raises(pytest.fail.Exception, match=r"expected .*RateMismatch\(actual=1.*there was none"),
        reverts("RateMismatch", actual=1, expected=RATE),
    ):
        act(market.escrow.createBookings, market.order(), b"", sender=market.student)


def test_fails_on_another_error(market: Market, act: Act, wrong_rate: Order) -> None:
    with (
        pytest.raises(pytest.fail.Exception, match=r"TooFewFree.* it was RateMismatch\(actual=1,"),
        reverts("TooFewFree", actual=0, min=1),
    ):
        act(market.escrow.createBookings, wrong_rate, b"", sender=market.student)


@pytest.mark.parametrize("arguments", [{"actual": 2, "expected": RATE}, {"actual": RATE, "expected": 1}])
def test_fails_on_other_arguments(
    market: Market, act: Act, wrong_rate: Order, arguments: dict[str, int]
) -> None:
    with (
        pytest.raises(pytest.fail.Exception, match="it was RateMismatch"),
        reverts("RateMismatch", **arguments),
    ):
        act(market.escrow.createBookings, wrong_rate, b"", sender=market.student)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"actual": 1}, {"actual": 1, "expected": RATE, "index": 0}, {"actual": 1, "wanted": RATE}],
    ids=["none", "one missing", "one too many", "one misnamed"],
)
def test_fails_on_incomplete_or_unknown_arguments(
    market: Market, act: Act, wrong_rate: Order, arguments: dict[str, int]
) -> None:
    with (
        pytest.raises(TypeError, match=r"RateMismatch has the arguments \['actual', 'expected'\]"),
        reverts("RateMismatch", **arguments),
    ):
        act(market.escrow.createBookings, wrong_rate, b"", sender=market.student)


def test_fails_on_an_unknown_error(market: Market, act: Act, wrong_rate: Order) -> None:
    with pytest.raises(KeyError, match="RateMissmatch"), reverts("RateMissmatch", actual=1, expected=RATE):
        act(market.escrow.createBookings, wrong_rate, b"", sender=market.student)


def test_fails_on_an_argument_of_another_type(market: Market, act: Act, wrong_rate: Order) -> None:
    with pytest.raises(Exception, match="bool"), reverts("RateMismatch", actual=True, expected=RATE):
        act(market.escrow.createBookings, wrong_rate, b"", sender=market.student)


def test_fails_if_something_else_goes_wrong(market: Market) -> None:
    with pytest.raises(ZeroDivisionError), reverts("TooFewFree", actual=0, min=1):
        call(market.escrow.renounceOwnership, at=1 // 0)


def test_tells_a_revert_without_data_from_one_with(market: Market, act: Act, wrong_rate: Order) -> None:
    with reverts(None):
        (send_data if act is send else call_data)(market.escrow, b"\0\0\0\0", sender=market.student)
    with pytest.raises(pytest.fail.Exception, match="expected a revert with no data, it was"), reverts(None):
        act(market.escrow.createBookings, wrong_rate, b"", sender=market.student)
    with (
        pytest.raises(pytest.fail.Exception, match="it was no data"),
        reverts("RateMismatch", actual=1, expected=RATE),
    ):
        (send_data if act is send else call_data)(market.escrow, b"\0\0\0\0", sender=market.student)


def test_running_out_of_gas_is_not_a_revert(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.GAS", 60_000)
    with pytest.raises(RuntimeError, match="did not revert"):
        send(market.escrow.createBookings, market.order(), b"", sender=market.student)


def test_a_transaction_that_reverts_is_mined_and_changes_nothing(market: Market, wrong_rate: Order) -> None:
    with pytest.raises(Reverted, match="RateMismatch"):
        send(market.escrow.createBookings, wrong_rate, b"", sender=market.student, at=NOW + 1000)
    assert now() == NOW + 1000
    assert call(market.escrow.batches, call(market.escrow.batchOf, wrong_rate)) == (0,) * 6


def test_calls_and_transactions_happen_when_they_are_told_to(market: Market, act: Act) -> None:
    order = market.order()
    with reverts("OrderExpired", deadline=DEADLINE, timestamp=slot(0).start_unix):
        act(market.escrow.createBookings, order, b"", sender=market.student, at=slot(0).start_unix)


def test_events_are_compared_whole(market: Market) -> None:
    receipt = send_data(market.token, calldata(market.token.transfer, market.tutor, 5), sender=market.student)
    right = {"from": market.student, "to": market.tutor, "value": 5}
    assert isinstance(receipt, Receipt)
    assert receipt.events == [event(market.token, "Transfer", **right)]
    assert receipt.events != [event(market.token, "Transfer", **(right | {"value": 6}))]
    assert receipt.events != [event(market.tutor, "Transfer", **right)]
