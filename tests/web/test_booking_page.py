"""Booking with a custodial account: one request, one transaction, one click; and whatever comes between."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from browsing import BOOKING, Visit, Visits, downloaded
from playwright.sync_api import Route, expect
from shown import charged_once, no_block, set_rate

from api.people.directory import Annonce, User
from creneau.amounts import to_wei
from tools.dev_stack import DevStack

PARIS = ZoneInfo("Europe/Paris")


@pytest.fixture
def tutor(stack: DevStack) -> User:
    return stack.create_user("tutor")


@pytest.fixture
def annonce(stack: DevStack, tutor: User) -> Annonce:
    return stack.create_annonce(tutor)


@pytest.fixture
def student(stack: DevStack) -> User:
    return stack.create_user("student", balance=1000)


def book_elsewhere(stack: DevStack, annonce: Annonce, label: str) -> None:
    """Another student books the slot of this name first."""
    clock, _, day = re.match(r"([\d:]+), (\w+) ([^,]+),", label.replace("\u202f", " ")).groups()  # type: ignore[union-attr]
    when = datetime.strptime(f"{day} {datetime.now(UTC).year}", "%d %B %Y").replace(tzinfo=UTC).date()
    when = when if when >= datetime.now(UTC).date() else when.replace(year=when.year + 1)
    rival = stack.create_user("student", balance=1000)
    slot = {"date": when.isoformat(), "time": clock, "amount": 35, "duration": 60}
    body = {"tutorId": annonce.tutor_id, "annonceId": annonce.id, "bookings": [slot]}
    assert stack.client(rival.id).post(f"{BOOKING}/batch", json=body).status_code == 200


@pytest.mark.parametrize(
    ("size", "locale", "scheme", "booked"),
    [
        ("desktop", "en-GB", "light", "3 lessons booked"),
        ("phone", "fr-FR", "dark", "3 cours réservés"),
    ],
)
def test_three_lessons_are_one_request_one_transaction_and_one_click(
    stack: DevStack,
    visits: Visits,
    annonce: Annonce,
    student: User,
    size: str,
    locale: str,
    scheme: str,
    booked: str,
) -> None:
    visit = visits.new(student, size=size, locale=locale, scheme=scheme)
    visit.choose(annonce, 0, 1, 12)
    visit.see("a-listing")
    visit.review()
    visit.see("b-review")
    with charged_once(stack, student, 105):
        visit.confirm()
        visit.heading(booked)
    visit.see("e-receipt")
    assert visit.sent("POST") == [f"{BOOKING}/batch"]
    assert re.search(r"/bookings/batch/0x[0-9a-f]{64}$", visit.page.url)
    receipt = visit.receipt()
    expect(receipt.locator(".lessons > li")).to_have_count(3)
    total = {
        "en-GB": "3 lessons, 105\u00a0EDU, 1 transaction",
        "fr-FR": "3 cours, 105\u00a0EDU, 1 transaction",
    }
    expect(receipt.locator(".done .lead")).to_have_text(total[locale])


def test_the_receipt_tells_the_transaction_and_goes_into_a_calendar(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)
    visit.choose(annonce, 0, 1)
    visit.review()
    visit.page.get_by_label("Notes for the tutor").fill("Réseaux, chapitre 3")
    visit.confirm()
    receipt = visit.receipt()
    batch = stack.client(student.id).get(f"{BOOKING}/batch/{visit.page.url.split('/')[-1]}").json()["data"]
    assert [booking["studentNotes"] for booking in batch["bookings"]] == ["Réseaux, chapitre 3"] * 2
    expect(receipt).to_contain_text("The tutor confirms each lesson before it begins")
    receipt.get_by_text("Proof of payment").click()
    expect(receipt.get_by_text(batch["transactionHash"])).to_be_visible()
    visit.see("e-proof")
    expect(receipt.locator(".facts div", has_text="Block")).to_contain_text(str(batch["blockNumber"]))
    for booking in batch["bookings"]:
        expect(receipt).to_contain_text(booking["id"])
    visit.button("Copy the transaction's hash").click()
    expect(visit.page.get_by_text("Copied")).to_be_visible()
    assert visit.page.evaluate("navigator.clipboard.readText()") == batch["transactionHash"]
    calendar = downloaded(visit, lambda: visit.button("Add to calendar (.ics)").click())
    starts = re.findall(r"DTSTART:(\S+)", calendar)
    assert starts == [re.sub("[-:]", "", booking["startsAt"]) for booking in batch["bookings"]]
    assert "SUMMARY:Cours d'essai" in calendar
    path = f"{BOOKING}/{batch['bookings'][0]['id']}/cancel"
    assert stack.client(student.id).patch(path).status_code == 200
    visit.page.reload()
    expect(visit.page.locator(".badge.CANCELLED")).to_have_count(1)
    calendar = downloaded(visit, lambda: visit.button("Add to calendar (.ics)").click())
    assert re.findall(r"DTSTART:(\S+)", calendar) == starts[1:]
    visit.page.emulate_media(media="print")
    expect(visit.button("Print")).to_be_hidden()
    expect(visit.page.get_by_role("heading", name="2 lessons booked")).to_be_visible()


# --- What others do meanwhile ---


def test_a_slot_that_is_taken_before_the_review_stays_visible_with_one_button_to_remove_it(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)
    first, _ = visit.choose(annonce, 0, 1)
    book_elsewhere(stack, annonce, first)
    visit.look_again()
    expect(visit.page.locator(".picks .lost")).to_contain_text("was taken meanwhile")
    expect(visit.button("Review")).to_be_disabled()
    visit.see("a-taken")
    visit.page.locator(".picks .lost button").click()
    expect(visit.page.locator(".picks li")).to_have_count(1)
    expect(visit.page.locator(".slot").first).to_have_attribute("aria-label", re.compile(", taken$"))
    visit.see("a-taken-removed")
    visit.review()
    visit.confirm()
    visit.heading("1 lesson booked")


def test_a_slot_that_is_taken_after_the_review_is_named_and_the_others_are_kept(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)
    visit.expects_refusals = True
    first, *_ = visit.choose(annonce, 0, 1, 2)
    visit.review()
    visit.page.get_by_label("If a lesson is taken meanwhile, book the others").uncheck()
    book_elsewhere(stack, annonce, first)
    visit.confirm()
    notice = visit.problem("A lesson was taken meanwhile.")
    expect(notice).to_contain_text("Nothing was charged, and your selection is kept.")
    assert stack.balance(student.wallet) == to_wei(1000)
    visit.see("c-taken")
    with charged_once(stack, student, 70):
        notice.get_by_role("button", name="Remove it").click()
        visit.confirm()
        visit.heading("2 lessons booked")


def test_the_others_are_booked_if_that_is_wanted_and_the_receipt_says_what_was_not(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student, zone="America/New_York")
    visit.choose(annonce, 0, 1, 2)
    visit.review()
    monday = visit.page.evaluate(
        "JSON.parse(sessionStorage.getItem(Object.keys(sessionStorage)"
        ".find((name) => name.startsWith('creneau.selection')))).picks[0].start"
    )
    when = datetime.fromtimestamp(monday / 1000, UTC)
    rival = stack.create_user("student", balance=1000)
    slot = {"date": when.date().isoformat(), "time": f"{when:%H:%M}", "amount": 35, "duration": 60}
    body = {"tutorId": annonce.tutor_id, "annonceId": annonce.id, "bookings": [slot], "timeZone": "UTC"}
    assert stack.client(rival.id).post(f"{BOOKING}/batch", json=body).status_code == 200
    with charged_once(stack, student, 70):
        visit.confirm()
        visit.heading("2 lessons booked")
    failures = visit.page.locator(".failures")
    expect(failures).to_contain_text("1 lesson was not booked:")
    expect(failures.locator("time")).to_have_attribute("datetime", f"{when:%Y-%m-%dT%H:%M}:00.000Z")
    expect(failures.locator("li")).to_contain_text("is already taken")
    visit.see("e-partial")


def test_a_price_that_has_changed_is_shown_before_anything_is_charged(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)
    visit.expects_refusals = True
    visit.choose(annonce, 0, 1)
    visit.review()
    set_rate(stack, annonce, 40)
    visit.confirm()
    notice = visit.problem("The price has changed.")
    visit.see("c-price-changed")
    notice.get_by_role("button", name="Show the new price").click()
    with charged_once(stack, student, 80):
        visit.button("Book 2 lessons for 80\u00a0EDU").click()
        visit.heading("2 lessons booked")


def test_too_few_edu_is_said_at_the_review(stack: DevStack, visits: Visits, annonce: Annonce) -> None:
    visit = visits.new(stack.create_user("student", balance=Decimal("50.5")))
    visit.choose(annonce, 0, 1)
    visit.review()
    visit.problem("You have 50.5\u00a0EDU, and these lessons cost 70\u00a0EDU.")
    expect(visit.button("Book 2 lessons for 70\u00a0EDU")).to_be_disabled()
    visit.see("b-too-few")


def test_too_few_edu_is_said_when_it_was_spent_after_the_review(
    stack: DevStack, visits: Visits, annonce: Annonce
) -> None:
    student = stack.create_user("student", balance=70)
    visit = visits.new(student)
    visit.expects_refusals = True
    visit.choose(annonce, 0, 1)
    visit.review()
    other = stack.create_annonce(stack.create_user("tutor"))
    day = (datetime.now(UTC) + timedelta(days=60)).date().isoformat()
    slot = {"date": day, "time": "09:00", "amount": 35, "duration": 60}
    body = {"tutorId": other.tutor_id, "annonceId": other.id, "bookings": [slot]}
    assert stack.client(student.id).post(f"{BOOKING}/batch", json=body).status_code == 200
    visit.confirm()
    visit.problem("You have 35\u00a0EDU, and these lessons cost 70\u00a0EDU.")
    visit.see("c-too-few")
    assert stack.balance(student.wallet) == to_wei(35)


def test_a_session_that_is_over_is_said(visits: Visits, annonce: Annonce, student: User) -> None:
    visit = visits.new(student)
    visit.expects_refusals = True
    visit.choose(annonce, 0)
    visit.review()
    visit.page.route(
        f"**{BOOKING}/batch",
        lambda route: route.continue_(headers={**route.request.headers, "authorization": "Bearer x.y.z"}),
    )
    visit.confirm()
    visit.problem("Your session is over. Please sign in again.")


# --- Reloads, silence and restarts: never twice, and always the same receipt ---


def test_a_reload_while_it_is_pending_resumes(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)
    visit.choose(annonce, 0, 1, 2)
    visit.review()
    with charged_once(stack, student, 105):
        with no_block(stack):
            visit.confirm()
            visit.heading("Booking your lessons")
            expect(visit.page.locator(".steps .now")).to_contain_text("In a block")
            visit.see("d-pending")
            address = visit.page.url
            visit.page.reload()
            visit.heading("Booking your lessons")
            assert visit.page.url == address
        visit.heading("3 lessons booked")
    assert visit.page.url == address
    assert len(visit.sent("POST")) == 1
    visit.page.reload()
    visit.heading("3 lessons booked")


def test_a_reload_before_the_answer_sends_the_same_again_and_ends_at_one_receipt(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)
    visit.choose(annonce, 0, 1, 2)
    visit.review()
    keys: list[str] = []
    answered: list[int] = []

    def swallow(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            answered.append(route.fetch().status)  # It arrives, and its answer does not.
        else:
            route.continue_()

    visit.page.route(f"**{BOOKING}/batch", swallow)
    with charged_once(stack, student, 105):
        visit.confirm()
        expect(visit.page.get_by_text("Sending your booking…")).to_be_visible()
        visit.see("c-sending")
        visit.page.wait_for_function("true")
        visit.page.reload()
        visit.heading("3 lessons booked")
    assert answered in ([200], [202])
    assert keys == [keys[0]] * 2


def test_what_was_given_up_before_its_answer_is_not_sent_with_other_lessons(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)
    visit.expects_refusals = True
    visit.choose(annonce, 0, 1)
    visit.review()
    visit.page.route(f"**{BOOKING}/batch", lambda route: route.abort())
    visit.confirm()
    expect(visit.page.get_by_text("No answer yet")).to_be_visible()
    visit.page.go_back()
    visit.page.locator(".picks button").first.click()
    visit.page.unroute_all()
    visit.review()
    expect(visit.button("Book 1 lesson for 35\u00a0EDU")).to_be_enabled()
    with charged_once(stack, student, 35):
        visit.confirm()
        visit.heading("1 lesson booked")


def test_a_second_tab_with_the_same_lessons_reaches_the_same_batch(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)
    visit.choose(annonce, 0, 1)
    visit.review()
    with charged_once(stack, student, 70):
        with no_block(stack):
            visit.confirm()
            visit.heading("Booking your lessons")
            first = visit.page.url
            other = visit.page.context.new_page()
            other.goto(f"{stack.url}/?annonce={annonce.id}#token={visit.token}")
            other.get_by_role("button", name="Next week").click()
            for place in (0, 1):
                other.locator(".slot").nth(place).click()
            other.get_by_role("button", name="Review").click()
            other.locator(".review .button.primary").click()
            expect(other.get_by_role("heading", name="Booking your lessons")).to_be_visible()
            assert other.url == first
        visit.heading("2 lessons booked")


def test_without_an_answer_it_checks_the_chain_and_goes_on_when_the_server_is_back(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)
    visit.expects_refusals = True
    visit.choose(annonce, 0, 1)
    visit.review()
    with charged_once(stack, student, 70):
        stack.stop_shim()
        try:
            visit.confirm()
            expect(
                visit.page.get_by_text("checking the chain. Nothing will be booked twice.")
            ).to_be_visible()
            visit.see("c-checking")
        finally:
            stack.start_shim()
        visit.heading("2 lessons booked")


def test_a_restart_while_it_is_pending_is_not_a_failure(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)
    visit.expects_refusals = True
    visit.choose(annonce, 0, 1)
    visit.review()
    with charged_once(stack, student, 70):
        with no_block(stack):
            visit.confirm()
            visit.heading("Booking your lessons")
            stack.stop_shim(kill=True)
            try:
                visit.problem("The service does not answer just now: checking the chain…")
                visit.see("d-reconnecting")
            finally:
                stack.start_shim()
        visit.heading("2 lessons booked")
        expect(visit.page.locator(".notice")).to_have_count(0)


# --- Time ---


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("locale", ["en-US", "fr-FR"])
def test_a_time_stands_on_one_line_and_within_its_button(
    visits: Visits, annonce: Annonce, student: User, size: str, locale: str
) -> None:
    visit = visits.new(student, size=size, locale=locale)
    visit.choose(annonce)
    visit.see(f"s-slots-{locale}")
    sizes = visit.page.locator(".slot").evaluate_all(
        """slots => slots.map(slot => {
            const text = document.createRange();
            text.selectNodeContents(slot);
            const rectangle = text.getBoundingClientRect();
            const lines = rectangle.height / parseFloat(getComputedStyle(slot).lineHeight);
            return [slot.innerText, Math.round(lines), rectangle.width <= slot.clientWidth];
        })"""
    )
    assert [text for text, lines, inside in sizes if lines != 1 or not inside] == []
    assert any(text.endswith("AM") for text, *_ in sizes) == (locale == "en-US")


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Asia/Kathmandu", "America/Los_Angeles"])
def test_both_clocks_are_shown_wherever_the_two_are(
    stack: DevStack, visits: Visits, tutor: User, student: User, zone: str
) -> None:
    annonce = stack.create_annonce(tutor, time_zone="America/Sao_Paulo")
    visit = visits.new(student, zone=zone)
    visit.choose(annonce, 0, 30)
    visit.review()
    visit.confirm()
    visit.receipt()
    batch = stack.client(student.id).get(f"{BOOKING}/batch/{visit.page.url.split('/')[-1]}").json()["data"]
    shown = visit.page.locator(".lessons > li")
    for place, booking in enumerate(batch["bookings"]):
        when = datetime.fromisoformat(booking["startsAt"])
        mine = visit.page.evaluate(
            "at => new Date(at).toLocaleTimeString('en-GB', {timeStyle: 'short'})", booking["startsAt"]
        )
        expect(shown.nth(place).locator("time")).to_have_text(re.compile(f"^{mine} \N{EN DASH} "))
        expect(shown.nth(place).locator("time")).to_have_attribute(
            "datetime", f"{when:%Y-%m-%dT%H:%M:%S}.000Z"
        )
        expect(shown.nth(place).locator(".when .other")).to_contain_text(f"{booking['time']} \N{EN DASH} ")
        expect(shown.nth(place).locator(".when .other")).to_contain_text("Sao Paulo (GMT-3)")


@pytest.mark.parametrize("zone", ["America/Vancouver", "Africa/Casablanca", "America/Toronto"])
def test_the_instant_that_is_picked_is_the_one_that_is_booked_or_it_is_refused(
    stack: DevStack, visits: Visits, tutor: User, student: User, zone: str
) -> None:
    """The rules of the first two changed in 2026: this browser may know, and the service does."""
    annonce = stack.create_annonce(tutor, time_zone=zone)
    visit = visits.new(student)
    visit.expects_refusals = True
    visit.choose(annonce, 0)
    visit.review()
    picked = visit.page.locator(".review time").first.get_attribute("datetime") or ""
    here = visit.page.evaluate(
        "([at, timeZone]) => new Date(at).toLocaleString('sv', {timeZone})", [picked, zone]
    )
    there = datetime.fromisoformat(picked).astimezone(ZoneInfo(zone))
    visit.confirm()
    if here == f"{there:%Y-%m-%d %H:%M:%S}":
        visit.receipt()
        path = f"{BOOKING}/batch/{visit.page.url.split('/')[-1]}"
        batch = stack.client(student.id).get(path).json()["data"]
        assert [booking["startsAt"] for booking in batch["bookings"]] == [picked.replace(".000Z", "Z")]
    else:
        assert zone != "America/Toronto"
        visit.problem("This browser and the booking service disagree about an hour.")
        assert stack.balance(student.wallet) == to_wei(1000)


OLDER_ZONE_DATA = """
const { DateTimeFormat } = Intl;
Intl.DateTimeFormat = new Proxy(DateTimeFormat, {
  construct: (target, [locale, options = {}]) => new target(locale,
    options.timeZone === "America/Vancouver" ? { ...options, timeZone: "America/Los_Angeles" } : options),
});
"""
"""As in a browser from before 2026, when Vancouver's clocks were always those of Los Angeles."""


def test_an_hour_that_the_service_reads_otherwise_is_refused_with_both_readings(
    stack: DevStack, visits: Visits, tutor: User, student: User
) -> None:
    annonce = stack.create_annonce(tutor, time_zone="America/Vancouver")
    visit = visits.new(student, prepare=lambda page: page.add_init_script(OLDER_ZONE_DATA))
    visit.expects_refusals = True
    visit.choose(annonce, 0, weeks=1 if in_winter_of_los_angeles() else 26)
    visit.review()
    picked = datetime.fromisoformat(visit.page.locator(".review time").first.get_attribute("datetime") or "")
    visit.confirm()
    notice = visit.problem("This browser and the booking service disagree about an hour.")
    mine, theirs = (f"{each:%Y-%m-%dT%H:%M:%SZ}" for each in (picked, picked - timedelta(hours=1)))
    expect(notice).to_contain_text(f"picked as {mine}, and in America/Vancouver it begins at {theirs}")
    expect(notice).to_contain_text("Nothing was charged")
    assert stack.balance(student.wallet) == to_wei(1000)


def in_winter_of_los_angeles() -> bool:
    """Return True if clocks there show winter time in the week to come, when those of Vancouver do not."""
    zone = ZoneInfo("America/Los_Angeles")
    week = [datetime.now(zone) + timedelta(days=days) for days in (7, 14)]
    return not any(day.dst() for day in week)


def test_over_a_clock_change_a_lesson_keeps_the_tutors_hour(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    change = next_clock_change()  # A Sunday.
    today = datetime.now(UTC).date()
    weeks = (change - (today - timedelta(days=today.weekday()))).days // 7
    visit = visits.new(student, zone="UTC")
    visit.choose(annonce, weeks=weeks)
    days = visit.page.locator(".days > li")
    for day in (5, 6):  # The Saturday before, and the Sunday.
        days.nth(day).locator(".slot").first.click()
    visit.review()
    visit.confirm()
    visit.receipt()
    batch = stack.client(student.id).get(f"{BOOKING}/batch/{visit.page.url.split('/')[-1]}").json()["data"]
    assert [booking["time"] for booking in batch["bookings"]] == ["09:00", "09:00"]
    hours = [datetime.fromisoformat(booking["startsAt"]).hour for booking in batch["bookings"]]
    assert sorted(hours) == [7, 8]
    assert visit.page.locator(".lessons time").all_inner_texts() == [
        f"{h:02}:00 \N{EN DASH} {h + 1:02}:00" for h in hours
    ]


def next_clock_change() -> date:
    """The next day on which Europe's clocks change: the last Sunday of March or October."""
    today = datetime.now(UTC).date()
    for month in range(today.month, today.month + 13):
        last = date(today.year + (month - 1) // 12, (month - 1) % 12 + 1, 31 if month % 12 in {3, 10} else 1)
        sunday = last - timedelta(days=(last.weekday() + 1) % 7)
        if last.day == 31 and sunday > today + timedelta(days=7):
            return sunday
    raise AssertionError


def test_a_tutors_published_hours_are_what_can_be_picked(
    stack: DevStack, visits: Visits, student: User
) -> None:
    day = (datetime.now(UTC) + timedelta(days=7 - datetime.now(UTC).weekday() + 2)).date()  # A Wednesday.
    times = [{"startTime": "14:00", "endTime": "16:00"}, {"startTime": "20:30", "endTime": "21:30"}]
    schedule = [{"date": day.isoformat(), "timeSlots": times}]
    tutor = stack.directory.create_user("scheduled", "tutor", schedule=schedule)
    annonce = stack.create_annonce(tutor)
    visit = visits.new(student)
    visit.choose(annonce, 0, 2, weeks=0)  # It opens on the first week that has any.
    shown = visit.page.locator(".slot")
    assert shown.all_inner_texts() == ["14:00", "15:00", "20:30"]
    assert visit.page.locator(".days > li.empty").count() == 6
    visit.see("a-schedule")
    visit.review()
    visit.confirm()
    visit.heading("2 lessons booked")


def test_nothing_is_called_free_before_the_calendar_has_come(
    visits: Visits, annonce: Annonce, student: User
) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    visit = visits.new(student)
    visit.page.route("**/calendar*", hold)
    visit.open(f"/?annonce={annonce.id}&week=2035-03-05")
    expect(visit.page.locator(".ghost")).to_have_count(70)
    expect(visit.page.locator(".slot")).to_have_count(0)
    visit.see("a-skeleton")
    visit.expects_refusals = True
    for route in held:
        route.fulfill(status=503, json={"code": "unavailable", "message": "The node does not answer."})
    notice = visit.problem("The node does not answer.")
    expect(visit.page.locator(".slot")).to_have_count(0)
    visit.page.unroute("**/calendar*")
    notice.get_by_role("button", name="Try again").click()
    expect(visit.page.locator(".slot")).to_have_count(70)
    expect(visit.page.locator(".ghost")).to_have_count(0)


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_week_is_found_by_its_first_free_time_by_a_day_and_by_an_address(
    stack: DevStack, visits: Visits, size: str
) -> None:
    today = datetime.now(UTC).date()
    monday = today + timedelta(days=7 - today.weekday())
    times = [{"startTime": "14:00", "endTime": "16:00"}]
    schedule = [{"date": (monday + timedelta(days=days)).isoformat(), "timeSlots": times} for days in (2, 37)]
    tutor = stack.directory.create_user(f"of-some-weeks-{size}", "tutor", schedule=schedule)
    annonce = stack.create_annonce(tutor)
    student = stack.create_user("student", balance=1000)
    address = f"/?annonce={annonce.id}&week="

    visit = visits.new(student, size=size).open(f"{address}{monday + timedelta(days=9)}")
    visit.problem("There is no free time in this week.")
    expect(visit.page.locator(".slot")).to_have_count(0)
    visit.see("a-none")
    visit.button("First free time").click()
    expect(visit.page.locator(".slot")).to_have_count(2)
    assert visit.page.url.endswith(f"{address}{monday + timedelta(days=35)}")
    visit.page.get_by_label("Go to a day").fill((monday + timedelta(days=2)).isoformat())
    expect(visit.page.locator(".slot")).to_have_count(2)
    assert visit.page.url.endswith(f"{address}{monday}")
    visit.open(f"{address}2001-01-01")  # It is over.
    expect(visit.page.locator(".slot")).to_have_count(2)


# --- How it is used ---


def test_the_keyboard_alone_suffices(visits: Visits, annonce: Annonce, student: User) -> None:
    visit = visits.new(student)
    visit.open(f"/?annonce={annonce.id}")
    expect(visit.page.locator(".slot").first).to_be_visible()
    tab_to(visit, "Skip to the content", "Enter")
    tab_to(visit, "Next week", "Enter")
    tab_to(visit, "09:00", "Space")
    for key, hour in (("End", "18:00"), ("Home", "09:00"), ("ArrowRight", "09:00"), ("ArrowDown", "10:00")):
        visit.page.keyboard.press(key)
        expect(visit.page.locator(".slot:focus")).to_have_text(hour)
    visit.page.keyboard.press("Space")
    expect(visit.page.locator(".picks li")).to_have_count(2)
    assert tab_to(visit, "Review", "Enter") <= 5  # One stop for the grid.
    visit.heading("Review your lessons")
    expect(visit.page.get_by_role("heading", name="Review your lessons")).to_be_focused()
    tab_to(visit, "Notes for the tutor", None)
    visit.page.keyboard.type("By keyboard")
    tab_to(visit, "If a lesson is taken meanwhile, book the others", "Space")
    tab_to(visit, "Book 2 lessons", "Enter")
    visit.heading("2 lessons booked")
    expect(visit.page.get_by_role("heading", name="2 lessons booked")).to_be_focused()
    tab_to(visit, "My bookings", "Enter")
    visit.heading("My bookings")
    tab_to(visit, "Cancel:", "Enter")
    tab_to(visit, "Cancel the lesson", "Enter")
    expect(visit.page.locator(".badge.CANCELLED")).to_have_count(1)


def tab_to(visit: Visit, name: str, key: str | None) -> int:
    """Tabs on until what has the focus is called so, and presses a key there; how many stops that took."""
    for stops in range(1, 100):
        visit.page.keyboard.press("Tab")
        called = visit.page.evaluate(
            "() => { const one = document.activeElement;"
            " return one.getAttribute('aria-label') || one.labels?.[0]?.innerText || one.innerText || '' }"
        )
        if called.strip().startswith(name):
            if key:
                visit.page.keyboard.press(key)
            return stops
    raise AssertionError(f"nothing that is called {name} gets the focus")


def test_lessons_of_several_lengths_never_overlap_and_cost_what_they_last(
    visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)
    visit.choose(annonce, 1)  # 10:00 to 11:00.
    visit.button("90 min").click()
    expect(visit.page.locator(".slot").nth(0)).to_have_attribute(
        "aria-label", re.compile("^09:00.*, overlaps your selection$")
    )
    visit.page.locator(".slot").nth(0).click(force=True)
    expect(visit.page.locator(".picks li")).to_have_count(1)
    visit.page.locator(".slot").nth(2).click()
    expect(visit.page.locator(".summary")).to_have_text("2 lessons, total 87.5\u00a0EDU")
    visit.see("a-lengths")


def test_ten_weeks_at_the_same_hour_are_four_clicks_one_request_and_one_transaction(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)
    visit.choose(annonce, 8)  # One click: Monday at 17:00.
    visit.page.get_by_label("Repeat every week").select_option("10")
    expect(visit.page.locator(".summary")).to_have_text("10 lessons, total 350\u00a0EDU")
    times = visit.page.locator(".picks time")
    expect(times).to_have_text([re.compile("^17:00.*18:00$")] * 10)
    starts = [
        datetime.fromisoformat(start).astimezone(PARIS)
        for start in times.evaluate_all("all => all.map(({dateTime}) => dateTime)")
    ]
    assert [(start.date() - starts[0].date()).days for start in starts] == [*range(0, 70, 7)]
    visit.review()
    with charged_once(stack, student, 350):
        visit.confirm()
        visit.heading("10 lessons booked")
    assert visit.sent("POST") == [f"{BOOKING}/batch"]


@pytest.mark.parametrize(("size", "locale"), [("desktop", "en-GB"), ("phone", "fr-FR")])
def test_a_week_that_is_taken_is_shown_before_the_review_with_the_nearest_free_time(
    stack: DevStack, visits: Visits, annonce: Annonce, student: User, size: str, locale: str
) -> None:
    visit = visits.new(student, size=size, locale=locale)
    visit.choose(annonce, 8)
    picked = visit.page.locator(".picks time").get_attribute("datetime")
    monday = datetime.fromisoformat(picked or "").astimezone(PARIS).date()
    rival = stack.create_user("student", balance=1000)
    slot = {
        "date": (monday + timedelta(weeks=2)).isoformat(),
        "time": "17:00",
        "amount": 35,
        "duration": 60,
    }
    body = {"tutorId": annonce.tutor_id, "annonceId": annonce.id, "bookings": [slot]}
    assert stack.client(rival.id).post(f"{BOOKING}/batch", json=body).status_code == 200
    visit.page.locator("select.weekly").select_option("4")
    gaps = visit.page.locator(".gaps li")
    expect(gaps).to_have_count(1)
    expect(visit.page.locator(".picks").first.locator("li")).to_have_count(3)
    visit.see("a-every-week")
    gaps.get_by_role("button", name=re.compile("^(Take|Prendre) .*1[68]:00$")).click()
    expect(gaps).to_have_count(0)
    expect(visit.page.locator(".picks li")).to_have_count(4)
    visit.review()
    with charged_once(stack, student, 140):
        visit.confirm()
        expect(visit.page.locator(".receipt .lessons > li")).to_have_count(4)


def test_the_demonstration_is_open_to_both_its_people_and_in_both_languages(visits: Visits) -> None:
    visit = visits.new().open()
    visit.heading("Cours de Deep Learning avancé")
    expect(visit.page.locator("html")).to_have_attribute("lang", "en")
    visit.page.get_by_role("button", name="FR", exact=False).first.click()
    expect(visit.page.locator("html")).to_have_attribute("lang", "fr")
    visit.page.get_by_role("button", name="le professeur").click()
    expect(visit.page.get_by_text("Seuls les élèves réservent des cours.")).to_be_visible()
    visit.see("a-tutor")
    visit.page.reload()
    expect(visit.page.get_by_role("button", name="le professeur")).to_have_attribute("aria-pressed", "true")


def test_who_is_not_signed_in_and_what_is_not_there_are_said(stack: DevStack, visits: Visits) -> None:
    visit = visits.new()
    visit.expects_refusals = True
    about = stack.client().get("/page.json").json() | {"demo": [], "annonceId": None}
    visit.page.route("**/page.json", lambda route: route.fulfill(json=about))
    visit.open()
    visit.problem("Please sign in to book lessons.")
    visit.heading("Choose a listing first")
    visit.see("a-nobody")
    visit.open("/?annonce=there-is-none")
    visit.problem("There is no such listing.")
