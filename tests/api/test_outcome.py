"""confirm-outcome, the earlier frontend's call: what each party's word does to the lesson and its money."""

from collections.abc import Iterator

import pytest
from desk import SINGLE, watching
from forked import Stack
from life import SETTINGS, Life

from tools.dev_stack import DevStack

HOUR = 3600


@pytest.fixture(scope="module")
def stack() -> Iterator[DevStack]:
    """A chain whose time passes."""
    with Stack(settings=SETTINGS) as stack:
        yield stack


@pytest.fixture
def life(stack: DevStack) -> Life:
    return Life.of(stack)


@pytest.mark.parametrize(
    ("who", "held", "confirmed", "act", "status", "gains"),
    [
        ("student", True, True, "complete", "COMPLETED", (0, 35)),
        ("student", True, False, "complete", "COMPLETED", (0, 35)),
        ("student", False, True, "dispute", "DISPUTED", (0, 0)),
        ("student", False, False, "cancel", "CANCELLED", (35, 0)),
        ("tutor", False, True, "cancel", "CANCELLED", (35, 0)),
        ("tutor", False, False, "cancel", "CANCELLED", (35, 0)),
        ("tutor", True, True, "acknowledge", "CONFIRMED", (0, 0)),
        ("tutor", True, False, "acknowledge", "PENDING", (0, 0)),
    ],
)
def test_what_a_word_does(
    life: Life, who: str, held: bool, confirmed: bool, act: str, status: str, gains: tuple[int, int]
) -> None:
    [booking] = life.book()["bookings"]
    if confirmed:
        assert life.act("tutor", "confirm", booking).status_code == 200
    life.at(life.start(booking) + HOUR)
    before = life.money()
    path = f"{SINGLE}/{booking['id']}/confirm-outcome?course_held={str(held).lower()}"
    with watching(life.stack) as seen:
        answer = life.client(who).post(path)
        again = life.client(who).post(path)
    assert answer.status_code == again.status_code == 200, answer.text
    assert again.json() == answer.json()
    data = answer.json()["data"]
    assert (data["act"], data["bookings"][0]["status"]) == (act, status)
    assert len(seen.transactions) == (act != "acknowledge")
    student, tutor = (gain * 10**18 for gain in gains)
    assert life.money() == (before[0] + student, before[1] + tutor, before[2] - student - tutor)


def test_a_word_too_early_is_refused(life: Life) -> None:
    [booking] = life.book()["bookings"]
    assert life.act("tutor", "confirm", booking).status_code == 200
    answer = life.student.post(f"{SINGLE}/{booking['id']}/confirm-outcome?course_held=false")
    assert (answer.status_code, answer.json()["code"]) == (409, "too_early")


@pytest.mark.parametrize("query", ["", "?course_held=", "?course_held=perhaps", "?courseHeld=true"])
def test_a_word_is_true_or_false(life: Life, query: str) -> None:
    [booking] = life.book()["bookings"]
    answer = life.student.post(f"{SINGLE}/{booking['id']}/confirm-outcome{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
