"""One shim with the page, and one browser, for all tests of the page."""

from collections.abc import Iterator

import pytest
import services
from browsing import FLAGS, Visits
from forked import Stack
from playwright.sync_api import Browser, sync_playwright

from tools.dev_stack import ROOT, DevStack


@pytest.fixture(scope="session")
def stack() -> Iterator[DevStack]:
    if not (ROOT / "web" / "dist" / "index.html").exists():
        pytest.fail("the page is not built: run `make setup` (or `npm run build`)")
    settings = {
        "demo": True,
        "log_format": "json",
        "confirmations": 3,
        "resend_seconds": 0.5,
        "wait_seconds": 50,
    }
    with Stack(settings=settings) as stack:
        stack.seed()
        yield stack


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The machine's Chromium, or else the set-up's."""
    if (path := services.chromium()) is None:
        pytest.skip(services.LACKING["Chromium"])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visits(stack: DevStack, chromium: Browser) -> Iterator[Visits]:
    """People at the page. None of them may see an error in the console, or have the page ask another host."""
    visits = Visits(stack, chromium)
    yield visits
    visits.close()
