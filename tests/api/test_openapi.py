"""The documentation of routes and codes: complete, true, and the committed one is what is served."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from dev_stack import DevStack
from eth_account import Account

from api import codes
from api.app import create_app
from api.outbox import handlers as kinds
from api.schemas.requests import STUDENT

ROOT = Path(__file__).parents[2]
COMMITTED: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())
METHODS = {"get", "post", "patch", "put", "delete"}

Operation = tuple[str, str, dict[str, Any]]


def operations() -> Iterator[Operation]:
    for path, methods in COMMITTED["paths"].items():
        for method, operation in methods.items():
            assert method in METHODS
            yield path, method, operation


def resolved(node: Any) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        place: Any = COMMITTED
        for part in node["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        node = place
    return node


def validator(schema: dict[str, Any]) -> Any:
    return jsonschema_rs.Draft202012Validator(schema | {"components": COMMITTED["components"]})


def test_the_committed_documentation_is_what_the_shim_serves(stack: DevStack) -> None:
    assert stack.client().get("/openapi.json").json() == COMMITTED, "stale: make openapi"
    assert create_app().openapi() == COMMITTED
    assert codes.page() == (ROOT / "docs" / "errors.md").read_text(), "stale: make openapi"


def test_every_operation_is_described_and_has_a_stable_name() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    for path, method, operation in operations():
        assert re.fullmatch(r"[a-z][A-Za-z]+", operation["operationId"])
        assert operation["summary"]
        assert operation["description"], (path, method)
        for parameter in operation.get("parameters", []):
            assert parameter.get("description") or parameter["in"] == "path", (path, parameter["name"])
        for status, answer in operation["responses"].items():
            assert resolved(answer)["description"], (path, status)
            assert resolved(answer["headers"]["X-Request-ID"])["description"]
            if path.startswith("/api/") and status >= "400":
                assert list(answer["content"]) == ["application/problem+json"], (path, status)
        if path.startswith("/api/"):
            assert {"429", "500", "503"} <= set(operation["responses"])


def test_every_field_is_described() -> None:
    text = json.dumps(COMMITTED)
    assert "HTTPValidationError" not in text
    schemas = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert schemas == set(COMMITTED["components"]["schemas"])
    nameless = [
        f"{name}.{field}"
        for name, schema in COMMITTED["components"]["schemas"].items()
        for field, said in schema.get("properties", {}).items()
        if not resolved(said).get("description") and not said.get("description")
    ]
    assert not nameless


REQUESTS = [
    pytest.param(path, body["value"], id=f"{operation['operationId']}-{name}")
    for path, method, operation in operations()
    if method == "post" and path in {"/api/blockchain/booking/batch", "/api/blockchain/booking"}
    for name, body in operation["requestBody"]["content"]["application/json"]["examples"].items()
]


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_every_example_of_a_request_books(stack: DevStack, path: str, body: dict[str, Any]) -> None:
    if "bookings" in body:  # It is one of `prepare`, too, which is for wallets.
        wallet = stack.create_user("student", wallet=Account.create().address, balance=1000)
        prepared = stack.client(wallet.id).post(f"{path}/prepare", json=body)
        assert prepared.status_code == 200, prepared.text
        preparing = COMMITTED["paths"][f"{path}/prepare"]["post"]
        assert preparing["requestBody"] == COMMITTED["paths"][path]["post"]["requestBody"]
        schema = preparing["responses"]["200"]["content"]["application/json"]["schema"]
        validator(schema).validate(prepared.json())
    answer = stack.client(STUDENT).post(path, json=body)
    assert answer.status_code == 200, answer.text
    documented = COMMITTED["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    validator(documented).validate(answer.json())
    asynchronous = stack.client(STUDENT).post(path, json=body, headers={"Prefer": "respond-async"})
    assert asynchronous.status_code == 409  # It is taken now.
    refused = COMMITTED["paths"][path]["post"]["responses"]["409"]["content"]["application/problem+json"]
    validator(refused["schema"]).validate(asynchronous.json())


def test_every_example_of_an_answer_is_one() -> None:
    seen = 0
    for path, _, operation in operations():
        for status, answer in operation["responses"].items():
            for content in answer.get("content", {}).values():
                for name, example in content.get("examples", {}).items():
                    validator(content["schema"]).validate(resolved(example)["value"])
                    if status >= "400":
                        assert resolved(example)["value"]["code"] == name
                        assert resolved(example)["value"]["status"] == int(status), (path, status)
                    seen += 1
    assert seen > 50


def test_a_wrong_answer_would_not_pass() -> None:
    content = COMMITTED["paths"]["/api/blockchain/booking/batch"]["post"]["responses"]["401"]["content"]
    schema = validator(content["application/problem+json"]["schema"])
    example = resolved(content["application/problem+json"]["examples"]["token_missing"])["value"]
    schema.validate(example)
    for wrong in ({"code": "taken"}, {"code": None}, {"message": 1}, {"success": True}):
        assert not schema.is_valid(example | wrong)


# --- Codes ---

LAYERS = ("api",)
_TAKE_CODES = {"Problem", "of_field", "Rejection", "_refused", "failure", "nothing_booked"}


def written() -> set[str]:
    """The codes in the source, where refusals are made."""
    found: set[str] = set()
    for file in [file for layer in LAYERS for file in (ROOT / layer).rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            texts = [
                a.value for a in node.args[:3] if isinstance(a, ast.Constant) and isinstance(a.value, str)
            ]
            if name in _TAKE_CODES and texts and re.fullmatch(r"[a-z0-9_]+", texts[0]):
                found.add(texts[0])
    return found


def test_every_code_in_the_source_is_documented_and_no_other() -> None:
    found = written() - {"message"}  # A field's name.
    of_linking = {"wrong_domain", "wrong_address", "wrong_nonce", "wrong_message"}
    of_acts = {"too_early", "too_late"}
    of_http = {"bad_request", "not_found", "method_not_allowed", "too_large"}
    of_contract = set(kinds._CODES.values()) | {"refused"}
    known = set(codes.every())
    assert found - known == set()
    assert known - found - of_linking - of_acts - of_http - of_contract - set(codes.LESSON) == set()
    assert kinds._CODES.items() <= codes.CONTRACT.items()
    shown = set(
        re.findall(r"^\| \d+ \| `([a-z_]+)`", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    )
    assert shown == known
