"""A tutor's own time: holidays and lessons elsewhere, taken out of the calendar for nothing.

It is an order of the tutor to themselves at rate zero, which the contract confirms at once. Its lessons are
listed and cancelled like any others.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from eth_utils.crypto import keccak

from api.booking import plan as slots
from api.booking.models import OwnTime, order_slots
from api.booking.signed_calls import SignedCalls
from api.chain.escrow import Chain, unhex
from api.chain.rpc import NodeUnavailable, RpcError
from api.errors import Code, Problem
from api.outbox.locks import calendar_locks
from api.outbox.models import TransactionKind
from api.outbox.sender import Sender
from api.people.directory import Directory
from api.schemas.requests import OwnTimeData, SlotData, TimeData
from api.settings import Settings
from creneau import abi
from creneau.order import Order, SlotCode, pack_slot


class OwnTimes:
    """Takes tutors' own time out of their calendars."""

    def __init__(
        self,
        settings: Settings,
        chain: Chain,
        directory: Directory,
        signed_calls: SignedCalls,
        sender: Sender,
    ) -> None:
        self._time_zone = settings.time_zone
        self._chain = chain
        self._directory = directory
        self._signed_calls = signed_calls
        self._sender = sender

    def own_time(self, user_id: str, wanted: OwnTimeData, key: str | None, request_id: str) -> OwnTime:
        """Return the times that a tutor wants. Raises `Problem` if the contract has no such lessons."""
        tutor = self._directory.user(user_id)
        if tutor is None or tutor.role != "tutor":
            raise Problem(Code.NOT_A_TUTOR)
        zone = ZoneInfo(wanted.time_zone or tutor.time_zone or self._time_zone)
        asked = [
            SlotData.model_construct(
                **{name: getattr(each, name) for name in TimeData.model_fields}, amount=Decimal(0)
            )
            for each in wanted.slots
        ]
        lessons, failures = slots.plan(asked, zone, 0, datetime.now(UTC))
        if failures:
            raise slots.nothing_booked(failures)
        terms = key or str(order_slots(lessons))
        salt = keccak(text=f"own time\n{user_id}\n{terms}")
        return OwnTime(tutor.id, tutor.wallet, lessons, salt, f"own time:{user_id}:{key or request_id}")

    def typed_data(self, own_time: OwnTime, deadline: int | None = None) -> dict[str, Any]:
        """Return what the tutor signs: an order, until that deadline or for some minutes."""
        return self._order(own_time, deadline).typed_data(self._chain.domain)

    def take(self, own_time: OwnTime, signature: bytes | None, deadline: int | None, request_id: str) -> str:
        """Put the order into the outbox, once. Return its id. Raises `Problem`."""
        submission_id, known = self._signed_calls.find(own_time.key)
        if known is not None:
            return submission_id
        order, account = self._order(own_time, deadline), own_time.account
        self._require_free(own_time, order)
        typed_data = order.typed_data(self._chain.domain)
        signed = self._signed_calls.signature(own_time.tutor_id, account, typed_data, signature)
        call = abi.create_bookings_data(order, signed)
        if error := self._signed_calls.refusal(self._sender.address, call):
            raise Problem(Code.REFUSED, reason=str(error))
        locks = calendar_locks(account, order_slots(own_time.lessons))
        until, kind = typed_data["message"]["deadline"], TransactionKind.ACT
        self._signed_calls.add(self._sender, kind, submission_id, call, locks, request_id, until)
        return submission_id

    def _order(self, own_time: OwnTime, deadline: int | None) -> Order:
        until = self._signed_calls.deadline() if deadline is None else deadline
        packed = [pack_slot(*slot) for slot in order_slots(own_time.lessons)]
        tutor = own_time.account
        return Order.from_abi((tutor, tutor, bytes(32), 0, len(packed), until, own_time.salt, packed))

    def _require_free(self, own_time: OwnTime, order: Order) -> None:
        [answer] = self._chain.node.call_many([self._chain.check(order.as_abi())])
        if isinstance(answer, RpcError):
            raise NodeUnavailable(answer.message)
        codes = abi.decode_check(unhex(answer))[0]
        if {*codes} != {SlotCode.OK}:
            raise slots.nothing_booked(slots.refused(own_time.lessons, codes))
