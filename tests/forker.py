"""A process that has imported the shim, and forks those that serve: importing takes longer than starting.

Each line of standard input is a list: `[folder, log, environment]` of a shim to start, answered by its
process id, or `[pid]`, answered by its exit code as `subprocess` has it, null while it runs. The end of
standard input, which the end of the tests' process is, too, ends this process and every shim of it.
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


def serve(folder: str, log: str, environment: dict[str, str], prepare: Callable[[], object]) -> NoReturn:
    """The shim, in a process that was just forked and ends with the one that forked it."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    os.setsid()
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in enumerate((nothing, output, output)):
        os.dup2(target, number)
    os.environ.clear()
    os.environ.update(environment)
    prepare()
    sys.argv[1:] = ["serve"]
    try:
        __main__.main()
    except SystemExit as error:
        if isinstance(error.code, str):
            os.write(output, f"{error.code}\n".encode())  # As the interpreter does at its end.
        os._exit(error.code if isinstance(error.code, int) else bool(error.code))
    except BaseException:  # noqa: BLE001  # it must not come back to the parent's loop
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main(prepare: Callable[[], object] = lambda: None) -> None:
    """Fork shims on demand; each calls `prepare` in its own environment before it serves."""
    gc.freeze()
    for line in sys.stdin:
        match json.loads(line):
            case [int(pid)]:
                found, status = os.waitpid(pid, os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if found else None
            case [folder, log, environment]:
                answer = os.fork()
                if not answer:
                    serve(folder, log, environment, prepare)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
