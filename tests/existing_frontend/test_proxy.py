"""The proxy rule that the guide shows, in the proxy that it is for: each call reaches its service."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from caddy import caddy, rule_of
from waiting import PATIENCE

from api.app import create_app
from tools.dev_stack import free_port

ROOT = Path(__file__).parents[2]
OLD = [
    "POST /transfer?fromUserId=1",
    "POST /withdrawal/request",
    "GET /audit?userId=1&startDate=2026-01-01&endDate=2026-12-31",
    "POST /wallet/create",
    "POST /wallet/register",
    "POST /booking/1/submit-review",
    "POST /booking/1/confirm-review",
    "GET /booking/1/reviews",
    "POST /booking/skill-exchange",
    "PATCH /booking/1/accept-exchange",
    "GET /bookings?userId=1&isSkillExchange=true",
    "GET /skill-exchange/history/accepted",
    "PATCH /skill-exchange/1/accept",
]


@contextmanager
def named(name: str) -> Iterator[int]:
    """Serve whatever is asked with this name and the request's line; the port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # Else each answer takes 40 ms: its body waits for an acknowledgement.

        def answer(self) -> None:
            body = json.dumps({"service": name, "asked": f"{self.command} {self.path}"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815  # names of http.server

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Caddy with the guide's file, whose ports are free ones here."""
    folder, url = tmp_path_factory.mktemp("proxy"), f"http://127.0.0.1:{(port := free_port())}"
    with named("old") as old, named("creneau") as creneau:
        shown = {":3003 {": f":{port} {{", ":3103\n": f":{old}\n", ":8000\n": f":{creneau}\n"}
        rule = rule_of(ROOT / "docs/existing-service.md", shown)
        with caddy(folder, rule, url), httpx.Client(base_url=url, timeout=PATIENCE) as client:
            yield client


def asked(proxy: httpx.Client, call: str) -> tuple[str, str]:
    method, path = call.split(" ")
    answer = proxy.request(method, path).json()
    return answer["service"], answer["asked"]


@pytest.mark.parametrize("call", OLD)
def test_what_is_not_ours_reaches_the_old_service(proxy: httpx.Client, call: str) -> None:
    call = call.replace(" /", " /api/blockchain/")
    assert asked(proxy, call) == ("old", call)


def test_every_documented_call_of_ours_reaches_creneau(proxy: httpx.Client) -> None:
    paths = create_app().openapi()["paths"]
    calls = [
        f"{method.upper()} {re.sub(r'{.*?}', '6ac1b3a0-9d6e-8c7f-8a51-0d6f4c1f9b2e', path)}"
        for path, item in paths.items()
        for method in item
        if path.startswith("/api/blockchain/")
    ]
    assert len(calls) > 30
    assert [call for call in calls if asked(proxy, call) != ("creneau", call)] == []


def test_anything_else_at_that_address_is_the_old_services(proxy: httpx.Client) -> None:
    assert [asked(proxy, f"GET {path}")[0] for path in ("/health", "/", "/api/blockchains")] == ["old"] * 3
