"""Handlers: the knowledge of each kind of submissions, which the sender itself treats alike."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import structlog

from api.chain.escrow import Chain, told
from api.chain.rpc import Head, RpcError, at
from api.db import index
from api.db.store import Store
from api.errors import Code, code_of
from api.outbox.models import (
    InFlight,
    Outcome,
    Prepared,
    Receipt,
    Rejection,
    Settlement,
    Submission,
    TransactionKind,
)
from creneau import abi
from creneau.errors import ContractError, OrderExpired
from creneau.lifecycle import ACTIONS

log = structlog.get_logger()

TAG = "[CREATE_BATCH_BOOKING]"

ANYONES = frozenset(TransactionKind) - {TransactionKind.RESOLVE}
"""The kinds that any account can send, because a call that needs a signature carries it."""

LATE = OrderExpired(0, 0)
"""The contract's error for a call that comes too late, whatever the times."""

_Item = TypeVar("_Item", Submission, Outcome, Settlement)


class Handler(Protocol):
    """The knowledge of one kind. The sender calls it from its own thread."""

    def prepare(
        self, submissions: Sequence[Submission], head: Head, doubted: Collection[str]
    ) -> Mapping[str, Prepared]:
        """Return by id the submissions that can be sent now, as of this block. All others wait.

        Those that are `doubted` were refused by an earlier block as they had been accepted.
        """

    def classify(self, outcomes: Sequence[Outcome], head: Head) -> Mapping[str, Settlement]:
        """Return by id the meaning of each outcome, as of this block. Leave out those that can't be told."""

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """Log these settlements, which are stored by now."""


class CallHandler:
    """Handles calls that are sent as they are."""

    def __init__(self, store: Store, chain: Chain) -> None:
        """Take the projection's database, and the chain."""
        self._store = store
        self._chain = chain

    def prepare(
        self, submissions: Sequence[Submission], _: Head, __: Collection[str]
    ) -> Mapping[str, Prepared]:
        """Return all of them: any can be sent now."""
        return {each.id: Prepared(each, each.locks, each.call) for each in submissions}

    def classify(self, outcomes: Sequence[Outcome], head: Head) -> Mapping[str, Settlement]:
        """Return by id the meaning of each outcome. Leave out those that can't be told yet.

        A refused action may have been done before: by a process whose database this one is an older copy of.
        """
        refused = [each.submission for each in outcomes if each.error is not None]
        done = self._done(refused, head)
        settlements: dict[str, Settlement] = {}
        for each in outcomes:
            id_, error = each.submission.id, each.error
            receipt = done.get(id_, each.receipt)
            if id_ not in done:
                reason = None if error is None else rejection(error)
                settlements[id_] = Settlement(each.submission, receipt, reason)
            elif receipt is not None:
                settlements[id_] = Settlement(each.submission, receipt)
        return settlements

    def _done(self, refused: Sequence[Submission], head: Head) -> dict[str, Receipt | None]:
        """Return by id those of these actions that are done to all their lessons in this block.

        Each comes with the receipt of the transaction that did it, or None while that is not known.
        """
        done: dict[str, Receipt | None] = {}
        for each in refused:
            action = abi.action_of(each.call) if each.kind == TransactionKind.ACT else None
            if action is None or each.batch_id is None or not ACTIONS[action].can_repeat:
                continue
            lessons, status = each.locks[each.batch_id], ACTIONS[action].to
            [state] = self._chain.node.call_many([at(self._chain.batch(each.batch_id), head)])
            if isinstance(state, RpcError):
                done[each.id] = None
            elif not lessons & ~abi.decode_batch(told(state)).having(status):
                with self._store.read() as db:
                    hash_ = index.newest_change(db, each.batch_id, lessons, status)
                receipt = hash_ and self._chain.node.call("eth_getTransactionReceipt", hash_)
                done[each.id] = Receipt.from_rpc(receipt) if receipt else None
        return done

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """Log these settlements."""
        for each in settlements:
            receipt, sent = each.receipt, each.submission
            hash_ = sent.transaction_hash if receipt is None else receipt.transaction_hash
            bound = line(sent).bind(kind=sent.kind.value, transaction=hash_)
            if each.rejection is None:
                bound.info("done")
            else:
                bound.warning("came to nothing", code=each.rejection.code)


class Handlers:
    """All handlers as one."""

    def __init__(self, others: Handler, of_kind: Mapping[TransactionKind, Handler]) -> None:
        """`others` is for the kinds that have none of their own."""
        self._others = others
        self._of_kind = of_kind

    def prepare(
        self, submissions: Sequence[Submission], head: Head, doubted: Collection[str]
    ) -> dict[str, Prepared]:
        """Return by id the submissions that can be sent now, as of this block. All others wait."""
        prepared: dict[str, Prepared] = {}
        for handler, these in self._by_handler([(each, each) for each in submissions]):
            prepared |= handler.prepare(these, head, doubted)
        return prepared

    def classify(self, outcomes: Sequence[Outcome], head: Head) -> dict[str, Settlement]:
        """Return by id the meaning of each outcome. Leave out those that can't be told yet."""
        settlements: dict[str, Settlement] = {}
        for handler, these in self._by_handler([(each.submission, each) for each in outcomes]):
            settlements |= handler.classify(these, head)
        return settlements

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """Log these settlements."""
        for handler, these in self._by_handler([(each.submission, each) for each in settlements]):
            handler.settled(these)

    def _by_handler(
        self, items: Sequence[tuple[Submission, _Item]]
    ) -> Iterator[tuple[Handler, Sequence[_Item]]]:
        for handler in (self._others, *self._of_kind.values()):
            these = [item for sent, item in items if self._of_kind.get(sent.kind, self._others) is handler]
            if these:
                yield handler, these


def rejection(error: ContractError) -> Rejection:
    """Return the rejection that a contract's error means."""
    if isinstance(error, OrderExpired):
        return Rejection(Code.EXPIRED, Code.EXPIRED.sentence())
    return Rejection(code_of(error), str(error))


def line(sent: Submission | InFlight) -> Any:
    """Return the log, bound to a submission."""
    name = "batch_id" if sent.kind == TransactionKind.CREATE else "submission_id"
    return log.bind(**{name: sent.id}, request_id=sent.request_id)
