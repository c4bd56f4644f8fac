"""The calls of the existing frontend, field by field as it reads them.

To do without it, delete this module, its schemas, its use cases (the files of the same name) and its word in
`api/app.py`: the service's own routes of the same addresses are back. Where an address is
one of the service's own too, the answer has all of that one's fields, and more.
"""

import copy
import functools
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.booking.actions import LessonAction
from api.booking.existing_frontend import Entry, ExistingFrontend, SharedLesson, Wallet, sums
from api.booking.money import Kind
from api.db.bookings import Side
from api.json_io import ExactResponse, ExactRoute
from api.language import say
from api.routes.actions import SENT, perform
from api.routes.deps import CurrentUser, Prefer, RequestId, ServicesDep
from api.schemas import existing_frontend as models
from api.schemas.existing_frontend import answer, lessons_in_words
from api.schemas.lesson_responses import BookingId, StatsAnswer
from api.schemas.requests import Id
from api.schemas.responses import BookingData, problems
from api.services import Services
from api.words import rfc3339
from creneau.amounts import from_wei
from creneau.lifecycle import Action, Periods, Role, Status, windows
from creneau.types import to_unix

router = APIRouter(prefix="/api/blockchain", tags=["existing frontend"], route_class=ExactRoute)

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
    """Return the lessons to come, the next one first; then those past, the latest first."""
    room = _room(services)
    student = room.of_person(user, user_id, "student", which.status)
    tutor = room.of_person(user, user_id, "tutor", which.status)
    total = len(student) + len(tutor)
    data = {
        "asStudent": [_lesson(each, services.chain.periods) for each in student],
        "asTutor": [_lesson(each, services.chain.periods) for each in tutor],
        "total": total,
    }
    return ExactResponse(answer(lessons_in_words(total), data))


@router.get(
    "/booking/student-courses/{userId}",
    operation_id="getStudentCourses",
    summary="A student's confirmed and completed lessons",
    responses={200: {"model": models.CoursesAnswer, "description": _OWN}, **_READS},
)
def get_student_courses(services: ServicesDep, user: CurrentUser, user_id: UserId) -> Response:
    """Return the lessons to come, the next one first; then those past, the latest first."""
    room, periods = _room(services), services.chain.periods
    accepted = (Status.CONFIRMED.name, Status.COMPLETED.name)
    found, now = room.of_person(user, user_id, "student", accepted), to_unix(room.now())
    courses = [_lesson(each, periods) for each in found]
    data = [course | {"coursePassed": course["startTime"] <= now} for course in courses]
    return ExactResponse(answer(lessons_in_words(len(data)), data))


def _list(services: Services, user: str, of: str, side: Side, which: models.AnyCaseSelection) -> Response:
    room, periods = _room(services), services.chain.periods
    cursor = None
    if which.is_whole:
        found = room.of_person(user, of, side, which.status)
    else:
        page = services.lessons.page(user, of, side, which)
        found, cursor = room.shared(page.lessons, page.role), page.next_cursor
    data = [_lesson(each, periods) for each in found]
    return ExactResponse(answer(lessons_in_words(len(data)), data) | {"nextCursor": cursor})


Selected = Annotated[models.AnyCaseSelection, Query()]
_LISTED: dict[int | str, dict[str, Any]] = {
    200: {"model": models.LessonsAnswer, "description": _OWN},
    **_READS,
}


@router.get(
    "/booking/student/{userId}",
    operation_id="getBookingsOfStudent",
    summary="The lessons that a person booked",
    responses=_LISTED,
)
def get_bookings_of_student(
    services: ServicesDep, user: CurrentUser, user_id: UserId, which: Selected
) -> Response:
    """Return the lessons that a person of any role booked."""
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
    """Return all of them, or with `limit` or `cursor` a page in order of time."""
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
    """Return all of them, or with `limit` or `cursor` a page; by the user's id or the profile's."""
    return _list(services, user, tutor_id, "tutor", which)


@router.get(
    "/booking/{userId}/stats",
    operation_id="getStats",
    summary="Counts and sums of a user's lessons",
    responses={200: {"model": models.ExistingStatsAnswer, "description": _OWN}, **_READS},
)
def get_stats(services: ServicesDep, user: CurrentUser, user_id: UserId) -> Response:
    """Return a tutor's as a tutor, anybody else's as a student; `total` counts every status."""
    stats = _room(services).stats(user, user_id)
    whole = StatsAnswer.from_stats(stats).model_dump(by_alias=True)
    counted = ("PENDING", "CONFIRMED", "CANCELLED", "COMPLETED")
    whole["data"] |= {
        "total": whole["data"]["count"],
        **{name.lower(): stats.counts[Status[name]] for name in counted},
        "totalAmount": from_wei(sum(stats.amounts.values())),
        "pendingAmount": from_wei(stats.amounts.get(Status.PENDING, 0)),
    }
    return ExactResponse(whole)


@router.get(
    "/booking/{id}",
    operation_id="getBooking",
    summary="One lesson, and what may be done with it now",
    responses={
        200: {"model": models.DetailsAnswer, "description": "For its student, its tutor, or an operator"},
        **problems(401, 404, 422, 502, 503),
    },
)
def get_booking(services: ServicesDep, user: CurrentUser, booking_id: BookingId) -> Response:
    """Find a lesson by the frontend's id, or by the one on the chain."""
    room = _room(services)
    shared = room.one(user, booking_id)
    batch, place = shared.lesson
    now, state, slot = room.now(), batch.lesson_state(place), batch.slot(place)
    may = [
        each.action
        for each in windows(state.status, slot, services.chain.periods)
        if each.by in {shared.role, Role.ANYONE} and each.since <= now <= each.until
    ]
    data = _lesson(shared, services.chain.periods) | {
        "canConfirmOutcome": state.status == Status.CONFIRMED and slot.start <= now,
        "canCancel": Action.CANCEL in may,
        "outcome": _outcome(state.status, state.to_tutor),
    }
    return ExactResponse(answer(lessons_in_words(1), data))


def _outcome(status: Status, to_tutor: int) -> str:
    if status == Status.COMPLETED and to_tutor:
        return "COURSE_HELD"
    return "COURSE_NOT_HELD" if status in {Status.COMPLETED, Status.CANCELLED} else "NOT_DECIDED"


def _lesson(shared: SharedLesson, periods: Periods) -> dict[str, Any]:
    batch, place = shared.lesson
    status, listing = batch.lesson_state(place).status, shared.annonce
    title = (listing and listing.title) or say("Lesson", "Cours")
    agreed = status in {Status.CONFIRMED, Status.DISPUTED, Status.COMPLETED}
    return BookingData.from_lesson(shared.lesson, periods).model_dump(by_alias=True) | {
        "blockchainId": batch.chain_id(place),
        "annonceId": batch.annonce_id or "",
        "annonceTitle": title,
        "annonce": {
            "id": batch.annonce_id or "",
            "title": title,
            "subject": (listing and listing.subject) or title,
            "description": (listing and listing.description) or "",
            "level": (listing and listing.level) or "",
            "teachingMode": (listing and listing.teaching_mode) or "",
        },
        "student": _person(shared.student),
        "tutor": _person(shared.tutor),
        "myRole": None if shared.role == Role.ARBITER else shared.role,
        "startTime": to_unix(batch.slot(place).start),
        "isSkillExchange": False,
        "studentConfirmed": status == Status.COMPLETED,
        "tutorConfirmed": agreed,
        "tutorNotes": shared.notes.tutor_notes,
        "cancelledBy": shared.cancelled_by,
        "cancellationReason": shared.notes.cancellation_reason,
    }


def _person(name: Any) -> dict[str, str]:
    return {"firstName": name.first_name, "lastName": name.last_name, "email": name.email}


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

    def keep(done: LessonAction) -> None:
        _room(services).keep_note(done, tutor_notes=data.tutor_notes)

    return await perform(services, user, request_id, action, data.signature, prefer, keep)


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

    def keep(done: LessonAction) -> None:
        _room(services).keep_note(done, cancellation_reason=data.reason)

    return await perform(services, user, request_id, action, data.signature, prefer, keep)


# --- Money ---


@router.get(
    "/balance",
    operation_id="getBalance",
    summary="An account's money",
    responses={200: {"model": models.BalanceAnswer, "description": _OWN}, **_READS},
)
def get_balance(services: ServicesDep, user: CurrentUser, user_id: AskedUser = None) -> Response:
    """Return a balance; `locked` is what the escrow holds for a tutor."""
    wallet = _room(services).wallet(user, user_id or user)
    person = _person(wallet.name) | {"id": wallet.user.id, "role": wallet.user.role}
    address = wallet.account.address
    money = _money(wallet) | {"walletAddress": address, "kycStatus": "none"}
    return ExactResponse(answer(say("The balance.", "Le solde."), {"user": person, "wallet": money}))


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
    wallet = room.wallet(user, which.user_id)
    chosen = room.within(wallet.account.movements, which.start_date, which.end_date)
    kind = which.transaction_type
    if kind in {"INCOMING", "OUTGOING"}:
        chosen = [each for each in chosen if each.incoming == (kind == "INCOMING")]
    elif kind:
        chosen = [each for each in chosen if each.kind == kind]
    page, pages = models.page_of(chosen, which.page, which.limit)
    data = {
        "transactions": [_transaction(wallet, each) for each in room.entries(user, wallet, page)],
        "total": len(chosen),
        "page": which.page,
        "totalPages": pages,
    }
    return ExactResponse(answer(say("The movements.", "Les mouvements."), data))


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
    account = wallet.account
    movements = [each for each in account.movements if not each.is_pending]
    data = {
        "wallet": _money(wallet) | {"address": account.address, "kycStatus": "none"},
        "today": _sums(room.period(account, months=False)),
        "monthly": _sums(room.period(account, months=True)),
        "allTime": _sums(sums(movements)) | {"transactions": len(movements), "fees": 0},
    }
    return ExactResponse(answer(say("The sums.", "Les totaux."), data))


def _money(wallet: Wallet) -> dict[str, Any]:
    available, locked = wallet.account.available, wallet.account.locked
    parts = {"available": available, "locked": locked, "total": available + locked}
    exact = {f"{name}Wei": str(wei) for name, wei in parts.items()}
    return {name: from_wei(wei) for name, wei in parts.items()} | exact


def _sums(period: tuple[int, int]) -> dict[str, Any]:
    sent, received = period
    return {"sent": from_wei(sent), "received": from_wei(received)}


def _transaction(wallet: Wallet, entry: Entry) -> dict[str, Any]:
    move, mine = entry.movement, wallet.account.address
    at = rfc3339(move.at * 1_000_000)
    here = {
        "id": mine,
        "userId": wallet.user.id,
        "walletAddress": mine,
        "user": _person(wallet.name) | {"id": wallet.user.id},
    }
    other_id = entry.other_id
    there = {
        "id": move.other,
        "userId": None if entry.lesson else other_id,  # The escrow is nobody's.
        "walletAddress": move.other,
        "user": None if other_id is None else _person(entry.other) | {"id": other_id},
    }
    source, target = (there, here) if move.incoming else (here, there)
    # The frontend takes a payment of a lesson for a tutor's if it goes to a user, not to an account.
    to_user = move.incoming and move.kind == Kind.BOOKING
    return {
        "id": move.id,
        "fromWalletId": source["id"],
        "toWalletId": wallet.user.id if to_user else target["id"],
        "amount": from_wei(move.wei),
        "amountWei": str(move.wei),
        "fee": 0,
        "transactionType": move.kind,
        "status": "pending" if move.is_pending else "completed",
        "description": _description(entry),
        "metadata": _metadata(entry),
        "createdAt": at,
        "fromWallet": source,
        "toWallet": target,
        "ledgerBlock": {"id": str(move.block_number), "hash": entry.block_hash, "timestamp": at},
    }


def _description(entry: Entry) -> str:
    title = (entry.annonce and entry.annonce.title) or say("Lesson", "Cours")
    match entry.movement.kind:
        case Kind.BOOKING:
            return title
        case Kind.REFUND:
            return say(f"Refund: {title}", f"Remboursement : {title}")
        case Kind.DEPOSIT:
            return say("Credit", "Crédit")
    return say("Transfer", "Transfert")


def _metadata(entry: Entry) -> dict[str, Any]:
    if entry.lesson is None:
        return {"transactionHash": entry.movement.transaction_hash}
    batch, place = entry.lesson
    name = f"{entry.tutor.first_name} {entry.tutor.last_name}".strip()
    return {
        "bookingId": batch.booking_id(place),
        "tutorId": batch.tutor_id,
        "tutorName": name or say("Tutor", "Professeur"),
        "annonceId": batch.annonce_id,
        "startTime": to_unix(batch.slot(place).start),
        "duration": batch.lessons[place]["duration"],
        "transactionHash": entry.movement.transaction_hash,
    }
