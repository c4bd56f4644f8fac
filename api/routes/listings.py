"""The routes of listings, their publication, and calendars. The user service may want a token for reading."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query
from starlette.responses import Response

from api.booking.listings import Publication
from api.json_io import ExactResponse, tagged
from api.outbox.models import Submission
from api.routes.actions import settled
from api.routes.bookings import LATER
from api.routes.deps import BearerRoute, CurrentUser, IfNoneMatch, Prefer, RequestId, ServicesDep, visitor
from api.schemas import lesson_responses as lesson_models
from api.schemas import responses as models
from api.schemas.requests import ANNONCE, TUTOR, Id, Moment, PublishData

router = APIRouter(prefix="/api/blockchain", tags=["annonces"], route_class=BearerRoute)

AnnonceId = Annotated[Id, Path(alias="annonceId", examples=[ANNONCE])]
_PUBLIC = [Depends(visitor)]
_OR_NONE: dict[str, Any] = {"security": [{}]}  # Beside the token, which FastAPI names.
_TAGGED = {"ETag": {"schema": {"type": "string"}, "description": "For `If-None-Match`"}}
Wanted = Annotated[PublishData, Body(default_factory=PublishData)]


@router.get(
    "/tutor/{tutorId}/calendar",
    operation_id="getCalendar",
    summary="When a tutor's time is taken",
    responses={
        200: {"model": lesson_models.CalendarAnswer, "description": "For anybody", "headers": _TAGGED},
        304: {"description": "As the client has it", "headers": _TAGGED},
        **models.problems(401, 404, 409, 422, 502, 503),
    },
    dependencies=_PUBLIC,
    openapi_extra=_OR_NONE,
)
def get_calendar(
    services: ServicesDep,
    tutor_id: Annotated[Id, Path(alias="tutorId", examples=[TUTOR])],
    from_: Annotated[Moment | None, Query(alias="from", description="RFC 3339; else now.")] = None,
    to: Annotated[Moment | None, Query(description="At most 62 days later; else seven days later.")] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Read the chain's calendar, which decides. The id is the user's or the profile's."""
    answer = lesson_models.CalendarAnswer.from_times(services.listings.calendar(tutor_id, from_, to))
    return tagged(ExactResponse(answer), if_none_match)


@router.get(
    "/annonce/{annonceId}",
    operation_id="getAnnonce",
    summary="An annonce",
    responses={
        200: {"model": lesson_models.AnnonceAnswer, "description": "For anybody", "headers": _TAGGED},
        304: {"description": "As the client has it", "headers": _TAGGED},
        **models.problems(401, 404, 422, 502, 503),
    },
    dependencies=_PUBLIC,
    openapi_extra=_OR_NONE,
)
def get_annonce(services: ServicesDep, annonce_id: AnnonceId, if_none_match: IfNoneMatch = None) -> Response:
    """Show title, rate, time zone, tutor, and the rate on the chain."""
    answer = lesson_models.AnnonceAnswer.from_details(services.listings.listing(annonce_id))
    return tagged(ExactResponse(answer), if_none_match)


@router.post(
    "/annonce/{annonceId}/publish",
    operation_id="publishAnnonce",
    summary="Put an annonce's rate on the chain",
    responses={
        200: {"model": lesson_models.PublishedAnswer, "description": "Done, in a block"},
        202: {"model": lesson_models.PublishedAnswer, "description": "On its way", "headers": LATER},
        **models.problems(401, 403, 404, 409, 413, 422, 502, 503),
    },
)
async def publish_annonce(
    services: ServicesDep,
    user: CurrentUser,
    request_id: RequestId,
    annonce_id: AnnonceId,
    data: Wanted,
    prefer: Prefer = None,
) -> Response:
    """Publish a listing, as its tutor. Lessons that are booked already keep their terms."""
    listings = services.listings

    def begin() -> tuple[Publication, str | None]:
        publication = listings.publication(annonce_id, user, data)
        return publication, listings.publish(publication, data.signature, data.deadline, request_id)

    def answer(publication: Publication, submission: Submission | None) -> lesson_models.PublishedAnswer:
        return lesson_models.PublishedAnswer.from_result(listings.result(publication, submission))

    return await settled(services, begin, answer, prefer)


@router.post(
    "/annonce/{annonceId}/publish/prepare",
    operation_id="preparePublish",
    summary="What a tutor's wallet signs to publish an annonce",
    responses={
        200: {"model": lesson_models.PreparedListingAnswer, "description": "To be signed"},
        **models.problems(401, 403, 404, 409, 413, 422, 502, 503),
    },
)
def prepare_publish(
    services: ServicesDep, user: CurrentUser, annonce_id: AnnonceId, data: Wanted
) -> Response:
    """Prepare a publication. The signature is good for minutes, and until the listing is published again."""
    publication = services.listings.publication(annonce_id, user, data)
    typed_data = services.listings.typed_data(publication)
    return ExactResponse(
        lesson_models.PreparedListingAnswer.from_typed_data(publication.tutor.wallet, typed_data)
    )
