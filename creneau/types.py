"""Types of the models' fields, and the chain's integers as Python's times.

Each type refuses values that the contract's types can't hold, and no others.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Annotated

from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, PlainSerializer

from creneau.amounts import UINT96_MAX, from_wei, to_wei

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_LAST_SECOND = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _SECOND
_UINT16_MAX = 2**16 - 1


def to_unix(moment: datetime) -> int:
    """Unix seconds of an aware datetime, rounded down."""
    return (moment - _EPOCH) // _SECOND


def from_unix(seconds: int) -> datetime:
    """Return the UTC datetime of a unix time. Raises `ValueError` before 1970 and after the year 9999."""
    if not 0 <= seconds <= _LAST_SECOND:
        raise ValueError(f"no datetime for unix time {seconds}")
    return _EPOCH + timedelta(seconds=seconds)


def to_hex(value: bytes) -> str:
    """Bytes as lower-case hex digits after 0x."""
    return "0x" + value.hex()


def to_address(value: object) -> str:
    """Return the checksummed address of 0x and 40 hex digits in any case, or of 20 bytes.

    Raises `ValueError` for anything else.
    """
    if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
        return _checksummed(value)
    if isinstance(value, bytes) and len(value) == 20:
        return _checksummed("0x" + value.hex())
    raise ValueError("an address is 20 bytes, as 0x and 40 hex digits")


@lru_cache(maxsize=4096)
def _checksummed(address: str) -> str:
    return str(to_checksum_address(address))


def to_bytes32(value: object) -> bytes:
    """32 bytes from themselves or from 0x and 64 hex digits, shown as hex. Else `ValueError`."""
    if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{64}", value):
        return HexBytes(value)
    if isinstance(value, (bytes, bytearray)) and len(value) == 32:
        return HexBytes(value)
    raise ValueError("a bytes32 is 32 bytes, or 0x and 64 hex digits")


def _amount(value: object) -> Decimal:
    try:
        return from_wei(to_wei(value))  # type: ignore[arg-type]  # to_wei raises TypeError for other types
    except TypeError as error:
        raise ValueError(str(error)) from None


def _uint96(value: Decimal) -> Decimal:
    if to_wei(value) > UINT96_MAX:
        raise ValueError("a rate has at most 96 bits of base units")
    return value


def _no_number(value: object) -> object:
    # Pydantic would take it for seconds; whoever writes duration=60 means minutes.
    if isinstance(value, (int, float)):
        raise ValueError("a time is a datetime or a timedelta, not a number")
    return value


def _timestamp(value: datetime) -> datetime:
    value = value.astimezone(UTC)
    if value.microsecond:
        raise ValueError("the chain counts whole seconds")
    if value < _EPOCH:
        raise ValueError("the chain counts from 1970")
    return value


def _minutes(value: timedelta) -> timedelta:
    if value % _MINUTE:
        raise ValueError("a slot lasts whole minutes")
    if not 0 <= value // _MINUTE <= _UINT16_MAX:
        raise ValueError("a slot lasts at most 16 bits of minutes")
    return value


Address = Annotated[str, BeforeValidator(to_address)]
"""A checksummed address; takes any case, or 20 bytes."""
Bytes32 = Annotated[bytes, BeforeValidator(to_bytes32), PlainSerializer(to_hex, str, when_used="json")]
"""32 bytes; takes 0x hex too, and is 0x hex in JSON."""
TokenAmount = Annotated[Decimal, BeforeValidator(_amount)]
"""An exact amount of the token; takes an int or a str too, never a float."""
Rate = Annotated[TokenAmount, AfterValidator(_uint96)]
"""An amount of the token that fits the contract's uint96."""
Timestamp = Annotated[AwareDatetime, BeforeValidator(_no_number), AfterValidator(_timestamp)]
"""An aware datetime of whole seconds, in UTC once validated."""
Minutes = Annotated[timedelta, BeforeValidator(_no_number), AfterValidator(_minutes)]
"""A timedelta of whole minutes that fits the contract's uint16."""
