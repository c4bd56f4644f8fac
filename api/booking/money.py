"""An account's money: its balance, the part that the escrow holds for it, and every movement of it.

The escrow's events tell the payments, lesson by lesson; the token's transfers tell the rest. All of it is of
one block, so that the movements add up to the balance, to the base unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from api.booking.queries import OPEN, wait_until
from api.chain.escrow import Chain
from api.chain.rpc import NodeUnavailable, RpcError, eth_call
from api.db import money
from api.db.money import LessonMoney, TokenTransfer
from api.db.store import Store
from api.settings import Settings
from creneau import abi
from creneau.types import to_address

_NOBODY = "0x" + "00" * 20
_TRIES = 5


class Kind(StrEnum):
    """The reason of a movement."""

    BOOKING = "BOOKING"  # A lesson's price, into the escrow or from it to the tutor.
    REFUND = "REFUND"  # From the escrow, back to the student.
    DEPOSIT = "DEPOSIT"  # Tokens that were made for the account, or that it had before the escrow.
    TRANSFER = "TRANSFER"  # Between accounts, without the escrow.


class Movement(NamedTuple):
    """A sum in base units that came or went; `is_pending` is still in the escrow."""

    id: str
    kind: Kind
    wei: int
    incoming: bool
    is_pending: bool
    at: int  # Unix seconds of its block.
    block_number: int
    transaction_hash: str
    other: str  # The other account: the escrow's, or somebody's.
    lesson: LessonMoney | None = None

    @property
    def order(self) -> tuple[int, int, str]:
        """The place among other movements: the later, the larger."""
        return self.at, self.block_number, self.id

    @property
    def signed(self) -> int:
        """The change of the balance, in base units."""
        return 0 if self.is_pending else self.wei if self.incoming else -self.wei


@dataclass(frozen=True)
class Account:
    """An account's money at one block, in base units, the newest movement first."""

    address: str
    available: int
    locked: int  # What the escrow holds of lessons that the account teaches.
    movements: Sequence[Movement]


class Accounts:
    """Reads the money of accounts."""

    def __init__(self, settings: Settings, store: Store, chain: Chain) -> None:
        self._store = store
        self._chain = chain
        self._deployed = settings.deployment_block

    def read(self, address: str) -> Account:
        """Return an account as it is in the newest block that the projection has.

        A request waits for the projection to have the chain's newest block, for a second at most. Raises
        `NodeUnavailable`.
        """
        address = to_address(address)
        head = int(self._chain.node.call("eth_blockNumber"), 16)
        wait_until(lambda: self._position() >= head)
        number, lessons, transfers = self._rows(address)
        available = self._balance(address, number)
        movements = [*self._of_lessons(address, lessons), *_of_transfers(address, transfers)]
        before = available - sum(each.signed for each in movements)
        if before:
            movements.append(self._before(address, before))
        movements.sort(key=lambda each: each.order, reverse=True)
        locked = sum(each.amount for each in lessons if each.tutor == address and each.status in OPEN)
        return Account(address, available, locked, movements)

    def _position(self) -> int:
        with self._store.read() as db:
            return money.position(db)

    def _rows(self, address: str) -> tuple[int, list[LessonMoney], list[TokenTransfer]]:
        """Return what the projection has, and its block: both of the same."""
        for _ in range(_TRIES):
            with self._store.read() as db:
                number = money.position(db)
                lessons, transfers = money.lessons(db, address), money.token_transfers(db, address)
                if money.position(db) == number:
                    break
        return number, lessons, transfers

    def _balance(self, address: str, number: int) -> int:
        method, [call, _] = eth_call(self._chain.token, abi.balance_of_data(address))
        then, latest = self._chain.node.call_many([(method, [call, hex(number)]), (method, [call, "latest"])])
        answer = latest if isinstance(then, RpcError) else then  # A node may have forgotten an old block.
        if isinstance(answer, RpcError):
            raise NodeUnavailable(answer.message)
        return abi.decode_uint(bytes.fromhex(answer[2:]))

    def _of_lessons(self, address: str, lessons: Sequence[LessonMoney]) -> list[Movement]:
        found: list[Movement] = []
        escrow = self._chain.escrow
        for each in lessons:
            paid = (each.paid_at, each.paid_block, each.paid_hash, escrow, each)
            left = (each.changed_at, each.changed_block, each.changed_hash, escrow, each)
            if each.student == address:
                found.append(Movement(f"{each.id}:paid", Kind.BOOKING, each.amount, False, False, *paid))
                if each.to_student:
                    parts = (each.to_student, True, False, *left)
                    found.append(Movement(f"{each.id}:refunded", Kind.REFUND, *parts))
            if each.tutor == address:
                if each.status in OPEN:
                    found.append(Movement(f"{each.id}:held", Kind.BOOKING, each.amount, True, True, *paid))
                elif each.to_tutor:
                    parts = (each.to_tutor, True, False, *left)
                    found.append(Movement(f"{each.id}:earned", Kind.BOOKING, *parts))
        return found

    def _before(self, address: str, wei: int) -> Movement:
        """Return what the account had before the escrow was deployed, as one movement."""
        number = max(self._deployed - 1, 0)
        block = self._chain.node.call("eth_getBlockByNumber", hex(number), False)
        if block is None:
            raise NodeUnavailable("no such block")
        at = int(block["timestamp"], 16)
        parts = (abs(wei), wei > 0, False, at, number, "", _NOBODY)
        return Movement(f"{address}:before", Kind.DEPOSIT, *parts)

    def block_hashes(self, numbers: Sequence[int]) -> dict[int, str]:
        """Return the hashes of these blocks, in one round trip. Raises `NodeUnavailable`."""
        wanted = sorted({*numbers})
        answers = self._chain.node.call_many(
            [("eth_getBlockByNumber", [hex(number), False]) for number in wanted]
        )
        if any(answer is None or isinstance(answer, RpcError) for answer in answers):
            raise NodeUnavailable("a node behind its own head")
        return {number: answer["hash"] for number, answer in zip(wanted, answers, strict=True)}


def _of_transfers(address: str, transfers: Sequence[TokenTransfer]) -> list[Movement]:
    found: list[Movement] = []
    for each in transfers:
        if each.sender == each.recipient:
            continue
        incoming = each.recipient == address
        other = each.sender if incoming else each.recipient
        kind = Kind.DEPOSIT if other == to_address(_NOBODY) and incoming else Kind.TRANSFER
        parts = (each.amount, incoming, False, each.at, each.block_number, each.transaction_hash, other)
        found.append(Movement(f"{each.block_number}:{each.log_index}", kind, *parts))
    return found
