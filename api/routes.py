"""The routes under `/api/blockchain`."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Request
from starlette.responses import Response

from api import models
from api.answers import answer, refusal
from api.auth import CurrentUser
from api.models import CreateBatchBookingData, CreateBookingData
from api.store import UNSETTLED
from api.wire import ExactResponse, ExactRoute

router = APIRouter(prefix="/api/blockchain", tags=["booking"], route_class=ExactRoute)

_KEY = "The same key and body are the same batch, however often they are sent."
Key = Annotated[str | None, Header(alias="Idempotency-Key", pattern="^[ -~]{1,255}$", description=_KEY)]
Prefer = Annotated[str | None, Header(description="`respond-async`: do not wait for the block.")]
BatchId = Annotated[str, Path(alias="batchId", pattern="^0x[0-9a-f]{64}$")]
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"model": models.BatchAnswer, "description": "In a block"},
    202: {
        "model": models.BatchAnswer,
        "description": "On its way",
        "headers": {
            "Location": {"schema": {"type": "string"}, "description": "Where to ask for the batch"},
            "Retry-After": {"schema": {"type": "integer"}, "description": "In how many seconds"},
        },
    },
    **models.problems(401, 403, 409, 413, 422, 503),
}


@router.post(
    "/booking/batch",
    operation_id="createBatchBookings",
    summary="Book several lessons in one transaction",
    responses=_ACCEPTED,
)
async def create_batch_bookings(
    request: Request,
    student: CurrentUser,
    data: Annotated[CreateBatchBookingData, Body(openapi_examples=models.BATCH_EXAMPLES)],
    idempotency_key: Key = None,
    prefer: Prefer = None,
) -> Response:
    """Books every lesson that can be booked, and answers when they are in a block."""
    return await _book(request, student, data, idempotency_key, prefer)


@router.post("/booking", operation_id="createBooking", summary="Book one lesson", responses=_ACCEPTED)
async def create_booking(
    request: Request,
    student: CurrentUser,
    data: Annotated[CreateBookingData, Body(openapi_examples=models.BOOKING_EXAMPLES)],
    idempotency_key: Key = None,
    prefer: Prefer = None,
) -> Response:
    """A batch of one."""
    return await _book(request, student, data.as_batch(), idempotency_key, prefer)


@router.get(
    "/booking/batch/{batchId}",
    operation_id="getBatch",
    summary="What became of a batch",
    responses={
        200: {"model": models.BatchAnswer, "description": "For its student or its tutor"},
        **models.problems(401, 404, 422),
    },
)
async def get_batch(request: Request, user: CurrentUser, batch_id: BatchId) -> Response:
    """State, transaction, bookings and failures."""
    row = await request.app.state.shim.bookings.batch(batch_id, user)
    return ExactResponse(answer(row))


async def _book(
    request: Request, student: str, data: CreateBatchBookingData, key: str | None, prefer: str | None
) -> Response:
    shim = request.app.state.shim
    bookings = shim.bookings
    batch_id = await bookings.in_thread(bookings.place, student, data, key, request.state.request_id)
    asynchronous = "respond-async" in (prefer or "").lower()
    row = await bookings.wait(batch_id, 0 if asynchronous else shim.settings.wait_seconds)
    if row.state in UNSETTLED:
        headers = {"Location": request.url_for("get_batch", batchId=row.id).path, "Retry-After": "1"}
        return ExactResponse(answer(row), 202, headers=headers)
    if not row.booked:
        raise refusal(row)
    return ExactResponse(answer(row))
