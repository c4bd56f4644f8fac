"""The SDK as somebody else's project has it: installed from its wheel, far from this repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import ape
import pytest
from strategies import ANNONCE

from creneau import BookingEscrow

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
from datetime import UTC, datetime, timedelta

import ape
import creneau
from creneau import BookingEscrow, Slot

node, address, tutor, annonce, start = sys.argv[1:]
with ape.networks.parse_network_choice(node):
    escrow = BookingEscrow(address)
    lesson = Slot(start=datetime.fromisoformat(start), duration=timedelta(hours=1))
    batch = escrow.create_bookings(tutor, annonce, [lesson], sender=ape.accounts.test_accounts[4])
    again = escrow.batch(batch.id)
    print(creneau.__file__, len(batch.bookings), batch.total, again.bookings == batch.bookings)
"""


@ape.fixture(scope="module", chain_isolation=False)
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")  # The build leaves things behind.
    for name in ("creneau", "api"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir", "wheels", ".", cwd=source)
    [built] = (source / "wheels").iterdir()
    return built


def pip(*arguments: str, cwd: Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, cwd=cwd, check=True, timeout=100)


def test_the_wheel_has_the_abi_and_says_that_it_is_typed(wheel: Path) -> None:
    with ZipFile(wheel) as packed:
        names = set(packed.namelist())
    assert {"creneau/py.typed", "creneau/abi/BookingEscrow.json", "creneau/abi/EduToken.json"} <= names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "creneau").rglob("*.py")}
    assert {name for name in names if name.startswith("creneau/") and name.endswith(".py")} == modules


def test_it_books_from_another_folder(
    wheel: Path, listed: BookingEscrow, tutor: ape.api.AccountAPI, tomorrow: object, tmp_path: Path
) -> None:
    pip("install", "--no-index", "--no-deps", "--target", "site", str(wheel), cwd=tmp_path)
    url = ape.chain.provider.web3.provider.endpoint_uri  # type: ignore[attr-defined]  # of an HTTP node
    (tmp_path / "program.py").write_text(PROGRAM)

    told = subprocess.run(
        [sys.executable, "program.py", url, listed.address, tutor.address, ANNONCE, str(tomorrow)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == f"{tmp_path / 'site' / 'creneau' / '__init__.py'} 1 35 True"
