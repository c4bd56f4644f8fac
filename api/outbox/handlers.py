"""What is particular to a kind of sends: when it can be sent, what its outcome means, what is logged of it.

The sender treats all kinds alike. `Handler` is for most of them; the one for batches is given to `Handlers`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Row

from api.booking.models import Failure
from api.chain.escrow import Chain
from api.chain.rpc import Call, RpcError
from api.errors import Code, code_of
from api.outbox.models import TransactionKind
from creneau import abi
from creneau.errors import (
    ContractError,
    OrderExpired,
    decode_revert,
)

log = structlog.get_logger()

TAG = "[CREATE_BATCH_BOOKING]"

ANYONES = frozenset(TransactionKind) - {TransactionKind.RESOLVE}
"""The kinds of sends that any account can send, because what needs a signature carries it."""

Receipt = dict[str, Any]
Revert = tuple[Row[Any], ContractError | None]
"""A send that the contract refused, with its error; None if the node can't tell it any more."""


@dataclass(frozen=True)
class Prepared:
    """What can be sent now, and what nobody else may want meanwhile."""

    row: Row[Any]
    locks: Mapping[str, int]
    publishes: bool = False

    @property
    def data(self) -> bytes:
        """The call to the escrow."""
        return call_of(self.row, publishes=self.publishes)


@dataclass(frozen=True)
class Rejection:
    """Why a send came to nothing. Without a code, what a batch has `left_out` says it."""

    code: Code | None = None
    detail: str | None = None
    left_out: Sequence[Failure] = ()


LATE = OrderExpired(0, 0)  # What the contract says of what comes too late, whatever the times.

Outcome = Receipt | Rejection
"""What became of a send: a receipt is of somebody else's transaction that did the same before."""


def line(row: Row[Any]) -> Any:
    """The log, for a line about a send."""
    return log.bind(
        **{"batch_id" if row.kind == TransactionKind.CREATE else "submission_id": row.id},
        request_id=row.request_id,
    )


def sent(row: Row[Any]) -> str:
    """What is logged of a send once a node has it."""
    return (
        f"{TAG} Transaction envoyée: {row.transaction_hash}" if row.kind == TransactionKind.CREATE else "sent"
    )


def call_of(row: Row[Any], *, publishes: bool) -> bytes:
    """A send's call to the escrow, with the listing's publication before it or not."""
    return abi.multicall_data([row.publish, row.call]) if publishes else bytes(row.call)


def is_late(row: Row[Any], chain_time: int) -> bool:
    """Whether the contract refuses it from now on."""
    return row.expires is not None and row.expires < chain_time


class Handler:
    """Anything that is sent as it is."""

    def prepare(self, rows: Sequence[Row[Any]]) -> dict[str, Prepared | Rejection]:
        """What can be sent now, and what never can. Any other has to wait."""
        return {row.id: Prepared(row, row.locks) for row in rows}

    def explain(self, reverted: Sequence[Revert]) -> dict[str, Outcome]:
        """What each error means. Of what is left out it can't be told now."""
        refusals: dict[str, Outcome] = {}
        for row, error in reverted:
            if error is None:
                refusals[row.id] = Rejection(Code.REVERTED, Code.REVERTED.sentence())
            elif isinstance(error, OrderExpired):
                refusals[row.id] = Rejection(Code.EXPIRED, Code.EXPIRED.sentence())
            else:
                refusals[row.id] = Rejection(code_of(error), str(error))
        return refusals

    def booked(self, row: Row[Any], receipt: Receipt | None, refusal: Rejection | None) -> dict[str, Any]:  # noqa: ARG002
        """What else to store of an outcome: columns of `batches`."""
        return {}

    def log_end(self, row: Row[Any]) -> None:
        """Logs how it ended."""
        bound = line(row).bind(kind=row.kind, transaction=row.transaction_hash)
        if row.succeeded:
            bound.info("done")
        else:
            bound.warning("came to nothing", code=row.code)


class Handlers:
    """All of them."""

    def __init__(self, chain: Chain, creations: Handler) -> None:
        self._chain = chain
        self._all = self._acts, self._creations = Handler(), creations

    def of(self, row: Row[Any]) -> Handler:
        """What is particular to this send's kind."""
        return self._creations if row.kind == TransactionKind.CREATE else self._acts

    def prepare(self, rows: Sequence[Row[Any]]) -> dict[str, Prepared | Rejection]:
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
            (
                row,
                decode_revert(answer.data or b"", self._chain.currency)
                if isinstance(answer, RpcError)
                else None,
            )
            for (row, _), answer in zip(reverted, self._chain.node.call_many(calls), strict=True)
        ]
