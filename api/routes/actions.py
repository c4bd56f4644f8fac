"""The routes of actions on lessons once they are booked."""

import functools
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Depends, Query
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from api.booking.actions import Beside, LessonAction
from api.errors import Code, Problem
from api.json_io import ExactResponse, bounded
from api.outbox.models import UNSETTLED, Submission
from api.routes.bookings import LATER
from api.routes.deps import BearerRoute, CurrentUser, Prefer, RequestId, ServicesDep
from api.schemas import lesson_responses as lesson_models
from api.schemas import responses as models
from api.schemas.lesson_responses import ActId, BatchId, BookingId
from api.schemas.requests import ActData, BatchActData, BatchShare, LessonChoice, Share
from api.services import Services
from api.words import DONE
from creneau.lifecycle import Action

router = APIRouter(prefix="/api/blockchain", tags=["lessons"], route_class=BearerRoute)

_Subject = TypeVar("_Subject")

_TRIES = 2  # Somebody else may have been quicker; then the second one says so, or that it is done.

SENT: dict[int | str, dict[str, Any]] = {
    200: {"model": lesson_models.DoneAnswer, "description": "Done, in a block"},
    202: {
        "model": lesson_models.DoneAnswer,
        "description": "On its way; asking again is the same act",
        "headers": LATER,
    },
    **models.problems(401, 403, 404, 409, 413, 422, 502, 503),
}
_PREPARED: dict[int | str, dict[str, Any]] = {
    200: {"model": lesson_models.PreparedActAnswer, "description": "To be signed; nothing has happened"},
    **models.problems(401, 403, 404, 409, 413, 422, 502, 503),
}
OneBody = Annotated[ActData, Body(default_factory=ActData)]
ManyBody = Annotated[BatchActData, Body(default_factory=BatchActData)]
_METHODS = {Action.CONFIRM: "PATCH", Action.CANCEL: "PATCH", Action.COMPLETE: "PATCH", Action.DISPUTE: "POST"}


def _add(act: Action, method: str) -> None:
    """Add the routes of an act that its actor signs: on a lesson, on lessons of a batch, and `prepare`."""
    name, done = act.capitalize(), DONE["en"][act]

    async def of_booking(
        services: ServicesDep,
        user: CurrentUser,
        request_id: RequestId,
        booking_id: BookingId,
        data: OneBody,
        prefer: Prefer = None,
    ) -> Response:
        action = functools.partial(services.actions.of_booking, act, booking_id, user)
        return await perform(services, user, request_id, action, data, prefer)

    async def of_batch(
        services: ServicesDep,
        user: CurrentUser,
        request_id: RequestId,
        batch_id: BatchId,
        data: ManyBody,
        prefer: Prefer = None,
    ) -> Response:
        action = functools.partial(services.actions.of_batch, act, batch_id, data.lessons, user)
        return await perform(services, user, request_id, action, data, prefer)

    def prepare_of_booking(services: ServicesDep, user: CurrentUser, booking_id: BookingId) -> Response:
        actions = services.actions
        prepared = actions.prepare(actions.of_booking(act, booking_id, user))
        return ExactResponse(lesson_models.PreparedActAnswer.from_action(prepared))

    def prepare_of_batch(
        services: ServicesDep,
        user: CurrentUser,
        batch_id: BatchId,
        data: Annotated[LessonChoice, Body(default_factory=LessonChoice)],
    ) -> Response:
        actions = services.actions
        prepared = actions.prepare(actions.of_batch(act, batch_id, data.lessons, user))
        return ExactResponse(lesson_models.PreparedActAnswer.from_action(prepared))

    one, many = "/booking/{id}/" + act, "/booking/batch/{batchId}/" + act
    for path, of, endpoint, prepare, what in (
        (many, "Batch", of_batch, prepare_of_batch, "lessons of a batch"),
        (one, "Booking", of_booking, prepare_of_booking, "a lesson"),
    ):
        router.add_api_route(
            path,
            endpoint,
            methods=[method],
            operation_id=f"{act}{of}",
            summary=f"Have {what} {done}",
            description=_RULES[act],
            responses=SENT,
        )
        router.add_api_route(
            f"{path}/prepare",
            prepare,
            methods=["POST"],
            operation_id=f"prepare{name}{of}",
            summary=f"What a wallet signs to have {what} {done}",
            description=_RULES[act],
            responses=_PREPARED,
        )


_RULES = {
    Action.CONFIRM: "The tutor agrees to pending lessons before they start.",
    Action.CANCEL: (
        "Refunds the student and frees the tutor's time. The student may as long as they are pending, and "
        "until the cancel window before they start; the tutor at any time before they are completed."
    ),
    Action.COMPLETE: "Pays the tutor. The student may at any time; the tutor once the review period is over.",
    Action.DISPUTE: (
        "The student contests confirmed lessons, from their start until the review period is over."
    ),
}
for _act, _method in _METHODS.items():
    _add(_act, _method)


@router.post(
    "/booking/batch/{batchId}/resolve",
    operation_id="resolveBatch",
    summary="Decide disputed lessons of a batch",
    responses=SENT,
)
async def resolve_batch(
    services: ServicesDep,
    user: CurrentUser,
    request_id: RequestId,
    batch_id: BatchId,
    data: BatchShare,
    prefer: Prefer = None,
) -> Response:
    """Split the money, as an operator. The arbiter's account, which the service has to have, sends it."""
    share = data.tutor_share_bps
    action = functools.partial(services.actions.of_batch, Action.RESOLVE, batch_id, data.lessons, user, share)
    return await perform(services, user, request_id, action, ActData(), prefer)


@router.post(
    "/booking/{id}/resolve",
    operation_id="resolveBooking",
    summary="Decide a disputed lesson",
    responses=SENT,
)
async def resolve_booking(
    services: ServicesDep,
    user: CurrentUser,
    request_id: RequestId,
    booking_id: BookingId,
    data: Share,
    prefer: Prefer = None,
) -> Response:
    """Split the money, as an operator. The arbiter's account, which the service has to have, sends it."""
    action = functools.partial(
        services.actions.of_booking, Action.RESOLVE, booking_id, user, data.tutor_share_bps
    )
    return await perform(services, user, request_id, action, ActData(), prefer)


_HELD = "Whether the lesson took place, as who asks says. `course_held`, its older name, is deprecated."


_HELD_PARAMETER = {
    "name": "courseHeld",
    "in": "query",
    "required": True,
    "schema": {"type": "boolean"},
    "description": _HELD,
}


async def _held(
    course_held: Annotated[bool | None, Query(alias="courseHeld", include_in_schema=False)] = None,
    older: Annotated[bool | None, Query(alias="course_held", include_in_schema=False)] = None,
) -> bool:
    held = older if course_held is None else course_held
    if held is None or None not in {course_held, older}:
        error = {"type": "missing", "loc": ("query", "courseHeld"), "msg": "Field required", "input": None}
        raise RequestValidationError([error])
    return held


@router.post(
    "/booking/{id}/confirm-outcome",
    operation_id="confirmOutcome",
    summary="Say whether a lesson was held",
    responses=SENT,
    openapi_extra={"parameters": [_HELD_PARAMETER]},
)
async def confirm_outcome(
    services: ServicesDep,
    user: CurrentUser,
    request_id: RequestId,
    booking_id: BookingId,
    course_held: Annotated[bool, Depends(_held)],
    data: OneBody,
    prefer: Prefer = None,
) -> Response:
    """Tell the outcome of a lesson.

    Held: the student's word completes the lesson, the tutor's is acknowledged and changes nothing. Not held:
    the student's word disputes it, or cancels it if it was never confirmed; the tutor's cancels it.
    """
    action = functools.partial(services.actions.of_outcome, booking_id, user, course_held)
    return await perform(services, user, request_id, action, data, prefer)


@router.get(
    "/act/{actId}",
    operation_id="getAct",
    summary="What became of an act",
    responses={
        200: {"model": lesson_models.ActAnswer, "description": "For student and tutor, or an operator"},
        **models.problems(401, 404, 422),
    },
)
def get_act(services: ServicesDep, user: CurrentUser, act_id: ActId) -> Response:
    """Show state and transaction of what was answered 202. Anybody may ask for a publication."""
    return ExactResponse(lesson_models.ActAnswer.from_submission(services.actions.submission(act_id, user)))


async def perform(
    services: Services,
    user: str,
    request_id: str,
    action_of: Callable[[], LessonAction],
    signed: ActData,
    prefer: str | None,
    beside: Beside = lambda *_: None,
) -> Response:
    """Have an action done, and answer with its lessons. `beside` stores what belongs to it, with it."""
    actions = services.actions

    def begin() -> tuple[LessonAction, str | None]:
        action = action_of()
        return action, actions.do(action, user, signed.signature, signed.deadline, request_id, beside)

    def answer(action: LessonAction, submission: Submission | None) -> lesson_models.DoneAnswer:
        return lesson_models.DoneAnswer.from_result(
            actions.result(action, submission), services.chain.periods
        )

    return await settled(services, begin, answer, prefer)


async def settled(
    services: Services,
    begin: Callable[[], tuple[_Subject, str | None]],
    answer: Callable[[_Subject, Submission | None], models.Response],
    prefer: str | None,
) -> Response:
    """Begin something, and respond once it is in a block or the wait is over (202)."""
    seconds = 0 if "respond-async" in (prefer or "").lower() else services.settings.wait_seconds
    for _ in range(_TRIES):
        subject, submission_id = await services.waiting.in_thread(begin)
        if submission_id is None:
            return bounded(await services.waiting.in_thread(answer, subject, None))
        submission = await services.waiting.wait(submission_id, seconds)
        if not submission.failed:
            body = await services.waiting.in_thread(answer, subject, submission)
            if submission.state in UNSETTLED:
                location = router.url_path_for("get_act", actId=submission_id)
                return bounded(body, 202, {"Location": location, "Retry-After": "1"})
            return bounded(body)
    raise Problem(Code(submission.code or Code.REFUSED), message=submission.detail or Code.REFUSED.sentence())
