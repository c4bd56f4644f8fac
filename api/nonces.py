"""What is signed with a nonce: the first transaction, its replacements, and those that only spend it."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import structlog
from eth_account.signers.local import LocalAccount
from sqlalchemy import Connection, Row, insert, select, update

from api import fees, kinds
from api.chain import Chain
from api.fees import Offer
from api.leases import Leases
from api.node import RpcError
from api.settings import Settings
from api.store import Kind, State, Store, now, sends, transactions
from creneau.fields import to_hex

log = structlog.get_logger()

MOST_SPENT = 64  # Nonces in a row that are spent because nobody uses them; further ahead a node errs.

_GAS_TO_SPEND = 50_000  # A transfer takes 21,000; on some chains its data cost more.


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
        self._bump_after: dict[str, float] = {}
        self._gone: set[str] = set()

    def sign(
        self,
        db: Connection,
        send_id: str,
        signer: str,
        nonce: int,
        data: bytes | None,
        gas: int,
        offer: Offer,
        cost: int = 0,
    ) -> None:
        """Signs and stores. Without data it only spends the nonce; `cost` is what an older one may cost."""
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
        stored = {
            "hash": to_hex(signed.hash),
            "send_id": send_id,
            "signer": signer,
            "nonce": nonce,
            "raw": bytes(signed.raw_transaction),
            "gas": gas,
            "frees": data is None,
            "created_at": now(),
        }
        db.execute(insert(transactions), stored | offer._asdict())
        newest = {"transaction_hash": stored["hash"], "signed_at": now()}
        cost = max(cost, fees.cost(gas, offer.max_fee))
        db.execute(update(sends).where(sends.c.id == send_id).values(cost=cost, **newest))

    def replace(self, rows: Sequence[Row[Any]], head: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """Signs what waits too long, or offers too little, again with its nonce; the rows then."""
        base_fee, chain_time = int(head["baseFeePerGas"], 16), int(head["timestamp"], 16)
        moment, clock = now(), time.monotonic()
        self._bump_after = {send: after for send, after in self._bump_after.items() if after > clock}
        # By the chain's own clock the contract refuses from now on what is late.
        late = {row.id for row in rows if row.frees or (row.expires and row.expires < chain_time)}
        due: list[Row[Any]] = []
        for row in rows:
            waits = moment - row.attempted_at >= self._settings.bump_seconds * 1_000_000
            # More money helps if a node had it and a block went by without it, not if there are no blocks.
            passed_over = row.state == State.SUBMITTED and chain_time * 1_000_000 > row.attempted_at
            if base_fee > row.max_fee or (waits and (passed_over or row.id in late)):
                due.append(row)
        due = [row for row in due if row.id not in self._bump_after]
        if not due:
            return rows
        self._bump_after |= {row.id: clock + self._settings.resend_seconds for row in due}
        return self._store.under_way(self._leases.held) if self._replaced(due, late, base_fee) else rows

    def _replaced(self, due: Sequence[Row[Any]], late: Collection[str], base_fee: int) -> bool:
        [market] = self._chain.node.batch([("eth_maxPriorityFeePerGas", [])])
        tip = 0 if isinstance(market, RpcError) else int(market, 16)
        full = {row.id: row for row in self._store.sends([row.id for row in due])}
        replaced = False
        with self._store.write() as db:
            for signer in sorted({row.signer for row in due}):
                self._leases.fence(db, signer)
            left = fees.left_today(db, self._settings)
            for row in due:
                spends, send = row.id in late, full[row.id]
                gas = _GAS_TO_SPEND if spends else row.gas
                offer = fees.bumped(self._settings, Offer(row.max_fee, row.priority_fee), base_fee, tip, gas)
                more = fees.cost(gas, offer.max_fee) - send.cost if offer else 0
                if offer is None or more > left:
                    kinds.line(row).warning("a replacement would cost more than the caps allow")
                    continue
                left -= max(more, 0)
                data = None if spends else kinds.call_of(send, publishes=row.publishes)
                self.sign(db, row.id, row.signer, row.nonce, data, gas, offer, send.cost)
                kinds.line(row).info("replaced", nonce=row.nonce, max_fee=offer.max_fee, frees=spends)
                replaced = True
        return replaced

    def lost(self, rows: Sequence[Row[Any]], final: Mapping[str, int]) -> list[Row[Any]]:
        """Those of which another transaction has the nonce, in a final block."""
        gone = {row.id for row in rows if row.nonce < final.get(row.signer, 0)}
        sure, self._gone = gone & self._gone, gone  # Seen at two heads: a node may be behind itself.
        return [row for row in rows if row.id in sure]

    def fill(self, rows: Sequence[Row[Any]], pending: Mapping[str, int]) -> None:
        """Spends the nonces that nobody uses, and that others have waited for."""
        for signer, row in {row.signer: row for row in reversed(rows)}.items():
            waited = now() - row.attempted_at >= self._settings.bump_seconds * 1_000_000
            first = pending.get(signer, row.nonce)
            if waited and first < row.nonce <= first + MOST_SPENT:
                self._spend(signer, range(first, row.nonce), Offer(row.max_fee, row.priority_fee))

    def _spend(self, signer: str, nonces: range, offer: Offer) -> None:
        chain_id = self._settings.chain_id
        mine = (sends.c.chain_id == chain_id) & (sends.c.signer == signer)
        with self._store.write() as db:
            self._leases.fence(db, signer)
            known = db.scalars(select(sends.c.nonce).where(mine, sends.c.nonce >= nonces.start))
            left = fees.left_today(db, self._settings)
            for nonce in sorted({*nonces} - {*known}):
                left -= fees.cost(_GAS_TO_SPEND, offer.max_fee)
                if left < 0:
                    return
                log.warning("nobody uses a nonce that others wait for", relayer=signer, nonce=nonce)
                send_id = f"{Kind.GAP}:{signer}:{nonce}"
                terms: dict[str, Any] = {"chain_id": chain_id, "wants": {}, "expires": now() // 10**6}
                signed: dict[str, Any] = {"state": State.SIGNED, "signer": signer, "nonce": nonce}
                self._store.enqueue(db, Kind.GAP, send_id, b"", **terms, **signed)
                self.sign(db, send_id, signer, nonce, None, _GAS_TO_SPEND, offer)
