"""The documentation of routes and codes: complete, true, and the committed one is what is served."""

import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from eth_account import Account

from api.app import create_app
from api.errors import Code, placeholders
from api.outbox.handlers import rejection
from api.outbox.models import Rejection
from api.schemas.requests import STUDENT
from creneau import errors
from creneau.errors import ContractError
from tools.dev_stack import DevStack

ROOT = Path(__file__).parents[2]
COMMITTED: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())
METHODS = {"get", "post", "patch", "put", "delete"}

Operation = tuple[str, str, dict[str, Any]]


def resolved(node: Any) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        place: Any = COMMITTED
        for part in node["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        node = place
    return node


def operations() -> Iterator[Operation]:
    for path, methods in COMMITTED["paths"].items():
        for method, operation in methods.items():
            assert method in METHODS
            answers = {status: resolved(answer) for status, answer in operation["responses"].items()}
            yield path, method, operation | {"responses": answers}


def answer_of(path: str, method: str, status: str) -> dict[str, Any]:
    answer: dict[str, Any] = resolved(COMMITTED["paths"][path][method]["responses"][status])
    return answer


def validator(schema: dict[str, Any]) -> Any:
    return _validator(json.dumps(schema))


@functools.cache
def _validator(schema: str) -> Any:
    return jsonschema_rs.Draft202012Validator(json.loads(schema) | {"components": COMMITTED["components"]})


def test_the_committed_documentation_is_what_the_shim_serves(stack: DevStack) -> None:
    assert stack.client().get("/openapi.json").json() == COMMITTED, "stale: make openapi"
    assert create_app().openapi() == COMMITTED


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
            assert answer["description"], (path, status)
            assert resolved(answer["headers"]["X-Request-ID"])["description"]
            if path.startswith("/api/") and status >= "400":
                assert list(answer["content"]) == ["application/problem+json"], (path, status)
        if path.startswith("/api/"):
            assert {"409", "429", "500", "502", "503"} <= set(operation["responses"])


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
        schema = answer_of(f"{path}/prepare", "post", "200")["content"]["application/json"]["schema"]
        validator(schema).validate(prepared.json())
    answer = stack.client(STUDENT).post(path, json=body)
    assert answer.status_code == 200, answer.text
    documented = answer_of(path, "post", "200")["content"]["application/json"]["schema"]
    validator(documented).validate(answer.json())
    another = {"Prefer": "respond-async", "Idempotency-Key": "another request"}
    asynchronous = stack.client(STUDENT).post(path, json=body, headers=another)
    assert asynchronous.status_code == 409  # It is taken now.
    refused = answer_of(path, "post", "409")["content"]["application/problem+json"]
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


def test_refusals_of_a_status_are_one_response_and_all_are_one_problem() -> None:
    for path, methods in COMMITTED["paths"].items():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if path.startswith("/api/") and status >= "400":
                    assert list(answer) == ["$ref"], (path, status)
    for name, answer in COMMITTED["components"]["responses"].items():
        for content_type, content in answer.get("content", {}).items():
            if content_type == "application/problem+json":
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, name
    codes = COMMITTED["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert codes == sorted(Code)


def test_a_wrong_answer_would_not_pass() -> None:
    content = answer_of("/api/blockchain/booking/batch", "post", "401")["content"]
    schema = validator(content["application/problem+json"]["schema"])
    example = resolved(content["application/problem+json"]["examples"]["token_missing"])["value"]
    schema.validate(example)
    for wrong in ({"code": "unheard_of"}, {"code": None}, {"message": 1}, {"success": True}):
        assert not schema.is_valid(example | wrong)


# --- Codes ---

SPEAKERS = {"Problem", "of_field", "failure", "sentence"}


def named(node: ast.AST) -> Code | None:
    """The code that an expression names."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Code":
        return Code[node.attr]
    return None


SOURCES = [ast.parse(file.read_text()) for file in (ROOT / "api").rglob("*.py")]


def test_every_code_is_used_and_only_codes_of_the_registry_are() -> None:
    used = [code for tree in SOURCES for node in ast.walk(tree) if (code := named(node)) is not None]
    assert set(used) == set(Code)
    shown = re.findall(r"^\| (\d+) \| `([a-z_]+)`", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted((str(code.status), str(code)) for code in Code)


def test_every_sentence_is_given_its_parameters() -> None:
    calls = 0
    for node in [node for tree in SOURCES for node in ast.walk(tree) if isinstance(node, ast.Call)]:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg for keyword in node.keywords} - {"details", "headers"}
        if name not in SPEAKERS or None in given or "message" in given:
            continue
        owner = node.func.value if name == "sentence" and isinstance(node.func, ast.Attribute) else None
        about = {"date", "time"} if name == "failure" else set()
        for each in [*node.args, *([owner] if owner else [])]:
            if code := named(each):
                code.template({str(parameter) for parameter in given} | about)  # Raises if there is none.
                calls += 1
    assert calls > 40


def test_a_sentence_says_the_same_in_both_languages() -> None:
    for code in Code:
        for english, french in zip(code.sentences["en"], code.sentences["fr"], strict=True):
            assert placeholders(english) == placeholders(french), code
            assert english != french or code is Code.INVALID_REQUEST


def test_a_sentence_without_its_parameters_is_an_error() -> None:
    assert Code.TAKEN.sentence(date="2035-03-05", time="09:00") == (
        "The lesson of 2035-03-05 at 09:00 is already taken."
    )
    assert Code.TAKEN.sentence("fr", date="2035-03-05", time="09:00") == (
        "Le cours du 2035-03-05 à 09:00 est déjà pris."
    )
    with pytest.raises(LookupError, match=r"^taken says nothing of date$"):
        Code.TAKEN.sentence(date="2035-03-05")
    with pytest.raises(LookupError, match=r"^token_missing says nothing of date$"):
        Code.TOKEN_MISSING.sentence(date="2035-03-05")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TooLate(0, 1, 2), "too_late"),
        (errors.TooEarly(0, 2, 1), "too_early"),
        (errors.WrongStatus(0, 4, 2), "wrong_status"),
        (errors.ERC20InsufficientBalance("0x0", 1, 2), "insufficient_balance"),
        (errors.Reverted("paused"), "refused"),
    ],
)
def test_what_the_outbox_stores_of_a_refusal_is_the_registrys(error: ContractError, code: str) -> None:
    assert rejection(error) == Rejection(Code(code), str(error))
