"""confirm-outcome, the earlier frontend's call: what each party's word does to the lesson and its money."""

from collections.abc import Iterator

import pytest
from forked import Stack
from lesson_scenario import SETTINGS, LessonScenario
from scenario import SINGLE, watching

from tools.dev_stack import DevStack

HOUR = 3600


@pytest.fixture(scope="module")
def stack() -> Iterator[DevStack]:
    """A chain whose time passes."""
    with Stack(settings=SETTINGS) as stack:
        yield stack


@pytest.fixture
def lesson_scenario(stack: DevStack) -> LessonScenario:
    return LessonScenario.of(stack)


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
    lesson_scenario: LessonScenario,
    who: str,
    held: bool,
    confirmed: bool,
    act: str,
    status: str,
    gains: tuple[int, int],
) -> None:
    [booking] = lesson_scenario.book()["bookings"]
    if confirmed:
        assert lesson_scenario.act("tutor", "confirm", booking).status_code == 200
    lesson_scenario.at(lesson_scenario.start(booking) + HOUR)
    before = lesson_scenario.money()
    path = f"{SINGLE}/{booking['id']}/confirm-outcome?course_held={str(held).lower()}"
    with watching(lesson_scenario.stack) as seen:
        answer = lesson_scenario.client(who).post(path)
        again = lesson_scenario.client(who).post(path)
    assert answer.status_code == again.status_code == 200, answer.text
    assert again.json() == answer.json()
    data = answer.json()["data"]
    assert (data["act"], data["bookings"][0]["status"]) == (act, status)
    assert len(seen.transactions) == (act != "acknowledge")
    student, tutor = (gain * 10**18 for gain in gains)
    assert lesson_scenario.money() == (before[0] + student, before[1] + tutor, before[2] - student - tutor)


def test_a_word_too_early_is_refused(lesson_scenario: LessonScenario) -> None:
    [booking] = lesson_scenario.book()["bookings"]
    assert lesson_scenario.act("tutor", "confirm", booking).status_code == 200
    answer = lesson_scenario.student.post(f"{SINGLE}/{booking['id']}/confirm-outcome?courseHeld=false")
    assert (answer.status_code, answer.json()["code"]) == (409, "too_early")


@pytest.mark.parametrize(
    "query", ["", "?course_held=", "?course_held=perhaps", "?courseHeld=true&course_held=true"]
)
def test_a_word_is_true_or_false(lesson_scenario: LessonScenario, query: str) -> None:
    [booking] = lesson_scenario.book()["bookings"]
    answer = lesson_scenario.student.post(f"{SINGLE}/{booking['id']}/confirm-outcome{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
