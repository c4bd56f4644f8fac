"""The database: reads see committed data, and writes are one transaction at a time.

SQLite by default (WAL, `synchronous=FULL`, every write a `BEGIN IMMEDIATE`), PostgreSQL by URL with the same
code.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event, make_url, text

_MIGRATING = int.from_bytes(b"creneau")  # An advisory lock's key.

FROZEN_SECONDS = 10
"""A process that holds locks for so long and asks nothing loses them, on PostgreSQL; SQLite is waited for."""

_LOCK_SECONDS = 20
_SILENT = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "keepalives_idle": 5, "keepalives_interval": 5}
"""After so long a PostgreSQL whose machine is gone is one that does not answer (libpq)."""


class Store:
    """The database. Threads may share it."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._file: int | None = None  # The inode of SQLite's file.
        options: dict[str, Any] = {}
        if self.is_sqlite:
            if self._url.database:
                Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
            # One connection is the queue of the writers: cheaper and fairer than SQLite's busy waiting.
            options = {"pool_size": 1, "max_overflow": 0}
        given = (
            {} if self.is_sqlite else {name: v for name, v in _SILENT.items() if name not in self._url.query}
        )
        self._writer = create_engine(self._url, connect_args=given, **options)
        self._reader = create_engine(
            self._url, connect_args=given, isolation_level="AUTOCOMMIT", pool_size=16, max_overflow=64
        )
        if self.is_sqlite:
            event.listen(self._writer, "connect", _set_up_sqlite)
            event.listen(self._reader, "connect", _set_up_sqlite)
            event.listen(self._writer, "begin", _begin_immediate)
        else:
            event.listen(self._writer, "connect", _set_up_postgresql)
            event.listen(self._reader, "connect", _set_up_postgresql)

    @property
    def is_sqlite(self) -> bool:
        """True for the embedded database."""
        return self._url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a connection that sees committed data at each statement."""
        with self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction: committed at the end, rolled back on an error."""
        with self._writer.begin() as connection:
            yield connection

    def migrate(self) -> None:
        """Migrate the tables to this version of the program."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.write() as connection:
            if not self.is_sqlite:  # Which has one writer anyway.
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def require_file(self) -> None:
        """Raise `FileNotFoundError` if SQLite's file is not the one that was opened: it was deleted, say."""
        if self.is_sqlite and self._url.database:
            found = Path(self._url.database).stat().st_ino
            if self._file not in {None, found}:
                raise FileNotFoundError("the database's file is another one")
            self._file = found

    def close(self) -> None:
        """Close the connections."""
        self._writer.dispose()
        self._reader.dispose()


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # The driver begins nothing of its own accord.
    for pragma in ("busy_timeout=10000", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    until = time.monotonic() + FROZEN_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:  # For this SQLite does not wait, and others may start right now.
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def _set_up_postgresql(connection: Any, _: Any) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout = '{FROZEN_SECONDS}s'")
    connection.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
    connection.commit()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
