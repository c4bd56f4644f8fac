"""What is signed with a nonce: the first transaction, its replacements, and those that only spend it.

How long a transaction waits is told by this process's own clock since it first saw it, and when it comes too
late by the chain's: what others wrote is compared with neither.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from eth_account.signers.local import LocalAccount
from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from api.chain.escrow import Chain
from api.chain.rpc import NodeUnavailable, RpcError
from api.db.store import Store
from api.db.tables import attempts, now, transactions
from api.outbox import fees
from api.outbox import handlers as submissions
from api.outbox.fees import Budget, FeeBid
from api.outbox.leases import Leases
from api.outbox.models import State, TransactionKind
from api.settings import Settings
from creneau.types import to_hex

log = structlog.get_logger()

MOST_SPENT = 64  # Nonces in a row that are spent because nobody uses them; further ahead a node errs.

_GAS_TO_SPEND = 50_000  # A transfer takes 21,000; on some chains its data cost more.

Head = Mapping[str, Any]


@dataclass
class InFlight:
    """What this process remembers of a transaction that waits for a block."""

    since: float  # By the monotonic clock,
    block: int  # with this head.
    send_after: float = 0.0
    bump_after: float = 0.0


class Signed(NamedTuple):
    """A signed transaction: its row, and what it changes of its send's."""

    transaction: dict[str, Any]
    send: dict[str, Any]


class Nonces:
    """Signs with this process's keys, and stores what it signs as the newest transaction of a send."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        accounts: Mapping[str, LocalAccount],
        settings: Settings,
        leases: Leases,
    ) -> None:
        self._store = store
        self._chain = chain
        self._accounts = accounts
        self._settings = settings
        self._leases = leases
        self._gone: set[str] = set()
        self.in_flight: dict[str, InFlight] = {}  # By transaction.

    def watch(self, rows: Sequence[Row[Any]], head: Head) -> None:
        """Remembers these, and forgets all others."""
        block, clock = int(head["number"], 16), time.monotonic()
        hashes = [row.transaction_hash for row in rows]
        self.in_flight = {each: self.in_flight.get(each) or InFlight(clock, block) for each in hashes}

    def next(self, db: Connection, signer: str, mined: int, pending: int) -> int:
        """The nonce after the chain's and the table's highest. `NodeUnavailable` if the node's is too far."""
        mine = (transactions.c.chain_id == self._settings.chain_id) & (transactions.c.signer == signer)
        highest = db.scalar(select(func.max(transactions.c.nonce)).where(mine))
        follows = max(mined, 0 if highest is None else highest + 1)
        if pending > follows + MOST_SPENT:
            raise NodeUnavailable("a nonce too far ahead")
        return max(pending, follows)

    def signed(
        self,
        submission_id: str,
        signer: str,
        nonce: int,
        data: bytes | None,
        gas: int,
        offer: FeeBid,
        moment: int,
        cost: int = 0,
        **first: Any,
    ) -> Signed:
        """Signs a call to the escrow or, without data, what only spends the nonce, at that time of the chain.

        `cost` is what an older one may cost; what is signed for the `first` time has more columns.
        """
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self._settings.chain_id,
            "to": signer if data is None else self._chain.escrow,
            "value": 0,
            "data": data or b"",
            "nonce": nonce,
            "gas": gas,
            "maxFeePerGas": offer.max_fee,
            "maxPriorityFeePerGas": offer.priority_fee,
        }
        signed = self._accounts[signer].sign_transaction(fields)
        transaction = {
            "hash": to_hex(signed.hash),
            "transaction_id": submission_id,
            "signer": signer,
            "nonce": nonce,
            "raw": bytes(signed.raw_transaction),
            "gas": gas,
            "is_noop": data is None,
            "created_at": now(),
            **offer._asdict(),
        }
        cost = max(cost, fees.cost(gas, offer.max_fee))  # Either may get into a block.
        newest = {"transaction_hash": transaction["hash"], "signed_at": moment, "cost": cost}
        if first:
            first |= {"state": State.SIGNED, "signer": signer, "nonce": nonce}
        return Signed(transaction, {"this": submission_id, "updated_at": now(), **newest, **first})

    @staticmethod
    def save(db: Connection, signed: Sequence[Signed]) -> None:
        """Stores them, each as the newest transaction of its send."""
        if signed:
            db.execute(insert(attempts), [each.transaction for each in signed])
            db.execute(
                update(transactions).where(transactions.c.id == bindparam("this")),
                [each.send for each in signed],
            )

    def replace(self, rows: Sequence[Row[Any]], head: Head) -> Sequence[Row[Any]]:
        """Signs what waits too long, or offers too little, again with its nonce; the rows then."""
        base_fee, chain_time = int(head["baseFeePerGas"], 16), int(head["timestamp"], 16)
        clock, height = time.monotonic(), int(head["number"], 16)
        # The contract refuses from now on what is late.
        late = {row.id for row in rows if row.is_noop or submissions.is_late(row, chain_time)}
        due: list[Row[Any]] = []
        for row in rows:
            watch = self.in_flight[row.transaction_hash]
            waits = clock - watch.since >= self._settings.bump_seconds
            # More money helps if a node had it and a block went by without it, not if there are no blocks.
            passed_over = row.state == State.SUBMITTED and height > watch.block
            needed = base_fee > row.max_fee or (waits and (passed_over or row.id in late))
            if needed and clock >= watch.bump_after:
                watch.bump_after = clock + self._settings.resend_seconds
                due.append(row)
        if not due or not self._replaced(due, late, base_fee, chain_time * 1_000_000):
            return rows
        newer = self._store.in_flight(self._leases.held)
        self.watch(newer, head)
        return newer

    def _replaced(self, due: Sequence[Row[Any]], late: Collection[str], base_fee: int, moment: int) -> bool:
        [market] = self._chain.node.call_many([("eth_maxPriorityFeePerGas", [])])
        tip = 0 if isinstance(market, RpcError) else int(market, 16)
        full = {row.id: row for row in self._store.submissions([row.id for row in due])}
        signed: list[Signed] = []
        with self._store.write() as db:
            for signer in sorted({row.signer for row in due}):
                self._leases.fence(db, signer)
            budget = Budget.of(db, self._settings, moment)
            for row in due:
                spends, send = row.id in late, full[row.id]
                gas = _GAS_TO_SPEND if spends else row.gas
                offer = fees.bumped(self._settings, FeeBid(row.max_fee, row.priority_fee), base_fee, tip, gas)
                if offer is None or not budget.reserve(max(fees.cost(gas, offer.max_fee) - send.cost, 0)):
                    submissions.line(row).warning("a replacement would cost more than the caps allow")
                    continue
                data = None if spends else submissions.call_of(send, publishes=row.publishes)
                terms = row.id, row.signer, row.nonce, data, gas, offer, moment
                signed.append(self.signed(*terms, cost=send.cost))
                submissions.line(row).info("replaced", nonce=row.nonce, max_fee=offer.max_fee, is_noop=spends)
            self.save(db, signed)
        return bool(signed)

    def lost(self, rows: Sequence[Row[Any]], final: Mapping[str, int]) -> list[Row[Any]]:
        """Those of which another transaction has the nonce, in a final block."""
        gone = {row.id for row in rows if row.nonce < final.get(row.signer, 0)}
        sure, self._gone = gone & self._gone, gone  # Seen twice: a node may be behind itself.
        return [row for row in rows if row.id in sure]

    def fill(self, rows: Sequence[Row[Any]], pending: Mapping[str, int], head: Head) -> None:
        """Spends the nonces that nobody uses, and that others have waited for."""
        for signer, row in {row.signer: row for row in reversed(rows)}.items():
            waited = time.monotonic() - self.in_flight[row.transaction_hash].since
            first = pending.get(signer, row.nonce)
            if waited >= self._settings.bump_seconds and first < row.nonce <= first + MOST_SPENT:
                offer = FeeBid(row.max_fee, row.priority_fee)
                self._spend(signer, range(first, row.nonce), offer, int(head["timestamp"], 16) * 1_000_000)

    def _spend(self, signer: str, nonces: range, offer: FeeBid, moment: int) -> None:
        chain_id = self._settings.chain_id
        mine = (transactions.c.chain_id == chain_id) & (transactions.c.signer == signer)
        with self._store.write() as db:
            self._leases.fence(db, signer)
            known = db.scalars(select(transactions.c.nonce).where(mine, transactions.c.nonce >= nonces.start))
            budget = Budget.of(db, self._settings, moment)
            for nonce in sorted({*nonces} - {*known}):
                if not budget.reserve(fees.cost(_GAS_TO_SPEND, offer.max_fee)):
                    return
                log.warning("nobody uses a nonce that others wait for", relayer=signer, nonce=nonce)
                submission_id = f"{TransactionKind.NOOP}:{signer}:{nonce}"
                terms: dict[str, Any] = {"state": State.SIGNED, "signer": signer, "nonce": nonce}
                self._store.enqueue(
                    db, TransactionKind.NOOP, submission_id, b"", chain_id=chain_id, locks={}, **terms
                )
                self.save(db, [self.signed(submission_id, signer, nonce, None, _GAS_TO_SPEND, offer, moment)])
