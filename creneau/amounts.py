"""Amounts of the token: `Decimal` outside, integers of base units ("wei") inside, never float.

Every conversion is exact, whatever the precision of the caller's decimal context.
"""

from decimal import Decimal, InvalidOperation
from typing import NamedTuple

DECIMALS = 18
"""Decimal places of the token; a deployment checks that its token agrees."""

UINT96_MAX = 2**96 - 1
UINT256_MAX = 2**256 - 1


class Token(NamedTuple):
    """The symbol and the decimal places of an ERC-20, read from the chain; without them, unnamed."""

    symbol: str = ""
    decimals: int = DECIMALS

    def text(self, wei: int) -> str:
        """Return `wei` base units with the symbol: "52.5 EDU". Raises as `format_amount` does."""
        return f"{format_amount(wei, self.decimals)} {self.symbol}".rstrip()


def to_wei(amount: Decimal | int | str, decimals: int = DECIMALS) -> int:
    """Return the base units of an amount of the token, exactly.

    Raises `TypeError` for a float (or a bool, or anything else), and `ValueError` for what no token can hold:
    text that is not a number, NaN or infinity, a negative one, more decimal places than the token has, or
    more than 256 bits of base units.
    """
    if isinstance(amount, bool) or not isinstance(amount, (Decimal, int, str)):
        raise TypeError(f"an amount is a Decimal, an int or a str, not {type(amount).__name__}")
    if isinstance(amount, str):
        try:
            if not amount.isascii() or "_" in amount:  # Decimal takes other alphabets' digits, and 1_000.
                raise InvalidOperation
            wei = _scaled(Decimal(amount), decimals)
        except InvalidOperation:
            raise ValueError(f"not a number: {amount[:80]!r}") from None
    else:
        wei = amount * 10**decimals if isinstance(amount, int) else _scaled(amount, decimals)
    if wei < 0:
        raise ValueError("an amount is not negative")
    if wei > UINT256_MAX:
        raise ValueError("an amount has at most 256 bits of base units")
    return wei


def _scaled(amount: Decimal, decimals: int) -> int:
    """`amount * 10^decimals` as an integer, in time that does not depend on the size of the exponent."""
    if not amount.is_finite():
        raise ValueError(f"not an amount: {amount}")
    if not amount:
        return 0
    if amount.adjusted() + decimals > 78:
        raise ValueError("an amount has at most 256 bits of base units")
    sign, digits, exponent = amount.as_tuple()
    text = "".join(map(str, digits))
    zeros = int(exponent) + decimals  # Only NaN and infinity have another exponent than an int.
    if zeros < 0:
        if text[zeros:].strip("0") or -zeros > len(text):
            raise ValueError(f"an amount has at most {decimals} decimal places")
        text = text[:zeros]
    else:
        text += "0" * zeros
    return -int(text or "0") if sign else int(text or "0")


def from_wei(wei: int, decimals: int = DECIMALS) -> Decimal:
    """Return the amount of the token in `wei` base units, exactly and without trailing zeros.

    Raises `TypeError` for anything but an int, `ValueError` for a negative one.
    """
    return Decimal(format_amount(wei, decimals))


def format_amount(wei: int, decimals: int = DECIMALS) -> str:
    """Return `wei` base units as text, as short as it can be without loss: "70", "52.5".

    Raises as `from_wei` does.
    """
    if isinstance(wei, bool) or not isinstance(wei, int):
        raise TypeError(f"base units are an int, not {type(wei).__name__}")
    if wei < 0:
        raise ValueError("an amount is not negative")
    whole, rest = divmod(wei, 10**decimals)
    return f"{whole}.{rest:0{decimals}d}".rstrip("0") if rest else str(whole)


def lesson_amount(hourly_rate_wei: int, minutes: int) -> int:
    """Return the price of a lesson in base units: rate times duration, rounded down as by the contract."""
    return hourly_rate_wei * minutes // 60
