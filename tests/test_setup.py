"""The set-up says in one sentence what is in its way, and makes anew what was left half-made.

The registries' clients, npm and Python with pip, are stand-ins here: what they would install takes minutes.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from waiting import PATIENCE

ROOT = Path(__file__).parents[1]
UTILITIES = [
    "awk",
    "bash",
    "cat",
    "chmod",
    "cp",
    "cut",
    "date",
    "df",
    "dirname",
    "find",
    "flock",
    "grep",
    "ln",
    "mkdir",
    "mv",
    "readlink",
    "rm",
    "sed",
    "sha256sum",
    "sleep",
    "sort",
    "tail",
    "touch",
    "uname",
    "xargs",
]
PARTS = ("node_modules", ".venv", ".venv/lib", ".build", "web/dist")

NPM = """#!/bin/bash
echo "npm $1" >> calls
if [ "$1" = ci ]; then
  rm -rf node_modules
  for tool in anvil forge; do
    bin=node_modules/@foundry-rs/$tool-linux-amd64/bin
    mkdir -p $bin && touch $bin/$tool && chmod +x $bin/$tool
  done
  [ ! -e hang ] || { touch hanging; sleep 600; }
else
  mkdir -p web/dist && touch web/dist/index.html
fi
"""
PYTHON = """#!/bin/bash
case "$*" in
  *version_info\\[*|*version_info[:3]*) echo VERSION ;;
  *'<= sys.version_info <'*) case VERSION in 3.11.*|3.12.*) ;; *) exit 1 ;; esac ;;
  *sysconfig*) echo "$PWD/.venv/lib" ;;
  --version) echo "Python VERSION" ;;
  '-m venv'*)
    echo "python venv" >> calls
    [ ! -e no-room ] || { echo "OSError: [Errno 28] No space left on device"; exit 1; }
    rm -rf .venv; mkdir -p .venv/bin .venv/lib; cp "$0" .venv/bin/python
    printf '#!/bin/bash\\nmkdir -p .build\\n' > .venv/bin/ape; chmod +x .venv/bin/ape ;;
  '-m pip'*)
    echo "python pip" >> calls
    [ ! -e hang-pip ] || { touch hanging; sleep 600; } ;;
esac
"""


class Checkout:
    """A checkout of the project with a machine of its own: a PATH, a home and a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.bin = folder / "bin"
        self.home = folder / "home"
        for made in (self.folder, self.bin, self.home):
            made.mkdir()
        names = subprocess.run(
            ["git", "ls-files", "tools", "contracts", "web", "*.json", "*.lock", "*.toml", "*.yaml"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        for name in names:
            if (ROOT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.folder / name)
        for name in UTILITIES:
            if found := shutil.which(name, path="/usr/local/bin:/usr/bin:/bin"):
                (self.bin / name).symlink_to(found)
        self.put("node", '#!/bin/bash\necho "v20.19.0"\n')
        self.put("npm", NPM)
        self.put("python3", PYTHON.replace("VERSION", "3.11.9"))

    def put(self, name: str, script: str) -> Path:
        """A program on the PATH."""
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)
        return self.bin / name

    def start(self, **variables: str) -> subprocess.Popen[str]:
        """The set-up, begun."""
        return subprocess.Popen(
            ["bash", "tools/setup.sh"],
            cwd=self.folder,
            env={"PATH": str(self.bin), "HOME": str(self.home)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def set_up(self, **variables: str) -> str:
        """Return the output of a set-up that succeeds."""
        with self.start(**variables) as process:
            out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (0, ""), out
        return out

    def refusal(self, **variables: str) -> str:
        """Return the one sentence of a set-up that fails and has made nothing."""
        with self.start(**variables) as process:
            out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert out == ""
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert not self.calls()
        return err.removesuffix("\n")

    def calls(self) -> list[str]:
        """Return the commands that npm and Python were given since the last call."""
        file = self.folder / "calls"
        asked = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return asked

    def interrupt(self, at: str) -> None:
        """Begins a set-up and sends Ctrl-C once it is in the middle of npm (`hang`) or pip (`hang-pip`)."""
        (self.folder / at).touch()
        process = self.start()
        until = time.monotonic() + PATIENCE
        while not (self.folder / "hanging").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        (self.folder / at).unlink()
        (self.folder / "hanging").unlink()
        self.calls()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


ALL = ["npm ci", "python venv", "python pip", "python pip", "npm run"]


def test_a_set_up_makes_each_part_once_and_says_so_without_colour(checkout: Checkout) -> None:
    said = checkout.set_up()
    assert checkout.calls() == ALL
    assert [line.split()[1] for line in said.splitlines()] == ["1/4", "2/4", "3/4", "4/4", "Done."]
    assert "\033" not in said
    assert checkout.set_up() == ""
    assert checkout.calls() == []
    assert list(checkout.home.rglob("*")) == []
    assert not (checkout.folder / ".cache" / "tmp").exists()


@pytest.mark.parametrize(("at", "made_before"), [("hang", []), ("hang-pip", ["npm ci"])])
def test_one_that_was_interrupted_is_made_anew(checkout: Checkout, at: str, made_before: list[str]) -> None:
    checkout.interrupt(at)
    assert "Done." in checkout.set_up()
    assert checkout.calls() == ALL[len(made_before) :]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_without_its_stamp_is_made_anew(checkout: Checkout, part: str) -> None:
    checkout.set_up()
    (checkout.folder / part / ".made-from").unlink()
    checkout.calls()
    assert "Done." in checkout.set_up()
    assert (checkout.folder / part / ".made-from").exists()


def test_a_virtual_environment_whose_python_is_gone_is_made_anew(checkout: Checkout) -> None:
    checkout.set_up()
    (checkout.folder / ".venv" / "bin" / "python").unlink()
    checkout.calls()
    checkout.set_up()
    assert checkout.calls() == ["python venv", "python pip", "python pip"]


def test_another_lock_file_makes_its_part_anew(checkout: Checkout) -> None:
    checkout.set_up()
    checkout.calls()
    with (checkout.folder / "requirements.lock").open("a") as lock:
        lock.write("# another\n")
    checkout.set_up()
    assert checkout.calls() == ["python venv", "python pip", "python pip"]


def test_a_disk_that_fills_up_on_the_way_is_named_and_the_next_set_up_heals(checkout: Checkout) -> None:
    (checkout.folder / "no-room").touch()
    with checkout.start() as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err.splitlines()[-1] == f"Set-up stopped: the disk of {checkout.folder} is full."
    (checkout.folder / "no-room").unlink()
    assert "Done." in checkout.set_up()


@pytest.mark.parametrize("version", ["18.20.4", "19.9.0", "20.11.1", "20.18.3", "21.7.3", "22.11.0"])
def test_a_node_with_which_the_page_does_not_build_is_refused(checkout: Checkout, version: str) -> None:
    node = checkout.put("node", f"#!/bin/bash\necho v{version}\n")
    assert checkout.refusal() == f"Creneau needs Node ^20.19 or >=22.12: {node} is v{version}."


@pytest.mark.parametrize("version", ["20.19.0", "20.20.2", "22.12.0", "23.1.0", "24.0.0"])
def test_a_node_with_which_the_page_builds_is_taken(checkout: Checkout, version: str) -> None:
    checkout.put("node", f"#!/bin/bash\necho v{version}\n")
    assert "Done." in checkout.set_up()


WHY_NOT_NEWER = ", for which Ape's numpy (older than 2) has no ready-made package"


@pytest.mark.parametrize(
    ("version", "why"),
    [("2.7.18", ""), ("3.9.18", ""), ("3.10.13", ""), ("3.13.0", WHY_NOT_NEWER), ("3.14.1", WHY_NOT_NEWER)],
)
def test_a_python_that_ape_does_not_run_with_is_refused(checkout: Checkout, version: str, why: str) -> None:
    python = checkout.put("python3", PYTHON.replace("VERSION", version))
    hint = "name another one in CRENEAU_PYTHON."
    assert checkout.refusal() == f"Creneau needs Python 3.11 or 3.12: {python} is {version}{why}; {hint}"


def test_beside_a_python_that_is_too_new_a_fitting_one_is_taken(checkout: Checkout) -> None:
    checkout.put("python3", PYTHON.replace("VERSION", "3.13.0"))
    fitting = checkout.put("python3.12", PYTHON.replace("VERSION", "3.12.1"))
    assert f"with {fitting};" in checkout.set_up()


def test_the_python_that_is_named_is_taken_and_one_that_is_not_there_is_named(checkout: Checkout) -> None:
    missing = (
        "Creneau needs Python 3.11 or 3.12: "
        "CRENEAU_PYTHON names /nonexistent/py, which is no Python that runs."
    )
    assert checkout.refusal(CRENEAU_PYTHON="/nonexistent/py") == missing
    named = checkout.put("mine", PYTHON.replace("VERSION", "3.12.4"))
    assert f"with {named};" in checkout.set_up(CRENEAU_PYTHON=str(named))
    checkout.calls()
    assert checkout.refusal(CRENEAU_PYTHON="/nonexistent/py") == missing


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (
            "node",
            "Creneau needs Node ^20.19 or >=22.12, and there is no node: "
            "get it from your system's packages or nodejs.org.",
        ),
        (
            "npm",
            "Creneau needs npm, which usually comes with Node: install it (Debian: apt-get install npm).",
        ),
        (
            "python3",
            "Creneau needs Python 3.11 or 3.12, and there is no python3: install it "
            "(Debian: apt-get install python3 python3-venv), or name it in CRENEAU_PYTHON.",
        ),
    ],
)
def test_a_program_that_is_missing_is_named(checkout: Checkout, program: str, sentence: str) -> None:
    (checkout.bin / program).unlink()
    assert checkout.refusal() == sentence


def test_a_folder_that_cannot_be_written_to_is_named(checkout: Checkout) -> None:
    (checkout.folder / ".cache").touch()  # A file where the folder goes stops root, too.
    assert checkout.refusal() == (
        "Creneau installs itself into its own folder, and "
        f"{checkout.folder} cannot be written to (read-only, full, or another user's)."
    )


def test_a_disk_with_too_little_room_is_named(checkout: Checkout) -> None:
    (checkout.bin / "df").unlink()
    checkout.put("df", "#!/bin/bash\nprintf 'Filesystem blocks Used Available\\n/dev/x 9 9 65536\\n'\n")
    assert checkout.refusal() == (
        f"Creneau needs 1600 MB for its tools, and the disk of {checkout.folder} has 64 MB left."
    )


def test_a_temporary_folder_that_is_missing_does_not_matter_to_the_set_up(checkout: Checkout) -> None:
    assert "Done." in checkout.set_up(TMPDIR="/nonexistent")


def test_a_set_up_beside_another_waits_for_it_and_makes_nothing_twice(checkout: Checkout) -> None:
    (checkout.folder / "hang").touch()
    first = checkout.start()
    while not (checkout.folder / "hanging").exists():
        assert first.poll() is None
        time.sleep(0.02)
    (checkout.folder / "hang").unlink()
    second = checkout.start()
    assert second.stdout is not None
    assert second.stdout.readline() == f"[setup] Another set-up runs in {checkout.folder}; waiting for it\n"
    assert checkout.calls() == ["npm ci"]
    os.killpg(first.pid, signal.SIGINT)
    first.communicate(timeout=PATIENCE)
    out, err = second.communicate(timeout=PATIENCE)
    assert (second.returncode, err) == (0, "")
    assert "Done." in out
    assert checkout.calls() == ALL
