"""Listings, as the directory and the chain have them, their publication, and tutors' calendars."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from api.booking.models import ListingDetails, PublicationResult, TakenTimes
from api.booking.signed_calls import SignedCalls
from api.chain.escrow import Chain, unhex
from api.chain.rpc import NodeUnavailable, RpcError
from api.errors import Code, Problem
from api.outbox.models import State, Submission, TransactionKind
from api.outbox.sender import Sender
from api.people.directory import Annonce, Directory, User
from api.people.schedule import hours
from api.schemas.requests import PublishData
from api.settings import Settings
from creneau import abi
from creneau.amounts import UINT96_MAX, from_wei, to_wei
from creneau.booking import Listing
from creneau.lifecycle import FOREVER
from creneau.order import listing_id
from creneau.typed_data import listing_typed_data
from creneau.types import from_unix, to_hex

MOST_DAYS = 62
_USUAL_DAYS = 7
_MOST_SPANS = 2_000
"""Spans of a schedule that an answer has: 63 bytes each."""


@dataclass(frozen=True)
class Publication:
    """A publication of a listing at a rate in base units, given what is published now."""

    annonce: Annonce
    tutor: User
    listing: Listing
    rate: int
    rules: tuple[bool, int, int]  # Instant, notice and horizon in seconds.

    @property
    def key(self) -> bytes:
        """The contract's key of the listing."""
        return listing_id(self.annonce.id)

    @property
    def is_published(self) -> bool:
        """True if nothing is left to do."""
        return (to_wei(self.listing.hourly_rate), self.listing.rules) == (self.rate, self.rules)


class Listings:
    """Listings and calendars."""

    def __init__(
        self,
        settings: Settings,
        chain: Chain,
        directory: Directory,
        signed_calls: SignedCalls,
        sender: Sender,
    ) -> None:
        self._time_zone = settings.time_zone
        self._chain = chain
        self._directory = directory
        self._signed_calls = signed_calls
        self._sender = sender

    def calendar(self, tutor_id: str, since: datetime | None, until: datetime | None) -> TakenTimes:
        """Return the tutor's taken times, by the chain's calendar. Raises `Problem`."""
        tutor = self._directory.tutor(tutor_id)
        if tutor is None or tutor.role != "tutor":
            raise Problem(Code.TUTOR_NOT_FOUND)
        since = since or datetime.now(UTC).replace(microsecond=0)
        if not from_unix(0) <= since < FOREVER - timedelta(days=366):
            raise Problem.of_field(Code.INVALID_RANGE, "from")
        since = since.astimezone(UTC)
        until = until or since + timedelta(days=_USUAL_DAYS)
        if not since < until <= since + timedelta(days=MOST_DAYS):
            raise Problem.of_field(Code.INVALID_RANGE, "to", days=MOST_DAYS)
        until = until.astimezone(UTC)
        answer = self._chain.read(abi.calendar_data(tutor.wallet, since, until))
        return TakenTimes(tutor.id, since, until, abi.decode_calendar(answer, since, until))

    def listing(self, annonce_id: str) -> ListingDetails:
        """Return a listing. Raises `Problem` if there is none."""
        annonce, tutor = self._find(annonce_id)
        return self._details(annonce, tutor, self._published(annonce, tutor))

    def publication(self, annonce_id: str, user_id: str, wanted: PublishData) -> Publication:
        """Return the publication that a listing's tutor wants. Raises `Problem` for anybody else."""
        annonce, tutor = self._find(annonce_id)
        if user_id != tutor.id:
            raise Problem(Code.NOT_YOURS_TO_DO)
        if not 0 < annonce.hourly_rate <= UINT96_MAX:
            raise Problem(Code.ANNONCE_NOT_BOOKABLE)
        asked_rate = wanted.hourly_rate
        if asked_rate not in {None, 0, from_wei(annonce.hourly_rate)}:
            raise Problem.of_field(Code.RATE_MISMATCH, "hourlyRate", listing_rate=annonce.hourly_rate)
        rate = annonce.hourly_rate if asked_rate is None else to_wei(asked_rate)
        listing = self._published(annonce, tutor)
        asked = wanted.instant, wanted.min_notice, wanted.horizon
        instant, min_notice, horizon = (
            before if new is None else new for before, new in zip(listing.rules, asked, strict=True)
        )
        return Publication(annonce, tutor, listing, rate, (bool(instant), min_notice, horizon))

    def typed_data(self, publication: Publication, deadline: int | None = None) -> dict[str, Any]:
        """Return what the tutor signs: until that deadline, or for some minutes."""
        until = self._signed_calls.deadline() if deadline is None else deadline
        tutor, nonce = publication.tutor.wallet, publication.listing.nonce
        terms = publication.key, publication.rate, *publication.rules, nonce, until
        return listing_typed_data(self._chain.domain, tutor, *terms)

    def publish(
        self, publication: Publication, signature: bytes | None, deadline: int | None, request_id: str
    ) -> str | None:
        """Put a publication into the outbox, once. Return its id; None if nothing is left to do."""
        if publication.is_published:
            return None
        tutor, key = publication.tutor.wallet, publication.key
        terms, nonce = (publication.rate, *publication.rules), publication.listing.nonce
        submission_id, known = self._signed_calls.find(f"publish:{tutor}:{to_hex(key)}:{terms}:{nonce}")
        if known is not None:
            return submission_id
        typed_data = self.typed_data(publication, deadline)
        until = typed_data["message"]["deadline"]
        signed = self._signed_calls.signature(publication.tutor.id, tutor, typed_data, signature)
        call = abi.publish_data(tutor, key, *terms, until, signed)
        if error := self._signed_calls.refusal(self._sender.address, call):
            raise Problem(Code.REFUSED, reason=str(error))
        locks = {f"{tutor}/{to_hex(key)}": 1}
        kind = TransactionKind.ACT
        self._signed_calls.add(self._sender, kind, submission_id, call, locks, request_id, until)
        return submission_id

    def result(self, publication: Publication, submission: Submission | None) -> PublicationResult:
        """Return the listing as it is on the chain now."""
        listing, done = publication.listing, submission is None or bool(submission.succeeded)
        if done:
            rate, (instant, *times) = from_wei(publication.rate), publication.rules
            notice, horizon = (timedelta(seconds=each) for each in times)
            listing = listing._replace(hourly_rate=rate, instant=instant, min_notice=notice, horizon=horizon)
        return PublicationResult(
            self._details(publication.annonce, publication.tutor, listing),
            is_withdrawal=not publication.rate,
            is_done=done,
            state=State.MINED if submission is None else submission.state,
            transaction_hash=None if submission is None else submission.transaction_hash,
        )

    def _find(self, annonce_id: str) -> tuple[Annonce, User]:
        annonce = self._directory.annonce(annonce_id)
        tutor = None if annonce is None else self._directory.tutor(annonce.tutor_id)
        if annonce is None or tutor is None:
            raise Problem(Code.ANNONCE_NOT_FOUND)
        return annonce, tutor

    def _published(self, annonce: Annonce, tutor: User) -> Listing:
        [answer] = self._chain.node.call_many([self._chain.listing(tutor.wallet, listing_id(annonce.id))])
        if isinstance(answer, RpcError):
            raise NodeUnavailable(answer.message)
        return abi.decode_listing(unhex(answer))

    def _details(self, annonce: Annonce, tutor: User, listing: Listing) -> ListingDetails:
        zone, times = annonce.time_zone or self._time_zone, None
        if tutor.schedule is not None:
            ahead, moment = hours(tutor.schedule, ZoneInfo(tutor.time_zone or zone)), datetime.now(UTC)
            times = [span for span in ahead if span[1] > moment][:_MOST_SPANS]
        terms = annonce.id, annonce.tutor_id, annonce.title, annonce.hourly_rate
        return ListingDetails(*terms, zone, times, listing)
