"""The keeper: takes the actions that the contract lets any account take, once it is time.

A confirmed lesson whose review is over is completed, and its tutor paid; a disputed one that nobody decided
in time is cancelled, and its student refunded. Several batches go into one transaction. If the contract
refuses that, each is sent alone, so that one whose recipient can't be paid holds up no other; one that fails
alone is tried again later.

Earlier tries are read from the outbox, in the database transaction that adds to it and in which the
projection can't move. So several processes, or one that starts again, send nothing twice.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from eth_utils.crypto import keccak
from sqlalchemy import Connection

from api.chain.escrow import Chain
from api.chain.rpc import Head
from api.chain.signers import Signer
from api.db import index, repository
from api.db.store import Store
from api.db.tables import now
from api.indexer.models import Block, IndexedOrder
from api.indexer.projection import Projection
from api.outbox.fees import Budget
from api.outbox.locks import acquire
from api.outbox.models import GWEI, Submission, TransactionKind
from api.settings import Settings
from creneau import abi
from creneau.lifecycle import Action, Status
from creneau.typed_data import action_typed_data
from creneau.types import to_bytes32, to_hex

log = structlog.get_logger()

_MOST_BATCHES = 20  # In one transaction.
_MOST_LESSONS = 200  # In one pass: meanwhile nobody else can write.


@dataclass
class _Tried:
    """The lessons that were tried, as bits by batch."""

    waiting: dict[str, int] = field(default_factory=dict)  # In flight, or not to be tried again yet.
    alone: dict[str, int] = field(default_factory=dict)  # Failed together with others.


class Keeper:
    """Puts the actions that are due into the outbox."""

    def __init__(
        self, store: Store, projection: Projection, chain: Chain, signer: Signer, settings: Settings
    ) -> None:
        """Take the signer of the actions; any of the relayer's keys sends them."""
        self._store = store
        self._projection = projection
        self._chain = chain
        self._signer = signer
        self._settings = settings
        review = int(chain.periods.review_period.total_seconds())
        arbitration = int(chain.periods.arbitration_period.total_seconds())
        # From the end of a lesson on, until anybody may end its status.
        self._periods = {Status.CONFIRMED: review, Status.DISPUTED: review + arbitration}
        self._retry = int(settings.keeper_retry_seconds * 1_000_000)
        self._next = 0.0

    def tick(self, head: Head) -> None:
        """Put what is due by block time into the outbox, if the projection still is at this head.

        Once in `keeper_seconds`, and at once again if there is more.
        """
        clock = time.monotonic()
        if not self._settings.keeper or clock < self._next:
            return
        self._next = clock + self._settings.keeper_seconds
        at = Block(head.number, head.hash)
        with self._store.write() as db:
            if not self._projection.is_at(db, at):
                return
            # Anybody can book lessons, so keeping them may not cost what bookings need.
            left = Budget.of(db, self._settings, head.moment).left
            if left * GWEI * 2 < self._settings.max_daily_fee_wei:
                log.warning("lessons that are due wait: half of the day's fees are spent")
                return
            tried = self._tried(db)
            for status, seconds in self._periods.items():
                ended = head.timestamp - seconds
                due = index.due(db, status, ended, _MOST_LESSONS, tried.waiting)
                if sum(bits.bit_count() for bits in due.values()) == _MOST_LESSONS:
                    self._next = clock  # There are more.
                together = [batch for batch, bits in due.items() if not bits & tried.alone.get(batch, 0)]
                groups = [together[i : i + _MOST_BATCHES] for i in range(0, len(together), _MOST_BATCHES)]
                groups += [[batch] for batch in due if batch not in together]
                for group in groups:
                    self._enqueue(db, status, {batch: due[batch] for batch in group}, at)

    def _tried(self, db: Connection) -> _Tried:
        """Return the lessons of the keeper's submissions that are not final, or were accepted lately."""
        tried = _Tried()
        for each in repository.recent(db, TransactionKind.KEEPER, now() - self._retry):
            acquire(each.locks, tried.alone if each.failed and len(each.locks) > 1 else tried.waiting)
        return tried

    def _enqueue(self, db: Connection, status: Status, group: Mapping[str, int], at: Block) -> None:
        orders = index.orders_by_id(db, group)
        calls = [self._call(orders[batch], status, bits) for batch, bits in group.items()]
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

    def _call(self, order: IndexedOrder, status: Status, bits: int) -> bytes:
        """Return the signed call that ends these lessons."""
        action = Action.COMPLETE if status == Status.CONFIRMED else Action.CANCEL
        name: Any = action.capitalize()
        message = action_typed_data(self._chain.domain, name, to_bytes32(order.id), bits)
        signature = self._signer.sign_typed_data(message)
        return abi.action_data(action, order.terms, bits, by=self._signer.address, signature=signature)
