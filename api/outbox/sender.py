"""The relayer: one thread and one loop over the outbox, whose sends it takes to the chain.

    accepted  ──> signed     one database transaction allocates the nonce, signs, and stores the bytes
    accepted  ──> rejected   the contract refuses it, and nothing was sent
    accepted  ──> expired    it waited too long
    accepted  ──> mined      somebody else's transaction did the same
    signed    ──> submitted  a node has the bytes
    signed    ──> mined      a block has them
    signed    ──> accepted   another transaction with this nonce is final
    submitted ──> mined      a block has them
    submitted ──> accepted   another transaction with this nonce is final
    mined     ──> final      the block is
    mined     ──> failed     it reverted, in a block that is final
    mined     ──> expired    it came too late, or its nonce was spent otherwise, in a block that is final
    mined     ──> submitted  the block was reorganised away
    mined     ──> accepted   the block was reorganised away, and it was somebody else's transaction

Once signed, the same bytes are sent again and again, until a receipt says what became of them. All that
may take their place is a replacement with the same nonce that offers more for gas, or that, when it is
too late for the call, only spends the nonce. Every transaction is stored before it is sent, and the
receipts of all of them are looked for. No status is inferred from memory: whoever starts the loop finds
the work in the table.

A send that wants what another under way also wants (a tutor's time, say, or to publish a listing) waits
for that one's block. So a race is decided by the preflight of the loser, which costs nobody anything, and
of fifty first bookings of one listing the first publishes it for all.

Where several processes may send, each first sends what it accepted itself: somebody waits for it there, and
two that take the same send check it twice. What a process leaves lying, any other one takes.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import structlog
from eth_account.signers.local import LocalAccount
from sqlalchemy import Connection, Row, select, update
from sqlalchemy.exc import SQLAlchemyError

from api.chain.escrow import Chain, final_block
from api.chain.rpc import NodeUnavailable, RpcError
from api.db.store import Store
from api.db.tables import attempts, batches, now, transactions
from api.errors import Code
from api.outbox import fees, locks
from api.outbox import handlers as submissions
from api.outbox.fees import Budget
from api.outbox.handlers import Handlers, Outcome, Prepared, Receipt, Rejection, Revert
from api.outbox.leases import LeaseLost, Leases
from api.outbox.models import State, TransactionKind
from api.outbox.nonces import Head, Nonces, Signed
from api.settings import Settings
from api.worker import Worker
from creneau.errors import decode_revert
from creneau.types import to_hex

log = structlog.get_logger()

TRANSITIONS: dict[State, frozenset[State]] = {
    State.ACCEPTED: frozenset({State.SIGNED, State.REJECTED, State.EXPIRED, State.MINED}),
    State.SIGNED: frozenset({State.SUBMITTED, State.MINED, State.ACCEPTED}),
    State.SUBMITTED: frozenset({State.MINED, State.ACCEPTED}),
    State.MINED: frozenset({State.FINAL, State.FAILED, State.EXPIRED, State.SUBMITTED, State.ACCEPTED}),
}

_MOST_AT_ONCE = 100
_IDLE_SECONDS = 0.5  # How soon a send is seen that another process accepted.
_LEFT_SECONDS = 0.5  # So long a send is left to the process that accepted it, where others may send, too.
_FIRST_SECONDS = 0.005  # From sending to the next look, then twice that, and so on: while one is alone.
_RETRY_SECONDS = 1.0
_ALREADY_KNOWN = ("already known", "already imported", "alreadyknown", "already_exists", "known transaction")
_IN_A_BLOCK = ("block_number", "block_hash", "gas_used", "fee", "succeeded", "code", "detail")
_UNSIGNED = dict.fromkeys(("signer", "nonce", "transaction_hash", "signed_at", "cost"))
_NOT_BOOKED = {"booked": None, "left_out": None}
# A replacement offers more than what it replaces.
_ATTEMPTS = select(*attempts.c["transaction_id", "hash", "is_noop"]).order_by(attempts.c.max_fee)

Settlement = tuple[Row[Any], Receipt | None, Outcome]
"""A send, the receipt of its own transaction if there was one, and what that means."""


class Sender(Worker):
    """Takes accepted sends to the chain, and says when one is settled."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        accounts: Sequence[LocalAccount],
        settings: Settings,
        handlers: Handlers,
        kinds: Collection[TransactionKind],
        settled: Callable[[Collection[str]], None],
        on_move: Callable[[Connection, Row[Any], State], None],
    ) -> None:
        """`kinds` is what it sends: its accounts must be ones that may."""
        super().__init__("sender", _RETRY_SECONDS)
        self._kinds = kinds
        self._store = store
        self._chain = chain
        self._node = chain.node
        self._accounts = {str(account.address): account for account in accounts}
        self._settings = settings
        self._settled = settled
        self._on_move = on_move  # In the transaction that changes a state; the row is as it was.
        self._handlers = handlers
        self._own: set[str] = set()  # What was accepted here, and may wait for a nonce still.
        self._looked_at = ""  # The head at which the receipts were looked for.
        self._patience = settings.poll_seconds
        self.leases = Leases(store, list(self._accounts), settings.lease_seconds)
        self._nonces = Nonces(store, chain, self._accounts, settings, self.leases)

    @property
    def address(self) -> str:
        """The account that sends and pays for new transactions, or that may do so one day."""
        return [*self.leases.held, *self._accounts][0]

    @property
    def addresses(self) -> list[str]:
        """The accounts of all keys: so many processes can send at once, and the others wait."""
        return list(self._accounts)

    def accepted(self, submission_id: str) -> None:
        """There is work, which somebody waits for in this process."""
        self._own.add(submission_id)
        self.wake()

    def run(self) -> None:
        """The loop; at its end the keys are for whoever wants them."""
        super().run()
        try:
            self.leases.release()
        except SQLAlchemyError as error:
            log.warning("the keys are still leased", reason=type(error).__name__)

    def run_once(self) -> float:
        """A round, as long as it has a key; how long to pause then."""
        try:
            return self.tick()
        except LeaseLost as error:
            log.warning("another process has the key now", relayer=str(error))
            return _RETRY_SECONDS

    def tick(self) -> float:
        """One look at the table and at the chain; how long to pause then."""
        held = self.leases.renew()
        head = self._node.call("eth_getBlockByNumber", "latest", False)
        if head is None:
            raise NodeUnavailable("no head")
        if held:
            self._claim(held[0], head)
        rows = self._store.in_flight(held)
        self._nonces.watch(rows, head)
        rows = self._nonces.replace(rows, head)
        in_flight, clock = self._nonces.in_flight, time.monotonic()
        due = [row for row in rows if in_flight[row.transaction_hash].send_after <= clock]
        sent = self._send(due)
        # What the node refused may be in a block already: each attempt to send is followed by a look.
        if due or head["hash"] != self._looked_at:
            deep = final_block(self._node, self._settings, head)
            settled = self._settle(rows, sent, head, deep)
            gone = self._confirm(deep)
            self._looked_at = head["hash"]
            if settled or gone:
                return 0  # Somebody may have waited for one of these.
        # Several are worth a pause: they share the next round.
        most = self._settings.poll_seconds
        sooner = _FIRST_SECONDS if due else 2 * self._patience
        self._patience = min(sooner, most) if len(rows) == 1 else most
        return self._patience if rows else _IDLE_SECONDS

    # --- accepted -> signed, rejected, expired, mined ---

    def _claim(self, signer: str, head: Head) -> None:
        own, others = set(self._own), len(self._accounts) > 1
        left = round(_LEFT_SECONDS * 1_000_000) if others else 0
        waiting = self._store.accepted(_MOST_AT_ONCE, self._kinds, own, left)
        if len(waiting) < _MOST_AT_ONCE:
            self._own -= own - {row.id for row in waiting}
        if not waiting:
            return
        chain_time = int(head["timestamp"], 16)
        late = {row.id for row in waiting if submissions.is_late(row, chain_time)}
        reverted: list[Revert] = [(row, submissions.LATE) for row in waiting if row.id in late]
        ready, outcomes = self._select([row for row in waiting if row.id not in late])
        mined, pending, *estimates = self._node.call_many(
            [
                ("eth_getTransactionCount", [signer, "latest"]),
                ("eth_getTransactionCount", [signer, "pending"]),
                *(("eth_estimateGas", [self._chain.transaction(signer, each.data)]) for each in ready),
            ]
        )
        if isinstance(mined, RpcError) or isinstance(pending, RpcError):
            raise NodeUnavailable("no nonce")
        passed: list[tuple[Prepared, int]] = []
        for each, estimate in zip(ready, estimates, strict=True):
            if not isinstance(estimate, RpcError):
                # A calendar word that is emptied meanwhile costs more to write than the estimate says.
                passed.append((each, int(estimate, 16) * 5 // 4 + 25_000))
            elif estimate.is_revert:
                reverted.append((each.row, decode_revert(estimate.data or b"", self._chain.currency)))
            else:
                log.warning("preflight failed", submission_id=each.row.id, reason=estimate.message)
        outcomes |= self._handlers.explain(reverted)
        self._end([(row, None, outcomes[row.id]) for row in waiting if row.id in outcomes])
        if passed:
            self._sign(signer, passed, int(mined, 16), int(pending, 16), head)

    def _select(self, waiting: Sequence[Row[Any]]) -> tuple[list[Prepared], dict[str, Outcome]]:
        """What can be sent now, and what never can. Of the others each waits for one that is under way."""
        prepared = self._handlers.prepare(waiting)
        with self._store.read() as db:
            held = locks.held_locks(db)
        ready: list[Prepared] = []
        refusals: dict[str, Outcome] = {}
        for row in waiting:
            match prepared.get(row.id):
                case Prepared() as each if not locks.conflicts(each.locks, held):
                    locks.acquire(each.locks, held)
                    ready.append(each)
                case Rejection() as refusal:
                    refusals[row.id] = refusal
        return ready, refusals

    def _sign(
        self, signer: str, passed: Sequence[tuple[Prepared, int]], mined: int, pending: int, head: Head
    ) -> None:
        """One database transaction claims the sends, allocates their nonces and stores the signed bytes."""
        base_fee, moment = int(head["baseFeePerGas"], 16), int(head["timestamp"], 16) * 1_000_000
        signed: list[Signed] = []
        with self._store.write() as db:
            self.leases.fence(db, signer)
            ids = [each.row.id for each, _ in passed]
            claim = select(transactions.c.id).where(
                transactions.c.id.in_(ids), transactions.c.state == State.ACCEPTED
            )
            claimed = set(db.scalars(claim.with_for_update(skip_locked=True)))
            held = locks.held_locks(db)  # Another process may have signed something since the preflight.
            budget = Budget.of(db, self._settings, moment)
            nonce = self._nonces.next(db, signer, mined, pending)
            for each, gas in passed:
                if each.row.id not in claimed or locks.conflicts(each.locks, held):
                    continue
                offer = fees.first(self._settings, base_fee, gas)
                if offer is None or not budget.reserve(fees.cost(gas, offer.max_fee)):
                    log.warning("gas costs more than the caps allow", submission_id=each.row.id)
                    continue
                locks.acquire(each.locks, held)
                terms = each.row.id, signer, nonce, each.data, gas, offer, moment
                signed.append(self._nonces.signed(*terms, publishes=each.publishes, locks=each.locks))
                self._on_move(db, each.row, State.SIGNED)
                nonce += 1
            self._nonces.save(db, signed)

    # --- signed -> submitted ---

    def _send(self, due: Sequence[Row[Any]]) -> set[str]:
        """Sends the bytes of what was not sent lately; the ids of what the node has now."""
        answers = self._node.call_many([("eth_sendRawTransaction", [to_hex(row.raw)]) for row in due])
        sent: set[str] = set()
        for row, answer in zip(due, answers, strict=True):
            line = submissions.line(row).bind(nonce=row.nonce, transaction=row.transaction_hash)
            pause = self._settings.resend_seconds
            if not isinstance(answer, RpcError):
                line.info(submissions.sent(row))
                sent.add(row.id)
            elif any(known in answer.message.lower() for known in _ALREADY_KNOWN):
                sent.add(row.id)
            else:
                # "Nonce too low" among others: its receipt will tell, and until then it is sent again.
                line.warning("the node did not take the transaction", reason=answer.message)
                pause = _RETRY_SECONDS
            self._nonces.in_flight[row.transaction_hash].send_after = time.monotonic() + pause
        return sent

    # --- signed, submitted -> mined, accepted ---

    def _settle(self, rows: Sequence[Row[Any]], sent: Collection[str], head: Head, deep: int) -> bool:
        """Looks for the receipts of what is under way. Whether there is one."""
        if not rows:
            return False
        with self._store.read() as db:
            ids = [row.id for row in rows]
            tried = db.execute(_ATTEMPTS.where(attempts.c.transaction_id.in_(ids))).all()
        signers = sorted({row.signer for row in rows})
        # The counts first: a transaction that is counted has its receipt when it is asked for next.
        answers = self._node.call_many(
            [
                *(("eth_getTransactionCount", [signer, hex(deep)]) for signer in signers),
                *(("eth_getTransactionCount", [signer, "pending"]) for signer in signers),
                *(("eth_getTransactionReceipt", [attempt.hash]) for attempt in tried),
            ]
        )
        final, pending = (
            {s: int(a, 16) for s, a in zip(signers, part, strict=True) if not isinstance(a, RpcError)}
            for part in (answers[: len(signers)], answers[len(signers) : 2 * len(signers)])
        )
        receipts: dict[str, tuple[Receipt, bool]] = {}
        for attempt, receipt in zip(tried, answers[2 * len(signers) :], strict=True):
            if isinstance(receipt, RpcError):
                raise NodeUnavailable("no receipts")
            if receipt and (attempt.transaction_id not in receipts or receipt["status"] == "0x1"):
                receipts[attempt.transaction_id] = receipt, attempt.is_noop
        self._store_outcomes(receipts)
        waiting = [row for row in rows if row.id not in receipts]
        known = [row for row in waiting if row.state == State.SIGNED and row.id in sent]
        if known:
            with self._store.write() as db:
                for row in known:
                    self._move(db, row, State.SUBMITTED)
        for row in self._nonces.lost(waiting, final):
            submissions.line(row).warning("another transaction took the nonce", nonce=row.nonce)
            with self._store.write() as db:
                self.leases.fence(db, row.signer)
                self._move(db, row, State.ACCEPTED, _UNSIGNED)
        self._nonces.fill(waiting, pending, head)
        return bool(receipts)

    def _store_outcomes(self, receipts: Mapping[str, tuple[Receipt, bool]]) -> None:
        """What the receipts mean: done, refused by the contract, or the nonce is spent and nothing else."""
        rows = self._store.submissions(receipts)
        done = {id_ for id_, (receipt, _) in receipts.items() if receipt["status"] == "0x1"}
        reverts = self._handlers.replay([(row, receipts[row.id][0]) for row in rows if row.id not in done])
        reverts += [(row, submissions.LATE) for row in rows if row.id in done and receipts[row.id][1]]
        outcomes: dict[str, Outcome] = {id_: receipts[id_][0] for id_ in done if not receipts[id_][1]}
        outcomes |= self._handlers.explain(reverts)
        self._end([(row, receipts[row.id][0], outcomes[row.id]) for row in rows if row.id in outcomes])

    def _end(self, ends: Sequence[Settlement]) -> None:
        """Stores what became of sends, in their transaction's block or before there was one."""
        if not ends:
            return
        with self._store.write() as db:
            for row, own, outcome in ends:
                refusal = outcome if isinstance(outcome, Rejection) else None
                receipt = own if isinstance(outcome, Rejection) else outcome
                state = State.EXPIRED if refusal and refusal.code is Code.EXPIRED else State.REJECTED
                values: dict[str, Any] = {"code": None, "detail": None}
                if refusal:
                    values = {"code": refusal.code, "detail": refusal.detail}
                if receipt is not None:
                    state, gas_used = State.MINED, int(receipt["gasUsed"], 16)
                    values |= {
                        "transaction_hash": receipt["transactionHash"],
                        "block_number": int(receipt["blockNumber"], 16),
                        "block_hash": receipt["blockHash"],
                        "gas_used": gas_used,
                        "fee": fees.cost(gas_used, int(receipt["effectiveGasPrice"], 16)),
                        "succeeded": refusal is None,
                    }
                self._move(db, row, state, values, self._handlers.of(row).booked(row, receipt, refusal))
        ended = [row.id for row, _, _ in ends]
        for row in self._store.submissions(ended):
            self._handlers.of(row).log_end(row)
        self._settled(ended)

    # --- mined -> final, failed, expired, submitted, accepted ---

    def _confirm(self, deep: int) -> bool:
        """Compares the blocks with the chain's. Those up to `deep` are final. Whether one is gone."""
        mined = transactions.c.state == State.MINED
        with self._store.read() as db:
            query = select(transactions.c.block_number, transactions.c.block_hash).where(mined)
            blocks = db.execute(query.distinct()).all()
        answers = self._node.call_many([("eth_getBlockByNumber", [hex(block[0]), False]) for block in blocks])
        if any(isinstance(answer, RpcError) for answer in answers):
            raise NodeUnavailable("no blocks")
        pairs = list(zip(blocks, answers, strict=True))
        gone = {block[1] for block, answer in pairs if not answer or answer["hash"] != block[1]}
        final = {block[1] for block in blocks if block[0] <= deep} - gone
        if not gone and not final:
            return False
        with self._store.write() as db:
            for row in db.execute(
                select(transactions).where(mined, transactions.c.block_hash.in_(final))
            ).all():
                late = State.EXPIRED if row.code == Code.EXPIRED else State.FAILED
                self._move(db, row, State.FINAL if row.succeeded else late)
            for row in db.execute(
                select(transactions).where(mined, transactions.c.block_hash.in_(gone))
            ).all():
                submissions.line(row).warning("the block is gone")
                own = [each.hash for each in db.execute(_ATTEMPTS.where(attempts.c.transaction_id == row.id))]
                back = dict.fromkeys(_IN_A_BLOCK)
                if row.nonce is None:  # It was somebody else's transaction.
                    self._move(db, row, State.ACCEPTED, back | _UNSIGNED, _NOT_BOOKED)
                else:
                    sent = row.transaction_hash if row.transaction_hash in own else own[-1]
                    self._move(db, row, State.SUBMITTED, back | {"transaction_hash": sent}, _NOT_BOOKED)
        return bool(gone)

    # --- for all of them ---

    def _move(
        self,
        db: Connection,
        row: Row[Any],
        state: State,
        values: Mapping[str, Any] | None = None,
        batch: Mapping[str, Any] | None = None,
    ) -> None:
        """Changes the state, with these columns, if the present one allows it."""
        may = transactions.c.state.in_([before for before, after in TRANSITIONS.items() if state in after])
        this = update(transactions).where(transactions.c.id == row.id, may)
        moved = db.execute(this.values(state=state, updated_at=now(), **(values or {}))).rowcount
        if moved and batch:
            db.execute(update(batches).where(batches.c.id == row.id).values(batch))
        if moved:
            self._on_move(db, row, state)
