"""The relayer: one thread and one loop over the table of batches, which it takes to the chain in this order.

    accepted ──> signed ──> submitted ──> mined ──> final
        │           │           ^           ^ │ └─> failed      it reverted, in a block that is final
        │           └───────────┼───────────┘ │
        ├──> rejected           └─────────────┘                 its block was reorganised away
        └──> expired

`accepted` to `signed` is one database transaction: it allocates the nonce, signs, and stores the bytes.
Only then are they sent. From there on the only act is to send the same bytes again, until a receipt says
what became of them. A batch never gets another nonce, and no status is inferred from memory: whoever starts
the loop finds the work in the table.

An order that wants a slot, or publishes a listing, that a transaction under way also wants, waits for that
one's block. So a race is decided by the preflight of the loser, which costs nobody anything, and of fifty
first bookings of one listing the first publishes it for all.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from eth_account.signers.local import LocalAccount
from sqlalchemy import Row, bindparam, case, func, insert, select, update

from api import slots
from api.answers import failures, frontend_id
from api.chain import Chain, order_of, unhex
from api.node import NodeUnavailable, RpcError
from api.settings import Settings
from api.slots import Failure
from api.store import State, Store, batches, now, transactions
from creneau import codec
from creneau.amounts import to_wei
from creneau.errors import (
    ContractError,
    ERC20InsufficientAllowance,
    ERC20InsufficientBalance,
    NothingFree,
    NotListed,
    OrderExpired,
    RateMismatch,
    SlotError,
    decode_revert,
)
from creneau.fields import to_bytes32, to_hex
from creneau.order import booking_id

log = structlog.get_logger()

TAG = "[CREATE_BATCH_BOOKING]"

_MOST_AT_ONCE = 100
_IDLE_SECONDS = 0.5  # How soon a batch is seen that another process accepted.
_RETRY_SECONDS = 1.0
_IS_UNDER_WAY = batches.c.state.in_([State.SIGNED, State.SUBMITTED])
_ALREADY_KNOWN = ("already known", "already imported", "alreadyknown", "already_exists", "known transaction")
_CODES: dict[type[ContractError], str] = {
    ERC20InsufficientBalance: "insufficient_balance",
    ERC20InsufficientAllowance: "insufficient_allowance",
    NotListed: "not_published",
    OrderExpired: "expired",
    RateMismatch: "rate_mismatch",
}

_BOOKINGS_CREATED = to_hex(codec.BOOKINGS_CREATED)
_BY_KEY = update(batches).where(batches.c.id == bindparam("key"))
_MINED = ("block_number", "block_hash", "gas_used", "booked", "left_out", "code", "detail")


@dataclass(frozen=True)
class _Attempt:
    """A batch that can be sent now, as this transaction."""

    row: Row[Any]
    data: bytes
    publishes: bool


@dataclass(frozen=True)
class _Refusal:
    """Why nothing of a batch is booked. Without a code, what is `left_out` says it."""

    code: str | None = None
    detail: str | None = None
    left_out: Sequence[Failure] = ()


class Relayer(threading.Thread):
    """Takes accepted batches to the chain, and says when one is settled."""

    def __init__(self, store: Store, chain: Chain, account: LocalAccount, settings: Settings) -> None:
        super().__init__(name="relayer", daemon=True)
        self.listeners: list[Callable[[Collection[str]], None]] = []
        """Are told, in this thread, which batches are settled."""
        self._store = store
        self._chain = chain
        self._node = chain.node
        self._account = account
        self._settings = settings
        self._wake = threading.Event()
        self._stopping = False
        self._head = -1
        self._send_after: dict[str, float] = {}

    @property
    def address(self) -> str:
        """The account that sends and pays for the transactions."""
        return str(self._account.address)

    def wake(self) -> None:
        """There is work."""
        self._wake.set()

    def stop(self) -> None:
        """Ends the loop after its present round."""
        self._stopping = True
        self._wake.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """The loop."""
        while not self._stopping:
            try:
                pause = self._round()
            except NodeUnavailable as error:
                log.warning("the node does not answer", reason=str(error))
                pause = _RETRY_SECONDS
            except Exception:
                log.exception("the relayer's round failed")
                pause = _RETRY_SECONDS
            self._wake.wait(pause)
            self._wake.clear()

    def _round(self) -> float:
        self._claim()
        under_way = self._store.find(_IS_UNDER_WAY)
        sent = self._send(under_way)
        head = int(self._node.call("eth_blockNumber"), 16)
        if sent or head != self._head:
            self._head = head
            self._confirm(head - self._settings.confirmations)
            if self._settle(under_way, sent):
                self._head = -1  # They may be final already.
                return 0  # And somebody may have waited for one of them.
        return self._settings.poll_seconds if under_way else _IDLE_SECONDS

    # --- accepted -> signed, rejected, expired ---

    def _claim(self) -> None:
        waiting = self._store.find(batches.c.state == State.ACCEPTED, limit=_MOST_AT_ONCE)
        if not waiting:
            return
        ready, refusals = self._select(waiting)
        block, count, *estimates = self._node.batch(
            [
                ("eth_getBlockByNumber", ["latest", False]),
                ("eth_getTransactionCount", [self.address, "pending"]),
                *(("eth_estimateGas", [self._call(attempt.data)]) for attempt in ready),
            ]
        )
        if isinstance(block, RpcError) or isinstance(count, RpcError):
            raise NodeUnavailable("no head")
        passed: list[tuple[_Attempt, int]] = []
        reverted: list[tuple[Row[Any], ContractError]] = []
        for attempt, estimate in zip(ready, estimates, strict=True):
            if not isinstance(estimate, RpcError):
                passed.append((attempt, int(estimate, 16)))
            elif estimate.is_revert:
                reverted.append((attempt.row, decode_revert(estimate.data or b"")))
            else:
                log.warning("preflight failed", batch_id=attempt.row.id, reason=estimate.message)
        refusals |= self._refusals(reverted)
        self._refuse(refusals)
        if passed:
            self._sign(passed, int(count, 16), int(block["baseFeePerGas"], 16))

    def _select(self, waiting: Sequence[Row[Any]]) -> tuple[list[_Attempt], dict[str, _Refusal]]:
        """What can be sent now, and what never can. Of the others each waits for one that is under way."""
        first = [row for row in waiting if row.publish is not None]
        answers = self._node.batch([self._chain.listing(row.tutor, to_bytes32(row.listing)) for row in first])
        listings = {row.id: listing for row, listing in zip(first, answers, strict=True)}
        held: set[object] = set()
        for row in self._store.find(_IS_UNDER_WAY):
            held |= _wanted(row, row.publishes)
        ready: list[_Attempt] = []
        refusals: dict[str, _Refusal] = {}
        for row in waiting:
            attempt = _Attempt(row, row.call, publishes=False)
            if row.deadline * 1_000_000 < now():
                refusals[row.id] = _Refusal("expired", "It could not be sent in time. Please book again.")
                continue
            if row.publish is not None:
                if isinstance(listings[row.id], RpcError):
                    continue
                listing = codec.decode_listing(unhex(listings[row.id]))
                if to_wei(listing.hourly_rate) != row.hourly_rate:
                    if listing.nonce != row.listing_nonce:
                        refusals[row.id] = _Refusal("rate_mismatch", "The tutor has just changed the rate.")
                        continue
                    attempt = _Attempt(row, codec.multicall_data([row.publish, row.call]), publishes=True)
            wanted = _wanted(row, attempt.publishes)
            if held.isdisjoint(wanted):
                held |= wanted
                ready.append(attempt)
        return ready, refusals

    def _refuse(self, refusals: Mapping[str, _Refusal]) -> None:
        if not refusals:
            return
        with self._store.write() as db:
            for batch_id, refusal in refusals.items():
                mine = (batches.c.id == batch_id) & (batches.c.state == State.ACCEPTED)
                state = State.EXPIRED if refusal.code == "expired" else State.REJECTED
                db.execute(update(batches).where(mine).values(state=state, updated_at=now(), **vars(refusal)))
        self._tell(refusals)

    def _sign(self, passed: Sequence[tuple[_Attempt, int]], count: int, base_fee: int) -> None:
        """One database transaction claims the batches, allocates their nonces and stores the signed bytes."""
        settings = self._settings
        terms: dict[str, Any] = {
            "type": 2,
            "chainId": settings.chain_id,
            "to": self._chain.escrow,
            "value": 0,
            "maxFeePerGas": min(2 * base_fee + settings.priority_fee_wei, settings.max_fee_wei),
            "maxPriorityFeePerGas": min(settings.priority_fee_wei, settings.max_fee_wei),
        }
        moment = now()
        signed: list[dict[str, Any]] = []
        stored: list[dict[str, Any]] = []
        with self._store.write() as db:
            ids = [attempt.row.id for attempt, _ in passed]
            claim = update(batches).where(batches.c.id.in_(ids), batches.c.state == State.ACCEPTED)
            claimed = set(db.scalars(claim.values(state=State.SIGNED).returning(batches.c.id)))
            # A nonce that was ever allocated is never free again, so the highest of all counts, not only of
            # those under way: `count` was asked for before this transaction began.
            highest = db.scalar(select(func.max(batches.c.nonce)).where(batches.c.signer == self.address))
            nonce = count if highest is None else max(count, highest + 1)
            for attempt, gas in passed:
                if attempt.row.id not in claimed:
                    continue  # Another process has it.
                # A calendar word that is emptied meanwhile costs more to write than the estimate says.
                fields = {"nonce": nonce, "gas": gas * 5 // 4 + 25_000, "data": attempt.data}
                transaction = self._account.sign_transaction(terms | fields)
                sent = {"signer": self.address, "nonce": nonce, "transaction_hash": to_hex(transaction.hash)}
                row = {"key": attempt.row.id, "publishes": attempt.publishes, "updated_at": moment}
                signed.append(row | sent)
                raw = {"hash": to_hex(transaction.hash), "raw": bytes(transaction.raw_transaction)}
                stored.append(raw | {"batch_id": attempt.row.id, "created_at": moment})
                nonce += 1
            if signed:
                db.execute(_BY_KEY, signed)
                db.execute(insert(transactions), stored)

    # --- signed -> submitted ---

    def _send(self, rows: Sequence[Row[Any]]) -> set[str]:
        """Sends the bytes of what was not sent lately; the ids of what the node has now."""
        clock = time.monotonic()
        due = [row for row in rows if self._send_after.get(row.id, 0) <= clock]
        if not due:
            return set()
        with self._store.read() as db:
            hashes = [row.transaction_hash for row in due]
            query = select(transactions.c.hash, transactions.c.raw).where(transactions.c.hash.in_(hashes))
            raw = {row.hash: row.raw for row in db.execute(query)}
        answers = self._node.batch(
            [("eth_sendRawTransaction", [to_hex(raw[row.transaction_hash])]) for row in due]
        )
        sent: set[str] = set()
        for row, answer in zip(due, answers, strict=True):
            line = _line(row).bind(nonce=row.nonce, transaction=row.transaction_hash)
            if not isinstance(answer, RpcError):
                line.info(f"{TAG} Transaction envoyée: {row.transaction_hash}")
            elif not any(known in answer.message.lower() for known in _ALREADY_KNOWN):
                # "Nonce too low" among others: its receipt will tell; until then it is sent again as it is.
                line.warning("the node did not take the transaction", reason=answer.message)
                self._send_after[row.id] = clock + _RETRY_SECONDS
                continue
            self._send_after[row.id] = clock + self._settings.resend_seconds
            sent.add(row.id)
        return sent

    # --- signed, submitted -> mined ---

    def _settle(self, rows: Sequence[Row[Any]], sent: Collection[str]) -> bool:
        """Looks for the receipts of what is under way. Whether there is one."""
        receipts = self._receipts(rows)
        mined = [(row, receipt) for row, receipt in zip(rows, receipts, strict=True) if receipt]
        refusals = self._refusals(self._replay([pair for pair in mined if pair[1]["status"] != "0x1"]))
        moment = now()
        changes = [_mined(row, receipt, refusals.get(row.id), moment) for row, receipt in mined]
        waiting = [
            row.id
            for row, receipt in zip(rows, receipts, strict=True)
            if receipt is None and row.state == State.SIGNED and row.id in sent
        ]
        if changes or waiting:
            with self._store.write() as db:
                if changes:
                    db.execute(_BY_KEY, changes)
                submitted = update(batches).where(batches.c.id.in_(waiting))
                db.execute(submitted.values(state=State.SUBMITTED, updated_at=moment))
        for row, _ in mined:
            self._send_after.pop(row.id, None)
        self._tell([row.id for row, _ in mined])
        return bool(mined)

    def _replay(
        self, reverted: Sequence[tuple[Row[Any], dict[str, Any]]]
    ) -> list[tuple[Row[Any], ContractError | None]]:
        """Why each transaction reverted in its block; None if the node can't tell any more."""
        calls = []
        for row, receipt in reverted:
            data = codec.multicall_data([row.publish, row.call]) if row.publishes else row.call
            calls.append(("eth_call", [self._call(data), receipt["blockNumber"]]))
        return [
            (row, decode_revert(answer.data or b"") if isinstance(answer, RpcError) else None)
            for (row, _), answer in zip(reverted, self._node.batch(calls), strict=True)
        ]

    # --- mined -> final, failed, and back to submitted ---

    def _confirm(self, deep: int) -> None:
        """Blocks up to the number `deep` are final. What is no longer in its block is under way again."""
        rows = self._store.find(batches.c.state == State.MINED, batches.c.block_number <= deep)
        if not rows:
            return
        final: list[str] = []
        gone: list[str] = []
        for row, receipt in zip(rows, self._receipts(rows), strict=True):
            (final if receipt and receipt["blockHash"] == row.block_hash else gone).append(row.id)
        state = case((batches.c.booked > 0, State.FINAL), else_=State.FAILED)
        undone = dict.fromkeys(_MINED) | {"state": State.SUBMITTED}
        with self._store.write() as db:
            db.execute(update(batches).where(batches.c.id.in_(final)).values(state=state, updated_at=now()))
            db.execute(update(batches).where(batches.c.id.in_(gone)).values(**undone, updated_at=now()))
        for batch_id in gone:
            log.warning("the block is gone; the transaction is sent again", batch_id=batch_id)

    # --- for all of them ---

    def _call(self, data: bytes) -> dict[str, str]:
        return {"from": self.address, "to": self._chain.escrow, "data": to_hex(data)}

    def _receipts(self, rows: Sequence[Row[Any]]) -> list[dict[str, Any] | None]:
        answers = self._node.batch([("eth_getTransactionReceipt", [row.transaction_hash]) for row in rows])
        if any(isinstance(answer, RpcError) for answer in answers):
            raise NodeUnavailable("no receipts")
        return answers

    def _refusals(self, reverted: Sequence[tuple[Row[Any], ContractError | None]]) -> dict[str, _Refusal]:
        """What to say of each error. When slots are at fault the contract names all of them."""
        checks = self._node.batch([self._chain.check(order_of(row)) for row, _ in reverted])
        refusals: dict[str, _Refusal] = {}
        for (row, error), check in zip(reverted, checks, strict=True):
            codes = [] if isinstance(check, RpcError) else codec.decode_check(unhex(check))[0]
            left_out = [
                slots.failure(lesson, slots.CODES[code])
                for lesson, code in zip(row.lessons, codes, strict=False)
                if code in slots.CODES
            ]
            if isinstance(error, SlotError | NothingFree) or (error is None and left_out):
                # Not taken any more, if it names none: it was when the contract said so.
                everything = [slots.failure(lesson, "taken") for lesson in row.lessons]
                refusals[row.id] = _Refusal(left_out=left_out or everything)
            elif error is None:
                refusals[row.id] = _Refusal("reverted", "The contract refused the transaction.")
            else:
                refusals[row.id] = _Refusal(_CODES.get(type(error), "refused"), str(error))
        return refusals

    def _tell(self, settled: Collection[str]) -> None:
        """Logs how these batches ended, and wakes who waits for them."""
        if not settled:
            return
        for row in self._store.find(batches.c.id.in_(settled)):
            _log_end(row)
        for listener in self.listeners:
            listener(settled)


def _wanted(row: Row[Any], publishes: bool) -> set[object]:
    """What no two transactions under way may both want: a tutor's time, or to publish a listing."""
    wanted: set[object] = {
        (row.tutor, quarter)
        for start, minutes in slots.order_slots(row.lessons)
        for quarter in range(start // 900, start // 900 + minutes // 15)
    }
    if publishes:
        wanted.add((row.tutor, row.listing))
    return wanted


def _mined(row: Row[Any], receipt: dict[str, Any], refusal: _Refusal | None, moment: int) -> dict[str, Any]:
    """The columns of a batch whose transaction is in a block, refused by the contract or not."""
    block = {
        "key": row.id,
        "state": State.MINED,
        "updated_at": moment,
        "block_number": int(receipt["blockNumber"], 16),
        "block_hash": receipt["blockHash"],
        "gas_used": int(receipt["gasUsed"], 16),
    }
    if refusal is not None:
        return block | {"booked": 0} | vars(refusal)
    # The data begin with where the order is, then `booked`. The order is known, and reading it takes long.
    [booked] = [
        int(entry["data"][66:130], 16) for entry in receipt["logs"] if entry["topics"][0] == _BOOKINGS_CREATED
    ]
    left_out = [
        slots.failure(lesson, "taken") for place, lesson in enumerate(row.lessons) if not booked >> place & 1
    ]
    return block | {"booked": booked} | vars(_Refusal(left_out=left_out))


def _line(row: Row[Any]) -> Any:
    return log.bind(batch_id=row.id, request_id=row.request_id)


def _log_end(row: Row[Any]) -> None:
    line = _line(row)
    failed = failures(row)
    count = len(row.lessons) + len(row.failures)
    booked = row.booked or 0
    if not booked:
        line.warning(f"{TAG} ❌ Aucune réservation créée: {row.code or failed[0]['code']}")
        return
    for place, lesson in enumerate(row.lessons):
        if booked >> place & 1:
            number = lesson["index"]
            line.info(f"{TAG} Création réservation {number}/{count}")
            on_chain = booking_id(to_bytes32(row.id), place)
            line.info(f"{TAG} ✅ Réservation {number} créée: {frontend_id(on_chain)}")
    for failure in failed:
        line.warning(f"{TAG} ❌ Réservation {failure['index']} refusée: {failure['code']}")
    if failed:
        line.warning(f"{TAG} ⚠️ {count - len(failed)} réservations créées sur {count}")
    else:
        line.info(f"{TAG} ✅ Toutes les {count} réservations ont été créées avec succès!")
