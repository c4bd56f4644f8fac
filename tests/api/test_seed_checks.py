"""The six checks of the document that the product starts from ("Tests à Effectuer"), over HTTP."""

import re

import httpx
from scenario import EDU, Scenario, log_lines, slot, watching
from waiting import until

from tools.dev_stack import DevStack

TAG = "[CREATE_BATCH_BOOKING]"


def test_1_two_consecutive_slots_can_be_selected(scenario: Scenario) -> None:
    answer = scenario.book(slot("09:00"), slot("10:00"))
    assert answer.status_code == 200
    assert answer.json()["success"] is True
    assert [(b["time"], b["duration"]) for b in answer.json()["data"]["bookings"]] == [
        ("09:00", 60),
        ("10:00", 60),
    ]


def test_2_the_request_is_sent_once_instead_of_twice(stack: DevStack, scenario: Scenario) -> None:
    with watching(stack) as seen:
        scenario.book(slot("09:00"), slot("10:00"), headers={"X-Request-ID": "seed-2"})
    until(lambda: bool(log_lines(stack, event="request", request_id="seed-2")))  # After the answer.
    assert len(log_lines(stack, event="request", request_id="seed-2")) == 1
    assert len(seen.transactions) == 1


def test_3_both_bookings_are_created(scenario: Scenario) -> None:
    data = scenario.book(slot("09:00"), slot("10:00")).json()["data"]
    assert (data["count"], data["failedCount"], data["failures"]) == (2, 0, None)
    assert len({booking["id"] for booking in data["bookings"]}) == 2
    read_again = scenario.client.get(f"/api/blockchain/booking/batch/{data['batchId']}").json()["data"]
    assert [b["blockchainStatus"] for b in read_again["bookings"]] == ["CONFIRMED", "CONFIRMED"]


def test_4_the_balance_is_debited_by_the_total(stack: DevStack, scenario: Scenario) -> None:
    before = scenario.balance()
    with watching(stack) as seen:
        data = scenario.book(slot("09:00"), slot("10:00")).json()["data"]
    assert before - scenario.balance() == 70 * EDU
    assert seen.sent_by(scenario.student.wallet) == [70 * EDU]
    assert (data["totalAmount"], data["totalAmountWei"]) == (70, str(70 * EDU))


def test_5_three_and_more_slots(stack: DevStack, scenario: Scenario) -> None:
    assert scenario.book(slot("07:00"), slot("08:00"), slot("09:00")).json()["data"]["count"] == 3
    with watching(stack) as seen:
        ten = scenario.book(*(slot(f"{hour}:00") for hour in range(10, 20)))
    assert ten.json()["data"]["count"] == 10
    assert len(seen.transactions) == 1
    assert seen.sent_by(scenario.student.wallet) == [350 * EDU]


def test_6_the_log_shows_the_batch_loop(stack: DevStack, seeded: httpx.Client) -> None:
    tutor, annonce = "d085706f-9304-4011-a28a-08fd871afe4f", "3f2b9c1e-5a7d-4c88-9e21-6b1f0a4d7c55"
    body = {"tutorId": tutor, "annonceId": annonce, "bookings": [slot("09:00"), slot("10:00")]}
    data = seeded.post("/api/blockchain/booking/batch", json=body, headers={"X-Request-ID": "seed-6"}).json()[
        "data"
    ]
    ids = [booking["id"] for booking in data["bookings"]]
    lines = [line for line in log_lines(stack, request_id="seed-6") if line["event"].startswith(TAG)]
    assert [line["event"].removeprefix(f"{TAG} ") for line in lines] == [
        "Nouvelles 2 réservations demandées",
        "Vérification étudiant: d755226e-bb7b-4bec-9af0-e578da8362dc ✅",
        f"Vérification tuteur: {tutor} ✅",
        "Montant total: 70 EDU pour 2 réservations",
        "Titre annonce trouvé: Cours de Deep Learning avancé",
        f"Transaction envoyée: {data['transactionHash']}",
        "Création réservation 1/2",
        f"✅ Réservation 1 créée: {ids[0]}",
        "Création réservation 2/2",
        f"✅ Réservation 2 créée: {ids[1]}",
        "✅ Toutes les 2 réservations ont été créées avec succès!",
    ]
    assert {line.get("batch_id") for line in lines[5:]} == {data["batchId"]}
    assert re.fullmatch(r"0x[0-9a-f]{62}00", data["batchId"])
