"""The keeper: does for everybody what the contract lets anybody do, once it is time.

A confirmed lesson whose review is over is completed, and its tutor paid; a disputed one that nobody decided
in time is cancelled, and its student refunded. Several batches go into one transaction. If the contract
refuses that, each is sent alone, so that one whose recipient can't be paid holds up no other; what fails
alone is tried again later.

What was tried is read from the outbox, in the database transaction that adds to it and in which the view
can't move. So several processes, or one that starts again, send nothing twice.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import structlog
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from sqlalchemy import Connection, select

from api.chain.escrow import Chain, terms_of
from api.chain.rpc import Head
from api.db import repository
from api.db.store import Store
from api.db.tables import bookings, now, orders, transactions
from api.indexer.projection import Block, Projection
from api.outbox.fees import Budget
from api.outbox.locks import acquire
from api.outbox.models import GWEI, UNSETTLED, State, Submission, TransactionKind
from api.settings import Settings
from creneau import abi
from creneau.lifecycle import Action, Status
from creneau.typed_data import action_typed_data
from creneau.types import to_bytes32, to_hex

log = structlog.get_logger()

_MOST_BATCHES = 20  # In one transaction.
_MOST_LESSONS = 200  # At one look: meanwhile nobody else can write.
_FAILED = (State.REJECTED, State.FAILED, State.EXPIRED)


@dataclass
class _Tried:
    """Lessons by their batch, as bits."""

    waiting: dict[str, int] = field(default_factory=dict)  # Under way, or not to be tried again yet.
    alone: dict[str, int] = field(default_factory=dict)  # Failed together with others.


class Keeper:
    """Puts what is due into the outbox."""

    def __init__(
        self, store: Store, view: Projection, chain: Chain, account: LocalAccount, settings: Settings
    ) -> None:
        """The account signs that it acts; whichever relayer's key sends it."""
        self._store = store
        self._view = view
        self._chain = chain
        self._account = account
        self._settings = settings
        review = int(chain.periods.review_period.total_seconds())
        arbitration = int(chain.periods.arbitration_period.total_seconds())
        # From the end of a lesson on, until anybody may end its status.
        self._periods = {Status.CONFIRMED: review, Status.DISPUTED: review + arbitration}
        self._retry = int(settings.keeper_retry_seconds * 1_000_000)
        self._next = 0.0

    def tick(self, head: Head) -> None:
        """Sends what is due by the chain's time, if the view still is at this head and it is time to look."""
        clock = time.monotonic()
        if not self._settings.keeper or clock < self._next:
            return
        self._next = clock + self._settings.keeper_seconds
        at = Block(head.number, head.hash)
        with self._store.write() as db:
            if not self._view.is_at(db, at):
                return
            # Anybody can book lessons, so keeping them may not cost what bookings need.
            left = Budget.of(db, self._settings, head.moment).left
            if left * GWEI * 2 < self._settings.max_daily_fee_wei:
                log.warning("lessons that are due wait: half of the day's fees are spent")
                return
            tried = self._tried(db)
            for status, seconds in self._periods.items():
                due = self._due(db, status, head.timestamp - seconds, tried.waiting)
                if sum(bits.bit_count() for bits in due.values()) == _MOST_LESSONS:
                    self._next = clock  # There are more.
                together = [batch for batch, bits in due.items() if not bits & tried.alone.get(batch, 0)]
                groups = [together[i : i + _MOST_BATCHES] for i in range(0, len(together), _MOST_BATCHES)]
                groups += [[batch] for batch in due if batch not in together]
                for group in groups:
                    self._enqueue(db, status, {batch: due[batch] for batch in group}, at)

    def _tried(self, db: Connection) -> _Tried:
        """What is in the outbox, or was lately."""
        lately = now() - self._retry
        ended = transactions.c.state.in_((State.FINAL, *_FAILED)) & (transactions.c.created_at > lately)
        those = transactions.c.state.in_((*UNSETTLED, State.MINED)) | ended
        tried = _Tried()
        query = select(transactions.c.locks, transactions.c.state, transactions.c.succeeded)
        for row in db.execute(query.where(transactions.c.kind == TransactionKind.KEEPER, those)):
            failed = row.state in _FAILED or row.succeeded is False
            acquire(row.locks, tried.alone if failed and len(row.locks) > 1 else tried.waiting)
        return tried

    @staticmethod
    def _due(db: Connection, status: Status, ended: int, waiting: Mapping[str, int]) -> dict[str, int]:
        """Lessons in this status that ended before that time: of each batch, the earliest first."""
        start, end = bookings.c.start, bookings.c.start + bookings.c.minutes * 60
        these = (bookings.c.status == status.name) & (start < ended) & (end < ended)
        query = select(bookings.c.batch_id, bookings.c.place).where(these).order_by(start)
        due: dict[str, int] = {}
        with db.execute(query.execution_options(yield_per=_MOST_LESSONS)) as rows:
            new = (row for row in rows if not waiting.get(row.batch_id, 0) >> row.place & 1)
            for batch_id, place in islice(new, _MOST_LESSONS):
                due[batch_id] = due.get(batch_id, 0) | 1 << place
        return due

    def _enqueue(self, db: Connection, status: Status, group: Mapping[str, int], at: Block) -> None:
        terms = {
            row.id: terms_of(row, row.slots)
            for row in db.execute(select(orders).where(orders.c.id.in_(group)))
        }
        calls = [self._call(terms[batch], batch, status, bits) for batch, bits in group.items()]
        call = calls[0] if len(calls) == 1 else abi.multicall_data(calls)
        attempt = now() // self._retry  # What failed at this head may be tried again at it, but later.
        submission_id = to_hex(keccak(bytes.fromhex(at.hash[2:]) + attempt.to_bytes(8, "big") + call))
        submission = Submission(
            id=submission_id,
            kind=TransactionKind.KEEPER,
            call=call,
            locks=group,
            chain_id=self._settings.chain_id,
        )
        repository.add(db, submission)
        log.info("lessons are due", submission_id=submission_id, status=status.name, batches=len(group))

    def _call(self, terms: tuple[Any, ...], batch_id: str, status: Status, bits: int) -> bytes:
        """The call that ends these lessons, signed."""
        by, batch = str(self._account.address), to_bytes32(batch_id)
        if status == Status.CONFIRMED:
            message = action_typed_data(self._chain.domain, "Complete", batch, bits)
            return abi.action_data(Action.COMPLETE, terms, bits, by=by, signature=self._sign(message))
        message = action_typed_data(self._chain.domain, "Cancel", batch, bits)
        return abi.action_data(Action.CANCEL, terms, bits, by=by, signature=self._sign(message))

    def _sign(self, message: dict[str, Any]) -> bytes:
        return bytes(self._account.sign_typed_data(full_message=message).signature)
