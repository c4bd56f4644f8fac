"""Mutates BookingEscrow.sol and its library, and reports which mutants the tests miss. `make mutate` runs it.

A mutant is killed if a test of `tests/contracts` fails with it, or the state machine. Those that survive need
a reason in `tests/contracts/survivors.toml`, which says why nobody can tell them from the contract. What was
found is kept in `.cache/mutants`, so that a run can be stopped and continued. What survived is tried again
when the tests change.
"""

import argparse
import functools
import json
import multiprocessing
import os
import random
import signal
import sys
import time
import tomllib
from collections import Counter
from typing import Any

from tools.mutation.broken import PATCHES, patched
from tools.mutation.compiler import ROOT, Compiler, DoesNotCompile, whole_source
from tools.mutation.mutants import Mutant, mutants
from tools.mutation.schemata import Schemata, numbered
from tools.mutation.tests import MACHINE, TESTS, Runner, tree

CACHE = ROOT / ".cache" / "mutants"
RESULTS = CACHE / "results.json"
REASONS = TESTS / "survivors.toml"

INVALID, SAME, SURVIVED = "does not compile", "same byte code", "survived"
"""The verdicts on a mutant, beside the name of the test that killed it."""

BAR = 0.97
GROUP = 50
"""Mutants that are compiled together. A transaction's gas, which pays for their code, is limited."""


def main() -> int:
    """Run the mutants that were not run, and report. Return 1 if too many survive, or without a reason."""
    options = _options()
    CACHE.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not before its workers
    source = whole_source()
    with Compiler() as compiler:
        everything = by_hand(source)
        if not options.by_hand:
            everything += mutants(source, compiler.syntax(source))
    chosen = sample(everything, options.sample, options.seed)
    results: dict[str, dict[str, str]] = {}
    if RESULTS.exists() and not options.fresh:
        results = json.loads(RESULTS.read_text())
    tests = tree()
    waiting = [mutant for mutant in chosen if not _settled(results.get(mutant.name), tests)]
    print(f"{len(everything)} mutants, {len(chosen)} chosen, {len(waiting)} to run", flush=True)
    if waiting:
        lines = {mutant.name: mutant.line for mutant in everything}
        known = [(lines[name], result["verdict"]) for name, result in results.items() if name in lines]
        run(source, waiting, results, known, tests, options)
    return report(chosen, results, whole=len(chosen) == len(everything))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, help="as many mutants, of every function")
    parser.add_argument("--seed", type=int, default=1, help="of the choice and the order")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=300, help="of the state machine, for survivors")
    parser.add_argument("--by-hand", action="store_true", help="only the changes of broken.toml")
    parser.add_argument("--fresh", action="store_true", help="forget what was found before")
    return parser.parse_args()


def by_hand(source: str) -> list[Mutant]:
    """Return the changes of `broken.toml`, which mean something that the systematic ones do not."""
    patches = tomllib.loads(PATCHES.read_text())
    return [
        Mutant(
            "by hand",
            source[: source.index(patch["before"])].count("\n") + 1,
            patch["what"],
            "",
            patched(source, patch),
        )
        for patch in (*patches["broken"], *patches["signature"])
    ]


def sample(everything: list[Mutant], size: int | None, seed: int) -> list[Mutant]:
    """As many mutants at random, one of each function at least; without a size all, in random order."""
    shuffled = everything.copy()
    random.Random(seed).shuffle(shuffled)  # noqa: S311  # repeatable, not secret
    if size is None:
        return shuffled
    first = {mutant.function: mutant for mutant in reversed(shuffled)}.values()
    return [*first, *(mutant for mutant in shuffled if mutant not in first)][: max(size, len(first))]


def _settled(result: dict[str, str] | None, tests: str) -> bool:
    return result is not None and (result["verdict"] != SURVIVED or result["tests"] == tests)


# --- Running ---


def run(
    source: str,
    waiting: list[Mutant],
    results: dict[str, dict[str, str]],
    known: list[tuple[int, str]],
    tests: str,
    options: argparse.Namespace,
) -> None:
    """Lets workers find out what becomes of each mutant; the contract itself is first, and must survive.

    What no near test kills is dealt out again, one by one, at the end: to run all tests takes long.
    """
    context = multiprocessing.get_context("fork")
    jobs: Any = (
        context.SimpleQueue()
    )  # of lists of places in the list: what is in a queue must fit into a pipe
    answers: Any = context.SimpleQueue()
    contract = Mutant("", 0, "the contract", "itself", source)
    candidates = [contract, *waiting]
    workers = [
        context.Process(target=_work, args=(number, candidates, known, options.steps, jobs, answers))
        for number in range(options.workers)
    ]
    for worker in workers:
        worker.start()
    begun = time.monotonic()
    try:
        known_good = _settled(results.get(contract.name), tests)
        places = range(1, len(candidates))
        size = max(1, min(GROUP, len(places) // (2 * len(workers))))
        groups = [[0]] * (not known_good) + [[*places[i : i + size]] for i in range(0, len(places), size)]
        for group in groups:
            jobs.put(group)
        tally: Counter[str] = Counter()
        for count in range(int(known_good), len(candidates)):
            while (answer := answers.get())[1] is None:
                jobs.put([answer[0]])
            place, verdict = answer
            if isinstance(verdict, Exception):
                raise verdict
            mutant = candidates[place]
            if mutant is contract:
                if verdict != SURVIVED:
                    raise SystemExit(f"The tests fail with the contract as it is: {verdict}")
                tally[SURVIVED] -= 1
            results[mutant.name] = {"verdict": verdict, "tests": tests}
            RESULTS.write_text(json.dumps(results, indent=0, sort_keys=True))
            tally[verdict if verdict in {INVALID, SAME, SURVIVED} else "killed"] += 1
            if verdict == SURVIVED and mutant is not contract:
                print(describe(mutant), flush=True)
            if count % 10 == 0:
                left = (time.monotonic() - begun) / (count + 1) * (len(waiting) - count) / 60
                print(f"{count} of {len(waiting)}: {_counts(tally)}; {left:.0f} min left", flush=True)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _work(
    number: int, candidates: list[Mutant], known: list[tuple[int, str]], steps: int, jobs: Any, answers: Any
) -> None:
    """One worker: its own compiler, its own pytest, whose output goes into a file."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not before its fork
    with (CACHE / f"worker-{number}.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)

    def campaign(runner: Runner) -> None:
        runner.killers = [(line, test) for line, test in known if "::" in test or test == MACHINE]
        with Compiler() as compiler:
            schemata = Schemata(candidates[0].source, compiler)
            while (places := jobs.get()) is not None:
                together = compiled_together([candidates[place] for place in places], schemata, runner)
                for place in places:
                    mutant = candidates[place]
                    if (quick := together.get(mutant.name)) is not None:
                        answers.put((place, quick_verdict(mutant, quick, runner)))
                    else:
                        answers.put((place, verdict_on(mutant, compiler, runner, candidates[0])))

    try:
        Runner(campaign, steps).collect()
    except Exception as error:  # noqa: BLE001  # the main process raises it
        answers.put((0, RuntimeError(f"worker {number}: {error!r}")))


def compiled_together(mutants: list[Mutant], schemata: Schemata, runner: Runner) -> dict[str, str]:
    """Return the byte codes of those mutants that can be compiled together, empty for what does not compile.

    Beside them the contract itself must still pass the state machine. One alone gains nothing from it.
    """
    if len(mutants) == 1:
        return {}
    inside = [mutant for mutant in mutants if mutant.line and schemata.place(mutant)]
    try:
        bytecode, good = schemata.compiled(inside)
    except DoesNotCompile:
        half = len(inside) // 2
        parts = [inside[:half], inside[half:]] if half else []
        return {
            name: code for part in parts for name, code in compiled_together(part, schemata, runner).items()
        }
    if not good:
        return dict.fromkeys((mutant.name for mutant in inside), "")
    if killer := runner.killer(numbered(bytecode, 0), 0, near=True):
        raise RuntimeError(f"The tests fail with the contract beside its mutants: {killer}")
    numbers = {mutant.name: number for number, mutant in enumerate(good, 1)}
    return {
        mutant.name: numbered(bytecode, numbers[mutant.name]) if mutant.name in numbers else ""
        for mutant in inside
    }


def quick_verdict(mutant: Mutant, bytecode: str, runner: Runner) -> str | None:
    """Return the verdict on a mutant that was compiled with others; None if that takes a closer look."""
    return runner.killer(bytecode, mutant.line, near=True) if bytecode else INVALID


def verdict_on(mutant: Mutant, compiler: Compiler, runner: Runner, contract: Mutant) -> str:
    """Return the verdict on a mutant of the contract, or on the contract itself."""
    try:
        bytecode = compiled_quickly(mutant, compiler)
    except DoesNotCompile:
        return INVALID
    if mutant.line and bytecode == compiled_quickly(contract, compiler):
        return SAME
    killer = runner.killer(bytecode, mutant.line)
    if killer and not mutant.line:  # on a busy machine even the contract may fail once
        killer = runner.killer(bytecode, mutant.line)
    if killer:
        return killer
    if mutant.line and compiler.bytecode(mutant.source) == _deployed(compiler, contract):
        return SAME
    return SURVIVED


@functools.cache
def _deployed(compiler: Compiler, contract: Mutant) -> str:
    return compiler.bytecode(contract.source)


def compiled_quickly(mutant: Mutant, compiler: Compiler) -> str:
    """Return the mutant's byte code, which is kept: compiling takes longer than killing it.

    Raises `DoesNotCompile`.
    """
    kept = CACHE / f"{mutant.name}.hex"
    if not kept.exists():
        try:
            kept.write_text(compiler.bytecode(mutant.source, quickly=True))
        except DoesNotCompile as error:
            if "too deep" in str(error):  # for the little that the optimizer does
                kept.write_text(compiler.bytecode(mutant.source))
            else:
                kept.write_text("")
    bytecode = kept.read_text()
    if not bytecode:
        raise DoesNotCompile(mutant.name)
    return bytecode


# --- Reporting ---


def describe(mutant: Mutant) -> str:
    """Return a mutant as an entry of `survivors.toml`, but for the reason."""
    return (
        f"\n# line {mutant.line}\n[[survivor]]\nfunction = {json.dumps(mutant.function)}\n"
        f"before = {json.dumps(mutant.before)}\nafter = {json.dumps(mutant.after)}\nreason = \n"
    )


def reasons() -> dict[tuple[str, str, str], str]:
    """Return the reasons of survivors, by function, text before and text after."""
    entries = tomllib.loads(REASONS.read_text()).get("survivor", []) if REASONS.exists() else []
    return {(entry["function"], entry["before"], entry["after"]): entry["reason"] for entry in entries}


def report(chosen: list[Mutant], results: dict[str, dict[str, str]], *, whole: bool) -> int:
    """Print the verdicts, function by function. Return 1 if they are not good enough."""
    explained = reasons()
    table: dict[str, Counter[str]] = {}
    unexplained, survivors = [], set()
    for mutant in sorted(chosen, key=lambda mutant: mutant.line):
        verdict = results[mutant.name]["verdict"]
        kind = verdict if verdict in {INVALID, SAME, SURVIVED} else "killed"
        table.setdefault(mutant.function, Counter())[kind] += 1
        if kind == SURVIVED:
            survivors.add(mutant.key)
            if not explained.get(mutant.key) or mutant.function == "by hand":
                unexplained.append(mutant)
    total = sum(table.values(), Counter())
    for function, counts in table.items():
        print(f"{function:24} {_counts(counts)}")
    different = total["killed"] + total[SURVIVED]
    score = total["killed"] / different if different else 1.0
    print(f"\n{len(chosen)} mutants: {_counts(total)}")
    print(f"{score:.1%} of the {different} that compile to other byte code were killed.")
    print(f"{total[SURVIVED] - len(unexplained)} survivors are explained in {REASONS.relative_to(ROOT)}.")
    for mutant in unexplained:
        print(describe(mutant))
    gone = explained.keys() - survivors if whole else set()
    for function, before, after in sorted(gone):
        print(f"Explained, but it does not survive: {function}: {before} -> {after}")
    return 1 if unexplained or gone or score < BAR else 0


def _counts(tally: Counter[str]) -> str:
    return ", ".join(f"{tally[kind]} {kind}" for kind in ("killed", SURVIVED, SAME, INVALID) if tally[kind])


if __name__ == "__main__":
    sys.exit(main())
