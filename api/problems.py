"""Refusals as `application/problem+json` (RFC 9457), with the `message` that the frontend reads."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.node import NodeUnavailable
from api.wire import ExactResponse, Unreadable

log = structlog.get_logger()

MOST_ERRORS = 100

_HTTP = {
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take that method."),
    413: ("too_large", "This request is too large."),
}


class Problem(Exception):
    """A request that is refused: why, in a code for programs and a sentence for people."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers
        self.details = details

    @classmethod
    def of_field(cls, code: str, field: str, message: str) -> "Problem":
        """A field that is well formed and still wrong."""
        return cls(422, code, message, errors=[{"field": field, "slot": None, "message": message}])

    def response(self) -> ExactResponse:
        """The answer."""
        content = {
            "type": f"urn:creneau:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.message,
            "code": self.code,
            "success": False,
            "message": self.message,
            **self.details,
        }
        return ExactResponse(
            content, self.status, headers=self.headers, media_type="application/problem+json"
        )


def field_errors(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Pydantic's errors as the field, the slot it belongs to (from 1) and the reason."""
    named = []
    for error in errors[:MOST_ERRORS]:
        path = [part for part in error["loc"] if part not in {"body", "header", "path", "query"}]
        slot = next((part + 1 for part in path if isinstance(part, int)), None)
        names = [part for part in path if isinstance(part, str)]
        field = names[-1] if names else "body"
        message = str(error["msg"]).removeprefix("Value error, ")
        named.append({"field": field, "slot": slot, "message": message})
    return named


def _sentence(error: Mapping[str, Any]) -> str:
    place = f"Lesson {error['slot']}, {error['field']}" if error["slot"] else str(error["field"])
    return f"{place}: {error['message']}."


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem, in its documentation too."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        for operation in (method for path in document["paths"].values() for method in path.values()):
            for status, answer in operation["responses"].items():
                if status >= "400" and (content := answer.get("content", {}).pop("application/json", None)):
                    answer["content"]["application/problem+json"] = content
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> ExactResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> ExactResponse:
        if isinstance(error.body, Unreadable):
            errors = [{"field": "body", "slot": None, "message": f"not JSON ({error.body})"}]
        else:
            errors = field_errors(error.errors())
        return Problem(422, "invalid_request", _sentence(errors[0]), errors=errors).response()

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> ExactResponse:
        code, message = _HTTP.get(error.status_code, ("bad_request", "This request can't be read."))
        return Problem(error.status_code, code, message, headers=error.headers).response()

    @app.exception_handler(NodeUnavailable)
    async def unavailable(_: Request, error: NodeUnavailable) -> ExactResponse:
        log.warning("the node does not answer", reason=str(error))
        message = "The blockchain node does not answer just now. Nothing was booked; please try again."
        return Problem(503, "node_unavailable", message, headers={"Retry-After": "5"}).response()

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> ExactResponse:
        log.error("request failed", exc_info=error)
        message = "Something went wrong on our side. Ask for the batch before you try again."
        return Problem(500, "internal_error", message).response()
