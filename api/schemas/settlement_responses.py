"""The responses about settlements, credits and tutors' own time."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field

from api.booking.models import Batch, OwnTime, SettlementOffer, Withdrawal
from api.language import say
from api.outbox.models import State, Submission
from api.schemas.lesson_responses import Sent
from api.schemas.requests import Number
from api.schemas.responses import Answer, Response
from api.words import lessons, utc
from creneau.amounts import format_amount, from_wei
from creneau.types import from_unix


class Offer(Response):
    """A split that a party offers."""

    batch_id: str
    by: Literal["student", "tutor"]
    lessons: list[str] = Field(description="The bookings' ids.")
    tutor_share_bps: int = Field(description="The tutor's part of the price, in basis points.")
    until: str = Field(description="It can be accepted until then.")

    @classmethod
    def from_offer(cls, offer: SettlementOffer, batch: Batch) -> Self:
        """Build the offer of a batch."""
        places = [place for place in range(len(batch.lessons)) if offer.lessons >> place & 1]
        return cls(
            batch_id=batch.id,
            by="student" if offer.by == batch.student else "tutor",
            lessons=[batch.booking_id(place) for place in places],
            tutor_share_bps=offer.share,
            until=utc(from_unix(offer.deadline)),
        )


class OfferAnswer(Answer):
    """An offer that waits for the other party."""

    data: Offer

    @classmethod
    def from_offer(cls, offer: SettlementOffer, batch: Batch) -> Self:
        """Build the response about an offer."""
        count = lessons(offer.lessons.bit_count())
        share = f"{offer.share / 100:g} %"
        message = say(
            f"{count} offered: {share} to the tutor.", f"{count} : {share} proposés pour le professeur."
        )
        return cls(success=True, message=message, data=Offer.from_offer(offer, batch))


class OffersAnswer(Answer):
    """The open offers of a batch."""

    data: list[Offer]

    @classmethod
    def from_offers(cls, offers: Sequence[SettlementOffer], batch: Batch) -> Self:
        """Build the response about the offers of a batch."""
        data = [Offer.from_offer(offer, batch) for offer in offers]
        plural = "s" * (len(data) != 1)
        message = say(f"{len(data)} offer{plural}.", f"{len(data)} proposition{plural}.")
        return cls(success=True, message=message, data=data)


class Credit(Response):
    """Tokens that the escrow keeps for an account."""

    credit: Number = Field(description="In the token.")
    credit_wei: str = Field(description="The same in base units.")


class CreditAnswer(Answer):
    """The credit of the account in force."""

    data: Credit

    @classmethod
    def from_amount(cls, amount: int) -> Self:
        """Build the response about a credit in base units."""
        data = Credit(credit=from_wei(amount), credit_wei=str(amount))
        kept = f"{format_amount(amount)} EDU"
        message = say(f"{kept} are kept for you.", f"{kept} sont gardés pour vous.")
        return cls(success=True, message=message, data=data)


class Withdrawn(Credit):
    """A credit that is paid."""

    to: str
    state: Sent
    transaction_hash: str | None


class WithdrawnAnswer(Answer):
    """Paid, or (202) on its way."""

    data: Withdrawn

    @classmethod
    def from_withdrawal(cls, withdrawal: Withdrawal, submission: Submission | None) -> Self:
        """Build the response about a withdrawal."""
        state, transaction_hash = _outcome(submission)
        data = Withdrawn.model_validate(
            {
                "credit": from_wei(withdrawal.amount),
                "credit_wei": str(withdrawal.amount),
                "to": withdrawal.to,
                "state": state,
                "transaction_hash": transaction_hash,
            }
        )
        paid = f"{format_amount(withdrawal.amount)} EDU"
        message = say(f"{paid} to {withdrawal.to}.", f"{paid} pour {withdrawal.to}.")
        return cls(success=True, message=message, data=data)


class OwnTimeTaken(Response):
    """Times that a tutor took."""

    count: int
    state: Sent
    transaction_hash: str | None


class OwnTimeAnswer(Answer):
    """Taken, or (202) on its way. They are among the tutor's lessons, and cancelled like them."""

    data: OwnTimeTaken

    @classmethod
    def from_own_time(cls, own_time: OwnTime, submission: Submission | None) -> Self:
        """Build the response about times that a tutor took."""
        count, (state, transaction_hash) = len(own_time.lessons), _outcome(submission)
        values = {"count": count, "state": state, "transaction_hash": transaction_hash}
        plural = "s" * (count != 1)
        message = say(f"{count} time{plural} taken.", f"{count} heure{plural} prise{plural}.")
        return cls(success=True, message=message, data=OwnTimeTaken.model_validate(values))


def _outcome(submission: Submission | None) -> tuple[State, str | None]:
    if submission is None:
        return State.MINED, None
    return submission.state, submission.transaction_hash
