"""Booking: from a request to a signed order in the outbox.

Everything is checked once: who asks and from whom, each lesson, and in one round trip to the node all that
the chain has to say. The rest is signed and stored as `accepted`, and the sender goes on from there.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import structlog
from eth_utils.crypto import keccak
from sqlalchemy.exc import IntegrityError

from api.booking import plan as slots
from api.booking.models import Batch, EarlierOrder, Failure, Lesson, order_slots
from api.booking.queries import own_batches
from api.booking.view import View
from api.chain.escrow import Chain, ChainSnapshot
from api.chain.rpc import NodeUnavailable
from api.chain.signers import Custodian
from api.db import bookings, index, prepared, repository
from api.db.store import Store
from api.db.tables import now
from api.errors import Code, Problem
from api.outbox.handlers import TAG
from api.outbox.locks import calendar_locks
from api.outbox.models import Submission, TransactionKind
from api.people.directory import Annonce, Directory, User
from api.people.schedule import hours
from api.schemas.requests import CreateBatchBookingData
from api.settings import Settings
from creneau.amounts import UINT96_MAX, format_amount, to_wei
from creneau.lifecycle import Status
from creneau.order import Order, SlotCode, listing_id, pack_slot
from creneau.types import from_unix, to_hex, to_unix

log = structlog.get_logger()


@dataclass(frozen=True)
class Parties:
    """The people of a booking, and the listing that it is about."""

    student: User
    tutor: User
    annonce: Annonce


@dataclass(frozen=True)
class Plan:
    """A request's lessons: those that can be booked by all that is known so far, and why the others can't."""

    request: CreateBatchBookingData
    parties: Parties
    hourly_rate: int  # Base units.
    salt: bytes
    moment: datetime  # Of the request, or early enough for the lessons of the earlier order.
    earlier: EarlierOrder | None  # The order of the same request, if only the database has lost it.
    lessons: list[Lesson]
    failures: list[Failure]

    def terms(self, deadline: int = 0) -> tuple[Any, ...]:
        """Return the order of the lessons as the ABI codec takes it."""
        student, tutor = self.parties.student.wallet, self.parties.tutor.wallet
        listing, least = listing_id(self.parties.annonce.id), min(self.request.least, len(self.lessons))
        slots = [pack_slot(*slot) for slot in order_slots(self.lessons)]
        return student, tutor, listing, self.hourly_rate, least, deadline, self.salt, slots


class Accepted(NamedTuple):
    """The batch of a request; `replayed` if an earlier request, or another one at once, had made it."""

    batch_id: str
    replayed: bool


@dataclass(frozen=True)
class Quote:
    """A batch that can be booked by all that is known now."""

    parties: Parties
    order: Order
    created_by: str | None  # The transaction that created it, if only the database has lost it.
    snapshot: ChainSnapshot
    batch: Batch


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
        view: View,
    ) -> None:
        self._settings = settings
        self._store = store
        self._chain = chain
        self._directory = directory
        self._custodian = custodian
        self._accepted = accepted
        self._view = view

    def create(
        self, student_id: str, request: CreateBatchBookingData, key: str | None, request_id: str
    ) -> Accepted:
        """Accept a request, once for each idempotency key. Raises `Problem`."""
        request_hash = hash_of(request)
        if key is None:
            key, repeated = self._without_key(student_id, request_hash)
            if repeated is not None:
                return Accepted(repeated, replayed=True)
        if known := self.known(student_id, key, request_hash):
            return Accepted(known, replayed=True)
        try:
            return self._accept(student_id, request, key, request_hash, request_id)
        except Problem:
            # The same request, sent twice at once: what is in the way may be what the other one booked.
            if known := self.known(student_id, key, request_hash):
                return Accepted(known, replayed=True)
            raise

    def batch(self, batch_id: str) -> Batch:
        """Return a batch that was accepted."""
        with self._store.read() as db:
            batch = repository.batch(db, batch_id)
        if batch is None:
            raise LookupError(batch_id)
        return batch

    def _without_key(self, student_id: str, request_hash: str) -> tuple[str, str | None]:
        """Return the key of a request without one, and the batch that it is already, if there is one.

        A client that gave up sends the same request again. The batch of a while ago is that request's if it
        is still under way, or booked with every lesson as it was. The key counts earlier batches of the same
        request, so that two such requests at once have the same.
        """
        since = now() - int(self._settings.repeat_seconds * 1_000_000)
        with self._store.read() as db:
            earlier = repository.batches_of_request(db, student_id, request_hash)
            latest = earlier[0] if earlier else None
            if latest is not None and latest.created_at >= since and not latest.came_to_nothing:
                states = bookings.states(db, latest.id)
                if all(state.status != Status.CANCELLED for state in states.values()):
                    return latest.idempotency_key, latest.id
        return f"{request_hash}:{len(earlier)}", None

    def known(self, student_id: str, key: str, request_hash: str) -> str | None:
        """Return the batch that an idempotency key made. Raises `Problem` if it was for another request."""
        with self._store.read() as db:
            batch = repository.batch_of_key(db, student_id, key)
        if batch is None:
            return None
        if batch.request_hash != request_hash:
            raise key_reused()
        return batch.id

    def _accept(
        self, student_id: str, request: CreateBatchBookingData, key: str, request_hash: str, request_id: str
    ) -> Accepted:
        quote = self.quote(student_id, request, key, request_hash, self._settings.order_seconds)
        order, snapshot, parties = quote.order, quote.snapshot, quote.parties
        signer = self._custodian.signer(parties.student.custodial_account or "")
        call = self._chain.create_call(order, signer, snapshot.allowance, snapshot.permit_nonce)
        publishes = quote.created_by is None and must_publish(order, parties.tutor, snapshot)
        return self.add(quote.batch, call, publishes, snapshot, request_id)

    # --- resolve -> plan -> quote -> settle slots -> finish ---

    def quote(
        self,
        student_id: str,
        request: CreateBatchBookingData,
        key: str,
        request_hash: str,
        seconds: int,
        *,
        own_wallet: bool = False,
    ) -> Quote:
        """Check a request against all that is known; the order is good for at least so many seconds.

        Raises `Problem` if nothing can be booked, or the student's account is not of that kind.
        """
        if request.gives_both:
            raise Problem.of_field(Code.BOTH_GIVEN, "minLessons")
        if request.least > len(request.bookings):
            raise Problem.of_field(Code.FEWER_LESSONS, "minLessons")
        read_to = self._view.require_complete()
        log.info(f"{TAG} Nouvelles {len(request.bookings)} réservations demandées")
        parties = self.resolve(student_id, request.tutor_id, request.annonce_id)
        _require_account(parties.student, own_wallet)
        salt = keccak(text=f"{student_id}\n{key}")
        plan = self._plan(request, parties, salt, read_to)
        snapshot = self._chain.snapshot(plan.terms(), signature=b"" if own_wallet else None)
        if plan.earlier is None and SlotCode.TAKEN in snapshot.codes:
            # What has taken a lesson may be the order of this same request, which the database has lost.
            self._view.require(snapshot.head)
            plan = self._plan(request, parties, salt, read_to)
        plan, order = self._settle_slots(plan, snapshot, seconds)
        return self._finish(plan, order, snapshot, key, request_hash)

    def resolve(self, student_id: str, tutor_id: str, annonce_id: str) -> Parties:
        """Look up student, tutor and annonce, each once. Raises `Problem` if they can't book together."""
        student = self._directory.user(student_id)
        if student is None:
            raise Problem(Code.UNKNOWN_USER)
        log.info(f"{TAG} Vérification étudiant: {student.id} ✅")
        tutor = self._directory.tutor(tutor_id)
        if tutor is None or tutor.role != "tutor":
            raise Problem.of_field(Code.TUTOR_NOT_FOUND, "tutorId")
        if tutor.id == student.id:
            raise Problem.of_field(Code.OWN_LESSONS, "tutorId")
        log.info(f"{TAG} Vérification tuteur: {tutor.id} ✅")
        annonce = self._directory.annonce(annonce_id)
        if annonce is None or annonce.tutor_id not in {tutor.id, tutor.profile_id}:
            raise Problem.of_field(Code.ANNONCE_NOT_FOUND, "annonceId")
        if not 0 < annonce.hourly_rate <= UINT96_MAX:
            raise Problem(Code.ANNONCE_NOT_BOOKABLE)
        return Parties(student, tutor, annonce)

    def _plan(self, request: CreateBatchBookingData, parties: Parties, salt: bytes, read_to: int) -> Plan:
        """Return the lessons that may be booked, by their times and prices.

        Raises `Problem` if none may, or if the view has not all blocks up to `read_to` any more.
        """
        tutor, annonce, default = parties.tutor, parties.annonce, self._settings.time_zone
        zone = ZoneInfo(request.time_zone or annonce.time_zone or default)
        rate, moment, during = annonce.hourly_rate, datetime.now(UTC), None
        # Only the database may have lost the key. The lessons booked for it then are those asked for.
        with self._store.read() as db:
            earlier, number = bookings.earlier_order(db, parties.student.wallet, salt)
        if number < read_to:
            raise NodeUnavailable("blocks are read anew")
        if earlier is not None:
            rate, moment = earlier.hourly_rate, from_unix(earlier.created_at) - slots.LEAD
        elif tutor.schedule is not None:
            during = hours(tutor.schedule, ZoneInfo(tutor.time_zone or annonce.time_zone or default))
        lessons, failures = slots.plan(request.bookings, zone, rate, moment, during)
        if earlier is not None and not _is_of(earlier, parties, lessons):
            raise key_reused()
        if not lessons:
            raise slots.nothing_booked(failures)
        return Plan(request, parties, rate, salt, moment, earlier, lessons, failures)

    def _settle_slots(self, plan: Plan, snapshot: ChainSnapshot, seconds: int) -> tuple[Plan, Order]:
        """Return the plan of the free slots, and their order. Raises `Problem` if not enough are free."""
        if plan.earlier is None:
            # The chain's clock decides, unless it lags: a local node mines only on demand.
            deadline = _deadline(max(to_unix(plan.moment), snapshot.head.timestamp), seconds)
            codes = snapshot.codes
        else:
            deadline, booked = plan.earlier.deadline, plan.earlier.slots
            codes = [SlotCode.OK if slot in booked else SlotCode.TAKEN for slot in order_slots(plan.lessons)]
        lessons = [each for each, code in zip(plan.lessons, codes, strict=True) if code == SlotCode.OK]
        pairs = zip(plan.lessons, codes, strict=True)
        taken = [lesson for lesson, code in pairs if code == SlotCode.TAKEN]
        own = own_batches(self._store, plan.parties.student.wallet, plan.parties.tutor.wallet, taken)
        refused = slots.refused(plan.lessons, codes, own)
        failures = sorted(plan.failures + refused, key=lambda each: each["index"])
        if len(lessons) < plan.request.least:
            raise slots.nothing_booked(failures)
        plan = replace(plan, lessons=lessons, failures=failures)
        return plan, Order.from_abi(plan.terms(deadline))

    def _finish(
        self,
        plan: Plan,
        order: Order,
        snapshot: ChainSnapshot,
        key: str,
        request_hash: str,
    ) -> Quote:
        """Return the batch. Raises `Problem` if the student can't pay, or the tutor has to publish first."""
        total, count = sum(order.amounts_wei), len(plan.lessons)
        request, annonce = plan.request, plan.parties.annonce
        log.info(f"{TAG} Montant total: {format_amount(total)} EDU pour {count} réservations")
        log.info(f"{TAG} Titre annonce trouvé: {' '.join(annonce.title.split())}")
        if plan.earlier is None:
            self.require_funds(snapshot, total, count, can_permit=snapshot.permit_nonce is not None)
            must_publish(order, plan.parties.tutor, snapshot)
        batch = Batch(
            id=to_hex(order.batch_id),
            student_id=plan.parties.student.id,
            tutor_id=plan.parties.tutor.id,
            annonce_id=annonce.id,
            idempotency_key=key,
            request_hash=request_hash,
            description=request.description,
            student_notes=request.student_notes,
            lessons=plan.lessons,
            failures=plan.failures,
            student=order.student,
            tutor=order.tutor,
            listing=to_hex(order.listing),
            hourly_rate=plan.hourly_rate,
            min_lessons=order.min_lessons,
            deadline=to_unix(order.deadline),
            salt=to_hex(order.salt),
            instant=snapshot.listing.instant,
            created_at=now(),
        )
        created_by = plan.earlier.transaction_hash if plan.earlier else None
        return Quote(plan.parties, order, created_by, snapshot, batch)

    # --- For wallets, too ---

    def created_by(self, batch_id: str, snapshot: ChainSnapshot) -> str | None:
        """Return the transaction that has already created a batch, if what it would book is taken."""
        if SlotCode.TAKEN not in snapshot.codes:
            return None
        self._view.require(snapshot.head)
        with self._store.read() as db:
            return index.creation_of(db, batch_id)

    def add(
        self,
        batch: Batch,
        call: bytes,
        publishes: bool,
        snapshot: ChainSnapshot,
        request_id: str,
        *,
        was_prepared: bool = False,
    ) -> Accepted:
        """Put a batch into the outbox, once for each idempotency key."""
        locks = calendar_locks(batch.tutor, batch.slots)
        if was_prepared:
            # A wallet's permit is exact, so each of its batches waits to see what the one before left.
            locks |= {f"allowance/{batch.student}": 1}
        submission = Submission(
            id=batch.id,
            kind=TransactionKind.CREATE,
            request_id=request_id,
            call=call,
            publishes=publishes,
            listing_nonce=snapshot.listing.nonce,
            seen_block=snapshot.head.number,
            locks=locks,
            expires=batch.deadline,
            chain_id=self._settings.chain_id,
        )
        try:
            with self._store.write() as db:
                repository.add(db, submission, batch)
                if was_prepared:
                    prepared.remove(db, batch.id)
        except IntegrityError:
            known = self.known(batch.student_id, batch.idempotency_key, batch.request_hash)
            if known:
                return Accepted(known, replayed=True)
            raise
        log.info("accepted", batch_id=batch.id)
        self._accepted(batch.id)
        return Accepted(batch.id, replayed=False)

    def require_funds(self, snapshot: ChainSnapshot, total: int, count: int, *, can_permit: bool) -> None:
        """Raise `Problem` if the student has too little, or allows the contract too little of it."""
        if snapshot.balance < total:
            code, available, parties = Code.INSUFFICIENT_BALANCE, snapshot.balance, {}
        elif snapshot.allowance < total and not can_permit:
            code, available = Code.INSUFFICIENT_ALLOWANCE, snapshot.allowance
            parties = {"token": self._chain.token, "spender": self._chain.escrow}
        else:
            return
        details = {"neededWei": str(total), "availableWei": str(available), **parties}
        raise Problem(code, details=details, count=count, price=total, available=available)


def must_publish(order: Order, tutor: User, snapshot: ChainSnapshot) -> bool:
    """Return True if the order's rate has to be published. Raises `Problem` if the tutor has to do it."""
    published = to_wei(snapshot.listing.hourly_rate)
    if published == order.hourly_rate_wei or tutor.custodial_account is not None:
        return published != order.hourly_rate_wei
    if not published:
        raise Problem(Code.NOT_PUBLISHED)
    raise Problem(Code.RATE_MISMATCH, published=published, rate=order.hourly_rate_wei)


def _require_account(student: User, own_wallet: bool) -> None:
    if own_wallet and student.custodial_account is not None:
        raise Problem(Code.CUSTODIAL_ACCOUNT, path="/api/blockchain/booking/batch")
    if not own_wallet and student.custodial_account is None:
        raise Problem(Code.SIGNATURE_REQUIRED, path="/api/blockchain/booking/batch/prepare")


def _is_of(earlier: EarlierOrder, parties: Parties, lessons: Sequence[Lesson]) -> bool:
    """Return True if the order may be that of a request for these lessons."""
    same = (earlier.tutor, earlier.listing) == (parties.tutor.wallet, to_hex(listing_id(parties.annonce.id)))
    return same and {*earlier.slots} <= {*order_slots(lessons)}


def key_reused() -> Problem:
    """Return the refusal of an idempotency key that was used for another request."""
    return Problem.of_field(Code.IDEMPOTENCY_KEY_REUSED, "Idempotency-Key")


def hash_of(request: CreateBatchBookingData) -> str:
    """Return the hash that tells whether two requests with one idempotency key are the same."""
    return hashlib.sha256(request.model_dump_json().encode()).hexdigest()


def _deadline(moment: int, seconds: int) -> int:
    """Return the deadline of an order, at least so many seconds later.

    Deadlines lie on a grid, so that the same request is the same order for some time, and the contract
    refuses a second one even if the database forgot the first.
    """
    return (moment // seconds + 2) * seconds
