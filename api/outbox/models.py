"""The types of the outbox: submissions, the attempts to send them, and what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from api.errors import Code
from creneau import abi
from creneau.errors import ContractError

GWEI = 10**9


class State(StrEnum):
    """A submission's state; sender.py draws the transitions."""

    ACCEPTED = "accepted"
    SIGNED = "signed"
    SUBMITTED = "submitted"
    MINED = "mined"
    FINAL = "final"
    REJECTED = "rejected"
    FAILED = "failed"
    EXPIRED = "expired"


IN_FLIGHT = (State.SIGNED, State.SUBMITTED)
UNSETTLED = (State.ACCEPTED, *IN_FLIGHT)

TRANSITIONS: dict[State, frozenset[State]] = {
    State.ACCEPTED: frozenset({State.SIGNED, State.REJECTED, State.EXPIRED, State.MINED}),
    State.SIGNED: frozenset({State.SUBMITTED, State.MINED, State.ACCEPTED}),
    State.SUBMITTED: frozenset({State.MINED, State.ACCEPTED}),
    State.MINED: frozenset({State.FINAL, State.FAILED, State.EXPIRED, State.SUBMITTED, State.ACCEPTED}),
}


class TransactionKind(StrEnum):
    """The kind of call that a submission makes. The sender treats all kinds alike."""

    CREATE = "create"  # A batch of bookings.
    ACT = "act"  # A party's action on bookings: confirm, cancel…
    RESOLVE = "resolve"  # The arbiter's decision, which only the arbiter's account can send.
    KEEPER = "keeper"  # The end of lessons that are due, which anybody may send.
    NOOP = "noop"  # A transfer of nothing, to use a nonce that nobody else uses and others wait for.


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A call to the escrow in the outbox: a row of `transactions`.

    Times are microseconds of unix time, but for `expires` (unix seconds). `cost` and `fee` are gwei.
    """

    id: str  # The batch's id if the call creates one.
    kind: TransactionKind
    request_id: str = ""
    # The call
    call: bytes  # To the escrow; it carries whatever signature it needs.
    publish: bytes | None = None  # The signed publication of the listing, if the call needed one then,
    listing_nonce: int | None = None  # and the listing's nonce that the publication is good for.
    locks: Mapping[str, int]  # {name: bits}: no two submissions in flight hold the same bit.
    expires: int | None = None  # The contract refuses the call after that time.
    # The newest transaction
    state: State = State.ACCEPTED
    chain_id: int
    signer: str | None = None
    nonce: int | None = None
    publishes: bool = False  # The transaction publishes the listing first.
    transaction_hash: str | None = None  # Of the newest attempt, or of the one in a block.
    signed_at: int | None = None  # By the chain's clock.
    cost: int | None = None  # At most.
    # The outcome
    block_number: int | None = None
    block_hash: str | None = None
    gas_used: int | None = None
    fee: int | None = None  # Paid.
    succeeded: bool | None = None
    code: str | None = None  # Why the call was not carried out,
    detail: str | None = None  # and the same in words.
    created_at: int = 0
    updated_at: int = 0

    @property
    def failed(self) -> bool:
        """True if the call was not carried out. A failed submission is kept; a retry gets a new id."""
        return self.state in {State.REJECTED, State.FAILED, State.EXPIRED} or self.succeeded is False

    def calldata(self, *, publishes: bool) -> bytes:
        """Return the call to the escrow, with the publication of the listing before it or without."""
        if publishes and self.publish is not None:
            return abi.multicall_data([self.publish, self.call])
        return self.call


@dataclass(frozen=True)
class Attempt:
    """A signed transaction of a submission: its first, or a replacement. Fees are wei per unit of gas."""

    hash: str
    transaction_id: str
    signer: str
    nonce: int
    raw: bytes
    gas: int
    max_fee: int
    priority_fee: int
    is_noop: bool  # A transfer of nothing to the signer itself, to use the nonce.
    created_at: int


@dataclass(frozen=True)
class SignedAttempt:
    """An attempt that is not stored yet, and its changes of the submission."""

    attempt: Attempt
    signed_at: int
    cost: int
    first: "Prepared | None" = None  # None for a replacement.


@dataclass(frozen=True)
class InFlight:
    """A submission that is signed and in no block, with its newest attempt."""

    id: str
    kind: TransactionKind
    request_id: str
    state: State
    signer: str
    nonce: int
    publishes: bool
    expires: int | None
    created_at: int
    transaction_hash: str
    raw: bytes
    gas: int
    max_fee: int
    priority_fee: int
    is_noop: bool


@dataclass(frozen=True)
class Lease:
    """The right of one process to sign with a key, until `renewals` has stood still for the term."""

    address: str
    owner: str  # Empty: nobody.
    renewals: int


@dataclass(frozen=True)
class Receipt:
    """A transaction's receipt. `fee` is in gwei, rounded up."""

    transaction_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int
    fee: int
    logs: Sequence[Mapping[str, Any]]  # As the node gives them.

    @classmethod
    def from_rpc(cls, receipt: Mapping[str, Any]) -> Self:
        """Return the receipt that `eth_getTransactionReceipt` gave."""
        gas_used = int(receipt["gasUsed"], 16)
        return cls(
            transaction_hash=receipt["transactionHash"],
            block_number=int(receipt["blockNumber"], 16),
            block_hash=receipt["blockHash"],
            succeeded=receipt["status"] == "0x1",
            gas_used=gas_used,
            fee=-(-gas_used * int(receipt["effectiveGasPrice"], 16) // GWEI),
            logs=receipt["logs"],
        )


@dataclass(frozen=True)
class Prepared:
    """A submission that can be sent now, and the locks that it takes."""

    submission: Submission
    locks: Mapping[str, int]
    publishes: bool = False

    @property
    def calldata(self) -> bytes:
        """The call to the escrow."""
        return self.submission.calldata(publishes=self.publishes)


@dataclass(frozen=True)
class Rejection:
    """The reason for which a call was not carried out. Without a code, each lesson has its own reason."""

    code: Code | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The end of a submission as the chain tells it, for its handler to classify."""

    submission: Submission
    receipt: Receipt | None = None  # Of its own transaction, if that is in a block.
    error: ContractError | None = None  # None: carried out, or the node can't tell the error any more.

    @property
    def succeeded(self) -> bool:
        """True if the call was carried out by the submission's own transaction."""
        return self.receipt is not None and self.receipt.succeeded and self.error is None


@dataclass(frozen=True)
class Settlement:
    """The end of a submission as it is stored."""

    submission: Submission
    receipt: Receipt | None = None  # Of its own transaction, or of another's that did the same.
    rejection: Rejection | None = None  # None: carried out.
    result: object = None  # A `BatchResult`, or None: what the database stores besides.

    @property
    def state(self) -> State:
        """The state that follows."""
        if self.receipt is not None:
            return State.MINED
        late = self.rejection is not None and self.rejection.code is Code.EXPIRED
        return State.EXPIRED if late else State.REJECTED
