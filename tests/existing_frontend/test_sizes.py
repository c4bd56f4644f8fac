"""No answer is larger than 256 KiB: every GET of the document, where everything is as long as it can be."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from frontend import PREFIX
from scene import Scene
from user_service import UserService

import api
from api.booking.listings import MOST_DAYS
from api.booking.models import TakenTimes
from api.json_io import ExactResponse
from api.schemas.lesson_responses import CalendarAnswer
from api.schemas.requests import TUTOR as ID
from tools.dev_stack import DevStack

MOST_BYTES = 256 * 1024
DOCUMENT: dict[str, Any] = json.loads((Path(api.__path__[0]).parent / "docs" / "openapi.json").read_text())
ROUTES = [path for path, each in DOCUMENT["paths"].items() if "get" in each and path.startswith(PREFIX)]
WORST = "\1"  # JSON takes six bytes for it.


class Filled(Scene):
    """The largest batches, the longest names and words, and a note and a reason at each lesson."""

    def fill(self) -> None:
        self.fund(self.student_id, 1000)
        names = dict.fromkeys(("firstName", "lastName", "email"), WORST * 1000)
        self.users.users[self.student_id] |= names
        self.users.users[self.tutor_id] |= names
        words = dict.fromkeys(("title", "subject", "level", "teachingMode"), WORST * 1000)
        self.users.listings[self.listing_id] |= words | {"description": WORST * 10_000}
        lessons = [(f"{hour:02}:{minute:02}", 15) for hour in range(8, 18) for minute in (0, 15, 30, 45)]
        said = {"description": WORST * 10_000, "studentNotes": WORST * 2000}
        first, second = (self.book(*lessons, **said) for _ in range(2))
        for lesson in first:
            self.tutor.data("PATCH", f"/booking/{lesson['id']}/confirm", {"tutorNotes": WORST * 2000})
        for lesson in first[:20]:
            self.tutor.data("PATCH", f"/booking/{lesson['id']}/cancel", {"reason": WORST * 2000})
        act = self.tutor.client.patch(
            f"/booking/{second[0]['id']}/confirm",
            json={"tutorNotes": WORST * 2000},
            headers={"Prefer": "respond-async"},
        )
        self.values = {
            "userId": self.student_id,
            "tutorId": self.profile_id,
            "annonceId": self.listing_id,
            "id": first[0]["id"],
            "batchId": first[0]["blockchainTransactionId"][:-2] + "00",
            "actId": act.headers["Location"].rpartition("/")[2],
        }


@pytest.fixture(scope="module")
def filled(stack: DevStack, users: UserService) -> Iterator[Filled]:
    scene = Filled(stack, users)
    try:
        scene.fill()
        yield scene
    finally:
        scene.close()


@pytest.mark.parametrize("path", ROUTES)
def test_an_answer_with_the_longest_of_everything_is_bounded(filled: Filled, path: str) -> None:
    own = filled.tutor_id if "{tutorId}" in path else filled.student_id
    person = filled.tutor if "{tutorId}" in path else filled.student
    answer = person.ask(
        "GET", path.removeprefix(PREFIX).format_map(filled.values | {"userId": own}) + "?limit=100"
    )
    assert (answer.status_code, len(answer.content) <= MOST_BYTES) == (200, True), answer.text[:1000]


def test_a_calendar_that_nothing_can_join_is_bounded() -> None:
    """Every other quarter of an hour is taken, for as long as may be asked for."""
    since, step = datetime(2035, 3, 5, tzinfo=UTC), timedelta(minutes=30)
    starts = [since + step * place for place in range(48 * MOST_DAYS)]
    taken = [(start, start + step / 2) for start in starts]
    answer = CalendarAnswer.from_times(TakenTimes(ID, since, since + timedelta(days=MOST_DAYS), taken))
    assert len(ExactResponse(answer).body) <= MOST_BYTES
