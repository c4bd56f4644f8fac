"""One shim with the page, and one browser, for all tests of the page."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from browsing import FLAGS, Visits
from dev_stack import ROOT, DevStack
from playwright.sync_api import Browser, sync_playwright


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
    with DevStack(settings=settings) as stack:
        stack.seed()
        yield stack


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium. Playwright must not download one."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no Chromium (Debian: chromium)")
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
