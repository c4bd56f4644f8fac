"""Limits of what a stranger can send or hold: each row of the table in SECURITY.md, by doing it."""
# ruff: noqa: ARG001  # all checks are called alike

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from eth_account import Account
from outside import VIEW
from prometheus_client.parser import text_string_to_metric_families
from scenario import BATCH, Scenario, slot
from sqlalchemy import func, select
from test_security import HALF_A_BODY, HALF_A_HEADER, another, connect, is_closed
from waiting import PATIENCE, http, until

from api import middleware
from api.chain import signers
from api.chain.signers import KeyfileCustodian, LocalSigner, MnemonicCustodian
from api.db.store import Store
from api.db.tables import metadata
from api.json_io import MOST_PAGE_BYTES
from api.schemas.requests import _MOST_SIGNATURE
from api.settings import DEVELOPMENT_CUSTODY, Settings
from creneau.order import MAX_SLOTS
from creneau.typed_data import Domain, action_typed_data
from tools.dev_stack import DevStack

SECURITY = (Path(__file__).parents[2] / "SECURITY.md").read_text()
TABLE = SECURITY[
    SECURITY.index("### What a stranger can send or hold") : SECURITY.index("## What is trusted")
]
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in TABLE.splitlines()
    if re.match(r"\| [a-z]+ (?!\|)", line)
]


def refused(answer: httpx.Response, field: str, status: int = 422) -> None:
    assert answer.status_code == status
    if status == 422:
        assert field in {error["field"] for error in answer.json()["errors"]}


def headers(stack: DevStack, scenario: Scenario, most: int) -> None:
    with connect(stack.url) as connection, suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(b"GET /livez HTTP/1.1\r\nX: " + b"x" * (most + 65_536))
        while connection.recv(65_536):
            pass
    assert http.get(f"{stack.url}/livez", headers={"X": "x" * (most // 2)}).status_code == 200


def body(stack: DevStack, scenario: Scenario, most: int) -> None:
    refused(scenario.post(b" " * (most - 1) + b"{}"), "", 413)
    assert scenario.post(b" " * (most - 2) + b"{}").status_code == 422
    assert http.post(f"{stack.url}{BATCH}", content=b"[" * (most + 1)).status_code == 401


def words(field: str) -> Callable[[DevStack, Scenario, int], None]:
    def check(stack: DevStack, scenario: Scenario, most: int) -> None:
        refused(scenario.book(slot("09:00"), **{field: "x" * (most + 1)}), field)
        assert scenario.book(slot("09:00"), **{field: "x" * most}).status_code == 200

    return check


def lessons(stack: DevStack, scenario: Scenario, most: int) -> None:
    assert most == MAX_SLOTS
    refused(scenario.book(*[slot("09:00")] * (most + 1)), "bookings")


def signature(stack: DevStack, scenario: Scenario, most: int) -> None:
    assert most == _MOST_SIGNATURE
    path = f"{BATCH}/0x{'0' * 64}/submit"
    refused(scenario.post({"signature": "0x" + "00" * (most + 1)}, path=path), "signature")
    assert scenario.post({"signature": "0x" + "00" * most}, path=path).status_code == 404


def key(stack: DevStack, scenario: Scenario, most: int) -> None:
    refused(scenario.book(slot("09:00"), headers={"Idempotency-Key": "x" * (most + 1)}), "Idempotency-Key")
    assert scenario.book(slot("09:00"), headers={"Idempotency-Key": "x" * most}).status_code == 200


def page(stack: DevStack, scenario: Scenario, most: int) -> None:
    assert most == MOST_PAGE_BYTES
    slots = [slot(f"{hour:02}:00") for hour in range(4, 24)]
    assert scenario.book(*slots, description="\1" * 10_000).status_code == 200
    answer = scenario.client.get(f"/api/blockchain/booking/user/{scenario.student.id}", params={"limit": 100})
    assert len(answer.content) <= most
    assert 0 < len(answer.json()["data"]) < 20
    assert answer.json()["nextCursor"]


def of_address(stack: DevStack, scenario: Scenario, most: int) -> None:
    with another(stack, forwarded_allow_ips="192.0.2.1", receive_seconds=PATIENCE) as url:
        held = [connect(url) for _ in range(most + 1)]
        until(lambda: is_closed(held[most]))
        assert not any(map(is_closed, held[:most]))
        for connection in held:
            connection.close()


def of_process(stack: DevStack, scenario: Scenario, most: int) -> None:
    with another(stack, max_connections=3, receive_seconds=PATIENCE) as url:
        held = [connect(url) for _ in range(4)]
        until(lambda: is_closed(held[0]))
        assert http.get(f"{url}/livez").status_code == 200
        assert not is_closed(held[3])
        for connection in held:
            connection.close()


def deadline(stack: DevStack, scenario: Scenario, most: int) -> None:
    with another(stack, receive_seconds=0.5) as url:
        held = [connect(url, begin) for begin in (b"", HALF_A_HEADER, HALF_A_BODY)]
        until(lambda: all(map(is_closed, held)))
        assert http.get(f"{url}/livez").status_code == 200
        for connection in held:
            connection.close()


def requests(stack: DevStack, scenario: Scenario, most: int) -> None:
    with another(stack, address_limit="3/hour") as url:
        assert [http.get(f"{url}{BATCH}/x").status_code for _ in range(4)] == [401, 401, 401, 429]


def counters(stack: DevStack, scenario: Scenario, most: int) -> None:
    assert most == middleware._MOST_COUNTERS
    limits = middleware.Limits(Settings(_env_file=None))
    for number in range(most + 10):
        limits.address({"type": "http", "path": "/", "client": (f"2001:db8:{number:x}::1", 1)})
    assert len(limits._limiter.storage.storage) <= most  # type: ignore[attr-defined]


def calls(url: str, method: str = "") -> float:
    """The calls to the node that the process has made, one for each method of a request."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(http.get(f"{url}/metrics").text)
        for sample in family.samples
        if sample.name == "creneau_rpc_seconds_count" and method in {"", sample.labels["method"]}
    )


def looks(stack: DevStack, scenario: Scenario, most: int) -> None:
    before = calls(stack.url, "eth_getCode")
    answers = [http.get(f"{stack.url}/readyz") for _ in range(20)]
    seconds = sum(answer.elapsed.total_seconds() for answer in answers)
    # Between requests time goes by as well.
    assert calls(stack.url, "eth_getCode") - before <= most * (2 * seconds + 2)


PUBLIC = (
    "/api/blockchain/annonce/{annonce}",
    "/api/blockchain/tutor/{tutor}/calendar",
    "/api/blockchain/annonce/nothing",
    "/livez",
    "/",
)


def of_strangers(stack: DevStack, scenario: Scenario) -> list[str]:
    names = {"annonce": scenario.annonce.id, "tutor": scenario.tutor.id}
    return [f"{stack.url}{path.format(**names)}" for path in PUBLIC] + [f"{stack.url}{BATCH}"]


def node_calls(stack: DevStack, scenario: Scenario, most: int) -> None:
    with another(stack, follow_seconds=3600, poll_seconds=3600) as url:  # So nothing else asks.
        for each in of_strangers(stack, scenario):
            before = calls(url)
            asked = each.replace(stack.url, url)
            assert http.get(asked).status_code < 500
            assert calls(url) - before <= most + calls_of_metrics(url), asked


def calls_of_metrics(url: str) -> float:
    """The calls that reading the metrics makes itself."""
    before = calls(url)
    return calls(url) - before


FROM_THE_CHAIN = {table.name for table in VIEW} | {"leases"}  # These grow whoever asks.


def rows(stack: DevStack, scenario: Scenario, most: int) -> None:
    def count() -> dict[str, int]:
        store = Store(stack.settings.database)
        with store.read() as db:
            tables = [table for table in metadata.tables.values() if table.name not in FROM_THE_CHAIN]
            found = {table.name: db.scalar(select(func.count()).select_from(table)) or 0 for table in tables}
        store.close()
        return found

    before = count()
    for each in of_strangers(stack, scenario):
        assert http.get(each).status_code < 500
        assert http.post(each, json=scenario.body(slot("09:00"))).status_code in {401, 404, 405}
    assert {name: number - before[name] for name, number in count().items() if number != before[name]} == {}


def fetches(stack: DevStack, scenario: Scenario, most: int) -> None:
    """Tried by test_jwks.py, with an issuer: made-up ids do not hammer the issuer, nor hold up anybody."""
    assert Settings(_env_file=None).jwks_pause_seconds == 30


MESSAGE = action_typed_data(Domain(31337, "0x" + "11" * 20), "Confirm", bytes(32), 1, 2**32)


def key_in(signer: signers.Signer) -> bytearray:
    assert isinstance(signer, LocalSigner)
    return signer._key


def keys(stack: DevStack, scenario: Scenario, most: int) -> None:
    """Keys that are forgotten are overwritten, once nobody uses them any more, and found again."""
    assert most == signers._MOST_SIGNERS
    users = [f"user-{number}" for number in range(5)]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(signers, "_MOST_SIGNERS", 3)
        custodian = MnemonicCustodian(DEVELOPMENT_CUSTODY)
        keyfiles = KeyfileCustodian(Path(folder), "a passphrase", custodian)
        for user in users:
            keyfile = Account.encrypt(Account.create().key, "a passphrase", "pbkdf2", 1000)
            (Path(folder) / f"{user}.json").write_text(json.dumps(keyfile))
        for kept in (custodian, keyfiles):
            accounts = [kept.account_of(user) for user in users]
            first = kept.signer(accounts[0])
            bytes_of = [key_in(kept.signer(account)) for account in accounts]
            assert [any(key) for key in bytes_of] == [
                True,
                False,
                True,
                True,
                True,
            ]  # The first one is in use.
            assert kept._ready.cache_info().currsize == 3
            assert kept.signer(accounts[0]).address == first.address
            del first
            assert not any(bytes_of[0])
            assert kept.signer(accounts[1]).sign_typed_data(MESSAGE)


FETCHES = "fetches of the issuer's keys in 30 seconds, for made-up key ids"
CHECKS: dict[str, Callable[[DevStack, Scenario, int], None]] = {
    "bytes of the headers of a request": headers,
    "bytes of the body of a request": body,
    "characters of a student's notes": words("studentNotes"),
    "characters of a description": words("description"),
    "lessons of a request": lessons,
    "bytes of a signature": signature,
    "characters of an `Idempotency-Key`": key,
    "bytes of a page of lessons": page,
    "connections of an address, unless it is a proxy's that is named": of_address,
    "connections of a process, as far as its limit of open files goes": of_process,
    "seconds without a request, with half of one, or with a response that is not read": deadline,
    "requests of an address in a minute": requests,
    "counters of the rate limits": counters,
    "looks of `/readyz` at node and database in a second, each of one write": looks,
    "requests to the node for a request without a token, elsewhere": node_calls,
    "rows for a request without a token": rows,
    FETCHES: fetches,
    "keys of people in the memory of a process, of the mnemonic and of keyfiles each": keys,
}


def test_each_row_has_a_check() -> None:
    assert [row[0] for row in ROWS] == [*CHECKS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_limit_holds(stack: DevStack, scenario: Scenario, row: tuple[str, ...]) -> None:
    what, limit, setting, _ = row
    if setting.startswith("`") and what != FETCHES:
        name = setting.strip("`").removeprefix("CRENEAU_").lower()
        default: Any = Settings.model_fields[name].default
        assert str(default).removesuffix("/minute") == limit
    CHECKS[what](stack, scenario, int(limit))
