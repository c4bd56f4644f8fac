"""Amounts of a token to base units and back, exactly."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creneau import Token, format_amount, from_wei, lesson_amount, to_wei


@given(st.integers(0, 2**256 - 1))
def test_there_and_back(wei: int) -> None:
    assert to_wei(from_wei(wei)) == wei
    assert to_wei(format_amount(wei)) == wei


@given(st.integers(0, 2**256 - 1))
def test_a_small_decimal_context_changes_nothing(wei: int) -> None:
    with localcontext(prec=3):
        assert to_wei(from_wei(wei)) == wei


@pytest.mark.parametrize(
    ("amount", "wei"),
    [
        (0, 0),
        ("-0", 0),
        (35, 35 * 10**18),
        ("35", 35 * 10**18),
        ("52.50", 525 * 10**17),
        (Decimal("7E+1"), 70 * 10**18),
        (Decimal("0E-99"), 0),
        ("0.000000000000000001", 1),
        ("1.0000000000000000000000", 10**18),  # More places than 18, but nothing in them.
        (from_wei(2**256 - 1), 2**256 - 1),
    ],
)
def test_to_wei(amount: Decimal | int | str, wei: int) -> None:
    assert to_wei(amount) == wei


@pytest.mark.parametrize("amount", [1.0, 35.5, True, None, b"1", [1]])
def test_to_wei_refuses_other_types(amount: object) -> None:
    with pytest.raises(TypeError, match="an amount is a Decimal, an int or a str, not"):
        to_wei(amount)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("amount", "reason"),
    [
        (-1, "not negative"),
        ("-0.5", "not negative"),
        ("0.0000000000000000001", "18 decimal places"),
        ("1e-19", "18 decimal places"),
        ("1e-999999999", "18 decimal places"),
        ("NaN", "not an amount"),
        ("Infinity", "not an amount"),
        ("", "not a number"),
        ("35 EDU", "not a number"),
        ("1_000", "not a number"),
        ("٣٥", "not a number"),
        (2**256, "256 bits"),
        ("1e60", "256 bits"),
        ("1e999999999", "256 bits"),
        (from_wei(2**256), "256 bits"),
    ],
)
def test_to_wei_refuses_other_values(amount: Decimal | int | str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_wei(amount)


@pytest.mark.parametrize(
    ("wei", "text"),
    [(0, "0"), (1, "0.000000000000000001"), (70 * 10**18, "70"), (525 * 10**17, "52.5"), (10**21, "1000")],
)
def test_format_amount(wei: int, text: str) -> None:
    assert format_amount(wei) == text
    assert str(from_wei(wei)) == text or wei == 1  # Decimal writes 1E-18.


def test_from_wei_refuses_what_is_no_number_of_base_units() -> None:
    with pytest.raises(ValueError, match="not negative"):
        from_wei(-1)
    with pytest.raises(TypeError, match="base units are an int, not float"):
        from_wei(1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="base units are an int, not bool"):
        format_amount(True)


@pytest.mark.parametrize(
    ("rate", "minutes", "wei"),
    [(35 * 10**18, 60, 35 * 10**18), (35 * 10**18, 90, 525 * 10**17), (1, 59, 0), (7, 15, 1)],
)
def test_lesson_amount_is_rounded_down(rate: int, minutes: int, wei: int) -> None:
    assert lesson_amount(rate, minutes) == wei


@given(st.integers(0, 2**256 - 1), st.integers(0, 36))
def test_a_token_of_other_decimal_places(wei: int, decimals: int) -> None:
    assert to_wei(from_wei(wei, decimals), decimals) == wei
    assert Token("USDC", decimals).text(wei) == f"{format_amount(wei, decimals)} USDC"


def test_a_token_of_six_decimal_places() -> None:
    assert to_wei("52.5", 6) == 52_500_000
    assert from_wei(1, 6) == Decimal("0.000001")
    with pytest.raises(ValueError, match="6 decimal places"):
        to_wei("0.0000001", 6)
