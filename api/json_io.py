"""Requests and responses whose numbers are exact, from the first digit read to the last one written."""

import hashlib
from collections.abc import Callable, Coroutine, Mapping
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


def tagged(response: Response, if_none_match: str | None) -> Response:
    """Return the response with its entity tag, or 304 if the client has it already (RFC 9110, 13.1.2)."""
    tag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if tag in {each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")}:
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response


MOST_PAGE_BYTES = 256 * 1024


def page_of(count: int, build: Callable[[int], BaseModel]) -> ExactResponse:
    """Return the response with so many entries of a list or, if that is too large, with as many as fit."""
    response = ExactResponse(build(count))
    while len(response.body) > MOST_PAGE_BYTES and count > 1:
        count = min(count - 1, max(1, count * MOST_PAGE_BYTES // len(response.body)))
        response = ExactResponse(build(count))
    return response


def bounded(answer: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> ExactResponse:
    """Return the response; if it is too large, a batch's words stand at its first lesson only."""
    response = ExactResponse(answer, status, headers)
    if len(response.body) > MOST_PAGE_BYTES:
        content = answer.model_dump(by_alias=True)
        for lesson in content["data"].get("bookings", [])[1:]:
            lesson |= {"description": None, "studentNotes": None}
        response = ExactResponse(content, status, headers)
    return response


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
