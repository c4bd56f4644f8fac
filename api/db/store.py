"""The two ways into the database: reads see what is committed, writes are one transaction at a time.

SQLite by default (WAL, `synchronous=FULL`, every write a `BEGIN IMMEDIATE`), PostgreSQL by URL with the same
code.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Row, create_engine, event, insert, make_url, select, text

from api.db.tables import attempts, batches, now, orders, transactions
from api.outbox.models import IN_FLIGHT, State, TransactionKind

_SENDS = select(transactions, *(c for c in batches.c if c.name not in transactions.c)).outerjoin(
    batches, batches.c.id == transactions.c.id
)
_BATCHES = _SENDS.where(transactions.c.kind == TransactionKind.CREATE)
_UNDER_WAY = select(
    *(
        transactions.c[name]
        for name in ("id", "kind", "request_id", "state", "signer", "nonce", "publishes", "expires")
    ),
    transactions.c.transaction_hash,
    *(attempts.c[name] for name in ("raw", "gas", "max_fee", "priority_fee", "is_noop")),
    attempts.c.created_at.label("attempted_at"),
).join(attempts, attempts.c.hash == transactions.c.transaction_hash)


_MIGRATING = int.from_bytes(b"creneau")  # An advisory lock's key.

FROZEN_SECONDS = 10
"""A process that holds locks for so long and asks nothing loses them, on PostgreSQL."""


class Store:
    """The database. Threads may share it."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        options: dict[str, Any] = {}
        if self.is_sqlite:
            if self._url.database:
                Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
            # One connection is the queue of the writers: cheaper and fairer than SQLite's busy waiting.
            options = {"pool_size": 1, "max_overflow": 0}
        self._writer = create_engine(self._url, **options)
        self._reader = create_engine(self._url, isolation_level="AUTOCOMMIT", pool_size=16, max_overflow=64)
        if self.is_sqlite:
            event.listen(self._writer, "connect", _set_up_sqlite)
            event.listen(self._reader, "connect", _set_up_sqlite)
            event.listen(self._writer, "begin", _begin_immediate)
        else:
            event.listen(self._writer, "connect", _set_up_postgresql)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self._url.get_backend_name() == "sqlite"

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
            if not self.is_sqlite:  # Which has one writer anyway.
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def batch(self, batch_id: str) -> Row[Any] | None:
        """A batch by its key."""
        with self.read() as db:
            return self.batch_row(db, batch_id)

    @staticmethod
    def batch_row(db: Connection, batch_id: str) -> Row[Any] | None:
        """A batch as this connection sees it."""
        return db.execute(_BATCHES.where(transactions.c.id == batch_id)).one_or_none()

    def batch_of_key(self, student_id: str, idempotency_key: str) -> Row[Any] | None:
        """The batch that a student's idempotency key made."""
        mine = (batches.c.student_id == student_id) & (batches.c.idempotency_key == idempotency_key)
        with self.read() as db:
            return db.execute(_BATCHES.where(mine)).one_or_none()

    # --- The outbox ---

    @staticmethod
    def enqueue(
        db: Connection,
        kind: TransactionKind,
        submission_id: str,
        call: bytes,
        *,
        chain_id: int,
        locks: Mapping[str, int],
        expires: int | None = None,
        request_id: str = "",
        **more: Any,
    ) -> None:
        """Puts a call to the escrow into the outbox, in the caller's transaction; the relayer sends it."""
        moment = now()
        row = {
            "id": submission_id,
            "kind": kind,
            "request_id": request_id,
            "call": call,
            "locks": locks,
            "expires": expires,
            "state": State.ACCEPTED,
            "chain_id": chain_id,
            "publishes": False,
            "created_at": moment,
            "updated_at": moment,
        }
        db.execute(insert(transactions), row | more)

    def order_of(self, student: str, salt: str) -> Row[Any] | None:
        """The order on chain of a student's wallet that has this salt."""
        with self.read() as db:
            its = (orders.c.salt == salt) & (orders.c.student == student)
            return db.execute(select(orders).where(its)).first()

    def submissions(self, submission_ids: Collection[str]) -> Sequence[Row[Any]]:
        """Sends by their ids, each with its batch's columns if it has one."""
        with self.read() as db:
            return db.execute(_SENDS.where(transactions.c.id.in_(submission_ids))).all()

    def accepted(
        self, limit: int, kinds: Collection[TransactionKind], own: Collection[str] = (), left: int = 0
    ) -> Sequence[Row[Any]]:
        """The oldest sends that wait for a nonce, each with its batch's columns if it has one.

        Of those that are not its `own`, a process leaves alone what was accepted so many microseconds ago.
        """
        query = _SENDS.where(transactions.c.state == State.ACCEPTED, transactions.c.kind.in_(kinds))
        if left:
            # A clock that is ahead protects nothing: what seems to be of the future is taken, too.
            moment = now()
            query = query.where(
                transactions.c.id.in_(own) | ~transactions.c.created_at.between(moment - left, moment)
            )
        with self.read() as db:
            return db.execute(query.order_by(transactions.c.created_at).limit(limit)).all()

    def in_flight(self, signers: Collection[str]) -> Sequence[Row[Any]]:
        """What these accounts have signed and no block has, each with its newest transaction."""
        mine = transactions.c.state.in_(IN_FLIGHT) & transactions.c.signer.in_(signers)
        query = _UNDER_WAY.where(mine).order_by(transactions.c.signer, transactions.c.nonce)
        with self.read() as db:
            return [*db.execute(query)]

    def close(self) -> None:
        """Lets go of the connections."""
        self._writer.dispose()
        self._reader.dispose()


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # The driver begins nothing of its own accord.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _set_up_postgresql(connection: Any, _: Any) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout = '{FROZEN_SECONDS}s'")
    connection.execute("SET lock_timeout = '20s'")
    connection.commit()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
