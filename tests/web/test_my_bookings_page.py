"""My bookings: what may be done with a lesson, by whom, and who gets how much, said before it is done."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from browsing import BOOKING, Visit, Visits
from forked import Stack
from playwright.sync_api import Browser, Dialog, Locator, expect

from api.auth import mint
from api.people.directory import Annonce, User
from creneau.amounts import to_wei
from tools.dev_stack import DevStack


@pytest.fixture(scope="module")
def stack() -> Iterator[DevStack]:
    """A chain of its own, because its time passes."""
    with Stack(settings={"confirmations": 3, "follow_seconds": 0.2}) as stack:
        yield stack


@pytest.fixture
def visits(stack: DevStack, chromium: Browser) -> Iterator[Visits]:
    visits = Visits(stack, chromium)
    yield visits
    visits.close()


@pytest.fixture
def tutor(stack: DevStack) -> User:
    return stack.create_user("tutor")


@pytest.fixture
def student(stack: DevStack) -> User:
    return stack.create_user("student", balance=1000)


@pytest.fixture
def annonce(stack: DevStack, tutor: User) -> Annonce:
    return stack.create_annonce(tutor)


def tomorrow(stack: DevStack, days: int = 3) -> date:
    """A day to come, by the chain's clock."""
    now = int(stack.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    return (datetime.fromtimestamp(now, UTC) + timedelta(days=days)).date()


def book(
    stack: DevStack, student: User, annonce: Annonce, *hours: int, days: int = 3
) -> list[dict[str, Any]]:
    """Lessons of an hour, three days ahead."""
    day = tomorrow(stack, days).isoformat()
    slots = [{"date": day, "time": f"{hour:02}:00", "amount": 35, "duration": 60} for hour in hours]
    body = {"tutorId": annonce.tutor_id, "annonceId": annonce.id, "bookings": slots}
    answer = stack.client(student.id).post(f"{BOOKING}/batch", json=body)
    assert answer.status_code == 200, answer.text
    bookings: list[dict[str, Any]] = answer.json()["data"]["bookings"]
    return bookings


def lesson(visit: Visit, time: str) -> Locator:
    """A lesson of the lists, by its beginning."""
    found = visit.page.locator(".mine .lessons > li").filter(has_text=f"{time} \N{EN DASH} ")
    expect(found).to_have_count(1)
    return found


def do(visit: Visit, at: Locator, act: str, says: str, button: str, name: str | None = None) -> None:
    """Presses an act's button, reads what it means, and does it."""
    at.get_by_role("button", name=act).click()
    dialog = visit.page.get_by_role("dialog")
    expect(dialog.locator(".lead")).to_have_text(says.replace(" EDU", "\u00a0EDU"))
    if name:
        visit.see(name)
    dialog.get_by_role("button", name=button).click()
    expect(dialog).to_have_count(0)


def test_the_tutor_confirms_and_cancels_and_the_student_cancels(
    stack: DevStack, visits: Visits, student: User, tutor: User, annonce: Annonce
) -> None:
    book(stack, student, annonce, 9, 10, 11)
    tutors = visits.new(tutor).open("/bookings")
    tutors.heading("My bookings")
    agreed = "The lesson is agreed. 35 EDU stay in escrow until it was held."
    returned = "35 EDU go back to the student at once, and the time is free again."
    do(tutors, lesson(tutors, "09:00"), "Confirm:", agreed, "Confirm the lesson", "f-confirm")
    expect(lesson(tutors, "09:00").locator(".badge")).to_have_text("Confirmed")
    do(tutors, lesson(tutors, "10:00"), "Cancel:", returned, "Cancel the lesson")
    expect(lesson(tutors, "10:00").locator(".badge")).to_have_text("Cancelled")
    tutors.see("f-tutor")

    students = visits.new(student, size="phone").open("/bookings")
    expect(lesson(students, "09:00")).to_contain_text(
        "35\u00a0EDU in escrow; it goes to the tutor after the lesson."
    )
    expect(lesson(students, "10:00")).to_contain_text("35\u00a0EDU returned to the student.")
    do(students, lesson(students, "11:00"), "Cancel:", returned, "Cancel the lesson", "f-cancel")
    expect(lesson(students, "11:00").locator(".badge")).to_have_text("Cancelled")
    students.see("f-student")
    assert stack.balance(student.wallet) == to_wei(1000 - 35)
    # Nothing is left to do with what is cancelled, and what is confirmed can still be cancelled in time.
    expect(lesson(students, "11:00").get_by_role("button")).to_have_count(0)
    expect(lesson(students, "09:00").get_by_role("button")).to_have_count(1)


def test_ten_lessons_are_confirmed_by_two_clicks_in_one_request_and_one_transaction(
    stack: DevStack, visits: Visits, student: User, tutor: User, annonce: Annonce
) -> None:
    book(stack, student, annonce, *range(9, 19))
    visit = visits.new(tutor).open("/bookings")
    before = stack.web3.eth.get_transaction_count(stack.account(1).address)
    expect(visit.page.locator(".together")).to_contain_text("10 lessons, total 350\u00a0EDU")
    expect(visit.page.locator(".badge").first).to_have_text("Waits for you")
    expect(visit.page.locator(".mine > .lead")).to_have_text("350\u00a0EDU in escrow for your lessons.")
    visit.button("Confirm 10 lessons").click()
    dialog = visit.page.get_by_role("dialog")
    expect(dialog.locator(".lead")).to_have_text(
        "The lessons are agreed. 350\u00a0EDU stay in escrow until they were held."
    )
    expect(dialog.locator(".asked > li")).to_have_count(10)
    visit.see("f-confirm-all")
    dialog.get_by_role("button", name="Confirm 10 lessons").click()
    section = visit.page.get_by_role("heading", name="Upcoming").locator("xpath=..")
    expect(section.locator(".badge.CONFIRMED")).to_have_count(10)
    expect(visit.heading("Requests")).to_be_focused()
    expect(visit.page.get_by_text("Confirm: 10 lessons, done.")).to_have_count(1)
    expect(visit.page.get_by_text("No request is waiting for you.")).to_be_visible()
    assert len(visit.sent("PATCH")) == 1
    assert stack.web3.eth.get_transaction_count(stack.account(1).address) == before + 1


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_some_lessons_of_a_batch_are_cancelled_together(
    stack: DevStack, visits: Visits, student: User, annonce: Annonce, size: str
) -> None:
    book(stack, student, annonce, 9, 10, 11)
    visit = visits.new(student, size=size, locale="fr-FR").open("/bookings")
    expect(visit.button("Annuler 3 cours")).to_be_visible()
    for time in ("09:00", "11:00"):
        lesson(visit, time).get_by_role("checkbox").check()
    visit.see("f-some")
    visit.button("Annuler 2 cours").click()
    dialog = visit.page.get_by_role("dialog")
    expect(dialog.locator(".asked time")).to_have_text(
        [re.compile("^09:00.*10:00$"), re.compile("^11:00.*12:00$")]
    )
    dialog.get_by_role("button", name="Annuler 2 cours").click()
    for time, status in (("09:00", "Annulé"), ("10:00", "En attente du professeur"), ("11:00", "Annulé")):
        expect(lesson(visit, time).locator(".badge")).to_have_text(status)
    assert len(visit.sent("PATCH")) == 1
    assert stack.balance(student.wallet) == to_wei(1000 - 35)


def test_keeping_it_as_it_is_changes_nothing(
    stack: DevStack, visits: Visits, student: User, annonce: Annonce
) -> None:
    book(stack, student, annonce, 9)
    visit = visits.new(student).open("/bookings")
    lesson(visit, "09:00").get_by_role("button", name="Cancel:").click()
    visit.page.get_by_role("dialog").get_by_role("button", name="Keep it as it is").click()
    lesson(visit, "09:00").get_by_role("button", name="Cancel:").click()
    visit.page.keyboard.press("Escape")
    expect(visit.page.get_by_role("dialog")).to_have_count(0)
    expect(lesson(visit, "09:00").locator(".badge")).to_have_text("Waiting for the tutor")
    assert visit.sent("PATCH") == []


def test_what_the_contract_refuses_is_said_where_it_was_asked(
    stack: DevStack, visits: Visits, student: User, tutor: User, annonce: Annonce
) -> None:
    [booking] = book(stack, student, annonce, 9)
    visit = visits.new(tutor).open("/bookings")
    visit.expects_refusals = True
    lesson(visit, "09:00").get_by_role("button", name="Confirm:").click()
    assert stack.client(student.id).patch(f"{BOOKING}/{booking['id']}/cancel").status_code == 200
    visit.page.get_by_role("button", name="Confirm the lesson").click()
    visit.problem("is cancelled; only one that is pending can be confirmed")
    visit.see("f-refused")


def test_after_the_lesson_the_student_pays_or_disputes(
    stack: DevStack, visits: Visits, student: User, tutor: User, annonce: Annonce
) -> None:
    bookings = book(stack, student, annonce, 9, 10)
    for booking in bookings:
        path = f"{BOOKING}/{booking['id']}/confirm"
        assert stack.client(tutor.id).patch(path).status_code == 200
    end = datetime.fromisoformat(bookings[1]["startsAt"]) + timedelta(hours=1)
    stack.rpc("evm_setNextBlockTimestamp", int(end.timestamp()))
    stack.rpc("evm_mine")
    visit = visits.new(student)
    visit.page.clock.install(time=end)
    visit.open("/bookings")
    past = visit.page.get_by_role("heading", name="Past").locator("xpath=..")
    expect(past.locator(".lessons > li")).to_have_count(2)
    paid = "35 EDU are paid to the tutor at once. This can't be undone."
    do(visit, lesson(visit, "09:00"), "Lesson was held:", paid, "Pay the tutor", "f-complete")
    expect(lesson(visit, "09:00")).to_contain_text("35\u00a0EDU paid to the tutor.")
    held = "35 EDU stay in escrow until an arbiter decides who gets how much."
    do(visit, lesson(visit, "10:00"), "Dispute:", held, "Dispute the lesson", "f-dispute")
    expect(lesson(visit, "10:00").locator(".badge")).to_have_text("Disputed")
    visit.see("f-past")
    assert stack.balance(tutor.wallet) == to_wei(35)


def test_more_lessons_than_a_page_are_shown_by_and_by(
    stack: DevStack, visits: Visits, student: User, annonce: Annonce
) -> None:
    book(stack, student, annonce, *range(24))
    stack.mint(student.wallet, to_wei(1000))
    book(stack, student, annonce, *range(24), days=4)
    visit = visits.new(student).open("/bookings")
    lessons = visit.page.locator(".mine .lessons > li")
    expect(lessons).to_have_count(40)
    visit.button("Show more").click()
    expect(lessons).to_have_count(48)
    expect(visit.page.locator(".mine .batch")).to_have_count(2)
    expect(visit.button("Show more")).to_have_count(0)


def test_a_link_does_not_replace_another_persons_session_unless_they_say_so(
    stack: DevStack, visits: Visits
) -> None:
    student, other = (stack.create_user("student", balance=balance) for balance in (11, 22))
    visit = visits.new(student)
    asked: list[str] = []
    agreed = False

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        if agreed:
            dialog.accept()
        else:
            dialog.dismiss()

    visit.page.on("dialog", answer)

    def shown(path: str, token: str, *, agrees: bool) -> str:
        """Return the user whom the page asks about, once a link was followed."""
        nonlocal agreed
        agreed = agrees
        visit.page.goto("about:blank")
        with visit.page.expect_response(lambda answer: answer.url.endswith("/account")) as account:
            visit.page.goto(f"{stack.url}{path}#token={token}")
        visit.heading("My bookings")
        assert "token" not in visit.page.url
        return str(account.value.json()["data"]["id"])

    assert shown("/bookings/", visit.token or "", agrees=False) == student.id
    assert shown("/bookings", mint(student.id, stack.settings, timedelta(days=1)), agrees=False) == student.id
    assert asked == []  # The same person again, with a newer token.
    assert shown("/bookings", stack.token(other.id), agrees=False) == student.id
    assert shown("/bookings", stack.token(other.id), agrees=True) == other.id
    assert (
        asked == ["This link signs in another person, and you are signed in here. Go on as that person?"] * 2
    )
