"""Settings of the machine and its user change no test, and no test leaves anything with them."""

import locale
import os
import re
import subprocess
import sys
import tempfile
import time
import zoneinfo
from pathlib import Path

import ape
import pytest
from ape.utils.testing import DEFAULT_TEST_MNEMONIC

from tools import isolation

ROOT = Path(__file__).parents[1]


def test_the_environment_is_the_tests_own() -> None:
    """Run by itself, and by the next test in an environment that is foreign."""
    folder = Path(os.environ[isolation.FOLDER])
    assert Path.home() == folder / "home"
    assert folder / "ape" == ape.config.DATA_FOLDER
    assert folder / "tmp" == Path(tempfile.gettempdir())
    assert time.tzname == ("UTC", "UTC")
    assert locale.getencoding().upper() == "UTF-8"
    assert sys.stdout.encoding.upper() == "UTF-8"
    assert zoneinfo.TZPATH == ()
    assert zoneinfo.ZoneInfo("Europe/Paris").key == "Europe/Paris"
    odd = {name for name in os.environ if name.upper().startswith(("APE_", "CRENEAU_", "PG", "XDG_", "HTTP"))}
    assert odd <= {"APE_DATA_FOLDER", isolation.FOLDER, *isolation.KEPT}
    accounts = ape.config.get_config("test")
    assert (accounts.mnemonic, accounts.number_of_accounts) == (DEFAULT_TEST_MNEMONIC, 10)
    assert len(ape.accounts.test_accounts) == 10


@pytest.fixture
def foreign(tmp_path: Path) -> dict[str, str]:
    """An environment in which every variable has another value than tests need."""
    home, odd = tmp_path / "home of somebody", tmp_path / ("d'été " + "x" * 100)
    output = home / ".ape" / "foundry" / "subprocess_output"
    output.mkdir(parents=True)
    (output / "stdout.log").touch()
    other = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    (home / ".ape" / "ape-config.yaml").write_text(
        f"test:\n  mnemonic: {other}\n  number_of_accounts: 2\nfoundry:\n  host: http://127.0.0.1:9\n"
    )
    odd.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {
        "HOME": str(home),
        "TMPDIR": str(odd),
        "TZ": "Pacific/Kiritimati",
        "PYTHONTZPATH": str(odd),
        "LC_ALL": "fr_FR.ISO-8859-1",
        "LANG": "fr_FR.ISO-8859-1",
        "XDG_CACHE_HOME": str(home / "cache"),
        "APE_FOUNDRY_HOST": "http://127.0.0.1:9",
        "CRENEAU_PORT": "9",
        "CRENEAU_RPC_URL": "http://127.0.0.1:9",
        "CRENEAU_ESCROW": "0x" + "99" * 20,
        "CRENEAU_MNEMONIC_FILE": "/nonexistent",
        "PGHOST": "192.0.2.1",
        "PGPORT": "9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "SOLCX_BINARY_PATH": str(odd),
    }


def files(*folders: str) -> dict[Path, bytes]:
    """Return the files of these folders with their contents."""
    found = (path for folder in folders for path in Path(folder).rglob("*"))
    return {path: path.read_bytes() if path.is_file() else b"" for path in found}


def test_a_foreign_environment_changes_nothing_and_is_not_changed(foreign: dict[str, str]) -> None:
    """Of the process that is started, and of pytest-xdist's workers."""
    before = files(foreign["HOME"], foreign["TMPDIR"])
    command = [sys.executable, "-m", "pytest", "-q", "-n", "1", "-p", "no:cacheprovider"]
    probe = f"tests/test_isolation.py::{test_the_environment_is_the_tests_own.__name__}"
    done = subprocess.run(
        [*command, probe, "tests/contracts/test_token.py", "tests/sdk/test_windows.py"],
        cwd=ROOT,
        env=foreign,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout.splitlines()[-1]
    assert "skipped" not in done.stdout
    assert files(foreign["HOME"], foreign["TMPDIR"]) == before


def test_the_folder_of_a_run_goes_with_it(foreign: dict[str, str], tmp_path: Path) -> None:
    """Also when a test failed."""
    failing = tmp_path / "test_failing.py"
    failing.write_text(
        "import os\ndef test() -> None:\n    raise ValueError(os.environ['CRENEAU_TESTS_FOLDER'])\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tools.isolation", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-c", "/dev/null", str(failing)],
        cwd=tmp_path,
        env=foreign,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    [said] = set(re.findall(r"ValueError: (/\S+)", done.stdout))
    folder = Path(said)
    assert folder.name.startswith("creneau-tests-")
    assert not folder.exists()
