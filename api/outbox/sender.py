"""The sender: a worker that takes the submissions of the outbox to the chain.

    accepted  ──> signed     one database transaction allocates the nonce, signs, and stores the bytes
    accepted  ──> rejected   the contract refuses it, and nothing was sent
    accepted  ──> expired    it waited too long
    accepted  ──> mined      somebody else's transaction did the same
    signed    ──> submitted  a node has the bytes
    signed    ──> mined      a block has them
    signed    ──> accepted   another transaction with this nonce is finalized
    submitted ──> mined      a block has them
    submitted ──> accepted   another transaction with this nonce is finalized
    mined     ──> final      the block is finalized
    mined     ──> failed     it reverted, in a finalized block
    mined     ──> expired    it came too late, or its nonce was used otherwise, in a finalized block
    mined     ──> submitted  the block was orphaned
    mined     ──> accepted   the block was orphaned, and it was somebody else's transaction

Once signed, the same bytes are sent again and again, until a receipt tells the outcome. Only a replacement
may take their place: a transaction with the same nonce that bids more for gas, or that, when it is too late
for the call, only uses the nonce. Every transaction is stored before it is sent, and the receipts of all of
them are looked for. No state is inferred from memory: any process that starts a sender finds the work in the
table.

A submission that conflicts with one in flight (about a tutor's time, say, or the publication of a listing)
waits for that one's receipt. So a race is decided by the preflight of the loser, which costs nobody anything,
and of fifty first bookings of one listing the first publishes it for all.

Where several processes may send, each sends first what it accepted itself: a request waits for it there, and
two that take the same submission check it twice. What a process leaves lying, any other one takes.

The sender knows the kinds of submissions by their `Handler`, and imports nothing from above the outbox.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from api import metrics
from api.chain.escrow import Chain, final_block
from api.chain.rpc import Call, Head, NodeUnavailable, RpcError
from api.chain.signers import Signer
from api.db import repository
from api.db.store import Store
from api.errors import Code
from api.outbox import fees, locks
from api.outbox.fees import Budget
from api.outbox.handlers import LATE, TAG, Handlers, line
from api.outbox.leases import LeaseLost, Leases
from api.outbox.models import (
    InFlight,
    Outcome,
    Prepared,
    Receipt,
    Rejection,
    Settlement,
    SignedAttempt,
    State,
    Submission,
    TransactionKind,
)
from api.outbox.nonces import Nonces, is_late
from api.settings import Settings
from api.worker import Worker
from creneau.errors import ContractError, decode_revert
from creneau.types import to_hex

log = structlog.get_logger()

_MOST_AT_ONCE = 100
_IDLE_SECONDS = 0.5  # How soon a submission is seen that another process accepted.
_LEFT_SECONDS = (
    0.5  # So long a submission is left to the process that accepted it, where others may send, too.
)
_FIRST_SECONDS = 0.005  # From sending to the next tick, then twice that, and so on: while one is alone.
_RETRY_SECONDS = 1.0


class Passed(NamedTuple):
    """A submission that passed the preflight, and the gas limit that is enough for it."""

    prepared: Prepared
    gas: int


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
    ) -> None:
        """`kinds` is what it sends: its signers must be ones that may.

        `on_transition` is called in the database transaction of each change of state that others may know of:
        all but the one to `signed`. The submission is as it was before.
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
        self._own: set[str] = set()  # Accepted by this process, and maybe without a nonce still.
        self._looked_at = ""  # The head at which the receipts were looked for.
        self._patience = settings.poll_seconds
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

    def accepted(self, submission_id: str) -> None:
        """Wake up: a request of this process waits for this submission."""
        self._own.add(submission_id)
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
        head = self._node.head()
        if held:
            self._claim(held[0], head)
        with self._store.read() as db:
            in_flight: Sequence[InFlight] = repository.in_flight(db, held)
        self._nonces.remember(in_flight, head)
        in_flight = self._nonces.replace(in_flight, head)
        timings, clock = self._nonces.timings, time.monotonic()
        due = [each for each in in_flight if timings[each.transaction_hash].send_after <= clock]
        sent = self._send(due)
        # A block may have what the node refused: after each attempt to send, receipts are looked for.
        if due or head.hash != self._looked_at:
            finalized = final_block(self._node, self._settings, head)
            settled = self._look_for_receipts(in_flight, sent, head, finalized)
            orphaned = self._confirm(finalized)
            self._looked_at = head.hash
            if settled or orphaned:
                return 0  # Another submission may have waited for one of these.
        # Several are worth a pause: they share the next tick.
        most = self._settings.poll_seconds
        sooner = _FIRST_SECONDS if due else 2 * self._patience
        self._patience = min(sooner, most) if len(in_flight) == 1 else most
        return self._patience if in_flight else _IDLE_SECONDS

    # --- accepted -> signed, rejected, expired, mined ---

    def _claim(self, signer: str, head: Head) -> None:
        own, others = set(self._own), len(self._signers) > 1
        left = round(_LEFT_SECONDS * 1_000_000) if others else 0
        with self._store.read() as db:
            waiting = repository.accepted(db, _MOST_AT_ONCE, self._kinds, own, left)
        if len(waiting) < _MOST_AT_ONCE:
            self._own -= own - {each.id for each in waiting}
        if not waiting:
            return
        outcomes = [Outcome(each, error=LATE) for each in waiting if is_late(each, head)]
        ready, rejected = self._select([each for each in waiting if not is_late(each, head)])
        mined, pending, *estimates = self._node.call_many(
            [
                ("eth_getTransactionCount", [signer, "latest"]),
                ("eth_getTransactionCount", [signer, "pending"]),
                *(("eth_estimateGas", [self._chain.transaction(signer, each.calldata)]) for each in ready),
            ]
        )
        if isinstance(mined, RpcError) or isinstance(pending, RpcError):
            raise NodeUnavailable("no nonce")
        passed: list[Passed] = []
        for each, estimate in zip(ready, estimates, strict=True):
            if not isinstance(estimate, RpcError):
                # A calendar word that is emptied meanwhile costs more to write than the estimate says.
                passed.append(Passed(each, int(estimate, 16) * 5 // 4 + 25_000))
            elif estimate.is_revert:
                error = decode_revert(estimate.data or b"", self._chain.currency)
                outcomes.append(Outcome(each.submission, error=error))
            else:
                log.warning("preflight failed", submission_id=each.submission.id, reason=estimate.message)
        self._settle([*rejected, *self._handlers.classify(outcomes).values()])
        if passed:
            self._sign(signer, passed, int(mined, 16), int(pending, 16), head)

    def _select(self, waiting: Sequence[Submission]) -> tuple[list[Prepared], list[Settlement]]:
        """Return the submissions that can be sent now, and those that never can.

        Each of the others waits for one that is in flight.
        """
        prepared = self._handlers.prepare(waiting)
        with self._store.read() as db:
            held = locks.held_locks(db)
        ready: list[Prepared] = []
        rejected: list[Settlement] = []
        for submission in waiting:
            match prepared.get(submission.id):
                case Prepared() as each if not locks.conflicts(each.locks, held):
                    locks.acquire(each.locks, held)
                    ready.append(each)
                case Rejection() as rejection:
                    rejected.append(Settlement(submission, rejection=rejection))
        return ready, rejected

    def _sign(self, signer: str, passed: Sequence[Passed], mined: int, pending: int, head: Head) -> None:
        """Claim, allocate nonces, and store the signed bytes, all in one database transaction."""
        signed: list[SignedAttempt] = []
        with self._store.write() as db:
            self.leases.fence(db, signer)
            claimed = repository.claim(db, [each.submission.id for each, _ in passed])
            held = locks.held_locks(db)  # Another process may have signed something since the preflight.
            budget = Budget.of(db, self._settings, head.moment)
            nonce = self._nonces.next(db, signer, mined, pending)
            for each, gas in passed:
                submission = each.submission
                if submission.id not in claimed or locks.conflicts(each.locks, held):
                    continue
                bid = fees.first(self._settings, head.base_fee, gas)
                if bid is None or not budget.reserve(fees.cost(gas, bid.max_fee)):
                    log.warning("gas costs more than the caps allow", submission_id=submission.id)
                    continue
                locks.acquire(each.locks, held)
                terms = submission.id, signer, nonce, each.calldata, gas, bid, head.moment
                signed.append(self._nonces.sign(*terms, first=each))
                self._moved(db, submission, State.SIGNED)
                nonce += 1
            repository.add_attempts(db, signed)

    # --- signed -> submitted ---

    def _send(self, due: Sequence[InFlight]) -> set[str]:
        """Send the bytes that were not sent lately. Return the ids of the submissions the node has now."""
        answers = self._node.call_many([("eth_sendRawTransaction", [to_hex(each.raw)]) for each in due])
        sent: set[str] = set()
        for each, answer in zip(due, answers, strict=True):
            bound = line(each).bind(nonce=each.nonce, transaction=each.transaction_hash)
            pause = self._settings.resend_seconds
            if not isinstance(answer, RpcError):
                creates = each.kind == TransactionKind.CREATE
                bound.info(f"{TAG} Transaction envoyée: {each.transaction_hash}" if creates else "sent")
                sent.add(each.id)
            elif answer.is_known_transaction:
                sent.add(each.id)
            else:
                # "Nonce too low" among others: its receipt will tell, and until then it is sent again.
                bound.warning("the node did not take the transaction", reason=answer.message)
                pause = _RETRY_SECONDS
            self._nonces.timings[each.transaction_hash].send_after = time.monotonic() + pause
        return sent

    # --- signed, submitted -> mined, accepted ---

    def _look_for_receipts(
        self, in_flight: Sequence[InFlight], sent: Collection[str], head: Head, finalized: int
    ) -> bool:
        """Look for the receipts of what is in flight. Return True if there is one."""
        if not in_flight:
            return False
        with self._store.read() as db:
            attempts = repository.attempts_of(db, [each.id for each in in_flight])
        signers = sorted({each.signer for each in in_flight})
        # The counts first: a transaction that is counted has its receipt when it is asked for next.
        answers = self._node.call_many(
            [
                *(("eth_getTransactionCount", [signer, hex(finalized)]) for signer in signers),
                *(("eth_getTransactionCount", [signer, "pending"]) for signer in signers),
                *(("eth_getTransactionReceipt", [attempt.hash]) for attempt in attempts),
            ]
        )
        final, pending = (
            {s: int(a, 16) for s, a in zip(signers, part, strict=True) if not isinstance(a, RpcError)}
            for part in (answers[: len(signers)], answers[len(signers) : 2 * len(signers)])
        )
        receipts: dict[str, tuple[Receipt, bool]] = {}
        for attempt, answer in zip(attempts, answers[2 * len(signers) :], strict=True):
            if isinstance(answer, RpcError):
                raise NodeUnavailable("no receipts")
            if answer:
                receipt = Receipt.from_rpc(answer)
                if attempt.transaction_id not in receipts or receipt.succeeded:
                    receipts[attempt.transaction_id] = receipt, attempt.is_noop
        self._settle([*self._handlers.classify(self._outcomes(receipts)).values()])
        waiting = [each for each in in_flight if each.id not in receipts]
        known = [each for each in waiting if each.state == State.SIGNED and each.id in sent]
        if known:
            with self._store.write() as db:
                for each in known:
                    if repository.advance(db, each.id, State.SUBMITTED):
                        self._moved(db, each, State.SUBMITTED)
        for each in self._nonces.nonce_lost(waiting, final):
            line(each).warning("another transaction took the nonce", nonce=each.nonce)
            with self._store.write() as db:
                self.leases.fence(db, each.signer)
                if repository.unsign(db, each.id):
                    self._moved(db, each, State.ACCEPTED)
        self._nonces.fill_nonce_gaps(waiting, pending, head)
        return bool(receipts)

    def _outcomes(self, receipts: dict[str, tuple[Receipt, bool]]) -> list[Outcome]:
        """Return the outcomes that the receipts tell, with the errors of calls that reverted.

        A receipt comes with True if its transaction only used the nonce.
        """
        with self._store.read() as db:
            submissions = repository.submissions(db, receipts)
        reverted = [each for each in submissions if not receipts[each.id][0].succeeded]
        calls: list[Call] = []
        for each in reverted:
            call = self._chain.transaction(each.signer or "", each.calldata(publishes=each.publishes))
            calls.append(("eth_call", [call, hex(receipts[each.id][0].block_number)]))
        errors: dict[str, ContractError | None] = {id_: LATE for id_, (_, noop) in receipts.items() if noop}
        for each, answer in zip(reverted, self._node.call_many(calls), strict=True):
            is_error = isinstance(answer, RpcError)
            errors[each.id] = decode_revert(answer.data or b"", self._chain.currency) if is_error else None
        return [Outcome(each, receipts[each.id][0], errors.get(each.id)) for each in submissions]

    def _settle(self, settlements: Sequence[Settlement]) -> None:
        """Store the ends of submissions, whether or not there is a transaction in a block."""
        if not settlements:
            return
        with self._store.write() as db:
            for each in settlements:
                if repository.settle(db, each):
                    self._moved(db, each.submission, each.state)
        self._handlers.settled(settlements)

    # --- mined -> final, failed, expired, submitted, accepted ---

    def _confirm(self, finalized: int) -> bool:
        """Compare the blocks of submissions with the chain's. Return True if one of them was orphaned.

        Those up to the number `finalized` are final.
        """
        with self._store.read() as db:
            blocks = repository.mined_blocks(db)
        answers = self._node.call_many(
            [("eth_getBlockByNumber", [hex(number), False]) for number, _ in blocks]
        )
        if any(isinstance(answer, RpcError) for answer in answers):
            raise NodeUnavailable("no blocks")
        pairs = list(zip(blocks, answers, strict=True))
        orphaned = {hash_ for (_, hash_), answer in pairs if not answer or answer["hash"] != hash_}
        final = {hash_ for number, hash_ in blocks if number <= finalized} - orphaned
        if not orphaned and not final:
            return False
        with self._store.write() as db:
            for each in repository.mined_in(db, final):
                failed = State.EXPIRED if each.code == Code.EXPIRED else State.FAILED
                state = State.FINAL if each.succeeded else failed
                if repository.advance(db, each.id, state):
                    self._moved(db, each, state)
            for each in repository.mined_in(db, orphaned):
                line(each).warning("the block was orphaned")
                # Without a nonce of its own, somebody else's transaction did the same.
                state = State.ACCEPTED if each.nonce is None else State.SUBMITTED
                if repository.unmine(db, each, state):
                    self._moved(db, each, state)
        return bool(orphaned)

    # --- For all of them ---

    def _moved(self, db: Connection, before: Submission | InFlight, state: State) -> None:
        """Tell of a change of state, in the transaction that makes it."""
        line(before).info("state", state=state.value, was=before.state.value)
        metrics.moved(before, state)
        if state is not State.SIGNED:
            self._on_transition(db, before, state)
