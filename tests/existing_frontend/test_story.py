"""The whole story at the existing frontend: two lessons and three, and what becomes of each."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from frontend import Frontend
from scene import ENGLISH, RATE, Scene, sentences

from creneau.amounts import to_wei

NOTE = "Apportez vos exercices du chapitre 3."
REASON = "Je suis malade, désolée."
RATE_WEI = to_wei(Decimal(RATE))


def lists(person: Frontend, user_id: str) -> dict[str, list[dict[str, Any]]]:
    data = person.data("GET", f"/booking/all/{user_id}?")
    assert data["total"] == len(data["asStudent"]) + len(data["asTutor"])
    return {"student": data["asStudent"], "tutor": data["asTutor"]}


def by_id(person: Frontend, user_id: str, role: str) -> dict[str, dict[str, Any]]:
    return {lesson["id"]: lesson for lesson in lists(person, user_id)[role]}


def views(scene: Scene) -> list[dict[str, dict[str, Any]]]:
    """Return the lessons as student and tutor see them, by id."""
    return [
        by_id(scene.student, scene.student_id, "student"),
        by_id(scene.tutor, scene.tutor_id, "tutor"),
    ]


def test_five_lessons_from_booking_to_payment(scene: Scene) -> None:
    scene.assert_adds_up()
    first, second, third, fourth, fifth = ids = booked(scene)
    seen_by_both(scene, ids)
    agreed_to(scene, first, second, third)
    assert {lesson["id"] for lesson in pending(scene)} == {fourth, fifth}
    called_off(scene, fourth, fifth)
    paid_out(scene, first, second)
    courses = {each["id"]: each["coursePassed"] for each in scene.courses()}
    assert courses == {first: True, second: True, third: False}
    counts = scene.student.data("GET", f"/booking/{scene.student_id}/stats")
    names = ("total", "pending", "confirmed", "cancelled", "completed")
    assert [counts[name] for name in names] == [5, 0, 1, 2, 2]
    said = [text for answer in scene.answers for text in sentences(answer.json())]
    assert len(said) > 50
    assert [text for text in said if ENGLISH.search(text)] == []


def pending(scene: Scene) -> list[dict[str, Any]]:
    path = f"/booking/user/{scene.student_id}?status=pending"
    lessons: list[dict[str, Any]] = scene.student.data("GET", path)
    return lessons


def booked(scene: Scene) -> list[str]:
    """Two lessons, then three: what is charged is exact, and the tutor's share is locked."""
    two = scene.book(("09:00", 60), ("10:00", 90))
    scene.assert_adds_up()
    three = scene.book(("14:00", 30), ("15:00", 60), ("16:00", 120), studentNotes="Chapitre 3")
    scene.assert_adds_up()
    paid = RATE_WEI * 6  # 60 + 90 + 30 + 60 + 120 minutes.
    assert scene.stack.balance(scene.wallet(scene.student_id)) == to_wei(1000) - paid
    locked = scene.money(scene.tutor, f"/balance?userId={scene.tutor_id}")["wallet"]["locked"]
    assert to_wei(locked) == paid
    return [lesson["id"] for lesson in (*two, *three)]


def seen_by_both(scene: Scene, ids: list[str]) -> None:
    """Both see all five, each with the other's name."""
    mine, theirs = views(scene)
    assert set(mine) == set(theirs) == set(ids)
    assert lists(scene.student, scene.student_id)["tutor"] == []
    assert lists(scene.tutor, scene.tutor_id)["student"] == []
    tutor = mine[ids[0]]["tutor"]
    assert (tutor["firstName"], tutor["lastName"]) == ("Dominique", "Moreau")
    assert tutor["email"] == "dominique.moreau@example.org"
    there = theirs[ids[2]]
    assert (there["student"]["firstName"], there["myRole"]) == ("Camille", "tutor")
    assert (there["studentNotes"], there["annonce"]["subject"]) == ("Chapitre 3", "Deep Learning")
    assert there["startTime"] == int(datetime.fromisoformat(there["startsAt"]).timestamp())


def agreed_to(scene: Scene, with_note: str, *others: str) -> None:
    """The tutor agrees, once with a note and else without."""
    scene.tutor.data("PATCH", f"/booking/{with_note}/confirm", {"tutorNotes": NOTE})
    for lesson in others:
        scene.tutor.data("PATCH", f"/booking/{lesson}/confirm", {"tutorNotes": ""})
    scene.assert_adds_up()
    for lessons in views(scene):
        assert {lessons[each]["status"] for each in (with_note, *others)} == {"CONFIRMED"}
        assert [lessons[each]["tutorNotes"] for each in (with_note, others[0])] == [NOTE, None]
    courses = scene.courses()
    assert {course["id"] for course in courses} == {with_note, *others}
    assert not any(course["coursePassed"] for course in courses)


def called_off(scene: Scene, by_student: str, by_tutor: str) -> None:
    """One is called off with a reason, one without: the money comes back at once."""
    before = scene.stack.balance(scene.wallet(scene.student_id))
    scene.student.data("PATCH", f"/booking/{by_student}/cancel", {"reason": REASON})
    scene.assert_adds_up()
    scene.tutor.data("PATCH", f"/booking/{by_tutor}/cancel", {})
    scene.assert_adds_up()
    for lessons in views(scene):
        one, other = lessons[by_student], lessons[by_tutor]
        assert one["status"] == other["status"] == one["blockchainStatus"] == "CANCELLED"
        assert (one["cancelledBy"], one["cancellationReason"]) == ("student", REASON)
        assert (other["cancelledBy"], other["cancellationReason"]) == ("tutor", None)
    assert scene.stack.balance(scene.wallet(scene.student_id)) - before == RATE_WEI * 3


def paid_out(scene: Scene, at_once: str, by_outcome: str) -> None:
    """One is completed by the student at once, one after its start by what both say of it."""
    student, tutor, wallet = scene.student, scene.tutor, scene.wallet(scene.tutor_id)
    student.data("PATCH", f"/booking/{at_once}/complete")
    scene.assert_adds_up()
    assert scene.stack.balance(wallet) == RATE_WEI
    details = student.data("GET", f"/booking/{by_outcome}")
    assert (details["canConfirmOutcome"], details["canCancel"]) == (False, True)
    assert details["outcome"] == "NOT_DECIDED"
    scene.pass_until(details["startTime"])
    details = student.data("GET", f"/booking/{by_outcome}")
    assert (details["canConfirmOutcome"], details["canCancel"]) == (True, False)
    tutor.data("POST", f"/booking/{by_outcome}/confirm-outcome?course_held=true", {})
    scene.assert_adds_up()
    assert student.data("GET", f"/booking/{by_outcome}")["status"] == "CONFIRMED"
    student.data("POST", f"/booking/{by_outcome}/confirm-outcome?course_held=true", {})
    scene.assert_adds_up()
    details = student.data("GET", f"/booking/{by_outcome}")
    assert (details["status"], details["outcome"]) == ("COMPLETED", "COURSE_HELD")
    assert details["studentConfirmed"] is details["tutorConfirmed"] is True
    assert scene.stack.balance(wallet) == RATE_WEI * 5 // 2
