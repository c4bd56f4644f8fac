"""Shows that each proof can fail: breaks a copy of the escrow in one place, and a proof has to notice.

`make audit-broken`. Not part of `make audit`: it builds the contracts once for each break.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# What is replaced in BookingEscrow.sol, by what, and the proofs that must fail then.
BREAKS = [
    ("block.timestamp < start, TooLate", "block.timestamp <= start, TooLate", ["confirm_by_tutor"]),
    ("_requireUntil(i, start - cancelWindow)", "_requireUntil(i, start)", ["cancel_by_student"]),
    ("word &= ~mask;", "word &= ~(mask >> 1);", ["cancel_by_tutor"]),
    ("DISPUTED : DISPUTED);", "DISPUTED : CONFIRMED | DISPUTED);", ["cancel_by_anyone"]),
    ("_pay(order.tutor, amount);", "_pay(order.tutor, amount + 1);", ["complete_by_student"]),
    ("_requireAfter(i, end + reviewPeriod);", "_requireAfter(i, end);", ["complete_by_anyone"]),
    ("_requireUntil(i, end + reviewPeriod);", "", ["dispute_by_student"]),
    ("studentAmount += amount - share;", "studentAmount += amount;", ["resolve_by_arbiter"]),
    ("lessons & ~state.pending, state", "lessons, state", ["refund_of_pending"]),
    ("+ arbitrationPeriod);", "+ arbitrationPeriod + 1);", ["refund_of_disputed"]),
    (
        "_requireAfter(i, end + reviewPeriod);",
        "_requireAfter(i, end + reviewPeriod + 1);",
        ["payment_of_confirmed"],
    ),
    (".student, address(this), total);", ".student, address(this), total + 1);", ["creation_pulls_once"]),
    ("require(order.allowPartial, SlotTaken(i, start));", "", ["creation_takes_free_time_only"]),
    (" || (spill != 0 && pages[page + 1] & spill != 0)", "", ["no_quarter_is_taken_twice"]),
    ("word = pages[++page] | spill;", "word = pages[++page];", ["no_lessons_of_an_order_overlap"]),
    ("require(_batches[batch].createdAt == 0, OrderExists(batch));", "", ["an_order_is_created_once"]),
    ("msg.sender == actor || ", "msg.sender == actor || signature.length == 65 || ", ["consent_to"]),
    ("published.nonce = nonce + 1;", "", ["consent_to_publish"]),
]


HALMOS = "halmos --forge-build-out .cache/forge/out --no-status --loop 4 --early-exit"


def main() -> int:
    """Print the breaks that the proofs noticed. Arguments: the only proofs to try, as in `BREAKS`."""
    only = sys.argv[1:]
    unnoticed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("contracts", "tools", "tests/proofs", ".cache/forge"):
            shutil.copytree(name, copy / name)
        for name in ("node_modules", ".venv"):
            (copy / name).symlink_to(Path(name).resolve())
        shutil.copy("foundry.toml", copy)
        escrow = copy / "contracts/BookingEscrow.sol"
        source = escrow.read_text()
        for old, new, proofs in BREAKS:
            if only and not set(only) & set(proofs):
                continue
            if source.count(old) != 1:
                raise SystemExit(f"{old!r} is {source.count(old)} times in the escrow: renew this list")
            escrow.write_text(source.replace(old, new))
            for proof in proofs:
                run = subprocess.run(
                    [*HALMOS.split(), "--solver-timeout-assertion", "600s", "--function", f"check_{proof}"],
                    cwd=copy,
                    env=os.environ | {"NO_COLOR": "1"},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                failed = re.findall(r"\[FAIL\]\S* (\w+)", run.stdout)
                passed = re.findall(r"\[PASS\]\S* (\w+)", run.stdout)
                noticed = bool(failed) and not passed
                unnoticed += not noticed
                print(f"{'noticed' if noticed else 'MISSED '}  {old}  ->  {new or '(nothing)'}", flush=True)
                for name in failed or [run.stdout[-500:] + run.stderr[-500:]]:
                    print(f"           {name}", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    raise SystemExit(main())
