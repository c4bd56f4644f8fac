"""Around the calls: repeats, languages, names, notes, tokens, and how often anybody is asked."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from frontend import Frontend
from scene import ENGLISH, Scene, sentences
from sqlalchemy import event

import api.schemas
import creneau
from api.app import create_app
from api.french import OWN_REASONS
from api.language import preferred
from api.services import Services
from tools.dev_stack import DevStack

schemas, sdk = Path(api.schemas.__path__[0]), Path(creneau.__path__[0])
ALL = "/booking/all/{me}?"
OPERATOR = "the-operator"


def everybody_sees(scene: Scene, lesson: str) -> list[dict[str, Any]]:
    return [person.data("GET", f"/booking/{lesson}") for person in (scene.student, scene.tutor)]


# --- The same request again ---


def test_the_same_request_without_a_key_is_the_same_batch(scene: Scene) -> None:
    order = scene.order(("09:00", 60), ("10:00", 60))
    first, again = (scene.student.data("POST", "/booking/batch", order) for _ in range(2))
    assert first["batchId"] == again["batchId"]
    assert scene.stack.balance(scene.wallet(scene.student_id)) == 1000 * 10**18 - 2 * 3333 * 10**16


def test_the_same_request_at_once_is_the_same_batch(scene: Scene) -> None:
    order = scene.order(("09:00", 60))
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: scene.student.ask("POST", "/booking/batch", order), range(6)))
    assert Counter(answer.status_code for answer in answers) == {200: 6}
    assert len({answer.json()["data"]["batchId"] for answer in answers}) == 1


def test_after_a_cancellation_the_same_request_is_a_new_batch(scene: Scene) -> None:
    order = scene.order(("09:00", 60))
    first = scene.student.data("POST", "/booking/batch", order)
    scene.tutor.data("PATCH", f"/booking/{first['bookings'][0]['id']}/cancel", {})
    again = scene.student.data("POST", "/booking/batch", order)
    assert first["batchId"] != again["batchId"]
    assert again["bookings"][0]["status"] == "PENDING"


def test_another_request_for_a_taken_time_names_the_students_own_batch(scene: Scene) -> None:
    order = scene.order(("09:00", 60))
    first = scene.student.data("POST", "/booking/batch", order)
    day = order["bookings"][0]["date"]
    answer = scene.student.ask("POST", "/booking/batch", order | {"studentNotes": "Encore"})
    assert answer.status_code == 409
    [failure] = answer.json()["failures"]
    assert (failure["code"], failure["batchId"]) == ("taken", first["batchId"])
    said = f"Le cours du {day} à 09:00 est déjà pris par votre propre lot {first['batchId']}."
    assert failure["error"] == said
    assert answer.json()["message"] == f"Rien n'est réservé. {said}"


def test_a_block_that_takes_too_long_is_no_error_and_no_second_batch(scene: Scene) -> None:
    stack, order = scene.stack, scene.order(("09:00", 60))
    stack.stop_shim()
    stack.start_shim(wait_seconds=0.5)
    try:
        stack.rpc("evm_setAutomine", False)
        try:
            answers = [scene.student.ask("POST", "/booking/batch", order) for _ in range(2)]
        finally:
            stack.rpc("evm_mine")
            stack.rpc("evm_setAutomine", True)
        assert [answer.status_code for answer in answers] == [202, 202]
        for answer in answers:  # What the booking page needs, to go on to the wallet.
            assert answer.json()["success"] is True
            assert answer.json()["data"]["count"] == 1
        assert len({answer.json()["data"]["batchId"] for answer in answers}) == 1
        assert scene.student.data("POST", "/booking/batch", order)["state"] in {"mined", "final"}
    finally:
        stack.stop_shim()
        stack.start_shim()
    lessons = scene.student.data("GET", ALL.format(me=scene.student_id))["asStudent"]
    assert len(lessons) == 1


def test_too_little_money_is_payment_required(scene: Scene) -> None:
    poor = scene.frontend(scene.users.add_user("student", "Alix", "Noël"))
    order = scene.order(("09:00", 60))
    [slot] = order.pop("bookings")
    answer = poor.ask("POST", "/booking", order | slot)
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_balance")
    said = "Le prix de 1 cours est de 33.33 EDU, et vous avez 0 EDU. Rien n'est réservé."
    assert answer.json()["message"] == said


# --- Languages ---


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("fr", "fr"),
        ("fr-CA, en;q=0.8", "fr"),
        ("en;q=0.4, FR;q=0.5", "fr"),
        ("de, fr;q=0.2", "fr"),
        ("en, fr", "en"),
        ("fr;q=0", "en"),
        ("en;q=0, *", "fr"),
        ("*", "en"),
        ("de", "en"),
        ("", "en"),
        ("fr;q=1;level=2, ,;;", "en"),
        ("é" * 5000, "en"),
    ],
)
def test_the_header_decides_the_language(header: str, language: str) -> None:
    assert preferred(header) == language


def test_every_refusal_is_in_the_language_asked_for(scene: Scene) -> None:
    lesson = scene.lesson("pending")["id"]
    wrong = scene.order(("09:07", 60), ("10:00", 20), ("11:00", 60))
    wrong["bookings"][2]["amount"] = 1.0
    calls = [
        ("POST", "/booking/batch", wrong),
        ("POST", "/booking/batch", {}),
        ("POST", f"/booking/{lesson}/dispute", {}),
        ("PATCH", f"/booking/{lesson}/confirm", {"tutorNotes": ""}),
        ("PATCH", f"/booking/{lesson}/confirm", {"tutorNotes": 1}),
        ("GET", f"/booking/all/{scene.tutor_id}?", None),
        ("GET", f"/booking/all/{scene.student_id}?status=jamais", None),
        ("GET", "/booking/0x00", None),
        ("GET", f"/history?userId={scene.student_id}&startDate=hier&limit=0", None),
        ("GET", "/rien", None),
    ]
    for call in calls:
        french = scene.student.ask(*call)
        assert french.status_code >= 400, call
        assert french.headers["content-language"] == "fr"
        assert "Accept-Language" in french.headers["vary"]
        said = [text for text in sentences(french.json()) if ENGLISH.search(text)]
        assert said == [], call
        scene.student.client.headers["Accept-Language"] = "en"
        english = scene.student.ask(*call)
        scene.student.client.headers["Accept-Language"] = "fr"
        assert english.json()["code"] == french.json()["code"]
        assert english.json()["message"] != french.json()["message"], call


def test_every_reason_that_a_field_can_have_is_told_in_french() -> None:
    """Models of requests say some of them in their own words."""
    sources = (schemas / "requests.py", schemas / "existing_frontend.py", sdk / "amounts.py")
    said = {found for file in sources for found in re.findall(r'ValueError\(f?"([^"{]+)', file.read_text())}
    assert len(said) > 10
    unknown = {each for each in said if not any(known.startswith(each.strip(": ")) for known in OWN_REASONS)}
    assert unknown == {"not an amount: "}  # Of floats, which no request has.


def test_the_reason_of_a_lesson_is_in_the_readers_language_whoever_booked(scene: Scene) -> None:
    order = scene.order(("09:00", 60), ("09:10", 60))
    booked = scene.student.data("POST", "/booking/batch", order)
    assert "quart d'heure" in booked["failures"][0]["error"]
    scene.student.client.headers["Accept-Language"] = "en-GB"
    seen = scene.student.data("GET", f"/booking/batch/{booked['batchId']}")
    assert "quarter of an hour" in seen["failures"][0]["error"]


# --- Notes ---


def test_notes_have_a_limit_and_are_kept_as_they_were_said(scene: Scene) -> None:
    lesson = scene.lesson("pending")["id"]
    long = "é" * 2001
    for person, path, field in ((scene.tutor, "confirm", "tutorNotes"), (scene.student, "cancel", "reason")):
        answer = person.ask("PATCH", f"/booking/{lesson}/{path}", {field: long})
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    note = "Ligne 1\nLigne 2 " + "é" * 1984
    scene.tutor.data("PATCH", f"/booking/{lesson}/confirm", {"tutorNotes": note})
    assert {seen["tutorNotes"] for seen in everybody_sees(scene, lesson)} == {note}


def test_descriptions_and_notes_of_a_booking_have_a_limit(scene: Scene) -> None:
    for field, most in (("description", 10_000), ("studentNotes", 2000)):
        refused = scene.student.ask(
            "POST", "/booking/batch", scene.order(("09:00", 60), **{field: "é" * (most + 1)})
        )
        assert refused.status_code == 422
        [error] = refused.json()["errors"]
        assert (error["field"], error["message"]) == (field, f"au plus {most} caractères")
        [lesson] = scene.book(("09:00", 60), **{field: "é" * most})
        assert lesson[field] == "é" * most


def test_a_refused_action_keeps_no_note(scene: Scene) -> None:
    lesson = scene.lesson("pending")["id"]
    answer = scene.student.ask("PATCH", f"/booking/{lesson}/confirm", {"tutorNotes": "Moi"})
    assert answer.status_code == 403
    scene.tutor.data("PATCH", f"/booking/{lesson}/cancel", {"reason": "Complet"})
    scene.student.data("PATCH", f"/booking/{lesson}/cancel", {"reason": "Trop tard"})
    for seen in everybody_sees(scene, lesson):
        assert (seen["tutorNotes"], seen["cancelledBy"]) == (None, "tutor")
        assert seen["cancellationReason"] == "Complet"


def test_notes_names_and_addresses_reach_nobody_else_and_no_log(scene: Scene) -> None:
    lesson = scene.lesson("pending")["id"]
    secret = "Un mot entre nous deux"
    scene.tutor.data("PATCH", f"/booking/{lesson}/confirm", {"tutorNotes": secret})
    scene.student.data("PATCH", f"/booking/{lesson}/cancel", {"reason": secret[::-1]})
    client = scene.stack.client(OPERATOR)
    seen = client.get(f"/api/blockchain/booking/all/{scene.student_id}").json()["data"]["asStudent"]
    assert [each["status"] for each in seen] == ["CANCELLED"]
    nobody = {"firstName": "", "lastName": "", "email": ""}
    for each in (*seen, client.get(f"/api/blockchain/booking/{lesson}").json()["data"]):
        assert each["student"] == each["tutor"] == nobody
        assert each["tutorNotes"] is each["cancellationReason"] is each["myRole"] is None
    for path in ("balance", "history", "stats"):
        answer = client.get(f"/api/blockchain/{path}", params={"userId": scene.student_id})
        assert answer.status_code == 200
        assert not any(word in answer.text for word in ("Camille", "Durand", "Dominique", "@example.org"))
    log = scene.stack.log_file.read_text()
    for word in (secret, secret[::-1], "Camille", "Dominique", "@example.org"):
        assert word not in log


def test_a_transfer_names_people_who_share_a_lesson_only(scene: Scene) -> None:
    stranger = scene.users.add_user("student", "Inconnue", "Totale")
    scene.lesson("pending")
    for sender in (scene.wallet(stranger), scene.wallet(scene.tutor_id)):
        scene.stack.mint(sender, 5 * 10**18)
        _transfer(scene, sender, scene.wallet(scene.student_id))
    entries = scene.history(scene.student, scene.student_id)
    given = [each for each in entries if each["transactionType"] == "TRANSFER"]
    people = [(each["fromWallet"]["user"] or {}).get("firstName") for each in given]
    assert sorted(people, key=str) == ["Dominique", None]
    scene.assert_adds_up()


def _transfer(scene: Scene, sender: str, recipient: str) -> None:
    from creneau import abi

    scene.stack.rpc("anvil_setBalance", sender, hex(10**18))
    scene.stack.rpc("anvil_impersonateAccount", sender)
    data = abi.call_data("EduToken", "transfer", recipient, 5 * 10**18)
    scene.stack.send(sender, scene.stack.edu, data)
    scene.stack.rpc("anvil_stopImpersonatingAccount", sender)


# --- The user service ---


def test_the_callers_token_is_forwarded_and_nobody_elses(scene: Scene) -> None:
    scene.users.tokens.clear()
    scene.book(("09:00", 60))
    token = f"Bearer {scene.users.token(scene.student_id)}"
    assert {each and each[:40] for each in scene.users.tokens} == {token[:40]}
    assert scene.student.token not in scene.stack.log_file.read_text()


def test_without_forwarding_the_refusal_is_told(scene: Scene) -> None:
    stack, order = scene.stack, scene.order(("09:00", 60))
    stack.stop_shim()
    stack.start_shim(directory_forwards_token=False)
    try:
        answer = scene.student.ask("POST", "/booking/batch", order)
    finally:
        stack.stop_shim()
        stack.start_shim()
    assert (answer.status_code, answer.json()["code"]) == (502, "directory_refused")
    assert answer.json()["message"].startswith("Le service des utilisateurs a répondu 401")


def test_what_anybody_may_read_is_asked_for_with_the_token_that_came(scene: Scene) -> None:
    """Without one, this user service answers 401."""
    calendar, listing = f"/tutor/{scene.profile_id}/calendar", f"/annonce/{scene.listing_id}"
    known = (calendar, listing)
    for path in known:
        scene.users.tokens.clear()
        assert scene.student.ask("GET", path).status_code == 200
        assert {*scene.users.tokens} == {f"Bearer {scene.student.token}"}
    for headers, code in (
        ({"Authorization": ""}, "token_missing"),
        ({"Authorization": "Bearer x"}, "invalid_token"),
    ):
        answers = [scene.student.client.get(path, headers=headers) for path in known]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(401, code)] * 2


def test_lessons_are_listed_without_names_when_the_user_service_knows_nobody(scene: Scene) -> None:
    scene.book(("09:00", 60))
    tutor = scene.users.users.pop(scene.tutor_id)
    try:
        [lesson] = scene.student.data("GET", ALL.format(me=scene.student_id))["asStudent"]
    finally:
        scene.users.users[scene.tutor_id] = tutor
    assert lesson["tutor"] == {"firstName": "", "lastName": "", "email": ""}
    assert lesson["student"]["firstName"] == "Camille"


# --- How often anybody is asked ---


@contextmanager
def counted(services: Services) -> Iterator[Counter[str]]:
    """Count the statements and the round trips to the node meanwhile."""
    asked: Counter[str] = Counter()

    def statement(*_: object) -> None:
        asked["statements"] += 1

    call_many = services.chain.node.call_many

    def counting(calls: Any) -> Any:
        asked["round trips"] += 1
        return call_many(calls)

    engine = services.store._reader
    event.listen(engine, "before_cursor_execute", statement)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services.chain.node, "call_many", counting)
        yield asked
    event.remove(engine, "before_cursor_execute", statement)


def test_a_page_of_fifty_lessons_asks_as_often_as_one_of_two(scene: Scene, stack: DevStack) -> None:
    """Fifty lessons with as many tutors: the user service has no route for several people."""
    scene.fund(scene.student_id, 10_000)
    listings: dict[str, str] = {}
    for place in range(50):
        tutor = scene.users.add_user("tutor", f"Tutor{place}", "Martin")
        profile = scene.users.add_profile(tutor)
        listing = scene.users.add_listing(profile, scene.rate, f"Cours {place}")
        listings[f"Tutor{place}"] = f"Cours {place}"
        scene.book(("09:00", 30), tutorId=profile, annonceId=listing)
    services = Services.build(stack.settings)
    app = create_app(services)

    async def get(path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {scene.student.token}"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url=scene.stack.url, headers=headers
        ) as client:
            return await client.get(f"/api/blockchain/{path}")

    def asked(path: str) -> tuple[Any, Counter[str], int]:
        """Return the answer's data, statements and round trips, and how many entries were asked for."""
        for kept in (services.directory._names, services.directory._annonces):  # type: ignore[attr-defined]
            kept._fresh.clear()  # As a process that has just started.
        scene.users.asked.clear()
        with counted(services) as statements:
            answer = asyncio.run(get(path))
        assert answer.status_code == 200, answer.text
        people = {each: times for each, times in scene.users.asked.items() if scene.student_id not in each}
        assert {*people.values()} <= {1}
        return answer.json()["data"], statements, len(people)

    me = scene.student_id
    _, few, some = asked(f"booking/student/{me}?limit=2")
    page, many, more = asked(f"booking/student/{me}?limit=50")
    assert few == many
    assert some <= 4
    assert more <= 16  # Eight names and eight listings; the others are as they were when they were booked.
    named = {lesson["tutor"]["firstName"]: lesson["annonce"]["title"] for lesson in page}
    assert {name: title for name, title in named.items() if name in listings} == listings
    for path in (f"booking/all/{me}", f"history?userId={me}&limit=100", f"balance?userId={me}"):
        _, statements, people = asked(path)
        assert (
            statements["statements"] <= 17
        )  # Two of them of what was said last, which earlier was asked for.
        assert statements["round trips"] <= 5
        assert people <= 16
    services.close()


def test_a_name_that_changes_is_the_new_one_and_the_last_known_while_nobody_answers(
    scene: Scene, stack: DevStack
) -> None:
    scene.book(("09:00", 60))
    services = Services.build(stack.settings)
    names, tutor = services.directory._names, scene.users.users[scene.tutor_id]  # type: ignore[attr-defined]
    assert services.directory.names([scene.tutor_id])[scene.tutor_id].last_name == "Moreau"
    tutor["lastName"] = "Moreau-Petit"
    try:
        assert services.directory.names([scene.tutor_id])[scene.tutor_id].last_name == "Moreau"
        names._fresh.clear()  # A minute later.
        assert services.directory.names([scene.tutor_id])[scene.tutor_id].last_name == "Moreau-Petit"
        names._fresh.clear()
        tutor["role"] = 7  # What it says now can't be read.
        assert services.directory.names([scene.tutor_id])[scene.tutor_id].last_name == "Moreau-Petit"
    finally:
        tutor |= {"lastName": "Moreau", "role": "tutor"}
        services.close()


def test_another_person_gets_nothing(scene: Scene) -> None:
    lesson = scene.lesson("pending")["id"]
    other: Frontend = scene.frontend(scene.users.add_user("tutor", "Autre", "Personne"))
    for user_id in (scene.student_id, scene.tutor_id):
        for path in ("all", "student", "student-courses", "user", "tutor"):
            assert other.ask("GET", f"/booking/{path}/{user_id}").status_code == 403
        for path in ("balance", "history", "stats"):
            assert other.ask("GET", f"/{path}?userId={user_id}").status_code == 403
        assert other.ask("GET", f"/booking/{user_id}/stats").status_code == 403
    assert other.ask("GET", f"/booking/{lesson}").status_code == 404
    for path, body in (("confirm", {"tutorNotes": "x"}), ("cancel", {"reason": "x"}), ("complete", None)):
        assert other.ask("PATCH", f"/booking/{lesson}/{path}", body).status_code == 404
