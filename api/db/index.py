"""The projection's tables as typed records. Each function joins the caller's connection or transaction."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Table,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from api.db.tables import (
    actions,
    blocks,
    bookings,
    event_transactions,
    index_position,
    orders,
    transfers,
)
from api.indexer.models import (
    Block,
    IndexedAction,
    IndexedBooking,
    IndexedOrder,
    IndexedTransfer,
)
from creneau.lifecycle import Status

_AT_ONCE = 500  # Keys of one statement.

T = TypeVar("T")


# --- The position ---


def position(db: Connection, *, lock: bool = False) -> tuple[int, str, Block]:
    """Return chain, escrow and newest block of the projection.

    With a lock, no other process moves it until the transaction ends.
    """
    query = select(index_position)
    row = db.execute(query.with_for_update() if lock else query).one()
    return row.chain_id, row.escrow, Block(row.number, row.hash)


def set_position(db: Connection, block: Block, contract: tuple[int, str] | None = None) -> None:
    """Set the newest block, and with it chain and escrow of a projection that begins."""
    values: dict[str, Any] = block._asdict()
    if contract is not None:
        values |= {"chain_id": contract[0], "escrow": contract[1]}
    db.execute(update(index_position).values(values))


def anchor(db: Connection) -> str:
    """Return the block of this database's chain by which it is known again; empty: not known yet."""
    return str(db.scalar(select(index_position.c.anchor)))


def set_anchor(db: Connection, anchor: str) -> None:
    """Set that block, by its number and hash."""
    db.execute(update(index_position).values(anchor=anchor))


def kept_blocks(db: Connection) -> list[Block]:
    """Return the blocks that a reorganisation may reach, and the newest final one; the newest first."""
    return [Block(*row) for row in db.execute(select(blocks).order_by(blocks.c.number.desc()))]


def has_block(db: Connection, number: int, block_hash: str) -> bool:
    """Return True if the projection has this block, or has final ones after it."""
    query = select(blocks.c.number, blocks.c.hash).where(blocks.c.number >= number)
    row = db.execute(query.order_by(blocks.c.number).limit(1)).first()
    return row is not None and (row.number > number or row.hash == block_hash)


def keep_blocks(db: Connection, read: Sequence[Block], first: int) -> None:
    """Keep these blocks, and forget those before the number `first`."""
    _insert(db, blocks, [block._asdict() for block in read])
    db.execute(delete(blocks).where(blocks.c.number < first))


# --- Records ---


def add(
    db: Connection,
    new_orders: Sequence[IndexedOrder],
    new_actions: Sequence[IndexedAction],
    moved: Sequence[IndexedTransfer],
    transactions: Mapping[str, int],
) -> None:
    """Add the records that blocks bring. `transactions` have the numbers of their blocks, by hash."""
    _insert(db, event_transactions, [{"hash": h, "block_number": n} for h, n in transactions.items()])
    for table, records in ((orders, new_orders), (actions, new_actions), (transfers, moved)):
        _insert(db, table, [vars(record) for record in records])


def take_back(db: Connection, number: int) -> set[str]:
    """Delete all that the blocks after this number brought. Return the batches whose bookings change."""
    gone = list(db.scalars(select(orders.c.id).where(orders.c.block_number > number)))
    touched = db.scalars(select(actions.c.batch_id).where(actions.c.block_number > number).distinct())
    changed = {*touched} - {*gone}
    for ids in _chunks(gone):
        db.execute(delete(bookings).where(bookings.c.batch_id.in_(ids)))
    for table in (orders, actions, transfers, event_transactions):
        db.execute(delete(table).where(table.c.block_number > number))
    db.execute(delete(blocks).where(blocks.c.number > number))
    return changed


def clear(db: Connection) -> None:
    """Empty the projection."""
    for table in (bookings, actions, transfers, event_transactions, orders, blocks):
        db.execute(delete(table))


def orders_by_id(db: Connection, batch_ids: Collection[str]) -> dict[str, IndexedOrder]:
    """Return those of these orders that are on the chain."""
    found = db.execute(select(orders).where(orders.c.id.in_(batch_ids)))
    return {row.id: IndexedOrder(**row._mapping) for row in found}


def transactions(db: Connection, hashes: Collection[str]) -> set[str]:
    """Return those of these transactions that brought an event."""
    known = event_transactions.c.hash
    return {hash_ for keys in _chunks(hashes) for hash_ in db.scalars(select(known).where(known.in_(keys)))}


def creation_of(db: Connection, batch_id: str) -> str | None:
    """Return the hash of the transaction that created a batch."""
    found: str | None = db.scalar(select(orders.c.transaction_hash).where(orders.c.id == batch_id))
    return found


def newest_change(db: Connection, batch_id: str, lessons: int, status: Status) -> str | None:
    """Return the hash of the transaction that gave the last of these lessons this status, if all have it."""
    query = select(bookings).where(bookings.c.batch_id == batch_id).order_by(bookings.c.block_number)
    changed = [row for row in db.execute(query) if lessons >> row.place & 1]
    if not changed or any(row.status != status.name for row in changed):
        return None
    return str(changed[-1].transaction_hash)


# --- Bookings ---


def histories(
    db: Connection, batch_ids: Collection[str]
) -> Iterator[tuple[list[str], list[tuple[IndexedOrder, list[IndexedAction]]]]]:
    """Yield orders, each with its actions in the chain's order, by and by with their ids."""
    for ids in _chunks(batch_ids):
        in_order = (actions.c.batch_id, actions.c.block_number, actions.c.log_index)
        done = db.execute(select(actions).where(actions.c.batch_id.in_(ids)).order_by(*in_order))
        records = [IndexedAction(**row._mapping) for row in done]
        by_batch = {id_: [*its] for id_, its in groupby(records, attrgetter("batch_id"))}
        found = orders_by_id(db, ids)
        yield ids, [(order, by_batch.get(id_, [])) for id_, order in found.items()]


def replace_bookings(db: Connection, batch_ids: Collection[str], new: Sequence[IndexedBooking]) -> None:
    """Replace all bookings of these batches."""
    db.execute(delete(bookings).where(bookings.c.batch_id.in_(batch_ids)))
    _insert(db, bookings, [vars(booking) for booking in new])


class Due(NamedTuple):
    """Lessons of a batch that are due, as bits, and their worth in base units."""

    batch_id: str
    lessons: int
    worth: int


def due(db: Connection, status: Status, over: int, wait: int, waiting: Mapping[str, int]) -> Iterator[Due]:
    """Yield lessons in this status that were over before that time, batch by batch, the earliest first.

    Pending ones are over once they begin. None that are `waiting`, as bits by batch, and none that a later
    lesson of the batch follows within `wait` seconds and is not over yet.
    """
    later = bookings.alias("later")
    ends, ends_later = _over(bookings, status), _over(later, status)
    follows = (later.c.batch_id == bookings.c.batch_id) & (later.c.status == status.name)
    follows &= (ends_later >= over) & (ends_later < ends + wait)
    these = (bookings.c.status == status.name) & (bookings.c.start < over) & (ends < over)
    first = func.min(bookings.c.start).over(partition_by=bookings.c.batch_id)
    query = select(bookings.c.batch_id, bookings.c.place, bookings.c.amount).where(
        these, ~exists().where(follows)
    )
    query = query.order_by(first, bookings.c.batch_id)
    with db.execute(query.execution_options(yield_per=_AT_ONCE)) as rows:
        for batch_id, lessons in groupby(rows, attrgetter("batch_id")):
            new = [each for each in lessons if not waiting.get(batch_id, 0) >> each.place & 1]
            if new:
                yield Due(batch_id, sum(1 << each.place for each in new), sum(each.amount for each in new))


def _over(table: FromClause, status: Status) -> ColumnElement[int]:
    start: ColumnElement[int] = table.c.start
    return start if status == Status.PENDING else start + table.c.minutes * 60


def _insert(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        db.execute(insert(table), rows)


def _chunks(items: Collection[T]) -> Iterator[list[T]]:
    every = list(items)
    for first in range(0, len(every), _AT_ONCE):
        yield every[first : first + _AT_ONCE]
