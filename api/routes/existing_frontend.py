"""The calls of the existing frontend, field by field as it reads them.

To do without it, delete this module, its answers, schemas and use case (`existing_answers`,
`existing_frontend`) and its word in `api/app.py`: the service's own routes of the same addresses are back.
Where an address is one of the service's own too, the answer has all of that one's fields, and more.
"""

import copy
import functools
from collections.abc import Iterable, Sequence
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.booking.existing_frontend import ExistingFrontend, SharedLesson
from api.booking.queries import beginning
from api.db.bookings import Side
from api.json_io import ExactResponse, page_of
from api.language import say
from api.routes import existing_answers as answers
from api.routes.actions import SENT, perform
from api.routes.deps import BearerRoute, CurrentUser, Prefer, RequestId, ServicesDep
from api.schemas import existing_frontend as models
from api.schemas import lesson_responses as lesson_models
from api.schemas.lesson_responses import BookingId
from api.schemas.requests import Id, Selection
from api.schemas.responses import problems
from api.services import Services
from creneau.amounts import from_wei
from creneau.lifecycle import Action, Status

router = APIRouter(prefix="/api/blockchain", tags=["existing frontend"], route_class=BearerRoute)

UserId = Annotated[Id, Path(alias="userId")]
AskedUser = Annotated[Id | None, Query(alias="userId", description="The caller, unless for an operator.")]
_READS = problems(401, 403, 404, 422, 502, 503)
_OWN = "For this user, or an operator"


def instead(routers: Iterable[APIRouter]) -> list[APIRouter]:
    """Return these routers without the routes whose addresses are in this one, and this one."""
    ours, kept = {_address(route) for route in router.routes}, []
    for each in routers:
        rest = copy.copy(each)
        rest.routes = [route for route in each.routes if _address(route) not in ours]
        kept.append(rest)
    return [*kept, router]


def _address(route: BaseRoute) -> tuple[object, ...]:
    return (route.path, *sorted(route.methods or ())) if isinstance(route, APIRoute) else (id(route),)


def _room(services: ServicesDep) -> ExistingFrontend:
    return ExistingFrontend(
        services.settings, services.store, services.chain, services.directory, services.lessons
    )


# --- Lessons ---


@router.get(
    "/booking/all/{userId}",
    operation_id="getAllBookings",
    summary="A person's lessons, on both sides",
    responses={200: {"model": models.BothSidesAnswer, "description": _OWN}, **_READS},
)
def get_all_bookings(
    services: ServicesDep,
    user: CurrentUser,
    user_id: UserId,
    which: Annotated[models.StatusSelection, Query()],
) -> Response:
    """Return the lessons to come, the next one first; then those past, the latest first: 200 each at most."""
    room, periods = _room(services), services.chain.periods
    student, tutor = room.on_both_sides(user, user_id, which.status)

    def build(count: int) -> models.BothSidesAnswer:
        shown = {id(each) for each in answers.nearest([*student, *tutor], room.now, count)}
        learnt, given = ([each for each in side if id(each) in shown] for side in (student, tutor))
        data = models.BothSides(
            as_student=[answers.lesson(each, periods) for each in learnt],
            as_tutor=[answers.lesson(each, periods) for each in given],
            total=count,
        )
        return models.BothSidesAnswer(success=True, message=answers.count_of(count), data=data)

    return page_of(len(student) + len(tutor), build)


@router.get(
    "/booking/student-courses/{userId}",
    operation_id="getStudentCourses",
    summary="A student's confirmed and completed lessons",
    responses={200: {"model": models.CoursesAnswer, "description": _OWN}, **_READS},
)
def get_student_courses(services: ServicesDep, user: CurrentUser, user_id: UserId) -> Response:
    """Return the lessons to come, the next one first; then those past, the latest first: 200 each at most."""
    room, periods = _room(services), services.chain.periods
    accepted = (Status.CONFIRMED.name, Status.COMPLETED.name)
    found, now = room.of_person(user, user_id, "student", accepted), room.now()

    def build(count: int) -> models.CoursesAnswer:
        data = [answers.course(each, periods, now) for each in answers.nearest(found, room.now, count)]
        return models.CoursesAnswer(success=True, message=answers.count_of(len(data)), data=data)

    return page_of(len(found), build)


def _list(services: Services, user: str, of: str, side: Side, which: Selection) -> Response:
    room, periods = _room(services), services.chain.periods

    def answer(found: Sequence[SharedLesson], cursor: str | None = None) -> models.BookingsAnswer:
        data = [answers.lesson(each, periods) for each in found]
        message = answers.count_of(len(data))
        return models.BookingsAnswer(success=True, message=message, data=data, next_cursor=cursor)

    if which.model_fields_set <= {"status"}:
        found = room.of_person(user, of, side, which.status)
        return page_of(len(found), lambda count: answer(answers.nearest(found, room.now, count)))
    page = services.lessons.page(user, of, side, which)
    shared = room.shared([(each, page.role) for each in page.lessons])
    return page_of(len(shared), lambda count: answer(shared[:count], beginning(page, count).next_cursor))


Selected = Annotated[Selection, Query()]
_LISTED = {200: {"model": models.BookingsAnswer, "description": _OWN}, **_READS}


@router.get(
    "/booking/student/{userId}",
    operation_id="getBookingsOfStudent",
    summary="The lessons that a person booked",
    responses=_LISTED,
)
def get_bookings_of_student(
    services: ServicesDep, user: CurrentUser, user_id: UserId, which: Selected
) -> Response:
    """Return the lessons that a person of any role booked: as `/booking/user/{userId}` does."""
    return _list(services, user, user_id, "student", which)


@router.get(
    "/booking/user/{userId}",
    operation_id="getBookingsOfUser",
    summary="The lessons that a person booked",
    responses=_LISTED,
)
def get_bookings_of_user(
    services: ServicesDep, user: CurrentUser, user_id: UserId, which: Selected
) -> Response:
    """Return a page in order of time; without any parameter but `status`, 200 to come and 200 past."""
    return _list(services, user, user_id, "student", which)


@router.get(
    "/booking/tutor/{tutorId}",
    operation_id="getBookingsOfTutor",
    summary="The lessons that a tutor gives",
    responses=_LISTED,
)
def get_bookings_of_tutor(
    services: ServicesDep,
    user: CurrentUser,
    tutor_id: Annotated[Id, Path(alias="tutorId")],
    which: Selected,
) -> Response:
    """Return the same of a tutor, by the user's id or the profile's."""
    return _list(services, user, tutor_id, "tutor", which)


@router.get(
    "/booking/{userId}/stats",
    operation_id="getStats",
    summary="Counts and sums of a user's lessons",
    responses={200: {"model": models.StatsAnswer, "description": _OWN}, **_READS},
)
def get_stats(services: ServicesDep, user: CurrentUser, user_id: UserId) -> Response:
    """Return a tutor's as a tutor, anybody else's as a student; `total` counts every status."""
    stats = services.lessons.stats(user, user_id)
    whole = lesson_models.StatsAnswer.from_stats(stats)
    counted = (Status.PENDING, Status.CONFIRMED, Status.CANCELLED, Status.COMPLETED)
    more = {status.name.lower(): stats.counts[status] for status in counted} | {
        "total": whole.data.count,
        "total_amount": from_wei(sum(stats.amounts.values())),
        "pending_amount": from_wei(stats.amounts[Status.PENDING]),
    }
    data = models.ExistingStats.model_validate(dict(whole.data) | more)
    return ExactResponse(models.StatsAnswer(success=True, message=whole.message, data=data))


@router.get(
    "/booking/{id}",
    operation_id="getBooking",
    summary="One lesson, and what may be done with it now",
    responses={
        200: {"model": models.BookingAnswer, "description": "For its student, its tutor, or an operator"},
        **problems(401, 404, 422, 502, 503),
    },
)
def get_booking(services: ServicesDep, user: CurrentUser, booking_id: BookingId) -> Response:
    """Find a lesson by the frontend's id, or by the one on the chain."""
    room = _room(services)
    data = answers.details(room.one(user, booking_id), services.chain.periods, room.now())
    return ExactResponse(models.BookingAnswer(success=True, message=answers.count_of(1), data=data))


# --- Actions that say something ---


@router.patch(
    "/booking/{id}/confirm",
    operation_id="confirmBooking",
    summary="Have a lesson confirmed",
    responses=SENT,
)
async def confirm_booking(
    services: ServicesDep,
    user: CurrentUser,
    request_id: RequestId,
    booking_id: BookingId,
    data: Annotated[models.ConfirmData, Body(default_factory=models.ConfirmData)],
    prefer: Prefer = None,
) -> Response:
    """Confirm a pending lesson before it starts; its tutor may leave a note."""
    action = functools.partial(services.actions.of_booking, Action.CONFIRM, booking_id, user)
    keep = functools.partial(_room(services).keep_note, tutor_notes=data.tutor_notes)
    return await perform(services, user, request_id, action, data, prefer, keep)


@router.patch(
    "/booking/{id}/cancel",
    operation_id="cancelBooking",
    summary="Have a lesson cancelled",
    responses=SENT,
)
async def cancel_booking(
    services: ServicesDep,
    user: CurrentUser,
    request_id: RequestId,
    booking_id: BookingId,
    data: Annotated[models.CancelData, Body(default_factory=models.CancelData)],
    prefer: Prefer = None,
) -> Response:
    """Refund the student and free the tutor's time; either may give a reason."""
    action = functools.partial(services.actions.of_booking, Action.CANCEL, booking_id, user)
    keep = functools.partial(_room(services).keep_note, cancellation_reason=data.reason)
    return await perform(services, user, request_id, action, data, prefer, keep)


# --- Money ---


@router.get(
    "/balance",
    operation_id="getBalance",
    summary="An account's money",
    responses={200: {"model": models.BalanceAnswer, "description": _OWN}, **_READS},
)
def get_balance(services: ServicesDep, user: CurrentUser, user_id: AskedUser = None) -> Response:
    """Return a balance; `locked` is what the escrow holds for a tutor."""
    data = answers.balance(_room(services).wallet(user, user_id or user))
    message = say("The balance.", "Le solde.")
    return ExactResponse(models.BalanceAnswer(success=True, message=message, data=data))


@router.get(
    "/history",
    operation_id="getHistory",
    summary="An account's movements",
    responses={200: {"model": models.HistoryAnswer, "description": _OWN}, **_READS},
)
def get_history(
    services: ServicesDep, user: CurrentUser, which: Annotated[models.HistorySelection, Query()]
) -> Response:
    """Return movements, the newest first: completed ones add up to the balance, pending ones to `locked`."""
    room = _room(services)
    wallet = room.wallet(user, which.user_id or user)
    chosen = room.chosen(wallet.account, which.start_date, which.end_date, which.transaction_type)
    skipped = (which.page - 1) * which.limit if which.cursor is None else 0
    ahead = chosen[skipped:] if which.cursor is None else room.after(chosen, which.cursor)
    entries = room.entries(user, wallet, ahead[: which.limit])
    message = say("The movements.", "Les mouvements.")

    def build(count: int) -> models.HistoryAnswer:
        data = models.History(
            transactions=[answers.transaction(wallet, each) for each in entries[:count]],
            total=len(chosen),
            page=which.page,
            total_pages=max(-(-len(chosen) // which.limit), 1),
        )
        cursor = ".".join(map(str, ahead[count - 1].order)) if count < len(ahead) else None
        return models.HistoryAnswer(success=True, message=message, data=data, next_cursor=cursor)

    return page_of(len(entries), build)


@router.get(
    "/stats",
    operation_id="getAccountStats",
    summary="An account's money, and what came and went",
    responses={200: {"model": models.AccountStatsAnswer, "description": _OWN}, **_READS},
)
def get_account_stats(services: ServicesDep, user: CurrentUser, user_id: AskedUser = None) -> Response:
    """Return sums by days and months of the service's time zone. There are no fees."""
    room = _room(services)
    wallet = room.wallet(user, user_id or user)
    data = answers.account_stats(wallet, *room.periods(wallet.account))
    message = say("The sums.", "Les totaux.")
    return ExactResponse(models.AccountStatsAnswer(success=True, message=message, data=data))
