"""The preflight of accepted submissions: some can be sent now, some the contract refuses, others wait.

A refusal is a word of the newest block, read by its hash, and never of an estimate: a node may be behind, or
err. The first one may rest on what a reorganisation has just taken away. So the submission is prepared once
more by the state of that block, and is at its end only when a later block refuses it, too.
"""

import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from api.chain.escrow import Chain
from api.chain.rpc import Head, NodeBehind, RpcError, at
from api.db import repository
from api.db.store import Store
from api.outbox import locks
from api.outbox.handlers import LATE, Handlers, line
from api.outbox.models import Outcome, Prepared, Settlement, State, Submission, TransactionKind
from api.outbox.nonces import is_late
from creneau.errors import decode_revert

_MOST_AT_ONCE = 100
_FIRST_PAUSE = 0.005  # Seconds, for what fails without a reason; each time twice as long,
_LONGEST_PAUSE = 30.0  # up to this.
_STILL_SECONDS = 1.0  # Without a new block for so long, the newest one is as good as a second one.


class Passed(NamedTuple):
    """A submission that passed the preflight, and the gas limit that is enough for it."""

    prepared: Prepared
    gas: int


class Doubt(NamedTuple):
    """A submission's first refusal: the number of the block, and when, by the monotonic clock."""

    block: int
    since: float


class PutOff(NamedTuple):
    """A submission that is not looked at until then, by the monotonic clock, after a pause of so long."""

    until: float
    pause: float


class Looked(NamedTuple):
    """Submissions to sign, ends of others, and what the chain says for signing."""

    passed: Sequence[Passed]
    ends: Sequence[Settlement]
    mined: int  # How many nonces of the signer are used, in the newest block.
    tip: int  # The market's, in wei; 0: unknown.


class Preflight:
    """Looks at accepted submissions before they are signed."""

    def __init__(
        self, store: Store, chain: Chain, handlers: Handlers, kinds: Collection[TransactionKind], left: int
    ) -> None:
        """`left` is for how long a submission is left to the process that accepted it, in microseconds."""
        self._store = store
        self._chain = chain
        self._handlers = handlers
        self._kinds = kinds
        self._left = left
        self.own: set[str] = set()  # Accepted by this process, and maybe without a nonce still.
        self._doubts: dict[str, Doubt] = {}
        self._put_off: dict[str, PutOff] = {}

    def waiting(self, db: Connection) -> list[Submission]:
        """Return what is accepted and may be looked at now."""
        own, clock = set(self.own), time.monotonic()
        resting = [each for each, (until, _) in self._put_off.items() if until > clock]
        waiting = repository.accepted(db, _MOST_AT_ONCE, self._kinds, own, self._left, resting)
        if len(waiting) < _MOST_AT_ONCE:
            ids = {each.id for each in waiting}
            self.own -= own - ids
            self._doubts = {each: doubt for each, doubt in self._doubts.items() if each in ids}
            kept = ids.union(resting)
            self._put_off = {each: pause for each, pause in self._put_off.items() if each in kept}
        return waiting

    def look(self, signer: str, waiting: Sequence[Submission], head: Head) -> Looked:
        """Look at submissions for an account that is to sign them. Raises `NodeUnavailable`."""
        outcomes = [Outcome(each, error=LATE) for each in waiting if is_late(each, head)]
        ready = self._select([each for each in waiting if not is_late(each, head)], head)
        count = "eth_getTransactionCount", [signer, "latest"]
        latest, at_head, market, *estimates = self._chain.node.call_many(
            [
                count,
                at(count, head),
                ("eth_maxPriorityFeePerGas", []),
                *(("eth_estimateGas", [self._chain.transaction(signer, each.calldata)]) for each in ready),
            ]
        )
        if isinstance(latest, RpcError) or isinstance(at_head, RpcError):
            raise NodeBehind("no nonce")
        passed: list[Passed] = []
        failed: list[Prepared] = []
        for each, estimate in zip(ready, estimates, strict=True):
            if isinstance(estimate, RpcError):
                failed.append(each)
            else:
                # A calendar word that is emptied meanwhile costs more to write than the estimate says.
                passed.append(Passed(each, int(estimate, 16) * 5 // 4 + 25_000))
        outcomes += self._refused(signer, failed, head)
        ends = self._handlers.classify(outcomes, head).values()
        sure = [each for each in ends if self._is_sure(each, head)]
        tip = 0 if isinstance(market, RpcError) else int(market, 16)
        return Looked(passed, sure, min(int(latest, 16), int(at_head, 16)), tip)

    def _select(self, waiting: Sequence[Submission], head: Head) -> list[Prepared]:
        """Return the submissions that can be sent now. Each of the others waits for one in flight."""
        prepared = self._handlers.prepare(waiting, head, self._doubts.keys())
        with self._store.read() as db:
            held = locks.held_locks(db)
        ready: list[Prepared] = []
        for submission in waiting:
            each = prepared.get(submission.id)
            if each is not None and not locks.conflicts(each.locks, held):
                locks.acquire(each.locks, held)
                ready.append(each)
        return ready

    def _refused(self, signer: str, failed: Sequence[Prepared], head: Head) -> list[Outcome]:
        """Return the contract's refusals in the newest block. An estimate that failed decides nothing."""
        calls = [("eth_call", [self._chain.transaction(signer, each.calldata), ""]) for each in failed]
        answers = self._chain.node.call_many([at(call, head) for call in calls])
        refused: list[Outcome] = []
        for each, answer in zip(failed, answers, strict=True):
            if isinstance(answer, RpcError) and answer.is_revert:
                error = decode_revert(answer.data or b"", self._chain.currency)
                refused.append(Outcome(each.submission, error=error))
                continue
            reason = answer.message if isinstance(answer, RpcError) else "no estimate"
            _, pause = self._put_off.get(each.submission.id, PutOff(0, _FIRST_PAUSE))
            pause = min(2 * pause, _LONGEST_PAUSE)
            self._put_off[each.submission.id] = PutOff(time.monotonic() + pause, pause)
            line(each.submission).warning("preflight failed", reason=reason, pause=pause)
        return refused

    def _is_sure(self, end: Settlement, head: Head) -> bool:
        """Return True if it is the end: not at the first refusal, and not before what acceptance saw."""
        if end.state != State.REJECTED:
            return True
        id_, clock = end.submission.id, time.monotonic()
        doubt = self._doubts.setdefault(id_, Doubt(head.number, clock))
        if head.number < end.submission.seen_block:
            return False
        if head.number == doubt.block and clock - doubt.since < _STILL_SECONDS:
            return False
        with self._store.read() as db:
            return not locks.waits_for_others(db, end.submission)
