"""Many at once: nobody is lost, nobody pays for a race that somebody else won."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
from scenario import EDU, Scenario, failures, slot, watching
from waiting import until

from tools.dev_stack import DevStack


def test_fifty_students_book_fifty_tutors_at_once(stack: DevStack) -> None:
    scenarios = [Scenario.of(stack, balance=100) for _ in range(50)]
    with watching(stack) as seen, ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda scenario: scenario.book(slot("09:00"), slot("10:00")), scenarios))
    assert Counter(answer.status_code for answer in answers) == {200: 50}
    assert len(seen.transactions) == 50
    assert [scenario.balance() for scenario in scenarios] == [30 * EDU] * 50


def test_twenty_students_race_for_one_slot(stack: DevStack, scenario: Scenario) -> None:
    others = [
        Scenario(stack, stack.create_user("student", balance=100), scenario.tutor, scenario.annonce)
        for _ in range(20)
    ]
    with watching(stack) as seen, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda other: other.book(slot("09:00")), others))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 19}
    lost = [answer for answer in answers if answer.status_code == 409]
    assert all(failures(answer) == [(1, "taken")] for answer in lost)
    assert {answer.json()["code"] for answer in lost} == {"taken"}
    assert {answer.json()["success"] for answer in lost} == {False}
    assert Counter(other.balance() for other in others) == {100 * EDU: 19, 65 * EDU: 1}
    assert len(seen.transactions) == 1  # The losers cost the relayer no gas either.


def test_racing_batches_share_what_is_free(stack: DevStack, scenario: Scenario) -> None:
    others = [
        Scenario(stack, stack.create_user("student", balance=100), scenario.tutor, scenario.annonce)
        for _ in range(10)
    ]
    lessons = [(slot(f"{hour}:00"), slot(f"{hour + 1}:00")) for hour in range(8, 18)]
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda pair: pair[0].book(*pair[1]), zip(others, lessons, strict=True)))
    booked = [
        lesson["time"]
        for answer in answers
        if answer.status_code == 200
        for lesson in answer.json()["data"]["bookings"]
    ]
    assert sorted(booked) == sorted(set(booked)) == sorted(f"{hour:02}:00" for hour in range(8, 19))
    assert sum(100 * EDU - other.balance() for other in others) == 11 * 35 * EDU


def test_fifty_students_are_the_first_of_one_tutor(stack: DevStack, scenario: Scenario) -> None:
    """The listing is published once, by the first transaction, and sinks none of the others."""
    others = [
        Scenario(stack, stack.create_user("student", balance=100), scenario.tutor, scenario.annonce)
        for _ in range(50)
    ]
    times = [f"{hour:02}:{minute}" for hour in range(6, 19) for minute in ("00", "15", "30", "45")]
    with watching(stack) as seen, ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(lambda pair: pair[0].book(slot(pair[1], 8.75, 15)), zip(others, times, strict=False))
        )
    assert Counter(answer.status_code for answer in answers) == {200: 50}
    assert len(seen.transactions) == 50


def test_parallel_first_batches_of_one_student(stack: DevStack, scenario: Scenario) -> None:
    """Each carries a permit of the same nonce; the allowance that the first one gives is enough for all."""
    with watching(stack) as seen, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda hour: scenario.book(slot(f"{hour}:00")), range(10, 18)))
    assert Counter(answer.status_code for answer in answers) == {200: 8}
    assert seen.sent_by(scenario.student.wallet) == [35 * EDU] * 8


def test_parallel_batches_of_one_student_spend_no_more_than_he_has(stack: DevStack) -> None:
    scenario = Scenario.of(stack, balance=100)

    def book(hour: int) -> httpx.Response:
        return scenario.book(slot(f"{hour}:00"), headers={"Idempotency-Key": str(hour)})

    with ThreadPoolExecutor(8) as pool:
        first = Counter(answer.status_code for answer in pool.map(book, range(10, 18)))
    assert (first[200], first[202] + first[402]) == (2, 6)
    stack.rpc("anvil_mine", "0x3")  # What did nothing in its block may be booked until that is final.

    def answered(hour: int) -> httpx.Response:
        until(lambda: book(hour).status_code != 202)
        return book(hour)

    answers = [answered(hour) for hour in range(10, 18)]
    assert Counter(answer.status_code for answer in answers) == {200: 2, 402: 6}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 402} == {
        "insufficient_balance"
    }
    assert scenario.balance() == 30 * EDU
