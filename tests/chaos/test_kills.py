"""kill -9 at every point, on SQLite and on PostgreSQL: started again and asked again, it is one batch."""

import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from killable import POINTS
from ledger import ACTS, Ledger, LessonAct, Request, seed
from outside import statuses
from stacks import KILLABLE, KILLS, SETTINGS, ChaosStack, Shims, StackMaker, alive
from waiting import PATIENCE, until


def test_killed_at_each_point(make_stack: StackMaker, database_url: str) -> None:
    stack = make_stack(database_url=database_url)
    ledger = Ledger(stack)
    [scenario] = ledger.scenarios(1)
    for point in POINTS:
        request = ledger.request(scenario, 2)
        stack.arm(point)
        assert request.ask() is None, f"it answered, and was not killed {point}"
        assert stack.was_killed(), point
        stack.restart()
        request.settle()
    ledger.prove(relayers=stack.relayers)


def test_killed_at_random(make_stack: StackMaker, database_url: str) -> None:
    """Several batches and acts at once with two keys, killed anywhere, also while it recovers from a kill."""
    chosen = random.Random(seed())
    began = time.monotonic()
    wanted = -(-KILLS // 2)  # Half of them on each database.
    stack = make_stack(database_url=database_url, relayer_mnemonic_index="1,2")
    ledger = Ledger(stack)
    scenarios = ledger.scenarios(4)
    kills: Counter[str] = Counter()
    acts: list[LessonAct] = []
    while kills.total() < wanted:
        point = chosen.choice(POINTS)
        stack.arm(point, chosen.choice((1, 1, 2, 3, 5)))
        idle = [each for each in ledger.requests if all(act.request is not each for act in acts)]
        new = [
            LessonAct(each, chosen.choice(sorted(ACTS))) for each in chosen.sample(idle, min(2, len(idle)))
        ]
        acts += new
        requests = [
            ledger.request(chosen.choice(scenarios), chosen.randint(1, 3))
            for _ in range(chosen.randint(1, 6))
        ]
        some = [*requests, *new]
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
    ledger.prove(relayers=stack.relayers, acts=[act.chain_id for act in acts])
    chain = statuses(stack)
    assert [chain[act.chain_id] for act in acts] == [ACTS[act.name][1] for act in acts]
    answers = sum(len(each.answers) for each in (*ledger.requests, *acts))
    seconds, where = time.monotonic() - began, dict(sorted(kills.items()))
    print(f"{stack.settings.database.partition(':')[0]}: {kills.total()} kills in {seconds:.0f} s, {where};")
    print(f"{len(ledger.requests)} batches, {len(acts)} acts, {answers} answers: 0 lost, 0 twice")


def test_terminated_under_load(make_stack: StackMaker, database_url: str) -> None:
    """SIGTERM ends it by itself and soon; what it had accepted goes on with the next one."""
    stack = make_stack(database_url=database_url)
    ledger = Ledger(stack)
    requests = [ledger.request(scenario) for scenario in ledger.scenarios(12)]
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


def ask_at_once(requests: Sequence[Request | LessonAct]) -> None:
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
