"""Acts on lessons: who may do what, what is signed or sent for it, and what became of it.

An act names the lessons to which it is done, all of them or none. Lessons that already stand where it would
bring them need nothing, so an act can be repeated; the same act of the same actor on the same lessons is the
same send, unless that one failed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import Row

from api.booking.models import order_slots
from api.booking.queries import LessonQueries
from api.booking.signed_calls import SignedCalls
from api.chain.escrow import Chain, terms_of
from api.errors import Code, Parameters, Problem, code_of
from api.outbox.models import State, TransactionKind
from api.outbox.sender import Sender
from api.schemas.build import LessonState, frontend_id, is_booked, payment
from api.words import DONE, lessons, utc
from creneau import abi
from creneau.amounts import format_amount, lesson_amount
from creneau.booking import BatchState
from creneau.errors import ContractError, NotActor, TooEarly, TooLate, WrongStatus
from creneau.lifecycle import Action, Role, Status, windows
from creneau.order import Slot, booking_id
from creneau.typed_data import action_typed_data
from creneau.types import from_unix, to_bytes32

_BRINGS: dict[Action | None, Status] = {
    Action.CONFIRM: Status.CONFIRMED,
    Action.CANCEL: Status.CANCELLED,
    Action.COMPLETE: Status.COMPLETED,
    Action.DISPUTE: Status.DISPUTED,
    Action.RESOLVE: Status.COMPLETED,
}
_ACTORS: dict[Action | None, set[Role]] = {
    Action.CONFIRM: {Role.TUTOR},
    Action.CANCEL: {Role.STUDENT, Role.TUTOR},
    Action.COMPLETE: {Role.STUDENT, Role.TUTOR},
    Action.DISPUTE: {Role.STUDENT},
    Action.RESOLVE: {Role.ARBITER},
}

_PARTIES = ("student", "tutor")


@dataclass(frozen=True)
class LessonAction:
    """An act of somebody's on lessons of a batch, by their places; `todo` are those that still need it."""

    act: Action | None
    row: Any
    role: Role
    places: Collection[int]
    todo: Collection[int]
    share: int = 0  # Of the tutor, in basis points, when the arbiter decides.

    @property
    def bits(self) -> int:
        """The set of lessons that the contract is told, or was if nothing is left to do."""
        return sum(1 << place for place in self.todo or self.places)

    @property
    def done(self) -> str:
        """The act as a participle."""
        return DONE["en"][self.act] if self.act else "acknowledged"

    @property
    def actor(self) -> str:
        """The account that acts."""
        return str(self.row.student if self.role == Role.STUDENT else self.row.tutor)

    def call(self, signature: bytes = b"") -> bytes:
        """The call to the escrow."""
        terms = terms_of(self.row, order_slots(self.row.lessons))
        by, share = self.actor, self.share
        return abi.action_data(
            Action(self.act or ""), terms, self.bits, by=by, signature=signature, tutor_share_bps=share
        )

    def seen(self) -> dict[int, LessonState]:
        """The lessons as the contract leaves them."""
        became: dict[int, LessonState] = {}
        for place in (self.todo or self.places) if self.act else ():
            amount = lesson_amount(self.row.hourly_rate, self.row.lessons[place]["duration"])
            shares: dict[Action | None, int] = {
                Action.CANCEL: 0,
                Action.COMPLETE: amount,
                Action.RESOLVE: amount * self.share // 10_000,
            }
            to_tutor = shares.get(self.act)
            parts = (0, 0) if to_tutor is None else (to_tutor, amount - to_tutor)
            became[place] = LessonState(_BRINGS[self.act], *parts)
        return became


class Actions:
    """Takes acts into the outbox, and tells what became of them."""

    def __init__(
        self,
        chain: Chain,
        lesson_queries: LessonQueries,
        signed_calls: SignedCalls,
        relayers: Sequence[Sender],
    ) -> None:
        """The second of the relayers, if there is one, is the arbiter's."""
        self._chain = chain
        self._lessons = lesson_queries
        self._signed_calls = signed_calls
        self._relayers = relayers

    # --- Which lessons ---

    def of_booking(self, act: Action, booking_id: str, user_id: str, share: int = 0) -> LessonAction:
        """The act on one lesson. Raises `Problem` unless this user may do it at all, like the next."""
        row, place, role = self._lessons.booking(booking_id, user_id)
        return self._action(act, row, role, [place], share)

    def of_batch(
        self, act: Action, batch_id: str, named: Collection[str] | None, user_id: str, share: int = 0
    ) -> LessonAction:
        """The act on the named lessons of a batch, or on all that it can be done to."""
        row, role = self._lessons.batch(batch_id, user_id)
        places = None if named is None else [self._place(row, booking, user_id) for booking in named]
        return self._action(act, row, role, places, share)

    def of_outcome(self, booking_id: str, user_id: str, held: bool) -> LessonAction:
        """What a party's word means. That it was held, of the tutor, does nothing."""
        row, place, role = self._lessons.booking(booking_id, user_id)
        if role == Role.TUTOR and held:
            return LessonAction(None, row, role, [place], [])
        act = Action.COMPLETE if held else Action.CANCEL if role == Role.TUTOR else Action.DISPUTE
        if act == Action.DISPUTE and self._state(row).status(place) in {Status.PENDING, Status.CANCELLED}:
            act = Action.CANCEL  # Nobody ever agreed to it.
        return self._action(act, row, role, [place], 0)

    def _place(self, row: Any, booking_id: str, user_id: str) -> int:
        other, place, _ = self._lessons.booking(booking_id, user_id)
        if other.id != row.id:
            raise Problem.of_field(Code.OTHER_BATCH, "lessons", booking=booking_id)
        return place

    def _action(
        self, act: Action, row: Any, role: Role, places: Collection[int] | None, share: int
    ) -> LessonAction:
        if role not in _ACTORS[act]:
            raise Problem(Code.NOT_YOURS_TO_DO, act=act, roles=_ACTORS[act])
        state = self._state(row)
        if places is None:
            places = [place for place in range(len(row.lessons)) if is_booked(row, place)]
            places = [place for place in places if self._fits(act, row, role, state, place)]
            if not places:
                raise Problem(Code.WRONG_STATUS, act=act)
        places = sorted(set(places))
        # Who decides a dispute wants his share, so one that another decided is not his.
        repeats = act != Action.RESOLVE
        todo = [place for place in places if not repeats or state.status(place) != _BRINGS[act]]
        return LessonAction(act, row, role, places, todo, share)

    def _state(self, row: Any) -> BatchState:
        state = abi.decode_batch(self._chain.read(abi.batches_data(to_bytes32(row.id))))
        if state.created_at is None:
            raise Problem(Code.NOT_BOOKED_YET)
        return state

    def _fits(self, act: Action, row: Any, role: Role, state: BatchState, place: int) -> bool:
        """Whether the act may be done to the lesson one day, or was."""
        status, lesson = state.status(place), row.lessons[place]
        slot = Slot.of(lesson["start"], lesson["duration"])
        may = {window[:2] for window in windows(status, slot, self._chain.periods)}
        done = status == _BRINGS[act] and act != Action.RESOLVE
        return done or not may.isdisjoint({(act, role), (act, Role.ANYONE)})

    # --- Doing it ---

    def prepared(self, action: LessonAction) -> dict[str, Any]:
        """What the actor signs. Raises `Problem` if the contract would refuse it."""
        if action.act is None or not action.todo:
            raise Problem(Code.WRONG_STATUS, count=len(action.places), act=action.act or Action.COMPLETE)
        self._preflight(action, action.actor, action.call())
        key = to_bytes32(action.row.id)
        return {
            "success": True,
            "message": f"To be signed, to have {lessons(len(action.todo))} {action.done}.",
            "data": {
                "act": action.act,
                "batchId": action.row.id,
                "lessons": [frontend_id(booking_id(key, place)) for place in action.todo],
                "signer": action.actor,
                "typedData": self._typed_data(action),
            },
        }

    def do(self, action: LessonAction, user_id: str, signature: bytes | None, request_id: str) -> str | None:
        """Puts the act into the outbox, once; the send's id, or None if it was done in another way."""
        if action.act is None:
            return None
        resolves = action.act == Action.RESOLVE
        if resolves and len(self._relayers) < 2:
            raise Problem(Code.NO_ARBITER)
        relayer = self._relayers[resolves]
        submission_id, known = self._signed_calls.find(
            f"{action.act}:{action.row.id}:{action.bits}:{action.actor}:{action.share}"
        )
        if known is not None:
            if action.todo and known.succeeded and not resolves:
                self._preflight(action, action.actor, action.call())  # It was done, and more since.
            return submission_id
        if not action.todo:
            return None
        typed_data = {} if resolves else self._typed_data(action)
        signed = (
            b"" if resolves else self._signed_calls.signature(user_id, action.actor, typed_data, signature)
        )
        call = action.call(signed)
        self._preflight(action, relayer.address, call)
        kind = TransactionKind.RESOLVE if resolves else TransactionKind.ACT
        self._signed_calls.enqueue(
            relayer, kind, submission_id, call, {action.row.id: action.bits}, request_id
        )
        return submission_id

    def _typed_data(self, action: LessonAction) -> dict[str, Any]:
        name = cast(Literal["Confirm", "Cancel", "Complete", "Dispute"], str(action.act).capitalize())
        return action_typed_data(self._chain.domain, name, to_bytes32(action.row.id), action.bits)

    def _preflight(self, action: LessonAction, sender: str, call: bytes) -> None:
        """Raises `Problem` if the contract would refuse it now."""
        if error := self._signed_calls.refusal(sender, call):
            raise _refusal(action, error)

    # --- What became of it ---

    def answer(self, action: LessonAction, send: Row[Any] | None) -> dict[str, Any]:
        """The lessons as they stand, and who got how much for them."""
        done = send is None or bool(send.succeeded)
        became = action.seen() if done else {}
        if send is None:  # Done in another way: who got how much is for the view to say.
            became = {place: LessonState(lesson.status) for place, lesson in became.items()}
        self._lessons.wait(lambda: not self._behind(action, became))
        seen = self._lessons.seen(action.row.id)
        seen |= {place: became[place] for place in self._behind(action, became)}
        bookings = [self._lessons.shown(action.row, place, action.role, seen) for place in action.places]
        got = {role: sum(getattr(seen.get(p), f"to_{role}", 0) for p in action.places) for role in _PARTIES}
        ids = {"student": action.row.student_id, "tutor": action.row.tutor_id}
        sums = [f"{format_amount(wei)} EDU to the {role}" for role, wei in got.items() if wei]
        message = f"{lessons(len(bookings))} {action.done}{'' if done else ', on the way'}"
        return {
            "success": True,
            "message": f"{message}: {' and '.join(sums)}." if sums else f"{message}.",
            "data": {
                "act": action.act or "acknowledge",
                "batchId": action.row.id,
                "state": State.MINED if send is None else send.state,
                "transactionHash": send and send.transaction_hash,
                "gasUsed": send and send.gas_used,
                "bookings": bookings,
                "payments": [payment(role, ids[role], wei) for role, wei in got.items() if wei],
            },
        }

    def _behind(self, action: LessonAction, became: Mapping[int, LessonState]) -> list[int]:
        """The lessons that the view does not show as they became."""
        seen = self._lessons.seen(action.row.id)
        return [
            place for place, its in became.items() if place not in seen or seen[place].status < its.status
        ]


def _refusal(action: LessonAction, error: ContractError) -> Problem:
    """The contract's error in words, with the lesson and the time it is about."""
    place = getattr(error, "index", None)
    if isinstance(error, NotActor):
        return Problem(Code.NO_ARBITER)
    if place is None or action.act is None:
        return Problem(code_of(error), message=Code.REFUSED.sentence(reason=str(error)))
    lesson, act, code = action.row.lessons[place], action.act, code_of(error)
    terms: Parameters = {"date": str(lesson["date"]), "time": str(lesson["time"])}
    details = {"bookingId": frontend_id(booking_id(to_bytes32(action.row.id), place))}
    match error:
        case WrongStatus():
            status = Status(error.actual)
            allowed = [status for status in Status if error.allowed >> status & 1]
            terms |= {"act": act, "status": status, "allowed": allowed}
            details["lessonStatus"] = status.name
        case TooLate():
            terms |= {"act": act, "until": from_unix(error.until)}
            details["until"] = utc(terms["until"])
        case TooEarly():
            terms |= {"act": act, "since": from_unix(error.from_)}
            details["from"] = utc(terms["since"])
        case _:
            code = Code.REFUSED
            terms["reason"] = str(error)
    return Problem(code, details=details, **terms)
