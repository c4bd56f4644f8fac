"""The tables, and the two ways into them: reads see what is committed, writes are one transaction at a time.

SQLite by default (WAL, `synchronous=FULL`, every write a `BEGIN IMMEDIATE`), PostgreSQL by URL with the same
code. Amounts in base units are decimal text, because they outgrow every integer column. Times are unix
microseconds.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    make_url,
    select,
)
from sqlalchemy.types import TypeDecorator

from api import wire


class State(StrEnum):
    """Where a batch stands; relayer.py draws the transitions."""

    ACCEPTED = "accepted"
    SIGNED = "signed"
    SUBMITTED = "submitted"
    MINED = "mined"
    FINAL = "final"
    REJECTED = "rejected"
    FAILED = "failed"
    EXPIRED = "expired"


UNSETTLED = (State.ACCEPTED, State.SIGNED, State.SUBMITTED)


class Exact(TypeDecorator[Any]):
    """A value as JSON text, its numbers exact."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, _: Dialect) -> str | None:
        """As the column has it."""
        return None if value is None else wire.dumps(value)

    def process_result_value(self, value: Any, _: Dialect) -> Any:
        """As the program has it."""
        return None if value is None else wire.loads(value)


class Wei(TypeDecorator[int]):
    """An integer of base units, as decimal text."""

    impl = String(78)
    cache_ok = True

    def process_bind_param(self, value: int | None, _: Dialect) -> str | None:
        """As the column has it."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, _: Dialect) -> int | None:
        """As the program has it."""
        return None if value is None else int(value)


metadata = MetaData()

users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("profile_id", String(64), unique=True),
    Column("wallet", String(42), nullable=False, unique=True),
    Column("custody_index", Integer, unique=True),  # Null: the user's own wallet.
)

annonces = Table(
    "annonces",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tutor_id", String(64), ForeignKey("users.id"), nullable=False),
    Column("title", Text, nullable=False),
    Column("hourly_rate", Wei, nullable=False),
    Column("time_zone", String(64)),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(66), primary_key=True),  # The contract's key.
    # Who asked for what
    Column("student_id", String(64), nullable=False),
    Column("tutor_id", String(64), nullable=False),
    Column("annonce_id", String(64), nullable=False),
    Column("idempotency_key", String(255), nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("description", Text),
    Column("student_notes", Text),
    Column("lessons", Exact, nullable=False),  # Those of the order, in its order, as slots.Lesson.
    Column("failures", Exact, nullable=False),  # The others, as slots.Failure.
    # The order
    Column("student", String(42), nullable=False),
    Column("tutor", String(42), nullable=False),
    Column("listing", String(66), nullable=False),
    Column("hourly_rate", Wei, nullable=False),
    Column("allow_partial", Boolean, nullable=False),
    Column("deadline", BigInteger, nullable=False),  # Unix seconds.
    Column("salt", String(66), nullable=False),
    # What to send
    Column("call", LargeBinary, nullable=False),  # createBookings…, signed by the student.
    Column("publish", LargeBinary),  # publish, signed by the tutor, if the listing needed it at that time,
    Column("listing_nonce", BigInteger),  # and the listing's nonce that it is good for.
    # What became of it
    Column("state", String(16), nullable=False),
    Column("signer", String(42)),
    Column("nonce", BigInteger),
    Column("publishes", Boolean, nullable=False, default=False),
    Column("transaction_hash", String(66)),
    Column("block_number", BigInteger),
    Column("block_hash", String(66)),
    Column("gas_used", BigInteger),
    Column("booked", BigInteger),  # Bit i: lesson i. Null until a block says so.
    Column("left_out", Exact),  # What the chain did not book of the order, as slots.Failure.
    Column("instant", Boolean, nullable=False),  # Booked lessons are confirmed, not pending.
    Column("code", String(64)),  # Why nothing was booked,
    Column("detail", Text),  # and in words.
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("student_id", "idempotency_key", name="one_batch_per_key"),
    UniqueConstraint("signer", "nonce", name="one_batch_per_nonce"),
    Index("batches_by_state", "state", "created_at"),
)

transactions = Table(
    "transactions",
    metadata,
    Column("hash", String(66), primary_key=True),
    Column("batch_id", String(66), ForeignKey("batches.id"), nullable=False, index=True),
    Column("raw", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)


def now() -> int:
    """The time as the tables have it."""
    return time.time_ns() // 1000


class Store:
    """The database. Threads may share it."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        options: dict[str, Any] = {}
        if is_sqlite:
            Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
            # One connection is the queue of the writers: cheaper and fairer than SQLite's busy waiting.
            options = {"pool_size": 1, "max_overflow": 0}
        self._writer = create_engine(parsed, **options)
        self._reader = create_engine(parsed, isolation_level="AUTOCOMMIT", pool_size=8, max_overflow=32)
        if is_sqlite:
            event.listen(self._writer, "connect", _set_up_sqlite)
            event.listen(self._reader, "connect", _set_up_sqlite)
            event.listen(self._writer, "begin", _begin_immediate)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees what is committed at each statement."""
        with self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back on an error."""
        with self._writer.begin() as connection:
            yield connection

    def migrate(self) -> None:
        """Brings the tables to this version of the program."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def batch(self, batch_id: str) -> Row[Any] | None:
        """A batch by its key."""
        return next(iter(self.find(batches.c.id == batch_id)), None)

    def find(self, *criteria: ColumnElement[bool], limit: int | None = None) -> Sequence[Row[Any]]:
        """The batches that meet all of these, oldest first."""
        query = select(batches).where(*criteria).order_by(batches.c.created_at).limit(limit)
        with self.read() as db:
            return db.execute(query).all()

    def close(self) -> None:
        """Lets go of the connections."""
        self._writer.dispose()
        self._reader.dispose()


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # The driver begins nothing of its own accord.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
