"""A PostgreSQL that is away, frozen, locked by others, or takes no writes, and what a person sees of it."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import services
from forked import Stack
from postgres import PostgreSQL
from prometheus_client.parser import text_string_to_metric_families
from scenario import EDU, Scenario, slot
from service import serving
from waiting import http, until

from api.db import store as store_module
from api.db.store import _SILENT, Store
from tools.dev_stack import DevStack


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """A server of this module's own, which goes wrong."""
    if (programs := services.postgresql()) is None:
        pytest.skip(services.LACKING["PostgreSQL"])
    with PostgreSQL(programs) as server:
        yield server


@pytest.fixture(scope="module")
def url(server: PostgreSQL) -> str:
    return server.database()


@pytest.fixture(scope="module")
def on_postgres(url: str) -> Iterator[DevStack]:
    with Stack(settings={"database_url": url}) as stack:
        yield stack


def administer(url: str, *statements: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@contextmanager
def away(server: PostgreSQL, url: str) -> Iterator[None]:  # noqa: ARG001  # faults are called alike
    server.stop()
    yield
    server.start()


@contextmanager
def read_only(server: PostgreSQL, url: str) -> Iterator[None]:  # noqa: ARG001
    """As after a switch to a standby."""
    name = url.partition("?")[0].rpartition("/")[2]
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    others += " AND pid <> pg_backend_pid()"
    administer(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on", others)
    yield
    reset = f"ALTER DATABASE {name} RESET default_transaction_read_only"
    administer(url, "SET default_transaction_read_only = off", reset, others)


Fault = Callable[[PostgreSQL, str], AbstractContextManager[None]]
BOOK = "/api/blockchain/booking/batch"


def value(stack: DevStack, name: str) -> float:
    families = text_string_to_metric_families(http.get(f"{stack.url}/metrics").text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


@pytest.mark.parametrize("fault", [away, read_only])
def test_what_can_not_be_stored_is_refused_and_works_when_the_database_is_back(
    on_postgres: DevStack, server: PostgreSQL, url: str, fault: Fault
) -> None:
    stack, scenario = on_postgres, Scenario.of(on_postgres)
    booked = scenario.book(slot("09:00"))
    assert booked.status_code == 200
    lists = f"/api/blockchain/booking/user/{scenario.student.id}"
    assert scenario.client.get(lists).status_code == 200  # Once its block was read.
    with fault(server, url):
        refused = scenario.book(slot("10:00"))
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        if fault is away:
            listed = scenario.client.get(lists)
            assert (listed.status_code, listed.json()["code"]) == (503, "database_unavailable")
            assert value(stack, "creneau_database_up") == 0
        else:
            until(lambda: scenario.client.get(lists).status_code == 200)  # Connections are made anew.
        assert stack.client().get("/livez").status_code == 200
        until(lambda: http.get(f"{stack.url}/readyz").status_code == 503)
        assert http.get(f"{stack.url}/readyz").json()["checks"]["database"]["ok"] is False
    assert stack._store is not None
    stack._store.close()  # The test's own connections are gone, too.
    until(lambda: scenario.book(slot("10:00")).status_code == 200)
    until(lambda: http.get(f"{stack.url}/readyz").status_code == 200)
    assert value(stack, "creneau_database_up") == 1
    assert scenario.balance() == 930 * EDU


def children(pid: int) -> list[int]:
    """The processes of a server."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # It has ended.
            continue
        found += [int(stat.parent.name)] if parent == pid else []
    return found


def stop(pid: int, stopped: list[int]) -> None:
    os.kill(pid, signal.SIGSTOP)
    stopped.append(pid)


@contextmanager
def frozen(server: PostgreSQL) -> Iterator[None]:
    """Stop every process of the server, and leave its connections open."""
    stopped: list[int] = []
    try:
        stop(server.pid, stopped)  # First, so that it adds none.
        for each in children(server.pid):
            stop(each, stopped)
        yield
    finally:
        for each in stopped:
            os.kill(each, signal.SIGCONT)


def test_a_frozen_database_is_told_by_readiness_in_time(on_postgres: DevStack, server: PostgreSQL) -> None:
    stack, scenario = on_postgres, Scenario.of(on_postgres)
    until(lambda: http.get(f"{stack.url}/readyz").status_code == 200)
    with frozen(server):
        until(lambda: http.get(f"{stack.url}/readyz").status_code == 503)
        said = "Node or database have not answered for 10 seconds."
        assert http.get(f"{stack.url}/readyz").json() == {
            "status": "unavailable",
            "checks": {"answers": {"ok": False, "message": said}},
        }
        assert http.get(f"{stack.url}/livez").status_code == 200
    until(lambda: http.get(f"{stack.url}/readyz").status_code == 200)
    assert scenario.book(slot("09:00")).status_code == 200


def test_what_others_have_locked_is_not_waited_for_without_end(
    on_postgres: DevStack, server: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_LOCK_SECONDS", 1)
    url = server.database()
    scenario = Scenario.of(on_postgres)
    with (
        serving(on_postgres, tmp_path, 5, database_url=url) as shim,
        psycopg.connect(url.replace("+psycopg", "")) as lock,
    ):
        here = on_postgres.client(scenario.student.id, url=f"http://127.0.0.1:{shim.settings.port}")
        lock.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        asked: list[Any] = [
            here.post(BOOK, json=scenario.body(slot("09:00"))),
            here.get(f"/api/blockchain/booking/user/{scenario.student.id}"),
        ]
        for refused in asked:
            assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert here.get("/livez").status_code == 200
        lock.rollback()
        assert here.post(BOOK, json=scenario.body(slot("09:00"))).json()["code"] == "unknown_user"


def test_a_machine_that_is_gone_is_given_up(url: str) -> None:
    """By the protocol's own timers, which are libpq's to set, unless the address sets them."""
    for address, seconds in ((url, "10000"), (f"{url}&tcp_user_timeout=7000", "7000")):
        store = Store(address)
        with store.read() as reader, store.write() as writer:
            for each in (reader, writer):
                given = each.connection.dbapi_connection.info.get_parameters()  # type: ignore[union-attr]
                assert given["tcp_user_timeout"] == seconds
                assert given["connect_timeout"] == str(_SILENT["connect_timeout"])
        store.close()
