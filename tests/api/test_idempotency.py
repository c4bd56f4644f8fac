"""One `Idempotency-Key` is one batch, however often, however parallel, and across restarts."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

from scenario import BATCH, EDU, Scenario, paused, slot, wait_for, watching
from waiting import until

from tools.dev_stack import DevStack


def new_key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def test_fifty_parallel_requests_with_one_key_make_one_batch(stack: DevStack, scenario: Scenario) -> None:
    key = new_key()
    before = scenario.balance()
    with watching(stack) as seen, ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(lambda _: scenario.book(slot("09:00"), slot("10:00"), headers=key), range(50))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.headers.get("idempotent-replayed") for answer in answers].count(None) == 1
    assert len({answer.json()["data"]["batchId"] for answer in answers}) == 1
    assert len(seen.transactions) == 1
    assert seen.sent_by(scenario.student.wallet) == [70 * EDU]
    assert before - scenario.balance() == 70 * EDU


def test_a_repeat_gets_the_same_answer_and_nothing_new(stack: DevStack, scenario: Scenario) -> None:
    key = new_key()
    first = scenario.book(slot("09:00"), slot("09:10"), headers=key)
    with watching(stack) as seen:
        again = scenario.book(slot("09:00", 35.0), slot("09:10"), description=None, headers=key)
    assert again.status_code == 200
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["data"]["bookings"][0]["id"] == first.json()["data"]["bookings"][0]["id"]
    assert again.json()["data"]["failures"] == first.json()["data"]["failures"]
    assert seen.transactions == []


def test_the_same_key_with_another_body_is_refused(scenario: Scenario) -> None:
    key = new_key()
    assert scenario.book(slot("09:00"), headers=key).status_code == 200
    answer = scenario.book(slot("10:00"), headers=key)
    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_key_reused"
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"
    assert scenario.book(slot("10:00"), headers=new_key()).status_code == 200


def test_a_key_is_its_students_own(stack: DevStack, scenario: Scenario) -> None:
    key = new_key()
    other = Scenario(stack, stack.create_user("student", balance=100), scenario.tutor, scenario.annonce)
    mine, theirs = scenario.book(slot("09:00"), headers=key), other.book(slot("10:00"), headers=key)
    assert (mine.status_code, theirs.status_code) == (200, 200)
    assert mine.json()["data"]["batchId"] != theirs.json()["data"]["batchId"]


def test_without_a_key_the_same_request_is_the_same_batch_and_another_is_its_own(scenario: Scenario) -> None:
    first, again = scenario.book(slot("09:00")), scenario.book(slot("09:00"))
    assert first.json()["data"]["batchId"] == again.json()["data"]["batchId"]
    assert scenario.book(slot("09:00"), description="Another").json()["code"] == "taken"
    assert scenario.balance() == 965 * EDU


def test_a_refusal_before_anything_is_accepted_leaves_the_key_free(stack: DevStack) -> None:
    scenario, key = Scenario.of(stack, balance=10), new_key()
    assert scenario.book(slot("09:00"), headers=key).json()["code"] == "insufficient_balance"
    stack.mint(scenario.student.wallet, 25 * EDU)
    assert scenario.book(slot("09:00"), headers=key).status_code == 200


def test_a_restart_in_the_middle_makes_no_second_batch(stack: DevStack, scenario: Scenario) -> None:
    """The shim is killed while its transaction waits for a block, and asked again by the client."""
    key = new_key()
    with watching(stack) as seen:
        with paused(stack):
            first = scenario.book(slot("09:00"), headers=key | {"Prefer": "respond-async"})
            wait_for(scenario, first.headers["location"], "submitted")
            stack.stop_shim(kill=True)
            stack.start_shim(wait_seconds=0.3)
            again = scenario.book(slot("09:00"), headers=key)
            assert again.status_code == 202
            assert again.json()["data"]["batchId"] == first.json()["data"]["batchId"]
        stack.stop_shim()
        stack.start_shim()
        answer = scenario.book(slot("09:00"), headers=key)
    assert answer.status_code == 200
    assert answer.json()["data"]["batchId"] == first.json()["data"]["batchId"]
    assert len(seen.transactions) == 1
    assert scenario.balance() == 965 * EDU


def test_a_client_that_goes_away_loses_nothing(stack: DevStack, scenario: Scenario) -> None:
    key = new_key()
    with watching(stack) as seen:
        with paused(stack), closing(HTTPConnection("127.0.0.1", stack.port)) as client:
            token = scenario.client.headers["authorization"]
            headers = {"Authorization": token, "Content-Type": "application/json"} | key
            client.request("POST", BATCH, json.dumps(scenario.body(slot("09:00"))), headers)
            until(lambda: stack.rpc("txpool_status")["pending"] != "0x0")
        answer = scenario.book(slot("09:00"), headers=key)
    assert answer.status_code == 200
    assert len(seen.transactions) == 1
