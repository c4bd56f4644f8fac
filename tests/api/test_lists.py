"""Lists and sums of lessons: for whom, in pages that hold still, by status and time, and fast."""

import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from eth_utils.crypto import keccak
from forked import Stack
from lesson_scenario import OPERATOR, SETTINGS, LessonScenario, own
from outside import Outside
from scenario import BATCH, DAY, SINGLE, Scenario, slot
from sqlalchemy import event, insert, text
from waiting import until

from api.booking.queries import LessonQueries, Side
from api.chain.signers import MnemonicCustodian
from api.db import tables
from api.db.store import Store
from api.db.tables import bookings, orders
from api.people.directory import TableDirectory
from api.schemas import existing_frontend as existing_models
from api.schemas import responses as models
from api.schemas.requests import Selection
from api.settings import DEVELOPMENT_CUSTODY, Settings
from creneau import abi
from creneau.order import listing_id, pack_slot
from tools.dev_stack import DevStack


@pytest.fixture(scope="module")
def stack() -> Iterator[DevStack]:
    with Stack(settings=SETTINGS) as stack:
        yield stack


@pytest.fixture
def lesson_scenario(stack: DevStack) -> LessonScenario:
    return LessonScenario.of(stack)


def get(client: httpx.Client, path: str, **query: Any) -> dict[str, Any]:
    answer = client.get(f"{SINGLE}/{path}", params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    if "nextCursor" in body:
        existing_models.BookingsAnswer.model_validate(body)
        body["data"] = [own(lesson) for lesson in body["data"]]
    return body


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def seen(lesson_scenario: LessonScenario, count: int) -> str:
    """The student's list, once it has so many lessons."""
    path = f"user/{lesson_scenario.scenario.student.id}"
    until(lambda: len(get(lesson_scenario.student, path, limit=100)["data"]) == count)
    return path


# --- What is listed, for whom ---


def test_both_parties_see_their_lessons_as_the_batch_has_them(lesson_scenario: LessonScenario) -> None:
    batch = lesson_scenario.book(60, 30, studentNotes="Chapitre 3", description="")
    path = seen(lesson_scenario, 2)
    listed = get(lesson_scenario.student, path)
    assert listed["nextCursor"] is None
    assert listed["message"] == "2 lessons."
    assert (
        listed["data"]
        == lesson_scenario.student.get(f"{BATCH}/{batch['batchId']}").json()["data"]["bookings"]
    )
    for client, tutor_id in (
        (lesson_scenario.tutor, lesson_scenario.scenario.tutor.id),
        (lesson_scenario.tutor, lesson_scenario.scenario.tutor.profile_id),
    ):
        assert get(client, f"tutor/{tutor_id}")["data"] == listed["data"]
    assert (
        get(lesson_scenario.tutor, f"user/{lesson_scenario.scenario.tutor.id}")["data"] == []
    )  # As a student they have none.
    for booking in listed["data"]:
        for id_ in (booking["id"], booking["blockchainTransactionId"]):
            answer = lesson_scenario.student.get(f"{SINGLE}/{id_}").json()
            assert own(answer["data"]) == booking
            existing_models.BookingAnswer.model_validate(answer)


def test_nobody_else_sees_them_and_the_operator_no_notes(
    stack: DevStack, lesson_scenario: LessonScenario
) -> None:
    batch = lesson_scenario.book(studentNotes="Chapitre 3", description="Privé")
    seen(lesson_scenario, 1)
    student, tutor = lesson_scenario.scenario.student.id, lesson_scenario.scenario.tutor.id
    lists = (f"user/{student}", f"tutor/{tutor}", f"{student}/stats", f"{tutor}/stats")
    others = [stack.create_user(role).id for role in ("student", "tutor")]
    for path in lists:
        for other in [*others, "nobody-known"]:
            assert refused(stack.client(other).get(f"{SINGLE}/{path}")) == (403, "not_yours")
        assert refused(stack.client().get(f"{SINGLE}/{path}")) == (401, "token_missing")
    assert refused(lesson_scenario.tutor.get(f"{SINGLE}/{lists[0]}")) == (403, "not_yours")
    assert refused(lesson_scenario.student.get(f"{SINGLE}/{lists[1]}")) == (403, "not_yours")

    [listed] = get(lesson_scenario.operator, lists[0])["data"]
    whole = lesson_scenario.operator.get(f"{BATCH}/{batch['batchId']}").json()
    models.BatchAnswer.model_validate(whole)
    for shown in (listed, *whole["data"]["bookings"], lesson_scenario.booking(listed, "operator")):
        assert (shown["studentNotes"], shown["description"]) == (None, None)
        assert shown["studentId"] == student
    assert refused(lesson_scenario.operator.get(f"{SINGLE}/user/nobody")) == (404, "user_not_found")


def test_lessons_that_were_booked_elsewhere_are_listed_too(stack: DevStack) -> None:
    outside = Outside(stack)
    users = {role: stack.create_user(role, wallet=wallet) for role, wallet in outside.parties.items()}
    batch = outside.book()
    outside.confirm(batch, 0b010)
    student = stack.client(users["student"].id)
    path = f"user/{users['student'].id}"
    until(lambda: [b["status"] for b in get(student, path)["data"]] == ["PENDING", "CONFIRMED", "PENDING"])
    listed = get(student, path)["data"]
    assert listed == get(stack.client(users["tutor"].id), f"tutor/{users['tutor'].id}")["data"]
    assert listed == student.get(f"{BATCH}/{batch.hex}").json()["data"]["bookings"]
    [first, second, _] = listed
    assert (first["studentId"], first["tutorId"]) == (users["student"].id, users["tutor"].id)
    assert (first["annonceId"], first["description"], first["studentNotes"]) == (None, None, None)
    assert second["blockchainTransactionId"] == batch.lesson(1)
    assert second["cancellableUntil"] is not None
    assert life_of(first) == ("CONFIRMED", batch.order.slots[0].start.isoformat().replace("+00:00", "Z"))
    # A person whom this service does not know is their wallet.
    outside.send(outside.stranger, abi.publish_data(outside.stranger, outside.listing, 10**18, False))
    order = outside.order((60,)).model_copy(update={"tutor": outside.stranger, "hourly_rate": 1})
    other = outside.create(order)
    until(lambda: len(get(student, path)["data"]) == 4)
    [shown] = student.get(f"{BATCH}/{other.hex}").json()["data"]["bookings"]
    assert shown["tutorId"] == outside.stranger


def life_of(booking: dict[str, Any]) -> tuple[str, str]:
    return booking["blockchainStatus"], booking["startsAt"]


def test_a_deadline_that_no_datetime_can_tell_breaks_no_list(stack: DevStack) -> None:
    """The contract takes it; the lessons are like any others."""
    scenario = Scenario.of(stack)
    [booked] = scenario.book(slot("09:00")).json()["data"]["bookings"]
    listing, student = listing_id(scenario.annonce.id), stack.account(8).address
    stack.mint(student, 10**21)
    stack.send(student, stack.edu, abi.approve_data(stack.escrow, 10**21))
    start = int(datetime.fromisoformat(booked["startsAt"]).timestamp()) + 7200
    slots = [pack_slot(start, 60), pack_slot(start + 7200, 60)]
    rate = scenario.annonce.hourly_rate
    terms = (student, scenario.tutor.wallet, listing, rate, 1, 2**40 - 1, bytes(32), slots)
    stack.send(student, stack.escrow, abi.call_data("BookingEscrow", "createBookings", terms, b""))
    tutor = stack.client(scenario.tutor.id)
    until(lambda: get(tutor, f"{scenario.tutor.id}/stats")["data"]["count"] == 3)
    first, *others = get(tutor, f"tutor/{scenario.tutor.id}")["data"]
    assert (first["id"], len(others)) == (booked["id"], 2)
    cancelled = tutor.patch(f"{SINGLE}/{others[0]['id']}/cancel")
    assert cancelled.json()["data"]["payments"][0]["amount"] == 35


def test_lessons_go_on_with_the_account_that_booked_them(
    stack: DevStack, lesson_scenario: LessonScenario
) -> None:
    """A user who has a wallet of their own by now still has, and acts on, what the kept account booked."""
    [booking] = lesson_scenario.book()["bookings"]
    path = seen(lesson_scenario, 1)
    store = Store(stack.settings.database)
    with store.write() as db:
        stack.directory.set_wallet(db, lesson_scenario.scenario.student, stack.account(9).address)
    store.close()
    assert [b["id"] for b in get(lesson_scenario.student, path)["data"]] == [booking["id"]]
    assert get(lesson_scenario.student, f"{lesson_scenario.scenario.student.id}/stats")["data"]["count"] == 1
    assert lesson_scenario.act("student", "cancel", booking).status_code == 200
    assert lesson_scenario.money()[0] == 1000 * 10**18


# --- Which, and how many ---


def test_lists_are_by_status_and_time(lesson_scenario: LessonScenario) -> None:
    batch = lesson_scenario.book(60, 60, 60, 60)
    [first, second, third, fourth] = batch["bookings"]
    lesson_scenario.tutor.patch(
        f"{BATCH}/{batch['batchId']}/confirm", json={"lessons": [second["id"], third["id"]]}
    )
    lesson_scenario.act("student", "cancel", third)
    path = seen(lesson_scenario, 4)

    def ids(**query: Any) -> list[str]:
        return [booking["id"] for booking in get(lesson_scenario.student, path, **query)["data"]]

    until(lambda: ids(status="CANCELLED") == [third["id"]])
    assert ids(status="PENDING") == [first["id"], fourth["id"]]
    assert ids(status=["CONFIRMED", "CANCELLED"]) == [second["id"], third["id"]]
    assert ids(status="confirmed,Cancelled", limit=50) == [second["id"], third["id"]]
    assert ids(status="DISPUTED") == []
    assert ids(order="desc") == [fourth["id"], third["id"], second["id"], first["id"]]
    assert ids(**{"from": second["startsAt"]}) == [second["id"], third["id"], fourth["id"]]
    assert ids(to=second["startsAt"]) == [first["id"]]
    assert ids(**{"from": second["startsAt"], "to": fourth["startsAt"], "status": "CONFIRMED"}) == [
        second["id"]
    ]
    for query in (
        {"status": ""},
        {"status": ["", ""]},
        {"status": "PENDING,"},
        {"status": "finished"},
        {"status": "PENDING,finished"},
        {"from": "today"},
        {"to": "2035-01-01"},
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"order": "up"},
    ):
        answer = lesson_scenario.student.get(f"{SINGLE}/{path}", params=query)
        assert refused(answer) == (422, "invalid_request")
        [(name, _)] = query.items()
        assert {(each["field"], each["slot"]) for each in answer.json()["errors"]} == {(name, None)}
        assert answer.json()["message"].startswith(f"{name}: ")
    for edge in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        assert get(lesson_scenario.student, path, **{"from": edge})["data"] == (
            [] if edge > "9" else get(lesson_scenario.student, path)["data"]
        )


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_hold_still_while_lessons_are_booked(lesson_scenario: LessonScenario, order: str) -> None:
    """Every lesson that was there comes once, in order, whatever is booked meanwhile."""
    first = [b["id"] for _ in range(2) for b in lesson_scenario.book(*[15] * 6, days=10 + _ * 2)["bookings"]]
    path = seen(lesson_scenario, 12)
    expected = first if order == "asc" else first[::-1]
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    for days, more in zip((9, 11, 13), itertools.count(13), strict=False):
        page = get(lesson_scenario.student, path, limit=5, order=order, **cursor)
        found += page["data"]
        cursor = {"cursor": page["nextCursor"]}
        lesson_scenario.book(15, days=days)
        seen(lesson_scenario, more)
    while cursor["cursor"]:
        page = get(lesson_scenario.student, path, limit=5, order=order, **cursor)
        found += page["data"]
        cursor = {"cursor": page["nextCursor"]}
    starts = [booking["startsAt"] for booking in found]
    assert starts == sorted(starts, reverse=order == "desc")
    assert [b["id"] for b in found if b["id"] in first] == expected
    assert len({b["id"] for b in found}) == len(found)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!",
        "é",
        "AAAA",
        "1.2",
        "-1.0x" + "0" * 64,
        "1" * 16 + ".0x" + "0" * 64,
        "1.0x" + "0" * 63 + "\0",
        "1.0x" + "0" * 64 + "\n",
        "1' or 1=1 --",
        "A" * 201,
    ],
)
def test_a_cursor_that_is_none_is_refused(lesson_scenario: LessonScenario, cursor: str) -> None:
    answer = lesson_scenario.student.get(
        f"{SINGLE}/user/{lesson_scenario.scenario.student.id}", params={"cursor": cursor}
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "cursor"


# --- Sums ---


def test_sums_say_where_the_money_is(lesson_scenario: LessonScenario) -> None:
    batch = lesson_scenario.book(60, 30, 45, 60)
    [first, second, third, _] = batch["bookings"]
    path = f"{BATCH}/{batch['batchId']}"
    lesson_scenario.tutor.patch(f"{path}/confirm", json={"lessons": [third["id"]]})
    lesson_scenario.act("student", "complete", first)
    lesson_scenario.act("tutor", "cancel", second)
    lesson_scenario.at(lesson_scenario.start(third))
    lesson_scenario.act("student", "dispute", third)
    assert lesson_scenario.act("operator", "resolve", third, {"tutorShareBps": 2500}).status_code == 200
    until(
        lambda: (
            get(lesson_scenario.student, f"{lesson_scenario.scenario.student.id}/stats")["data"]["byStatus"][
                "COMPLETED"
            ]
            == 2
        )
    )
    spent, refunded = 35 + 26.25 / 4, 17.5 + 26.25 * 3 / 4
    shared: dict[str, Any] = {
        "count": 4,
        "byStatus": {"PENDING": 1, "CONFIRMED": 0, "DISPUTED": 0, "COMPLETED": 2, "CANCELLED": 1},
        "inEscrow": 35,
        "inEscrowWei": str(35 * 10**18),
        "refunded": refunded,
        "refundedWei": "37187500000000000000",
    }
    student = get(lesson_scenario.student, f"{lesson_scenario.scenario.student.id}/stats")
    existing_models.StatsAnswer.model_validate(student)
    shared |= {"total": 4, "pending": 1, "confirmed": 0, "cancelled": 1, "completed": 2}
    shared |= {"totalAmount": 113.75, "pendingAmount": 35}
    assert student["data"] == shared | {
        "userId": lesson_scenario.scenario.student.id,
        "role": "student",
        "spent": spent,
        "spentWei": "41562500000000000000",
    }
    assert get(lesson_scenario.tutor, f"{lesson_scenario.scenario.tutor.id}/stats")["data"] == shared | {
        "userId": lesson_scenario.scenario.tutor.id,
        "role": "tutor",
        "earned": spent,
        "earnedWei": "41562500000000000000",
    }
    assert lesson_scenario.money()[0] == 1000 * 10**18 - int(41.5625 * 10**18) - 35 * 10**18


def test_what_was_answered_is_listed_and_counted_at_once(lesson_scenario: LessonScenario) -> None:
    for hour in range(10):
        [booked] = lesson_scenario.scenario.book(slot(f"{hour:02}:00")).json()["data"]["bookings"]
        listed = get(
            lesson_scenario.student, f"user/{lesson_scenario.scenario.student.id}", order="desc", limit=1
        )
        assert [each["id"] for each in listed["data"]] == [booked["id"]]
        assert (
            get(lesson_scenario.tutor, f"{lesson_scenario.scenario.tutor.id}/stats")["data"]["count"]
            == hour + 1
        )


# --- However many there are ---


def test_no_list_reads_more_than_it_shows(tmp_path: Path) -> None:
    """By the database's own plan, with many rows of others in the tables: nothing is scanned or sorted."""
    settings = Settings(_env_file=None, data_dir=tmp_path, operators=OPERATOR)
    store = Store(settings.database)
    store.migrate()
    custodian = MnemonicCustodian(DEVELOPMENT_CUSTODY)
    directory = TableDirectory(store, custodian)
    users = {role: directory.create_user(role, role) for role in ("student", "tutor")}
    wallets = {f"{role}": user.wallet for role, user in users.items()}
    for number in range(300):  # Of two users the whole table is the shortest way.
        directory.create_user(f"other-{number}", "tutor", profile_id=f"p-{number}", wallet=f"0x{number}")
    many = [f"0x{keccak(batch.to_bytes(2)).hex()[:62]}" for batch in range(2000)]
    common = {"listing": "0x", "transaction_hash": "0x", "created_at": 1}
    with store.write() as db:
        for key in many:
            ids = {"id": key, "profile_id": key[:60], "wallet": key[:42]}
            db.execute(insert(tables.users), ids | {"role": "tutor"})
        for number, key in enumerate(many):
            parties = (
                wallets if number % 10 == 0 else {"student": f"0x{number % 7}", "tutor": f"0x{number % 5}"}
            )
            terms = {"id": f"{key}00", "slots": [[number, 60]] * 2, "hourly_rate": 60, "booked": 3}
            terms |= {"min_lessons": 1, "deadline": 1, "salt": "0x", "total": 2, "block_number": 1}
            db.execute(insert(orders), terms | parties | common | {"instant": False})
            lesson = {"batch_id": f"{key}00", "minutes": 60, "amount": 60, "status": "PENDING"}
            lesson |= parties | common | {"updated_at": 1, "block_number": 1, "start": number}
            places = [{"id": f"{key}{place:02x}", "place": place} for place in range(2)]
            db.execute(insert(bookings), [lesson | place for place in places])
        db.execute(text("ANALYZE"))
    lessons = LessonQueries(settings, store, directory, custodian)
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        asked.append((statement, values))

    event.listen(store._reader, "before_cursor_execute", note)
    for side, order in itertools.product(("student", "tutor"), ("asc", "desc")):
        which: dict[str, Any] = {"limit": 10, "order": order}
        page = lessons.page(side, side, cast(Side, side), Selection(**which))
        which |= {"cursor": page.next_cursor, "from": "1970-01-01T00:00:00Z", "status": ["PENDING"]}
        assert len(lessons.page(side, side, cast(Side, side), Selection(**which)).lessons) == 10
    assert sum(lessons.stats("student", "student").counts.values()) == 400
    batch, place = page.lessons[0]
    (found, of), _ = lessons.booking(batch.booking_id(place), "tutor")
    assert (found.id, of, found.lesson_state(of)) == (batch.id, place, batch.lesson_state(place))
    event.remove(store._reader, "before_cursor_execute", note)
    assert len(asked) > 20
    with store.read() as db:
        for statement, values in asked:
            steps = [row[3] for row in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert not {step for step in steps if step.startswith("SCAN")} - {"SCAN index_position"}, (
                statement,
                steps,
            )
            if "ORDER BY" in statement:
                assert not any("TEMP B-TREE" in step for step in steps), (statement, steps)
    store.close()


def test_days_are_days(stack: DevStack) -> None:
    """The lessons of people on the other side of the world are listed by their own clock."""
    scenario = Scenario.of(stack, time_zone="Pacific/Auckland")
    booked = scenario.book(slot("00:15")).json()["data"]["bookings"]
    path = f"user/{scenario.student.id}"
    until(lambda: len(get(scenario.client, path)["data"]) == 1)
    assert get(scenario.client, path)["data"] == booked
    assert (booked[0]["date"], booked[0]["time"]) == (DAY, "00:15")
    assert booked[0]["startsAt"] < f"{DAY}T00:00:00Z"


# --- The size of a page ---


@pytest.mark.parametrize("side", ["user", "tutor"])
def test_a_page_with_the_longest_notes_is_bounded_and_the_next_one_goes_on(
    stack: DevStack, scenario: Scenario, side: str
) -> None:
    """Control characters, each of which takes six bytes in JSON."""
    slots = [slot(f"{hour:02}:{minute}", 17.5, 30) for hour in range(4, 24) for minute in ("00", "30")]
    words = {"description": "\1" * 10_000, "studentNotes": "\1" * 2_000}
    assert scenario.book(*slots, **words).status_code == 200
    person, reader = (scenario.student, scenario.client) if side == "user" else (scenario.tutor, None)
    reader = reader or stack.client(scenario.tutor.id)
    url, seen, pages, cursor = f"/api/blockchain/booking/{side}/{person.id}", [], 0, None
    while cursor is not None or not pages:
        page = reader.get(url, params={"limit": 100} | ({} if cursor is None else {"cursor": cursor}))
        assert (page.status_code, len(page.content) <= 256 * 1024) == (200, True)
        assert page.json()["data"][0]["description"] == words["description"]
        seen += [each["id"] for each in page.json()["data"]]
        pages, cursor = pages + 1, page.json()["nextCursor"]
    assert (len(seen), len(set(seen))) == (40, 40)
    assert pages > 1
    for each in (url, f"/api/blockchain/booking/all/{person.id}"):
        whole = reader.get(each)
        assert (whole.status_code, len(whole.content) <= 256 * 1024) == (200, True)


@pytest.mark.parametrize(("name", "most"), [("studentNotes", 2_000), ("description", 10_000)])
def test_longer_notes_are_refused_by_name_and_maximum(scenario: Scenario, name: str, most: int) -> None:
    refused = scenario.book(slot("09:00"), **{name: "x" * (most + 1)})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert refused.json()["message"] == f"{name}: String should have at most {most} characters."
    assert scenario.book(slot("09:00"), **{name: "x" * most}).status_code == 200
