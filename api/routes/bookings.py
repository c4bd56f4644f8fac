"""The routes that book lessons for accounts that are kept here."""

from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Body, HTTPException, Request
from starlette.responses import Response

from api.booking.create import Accepted
from api.booking.plan import not_created
from api.json_io import bounded
from api.outbox.models import UNSETTLED
from api.routes.deps import BearerRoute, CurrentUser, Key, Prefer, RequestId, ServicesDep
from api.schemas import responses as models
from api.schemas.examples import BATCH_EXAMPLES, BOOKING_EXAMPLES
from api.schemas.requests import CreateBatchBookingData, CreateBookingData
from api.services import Services

router = APIRouter(prefix="/api/blockchain", tags=["booking"], route_class=BearerRoute)

LATER = {
    "Location": {"schema": {"type": "string"}, "description": "Where to ask for the outcome"},
    "Retry-After": {"schema": {"type": "integer"}, "description": "In how many seconds"},
}

_REPLAYED = {
    "Idempotent-Replayed": {
        "schema": {"type": "string", "enum": ["true"]},
        "description": "Of a repeat only: the batch is that of an earlier request",
    }
}

ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"model": models.BatchAnswer, "description": "In a block", "headers": _REPLAYED},
    202: {
        "model": models.BatchAnswer,
        "description": "On its way",
        "headers": LATER | _REPLAYED,
    },
    **models.problems(401, 402, 403, 404, 409, 413, 422, 502, 503),
}


@router.post(
    "/booking/batch",
    operation_id="createBatchBookings",
    summary="Book several lessons in one transaction",
    responses=ACCEPTED,
)
async def create_batch_bookings(
    request: Request,
    services: ServicesDep,
    student: CurrentUser,
    request_id: RequestId,
    data: Annotated[CreateBatchBookingData, Body(openapi_examples=BATCH_EXAMPLES)],
    idempotency_key: Key = None,
    prefer: Prefer = None,
) -> Response:
    """Book every lesson that can be booked, and respond once they are in a block."""
    return await _book(request, services, student, request_id, data, idempotency_key, prefer)


@router.post("/booking", operation_id="createBooking", summary="Book one lesson", responses=ACCEPTED)
async def create_booking(
    request: Request,
    services: ServicesDep,
    student: CurrentUser,
    request_id: RequestId,
    data: Annotated[CreateBookingData, Body(openapi_examples=BOOKING_EXAMPLES)],
    idempotency_key: Key = None,
    prefer: Prefer = None,
) -> Response:
    """Book a batch of one."""
    return await _book(request, services, student, request_id, data.as_batch(), idempotency_key, prefer)


async def _book(
    request: Request,
    services: Services,
    student: str,
    request_id: str,
    data: CreateBatchBookingData,
    key: str | None,
    prefer: str | None,
) -> Response:
    create = services.bookings.create
    accepted = await services.waiting.in_thread(create, student, data, key, request_id)
    structlog.contextvars.bind_contextvars(batch_id=accepted.batch_id)
    return await outcome(request, services, accepted, prefer)


async def outcome(request: Request, services: Services, accepted: Accepted, prefer: str | None) -> Response:
    """Return the response about an accepted batch, once it is settled or the wait is over."""
    asynchronous = "respond-async" in (prefer or "").lower()
    seconds = 0 if asynchronous else services.settings.wait_seconds
    await services.waiting.wait(accepted.batch_id, seconds)
    batch = await services.waiting.in_thread(services.bookings.batch, accepted.batch_id)
    if batch.state not in UNSETTLED and not batch.booked:
        raise not_created(batch)
    body = models.BatchAnswer.from_batch(batch, services.chain.periods)
    headers = {"Idempotent-Replayed": "true"} if accepted.replayed else {}
    if batch.state in UNSETTLED:
        headers |= {"Location": request.url_for("get_batch", batchId=batch.id).path, "Retry-After": "1"}
        return bounded(body, 202, headers)
    return bounded(body, headers=headers)


async def no_booking(request: Request) -> Response:  # noqa: ARG001
    """Refuse to take the names of these addresses for ids."""
    raise HTTPException(405)


for path in ("/booking/batch", "/booking/batch/prepare"):
    router.add_api_route(path, no_booking, methods=["GET"], include_in_schema=False)
