"""What is particular to a kind of sends: when it can be sent, what its outcome means, what is logged of it.

The relayer itself treats all kinds alike. `Acts` is what most need; `Creations` knows about bookings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, Row, select

from api import slots
from api.answers import failures, frontend_id
from api.chain import Chain, order_of, unhex
from api.node import Call, NodeUnavailable, RpcError
from api.slots import Failure
from api.store import UNDER_WAY, Kind, State, Store, orders, sends
from creneau import codec
from creneau.amounts import to_wei
from creneau.errors import (
    ContractError,
    ERC20InsufficientAllowance,
    ERC20InsufficientBalance,
    NotActor,
    NothingFree,
    NotListed,
    OrderExists,
    OrderExpired,
    RateMismatch,
    SlotError,
    decode_revert,
)
from creneau.fields import to_bytes32, to_hex
from creneau.order import booking_id

log = structlog.get_logger()

TAG = "[CREATE_BATCH_BOOKING]"

ANYONES = frozenset(Kind) - {Kind.RESOLVE}
"""The kinds of sends that any account can send, because what needs a signature carries it."""

Receipt = dict[str, Any]
Revert = tuple[Row[Any], ContractError | None]
"""A send that the contract refused, with its error; None if the node can't tell it any more."""

_BLOCKS = "latest", "pending"
_LOOK_BACK = 9_000  # Blocks that nodes search at once; an order is valid for less than that.
_BOOKINGS_CREATED = to_hex(codec.BOOKINGS_CREATED)
_CODES: dict[type[ContractError], str] = {
    ERC20InsufficientBalance: "insufficient_balance",
    ERC20InsufficientAllowance: "insufficient_allowance",
    NotListed: "not_published",
    RateMismatch: "rate_mismatch",
}


@dataclass(frozen=True)
class Ready:
    """What can be sent now, and what nobody else may want meanwhile."""

    row: Row[Any]
    wants: Mapping[str, int]
    publishes: bool = False

    @property
    def data(self) -> bytes:
        """The call to the escrow."""
        return call_of(self.row, publishes=self.publishes)


@dataclass(frozen=True)
class Refusal:
    """Why a send came to nothing. Without a code, what a batch has `left_out` says it."""

    code: str | None = None
    detail: str | None = None
    left_out: Sequence[Failure] = ()


LATE = OrderExpired(0, 0)  # What the contract says of what comes too late, whatever the times.

Outcome = Receipt | Refusal
"""What became of a send: a receipt is of somebody else's transaction that did the same before."""


def line(row: Row[Any]) -> Any:
    """The log, for a line about a send."""
    return log.bind(
        **{"batch_id" if row.kind == Kind.CREATE else "send_id": row.id}, request_id=row.request_id
    )


def sent(row: Row[Any]) -> str:
    """What is logged of a send once a node has it."""
    return f"{TAG} Transaction envoyée: {row.transaction_hash}" if row.kind == Kind.CREATE else "sent"


def call_of(row: Row[Any], *, publishes: bool) -> bytes:
    """A send's call to the escrow, with the listing's publication before it or not."""
    return codec.multicall_data([row.publish, row.call]) if publishes else bytes(row.call)


def is_late(row: Row[Any], chain_time: int) -> bool:
    """Whether the contract refuses it from now on."""
    return row.expires is not None and row.expires < chain_time


class Acts:
    """Anything that is sent as it is."""

    def prepare(self, rows: Sequence[Row[Any]]) -> dict[str, Ready | Refusal]:
        """What can be sent now, and what never can. Any other has to wait."""
        return {row.id: Ready(row, row.wants) for row in rows}

    def explain(self, reverted: Sequence[Revert]) -> dict[str, Outcome]:
        """What each error means. Of what is left out it can't be told now."""
        refusals: dict[str, Outcome] = {}
        for row, error in reverted:
            if error is None:
                refusals[row.id] = Refusal("reverted", "The contract refused the transaction.")
            elif isinstance(error, OrderExpired):
                refusals[row.id] = Refusal("expired", "It could not be sent in time. Please book again.")
            else:
                refusals[row.id] = Refusal(_CODES.get(type(error), "refused"), str(error))
        return refusals

    def booked(self, row: Row[Any], receipt: Receipt | None, refusal: Refusal | None) -> dict[str, Any]:  # noqa: ARG002
        """What else to store of an outcome: columns of `batches`."""
        return {}

    def log_end(self, row: Row[Any]) -> None:
        """Logs how it ended."""
        bound = line(row).bind(kind=row.kind, transaction=row.transaction_hash)
        if row.succeeded:
            bound.info("done")
        else:
            bound.warning("came to nothing", code=row.code)


class Creations(Acts):
    """Batches of bookings, each with its row in `batches`."""

    def __init__(self, store: Store, chain: Chain) -> None:
        self._store = store
        self._chain = chain
        self._node = chain.node

    def prepare(self, rows: Sequence[Row[Any]]) -> dict[str, Ready | Refusal]:
        """Publishes the listing first unless that was done meanwhile."""
        first = [row for row in rows if row.publish is not None]
        answers = self._node.batch([self._chain.listing(row.tutor, to_bytes32(row.listing)) for row in first])
        listings = {row.id: listing for row, listing in zip(first, answers, strict=True)}
        prepared: dict[str, Ready | Refusal] = {}
        for row in rows:
            prepared[row.id] = Ready(row, row.wants)
            if row.publish is None:
                continue
            if isinstance(listings[row.id], RpcError):
                del prepared[row.id]
                continue
            listing = codec.decode_listing(unhex(listings[row.id]))
            if to_wei(listing.hourly_rate) != row.hourly_rate:
                prepared[row.id] = (
                    Ready(row, row.wants | {f"{row.tutor}/{row.listing}": 1}, publishes=True)
                    if listing.nonce == row.listing_nonce
                    else Refusal("rate_mismatch", "The tutor has just changed the rate.")
                )
        return prepared

    def explain(self, reverted: Sequence[Revert]) -> dict[str, Outcome]:
        """When slots are at fault the contract names all of them; an order that exists has a receipt."""
        outcomes: dict[str, Outcome] = {}
        others: list[Revert] = []
        # Whatever the error, somebody else may have created it: its deadline is over, say, or its
        # listing was published by that very transaction, which may only be pending.
        calls = [self._chain.batch(row.id, block) for row, _ in reverted for block in _BLOCKS]
        answers = iter(self._node.batch(calls))
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
        checks = self._node.batch([self._chain.check(order_of(row)) for row, _ in others])
        for (row, error), check in zip(others, checks, strict=True):
            codes = [] if isinstance(check, RpcError) else codec.decode_check(unhex(check))[0]
            left_out = [
                slots.failure(lesson, slots.CODES[code])
                for lesson, code in zip(row.lessons, codes, strict=False)
                if code in slots.CODES
            ]
            if isinstance(error, SlotError | NothingFree) or (error is None and left_out):
                # Not taken any more, if it names none: it was when the contract said so.
                everything = [slots.failure(lesson, "taken") for lesson in row.lessons]
                outcomes[row.id] = Refusal(left_out=left_out or everything)
        return outcomes

    def _outdated(self, row: Row[Any], error: ContractError | None) -> bool:
        """Whether the listing was published between the look at it and the preflight: the next one knows."""
        if row.state != State.ACCEPTED or not isinstance(error, NotActor) or error.actor != row.tutor:
            return False
        listing = row.tutor, to_bytes32(row.listing)
        answers = self._node.batch([self._chain.listing(*listing, block) for block in _BLOCKS])
        return any(
            not isinstance(answer, RpcError)
            and codec.decode_listing(unhex(answer)).nonce != row.listing_nonce
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

    def booked(self, row: Row[Any], receipt: Receipt | None, refusal: Refusal | None) -> dict[str, Any]:
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
            slots.failure(lesson, "taken")
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
    return not isinstance(batch, RpcError) and bool(codec.decode_batch(unhex(batch)).created_at)


class Kinds:
    """All of them."""

    def __init__(self, store: Store, chain: Chain) -> None:
        self._chain = chain
        self._all = self._acts, self._creations = Acts(), Creations(store, chain)

    def of(self, row: Row[Any]) -> Acts:
        """What is particular to this send's kind."""
        return self._creations if row.kind == Kind.CREATE else self._acts

    def prepare(self, rows: Sequence[Row[Any]]) -> dict[str, Ready | Refusal]:
        """What can be sent now, and what never can. Any other has to wait."""
        acts, creations = ([row for row in rows if self.of(row) is kind] for kind in self._all)
        return self._acts.prepare(acts) | self._creations.prepare(creations)

    def explain(self, reverted: Sequence[Revert]) -> dict[str, Outcome]:
        """What each error means. Of what is left out it can't be told now."""
        acts, creations = ([pair for pair in reverted if self.of(pair[0]) is kind] for kind in self._all)
        return self._acts.explain(acts) | self._creations.explain(creations)

    def replay(self, reverted: Sequence[tuple[Row[Any], Receipt]]) -> list[Revert]:
        """Why each transaction reverted in its block."""
        calls: list[Call] = []
        for row, receipt in reverted:
            call = self._chain.transaction(row.signer, call_of(row, publishes=row.publishes))
            calls.append(("eth_call", [call, receipt["blockNumber"]]))
        return [
            (row, decode_revert(answer.data or b"") if isinstance(answer, RpcError) else None)
            for (row, _), answer in zip(reverted, self._chain.node.batch(calls), strict=True)
        ]


def quarters(tutor: str, order_slots: Sequence[tuple[int, int]]) -> dict[str, int]:
    """A tutor's time, as the contract's calendar has it: each word, and its bits."""
    words: dict[str, int] = {}
    for start, minutes in order_slots:
        for quarter in range(start // 900, start // 900 + minutes // 15):
            word = f"{tutor}/{quarter // 256}"
            words[word] = words.get(word, 0) | 1 << quarter % 256
    return words


def is_free(wants: Mapping[str, int], held: Mapping[str, int]) -> bool:
    """Whether nothing wanted is held."""
    return not any(bits & held.get(what, 0) for what, bits in wants.items())


def hold(wants: Mapping[str, int], held: dict[str, int]) -> None:
    """Adds what is wanted to what is held."""
    for what, bits in wants.items():
        held[what] = held.get(what, 0) | bits


def held(db: Connection) -> dict[str, int]:
    """What the sends under way want."""
    wanted: dict[str, int] = {}
    for wants in db.scalars(select(sends.c.wants).where(sends.c.state.in_(UNDER_WAY))):
        hold(wants, wanted)
    return wanted
