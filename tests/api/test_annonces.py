"""Annonces: what anybody may know of one, and how its tutor publishes it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from scenario import Scenario, failures, paused, slot, watching
from waiting import until

from api.schemas import lesson_responses as lesson_models
from creneau.types import to_hex
from tools.dev_stack import DevStack


def path(scenario: Scenario) -> str:
    return f"/api/blockchain/annonce/{scenario.annonce.id}"


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_anybody_may_know_of_an_annonce(stack: DevStack) -> None:
    scenario = Scenario.of(stack, hourly_rate=Decimal("35.123456789012345678"), time_zone=None)
    answer = stack.client().get(path(scenario))
    assert answer.status_code == 200
    lesson_models.AnnonceAnswer.model_validate(answer.json())
    assert '"hourlyRate":35.123456789012345678,' in answer.text
    data = answer.json()["data"]
    assert data.pop("hourlyRate") == pytest.approx(35.123456789)
    assert data == {
        "id": scenario.annonce.id,
        "tutorId": scenario.tutor.id,
        "title": scenario.annonce.title,
        "hourlyRateWei": "35123456789012345678",
        "timeZone": "Europe/Paris",
        "schedule": None,
        "published": False,
        "publishedRate": None,
        "publishedRateWei": None,
        "instant": False,
        "minNotice": 0,
        "horizon": 0,
    }
    assert refused(stack.client().get("/api/blockchain/annonce/nobodys")) == (404, "annonce_not_found")


def test_its_tutor_publishes_it_once_and_lessons_are_instant(stack: DevStack, scenario: Scenario) -> None:
    tutor = stack.client(scenario.tutor.id)
    with watching(stack) as seen:
        answer = tutor.post(f"{path(scenario)}/publish", json={"instant": True, "hourlyRate": "35.00"})
        again = tutor.post(f"{path(scenario)}/publish")
    assert answer.status_code == again.status_code == 200, answer.text
    lesson_models.PublishedAnswer.model_validate(answer.json())
    assert len(seen.transactions) == 1
    assert answer.json()["data"]["transactionHash"] == seen.transactions[0]["hash"]
    assert again.json()["data"]["transactionHash"] is None
    data = stack.client().get(path(scenario)).json()["data"]
    assert (data["published"], data["publishedRateWei"], data["instant"]) == (True, str(35 * 10**18), True)
    [booking] = scenario.book(slot("09:00")).json()["data"]["bookings"]
    assert booking["status"] == "CONFIRMED"


def test_a_published_annonce_can_be_withdrawn_and_published_again(
    stack: DevStack, scenario: Scenario
) -> None:
    tutor = stack.client(scenario.tutor.id)
    for rate, published in (("35", True), (0, False), (None, True)):
        body = {} if rate is None else {"hourlyRate": rate}
        answer = tutor.post(f"{path(scenario)}/publish", json=body)
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        assert (data["published"], data["transactionHash"] is None) == (published, False)
        assert stack.client().get(path(scenario)).json()["data"]["published"] is published


def test_nobody_else_publishes_it_and_no_other_rate(stack: DevStack, scenario: Scenario) -> None:
    with watching(stack) as seen:
        for other in (scenario.student.id, stack.create_user("tutor").id, "nobody-known"):
            client = stack.client(other)
            assert refused(client.post(f"{path(scenario)}/publish")) == (403, "not_yours_to_do")
            assert refused(client.post(f"{path(scenario)}/publish/prepare")) == (403, "not_yours_to_do")
        assert stack.client().post(f"{path(scenario)}/publish").status_code == 401
        tutor = stack.client(scenario.tutor.id)
        answer = tutor.post(f"{path(scenario)}/publish", json={"hourlyRate": 36})
        assert refused(answer) == (409, "rate_mismatch")
        for body in ({"hourlyRate": -1}, {"hourlyRate": "x"}, {"instant": "yes"}, {"signature": "abc"}, []):
            assert refused(tutor.post(f"{path(scenario)}/publish", json=body)) == (422, "invalid_request")
    assert seen.transactions == []


def test_an_annonce_without_a_rate_can_not_be_published(stack: DevStack) -> None:
    scenario = Scenario.of(stack, hourly_rate=0)
    answer = stack.client(scenario.tutor.id).post(f"{path(scenario)}/publish")
    assert refused(answer) == (409, "annonce_not_bookable")


def test_a_wallet_signs_the_publication(stack: DevStack) -> None:
    key, other = Account.create(), Account.create()
    tutor = stack.create_user("tutor", wallet=key.address)
    annonce = stack.create_annonce(tutor)
    scenario = Scenario(stack, stack.create_user("student", balance=100), tutor, annonce)
    client = stack.client(tutor.id)
    assert refused(client.post(f"{path(scenario)}/publish")) == (409, "signature_required")
    with watching(stack) as seen:
        prepared = client.post(f"{path(scenario)}/publish/prepare", json={"instant": True})
    lesson_models.PreparedListingAnswer.model_validate(prepared.json())
    assert seen.transactions == []
    data = prepared.json()["data"]
    assert data["signer"] == key.address
    message = encode_typed_data(full_message=data["typedData"])
    deadline = data["typedData"]["message"]["deadline"]
    signed = {
        "instant": True,
        "signature": to_hex(other.sign_message(message).signature),
        "deadline": deadline,
    }
    assert refused(client.post(f"{path(scenario)}/publish", json=signed)) == (409, "wrong_signer")
    signed["signature"] = to_hex(key.sign_message(message).signature)
    assert refused(client.post(f"{path(scenario)}/publish", json=signed | {"instant": False})) == (
        409,
        "wrong_signer",
    )
    assert client.post(f"{path(scenario)}/publish", json=signed).status_code == 200
    assert scenario.book(slot("09:00")).json()["data"]["bookings"][0]["status"] == "CONFIRMED"


def test_notice_and_horizon_are_published_and_kept(stack: DevStack, scenario: Scenario) -> None:
    """Hours stay until the tutor says otherwise; lessons outside are refused with their reason."""
    tutor, day = stack.client(scenario.tutor.id), 86_400
    rules = {"minNotice": 2 * day, "horizon": 30 * day}
    assert tutor.post(f"{path(scenario)}/publish", json=rules).status_code == 200
    data = tutor.post(f"{path(scenario)}/publish", json={"instant": True}).json()["data"]
    assert (data["instant"], data["minNotice"], data["horizon"]) == (True, 2 * day, 30 * day)
    now = datetime.now(UTC)
    soon, good, far = ((now + timedelta(days=days)).date().isoformat() for days in (1, 10, 60))
    answer = scenario.book(slot("09:00", day=soon), slot("09:00", day=good), slot("09:00", day=far))
    assert failures(answer) == [(1, "too_soon"), (3, "too_far")]
    assert answer.json()["data"]["count"] == 1


def test_a_publication_goes_on_without_its_client(stack: DevStack, scenario: Scenario) -> None:
    tutor = stack.client(scenario.tutor.id)
    with paused(stack):
        answer = tutor.post(f"{path(scenario)}/publish", headers={"Prefer": "respond-async"})
        assert answer.status_code == 202
        assert answer.json()["data"]["published"] is False
    until(lambda: stack.client().get(path(scenario)).json()["data"]["published"])
