"""The routes that read lessons once they are booked: one, a batch, lists, sums."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api.booking.queries import beginning
from api.json_io import ExactResponse, bounded, page_of
from api.routes.deps import BearerRoute, CurrentUser, ServicesDep
from api.schemas import lesson_responses as lesson_models
from api.schemas import responses as models
from api.schemas.lesson_responses import BatchId, BookingId
from api.schemas.requests import Id, Selection

router = APIRouter(prefix="/api/blockchain", tags=["lessons"], route_class=BearerRoute)

UserId = Annotated[Id, Path(alias="userId")]
Selected = Annotated[Selection, Query()]
_LISTED: dict[int | str, dict[str, Any]] = {
    200: {"model": lesson_models.BookingsAnswer, "description": "For this user, or an operator"},
    **models.problems(401, 403, 404, 422, 502, 503),
}


@router.get(
    "/booking/batch/{batchId}",
    operation_id="getBatch",
    summary="What became of a batch",
    responses={
        200: {"model": models.BatchAnswer, "description": "For its student, its tutor, or an operator"},
        **models.problems(401, 404, 422),
    },
)
def get_batch(services: ServicesDep, user: CurrentUser, batch_id: BatchId) -> Response:
    """Show state, transaction, bookings as they stand, and failures."""
    batch, _ = services.lessons.batch(batch_id, user)
    return bounded(models.BatchAnswer.from_batch(batch, services.chain.periods))


@router.get(
    "/booking/user/{userId}",
    operation_id="getBookingsOfUser",
    summary="A student's lessons",
    responses=_LISTED,
)
def get_bookings_of_user(
    services: ServicesDep, user: CurrentUser, user_id: UserId, selection: Selected
) -> Response:
    """List lessons in order of time, a page at a time."""
    return _page(services, user, user_id, "student", selection)


@router.get(
    "/booking/tutor/{tutorId}",
    operation_id="getBookingsOfTutor",
    summary="A tutor's lessons",
    responses=_LISTED,
)
def get_bookings_of_tutor(
    services: ServicesDep,
    user: CurrentUser,
    tutor_id: Annotated[Id, Path(alias="tutorId")],
    selection: Selected,
) -> Response:
    """List lessons in order of time, a page at a time. The id is the user's or the profile's."""
    return _page(services, user, tutor_id, "tutor", selection)


@router.get(
    "/booking/{userId}/stats",
    operation_id="getStats",
    summary="Counts and sums of a user's lessons",
    responses={
        200: {"model": lesson_models.StatsAnswer, "description": "For this user, or an operator"},
        **models.problems(401, 403, 404, 422, 502, 503),
    },
)
def get_stats(services: ServicesDep, user: CurrentUser, user_id: UserId) -> Response:
    """Sum up a tutor's lessons as a tutor, anybody else's as a student."""
    return ExactResponse(lesson_models.StatsAnswer.from_stats(services.lessons.stats(user, user_id)))


@router.get(
    "/booking/{id}",
    operation_id="getBooking",
    summary="One lesson",
    responses={
        200: {
            "model": lesson_models.BookingAnswer,
            "description": "For its student, its tutor, or an operator",
        },
        **models.problems(401, 404, 422),
    },
)
def get_booking(services: ServicesDep, user: CurrentUser, booking_id: BookingId) -> Response:
    """Find a lesson by the frontend's id, or by the one on the chain."""
    lesson, _ = services.lessons.booking(booking_id, user)
    return ExactResponse(lesson_models.BookingAnswer.from_lesson(lesson, services.chain.periods))


def _page(
    services: ServicesDep, user: str, of: str, side: Literal["student", "tutor"], selection: Selection
) -> Response:
    page = services.lessons.page(user, of, side, selection)
    periods, build = services.chain.periods, lesson_models.BookingsAnswer.from_page
    return page_of(len(page.lessons), lambda count: build(beginning(page, count), periods))
