"""The view of the contract's events: every order, and each of its lessons as the events so far leave it.

The bookings of a batch are a fold of its order and of its acts in the chain's order, and of nothing else. To
read on is to add orders and acts and to fold the batches that they touch; to take blocks back is to delete
what they brought and to fold the same batches again. Each is one database transaction, which also moves the
position: whatever ends the process, the view is that of one block.

The position's row is locked first, and a step from any other position than the present one does nothing. So
processes that follow the same chain can do no more than read a range for nothing.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Row, Table, delete, insert, select, update

from api.db.store import Store
from api.db.tables import actions, blocks, bookings, index_position, orders, publications
from api.settings import Settings
from creneau.amounts import lesson_amount
from creneau.events import (
    BookingsCancelled,
    BookingsCompleted,
    BookingsConfirmed,
    BookingsCreated,
    BookingsDisputed,
    BookingsResolved,
    Event,
    ListingPublished,
)
from creneau.lifecycle import Status
from creneau.types import to_hex

_BPS = 10_000
_AT_ONCE = 500  # Batches, or rows' keys, of one statement.

Values = dict[str, Any]
T = TypeVar("T")


class Block(NamedTuple):
    """A block by its number and hash."""

    number: int
    hash: str


@dataclass(frozen=True)
class IndexedEvent:
    """An event, and where it is."""

    event: Event
    block_number: int
    log_index: int
    timestamp: int
    transaction_hash: str


class Projection:
    """The tables `orders`, `actions`, `publications`, `bookings`, `blocks` and `index_position`."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._of = {"chain_id": settings.chain_id, "escrow": settings.escrow}
        # Nothing happened before the deployment, and nothing is known of its block yet.
        self._start = Block(settings.deployment_block - 1, "")

    def position(self) -> Block:
        """The newest block that was read. If the view is of another contract, it is cleared first."""
        with self._store.read() as db:
            row = db.execute(select(index_position)).one()
        if {"chain_id": row.chain_id, "escrow": row.escrow} != self._of:
            self.clear()
            return self._start
        return Block(row.number, row.hash)

    def kept(self) -> list[Block]:
        """The blocks that a reorganisation may reach, and the newest final one; the newest first."""
        with self._store.read() as db:
            return [Block(*row) for row in db.execute(select(blocks).order_by(blocks.c.number.desc()))]

    def is_at(self, db: Connection, at: Block) -> bool:
        """Whether this is the position; nobody else moves it until the transaction ends."""
        row = db.execute(select(index_position).with_for_update()).one()
        return row._asdict() == self._of | at._asdict()

    def advance(self, at: Block, read: Sequence[Block], entries: Sequence[IndexedEvent], final: int) -> None:
        """Adds the events of the blocks after `at`, of which `read` are kept: up to its last."""
        new_orders, new_acts, published = _sorted(entries)
        to = read[-1]
        with self._store.write() as db:
            if not self.is_at(db, at):
                return
            _instant(db, entries, new_orders)
            _insert(db, publications, published)
            _insert(db, orders, new_orders)
            _insert(db, actions, new_acts)
            _fold(db, {row["id"] for row in new_orders} | {row["batch_id"] for row in new_acts})
            _insert(db, blocks, [block._asdict() for block in read])
            db.execute(delete(blocks).where(blocks.c.number < min(final, to.number)))
            db.execute(update(index_position).values(to._asdict()))

    def roll_back(self, at: Block, to: Block) -> None:
        """Takes back what the blocks after `to` brought."""
        with self._store.write() as db:
            if not self.is_at(db, at):
                return
            gone = list(db.scalars(select(orders.c.id).where(orders.c.block_number > to.number)))
            touched = db.scalars(
                select(actions.c.batch_id).where(actions.c.block_number > to.number).distinct()
            )
            again = {*touched} - {*gone}
            for ids in _chunks(gone):
                db.execute(delete(bookings).where(bookings.c.batch_id.in_(ids)))
            for table in (orders, actions, publications):
                db.execute(delete(table).where(table.c.block_number > to.number))
            _fold(db, again)
            db.execute(delete(blocks).where(blocks.c.number > to.number))
            db.execute(update(index_position).values(to._asdict()))

    def clear(self, at: Block | None = None) -> None:
        """Empties the view, to be read again from the deployment on."""
        with self._store.write() as db:
            if at is not None and not self.is_at(db, at):
                return
            for table in (bookings, actions, publications, orders, blocks):
                db.execute(delete(table))
            db.execute(update(index_position).values(self._of | self._start._asdict()))


# --- From events to rows ---


def _sorted(entries: Sequence[IndexedEvent]) -> tuple[list[Values], list[Values], list[Values]]:
    """The rows of orders (but for `instant`), acts and publications."""
    created: list[Values] = []
    done: list[Values] = []
    published: list[Values] = []
    for entry in entries:
        event = entry.event
        place = {"block_number": entry.block_number, "transaction_hash": entry.transaction_hash}
        match event:
            case BookingsCreated():
                created.append(_order(event) | place | {"created_at": entry.timestamp})
            case ListingPublished():
                published.append(
                    {
                        "tutor": event.tutor,
                        "listing": to_hex(event.listing),
                        "nonce": event.nonce,
                        "instant": event.instant,
                        "block_number": entry.block_number,
                    }
                )
            case (
                BookingsConfirmed()
                | BookingsDisputed()
                | BookingsCancelled()
                | BookingsCompleted()
                | BookingsResolved()
            ):
                status, to_tutor = _outcome(event)
                done.append(
                    place
                    | {
                        "log_index": entry.log_index,
                        "batch_id": to_hex(event.batch),
                        "lessons": event.lessons,
                        "status": status.name,
                        "to_tutor": to_tutor,
                        "at": entry.timestamp,
                    }
                )
    return created, done, published


def _order(event: BookingsCreated) -> Values:
    _, _, listing, hourly_rate, allow_partial, deadline, salt, slots = event.terms
    return {
        "id": to_hex(event.batch),
        "student": event.student,
        "tutor": event.tutor,
        "listing": to_hex(listing),
        "hourly_rate": hourly_rate,
        "allow_partial": allow_partial,
        "deadline": deadline,
        "salt": to_hex(salt),
        "slots": slots,
        "booked": event.booked,
        "total": event.total,
    }


def _outcome(event: Any) -> tuple[Status, int | None]:
    """What an act makes of its lessons, and what their tutor gets; None if the money stays."""
    match event:
        case BookingsConfirmed():
            return Status.CONFIRMED, None
        case BookingsDisputed():
            return Status.DISPUTED, None
        case BookingsCancelled():
            return Status.CANCELLED, 0
        case BookingsResolved():
            return Status.COMPLETED, event.tutor_amount
    return Status.COMPLETED, event.amount


def _instant(db: Connection, entries: Iterable[IndexedEvent], created: Iterable[Values]) -> None:
    """Sets each order's `instant`: its listing's when it was created."""
    by_id = {row["id"]: row for row in created}
    listings = {row["listing"] for row in by_id.values()}
    latest: dict[tuple[str, str], bool] = {}
    for keys in _chunks(listings):
        known = select(publications).where(publications.c.listing.in_(keys)).order_by(publications.c.nonce)
        latest |= {(row.tutor, row.listing): row.instant for row in db.execute(known)}
    for entry in entries:
        match entry.event:
            case ListingPublished(tutor=tutor, listing=listing, instant=instant):
                latest[tutor, to_hex(listing)] = instant
            case BookingsCreated(batch=batch):
                row = by_id[to_hex(batch)]
                row["instant"] = latest[row["tutor"], row["listing"]]


def fold(order: Row[Any], its_acts: Iterable[Row[Any]]) -> list[Values]:
    """The bookings of an order after these acts."""
    common = {
        "batch_id": order.id,
        "student": order.student,
        "tutor": order.tutor,
        "listing": order.listing,
        "status": (Status.CONFIRMED if order.instant else Status.PENDING).name,
        "to_tutor": None,
        "to_student": None,
        "created_at": order.created_at,
        "updated_at": order.created_at,
        "transaction_hash": order.transaction_hash,
    }
    lessons: dict[int, Values] = {}
    for place, (start, minutes) in enumerate(order.slots):
        if order.booked >> place & 1:
            lessons[place] = common | {
                "id": f"{order.id[:-2]}{place:02x}",
                "place": place,
                "start": start,
                "minutes": minutes,
                "amount": lesson_amount(order.hourly_rate, minutes),
            }
    for act in its_acts:
        changed = [row for place, row in lessons.items() if act.lessons >> place & 1]
        for row in changed:
            row |= {"status": act.status, "updated_at": act.at, "transaction_hash": act.transaction_hash}
        if act.to_tutor is not None:
            parts = split([row["amount"] for row in changed], act.to_tutor)
            for row, part in zip(changed, parts, strict=True):
                row |= {"to_tutor": part, "to_student": row["amount"] - part}
    return list(lessons.values())


def split(amounts: Sequence[int], total: int) -> list[int]:
    """What the tutor got of each lesson, of which he got `total` together.

    The contract takes the same share of each amount, in basis points, and rounds down. The event does not say
    which; but no part falls as the share grows, so all shares with the same total have the same parts.
    """

    def parts(bps: int) -> list[int]:
        return [amount * bps // _BPS for amount in amounts]

    return parts(bisect_left(range(_BPS), total, key=lambda bps: sum(parts(bps))))


def _fold(db: Connection, batch_ids: Collection[str]) -> None:
    """Writes the bookings of these batches anew."""
    for ids in _chunks(batch_ids):
        in_order = (actions.c.batch_id, actions.c.block_number, actions.c.log_index)
        done = db.execute(select(actions).where(actions.c.batch_id.in_(ids)).order_by(*in_order))
        by_batch = {batch: [*rows] for batch, rows in groupby(done, attrgetter("batch_id"))}
        db.execute(delete(bookings).where(bookings.c.batch_id.in_(ids)))
        these = db.execute(select(orders).where(orders.c.id.in_(ids)))
        _insert(db, bookings, [row for order in these for row in fold(order, by_batch.get(order.id, ()))])


def _insert(db: Connection, table: Table, rows: Sequence[Values]) -> None:
    if rows:
        db.execute(insert(table), rows)


def _chunks(items: Collection[T]) -> Iterator[list[T]]:
    every = list(items)
    for first in range(0, len(every), _AT_ONCE):
        yield every[first : first + _AT_ONCE]
