"""A process that has imported the shim, and forks its commands: importing takes longer than most of them.

Each line of standard input is a list: `[folder, environment, arguments, files]` of a `python -m api` to
start, answered by its process id, where `files` are its standard input, output and error; or `[pid]`,
answered by its exit code as `subprocess` has it, null while it runs. The end of standard input, which the
end of the tests' process is, too, ends this process and every one that it forked.
"""

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from api import __main__

PR_SET_PDEATHSIG = 1


def run(
    folder: str,
    environment: dict[str, str],
    arguments: list[str],
    files: list[str],
    prepare: Callable[[], object],
) -> NoReturn:
    """Run a command in a process that was just forked and ends with the one that forked it."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    os.setsid()
    os.chdir(folder)
    for number, file in enumerate(files):
        mode = os.O_WRONLY | os.O_APPEND | os.O_CREAT if number else os.O_RDONLY
        os.dup2(os.open(file, mode), number)
    sys.stdin = open(0)  # noqa: SIM115  # without what the parent's has read ahead
    os.environ.clear()
    os.environ.update(environment)
    code: object = 0
    try:
        prepare()
        sys.argv[1:] = arguments
        __main__.main()
    except SystemExit as error:
        code = error.code
        if isinstance(code, str):
            print(code, file=sys.stderr)  # As the interpreter does at its end.
    except BaseException:  # noqa: BLE001  # it must not come back to the parent's loop
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else bool(code))


def main(prepare: Callable[[], object] = lambda: None) -> None:
    """Fork commands on demand; each calls `prepare` in its own environment before it begins."""
    gc.freeze()
    for line in sys.stdin:
        match json.loads(line):
            case [int(pid)]:
                found, status = os.waitpid(pid, os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if found else None
            case [folder, environment, arguments, files]:
                answer = os.fork()
                if not answer:
                    run(folder, environment, arguments, files, prepare)
            case unknown:
                raise ValueError(f"not understood: {unknown}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
