"""Rules of the shim that need no node: prices, local times, exact JSON."""

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from importlib import resources
from math import ceil, floor
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.booking.plan import is_price, plan
from api.db import decimal_json as exact
from api.schemas.requests import SlotData
from api.settings import TIME_ZONES
from creneau.amounts import lesson_amount

CENT = 10**16
RATES = st.integers(1, 2**96 - 1) | st.integers(1, 10_000).map(lambda cents: cents * CENT)
MINUTES = st.integers(1, 32).map(lambda quarters: 15 * quarters)
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def shim_without_errors() -> None:
    """No shim runs for these."""


@given(RATES, MINUTES)
def test_a_price_is_exact_or_rounded_to_cents_and_nothing_else(rate: int, minutes: int) -> None:
    cents = Fraction(rate * minutes, 60 * CENT)
    charged = lesson_amount(rate, minutes)
    right = {charged, floor(cents + Fraction(1, 2)) * CENT, ceil(cents - Fraction(1, 2)) * CENT}
    around = {wei + step for wei in right for step in (-CENT, -1, 0, 1, CENT)}
    assert {wei for wei in around if is_price(Decimal(f"{wei}e-18"), rate, minutes)} == right


DAYS = st.dates(date(2031, 1, 1), date(2448, 6, 1)) | st.builds(
    date, st.just(2031), st.sampled_from([3, 4, 9, 10, 11]), st.integers(1, 30)
)
QUARTERS = st.sampled_from([0, 15, 30, 45])
CLOCK = st.builds(time, st.integers(0, 23), QUARTERS) | st.builds(time, st.integers(0, 3), QUARTERS)
ZONES = st.sampled_from(sorted(TIME_ZONES)) | st.sampled_from(["Europe/Paris", "Australia/Lord_Howe"])


@given(DAYS, CLOCK, ZONES)
def test_every_local_time_is_one_moment_or_refused(day: date, clock: time, zone_name: str) -> None:
    zone = ZoneInfo(zone_name)
    local = datetime.combine(day, clock.replace(second=0, microsecond=0))
    data = {"date": day.isoformat(), "time": f"{clock:%H:%M}", "amount": 35}
    lessons, failures = plan([SlotData.model_validate(data)], zone, 35 * 10**18, NOW)
    candidates = {local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    moments = [moment for moment in candidates if moment.astimezone(zone).replace(tzinfo=None) == local]
    if len(moments) == 1:
        assert [datetime.fromtimestamp(lesson["start"], UTC) for lesson in lessons] == moments
    else:
        code = "ambiguous_time" if moments else "nonexistent_time"
        assert [failure["code"] for failure in failures] == [code]


@given(DAYS, CLOCK, ZONES)
def test_every_local_time_with_its_instant_is_that_instant(day: date, clock: time, zone_name: str) -> None:
    zone = ZoneInfo(zone_name)
    local = datetime.combine(day, clock.replace(second=0, microsecond=0))
    for fold in (0, 1):
        moment = local.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        data = {"date": day.isoformat(), "time": f"{clock:%H:%M}", "amount": 35}
        for instant in (moment, moment + timedelta(minutes=30)):
            slot = SlotData.model_validate(data | {"startsAt": instant.isoformat()})
            lessons, failures = plan([slot], zone, 35 * 10**18, NOW)
            if instant.astimezone(zone).replace(tzinfo=None) == local:
                assert [datetime.fromtimestamp(lesson["start"], UTC) for lesson in lessons] == [instant]
            else:
                assert failures[0]["code"] in {"time_zone_mismatch", "nonexistent_time"}


def test_zone_data_are_the_pinned_ones_whatever_the_machine_has(tmp_path: Path) -> None:
    """Vancouver keeps its summer time from November 2026 on (tzdata 2026b), and older data does not know."""
    zones = tmp_path / "America"
    zones.mkdir()
    pinned = resources.files("tzdata").joinpath("zoneinfo/America/Los_Angeles")
    (zones / "Vancouver").write_bytes(pinned.read_bytes())  # As Vancouver was: an hour behind in winter.
    code = (
        "import {}\nfrom datetime import datetime\nfrom zoneinfo import ZoneInfo\n"
        "print(datetime(2026, 12, 7, 9, tzinfo=ZoneInfo('America/Vancouver')).isoformat())"
    )
    environment = os.environ | {"PYTHONTZPATH": str(tmp_path)}
    said = {
        module: subprocess.run(
            [sys.executable, "-c", code.format(module)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for module in ("sys", "api")
    }
    assert said == {"sys": "2026-12-07T09:00:00-08:00", "api": "2026-12-07T09:00:00-07:00"}


EXACT = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.decimals(allow_nan=False, allow_infinity=False),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=20,
)


@given(EXACT)
def test_json_keeps_every_digit(value: Any) -> None:
    text = exact.dumps(value)
    json.loads(text)
    assert exact.loads(text) == value


@pytest.mark.parametrize("value", [1.5, float("nan"), {"a": [1.5]}, b"x", {1, 2}])
def test_json_is_never_made_of_floats(value: object) -> None:
    with pytest.raises(TypeError):
        exact.dumps(value)
    assert exact.dumps(Decimal("1.50")) == "1.50"
