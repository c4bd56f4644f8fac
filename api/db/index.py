"""The projection's tables as typed records. Each function joins the caller's connection or transaction."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, delete, insert, select, update

from api.db.tables import actions, blocks, bookings, index_position, orders, publications, transfers
from api.indexer.models import (
    Block,
    IndexedAction,
    IndexedBooking,
    IndexedOrder,
    IndexedTransfer,
    Publication,
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


def keep_blocks(db: Connection, read: Sequence[Block], first: int) -> None:
    """Keep these blocks, and forget those before the number `first`."""
    _insert(db, blocks, [block._asdict() for block in read])
    db.execute(delete(blocks).where(blocks.c.number < first))


# --- Records ---


def add(
    db: Connection,
    new_orders: Sequence[IndexedOrder],
    new_actions: Sequence[IndexedAction],
    published: Sequence[Publication],
    moved: Sequence[IndexedTransfer],
) -> None:
    """Add the records that blocks bring."""
    for table, records in (
        (publications, published),
        (orders, new_orders),
        (actions, new_actions),
        (transfers, moved),
    ):
        _insert(db, table, [vars(record) for record in records])


def take_back(db: Connection, number: int) -> set[str]:
    """Delete all that the blocks after this number brought. Return the batches whose bookings change."""
    gone = list(db.scalars(select(orders.c.id).where(orders.c.block_number > number)))
    touched = db.scalars(select(actions.c.batch_id).where(actions.c.block_number > number).distinct())
    changed = {*touched} - {*gone}
    for ids in _chunks(gone):
        db.execute(delete(bookings).where(bookings.c.batch_id.in_(ids)))
    for table in (orders, actions, publications, transfers):
        db.execute(delete(table).where(table.c.block_number > number))
    db.execute(delete(blocks).where(blocks.c.number > number))
    return changed


def clear(db: Connection) -> None:
    """Empty the projection."""
    for table in (bookings, actions, publications, transfers, orders, blocks):
        db.execute(delete(table))


def instant_listings(db: Connection, listings: Collection[str]) -> dict[tuple[str, str], bool]:
    """Return whether each of these listings is instant, by tutor and listing."""
    latest: dict[tuple[str, str], bool] = {}
    for keys in _chunks(listings):
        known = select(publications).where(publications.c.listing.in_(keys)).order_by(publications.c.nonce)
        latest |= {(row.tutor, row.listing): row.instant for row in db.execute(known)}
    return latest


def orders_by_id(db: Connection, batch_ids: Collection[str]) -> dict[str, IndexedOrder]:
    """Return those of these orders that are on the chain."""
    found = db.execute(select(orders).where(orders.c.id.in_(batch_ids)))
    return {row.id: IndexedOrder(**row._mapping) for row in found}


def transactions(db: Connection, hashes: Collection[str]) -> set[str]:
    """Return those of these transactions that brought an event."""
    return {
        hash_
        for table in (orders, actions, publications)
        for keys in _chunks(hashes)
        for hash_ in db.scalars(select(table.c.transaction_hash).where(table.c.transaction_hash.in_(keys)))
    }


def creation_of(db: Connection, batch_id: str) -> str | None:
    """Return the hash of the transaction that created a batch."""
    found: str | None = db.scalar(select(orders.c.transaction_hash).where(orders.c.id == batch_id))
    return found


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


def due(db: Connection, status: Status, ended: int, limit: int, waiting: Mapping[str, int]) -> dict[str, int]:
    """Return lessons in this status that ended before that time, as bits by batch: the earliest first.

    At most `limit`, and none of those that are `waiting`.
    """
    start, end = bookings.c.start, bookings.c.start + bookings.c.minutes * 60
    these = (bookings.c.status == status.name) & (start < ended) & (end < ended)
    query = select(bookings.c.batch_id, bookings.c.place).where(these).order_by(start)
    found: dict[str, int] = {}
    with db.execute(query.execution_options(yield_per=limit)) as rows:
        new = (row for row in rows if not waiting.get(row.batch_id, 0) >> row.place & 1)
        for batch_id, place in islice(new, limit):
            found[batch_id] = found.get(batch_id, 0) | 1 << place
    return found


def _insert(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        db.execute(insert(table), rows)


def _chunks(items: Collection[T]) -> Iterator[list[T]]:
    every = list(items)
    for first in range(0, len(every), _AT_ONCE):
        yield every[first : first + _AT_ONCE]
