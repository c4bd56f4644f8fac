"""A tutor's calendar: what is taken by the chain, as intervals, for anybody."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from scenario import DAY, Scenario, slot

from api.schemas import lesson_responses as lesson_models
from tools.dev_stack import DevStack

URL = "/api/blockchain/tutor"


def day(offset: int = 0) -> str:
    """A day around the lessons', in UTC."""
    return (datetime.fromisoformat(f"{DAY}T00:00:00+00:00") + timedelta(days=offset)).isoformat()


def taken(stack: DevStack, tutor: str, **query: str) -> list[tuple[str, str]]:
    answer = stack.client().get(f"{URL}/{tutor}/calendar", params=query)
    assert answer.status_code == 200, answer.text
    lesson_models.CalendarAnswer.model_validate(answer.json())
    return [(each["start"], each["end"]) for each in answer.json()["data"]["taken"]]


def test_lessons_are_taken_time_in_utc_whatever_the_zones_are(stack: DevStack) -> None:
    scenario = Scenario.of(stack, time_zone="Asia/Kathmandu")  # Of UTC+05:45.
    booked = scenario.book(slot("09:00"), slot("10:00", 17.5, 30), slot("23:45", 70, 120))
    assert booked.status_code == 200
    assert taken(stack, scenario.tutor.id, **{"from": day(-1), "to": day(2)}) == [
        (f"{DAY}T03:15:00Z", f"{DAY}T04:45:00Z"),
        (f"{DAY}T18:00:00Z", f"{DAY}T20:00:00Z"),
    ]
    # By another zone's clock, and by the profile's id.
    local = {"from": f"{DAY}T00:00:00+05:45", "to": f"{DAY}T10:00:00+05:45"}
    assert taken(stack, str(scenario.tutor.profile_id), **local) == [(f"{DAY}T03:15:00Z", f"{DAY}T04:15:00Z")]
    # What is cancelled is free again.
    [first, *_] = booked.json()["data"]["bookings"]
    assert scenario.client.patch(f"/api/blockchain/booking/{first['id']}/cancel").status_code == 200
    assert taken(stack, scenario.tutor.id, **{"from": day(-1), "to": day(2)})[0] == (
        f"{DAY}T04:15:00Z",
        f"{DAY}T04:45:00Z",
    )


def test_without_a_range_it_is_the_next_week(stack: DevStack, scenario: Scenario) -> None:
    answer = stack.client().get(f"{URL}/{scenario.tutor.id}/calendar").json()["data"]
    since, until = (datetime.fromisoformat(answer[name]) for name in ("from", "to"))
    assert until - since == timedelta(days=7)
    assert abs(since - datetime.now(UTC)) < timedelta(minutes=1)
    assert answer["taken"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2035-01-01"},
        {"from": "2035-01-01T00:00:00"},
        {"from": "yesterday"},
        {"from": "1969-12-31T23:59:59Z"},
        {"from": "0001-01-01T00:00:00+14:00"},
        {"from": "9999-12-31T23:59:59-14:00"},
        {"from": "2035-01-01T00:00:00Z", "to": "2035-01-01T00:00:00Z"},
        {"from": "2035-01-02T00:00:00Z", "to": "2035-01-01T00:00:00Z"},
        {"from": "2035-01-01T00:00:00Z", "to": "2035-03-04T00:00:01Z"},
        {"to": "2035-01-01T00:00:00Z"},
        {"to": "9999-12-31T23:59:59-14:00"},
    ],
)
def test_a_range_that_is_none_is_refused(stack: DevStack, scenario: Scenario, query: dict[str, str]) -> None:
    answer = stack.client().get(f"{URL}/{scenario.tutor.id}/calendar", params=query)
    is_range = all(
        re.match(".*T.*(Z|:00)$", each) and each != "2035-01-01T00:00:00" for each in query.values()
    )
    expected = (409, "invalid_range") if is_range else (422, "invalid_request")
    assert (answer.status_code, answer.json()["code"]) == expected
    assert answer.json()["errors"][0]["field"] == [*query][-1]


def test_the_longest_range_is_two_months(stack: DevStack, scenario: Scenario) -> None:
    assert (
        taken(stack, scenario.tutor.id, **{"from": "2035-01-01T00:00:00Z", "to": "2035-03-04T00:00:00Z"})
        == []
    )


def test_only_tutors_have_one(stack: DevStack, scenario: Scenario) -> None:
    for nobody in (scenario.student.id, "nobody", scenario.annonce.id):
        answer = stack.client().get(f"{URL}/{nobody}/calendar")
        assert (answer.status_code, answer.json()["code"]) == (404, "tutor_not_found")
