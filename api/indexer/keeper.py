"""The keeper: takes the actions that the contract lets any account take, once it is time.

A pending lesson that has begun is cancelled, and its student refunded; a confirmed one whose review is over
is completed, and its tutor paid; a disputed one that nobody decided in time is resolved with the default
share. Lessons of a batch that are due soon after each other are ended together, and several batches in one
transaction, in which one that fails holds up no other. What failed is tried again later, and what is worth
less than its gas is left to its people.

Earlier tries are read from the outbox, in the database transaction that adds to it and in which the
projection can't move. So several processes, or one that starts again, send nothing twice.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from eth_utils.crypto import keccak
from sqlalchemy import Connection

from api.chain.escrow import Chain
from api.chain.remote_signer import SignerUnavailable
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
_GAS_OF_BATCH, _GAS_OF_LESSON = 50_000, 1_500  # At most, in a transaction of several.

_ACTIONS = {
    Status.PENDING: Action.CANCEL,
    Status.CONFIRMED: Action.COMPLETE,
    Status.DISPUTED: Action.RESOLVE,
}
"""The action that ends each status once anybody may."""


class Keeper:
    """Puts the actions that are due into the outbox."""

    def __init__(
        self,
        store: Store,
        projection: Projection,
        chain: Chain,
        signers: Sequence[Signer],
        settings: Settings,
    ) -> None:
        """Take the relayer's keys. The first one acts: by its signature if others may send."""
        self._store = store
        self._projection = projection
        self._chain = chain
        self._signers = signers
        self._settings = settings
        review = int(chain.periods.review_period.total_seconds())
        arbitration = int(chain.periods.arbitration_period.total_seconds())
        # From when a lesson is over (a pending one begins), until anybody may end its status.
        periods = {Status.PENDING: -1, Status.CONFIRMED: review, Status.DISPUTED: review + arbitration}
        self._periods = periods
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
        with self._store.write() as db:  # Its end frees the database: a signer may take seconds.
            groups = self._groups(db, head)
            orders = index.orders_by_id(db, {batch for _, group in groups for batch in group})
        deadline = head.timestamp + self._settings.act_seconds
        calls = self._calls(groups, orders, deadline)
        if not calls:
            return
        with self._store.write() as db:
            if not self._projection.is_at(db, Block(head.number, head.hash)):
                return
            waiting = self._waiting(db)  # Another process may have been quicker.
            for (status, group), call in zip(groups, calls, strict=False):
                if not any(waiting.get(batch, 0) & bits for batch, bits in group.items()):
                    self._add(db, status, group, call, head, deadline)

    def _groups(self, db: Connection, head: Head) -> list[tuple[Status, dict[str, int]]]:
        """Return the lessons that are due, as bits by batch: those of one transaction at a time."""
        if not self._projection.is_at(db, Block(head.number, head.hash)):
            return []
        # Anybody can book lessons, so keeping them may not cost what bookings need.
        left = Budget.of(db, self._settings, head.moment).left
        if left * GWEI * 2 < self._settings.max_daily_fee_wei:
            log.warning("lessons that are due wait: half of the day's fees are spent")
            return []
        groups: list[tuple[Status, dict[str, int]]] = []
        waiting = self._waiting(db)
        for status in _ACTIONS:
            due, more = self._due(db, status, head, waiting)
            if more:
                self._next = 0.0
            batches = list(due.items())
            firsts = range(0, len(batches), _MOST_BATCHES)
            groups += [(status, dict(batches[first : first + _MOST_BATCHES])) for first in firsts]
        return groups

    def _waiting(self, db: Connection) -> dict[str, int]:
        """Return the lessons of the keeper's submissions that are not final, or were accepted lately."""
        waiting: dict[str, int] = {}
        for each in repository.recent(db, TransactionKind.KEEPER, now() - self._retry):
            acquire(each.locks, waiting)
        return waiting

    def _due(
        self, db: Connection, status: Status, head: Head, waiting: Mapping[str, int]
    ) -> tuple[dict[str, int], bool]:
        """Return what is due and worth its gas, as bits by batch, and True if there is more."""
        found: dict[str, int] = {}
        count = 0
        price = head.base_fee + self._settings.priority_fee_wei
        over = head.timestamp - self._periods[status]
        for each in index.due(db, status, over, self._settings.keeper_wait_seconds, waiting):
            lessons = each.lessons.bit_count()
            cost = (_GAS_OF_BATCH + _GAS_OF_LESSON * lessons) * price
            if each.worth * self._settings.keeper_token_price < cost:
                continue
            if count >= _MOST_LESSONS:
                return found, True
            count += lessons
            found[each.batch_id] = each.lessons
        return found, False

    def _calls(
        self,
        groups: Sequence[tuple[Status, Mapping[str, int]]],
        orders: Mapping[str, IndexedOrder],
        deadline: int,
    ) -> list[bytes]:
        """Return the call of each group; of the first ones only, if the signer is away."""
        calls: list[bytes] = []
        with suppress(SignerUnavailable):
            for status, group in groups:
                each = [self._call(orders[batch], status, bits, deadline) for batch, bits in group.items()]
                calls.append(each[0] if len(each) == 1 else abi.try_multicall_data(each))
        return calls

    def _add(
        self, db: Connection, status: Status, group: Mapping[str, int], call: bytes, head: Head, deadline: int
    ) -> None:
        attempt = now() // self._retry  # What failed at this head may be tried again at it, but later.
        submission_id = to_hex(keccak(bytes.fromhex(head.hash[2:]) + attempt.to_bytes(8, "big") + call))
        submission = Submission(
            id=submission_id,
            kind=TransactionKind.KEEPER,
            call=call,
            locks=group,
            expires=deadline,
            chain_id=self._settings.chain_id,
        )
        repository.add(db, submission)
        log.info("lessons are due", submission_id=submission_id, status=status.name, batches=len(group))

    def _call(self, order: IndexedOrder, status: Status, bits: int, deadline: int) -> bytes:
        """Return the call that ends these lessons; signed if other accounts may send it."""
        action, signer = _ACTIONS[status], self._signers[0]
        share, signature = self._chain.default_tutor_share_bps, b""
        if action != Action.RESOLVE and len(self._signers) > 1:
            name: Any = action.capitalize()
            message = action_typed_data(self._chain.domain, name, to_bytes32(order.id), bits, deadline)
            signature = signer.sign_typed_data(message)
        return abi.action_data(
            action,
            order.terms,
            bits,
            by=signer.address,
            deadline=deadline,
            signature=signature,
            tutor_share_bps=share,
        )
