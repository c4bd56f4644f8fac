"""JSON without binary floats: a number with a fraction is a `Decimal`, read and written digit by digit."""

import json
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, NoReturn


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def loads(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises `ValueError` for anything that is not JSON."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse)
    except (RecursionError, ArithmeticError):
        raise ValueError("nested too deeply, or a number too large") from None


def dumps(value: Any) -> str:  # noqa: PLR0911  # one for each type
    """Return the value as JSON, a `Decimal` as a plain number. Raises `TypeError` for a float."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return "{" + ",".join(f"{encode_basestring(key)}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(dumps, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no place in an answer")
