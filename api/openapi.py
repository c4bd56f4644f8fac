"""The OpenAPI document beyond FastAPI's own: fields, refusals, headers, examples, shared responses."""

from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any, TypeGuard

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from api import reference_page
from api.booking.models import frontend_id
from api.errors import Code, Parameters, placeholders
from api.json_io import tagged
from api.schemas import requests
from creneau.lifecycle import Action, Role, Status

TAGS = [
    {"name": "booking", "description": "Book lessons, several in one transaction."},
    {"name": "wallet", "description": "Book with a wallet of one's own, and link it."},
    {"name": "lessons", "description": "Read lessons, and act on them once they are booked."},
    {"name": "annonces", "description": "Read and publish listings, and see when a tutor's time is taken."},
    {"name": "account", "description": "See who is signed in."},
    {
        "name": "existing frontend",
        "description": "What the existing frontend asks and reads, beside the service's own fields.",
    },
    {"name": "operation", "description": "Watch the service."},
]
FIELDS = {
    "annonceId": "The annonce's id in the user service.",
    "batchId": "The contract's key of the batch: 0x and 64 hex digits. The last two are 00.",
    "blockchainStatus": "PENDING: sent; CONFIRMED: in a block. FAILED and CANCELLED: it came to nothing.",
    "bookings": "The lessons, 1 to 40; of an answer, those that are booked or on their way.",
    "code": "Why, for programs. It is stable; docs/errors.md lists all.",
    "count": "How many lessons are booked, or on their way.",
    "createdAt": "RFC 3339, UTC.",
    "date": "The day, in the time zone of the request.",
    "description": "What the lesson is about, as it was given. Never on the chain.",
    "detail": "The same as `message` (RFC 9457).",
    "duration": "In minutes: 15 to 480, in steps of 15.",
    "error": "Why, for people.",
    "errors": "The fields that can't be read.",
    "failedCount": "How many lessons were not booked.",
    "failures": "The lessons that were not booked, or null.",
    "field": "Its name in the request.",
    "blockNumber": "Of the block that the transaction is in.",
    "gasUsed": "Of the whole transaction; null until it is in a block.",
    "id": "The booking's id for frontends. It follows from the one on the chain.",
    "index": "The lesson's number in the request, from 1.",
    "message": "For people: what happened and, if nothing did, why.",
    "ok": "Whether it is right.",
    "slot": "The lesson, as it was asked for; of a field, its lesson's number from 1, or null.",
    "startsAt": "RFC 3339, UTC.",
    "state": "accepted, signed, submitted, reverting: on its way. mined: in a block. final. Else: nothing.",
    "status": "Of a lesson: where it stands. Of a refusal: the HTTP status.",
    "studentId": "The student's id in the user service.",
    "studentNotes": "For the tutor; read by the parties only. Never on the chain.",
    "success": "Whether at least one lesson is booked, or on its way.",
    "time": "Local time of the start, in the time zone of the request.",
    "title": "The HTTP status in words.",
    "totalAmount": "In EDU, exact: the sum of the booked lessons' amounts.",
    "totalAmountWei": "The same in base units (10^-18 EDU), as decimal text.",
    "hourlyRate": "EDU for 60 minutes, exact.",
    "hourlyRateWei": "The same in base units.",
    "publishedRateWei": "The rate that is on the chain, in base units; 0 or null: none.",
    "timeZone": "IANA name.",
    "may": "What can be done with it now, by whom and until when.",
    "nextCursor": "Give it as `cursor` for the next page; null on the last.",
    "from": "RFC 3339, UTC.",
    "to": "RFC 3339, UTC; of a payment, who got it.",
    "nonce": "It stands in the message, and is good once.",
    "expiresAt": "RFC 3339, UTC: too late from then on.",
    "address": "Checksummed, of 20 bytes (EIP-55).",
    "act": "confirm, cancel, complete, dispute or resolve.",
    "start": "RFC 3339, UTC.",
    "end": "RFC 3339, UTC.",
    "signature": "0x and hex: 65 bytes of an account (EIP-191), or what a contract wallet takes (ERC-1271).",
    "userId": "The user's id in the user service.",
    "by": "Who can do it.",
    "signer": "The address whose signature it needs.",
    "typedData": "For eth_signTypedData_v4 (EIP-712), as it is.",
    "role": "In these lessons: student or tutor.",
    "byStatus": "How many lessons have each status.",
    "spentWei": "What tutors got of it, in base units.",
    "earnedWei": "What the tutor got, in base units.",
    "inEscrow": "In EDU: what the contract holds for lessons that are not over.",
    "inEscrowWei": "The same in base units.",
    "refundedWei": "What came back, in base units.",
    "types": "EIP-712.",
    "primaryType": "EIP-712.",
    "domain": "EIP-712: name, version, chain, contract.",
    "custodial": "Whether the account is kept here, and signs by itself.",
    "amount": "In EDU, exact.",
    "amountWei": "In base units (10^-18 EDU), as decimal text.",
    "transactionHash": "The one transaction; null until it is signed.",
    "tutorId": "The tutor's id in the user service.",
    "type": "A URN of the code (RFC 9457).",
    "updatedAt": "RFC 3339, UTC.",
    "checks": "What was looked at: database, pending, node, contract, head, view, relayer.",
    "data": "What became of the batch.",
}

_PARAMETERS = {
    "limit": "How many at most on a page.",
}
_ANYWHERE = ("409", "429", "500", "502", "503")  # People's accounts are found, or made, on every route.
_LATER = {"Retry-After": ("integer", "In how many seconds to come again")}
_HEADERS = {
    "401": {
        "WWW-Authenticate": ("string", 'Bearer; of a token that is not valid, with error="invalid_token"')
    },
    "429": _LATER,
    "503": _LATER,
}
_PROBLEM = "#/components/schemas/Problem"
_SUFFIXES = {"202": "Accepted", "503": "Unavailable"}
_SLOT = {"date": "2035-03-05", "time": "09:00", "amount": 35, "duration": 60}
_BATCH = "0x" + "5a" * 31 + "00"
_HASH = "0x" + "c4" * 32
_BOOKING_ID = frontend_id(_BATCH, 0)
_BOOKING = {
    "id": _BOOKING_ID,
    "tutorId": requests.TUTOR,
    "studentId": requests.STUDENT,
    "annonceId": requests.ANNONCE,
    **_SLOT,
    "startsAt": "2035-03-05T08:00:00Z",
    "status": "PENDING",
    "amountWei": "35000000000000000000",
    "transactionHash": _HASH,
    "blockchainStatus": "CONFIRMED",
    "blockchainTransactionId": _BATCH,
    "description": None,
    "studentNotes": "Réseaux de neurones, chapitre 3",
    "cancellableUntil": None,
    "may": [],
    "payments": [],
    "createdAt": "2035-02-01T10:00:00.123Z",
    "updatedAt": "2035-02-01T10:00:01.456Z",
}
_TAKEN = {
    "index": 2,
    "slot": _SLOT | {"time": "10:00"},
    "code": "taken",
    "error": Code.TAKEN.sentence(date="2035-03-05", time="10:00"),
}
_DATA = {
    "batchId": _BATCH,
    "state": "mined",
    "bookings": [_BOOKING],
    "totalAmount": 35,
    "totalAmountWei": "35000000000000000000",
    "count": 1,
    "failedCount": 0,
    "failures": None,
    "transactionHash": _HASH,
    "blockNumber": 1234567,
    "gasUsed": 85932,
    "finality": "mined",
}
_SENT = {"state": "submitted", "blockNumber": None, "gasUsed": None, "finality": "pending"}
_SENT |= {"bookings": [_BOOKING | {"blockchainStatus": "PENDING"}]}  # type: ignore[dict-item]
_ANSWERS: dict[tuple[str, str], dict[str, Any]] = {
    ("BatchAnswer", "200"): {
        "booked": ("Everything is booked", "1 lesson booked for 35 EDU in one transaction.", _DATA),
        "inPart": (
            "A lesson was taken meanwhile",
            "1 of 2 lessons booked for 35 EDU in one transaction. The tutor's time is taken.",
            _DATA | {"failedCount": 1, "failures": [_TAKEN]},
        ),
    },
    ("BatchAnswer", "202"): {
        "sent": (
            "Not in a block yet",
            "1 lesson for 35 EDU on the way; the transaction is not in a block yet.",
            _DATA | _SENT,
        )
    },
}


def install(app: FastAPI) -> None:
    """Complete the application's document when it is first asked for."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(generate())
        return generate()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way

    async def document(request: Request) -> Response:
        return tagged(JSONResponse(app.openapi()), request.headers.get("if-none-match"))

    async def reference(request: Request) -> Response:
        page = HTMLResponse(reference_page.render(app.openapi()))
        return tagged(page, request.headers.get("if-none-match"))

    async def style(request: Request) -> Response:
        page = Response(reference_page.STYLE, media_type="text/css")
        return tagged(page, request.headers.get("if-none-match"))

    app.add_route("/docs", reference, include_in_schema=False)
    app.add_route("/docs/style.css", style, include_in_schema=False)
    app.router.routes[:] = [Route(each.path, document) if _is_document(each) else each for each in app.routes]


def _is_document(route: BaseRoute) -> TypeGuard[Route]:
    return isinstance(route, Route) and route.path == "/openapi.json"


def _complete(document: dict[str, Any]) -> None:
    """Describe fields, give each refusal the codes and examples of its status, and share what repeats."""
    components = document["components"]
    for schema in components["schemas"].values():
        for name, field in schema.get("properties", {}).items():
            if name in FIELDS:
                field.setdefault("description", FIELDS[name])
    components["headers"] = {
        "X-Request-ID": {
            "description": "Names the request in the log. A well-formed one of the client's is kept.",
            "schema": {"type": "string"},
        }
    }
    components["examples"] = {
        code: {"summary": text, "value": _problem(code, text)} for code in Code for text in [_example(code)]
    }
    shared: dict[str, dict[str, Any]] = {}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in _PARAMETERS:
                    parameter.setdefault("description", _PARAMETERS[parameter["name"]])
            answers: dict[str, dict[str, Any]] = operation["responses"]
            if path.startswith("/api/"):
                answers |= {status: {} for status in _ANYWHERE if status not in answers}
            for status, answer in answers.items():
                name, whole = _answer(status, answer)
                if shared.setdefault(name, whole) == whole:
                    whole = {"$ref": f"#/components/responses/{name}"}
                answers[status] = whole
    components["responses"] = shared


def _answer(status: str, answer: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name under which a response is shared, and the response."""
    headers = {
        **answer.get("headers", {}),
        **{
            name: {"schema": {"type": kind}, "description": text}
            for name, (kind, text) in _HEADERS.get(status, {}).items()
        },
        "X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"},
    }
    if status == "304":
        return "NotModified", {**answer, "headers": headers}
    content = answer.get("content", {})
    schema = content.get("application/json", {}).get("schema", {}).get("$ref", _PROBLEM)
    model = schema.rsplit("/", 1)[1]
    if status >= "400" and schema == _PROBLEM:
        known = [code for code in Code if code.status == int(status)]
        content = {
            "application/problem+json": {
                "schema": {"$ref": _PROBLEM},
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in known},
            }
        }
        description = " ".join(f"`{code}`" for code in known)
        phrase = HTTPStatus(int(status)).phrase.replace(" ", "")
        return phrase, {"description": description, "headers": headers, "content": content}
    if examples := _ANSWERS.get((model, status)):
        content["application/json"]["examples"] = {
            name: {"summary": summary, "value": {"success": True, "message": message, "data": data}}
            for name, (summary, message, data) in examples.items()
        }
    name = f"{'Metrics' if schema == _PROBLEM else model}{_SUFFIXES.get(status, '')}"
    return name, {**answer, "headers": headers}


_EXAMPLES: Parameters = {
    "account": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "act": Action.CANCEL,
    "allowed": [Status.PENDING, Status.CONFIRMED],
    "amount": Decimal(34),
    "available": 10 * 10**18,
    "booking": _BOOKING_ID,
    "count": 1,
    "date": "2035-03-05",
    "days": 62,
    "field": "date",
    "line": 1,
    "listing_rate": 35 * 10**18,
    "path": "/api/blockchain/booking/batch",
    "picked": datetime(2035, 3, 5, 9, tzinfo=UTC),
    "price": 35 * 10**18,
    "published": 36 * 10**18,
    "rate": 35 * 10**18,
    "read": datetime(2035, 3, 5, 8, tzinfo=UTC),
    "reason": "a date looks like 2035-03-05, and exists",
    "roles": [Role.STUDENT, Role.TUTOR],
    "seconds": 12,
    "since": datetime(2035, 3, 5, 8, tzinfo=UTC),
    "slot": 1,
    "status": Status.COMPLETED,
    "time": "09:00",
    "until": datetime(2035, 3, 5, 8, tzinfo=UTC),
    "zone": "Europe/Paris",
}


def _example(code: Code) -> str:
    """Return the code's first sentence with example values."""
    names = placeholders(code.templates()[0])
    terms: Any = {name: value for name, value in _EXAMPLES.items() if name in names}
    return code.sentence(**terms)


def _problem(code: Code, text: str) -> dict[str, Any]:
    problem = {
        "type": f"urn:creneau:problem:{code}",
        "title": HTTPStatus(code.status).phrase,
        "status": code.status,
        "detail": text,
        "code": code,
        "success": False,
        "message": text,
    }
    if code.is_lesson:
        return problem | {"failures": [{"index": 1, "slot": _SLOT, "code": code, "error": text}]}
    if code is Code.INVALID_REQUEST:
        return problem | {"errors": [{"field": "date", "slot": 1, "message": "a date looks like 2035-03-05"}]}
    return problem
