"""Batches that wait for their student's signature, as typed records. Nothing here is ever sent."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from api.booking.models import Batch, PreparedBatch
from api.db.tables import batches, now, prepared_batches

_KEPT = 24 * 60 * 60 * 1_000_000  # For so long an expired one is still known to be that.
_COLUMNS = [column.name for column in batches.c if column.name not in {"booked", "left_out"}]


def prepared(db: Connection, batch_id: str) -> PreparedBatch | None:
    """Return a prepared batch by its id, expired or not."""
    this = prepared_batches.c.id == batch_id
    return _prepared(db.execute(select(prepared_batches).where(this)).one_or_none())


def prepared_of_key(db: Connection, student_id: str, idempotency_key: str) -> PreparedBatch | None:
    """Return the batch that was prepared for a student's idempotency key, unless it is expired."""
    open_ = prepared_batches.c.expires_at > now()
    return _prepared(
        db.execute(select(prepared_batches).where(_of(student_id, idempotency_key), open_)).one_or_none()
    )


def add(db: Connection, prepared: PreparedBatch) -> None:
    """Store a prepared batch, in place of an expired one. Raises `IntegrityError` if the key has one."""
    batch, table = prepared.batch, prepared_batches.c
    mine = _of(batch.student_id, batch.idempotency_key)
    db.execute(delete(prepared_batches).where(table.expires_at < now() - _KEPT))
    db.execute(delete(prepared_batches).where(mine, table.expires_at <= now()))
    values = asdict(batch)
    row = {name: values[name] for name in ("id", "student_id", "idempotency_key", "request_hash")}
    row |= {name: value for name, value in vars(prepared).items() if name != "batch"}
    db.execute(insert(prepared_batches), row | {"batch": {name: values[name] for name in _COLUMNS}})


def remove(db: Connection, batch_id: str) -> None:
    """Remove a prepared batch."""
    db.execute(delete(prepared_batches).where(prepared_batches.c.id == batch_id))


def _of(student_id: str, idempotency_key: str) -> Any:
    table = prepared_batches.c
    return (table.student_id == student_id) & (table.idempotency_key == idempotency_key)


def _prepared(row: Row[Any] | None) -> PreparedBatch | None:
    if row is None:
        return None
    return PreparedBatch(Batch(**row.batch), row.permit_value, row.permit_nonce, row.expires_at)
