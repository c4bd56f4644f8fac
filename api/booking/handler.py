"""Batches in the outbox: when one can be sent, what its outcome means lesson by lesson, what is logged."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from api.booking import plan as slots
from api.chain.escrow import Chain, order_of, unhex
from api.chain.rpc import NodeUnavailable, RpcError
from api.db.store import Store
from api.db.tables import orders
from api.errors import SLOT_CODES, Code
from api.outbox.handlers import TAG, Handler, Outcome, Prepared, Receipt, Rejection, Revert, line
from api.outbox.models import State
from api.schemas.build import failures, frontend_id
from creneau import abi, events
from creneau.amounts import to_wei
from creneau.errors import ContractError, NotActor, NothingFree, OrderExists, SlotError
from creneau.order import booking_id
from creneau.types import to_bytes32, to_hex

_BLOCKS = "latest", "pending"
_LOOK_BACK = 9_000  # Blocks that nodes search at once; an order is valid for less than that.
_BOOKINGS_CREATED = to_hex(events.BOOKINGS_CREATED)


class BatchHandler(Handler):
    """Batches of bookings, each with its row in `batches`."""

    def __init__(self, store: Store, chain: Chain) -> None:
        self._store = store
        self._chain = chain
        self._node = chain.node

    def prepare(self, rows: Sequence[Row[Any]]) -> dict[str, Prepared | Rejection]:
        """Publishes the listing first unless that was done meanwhile."""
        first = [row for row in rows if row.publish is not None]
        answers = self._node.call_many(
            [self._chain.listing(row.tutor, to_bytes32(row.listing)) for row in first]
        )
        listings = {row.id: listing for row, listing in zip(first, answers, strict=True)}
        prepared: dict[str, Prepared | Rejection] = {}
        for row in rows:
            prepared[row.id] = Prepared(row, row.locks)
            if row.publish is None:
                continue
            if isinstance(listings[row.id], RpcError):
                del prepared[row.id]
                continue
            listing = abi.decode_listing(unhex(listings[row.id]))
            if to_wei(listing.hourly_rate) != row.hourly_rate:
                prepared[row.id] = (
                    Prepared(row, row.locks | {f"{row.tutor}/{row.listing}": 1}, publishes=True)
                    if listing.nonce == row.listing_nonce
                    else Rejection(Code.RATE_MISMATCH, Code.RATE_MISMATCH.sentence())
                )
        return prepared

    def explain(self, reverted: Sequence[Revert]) -> dict[str, Outcome]:
        """When slots are at fault the contract names all of them; an order that exists has a receipt."""
        outcomes: dict[str, Outcome] = {}
        others: list[Revert] = []
        # Whatever the error, somebody else may have created it: its deadline is over, say, or its
        # listing was published by that very transaction, which may only be pending.
        calls = [self._chain.batch(row.id, block) for row, _ in reverted for block in _BLOCKS]
        answers = iter(self._node.call_many(calls))
        for (row, error), latest, pending in zip(reverted, answers, answers, strict=True):
            try:
                if isinstance(latest, RpcError):
                    raise latest
                if _exists(latest):
                    outcomes[row.id] = self._creation(row.id)
                elif not (isinstance(error, OrderExists) or _exists(pending) or self._outdated(row, error)):
                    others.append((row, error))
            except (NodeUnavailable, RpcError) as reason:
                line(row).warning("how the batch was created is not known", reason=str(reason))
        outcomes |= super().explain(others)
        checks = self._node.call_many([self._chain.check(order_of(row)) for row, _ in others])
        for (row, error), check in zip(others, checks, strict=True):
            codes = [] if isinstance(check, RpcError) else abi.decode_check(unhex(check))[0]
            left_out = [
                slots.failure(lesson, SLOT_CODES[code])
                for lesson, code in zip(row.lessons, codes, strict=False)
                if code in SLOT_CODES
            ]
            if isinstance(error, SlotError | NothingFree) or (error is None and left_out):
                # Not taken any more, if it names none: it was when the contract said so.
                everything = [slots.failure(lesson, Code.TAKEN) for lesson in row.lessons]
                outcomes[row.id] = Rejection(left_out=left_out or everything)
        return outcomes

    def _outdated(self, row: Row[Any], error: ContractError | None) -> bool:
        """Whether the listing was published between the look at it and the preflight: the next one knows."""
        if row.state != State.ACCEPTED or not isinstance(error, NotActor) or error.actor != row.tutor:
            return False
        listing = row.tutor, to_bytes32(row.listing)
        answers = self._node.call_many([self._chain.listing(*listing, block) for block in _BLOCKS])
        return any(
            not isinstance(answer, RpcError) and abi.decode_listing(unhex(answer)).nonce != row.listing_nonce
            for answer in answers
        )

    def _creation(self, batch_id: str) -> Receipt:
        """The receipt of the transaction that created the batch, whoever sent it."""
        with self._store.read() as db:
            known = db.scalar(select(orders.c.transaction_hash).where(orders.c.id == batch_id))
        receipt = known and self._node.call("eth_getTransactionReceipt", known)
        if receipt:
            return dict(receipt)
        first = max(int(self._node.call("eth_blockNumber"), 16) - _LOOK_BACK, 0)
        topics = [_BOOKINGS_CREATED, batch_id]
        found = self._node.call(
            "eth_getLogs", {"address": self._chain.escrow, "fromBlock": hex(first), "topics": topics}
        )
        receipt = found and self._node.call("eth_getTransactionReceipt", found[0]["transactionHash"])
        if not receipt:
            raise NodeUnavailable("a batch without a receipt")
        return dict(receipt)

    def booked(self, row: Row[Any], receipt: Receipt | None, refusal: Rejection | None) -> dict[str, Any]:
        """Which lessons are booked, and why the others are not."""
        if refusal is not None or receipt is None:
            return {"booked": None if receipt is None else 0, "left_out": refusal and refusal.left_out}
        # The data begin with where the order is, then `booked`. The order is known, and long to read.
        [booked] = [
            int(entry["data"][66:130], 16)
            for entry in receipt["logs"]
            if entry["topics"][:2] == [_BOOKINGS_CREATED, row.id]
        ]
        left_out = [
            slots.failure(lesson, Code.TAKEN)
            for place, lesson in enumerate(row.lessons)
            if not booked >> place & 1
        ]
        return {"booked": booked, "left_out": left_out}

    def log_end(self, row: Row[Any]) -> None:
        """Logs each lesson."""
        bound = line(row)
        failed = failures(row)
        count = len(row.lessons) + len(row.failures)
        booked = row.booked or 0
        if not booked:
            bound.warning(f"{TAG} ❌ Aucune réservation créée: {row.code or failed[0]['code']}")
            return
        for place, lesson in enumerate(row.lessons):
            if booked >> place & 1:
                number = lesson["index"]
                bound.info(f"{TAG} Création réservation {number}/{count}")
                on_chain = booking_id(to_bytes32(row.id), place)
                bound.info(f"{TAG} ✅ Réservation {number} créée: {frontend_id(on_chain)}")
        for failure in failed:
            bound.warning(f"{TAG} ❌ Réservation {failure['index']} refusée: {failure['code']}")
        if failed:
            bound.warning(f"{TAG} ⚠️ {count - len(failed)} réservations créées sur {count}")
        else:
            bound.info(f"{TAG} ✅ Toutes les {count} réservations ont été créées avec succès!")


def _exists(batch: str | RpcError) -> bool:
    return not isinstance(batch, RpcError) and bool(abi.decode_batch(unhex(batch)).created_at)
