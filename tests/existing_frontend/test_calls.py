"""Every call of calls.toml, over HTTP: it succeeds, and nothing that a page reads is undefined."""

import httpx
import pytest
from frontend import CALLS, Call, given, mistakes
from scene import ENGLISH, Scene, sentences

from api.app import create_app

EVERY = [(call, who) for call in CALLS for who in call.who]


@pytest.mark.parametrize(("call", "who"), EVERY, ids=[f"{call.name} as {who}" for call, who in EVERY])
def test_a_call_gets_what_its_page_reads(scene: Scene, call: Call, who: str) -> None:
    lesson = scene.lesson(call.stands)
    if call.name.startswith("getStudentCourses"):
        scene.tutor.data("PATCH", f"/booking/{lesson['id']}/confirm", {"tutorNotes": ""})
    if who == "tutor" and "student" in call.path:  # Tutors book lessons, too.
        scene.fund(scene.tutor_id, 100)
        other = scene.users.add_profile(scene.users.add_user("tutor", "Claude", "Petit"))
        listing = scene.users.add_listing(other, scene.rate, "Cours d'allemand")
        scene.tutor.data(
            "POST", "/booking/batch", scene.order(("11:00", 60), tutorId=other, annonceId=listing)
        )
    values = {
        "me": getattr(scene, f"{who}_id"),
        "profile": scene.profile_id,
        "annonce": scene.listing_id,
        "booking": lesson["id"],
        "day": scene.free_day(),
        "clock": "15:00",
    }
    body = given(call.body, values)
    if call.method == "POST" and "booking" in call.path and "outcome" not in call.path:
        for slot in body.get("bookings", [body]):
            slot["amount"] = float(scene.rate) * slot["duration"] / 60
            slot["amount"] = float(f"{slot['amount']:.2f}")
    answer = getattr(scene, who).ask(call.method, given(call.path, values), body)
    assert answer.status_code == 200, answer.text
    assert mistakes(answer.json(), call.reads) == []
    assert _lists(answer) == [], "an empty list shows nothing of its elements"
    assert [text for text in sentences(answer.json()) if ENGLISH.search(text)] == []


def _lists(answer: httpx.Response) -> list[str]:
    """Return the lists of lessons or payments of an answer that are all empty."""
    data = answer.json().get("data")
    if isinstance(data, list):
        return [] if data else ["data"]
    named = {name: data[name] for name in ("asStudent", "asTutor", "transactions") if name in (data or {})}
    return [*named] if named and not any(named.values()) else []


def test_the_list_has_every_documented_call_of_the_room() -> None:
    listed = {(call.method, _shape(call.path)) for call in CALLS}
    document = create_app().openapi()
    documented = {
        (method.upper(), _shape(path.removeprefix("/api/blockchain")))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if "existing frontend" in operation["tags"]
    }
    assert documented <= listed
    others = {("POST", "/booking"), ("POST", "/booking/batch"), ("PATCH", "/booking/{}/complete")}
    assert listed - documented == others | {("POST", "/booking/{}/confirm-outcome")}


def _shape(path: str) -> str:
    parts = path.partition("?")[0].strip("/").split("/")
    return "/" + "/".join("{}" if part.startswith("{") else part for part in parts)
