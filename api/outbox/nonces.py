"""Nonces: the first transaction that is signed with one, its replacements, and those that only use it.

The time that a transaction waits is told by this process's own clock since it first saw the transaction, and
its lateness by the chain's: what other processes wrote is compared with neither. The time for which a nonce
is missing is told by the nonce, whatever becomes of the transactions behind it.
"""

import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from sqlalchemy import Connection

from api.chain.escrow import Chain
from api.chain.remote_signer import SignerUnavailable
from api.chain.rpc import Head, RpcError
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


@dataclass
class Timing:
    """The memory that one process has of a transaction that waits for a block."""

    since: float  # By the monotonic clock,
    block: int  # with this head.
    send_after: float = 0.0
    bump_after: float = 0.0
    underpriced: bool = False  # A node did not take it for its price.


class Unsigned(NamedTuple):
    """A transaction before it is signed: a call to the escrow or, without one, a transfer of nothing.

    Such a transfer uses the nonce.
    """

    submission_id: str
    signer: str
    nonce: int
    calldata: bytes | None
    gas: int
    bid: FeeBid
    moment: int  # The block time, in microseconds.
    cost: int = 0  # The highest of earlier attempts, in gwei.
    first: Prepared | None = None


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
        self._missing: dict[tuple[str, int], float] = {}  # Nonces that nobody uses, and since when.
        self.timings: dict[str, Timing] = {}  # By transaction.

    @property
    def missing(self) -> list[tuple[str, int]]:
        """The nonces, each after its account, that nobody uses and transactions wait for."""
        return sorted(self._missing)

    def remember(self, in_flight: Sequence[InFlight], head: Head) -> None:
        """Remember these transactions, and forget all others."""
        clock = time.monotonic()
        hashes = [each.transaction_hash for each in in_flight]
        self.timings = {each: self.timings.get(each) or Timing(clock, head.number) for each in hashes}

    def next(self, db: Connection, signer: str, mined: int) -> int:
        """Return the nonce after the chain's and the table's highest.

        Transactions of others that are pending do not count: a node may name too many, and theirs may be
        forgotten. If one gets into a block, the batch gets another nonce once that block is final.
        """
        highest = repository.highest_nonce(db, self._settings.chain_id, signer)
        return max(mined, 0 if highest is None else highest + 1)

    def sign(self, these: Sequence[Unsigned]) -> list[SignedAttempt]:
        """Sign transactions of one account, in order: as many of the first as can be signed now.

        A signer may take seconds, so no transaction of the database waits for it. Raises `SignerUnavailable`.
        """
        if not these:
            return []
        raws = self._signers[these[0].signer].sign_transactions([self._fields(each) for each in these])
        return [_attempt(each, raw) for each, raw in zip(these, raws, strict=False)]

    def _fields(self, unsigned: Unsigned) -> dict[str, Any]:
        return {
            "type": 2,
            "chainId": self._settings.chain_id,
            "to": unsigned.signer if unsigned.calldata is None else self._chain.escrow,
            "value": 0,
            "data": unsigned.calldata or b"",
            "nonce": unsigned.nonce,
            "gas": unsigned.gas,
            "maxFeePerGas": unsigned.bid.max_fee,
            "maxPriorityFeePerGas": unsigned.bid.priority_fee,
        }

    def replace(self, in_flight: Sequence[InFlight], head: Head) -> Sequence[InFlight]:
        """Replace what waits too long, or bids too little. Return what is in flight then.

        What waits for a nonce that nobody uses would not get into a block for more money, either.
        """
        clock = time.monotonic()
        # The contract refuses from now on what is late.
        late = {each.id for each in in_flight if each.is_noop or is_late(each, head)}
        due: list[InFlight] = []
        for each in in_flight:
            timing = self.timings[each.transaction_hash]
            if self._waits_for_a_nonce(each):
                timing.since, timing.block = clock, head.number  # Its own turn has not come.
                continue
            waits = clock - timing.since >= self._settings.bump_seconds
            # More money helps if a node had it and a block went by without it, not if there are no blocks.
            passed_over = each.state == State.SUBMITTED and head.number > timing.block
            needed = head.base_fee > each.max_fee or timing.underpriced
            needed = needed or (waits and (passed_over or each.id in late))
            if needed and clock >= timing.bump_after:
                timing.bump_after = clock + self._settings.resend_seconds
                due.append(each)
        if not due or not self._replace(due, late, head):
            return in_flight
        with self._store.read() as db:
            newer = repository.in_flight(db, self._leases.held)
        self.remember(newer, head)
        return newer

    def _waits_for_a_nonce(self, sent: InFlight) -> bool:
        return any(signer == sent.signer and nonce < sent.nonce for signer, nonce in self._missing)

    def _replace(self, due: Sequence[InFlight], late: Collection[str], head: Head) -> bool:
        tip, gas_of_noop = self._market(sorted({each.signer for each in due}))
        with self._store.read() as db:
            planned = self._replacements(db, due, late, head, tip, gas_of_noop)
        signed: list[SignedAttempt] = []
        for signer in gas_of_noop:
            with suppress(SignerUnavailable):  # Those of other accounts are replaced.
                signed += self.sign([each for each in planned.values() if each.signer == signer])
        with self._store.write() as db:
            for signer in gas_of_noop:
                self._leases.fence(db, signer)
            budget = Budget.of(db, self._settings, head.moment)  # Others may have spent of it meanwhile.
            kept = [
                each
                for each in signed
                if budget.reserve(each.cost - planned[each.attempt.transaction_id].cost)
            ]
            repository.add_attempts(db, kept)
        old = {each.id: each for each in due}
        for each in (signed.attempt for signed in kept):
            told = {"nonce": each.nonce, "max_fee": each.max_fee, "is_noop": each.is_noop}
            line(old[each.transaction_id]).info("replaced", **told)
        return bool(kept)

    def _replacements(
        self,
        db: Connection,
        due: Sequence[InFlight],
        late: Collection[str],
        head: Head,
        tip: int,
        gas_of_noop: Mapping[str, int | None],
    ) -> dict[str, Unsigned]:
        """Return the replacements that the caps allow, by submission."""
        planned: dict[str, Unsigned] = {}
        submissions = {each.id: each for each in repository.submissions(db, [each.id for each in due])}
        budget = Budget.of(db, self._settings, head.moment)
        for each in due:
            is_noop, submission = each.id in late, submissions[each.id]
            gas, cost = gas_of_noop[each.signer] if is_noop else each.gas, submission.cost or 0
            if gas is None:
                continue
            old = FeeBid(each.max_fee, each.priority_fee)
            steep = self.timings[each.transaction_hash].underpriced
            bid = fees.bumped(self._settings, old, head.base_fee, tip, gas, steep=steep)
            if bid is None or not budget.reserve(max(fees.cost(gas, bid.max_fee) - cost, 0)):
                line(each).warning("a replacement would cost more than the caps allow")
                continue
            calldata = None if is_noop else _calldata(each.raw)
            terms = each.id, each.signer, each.nonce, calldata, gas, bid, head.moment, cost
            planned[each.id] = Unsigned(*terms)
        return planned

    def _market(self, signers: Sequence[str]) -> tuple[int, dict[str, int | None]]:
        """Return the market's tip, 0 if unknown, and the gas of each account's transfer of nothing to itself.

        A transfer takes 21,000; on some chains its data cost more. None: the node can't estimate it.
        """
        transfers = [{"from": signer, "to": signer, "value": "0x0"} for signer in signers]
        market, *estimates = self._chain.node.call_many(
            [("eth_maxPriorityFeePerGas", []), *(("eth_estimateGas", [each]) for each in transfers)]
        )
        gas = {
            signer: None if isinstance(estimate, RpcError) else int(estimate, 16) * 5 // 4
            for signer, estimate in zip(signers, estimates, strict=True)
        }
        return 0 if isinstance(market, RpcError) else int(market, 16), gas

    def fill_nonce_gaps(self, in_flight: Sequence[InFlight], mined: Mapping[str, int], head: Head) -> None:
        """Use the nonces that nobody uses, and that submissions have waited for.

        `mined` has how many nonces of each account are used in blocks up to the head.
        """
        clock, chain_id = time.monotonic(), self._settings.chain_id
        missing: set[tuple[str, int]] = set()
        with self._store.read() as db:
            for signer, last in {each.signer: each.nonce for each in in_flight}.items():
                first = mined.get(signer, last)
                wanted = range(first, min(last, first + MOST_FILLED))
                used = repository.nonces_from(db, chain_id, signer, first) if wanted else set()
                missing |= {(signer, nonce) for nonce in wanted if nonce not in used}
        self._missing = {each: self._missing.get(each, clock) for each in missing}
        waited = [k for k, since in self._missing.items() if clock - since >= self._settings.bump_seconds]
        if waited:
            with suppress(SignerUnavailable):  # They go on waiting.
                self._fill(sorted(waited), head)

    def _fill(self, nonces: Sequence[tuple[str, int]], head: Head) -> None:
        tip, gas_of_noop = self._market(sorted({signer for signer, _ in nonces}))
        for signer, nonce in nonces:
            with self._store.read() as db:
                if nonce in repository.nonces_from(db, self._settings.chain_id, signer, nonce):
                    continue  # Another process was quicker.
            log.warning("nobody uses a nonce that others wait for", relayer=signer, nonce=nonce)
            gas = gas_of_noop[signer]
            bid = None if gas is None else fees.first(self._settings, head.base_fee, gas, tip)
            if gas is None or bid is None or not self._use(signer, nonce, gas, bid, head):
                log.warning("a transfer that uses it costs more than the caps allow", relayer=signer)
                return

    def _use(self, signer: str, nonce: int, gas: int, bid: FeeBid, head: Head) -> bool:
        """Use a nonce, unless somebody has. Return False if that costs more than the day's cap allows.

        Raises `SignerUnavailable`.
        """
        noop = Submission(
            id=f"{TransactionKind.NOOP}:{uuid.uuid4().hex}",
            kind=TransactionKind.NOOP,
            call=b"",
            locks={},
            state=State.SIGNED,
            chain_id=self._settings.chain_id,
            signer=signer,
            nonce=nonce,
            expires=0,  # Its nonce used by another transaction, it has no purpose any more.
        )
        known = True
        while known:
            [signed] = self.sign([Unsigned(noop.id, signer, nonce, None, gas, bid, head.moment)])
            with self._store.read() as db:
                # An earlier filler lost the nonce, to a block that is gone or to a node's error.
                known = repository.is_attempt(db, signed.attempt.hash)
            gas += 1
        with self._store.write() as db:
            self._leases.fence(db, signer)
            if nonce in repository.nonces_from(db, self._settings.chain_id, signer, nonce):
                return True
            if not Budget.of(db, self._settings, head.moment).reserve(signed.cost):
                return False
            repository.add(db, noop)
            repository.add_attempts(db, [signed])
        return True


def _attempt(unsigned: Unsigned, raw: bytes) -> SignedAttempt:
    bid, gas = unsigned.bid, unsigned.gas
    attempt = Attempt(
        hash=to_hex(keccak(raw)),
        transaction_id=unsigned.submission_id,
        signer=unsigned.signer,
        nonce=unsigned.nonce,
        raw=raw,
        gas=gas,
        max_fee=bid.max_fee,
        priority_fee=bid.priority_fee,
        is_noop=unsigned.calldata is None,
        created_at=now(),
    )
    # Any of the attempts may get into a block.
    cost = max(unsigned.cost, fees.cost(gas, bid.max_fee))
    return SignedAttempt(attempt, unsigned.moment, cost, unsigned.first)


def _calldata(raw: bytes) -> bytes:
    """Return the data of a signed transaction."""
    return bytes(TypedTransaction.from_bytes(HexBytes(raw)).as_dict()["data"])


def is_late(sent: Submission | InFlight, head: Head) -> bool:
    """Return True if the contract refuses the call from now on."""
    return sent.expires is not None and sent.expires < head.timestamp
