"""The relayer when it does not go smoothly: what happens between a batch's acceptance and its final block."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from scenario import BATCH, EDU, Scenario, failures, paused, rows_of, slot, wait_for, watching
from sqlalchemy import update
from waiting import until

from api.chain.rpc import Call
from api.db import repository
from api.db.tables import transactions
from api.outbox.models import State, TransactionKind
from api.schemas.requests import CreateBatchBookingData
from api.services import Services
from creneau import abi
from creneau.order import Order, Slot, listing_id
from tools.dev_stack import DevStack

ASYNC = {"Prefer": "respond-async"}
RICH = {"maxPriorityFeePerGas": hex(10**11), "maxFeePerGas": hex(10**12), "gas": hex(500_000)}


def act_as(stack: DevStack, wallet: str, to: str, data: bytes) -> None:
    """A transaction of a custodial account's own, ahead of all others in its block."""
    stack.rpc("anvil_setBalance", wallet, hex(10 * EDU))
    stack.rpc("anvil_impersonateAccount", wallet)
    stack.rpc("eth_sendTransaction", {"from": wallet, "to": to, "data": "0x" + data.hex(), **RICH})


def book_directly(stack: DevStack, scenario: Scenario, *slots: dict[str, Any]) -> None:
    """The student books without the shim, from a wallet."""
    act_as(stack, scenario.student.wallet, stack.edu, abi.approve_data(stack.escrow, 10**30))
    paris = [(entry["date"], entry["time"]) for entry in slots]
    chosen = tuple(Slot.of(utc(*moment), 60) for moment in paris)
    order = Order(
        student=scenario.student.wallet,
        tutor=scenario.tutor.wallet,
        listing=listing_id(scenario.annonce.id),
        hourly_rate=35,
        deadline=chosen[0].start,
        slots=chosen,
    )
    act_as(stack, scenario.student.wallet, stack.escrow, abi.create_bookings_data(order))


def utc(day: str, hour: str) -> int:
    return int(datetime.fromisoformat(f"{day}T{hour}").replace(tzinfo=ZoneInfo("Europe/Paris")).timestamp())


# --- In the pool and on the chain ---


def test_a_batch_becomes_final_when_blocks_are_on_top(stack: DevStack, scenario: Scenario) -> None:
    answer = scenario.book(slot("09:00"))
    assert answer.json()["data"]["finality"] == "mined"
    stack.rpc("anvil_mine", "0x3")
    data = wait_for(scenario, f"{BATCH}/{answer.json()['data']['batchId']}", "final")
    assert data["finality"] == "final"
    assert data["bookings"][0]["id"] == answer.json()["data"]["bookings"][0]["id"]


def test_a_transaction_that_reverts_in_its_block_says_why(stack: DevStack, scenario: Scenario) -> None:
    key = {"Idempotency-Key": "reverts"}
    with paused(stack):
        location = scenario.book(slot("09:00"), headers=ASYNC | key).headers["location"]
        wait_for(scenario, location, "submitted")
        away = abi.call_data("EduToken", "transfer", stack.owner.address, 990 * EDU)
        act_as(stack, scenario.student.wallet, stack.edu, away)
    waits = scenario.book(slot("09:00"), headers=key)
    assert (waits.status_code, waits.json()["data"]["state"]) == (202, "reverting")  # It may still be booked.
    stack.rpc("anvil_mine", "0x3")
    assert wait_for(scenario, location, "rejected")["bookings"] == []
    answer = scenario.book(slot("09:00"), headers=key)
    assert answer.status_code == 402
    assert answer.json()["code"] == "insufficient_balance"
    assert answer.json()["message"].endswith("has 10 EDU and needs 35 EDU.")
    assert scenario.balance() == 10 * EDU
    assert scenario.client.get(location).json()["success"] is False
    assert scenario.client.get(location).json()["message"] == answer.json()["message"]


def test_lessons_that_are_taken_while_the_transaction_waits(stack: DevStack, scenario: Scenario) -> None:
    rival = Scenario(stack, stack.create_user("student", balance=1000), scenario.tutor, scenario.annonce)
    assert rival.book(slot("20:00")).status_code == 200
    keys = [{"Idempotency-Key": name} for name in ("all taken", "one taken", "all or nothing")]
    requests: list[tuple[list[dict[str, Any]], bool]] = [
        ([slot("09:00")], True),
        ([slot("10:00"), slot("11:00")], True),
        ([slot("12:00"), slot("13:00"), slot("14:00")], False),
    ]
    locations: list[str] = []
    with paused(stack):
        for key, (slots, partial) in zip(keys, requests, strict=True):
            locations.append(
                scenario.book(*slots, allowPartial=partial, headers=ASYNC | key).headers["location"]
            )
            wait_for(scenario, locations[-1], "submitted")
        book_directly(stack, rival, slot("09:00"), slot("11:00"), slot("13:00"), slot("14:00"))
    for location, state in zip(locations, ("reverting", "mined", "reverting"), strict=True):
        wait_for(scenario, location, state)
    stack.rpc("anvil_mine", "0x3")  # Nobody is told that nothing was booked before that is final.
    for location, state in zip(locations, ("rejected", "final", "rejected"), strict=True):
        wait_for(scenario, location, state)
    nothing, partly, none = (
        scenario.book(*slots, allowPartial=partial, headers=key)
        for key, (slots, partial) in zip(keys, requests, strict=True)
    )
    assert (nothing.status_code, failures(nothing)) == (409, [(1, "taken")])
    assert (partly.status_code, failures(partly)) == (200, [(2, "taken")])
    assert (none.status_code, failures(none)) == (409, [(2, "taken"), (3, "taken")])
    assert [b["time"] for b in partly.json()["data"]["bookings"]] == ["10:00"]
    assert scenario.balance() == 965 * EDU


def test_a_transaction_that_the_node_forgot_is_sent_again_as_it_was(
    stack: DevStack, scenario: Scenario
) -> None:
    with paused(stack):
        location = scenario.book(slot("09:00"), headers=ASYNC).headers["location"]
        sent = wait_for(scenario, location, "submitted")["transactionHash"]
        assert stack.rpc("anvil_dropTransaction", sent) == sent
        until(lambda: stack.rpc("eth_getTransactionByHash", sent))
    assert wait_for(scenario, location, "mined", "final")["transactionHash"] == sent
    assert scenario.balance() == 965 * EDU


def test_a_block_that_is_reorganised_away_costs_nothing(stack: DevStack, scenario: Scenario) -> None:
    data = scenario.book(slot("09:00")).json()["data"]
    location = f"{BATCH}/{data['batchId']}"
    with paused(stack):  # Or the relayer might have its transaction in a new block before it is missed.
        stack.rpc("anvil_reorg", 1, [])
        assert stack.rpc("eth_getTransactionReceipt", data["transactionHash"]) is None
        assert scenario.balance() == 1000 * EDU
        until(lambda: stack.rpc("txpool_status")["pending"] != "0x0")  # It is sent again.
    again = wait_for(scenario, location, "mined")
    assert again["transactionHash"] == data["transactionHash"]
    stack.rpc("anvil_mine", "0x4")
    assert wait_for(scenario, location, "final")["transactionHash"] == data["transactionHash"]
    assert scenario.balance() == 965 * EDU


def test_a_relayer_without_gas_money_keeps_what_it_signed(stack: DevStack, scenario: Scenario) -> None:
    relayer = stack.account(1).address
    stack.rpc("anvil_setBalance", relayer, "0x0")
    location = scenario.book(slot("09:00"), headers=ASYNC).headers["location"]
    signed = wait_for(scenario, location, "signed")["transactionHash"]
    until(lambda: stack.client().get("/readyz").status_code == 503)  # It may be a second old.
    ready = stack.client().get("/readyz")
    assert ready.json()["checks"]["relayer"]["ok"] is False
    stack.stop_shim(kill=True)
    stack.rpc("anvil_setBalance", relayer, hex(10**22))
    stack.start_shim()
    assert wait_for(scenario, location, "mined", "final")["transactionHash"] == signed
    assert scenario.balance() == 965 * EDU


# --- Between acceptance and signature ---


@pytest.fixture
def shim(stack: DevStack, tmp_path: Path) -> Iterator[Services]:
    """A shim of the test's own, whose relayer has not started yet."""
    own = {"database_url": f"sqlite:///{tmp_path / 'own.db'}", "relayer_mnemonic_index": 2}
    own["follow_seconds"] = 1e-6
    shim = Services.build(stack.settings.model_copy(update=own), stack.directory)
    while shim.indexer.tick():
        pass
    yield shim
    shim.close()


def place(shim: Services, scenario: Scenario, *slots: dict[str, Any], **more: Any) -> str:
    while shim.indexer.tick():
        pass  # What others did on the chain meanwhile.
    request = CreateBatchBookingData.model_validate(scenario.body(*slots, **more))
    return shim.bookings.create(scenario.student.id, request, None, "test").batch_id


def settle(shim: Services, *batch_ids: str) -> list[Any]:
    """Starts the relayer, and gives the rows once they are settled."""
    shim.sender.start()
    while True:
        rows = rows_of(shim.store, batch_ids)
        if all(row.state not in {"accepted", "signed", "submitted"} for row in rows):
            return rows


def test_an_order_that_waited_too_long_is_not_sent(
    stack: DevStack, scenario: Scenario, shim: Services
) -> None:
    expired, fresh = place(shim, scenario, slot("09:00")), place(shim, scenario, slot("10:00"))
    with shim.store.write() as db:
        db.execute(update(transactions).where(transactions.c.id == expired).values(expires=1_600_000_000))
    with watching(stack) as seen:
        first, second = settle(shim, expired, fresh)
    assert (first.state, first.code, first.nonce) == (State.EXPIRED, "expired", None)
    assert second.booked == 1
    assert len(seen.transactions) == 1


def test_what_no_longer_fits_is_rejected_without_a_transaction(
    stack: DevStack, scenario: Scenario, shim: Services
) -> None:
    other = Scenario(stack, stack.create_user("student", balance=70), scenario.tutor, scenario.annonce)
    assert other.book(slot("09:00")).status_code == 200  # Publishes, too.
    taken = place(shim, scenario, slot("10:00"), slot("11:00"), allowPartial=False)
    poor = place(shim, other, slot("12:00"))
    assert scenario.book(slot("11:00")).status_code == 200
    assert other.book(slot("13:00")).status_code == 200
    with watching(stack) as seen:
        first, second = settle(shim, taken, poor)
    assert seen.transactions == []
    assert (first.state, first.code) == (State.REJECTED, None)
    assert [(failure["index"], failure["code"]) for failure in first.left_out] == [(2, "taken")]
    assert (second.state, second.code) == (State.REJECTED, "insufficient_balance")


@pytest.mark.parametrize(("rate", "state"), [(35, State.MINED), (36, State.REJECTED)])
def test_a_listing_that_is_published_meanwhile(
    stack: DevStack, scenario: Scenario, shim: Services, rate: int, state: State
) -> None:
    batch_id = place(shim, scenario, slot("09:00"))
    tutor, listing = scenario.tutor.wallet, listing_id(scenario.annonce.id)
    act_as(stack, tutor, stack.escrow, abi.publish_data(tutor, listing, rate * EDU, instant=False))
    [row] = settle(shim, batch_id)
    assert row.state == state
    assert row.code == (None if state == State.MINED else "rate_mismatch")
    assert row.publishes is (row.nonce is None)  # As it was accepted.


@pytest.mark.parametrize(("rate", "state"), [(35, State.MINED), (36, State.REJECTED)])
def test_a_listing_that_is_published_just_before_the_preflight(
    stack: DevStack,
    scenario: Scenario,
    shim: Services,
    monkeypatch: pytest.MonkeyPatch,
    rate: int,
    state: State,
) -> None:
    """As another process does: what was read of the listing is outdated, and is read again."""
    batch_id = place(shim, scenario, slot("09:00"))
    tutor, listing = scenario.tutor.wallet, listing_id(scenario.annonce.id)
    published = abi.publish_data(tutor, listing, rate * EDU, instant=False)
    call_many, preflights = shim.chain.node.call_many, 0

    def publish_first(calls: Sequence[Call]) -> list[Any]:
        nonlocal preflights
        if any(method == "eth_estimateGas" for method, _ in calls):
            preflights += 1
            if preflights == 1:
                act_as(stack, tutor, stack.escrow, published)
        return call_many(calls)

    monkeypatch.setattr(shim.chain.node, "call_many", publish_first)
    [row] = settle(shim, batch_id)
    assert (row.state, row.code) == (state, None if state == State.MINED else "rate_mismatch")
    assert row.publishes is (row.nonce is None)  # As it was accepted.
    assert preflights >= 2


def test_a_batch_is_left_for_a_while_to_the_process_that_accepted_it(
    scenario: Scenario, shim: Services
) -> None:
    batch_id, minute = place(shim, scenario, slot("09:00")), 60_000_000

    def taken(own: set[str], left: int) -> list[str]:
        with shim.store.read() as db:
            return [each.id for each in repository.accepted(db, 10, {TransactionKind.CREATE}, own, left)]

    assert taken({batch_id}, minute) == [batch_id]
    assert taken(set(), minute) == []
    until(lambda: taken(set(), 1) == [batch_id])
    with shim.store.write() as db:  # By a clock that is an hour ahead.
        db.execute(update(transactions).values(created_at=transactions.c.created_at + 60 * minute))
    assert taken(set(), minute) == [batch_id]


def test_a_nonce_is_never_given_twice(stack: DevStack, scenario: Scenario, shim: Services) -> None:
    ids = [place(shim, scenario, slot(f"{hour}:00")) for hour in range(10, 16)]
    first = int(stack.rpc("eth_getTransactionCount", shim.sender.address, "latest"), 16)
    rows = settle(shim, *ids)
    assert [row.nonce for row in rows] == list(range(first, first + 6))
