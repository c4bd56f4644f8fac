"""Acts of wallets without the shim, and the rows that the view must have: both straight from the chain."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from sqlalchemy import Connection, select

from api.chain.escrow import Chain
from api.chain.rpc import Node
from api.db.store import Store
from api.db.tables import actions, blocks, bookings, index_position, orders, transfers
from api.indexer.indexer import Indexer
from api.indexer.projection import Projection
from api.settings import Settings
from creneau import abi
from creneau.amounts import from_wei
from creneau.events import BOOKINGS_CREATED
from creneau.lifecycle import Action
from creneau.order import Order, Slot, listing_id
from creneau.typed_data import Domain, settle_typed_data
from creneau.types import from_unix, to_bytes32, to_hex
from tools.dev_stack import DevStack

HOUR = 3600
DAY = 24 * HOUR
REVIEW, ARBITRATION = 48 * HOUR, 14 * DAY
DEFAULT_SHARE = 5_000  # The tutor's, of what nobody decides.
RATE = 35 * 10**18 + 7  # Base units an hour; lessons of other lengths do not divide evenly.


class Following:
    """A follower of a test's own, on a database, and what it stored."""

    def __init__(self, settings: Settings, node: Node | None = None) -> None:
        # A step asks the node each time: no thread has asked a moment ago.
        self.settings = settings.model_copy(update={"follow_seconds": 1e-6})
        self.store = Store(settings.database)
        self.store.migrate()
        assert settings.escrow is not None
        node, block = node or Node(settings.rpc_url), settings.deployment_block
        self.chain = Chain(node, settings.chain_id, settings.escrow, block)
        self.projection = Projection(self.store, self.settings)
        self.indexer = Indexer(self.projection, self.chain, self.settings)

    def catch_up(self) -> None:
        """Steps until there is nothing to read."""
        while self.indexer.tick():
            pass

    def rows(self) -> dict[str, list[Any]]:
        """Every row of the view."""
        with self.store.read() as db:
            return {table.name: _all(db, table) for table in VIEW}

    def bookings(self) -> dict[str, Any]:
        """The bookings by their ids."""
        with self.store.read() as db:
            return {row.id: row for row in db.execute(select(bookings))}

    def close(self) -> None:
        """Stops and lets go."""
        self.indexer.stop()
        self.store.close()


VIEW = (orders, actions, transfers, bookings, blocks, index_position)


def _all(db: Connection, table: Any) -> list[Any]:
    read = [column for column in table.columns if column.name != "anchor"]  # Set at the start.
    return [*db.execute(select(*read).order_by(*table.primary_key.columns))]


def statuses(stack: DevStack) -> dict[str, str]:
    """Every booking there is, and its status: by the contract's own record."""
    criteria = {"address": stack.escrow, "fromBlock": "0x0", "topics": [to_hex(BOOKINGS_CREATED)]}
    found: dict[str, str] = {}
    for log in stack.rpc("eth_getLogs", criteria):
        batch = to_bytes32(log["topics"][1])
        call = {"to": stack.escrow, "data": to_hex(abi.batches_data(batch))}
        state = abi.decode_batch(bytes.fromhex(stack.rpc("eth_call", call, "latest")[2:]))
        for place in range(40):
            if state.booked >> place & 1:
                found[to_hex(batch[:31] + bytes([place]))] = state.status(place).name
    return found


@dataclass
class Booked:
    """A batch that was booked outside."""

    order: Order
    id: bytes

    @property
    def hex(self) -> str:
        """The batch's key, as tables have it."""
        return to_hex(self.id)

    def lesson(self, place: int) -> str:
        """The id of one of its bookings."""
        return to_hex(self.id[:31] + bytes([place]))


class Outside:
    """A student, a tutor with a listing, and the arbiter, each with a wallet of the node's."""

    _salts = count(1)

    def __init__(self, stack: DevStack) -> None:
        self.stack = stack
        self.student = stack.account(4).address
        self.tutor = stack.account(5).address
        self.stranger = stack.account(6).address
        self.arbiter = stack.owner.address
        self.listing = listing_id("outside")
        stack.mint(self.student, 10**24)
        stack.send(self.student, stack.edu, abi.approve_data(stack.escrow, 2**256 - 1))
        self.publish()
        # Later than any lesson so far: a tutor's time is given once.
        self._next = self.now() // DAY * DAY + 3 * DAY

    @property
    def parties(self) -> dict[str, str]:
        """The wallets of student and tutor."""
        return {"student": self.student, "tutor": self.tutor}

    def now(self) -> int:
        """The chain's time."""
        return int(self.stack.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def send(self, sender: str, data: bytes) -> dict[str, Any]:
        """A transaction to the escrow."""
        return self.stack.send(sender, self.stack.escrow, data)

    def publish(self, *, instant: bool = False, rate: int = RATE) -> None:
        """The tutor publishes the listing."""
        self.send(self.tutor, abi.publish_data(self.tutor, self.listing, rate, instant))

    def order(self, minutes: Sequence[int] = (60, 45, 30)) -> Order:
        """An order of lessons, each three hours after the one before, on a day that has none yet."""
        first = max(self._next, self.now() // DAY * DAY + 2 * DAY)
        self._next = first + -(-len(minutes) // 8) * DAY
        return Order(
            student=self.student,
            tutor=self.tutor,
            listing=self.listing,
            hourly_rate=from_wei(RATE),
            deadline=from_unix(first),
            salt=next(self._salts).to_bytes(32, "big"),
            slots=tuple(Slot.of(first + 3 * HOUR * place, each) for place, each in enumerate(minutes)),
        )

    def book(self, minutes: Sequence[int] = (60, 45, 30)) -> Booked:
        """The student books."""
        return self.create(self.order(minutes))

    def create(self, order: Order) -> Booked:
        """The student sends an order."""
        receipt = self.send(self.student, abi.create_bookings_data(order))
        [created] = [log for log in receipt["logs"] if bytes(log["topics"][0]) == BOOKINGS_CREATED]
        return Booked(order, bytes(created["topics"][1]))

    def confirm(self, batch: Booked, lessons: int) -> None:
        """The tutor confirms."""
        self.send(self.tutor, abi.action_data(Action.CONFIRM, batch.order, lessons))

    def cancel(self, batch: Booked, lessons: int, by: str | None = None) -> None:
        """The tutor cancels, or somebody else."""
        by = by or self.tutor
        self.send(by, abi.action_data(Action.CANCEL, batch.order, lessons, by=by))

    def complete(self, batch: Booked, lessons: int, by: str | None = None) -> None:
        """The student completes, or somebody else."""
        by = by or self.student
        self.send(by, abi.action_data(Action.COMPLETE, batch.order, lessons, by=by))

    def dispute(self, batch: Booked, lessons: int) -> None:
        """The student disputes."""
        self.send(self.student, abi.action_data(Action.DISPUTE, batch.order, lessons))

    def resolve(self, batch: Booked, lessons: int, bps: int, by: str | None = None) -> None:
        """The arbiter splits the money, or somebody else."""
        call = abi.action_data(Action.RESOLVE, batch.order, lessons, tutor_share_bps=bps)
        self.send(by or self.arbiter, call)

    def settle(self, batch: Booked, lessons: int, bps: int) -> None:
        """The student and the tutor agree how to split the money: the student sends, the tutor has signed."""
        domain, until = Domain(self.stack.chain_id, self.stack.escrow), 2**40 - 1
        message = settle_typed_data(domain, batch.id, lessons, bps, until)
        signature = bytes(self.stack.account(5).sign_typed_data(full_message=message).signature)
        call = abi.settle_data(batch.order, lessons, bps, until, tutor_signature=signature)
        self.send(self.student, call)

    def at(self, timestamp: int) -> None:
        """The chain's next block is of this time, and it is mined."""
        self.stack.rpc("evm_setNextBlockTimestamp", timestamp)
        self.stack.rpc("evm_mine")

    # --- What the chain says ---

    def check(self, following: Following) -> None:
        """The view says what the chain says: of each lesson its status, of all the money where it is."""
        stored = following.bookings()
        assert {row.id: row.status for row in stored.values()} == statuses(self.stack)
        live = [row for row in stored.values() if row.status in {"PENDING", "CONFIRMED", "DISPUTED"}]
        over = [row for row in stored.values() if row not in live]
        assert all(row.to_tutor is row.to_student is None for row in live)
        assert all(row.to_tutor + row.to_student == row.amount for row in over)
        assert sum(row.amount for row in live) == self.stack.balance(self.stack.escrow)
        earned = sum(row.to_tutor for row in over if row.tutor == self.tutor)
        assert earned == self.stack.balance(self.tutor)
        with following.store.read() as db:
            moved = [*db.execute(select(transfers))]
            for account in (self.student, self.tutor):
                sums = [row.amount for row in moved if row.recipient == account]
                sums += [-row.amount for row in moved if row.sender == account]
                sums += [
                    (row.to_student or 0) - row.amount for row in stored.values() if row.student == account
                ]
                sums += [row.to_tutor or 0 for row in stored.values() if row.tutor == account]
                assert sum(sums) == self.stack.balance(account)
            for order in db.execute(select(orders)):
                its = [row for row in stored.values() if row.batch_id == order.id]
                assert order.total == sum(row.amount for row in its)
                assert order.booked == sum(1 << row.place for row in its)
