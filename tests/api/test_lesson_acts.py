"""The life of a lesson over HTTP: each branch of the contract's table, who may, when, and every base unit."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from forked import Stack
from lesson_scenario import SETTINGS, LessonScenario
from outside import RATE as RATE_OUTSIDE
from outside import Outside
from scenario import BATCH, SINGLE, paused, watching
from waiting import until

from api.people.directory import User
from api.schemas import lesson_responses as lesson_models
from creneau.amounts import lesson_amount
from creneau.types import to_hex
from tools.dev_stack import DevStack

HOUR = 3600
WINDOW, REVIEW, ARBITRATION = 24 * HOUR, 48 * HOUR, 14 * 24 * HOUR
RATE = Decimal("33.333333333333333331")
"""Lessons of it do not divide evenly."""


@pytest.fixture(scope="module")
def stack() -> Iterator[DevStack]:
    """A chain whose time passes."""
    with Stack(settings=SETTINGS) as stack:
        yield stack


@pytest.fixture
def lesson_scenario(stack: DevStack) -> LessonScenario:
    return LessonScenario.of(stack, rate=RATE)


# --- Every branch of the contract's table ---

LENGTH = 45 * 60
"""Of the lessons below, in seconds."""

# How it came to that, then the act; times are relative to the lesson's start.
Step = tuple[str, str, int | None]
BRANCHES: dict[str, tuple[list[Step], str, str]] = {
    "the student cancels what is pending": ([("student", "cancel", None)], "CANCELLED", "student"),
    "the student cancels what was never confirmed, even later": (
        [("student", "cancel", 5 * HOUR)],
        "CANCELLED",
        "student",
    ),
    "the student cancels in time what is confirmed": (
        [("tutor", "confirm", None), ("student", "cancel", -WINDOW - HOUR)],
        "CANCELLED",
        "student",
    ),
    "the tutor cancels what is pending": ([("tutor", "cancel", None)], "CANCELLED", "student"),
    "the tutor cancels what is confirmed, even later": (
        [("tutor", "confirm", None), ("tutor", "cancel", HOUR)],
        "CANCELLED",
        "student",
    ),
    "the tutor gives in to a dispute": (
        [("tutor", "confirm", None), ("student", "dispute", 60), ("tutor", "cancel", None)],
        "CANCELLED",
        "student",
    ),
    "the tutor cancels what began unconfirmed": ([("tutor", "cancel", HOUR)], "CANCELLED", "student"),
    "the student completes what is pending": ([("student", "complete", None)], "COMPLETED", "tutor"),
    "the student completes what is confirmed": (
        [("tutor", "confirm", None), ("student", "complete", LENGTH)],
        "COMPLETED",
        "tutor",
    ),
    "the student takes their dispute back": (
        [("tutor", "confirm", None), ("student", "dispute", LENGTH), ("student", "complete", None)],
        "COMPLETED",
        "tutor",
    ),
    "the tutor takes their money once the review is over": (
        [("tutor", "confirm", None), ("tutor", "complete", LENGTH + REVIEW + 1)],
        "COMPLETED",
        "tutor",
    ),
}


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_whole_life(lesson_scenario: LessonScenario, branch: str) -> None:
    steps, status, gets = BRANCHES[branch]
    before = lesson_scenario.money()
    [booking] = lesson_scenario.book(45)["bookings"]
    price = lesson_amount(lesson_scenario.scenario.annonce.hourly_rate, 45)
    assert booking["amountWei"] == str(price) == "24999999999999999998"
    assert lesson_scenario.money() == (before[0] - price, before[1], before[2] + price)
    for who, act, when in steps:
        if when is not None:
            lesson_scenario.at(lesson_scenario.start(booking) + when)
        answer = lesson_scenario.act(who, act, booking)
        assert answer.status_code == 200, answer.text
        lesson_models.DoneAnswer.model_validate(answer.json())
        data = answer.json()["data"]
        [became] = data["bookings"]
        assert data["act"] == act
        assert lesson_scenario.booking(booking) == became  # What is read next is not older.
        if (who, act, when) != steps[-1]:
            assert data["payments"] == became["payments"] == []
            booking = became
    assert became["status"] == status
    user = lesson_scenario.scenario.student if gets == "student" else lesson_scenario.scenario.tutor
    payment = {"to": gets, "userId": user.id, "amount": pytest.approx(25), "amountWei": str(price)}
    assert data["payments"] == became["payments"] == [payment]
    assert answer.json()["message"].endswith(f"24.999999999999999998 EDU to the {gets}.")
    paid = {"student": (price, 0), "tutor": (0, price)}[gets]
    assert lesson_scenario.money() == (before[0] - price + paid[0], before[1] + paid[1], before[2])
    until(lambda: lesson_scenario.booking(booking)["payments"] == [payment])
    assert lesson_scenario.booking(booking)["may"] == []


@pytest.mark.parametrize("share", [0, 1, 3333, 10_000])
def test_the_arbiter_splits_a_dispute_to_the_base_unit(lesson_scenario: LessonScenario, share: int) -> None:
    before = lesson_scenario.money()
    batch = lesson_scenario.book(45, 30, 60)
    lessons = batch["bookings"]
    lesson_scenario.tutor.patch(f"{BATCH}/{batch['batchId']}/confirm")
    lesson_scenario.at(lesson_scenario.start(lessons[2]))
    assert lesson_scenario.student.post(f"{BATCH}/{batch['batchId']}/dispute").status_code == 200
    named = {"lessons": [lessons[0]["id"], lessons[2]["blockchainTransactionId"]], "tutorShareBps": share}
    with watching(lesson_scenario.stack) as seen:
        answer = lesson_scenario.operator.post(f"{BATCH}/{batch['batchId']}/resolve", json=named)
        again = lesson_scenario.operator.post(f"{BATCH}/{batch['batchId']}/resolve", json=named)
    assert answer.status_code == 200, answer.text
    assert again.json() == answer.json()
    assert [int(one["from"], 16) for one in seen.transactions] == [
        int(lesson_scenario.stack.owner.address, 16)
    ]
    data = answer.json()["data"]
    prices = [int(lesson["amountWei"]) for lesson in lessons]
    parts = [price * share // 10_000 for price in (prices[0], prices[2])]
    to_tutor, to_student = sum(parts), prices[0] + prices[2] - sum(parts)
    got = {payment["to"]: int(payment["amountWei"]) for payment in data["payments"]}
    assert got == {who: wei for who, wei in (("student", to_student), ("tutor", to_tutor)) if wei}
    assert lesson_scenario.money() == (
        before[0] - sum(prices) + to_student,
        before[1] + to_tutor,
        before[2] + prices[1],
    )
    assert [lesson["status"] for lesson in data["bookings"]] == ["COMPLETED", "COMPLETED"]
    until(lambda: lesson_scenario.booking(lessons[0])["status"] == "COMPLETED")
    for lesson, part in ((lessons[0], parts[0]), (lessons[2], parts[1])):
        of = {
            payment["to"]: int(payment["amountWei"])
            for payment in lesson_scenario.booking(lesson)["payments"]
        }
        assert of.get("tutor", 0) == part
        assert sum(of.values()) == int(lesson["amountWei"])
    assert lesson_scenario.booking(lessons[1])["status"] == "DISPUTED"


# --- When, and who ---


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_each_act_has_its_time_and_says_when_it_was_or_will_be(lesson_scenario: LessonScenario) -> None:
    [first, second] = lesson_scenario.book(60, 60)["bookings"]
    assert lesson_scenario.act("tutor", "confirm", first).status_code == 200

    early = lesson_scenario.act("student", "dispute", first)
    assert refused(early) == (409, "too_early")
    assert early.json()["from"] == first["startsAt"]
    assert early.json()["bookingId"] == first["id"]
    subject = f"The lesson of {first['date']} at {first['time']}"
    assert early.json()["message"] == f"{subject} can be disputed from {first['startsAt']} on."
    early = lesson_scenario.act("tutor", "complete", first)
    assert refused(early) == (409, "too_early")

    lesson_scenario.at(lesson_scenario.start(first) - WINDOW + 1)
    late = lesson_scenario.act("student", "cancel", first)
    assert refused(late) == (409, "too_late")
    assert late.json()["until"] == lesson_scenario.booking(first)["cancellableUntil"]
    assert late.json()["message"] == f"{subject} could be cancelled until {late.json()['until']}."

    lesson_scenario.at(lesson_scenario.start(second))
    assert refused(lesson_scenario.act("tutor", "confirm", second)) == (409, "too_late")
    lesson_scenario.at(lesson_scenario.start(first) + HOUR + REVIEW + 1)
    assert refused(lesson_scenario.act("student", "dispute", first)) == (409, "too_late")

    wrong = lesson_scenario.act("student", "dispute", second)
    assert refused(wrong) == (409, "wrong_status")
    assert wrong.json()["lessonStatus"] == "PENDING"
    subject = f"The lesson of {second['date']} at {second['time']}"
    assert wrong.json()["message"] == f"{subject} is pending; only one that is confirmed can be disputed."


def test_only_who_may_act_does(lesson_scenario: LessonScenario) -> None:
    stack = lesson_scenario.stack
    [booking] = lesson_scenario.book()["bookings"]
    money = lesson_scenario.money()
    with watching(stack) as seen:
        assert refused(lesson_scenario.act("student", "confirm", booking)) == (403, "not_yours_to_do")
        assert refused(lesson_scenario.act("tutor", "dispute", booking)) == (403, "not_yours_to_do")
        for act in ("confirm", "cancel", "complete", "dispute"):
            assert refused(lesson_scenario.act("operator", act, booking)) == (403, "not_yours_to_do")
        for who in ("student", "tutor"):
            answer = lesson_scenario.act(who, "resolve", booking, {"tutorShareBps": 5000})
            assert refused(answer) == (403, "not_yours_to_do")
        for stranger in (stack.create_user("student").id, stack.create_user("tutor").id, "nobody-known"):
            client = stack.client(stranger)
            path = f"{SINGLE}/{booking['id']}"
            assert refused(client.get(path)) == (404, "booking_not_found")
            assert refused(client.patch(f"{path}/cancel")) == (404, "booking_not_found")
            assert refused(client.post(f"{path}/confirm-outcome?course_held=true")) == (
                404,
                "booking_not_found",
            )
            assert refused(client.patch(f"{BATCH}/{booking['blockchainTransactionId']}/cancel")) == (
                404,
                "batch_not_found",
            )
    assert seen.transactions == []
    assert lesson_scenario.money() == money
    assert lesson_scenario.act("tutor", "confirm", booking).status_code == 200


def test_what_is_done_is_done_and_asking_again_costs_nothing(lesson_scenario: LessonScenario) -> None:
    [booking] = lesson_scenario.book()["bookings"]
    with watching(lesson_scenario.stack) as seen:
        first = lesson_scenario.act("tutor", "confirm", booking)
        assert lesson_scenario.act("tutor", "confirm", booking).json() == first.json()
        assert lesson_scenario.act("student", "cancel", booking).status_code == 200
        # The student was quicker, and the tutor wanted the same.
        tutors = lesson_scenario.act("tutor", "cancel", booking)
        assert tutors.status_code == 200
        assert tutors.json()["data"]["transactionHash"] is None
        assert tutors.json()["data"]["bookings"][0]["status"] == "CANCELLED"
        assert refused(lesson_scenario.act("tutor", "confirm", booking)) == (409, "wrong_status")
        assert refused(lesson_scenario.act("student", "complete", booking)) == (409, "wrong_status")
    assert len(seen.transactions) == 2


# --- Several lessons ---


def test_lessons_of_a_batch_are_named_or_all_and_all_or_none(lesson_scenario: LessonScenario) -> None:
    batch = lesson_scenario.book(60, 30, 45)
    path, [first, second, third] = f"{BATCH}/{batch['batchId']}", batch["bookings"]
    with watching(lesson_scenario.stack) as seen:
        some = lesson_scenario.tutor.patch(
            f"{path}/confirm", json={"lessons": [third["id"], first["id"], first["id"]]}
        )
        assert [b["id"] for b in some.json()["data"]["bookings"]] == [first["id"], third["id"]]
        every = lesson_scenario.tutor.patch(f"{path}/confirm")
        assert [b["status"] for b in every.json()["data"]["bookings"]] == ["CONFIRMED"] * 3
        lesson_scenario.at(lesson_scenario.start(first) - WINDOW + 1)
        none = lesson_scenario.student.patch(f"{path}/cancel")
        assert refused(none) == (409, "too_late")
        assert none.json()["bookingId"] == first["id"]
        two = lesson_scenario.student.patch(f"{path}/cancel", json={"lessons": [second["id"], third["id"]]})
        assert two.status_code == 200, two.text
    assert two.json()["message"] == "2 lessons cancelled: 41.666666666666666663 EDU to the student."
    assert len(seen.transactions) == 3
    assert len(seen.transfers) == 1
    until(
        lambda: (
            [b["status"] for b in lesson_scenario.student.get(path).json()["data"]["bookings"]]
            == ["CONFIRMED", "CANCELLED", "CANCELLED"]
        )
    )


def test_a_misspelled_field_does_not_act_on_the_whole_batch(lesson_scenario: LessonScenario) -> None:
    batch = lesson_scenario.book(60, 30)
    [first, _] = batch["bookings"]
    path = f"{BATCH}/{batch['batchId']}/confirm"
    with watching(lesson_scenario.stack) as seen:
        answer = lesson_scenario.tutor.patch(path, json={"lesson": [first["id"]]})
    assert refused(answer) == (422, "invalid_request")
    assert [error["field"] for error in answer.json()["errors"]] == ["lesson"]
    assert seen.transactions == []
    assert lesson_scenario.tutor.patch(path, json={"lessons": [first["id"]]}).status_code == 200


def test_a_lesson_of_another_batch_is_refused(lesson_scenario: LessonScenario) -> None:
    mine, other = lesson_scenario.book(days=10), lesson_scenario.book(days=11)
    path = f"{BATCH}/{mine['batchId']}/confirm"
    answer = lesson_scenario.tutor.patch(path, json={"lessons": [other["bookings"][0]["id"]]})
    assert refused(answer) == (409, "other_batch")
    strangers = LessonScenario.of(lesson_scenario.stack).book()["bookings"][0]["id"]
    assert refused(lesson_scenario.tutor.patch(path, json={"lessons": [strangers]})) == (
        404,
        "booking_not_found",
    )
    for lessons in ([], ["1"], [0], "all", [other["batchId"]] * 41):
        assert refused(lesson_scenario.tutor.patch(path, json={"lessons": lessons})) == (
            422,
            "invalid_request",
        )


# --- Wallets ---


@pytest.fixture
def outside(stack: DevStack) -> Outside:
    """Student and tutor with wallets, who book and publish without the shim."""
    return Outside(stack)


@pytest.fixture(scope="module")
def parties(stack: DevStack) -> tuple[User, User]:
    """Student and tutor as users: a wallet is one user's."""
    student, tutor = (stack.create_user(role, wallet=w) for role, w in Outside(stack).parties.items())
    return student, tutor


def test_wallets_sign_what_was_prepared_for_lessons_that_were_booked_elsewhere(
    stack: DevStack, outside: Outside, parties: tuple[User, User]
) -> None:
    student, tutor = parties
    clients = {"student": stack.client(student.id), "tutor": stack.client(tutor.id)}
    keys = {"student": stack.account(4), "tutor": stack.account(5)}
    batch = outside.book()
    path = f"{BATCH}/{batch.hex}"
    until(lambda: clients["tutor"].get(path).status_code == 200)
    [first, second, third] = clients["student"].get(path).json()["data"]["bookings"]
    assert (first["studentId"], first["tutorId"], first["annonceId"]) == (student.id, tutor.id, None)
    assert (first["description"], first["studentNotes"]) == (None, None)
    before = stack.balance(outside.student), stack.balance(outside.tutor)
    for who, act, lessons in (
        ("tutor", "confirm", [first["id"], second["id"]]),
        ("student", "cancel", [first["id"]]),
        ("student", "complete", None),
    ):
        client, method = clients[who], "PATCH"
        body = {"lessons": lessons} if lessons else {}
        bare = client.request(method, f"{path}/{act}", json=body)
        assert refused(bare) == (409, "signature_required")
        with watching(stack) as seen:
            prepared = client.post(f"{path}/{act}/prepare", json=body)
        assert prepared.status_code == 200, prepared.text
        lesson_models.PreparedActAnswer.model_validate(prepared.json())
        assert seen.transactions == []
        data = prepared.json()["data"]
        assert data["signer"] == keys[who].address
        assert data["lessons"] == (lessons or [second["id"], third["id"]])
        message = encode_typed_data(full_message=data["typedData"])
        deadline = data["typedData"]["message"]["deadline"]
        assert deadline - outside.now() == stack.settings.act_seconds
        for key in (Account.create(), keys["tutor" if who == "student" else "student"]):
            signed = {"lessons": data["lessons"], "signature": to_hex(key.sign_message(message).signature)}
            signed["deadline"] = deadline
            assert refused(client.request(method, f"{path}/{act}", json=signed)) == (409, "wrong_signer")
        right = bytes(keys[who].sign_message(message).signature)
        later = signed | {"signature": to_hex(right), "deadline": deadline + 1}
        assert refused(client.request(method, f"{path}/{act}", json=later)) == (409, "wrong_signer")
        # Some wallets count v from 0.
        signed["signature"] = to_hex(right if act == "confirm" else right[:64] + bytes([right[64] - 27]))
        done = client.request(method, f"{path}/{act}", json=signed)
        assert done.status_code == 200, done.text
        assert [b["id"] for b in done.json()["data"]["bookings"]] == data["lessons"]
    prices = [lesson_amount(RATE_OUTSIDE, minutes) for minutes in (60, 45, 30)]
    after = stack.balance(outside.student), stack.balance(outside.tutor)
    assert after == (before[0] + prices[0], before[1] + prices[1] + prices[2])


def test_what_would_be_refused_is_not_prepared(lesson_scenario: LessonScenario) -> None:
    [booking] = lesson_scenario.book()["bookings"]
    assert refused(lesson_scenario.act("student", "dispute/prepare", booking)) == (409, "wrong_status")
    assert refused(lesson_scenario.act("student", "confirm/prepare", booking)) == (403, "not_yours_to_do")
    assert lesson_scenario.act("tutor", "confirm/prepare", booking).status_code == 200
    assert lesson_scenario.act("tutor", "confirm", booking).status_code == 200
    assert refused(lesson_scenario.act("tutor", "confirm/prepare", booking)) == (409, "wrong_status")


@pytest.mark.parametrize("signature", ["", "12", "0x1", "0xzz", 7])
def test_a_signature_is_hex(lesson_scenario: LessonScenario, signature: object) -> None:
    [booking] = lesson_scenario.book()["bookings"]
    answer = lesson_scenario.act("tutor", "confirm", booking, {"signature": signature, "deadline": 2**40 - 1})
    assert refused(answer) == (422, "invalid_request")


@pytest.mark.parametrize(
    "body", [{"signature": "0x12"}, {"deadline": 1}, {"signature": "0x12", "deadline": 2**40}]
)
def test_a_signature_comes_with_its_deadline(
    lesson_scenario: LessonScenario, body: dict[str, object]
) -> None:
    [booking] = lesson_scenario.book()["bookings"]
    assert refused(lesson_scenario.act("tutor", "confirm", booking, body)) == (422, "invalid_request")


def test_a_signature_counts_until_its_deadline(
    stack: DevStack, outside: Outside, parties: tuple[User, User]
) -> None:
    client, key = stack.client(parties[1].id), stack.account(5)
    path = f"{BATCH}/{outside.book().hex}"
    until(lambda: client.get(path).status_code == 200)
    asked = client.post(f"{path}/confirm/prepare").json()["data"]["typedData"]
    signature = to_hex(key.sign_message(encode_typed_data(full_message=asked)).signature)
    signed = {"signature": signature, "deadline": asked["message"]["deadline"]}
    outside.at(signed["deadline"] + 1)
    assert refused(client.patch(f"{path}/confirm", json=signed)) == (409, "expired")
    again = client.post(f"{path}/confirm/prepare").json()["data"]["typedData"]
    signature = to_hex(key.sign_message(encode_typed_data(full_message=again)).signature)
    signed = {"signature": signature, "deadline": again["message"]["deadline"]}
    assert client.patch(f"{path}/confirm", json=signed).status_code == 200


# --- At once ---


def test_two_people_act_at_once_on_one_lesson(lesson_scenario: LessonScenario) -> None:
    """One of them is quicker; the other's act costs nothing and says what happened."""
    [booking] = lesson_scenario.book()["bookings"]
    assert lesson_scenario.act("tutor", "confirm", booking).status_code == 200
    before = lesson_scenario.money()
    price = int(booking["amountWei"])
    with watching(lesson_scenario.stack) as seen, ThreadPoolExecutor(4) as pool:
        with paused(lesson_scenario.stack):
            calls = [("student", "complete"), ("tutor", "cancel")] * 2
            answers = [pool.submit(lesson_scenario.act, who, act, booking) for who, act in calls]
            # Both are in the outbox, one of them at the node.
            until(lambda: int(lesson_scenario.stack.rpc("txpool_status")["pending"], 16) == 1)
        results = [answer.result() for answer in answers]
    assert len(seen.transactions) == 1
    statuses = [result.status_code for result in results]
    assert sorted(statuses) == [200, 200, 409, 409]
    completed = statuses[0] == 200
    assert {refused(result) for result in results if result.status_code == 409} == {(409, "wrong_status")}
    gains = (0, price) if completed else (price, 0)
    assert lesson_scenario.money() == (before[0] + gains[0], before[1] + gains[1], before[2] - price)


def test_an_act_goes_on_without_its_client(lesson_scenario: LessonScenario) -> None:
    [booking] = lesson_scenario.book()["bookings"]
    with paused(lesson_scenario.stack):
        answer = lesson_scenario.act("tutor", "confirm", booking, headers={"Prefer": "respond-async"})
        assert answer.status_code == 202
        assert answer.json()["data"]["bookings"][0]["status"] == "PENDING"
        assert answer.json()["message"] == "1 lesson confirmed, on the way."
    until(lambda: lesson_scenario.booking(booking)["status"] == "CONFIRMED")
    assert lesson_scenario.act("tutor", "confirm", booking).status_code == 200


def test_an_act_on_its_way_says_where_to_ask(lesson_scenario: LessonScenario) -> None:
    """A batch is its parties' to read; to others it does not exist, nor does a batch by its own id."""
    data = lesson_scenario.book()
    with paused(lesson_scenario.stack):
        answer = lesson_scenario.act(
            "tutor", "confirm", data["bookings"][0], headers={"Prefer": "respond-async"}
        )
        where = answer.headers["location"]
        waits = lesson_scenario.student.get(where).json()
        assert (waits["success"], waits["message"]) == (True, "On its way.")
        assert waits["data"]["batchId"] == data["batchId"]
    until(lambda: lesson_scenario.tutor.get(where).json()["data"]["state"] in {"mined", "final"})
    told = lesson_scenario.tutor.get(where).json()
    assert (told["message"], told["data"]["code"], told["data"]["gasUsed"] > 0) == ("Done.", None, True)
    stranger = lesson_scenario.stack.client(lesson_scenario.stack.create_user("student").id)
    for client, path in ((stranger, where), (lesson_scenario.student, where[:-64] + data["batchId"][2:])):
        assert refused(client.get(path)) == (404, "act_not_found")


def test_what_is_not_in_a_block_can_not_be_acted_on_yet(lesson_scenario: LessonScenario) -> None:
    lesson_scenario.book()
    with paused(lesson_scenario.stack):
        answer = lesson_scenario.scenario.post(
            lesson_scenario.scenario.body({"date": "2090-01-02", "time": "09:00", "amount": RATE}),
            headers={"Prefer": "respond-async"},
        )
        [booking] = answer.json()["data"]["bookings"]
        assert lesson_scenario.booking(booking)["blockchainStatus"] == "PENDING"
        assert refused(lesson_scenario.act("tutor", "confirm", booking)) == (409, "not_booked_yet")
