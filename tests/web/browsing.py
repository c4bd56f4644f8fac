"""People at the page: each with a browser of their own, in a zone, a language and a size."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect
from waiting import PATIENCE

from api.people.directory import Annonce, User
from tools.dev_stack import ROOT, DevStack

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
SCREENSHOTS = ROOT / ".build" / "screenshots"

AXE = (ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text()
_FINDINGS = """async () => (await axe.run()).violations.map(
    ({id, nodes}) => id + ": " + nodes.map(({html, failureSummary}) => html + failureSummary).join(" | "))"""

BOOKING = "/api/blockchain/booking"

expect.set_options(timeout=PATIENCE * 1000)


@dataclass
class Visit:
    """One person at the page, and what their browser saw."""

    stack: DevStack
    page: Page
    size: str
    token: str | None
    expects_refusals: bool = False
    requests: list[tuple[str, str]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> "Visit":
        """Goes to an address of the page, signed in."""
        self.page.goto(f"{self.stack.url}{path}{f'#token={self.token}' if self.token else ''}")
        return self

    def see(self, name: str) -> None:
        """A state of the page: nobody is shut out of it (axe), and it has its picture taken."""
        self.page.evaluate(AXE)
        if findings := self.page.evaluate(_FINDINGS):
            raise AssertionError(f"{name}: {findings}")
        if not self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
            raise AssertionError(f"{name} is wider than the window")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}-{self.size}.png", full_page=True)

    def button(self, name: str | re.Pattern[str], *, exact: bool = True) -> Locator:
        """A button by what a screen reader calls it."""
        return self.page.get_by_role("button", name=name, exact=exact)

    def heading(self, name: str) -> Locator:
        """A heading, once it is there."""
        heading = self.page.get_by_role("heading", name=name, exact=True)
        expect(heading).to_be_visible()
        return heading

    def problem(self, text: str) -> Locator:
        """The notice with this sentence, once it is there."""
        notice = self.page.locator(".notice").filter(has_text=text)
        expect(notice).to_be_visible()
        return notice

    def sent(self, method: str, path: str = BOOKING) -> list[str]:
        """The requests of a method below a path."""
        return [asked for verb, asked in self.requests if verb == method and asked.startswith(path)]

    def look_again(self) -> None:
        """Comes back to the tab."""
        self.page.evaluate("window.dispatchEvent(new Event('focus'))")

    # --- Booking ---

    def choose(self, annonce: Annonce, *times: int, weeks: int = 1) -> list[str]:
        """Picks free slots of a week to come, by their places in it; what they are called."""
        self.open(f"/?annonce={annonce.id}")
        expect(self.page.locator(".slot").first).to_be_visible()
        for _ in range(weeks):
            self.button(re.compile("Next week|Semaine suivante")).click()
        names = []
        free = self.page.locator(".slot")
        for place in times:
            names.append(free.nth(place).get_attribute("aria-label") or "")
            free.nth(place).click()
        return names

    def review(self) -> None:
        """On to the review, once the balance is there."""
        self.button(re.compile("^(Review|Vérifier)$"), exact=False).click()
        expect(self.page.locator(".review .sums div").nth(1)).to_be_visible()

    def confirm(self) -> None:
        """The one click."""
        self.page.locator(".review .button.primary").click()

    def receipt(self) -> Locator:
        """The receipt, once it is there."""
        receipt = self.page.locator(".receipt")
        expect(receipt).to_be_visible()
        return receipt


class Visits:
    """The people of one test."""

    def __init__(self, stack: DevStack, browser: Browser) -> None:
        self._stack = stack
        self._browser = browser
        self._open: list[tuple[BrowserContext, Visit]] = []

    def new(
        self,
        user: User | None = None,
        *,
        size: str = "desktop",
        zone: str = "Europe/Paris",
        locale: str = "en-GB",
        scheme: Any = "light",
        prepare: Callable[[Page], None] = lambda _: None,
    ) -> Visit:
        """A new person at the page, signed in or not."""
        width, height = SIZES[size]
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            timezone_id=zone,
            locale=locale,
            color_scheme=scheme,
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"],
        )
        page = context.new_page()
        prepare(page)
        visit = Visit(self._stack, page, size, self._stack.token(user.id) if user else None)
        page.on("request", lambda request: self._note(visit, request))
        page.on("console", lambda message: self._hear(visit, message))
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        self._open.append((context, visit))
        return visit

    def close(self) -> None:
        """Closes all browsers. Raises if the page gave a reason to complain."""
        complaints = [complaint for _, visit in self._open for complaint in visit.complaints]
        for context, _ in self._open:
            context.close()
        assert complaints == []

    def _note(self, visit: Visit, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in {"data", "blob"}:
            return
        visit.requests.append((request.method, address.path))
        if f"{address.scheme}://{address.netloc}" != self._stack.url:
            visit.complaints.append(f"asked {request.url}")

    @staticmethod
    def _hear(visit: Visit, message: ConsoleMessage) -> None:
        # Chromium's own line about an answer that the test provoked.
        provoked = visit.expects_refusals and message.text.startswith("Failed to load resource")
        if message.type in {"error", "warning"} and not provoked:
            visit.complaints.append(message.text)


def downloaded(visit: Visit, click: Callable[[], None]) -> str:
    """The text of the file that a click downloads."""
    with visit.page.expect_download() as download:
        click()
    return Path(download.value.path()).read_text()
