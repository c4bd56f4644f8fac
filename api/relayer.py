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
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import structlog
from eth_account.signers.local import LocalAccount
from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from api import fees, kinds
from api.chain import Chain
from api.kinds import TAG, Acts, Creations, Ready, Receipt, Refusal
from api.leases import LeaseLost, Leases
from api.node import NodeUnavailable, RpcError
from api.nonces import MOST_SPENT, Nonces
from api.settings import Settings
from api.store import UNDER_WAY, Kind, State, Store, batches, now, sends, transactions
from creneau.errors import ContractError, decode_revert
from creneau.fields import to_hex

log = structlog.get_logger()

TRANSITIONS: dict[State, frozenset[State]] = {
    State.ACCEPTED: frozenset({State.SIGNED, State.REJECTED, State.EXPIRED, State.MINED}),
    State.SIGNED: frozenset({State.SUBMITTED, State.MINED, State.ACCEPTED}),
    State.SUBMITTED: frozenset({State.MINED, State.ACCEPTED}),
    State.MINED: frozenset({State.FINAL, State.FAILED, State.EXPIRED, State.SUBMITTED, State.ACCEPTED}),
}

_MOST_AT_ONCE = 100
_IDLE_SECONDS = 0.5  # How soon a send is seen that another process accepted.
_RETRY_SECONDS = 1.0
_ALREADY_KNOWN = ("already known", "already imported", "alreadyknown", "already_exists", "known transaction")
_IN_A_BLOCK = ("block_number", "block_hash", "gas_used", "fee", "succeeded", "code", "detail")
_UNSIGNED = dict.fromkeys(("signer", "nonce", "transaction_hash", "signed_at", "cost"))


def may_become(state: State) -> Any:
    """The condition that a send's present state allows that one."""
    return sends.c.state.in_([before for before, after in TRANSITIONS.items() if state in after])


class Relayer(threading.Thread):
    """Takes accepted sends to the chain, and says when one is settled."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        accounts: Sequence[LocalAccount],
        settings: Settings,
        settled: Callable[[Collection[str]], None],
    ) -> None:
        super().__init__(name="relayer", daemon=True)
        self._store = store
        self._chain = chain
        self._node = chain.node
        self._accounts = {str(account.address): account for account in accounts}
        self._settings = settings
        self._settled = settled
        acts = Acts()
        self._kinds: dict[str, Acts] = {**dict.fromkeys(Kind, acts), Kind.CREATE: Creations(chain)}
        self._wake = threading.Event()
        self._stopping = False
        self._head: dict[str, Any] | None = None
        self._moved = False  # A block was reorganised away.
        self._send_after: dict[str, float] = {}  # By transaction.
        self.leases = Leases(store, list(self._accounts), settings.lease_seconds)
        self._nonces = Nonces(store, chain, self._accounts, settings, self.leases)

    @property
    def address(self) -> str:
        """The account that sends and pays for new transactions, or that may do so one day."""
        return [*self.leases.held, *self._accounts][0]

    @property
    def keys(self) -> int:
        """How many processes can send at once."""
        return len(self._accounts)

    def wake(self) -> None:
        """There is work."""
        self._wake.set()

    def stop(self) -> None:
        """Ends the loop after its present round, and gives the keys to whoever wants them."""
        self._stopping = True
        self._wake.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """The loop."""
        while not self._stopping:
            pause = _RETRY_SECONDS
            try:
                pause = self._round()
            except NodeUnavailable as error:
                log.warning("the node does not answer", reason=str(error))
            except RpcError as error:
                log.warning("the node refuses to answer", reason=error.message)
            except LeaseLost as error:
                log.warning("another process has the key now", relayer=str(error))
            except SQLAlchemyError as error:
                log.warning("the database does not answer", reason=type(error).__name__)
            except Exception:
                log.exception("the relayer's round failed")
            self._wake.wait(pause)
            self._wake.clear()
        try:
            self.leases.release()
        except SQLAlchemyError as error:
            log.warning("the keys are still leased", reason=type(error).__name__)

    def _round(self) -> float:
        held = self.leases.renew()
        if held:
            self._claim(held[0])
        under_way = self._store.under_way(held)
        if self._head is not None:
            under_way = self._nonces.replace(under_way, self._head)
        clock = time.monotonic()
        due = any(self._send_after.get(row.transaction_hash, 0) <= clock for row in under_way)
        sent = self._send(under_way)
        head = self._node.call("eth_getBlockByNumber", "latest", False)
        if head is None:
            raise NodeUnavailable("no head")
        # What the node refused may be in a block already: each attempt to send is followed by a look.
        if due or self._moved or self._head is None or head["hash"] != self._head["hash"]:
            deep = self._final_block(head)
            settled = self._settle(under_way, sent, deep)
            self._moved = self._confirm(deep)
            self._head = head
            if settled or self._moved:
                return 0  # Somebody may have waited for one of these.
        return self._settings.poll_seconds if under_way else _IDLE_SECONDS

    # --- accepted -> signed, rejected, expired ---

    def _claim(self, signer: str) -> None:
        waiting = self._store.accepted(_MOST_AT_ONCE)
        if not waiting:
            return
        ready, refusals = self._select(waiting)
        block, mined, count, *estimates = self._node.batch(
            [
                ("eth_getBlockByNumber", ["latest", False]),
                ("eth_getTransactionCount", [signer, "latest"]),
                ("eth_getTransactionCount", [signer, "pending"]),
                *(("eth_estimateGas", [self._call(signer, each.data)]) for each in ready),
            ]
        )
        if not isinstance(block, dict) or isinstance(mined, RpcError) or isinstance(count, RpcError):
            raise NodeUnavailable("no head")
        passed: list[tuple[Ready, int]] = []
        reverted: list[tuple[Row[Any], ContractError | None]] = []
        for each, estimate in zip(ready, estimates, strict=True):
            if not isinstance(estimate, RpcError):
                # A calendar word that is emptied meanwhile costs more to write than the estimate says.
                passed.append((each, int(estimate, 16) * 5 // 4 + 25_000))
            elif estimate.is_revert:
                reverted.append((each.row, decode_revert(estimate.data or b"")))
            else:
                log.warning("preflight failed", send_id=each.row.id, reason=estimate.message)
        explained, elsewhere = self._explain(reverted)
        self._refuse(waiting, refusals | explained)
        self._store_mined([(row, receipt, None) for row, receipt in elsewhere])
        if passed:
            counts = int(mined, 16), int(count, 16)
            self._sign(signer, passed, counts, int(block["baseFeePerGas"], 16))

    def _select(self, waiting: Sequence[Row[Any]]) -> tuple[list[Ready], dict[str, Refusal]]:
        """What can be sent now, and what never can. Of the others each waits for one that is under way."""
        refusals = {
            row.id: kinds.EXPIRED for row in waiting if row.expires and row.expires * 1_000_000 < now()
        }
        prepared: dict[str, Ready | Refusal] = {}
        for kind, handler in self._kinds.items():
            rows = [row for row in waiting if row.kind == kind and row.id not in refusals]
            if rows:
                prepared |= handler.prepare(rows)
        with self._store.read() as db:
            held = _held(db)
        ready: list[Ready] = []
        for row in waiting:
            match prepared.get(row.id):
                case Ready() as each if kinds.is_free(each.wants, held):
                    kinds.hold(each.wants, held)
                    ready.append(each)
                case Refusal() as refusal:
                    refusals[row.id] = refusal
        return ready, refusals

    def _refuse(self, rows: Sequence[Row[Any]], refusals: Mapping[str, Refusal]) -> None:
        if not refusals:
            return
        with self._store.write() as db:
            for row in rows:
                if refusal := refusals.get(row.id):
                    state = State.EXPIRED if refusal.code == "expired" else State.REJECTED
                    reason = {"code": refusal.code, "detail": refusal.detail}
                    self._move(db, row, state, reason, self._kinds[row.kind].booked(row, None, refusal))
        self._tell(refusals)

    def _sign(
        self, signer: str, passed: Sequence[tuple[Ready, int]], counts: tuple[int, int], base_fee: int
    ) -> None:
        """One database transaction claims the sends, allocates their nonces and stores the signed bytes."""
        settings = self._settings
        with self._store.write() as db:
            self.leases.fence(db, signer)
            ids = [each.row.id for each, _ in passed]
            claim = select(sends.c.id).where(sends.c.id.in_(ids), sends.c.state == State.ACCEPTED)
            claimed = set(db.scalars(claim.with_for_update(skip_locked=True)))
            held = _held(db)  # Another process may have signed something since the preflight.
            left = fees.left_today(db, settings)
            highest = db.scalar(select(func.max(sends.c.nonce)).where(_signed_by(settings, signer)))
            follows = max(counts[0], 0 if highest is None else highest + 1)
            nonce = max(counts[1], follows)
            if nonce > follows + MOST_SPENT:
                raise NodeUnavailable("a nonce too far ahead")
            for each, gas in passed:
                if each.row.id not in claimed or not kinds.is_free(each.wants, held):
                    continue
                offer = fees.first(settings, base_fee, gas)
                if offer is None or fees.cost(gas, offer.max_fee) > left:
                    log.warning("gas costs more than the caps allow", send_id=each.row.id)
                    continue
                left -= fees.cost(gas, offer.max_fee)
                kinds.hold(each.wants, held)
                terms = {"publishes": each.publishes, "wants": each.wants}
                self._move(db, each.row, State.SIGNED, {"signer": signer, "nonce": nonce, **terms})
                self._nonces.sign(db, each.row.id, signer, nonce, each.data, gas, offer)
                nonce += 1

    # --- signed -> submitted ---

    def _send(self, rows: Sequence[Row[Any]]) -> set[str]:
        """Sends the bytes of what was not sent lately; the ids of what the node has now."""
        clock = time.monotonic()
        due = [row for row in rows if self._send_after.get(row.transaction_hash, 0) <= clock]
        answers = self._node.batch([("eth_sendRawTransaction", [to_hex(row.raw)]) for row in due])
        sent: set[str] = set()
        for row, answer in zip(due, answers, strict=True):
            line = kinds.line(row).bind(nonce=row.nonce, transaction=row.transaction_hash)
            if not isinstance(answer, RpcError):
                line.info(f"{TAG} Transaction envoyée: {row.transaction_hash}")
            elif not any(known in answer.message.lower() for known in _ALREADY_KNOWN):
                # "Nonce too low" among others: its receipt will tell, and until then it is sent again.
                line.warning("the node did not take the transaction", reason=answer.message)
                self._send_after[row.transaction_hash] = clock + _RETRY_SECONDS
                continue
            self._send_after[row.transaction_hash] = clock + self._settings.resend_seconds
            sent.add(row.id)
        return sent

    # --- signed, submitted -> mined ---

    def _settle(self, rows: Sequence[Row[Any]], sent: Collection[str], deep: int) -> bool:
        """Looks for the receipts of what is under way. Whether there is one."""
        if not rows:
            return False
        ids = [row.id for row in rows]
        with self._store.read() as db:
            attempts = db.execute(_ATTEMPTS.where(transactions.c.send_id.in_(ids))).all()
        signers = sorted({row.signer for row in rows})
        # The counts first: a transaction that is counted has its receipt when it is asked for next.
        answers = self._node.batch(
            [
                *(("eth_getTransactionCount", [signer, hex(deep)]) for signer in signers),
                *(("eth_getTransactionCount", [signer, "pending"]) for signer in signers),
                *(("eth_getTransactionReceipt", [attempt.hash]) for attempt in attempts),
            ]
        )
        final, pending = (
            {s: int(a, 16) for s, a in zip(signers, part, strict=True) if not isinstance(a, RpcError)}
            for part in (answers[: len(signers)], answers[len(signers) : 2 * len(signers)])
        )
        receipts: dict[str, tuple[Receipt, bool]] = {}
        for attempt, receipt in zip(attempts, answers[2 * len(signers) :], strict=True):
            if isinstance(receipt, RpcError):
                raise NodeUnavailable("no receipts")
            if receipt and (attempt.send_id not in receipts or receipt["status"] == "0x1"):
                receipts[attempt.send_id] = receipt, attempt.frees
        self._store_outcomes(receipts)
        waiting = [row for row in rows if row.id not in receipts]
        known = [row for row in waiting if row.state == State.SIGNED and row.id in sent]
        if known:
            with self._store.write() as db:
                these = update(sends).where(sends.c.id.in_([row.id for row in known]))
                db.execute(
                    these.where(may_become(State.SUBMITTED)).values(state=State.SUBMITTED, updated_at=now())
                )
        for row in self._nonces.lost(waiting, final):
            kinds.line(row).warning("another transaction took the nonce", nonce=row.nonce)
            with self._store.write() as db:
                self.leases.fence(db, row.signer)
                self._move(db, row, State.ACCEPTED, _UNSIGNED)
        self._nonces.fill(waiting, pending)
        return bool(receipts)

    def _store_outcomes(self, receipts: Mapping[str, tuple[Receipt, bool]]) -> None:
        """What the receipts mean: done, refused by the contract, or the nonce is spent and nothing else."""
        if not receipts:
            return
        done: list[tuple[Row[Any], Receipt, Refusal | None]] = []
        reverted: list[tuple[Row[Any], Receipt]] = []
        for row in self._store.sends(receipts):
            receipt, frees = receipts[row.id]
            if receipt["status"] != "0x1":
                reverted.append((row, receipt))
            else:
                done.append((row, receipt, kinds.EXPIRED if frees else None))
        refusals, elsewhere = self._explain(self._replay(reverted))
        done += [(row, receipt, refusals[row.id]) for row, receipt in reverted if row.id in refusals]
        done += [(row, receipt, None) for row, receipt in elsewhere]
        self._store_mined(done)

    def _store_mined(self, done: Sequence[tuple[Row[Any], Receipt, Refusal | None]]) -> None:
        if not done:
            return
        with self._store.write() as db:
            for row, receipt, refusal in done:
                gas_used = int(receipt["gasUsed"], 16)
                block = {
                    "transaction_hash": receipt["transactionHash"],
                    "block_number": int(receipt["blockNumber"], 16),
                    "block_hash": receipt["blockHash"],
                    "gas_used": gas_used,
                    "fee": fees.cost(gas_used, int(receipt["effectiveGasPrice"], 16)),
                    "succeeded": refusal is None,
                    "code": refusal and refusal.code,
                    "detail": refusal and refusal.detail,
                }
                booked = self._kinds[row.kind].booked(row, receipt, refusal)
                self._move(db, row, State.MINED, block, booked)
        self._tell([row.id for row, _, _ in done])

    def _replay(
        self, reverted: Sequence[tuple[Row[Any], Receipt]]
    ) -> list[tuple[Row[Any], ContractError | None]]:
        """Why each transaction reverted in its block; None if the node can't tell any more."""
        calls = [
            (
                "eth_call",
                [self._call(row.signer, kinds.call_of(row, publishes=row.publishes)), receipt["blockNumber"]],
            )
            for row, receipt in reverted
        ]
        return [
            (row, decode_revert(answer.data or b"") if isinstance(answer, RpcError) else None)
            for (row, _), answer in zip(reverted, self._node.batch(calls), strict=True)
        ]

    # --- mined -> final, failed, expired, and back ---

    def _final_block(self, head: dict[str, Any]) -> int:
        """The number of the newest block that is final."""
        if self._settings.finality == "finalized":
            [block] = self._node.batch([("eth_getBlockByNumber", ["finalized", False])])
            if isinstance(block, dict):
                return int(block["number"], 16)
        return max(int(head["number"], 16) - self._settings.confirmations, 0)

    def _confirm(self, deep: int) -> bool:
        """Compares the blocks with the chain's. Those up to `deep` are final. Whether one is gone."""
        with self._store.read() as db:
            query = select(sends.c.block_number, sends.c.block_hash).where(sends.c.state == State.MINED)
            blocks = db.execute(query.distinct()).all()
        if not blocks:
            return False
        answers = self._node.batch([("eth_getBlockByNumber", [hex(block[0]), False]) for block in blocks])
        if any(isinstance(answer, RpcError) for answer in answers):
            raise NodeUnavailable("no blocks")
        kept = {
            block
            for block, answer in zip(blocks, answers, strict=True)
            if answer and answer["hash"] == block[1]
        }
        deep_ones = {block.block_hash for block in kept if block.block_number <= deep}
        gone = {block.block_hash for block in blocks if block not in kept}
        if not deep_ones and not gone:
            return False
        mined = sends.c.state == State.MINED
        with self._store.write() as db:
            for row in db.execute(select(sends).where(mined, sends.c.block_hash.in_(deep_ones))).all():
                late = State.EXPIRED if row.code == "expired" else State.FAILED
                self._move(db, row, State.FINAL if row.succeeded else late)
            for row in db.execute(select(sends).where(mined, sends.c.block_hash.in_(gone))).all():
                kinds.line(row).warning("the block is gone")
                own = db.scalars(_ATTEMPTS.with_only_columns(transactions.c.hash).where(_of_send(row))).all()
                back = dict.fromkeys(_IN_A_BLOCK)
                if row.nonce is not None:
                    sent = row.transaction_hash if row.transaction_hash in own else own[-1]
                    self._send_after.pop(sent, None)
                    self._move(db, row, State.SUBMITTED, back | {"transaction_hash": sent}, _NOT_BOOKED)
                else:
                    self._move(db, row, State.ACCEPTED, back | _UNSIGNED, _NOT_BOOKED)
        return bool(gone)

    # --- for all of them ---

    @staticmethod
    def _move(
        db: Connection,
        row: Row[Any],
        state: State,
        values: Mapping[str, Any] = MappingProxyType({}),
        batch: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Changes the state, with these columns, if the present one allows it."""
        this = update(sends).where(sends.c.id == row.id, may_become(state))
        moved = db.execute(this.values(state=state, updated_at=now(), **values)).rowcount
        if moved and batch:
            db.execute(update(batches).where(batches.c.id == row.id).values(batch))

    def _explain(
        self, reverted: Iterable[tuple[Row[Any], ContractError | None]]
    ) -> tuple[dict[str, Refusal], list[tuple[Row[Any], Receipt]]]:
        """What to say of each error, and the receipts of those that somebody else sent before."""
        refusals: dict[str, Refusal] = {}
        elsewhere: list[tuple[Row[Any], Receipt]] = []
        by_kind: dict[str, list[tuple[Row[Any], ContractError | None]]] = {}
        for row, error in reverted:
            try:
                receipt = self._kinds[row.kind].elsewhere(row, error)
            except (NodeUnavailable, RpcError) as reason:
                kinds.line(row).warning(
                    "it was done, and by which transaction is not known", reason=str(reason)
                )
                continue
            if receipt:
                elsewhere.append((row, receipt))
            else:
                by_kind.setdefault(row.kind, []).append((row, error))
        for kind, pairs in by_kind.items():
            refusals |= self._kinds[kind].explain(pairs)
        return refusals, elsewhere

    def _call(self, signer: str, data: bytes) -> dict[str, str]:
        return {"from": signer, "to": self._chain.escrow, "data": to_hex(data)}

    def _tell(self, settled: Collection[str]) -> None:
        """Logs how these ended, and wakes who waits for them."""
        if not settled:
            return
        for row in self._store.sends(settled):
            self._send_after.pop(row.transaction_hash, None)
            self._kinds[row.kind].log_end(row)
        self._settled(settled)


_ATTEMPTS = select(transactions.c.send_id, transactions.c.hash, transactions.c.frees).order_by(
    transactions.c.created_at
)
_NOT_BOOKED = {"booked": None, "left_out": None}


def _of_send(row: Row[Any]) -> Any:
    return transactions.c.send_id == row.id


def _signed_by(settings: Settings, signer: str) -> Any:
    return (sends.c.chain_id == settings.chain_id) & (sends.c.signer == signer)


def _held(db: Connection) -> dict[str, int]:
    """What the sends under way want."""
    held: dict[str, int] = {}
    for wants in db.scalars(select(sends.c.wants).where(sends.c.state.in_(UNDER_WAY))):
        kinds.hold(wants, held)
    return held
