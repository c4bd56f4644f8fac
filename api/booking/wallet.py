"""Batches that a wallet signs: prepared, shown, signed, and only then put into the outbox.

What is prepared is stored as it will be sent, so that a client brings back nothing but signatures. The
permit is exact: a wallet shows its number, and that should be the price. It need not even succeed, because
the contract lets the allowance decide.
"""

import uuid
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Row, delete, insert, select
from sqlalchemy.exc import IntegrityError

from api.booking import plan as slots
from api.booking.create import Bookings, hash_of
from api.booking.models import Failure
from api.chain import signatures
from api.chain.escrow import Chain, ChainSnapshot, order_of, typed_digest
from api.db import repository
from api.db.store import Store
from api.db.tables import now, prepared_batches
from api.errors import Code, Problem
from api.people.directory import Annonce
from api.schemas.build import nothing_booked, rfc3339
from api.schemas.requests import CreateBatchBookingData, SubmitData
from api.settings import Settings
from creneau import abi
from creneau.amounts import format_amount, from_wei, lesson_amount
from creneau.order import Order, Permit, SlotCode

_SECOND = 1_000_000
_KEPT = 24 * 60 * 60 * _SECOND  # For so long an expired one is still known to be that.


class WalletBookings:
    """Prepares batches, and takes their signatures."""

    def __init__(self, settings: Settings, store: Store, chain: Chain, bookings: Bookings) -> None:
        self._settings = settings
        self._store = store
        self._chain = chain
        self._bookings = bookings

    def prepare(self, student_id: str, request: CreateBatchBookingData, key: str | None) -> dict[str, Any]:
        """Checks a request, and what its student has to sign for it. Sends nothing. Raises `Problem`."""
        request_hash, key = hash_of(request), key or uuid.uuid4().hex
        if known := self._bookings.known(student_id, key, request_hash):
            raise Problem(Code.ALREADY_SUBMITTED, details={"batchId": known})
        if open_row := self._open(student_id, key, request_hash):
            return self._answer(open_row)
        seconds = self._settings.prepare_seconds + self._settings.order_seconds
        quote = self._bookings.check(student_id, request, key, request_hash, seconds, own_wallet=True)
        total = sum(quote.order.amounts_wei)
        short = quote.snapshot.allowance < total
        row = {
            "id": quote.batch["id"],
            "student_id": student_id,
            "idempotency_key": key,
            "request_hash": request_hash,
            "batch": quote.batch,
            "permit_value": total if short else None,
            "permit_nonce": quote.snapshot.permit_nonce if short else None,
            "expires_at": now() + self._settings.prepare_seconds * _SECOND,
        }
        mine = (prepared_batches.c.student_id == student_id) & (prepared_batches.c.idempotency_key == key)
        try:
            with self._store.write() as db:
                db.execute(delete(prepared_batches).where(prepared_batches.c.expires_at < now() - _KEPT))
                db.execute(delete(prepared_batches).where(mine, prepared_batches.c.expires_at <= now()))
                db.execute(insert(prepared_batches), row)
        except IntegrityError:
            if open_row := self._open(student_id, key, request_hash):
                return self._answer(open_row)
            raise
        return self._answer(SimpleNamespace(**row))

    def submit(self, student_id: str, batch_id: str, signed: SubmitData, request_id: str) -> str:
        """Puts a prepared batch into the outbox, once; its id. Raises `Problem`, having stored nothing."""
        if self._is_batch(student_id, batch_id):
            return batch_id
        try:
            return self._submit(student_id, batch_id, signed, request_id)
        except Problem:
            # The same, sent twice at once: what is in the way may be what the other one booked.
            if self._is_batch(student_id, batch_id):
                return batch_id
            raise

    def _submit(self, student_id: str, batch_id: str, signed: SubmitData, request_id: str) -> str:
        with self._store.read() as db:
            row = db.execute(select(prepared_batches).where(prepared_batches.c.id == batch_id)).one_or_none()
        if row is None or row.student_id != student_id:
            raise Problem(Code.BATCH_NOT_FOUND)
        if row.expires_at <= now():
            raise Problem(Code.PREPARED_EXPIRED)
        order = order_of(SimpleNamespace(**row.batch))
        student, tutor, annonce = self._bookings.parties(
            student_id, row.batch["tutor_id"], row.batch["annonce_id"]
        )
        if (student.wallet, tutor.wallet) != (order.student, order.tutor):
            raise Problem(Code.WALLET_CHANGED)
        snapshot = self._chain.snapshot(order, signed.signature)
        if snapshot.signature is None:
            raise _wrong_signer("signature", order)
        permit = self._permit(row, order, signed)
        charged = self._charged(row.batch, order, annonce, snapshot)
        useful = permit is not None and snapshot.permit_nonce == row.permit_nonce
        if snapshot.allowance < charged and permit is None and row.permit_value is not None:
            raise Problem.of_field(Code.PERMIT_REQUIRED, "permitSignature")
        self._bookings.can_pay(snapshot, charged, len(order.slots), can_permit=useful)
        publish = self._bookings.publication(order, tutor, snapshot)
        call = abi.create_bookings_data(order, snapshot.signature, permit)
        return self._bookings.enqueue(row.batch, call, publish, snapshot, request_id, was_prepared=True)

    def _is_batch(self, student_id: str, batch_id: str) -> bool:
        with self._store.read() as db:
            row = repository.batch(db, batch_id)
        return row is not None and row.student_id == student_id

    def _open(self, student_id: str, key: str, request_hash: str) -> Row[Any] | None:
        mine = (prepared_batches.c.student_id == student_id) & (prepared_batches.c.idempotency_key == key)
        with self._store.read() as db:
            row = db.execute(
                select(prepared_batches).where(mine, prepared_batches.c.expires_at > now())
            ).one_or_none()
        if row is not None and row.request_hash != request_hash:
            raise Problem.of_field(Code.IDEMPOTENCY_KEY_REUSED, "Idempotency-Key")
        return row

    def _permit(self, row: Row[Any], order: Order, signed: SubmitData) -> Permit | None:
        if row.permit_value is None or signed.permit_signature is None:
            return None
        message = self._chain.permit_message(order, row.permit_value, row.permit_nonce)
        signature = signatures.by_key(order.student, typed_digest(message), signed.permit_signature)
        if signature is None:
            raise _wrong_signer("permitSignature", order)
        return Permit.from_signature(row.permit_value, row.batch["deadline"], signature)

    @staticmethod
    def _charged(batch: dict[str, Any], order: Order, annonce: Annonce, snapshot: ChainSnapshot) -> int:
        """What would be charged now. Raises `Problem` if nothing can be booked any more."""
        lessons = batch["lessons"]
        if annonce.hourly_rate != order.hourly_rate_wei:
            rate = annonce.hourly_rate
            changed = [
                slots.failure(
                    lesson,
                    Code.AMOUNT_MISMATCH,
                    price=lesson_amount(rate, lesson["duration"]),
                    amount=lesson["amount"],
                )
                for lesson in lessons
            ]
            reason = Code.RATE_MISMATCH.sentence(rate=rate)
            raise nothing_booked(_with(batch, changed), Code.RATE_MISMATCH, reason)
        failed = slots.refused(lessons, snapshot.codes)
        # The contract leaves out only what is taken, and a signed order can't be changed.
        lost = {*snapshot.codes} - {SlotCode.OK, SlotCode.TAKEN} or len(failed) == len(lessons)
        if failed and (lost or not order.allow_partial):
            raise nothing_booked(_with(batch, failed), failed[0]["code"], failed[0]["error"])
        return sum(
            wei for wei, code in zip(order.amounts_wei, snapshot.codes, strict=True) if code == SlotCode.OK
        )

    def _answer(self, row: Any) -> dict[str, Any]:
        order = order_of(SimpleNamespace(**row.batch))
        total, failed = sum(order.amounts_wei), row.batch["failures"]
        permit = None
        if row.permit_value is not None:
            permit = self._chain.permit_message(order, row.permit_value, row.permit_nonce)
        data = {
            "batchId": row.id,
            "expiresAt": rfc3339(row.expires_at),
            "totalAmount": from_wei(total),
            "totalAmountWei": str(total),
            "count": len(order.slots),
            "failedCount": len(failed),
            "failures": failed or None,
            "order": order.typed_data(self._chain.domain),
            "permit": permit,
        }
        message = f"Sign to book for {format_amount(total)} EDU. Nothing is booked yet."
        return {"success": True, "message": message, "data": data}


def _with(batch: dict[str, Any], failed: list[Failure]) -> list[Failure]:
    """Those that failed when the batch was prepared, and these."""
    together: list[Failure] = batch["failures"] + failed
    return sorted(together, key=lambda failure: failure["index"])


def _wrong_signer(field: str, order: Order) -> Problem:
    return Problem.of_field(Code.WRONG_SIGNER, field, account=order.student)
