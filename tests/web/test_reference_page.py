"""The reference of the API at /docs: all of the document, without scripts, the internet, or a complaint."""

import json
import re

import pytest
from browsing import Visits
from playwright.sync_api import Route, expect
from waiting import http

from tools.dev_stack import ROOT, DevStack

DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text())
OPERATIONS = [
    (method, path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_it_can_be_read_without_the_internet(visits: Visits, stack: DevStack, size: str, scheme: str) -> None:
    """`visits` fails at an error in the console, a violation of the policy, or a request to another host."""

    def loopback_only(route: Route) -> None:
        route.continue_() if route.request.url.startswith(stack.url) else route.abort()

    visit = visits.new(size=size, scheme=scheme, prepare=lambda page: page.route("**/*", loopback_only))
    visit.page.goto(f"{stack.url}/docs")
    section = visit.page.locator("#createBatchBookings")
    section.scroll_into_view_if_needed()
    expect(section.get_by_text("Book every lesson that can be booked")).to_be_visible()
    expect(section.get_by_text("Idempotency-Key", exact=True)).to_be_visible()
    expect(section.get_by_text("insufficient_balance")).to_be_visible()
    expect(section.locator("pre").first).to_contain_text("curl -X POST")
    assert visit.page.evaluate("getComputedStyle(document.querySelector('h2')).borderBottomStyle") == "solid"
    visit.see(f"reference-{scheme}")
    assert {path for _, path in visit.requests} == {"/docs", "/docs/style.css"}


def test_it_has_every_operation_parameter_answer_and_schema(stack: DevStack) -> None:
    page = http.get(f"{stack.url}/docs").text
    for method, path, operation in OPERATIONS:
        start = page.index(f'<section id="{operation["operationId"]}">')
        section = page[start : page.index("</section>", start)]
        assert f"<b>{method.upper()}</b> <code>{path.replace('/', '/<wbr>')}</code>" in section
        for parameter in operation.get("parameters", []):
            assert f"<td><code>{parameter['name']}</code></td>" in section
        for status in operation["responses"]:
            assert f"<td><code>{status}</code></td>" in section
        security = operation.get("security", [{}])
        needs = {
            (True, False): "no token",
            (True, True): "a token if the user service does",
            (False, True): "a token",
        }
        assert f"Needs {needs[{} in security, security != [{}]]}." in section
        assert "curl " in section
    targets = {*re.findall(r' id="([^"]+)"', page)}
    assert {*re.findall(r'href="#([^"]+)"', page)} <= targets
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= targets


def test_it_is_kept_until_it_changes(stack: DevStack) -> None:
    for path in ("/docs", "/docs/style.css"):
        answer = http.get(f"{stack.url}{path}")
        again = http.get(f"{stack.url}{path}", headers={"If-None-Match": answer.headers["etag"]})
        assert (answer.status_code, again.status_code, again.content) == (200, 304, b"")
