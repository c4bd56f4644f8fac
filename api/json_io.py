"""Bodies and answers whose numbers are exact, from the first digit of a request to the last of its answer."""

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
"""No model takes it. It would read the fields of an instance of a class, a `Decimal` even, as attributes."""


class ExactRequest(Request):
    """A request whose body keeps its numbers exact."""

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
