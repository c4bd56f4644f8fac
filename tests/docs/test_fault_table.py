"""Each row of the guide's table of faults is done by a test, and says what that test says."""

import ast
import re
from pathlib import Path

import pytest
from blocks import ROOT

from api.errors import Code

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
SECTION = OPERATIONS[OPERATIONS.index("## When another part fails") :].split("\n## ")[0]
API = "tests/api"
JWKS, DIRECTORY, WEBHOOKS = (f"{API}/test_{name}.py" for name in ("jwks", "http_directory", "webhooks"))
NODE, DATABASE = (f"{API}/test_{name}_faults.py" for name in ("node", "database"))
ODD_ISSUER = f"{JWKS}::test_an_issuer_that_answers_oddly_is_like_one_that_is_down"
ODD_SERVICE = f"{DIRECTORY}::test_odd_answers_are_told_and_nothing_is_done"
PERSON = f"{NODE}::test_bookings_are_refused_while_lists_go_on"
OUTAGE = f"{DATABASE}::test_what_can_not_be_stored_is_refused_and_works_when_the_database_is_back"
ENDLESS = f"{WEBHOOKS}::test_an_answer_without_end_is_left_and_holds_up_nothing"
DONE_BY = {
    "identity provider": {
        "away": f"{JWKS}::test_known_keys_go_on_while_the_issuer_is_down",
        "slow": f"{JWKS}::test_an_issuer_that_hangs_holds_up_nobody_whose_key_is_known",
        "dripping": f"{JWKS}::test_sixty_made_up_ids_and_an_issuer_that_drips"
        "_hold_up_nobody_whose_key_is_known",
        "huge": ODD_ISSUER,
        "nested": ODD_ISSUER,
        "wrong": ODD_ISSUER,
        "lying: other keys": f"{JWKS}::test_rotation",
    },
    "user service": {
        "away": f"{DIRECTORY}::test_a_service_that_is_down_and_comes_back",
        "slow": f"{DIRECTORY}::test_a_service_that_hangs_or_drips_is_not_waited_for",
        "dripping": f"{DIRECTORY}::test_a_service_that_hangs_or_drips_is_not_waited_for",
        "huge": ODD_SERVICE,
        "nested": ODD_SERVICE,
        "wrong": ODD_SERVICE,
        "lying: somebody else, a rate that is none": f"{DIRECTORY}::test_wrong_fields_are_odd",
    },
    "node": {
        **dict.fromkeys(("away", "slow", "dripping", "huge", "nested", "wrong"), PERSON),
        "lying: results that a method can't have": PERSON,
        "lying: another chain": f"{API}/test_operation.py"
        "::test_a_chain_that_is_begun_anew_gets_nothing_of_the_old_ones_database",
    },
    "database": {
        "away": OUTAGE,
        "slow: locked by others": f"{DATABASE}::test_what_others_have_locked_is_not_waited_for_without_end",
        "slow: frozen": f"{DATABASE}::test_a_frozen_database_is_told_by_readiness_in_time",
        "huge: a full disk": "tests/chaos/test_surroundings.py::test_a_full_disk",
        "wrong: takes no writes": OUTAGE,
        "lying: an older copy": "tests/chaos/test_scenarios.py::test_an_older_copy_of_the_database",
    },
    "webhook receiver": {
        "away": f"{WEBHOOKS}::test_an_endpoint_that_is_down_gets_everything_when_it_is_back",
        "slow": f"{WEBHOOKS}::test_an_endpoint_that_never_answers_is_tried_again",
        **dict.fromkeys(("dripping", "huge", "nested", "wrong"), ENDLESS),
        "lying: says 2xx and forgets": f"{WEBHOOKS}::test_what_was_said_to_be_taken_is_not_sent_again",
    },
}


def rows() -> list[list[str]]:
    """The rows: part, fault, and what a person sees, with no cell left empty and no `the same`."""
    found: list[list[str]] = []
    for line in SECTION.splitlines():
        if not line.startswith("| ") or line.startswith(("| part", "| ---")):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        above = found[-1] if found else cells
        cells[0] = re.sub(r" \(`.*", "", cells[0]) or above[0]
        if cells[2].startswith("the same"):
            cells[2] = above[2]
        found.append(cells)
    return found


def test_the_rows_are_those_that_are_done_by_tests() -> None:
    assert {(part, fault) for part, fault, *_ in rows()} == {
        (part, fault) for part, faults in DONE_BY.items() for fault in faults
    }
    for faults in DONE_BY.values():
        kinds = {fault.partition(":")[0] for fault in faults}
        assert kinds >= {"away", "slow", "huge", "wrong", "lying"}
        assert kinds >= {"dripping", "nested"} or faults is DONE_BY["database"]


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]} {row[1]}")
def test_a_row_is_done_by_a_test_that_says_so(row: list[str]) -> None:
    part, fault, sees, *_ = row
    module, _, name = DONE_BY[part][fault].partition("::")
    source = (ROOT / Path(module)).read_text()
    [test] = [
        each for each in ast.parse(source).body if isinstance(each, ast.FunctionDef) and each.name == name
    ]
    said = ast.get_source_segment(source, test) or ""
    codes = re.findall(r"(\d{3}) `([a-z_]+)`", sees.partition(";")[0])
    named = {line.split(" = ")[0] for line in source.splitlines() if re.match(r"[A-Z]+ = \(\d{3}, ", line)}
    for status, code in codes:
        assert Code(code).status == int(status)
        constants = [each for each in named if f'{each} = ({status}, "{code}")' in source]
        assert f'"{code}"' in said or any(each in said for each in constants), (name, code)
        assert status in said or any(each in said for each in constants), (name, status)
