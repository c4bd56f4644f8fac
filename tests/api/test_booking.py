"""Booking over HTTP: the whole answer, each reason beside its success, money and time."""

import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from scenario import (
    BATCH,
    DAY,
    EDU,
    SINGLE,
    Scenario,
    clock_change,
    failures,
    paused,
    slot,
    wait_for,
    watching,
)

from api.schemas import responses as models
from creneau.abi import call_data, publish_data
from creneau.order import listing_id
from creneau.types import to_hex
from tools.dev_stack import DevStack

SPRING, AUTUMN = clock_change(3).isoformat(), clock_change(10).isoformat()
PARIS = ZoneInfo("Europe/Paris")
NINE = datetime.combine(date.fromisoformat(DAY), time(9), PARIS).astimezone(UTC)
PARIS_AT_9 = f"T{NINE:%H:%M:%SZ}"


def at(clock: str, day: str, instant: str) -> dict[str, Any]:
    """A lesson that says which instant of that day it means: "T08:00:00Z"."""
    return slot(clock, day=day) | {"startsAt": day + instant}


def before(moment: str) -> str:
    """A second earlier."""
    return (datetime.fromisoformat(moment) - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")


# --- The answer ---


def test_the_answer_has_every_field_of_the_contract_with_the_frontend(scenario: Scenario) -> None:
    answer = scenario.book(
        slot("18:30", duration=90, amount=Decimal("52.5")), description="", studentNotes="Chapitre 3"
    )
    models.BatchAnswer.model_validate(answer.json())
    assert answer.headers["content-type"] == "application/json"
    assert '"amount":52.5,' in answer.text
    body = answer.json()
    data: dict[str, Any] = body["data"]
    [booking] = data["bookings"]
    assert body["success"] is True
    assert body["message"] == "1 lesson booked for 52.5 EDU in one transaction."
    assert set(data) == {
        "batchId", "state", "bookings", "totalAmount", "totalAmountWei", "count", "failedCount", "failures",
        "transactionHash", "blockNumber", "gasUsed", "finality",
    }  # fmt: skip
    assert data["finality"] in {"mined", "final"}
    assert 80_000 < data["gasUsed"] < 300_000
    moments = [booking.pop("createdAt"), booking.pop("updatedAt")]
    assert moments == sorted(moments)
    assert str(uuid.UUID(booking.pop("id"))).count("-") == 4
    starts_at = booking.pop("startsAt")
    assert starts_at in {f"{DAY}T16:30:00Z", f"{DAY}T17:30:00Z"}
    assert booking == {
        "tutorId": scenario.tutor.id,
        "studentId": scenario.student.id,
        "annonceId": scenario.annonce.id,
        "date": DAY,
        "time": "18:30",
        "duration": 90,
        "status": "PENDING",
        "amount": 52.5,
        "amountWei": "52500000000000000000",
        "transactionHash": data["transactionHash"],
        "blockchainStatus": "CONFIRMED",
        "blockchainTransactionId": data["batchId"],
        "description": "",
        "studentNotes": "Chapitre 3",
        "cancellableUntil": None,
        "may": [
            {"act": "confirm", "by": "tutor", "from": None, "until": before(starts_at)},
            {"act": "cancel", "by": "student", "from": None, "until": None},
            {"act": "cancel", "by": "tutor", "from": None, "until": None},
            {"act": "cancel", "by": "anyone", "from": starts_at, "until": None},
            {"act": "complete", "by": "student", "from": None, "until": None},
            {"act": "settle", "by": "student", "from": None, "until": None},
            {"act": "settle", "by": "tutor", "from": None, "until": None},
        ],
        "payments": [],
    }


def test_so_many_lessons_at_least(stack: DevStack, scenario: Scenario) -> None:
    """A taken lesson is left out as long as so many are free; the order that is signed says so too."""
    assert scenario.book(slot("10:00"), slot("11:00")).status_code == 200
    asked = [slot(f"{hour}:00") for hour in (10, 11, 12, 13)]
    with watching(stack) as seen:
        few = scenario.book(*asked, minLessons=3)
    assert (few.status_code, failures(few)) == (409, [(1, "taken"), (2, "taken")])
    assert seen.transactions == []
    some = scenario.book(*asked, minLessons=2)
    assert (some.json()["data"]["count"], failures(some)) == (2, [(1, "taken"), (2, "taken")])
    both = scenario.book(slot("15:00"), slot("16:00"), minLessons=2, allowPartial=True)
    assert (both.status_code, both.json()["code"]) == (422, "both_given")
    more = scenario.book(slot("15:00"), slot("16:00"), minLessons=3)
    assert (more.status_code, more.json()["code"]) == (409, "fewer_lessons")
    assert [error["field"] for error in more.json()["errors"]] == ["minLessons"]
    assert "not both" in both.json()["message"]


def test_a_request_of_the_existing_frontend_needs_nothing_more(scenario: Scenario) -> None:
    body = scenario.body(
        {"date": DAY, "time": "09:00", "duration": 30, "amount": 17.5, "status": "pending"},
        {"date": DAY, "time": "10:30", "duration": 120, "amount": 70},
        {"date": DAY, "time": "14:00", "amount": 35},
        description="Une longue description. " * 400,
        studentId="somebody else",
        bookingType="batch",
    )
    answer = scenario.client.post(BATCH, json=body | {"tutorId": scenario.tutor.profile_id})
    assert answer.status_code == 200
    assert answer.json()["data"]["count"] == 3
    assert {b["studentId"] for b in answer.json()["data"]["bookings"]} == {scenario.student.id}
    assert {b["tutorId"] for b in answer.json()["data"]["bookings"]} == {scenario.tutor.id}
    assert [b["duration"] for b in answer.json()["data"]["bookings"]] == [30, 120, 60]


def test_one_lesson_by_the_route_for_one(stack: DevStack, scenario: Scenario) -> None:
    body = {"tutorId": scenario.tutor.id, "annonceId": scenario.annonce.id, **slot("09:00")}
    with watching(stack) as seen:
        answer = scenario.post(body, path=SINGLE)
        again = scenario.post(body, path=SINGLE)
        taken = scenario.post(body | {"description": "Another request"}, path=SINGLE)
    assert again.json() == answer.json()
    assert answer.status_code == 200
    assert answer.json()["data"]["count"] == 1
    assert taken.status_code == 409
    assert failures(taken) == [(1, "taken")]
    assert len(seen.transactions) == 1


def test_both_parties_can_read_a_batch_and_nobody_else(stack: DevStack, scenario: Scenario) -> None:
    booked = scenario.book(slot("09:00")).json()
    path = f"{BATCH}/{booked['data']['batchId']}"
    tutor, other = stack.client(scenario.tutor.id), stack.client(stack.create_user("tutor").id)
    assert scenario.client.get(path).json()["data"]["bookings"] == booked["data"]["bookings"]
    assert tutor.get(path).json()["data"]["bookings"] == booked["data"]["bookings"]
    assert other.get(path).status_code == 404
    assert other.get(path).json()["code"] == "batch_not_found"
    assert scenario.client.get(f"{BATCH}/0x{'0' * 64}").status_code == 404


# --- Partial success ---


def test_lessons_that_are_taken_are_left_out_and_reported(stack: DevStack, scenario: Scenario) -> None:
    other = Scenario(stack, stack.create_user("student", balance=1000), scenario.tutor, scenario.annonce)
    assert other.book(slot("10:00")).status_code == 200
    before = scenario.balance()
    answer = scenario.book(slot("09:00"), slot("10:00"), slot("11:00"))
    assert answer.status_code == 200
    body = answer.json()
    assert body["success"] is True
    reason = f"The lesson of {DAY} at 10:00 is already taken."
    assert body["message"] == f"2 of 3 lessons booked for 70 EDU in one transaction. {reason}"
    assert [b["time"] for b in body["data"]["bookings"]] == ["09:00", "11:00"]
    assert (body["data"]["count"], body["data"]["failedCount"]) == (2, 1)
    assert body["data"]["failures"] == [{"index": 2, "slot": slot("10:00"), "code": "taken", "error": reason}]
    assert before - scenario.balance() == 70 * EDU


def test_all_or_nothing_books_nothing_and_names_every_failure(stack: DevStack, scenario: Scenario) -> None:
    assert scenario.book(slot("10:00"), slot("11:00"), allowPartial=False).status_code == 200
    before = scenario.balance()
    with watching(stack) as seen:
        answer = scenario.book(
            slot("08:00", 34), slot("09:00"), slot("10:00"), slot("11:00"), allowPartial=False
        )
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["success"], body["status"], body["code"]) == (False, 409, "amount_mismatch")
    assert body["message"] == f"Nothing was booked. The lesson of {DAY} at 08:00 costs 35 EDU, not 34 EDU."
    assert body["message"] == body["detail"]
    assert failures(answer) == [(1, "amount_mismatch"), (3, "taken"), (4, "taken")]
    assert (scenario.balance(), seen.transactions) == (before, [])


# --- Each reason, beside its success ---


@pytest.mark.parametrize(
    ("code", "wrong", "right"),
    [
        ("in_past", slot("09:00", day="2020-01-06"), slot("09:00")),
        ("in_past", slot("09:00", day="1971-01-01"), slot("09:00")),
        ("too_far", slot("09:00", day="9998-12-31"), slot("09:00", day="2448-06-01")),
        ("misaligned", slot("09:10"), slot("09:15")),
        ("misaligned", slot("09:00:01"), slot("09:00:00")),
        ("invalid_duration", slot("09:00", duration=50), slot("09:00", amount="26.25", duration=45)),
        ("invalid_duration", slot("09:00", duration=0), slot("09:00", amount="8.75", duration=15)),
        ("invalid_duration", slot("09:00", duration=-60), slot("09:00")),
        ("invalid_duration", slot("09:00", 288.75, duration=495), slot("09:00", 280, duration=480)),
        ("invalid_duration", slot("09:00", duration=10**30), slot("09:00")),
        ("amount_mismatch", slot("09:00", amount=34), slot("09:00", amount=35)),
        ("amount_mismatch", slot("09:00", amount=0), slot("09:00", amount="35.0")),
        ("amount_mismatch", slot("09:00", amount=Decimal("35.000000000000000001")), slot("09:00", amount=35)),
        ("amount_mismatch", slot("09:00", duration=90), slot("09:00", amount=52.5, duration=90)),
        ("nonexistent_time", slot("02:30", day=SPRING), slot("03:00", day=SPRING)),
        ("nonexistent_time", slot("02:00", day=SPRING), slot("01:45", day=SPRING)),
        ("ambiguous_time", slot("02:30", day=AUTUMN), slot("03:00", day=AUTUMN)),
        ("ambiguous_time", slot("02:00", day=AUTUMN), slot("01:30", day=AUTUMN)),
        ("time_zone_mismatch", at("09:00", DAY, "T09:00:00Z"), at("09:00", DAY, PARIS_AT_9)),
        ("time_zone_mismatch", at("02:30", AUTUMN, "T02:30:00Z"), at("02:30", AUTUMN, "T01:30:00Z")),
        ("nonexistent_time", at("02:30", SPRING, "T01:30:00Z"), at("03:30", SPRING, "T01:30:00Z")),
    ],
)  # fmt: skip
def test_a_lesson_that_cannot_be_booked_says_why(
    stack: DevStack, scenario: Scenario, code: str, wrong: dict[str, Any], right: dict[str, Any]
) -> None:
    with watching(stack) as seen:
        refused = scenario.book(wrong)
    assert refused.status_code == 409
    assert refused.json()["code"] == code
    assert failures(refused) == [(1, code)]
    [failure] = refused.json()["failures"]
    assert refused.json()["message"] == f"Nothing was booked. {failure['error']}"
    assert (failure["slot"]["date"], failure["slot"]["duration"]) == (wrong["date"], wrong["duration"])
    assert seen.transactions == []

    partly = scenario.book(wrong, right)
    assert partly.status_code == 200
    assert failures(partly) == [(1, code)]
    assert partly.json()["data"]["count"] == 1


def test_an_hour_that_comes_twice_is_told_apart_by_its_instants(scenario: Scenario) -> None:
    twice = ["T00:30:00Z", "T01:30:00Z"]
    answer = scenario.book(*(at("02:30", AUTUMN, instant) for instant in twice))
    assert answer.status_code == 200
    assert [booking["startsAt"] for booking in answer.json()["data"]["bookings"]] == [
        AUTUMN + t for t in twice
    ]


def test_a_mismatch_names_both_readings_and_what_mends_it(scenario: Scenario) -> None:
    answer = scenario.book(at("09:00", DAY, "T11:00:00+02:30"))
    [failure] = answer.json()["failures"]
    assert failure["error"].endswith(
        f"was picked as {DAY}T08:30:00Z, and in Europe/Paris it begins at {DAY}{PARIS_AT_9}: "
        "the time zone data differ. Pick it by its time in UTC, with timeZone UTC."
    )
    mended = scenario.post(scenario.body(slot("08:30")) | {"timeZone": "UTC"})
    assert [booking["startsAt"] for booking in mended.json()["data"]["bookings"]] == [f"{DAY}T08:30:00Z"]


@pytest.mark.parametrize("instant", [f"{DAY}T08:00:00", DAY, 2051776800, "soon"])
def test_an_instant_names_its_offset(scenario: Scenario, instant: object) -> None:
    answer = scenario.book(slot("09:00") | {"startsAt": instant})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["startsAt"]


def test_lessons_of_one_request_that_overlap(scenario: Scenario) -> None:
    answer = scenario.book(
        slot("09:00"), slot("09:30"), slot("10:00"), slot("09:45", amount="8.75", duration=15)
    )
    assert answer.status_code == 200
    assert failures(answer) == [(2, "overlap"), (4, "overlap")]
    assert [b["time"] for b in answer.json()["data"]["bookings"]] == ["09:00", "10:00"]


@pytest.mark.parametrize("field", ["tutorId", "annonceId"])
def test_a_tutor_or_annonce_that_is_not_there(stack: DevStack, scenario: Scenario, field: str) -> None:
    code = {"tutorId": "tutor_not_found", "annonceId": "annonce_not_found"}[field]
    other = Scenario.of(stack)
    somebody = {"tutorId": scenario.student.id, "annonceId": other.annonce.id}[field]
    for value in (str(uuid.uuid4()), somebody):
        answer = scenario.post(scenario.body(slot("09:00")) | {field: value})
        assert answer.status_code == 404
        assert answer.json()["code"] == code
        assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_nobody_books_with_themselves_and_nobody_unknown_books(stack: DevStack, scenario: Scenario) -> None:
    for user_id, refused in (
        (scenario.tutor.id, (409, "own_lessons")),
        (str(uuid.uuid4()), (403, "unknown_user")),
    ):
        answer = stack.client(user_id).post(BATCH, json=scenario.body(slot("09:00")))
        assert (answer.status_code, answer.json()["code"]) == refused


def test_a_person_of_any_role_is_the_student_of_an_order(stack: DevStack, scenario: Scenario) -> None:
    for role in ("tutor", "admin"):
        person = stack.create_user(role, balance=100)
        answer = stack.client(person.id).post(
            BATCH, json=scenario.body(slot("09:00" if role == "tutor" else "11:00"))
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["bookings"][0]["studentId"] == person.id


# --- Money ---


def test_too_little_balance_is_refused_before_anything_is_sent(stack: DevStack) -> None:
    scenario = Scenario.of(stack, balance=100)
    with watching(stack) as seen:
        answer = scenario.book(slot("09:00"), slot("10:00"), slot("11:00"))
    assert answer.status_code == 402
    body = answer.json()
    assert body["code"] == "insufficient_balance"
    assert body["message"] == "The price of 3 lessons is 105 EDU, and you have 100 EDU. Nothing was booked."
    assert (body["neededWei"], body["availableWei"]) == (str(105 * EDU), str(100 * EDU))
    assert seen.transactions == []
    assert scenario.book(slot("09:00"), slot("10:00")).status_code == 200
    assert scenario.balance() == 30 * EDU


@pytest.mark.parametrize(
    ("rate", "duration", "amounts", "wei"),
    [
        ("33.33", 15, ["8.3325", "8.33"], 8332500000000000000),
        ("0.1", 15, ["0.025", "0.03", "0.02"], 25000000000000000),
        ("19.99", 45, ["14.9925", "14.99"], 14992500000000000000),
        ("0.000000000000000001", 30, ["0", 0], 0),
        ("10000000000", 60, [Decimal("1E+10"), "10000000000.00"], 10**28),
    ],
)
def test_an_amount_is_exact_or_rounded_to_cents_and_the_charge_is_exact(
    stack: DevStack, rate: str, duration: int, amounts: list[object], wei: int
) -> None:
    scenario = Scenario.of(stack, hourly_rate=Decimal(rate), balance=Decimal(10) ** 13)
    for hour, amount in enumerate(amounts, start=9):
        before = scenario.balance()
        answer = scenario.book(slot(f"{hour}:00", amount, duration))
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["totalAmountWei"] == str(wei)
        assert before - scenario.balance() == wei


def test_the_second_booking_needs_neither_permit_nor_publication(scenario: Scenario) -> None:
    first = scenario.book(slot("09:00")).json()["data"]["gasUsed"]
    second = scenario.book(slot("10:00")).json()["data"]["gasUsed"]
    assert second < first - 90_000


# --- The listing ---


def test_a_new_rate_of_a_custodial_tutor_is_published_with_the_booking(
    stack: DevStack, scenario: Scenario
) -> None:
    tutor = scenario.tutor.wallet
    stack.rpc("anvil_setBalance", tutor, hex(EDU))
    stack.rpc("anvil_impersonateAccount", tutor)
    stack.send(
        tutor, stack.escrow, publish_data(tutor, listing_id(scenario.annonce.id), 40 * EDU, instant=True)
    )
    with watching(stack) as seen:
        answer = scenario.book(slot("09:00"), slot("10:00"))
    assert answer.status_code == 200
    assert len(seen.transactions) == 1
    assert answer.json()["data"]["totalAmount"] == 70
    assert {b["status"] for b in answer.json()["data"]["bookings"]} == {"CONFIRMED"}


def test_a_tutor_with_a_wallet_has_to_publish_himself(stack: DevStack) -> None:
    wallet = stack.account(7).address
    tutor = stack.create_user("tutor", wallet=wallet)
    scenario = Scenario(stack, stack.create_user("student", balance=100), tutor, stack.create_annonce(tutor))
    listing = listing_id(scenario.annonce.id)

    refused = scenario.book(slot("09:00"))
    assert (refused.status_code, refused.json()["code"]) == (409, "not_published")
    stack.send(wallet, stack.escrow, publish_data(wallet, listing, 36 * EDU, instant=False))
    refused = scenario.book(slot("09:00"))
    assert (refused.status_code, refused.json()["code"]) == (409, "rate_mismatch")
    assert (
        refused.json()["message"] == "The tutor has published 36 EDU an hour, not 35 EDU. Nothing was booked."
    )
    stack.send(wallet, stack.escrow, publish_data(wallet, listing, 35 * EDU, instant=False))
    assert scenario.book(slot("09:00")).status_code == 200


@pytest.mark.parametrize("rate", [0, Decimal(2**96) / EDU])
def test_an_annonce_whose_rate_no_contract_takes(stack: DevStack, rate: Decimal) -> None:
    answer = Scenario.of(stack, hourly_rate=rate).book(slot("09:00", rate))
    assert (answer.status_code, answer.json()["code"]) == (409, "annonce_not_bookable")


def test_a_student_with_a_wallet_has_to_sign_himself(stack: DevStack, scenario: Scenario) -> None:
    student = stack.create_user("student", wallet=stack.account(8).address, balance=100)
    answer = Scenario(stack, student, scenario.tutor, scenario.annonce).book(slot("09:00"))
    assert (answer.status_code, answer.json()["code"]) == (409, "signature_required")


# --- Time ---


@pytest.mark.parametrize(
    ("day", "time", "zone", "starts_at"),
    [
        (SPRING, "01:45", None, f"{SPRING}T00:45:00Z"),
        (SPRING, "03:00", None, f"{SPRING}T01:00:00Z"),
        (AUTUMN, "03:00", None, f"{AUTUMN}T02:00:00Z"),
        (SPRING, "02:30", "UTC", f"{SPRING}T02:30:00Z"),
        (SPRING, "02:30", "Asia/Katmandu", f"{clock_change(3) - timedelta(days=1)}T20:45:00Z"),
        ("2035-07-01", "09:00", "America/Montreal", "2035-07-01T13:00:00Z"),
        ("2448-06-20", "23:45", "Pacific/Niue", "2448-06-21T10:45:00Z"),
    ],
)
def test_times_are_the_annonces_unless_the_request_names_a_zone(
    scenario: Scenario, day: str, time: str, zone: str | None, starts_at: str
) -> None:
    answer = scenario.book(slot(time, day=day), timeZone=zone)
    assert answer.status_code == 200
    [booking] = answer.json()["data"]["bookings"]
    assert (booking["date"], booking["time"], booking["startsAt"]) == (day, time, starts_at)


def test_the_configured_zone_counts_where_the_annonce_has_none(stack: DevStack) -> None:
    scenario = Scenario.of(stack, time_zone=None)
    answer = scenario.book(slot("09:00", day="2035-07-01"))
    assert answer.json()["data"]["bookings"][0]["startsAt"] == "2035-07-01T07:00:00Z"


def test_a_lesson_is_taken_in_whatever_zone_it_is_named(scenario: Scenario) -> None:
    assert scenario.book(slot("09:00", day="2035-07-01")).status_code == 200
    answer = scenario.book(slot("07:00", day="2035-07-01"), timeZone="UTC")
    assert failures(answer) == [(1, "taken")]


# --- Not waiting ---


def test_a_client_may_choose_not_to_wait(stack: DevStack, scenario: Scenario) -> None:
    with paused(stack):
        answer = scenario.book(slot("09:00"), slot("10:00"), headers={"Prefer": "respond-async"})
        assert answer.status_code == 202
        models.BatchAnswer.model_validate(answer.json())
        data = answer.json()["data"]
        assert answer.headers["location"] == f"{BATCH}/{data['batchId']}"
        assert answer.headers["retry-after"] == "1"
        assert data["state"] in {"accepted", "signed", "submitted"}
        assert (data["count"], data["finality"], data["gasUsed"]) == (2, "pending", None)
        assert {b["blockchainStatus"] for b in data["bookings"]} == {"PENDING"}
    settled = wait_for(scenario, answer.headers["location"], "mined", "final")
    assert settled["state"] in {"mined", "final"}
    assert [b["id"] for b in settled["bookings"]] == [b["id"] for b in data["bookings"]]


def test_the_status_of_the_chain_is_what_the_contract_says(stack: DevStack, scenario: Scenario) -> None:
    data = scenario.book(slot("09:00")).json()["data"]
    status = call_data("BookingEscrow", "statusOf", bytes.fromhex(data["batchId"][2:]))
    assert int(stack.rpc("eth_call", {"to": stack.escrow, "data": to_hex(status)}, "latest"), 16) == 1
