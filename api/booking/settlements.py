"""Settlements: student and tutor agree how to split the money of lessons, and no arbiter is needed.

One party offers a split of some lessons, and the offer is kept with its signature. The other party accepts
exactly that, by signing the same until the same deadline, and both signatures are sent.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from api.booking.actions import Actions, LessonAction
from api.booking.models import BookedLesson, PreparedAction, SettlementOffer
from api.booking.queries import LessonQueries
from api.booking.signed_calls import SignedCalls
from api.chain.escrow import Chain
from api.db import offers
from api.db.store import Store
from api.errors import Code, Problem
from api.outbox.models import TransactionKind
from api.outbox.sender import Sender
from creneau import abi
from creneau.lifecycle import Action, Role
from creneau.typed_data import settle_typed_data
from creneau.types import to_bytes32

_OFFER_SECONDS = 7 * 24 * 60 * 60
"""The time in which an offer can be accepted."""


@dataclass(frozen=True)
class Settlement:
    """A split that a party wants, and the other party's offer of the same, if there is one."""

    action: LessonAction
    offered: SettlementOffer | None

    @property
    def share(self) -> int:
        """The tutor's share in basis points."""
        return self.action.tutor_share_bps


class Settlements:
    """Keeps offers, and puts settlements into the outbox."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        lessons: LessonQueries,
        actions: Actions,
        signed_calls: SignedCalls,
        sender: Sender,
    ) -> None:
        self._store = store
        self._lessons = lessons
        self._chain = chain
        self._actions = actions
        self._signed_calls = signed_calls
        self._sender = sender

    def settlement(
        self, batch_id: str, named: Collection[str] | None, user_id: str, share: int
    ) -> Settlement:
        """Return the split that the user wants of the named lessons, or of all. Raises `Problem`."""
        action = self._actions.of_batch(Action.SETTLE, batch_id, named, user_id, share)
        same = action.bits, share
        others = (each for each in self.offers(batch_id, user_id) if each.by != action.actor)
        return Settlement(action, next((each for each in others if (each.lessons, each.share) == same), None))

    def offers(self, batch_id: str, user_id: str) -> list[SettlementOffer]:
        """Return the offers that can be accepted now, for a party or an operator. Raises `Problem`."""
        self._lessons.batch(batch_id, user_id)
        now = self._chain.node.head().timestamp
        with self._store.read() as db:
            return [each for each in offers.of_batch(db, batch_id) if each.deadline >= now]

    def prepare(self, settlement: Settlement) -> PreparedAction:
        """Return what the party signs, to offer the split or to accept the other party's offer."""
        action = settlement.action
        self._actions.require_possible(action)
        lessons = [BookedLesson(action.batch, place) for place in action.todo]
        typed_data = self._typed_data(settlement, self._deadline(settlement))
        return PreparedAction(Action.SETTLE, action.word, lessons, action.actor, typed_data)

    def offer(
        self, settlement: Settlement, user_id: str, signature: bytes | None, deadline: int | None
    ) -> SettlementOffer:
        """Keep the party's offer, in place of an earlier one. Return it. Raises `Problem`."""
        action = settlement.action
        self._actions.require_possible(action)
        until, signed = self._sign(settlement, user_id, signature, deadline)
        offer = SettlementOffer(action.batch.id, action.actor, action.bits, settlement.share, until, signed)
        with self._store.write() as db:
            offers.add(db, offer)
        return offer

    def accept(
        self,
        settlement: Settlement,
        user_id: str,
        signature: bytes | None,
        deadline: int | None,
        request_id: str,
    ) -> str:
        """Put the split that the other party offers into the outbox, once. Return its id."""
        action, offered = settlement.action, settlement.offered
        parts = ("settle", action.batch.id, action.bits, settlement.share)
        submission_id, known = self._signed_calls.find(":".join(map(str, parts)))
        if known is not None:
            return submission_id
        if offered is None or deadline not in {None, offered.deadline}:
            raise Problem(Code.NO_OFFER)
        until, signed = self._sign(settlement, user_id, signature, deadline)
        both = (signed, offered.signature)
        student, tutor = both if action.role == Role.STUDENT else both[::-1]
        terms = action.batch.terms, action.bits, settlement.share, until
        call = abi.settle_data(*terms, student_signature=student, tutor_signature=tutor)
        self._actions.preflight(action, self._sender.address, call)
        locks = {action.batch.id: action.bits}
        kind = TransactionKind.ACT
        self._signed_calls.add(self._sender, kind, submission_id, call, locks, request_id, until)
        return submission_id

    def _deadline(self, settlement: Settlement) -> int:
        if settlement.offered is not None:
            return settlement.offered.deadline
        return self._chain.node.head().timestamp + _OFFER_SECONDS

    def _sign(
        self, settlement: Settlement, user_id: str, signature: bytes | None, deadline: int | None
    ) -> tuple[int, bytes]:
        until = self._deadline(settlement) if deadline is None else deadline
        typed_data = self._typed_data(settlement, until)
        return until, self._signed_calls.signature(user_id, settlement.action.actor, typed_data, signature)

    def _typed_data(self, settlement: Settlement, deadline: int) -> dict[str, Any]:
        action = settlement.action
        terms = to_bytes32(action.batch.id), action.bits, settlement.share, deadline
        return settle_typed_data(self._chain.domain, *terms)
