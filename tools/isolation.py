"""A pytest plugin: what this machine and its user have set reaches no test.

Tests run in a home, an Ape data folder, a temporary folder, a locale and a time zone of their own, with the
pinned time zone data, and with those variables of the environment that `KEPT` names. Ape reads some of them
when it is imported, and Python others when it starts. So the process that is started replaces itself by one
with the new environment, before Ape is imported; pytest-xdist's workers have it from there.
"""

import atexit
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

KEPT = (
    "PATH",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "CI",
    "TERM",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "FORCE_COLOR",
    "PY_COLORS",
    "PYTEST_ADDOPTS",
    # What `make` hands to tests.
    "CASES",
    "SEED",
    "UPDATE_GAS",
    "CHAOS_LONG",
    "CHAOS_KILLS",
    "CHAOS_RUNS",
    "CHAOS_STEPS",
    "CHAOS_SEED",
    "CRENEAU_FUZZ_STEPS",
    "CRENEAU_FUZZ_SEED",
    "CRENEAU_OWN_SERVICES",
)
FOLDER = "CRENEAU_TESTS_FOLDER"
"""The variable that names the folder of this run, and says that the environment is the tests' own."""


def own_environment(folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of tests with this folder."""
    return {name: given[name] for name in KEPT if name in given} | {
        FOLDER: str(folder),
        "HOME": str(folder / "home"),
        "APE_DATA_FOLDER": str(folder / "ape"),
        "TMPDIR": str(folder / "tmp"),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONTZPATH": "",  # No zone data of the machine's: the package tzdata has them.
    }


def make_folder() -> Path:
    """Return a new folder for a run, named after this process; short, as the paths of sockets must be."""
    parents = [parent for parent in ("/tmp", "/var/tmp") if os.access(parent, os.W_OK)]  # noqa: S108  # no file of ours
    folder = Path(
        tempfile.mkdtemp(prefix=f"creneau-tests-{os.getpid()}-", dir=parents[0] if parents else None)
    )
    for name in ("home", "ape", "tmp"):
        (folder / name).mkdir()
    for passed in (folder, folder / "tmp"):
        passed.chmod(0o711)  # PostgreSQL, which does not run as root, gets to its own folder.
    return folder


def isolate() -> None:
    """Replace this process, or the environment of a program that only calls pytest."""
    if FOLDER not in os.environ:
        environment = own_environment(make_folder(), os.environ)
        program = Path(sys.argv[0])
        if program.name in {"pytest", "py.test", "ape"} or program.parent.name == "pytest":
            sys.stdout.flush()
            sys.stderr.flush()
            os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606  # the same command
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
    if Path(os.environ[FOLDER]).name.startswith(f"creneau-tests-{os.getpid()}-"):
        # Registered before Ape's own, and so called after the nodes have been stopped.
        atexit.register(_remove, os.getpid(), os.environ[FOLDER])


def _remove(pid: int, folder: str) -> None:
    if os.getpid() == pid:  # Not in a process that was forked.
        shutil.rmtree(folder, ignore_errors=True)


isolate()
