"""Booking: from a request to a signed order in the outbox, and from there to the answer.

Everything is checked once: who asks and from whom, each lesson, and in one round trip to the node what the
chain has to say. What remains is signed, stored as `accepted`, and the relayer takes it from there.
"""

import asyncio
import functools
import hashlib
import uuid
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, TypeVar
from weakref import WeakValueDictionary
from zoneinfo import ZoneInfo

import anyio.to_thread
import structlog
from eth_utils.crypto import keccak
from sqlalchemy import Row, insert
from sqlalchemy.exc import IntegrityError

from api import slots
from api.answers import lessons, nothing_booked
from api.chain import Chain, Facts
from api.custody import Custodian
from api.directory import Annonce, Directory, User
from api.models import CreateBatchBookingData
from api.problems import Problem
from api.relayer import TAG
from api.settings import Settings
from api.store import UNSETTLED, State, Store, batches, now
from creneau.amounts import UINT96_MAX, format_edu, from_wei, to_wei
from creneau.booking import SlotCode
from creneau.fields import from_unix, to_hex, to_unix
from creneau.order import Order, Slot, listing_id

log = structlog.get_logger()

_LOOK_SECONDS = 2.0  # How soon a batch is noticed that another process settled.
_THREADS = 32

_Result = TypeVar("_Result")


class Bookings:
    """Accepts requests, and waits for what becomes of them."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        chain: Chain,
        directory: Directory,
        custodian: Custodian,
        wake_relayer: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._chain = chain
        self._directory = directory
        self._custodian = custodian
        self._wake_relayer = wake_relayer
        self._waiting: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._limiter: anyio.CapacityLimiter | None = None

    # --- Waiting ---

    def settled(self, batch_ids: Collection[str]) -> None:
        """Wakes the requests that wait for these batches. The relayer calls it, from its thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._set, batch_ids)

    def _set(self, batch_ids: Collection[str]) -> None:
        for batch_id in batch_ids:
            if event := self._waiting.get(batch_id):
                event.set()

    async def in_thread(self, work: Callable[..., _Result], *args: object) -> _Result:
        """Runs what waits for the database or the node."""
        if self._limiter is None:
            self._loop = asyncio.get_running_loop()
            self._limiter = anyio.CapacityLimiter(_THREADS)
        return await anyio.to_thread.run_sync(functools.partial(work, *args), limiter=self._limiter)

    async def wait(self, batch_id: str, seconds: float) -> Row[Any]:
        """The batch once it is settled, or as it is after so many seconds."""
        until = asyncio.get_running_loop().time() + seconds
        event = self._waiting.setdefault(batch_id, asyncio.Event())
        while True:
            row = await self.in_thread(self._store.batch, batch_id)
            if row is None:
                raise LookupError(batch_id)
            left = until - asyncio.get_running_loop().time()
            if row.state not in UNSETTLED or left <= 0:
                return row
            try:
                await asyncio.wait_for(event.wait(), min(left, _LOOK_SECONDS))
            except TimeoutError:
                continue

    async def batch(self, batch_id: str, user_id: str) -> Row[Any]:
        """A batch for one of its parties. Nobody else learns that it exists."""
        row = await self.in_thread(self._store.batch, batch_id)
        if row is None or user_id not in {row.student_id, row.tutor_id}:
            raise Problem(404, "batch_not_found", "There is no such batch.")
        return row

    # --- Accepting ---

    def place(
        self, student_id: str, request: CreateBatchBookingData, key: str | None, request_id: str
    ) -> str:
        """Accepts a request, once for each idempotency key; the batch's id. Raises `Problem`."""
        request_hash = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
        if key is None:
            return self._accept(student_id, request, uuid.uuid4().hex, request_hash, request_id)
        if known := self._known(student_id, key, request_hash):
            return known
        try:
            return self._accept(student_id, request, key, request_hash, request_id)
        except Problem:
            # The same request, sent twice at once: what is in the way may be what the other one booked.
            if known := self._known(student_id, key, request_hash):
                return known
            raise

    def _known(self, student_id: str, key: str, request_hash: str) -> str | None:
        mine = (batches.c.student_id == student_id, batches.c.idempotency_key == key)
        for row in self._store.find(*mine):
            if row.request_hash != request_hash:
                message = "This key was already used for another request."
                raise Problem.of_field("idempotency_key_reused", "Idempotency-Key", message)
            return str(row.id)
        return None

    def _accept(
        self, student_id: str, request: CreateBatchBookingData, key: str, request_hash: str, request_id: str
    ) -> str:
        log.info(f"{TAG} Nouvelles {len(request.bookings)} réservations demandées")
        student, tutor, annonce = self._parties(student_id, request)
        zone = ZoneInfo(request.time_zone or annonce.time_zone or self._settings.time_zone)
        moment = datetime.now(UTC)
        planned, failures = slots.plan(request.bookings, zone, annonce.hourly_rate, moment)
        if not planned:
            raise nothing_booked(failures)
        order = Order(
            student=student.wallet,
            tutor=tutor.wallet,
            listing=listing_id(annonce.id),
            hourly_rate=from_wei(annonce.hourly_rate),
            allow_partial=request.allow_partial,
            deadline=moment.replace(microsecond=0),
            salt=keccak(text=f"{student.id}\n{key}"),
            slots=tuple(Slot.of(*slot) for slot in slots.order_slots(planned)),
        )
        facts = self._chain.facts(order)
        fitting = [lesson for lesson, code in zip(planned, facts.codes, strict=True) if code == SlotCode.OK]
        failures += [
            slots.failure(lesson, slots.CODES[code])
            for lesson, code in zip(planned, facts.codes, strict=True)
            if code != SlotCode.OK
        ]
        failures.sort(key=lambda failure: failure["index"])
        if not fitting or (failures and not request.allow_partial):
            raise nothing_booked(failures)

        # The chain's clock decides, unless it lags: a local node mines only on demand.
        deadline = max(to_unix(moment), facts.timestamp) + self._settings.order_seconds
        fitting_slots = tuple(Slot.of(*slot) for slot in slots.order_slots(fitting))
        order = order.model_copy(update={"deadline": from_unix(deadline), "slots": fitting_slots})
        total = sum(order.amounts_wei)
        log.info(f"{TAG} Montant total: {format_edu(total)} EDU pour {len(fitting)} réservations")
        log.info(f"{TAG} Titre annonce trouvé: {' '.join(annonce.title.split())}")
        self._can_pay(facts, total, len(fitting))
        call, publish = self._signed(order, student, tutor, facts)
        batch_id = to_hex(order.batch_id(self._chain.domain))
        created = now()
        row = {
            "id": batch_id,
            "student_id": student.id,
            "tutor_id": tutor.id,
            "annonce_id": annonce.id,
            "idempotency_key": key,
            "request_hash": request_hash,
            "request_id": request_id,
            "description": request.description,
            "student_notes": request.student_notes,
            "lessons": fitting,
            "failures": failures,
            "student": order.student,
            "tutor": order.tutor,
            "listing": to_hex(order.listing),
            "hourly_rate": annonce.hourly_rate,
            "allow_partial": order.allow_partial,
            "deadline": deadline,
            "salt": to_hex(order.salt),
            "call": call,
            "publish": publish,
            "listing_nonce": facts.listing.nonce if publish else None,
            "instant": facts.listing.instant,
            "state": State.ACCEPTED,
            "created_at": created,
            "updated_at": created,
        }
        try:
            with self._store.write() as db:
                db.execute(insert(batches), row)
        except IntegrityError:
            if known := self._known(student_id, key, request_hash):
                return known
            raise
        self._wake_relayer()
        return batch_id

    def _parties(self, student_id: str, request: CreateBatchBookingData) -> tuple[User, User, Annonce]:
        """Student, tutor and annonce, each looked up once."""
        student = self._directory.user(student_id)
        if student is None or student.role != "student":
            raise Problem(403, "not_a_student", "Only a student can book lessons.")
        log.info(f"{TAG} Vérification étudiant: {student.id} ✅")
        tutor = self._directory.tutor(request.tutor_id)
        if tutor is None or tutor.role != "tutor":
            raise Problem.of_field("tutor_not_found", "tutorId", "There is no such tutor.")
        log.info(f"{TAG} Vérification tuteur: {tutor.id} ✅")
        annonce = self._directory.annonce(request.annonce_id)
        if annonce is None or annonce.tutor_id != tutor.id:
            raise Problem.of_field("annonce_not_found", "annonceId", "This tutor has no such annonce.")
        if not 0 < annonce.hourly_rate <= UINT96_MAX:
            raise Problem(409, "annonce_not_bookable", "This annonce has no rate that can be booked.")
        return student, tutor, annonce

    def _can_pay(self, facts: Facts, total: int, count: int) -> None:
        price = f"The price of {lessons(count)} is {format_edu(total)} EDU"
        if facts.balance < total:
            message = f"{price}, and you have {format_edu(facts.balance)} EDU. Nothing was booked."
            needed, available = str(total), str(facts.balance)
            raise Problem(409, "insufficient_balance", message, neededWei=needed, availableWei=available)
        if facts.allowance < total and facts.permit_nonce is None:
            message = f"{price}, and the contract may take {format_edu(facts.allowance)} EDU of yours."
            raise Problem(409, "insufficient_allowance", f"{message} Nothing was booked.")

    def _signed(self, order: Order, student: User, tutor: User, facts: Facts) -> tuple[bytes, bytes | None]:
        """The student's call, and the tutor's if the listing has to be published with it."""
        published = to_wei(facts.listing.hourly_rate)
        right = published == order.hourly_rate_wei
        if student.custody_index is None:
            message = "Your account has a wallet of its own, which has to sign. Nothing was booked."
            raise Problem(409, "signature_required", message)
        if not right and tutor.custody_index is None and not published:
            message = "The tutor has not published this annonce yet. Nothing was booked."
            raise Problem(409, "not_published", message)
        if not right and tutor.custody_index is None:
            rates = f"{format_edu(published)} EDU an hour, not {format_edu(order.hourly_rate_wei)} EDU"
            raise Problem(409, "rate_mismatch", f"The tutor has published {rates}. Nothing was booked.")
        call = self._chain.create_call(order, self._custodian, student.custody_index, facts)
        if right or tutor.custody_index is None:
            return call, None
        return call, self._chain.publish_call(order, self._custodian, tutor.custody_index, facts.listing)
