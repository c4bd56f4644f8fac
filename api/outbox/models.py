"""The types of the outbox: submissions, the attempts to send them, and what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from api.errors import Code
from creneau.errors import ContractError

GWEI = 10**9

_ID_LENGTH = 66  # Of a batch's id; other locks have other names.


class State(StrEnum):
    """A submission's state; sender.py draws the transitions."""

    ACCEPTED = "accepted"
    SIGNED = "signed"
    SUBMITTED = "submitted"
    REVERTING = "reverting"
    MINED = "mined"
    FINAL = "final"
    REJECTED = "rejected"
    EXPIRED = "expired"


IN_FLIGHT = (State.SIGNED, State.SUBMITTED)
IN_BLOCK = (State.REVERTING, State.MINED)
"""In a block that is not final."""
UNSETTLED = (State.ACCEPTED, *IN_FLIGHT, State.REVERTING)
FAILED = (State.REJECTED, State.EXPIRED)

TRANSITIONS: dict[State, frozenset[State]] = {
    State.ACCEPTED: frozenset({State.SIGNED, State.REJECTED, State.EXPIRED, State.MINED}),
    State.SIGNED: frozenset({State.SUBMITTED, State.MINED, State.REVERTING, State.ACCEPTED}),
    State.SUBMITTED: frozenset({State.MINED, State.REVERTING, State.ACCEPTED}),
    State.REVERTING: frozenset({State.SUBMITTED, State.ACCEPTED}),
    State.MINED: frozenset({State.FINAL, State.SUBMITTED, State.ACCEPTED}),
    State.FINAL: frozenset({State.SUBMITTED, State.ACCEPTED}),
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
    call: bytes  # To the escrow, as it was accepted; it carries whatever signature it needs.
    publishes: bool = False  # The listing has to be published first, or was by the newest transaction.
    listing_nonce: int | None = None  # The listing's when it was accepted: later publications are respected.
    seen_block: int = 0  # The number of the block in which acceptance saw that the call can be made.
    locks: Mapping[str, int]  # {name: bits}: no two submissions in flight hold the same bit.
    expires: int | None = None  # The contract refuses the call after that time.
    # The newest transaction
    state: State = State.ACCEPTED
    chain_id: int
    signer: str | None = None
    nonce: int | None = None
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
    def batch_id(self) -> str | None:
        """The batch that the call is about; None if it is about none, or about several."""
        if self.kind == TransactionKind.CREATE:
            return self.id
        batches = [name for name in self.locks if len(name) == _ID_LENGTH]
        return batches[0] if len(batches) == 1 else None

    @property
    def failed(self) -> bool:
        """True if the call was not carried out. A failed submission is kept; a retry gets a new id."""
        return self.state in FAILED


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
    fee: int | None  # None: the node does not tell the price.
    logs: Sequence[Mapping[str, Any]]  # As the node gives them.

    @classmethod
    def from_rpc(cls, receipt: Mapping[str, Any]) -> Self:
        """Return the receipt that `eth_getTransactionReceipt` gave."""
        gas_used, price = int(receipt["gasUsed"], 16), receipt.get("effectiveGasPrice")
        return cls(
            transaction_hash=receipt["transactionHash"],
            block_number=int(receipt["blockNumber"], 16),
            block_hash=receipt["blockHash"],
            succeeded=receipt["status"] == "0x1",
            gas_used=gas_used,
            fee=None if price is None else -(-gas_used * int(price, 16) // GWEI),
            logs=receipt["logs"],
        )


@dataclass(frozen=True)
class Prepared:
    """A submission that can be sent now: the call to the escrow, and the locks that it takes."""

    submission: Submission
    locks: Mapping[str, int]
    calldata: bytes
    publishes: bool = False  # The call publishes the listing first.


@dataclass(frozen=True)
class Rejection:
    """The reason for which a call was not carried out. Without a code, each lesson has its own reason."""

    code: Code | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The chain's word on a submission, for its handler to classify: carried out, or refused."""

    submission: Submission
    receipt: Receipt | None = None  # Of its own transaction, which carried it out.
    error: ContractError | None = None  # The contract's, for the call in the newest block.


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
        if self.rejection is None:
            return State.MINED
        return State.EXPIRED if self.rejection.code is Code.EXPIRED else State.REJECTED
