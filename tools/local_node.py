"""A local node (anvil) that belongs to this process alone, at a port of its own; it keeps nothing on disk."""

import atexit
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import httpx

HOST = "127.0.0.1"
STATES = 500
"""Blocks of history whose state is kept; anvil would write older ones to ~/.foundry, 14 KB a block."""

TLS = httpx.create_ssl_context()
"""For every client, though none needs it here: making one takes longer than ten requests."""

Spawn = Callable[[list[str], Path], subprocess.Popen[bytes]]
"""Starts a command whose output is appended to a file."""


class LocalNode:
    """An anvil of our own, while the context lasts or from `start` to `stop`.

    The port is chosen below the ephemeral ones, so that no outgoing connection is given it. anvil binds it,
    and `start` returns once *that process* wrote that it listens there: whatever else answers at a port is
    never taken for it. A chosen port that is lost meanwhile is chosen anew; one that was asked for is an
    error.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        state: Path | None = None,
        block_time: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """`folder` takes the log; `state` keeps the chain between two starts; `block_time` is in seconds."""
        self.log = folder / "node.log"
        self.port = port or 0
        self._state = state
        self._options = [*options, *(["--block-time", str(block_time)] if block_time else [])]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL of its JSON-RPC once it was started; the same after the next start."""
        return f"http://{HOST}:{self.port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running anvil."""
        if self._process is None:
            raise RuntimeError("the node is stopped")
        return self._process

    def start(self, spawn: Spawn | None = None) -> None:
        """Start anvil and waits until it listens.

        Raises:
            RuntimeError: anvil is not on PATH, does not listen within a minute, or the port that was
                asked for is in use.
        """
        if self._process is not None:
            raise RuntimeError("the node runs already")
        if shutil.which("anvil") is None:
            raise RuntimeError("anvil is not on PATH: make setup, then source .venv/bin/activate")
        for _ in range(20):
            port = self.port or free_port()
            process, said = self._try(port, spawn or _spawn)
            if process is not None:
                self.port, self._process = port, process
                _silence(self.url)
                return
            if "Address already in use" not in said:
                raise RuntimeError(f"the local node did not start:\n{said[-2000:].strip()}")
            if self.port:
                raise RuntimeError(f"port {port} is in use: the local node cannot listen there")
        raise RuntimeError("the local node found no free port in 20 tries")

    def _try(self, port: int, spawn: Spawn) -> tuple[subprocess.Popen[bytes] | None, str]:
        """Return the process if it listens, else None, and its output."""
        command = ["anvil", "--host", HOST, "--port", str(port), "--prune-history", str(STATES)]
        command += ["--state", str(self._state)] if self._state else []
        before = self.log.stat().st_size if self.log.exists() else 0
        process = spawn([*command, *self._options], self.log)
        listens = re.compile(rf"^Listening on {re.escape(HOST)}:{port}$", re.MULTILINE)
        until = time.monotonic() + 180  # A busy machine is not a failure.
        try:
            while True:
                ended = process.poll() is not None  # Asked before its last words are read.
                said = self.log.read_bytes()[before:].decode(errors="replace")
                if listens.search(said):
                    return process, said
                if ended or time.monotonic() > until:
                    end(process)
                    return None, said
                time.sleep(0.01)
        except BaseException:
            end(process)
            raise

    def stop(self) -> None:
        """Stop anvil; without `state` its chain is lost. A second stop does nothing."""
        if self._process is not None:
            end(self._process)
            self._process = None


def free_port() -> int:
    """Return a port that is free, and that no outgoing connection will be given meanwhile.

    No other process gets it from here while this one lives, not even while nothing listens there.
    """
    while True:
        port = random.randrange(10_000, 32_000)  # noqa: S311  # below the ephemeral ones
        with socket.socket() as listener:
            try:
                listener.bind((HOST, port))
            except OSError:
                continue
        if sys.platform == "linux":
            mark = socket.socket(socket.AF_UNIX)
            try:
                mark.bind(f"\0creneau port {port}")  # A name that ends with the process (unix(7)).
            except OSError:
                mark.close()
                continue
            atexit.register(mark.close)
        return port


def end(process: subprocess.Popen[bytes]) -> None:
    """Asks the leader of a process group to end, and kills the whole group if it has not after 15 seconds."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _silence(url: str) -> None:
    """From here on no request is logged: there are thousands a minute."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "anvil_setLoggingEnabled", "params": [False]}
    httpx.post(url, json=call, timeout=120, trust_env=False, verify=TLS).raise_for_status()


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        # A Ctrl-C is for our process, which then stops the node.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
