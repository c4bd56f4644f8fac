"""Fails unless every `check_` function of tests/proofs was run, passed and was explored to its end.

Halmos itself fails on a counterexample, a timeout and a proof in which every path reverts, but only warns
when a loop was cut off.
"""

import json
import re
import sys
from pathlib import Path

written = {
    f"{path}:{name}"
    for path in sorted(Path("tests/proofs").glob("*.t.sol"))
    for name in re.findall(r"function (check_\w+)", path.read_text())
}
results = {
    f"{contract.split(':')[0]}:{result['name'].split('(')[0]}": result
    for contract, found in json.loads(Path(sys.argv[1]).read_text())["test_results"].items()
    for result in found
}
problems = [f"{name} was not run" for name in sorted(written - results.keys())]
for name, result in results.items():
    _, finished, stuck = result["num_paths"]
    if result["exitcode"] != 0 or finished == 0 or stuck != 0:
        problems.append(f"{name} did not pass")
    if result["num_bounded_loops"] != 0:
        problems.append(f"{name} was cut off by the bound of a loop")
if not written:
    problems.append("there is no proof in tests/proofs")
for problem in problems:
    print(f"[audit] {problem}", file=sys.stderr)
if problems:
    sys.exit(1)
print(f"[audit] {len(results)} proofs hold")
