"""The demonstration and the server of the README, run as a newcomer runs them."""

import json
import os
import signal
import subprocess
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from waiting import PATIENCE, http

from tools import dev_stack
from tools.dev_stack import DevStack
from tools.local_node import free_port

ROOT = Path(__file__).parents[1]
STUDENT = "d755226e-bb7b-4bec-9af0-e578da8362dc"
TUTOR = "d085706f-9304-4011-a28a-08fd871afe4f"
ANNONCE = "3f2b9c1e-5a7d-4c88-9e21-6b1f0a4d7c55"


class Marked:
    """An environment whose processes, and theirs, can be told from all others."""

    def __init__(self, **more: str) -> None:
        self._mark = f"STARTED_BY={uuid.uuid4()}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CRENEAU_")}
        self.environment = inherited | dict([self._mark.split("=")]) | more

    def processes(self) -> list[str]:
        """Processes that still run in it."""
        left = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (process / "environ").read_bytes():
                    left.append((process / "comm").read_text().strip())
            except OSError:
                continue  # Ended meanwhile.
        return left


@pytest.fixture
def foreign(tmp_path: Path) -> dict[str, str]:
    """A home, a folder for temporary files and a locale of somebody's who does not write UTF-8."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    latin = "fr_FR.ISO-8859-1"
    return {"HOME": str(home), "TMPDIR": str(temporary), "LC_ALL": latin, "LANG": latin, "PYTHONUTF8": ""}


def left_in(foreign: dict[str, str]) -> list[Path]:
    """Files in that home and that folder, but for what npm and Node keep of packages."""
    found = [path for name in ("HOME", "TMPDIR") for path in Path(foreign[name]).rglob("*")]
    return [path for path in found if not {".npm", "node-compile-cache"} & {*path.parts}]


def test_the_demonstration_ends_with_its_figures_and_leaves_nothing(foreign: dict[str, str]) -> None:
    marked = Marked(**foreign)
    demo = subprocess.run(
        ["make", "demo", "JSON=1"],
        cwd=ROOT,
        env=marked.environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "…" in demo.stdout  # As UTF-8, whatever the locale says.
    figures = json.loads(demo.stdout.splitlines()[-1])
    gas, old_gas = figures.pop("gasUsed"), figures.pop("oldWayGas")
    assert figures == {
        "requests": 1,
        "transactions": 1,
        "transfers": 1,
        "bookings": 2,
        "debitedWei": "70000000000000000000",
    }
    assert 80_000 < gas < old_gas
    assert marked.processes() == []
    assert left_in(foreign) == []


def test_plain_ape_runs_the_demonstration_too() -> None:
    demo = subprocess.run(["ape", "run", "demo"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(demo.stdout.splitlines()[-1])["bookings"] == 2


def test_a_temporary_folder_that_is_too_small_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev_stack, "NEEDED_MB", 10**9)  # No disk has so much.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # Asked for anew.
    sentence = rf"{tmp_path} has \d+ MB left, and 1000000000 are needed: name another folder in TMPDIR"
    with pytest.raises(RuntimeError, match=f"^{sentence}$"):
        DevStack()
    assert list(tmp_path.iterdir()) == []


def test_serve_books_for_a_token_of_make_token_keeps_its_data_and_stops_on_ctrl_c(
    tmp_path: Path, foreign: dict[str, str]
) -> None:
    marked = Marked(CRENEAU_PORT=str(free_port()), CRENEAU_DATA_DIR=str(tmp_path / "data"), **foreign)
    first = serve_and_book(marked, key="the same")
    again = serve_and_book(marked, key="the same")
    assert left_in(foreign) == []
    assert first["count"] == 1
    assert again["batchId"] == first["batchId"]
    assert again["transactionHash"] == first["transactionHash"]


def serve(marked: Marked) -> subprocess.Popen[str]:
    """`make serve`, begun."""
    return subprocess.Popen(
        ["make", "serve"],
        cwd=ROOT,
        env=marked.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def refusal(marked: Marked) -> str:
    """Return the sentence of a `make serve` that does not start, without the line that make adds."""
    with serve(marked) as server:
        out, err = server.communicate(timeout=PATIENCE)
    assert (server.returncode, out) == (2, "")
    said = [line for line in err.splitlines() if not line.startswith(("make", "starting "))]
    assert len(said) == 1, err
    return said[0]


def test_serve_beside_a_running_one_says_where_that_is_and_touches_nothing(tmp_path: Path) -> None:
    port, other, data = free_port(), free_port(), tmp_path / "data"
    marked = Marked(CRENEAU_PORT=str(port), CRENEAU_DATA_DIR=str(data))
    first = serve(marked)
    try:
        assert first.stdout is not None
        url = f"http://127.0.0.1:{port}"
        assert next(line for line in first.stdout if line.startswith("ready ")) == f"ready {url}\n"
        database = (data / "creneau.db").stat().st_ino
        assert refusal(marked) == f"already running at {url}"
        assert (
            refusal(Marked(CRENEAU_PORT=str(other), CRENEAU_DATA_DIR=str(data)))
            == f"already running at {url}"
        )
        elsewhere = Marked(CRENEAU_PORT=str(port), CRENEAU_DATA_DIR=str(tmp_path / "elsewhere"))
        assert refusal(elsewhere) == f"port {port} is in use; CRENEAU_PORT={port + 1} make serve"
        assert (data / "creneau.db").stat().st_ino == database
        assert http.get(f"{url}/readyz").status_code == 200
    finally:
        os.killpg(first.pid, signal.SIGINT)
        first.communicate(timeout=PATIENCE)
    assert marked.processes() == []


def test_a_database_whose_chain_is_gone_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / "creneau.db").write_bytes(b"what was there")
    with DevStack(data_dir=tmp_path) as stack:
        assert stack.client().get("/readyz").status_code == 200
    (kept,) = tmp_path.glob("aside-*/creneau.db")
    assert kept.read_bytes() == b"what was there"


def test_a_folder_for_data_that_cannot_be_made_and_a_port_that_is_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "data"
    assert refusal(Marked(CRENEAU_DATA_DIR=str(folder))) == (
        f"the data cannot be kept in {folder} (not a directory): name another folder in CRENEAU_DATA_DIR"
    )
    assert (
        refusal(Marked(CRENEAU_PORT="70000")) == "CRENEAU_PORT is '70000': a port is a number from 1 to 65535"
    )


def serve_and_book(marked: Marked, key: str) -> dict[str, object]:
    """Starts the server, books one lesson, stops the server, and returns the answer's data."""
    server = subprocess.Popen(
        ["make", "serve"],
        cwd=ROOT,
        env=marked.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        ready = next(line for line in server.stdout if line.startswith("ready "))
        url = f"http://127.0.0.1:{marked.environment['CRENEAU_PORT']}"
        assert ready == f"ready {url}\n"
        minted = subprocess.run(
            ["make", "token", f"USER={STUDENT}"],
            cwd=ROOT,
            env=marked.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        day = (datetime(2030, 1, 7, tzinfo=UTC) + timedelta(days=1)).date().isoformat()
        answer = http.post(
            f"{url}/api/blockchain/booking",
            json={"tutorId": TUTOR, "annonceId": ANNONCE, "date": day, "time": "09:00", "amount": 35},
            headers={"Authorization": f"Bearer {minted.stdout.strip()}", "Idempotency-Key": key},
        )
        assert answer.status_code == 200, answer.text
        data: dict[str, object] = answer.json()["data"]
        return data
    finally:
        os.killpg(server.pid, signal.SIGINT)  # What a terminal does on Ctrl-C.
        assert server.wait(timeout=PATIENCE) == -signal.SIGINT  # So make ends, once the server has.
        assert server.stdout is not None
        server.stdout.close()
        assert marked.processes() == []
