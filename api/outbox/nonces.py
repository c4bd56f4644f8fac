"""Nonces: the first transaction that is signed with one, its replacements, and those that only use it.

The time that a transaction waits is told by this process's own clock since it first saw the transaction, and
its lateness by the chain's: what other processes wrote is compared with neither.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection

from api.chain.escrow import Chain
from api.chain.rpc import Head, NodeUnavailable, RpcError
from api.chain.signers import Signer
from api.db import repository
from api.db.store import Store
from api.db.tables import now
from api.outbox import fees
from api.outbox.fees import Budget, FeeBid
from api.outbox.handlers import line
from api.outbox.leases import Leases
from api.outbox.models import (
    Attempt,
    InFlight,
    Prepared,
    SignedAttempt,
    State,
    Submission,
    TransactionKind,
)
from api.settings import Settings
from creneau.types import to_hex

log = structlog.get_logger()

MOST_FILLED = 64  # Nonces in a row that are filled because nobody uses them; further ahead a node errs.

_NOOP_GAS = 50_000  # A transfer takes 21,000; on some chains its data cost more.


@dataclass
class Timing:
    """The memory that one process has of a transaction that waits for a block."""

    since: float  # By the monotonic clock,
    block: int  # with this head.
    send_after: float = 0.0
    bump_after: float = 0.0


class Nonces:
    """Signs with this process's keys, and stores what it signs as the newest attempts of submissions."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        signers: Mapping[str, Signer],
        settings: Settings,
        leases: Leases,
    ) -> None:
        self._store = store
        self._chain = chain
        self._signers = signers
        self._settings = settings
        self._leases = leases
        self._maybe_lost: set[str] = set()
        self.timings: dict[str, Timing] = {}  # By transaction.

    def remember(self, in_flight: Sequence[InFlight], head: Head) -> None:
        """Remember these transactions, and forget all others."""
        clock = time.monotonic()
        hashes = [each.transaction_hash for each in in_flight]
        self.timings = {each: self.timings.get(each) or Timing(clock, head.number) for each in hashes}

    def next(self, db: Connection, signer: str, mined: int, pending: int) -> int:
        """Return the nonce after the chain's and the table's highest.

        Raises `NodeUnavailable` if the node's is too far ahead.
        """
        highest = repository.highest_nonce(db, self._settings.chain_id, signer)
        follows = max(mined, 0 if highest is None else highest + 1)
        if pending > follows + MOST_FILLED:
            raise NodeUnavailable("a nonce too far ahead")
        return max(pending, follows)

    def sign(
        self,
        submission_id: str,
        signer: str,
        nonce: int,
        calldata: bytes | None,
        gas: int,
        bid: FeeBid,
        moment: int,
        *,
        cost: int = 0,
        first: Prepared | None = None,
    ) -> SignedAttempt:
        """Sign a call to the escrow or, without one, a transfer of nothing that uses the nonce.

        `moment` is the block time in microseconds, `cost` the highest of earlier attempts, in gwei.
        """
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self._settings.chain_id,
            "to": signer if calldata is None else self._chain.escrow,
            "value": 0,
            "data": calldata or b"",
            "nonce": nonce,
            "gas": gas,
            "maxFeePerGas": bid.max_fee,
            "maxPriorityFeePerGas": bid.priority_fee,
        }
        signed = self._signers[signer].sign_transaction(fields)
        attempt = Attempt(
            hash=to_hex(signed.hash),
            transaction_id=submission_id,
            signer=signer,
            nonce=nonce,
            raw=bytes(signed.raw_transaction),
            gas=gas,
            max_fee=bid.max_fee,
            priority_fee=bid.priority_fee,
            is_noop=calldata is None,
            created_at=now(),
        )
        # Any of the attempts may get into a block.
        return SignedAttempt(attempt, moment, max(cost, fees.cost(gas, bid.max_fee)), first)

    def replace(self, in_flight: Sequence[InFlight], head: Head) -> Sequence[InFlight]:
        """Replace what waits too long, or bids too little. Return what is in flight then."""
        clock = time.monotonic()
        # The contract refuses from now on what is late.
        late = {each.id for each in in_flight if each.is_noop or is_late(each, head)}
        due: list[InFlight] = []
        for each in in_flight:
            timing = self.timings[each.transaction_hash]
            waits = clock - timing.since >= self._settings.bump_seconds
            # More money helps if a node had it and a block went by without it, not if there are no blocks.
            passed_over = each.state == State.SUBMITTED and head.number > timing.block
            needed = head.base_fee > each.max_fee or (waits and (passed_over or each.id in late))
            if needed and clock >= timing.bump_after:
                timing.bump_after = clock + self._settings.resend_seconds
                due.append(each)
        if not due or not self._replace(due, late, head):
            return in_flight
        with self._store.read() as db:
            newer = repository.in_flight(db, self._leases.held)
        self.remember(newer, head)
        return newer

    def _replace(self, due: Sequence[InFlight], late: Collection[str], head: Head) -> bool:
        [market] = self._chain.node.call_many([("eth_maxPriorityFeePerGas", [])])
        tip = 0 if isinstance(market, RpcError) else int(market, 16)
        signed: list[SignedAttempt] = []
        with self._store.write() as db:
            for signer in sorted({each.signer for each in due}):
                self._leases.fence(db, signer)
            submissions = {each.id: each for each in repository.submissions(db, [each.id for each in due])}
            budget = Budget.of(db, self._settings, head.moment)
            for each in due:
                is_noop, submission = each.id in late, submissions[each.id]
                gas, cost = _NOOP_GAS if is_noop else each.gas, submission.cost or 0
                old = FeeBid(each.max_fee, each.priority_fee)
                bid = fees.bumped(self._settings, old, head.base_fee, tip, gas)
                if bid is None or not budget.reserve(max(fees.cost(gas, bid.max_fee) - cost, 0)):
                    line(each).warning("a replacement would cost more than the caps allow")
                    continue
                calldata = None if is_noop else submission.calldata(publishes=each.publishes)
                terms = each.id, each.signer, each.nonce, calldata, gas, bid, head.moment
                signed.append(self.sign(*terms, cost=cost))
                line(each).info("replaced", nonce=each.nonce, max_fee=bid.max_fee, is_noop=is_noop)
            repository.add_attempts(db, signed)
        return bool(signed)

    def nonce_lost(self, in_flight: Sequence[InFlight], finalized: Mapping[str, int]) -> list[InFlight]:
        """Return submissions whose nonce was used by another finalized transaction.

        `finalized` has how many nonces of each account are used in finalized blocks.
        """
        lost = {each.id for each in in_flight if each.nonce < finalized.get(each.signer, 0)}
        sure, self._maybe_lost = lost & self._maybe_lost, lost  # Seen twice: a node may be behind itself.
        return [each for each in in_flight if each.id in sure]

    def fill_nonce_gaps(self, in_flight: Sequence[InFlight], pending: Mapping[str, int], head: Head) -> None:
        """Use the nonces that nobody uses, and that submissions have waited for.

        `pending` has the next nonce of each account, by the transactions that the node knows.
        """
        for signer, each in {each.signer: each for each in reversed(in_flight)}.items():
            waited = time.monotonic() - self.timings[each.transaction_hash].since
            first = pending.get(signer, each.nonce)
            if waited >= self._settings.bump_seconds and first < each.nonce <= first + MOST_FILLED:
                self._fill(signer, range(first, each.nonce), FeeBid(each.max_fee, each.priority_fee), head)

    def _fill(self, signer: str, nonces: range, bid: FeeBid, head: Head) -> None:
        chain_id = self._settings.chain_id
        with self._store.write() as db:
            self._leases.fence(db, signer)
            used = repository.nonces_from(db, chain_id, signer, nonces.start)
            budget = Budget.of(db, self._settings, head.moment)
            for nonce in sorted({*nonces} - used):
                if not budget.reserve(fees.cost(_NOOP_GAS, bid.max_fee)):
                    return
                log.warning("nobody uses a nonce that others wait for", relayer=signer, nonce=nonce)
                noop = Submission(
                    id=f"{TransactionKind.NOOP}:{signer}:{nonce}",
                    kind=TransactionKind.NOOP,
                    call=b"",
                    locks={},
                    state=State.SIGNED,
                    chain_id=chain_id,
                    signer=signer,
                    nonce=nonce,
                )
                repository.add(db, noop)
                signed = self.sign(noop.id, signer, nonce, None, _NOOP_GAS, bid, head.moment)
                repository.add_attempts(db, [signed])


def is_late(sent: Submission | InFlight, head: Head) -> bool:
    """Return True if the contract refuses the call from now on."""
    return sent.expires is not None and sent.expires < head.timestamp
