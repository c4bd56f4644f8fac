"""Requests and responses whose numbers are exact, from the first digit read to the last one written."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.db.decimal_json import dumps, loads


class ExactResponse(Response):
    """A response whose amounts are exact."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body; a model's fields are named by their aliases."""
        if isinstance(content, BaseModel):
            content = content.model_dump(by_alias=True)
        return dumps(content).encode()


_NO_OBJECT: list[Any] = []
"""A value that no model takes. Of an object, a `Decimal` even, a model would read the attributes."""


class ExactRequest(Request):
    """A request whose body keeps its numbers exact."""

    async def json(self) -> Any:
        """Return the object. Anything else is left to validation, which comes after authentication."""
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
        """Return the handler."""
        handle = super().get_route_handler()

        async def exact(request: Request) -> Response:
            return await handle(ExactRequest(request.scope, request.receive))

        return exact
