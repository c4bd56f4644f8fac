"""Refusals as `application/problem+json` (RFC 9457), with the `message` that the frontend reads."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import Scope

from api.chain.rpc import NodeUnavailable, RpcError
from api.errors import Code, Parameters, Problem
from api.french import TITLES, french_reason
from api.json_io import ExactResponse
from api.language import say

log = structlog.get_logger()

MOST_ERRORS = 100

_HTTP = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED, 413: Code.TOO_LARGE}


def response(problem: Problem, scope: Scope) -> ExactResponse:
    """Return the response to this request, and put the code into the request's log line."""
    scope["state"]["code"] = problem.code
    content = {
        "type": f"urn:creneau:problem:{problem.code}",
        "title": say(HTTPStatus(problem.status).phrase, TITLES.get(problem.status, "Refus")),
        "status": problem.status,
        "detail": problem.message,
        "code": problem.code,
        "success": False,
        "message": problem.message,
        **problem.details,
    }
    return ExactResponse(
        content, problem.status, headers=problem.headers, media_type="application/problem+json"
    )


def field_errors(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return Pydantic's errors, each as a field, the number of its slot (from 1) and the reason."""
    named = []
    for error in errors[:MOST_ERRORS]:
        where, *path = error["loc"]
        slot = next((part + 1 for part in path if isinstance(part, int)), None) if where == "body" else None
        names = [part for part in path if isinstance(part, str)]
        field = names[-1] if names else "body"
        said = str(error["msg"]).removeprefix("Value error, ")
        message = say(said, french_reason(error["type"], said, error.get("ctx", {})))
        named.append({"field": field, "slot": slot, "message": message})
    return named


def _invalid(found: list[dict[str, Any]]) -> Problem:
    first: Parameters = {"field": found[0]["field"], "reason": found[0]["message"]}
    if found[0]["slot"]:
        first["slot"] = found[0]["slot"]
    return Problem(Code.INVALID_REQUEST, details={"errors": found}, **first)


def install(app: FastAPI) -> None:
    """Turn every error of the application into a problem."""

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> ExactResponse:
        return response(error, request.scope)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> ExactResponse:
        errors = field_errors(error.errors())
        if any(each["loc"] == ("body",) and isinstance(each["input"], bytes) for each in error.errors()):
            errors = [{"field": "Content-Type", "slot": None, "message": _say_json()}]
        elif unreadable := getattr(request.state, "unreadable", None):
            errors = [{"field": "body", "slot": None, "message": unreadable}]
        return response(_invalid(errors), request.scope)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> ExactResponse:
        code = _HTTP.get(error.status_code, Code.BAD_REQUEST)
        headers = error.headers
        if error.status_code == 405:  # Starlette names those of one route only.
            paths, asked = app.openapi()["paths"], request.url.path
            # Where an address has a name of its own, `batch` say, it is nobody's id.
            named = [path for path in paths if compile_path(path)[0].match(asked)]
            here = [paths[path] for path in ([asked] if asked in paths else named)]
            methods = {method.upper() for item in here for method in item}
            methods |= {"HEAD"} if "GET" in methods else set()
            headers = {"Allow": ", ".join(sorted(methods))} if methods else headers
        return response(Problem(code, headers=headers), request.scope)

    @app.exception_handler(RpcError)  # Which is no contract's: those are told apart where they are read.
    @app.exception_handler(NodeUnavailable)
    async def unavailable(request: Request, error: NodeUnavailable | RpcError) -> ExactResponse:
        log.warning("the node does not answer", reason=str(error))
        return response(Problem(Code.NODE_UNAVAILABLE), request.scope)

    @app.exception_handler(SQLAlchemyError)
    async def no_database(request: Request, error: SQLAlchemyError) -> ExactResponse:
        log.warning("the database does not answer", reason=type(error).__name__)
        return response(Problem(Code.DATABASE_UNAVAILABLE), request.scope)


def _say_json() -> str:
    return say(
        "a body is JSON: send it with Content-Type: application/json",
        "un corps est du JSON : envoyez-le avec Content-Type: application/json",
    )


def unexpected(error: Exception) -> Problem:
    """Log a fault of the program, and return the problem to say."""
    log.error("request failed", exc_info=error)
    return Problem(Code.INTERNAL_ERROR)
