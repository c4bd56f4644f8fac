"""Requests that are none: never a 500, never a transaction, always the field and the reason."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenario import BATCH, DAY, SINGLE, Scenario, slot, watching

from api.auth import mint, user_of
from api.errors import Problem
from api.schemas import responses as models
from api.settings import DEVELOPMENT_SECRET
from tools.dev_stack import DevStack


@pytest.fixture(scope="module")
def poor(stack: DevStack) -> Scenario:
    """A student without a token: whatever they send, a transaction would be wrong."""
    return Scenario.of(stack, balance=0)


def assert_refused(answer: httpx.Response) -> dict[str, Any]:
    """A problem that says what is wrong, and where."""
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    models.Problem.model_validate(body)
    assert body["status"] == answer.status_code
    assert body["success"] is False
    assert body["message"]
    if answer.status_code == 422:
        assert body["errors"]
        assert all(error["field"] and error["message"] for error in body["errors"])
    else:
        poor = (402, "insufficient_balance")
        assert (answer.status_code, body["code"]) == poor or answer.status_code == 409
        assert body["code"] == "insufficient_balance" or all(
            f["error"] and f["index"] for f in body["failures"]
        )
    return body


# --- One field at a time ---

INVALID: list[tuple[str, list[Any]]] = [
    ("tutorId", [None, 1, "", " ", "a" * 65, "\x00", "é", "\ud800", [], {}, True]),
    ("annonceId", [None, 1, "", "../x", [], {}]),
    ("bookings", [None, [], {}, "x", [None], [1], [[]], [slot("09:00")] * 41]),
    ("description", [1, [], "\x00", "\ud800"]),
    ("studentNotes", [True, {}, "a\x00b"]),
    ("timeZone", ["", "Mars/Base", "../../etc/passwd", "Europe", "europe/paris", 1, "\x00"]),
    ("allowPartial", [None, "yes", 1, "true"]),
    ("minLessons", [0, -1, 41, "1", True, 1.5, []]),
]
INVALID_IN_SLOT: list[tuple[str, list[Any]]] = [
    ("date", [None, 1, 20350305, "", "05/03/2035", "2035-3-5", "2035-02-30", "0000-01-01", "1969-12-31",
              "9999-12-31", "20350305", "2035-W10-1", "2035-03-05T09:00", "203\u0665-03-05", [], {}]),
    ("time", [None, 9, "", "9", "09h00", "24:00", "09:60", "09:00:60", "09:00Z", "09:00+01:00", "0900",
              "\u0660\u0669:00", [], {}]),
    ("amount", [None, "", "x", "NaN", "Infinity", "-Infinity", -1, "-0.01", "1e400", "1_000", "\u0663\u0665",
                "0.0000000000000000001", 10**70, " 35 ", "+35", "3.5e1", "35.", ".5", "35\n",  True, [], {}]),
    ("duration", [None, "60", "", True, [], {}, "x"]),
]  # fmt: skip


@pytest.mark.parametrize(("field", "values"), INVALID)
def test_a_field_that_cannot_be_read_is_named(poor: Scenario, field: str, values: list[Any]) -> None:
    for value in values:
        body = poor.body(slot("09:00")) | {field: value}
        answer = poor.post(json.dumps(body).encode())
        assert answer.status_code == 422, value
        assert field in {error["field"] for error in assert_refused(answer)["errors"]}, value
    missing = {name: value for name, value in poor.body(slot("09:00")).items() if name != field}
    answer = poor.post(missing)
    optional = field in {"description", "studentNotes", "timeZone", "allowPartial", "minLessons"}
    assert answer.json()["code"] == ("insufficient_balance" if optional else "invalid_request")


@pytest.mark.parametrize(("field", "values"), INVALID_IN_SLOT)
def test_a_slot_that_cannot_be_read_is_named(poor: Scenario, field: str, values: list[Any]) -> None:
    for value in values:
        body = poor.body(slot("09:00"), slot("10:00") | {field: value})
        answer = poor.post(json.dumps(body).encode())
        assert answer.status_code == 422, value
        errors = assert_refused(answer)["errors"]
        assert (field, 2) in {(error["field"], error["slot"]) for error in errors}, value
        assert answer.json()["message"].startswith(f"Lesson 2, {field}: "), value

        single = {"tutorId": poor.tutor.id, "annonceId": poor.annonce.id, **slot("09:00"), field: value}
        answer = poor.post(json.dumps(single).encode(), path=SINGLE)
        assert answer.status_code == 422, value
        assert field in {error["field"] for error in assert_refused(answer)["errors"]}, value


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b'"x"', b"1", b"\xff\xfe", b"{'a': 1}", b'{"a": NaN}', b"[" * 100_000,
        b'{"amount": ' + b"9" * 5_000 + b"}", b'{"a": 1e999999999999999999999}',
    ],
)  # fmt: skip
def test_a_body_that_is_not_json_or_not_an_object(poor: Scenario, body: bytes) -> None:
    answer = poor.post(body)
    assert answer.status_code == 422
    assert_refused(answer)


def test_a_body_of_another_type_is_not_read(poor: Scenario) -> None:
    body = json.dumps(poor.body(slot("09:00")))
    says = "a body is JSON: send it with Content-Type: application/json"
    for kind in ("text/plain", "application/x-www-form-urlencoded", None):
        headers = {} if kind is None else {"Content-Type": kind}
        answer = poor.client.post(BATCH, content=body, headers=headers)
        assert answer.status_code == 422
        assert assert_refused(answer)["errors"] == [{"field": "Content-Type", "slot": None, "message": says}]
        assert answer.json()["message"] == f"Content-Type: {says}."
    for kind in ("application/json; charset=utf-8", "application/ld+json"):
        answer = poor.client.post(BATCH, content=body, headers={"Content-Type": kind})
        assert answer.json()["code"] == "insufficient_balance"


def test_head_is_answered_as_get_without_a_body(stack: DevStack, poor: Scenario) -> None:
    document = stack.client().get("/openapi.json").json()
    ids = {"userId": poor.student.id, "tutorId": poor.tutor.id, "annonceId": poor.annonce.id}
    ids |= {"id": "0x" + "0" * 64, "batchId": "0x" + "0" * 64, "actId": "0x" + "0" * 64}
    paths = [path.format(**ids) for path, item in document["paths"].items() if "get" in item]
    assert len(paths) > 15
    for path in [*paths, "/", "/openapi.json", "/page.json", "/nothing", BATCH]:
        head, get = poor.client.head(path), poor.client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers["content-type"] == get.headers["content-type"], path
        if path not in {"/readyz", "/metrics"}:  # Their figures change.
            assert head.headers["content-length"] == get.headers["content-length"], path


def test_what_has_not_changed_is_not_sent_again(stack: DevStack, scenario: Scenario) -> None:
    span = {"from": f"{DAY}T00:00:00Z", "to": f"{DAY}T23:00:00Z"}
    calendar = f"/api/blockchain/tutor/{scenario.tutor.id}/calendar"
    annonce = f"/api/blockchain/annonce/{scenario.annonce.id}"
    client = stack.client()
    for path in ("/openapi.json", annonce, calendar):
        first = client.get(path, params=span)
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache", path
        for known in (tag, f'"other", W/{tag}'):
            again = client.get(path, params=span, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), path
        assert client.get(path, params=span, headers={"If-None-Match": '"other"'}).content == first.content
    assert scenario.book(slot("09:00")).status_code == 200
    changed = client.get(calendar, params=span, headers={"If-None-Match": tag})
    assert (changed.status_code, len(changed.json()["data"]["taken"])) == (200, 1)


def test_no_connection_becomes_a_web_socket(stack: DevStack) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    answer = stack.client().get("/livez", headers=upgrade | key)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_body_that_is_too_large(poor: Scenario) -> None:
    fits = poor.book(slot("09:00"), ignored="x" * 200_000)
    assert fits.json()["code"] == "insufficient_balance"
    large = json.dumps(poor.body(slot("09:00"), ignored="x" * 300_000)).encode()
    chunked = iter([large[:1000], large[1000:]])  # Its length is not announced.
    for content in (large, chunked):
        answer = poor.client.post(BATCH, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert answer.json()["code"] == "too_large"
        assert answer.json()["message"]


@pytest.mark.parametrize("key", ["", "x" * 256, "é"])
def test_an_idempotency_key_that_is_none(poor: Scenario, key: str) -> None:
    answer = poor.post(poor.body(slot("09:00")), headers={"Idempotency-Key": key.encode()})  # type: ignore[dict-item]
    assert answer.status_code == 422
    assert assert_refused(answer)["errors"][0]["field"] == "Idempotency-Key"


def test_paths_and_methods_that_are_not_there(poor: Scenario) -> None:
    for method, path, status in [
        ("GET", "/api/blockchain/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", BATCH, 405),  # No booking is named batch.
        ("PATCH", BATCH, 405),
        ("DELETE", SINGLE, 405),
        ("GET", f"{BATCH}/0x12", 422),
        ("GET", f"{BATCH}/%00", 422),
    ]:
        answer = poor.client.request(method, path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["message"]


# --- Anything at all ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=8), values, max_size=4),
    max_leaves=12,
)
AMOUNTS = JSON | st.decimals(allow_nan=True).map(str) | st.integers(-(10**80), 10**80)
SLOTS = st.fixed_dictionaries(
    {},
    optional={
        "date": JSON | st.dates().map(str) | st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\Z") | st.just(DAY),
        "time": JSON | st.times().map(str) | st.from_regex(r"\A[0-9]{2}:[0-9]{2}\Z"),
        "amount": AMOUNTS | st.just(35),
        "duration": JSON | st.integers(-100, 600) | st.sampled_from([15, 60, 480]),
    },
)
ZONES = JSON | st.sampled_from(
    ["UTC", "Europe/Paris", "Pacific/Apia", "Africa/Monrovia", "America", "localtime"]
)


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_body_whatever_is_an_error_of_ours(stack: DevStack, poor: Scenario, data: st.DataObject) -> None:
    ids = {"tutorId": st.just(poor.tutor.id) | JSON, "annonceId": st.just(poor.annonce.id) | JSON}
    more = {
        "description": JSON,
        "studentNotes": JSON,
        "timeZone": ZONES,
        "allowPartial": JSON | st.booleans(),
    }
    batch = st.fixed_dictionaries({"bookings": st.lists(SLOTS, max_size=42) | JSON}, optional=ids | more)
    single = st.builds(lambda a, b: a | b, SLOTS, st.fixed_dictionaries({}, optional=ids | more))
    body = data.draw(batch | single | JSON)
    content = data.draw(st.just(json.dumps(body).encode()) | st.binary(max_size=60))
    with watching(stack) as seen:
        for path in (BATCH, SINGLE):
            assert_refused(poor.post(content, path=path))
    assert seen.transactions == []


# --- Who is asking ---


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": str(uuid.uuid4()), "exp": datetime.now(UTC) + timedelta(hours=1)} | more


def signed(payload: dict[str, Any], secret: str = DEVELOPMENT_SECRET, algorithm: str | None = "HS256") -> str:
    return jwt.encode(payload, secret, algorithm)


BAD_TOKENS = {
    "no token": None,
    "not a token": "abc",
    "another secret": signed(claims(), "x" * 40),
    "no signature": signed(claims(), "", None),
    "another algorithm": signed(claims(), DEVELOPMENT_SECRET * 2, "HS512"),
    "expired": signed(claims(exp=datetime.now(UTC) - timedelta(minutes=1))),
    "without end": signed({"sub": "x"}),
    "without user": signed({"exp": datetime.now(UTC) + timedelta(hours=1)}),
    "a user that is no id": signed(claims(sub="' or 1=1 --")),
    "an empty user": signed(claims(sub="")),
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_without_a_valid_token_nothing_is_answered(stack: DevStack, scenario: Scenario, name: str) -> None:
    token = BAD_TOKENS[name]
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    client = stack.client()
    for answer in (
        client.post(BATCH, json=scenario.body(slot("09:00")), headers=headers),
        client.post(BATCH, content=b"{", headers=headers | {"Content-Type": "application/json"}),
        client.post(SINGLE, headers=headers),
        client.get(f"{BATCH}/0x{'0' * 64}", headers=headers),
    ):
        assert answer.status_code == 401
        # RFC 6750, 3.1: a request without a token has no error code.
        told = 'Bearer error="invalid_token"' if token else "Bearer"
        assert answer.headers["www-authenticate"] == told
        assert answer.json()["code"] in {"token_missing", "invalid_token", "token_expired"}
    assert client.post(BATCH, json={}, headers={"Authorization": f"Basic {token}"}).status_code == 401


def test_a_users_id_may_be_a_number(stack: DevStack, poor: Scenario) -> None:
    headers = {"Authorization": f"Bearer {mint('4711', stack.settings)}"}
    assert stack.client().post(BATCH, json=poor.body(slot("09:00")), headers=headers).status_code == 403
    other = stack.settings.model_copy(update={"jwt_user_claim": "id"})
    numeric = signed({"id": 4711, "exp": datetime.now(UTC) + timedelta(hours=1)})
    assert user_of(numeric, other) == "4711"
    assert user_of(signed(claims(sub=42)), stack.settings) == "42"
    wrong: list[object] = [None, True, 1.5, "", []]
    for claim in wrong:
        with pytest.raises(Problem, match="names no user"):
            user_of(signed({"id": claim, "exp": datetime.now(UTC) + timedelta(hours=1)}), other)


def test_audience_and_issuer_count_where_they_are_set(stack: DevStack) -> None:
    strict = stack.settings.model_copy(update={"jwt_audience": "creneau", "jwt_issuer": "users"})
    assert user_of(mint("x", strict), strict) == "x"
    for wrong in ({"aud": "other", "iss": "users"}, {"aud": "creneau", "iss": "other"}, {}):
        with pytest.raises(Problem, match="not valid"):
            user_of(signed(claims(**wrong)), strict)
    assert user_of(signed(claims(sub="x", aud="whoever")), stack.settings) == "x"


def test_the_student_is_the_tokens_whatever_the_body_says(stack: DevStack, scenario: Scenario) -> None:
    victim = stack.create_user("student", balance=1000)
    answer = scenario.book(slot("09:00"), studentId=victim.id, student=victim.wallet, sub=victim.id)
    assert answer.json()["data"]["bookings"][0]["studentId"] == scenario.student.id
    assert stack.balance(victim.wallet) == 1000 * 10**18
