"""JSON without binary floats: a number with a fraction is a `Decimal`, read and written digit by digit."""

import json
from collections.abc import Callable, Coroutine
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, NoReturn

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def loads(text: str | bytes) -> Any:
    """What the text says. Raises `ValueError` for anything that is not JSON, however it is not."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse)
    except (RecursionError, ArithmeticError):
        raise ValueError("nested too deeply, or a number too large") from None


def dumps(value: Any) -> str:  # noqa: PLR0911  # one for each type
    """The value as JSON, a `Decimal` as a plain number. Refuses floats."""
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


class ExactResponse(Response):
    """A response whose amounts are exact."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return dumps(content).encode()


_NO_OBJECT: list[Any] = []
"""No model takes it. It would read the fields of an instance of a class, a `Decimal` even, as attributes."""


class ExactRequest(Request):
    """A request whose body is of bounded size, and keeps its numbers exact."""

    async def body(self) -> bytes:
        """The bytes. Reads no more than it may."""
        if not hasattr(self, "_body"):
            body, most = bytearray(), self.app.state.shim.settings.max_body_bytes
            async for chunk in self.stream():
                body += chunk
                if len(body) > most:
                    raise HTTPException(413)
            self._body = bytes(body)
        return self._body

    async def json(self) -> Any:
        """The object. What is none is left to validation, which comes after authentication."""
        try:
            value = loads(await self.body())
        except ValueError as error:
            self.state.unreadable = f"not JSON ({error})"
            return _NO_OBJECT
        if isinstance(value, dict):
            return value
        self.state.unreadable = "not an object"
        return _NO_OBJECT


class ExactRoute(APIRoute):
    """A route that reads its body exactly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler."""
        handle = super().get_route_handler()

        async def exact(request: Request) -> Response:
            return await handle(ExactRequest(request.scope, request.receive))

        return exact
