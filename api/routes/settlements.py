"""The routes of settlements, credits and tutors' own time."""

from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.responses import Response

from api.booking.models import OwnTime, Withdrawal
from api.booking.settlements import Settlement
from api.json_io import ExactResponse
from api.outbox.models import Submission
from api.routes.actions import settled
from api.routes.bookings import LATER
from api.routes.deps import BearerRoute, CurrentUser, Key, Prefer, RequestId, ServicesDep
from api.schemas import lesson_responses as lesson_models
from api.schemas import responses as models
from api.schemas import settlement_responses as own_models
from api.schemas.lesson_responses import BatchId
from api.schemas.requests import BatchShare, OwnTimeData, SignedOwnTimeData, SignedShare, SignedTo, To

router = APIRouter(prefix="/api/blockchain", tags=["lessons"], route_class=BearerRoute)

_PROBLEMS = models.problems(401, 403, 404, 409, 413, 422, 502, 503)


def _answers(model: Any, done: str, *, waits: bool = True) -> dict[int | str, dict[str, Any]]:
    first: dict[int | str, dict[str, Any]] = {200: {"model": model, "description": done}}
    if waits:
        first[202] = {"model": model, "description": "On its way", "headers": LATER}
    return first | _PROBLEMS


# --- Settlements ---


@router.post(
    "/booking/batch/{batchId}/settle/prepare",
    operation_id="prepareSettlement",
    summary="What a wallet signs to offer a split, or to accept one",
    responses=_answers(lesson_models.PreparedActAnswer, "To be signed", waits=False),
)
def prepare_settlement(
    services: ServicesDep, user: CurrentUser, batch_id: BatchId, data: BatchShare
) -> Response:
    """Prepare a split of lessons' money. If the other party offers the same, its deadline is taken."""
    settlements = services.settlements
    wanted = settlements.settlement(batch_id, data.lessons, user, data.tutor_share_bps)
    return ExactResponse(lesson_models.PreparedActAnswer.from_action(settlements.prepare(wanted)))


@router.post(
    "/booking/batch/{batchId}/settle/offer",
    operation_id="offerSettlement",
    summary="Offer the other party a split",
    responses=_answers(own_models.OfferAnswer, "Kept until it is accepted, replaced or too old", waits=False),
)
def offer_settlement(
    services: ServicesDep, user: CurrentUser, batch_id: BatchId, data: SignedShare
) -> Response:
    """Offer a split of lessons' money: it happens if the other party accepts exactly that, within a week."""
    settlements = services.settlements
    wanted = settlements.settlement(batch_id, data.lessons, user, data.tutor_share_bps)
    offer = settlements.offer(wanted, user, data.signature, data.deadline)
    return ExactResponse(own_models.OfferAnswer.from_offer(offer, wanted.action.batch))


@router.get(
    "/booking/batch/{batchId}/settle",
    operation_id="getSettlementOffers",
    summary="The splits that can be accepted",
    responses=_answers(own_models.OffersAnswer, "At most one of each party", waits=False),
)
def get_settlement_offers(services: ServicesDep, user: CurrentUser, batch_id: BatchId) -> Response:
    """Show the parties' open offers."""
    batch, _ = services.lessons.batch(batch_id, user)
    offers = services.settlements.offers(batch_id, user)
    return ExactResponse(own_models.OffersAnswer.from_offers(offers, batch))


@router.post(
    "/booking/batch/{batchId}/settle",
    operation_id="acceptSettlement",
    summary="Accept the split that the other party offers",
    responses=_answers(lesson_models.DoneAnswer, "Done, in a block"),
)
async def accept_settlement(
    services: ServicesDep,
    user: CurrentUser,
    request_id: RequestId,
    batch_id: BatchId,
    data: SignedShare,
    prefer: Prefer = None,
) -> Response:
    """Accept a split of the same lessons with the same share; both signatures are sent."""
    settlements = services.settlements

    def begin() -> tuple[Settlement, str | None]:
        wanted = settlements.settlement(batch_id, data.lessons, user, data.tutor_share_bps)
        return wanted, settlements.accept(wanted, user, data.signature, data.deadline, request_id)

    def answer(wanted: Settlement, submission: Submission | None) -> lesson_models.DoneAnswer:
        result = services.actions.result(wanted.action, submission)
        return lesson_models.DoneAnswer.from_result(result, services.chain.periods)

    return await settled(services, begin, answer, prefer)


# --- Credits ---


@router.get(
    "/wallet/credit",
    operation_id="getCredit",
    summary="What the token refused to pay the account",
    responses=_answers(own_models.CreditAnswer, "Kept in the escrow for it", waits=False),
)
def get_credit(services: ServicesDep, user: CurrentUser) -> Response:
    """Show the credit of the account in force."""
    return ExactResponse(own_models.CreditAnswer.from_amount(services.credits.credit(user)))


@router.post(
    "/wallet/credit/withdraw/prepare",
    operation_id="prepareWithdrawal",
    summary="What a wallet signs to have its credit paid",
    responses=_answers(lesson_models.PreparedListingAnswer, "To be signed", waits=False),
)
def prepare_withdrawal(services: ServicesDep, user: CurrentUser, data: To) -> Response:
    """Prepare the payment of the whole credit to an address."""
    kept = services.credits
    withdrawal = kept.withdrawal(user, data.to)
    return ExactResponse(
        lesson_models.PreparedListingAnswer.from_typed_data(withdrawal.account, kept.typed_data(withdrawal))
    )


@router.post(
    "/wallet/credit/withdraw",
    operation_id="withdrawCredit",
    summary="Have the credit paid",
    responses=_answers(own_models.WithdrawnAnswer, "Done, in a block"),
)
async def withdraw_credit(
    services: ServicesDep, user: CurrentUser, request_id: RequestId, data: SignedTo, prefer: Prefer = None
) -> Response:
    """Pay the whole credit of the account to any address."""
    kept = services.credits

    def begin() -> tuple[Withdrawal, str | None]:
        withdrawal = kept.withdrawal(user, data.to)
        return withdrawal, kept.withdraw(withdrawal, data.signature, data.deadline, request_id)

    return await settled(services, begin, own_models.WithdrawnAnswer.from_withdrawal, prefer)


# --- A tutor's own time ---

Times = Annotated[OwnTimeData, Body()]


@router.post(
    "/own-time/prepare",
    operation_id="prepareOwnTime",
    summary="What a tutor's wallet signs to take time of their own",
    responses=_answers(lesson_models.PreparedListingAnswer, "To be signed", waits=False),
)
def prepare_own_time(services: ServicesDep, user: CurrentUser, data: Times, key: Key = None) -> Response:
    """Prepare times that nobody can book. Send the same Idempotency-Key with the signature."""
    own_times = services.own_times
    own_time = own_times.own_time(user, data, key, "")
    return ExactResponse(
        lesson_models.PreparedListingAnswer.from_typed_data(own_time.account, own_times.typed_data(own_time))
    )


@router.post(
    "/own-time",
    operation_id="takeOwnTime",
    summary="Take time out of a tutor's calendar",
    responses=_answers(own_models.OwnTimeAnswer, "Done, in a block"),
)
async def take_own_time(
    services: ServicesDep,
    user: CurrentUser,
    request_id: RequestId,
    data: SignedOwnTimeData,
    prefer: Prefer = None,
    key: Key = None,
) -> Response:
    """Take times of the tutor's own, for nothing: all of them or none. Cancelling gives them back."""
    own_times = services.own_times

    def begin() -> tuple[OwnTime, str | None]:
        own_time = own_times.own_time(user, data, key, request_id)
        return own_time, own_times.take(own_time, data.signature, data.deadline, request_id)

    return await settled(services, begin, own_models.OwnTimeAnswer.from_own_time, prefer)
