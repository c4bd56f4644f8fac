"""Rights: every route of the application, and the answer of each to each kind of person.

The table below has a row for each route. A route without one fails the first test; each cell is asked on a
batch of its own, so that no answer depends on another, and each answer is as its route documents it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
from fastapi.routing import APIRoute
from forked import Stack
from lesson_scenario import SETTINGS, LessonScenario
from scenario import BATCH, DAY, paused, watching
from starlette.routing import Route

from api.app import create_app
from tools.dev_stack import DevStack

HOUR = 3600
NOBODY, STUDENT, TUTOR = "nobody", "another student", "another tutor"
WHO = (NOBODY, STUDENT, TUTOR, "student", "tutor", "operator")

ANYBODY = (200,) * 6
SIGNED_IN = (401, 200, 200, 200, 200, 200)
A_STUDENT = (401, 200, 200, 200, 409, 403)  # Of any role; nobody books lessons with themselves.
PARTIES = (401, 404, 404, 200, 200, 200)  # Nobody else learns that it exists.
ITS_STUDENT = (401, 404, 404, 200, 403, 403)
ITS_TUTOR = (401, 404, 404, 403, 200, 403)
EITHER = (401, 404, 404, 200, 200, 403)
ARBITER = (401, 404, 404, 403, 403, 200)
HIS_OWN = (401, 403, 403, 200, 403, 200)  # Of the student's.
HIS_TOO = (401, 403, 403, 403, 200, 200)  # Of the tutor's.
PUBLISHER = (401, 403, 403, 403, 200, 403)

A_WALLET = (401, 409, 409, 409, 409, 403)  # These students' accounts are kept for them.
SUBMITTER = (401, 404, 404, 200, 404, 404)
A_TUTOR = (401, 403, 200, 403, 200, 403)
NO_OFFER = (401, 404, 404, 409, 409, 403)
NO_CREDIT = (401, 409, 409, 409, 409, 403)
SELF = (401, 200, 200, 200, 200, 403)  # The operator is in no directory.
LINKER = (401, 409, 409, 409, 409, 403)  # Nobody has asked for a message to sign.

# What each of WHO gets. How the lesson stands that it is asked about comes first.
MATRIX: dict[str, tuple[str, tuple[int, ...]]] = {
    "GET /livez": ("", ANYBODY),
    "GET /readyz": ("", ANYBODY),
    "GET /metrics": ("", ANYBODY),
    "POST /api/blockchain/booking": ("", A_STUDENT),
    "POST /api/blockchain/booking/batch": ("", A_STUDENT),
    "GET /api/blockchain/booking/batch/{batchId}": ("pending", PARTIES),
    "GET /api/blockchain/act/{actId}": ("confirmed", PARTIES),
    "GET /api/blockchain/booking/{id}": ("pending", PARTIES),
    "GET /api/blockchain/booking/user/{userId}": ("", HIS_OWN),
    "GET /api/blockchain/booking/tutor/{tutorId}": ("", HIS_TOO),
    "GET /api/blockchain/booking/{userId}/stats": ("", HIS_OWN),
    "GET /api/blockchain/booking/all/{userId}": ("", HIS_OWN),
    "GET /api/blockchain/booking/student/{userId}": ("", HIS_OWN),
    "GET /api/blockchain/booking/student-courses/{userId}": ("", HIS_OWN),
    "GET /api/blockchain/balance": ("", HIS_OWN),
    "GET /api/blockchain/history": ("", HIS_OWN),
    "GET /api/blockchain/stats": ("", HIS_OWN),
    "POST /api/blockchain/booking/{id}/confirm-outcome": ("pending", EITHER),
    "POST /api/blockchain/booking/batch/prepare": ("", A_WALLET),
    "POST /api/blockchain/booking/batch/{batchId}/submit": ("pending", SUBMITTER),
    "GET /api/blockchain/account": ("", SELF),
    "GET /api/blockchain/wallet": ("", SELF),
    "PUT /api/blockchain/wallet": ("", LINKER),
    "DELETE /api/blockchain/wallet": ("", SELF),
    "POST /api/blockchain/wallet/challenge": ("", SELF),
    "GET /api/blockchain/tutor/{tutorId}/calendar": ("", ANYBODY),
    "GET /api/blockchain/annonce/{annonceId}": ("", ANYBODY),
    "POST /api/blockchain/annonce/{annonceId}/publish": ("", PUBLISHER),
    "POST /api/blockchain/annonce/{annonceId}/publish/prepare": ("", PUBLISHER),
    "GET /api/blockchain/booking/batch/{batchId}/settle": ("pending", PARTIES),
    "POST /api/blockchain/booking/batch/{batchId}/settle": ("pending", NO_OFFER),
    "POST /api/blockchain/booking/batch/{batchId}/settle/offer": ("pending", EITHER),
    "POST /api/blockchain/booking/batch/{batchId}/settle/prepare": ("pending", EITHER),
    "GET /api/blockchain/wallet/credit": ("", SELF),
    "POST /api/blockchain/wallet/credit/withdraw": ("", NO_CREDIT),
    "POST /api/blockchain/wallet/credit/withdraw/prepare": ("", NO_CREDIT),
    "POST /api/blockchain/own-time": ("", A_TUTOR),
    "POST /api/blockchain/own-time/prepare": ("", A_TUTOR),
}
for of in ("{id}", "batch/{batchId}"):
    for method, act, stands, cells in (
        ("PATCH", "confirm", "pending", ITS_TUTOR),
        ("PATCH", "cancel", "pending", EITHER),
        ("PATCH", "complete", "reviewed", EITHER),
        ("POST", "dispute", "begun", ITS_STUDENT),
    ):
        MATRIX[f"{method} /api/blockchain/booking/{of}/{act}"] = (stands, cells)
        MATRIX[f"POST /api/blockchain/booking/{of}/{act}/prepare"] = (stands, cells)
    MATRIX[f"POST /api/blockchain/booking/{of}/resolve"] = ("disputed", ARBITER)

DOCUMENT: dict[str, Any] = create_app().openapi()


def example(model: str, field: str) -> Any:
    """The value that the documentation shows."""
    return DOCUMENT["components"]["schemas"][model]["properties"][field]["examples"][0]


SHARE = {"tutorShareBps": example("Share", "tutorShareBps")}
TO = {"to": example("To", "to")}
TIMES = {"slots": [{"date": DAY, "time": "09:00"}]}

# What a route needs to be asked at all: by the end of its path.
BODIES: dict[str, dict[str, Any]] = {
    "resolve": SHARE,
    "settle": SHARE,
    "offer": SHARE,
    "settle/prepare": SHARE,
    "withdraw": TO,
    "withdraw/prepare": TO,
    "own-time": TIMES,
    "own-time/prepare": TIMES,
    "submit": {"signature": "0x" + "00" * 65},
    "challenge": {"address": example("ChallengeData", "address")},
    "wallet": {"message": "", "signature": "0x" + "00" * 65},
}
QUERIES = {
    "confirm-outcome": "?course_held=false",
    **dict.fromkeys(("balance", "history", "stats"), "?userId={userId}"),
}
SLOT = {"date": DAY, "time": "09:00", "amount": 35}


@pytest.fixture(scope="module")
def stack() -> Iterator[DevStack]:
    """A chain whose time passes."""
    with Stack(settings=SETTINGS) as stack:
        yield stack


def routes() -> set[str]:
    """Every operation that the application documents."""
    return {f"{method.upper()} {path}" for path, item in DOCUMENT["paths"].items() for method in item}


def assert_documented(method: str, path: str, answer: httpx.Response) -> None:
    """The route's documentation has this status, and this body for it."""
    documented = DOCUMENT["paths"][path][method.lower()]["responses"][str(answer.status_code)]
    if "$ref" in documented:
        documented = DOCUMENT["components"]["responses"][documented["$ref"].rsplit("/", 1)[1]]
    kind = answer.headers["content-type"].partition(";")[0]
    schema = documented["content"][kind].get("schema", {})
    if kind.endswith("json"):
        jsonschema_rs.validate(schema | {"components": DOCUMENT["components"]}, answer.json())


def test_every_route_has_a_row() -> None:
    assert routes() == set(MATRIX)


# What is in no document: GET only, and the same for anybody.
UNDOCUMENTED = {
    *("/", "/review", "/review/", "/bookings", "/bookings/", "/page.json", "/assets/{path:path}"),
    *("/bookings/batch/{batch_id}", "/bookings/batch/{batch_id}/"),
    *("/openapi.json", "/docs", "/docs/style.css"),
}
NAMES = {f"{BATCH}", f"{BATCH}/prepare"}  # No ids: 405.


def all_routes(routes: Iterable[Any]) -> Iterator[Route | APIRoute]:
    """Every route of these, and of the routers among them; any other kind of route is an error."""
    for route in routes:
        if isinstance(route, (Route, APIRoute)):
            yield route
        else:
            yield from all_routes(route.original_router.routes)


def test_every_route_that_is_served_has_a_row_or_is_anybodys(stack: DevStack) -> None:
    served = {
        (method, route.path)
        for route in all_routes(create_app().routes)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert len(served) > len(UNDOCUMENTED)
    rest = {(method, path) for method, path in served if f"{method} {path}" not in MATRIX}
    assert rest == {("GET", path) for path in UNDOCUMENTED | NAMES}
    for path in UNDOCUMENTED:
        asked = path.format_map({"batch_id": "0x" + "0" * 64}) if "batch_id" in path else path
        expected = 404 if path.startswith("/assets") else 200
        for client in (stack.client(), stack.client("somebody")):
            assert client.get(asked).status_code == expected, path
    for path in NAMES:
        assert stack.client().get(path).status_code == 405


def lesson(lesson_scenario: LessonScenario, stands: str, days: int = 2) -> dict[str, str]:
    """The ids of a path, of a lesson that stands so."""
    ids = {
        "userId": lesson_scenario.scenario.student.id,
        "tutorId": lesson_scenario.scenario.tutor.id,
        "annonceId": lesson_scenario.scenario.annonce.id,
    }
    if not stands:
        return ids
    [booking] = lesson_scenario.book(days=days)["bookings"]
    if stands != "pending":
        with paused(lesson_scenario.stack):
            on_its_way = lesson_scenario.act("tutor", "confirm", booking, headers={"Prefer": "respond-async"})
        ids["actId"] = on_its_way.headers["location"].rpartition("/")[2]
        assert lesson_scenario.act("tutor", "confirm", booking).status_code == 200
        lesson_scenario.at(lesson_scenario.start(booking))
    if stands == "disputed":
        assert lesson_scenario.act("student", "dispute", booking).status_code == 200
    if stands == "reviewed":
        lesson_scenario.at(lesson_scenario.start(booking) + HOUR + 48 * HOUR + 1)
    return ids | {"id": booking["id"], "batchId": booking["blockchainTransactionId"]}


@pytest.mark.parametrize("route", MATRIX)
def test_what_each_gets(stack: DevStack, route: str) -> None:
    method, path = route.split(" ")
    stands, cells = MATRIX[route]
    lesson_scenario = LessonScenario.of(stack)
    given = lesson(lesson_scenario, stands)
    others = {
        STUDENT: stack.create_user("student", balance=100),
        TUTOR: stack.create_user("tutor", balance=100),
    }
    clients = {who: stack.client(user.id) for who, user in others.items()}
    clients |= {NOBODY: stack.client(), "student": lesson_scenario.student, "tutor": lesson_scenario.tutor}
    clients["operator"] = lesson_scenario.operator
    body = BODIES.get("/".join(path.split("/")[-2:])) or BODIES.get(path.rpartition("/")[2])
    got: dict[str, int] = {}
    for who, expected in zip(WHO, cells, strict=True):
        if expected == 200 and method != "GET" and stands and 200 in got.values():
            given = lesson(lesson_scenario, stands, 2 + len(got))  # The one before may have moved it.
        if path.endswith(("booking", "booking/batch", "booking/batch/prepare")):
            body = _order(lesson_scenario, path, len(got))
        query = QUERIES.get(path.rpartition("/")[2], "").format(**given)
        answer = clients[who].request(
            method, path.format(**given) + query, **({"json": body} if body else {})
        )
        got[who] = answer.status_code
        assert answer.status_code == expected, (who, answer.text)
        assert_documented(method, path, answer)
        if expected >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["success"] is False
    assert tuple(got.values()) == cells


# A `Decimal` is an instance of a class, whose attributes Pydantic would read.
MALFORMED = [b"\x80\xfe\x00", b"{", b"null", b"[]", b'"cancel"', b"1", b"1.5", b"true", b"{} {}"]


def test_a_malformed_body_does_nothing_whoever_may_act(stack: DevStack) -> None:
    asked = 0
    lesson_scenario = LessonScenario.of(stack)
    clients = {
        "student": lesson_scenario.student,
        "tutor": lesson_scenario.tutor,
        "operator": lesson_scenario.operator,
    }
    ways = ("", "begun", "disputed", "reviewed", "pending")
    given = {stands: lesson(lesson_scenario, stands, 2 + 4 * place) for place, stands in enumerate(ways)}
    with watching(stack) as seen:
        for route, (stands, cells) in MATRIX.items():
            method, path = route.split(" ")
            if "requestBody" not in DOCUMENT["paths"][path][method.lower()]:
                continue
            query = "?course_held=false" if path.endswith("outcome") else ""
            for who, expected in zip(WHO, cells, strict=True):
                for body in MALFORMED if expected == 200 and who in clients else ():
                    url, json = path.format(**given[stands]) + query, {"Content-Type": "application/json"}
                    answer = clients[who].request(method, url, content=body, headers=json)
                    assert answer.status_code == 422, (route, who, body, answer.text)
                    [error] = answer.json()["errors"]
                    assert error["field"] == "body"
                    assert error["message"].startswith(("not JSON (", "not an object"))
                    asked += 1
    assert asked > 25 * len(MALFORMED)
    assert seen.transactions == []


def test_another_method_is_told_which_there_are(stack: DevStack) -> None:
    answer = stack.client().options("/api/blockchain/wallet")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "DELETE, GET, HEAD, PUT"
    answer = stack.client().options("/api/blockchain/booking/batch")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")  # Not those of the booking "batch".


def test_a_time_is_no_number(stack: DevStack) -> None:
    lesson_scenario = LessonScenario.of(stack)
    paths = (
        f"booking/user/{lesson_scenario.scenario.student.id}",
        f"tutor/{lesson_scenario.scenario.tutor.id}/calendar",
    )
    for path in paths:
        for value in ("0.5", "1772442000", "2035-03-05", "2035-03-05T09:00:00", "\u0662035-03-05T09:00:00Z"):
            answer = lesson_scenario.student.get(f"/api/blockchain/{path}", params={"from": value})
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "from"), value
        good = lesson_scenario.student.get(
            f"/api/blockchain/{path}", params={"from": "2035-03-05T09:00:00+01:00"}
        )
        assert good.status_code == 200


def _order(lesson_scenario: LessonScenario, path: str, place: int) -> dict[str, Any]:
    """A request of lessons that nobody has asked for yet."""
    slot = SLOT | {"time": f"{9 + place:02}:00", "date": f"{2040 + place}-01-05"}
    terms = {"tutorId": lesson_scenario.scenario.tutor.id, "annonceId": lesson_scenario.scenario.annonce.id}
    return terms | ({"bookings": [slot]} if "batch" in path else slot)
