"""Guards before the routes: limits, headers, other origins, and refusals of a live network."""

import itertools
import json
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import jwt
import pytest
from pydantic import ValidationError
from scenario import BATCH, Scenario, log_lines, slot
from starlette.exceptions import HTTPException
from waiting import PATIENCE, http, until

from api import middleware as security
from api.app import create_app
from api.errors import Problem
from api.settings import DEVELOPMENT_ACCOUNTS, DEVELOPMENT_CUSTODY, DEVELOPMENT_SECRET, Settings
from tools.dev_stack import DevStack, free_port

PATH = "/api/blockchain/booking/batch/0x" + "00" * 32
ORIGIN = "https://app.example.org"


@contextmanager
def another(stack: DevStack, *, ready: bool = True, **settings: object) -> Iterator[str]:
    """The URL of another process of the shim, with other settings."""
    port = free_port()
    process = stack.start_process(port=port, **settings)
    url = f"http://127.0.0.1:{port}"
    try:
        stack.wait_until_ready(process, url if ready else f"{url}/livez?")
        yield url
    finally:
        stack.stop_process(process)


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 429
    assert answer.json()["code"] == "too_many_requests"
    assert answer.headers["content-type"] == "application/problem+json"
    seconds = int(answer.headers["retry-after"])
    assert 1 <= seconds <= 60
    assert answer.json()["message"] == f"Too many requests. Please try again in {seconds} seconds."


# --- Limits ---


def test_an_address_may_ask_so_often_with_or_without_a_token(stack: DevStack, scenario: Scenario) -> None:
    with another(stack, address_limit="5/minute") as url:
        token = scenario.client.headers["authorization"]
        for headers in ({}, {"Authorization": "Bearer guessed"}, {"Authorization": token}, {}, {}):
            assert http.get(url + PATH, headers=headers).status_code in {401, 404}
        refused(http.get(url + PATH))
        refused(http.post(url + BATCH, json=scenario.body(slot("09:00")), headers={"Authorization": token}))
        refused(http.get(url + "/nowhere"))
        for path in ("/livez", "/readyz"):
            assert http.get(url + path).status_code == 200


def test_a_user_may_ask_so_often_and_change_things_less_often(stack: DevStack) -> None:
    scenario, other = Scenario.of(stack), Scenario.of(stack)
    with another(stack, user_limit="4/minute", user_write_limit="2/minute") as url:
        mine, theirs = scenario.client.headers, other.client.headers
        for _ in range(2):
            assert http.post(url + BATCH, json={}, headers=mine).status_code == 422
        refused(http.post(url + BATCH, json=scenario.body(slot("09:00")), headers=mine))
        assert http.get(url + PATH, headers=mine).status_code == 404
        refused(http.get(url + PATH, headers=mine))
        # Neither another user, nor a stranger without the user's token, is in the user's way.
        assert http.get(url + PATH, headers=theirs).status_code == 404
        assert http.get(url + PATH).status_code == 401
    assert scenario.balance() == 1000 * 10**18


def test_the_address_is_the_clients_behind_a_proxy_that_is_trusted_and_only_there(stack: DevStack) -> None:
    def ask(url: str, client: str) -> int:
        return http.get(url + PATH, headers={"X-Forwarded-For": client}).status_code

    with another(stack, address_limit="2/minute") as url:  # 127.0.0.1 is trusted by default.
        assert [ask(url, "203.0.113.1") for _ in range(3)] == [401, 401, 429]
        assert ask(url, "203.0.113.2") == 401
        # What a client claims comes before what the proxy adds, and does not count.
        assert [ask(url, f"198.51.100.{n}, 203.0.113.3") for n in range(3)] == [401, 401, 429]
        # One client has a whole IPv6 network.
        assert [ask(url, f"2001:db8::{n}") for n in range(3)] == [401, 401, 429]
        assert ask(url, "2001:db8:0:1::1") == 401
    with another(stack, address_limit="2/minute", forwarded_allow_ips="192.0.2.1") as url:
        assert [ask(url, f"203.0.113.{n}") for n in range(3)] == [401, 401, 429]


def test_a_body_and_headers_are_of_bounded_size(stack: DevStack, scenario: Scenario) -> None:
    with another(stack, max_body_bytes=1000, max_header_bytes=8192) as url:
        headers = dict(scenario.client.headers) | {"Content-Type": "application/json"}
        answer = http.post(url + BATCH, content=b" " * 999 + b"{}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert http.post(url + BATCH, content=b" " * 998 + b"{}", headers=headers).status_code == 422
        assert http.get(url + "/livez", headers={"X-Long": "x" * 4000}).status_code == 200
        # Headers without end: the connection is closed when it is too much, not when memory is.
        address = "127.0.0.1", int(url.rsplit(":", 1)[1])
        with socket.create_connection(address, timeout=PATIENCE) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nX-Long: ")
            sent = 0
            with suppress(BrokenPipeError, ConnectionResetError):
                while sent < 50_000_000:
                    connection.sendall(b"x" * 10_000)
                    sent += 10_000
            assert sent < 50_000_000


def connect(url: str, begin: bytes = b"") -> socket.socket:
    """A connection on which this was sent."""
    connection = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=PATIENCE)
    connection.sendall(begin)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """True once the service has closed the connection, now or before; what it answered is read over."""
    connection.setblocking(False)
    try:
        while connection.recv(65_536):
            pass
        return True
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


HALF_A_HEADER = b"GET /livez HTTP/1.1\r\nHost: shi"
HALF_A_BODY = f"POST {BATCH} HTTP/1.1\r\nHost: shim\r\nContent-Length: 100\r\n\r\n{{".encode()


def test_beyond_the_number_of_connections_those_close_that_wait_longest(stack: DevStack) -> None:
    with another(stack, max_connections=5, receive_seconds=PATIENCE) as url:
        held = [connect(url, begin) for begin in [b"", HALF_A_HEADER, HALF_A_BODY] for _ in range(2)]
        until(lambda: is_closed(held[0]))
        assert http.get(url + "/livez").status_code == 200
        until(lambda: is_closed(held[1]))
        assert not any(map(is_closed, held[2:4]))
        for connection in held:
            connection.close()


def test_an_address_has_so_many_connections_and_a_proxy_more(stack: DevStack) -> None:
    def bounded(**more: object) -> Any:
        return another(stack, max_address_connections=5, receive_seconds=PATIENCE, **more)

    with bounded() as url, ExitStack() as held:  # 127.0.0.1 is a proxy's address by default.
        connections = [held.enter_context(connect(url)) for _ in range(10)]
        assert http.get(url + "/livez").status_code == 200  # So all before were counted.
        assert not any(map(is_closed, connections))
    with bounded(forwarded_allow_ips="192.0.2.1") as url, ExitStack() as held:
        connections = [held.enter_context(connect(url)) for _ in range(7)]
        until(lambda: all(map(is_closed, connections[5:])))
        assert not any(map(is_closed, connections[:5]))
        connections[0].close()
        until(lambda: answers(url))


def answers(url: str) -> bool:
    """True if the process is alive, and takes a connection."""
    try:
        return http.get(url + "/livez").status_code == 200
    except httpx.TransportError:
        return False


def test_two_thousand_half_open_connections_keep_nobody_out_and_are_closed(
    stack: DevStack, scenario: Scenario
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = 2000 if hard == resource.RLIM_INFINITY else min(2000, hard - 500)
    try:
        with another(stack, receive_seconds=5) as url, ExitStack() as held:
            client = scenario.stack.client(scenario.student.id, url=url)
            assert client.post(BATCH, json=scenario.body(slot("09:00"))).status_code == 200
            begins = itertools.cycle([b"", HALF_A_HEADER, HALF_A_BODY])
            half_open = [held.enter_context(connect(url, next(begins))) for _ in range(count)]
            while not all(map(is_closed, half_open)):
                assert http.get(url + "/livez").json() == {"status": "ok"}
            assert client.post(BATCH, json=scenario.body(slot("10:00"))).status_code == 200
            assert http.get(url + "/livez").json() == {"status": "ok"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_who_does_not_read_a_response_is_not_waited_for(stack: DevStack) -> None:
    with another(stack, receive_seconds=1) as url, socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        held.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        held.settimeout(PATIENCE)
        # Responses beyond what buffers hold, to requests that are all read: the system closes the other sort
        # of connection by itself.
        held.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: shim\r\n\r\n" * 100)
        events = select.poll()
        events.register(held, select.POLLHUP | select.POLLERR)
        assert events.poll(PATIENCE * 1000)


def test_a_large_body_is_neither_awaited_nor_parsed_for_who_shows_no_token(stack: DevStack) -> None:
    forged = jwt.encode({"sub": "somebody", "exp": 2**40}, "x" * 32, "HS256")
    for token, code in (("", "token_missing"), (f"Authorization: Bearer {forged}\r\n", "invalid_token")):
        opening = f"POST {BATCH} HTTP/1.1\r\nHost: shim\r\n{token}Content-Length: 262144\r\n\r\n["
        with connect(stack.url, opening.encode()) as connection:  # The rest never comes.
            answer = b""
            while b"}" not in answer and (part := connection.recv(65536)):
                answer += part
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert json.loads(answer.split(b"\r\n\r\n")[1])["code"] == code


def test_counters_of_addresses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "_MOST_COUNTERS", 100)
    limits = security.Limits(Settings(_env_file=None, address_limit="2/hour"))

    def ask(host: str) -> None:
        limits.address({"type": "http", "path": "/", "client": (host, 1)})

    for number in range(1000):
        ask(f"2001:db8:{number:x}::1")
        for kept in (limits._limiter.storage.storage, limits._limiter.storage.expirations):
            assert len(kept) <= 100
    ask("2001:db8:3e7::2")
    with pytest.raises(Problem):  # Who asked last is counted on.
        ask("2001:db8:3e7::3")


# --- What browsers obey ---


def test_answers_are_not_sniffed_framed_or_kept(stack: DevStack, scenario: Scenario) -> None:
    booked = scenario.book(slot("09:00"))
    answers = [booked, scenario.client.get(PATH), stack.client().get(PATH)]
    assert [answer.status_code for answer in answers] == [200, 404, 401]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in answer.headers
        assert "server" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control")]
    for path in ("/", "/docs", "/docs/style.css"):
        policy = stack.client().get(path).headers["content-security-policy"]
        assert "default-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


def test_other_origins_are_those_of_the_settings_exactly(stack: DevStack) -> None:
    with another(stack, cors_origins=f"{ORIGIN} http://localhost:5173", hsts_seconds=86400) as url:
        asked = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,sentry-trace,baggage",
        }
        allowed = httpx.options(url + BATCH, headers=asked)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == ORIGIN
        assert allowed.headers["access-control-allow-headers"] == asked["Access-Control-Request-Headers"]
        assert "access-control-allow-credentials" not in allowed.headers
        refused = http.get(url + PATH, headers={"Origin": ORIGIN})
        assert refused.status_code == 401  # A refusal, too, can be read by the page.
        assert refused.headers["access-control-allow-origin"] == ORIGIN
        exposed = set(refused.headers["access-control-expose-headers"].split(", "))
        assert exposed == {
            *("ETag", "Idempotent-Replayed", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID")
        }
        assert refused.headers["strict-transport-security"] == "max-age=86400"
        for origin in ("https://app.example.org.evil.example", "http://app.example.org", "null"):
            assert httpx.options(url + BATCH, headers=asked | {"Origin": origin}).status_code == 400
            other = http.get(url + PATH, headers={"Origin": origin})
            assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    "origin", ["*", "https://*.example.org", "app.example.org", "https://a.example/path"]
)
def test_an_origin_is_exact(origin: str) -> None:
    with pytest.raises(ValidationError, match="CRENEAU_CORS_ORIGINS are origins"):
        Settings(_env_file=None, cors_origins=origin)


def test_a_limit_that_cant_be_read_is_refused() -> None:
    with pytest.raises(ValidationError, match="couldn't parse rate limit string 'often'"):
        Settings(_env_file=None, user_limit="often")


def test_a_requests_address_and_user_are_in_the_log(stack: DevStack, scenario: Scenario) -> None:
    client = {"X-Forwarded-For": "203.0.113.7"}
    scenario.client.get(PATH, headers=client | {"X-Request-ID": "whose-1"})
    stack.client().head(PATH, headers={"X-Request-ID": "whose-2"})
    until(lambda: bool(log_lines(stack, request_id="whose-2", event="request")))  # After the answer.
    [line] = log_lines(stack, request_id="whose-1", event="request")
    assert (line["address"], line["user"]) == ("203.0.113.7", scenario.student.id)
    [line] = log_lines(stack, request_id="whose-2", event="request")
    assert (line["address"], line["method"], line.get("user")) == ("127.0.0.1", "HEAD", None)


def test_a_refusals_code_is_in_the_log(stack: DevStack) -> None:
    answer = stack.client().get(PATH, headers={"X-Request-ID": "refused-1"})
    assert answer.json()["code"] == "token_missing"
    until(lambda: bool(log_lines(stack, request_id="refused-1", event="request")))  # After the answer.
    [line] = log_lines(stack, request_id="refused-1", event="request")
    assert (line["status"], line["code"]) == (401, "token_missing")


@pytest.mark.parametrize("path", ["/fails", "/bad"])
def test_a_fault_of_the_program_is_a_problem_too(
    path: str, scenario: Scenario, capsys: pytest.CaptureFixture[str], traffic: Any
) -> None:
    app = create_app()
    settings = scenario.stack.settings
    security.install(app, settings, security.Limits(settings))

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError("a bug")

    @app.get("/bad")
    async def bad() -> None:
        raise HTTPException(400)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shim") as client:
            return await client.get(path)

    answer = anyio.run(ask)
    traffic.codes.add(answer.json()["code"])
    status, code = (500, "internal_error") if path == "/fails" else (400, "bad_request")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "a bug" not in answer.text
    assert ("a bug" in capsys.readouterr().out) == (path == "/fails")  # The log tells.


# --- A live network ---

WORDS = "minute kitten easy timber wish error echo october ring taxi marriage gym"
RIGHT = "f" * 40
SECRETS = {None: "set CRENEAU_JWT_SECRET", DEVELOPMENT_SECRET: "set CRENEAU_JWT_SECRET", RIGHT: None}
MNEMONICS = {
    None: "set CRENEAU_MNEMONIC",
    DEVELOPMENT_CUSTODY: "set CRENEAU_MNEMONIC",
    DEVELOPMENT_ACCOUNTS: "set CRENEAU_MNEMONIC",
    WORDS: None,
}
RELAYERS = {
    None: None,
    1: "name the account in CRENEAU_RELAYER",
    "1,2": "name the account in CRENEAU_RELAYER",
}
IDENTITY = {
    "public_origin": "https://book.example.org",
    "jwt_audience": "creneau",
    "jwt_issuer": "https://users.example.org",
}


@pytest.mark.parametrize("how", ["values", "files", "environment"])
@pytest.mark.parametrize("chain_id", [1, 41923, 656476, 31337, 1337])
def test_every_combination_of_development_secrets(
    how: str, chain_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRENEAU_CHAIN_ID", str(chain_id))
    started = 0
    for secret, mnemonic, index in itertools.product(SECRETS, MNEMONICS, RELAYERS):
        values: dict[str, object] = {"relayer_mnemonic_index": index, **IDENTITY}
        for name, value in (("jwt_secret", secret), ("mnemonic", mnemonic)):
            monkeypatch.delenv(f"CRENEAU_{name.upper()}", raising=False)
            if value is None:
                continue
            if how == "values":
                values[name] = value
            elif how == "files":
                (tmp_path / name).write_text(f" {value}\n")
                values[f"{name}_file"] = tmp_path / name
            else:
                monkeypatch.setenv(f"CRENEAU_{name.upper()}", value)
        reason = SECRETS[secret] or MNEMONICS[mnemonic] or RELAYERS[index]
        if chain_id in {31337, 1337} or reason is None:
            Settings(_env_file=None, **values)  # type: ignore[arg-type]
            started += 1
            continue
        with pytest.raises(ValidationError) as caught:
            Settings(_env_file=None, **values)  # type: ignore[arg-type]
        assert f"chain {chain_id} is live: {reason}" in str(caught.value)
        for words in (WORDS, DEVELOPMENT_CUSTODY, DEVELOPMENT_ACCOUNTS, DEVELOPMENT_SECRET, RIGHT):
            assert words not in str(caught.value)
    assert started == (36 if chain_id in {31337, 1337} else 1)


def test_a_secret_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    said = "CRENEAU_JWT_SECRET_FILE names .*nothing-here, which can't be read: No such file or directory"
    with pytest.raises(ValidationError, match=said):
        Settings(_env_file=None, jwt_secret_file=tmp_path / "nothing-here")
