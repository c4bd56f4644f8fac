"""Booking: from a request to a signed order in the outbox, and from there to the answer.

Everything is quote once: who asks and from whom, each lesson, and in one round trip to the node what the
chain has to say. What remains is signed, stored as `accepted`, and the relayer takes it from there.
"""

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from eth_utils.crypto import keccak
from sqlalchemy import Row, delete
from sqlalchemy.exc import IntegrityError

from api.booking import plan as slots
from api.booking.models import Batch, Lesson, order_slots
from api.chain.escrow import Chain, ChainSnapshot
from api.chain.signers import Custodian
from api.db import repository
from api.db.store import Store
from api.db.tables import prepared_batches
from api.errors import Code, Problem
from api.outbox.handlers import TAG
from api.outbox.locks import calendar_locks
from api.outbox.models import Submission, TransactionKind
from api.people.directory import Annonce, Directory, User
from api.people.schedule import hours
from api.schemas.build import nothing_booked
from api.schemas.requests import CreateBatchBookingData
from api.settings import Settings
from creneau.amounts import UINT96_MAX, format_amount, from_wei, to_wei
from creneau.order import Order, Slot, SlotCode, listing_id
from creneau.types import from_unix, to_hex, to_unix

log = structlog.get_logger()


@dataclass(frozen=True)
class Quote:
    """A request that can be booked, as far as anybody knows; `batch` has the columns of `batches`."""

    student: User
    tutor: User
    order: Order
    snapshot: ChainSnapshot
    batch: dict[str, Any]
    exists: bool  # The order was created before.


class Bookings:
    """Accepts requests."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        chain: Chain,
        directory: Directory,
        custodian: Custodian,
        accepted: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._chain = chain
        self._directory = directory
        self._custodian = custodian
        self._accepted = accepted

    def create(
        self, student_id: str, request: CreateBatchBookingData, key: str | None, request_id: str
    ) -> str:
        """Accepts a request, once for each idempotency key; the batch's id. Raises `Problem`."""
        request_hash = hash_of(request)
        if key is None:
            return self._accept(student_id, request, uuid.uuid4().hex, request_hash, request_id)
        if known := self.known(student_id, key, request_hash):
            return known
        try:
            return self._accept(student_id, request, key, request_hash, request_id)
        except Problem:
            # The same request, sent twice at once: what is in the way may be what the other one booked.
            if known := self.known(student_id, key, request_hash):
                return known
            raise

    def batch(self, batch_id: str) -> Batch:
        """Return a batch that was accepted."""
        with self._store.read() as db:
            batch = repository.batch(db, batch_id)
        if batch is None:
            raise LookupError(batch_id)
        return batch

    def known(self, student_id: str, key: str, request_hash: str) -> str | None:
        """The batch that an idempotency key made. Raises `Problem` if it was for another request."""
        with self._store.read() as db:
            row = repository.batch_of_key(db, student_id, key)
        if row is None:
            return None
        if row.request_hash != request_hash:
            raise _reused()
        return str(row.id)

    def _accept(
        self, student_id: str, request: CreateBatchBookingData, key: str, request_hash: str, request_id: str
    ) -> str:
        quote = self.check(student_id, request, key, request_hash, self._settings.order_seconds)
        publish = None
        if not quote.exists:
            publish = self.publication(quote.order, quote.tutor, quote.snapshot)
        index = quote.student.custody_index or 0
        call = self._chain.create_call(quote.order, self._custodian, index, quote.snapshot)
        return self.enqueue(quote.batch, call, publish, quote.snapshot, request_id)

    def check(
        self,
        student_id: str,
        request: CreateBatchBookingData,
        key: str,
        request_hash: str,
        seconds: int,
        *,
        own_wallet: bool = False,
    ) -> Quote:
        """Everything that can be known about a request; the order is good for at least so many seconds.

        Raises `Problem` if nothing can be booked, or the student's account is not of that kind.
        """
        log.info(f"{TAG} Nouvelles {len(request.bookings)} réservations demandées")
        student, tutor, annonce = self.parties(student_id, request.tutor_id, request.annonce_id)
        _of_kind(student, own_wallet)
        zone = ZoneInfo(request.time_zone or annonce.time_zone or self._settings.time_zone)
        moment = datetime.now(UTC)
        rate, during, salt = annonce.hourly_rate, None, keccak(text=f"{student.id}\n{key}")
        # Only the database may have lost the key. What was booked for it then is what is asked for.
        before = None if own_wallet else self._store.order_of(student.wallet, to_hex(salt))
        if before is not None:
            rate, moment = before.hourly_rate, from_unix(before.created_at) - slots.LEAD
        elif tutor.schedule is not None:
            his = ZoneInfo(tutor.time_zone or annonce.time_zone or self._settings.time_zone)
            during = hours(tutor.schedule, his)
        planned, failures = slots.plan(request.bookings, zone, rate, moment, during)
        if before is not None and not _is_of(before, tutor, annonce, planned):
            raise _reused()
        if not planned:
            raise nothing_booked(failures)
        order = Order(
            student=student.wallet,
            tutor=tutor.wallet,
            listing=listing_id(annonce.id),
            hourly_rate=from_wei(rate),
            allow_partial=request.allow_partial,
            deadline=moment.replace(microsecond=0),
            salt=salt,
            slots=tuple(Slot.of(*slot) for slot in order_slots(planned)),
        )
        snapshot = self._chain.snapshot(order, b"" if own_wallet else None)
        # The chain's clock decides, unless it lags: a local node mines only on demand.
        deadlines = _deadlines(max(to_unix(moment), snapshot.timestamp), seconds)
        codes, found = snapshot.codes, None
        if before is not None:
            found, its = before.deadline, [tuple(slot) for slot in before.slots]
            codes = [SlotCode.OK if slot in its else SlotCode.TAKEN for slot in order_slots(planned)]
        elif SlotCode.TAKEN in codes and not own_wallet:
            # What has taken the slots may be this order itself, and nobody has read of it yet.
            found = self._chain.created(order, deadlines)
            codes = codes if found is None else [SlotCode.OK] * len(planned)
        fitting = [lesson for lesson, code in zip(planned, codes, strict=True) if code == SlotCode.OK]
        failures += slots.refused(planned, codes)
        failures.sort(key=lambda failure: failure["index"])
        if not fitting or (failures and not request.allow_partial):
            raise nothing_booked(failures)

        deadline = deadlines[0] if found is None else found
        fitting_slots = tuple(Slot.of(*slot) for slot in order_slots(fitting))
        order = order.model_copy(update={"deadline": from_unix(deadline), "slots": fitting_slots})
        total = sum(order.amounts_wei)
        log.info(f"{TAG} Montant total: {format_amount(total)} EDU pour {len(fitting)} réservations")
        log.info(f"{TAG} Titre annonce trouvé: {' '.join(annonce.title.split())}")
        if found is None:
            self.can_pay(snapshot, total, len(fitting), can_permit=snapshot.permit_nonce is not None)
            _must_publish(order, tutor, snapshot)
        batch = {
            "id": to_hex(order.batch_id(self._chain.domain)),
            "student_id": student.id,
            "tutor_id": tutor.id,
            "annonce_id": annonce.id,
            "idempotency_key": key,
            "request_hash": request_hash,
            "description": request.description,
            "student_notes": request.student_notes,
            "lessons": fitting,
            "failures": failures,
            "student": order.student,
            "tutor": order.tutor,
            "listing": to_hex(order.listing),
            "hourly_rate": rate,
            "allow_partial": order.allow_partial,
            "deadline": deadline,
            "salt": to_hex(order.salt),
        }
        return Quote(student, tutor, order, snapshot, batch, exists=found is not None)

    def enqueue(
        self,
        batch: Mapping[str, Any],
        call: bytes,
        publish: bytes | None,
        snapshot: ChainSnapshot,
        request_id: str,
        *,
        was_prepared: bool = False,
    ) -> str:
        """Puts a batch into the outbox, once for each idempotency key; the batch's id."""
        locks = calendar_locks(batch["tutor"], order_slots(batch["lessons"]))
        if was_prepared:
            # A wallet's permit is exact, so each of its batches waits to see what the one before left.
            locks |= {f"allowance/{batch['student']}": 1}
        try:
            with self._store.write() as db:
                submission = Submission(
                    id=batch["id"],
                    kind=TransactionKind.CREATE,
                    request_id=request_id,
                    call=call,
                    publish=publish,
                    listing_nonce=snapshot.listing.nonce if publish else None,
                    locks=locks,
                    expires=batch["deadline"],
                    chain_id=self._settings.chain_id,
                )
                new = Batch(**batch, instant=snapshot.listing.instant, created_at=0)
                repository.add(db, submission, new)
                if was_prepared:
                    db.execute(delete(prepared_batches).where(prepared_batches.c.id == batch["id"]))
        except IntegrityError:
            known = self.known(batch["student_id"], batch["idempotency_key"], batch["request_hash"])
            if known:
                return known
            raise
        log.info("accepted", batch_id=batch["id"])
        self._accepted(str(batch["id"]))
        return str(batch["id"])

    def parties(self, student_id: str, tutor_id: str, annonce_id: str) -> tuple[User, User, Annonce]:
        """Student, tutor and annonce, each looked up once."""
        student = self._directory.user(student_id)
        if student is None or student.role != "student":
            raise Problem(Code.NOT_A_STUDENT)
        log.info(f"{TAG} Vérification étudiant: {student.id} ✅")
        tutor = self._directory.tutor(tutor_id)
        if tutor is None or tutor.role != "tutor":
            raise Problem.of_field(Code.TUTOR_NOT_FOUND, "tutorId")
        log.info(f"{TAG} Vérification tuteur: {tutor.id} ✅")
        annonce = self._directory.annonce(annonce_id)
        if annonce is None or annonce.tutor_id not in {tutor.id, tutor.profile_id}:
            raise Problem.of_field(Code.ANNONCE_NOT_FOUND, "annonceId")
        if not 0 < annonce.hourly_rate <= UINT96_MAX:
            raise Problem(Code.ANNONCE_NOT_BOOKABLE)
        return student, tutor, annonce

    def can_pay(self, snapshot: ChainSnapshot, total: int, count: int, *, can_permit: bool) -> None:
        """Raises `Problem` if the student has too little, or allows the contract too little of it."""
        if snapshot.balance < total:
            details = {"neededWei": str(total), "availableWei": str(snapshot.balance)}
            raise Problem(
                Code.INSUFFICIENT_BALANCE,
                details=details,
                count=count,
                price=total,
                available=snapshot.balance,
            )
        if snapshot.allowance < total and not can_permit:
            details = {"neededWei": str(total), "availableWei": str(snapshot.allowance)}
            details |= {"token": self._chain.token, "spender": self._chain.escrow}
            raise Problem(
                Code.INSUFFICIENT_ALLOWANCE,
                details=details,
                count=count,
                price=total,
                available=snapshot.allowance,
            )

    def publication(self, order: Order, tutor: User, snapshot: ChainSnapshot) -> bytes | None:
        """The call of a custodial tutor if his listing has to be published with the order."""
        if not _must_publish(order, tutor, snapshot):
            return None
        return self._chain.publish_call(order, self._custodian, tutor.custody_index or 0, snapshot.listing)


def _must_publish(order: Order, tutor: User, snapshot: ChainSnapshot) -> bool:
    published = to_wei(snapshot.listing.hourly_rate)
    if published == order.hourly_rate_wei or tutor.custody_index is not None:
        return published != order.hourly_rate_wei
    if not published:
        raise Problem(Code.NOT_PUBLISHED)
    raise Problem(Code.RATE_MISMATCH, published=published, rate=order.hourly_rate_wei)


def _of_kind(student: User, own_wallet: bool) -> None:
    if own_wallet and student.custody_index is not None:
        raise Problem(Code.CUSTODIAL_ACCOUNT, path="/api/blockchain/booking/batch")
    if not own_wallet and student.custody_index is None:
        raise Problem(Code.SIGNATURE_REQUIRED, path="/api/blockchain/booking/batch/prepare")


def _is_of(order: Row[Any], tutor: User, annonce: Annonce, planned: list[Lesson]) -> bool:
    """Whether the order may be that of a request for these lessons."""
    same = (order.tutor, order.listing) == (tutor.wallet, to_hex(listing_id(annonce.id)))
    return same and {tuple(slot) for slot in order.slots} <= {*order_slots(planned)}


def _reused() -> Problem:
    return Problem.of_field(Code.IDEMPOTENCY_KEY_REUSED, "Idempotency-Key")


def hash_of(request: CreateBatchBookingData) -> str:
    """Tells whether two requests with the same idempotency key are the same."""
    return hashlib.sha256(request.model_dump_json().encode()).hexdigest()


def _deadlines(moment: int, seconds: int) -> list[int]:
    """Until when an order can be created, and before that those of the same request some time ago.

    Deadlines lie on a grid, so that the same request is the same order for some time, and the contract
    refuses a second one even if the database forgot the first.
    """
    return [(moment // seconds + ahead) * seconds for ahead in (2, 1, 0)]
