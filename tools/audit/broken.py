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
    ("until = start - 1;", "until = start;", ["confirm_by_tutor"]),
    ("until = start - cancelWindow;", "until = start;", ["cancel_by_student"]),
    ("word &= ~mask;", "word &= ~(mask >> 1);", ["cancel_by_tutor"]),
    ("ONCE_BEGUN   << PENDING;", "ANY_TIME     << PENDING;", ["cancel_by_anyone"]),
    ("_pay(order.tutor, amount);", "_pay(order.tutor, amount + 1);", ["complete_by_student"]),
    ("AFTER_REVIEW << CONFIRMED;", "ONCE_BEGUN   << CONFIRMED;", ["complete_by_anyone"]),
    ("(since, until) = (start, end + reviewPeriod)", "since = start", ["dispute_by_student"]),
    (
        "emit BookingsResolved(",
        "++studentAmount; emit BookingsResolved(",
        ["resolve_by_anyone"],
    ),
    ("msg.sender == owner() &&", "", ["resolve_by_anyone"]),
    (
        "uint256 refund = _free(order, lessons);",
        "uint256 refund = _free(order, lessons); _calendar[order.tutor][7] = 0;",
        ["cancel_by_tutor"],
    ),
    ("until = start - 1;", "until = 0;", ["possible_confirm"]),
    ("(since, until) = (start, end + reviewPeriod)", "until = 0", ["possible_dispute"]),
    ("until = start - cancelWindow;", "until = 0;", ["possible_cancel_by_student"]),
    ("require(lessons != 0, NoLessons());", "revert NoLessons();", ["possible_cancel_by_tutor"]),
    ("_pay(order.tutor, amount);", "revert NoLessons();", ["possible_complete_by_student"]),
    ("if (byArbiter) _share(tutorShareBps);", "if (byArbiter) revert();", ["possible_resolve_by_arbiter"]),
    (
        "_requireActor(tutor, terms, deadline, tutorSignature);",
        "revert();",
        ["possible_settle_of_own_time"],
    ),
    ("ONCE_BEGUN   << PENDING;", "0            << PENDING;", ["possible_refund_of_pending_by_anyone"]),
    ("AFTER_REVIEW << CONFIRMED;", "0            << CONFIRMED;", ["possible_payment_of_confirmed_by_anyone"]),
    ("+ arbitrationPeriod + 1;", "+ arbitrationPeriod + 2;", ["possible_split_of_disputed_by_anyone"]),
    ("(student, address(this), total);", "(student, address(this), total + 1);", ["creation_pulls_once"]),
    ("if (word & mask != 0 ||", "if (word & mask > mask ||", ["creation_takes_free_time_only"]),
    (
        "require(free >= minLessons, TooFewFree(free, minLessons));",
        "",
        ["creation_pulls_once"],
    ),
    (" || (spill != 0 && pages[page + 1] & spill != 0)", "", ["no_quarter_is_taken_twice"]),
    ("word = pages[++page] | spill;", "word = pages[++page];", ["no_lessons_of_an_order_overlap"]),
    (
        "require(_batches[batch] == 0, OrderExists(batch));\n        Listing",
        "Listing",
        ["an_order_is_created_once"],
    ),
    ("_batches[batch] = block.timestamp;\n", "\n", ["a_revoked_order_is_not_created"]),
    (
        "bytes memory packed = _pack(order.slots, offer);",
        "bytes memory packed = _pack(order.slots, offer); require(packed.length == 0);",
        ["possible_creation"],
    ),
    (
        "if (student == tutor) require(",
        "require(student != tutor); if (student == tutor) require(",
        ["possible_own_time"],
    ),
    (
        "signer == actor) return;",
        "signer != address(0)) return;",
        ["consent_to"],
    ),
    (
        "_requireSigned(student, terms, signature);\n        (uint256",
        "if (msg.sig == this.createBookings.selector) _requireSigned(student, terms, signature);\n"
        "        (uint256",
        ["consent_to_create_with_permit"],
    ),
    (
        "_requireActor(by, _actHash(CANCEL_TYPEHASH,",
        "if (by != order.tutor) _requireActor(by, _actHash(CANCEL_TYPEHASH,",
        ["consent_to_cancel"],
    ),
    (
        "_requireActor(tutor, keccak256(terms),",
        "if (instant) _requireActor(tutor, keccak256(terms),",
        ["consent_to_publish"],
    ),
    ("horizon, nonce + 1);\n        emit", "horizon, nonce);\n        emit", ["consent_to_publish"]),
    (
        "require(block.timestamp <= deadline, SignatureExpired(deadline, block.timestamp));",
        "",
        ["consent_to_confirm", "consent_to_settle", "consent_to_revoke", "consent_to_withdraw"],
    ),
]


HALMOS = "halmos --forge-build-out .cache/forge/out --no-status --loop 6 --early-exit"


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
