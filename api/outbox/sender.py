"""The sender: a worker that takes the submissions of the outbox to the chain.

    accepted  ──> signed     one database transaction allocates the nonce, and stores the signed bytes
    accepted  ──> rejected   the contract refuses it in the newest block, and again in a later one
    accepted  ──> expired    it is too late by the newest block, and nothing of it can get into a block
    accepted  ──> mined      somebody else's transaction did the same, in a block
    signed    ──> submitted  a node has the bytes
    signed    ──> mined      a block has them
    signed    ──> reverting  a block has them, and they did nothing there
    signed    ──> accepted   another transaction with this nonce is in a final block
    submitted ──> mined      a block has them
    submitted ──> reverting  a block has them, and they did nothing there
    submitted ──> accepted   another transaction with this nonce is in a final block
    reverting ──> submitted  the block was orphaned
    reverting ──> accepted   the block is final: it is looked at again, and sent again if it can be
    mined     ──> final      the block is final
    mined     ──> submitted  the block was orphaned
    mined     ──> accepted   the block was orphaned, and it was somebody else's transaction
    final     ──> submitted  the block was orphaned, although it was final, or its nonce is not used
    final     ──> accepted   the same, and it was somebody else's transaction

Decisions that end something, and the block that each rests on:

    rejected  rests on the newest block that any node has shown, and on a second one after it; no attempt is
              left that could get into a block, because the nonce of each is used in a final one
    expired   rests on the time of the newest block that any node has shown; again, no attempt is left
    final     rests on its own block, which is final and still is the chain's

Once signed, the same bytes are sent again and again, until a receipt tells the outcome. Only a replacement
may take their place: a transaction with the same nonce that bids more for gas, or that, when it is too late
for the call, only uses the nonce. Every transaction is stored before it is sent, and the receipts of all of
them are looked for. No state is inferred from memory: any process that starts a sender finds the work in the
table.

A submission that conflicts with one in flight (about a tutor's time, say, or the publication of a listing)
waits for that one's receipt. So a race is decided by the preflight of the loser, which costs nobody anything,
and of fifty first bookings of one listing the first publishes it for all. A node of a pool may be behind that
receipt: nothing is prepared by a head that is earlier than a block some submission is in.

Whatever a submission relied on may be reorganised away. Refused by the preflight, it is prepared once more by
the state of the newest block; reverted in a block, it waits until that is final, and is accepted again. So
what can be mended is mended, and nobody is told that nothing was done before nothing can be done any more.

Where several processes may send, each sends first what it accepted itself: a request waits for it there, and
two that take the same submission check it twice. What a process leaves lying, any other one takes.

The sender knows the kinds of submissions by their `Handler`, and imports nothing from above the outbox.
"""

import time
from collections.abc import Callable, Collection, Sequence
from itertools import takewhile

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from api import metrics
from api.chain.escrow import Chain, final_block
from api.chain.remote_signer import SignerUnavailable
from api.chain.rpc import Call, Head, NodeUnavailable, RpcError, at
from api.chain.signers import Signer
from api.db import index, repository
from api.db.store import Store
from api.outbox import fees, locks
from api.outbox.fees import Budget
from api.outbox.finality import Finality
from api.outbox.handlers import LATE, TAG, Handlers, line
from api.outbox.leases import LeaseLost, Leases
from api.outbox.models import (
    InFlight,
    Outcome,
    Receipt,
    Settlement,
    State,
    Submission,
    TransactionKind,
)
from api.outbox.nonces import Nonces, Unsigned
from api.outbox.preflight import Looked, Preflight
from api.settings import Settings
from api.worker import Worker
from creneau.types import to_hex

log = structlog.get_logger()

_IDLE_SECONDS = 0.5  # How soon a submission is seen that another process accepted.
_LEFT_SECONDS = (
    0.5  # So long a submission is left to the process that accepted it, where others may send, too.
)
_FIRST_SECONDS = 0.005  # From sending one alone to the next tick; then twice that, and so on.
_LOOKS_PER_BLOCK = 24  # At most so many ticks, by the time that blocks take.
_SLOWEST_SECONDS = 0.5  # The answer follows the block by less than a second.
_RETRY_SECONDS = 1.0


class Sender(Worker):
    """Takes accepted submissions to the chain, and has each settlement stored."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        signers: Sequence[Signer],
        settings: Settings,
        handlers: Handlers,
        kinds: Collection[TransactionKind],
        on_transition: Callable[[Connection, Submission | InFlight, State], None],
        notify: Callable[[Collection[str]], None],
    ) -> None:
        """`kinds` is what it sends: its signers must be ones that may.

        `on_transition` is called in the database transaction of each change of state that others may know of:
        all but the one to `signed`. The submission is as it was before. `notify` is called afterwards with
        the ids of submissions whose block is there, or that are at their end.
        """
        super().__init__("sender", _RETRY_SECONDS)
        self._kinds = kinds
        self._store = store
        self._chain = chain
        self._node = chain.node
        self._signers = {signer.address: signer for signer in signers}
        self._settings = settings
        self._handlers = handlers
        self._on_transition = on_transition
        self._notify = notify
        # One that may send alone leaves nothing to others.
        left = round(_LEFT_SECONDS * 1_000_000) if len(signers) > 1 else 0
        self._finality = Finality(store, chain, settings.follow_seconds, self._moved)
        self.preflight = Preflight(store, chain, handlers, kinds, left)
        self._looked_at = ""  # The head at which the receipts were looked for.
        self._patience = settings.poll_seconds
        self._sign_after = 0.0  # By the monotonic clock.
        self.leases = Leases(store, list(self._signers), settings.lease_seconds)
        self._nonces = Nonces(store, chain, self._signers, settings, self.leases)

    @property
    def address(self) -> str:
        """The account that sends and pays for new transactions, or that may do so one day."""
        return [*self.leases.held, *self._signers][0]

    @property
    def addresses(self) -> list[str]:
        """The accounts of all keys: so many processes can send at once, and the others wait."""
        return list(self._signers)

    @property
    def missing_nonces(self) -> list[tuple[str, int]]:
        """The nonces, each after its account, that nobody uses and transactions wait for."""
        return self._nonces.missing

    def accepted(self, submission_id: str) -> None:
        """Wake up: a request of this process waits for this submission."""
        self.preflight.own.add(submission_id)
        self.wake()

    def run(self) -> None:
        """Work until stopped; then the keys are for any other process."""
        super().run()
        try:
            self.leases.release()
        except SQLAlchemyError as error:
            log.warning("the keys are still leased", reason=type(error).__name__)

    def run_once(self) -> float:
        """Run one pass, if a key can be had. Return the seconds to sleep before the next."""
        try:
            return self.tick()
        except LeaseLost as error:
            log.warning("another process has the key now", relayer=str(error))
            return _RETRY_SECONDS

    def tick(self) -> float:
        """Compare the outbox with the chain once. Return the seconds to sleep before the next time.

        Raises `LeaseLost`, `NodeUnavailable`.
        """
        held = self.leases.renew()
        with self._store.read() as db:
            can_sign = held and time.monotonic() >= self._sign_after
            waiting = self.preflight.waiting(db) if can_sign else []
            in_flight: Sequence[InFlight] = repository.in_flight(db, held)
            reached = repository.newest_block(db) if waiting else 0
        idle = not waiting and not in_flight
        head = self._chain.head(within=2 * self._settings.follow_seconds if idle else 0)
        # A receipt may be of a later block than the head, and what waited for it relies on that block.
        is_behind = head.number < reached
        if waiting and not is_behind:
            self._claim(held[0], waiting, head)
            with self._store.read() as db:
                in_flight = repository.in_flight(db, held)
        self._nonces.remember(in_flight, head)
        in_flight = self._nonces.replace(in_flight, head)
        timings, clock = self._nonces.timings, time.monotonic()
        due = [each for each in in_flight if timings[each.transaction_hash].send_after <= clock]
        sent = self._send(due)
        is_new = head.hash != self._looked_at
        # A block may have what the node refused: after each attempt to send, receipts are looked for.
        if due or is_new:
            finalized = final_block(self._node, self._settings, head)
            settled = self._look_for_receipts(in_flight, sent, head, finalized)
            # Of two senders the relayer's does it for all kinds.
            confirms = TransactionKind.CREATE in self._kinds
            orphaned = confirms and self._finality.confirm(head, finalized)
            # A block that is later than the head is looked for again.
            self._looked_at = "" if self._finality.beyond else head.hash
            if settled or orphaned:
                return 0  # Another submission may have waited for one of these.
        fresh = any(each.state == State.SIGNED for each in due)
        self._patience = self._next_look(len(in_flight), fresh=fresh, passed=bool(due) or is_new)
        if is_behind:
            return self._settings.poll_seconds
        return self._patience if in_flight else _IDLE_SECONDS

    def _next_look(self, count: int, *, fresh: bool, passed: bool) -> float:
        """Return the seconds until receipts can be there: soon, and then by the time that blocks take."""
        soon = self._settings.poll_seconds
        if fresh and count == 1:
            return min(_FIRST_SECONDS, soon)
        if fresh or passed:
            return soon  # Several are worth a pause: they share the next tick.
        slow = min(max(self._node.block_seconds / _LOOKS_PER_BLOCK, soon), _SLOWEST_SECONDS)
        return min(2 * self._patience, slow)

    # --- accepted -> signed, rejected, expired, mined ---

    def _claim(self, signer: str, waiting: Sequence[Submission], head: Head) -> None:
        looked = self.preflight.look(signer, waiting, head)
        self._settle(looked.ends)
        if not looked.passed:
            return
        try:
            self._sign(signer, looked, head)
        except SignerUnavailable:  # What is in flight goes on meanwhile.
            self._sign_after = time.monotonic() + _RETRY_SECONDS

    def _sign(self, signer: str, looked: Looked, head: Head) -> None:
        """Sign; then claim, allocate nonces, and store the signed bytes, all in one database transaction.

        What was signed counts up to the first that would get another nonce, or price, by then.
        """
        with self._store.read() as db:
            planned = self._plan(db, signer, looked, head)
        if not planned:
            return
        signed = self._nonces.sign(planned)
        with self._store.write() as db:
            self.leases.fence(db, signer)
            claimed = repository.claim(db, [each.submission.id for each, _ in looked.passed])
            pairs = zip(planned, self._plan(db, signer, looked, head, claimed), strict=False)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            for each in signed[:same]:
                if each.first is not None:
                    self._moved(db, each.first.submission, State.SIGNED)
            repository.add_attempts(db, signed[:same])

    def _plan(
        self,
        db: Connection,
        signer: str,
        looked: Looked,
        head: Head,
        claimed: Collection[str] | None = None,
    ) -> list[Unsigned]:
        """Return the transactions to sign, with the next nonces; of what is claimed, if that is given.

        Another process may have signed something since the preflight.
        """
        planned: list[Unsigned] = []
        ids = [each.submission.id for each, _ in looked.passed]
        earlier = repository.attempts_of(db, ids)
        held = locks.held_locks(db)
        budget = Budget.of(db, self._settings, head.moment)
        nonce = self._nonces.next(db, signer, looked.mined)
        for each, estimated in looked.passed:
            submission = each.submission
            if (claimed is not None and submission.id not in claimed) or locks.conflicts(each.locks, held):
                continue
            # What came to nothing in a block may have run out of gas.
            used = [attempt.gas for attempt in earlier if attempt.transaction_id == submission.id]
            gas = max(estimated, min(2 * max(used, default=0), 4 * estimated))
            bid = fees.first(self._settings, head.base_fee, gas, looked.tip)
            if bid is None or not budget.reserve(fees.cost(gas, bid.max_fee)):
                log.warning("gas costs more than the caps allow", submission_id=submission.id)
                continue
            locks.acquire(each.locks, held)
            terms = submission.id, signer, nonce, each.calldata, gas, bid, head.moment
            planned.append(Unsigned(*terms, first=each))
            nonce += 1
        return planned

    # --- signed -> submitted ---

    def _send(self, due: Sequence[InFlight]) -> set[str]:
        """Send the bytes that were not sent lately. Return the ids of the submissions the node has now."""
        answers = self._node.call_many([("eth_sendRawTransaction", [to_hex(each.raw)]) for each in due])
        sent: set[str] = set()
        for each, answer in zip(due, answers, strict=True):
            bound = line(each).bind(nonce=each.nonce, transaction=each.transaction_hash)
            timing, pause = self._nonces.timings[each.transaction_hash], self._settings.resend_seconds
            if not isinstance(answer, RpcError):
                creates = each.kind == TransactionKind.CREATE
                bound.info(f"{TAG} Transaction envoyée: {each.transaction_hash}" if creates else "sent")
                sent.add(each.id)
            elif answer.is_known_transaction:
                sent.add(each.id)
            else:
                # "Nonce too low" among others: its receipt will tell, and until then it is sent again.
                bound.warning("the node did not take the transaction", reason=answer.message)
                pause, timing.underpriced = _RETRY_SECONDS, answer.is_underpriced
            timing.send_after = time.monotonic() + pause
        return sent

    # --- signed, submitted -> mined, reverting, accepted ---

    def _look_for_receipts(
        self, in_flight: Sequence[InFlight], sent: Collection[str], head: Head, finalized: int
    ) -> bool:
        """Look for the receipts of what is in flight. Return True if there is one."""
        if not in_flight:
            return False
        with self._store.read() as db:
            attempts = repository.attempts_of(db, [each.id for each in in_flight])
        signers = sorted({each.signer for each in in_flight})
        counts: list[Call] = [("eth_getTransactionCount", [signer, hex(finalized)]) for signer in signers]
        # The counts first: a transaction that is counted has its receipt when it is asked for next.
        answers = self._node.call_many(
            [
                *counts,
                *(at(count, head) for count in counts),
                *(("eth_getTransactionReceipt", [attempt.hash]) for attempt in attempts),
            ]
        )
        final, mined = (
            {s: int(a, 16) for s, a in zip(signers, part, strict=True) if not isinstance(a, RpcError)}
            for part in (answers[: len(signers)], answers[len(signers) : 2 * len(signers)])
        )
        receipts: dict[str, tuple[Receipt, bool]] = {}
        newest = {each.id: (each.signer, each.nonce) for each in in_flight}
        for attempt, answer in zip(attempts, answers[2 * len(signers) :], strict=True):
            if isinstance(answer, RpcError):
                raise NodeUnavailable("no receipts")
            if answer:
                receipt = Receipt.from_rpc(answer)
                # What came to nothing with an earlier nonce was answered by signing anew.
                is_newest = (attempt.signer, attempt.nonce) == newest[attempt.transaction_id]
                if receipt.succeeded or (is_newest and attempt.transaction_id not in receipts):
                    receipts[attempt.transaction_id] = receipt, attempt.is_noop
        self._in_blocks(receipts, head)
        waiting = [each for each in in_flight if each.id not in receipts]
        known = [each for each in waiting if each.state == State.SIGNED and each.id in sent]
        if known:
            self._move_all(known, State.SUBMITTED)
        lost = [each for each in waiting if each.nonce < final.get(each.signer, 0)]
        if lost:
            self._give_back(lost, finalized)
        if waiting:
            self._finality.look_for_unused(mined, head)
        self._nonces.fill_nonce_gaps(waiting, mined, head)
        return bool(receipts)

    def _in_blocks(self, receipts: dict[str, tuple[Receipt, bool]], head: Head) -> None:
        """Store what the receipts tell. One comes with True if its transaction only used the nonce."""
        with self._store.read() as db:
            submissions = repository.submissions(db, receipts)
        done: list[Outcome] = []
        reverted: list[tuple[Submission, Receipt]] = []
        for each in submissions:
            receipt, is_noop = receipts[each.id]
            if receipt.succeeded and is_noop == (each.kind == TransactionKind.NOOP):
                done.append(Outcome(each, receipt))
            else:
                reverted.append((each, receipt))
        ends = [*self._handlers.classify(done, head).values()]
        # Somebody else's transaction may have done the same before.
        others = self._handlers.classify([Outcome(each, error=LATE) for each, _ in reverted], head).values()
        self._settle([*ends, *(each for each in others if each.receipt is not None)])
        if reverted:
            with self._store.write() as db:
                for each, receipt in reverted:
                    if repository.revert(db, each.id, receipt):
                        line(each).warning("it did nothing in its block", block=receipt.block_number)
                        self._moved(db, each, State.REVERTING)
            self._notify([each.id for each, _ in reverted])

    def _give_back(self, lost: Sequence[InFlight], finalized: int) -> None:
        """Accept again what lost its nonce to another transaction, in a block up to this number.

        A node may be late with receipts: if the projection has events of an attempt, its receipt will come.
        """
        with self._store.read() as db:
            _, _, position = index.position(db)
            attempts = repository.attempts_of(db, [each.id for each in lost])
            known = index.transactions(db, [attempt.hash for attempt in attempts])
        done = {attempt.transaction_id for attempt in attempts if attempt.hash in known}
        if position.number < finalized:
            return
        for each in lost:
            if each.id in done:
                continue
            line(each).warning("another transaction took the nonce", nonce=each.nonce)
            with self._store.write() as db:
                self.leases.fence(db, each.signer)
                if repository.unsign(db, each.id):
                    self._moved(db, each, State.ACCEPTED)

    def _settle(self, settlements: Sequence[Settlement]) -> None:
        """Store the ends of submissions, whether or not there is a transaction in a block."""
        if not settlements:
            return
        with self._store.write() as db:
            for each in settlements:
                if repository.settle(db, each):
                    self._moved(db, each.submission, each.state)
        self._handlers.settled(settlements)
        self._notify([each.submission.id for each in settlements])

    # --- For all of them ---

    def _move_all(self, these: Sequence[InFlight], state: State) -> None:
        with self._store.write() as db:
            for each in these:
                if repository.advance(db, each.id, state):
                    self._moved(db, each, state)

    def _moved(self, db: Connection, before: Submission | InFlight, state: State) -> None:
        """Tell of a change of state, in the transaction that makes it."""
        line(before).info("state", state=state.value, was=before.state.value)
        metrics.moved(before, state)
        if state is not State.SIGNED:
            self._on_transition(db, before, state)
