"""The routes for students and tutors with a wallet of their own."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from starlette.responses import Response

from api.json_io import ExactResponse
from api.people.directory import User
from api.routes.bookings import ACCEPTED, outcome
from api.routes.deps import BearerRoute, CurrentUser, Key, Prefer, RequestId, ServicesDep
from api.schemas import responses as models
from api.schemas.examples import BATCH_EXAMPLES
from api.schemas.lesson_responses import BatchId
from api.schemas.requests import ChallengeData, CreateBatchBookingData, LinkData, SubmitData

router = APIRouter(prefix="/api/blockchain", tags=["wallet"], route_class=BearerRoute)


@router.post(
    "/booking/batch/prepare",
    operation_id="prepareBatchBookings",
    summary="Check several lessons, and get what to sign for them",
    responses={
        200: {"model": models.PreparedAnswer, "description": "To be signed by the student's wallet"},
        **models.problems(401, 403, 404, 409, 413, 422, 502, 503),
    },
)
def prepare_batch_bookings(
    services: ServicesDep,
    student: CurrentUser,
    request_id: RequestId,
    data: Annotated[CreateBatchBookingData, Body(openapi_examples=BATCH_EXAMPLES)],
    idempotency_key: Key = None,
) -> Response:
    """Prepare a batch, and send nothing. The same key and body get the same typed data until they expire."""
    prepared = services.prepared.prepare(student, data, idempotency_key, request_id)
    return ExactResponse(models.PreparedAnswer.from_request(prepared))


@router.post(
    "/booking/batch/{batchId}/submit",
    operation_id="submitBatchBookings",
    summary="Book what was prepared, with the wallet's signatures",
    responses=ACCEPTED,
)
async def submit_batch_bookings(
    request: Request,
    services: ServicesDep,
    student: CurrentUser,
    request_id: RequestId,
    batch_id: BatchId,
    data: SubmitData,
    prefer: Prefer = None,
) -> Response:
    """Book exactly the prepared batch, and respond once it is in a block. A repeat is the same batch."""
    submit = services.prepared.submit
    batch = await services.waiting.in_thread(submit, student, batch_id, data, request_id)
    return await outcome(request, services, batch, prefer)


def _wallet(user: User) -> Response:
    return ExactResponse(
        models.WalletAnswer.from_account(user.wallet, custodial=user.custodial_account is not None)
    )


_WALLET: dict[int | str, dict[str, Any]] = {
    200: {"model": models.WalletAnswer, "description": "The account in force"},
    **models.problems(401, 403, 502, 503),
}


@router.get(
    "/wallet", operation_id="getWallet", summary="The account that pays or is paid", responses=_WALLET
)
def get_wallet(services: ServicesDep, user: CurrentUser) -> Response:
    """Show the account: kept for the user, or a wallet of their own."""
    return _wallet(services.linking.user(user))


@router.post(
    "/wallet/challenge",
    operation_id="challengeWallet",
    summary="Get a message that links a wallet once it is signed",
    responses={
        200: {"model": models.ChallengeAnswer, "description": "To be signed by `personal_sign`"},
        **models.problems(401, 403, 413, 422, 502, 503),
    },
)
def challenge_wallet(services: ServicesDep, user: CurrentUser, data: ChallengeData) -> Response:
    """Issue a message (EIP-4361) that is good once and for ten minutes, and replaces any earlier one."""
    made = services.linking.challenge(user, data.address)
    return ExactResponse(models.ChallengeAnswer.from_message(made.message, made.nonce, made.expires_at))


@router.put(
    "/wallet",
    operation_id="linkWallet",
    summary="Link a wallet",
    responses=_WALLET | models.problems(409, 413, 422),
)
def link_wallet(services: ServicesDep, user: CurrentUser, data: LinkData) -> Response:
    """Link a wallet. Later bookings are the wallet's; earlier ones stay with the account that they name."""
    return _wallet(services.linking.link(user, data.message, data.signature))


@router.delete(
    "/wallet",
    operation_id="unlinkWallet",
    summary="Go back to the account that is kept for the user",
    responses=_WALLET | models.problems(409),
)
def unlink_wallet(services: ServicesDep, user: CurrentUser) -> Response:
    """Return to the kept account, with the money that is still there."""
    return _wallet(services.linking.unlink(user))
