"""The keeper: who is owed money gets it once it is time, in few transactions, and nobody gets it early."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from forked import Stack
from helpers import set_back
from outside import ARBITRATION, DAY, DEFAULT_SHARE, HOUR, RATE, REVIEW, Booked, Following, Outside, statuses
from scenario import watching
from sqlalchemy import select, update
from structlog.testing import capture_logs
from waiting import PATIENCE, until

from api.db.tables import bookings, transactions
from api.outbox.models import UNSETTLED, TransactionKind
from api.services import Services
from creneau.amounts import from_wei
from creneau.errors import WrongStatus, decode_revert
from creneau.events import CallFailed, decode_logs
from creneau.lifecycle import Status
from creneau.order import Slot
from creneau.types import to_unix
from tools.dev_stack import DevStack

FINALITY = 4
AMOUNTS = (RATE, RATE * 45 // 60, RATE // 2)


@pytest.fixture(scope="module")
def stack() -> Iterator[DevStack]:
    """A chain of this module's own; its shim is stopped."""
    with Stack(settings={"log_format": "json", "confirmations": FINALITY}) as stack:
        stack.stop_shim()
        yield stack


@pytest.fixture
def outside(stack: DevStack) -> Iterator[Outside]:
    """Wallets; what they do, and when, is undone at the end."""
    before = stack.rpc("evm_snapshot")
    yield Outside(stack)
    set_back(before, stack.rpc)


class Keeping:
    """A shim that only keeps: it looks when it is told to."""

    def __init__(self, stack: DevStack, database_url: str, **settings: Any) -> None:
        own = {"database_url": database_url, "relayer_mnemonic_index": "2,3", "keeper_seconds": 1e-6}
        own["follow_seconds"] = 1e-6
        self.stack = stack
        self.shim = Services.build(stack.settings.model_copy(update=own | settings))
        self.shim.sender.start()

    def look(self) -> list[Any]:
        """Follows to the head, and looks there, until all that the keeper sends is settled."""
        end = time.monotonic() + PATIENCE
        before = None
        while before != (rows := self.sends()) or any(row.state in UNSETTLED for row in rows):
            before = rows
            assert time.monotonic() < end
            while self.shim.indexer.tick():
                pass
        return rows

    def sends(self) -> list[Any]:
        """Submissions that the keeper has sent, or wants to."""
        query = (
            select(transactions)
            .where(transactions.c.kind == TransactionKind.KEEPER)
            .order_by(transactions.c.created_at)
        )
        with self.shim.store.read() as db:
            return [*db.execute(query)]

    def statuses(self, batch: Booked) -> list[str]:
        """Of a batch's lessons, by the view."""
        query = select(bookings.c.status).where(bookings.c.batch_id == batch.hex).order_by(bookings.c.place)
        with self.shim.store.read() as db:
            return [*db.scalars(query)]

    def pretend(self, batch: Booked, status: str) -> None:
        """Makes the view wrong about a batch, so that the contract refuses what is sent for it."""
        with self.shim.store.write() as db:
            db.execute(update(bookings).where(bookings.c.batch_id == batch.hex).values(status=status))


MakeKeeping = Callable[..., Keeping]


@pytest.fixture
def make_keeping(stack: DevStack, database_url: str) -> Iterator[MakeKeeping]:
    made: list[Keeping] = []

    def make(**settings: Any) -> Keeping:
        made.append(Keeping(stack, database_url, **settings))
        return made[-1]

    yield make
    for keeping in made:
        keeping.shim.close()


def test_lessons_that_are_due_are_completed_in_one_transaction(
    stack: DevStack, outside: Outside, make_keeping: MakeKeeping
) -> None:
    keeping = make_keeping(keeper_wait_seconds=0)
    batches = [outside.book() for _ in range(3)]
    for batch in batches[:2]:
        outside.confirm(batch, 0b111)
    [first, second, pending] = batches
    outside.at(second.order.slots[0].start_unix + HOUR + REVIEW + 1)
    with watching(stack) as seen:
        refund, send = keeping.look()
    assert {each["hash"] for each in seen.transactions} == {refund.transaction_hash, send.transaction_hash}
    assert refund.locks == {pending.hex: 0b111}
    assert send.locks == {first.hex: 0b111, second.hex: 0b001}
    assert stack.balance(outside.tutor) == sum(AMOUNTS) + AMOUNTS[0]
    assert keeping.statuses(first) == ["COMPLETED"] * 3
    assert keeping.statuses(second) == ["COMPLETED", "CONFIRMED", "CONFIRMED"]
    assert keeping.statuses(pending) == ["CANCELLED"] * 3
    assert len(keeping.look()) == 2  # What is done is not done again.
    following = Following(keeping.shim.settings)
    outside.check(following)
    following.close()


def test_a_second_before_it_is_due_nothing_is_sent(outside: Outside, make_keeping: MakeKeeping) -> None:
    keeping = make_keeping()
    batch = outside.book((60,))
    outside.confirm(batch, 1)
    outside.at(batch.order.slots[0].start_unix + HOUR + REVIEW)
    assert keeping.look() == []
    outside.at(batch.order.slots[0].start_unix + HOUR + REVIEW + 1)
    [send] = keeping.look()
    assert send.succeeded


def test_a_lesson_that_begins_unconfirmed_is_refunded(
    stack: DevStack, outside: Outside, make_keeping: MakeKeeping
) -> None:
    keeping = make_keeping()
    batch = outside.book((60,))
    before = stack.balance(outside.student)
    outside.at(batch.order.slots[0].start_unix - 1)
    assert keeping.look() == []
    outside.at(batch.order.slots[0].start_unix)
    [refund] = keeping.look()
    assert (refund.locks, keeping.statuses(batch)) == ({batch.hex: 1}, ["CANCELLED"])
    assert stack.balance(outside.student) == before + RATE


def test_lessons_of_a_batch_wait_for_each_other(
    stack: DevStack, outside: Outside, make_keeping: MakeKeeping
) -> None:
    """Three in one day are paid together once the last is due; one of the week after is not waited for."""
    keeping = make_keeping()
    order = outside.order((60, 60, 60, 60))
    later = Slot.of(order.slots[3].start_unix + 7 * DAY, 60)
    batch = outside.create(order.model_copy(update={"slots": (*order.slots[:3], later)}))
    outside.confirm(batch, 0b1111)
    for slot in batch.order.slots[:2]:
        outside.at(to_unix(slot.end) + REVIEW + 1)
        assert keeping.look() == []
    outside.at(to_unix(batch.order.slots[2].end) + REVIEW + 1)
    [together] = keeping.look()
    assert (together.locks, together.succeeded) == ({batch.hex: 0b0111}, True)
    assert stack.balance(outside.tutor) == 3 * RATE
    outside.at(to_unix(later.end) + REVIEW + 1)
    assert [row.locks for row in keeping.look()] == [{batch.hex: 0b0111}, {batch.hex: 0b1000}]


def test_what_is_worth_less_than_its_gas_is_left_alone(
    stack: DevStack, outside: Outside, make_keeping: MakeKeeping
) -> None:
    """Forty quarters of an hour at one base unit each; and the same once a token is worth a fortune."""
    outside.publish(rate=4)
    first = outside.order((15,))
    slots = tuple(Slot.of(first.slots[0].start_unix + 900 * place, 15) for place in range(40))
    batch = outside.create(first.model_copy(update={"hourly_rate": from_wei(4), "slots": slots}))
    outside.confirm(batch, 2**40 - 1)
    outside.at(to_unix(slots[-1].end) + REVIEW + 1)
    assert make_keeping().look() == []
    [paid] = make_keeping(keeper_token_price=10**18).look()
    assert (paid.locks, paid.succeeded) == ({batch.hex: 2**40 - 1}, True)
    assert stack.balance(outside.tutor) == 40


def test_a_dispute_that_nobody_decides_is_split_with_the_default_share(
    stack: DevStack, outside: Outside, make_keeping: MakeKeeping
) -> None:
    keeping = make_keeping(keeper_wait_seconds=0)
    batch = outside.book((60, 60))
    outside.confirm(batch, 0b11)
    outside.at(batch.order.slots[1].start_unix)
    outside.dispute(batch, 0b01)
    over = batch.order.slots[0].start_unix + HOUR + REVIEW + ARBITRATION
    before = stack.balance(outside.student)
    outside.at(over - HOUR)
    [completed] = keeping.look()
    assert (completed.locks, keeping.statuses(batch)) == ({batch.hex: 0b10}, ["DISPUTED", "COMPLETED"])
    outside.at(over)
    assert len(keeping.look()) == 1
    outside.at(over + 1)
    [_, split] = keeping.look()
    assert (split.locks, keeping.statuses(batch)) == ({batch.hex: 0b01}, ["COMPLETED", "COMPLETED"])
    to_tutor = RATE * DEFAULT_SHARE // 10_000
    assert stack.balance(outside.student) == before + RATE - to_tutor
    assert stack.balance(stack.escrow) == 0


def test_a_batch_that_the_contract_refuses_holds_up_no_other(
    stack: DevStack, outside: Outside, make_keeping: MakeKeeping
) -> None:
    keeping = make_keeping()
    good, bad, fine = batches = [outside.book((60,)) for _ in range(3)]
    for batch in (good, fine):
        outside.confirm(batch, 1)
    outside.at(fine.order.slots[0].start_unix + HOUR + REVIEW + 1)
    reader = Following(keeping.shim.settings)
    reader.catch_up()
    reader.close()
    keeping.pretend(bad, "CONFIRMED")
    with watching(stack) as seen:
        [together] = keeping.look()
    assert (set(together.locks), together.succeeded) == ({batch.hex for batch in batches}, True)
    assert len(seen.transactions) == 1
    assert stack.balance(outside.tutor) == 2 * RATE
    assert statuses(stack)[bad.lesson(0)] == "PENDING"
    [failed] = [
        event
        for event in decode_logs(
            stack.web3.eth.get_transaction_receipt(together.transaction_hash)["logs"], stack.escrow
        )
        if isinstance(event, CallFailed)
    ]
    error = decode_revert(failed.reason)
    assert (type(error), error.args) == (WrongStatus, (0, Status.PENDING, 1 << Status.CONFIRMED))
    assert len(keeping.look()) == 1  # Not again, for an hour.


def test_what_failed_is_tried_again_later(outside: Outside, make_keeping: MakeKeeping) -> None:
    batch = outside.book((60,))
    patient, hasty = make_keeping(), make_keeping(keeper_retry_seconds=0.3)
    assert patient.look() == []
    outside.at(batch.order.slots[0].start_unix + HOUR + REVIEW + 1)
    reader = Following(patient.shim.settings)
    reader.catch_up()
    reader.close()
    patient.pretend(batch, "CONFIRMED")
    for _ in range(3):
        assert [row.state for row in patient.look()] == ["rejected"]

    def is_tried_again() -> bool:
        hasty.shim.indexer.tick()  # At the same head: nothing else happens on this chain.
        return [row.state for row in hasty.sends()[:3]] == ["rejected"] * 3

    until(is_tried_again)


def test_many_batches_are_several_transactions(
    stack: DevStack, outside: Outside, make_keeping: MakeKeeping
) -> None:
    keeping = make_keeping()
    batches = [outside.book((60,)) for _ in range(23)]
    for batch in batches:
        outside.confirm(batch, 1)
    outside.at(batches[-1].order.slots[0].start_unix + HOUR + REVIEW + 1)
    rows = keeping.look()
    assert sorted(len(row.locks) for row in rows) == [3, 20]
    assert all(row.succeeded for row in rows)
    assert stack.balance(outside.tutor) == 23 * RATE


def test_two_processes_and_a_restart_send_nothing_twice(
    stack: DevStack, outside: Outside, make_keeping: MakeKeeping
) -> None:
    one, other = make_keeping(), make_keeping()
    batch = outside.book()
    outside.confirm(batch, 0b111)
    outside.at(batch.order.slots[2].start_unix + HOUR + REVIEW + 1)
    stack.rpc("evm_setAutomine", False)
    for _ in range(3):
        while one.shim.indexer.tick():
            pass
        while other.shim.indexer.tick():
            pass
    again = make_keeping()
    while again.shim.indexer.tick():
        pass
    assert len(again.sends()) == 1
    stack.rpc("evm_mine")
    stack.rpc("evm_setAutomine", True)
    [send] = one.look()
    assert send.succeeded
    assert len(other.look()) == len(again.look()) == 1


def test_it_can_be_switched_off(outside: Outside, make_keeping: MakeKeeping) -> None:
    off = make_keeping(keeper=False)
    batch = outside.book((60,))
    outside.confirm(batch, 1)
    outside.at(batch.order.slots[0].start_unix + HOUR + REVIEW + 1)
    assert off.look() == []
    assert make_keeping().look() != []


def test_it_leaves_half_of_the_days_fees_to_bookings(outside: Outside, make_keeping: MakeKeeping) -> None:
    first, second = outside.book((60,)), outside.book((60,))
    for batch in (first, second):
        outside.confirm(batch, 1)
    outside.at(first.order.slots[0].start_unix + HOUR + REVIEW + 1)
    keeping = make_keeping()
    [send] = keeping.look()
    gwei = 10**9
    keeping.shim.close()
    poor = make_keeping(max_daily_fee_wei=2 * (send.fee - 1) * gwei)
    enough = make_keeping(max_daily_fee_wei=2 * send.fee * gwei)
    with poor.shim.store.write() as db:  # As if it were due the same day.
        db.execute(update(bookings).values(start=first.order.slots[0].start_unix))
    with capture_logs() as logs:
        assert len(poor.look()) == 1
    assert {line["event"] for line in logs} >= {"lessons that are due wait: half of the day's fees are spent"}
    while enough.shim.indexer.tick():
        pass
    assert len(enough.sends()) == 2
