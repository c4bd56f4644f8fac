"""The projection of the contract's events: every order, and each lesson as the events so far leave it.

The bookings of a batch are a fold of its order and of its actions in the chain's order, and of nothing else.
To read on is to add orders and actions and to fold the batches that they touch; to take blocks back is to
delete what they brought and to fold the same batches again. Each is one database transaction, which also
moves the position: whatever ends the process, the projection is that of one block.

The position's row is locked first, and a step from any other position than the present one does nothing. So
processes that index the same chain can do no more than read a range for nothing.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from api.chain.escrow import Chain, WrongChain
from api.db import index
from api.db.store import Store
from api.indexer.models import Block, IndexedAction, IndexedBooking, IndexedOrder, IndexedTransfer
from api.settings import Settings
from creneau.amounts import lesson_amount
from creneau.events import BookingsCancelled, BookingsCreated, Event, LessonEvent, Transfer
from creneau.lifecycle import ACTIONS, Status
from creneau.types import to_hex

_BPS = 10_000


@dataclass(frozen=True)
class IndexedEvent:
    """An event, and its place in the chain. `timestamp` is in unix seconds."""

    event: Event
    block_number: int
    log_index: int
    timestamp: int
    transaction_hash: str


class Projection:
    """The tables of the index, from `orders` to `index_position`."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._contract = settings.chain_id, settings.escrow or ""
        # Nothing happened before the deployment, and nothing is known of its block yet.
        self._start = Block(settings.deployment_block - 1, "")

    def bind(self, chain: Chain) -> None:
        """Bind the database to a chain, by the block of the deployment.

        Raises `WrongChain` if it is bound to another one of the same id and contract: that was restarted.
        """
        with self._store.write() as db:
            chain_id, escrow, _ = index.position(db, lock=True)
            known = index.anchor(db)
            same = (chain_id, escrow) == self._contract
            if same and known and not chain.has(known):
                raise WrongChain(
                    f"the database is of another chain {chain_id}, whose contract had the same address: "
                    "nothing of it may be sent here; name another database"
                )
            if not (same and known):
                index.set_anchor(db, chain.anchor)

    def position(self) -> Block:
        """Return the newest block that was read. A projection of another contract is cleared first."""
        with self._store.read() as db:
            chain_id, escrow, block = index.position(db)
        if (chain_id, escrow) != self._contract:
            with self._store.write() as db:
                chain_id, escrow, block = index.position(db, lock=True)
                if (chain_id, escrow) != self._contract:  # Another process may have begun meanwhile.
                    self._begin(db)
                    return self._start
        return block

    def kept(self) -> list[Block]:
        """Return the blocks that a reorganisation may reach, and the newest final one; the newest first."""
        with self._store.read() as db:
            return index.kept_blocks(db)

    def is_at(self, db: Connection, at: Block) -> bool:
        """Return True if this is the position; no other process moves it until the transaction ends."""
        return index.position(db, lock=True) == (*self._contract, at)

    def advance(
        self, at: Block, read: Sequence[Block], events: Sequence[IndexedEvent], finalized: int
    ) -> None:
        """Add the events of the blocks after `at`, of which `read` are kept: up to the last of these."""
        to = read[-1]
        with self._store.write() as db:
            if not self.is_at(db, at):
                return
            orders, actions = _records(events)
            own = [each for each in events if not isinstance(each.event, Transfer)]
            transactions = {each.transaction_hash: each.block_number for each in own}
            index.add(db, orders, actions, _transfers(events, self._contract[1]), transactions)
            _fold(db, {order.id for order in orders} | {action.batch_id for action in actions})
            index.keep_blocks(db, read, min(finalized, to.number))
            index.set_position(db, to)

    def roll_back(self, at: Block, to: Block) -> None:
        """Take back all that the blocks after `to` brought."""
        with self._store.write() as db:
            if not self.is_at(db, at):
                return
            _fold(db, index.take_back(db, to.number))
            index.set_position(db, to)

    def clear(self, at: Block | None = None) -> None:
        """Empty the projection, to be read again from the deployment on."""
        with self._store.write() as db:
            # Locked before anything is deleted: else what another process adds meanwhile would stay.
            here = index.position(db, lock=True)
            if at is None or here == (*self._contract, at):
                self._begin(db)

    def _begin(self, db: Connection) -> None:
        index.clear(db)
        index.set_position(db, self._start, self._contract)


# --- From events to records ---


def _records(events: Sequence[IndexedEvent]) -> tuple[list[IndexedOrder], list[IndexedAction]]:
    orders = [_order(each, each.event) for each in events if isinstance(each.event, BookingsCreated)]
    actions = [_action(each, each.event) for each in events if isinstance(each.event, LessonEvent)]
    return orders, actions


def _transfers(events: Sequence[IndexedEvent], escrow: str) -> list[IndexedTransfer]:
    """Return the token's transfers, but for the escrow's, which the escrow's own events tell."""
    return [
        IndexedTransfer(
            block_number=each.block_number,
            log_index=each.log_index,
            sender=each.event.source,
            recipient=each.event.destination,
            amount=each.event.value,
            at=each.timestamp,
            transaction_hash=each.transaction_hash,
        )
        for each in events
        if isinstance(each.event, Transfer)
        and each.event.value
        and escrow not in {each.event.source, each.event.destination}
    ]


def _order(at: IndexedEvent, event: BookingsCreated) -> IndexedOrder:
    return IndexedOrder(
        id=to_hex(event.batch),
        student=event.student,
        tutor=event.tutor,
        listing=to_hex(event.listing),
        hourly_rate=event.hourly_rate,
        min_lessons=event.min_lessons,
        deadline=event.deadline,
        salt=to_hex(event.salt),
        slots=event.order_slots,
        booked=event.booked,
        total=event.total,
        created_at=at.timestamp,
        block_number=at.block_number,
        transaction_hash=at.transaction_hash,
        instant=event.confirmed,
    )


def _action(at: IndexedEvent, event: LessonEvent) -> IndexedAction:
    rules = ACTIONS[event.action]
    return IndexedAction(
        block_number=at.block_number,
        log_index=at.log_index,
        batch_id=to_hex(event.batch),
        lessons=event.lessons,
        status=rules.to.name,
        to_tutor=None if rules.pays is None else event.to_tutor,
        cancelled_by=event.by if isinstance(event, BookingsCancelled) else None,
        at=at.timestamp,
        transaction_hash=at.transaction_hash,
    )


def fold(order: IndexedOrder, actions: Iterable[IndexedAction]) -> list[IndexedBooking]:
    """Return the bookings of an order after these actions."""
    lessons: dict[int, IndexedBooking] = {}
    for place, (start, minutes) in enumerate(order.slots):
        if order.booked >> place & 1:
            lessons[place] = IndexedBooking(
                id=f"{order.id[:-2]}{place:02x}",
                batch_id=order.id,
                place=place,
                student=order.student,
                tutor=order.tutor,
                listing=order.listing,
                start=start,
                minutes=minutes,
                amount=lesson_amount(order.hourly_rate, minutes),
                status=(Status.CONFIRMED if order.instant else Status.PENDING).name,
                to_tutor=None,
                to_student=None,
                cancelled_by=None,
                created_at=order.created_at,
                updated_at=order.created_at,
                block_number=order.block_number,
                transaction_hash=order.transaction_hash,
            )
    for action in actions:
        changed = [lesson for place, lesson in lessons.items() if action.lessons >> place & 1]
        parts: Sequence[int | None] = [None] * len(changed)
        if action.to_tutor is not None:
            parts = split([lesson.amount for lesson in changed], action.to_tutor)
        for lesson, part in zip(changed, parts, strict=True):
            lessons[lesson.place] = replace(
                lesson,
                status=action.status,
                cancelled_by=action.cancelled_by,
                updated_at=action.at,
                block_number=action.block_number,
                transaction_hash=action.transaction_hash,
                to_tutor=lesson.to_tutor if part is None else part,
                to_student=lesson.to_student if part is None else lesson.amount - part,
            )
    return list(lessons.values())


def split(amounts: Sequence[int], total: int) -> list[int]:
    """Return the tutor's part of each lesson's amount, of which the tutor got `total` together.

    The contract takes the same share of each amount, in basis points, and rounds down. The event does not say
    which; but no part falls as the share grows, so all shares with the same total have the same parts.
    """

    def parts(bps: int) -> list[int]:
        return [amount * bps // _BPS for amount in amounts]

    return parts(bisect_left(range(_BPS), total, key=lambda bps: sum(parts(bps))))


def _fold(db: Connection, batch_ids: Collection[str]) -> None:
    """Write the bookings of these batches anew."""
    for ids, histories in index.histories(db, batch_ids):
        index.replace_bookings(
            db, ids, [each for order, actions in histories for each in fold(order, actions)]
        )
