"""Users and annonces of an existing user service, at a real HTTP service; and the schedules of tutors."""

import json
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from eth_account.hdaccount import generate_mnemonic
from eth_account.types import Language
from hypothesis import given
from hypothesis import strategies as st
from pydantic import HttpUrl, SecretStr
from scenario import BATCH, DAY, EDU, clock_change, failures, slot
from service import Answer, Service, service, serving
from waiting import PATIENCE

from tools.dev_stack import ROOT, DevStack

sys.path.insert(0, str(Path(__file__).parents[1]))

from postgres import PostgreSQL, postgres

from api.chain import signers
from api.chain.signers import MnemonicCustodian
from api.db.store import Store
from api.errors import Problem
from api.people import http_directory
from api.people.directory import TableDirectory, User
from api.people.schedule import SCHEDULE, covers, hours
from api.services import Services
from api.settings import DEVELOPMENT_CUSTODY, Settings

__all__ = ["postgres"]

PARIS = ZoneInfo("Europe/Paris")
TOKEN = "the-shims-token-at-the-user-service"
DOCUMENT: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())


class People:
    """A student, and a tutor with an annonce, as the service has them."""

    def __init__(self, users: Service) -> None:
        self.service = users
        self.student, self.tutor, self.profile, self.annonce = (str(uuid.uuid4()) for _ in range(4))
        self.paths = {
            self.student: f"/api/users/{self.student}",
            self.tutor: f"/api/users/{self.tutor}",
            self.profile: f"/api/profile/tutors/{self.profile}",
            self.annonce: f"/api/annonces/{self.annonce}",
            "by user": f"/api/profile/tutors/user/{self.tutor}",
        }
        self.give(self.student, id=self.student, role="STUDENT", email="a@example.org")
        self.give(self.tutor, id=self.tutor, role="TUTOR")
        for entry in (self.profile, "by user"):
            self.give(entry, id=self.profile, userId=self.tutor)
        self.give(self.annonce, id=self.annonce, tutorId=self.tutor, title="Cours", hourlyRate=35)

    def give(self, entry: str, **data: Any) -> None:
        self.service.answers[self.paths[entry]] = Answer({"success": True, "data": data})

    def asked(self) -> dict[str, int]:
        return dict(self.service.asked)

    def body(self, *slots: Any, **more: Any) -> dict[str, Any]:
        return {"tutorId": self.profile, "annonceId": self.annonce, "bookings": list(slots)} | more


@pytest.fixture
def users() -> Iterator[Service]:
    with service() as running:
        yield running


@pytest.fixture
def people(users: Service) -> People:
    return People(users)


@pytest.fixture
def shim(
    stack: DevStack, users: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Services]:
    monkeypatch.setattr(http_directory, "_PAUSE_SECONDS", 0.001)
    more: dict[str, Any] = {"directory_url": HttpUrl(users.url), "directory_token": SecretStr(TOKEN)}
    more["mnemonic"] = SecretStr(generate_mnemonic(12, Language.ENGLISH))  # Its accounts are nobody else's.
    with serving(stack, tmp_path, 43, **more, directory_timeout_seconds=PATIENCE) as shim:
        yield shim


def book(stack: DevStack, shim: Services, people: People, *slots: Any, **more: Any) -> httpx.Response:
    client = stack.client(people.student, url=f"http://127.0.0.1:{shim.settings.port}")
    return client.post(BATCH, json=people.body(*slots, **more))


def fund(stack: DevStack, shim: Services, people: People) -> User:
    student = shim.directory.user(people.student)
    assert student is not None
    stack.mint(student.wallet, 1000 * EDU)
    people.service.asked.clear()
    return student


def test_a_batch_asks_for_each_party_once(stack: DevStack, shim: Services, people: People) -> None:
    student = fund(stack, shim, people)
    answer = book(stack, shim, people, *(slot(f"{hour}:00") for hour in range(9, 19)))
    assert answer.status_code == 200
    assert people.asked() == {
        people.paths[each]: 1 for each in (people.student, people.profile, people.annonce)
    }
    assert {each["authorization"] for each in people.service.headers} == {f"Bearer {TOKEN}"}
    [data] = [answer.json()["data"]]
    assert (data["count"], data["bookings"][0]["tutorId"]) == (10, people.tutor)
    assert stack.balance(student.wallet) == 650 * EDU
    log = stack.log_file.read_text()
    assert TOKEN not in log


def test_the_tutor_may_be_named_by_his_users_id(stack: DevStack, shim: Services, people: People) -> None:
    fund(stack, shim, people)
    assert book(stack, shim, people, slot("09:00"), tutorId=people.tutor).status_code == 200
    assert people.asked()[people.paths["by user"]] == 1
    people.give(people.annonce, id=people.annonce, tutorId=people.profile, title="", hourlyRate="35.00")
    assert book(stack, shim, people, slot("10:00"), tutorId=people.tutor).status_code == 200
    by_either = f"/api/profile/tutors/{people.tutor}"
    people.service.answers[by_either] = people.service.answers[people.paths[people.profile]]
    people.service.asked.clear()
    assert book(stack, shim, people, slot("11:00"), tutorId=people.tutor).status_code == 200
    assert len(people.asked()) == 3


def test_roles_are_the_services_and_accounts_are_the_shims(shim: Services, people: People) -> None:
    first, again = shim.directory.user(people.student), shim.directory.user(people.student)
    assert first == again
    assert first is not None
    assert (first.role, first.custodial_account) == ("student", first.kept_account)
    people.give(people.student, id=people.student, role="admin", wallet="0x" + "11" * 20)
    changed = shim.directory.user(people.student)
    assert changed is not None
    assert (changed.role, changed.wallet) == ("admin", first.wallet)
    tutor = shim.directory.tutor(people.profile)
    assert tutor is not None
    assert (tutor.id, tutor.profile_id, tutor.role) == (people.tutor, people.profile, "tutor")
    assert tutor.wallet != first.wallet


def test_a_role_is_as_the_service_has_it_however_long(users: Service, database_url: str) -> None:
    """The longest, that is: a longer one is no role."""
    store = Store(database_url)
    store.migrate()
    accounts = TableDirectory(store, MnemonicCustodian(DEVELOPMENT_CUSTODY))
    settings = Settings(_env_file=None, directory_url=users.url)  # type: ignore[arg-type]
    directory = http_directory.HttpDirectory(settings, store, accounts)
    for length in (1, 16, 17, 64):
        each, role = f"user-{length}", "a" * length
        users.answers[f"/api/users/{each}"] = Answer({"data": {"id": each, "role": role}})
        user = directory.user(each)
        assert user is not None
        assert user.role == role
    users.answers["/api/users/user-65"] = Answer({"data": {"id": "user-65", "role": "a" * 65}})
    with pytest.raises(Problem) as refused:
        directory.user("user-65")
    assert refused.value.code == "directory_invalid"
    directory.close()
    store.close()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_many_new_users_at_once_get_an_account_each(
    users: Service, tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'own.db'}"
    if database == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgres")
        url = server.database()
    store = Store(url)
    store.migrate()
    accounts = TableDirectory(store, MnemonicCustodian(DEVELOPMENT_CUSTODY))
    settings = Settings(_env_file=None, directory_url=users.url)  # type: ignore[arg-type]
    directory = http_directory.HttpDirectory(settings, store, accounts)
    ids = [f"user-{i % 15}" for i in range(45)]
    for each in ids:
        users.answers[f"/api/users/{each}"] = Answer({"data": {"id": each, "role": "student"}})
    with ThreadPoolExecutor(15) as pool:
        found = list(pool.map(directory.user, ids))
    wallets = {user.id: user.wallet for user in found if user}
    assert len(set(wallets.values())) == len(wallets) == 15
    assert all(user and user.wallet == wallets[user.id] for user in found)
    directory.close()
    store.close()


def test_an_account_of_anothers_is_refused_and_told(
    stack: DevStack, shim: Services, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With paths of no bits all accounts are one."""
    monkeypatch.setattr(signers, "_STEP_BITS", 0)
    fund(stack, shim, people)
    for _ in range(2):  # Of the tutor, who is asked for next; for as long as nobody helps.
        answer = book(stack, shim, people, slot("09:00"))
        assert (answer.status_code, answer.json()["code"]) == (409, "account_taken")
        assert answer.json()["message"] == (
            "The account of a new user would be another user's. Only the operators can help. "
            "Nothing was done."
        )
    student = shim.directory.user(people.student)
    assert student is not None
    assert stack.balance(student.wallet) == 1000 * EDU


@pytest.mark.parametrize("code", ["account_taken", "directory_invalid", "directory_unavailable"])
def test_what_the_user_service_does_to_a_read_is_documented(
    stack: DevStack, shim: Services, people: People, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    if code == "account_taken":
        monkeypatch.setattr(signers, "_STEP_BITS", 0)  # All accounts are one, which is the student's.
        fund(stack, shim, people)
    else:
        wrong = Answer(b"no JSON") if code == "directory_invalid" else Answer(None, 503)
        people.service.answers |= dict.fromkeys(people.paths.values(), wrong)
    names = {"userId": people.tutor, "tutorId": people.profile, "annonceId": people.annonce}
    names |= dict.fromkeys(("id", "batchId", "actId"), "0x" + "0" * 64)
    client, said = stack.client(people.tutor, url=f"http://127.0.0.1:{shim.settings.port}"), []
    for path, item in DOCUMENT["paths"].items():
        if path.startswith("/api/") and "get" in item:
            answer = client.get(path.format(**names))
            assert str(answer.status_code) in item["get"]["responses"], path
            said.append(answer.json().get("code"))
    assert said.count(code) >= 8


def test_who_is_not_there_is_not_found(stack: DevStack, shim: Services, people: People) -> None:
    fund(stack, shim, people)
    for changed, code in (
        ({"tutorId": "nobody"}, "tutor_not_found"),
        ({"tutorId": people.student}, "tutor_not_found"),  # A user without a tutor's profile.
        ({"tutorId": ".."}, "tutor_not_found"),
        ({"annonceId": "nothing"}, "annonce_not_found"),
    ):
        people.service.answers["/api/annonces/nothing"] = Answer({"message": "no UUID"}, 400)
        answer = book(stack, shim, people, slot("09:00"), **changed)
        assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert not any(".." in path for path in people.asked())
    del people.service.answers[people.paths[people.student]]
    answer = book(stack, shim, people, slot("09:00"))
    assert (answer.status_code, answer.json()["code"]) == (403, "unknown_user")


ODD: dict[str, Answer] = {
    "no JSON": Answer(b"<html>"),
    "no object": Answer([]),
    "no data": Answer({"id": "x"}),
    "null": Answer({"data": None}),
    "no fields": Answer({"data": {}}),
    "an error": Answer({}, 500),
    "elsewhere": Answer({}, 302, {"Location": "/elsewhere"}),
    "huge": Answer(b'{"data": "' + b"x" * (1024 * 1024) + b'"}'),
    "compressed": Answer(b"\x1f\x8b\x08", 200, {"Content-Encoding": "gzip"}),
    "no UTF-8": Answer(b'{"data": "\xff"}'),
    "deep": Answer(b'{"data":' + b"[" * 5_000),
    "zero bytes": Answer({"data": {"role": "\0", "email": "\0", "title": "\0", "timeZone": "\0"}}),
}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_told_as_that(
    stack: DevStack, shim: Services, people: People, status: int
) -> None:
    fund(stack, shim, people)
    for entry in (people.student, people.profile, people.annonce):
        path = people.paths[entry]
        right, people.service.answers[path] = people.service.answers[path], Answer({}, status)
        answer = book(stack, shim, people, slot("09:00"))
        assert (answer.status_code, answer.json()["code"]) == (502, "directory_refused")
        said = f"The user service answered {status}: it does not take the token. Nothing was done."
        assert answer.json()["message"] == said
        people.service.answers[path] = right
    assert book(stack, shim, people, slot("09:00")).status_code == 200


def test_a_tutor_books_lessons_of_another(stack: DevStack, shim: Services, people: People) -> None:
    fund(stack, shim, people)
    people.give(people.student, id=people.student, role="tutor")
    assert book(stack, shim, people, slot("09:00")).status_code == 200


@pytest.mark.parametrize("odd", ODD)
def test_odd_answers_are_told_and_nothing_is_done(
    stack: DevStack, shim: Services, people: People, odd: str
) -> None:
    fund(stack, shim, people)
    for entry in (people.student, people.profile, people.annonce):
        path = people.paths[entry]
        right, people.service.answers[path] = people.service.answers[path], ODD[odd]
        answer = book(stack, shim, people, slot("09:00"))
        assert (answer.status_code, answer.json()["code"]) == (502, "directory_invalid")
        people.service.answers[path] = right
    assert people.asked()[people.paths[people.student]] == 3  # Nothing is asked again.
    assert book(stack, shim, people, slot("09:00")).status_code == 200


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ("student", {"id": "another"}),
        ("student", {"id": 7}),
        ("student", {"role": None}),
        ("student", {"role": "x" * 65}),
        ("student", {"role": "half \0 a role"}),
        ("student", {"email": "\0"}),
        ("student", {"firstName": "x" * 1_001}),
        ("profile", {"id": "another", "userId": "another"}),
        ("profile", {"userId": None}),
        ("profile", {"timeZone": "Mars/Base"}),
        ("profile", {"schedule": [{"date": "2035-02-30", "timeSlots": []}]}),
        ("profile", {"schedule": [{"date": "2035-03-05", "timeSlots": [{"startTime": "09:00"}]}]}),
        ("profile", {"schedule": {"date": "2035-03-05"}}),
        ("annonce", {"id": "another"}),
        ("annonce", {"title": None}),
        ("annonce", {"title": "\0"}),
        ("annonce", {"description": "x" * 10_001}),
        ("annonce", {"hourlyRate": None}),
        ("annonce", {"hourlyRate": -35}),
        ("annonce", {"hourlyRate": "a lot"}),
        ("annonce", {"hourlyRate": [35]}),
        ("annonce", {"timeZone": 1}),
    ],
)
def test_wrong_fields_are_odd(
    stack: DevStack, shim: Services, people: People, entry: str, wrong: dict[str, Any]
) -> None:
    path = people.paths[getattr(people, entry)]
    answer = people.service.answers[path]
    assert isinstance(answer, Answer)
    answer.body["data"] |= wrong
    refused = book(stack, shim, people, slot("09:00"))
    assert (refused.status_code, refused.json()["code"]) == (502, "directory_invalid")


def test_a_profile_of_somebody_else_is_odd(stack: DevStack, shim: Services, people: People) -> None:
    by_id = f"/api/profile/tutors/{people.tutor}"
    for path in (people.paths["by user"], by_id):
        people.service.answers[path] = Answer({"data": {"id": people.profile, "userId": "another"}})
        answer = book(stack, shim, people, slot("09:00"), tutorId=people.tutor)
        assert (answer.status_code, answer.json()["code"]) == (502, "directory_invalid")


def test_a_service_that_is_down_and_comes_back(stack: DevStack, shim: Services, people: People) -> None:
    fund(stack, shim, people)
    people.service.stop()
    answer = book(stack, shim, people, slot("09:00"))
    assert (answer.status_code, answer.json()["code"]) == (503, "directory_unavailable")
    assert answer.headers["retry-after"] == "5"
    people.service.start()
    assert book(stack, shim, people, slot("09:00")).status_code == 200


def test_a_busy_service_is_asked_three_times_and_no_more(
    stack: DevStack, shim: Services, people: People
) -> None:
    fund(stack, shim, people)
    path = people.paths[people.annonce]
    right = people.service.answers[path]
    assert isinstance(right, Answer)
    people.service.answers[path] = [Answer({}, 503), Answer({}, 429), right]
    assert book(stack, shim, people, slot("09:00")).status_code == 200
    assert people.asked()[path] == 3
    people.service.answers[path] = Answer({}, 504)
    refused = book(stack, shim, people, slot("10:00"))
    assert (refused.status_code, refused.json()["code"]) == (503, "directory_unavailable")
    assert people.asked()[path] == 6


@pytest.mark.parametrize("drips", [False, True])
def test_a_service_that_hangs_or_drips_is_not_waited_for(
    stack: DevStack, shim: Services, people: People, monkeypatch: pytest.MonkeyPatch, drips: bool
) -> None:
    released = threading.Event()
    assert isinstance(shim.directory, http_directory.HttpDirectory)
    monkeypatch.setattr(shim.directory._http, "seconds", 0.1)
    slow = Answer(drips=True) if drips else Answer({}, waits_for=released)
    people.service.answers[people.paths[people.student]] = slow
    refused = book(stack, shim, people, slot("09:00"))
    assert (refused.status_code, refused.json()["code"]) == (503, "directory_unavailable")
    released.set()


def test_the_token_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    settings = Settings(_env_file=None, directory_token_file=tmp_path / "token")  # type: ignore[arg-type]
    assert settings.directory_bearer == TOKEN
    assert TOKEN not in repr(Settings(_env_file=None, directory_token=TOKEN))  # type: ignore[arg-type]


# --- Schedules ---


def day(*spans: str, on: str = DAY, **more: Any) -> dict[str, Any]:
    times = [dict(zip(("startTime", "endTime"), span.split("-"), strict=True)) for span in spans]
    return {"date": on, "timeSlots": [*times, *([more] if more else [])]}


def test_a_tutors_schedule_limits_what_can_be_booked(stack: DevStack, shim: Services, people: People) -> None:
    fund(stack, shim, people)
    slots = [slot("08:30"), slot("09:30"), slot("11:30"), slot("14:00")]
    data = {"id": people.profile, "userId": people.tutor}
    people.give(people.profile, **data, schedule=[day("09:00-10:00", "10:00-12:00", "14:00-15:00")])
    answer = book(stack, shim, people, *slots)
    assert (answer.status_code, answer.json()["data"]["count"]) == (200, 2)
    assert failures(answer) == [(1, "outside_schedule"), (3, "outside_schedule")]
    assert answer.json()["data"]["failures"][0]["error"] == (
        f"The lesson of {DAY} at 08:30 is not within the times at which the tutor gives lessons."
    )
    # On the tutor's clock, not the annonce's.
    people.give(people.profile, **data, schedule=[day("12:00-13:00")], timeZone="America/Montreal")
    noon = datetime.combine(date.fromisoformat(DAY), clock_time(12), ZoneInfo("America/Montreal"))
    answer = book(stack, shim, people, slot(f"{noon.astimezone(PARIS):%H:%M}"), slot("12:00"))
    assert (answer.status_code, failures(answer)) == (200, [(2, "outside_schedule")])
    people.give(people.profile, **data, schedule=[])
    refused = book(stack, shim, people, slot("16:00"))
    assert (refused.status_code, refused.json()["code"]) == (409, "outside_schedule")
    people.give(people.profile, **data, schedule=None)
    assert book(stack, shim, people, slot("16:00")).status_code == 200


def test_the_embedded_directory_has_schedules_too(stack: DevStack) -> None:
    student = stack.create_user("student", balance=100)
    tutor = stack.directory.create_user(str(uuid.uuid4()), "tutor", schedule=[day("09:00-10:00")])
    assert stack.directory.user(tutor.id) == tutor
    annonce = stack.create_annonce(tutor)
    body = {"tutorId": tutor.id, "annonceId": annonce.id, "bookings": [slot("09:00"), slot("10:00")]}
    answer = stack.client(student.id).post(BATCH, json=body)
    assert (answer.status_code, failures(answer)) == (200, [(2, "outside_schedule")])


def during(*days: dict[str, Any]) -> list[tuple[str, str]]:
    spans = hours(SCHEDULE.validate_python([*days]), PARIS)
    return [(f"{begins:%d %H:%M}", f"{ends:%d %H:%M}") for begins, ends in spans]


def test_how_times_of_a_schedule_are_read() -> None:
    on = "2035-01-10"  # One hour ahead of UTC.
    assert during() == during(day(on=on)) == []
    assert during(day("9:00-10:30", on=on)) == [("10 08:00", "10 09:30")]
    assert (
        during(day("22:00-24:00", on=on)) == during(day("22:00-00:00", on=on)) == [("10 21:00", "10 23:00")]
    )
    assert during(day("22:00-02:00", on=on)) == [("10 21:00", "11 01:00")]
    assert during(day(on=on, allDay=True)) == [("09 23:00", "10 23:00")]
    assert during(day(on=f"{on}T00:00:00.000Z", allDay=True)) == during(day(on=on, allDay=True))
    assert during(day("10:00-11:00", "08:00-10:00", "08:30-09:00", on=on)) == [("10 07:00", "10 10:00")]
    spring, autumn = clock_change(3), clock_change(10)
    [(begins, ends)] = hours(SCHEDULE.validate_python([day(on=spring.isoformat(), allDay=True)]), PARIS)
    assert ends - begins == timedelta(hours=23)
    [(begins, ends)] = hours(SCHEDULE.validate_python([day("02:00-03:00", on=autumn.isoformat())]), PARIS)
    assert ends - begins == timedelta(hours=2)


QUARTERS = st.tuples(st.integers(0, 95), st.integers(1, 32))


@given(st.lists(QUARTERS, max_size=6), QUARTERS)
def test_a_lesson_is_inside_when_each_of_its_quarters_is(
    spans: list[tuple[int, int]], lesson: tuple[int, int]
) -> None:
    def clock(quarter: int) -> str:
        return f"{quarter // 4 % 24:02}:{quarter % 4 * 15:02}"

    on = "2035-01-10"
    schedule = SCHEDULE.validate_python(
        [day(f"{clock(first)}-{clock(first + count)}", on=on) for first, count in spans]
    )
    given_quarters = {first + i for first, count in spans for i in range(count)}
    start = datetime(2035, 1, 10, tzinfo=PARIS) + timedelta(minutes=15 * lesson[0])
    inside = {lesson[0] + i for i in range(lesson[1])} <= given_quarters
    assert covers(hours(schedule, PARIS), start, 15 * lesson[1]) == inside


def test_an_odd_service_is_told_without_its_data(users: Service) -> None:
    settings = Settings(_env_file=None, directory_url=users.url)  # type: ignore[arg-type]
    directory = http_directory.HttpDirectory(settings, None, None)  # type: ignore[arg-type]
    users.answers["/api/users/x"] = Answer({"data": {"id": "x", "role": {"secret": "s3cret"}}})
    with pytest.raises(Problem) as refused:
        directory.user("x")
    assert "s3cret" not in str(refused.value)
    directory.close()
