"""The benchmark's report is made of its results, and its short form fails at what is lost."""

import json
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # The benchmark is run from there, and is no package that is installed.

from bench.report import BARS, files, holds  # noqa: E402

RESULTS = json.loads((ROOT / "bench" / "results.json").read_text())


@pytest.mark.parametrize("file", files(RESULTS), ids=lambda file: file.name)
def test_what_is_committed_was_made_of_the_results(file: Path) -> None:
    assert file.read_text() == files(RESULTS)[file], "make bench writes it"


def test_every_ratio_was_measured_and_has_a_limit_for_the_short_form() -> None:
    limits = tomllib.loads((ROOT / "bench" / "limits.toml").read_text())
    assert [*RESULTS["ratios"]] == [*BARS]
    assert limits.keys() <= BARS.keys()
    assert {name for name in BARS if not name.startswith("growth")} <= limits.keys()


def test_a_ratio_holds_up_to_its_limit_on_its_side() -> None:
    limits = {"gas10_per_slot_baseline": 20.0, "gas10_over_floor": 1.17}
    assert holds("gas10_per_slot_baseline", 20, limits)
    assert not holds("gas10_per_slot_baseline", 19.99, limits)
    assert holds("gas10_over_floor", 1.17, limits)
    assert not holds("gas10_over_floor", 1.18, limits)
