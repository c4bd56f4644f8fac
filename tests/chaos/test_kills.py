"""kill -9 at every point, on SQLite and on PostgreSQL: started again and asked again, it is one batch."""

import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from killable import POINTS
from ledger import Ledger, Request, seed
from stacks import KILLABLE, KILLS, SETTINGS, ChaosStack, Shims, StackMaker, alive
from waiting import PATIENCE, until


def test_killed_at_each_point(make_stack: StackMaker, database_url: str) -> None:
    stack = make_stack(database_url=database_url)
    ledger = Ledger(stack)
    [desk] = ledger.desks(1)
    for point in POINTS:
        request = ledger.request(desk, 2)
        stack.arm(point)
        assert request.ask() is None, f"it answered, and was not killed {point}"
        assert stack.was_killed(), point
        stack.restart()
        request.settle()
    ledger.prove(relayers=stack.relayers)


def test_killed_at_random(make_stack: StackMaker, database_url: str) -> None:
    """Several requests at once, killed anywhere, also while it recovers from the kill before."""
    chosen = random.Random(seed())
    began = time.monotonic()
    wanted = -(-KILLS // 2)  # Half of them on each database.
    stack = make_stack(database_url=database_url)
    ledger = Ledger(stack)
    desks = ledger.desks(4)
    kills: Counter[str] = Counter()
    while kills.total() < wanted:
        point = chosen.choice(POINTS)
        stack.arm(point, chosen.choice((1, 1, 2, 3, 5)))
        some = [
            ledger.request(chosen.choice(desks), chosen.randint(1, 3)) for _ in range(chosen.randint(1, 6))
        ]
        ask_at_once(some)
        while stack.was_killed(0.2):
            kills[point] += 1
            if again := chosen.random() < 0.3:  # Once more, while it takes up what is left.
                point = chosen.choice(POINTS)
                stack.arm(point)
            start_perhaps_to_be_killed(stack)
            if again:
                ask_at_once(some)
        stack.disarm()  # It did not get there so often, or gets there late.
        ledger.settle_meanwhile(lambda: start_again(stack), some)
    ledger.prove(relayers=stack.relayers)
    answers = sum(len(request.answers) for request in ledger.requests)
    seconds, where = time.monotonic() - began, dict(sorted(kills.items()))
    print(f"{stack.settings.database.partition(':')[0]}: {kills.total()} kills in {seconds:.0f} s, {where};")
    print(f"{len(ledger.requests)} keys, {answers} answers, {len(ledger.requests)} batches: 0 lost, 0 twice")


def test_terminated_under_load(make_stack: StackMaker, database_url: str) -> None:
    """SIGTERM ends it by itself and soon; what it had accepted goes on with the next one."""
    stack = make_stack(database_url=database_url)
    ledger = Ledger(stack)
    requests = [ledger.request(desk) for desk in ledger.desks(12)]
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(request.ask) for request in requests]
        time.sleep(0.1)
        stack.shim.terminate()
        for future in asked:
            future.result()
    assert stack.shim.wait(timeout=PATIENCE) in {0, -signal.SIGTERM}
    stack.restart()
    ledger.settle()
    ledger.prove(relayers=stack.relayers)


def test_no_shim_outlives_the_tests() -> None:
    """The process that started it is killed, and could not stop it."""
    with Shims(KILLABLE) as shims, ChaosStack(shims, settings=SETTINGS) as stack:
        assert alive(stack.shim.pid)
        shims.kill()
        until(lambda: not alive(stack.shim.pid), "it is still there")
        stack.shim.returncode = -signal.SIGKILL


def ask_at_once(requests: Sequence[Request]) -> None:
    """Each once, whether or not anybody answers."""
    with ThreadPoolExecutor(len(requests)) as pool:
        list(pool.map(lambda request: request.ask(), requests))


def start_again(stack: ChaosStack) -> None:
    """Starts the shim if it was killed."""
    if stack.was_killed(0):
        stack.restart()


def start_perhaps_to_be_killed(stack: ChaosStack) -> None:
    """Starts the shim; being killed while it starts is no error, anything else is."""
    stack.stop_shim()
    try:
        stack.start_shim()
    except RuntimeError:
        assert stack.was_killed(0)
