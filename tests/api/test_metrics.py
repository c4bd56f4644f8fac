"""Monitoring: metrics, dashboard and alerts made of them, readiness in words, and the log."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import Stack
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from scenario import BATCH, Scenario, log_lines, paused, slot, wait_for
from sqlalchemy import event, insert, text
from test_security import another
from waiting import http, until

from api import metrics
from api.db.store import Store
from api.db.tables import webhooks
from tools.dev_stack import DevStack

DOCS = Path(__file__).parents[2] / "docs"


def scrape(stack: DevStack) -> dict[str, Metric]:
    answer = stack.client().get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(stack: DevStack, family: str, sample: str, **labels: str) -> float:
    """The sum of the samples that have these labels."""
    samples = scrape(stack)[family].samples
    return sum(s.value for s in samples if s.name == sample and labels.items() <= s.labels.items())


def finalise(stack: DevStack) -> None:
    """Enough blocks on top."""
    stack.rpc("anvil_mine", hex(10))


# --- Metrics ---


def test_what_a_booking_counts(stack: DevStack, scenario: Scenario) -> None:
    def count(state: str) -> float:
        return value(stack, "creneau_sends", "creneau_sends_total", kind="create", state=state)

    until(lambda: value(stack, "creneau_oldest_pending_seconds", "creneau_oldest_pending_seconds") == 0)
    finalise(stack)
    until(lambda: value(stack, "creneau_sends_waiting", "creneau_sends_waiting") == 0)
    before = {state: count(state) for state in ("mined", "final")}
    gas = value(stack, "creneau_gas_used", "creneau_gas_used_total")
    fees = value(stack, "creneau_fees_gwei", "creneau_fees_gwei_total")
    answer = scenario.book(slot("09:00"))
    assert count("mined") == before["mined"] + 1
    assert value(stack, "creneau_sends_waiting", "creneau_sends_waiting", state="mined") == 1
    finalise(stack)
    until(lambda: count("final") == before["final"] + 1)
    used = answer.json()["data"]["gasUsed"]
    assert value(stack, "creneau_gas_used", "creneau_gas_used_total") == gas + used
    receipt = stack.rpc("eth_getTransactionReceipt", answer.json()["data"]["transactionHash"])
    paid = -(-used * int(receipt["effectiveGasPrice"], 16) // 10**9)
    assert value(stack, "creneau_fees_gwei", "creneau_fees_gwei_total") == fees + paid
    for family in ("creneau_seconds_to_block", "creneau_seconds_to_final"):
        assert value(stack, family, f"{family}_count", kind="create") >= 1
    posts = {"method": "POST", "route": BATCH, "status": "200"}
    assert value(stack, "creneau_request_seconds", "creneau_request_seconds_count", **posts) >= 1
    balance = value(
        stack,
        "creneau_relayer_balance_ether",
        "creneau_relayer_balance_ether",
        address=stack.account(1).address,
    )
    assert balance == pytest.approx(
        int(stack.rpc("eth_getBalance", stack.account(1).address, "latest"), 16) / 1e18
    )
    sent = {"method": "eth_sendRawTransaction"}
    assert value(stack, "creneau_rpc_seconds", "creneau_rpc_seconds_count", **sent) >= 1


def test_what_waits_and_what_is_reorganised_away(stack: DevStack, scenario: Scenario) -> None:
    with paused(stack):
        location = scenario.book(slot("09:00"), headers={"Prefer": "respond-async"}).headers["location"]
        until(lambda: value(stack, "creneau_oldest_pending_seconds", "creneau_oldest_pending_seconds") > 0.2)
        wait_for(scenario, location, "submitted")
        assert value(stack, "creneau_sends_waiting", "creneau_sends_waiting", state="submitted") == 1
    wait_for(scenario, location, "mined")
    gone = value(stack, "creneau_reorganised_sends", "creneau_reorganised_sends_total")
    with paused(stack):  # Or the relayer might have its transaction in a new block before it is missed.
        stack.rpc("anvil_reorg", 1, [])
        until(lambda: value(stack, "creneau_reorganised_sends", "creneau_reorganised_sends_total") > gone)
        until(lambda: stack.rpc("txpool_status")["pending"] != "0x0")  # It is sent again.
    assert value(stack, "creneau_reorganised_sends", "creneau_reorganised_sends_total") == gone + 1
    wait_for(scenario, location, "mined", "final")


def test_routes_are_templates_and_invented_methods_are_one(stack: DevStack) -> None:
    client = stack.client()
    for n in range(20):
        client.get(f"/api/blockchain/booking/batch/0x{n:064x}")
        client.get(f"/nowhere/{n}")
        client.request(f"INVENTED{n}", "/livez")
    labels = [sample.labels for sample in scrape(stack)["creneau_request_seconds"].samples]
    assert "/api/blockchain/booking/batch/{batchId}" in {label["route"] for label in labels}
    routes = set(client.get("/openapi.json").json()["paths"]) | {"none", "/openapi.json", "/docs"}
    assert {label["route"] for label in labels} <= routes
    methods = {"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "other"}
    assert {label["method"] for label in labels} <= methods


def used(expression: str) -> set[str]:
    return set(re.findall(r"\bcreneau_[a-z_]+", expression))


def test_the_dashboard_and_the_alerts_ask_for_what_there_is(stack: DevStack, scenario: Scenario) -> None:
    batch_id = scenario.book(slot("09:00")).json()["data"]["batchId"]
    finalise(stack)
    until(lambda: bool(log_lines(stack, batch_id=batch_id, state="final")))
    families = scrape(stack)
    there: dict[str, set[str]] = {}
    for family in families.values():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        for suffix in suffixes:
            found = [s for s in family.samples if s.name == family.name + suffix]
            there[family.name + suffix] = {name for s in found for name in s.labels}
    dashboard: dict[str, Any] = json.loads((DOCS / "grafana.json").read_text())
    drawn = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"][0]["rules"]
    for expression in drawn + [rule["expr"] for rule in rules]:
        names = used(expression)
        assert names
        assert names <= set(there), expression
        labels = set(re.findall(r'(\w+)(?:=~|!=|=)"', expression))
        labels |= {
            label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")
        }
        known = set().union(*(there[name] for name in names))
        assert labels <= known | {"method", "reason"}, expression
    shown = set().union(*(used(expression) for expression in drawn))
    for family in families.values():
        if family.name.startswith("creneau_"):
            assert any(name.startswith(family.name) for name in shown), f"{family.name} is not drawn"
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)


def test_a_scrape_stays_cheap_with_many_batches(tmp_path: Path) -> None:
    """By the plan of each query rather than by a clock: none reads a whole table."""
    store = Store(f"sqlite:///{tmp_path / 'many.db'}")
    store.migrate()
    plans: list[str] = []
    seen: list[tuple[str, Any]] = []
    with store.write() as db:
        db.execute(
            insert(webhooks),
            {
                "message_id": "m",
                "endpoint": "e",
                "batch_id": "b",
                "event": "x",
                "body": "",
                "attempts": 0,
                "due_at": 0,
                "dead": True,
                "created_at": 0,
            },
        )
    event.listen(store._reader, "before_cursor_execute", lambda *args: seen.append((args[2], args[3])))
    shared = metrics.Shared(store, lambda: ({"0x00": 10**18}, 3))
    gauges = {family.name: family.samples for family in shared.collect()}
    assert gauges["creneau_follower_lag_blocks"][0].value == 3
    assert gauges["creneau_webhooks_dead"][0].value == 1
    assert gauges["creneau_node_up"][0].value == 1
    asked = [*seen]
    for statement, parameters in asked:
        with store.read() as db:
            rows = db.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            plans += [row[3] for row in rows]
    assert len(plans) >= 3
    for plan in plans:
        assert "USING COVERING INDEX" in plan or "USE TEMP B-TREE" in plan, plan
        assert not re.search(r"SCAN transactions", plan), plan
    store.close()


def test_metrics_are_for_this_machine_or_for_who_shows_the_token(stack: DevStack, tmp_path: Path) -> None:
    def status(url: str, **headers: str) -> int:
        return http.get(
            f"{url}/metrics", headers={k.replace("_", "-"): v for k, v in headers.items()}
        ).status_code

    assert status(stack.url) == 200
    for header in ("X_Forwarded_For", "Forwarded", "Via"):  # Through a proxy on this machine.
        assert status(stack.url, **{header: "127.0.0.1"}) == 403
    refused = http.get(f"{stack.url}/metrics", headers={"X-Forwarded-For": "203.0.113.1"})
    assert (refused.status_code, refused.json()["code"]) == (403, "metrics_private")
    (tmp_path / "token").write_text("of-the-monitoring\n")
    with another(stack, metrics_token_file=tmp_path / "token") as url:
        assert status(url) == 403
        assert status(url, Authorization="Bearer guessed") == 403
        assert http.get(f"{url}/metrics", headers={b"Authorization": b"Bearer \xfc"}).status_code == 403
        assert status(url, Authorization="Bearer of-the-monitoring") == 200
        assert status(url, Authorization="Bearer of-the-monitoring", X_Forwarded_For="203.0.113.1") == 200


# --- Readiness in words ---


def test_readiness_says_what_is_wrong(stack: DevStack, scenario: Scenario) -> None:
    def wrong(url: str) -> dict[str, str]:
        checks = http.get(f"{url}/readyz").json()["checks"]
        return {name: check["message"] for name, check in checks.items() if not check["ok"]}

    def process(**settings: object) -> Any:
        return another(stack, ready=False, **settings)

    assert wrong(stack.url) == {}
    with process(min_relayer_balance_wei=10**23) as url:
        assert re.fullmatch(r"The relayer has [0-9.]+ for gas, less than 100000\.", wrong(url)["relayer"])
        assert http.get(f"{url}/readyz").status_code == 503
    with paused(stack):
        scenario.book(slot("09:00"), headers={"Prefer": "respond-async"})
        with another(stack, max_pending_seconds=0) as url:
            until(lambda: bool(wrong(url)))
            said = r"The oldest batch that is in no block has waited [0-9]+ seconds; 0 are normal\."
            assert re.fullmatch(said, wrong(url)["pending"])
            assert http.get(f"{url}/readyz").json()["status"] == "ok"  # An alarm, no reason to refuse.


def test_readiness_without_node_contract_or_database(tmp_path: Path) -> None:
    with Stack(data_dir=tmp_path) as stack:

        def is_wrong(**expected: str) -> None:
            until(lambda: wrong() == expected, f"{wrong()} is not {expected}")  # It may be a second old.
            answer = stack.client().get("/readyz")
            assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")

        def wrong() -> dict[str, str]:
            checks = stack.client().get("/readyz").json()["checks"]
            return {name: check["message"] for name, check in checks.items() if not check["ok"]}

        code = stack.rpc("eth_getCode", stack.escrow, "latest")
        stack.rpc("anvil_setCode", stack.escrow, "0x")
        is_wrong(contract=f"There is no contract at {stack.escrow}.")
        stack.rpc("anvil_setCode", stack.escrow, code)
        stack.rpc("anvil_setChainId", 1337)
        is_wrong(node="The node serves chain 1337, not 31337.")
        stack.rpc("anvil_setChainId", 31337)
        with Store(stack.settings.database).write() as db:
            db.execute(text("ALTER TABLE leases RENAME TO hidden"))
        is_wrong(database="The database can't be written (OperationalError).")
        with Store(stack.settings.database).write() as db:
            db.execute(text("ALTER TABLE hidden RENAME TO leases"))
        stack.stop_node()
        is_wrong(node="The node does not answer (NodeUnavailable).")
        assert stack.client().get("/metrics").status_code == 200
        assert value(stack, "creneau_node_up", "creneau_node_up") == 0
        assert value(stack, "creneau_rpc_errors", "creneau_rpc_errors_total", reason="unavailable") >= 1


def test_readiness_is_looked_at_once_a_second_and_told_to_those_who_may_read_the_metrics(
    stack: DevStack, tmp_path: Path
) -> None:
    def calls() -> float:
        found = sum(
            sample.value
            for family in text_string_to_metric_families(http.get(f"{url}/metrics", headers=shown).text)
            for sample in family.samples
            if sample.name == "creneau_rpc_seconds_count" and sample.labels["method"] == "eth_getCode"
        )
        return float(found)

    (tmp_path / "token").write_text("of-the-monitoring\n")
    shown = {"Authorization": "Bearer of-the-monitoring"}
    with another(stack, metrics_token_file=tmp_path / "token") as url:
        began, before = time.monotonic(), calls()
        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(lambda _: http.get(f"{url}/readyz"), range(320)))
        looks, seconds = calls() - before, time.monotonic() - began
        assert looks <= seconds + 1
        for answer in answers:
            assert answer.status_code == 200
            assert all(check == {"ok": True} for check in answer.json()["checks"].values())
        told = http.get(f"{url}/readyz", headers=shown).json()["checks"]
        assert int(told["relayer"]["balanceWei"]) > 0
        assert int(told["database"]["feesLeftTodayWei"]) > 0
        guessed = http.get(f"{url}/readyz", headers={"Authorization": "Bearer guessed"})
        assert guessed.json()["checks"]["relayer"] == {"ok": True}
    through = {"X-Forwarded-For": "203.0.113.1"}
    checks = http.get(f"{stack.url}/readyz", headers=through).json()["checks"]
    assert all(check == {"ok": True} for check in checks.values())


# --- The log ---


def test_one_batch_can_be_followed_to_final_by_its_id(stack: DevStack, scenario: Scenario) -> None:
    answer = scenario.book(slot("09:00"), headers={"X-Request-ID": "followed.1"})
    batch_id = answer.json()["data"]["batchId"]
    finalise(stack)
    until(lambda: bool(log_lines(stack, batch_id=batch_id, state="final")))
    lines = log_lines(stack, batch_id=batch_id)
    assert {line["request_id"] for line in lines} == {"followed.1"}
    events = [line.get("state") or line["event"] for line in lines]
    sent = next(n for n, event in enumerate(events) if "Transaction envoyée" in event)
    states = [event for event in events if event in {"accepted", "signed", "submitted", "mined", "final"}]
    assert [state for state in states if state != "submitted"] == ["accepted", "signed", "mined", "final"]
    assert events.index("signed") < sent < events.index("mined") < events.index("final") == len(events) - 1
    [request] = [line for line in lines if line["event"] == "request"]
    assert (request["status"], request["method"], request["path"]) == (200, "POST", BATCH)
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines)
