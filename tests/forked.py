"""Shims and their commands for tests, forked from a process that has imported them once."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from waiting import PATIENCE

from tools.dev_stack import DevStack

FORKER = Path(__file__).with_name("forker.py")


class Shims:
    """A process that forks shims: `forker.py`, or a program that does the same with something on top."""

    def __init__(self, program: Path = FORKER) -> None:
        self.groups: list[int] = []
        """Every process group that was started."""
        self._lock = threading.Lock()
        self._parent = subprocess.Popen(
            [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._parent:
            assert self._parent.stdin is not None
            self._parent.stdin.close()

    def kill(self) -> None:
        """Kills that process, as whatever kills the tests would."""
        self._parent.kill()
        self._parent.wait()

    def tell(self, *line: object) -> Any:
        """One line to that process; its answer."""
        with self._lock:
            assert self._parent.stdin is not None
            assert self._parent.stdout is not None
            print(json.dumps(line), file=self._parent.stdin, flush=True)
            return json.loads(self._parent.stdout.readline())


def inherited() -> dict[str, str]:
    """The environment of this process but for the settings of a shim."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CRENEAU_")}


@functools.cache
def shims() -> Shims:
    """The one of this process, for the shims of all tests but those that want more of them."""
    shims = Shims()
    atexit.register(shims.__exit__)
    return shims


class Forked(subprocess.Popen[bytes]):
    """A process that another one started for us, with what is used here of a `Popen`."""

    def __init__(self, shims: Shims, *arguments: object) -> None:
        self._shims = shims
        self.args = ["shim"]
        self.pid = shims.tell(*arguments)
        self.returncode = None

    def __del__(self, *_: Any) -> None:
        """Do nothing: another process has to reap it."""

    def poll(self) -> int | None:
        """The exit code, once there is one."""
        if self.returncode is None:
            self.returncode = self._shims.tell(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code."""
        seconds = PATIENCE if timeout is None else timeout
        until = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("shim", seconds)
            time.sleep(0.01)
        return code

    def send_signal(self, sig: int) -> None:
        """Sends a signal."""
        if self.poll() is None:
            os.kill(self.pid, sig)


class Command(Forked):
    """A `python -m api` that was started, with its standard input given and the rest kept in files."""

    def __init__(
        self, folder: Path, arguments: Sequence[str], settings: Mapping[str, object], given: str = ""
    ) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.files = [self.folder / name for name in ("stdin", "stdout", "stderr")]
        self.files[0].write_text(given)
        environment = inherited() | {
            f"CRENEAU_{name.upper()}": str(value) for name, value in settings.items()
        }
        super().__init__(shims(), str(folder), environment, arguments, [str(file) for file in self.files])

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Wait for the end; return what it said."""
        code = self.wait()
        output, errors = (file.read_text() for file in self.files[1:])
        shutil.rmtree(self.folder)
        return subprocess.CompletedProcess(self.args, code, output, errors)


def run(
    folder: Path, *arguments: str, given: str = "", **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run `python -m api` with these arguments, lines on its standard input, and settings."""
    return Command(folder, arguments, settings, given).ended()


class Stack(DevStack):
    """The whole of Creneau on this machine; its shims are forked, and otherwise as `python -m api serve`."""

    @property
    def shims(self) -> Shims:
        """The process that forks them."""
        return shims()

    def _run(self, command: list[str], log: Path, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
        if command[1:3] != ["-m", "api"]:
            process = super()._run(command, log, settings)
        else:
            files = [os.devnull, str(log), str(log)]
            environment = {**inherited(), "PYTHONUTF8": "1", **settings}
            process = Forked(self.shims, str(self.data_dir), environment, command[3:], files)
            self._processes.append(process)
        self.shims.groups.append(process.pid)
        return process
