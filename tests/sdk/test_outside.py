"""The SDK as somebody else's project has it: installed from its wheel, far from this repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from environments import environment, needed

ROOT = Path(__file__).parents[2]

PROGRAM = """
from datetime import UTC, datetime, timedelta

import ape
import creneau
from creneau import BookingEscrow, Slot
from creneau.abi import call_data
from creneau.ape.deploy import deploy, send_by_web3
from eth_account import Account

with ape.networks.parse_network_choice("ethereum:local:foundry"):
    owner, tutor, student = ape.accounts.test_accounts[:3]
    web3 = ape.chain.provider.web3
    send = send_by_web3(web3, Account.from_key(owner.private_key))
    deployed = deploy(web3, send, owner=owner.address)
    send(deployed.token, call_data("EduToken", "mint", student.address, 10**21))

    escrow = BookingEscrow(deployed.escrow.address, deployed.escrow.block_number)
    escrow.publish("piano", 35, sender=tutor)
    escrow.approve(70, sender=student)
    lesson = Slot(start=datetime(2030, 1, 7, 9, tzinfo=UTC), duration=timedelta(hours=2))
    batch = escrow.create_bookings(tutor, "piano", [lesson], sender=student)
    again = escrow.batch(batch.id)
print(creneau.__file__, len(batch.bookings), batch.total, again.bookings == batch.bookings)
"""

ALONE = """
from datetime import UTC, datetime, timedelta

import creneau
from creneau import Domain, Order, Slot, listing_id
from creneau.abi import call_data
from creneau.errors import decode_revert

lesson = Slot(start=datetime(2030, 1, 7, 9, tzinfo=UTC), duration=timedelta(hours=2))
order = Order(
    student="0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    tutor="0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    listing=listing_id("piano"),
    hourly_rate="35",
    deadline=datetime(2029, 1, 1, tzinfo=UTC),
    salt=bytes(32),
    slots=(lesson,),
)
print(order.total, len(order.digest(Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3"))))
print(len(call_data("EduToken", "mint", order.student, 10**21)), decode_revert(bytes(4)) is not None)
try:
    creneau.BookingEscrow
except ImportError as error:
    print(error)
"""


@pytest.fixture(scope="module")
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
    subprocess.run(command, cwd=cwd, check=True)


def test_the_wheel_has_the_abi_and_says_that_it_is_typed(wheel: Path) -> None:
    with ZipFile(wheel) as packed:
        names = set(packed.namelist())
    assert {
        "creneau/py.typed",
        "creneau/artifacts/BookingEscrow.json",
        "creneau/artifacts/EduToken.json",
    } <= names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "creneau").rglob("*.py")}
    assert {name for name in names if name.startswith("creneau/") and name.endswith(".py")} == modules


def test_it_books_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    pip("install", "--no-index", "--no-deps", "--target", "site", str(wheel), cwd=tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)

    told = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stderr
    installed = tmp_path / "site" / "creneau" / "__init__.py"
    assert f"{installed} 1 70 True" in told.stdout.splitlines()


def test_without_ape_it_has_orders_hashes_codec_and_errors(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", {name for name in needed("creneau") if name != "creneau"})
    pip("install", "--no-index", "--no-deps", "--target", "site", str(wheel), cwd=tmp_path)

    told = subprocess.run(
        [python, "-c", ALONE],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.stderr == ""
    *calculated, refusal = told.stdout.splitlines()
    assert calculated == ["70 32", "68 True"]
    assert refusal == "BookingEscrow needs Ape: pip install 'creneau[ape]' (No module named 'ape')"
