"""A PostgreSQL of the tests' own: a temporary folder, a socket in it."""

import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
import services
from waiting import PATIENCE

ROLE = "creneau"


class PostgreSQL:
    """A server while the context lasts; afterwards neither a process nor a file of it is left."""

    def __init__(self, binaries: Path, *, durable: bool = False, empty: bool = False) -> None:
        """`durable` lets each commit reach the disk, as it does in production.

        An `empty` one has no role but its administrator's, and takes others by their passwords.
        """
        self._binaries = binaries
        self._durable = durable
        self._passwords = empty
        self.administrator = "postgres" if empty else ROLE
        # Short, because a socket's path is.
        self._folder = Path(tempfile.mkdtemp(prefix="creneau-pg-"))
        self._as: dict[str, Any] = {}
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._become_unprivileged()
            self._make()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def _become_unprivileged(self) -> None:
        if os.geteuid() == 0:  # It refuses to run as root.
            user, group = _unprivileged()
            self._as = {"user": user, "group": group, "extra_groups": []}
            shutil.chown(self._folder, user, group)
            # That user cannot read what lies in root's home.
            if not self._binaries.is_relative_to("/usr"):
                for part in ("bin", "lib", "share"):
                    shutil.copytree(
                        self._binaries.parent / part, self._folder / "server" / part, symlinks=True
                    )
                subprocess.run(["chown", "-R", f"{user}:{group}", self._folder], check=True)
                self._binaries = self._folder / "server" / "bin"

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self) -> None:
        data = self._folder / "data"
        options = [
            "--auth=trust",
            f"--username={self.administrator}",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        made = subprocess.run(
            [self._binaries / "initdb", f"--pgdata={data}", *options],
            check=False,
            capture_output=True,
            text=True,
            cwd=self._folder,
            **self._as,
        )
        if made.returncode:
            raise RuntimeError(
                f"PostgreSQL's files cannot be made in {self._folder}: {made.stderr.strip()}\n"
                "If there is no room, name another folder in TMPDIR."
            )
        if self._passwords:
            (data / "pg_hba.conf").write_text(
                f"local all {self.administrator} trust\nlocal all all scram-sha-256\n"
            )

    def start(self) -> None:
        """Starts it, again after `stop`."""
        # Tests kill processes of the shim, not the machine: what is committed need not reach the disk.
        fsync = "on" if self._durable else "off"
        settings = {"listen_addresses": "", "fsync": fsync, "max_connections": "400"}
        command = [
            str(self._binaries / "postgres"),
            "-D",
            str(self._folder / "data"),
            "-k",
            str(self._folder),
        ]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self._folder / "log").open("wb") as log:
            self._server = subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log, start_new_session=True, **self._as
            )
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._connect().close()
                break
            except psycopg.OperationalError:
                if self._server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((self._folder / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self) -> None:
        """Stops it; its files stay."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)  # Ends the sessions, then itself.
            self._server.wait(timeout=PATIENCE)
            self._server = None

    def close(self) -> None:
        """Stops the server and removes its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def host(self) -> str:
        """The folder of its socket, as libpq has it."""
        return str(self._folder)

    @property
    def pid(self) -> int:
        """The id of the server's first process."""
        assert self._server is not None
        return self._server.pid

    def database(self) -> str:
        """A new database, as SQLAlchemy's URL."""
        name = f"creneau_{uuid.uuid4().hex}"
        with self._connect() as connection:
            connection.autocommit = True
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{ROLE}@/{name}?host={self._folder}"

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(host=self.host, user=self.administrator, dbname="postgres")


def _unprivileged() -> tuple[int, int]:
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return user.pw_uid, grp.getgrgid(user.pw_gid).gr_gid
    raise RuntimeError("no user but root, as whom PostgreSQL does not run")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    """A server for all tests; where there is none they are skipped."""
    if (programs := services.postgresql()) is None:
        pytest.skip(services.LACKING["PostgreSQL"])
    with PostgreSQL(programs) as server:
        yield server
