"""Batches that a wallet signs: prepared, shown, signed, and only then put into the outbox.

A prepared batch is stored as it will be sent, so that a client brings back nothing but signatures. The
permit is exact: a wallet shows its number, and that should be the price. The permit need not even succeed,
because the contract lets the allowance decide.
"""

import uuid
from dataclasses import replace

from sqlalchemy.exc import IntegrityError

from api.booking import plan as slots
from api.booking.create import Accepted, Bookings, Quote, hash_of, key_reused, must_publish
from api.booking.models import Batch, Failure, PreparedBatch, SigningRequest, reason
from api.chain import signatures
from api.chain.escrow import Chain, ChainSnapshot
from api.db import prepared, repository
from api.db.store import Store
from api.db.tables import now
from api.errors import Code, Problem
from api.people.directory import Annonce
from api.schemas.requests import CreateBatchBookingData, SubmitData
from api.settings import Settings
from creneau import abi, typed_data
from creneau.amounts import lesson_amount
from creneau.order import Order, Permit, SlotCode

_SECOND = 1_000_000


class WalletBookings:
    """Prepares batches, and takes their signatures."""

    def __init__(self, settings: Settings, store: Store, chain: Chain, bookings: Bookings) -> None:
        self._settings = settings
        self._store = store
        self._chain = chain
        self._bookings = bookings

    def prepare(
        self, student_id: str, request: CreateBatchBookingData, key: str | None, request_id: str
    ) -> SigningRequest:
        """Check a request, and return what its student has to sign. Sends nothing. Raises `Problem`.

        A batch that the chain has, and only the database has lost, is stored and refused as submitted.
        """
        request_hash, key = hash_of(request), key or uuid.uuid4().hex
        if known := self._bookings.known(student_id, key, request_hash):
            raise Problem(Code.ALREADY_SUBMITTED, details={"batchId": known})
        if waiting := self._waiting(student_id, key, request_hash):
            return self._to_sign(waiting)
        seconds = self._settings.prepare_seconds + self._settings.order_seconds
        quote = self._bookings.quote(student_id, request, key, request_hash, seconds, own_wallet=True)
        if quote.created_by is not None:
            known = self._found(quote, quote.created_by, request_id)
            raise Problem(Code.ALREADY_SUBMITTED, details={"batchId": known})
        total, snapshot = sum(quote.order.amounts_wei), quote.snapshot
        needs_permit = snapshot.allowance < total
        expires_at = now() + self._settings.prepare_seconds * _SECOND
        value, nonce = (total, snapshot.permit_nonce) if needs_permit else (None, None)
        made = PreparedBatch(quote.batch, value, nonce, expires_at)
        try:
            with self._store.write() as db:
                prepared.add(db, made)
        except IntegrityError:
            if waiting := self._waiting(student_id, key, request_hash):
                return self._to_sign(waiting)
            raise
        return self._to_sign(made)

    def submit(self, student_id: str, batch_id: str, signed: SubmitData, request_id: str) -> Accepted:
        """Put a prepared batch into the outbox, once. Raises `Problem`, storing nothing."""
        if self._is_batch(student_id, batch_id):
            return Accepted(batch_id, replayed=True)
        try:
            return self._submit(student_id, batch_id, signed, request_id)
        except Problem:
            # The same, sent twice at once: what is in the way may be what the other one booked.
            if self._is_batch(student_id, batch_id):
                return Accepted(batch_id, replayed=True)
            raise

    def _submit(self, student_id: str, batch_id: str, signed: SubmitData, request_id: str) -> Accepted:
        with self._store.read() as db:
            waiting = prepared.prepared(db, batch_id)
        if waiting is None or waiting.batch.student_id != student_id:
            raise Problem(Code.BATCH_NOT_FOUND)
        if waiting.expires_at <= now():
            raise Problem(Code.PREPARED_EXPIRED)
        batch, order = waiting.batch, waiting.batch.order
        parties = self._bookings.resolve(student_id, batch.tutor_id, batch.annonce_id or "")
        if (parties.student.wallet, parties.tutor.wallet) != (order.student, order.tutor):
            raise Problem(Code.WALLET_CHANGED)
        snapshot = self._chain.snapshot(batch.terms, order.digest(self._chain.domain), signed.signature)
        if snapshot.signature is None:
            raise signatures.refused("signature", order.student, signed.signature)
        permit = self._permit(waiting, order, signed)
        call = abi.create_bookings_data(order, snapshot.signature, permit)
        if self._bookings.created_by(batch_id, snapshot):
            # Only the database had lost it.
            return self._bookings.add(batch, call, False, snapshot, request_id, was_prepared=True)
        charged = self._charged(batch, order, parties.annonce, snapshot)
        useful = permit is not None and snapshot.permit_nonce == waiting.permit_nonce
        if snapshot.allowance < charged and permit is None and waiting.permit_value is not None:
            raise Problem.of_field(Code.PERMIT_REQUIRED, "permitSignature")
        self._bookings.require_funds(snapshot, charged, len(order.slots), can_permit=useful)
        publishes = must_publish(order, parties.tutor, snapshot)
        batch = replace(batch, instant=snapshot.listing.instant)
        return self._bookings.add(batch, call, publishes, snapshot, request_id, was_prepared=True)

    def _found(self, quote: Quote, created_by: str, request_id: str) -> str:
        """Put a batch into the outbox that the chain has and the database has lost. Return its id.

        Its call is the one that created it, which can be sent again if its block is orphaned.
        """
        call = self._chain.creation(quote.batch.id, created_by) or abi.create_bookings_data(quote.order)
        added = self._bookings.add(quote.batch, call, False, quote.snapshot, request_id, was_prepared=True)
        return added.batch_id

    def _is_batch(self, student_id: str, batch_id: str) -> bool:
        with self._store.read() as db:
            batch = repository.batch(db, batch_id)
        return batch is not None and batch.student_id == student_id

    def _waiting(self, student_id: str, key: str, request_hash: str) -> PreparedBatch | None:
        with self._store.read() as db:
            waiting = prepared.prepared_of_key(db, student_id, key)
        if waiting is not None and waiting.batch.request_hash != request_hash:
            raise key_reused()
        return waiting

    def _permit(self, waiting: PreparedBatch, order: Order, signed: SubmitData) -> Permit | None:
        if waiting.permit_value is None or signed.permit_signature is None:
            return None
        message = self._chain.permit_message(order, waiting.permit_value, waiting.permit_nonce or 0)
        signature = signatures.by_key(order.student, typed_data.digest(message), signed.permit_signature)
        if signature is None:
            raise signatures.refused("permitSignature", order.student, signed.permit_signature)
        return Permit.from_signature(waiting.permit_value, waiting.batch.deadline, signature)

    @staticmethod
    def _charged(batch: Batch, order: Order, annonce: Annonce, snapshot: ChainSnapshot) -> int:
        """Return the base units that would be charged now. Raises `Problem` if nothing can be booked."""
        rate = annonce.hourly_rate
        if rate != order.hourly_rate_wei:
            changed = [
                slots.failure(
                    lesson,
                    Code.AMOUNT_MISMATCH,
                    price=lesson_amount(rate, lesson["duration"]),
                    amount=lesson["amount"],
                )
                for lesson in batch.lessons
            ]
            why = Code.RATE_MISMATCH.sentence(rate=rate)
            raise slots.nothing_booked(_with(batch, changed), Code.RATE_MISMATCH, why)
        failed = slots.refused(batch.lessons, snapshot.codes)
        # The contract leaves out only what is taken, and a signed order can't be changed.
        lost = {*snapshot.codes} - {SlotCode.OK, SlotCode.TAKEN}
        if failed and (lost or len(batch.lessons) - len(failed) < order.min_lessons):
            raise slots.nothing_booked(_with(batch, failed), failed[0]["code"], reason(failed[0]))
        pairs = zip(order.amounts_wei, snapshot.codes, strict=True)
        return sum(wei for wei, code in pairs if code == SlotCode.OK)

    def _to_sign(self, waiting: PreparedBatch) -> SigningRequest:
        order, permit = waiting.batch.order, None
        if waiting.permit_value is not None:
            permit = self._chain.permit_message(order, waiting.permit_value, waiting.permit_nonce or 0)
        return SigningRequest(waiting, order.typed_data(self._chain.domain), permit)


def _with(batch: Batch, failed: list[Failure]) -> list[Failure]:
    """Return the failures of the batch when it was prepared, and these."""
    return sorted([*batch.failures, *failed], key=lambda failure: failure["index"])
