"""Actions on lessons: who may do what, what is signed or sent for it, and the outcome.

An action names the lessons to which it is done: all of them, or none. Lessons that already have the status
that follows need nothing, so an action can be repeated; the same action of the same actor on the same lessons
is the same submission, unless that one failed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from api.booking.models import ActionResult, Batch, BookedLesson, LessonState, PreparedAction
from api.booking.queries import LessonQueries, wait_until
from api.booking.signed_calls import SignedCalls
from api.chain.escrow import Chain
from api.errors import Code, Parameters, Problem, code_of
from api.outbox.models import State, Submission, TransactionKind
from api.outbox.sender import Sender
from api.words import utc
from creneau import abi
from creneau.booking import BatchState
from creneau.errors import ContractError, NotActor, TooEarly, TooLate, WrongStatus
from creneau.lifecycle import ACTIONS, Action, Role, Status, shares, windows
from creneau.typed_data import action_typed_data
from creneau.types import from_unix, to_bytes32


@dataclass(frozen=True)
class LessonAction:
    """An action of somebody on lessons of a batch, by their places; `todo` are those that still need it."""

    action: Action | None  # None: an acknowledgement, which changes nothing.
    batch: Batch
    role: Role
    places: Collection[int]
    todo: Collection[int]
    tutor_share_bps: int = 0  # When the arbiter decides.

    @property
    def bits(self) -> int:
        """The set of lessons for the contract: those to do or, if nothing is left to do, all."""
        return sum(1 << place for place in self.todo or self.places)

    @property
    def actor(self) -> str:
        """The account that acts."""
        return self.batch.student if self.role == Role.STUDENT else self.batch.tutor

    @property
    def word(self) -> str:
        """The word for lessons to which the action is done."""
        return "acknowledged" if self.action is None else ACTIONS[self.action].done

    def states(self) -> dict[int, LessonState]:
        """Return the lessons as the contract leaves them, by place."""
        after: dict[int, LessonState] = {}
        if self.action is not None:
            for place in self.todo or self.places:
                amount = self.batch.amount(place)
                to_student, to_tutor = shares(self.action, amount, self.tutor_share_bps)
                after[place] = LessonState(ACTIONS[self.action].to, to_tutor, to_student)
        return after


Beside = Callable[[Connection, LessonAction], None]
"""Stores what belongs to an action in the transaction that puts the action into the outbox."""


class Actions:
    """Puts actions into the outbox, and tells their outcomes."""

    def __init__(
        self, chain: Chain, lessons: LessonQueries, signed_calls: SignedCalls, senders: Sequence[Sender]
    ) -> None:
        """Take the relayer's sender and, if there is one, the arbiter's as the second."""
        self._chain = chain
        self._lessons = lessons
        self._signed_calls = signed_calls
        self._senders = senders

    # --- Which lessons ---

    def of_booking(
        self, action: Action, booking_id: str, user_id: str, tutor_share_bps: int = 0
    ) -> LessonAction:
        """Return the action on one lesson. Raises `Problem` unless the user may do it, like the next two."""
        (batch, place), role = self._lessons.booking(booking_id, user_id)
        return self._on(action, batch, role, [place], tutor_share_bps)

    def of_batch(
        self,
        action: Action,
        batch_id: str,
        named: Collection[str] | None,
        user_id: str,
        tutor_share_bps: int = 0,
    ) -> LessonAction:
        """Return the action on the named lessons of a batch, or on all that it can be done to."""
        batch, role = self._lessons.batch(batch_id, user_id)
        places = None if named is None else [self._place(batch, booking, user_id) for booking in named]
        return self._on(action, batch, role, places, tutor_share_bps)

    def of_outcome(self, booking_id: str, user_id: str, held: bool) -> LessonAction:
        """Return the action that a party means who says whether a lesson was held."""
        (batch, place), role = self._lessons.booking(booking_id, user_id)
        if role == Role.TUTOR and held:
            return LessonAction(None, batch, role, [place], [])
        action = Action.COMPLETE if held else Action.CANCEL if role == Role.TUTOR else Action.DISPUTE
        agreed = action != Action.DISPUTE or self._state(batch).status(place) not in {
            Status.PENDING,
            Status.CANCELLED,
        }
        return self._on(action if agreed else Action.CANCEL, batch, role, [place])

    def _place(self, batch: Batch, booking_id: str, user_id: str) -> int:
        (other, place), _ = self._lessons.booking(booking_id, user_id)
        if other.id != batch.id:
            raise Problem.of_field(Code.OTHER_BATCH, "lessons", booking=booking_id)
        return place

    def _on(
        self, action: Action, batch: Batch, role: Role, places: Collection[int] | None, share: int = 0
    ) -> LessonAction:
        rules = ACTIONS[action]
        if role not in (actors := _actors(action)):
            raise Problem(Code.NOT_YOURS_TO_DO, act=action, roles=actors)
        state = self._state(batch)
        if places is None:
            places = [each for each in batch.places if self._fits(action, batch, role, state, each)]
            if not places:
                raise Problem(Code.WRONG_STATUS, act=action)
        places = sorted(set(places))
        todo = [place for place in places if not rules.can_repeat or state.status(place) != rules.to]
        return LessonAction(action, batch, role, places, todo, share)

    def require_possible(self, todo: LessonAction) -> None:
        """Raise `Problem` if the action can never be done to one of its lessons, as they stand."""
        action, batch, role = todo.action or Action.COMPLETE, todo.batch, todo.role
        state = self._state(batch)
        if not all(self._fits(action, batch, role, state, place) for place in todo.places):
            raise Problem(Code.WRONG_STATUS, count=len(todo.places), act=action)

    def _state(self, batch: Batch) -> BatchState:
        state = abi.decode_batch(self._chain.read(abi.batches_data(to_bytes32(batch.id))))
        if not state.booked:
            raise Problem(Code.NOT_BOOKED_YET)
        return state

    def _fits(self, action: Action, batch: Batch, role: Role, state: BatchState, place: int) -> bool:
        """Return True if the action may be done to the lesson one day, or was done."""
        status = state.status(place)
        may = {window[:2] for window in windows(status, batch.slot(place), self._chain.periods)}
        done = status == ACTIONS[action].to and ACTIONS[action].can_repeat
        return done or not may.isdisjoint({(action, role), (action, Role.ANYONE)})

    # --- Doing it ---

    def prepare(self, todo: LessonAction) -> PreparedAction:
        """Return what the actor signs. Raises `Problem` if the contract would refuse it."""
        if todo.action is None or not todo.todo:
            raise Problem(Code.WRONG_STATUS, count=len(todo.places), act=todo.action or Action.COMPLETE)
        self.preflight(todo, todo.actor, self._call(todo))
        lessons = [BookedLesson(todo.batch, place) for place in todo.todo]
        typed_data = self._typed_data(todo, self._signed_calls.deadline())
        return PreparedAction(todo.action, todo.word, lessons, todo.actor, typed_data)

    def do(
        self,
        action: LessonAction,
        user_id: str,
        signature: bytes | None,
        deadline: int | None,
        request_id: str,
        beside: Beside = lambda *_: None,
    ) -> str | None:
        """Put the action into the outbox, once. Return its id; None if nothing is left to do.

        The signature of a wallet comes with its deadline. The custodian signs for some minutes; an action
        that was not sent by then is signed anew when it is asked for again.
        """
        if action.action is None:
            return None
        resolves = action.action == Action.RESOLVE
        if resolves and len(self._senders) < 2:
            raise Problem(Code.NO_ARBITER)
        sender = self._senders[resolves]
        parts = (action.action, action.batch.id, action.bits, action.actor, action.tutor_share_bps)
        submission_id, known = self._signed_calls.find(":".join(map(str, parts)))
        if known is not None:
            if action.todo and known.succeeded and not resolves:
                self.preflight(action, action.actor, self._call(action))  # It was done, and more since.
            return submission_id
        if not action.todo:
            return None
        signed, until = b"", None
        if not resolves:
            until = self._signed_calls.deadline() if deadline is None else deadline
            typed_data = self._typed_data(action, until)
            signed = self._signed_calls.signature(user_id, action.actor, typed_data, signature)
        call = self._call(action, signed, until or 0)
        self.preflight(action, sender.address, call)
        kind = TransactionKind.RESOLVE if resolves else TransactionKind.ACT
        locks = {action.batch.id: action.bits}
        self._signed_calls.add(
            sender, kind, submission_id, call, locks, request_id, until, lambda db: beside(db, action)
        )
        return submission_id

    def _call(self, action: LessonAction, signature: bytes = b"", deadline: int = 0) -> bytes:
        return abi.action_data(
            Action(action.action or ""),
            action.batch.terms,
            action.bits,
            by=action.actor,
            deadline=deadline,
            signature=signature,
            tutor_share_bps=action.tutor_share_bps,
        )

    def _typed_data(self, action: LessonAction, deadline: int) -> dict[str, Any]:
        signed_as = ACTIONS[Action(action.action or "")].signed_as
        if signed_as is None or signed_as == "Settle":
            raise ValueError(f"{action.action} is not signed alone")
        terms = signed_as, to_bytes32(action.batch.id), action.bits, deadline
        return action_typed_data(self._chain.domain, *terms)

    def preflight(self, action: LessonAction, sender: str, call: bytes) -> None:
        """Raise `Problem` if the contract would refuse the call now."""
        if error := self._signed_calls.refusal(sender, call):
            raise _refusal(action, error)

    # --- The outcome ---

    def submission(self, act_id: str, user_id: str) -> Submission:
        """Return an act, or a publication, by its id. Raises `Problem` unless the user may see it."""
        submission = self._signed_calls.submission(act_id)
        if submission is None or submission.kind not in {TransactionKind.ACT, TransactionKind.RESOLVE}:
            raise Problem(Code.ACT_NOT_FOUND)
        if submission.batch_id is not None:
            try:
                self._lessons.batch(submission.batch_id, user_id)
            except Problem:
                raise Problem(Code.ACT_NOT_FOUND) from None
        return submission

    def result(self, action: LessonAction, submission: Submission | None) -> ActionResult:
        """Return the lessons as they stand, once the projection has them as the action leaves them."""
        done = submission is None or bool(submission.succeeded)
        after = action.states() if done else {}
        if submission is None:  # Done in another way: the projection has who got how much.
            after = {place: LessonState(state.status) for place, state in after.items()}
        wait_until(lambda: not self._behind(action, after))
        states = {**self._lessons.states(action.batch.id)}
        states |= {place: after[place] for place in self._behind(action, after)}
        batch = replace(action.batch, states=states)
        return ActionResult(
            action=action.action or "acknowledge",
            word=action.word,
            lessons=[BookedLesson(batch, place) for place in action.places],
            is_done=done,
            state=State.MINED if submission is None else submission.state,
            transaction_hash=None if submission is None else submission.transaction_hash,
            gas_used=None if submission is None else submission.gas_used,
        )

    def _behind(self, action: LessonAction, after: Mapping[int, LessonState]) -> list[int]:
        """Return the lessons that the projection does not have yet as the action leaves them."""
        states = self._lessons.states(action.batch.id)
        return [
            place
            for place, state in after.items()
            if place not in states or states[place].status < state.status
        ]


def _actors(action: Action) -> set[Role]:
    """Return the roles that may ask for the action: what anybody may do, student and tutor may.

    Except for a decision without the arbiter, which the keeper takes.
    """
    if action == Action.RESOLVE:
        return {Role.ARBITER}
    by = {permission.by for permission in ACTIONS[action].permissions}
    return by - {Role.ANYONE} | ({Role.STUDENT, Role.TUTOR} if Role.ANYONE in by else set())


def _refusal(action: LessonAction, error: ContractError) -> Problem:
    """Return the contract's error in words, with its lesson and its time."""
    place = getattr(error, "index", None)
    if isinstance(error, NotActor):
        return Problem(Code.NO_ARBITER)
    if place is None or action.action is None:
        return Problem(code_of(error), message=Code.REFUSED.sentence(reason=str(error)))
    lesson, code = action.batch.lessons[place], code_of(error)
    parameters: Parameters = {"date": lesson["date"], "time": lesson["time"]}
    details = {"bookingId": action.batch.booking_id(place)}
    match error:
        case WrongStatus():
            status = Status(error.actual)
            allowed = [status for status in Status if error.allowed >> status & 1]
            parameters |= {"act": action.action, "status": status, "allowed": allowed}
            details["lessonStatus"] = status.name
        case TooLate():
            parameters |= {"act": action.action, "until": from_unix(error.until)}
            details["until"] = utc(parameters["until"])
        case TooEarly():
            parameters |= {"act": action.action, "since": from_unix(error.from_)}
            details["from"] = utc(parameters["since"])
        case _:
            code = Code.REFUSED
            parameters["reason"] = str(error)
    return Problem(code, details=details, **parameters)
