"""The handler of batches: what can be sent, the meaning of each outcome lesson by lesson, and the log."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from api.booking import plan as slots
from api.booking.models import Batch, BatchResult
from api.chain.escrow import Chain, told, unhex
from api.chain.remote_signer import SignerUnavailable
from api.chain.rpc import Call, Head, NodeUnavailable, RpcError, at
from api.chain.signers import Custodian, Signer
from api.db import index, repository
from api.db.store import Store
from api.errors import SLOT_CODES, Code
from api.outbox.handlers import LATE, TAG, line, rejection
from api.outbox.models import Outcome, Prepared, Receipt, Rejection, Settlement, Submission
from api.people.directory import TableDirectory
from creneau import abi, events
from creneau.amounts import to_wei
from creneau.booking import Listing
from creneau.errors import SlotError, TooFewFree
from creneau.types import to_bytes32, to_hex

_LOOK_BACK = 9_000  # Blocks that nodes search at once; an order is valid for less than that.
_BOOKINGS_CREATED = to_hex(events.BOOKINGS_CREATED)
_BOOKED = slice(2 + 6 * 64, 2 + 7 * 64)  # The hex digits of the event's seventh word. The order is known.


class BatchHandler:
    """Handles the creation of batches."""

    def __init__(self, store: Store, chain: Chain, users: TableDirectory, custodian: Custodian) -> None:
        """`users` know whose custodial account is whose."""
        self._store = store
        self._chain = chain
        self._node = chain.node
        self._users = users
        self._custodian = custodian

    def prepare(
        self, submissions: Sequence[Submission], head: Head, doubted: Collection[str]
    ) -> dict[str, Prepared]:
        """Return all that can be sent now: as it was accepted, unless that has to be looked at again.

        A listing that was not published is, unless that was done meanwhile. What was refused gets whatever
        publication and permit this block asks for: what acceptance had seen may have been reorganised away.
        """
        prepared = {
            each.id: Prepared(each, each.locks, each.call)
            for each in submissions
            if not each.publishes and each.id not in doubted
        }
        others = [each for each in submissions if each.id not in prepared]
        batches = self._batches(others)
        calls: list[Call] = []
        for batch in (batches[each.id] for each in others):
            calls += [self._listing(batch), *self._chain.permits(batch.student)]
        answers = iter(self._node.call_many([at(call, head) for call in calls]))
        for each, listing, allowance, nonce in zip(others, answers, answers, answers, strict=True):
            with suppress(NodeUnavailable, SignerUnavailable):  # It is for the next pass.
                permits = self._chain.decode_permits(allowance, nonce)
                offer = abi.decode_listing(told(listing))
                prepared[each.id] = self._prepared(each, batches[each.id], offer, *permits)
        return prepared

    def _prepared(
        self, each: Submission, batch: Batch, listing: Listing, allowance: int, permit_nonce: int | None
    ) -> Prepared:
        call, locks = each.call, each.locks
        if student := self._signer(batch.student_id, batch.student):
            call = self._chain.create_call(batch.order, student, allowance, permit_nonce)
        tutor = self._signer(batch.tutor_id, batch.tutor)
        is_published = to_wei(listing.hourly_rate) == batch.hourly_rate
        # A publication that acceptance did not know is respected, whatever its rate.
        if is_published or tutor is None or listing.nonce > (each.listing_nonce or 0):
            return Prepared(each, locks, call)
        locks = {**locks, f"{batch.tutor}/{batch.listing}": 1}
        publish = self._chain.publish_call(batch.order, tutor, listing)
        return Prepared(each, locks, abi.multicall_data([publish, call]), publishes=True)

    def _signer(self, user_id: str, account: str) -> Signer | None:
        """Return the signer of an account that is kept for the user; None for a wallet."""
        user = self._users.user(user_id)
        if user is None or user.kept_account is None:
            return None
        signer = self._custodian.signer(user.kept_account)
        return signer if signer.address == account else None

    def classify(self, outcomes: Sequence[Outcome], head: Head) -> dict[str, Settlement]:
        """Return the settlement of each, lesson by lesson. Leave out those that can't be told yet.

        When slots are at fault the contract names all of them; an order that exists has a receipt.
        """
        batches = self._batches([each.submission for each in outcomes])
        settlements: dict[str, Settlement] = {}
        for each in outcomes:
            if each.receipt is not None:
                settlements[each.submission.id] = _created(each.submission, batches, each.receipt)
        refused = [each for each in outcomes if each.receipt is None]
        # Whatever the error, somebody else may have created it: its deadline is over, say.
        calls = [
            (self._chain.batch(each.submission.id), self._chain.check(batches[each.submission.id].terms))
            for each in refused
        ]
        answers = iter(self._node.call_many([at(call, head) for pair in calls for call in pair]))
        for each, batch, check in zip(refused, answers, answers, strict=True):
            submission = each.submission
            try:
                if isinstance(batch, RpcError):
                    raise batch
                if abi.decode_batch(unhex(batch)).booked:  # A revoked order has no lessons.
                    receipt = self._creation(submission.id)
                    settlements[submission.id] = _created(submission, batches, receipt)
                else:
                    settlements[submission.id] = _refused(each, batches[submission.id], check)
            except (NodeUnavailable, RpcError) as reason:
                line(submission).warning("how the batch was created is not known", reason=str(reason))
        return settlements

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """Log each lesson."""
        batches = self._batches([each.submission for each in settlements])
        for each in settlements:
            _log(each.submission, batches[each.submission.id])

    def _batches(self, submissions: Sequence[Submission]) -> dict[str, Batch]:
        with self._store.read() as db:
            return repository.batches_by_id(db, [each.id for each in submissions])

    def _listing(self, batch: Batch) -> Call:
        return self._chain.listing(batch.tutor, to_bytes32(batch.listing))

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
    """Return the settlement of a batch that the contract refuses, by its error and its check of the slots."""
    error, submission = outcome.error or LATE, outcome.submission
    codes = [] if isinstance(check, RpcError) else abi.decode_check(unhex(check))[0]
    left_out = [
        slots.failure(lesson, SLOT_CODES[code])
        for lesson, code in zip(batch.lessons, codes, strict=False)
        if code in SLOT_CODES
    ]
    if isinstance(error, SlotError | TooFewFree):
        # Not taken any more, if it names none: it was when the contract said so.
        left_out = left_out or [slots.failure(lesson, Code.TAKEN) for lesson in batch.lessons]
        return Settlement(submission, rejection=Rejection(), result=BatchResult(None, left_out))
    return Settlement(submission, rejection=rejection(error), result=BatchResult(None))


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
