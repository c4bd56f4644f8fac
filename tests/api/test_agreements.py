"""Settlements between student and tutor, credits, and a tutor's own time, over HTTP."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from lesson_scenario import SETTINGS, LessonScenario
from scenario import BATCH, DAY, SINGLE, Scenario, failures, slot, watching
from waiting import until

from creneau import abi
from creneau.amounts import to_wei
from creneau.types import to_hex
from tools.dev_stack import DevStack

API = "/api/blockchain"


@pytest.fixture(scope="module")
def stack() -> Iterator[DevStack]:
    """A stack whose keeper does nothing."""
    with DevStack(settings=SETTINGS) as stack:
        yield stack


@pytest.fixture
def lesson_scenario(stack: DevStack) -> LessonScenario:
    return LessonScenario.of(stack)


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def data_of(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def signed(key: Any, typed_data: dict[str, Any]) -> dict[str, Any]:
    """A wallet's signature of what was prepared, with its deadline."""
    message = encode_typed_data(full_message=typed_data)
    signature = to_hex(key.sign_message(message).signature)
    return {"signature": signature, "deadline": typed_data["message"]["deadline"]}


# --- Settlements ---


def test_what_one_party_offers_the_other_accepts(lesson_scenario: LessonScenario) -> None:
    """A part refund: nothing happens before both have agreed to the same split of the same lessons."""
    batch = lesson_scenario.book(60, 30)
    [first, _] = batch["bookings"]
    path = f"{BATCH}/{batch['batchId']}/settle"
    before = lesson_scenario.money()
    with watching(lesson_scenario.stack) as seen:
        assert refused(lesson_scenario.student.post(path, json={"tutorShareBps": 2_000})) == (409, "no_offer")
        split = {"tutorShareBps": 2_000, "lessons": [first["id"]]}
        offer = data_of(lesson_scenario.tutor.post(f"{path}/offer", json=split))
        assert (offer["by"], offer["lessons"], offer["tutorShareBps"]) == ("tutor", [first["id"]], 2_000)
        assert data_of(lesson_scenario.student.get(path)) == [offer]
        for other in ({**split, "tutorShareBps": 2_001}, {"tutorShareBps": 2_000}):
            assert refused(lesson_scenario.student.post(path, json=other)) == (409, "no_offer")
        assert refused(lesson_scenario.tutor.post(path, json=split)) == (409, "no_offer")  # Not with oneself.
        assert seen.transactions == []
        done = data_of(lesson_scenario.student.post(path, json=split))
        again = data_of(lesson_scenario.student.post(path, json=split))
    assert len(seen.transactions) == 1
    assert (done["act"], [b["status"] for b in done["bookings"]]) == ("settle", ["COMPLETED"])
    assert again["transactionHash"] == done["transactionHash"]
    assert [(each["to"], each["amount"]) for each in done["payments"]] == [("student", 28), ("tutor", 7)]
    student, tutor, escrow = lesson_scenario.money()
    assert (student - before[0], tutor - before[1]) == (to_wei(28), to_wei(7))
    assert before[2] - escrow == to_wei(35)
    assert refused(lesson_scenario.tutor.post(f"{path}/offer", json=split)) == (409, "wrong_status")


def test_strangers_have_nothing_to_settle(lesson_scenario: LessonScenario) -> None:
    path = f"{BATCH}/{lesson_scenario.book()['batchId']}/settle"
    other = LessonScenario.of(lesson_scenario.stack)
    for client in (other.student, other.tutor):
        assert refused(client.get(path)) == (404, "batch_not_found")
        for end in ("", "/offer", "/prepare"):
            assert refused(client.post(path + end, json={"tutorShareBps": 1})) == (404, "batch_not_found")
    assert refused(lesson_scenario.operator.post(f"{path}/offer", json={"tutorShareBps": 1})) == (
        403,
        "not_yours_to_do",
    )


def test_wallets_sign_a_settlement_until_the_same_deadline(stack: DevStack) -> None:
    keys = {role: Account.create() for role in ("student", "tutor")}
    student, tutor = (stack.create_user(role, wallet=key.address) for role, key in keys.items())
    for key in keys.values():
        stack.rpc("anvil_setBalance", key.address, hex(10**20))
        stack.rpc("anvil_impersonateAccount", key.address)
    stack.mint(student.wallet, to_wei(100))
    stack.send(student.wallet, stack.edu, abi.approve_data(stack.escrow, to_wei(100)))
    annonce = stack.create_annonce(tutor)
    scenario = Scenario(stack, student, tutor, annonce)
    clients = {"student": stack.client(student.id), "tutor": stack.client(tutor.id)}
    publish = f"{API}/annonce/{annonce.id}/publish"
    asked = data_of(clients["tutor"].post(f"{publish}/prepare"))["typedData"]
    data_of(clients["tutor"].post(publish, json=signed(keys["tutor"], asked)))
    order = data_of(clients["student"].post(f"{BATCH}/prepare", json=scenario.body(slot("09:00"))))
    signature = {"signature": signed(keys["student"], order["order"])["signature"]}
    data_of(clients["student"].post(f"{BATCH}/{order['batchId']}/submit", json=signature))

    path, split = f"{BATCH}/{order['batchId']}/settle", {"tutorShareBps": 5_000}
    asked = data_of(clients["student"].post(f"{path}/prepare", json=split))["typedData"]
    assert refused(clients["student"].post(f"{path}/offer", json=split)) == (409, "signature_required")
    wrong = split | signed(keys["tutor"], asked)
    assert refused(clients["student"].post(f"{path}/offer", json=wrong)) == (409, "wrong_signer")
    offer = split | signed(keys["student"], asked)
    data_of(clients["student"].post(f"{path}/offer", json=offer))
    accepted = data_of(clients["tutor"].post(f"{path}/prepare", json=split))["typedData"]
    assert accepted["message"]["deadline"] == asked["message"]["deadline"]
    done = data_of(clients["tutor"].post(path, json=split | signed(keys["tutor"], accepted)))
    assert [(each["to"], each["amount"]) for each in done["payments"]] == [("student", 17.5), ("tutor", 17.5)]


# --- Credits ---


def test_there_is_no_credit_to_withdraw(lesson_scenario: LessonScenario) -> None:
    """The token of this network refuses nobody; the SDK's tests have one that does."""
    assert data_of(lesson_scenario.student.get(f"{API}/wallet/credit")) == {"credit": 0, "creditWei": "0"}
    to = {"to": lesson_scenario.scenario.tutor.wallet}
    for end in ("", "/prepare"):
        answer = lesson_scenario.student.post(f"{API}/wallet/credit/withdraw{end}", json=to)
        assert refused(answer) == (409, "no_credit")


# --- A tutor's own time ---


def test_a_tutor_takes_time_and_gives_it_back(lesson_scenario: LessonScenario) -> None:
    zone = {"timeZone": "UTC"}
    times = {"slots": [{"date": DAY, "time": "09:00"}, {"date": DAY, "time": "12:00", "duration": 120}]}
    before, key = lesson_scenario.money(), {"Idempotency-Key": "holiday"}
    with watching(lesson_scenario.stack) as seen:
        taken = data_of(lesson_scenario.tutor.post(f"{API}/own-time", json=times | zone, headers=key))
        again = data_of(lesson_scenario.tutor.post(f"{API}/own-time", json=times | zone, headers=key))
    assert (taken["count"], again["transactionHash"]) == (2, taken["transactionHash"])
    assert len(seen.transactions) == 1
    assert lesson_scenario.money() == before
    answer = lesson_scenario.scenario.book(slot("09:00"), timeZone="UTC")
    assert failures(answer) == [(1, "taken")]
    other = lesson_scenario.tutor.post(f"{API}/own-time", json=times | zone)
    assert failures(other) == [(1, "taken"), (2, "taken")]
    mine = f"{SINGLE}/tutor/{lesson_scenario.scenario.tutor.id}"
    until(lambda: len(lesson_scenario.tutor.get(mine).json()["data"]) == 2)
    [first, _] = lesson_scenario.tutor.get(mine).json()["data"]
    assert (first["status"], first["amountWei"], first["annonceId"]) == ("CONFIRMED", "0", None)
    cancelled = lesson_scenario.tutor.patch(f"{SINGLE}/{first['id']}/cancel")
    assert data_of(cancelled)["bookings"][0]["status"] == "CANCELLED"
    assert lesson_scenario.scenario.book(slot("09:00"), timeZone="UTC").status_code == 200


def test_own_time_is_a_tutors_and_well_formed(lesson_scenario: LessonScenario) -> None:
    times = {"slots": [{"date": DAY, "time": "09:10"}], "timeZone": "UTC"}
    assert refused(lesson_scenario.student.post(f"{API}/own-time", json=times)) == (403, "not_a_tutor")
    assert failures(lesson_scenario.tutor.post(f"{API}/own-time", json=times)) == [(1, "misaligned")]
    assert refused(lesson_scenario.tutor.post(f"{API}/own-time", json={"slots": []})) == (
        422,
        "invalid_request",
    )


def test_a_wallet_signs_for_its_own_time(stack: DevStack) -> None:
    key = Account.create()
    tutor = stack.create_user("tutor", wallet=key.address)
    client = stack.client(tutor.id)
    times = {"slots": [{"date": DAY, "time": "09:00"}], "timeZone": "UTC"}
    assert refused(client.post(f"{API}/own-time", json=times)) == (409, "signature_required")
    asked = data_of(client.post(f"{API}/own-time/prepare", json=times))
    assert (asked["signer"], asked["typedData"]["primaryType"]) == (key.address, "Order")
    wrong = times | signed(Account.create(), asked["typedData"])
    assert refused(client.post(f"{API}/own-time", json=wrong)) == (409, "wrong_signer")
    data_of(client.post(f"{API}/own-time", json=times | signed(key, asked["typedData"])))
