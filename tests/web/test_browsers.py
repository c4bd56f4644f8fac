"""Browsers as people have them: older, stricter, without a time zone, on a network without TLS."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import services
from browsing import FLAGS, Visits
from playwright.sync_api import Browser, Page, Route, expect

from api.people.directory import Annonce, User
from tools.dev_stack import DevStack

BLOCKED = """
for (const kind of ["localStorage", "sessionStorage"]) {
    const get = () => { throw new DOMException("Access is denied for this document.", "SecurityError"); };
    Object.defineProperty(window, kind, { get });
}
"""
"""The refusal of Chromium where the data of sites is blocked. Its headless form has no such setting."""


@pytest.fixture
def annonce(stack: DevStack) -> Annonce:
    return stack.create_annonce(stack.create_user("tutor"))


@pytest.fixture
def student(stack: DevStack) -> User:
    return stack.create_user("student", balance=1000)


@contextmanager
def opened(
    chromium: Browser,
    folder: Path,
    *,
    script: str = "",
    flags: tuple[str, ...] = (),
    **environment: str,
) -> Iterator[Page]:
    """A page in a browser with settings of its own, in which no error may go unheard."""
    context = chromium.browser_type.launch_persistent_context(
        folder,
        executable_path=services.chromium(),
        args=[*FLAGS, *flags],
        env={**os.environ, **environment},
        locale="en-GB",
    )
    errors: list[str] = []
    page = context.pages[0]
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(script)
    try:
        yield page
        assert errors == []
    finally:
        context.close()


def book(page: Page, url: str, token: str, annonce: Annonce) -> None:
    """One lesson, from the listing to the receipt."""
    page.goto(f"{url}/?annonce={annonce.id}#token={token}")
    page.get_by_role("button", name="Next week").click()
    page.locator(".slot").first.click()
    page.get_by_role("button", name="Review").click()
    expect(page.locator(".review .sums div").nth(1)).to_be_visible()
    page.locator(".review .button.primary").click()
    expect(page.get_by_role("heading", name="1 lesson booked")).to_be_visible()


@pytest.mark.parametrize(
    ("script", "lacking"),
    [
        ("delete AbortSignal.any; delete AbortSignal.timeout", "AbortSignal.any || AbortSignal.timeout"),
        ("delete Crypto.prototype.randomUUID", "crypto.randomUUID"),
    ],
)
def test_an_older_browser_books(
    stack: DevStack,
    chromium: Browser,
    tmp_path: Path,
    annonce: Annonce,
    student: User,
    script: str,
    lacking: str,
) -> None:
    with opened(chromium, tmp_path, script=script) as page:
        book(page, stack.url, stack.token(student.id), annonce)
        assert page.evaluate(f"!({lacking})")


def test_a_page_without_tls_books(
    stack: DevStack, chromium: Browser, tmp_path: Path, annonce: Annonce, student: User
) -> None:
    flags = ("--host-resolver-rules=MAP lan.test 127.0.0.1",)
    with opened(chromium, tmp_path, flags=flags) as page:
        book(page, f"http://lan.test:{stack.port}", stack.token(student.id), annonce)
        assert page.evaluate("isSecureContext") is False


def test_a_browser_that_keeps_nothing_forgets_and_books(
    stack: DevStack, chromium: Browser, tmp_path: Path, annonce: Annonce, student: User
) -> None:
    with opened(chromium, tmp_path, script=BLOCKED) as page:
        book(page, stack.url, stack.token(student.id), annonce)
        page.get_by_role("button", name="FR", exact=False).first.click()
        expect(page.get_by_role("heading", name="1 cours réservé")).to_be_visible()


def test_a_system_without_a_time_zone_has_the_page_in_utc(
    stack: DevStack, chromium: Browser, tmp_path: Path, annonce: Annonce, student: User
) -> None:
    with opened(chromium, tmp_path, TZ="Foo/Bar") as page:
        book(page, stack.url, stack.token(student.id), annonce)
        expect(page.locator(".facts").first).to_contain_text("UTC")


def test_a_french_browser_has_english_with_its_own_clock(
    visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student, locale="fr-FR").open(f"/?annonce={annonce.id}")
    visit.page.get_by_role("button", name="EN", exact=False).first.click()
    visit.button("Next week").click()
    expect(visit.page.locator(".slot").nth(8)).to_have_text("17:00")


def test_what_nobody_expected_is_a_sentence_with_a_way_back(
    visits: Visits, annonce: Annonce, student: User
) -> None:
    visit = visits.new(student)

    def of_mars(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        body["data"]["timeZone"] = "Mars/Phobos"
        route.fulfill(response=answer, json=body)

    visit.page.route("**/annonce/*", of_mars)
    visit.open(f"/?annonce={annonce.id}")
    notice = visit.problem("Something went wrong on this page.")
    visit.see("a-broken")
    visit.page.unroute("**/annonce/*")
    notice.get_by_role("button", name="Load the page again").click()
    visit.heading("Cours d'essai")
    visit.complaints.clear()
    visit.page.evaluate("void Promise.reject(new Error('of a handler'))")
    visit.problem("Something went wrong on this page.")
    visit.heading("Cours d'essai")
    assert visit.complaints == ["of a handler"]
    visit.complaints.clear()
