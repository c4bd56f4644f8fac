"""The types of the outbox: submissions, the attempts to send them, and what became of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


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


class TransactionKind(StrEnum):
    """The kind of call that a submission makes. The sender treats all kinds alike."""

    CREATE = "create"  # A batch of bookings.
    ACT = "act"  # A party's action on bookings: confirm, cancel…
    RESOLVE = "resolve"  # The arbiter's decision, which only the arbiter's account can send.
    KEEPER = "keeper"  # The end of lessons that are due, which anybody may send.
    NOOP = "noop"  # A transfer of nothing, to use a nonce that nobody else uses and others wait for.


@dataclass(frozen=True)
class Submission:
    """A call to the escrow in the outbox: a row of `transactions`.

    Times are microseconds of unix time, but for `expires` (unix seconds). `cost` and `fee` are gwei.
    """

    id: str  # The batch's id if the call creates one.
    kind: TransactionKind
    request_id: str
    # The call
    call: bytes  # To the escrow; it carries whatever signature it needs.
    publish: bytes | None  # The signed publication of the listing, if the listing needed one when accepted,
    listing_nonce: int | None  # and the listing's nonce that the publication is good for.
    locks: Mapping[str, int]  # {name: bits}: no two submissions in flight hold the same bit.
    expires: int | None  # The contract refuses the call after that time.
    # The newest transaction
    state: State
    chain_id: int
    signer: str | None
    nonce: int | None
    publishes: bool  # The transaction publishes the listing first.
    transaction_hash: str | None  # Of the newest attempt, or of the one in a block.
    signed_at: int | None  # By the chain's clock.
    cost: int | None  # At most.
    # The outcome
    block_number: int | None
    block_hash: str | None
    gas_used: int | None
    fee: int | None  # Paid.
    succeeded: bool | None
    code: str | None  # Why the call was not carried out,
    detail: str | None  # and the same in words.
    created_at: int
    updated_at: int

    @property
    def failed(self) -> bool:
        """True if the call was not carried out and never will be: a retry gets a new id."""
        return self.state in {State.REJECTED, State.FAILED, State.EXPIRED} or self.succeeded is False
