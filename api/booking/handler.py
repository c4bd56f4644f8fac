"""The handler of batches: what can be sent, the meaning of each outcome lesson by lesson, and the log."""

from collections.abc import Callable, Collection, Mapping, Sequence

from api.booking import plan as slots
from api.booking.models import Batch, BatchResult
from api.chain.escrow import Chain, unhex
from api.chain.rpc import Call, NodeUnavailable, RpcError
from api.db import index, repository
from api.db.store import Store
from api.errors import SLOT_CODES, Code
from api.outbox.handlers import TAG, line, rejection
from api.outbox.models import Outcome, Prepared, Receipt, Rejection, Settlement, State, Submission
from creneau import abi, events
from creneau.amounts import to_wei
from creneau.errors import ContractError, NotActor, OrderExists, SlotError, TooFewFree
from creneau.types import to_bytes32, to_hex

_BLOCKS = "latest", "pending"
_LOOK_BACK = 9_000  # Blocks that nodes search at once; an order is valid for less than that.
_BOOKINGS_CREATED = to_hex(events.BOOKINGS_CREATED)
_BOOKED = slice(2 + 6 * 64, 2 + 7 * 64)  # The hex digits of the event's seventh word. The order is known.


class BatchHandler:
    """Handles the creation of batches."""

    def __init__(self, store: Store, chain: Chain, notify: Callable[[Collection[str]], None]) -> None:
        """`notify` is called with the ids of batches that were settled."""
        self._store = store
        self._chain = chain
        self._node = chain.node
        self._notify = notify

    def prepare(self, submissions: Sequence[Submission]) -> dict[str, Prepared | Rejection]:
        """Return all that can be sent now, with the listing's publication unless that was done meanwhile."""
        prepared: dict[str, Prepared | Rejection] = {
            each.id: Prepared(each, each.locks) for each in submissions if each.publish is None
        }
        first = [each for each in submissions if each.publish is not None]
        batches = self._batches(first)
        answers = self._node.call_many([self._listing(batches[each.id]) for each in first])
        for each, answer in zip(first, answers, strict=True):
            if isinstance(answer, RpcError):
                continue
            batch, listing = batches[each.id], abi.decode_listing(unhex(answer))
            if to_wei(listing.hourly_rate) == batch.hourly_rate:
                prepared[each.id] = Prepared(each, each.locks)
            elif listing.nonce == each.listing_nonce:
                locks = {**each.locks, f"{batch.tutor}/{batch.listing}": 1}
                prepared[each.id] = Prepared(each, locks, publishes=True)
            else:
                prepared[each.id] = Rejection(Code.RATE_MISMATCH, Code.RATE_MISMATCH.sentence())
        return prepared

    def classify(self, outcomes: Sequence[Outcome]) -> dict[str, Settlement]:
        """Return the settlement of each, lesson by lesson. Leave out those that can't be told yet.

        When slots are at fault the contract names all of them; an order that exists has a receipt.
        """
        batches = self._batches([each.submission for each in outcomes])
        settlements: dict[str, Settlement] = {}
        for each in outcomes:
            if each.succeeded and each.receipt is not None:
                settlements[each.submission.id] = _created(each.submission, batches, each.receipt)
        failed = [each for each in outcomes if not each.succeeded]
        # Whatever the error, somebody else may have created it: its deadline is over, say, or its
        # listing was published by that very transaction, which may only be pending.
        ids = [each.submission.id for each in failed]
        answers = iter(self._node.call_many([self._chain.batch(id_, b) for id_ in ids for b in _BLOCKS]))
        others: list[Outcome] = []
        for each, latest, pending in zip(failed, answers, answers, strict=True):
            submission, error = each.submission, each.error
            try:
                if isinstance(latest, RpcError):
                    raise latest
                if _exists(latest):
                    receipt = self._creation(submission.id)
                    settlements[submission.id] = _created(submission, batches, receipt)
                elif not (
                    isinstance(error, OrderExists)
                    or _exists(pending)
                    or self._outdated(submission, batches[submission.id], error)
                ):
                    others.append(each)
            except (NodeUnavailable, RpcError) as reason:
                line(submission).warning("how the batch was created is not known", reason=str(reason))
        checks = [self._chain.check(batches[each.submission.id].terms) for each in others]
        for each, check in zip(others, self._node.call_many(checks), strict=True):
            settlements[each.submission.id] = _refused(each, batches[each.submission.id], check)
        return settlements

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """Log each lesson, and wake the requests that wait for these batches."""
        batches = self._batches([each.submission for each in settlements])
        for each in settlements:
            _log(each.submission, batches[each.submission.id])
        self._notify([*batches])

    def _batches(self, submissions: Sequence[Submission]) -> dict[str, Batch]:
        with self._store.read() as db:
            return repository.batches_by_id(db, [each.id for each in submissions])

    def _listing(self, batch: Batch, block: str = "latest") -> Call:
        return self._chain.listing(batch.tutor, to_bytes32(batch.listing), block)

    def _outdated(self, submission: Submission, batch: Batch, error: ContractError | None) -> bool:
        """Return True if the listing was published between the look at it and the preflight.

        The next preflight knows.
        """
        if submission.state != State.ACCEPTED or not isinstance(error, NotActor):
            return False
        if error.actor != batch.tutor:
            return False
        answers = self._node.call_many([self._listing(batch, block) for block in _BLOCKS])
        return any(
            not isinstance(answer, RpcError)
            and abi.decode_listing(unhex(answer)).nonce != submission.listing_nonce
            for answer in answers
        )

    def _creation(self, batch_id: str) -> Receipt:
        """Return the receipt of the transaction that created the batch, whoever sent it."""
        with self._store.read() as db:
            known = index.creation_of(db, batch_id)
        receipt = known and self._node.call("eth_getTransactionReceipt", known)
        if receipt:
            return Receipt.from_rpc(receipt)
        first = max(int(self._node.call("eth_blockNumber"), 16) - _LOOK_BACK, 0)
        topics = [_BOOKINGS_CREATED, batch_id]
        found = self._node.call(
            "eth_getLogs", {"address": self._chain.escrow, "fromBlock": hex(first), "topics": topics}
        )
        receipt = found and self._node.call("eth_getTransactionReceipt", found[0]["transactionHash"])
        if not receipt:
            raise NodeUnavailable("a batch without a receipt")
        return Receipt.from_rpc(receipt)


def _created(submission: Submission, batches: Mapping[str, Batch], receipt: Receipt) -> Settlement:
    """Return the settlement that the receipt of the batch's creation tells."""
    [booked] = [
        int(entry["data"][_BOOKED], 16)
        for entry in receipt.logs
        if entry["topics"][:2] == [_BOOKINGS_CREATED, submission.id]
    ]
    left_out = [
        slots.failure(lesson, Code.TAKEN)
        for place, lesson in enumerate(batches[submission.id].lessons)
        if not booked >> place & 1
    ]
    return Settlement(submission, receipt, result=BatchResult(booked, left_out))


def _refused(outcome: Outcome, batch: Batch, check: str | RpcError) -> Settlement:
    """Return the settlement of a batch that the contract refused, by its error and its check of the slots."""
    error, submission, receipt = outcome.error, outcome.submission, outcome.receipt
    booked = None if receipt is None else 0
    codes = [] if isinstance(check, RpcError) else abi.decode_check(unhex(check))[0]
    left_out = [
        slots.failure(lesson, SLOT_CODES[code])
        for lesson, code in zip(batch.lessons, codes, strict=False)
        if code in SLOT_CODES
    ]
    if isinstance(error, SlotError | TooFewFree) or (error is None and left_out):
        # Not taken any more, if it names none: it was when the contract said so.
        left_out = left_out or [slots.failure(lesson, Code.TAKEN) for lesson in batch.lessons]
        return Settlement(submission, receipt, Rejection(), BatchResult(booked, left_out))
    return Settlement(submission, receipt, rejection(error), BatchResult(booked))


def _log(submission: Submission, batch: Batch) -> None:
    bound = line(submission)
    failed = batch.not_booked
    count = len(batch.lessons) + len(batch.failures)
    booked = batch.booked or 0
    if not booked:
        bound.warning(f"{TAG} ❌ Aucune réservation créée: {batch.code or failed[0]['code']}")
        return
    for place, lesson in enumerate(batch.lessons):
        if booked >> place & 1:
            number = lesson["index"]
            bound.info(f"{TAG} Création réservation {number}/{count}")
            bound.info(f"{TAG} ✅ Réservation {number} créée: {batch.booking_id(place)}")
    for failure in failed:
        bound.warning(f"{TAG} ❌ Réservation {failure['index']} refusée: {failure['code']}")
    if failed:
        bound.warning(f"{TAG} ⚠️ {count - len(failed)} réservations créées sur {count}")
    else:
        bound.info(f"{TAG} ✅ Toutes les {count} réservations ont été créées avec succès!")


def _exists(batch: str | RpcError) -> bool:
    return not isinstance(batch, RpcError) and bool(abi.decode_batch(unhex(batch)).created_at)
