"""What a tutor offers: his annonces, as the directory and the chain have them, and his time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row

from api.booking.signed_calls import SignedCalls
from api.chain.escrow import Chain, unhex
from api.chain.rpc import NodeUnavailable, RpcError
from api.errors import Code, Problem
from api.outbox.models import State, TransactionKind
from api.outbox.sender import Sender
from api.people.directory import Annonce, Directory, User
from api.people.schedule import hours
from api.schemas.requests import PublishData
from api.settings import Settings
from api.words import utc
from creneau import abi
from creneau.amounts import UINT96_MAX, from_wei, to_wei
from creneau.booking import Listing
from creneau.lifecycle import FOREVER
from creneau.order import listing_id
from creneau.typed_data import listing_typed_data
from creneau.types import from_unix, to_hex

MOST_DAYS = 62
_USUAL_DAYS = 7


@dataclass(frozen=True)
class Publication:
    """A publication: of this annonce, with this rate in base units, given what is published now."""

    annonce: Annonce
    tutor: User
    listing: Listing
    rate: int
    instant: bool

    @property
    def key(self) -> bytes:
        """The contract's key of the listing."""
        return listing_id(self.annonce.id)

    @property
    def is_published(self) -> bool:
        """Whether nothing is left to do."""
        return (to_wei(self.listing.hourly_rate), self.listing.instant) == (self.rate, self.instant)


class Listings:
    """Annonces and calendars."""

    def __init__(
        self,
        settings: Settings,
        chain: Chain,
        directory: Directory,
        signed_calls: SignedCalls,
        relayer: Sender,
    ) -> None:
        self._time_zone = settings.time_zone
        self._chain = chain
        self._directory = directory
        self._signed_calls = signed_calls
        self._relayer = relayer

    # --- Time ---

    def calendar(self, tutor_id: str, since: datetime | None, until: datetime | None) -> dict[str, Any]:
        """When the tutor's time is taken, by the chain's calendar."""
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
        taken = abi.decode_calendar(answer, since, until)
        return {
            "success": True,
            "message": "The taken times." if taken else "Nothing is taken.",
            "data": {
                "tutorId": tutor.id,
                "from": utc(since),
                "to": utc(until),
                "taken": [{"start": utc(start), "end": utc(end)} for start, end in taken],
            },
        }

    # --- Annonces ---

    def annonce(self, annonce_id: str) -> dict[str, Any]:
        """The answer about an annonce."""
        annonce, tutor = self._found(annonce_id)
        data = self._data(annonce, tutor, self._listing(annonce, tutor))
        return {"success": True, "message": annonce.title, "data": data}

    def publication(self, annonce_id: str, user_id: str, wanted: PublishData) -> Publication:
        """What the tutor of an annonce wants to publish. Raises `Problem` unless he may."""
        annonce, tutor = self._found(annonce_id)
        if user_id != tutor.id:
            raise Problem(Code.NOT_YOURS_TO_DO)
        if not 0 < annonce.hourly_rate <= UINT96_MAX:
            raise Problem(Code.ANNONCE_NOT_BOOKABLE)
        rate = annonce.hourly_rate if wanted.hourly_rate is None else to_wei(wanted.hourly_rate)
        if rate not in {0, annonce.hourly_rate}:
            raise Problem.of_field(Code.RATE_MISMATCH, "hourlyRate", listing_rate=annonce.hourly_rate)
        listing = self._listing(annonce, tutor)
        instant = listing.instant if wanted.instant is None else wanted.instant
        return Publication(annonce, tutor, listing, rate, instant)

    def prepared(self, publication: Publication) -> dict[str, Any]:
        """What the tutor signs."""
        data = {"signer": publication.tutor.wallet, "typedData": self._typed_data(publication)}
        return {"success": True, "message": "To be signed, to publish the annonce.", "data": data}

    def publish(self, publication: Publication, signature: bytes | None, request_id: str) -> str | None:
        """Puts the publication into the outbox, once; the send's id, or None if nothing is left to do."""
        if publication.is_published:
            return None
        tutor, key = publication.tutor.wallet, publication.key
        terms = (publication.rate, publication.instant)
        submission_id, known = self._signed_calls.find(
            f"publish:{tutor}:{to_hex(key)}:{terms}:{publication.listing.nonce}"
        )
        if known is not None:
            return submission_id
        signed = self._signed_calls.signature(
            publication.tutor.id, tutor, self._typed_data(publication), signature
        )
        call = abi.publish_data(tutor, key, *terms, signed)
        if error := self._signed_calls.refusal(self._relayer.address, call):
            raise Problem(Code.REFUSED, reason=str(error))
        locks = {f"{tutor}/{to_hex(key)}": 1}
        self._signed_calls.enqueue(self._relayer, TransactionKind.ACT, submission_id, call, locks, request_id)
        return submission_id

    def answer(self, publication: Publication, send: Row[Any] | None) -> dict[str, Any]:
        """The annonce as it is on the chain now."""
        listing = publication.listing
        if send is None or send.succeeded:
            listing = listing._replace(hourly_rate=from_wei(publication.rate), instant=publication.instant)
        state = {
            "state": send.state if send else State.MINED,
            "transactionHash": send and send.transaction_hash,
        }
        what = "Published" if publication.rate else "Withdrawn"
        message = f"{what}." if listing is not publication.listing else f"{what} as soon as it is in a block."
        return {
            "success": True,
            "message": message,
            "data": self._data(publication.annonce, publication.tutor, listing) | state,
        }

    def _found(self, annonce_id: str) -> tuple[Annonce, User]:
        annonce = self._directory.annonce(annonce_id)
        tutor = None if annonce is None else self._directory.tutor(annonce.tutor_id)
        if annonce is None or tutor is None:
            raise Problem(Code.ANNONCE_NOT_FOUND)
        return annonce, tutor

    def _listing(self, annonce: Annonce, tutor: User) -> Listing:
        [answer] = self._chain.node.call_many([self._chain.listing(tutor.wallet, listing_id(annonce.id))])
        if isinstance(answer, RpcError):
            raise NodeUnavailable(answer.message)
        return abi.decode_listing(unhex(answer))

    def _typed_data(self, publication: Publication) -> dict[str, Any]:
        return listing_typed_data(
            self._chain.domain,
            publication.tutor.wallet,
            publication.key,
            publication.rate,
            publication.instant,
            publication.listing.nonce,
        )

    def _data(self, annonce: Annonce, tutor: User, listing: Listing) -> dict[str, Any]:
        published = to_wei(listing.hourly_rate)
        zone = annonce.time_zone or self._time_zone
        times = (
            hours(tutor.schedule, ZoneInfo(tutor.time_zone or zone)) if tutor.schedule is not None else None
        )
        return {
            "id": annonce.id,
            "tutorId": annonce.tutor_id,
            "title": annonce.title,
            "hourlyRate": from_wei(annonce.hourly_rate),
            "hourlyRateWei": str(annonce.hourly_rate),
            "timeZone": zone,
            "schedule": None
            if times is None
            else [{"start": utc(start), "end": utc(end)} for start, end in times],
            "published": published == annonce.hourly_rate,
            "publishedRate": listing.hourly_rate if published else None,
            "publishedRateWei": str(published) if published else None,
            "instant": listing.instant,
        }
