"""The relayer's nine rules, each with its failure beside its success, and the leases of its keys.

The relayer of these tests has a database and keys of its own, and no thread: a test says when it does
a round.
"""

import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from scenario import EDU, Scenario, paused, rows_of, slot, watching
from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.event import listen
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs
from waiting import until

from tools.dev_stack import DevStack

sys.path.insert(0, str(Path(__file__).parents[1]))

from postgres import PostgreSQL, postgres

from api.booking.actions import LessonAction
from api.chain.rpc import NodeUnavailable
from api.db import repository
from api.db.store import Store
from api.db.tables import annonces, attempts, leases, transactions
from api.errors import Problem
from api.outbox import fees
from api.outbox import sender as relayer
from api.outbox.fees import FeeBid
from api.outbox.handlers import TAG
from api.outbox.leases import LeaseLost
from api.outbox.locks import calendar_locks
from api.outbox.models import (
    FAILED,
    TRANSITIONS,
    Prepared,
    SignedAttempt,
    State,
    Submission,
    TransactionKind,
)
from api.outbox.nonces import Unsigned
from api.outbox.preflight import Looked, Passed
from api.schemas.requests import CreateBatchBookingData
from api.services import Services
from api.settings import Settings
from creneau import abi
from creneau.lifecycle import Action

__all__ = ["postgres"]

GWEI = 10**9
_KEYS = itertools.count(100)  # Each shim's own.

ShimMaker = Callable[..., Services]


@pytest.fixture
def make_shim(stack: DevStack, tmp_path: Path) -> Iterator[ShimMaker]:
    """Shims of the test's own; settings may be given."""
    made: list[Services] = []

    def make(keys: str | None = None, *, reads: bool = True, **more: Any) -> Services:
        indices = keys or str(next(_KEYS))
        for index in indices.split(","):
            stack.rpc("anvil_setBalance", stack.account(int(index)).address, hex(10**20))
        own = {"database_url": f"sqlite:///{tmp_path / 'own.db'}", "relayer_mnemonic_index": indices}
        quick = {"resend_seconds": 0.001, "lease_seconds": 60, "follow_seconds": 1e-6}
        made.append(Services.build(stack.settings.model_copy(update=own | quick | more), stack.directory))
        while reads and made[-1].indexer.tick():
            pass
        return made[-1]

    yield make
    for shim in made:
        shim.close()


@pytest.fixture
def shim(make_shim: ShimMaker) -> Services:
    return make_shim()


def place(shim: Services, scenario: Scenario, *times: str, key: str | None = None) -> str:
    while shim.indexer.reached >= 0 and shim.indexer.tick():
        pass  # What others did on the chain meanwhile.
    request = CreateBatchBookingData.model_validate(scenario.body(*map(slot, times)))
    return shim.bookings.create(scenario.student.id, request, key, "test").batch_id


def row_of(shim: Services, submission_id: str) -> Any:
    [row] = rows_of(shim.store, [submission_id])
    return row


def submission_of(shim: Services, submission_id: str) -> Submission:
    with shim.store.read() as db:
        [submission] = repository.submissions(db, [submission_id])
    return submission


def add(shim: Services, name: str, call: bytes = b"", **more: Any) -> None:
    action = Submission(**{"id": name, "kind": TransactionKind.ACT, "call": call, "locks": {}} | more)
    with shim.store.write() as db:
        repository.add(db, action)


def work(shim: Services, submission_id: str, *states: State) -> Any:
    """Rounds until the send is in one of these states."""

    def arrives() -> bool:
        shim.sender.tick()
        shim.indexer.tick()
        return row_of(shim, submission_id).state in states

    until(arrives, f"it is in none of {states}")
    return row_of(shim, submission_id)


def claim(shim: Services) -> None:
    """The first half of a round: what is accepted is signed, and not sent."""
    head = shim.chain.node.head()
    with shim.store.read() as db:
        waiting = shim.sender.preflight.waiting(db)
    shim.sender._claim(shim.sender.leases.renew()[0], waiting, head)


def attempts_of(shim: Services, submission_id: str) -> list[Any]:
    query = select(attempts).where(attempts.c.transaction_id == submission_id).order_by(attempts.c.created_at)
    with shim.store.read() as db:
        return [*db.execute(query)]


def change(shim: Services, submission_id: str, **values: Any) -> None:
    with shim.store.write() as db:
        db.execute(update(transactions).where(transactions.c.id == submission_id).values(values))


def no_sending(_: Any) -> set[str]:
    return set()


def again(shim: Services) -> None:
    """Forgets when it sent what and saw what: it does not wait for the next time."""
    shim.sender._nonces.timings.clear()
    shim.sender._looked_at = ""


def spend_nonce(stack: DevStack, address: str, nonce: int) -> str:
    """An outsider who has the relayer's key."""
    stack.rpc("anvil_impersonateAccount", address)
    transaction = {"from": address, "to": address, "nonce": hex(nonce), "maxFeePerGas": hex(10**12)}
    return str(stack.rpc("eth_sendTransaction", transaction))


def test_the_states_are_drawn_as_they_are() -> None:
    drawn = re.findall(r"^    (\w+) +──> (\w+) ", relayer.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(
        (before, after) for before, targets in TRANSITIONS.items() for after in targets
    )
    assert {state for pair in drawn for state in pair} == {*State}


def test_each_end_is_listed_with_the_block_that_it_rests_on() -> None:
    """Only what is accepted fails, and nothing of it can get into a block; what is final was in a block."""
    listed = re.findall(r"^    (\w+) +rests on ", relayer.__doc__ or "", re.MULTILINE)
    assert {*listed} == {*FAILED, State.FINAL}
    before = {end: {state for state, targets in TRANSITIONS.items() if end in targets} for end in listed}
    assert before == {State.FINAL: {State.MINED}} | {end: {State.ACCEPTED} for end in FAILED}
    assert TRANSITIONS.keys().isdisjoint(FAILED)


def test_1_what_was_created_is_never_created_again(
    stack: DevStack, scenario: Scenario, shim: Services
) -> None:
    """Not even by a database that has forgotten it."""
    batch_id = place(shim, scenario, "09:00")
    first = work(shim, batch_id, State.MINED)
    forgotten = dict.fromkeys(
        ["nonce", "signer", "transaction_hash", "block_hash", "block_number", "succeeded"]
    )
    change(shim, batch_id, state=State.ACCEPTED, **forgotten)
    with watching(stack) as seen:
        again = work(shim, batch_id, State.MINED)
    assert seen.transactions == []
    assert (again.transaction_hash, again.block_hash, again.booked) == (
        first.transaction_hash,
        first.block_hash,
        1,
    )
    assert scenario.balance() == 965 * EDU
    other = place(shim, scenario, "10:00")
    assert work(shim, other, State.MINED).transaction_hash != first.transaction_hash


def test_1_the_same_request_is_the_same_order(
    stack: DevStack, scenario: Scenario, make_shim: ShimMaker, tmp_path: Path
) -> None:
    """Even to a shim whose database and relayer know nothing of the first: the chain refuses the second."""
    long: dict[str, Any] = {"order_seconds": 10**7}  # So no deadline changes during the test.
    first = make_shim(**long)
    other = make_shim(database_url=f"sqlite:///{tmp_path / 'other.db'}", **long)
    assert scenario.book(slot("08:00")).status_code == 200  # Publishes.
    with watching(stack) as seen:
        with paused(stack):
            batch_id = place(first, scenario, "09:00", key="same")
            assert place(other, scenario, "09:00", key="same") == batch_id
            for shim in (first, other):
                claim(shim)
            work(first, batch_id, State.SUBMITTED)
            work(other, batch_id, State.SUBMITTED)
        rows = [work(shim, batch_id, State.MINED) for shim in (first, other)]
    assert rows[0].transaction_hash == rows[1].transaction_hash
    assert [row.booked for row in rows] == [1, 1]
    assert len(seen.transactions) == 2
    assert seen.sent_by(scenario.student.wallet) == [35 * EDU]
    assert place(other, scenario, "10:00", key="another") != batch_id


def test_1_a_batch_on_chain_is_found_by_its_request(
    stack: DevStack, scenario: Scenario, make_shim: ShimMaker, tmp_path: Path
) -> None:
    """The database that knew the key is lost, and the lessons are taken: by this very batch."""
    long: dict[str, Any] = {"order_seconds": 10**7}
    first = work(lost := make_shim(**long), place(lost, scenario, "09:00", "10:00", key="same"), State.MINED)
    shim = make_shim(database_url=f"sqlite:///{tmp_path / 'new.db'}", **long)
    with watching(stack) as seen:
        row = work(shim, place(shim, scenario, "09:00", "10:00", key="same"), State.MINED)
        with pytest.raises(Problem, match="already taken"):
            place(shim, scenario, "09:00", "10:00", key="another")
        with pytest.raises(Problem, match="already taken"):
            place(shim, scenario, "10:00", "09:00", key="same's brother")
    assert seen.transactions == []
    assert (row.id, row.transaction_hash, row.booked) == (first.id, first.transaction_hash, 3)
    assert scenario.balance() == 930 * EDU


def test_1_nor_by_a_transaction_that_also_publishes(
    stack: DevStack, scenario: Scenario, make_shim: ShimMaker, tmp_path: Path
) -> None:
    """The `publish` of the second can't succeed; what it is for exists, or will when the first is in a block.

    The node tries things on top of what is pending, so the second is sent only if it is tried before.
    """
    long: dict[str, Any] = {"order_seconds": 10**7}
    first, second, third = (
        make_shim(database_url=f"sqlite:///{tmp_path / f'{name}.db'}", **long) for name in "123"
    )
    with watching(stack) as seen:
        with paused(stack):
            [batch_id] = {place(shim, scenario, "09:00", key="same") for shim in (first, second, third)}
            for shim in (first, second):
                claim(shim)
            for shim in (first, second):
                assert work(shim, batch_id, State.SUBMITTED).publishes
            third.sender.tick()
            assert row_of(third, batch_id).state == State.ACCEPTED
        rows = [work(shim, batch_id, State.MINED) for shim in (first, second, third)]
    assert len(seen.transactions) == 2
    assert len({row.transaction_hash for row in rows}) == 1
    assert [(row.booked, row.code) for row in rows] == [(1, None)] * 3
    assert seen.sent_by(scenario.student.wallet) == [35 * EDU]


def test_1_a_booked_key_is_known_from_the_chain(
    stack: DevStack, scenario: Scenario, make_shim: ShimMaker, tmp_path: Path
) -> None:
    """Long after the database was lost, with lessons left out then and cancelled since, and another rate."""
    work(lost := make_shim(), place(lost, scenario, "10:00", key="before"), State.MINED)
    first = work(lost, place(lost, scenario, "09:00", "10:00", "11:00", key="same"), State.MINED)
    # By its deadline it can't be found: that is on another grid.
    shim = make_shim(database_url=f"sqlite:///{tmp_path / 'new.db'}", order_seconds=777, reads=False)
    with pytest.raises(NodeUnavailable, match="not all is read of the chain yet"):
        place(shim, scenario, "09:00", "10:00", "11:00", key="same")
    while shim.indexer.tick():
        pass
    with Store(stack.settings.database).write() as db:
        db.execute(update(annonces).where(annonces.c.id == scenario.annonce.id).values(hourly_rate=36 * EDU))
    with watching(stack) as seen:
        for others in [("09:00",), ("09:00", "10:00"), ("09:00", "12:00")]:
            with pytest.raises(Problem, match="already used for another request"):
                place(shim, scenario, *others, key="same")
        row = work(shim, place(shim, scenario, "09:00", "10:00", "11:00", key="same"), State.MINED)
    assert seen.transactions == []
    assert (row.id, row.transaction_hash, row.booked) == (first.id, first.transaction_hash, 3)
    assert [(failed["index"], failed["code"]) for failed in row.failures] == [(2, "taken")]
    assert scenario.balance() == 895 * EDU


def test_1_what_came_too_late_here_may_have_been_created_elsewhere(
    scenario: Scenario, make_shim: ShimMaker, tmp_path: Path
) -> None:
    first = make_shim(order_seconds=10**7)
    other = make_shim(database_url=f"sqlite:///{tmp_path / 'other.db'}", order_seconds=10**7)
    batch_id, sent_id = (place(other, scenario, hour, key=hour) for hour in ("09:00", "10:00"))
    assert [place(first, scenario, hour, key=hour) for hour in ("09:00", "10:00")] == [batch_id, sent_id]
    done = [work(first, each, State.MINED).transaction_hash for each in (batch_id, sent_id)]
    change(other, batch_id, expires=1_600_000_000)
    row = work(other, batch_id, State.MINED)
    assert (row.succeeded, row.transaction_hash, row.booked) == (True, done[0], 1)
    assert scenario.balance() == 930 * EDU


def test_2_what_is_signed_is_stored_before_it_is_sent(
    stack: DevStack, scenario: Scenario, shim: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = place(shim, scenario, "09:00")

    def fail(*_: Any) -> None:
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(repository, "add_attempts", fail)
        with pytest.raises(OSError, match="no room"):
            shim.sender.tick()
    assert (row_of(shim, batch_id).state, row_of(shim, batch_id).nonce) == (State.ACCEPTED, None)
    with monkeypatch.context() as patch:
        patch.setattr(shim.sender, "_send", fail)
        with pytest.raises(OSError, match="no room"):
            shim.sender.tick()
    signed = row_of(shim, batch_id)
    assert signed.state == State.SIGNED
    [stored] = attempts_of(shim, batch_id)
    assert "0x" + keccak(stored.raw).hex() == stored.hash == signed.transaction_hash
    assert stack.rpc("eth_getTransactionByHash", stored.hash) is None
    assert work(shim, batch_id, State.MINED).transaction_hash == stored.hash


def test_3_another_nonce_only_when_another_transaction_is_final_at_the_first(
    stack: DevStack, scenario: Scenario, shim: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = place(shim, scenario, "09:00")
    with monkeypatch.context() as patch:
        patch.setattr(shim.sender, "_send", no_sending)
        nonce = work(shim, batch_id, State.SIGNED).nonce
    spend_nonce(stack, shim.sender.address, nonce)
    for _ in range(5):  # "Nonce too low" means: look.
        again(shim)
        shim.sender.tick()
        assert (row_of(shim, batch_id).state, row_of(shim, batch_id).nonce) == (State.SIGNED, nonce)
    stack.rpc("anvil_mine", "0x2")
    shim.sender.tick()
    assert row_of(shim, batch_id).nonce == nonce
    stack.rpc("anvil_mine", "0x1")
    shim.sender.tick()
    assert row_of(shim, batch_id).nonce == nonce  # Its receipt may be late: the view will tell.
    row = work(shim, batch_id, State.MINED)
    assert (row.nonce, row.booked) == (nonce + 1, 1)
    assert len(attempts_of(shim, batch_id)) == 2
    assert scenario.balance() == 965 * EDU


def test_3_an_error_of_the_node_moves_nothing(
    scenario: Scenario, shim: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = place(shim, scenario, "09:00")

    def unavailable(*_: Any) -> None:
        raise NodeUnavailable("timeout")

    with monkeypatch.context() as patch:
        patch.setattr(shim.sender, "_look_for_receipts", unavailable)
        for _ in range(3):
            with pytest.raises(NodeUnavailable):
                shim.sender.tick()
    before = row_of(shim, batch_id)
    assert before.state == State.SIGNED
    after = work(shim, batch_id, State.MINED)
    assert (after.nonce, after.transaction_hash) == (before.nonce, before.transaction_hash)


def test_3_already_known_is_success(
    stack: DevStack, scenario: Scenario, shim: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node took it, and nobody heard so."""
    batch_id = place(shim, scenario, "09:00")

    def unavailable(*_: Any) -> None:
        raise NodeUnavailable("timeout")

    with paused(stack):
        with monkeypatch.context() as patch:
            patch.setattr(shim.sender, "_look_for_receipts", unavailable)
            with pytest.raises(NodeUnavailable):
                shim.sender.tick()
        sent = row_of(shim, batch_id)
        assert (sent.state, stack.rpc("eth_getTransactionByHash", sent.transaction_hash)["blockNumber"]) == (
            State.SIGNED,
            None,
        )
        again(shim)
        shim.sender.tick()
        assert row_of(shim, batch_id).state == State.SUBMITTED
    assert work(shim, batch_id, State.MINED).transaction_hash == sent.transaction_hash


def test_3_what_the_node_refuses_is_sent_again(stack: DevStack, scenario: Scenario, shim: Services) -> None:
    stack.rpc("anvil_setBalance", shim.sender.address, "0x0")
    batch_id = place(shim, scenario, "09:00")
    signed = work(shim, batch_id, State.SIGNED)
    for _ in range(3):
        shim.sender.tick()
    assert row_of(shim, batch_id).state == State.SIGNED
    stack.rpc("anvil_setBalance", shim.sender.address, hex(10**20))
    assert work(shim, batch_id, State.MINED).transaction_hash == signed.transaction_hash


def test_4_the_next_nonce_is_the_chains_or_follows_the_highest_row(
    stack: DevStack, scenario: Scenario, shim: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scenario.book(slot("08:00")).status_code == 200  # Publishes.
    count = int(stack.rpc("eth_getTransactionCount", shim.sender.address, "pending"), 16)
    with monkeypatch.context() as patch:
        patch.setattr(shim.sender, "_send", no_sending)  # So the chain knows nothing of the first.
        ids = []
        for hour in ("09:00", "10:00"):
            ids.append(place(shim, scenario, hour))
            shim.sender.tick()
    assert [row_of(shim, each).nonce for each in ids] == [count, count + 1]
    assert [work(shim, each, State.MINED).booked for each in ids] == [1, 1]
    spend_nonce(stack, shim.sender.address, count + 2)
    assert work(shim, place(shim, scenario, "11:00"), State.MINED).nonce == count + 3
    taken: dict[str, Any] = {"signer": shim.sender.address, "nonce": count + 3}
    with pytest.raises(IntegrityError):
        add(shim, "another", chain_id=shim.settings.chain_id, **taken)
    with paused(stack):
        spend_nonce(stack, shim.sender.address, count + 4)  # In no block yet, and maybe never.
        pending = work(shim, place(shim, scenario, "12:00"), State.SUBMITTED)
    assert pending.nonce == count + 4
    stack.rpc("anvil_mine", "0x3")
    row = work(shim, pending.id, State.MINED)
    assert (row.booked, row.nonce) == (1, count + 5)


def test_5_what_waits_too_long_is_replaced_within_the_caps(
    stack: DevStack, scenario: Scenario, make_shim: ShimMaker
) -> None:
    shim = make_shim(bump_seconds=0.01)
    batch_id = place(shim, scenario, "09:00")
    with paused(stack):
        work(shim, batch_id, State.SUBMITTED)
        for _ in range(20):
            shim.sender.tick()
        assert len(attempts_of(shim, batch_id)) == 1  # Without blocks nothing is too cheap.
        while len(attempts_of(shim, batch_id)) < 3:
            stack.rpc("anvil_dropTransaction", row_of(shim, batch_id).transaction_hash)
            stack.rpc("evm_mine")
            shim.sender.tick()
    tried = attempts_of(shim, batch_id)
    assert len({each.nonce for each in tried}) == 1
    for old, new in itertools.pairwise(tried):
        assert new.max_fee >= old.max_fee * 1.1
        assert new.priority_fee >= old.priority_fee * 1.1
    row = work(shim, batch_id, State.MINED)
    assert row.transaction_hash in {each.hash for each in tried}
    assert (row.booked, scenario.balance()) == (1, 965 * EDU)
    assert row.fee == fees.cost(row.gas_used, int(_receipt(stack, row)["effectiveGasPrice"], 16))


def _receipt(stack: DevStack, row: Any) -> Any:
    return stack.rpc("eth_getTransactionReceipt", row.transaction_hash)


def test_5_a_jump_of_the_base_fee_is_followed_up_to_the_cap(
    stack: DevStack, scenario: Scenario, make_shim: ShimMaker
) -> None:
    shim = make_shim(max_fee_wei=200 * GWEI)
    batch_id = place(shim, scenario, "09:00")
    try:
        with paused(stack):
            work(shim, batch_id, State.SUBMITTED)
            stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(150 * GWEI))
            stack.rpc("evm_mine")
            shim.sender.tick()
            first, second = attempts_of(shim, batch_id)
            assert first.max_fee < 100 * GWEI < 150 * GWEI <= second.max_fee <= 200 * GWEI
        assert work(shim, batch_id, State.MINED).transaction_hash == second.hash
        stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(250 * GWEI))
        stack.rpc("evm_mine")
        dear = place(shim, scenario, "10:00")
        for _ in range(3):
            shim.sender.tick()
        assert (row_of(shim, dear).state, attempts_of(shim, dear)) == (State.ACCEPTED, [])
    finally:
        stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        stack.rpc("evm_mine")
    assert work(shim, dear, State.MINED).booked == 1


def test_5_a_day_costs_no_more_than_its_cap(
    stack: DevStack, scenario: Scenario, make_shim: ShimMaker
) -> None:
    shim = make_shim(bump_seconds=0.001)
    first = place(shim, scenario, "09:00")
    row = work(shim, first, State.MINED)
    shim.settings.max_daily_fee_wei = row.fee * GWEI + GWEI
    second = place(shim, scenario, "10:00")
    for _ in range(3):
        shim.sender.tick()
    assert (row_of(shim, second).state, attempts_of(shim, second)) == (State.ACCEPTED, [])
    assert left(shim) == 1  # It counts what was paid, not what was offered.
    change(shim, first, signed_at=row.signed_at - 25 * 60 * 60 * 10**6)  # Yesterday, by the chain's clock.
    shim.settings.max_daily_fee_wei = 10**16
    with paused(stack):
        work(shim, second, State.SUBMITTED)
        cost = row_of(shim, second).cost
        shim.settings.max_daily_fee_wei = cost * GWEI
        assert left(shim) == 0
        change(shim, second, signed_at=row.signed_at - 25 * 60 * 60 * 10**6)
        assert left(shim) == 0  # Signed yesterday, to be paid today.
        for _ in range(3):
            stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(400 * GWEI))
            stack.rpc("evm_mine")
            again(shim)
            shim.sender.tick()
        assert len(attempts_of(shim, second)) == 1
        shim.settings.max_daily_fee_wei = 10**19
        again(shim)
        shim.sender.tick()
        assert len(attempts_of(shim, second)) == 2
        stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    assert work(shim, second, State.MINED).booked == 1


def left(shim: Services) -> int:
    with shim.store.read() as db:
        return fees.Budget.of(db, shim.settings, shim.chain.node.head().moment).left


def test_5_what_is_too_late_only_spends_its_nonce(
    stack: DevStack, scenario: Scenario, make_shim: ShimMaker
) -> None:
    shim = make_shim(bump_seconds=0.01)
    late = place(shim, scenario, "09:00")
    with paused(stack):
        sent = work(shim, late, State.SUBMITTED)
        stack.rpc("anvil_dropTransaction", sent.transaction_hash)
        change(shim, late, expires=1_600_000_000)
        while not attempts_of(shim, late)[-1].is_noop:
            shim.sender.tick()
        shim.sender.tick()
        assert row_of(shim, late).cost >= sent.cost  # The first one, too, may still get into a block.
    row = work(shim, late, State.REVERTING)
    assert (row.succeeded, row.code, row.booked, row.nonce) == (False, None, None, sent.nonce)
    assert scenario.balance() == 1000 * EDU
    stack.rpc("anvil_mine", "0x3")
    row = work(shim, late, State.EXPIRED)
    assert (row.code, row.booked, row.nonce) == ("expired", None, None)
    assert work(shim, place(shim, scenario, "09:00"), State.MINED).nonce == sent.nonce + 1


def test_5_a_nonce_that_nobody_uses_is_spent(
    stack: DevStack, scenario: Scenario, make_shim: ShimMaker
) -> None:
    """A node named a count that is too high, and the transaction waits for those before."""
    shim = make_shim(bump_seconds=0.3)
    batch_id = place(shim, scenario, "09:00")
    count = int(stack.rpc("eth_getTransactionCount", shim.sender.address, "pending"), 16)
    real, both = shim.sender._node.call_many, False

    def lies(calls: Any) -> list[Any]:
        if calls and calls[-1][0] == "eth_estimateGas" and calls[0][0] == "eth_getTransactionCount":
            _, at_head, *rest = real(calls)
            return [hex(count + 2), hex(count + 2) if both else at_head, *rest]
        return real(calls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shim.sender._node, "call_many", lies)
        shim.sender.tick()
        assert row_of(shim, batch_id).nonce == count  # One of two counts alone is not believed.
        both = True
        batch_id = place(shim, scenario, "10:00")
        count += 1
        shim.sender.tick()
    assert row_of(shim, batch_id).nonce == count + 2
    assert gaps(shim) == []  # They may still come.
    row = work(shim, batch_id, State.MINED)
    assert (row.nonce, row.booked) == (count + 2, 1)
    filled = gaps(shim)
    assert filled == [count, count + 1]


def gaps(shim: Services) -> list[int]:
    query = (
        select(transactions.c.nonce)
        .where(transactions.c.kind == TransactionKind.NOOP)
        .order_by(transactions.c.nonce)
    )
    with shim.store.read() as db:
        return [*db.scalars(query)]


def test_6_a_reorganised_batch_is_sent_again_as_it_was(
    stack: DevStack, scenario: Scenario, shim: Services
) -> None:
    batch_id = place(shim, scenario, "09:00")
    first = work(shim, batch_id, State.MINED)
    with paused(stack):
        stack.rpc("anvil_reorg", 1, [])
        shim.sender.tick()
        gone = row_of(shim, batch_id)
        assert (gone.state, gone.booked, gone.block_hash) == (State.SUBMITTED, None, None)
        for _ in range(3):
            shim.sender.tick()
    again = work(shim, batch_id, State.MINED)
    assert again.transaction_hash == first.transaction_hash
    assert again.block_hash != first.block_hash
    assert len(attempts_of(shim, batch_id)) == 1
    stack.rpc("anvil_mine", "0x2")
    for _ in range(3):
        shim.sender.tick()
    assert row_of(shim, batch_id).state == State.MINED
    stack.rpc("anvil_mine", "0x1")
    assert work(shim, batch_id, State.FINAL).booked == 1


@pytest.mark.parametrize("depth", [1, 2])
def test_6_after_two_rounds_the_rows_say_what_the_chain_says(
    stack: DevStack, scenario: Scenario, shim: Services, depth: int
) -> None:
    """Of those whose blocks are gone the first is in a new one; three blocks would be final."""
    # Each in a block of its own.
    before = [work(shim, place(shim, scenario, hour), State.MINED) for hour in ("08:00", "09:00", "10:00")]
    ids = [row.id for row in before]
    with paused(stack):
        kept = stack.rpc("eth_getRawTransactionByHash", before[-depth].transaction_hash)
        stack.rpc("anvil_reorg", depth, [[kept, 0]])
        for _ in range(2):
            shim.sender.tick()
        rows = [row_of(shim, each) for each in ids]
        receipts = [_receipt(stack, row) for row in before]
        assert [row.block_hash for row in rows] == [each and each["blockHash"] for each in receipts]
        assert [row.state == State.MINED for row in rows] == [each is not None for each in receipts]
        assert [row.booked for row in rows] == [1 if each else None for each in receipts]
        assert sum(each is None for each in receipts) == depth - 1
        assert rows[-depth].block_hash != before[-depth].block_hash
    assert [work(shim, each, State.MINED, State.FINAL).booked for each in ids] == [1, 1, 1]
    assert scenario.balance() == 895 * EDU


def test_6_the_nodes_tag_says_what_is_final(
    stack: DevStack, scenario: Scenario, make_shim: ShimMaker
) -> None:
    shim = make_shim(finality="finalized")
    batch_id = place(shim, scenario, "09:00")
    work(shim, batch_id, State.MINED)
    stack.rpc("anvil_mine", "0x4")
    for _ in range(3):
        shim.sender.tick()
    assert row_of(shim, batch_id).state == State.MINED
    stack.rpc("anvil_mine", "0x60")
    work(shim, batch_id, State.FINAL)


def test_7_whoever_starts_finds_the_work(stack: DevStack, scenario: Scenario, make_shim: ShimMaker) -> None:
    first = make_shim("90")
    waits, sent = place(first, scenario, "09:00"), place(first, scenario, "10:00")
    with paused(stack):
        work(first, waits, State.SUBMITTED)
        hash_ = row_of(first, waits).transaction_hash
        assert row_of(first, sent).state == State.ACCEPTED  # The listing is published with the first.
    with first.store.write() as db:
        db.execute(delete(leases))  # As one that ran out: its process is gone.
    second = make_shim("90")
    rows = [work(second, each, State.MINED) for each in (waits, sent)]
    assert [row.booked for row in rows] == [1, 1]
    assert rows[0].transaction_hash == hash_


def test_8_what_would_revert_costs_no_gas(stack: DevStack, scenario: Scenario, shim: Services) -> None:
    taken = place(shim, scenario, "09:00")
    assert scenario.book(slot("09:00"), description="Another request").status_code == 200
    free = place(shim, scenario, "10:00")
    with watching(stack) as seen:
        refused, booked = work(shim, taken, State.REJECTED), work(shim, free, State.MINED)
    assert [(each["index"], each["code"]) for each in refused.left_out] == [(1, "taken")]
    assert [each["hash"] for each in seen.transactions] == [booked.transaction_hash]


def test_9_many_share_a_block(stack: DevStack, scenario: Scenario, shim: Services) -> None:
    assert scenario.book(slot("08:00")).status_code == 200  # Publishes.
    ids = [place(shim, scenario, f"{hour:02}:00") for hour in range(9, 19)]
    with paused(stack):
        for batch_id in ids:
            work(shim, batch_id, State.SUBMITTED)
    rows = [work(shim, batch_id, State.MINED) for batch_id in ids]
    assert len({row.block_hash for row in rows}) == 1
    assert sorted(row.nonce for row in rows) == list(range(rows[0].nonce, rows[0].nonce + 10))


# --- Other kinds, fees ---


def test_an_act_takes_the_same_way(stack: DevStack, scenario: Scenario, shim: Services) -> None:
    terms = scenario.tutor.wallet, b"\1" * 32, 35 * EDU, False
    publish = abi.publish_data(*terms, deadline=2**40 - 1)
    good = abi.multicall_data([])
    for name, call in (("good", good), ("bad", publish)):
        add(shim, name, call, chain_id=shim.settings.chain_id, locks={"one": 1})
    with capture_logs() as logs:
        done, refused = work(shim, "good", State.MINED), work(shim, "bad", State.REJECTED)
    assert {"sent"} <= {line["event"] for line in logs}
    assert not any(TAG in line["event"] for line in logs), "only creations log what the seed expects of them"
    assert done.succeeded
    assert refused.code == "refused"
    assert refused.nonce is None
    stack.rpc("anvil_mine", "0x3")
    work(shim, "good", State.FINAL)


def test_what_belongs_to_an_action_is_stored_with_it_or_neither_is(
    scenario: Scenario, shim: Services
) -> None:
    work(shim, batch_id := place(shim, scenario, "09:00"), State.MINED)
    action = shim.actions.of_batch(Action.CONFIRM, batch_id, None, scenario.tutor.id)

    def fails(_: Connection, __: LessonAction) -> None:
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match=r"^no room$"):
        shim.actions.do(action, scenario.tutor.id, None, None, "test", fails)
    with shim.store.read() as db:
        assert not db.scalar(select(transactions.c.id).where(transactions.c.kind == TransactionKind.ACT))
    told: list[LessonAction] = []
    for _ in range(2):  # The second finds the first.
        action = shim.actions.of_batch(Action.CONFIRM, batch_id, None, scenario.tutor.id)
        done = shim.actions.do(action, scenario.tutor.id, None, None, "test", lambda _, of: told.append(of))
        assert work(shim, str(done), State.MINED).succeeded
    assert [list(of.todo) for of in told] == [[0]]


wei = st.integers(0, 2000 * GWEI)


@given(base=wei, later=wei, market=wei, gas=st.integers(21_000, 5_000_000), cap=st.integers(1, 1000 * GWEI))
def test_no_offer_is_above_a_cap(base: int, later: int, market: int, gas: int, cap: int) -> None:
    settings = Settings.model_construct(
        priority_fee_wei=10**8, max_fee_wei=cap, max_cost_wei=cap * 1_000_000, max_daily_fee_wei=10**19
    )
    offer = fees.first(settings, base, gas)
    if offer is None:
        assert base > min(cap, cap * 1_000_000 // gas)
        return
    for bumped in (offer, fees.bumped(settings, offer, later, market, gas)):
        if bumped is not None:
            assert bumped.priority_fee <= bumped.max_fee <= cap
            assert bumped.max_fee * gas <= settings.max_cost_wei
    if bumped is not None:
        assert bumped.max_fee * 10 >= offer.max_fee * 11
        assert bumped.priority_fee * 10 >= offer.priority_fee * 11
        assert bumped.max_fee >= later


offers = st.tuples(wei, wei, st.integers(21_000, 2_000_000))


@given(steps=st.lists(st.tuples(st.integers(0, 4), offers), max_size=40), day=st.integers(0, 10**7))
def test_no_day_costs_more_than_its_cap(steps: list[tuple[int, tuple[int, int, int]]], day: int) -> None:
    """First transactions and their replacements, in any order: each of them may be mined."""
    settings = Settings.model_construct(
        priority_fee_wei=GWEI, max_fee_wei=500 * GWEI, max_cost_wei=10**17, max_daily_fee_wei=day * GWEI
    )
    budget = fees.Budget(day)
    newest: dict[int, tuple[FeeBid, int]] = {}
    signed: dict[int, list[int]] = {}
    for send, (base, market, gas) in steps:
        if send not in newest:
            offer = fees.first(settings, base, gas)
            more = offer and fees.cost(gas, offer.max_fee)
        else:
            offer = fees.bumped(settings, newest[send][0], base, market, gas)
            more = offer and max(fees.cost(gas, offer.max_fee) - newest[send][1], 0)
        if offer is None or more is None or not budget.reserve(more):
            continue
        cost = fees.cost(gas, offer.max_fee)
        assert gas * offer.max_fee <= settings.max_cost_wei
        signed.setdefault(send, []).append(cost)
        newest[send] = offer, max(cost, newest[send][1] if send in newest else 0)
    dearest = sum(max(costs) for costs in signed.values())
    assert dearest <= day
    assert budget.left == day - dearest


def test_without_caps_a_replacement_pays_the_markets_price() -> None:
    settings = Settings.model_construct(max_fee_wei=500 * GWEI, max_cost_wei=10**18)
    assert fees.bumped(settings, FeeBid(100, 10), 50, 5, 21_000) == FeeBid(111, 11)
    assert fees.bumped(settings, FeeBid(100, 10), 500, 50, 21_000) == FeeBid(1050, 50)
    assert fees.bumped(settings, FeeBid(480 * GWEI, 10), 50, 5, 21_000) is None


# --- Several processes ---


def test_two_processes_do_not_sign_for_one_lesson(
    stack: DevStack,
    scenario: Scenario,
    database: str,
    make_shim: ShimMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both passed the preflight before either had signed, and the second one had signed when the first one
    stored what it signs."""
    assert scenario.book(slot("08:00")).status_code == 200  # Publishes.
    rival = Scenario(stack, stack.create_user("student", balance=100), scenario.tutor, scenario.annonce)
    one, two = (make_shim("96,97", database_url=database) for _ in range(2))
    first, second = place(one, scenario, "09:00"), place(two, rival, "09:00")
    head = one.chain.node.head()

    def sign(shim: Services, each: str) -> None:
        submission, [signer] = submission_of(shim, each), shim.sender.leases.renew()
        passed = Passed(Prepared(submission, submission.locks, submission.call), 500_000)
        shim.sender._sign(signer, Looked([passed], [], 0, 0), head)

    signed = two.sender._nonces.sign

    def sign_late(these: Sequence[Unsigned]) -> list[SignedAttempt]:
        made = signed(these)
        assert len(made) == 1
        sign(one, first)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(two.sender._nonces, "sign", sign_late)
        sign(two, second)
    sign(two, second)
    sign(two, first)
    assert row_of(one, first).signer == one.sender.address
    assert row_of(two, second).state == State.ACCEPTED
    assert work(one, first, State.MINED).booked == 1
    assert work(two, second, State.REJECTED).left_out[0]["code"] == "taken"


class Clock:
    """The clock of all processes, in seconds, which goes on only when a test says so."""

    def __init__(self) -> None:
        self._now = 0

    def monotonic(self) -> float:
        return self._now

    def go_on(self, seconds: int) -> None:
        self._now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that leases run out by."""
    clock = Clock()
    monkeypatch.setattr("api.outbox.leases.time", clock)
    return clock


def test_a_lease_that_is_renewed_is_kept(database: str, make_shim: ShimMaker, clock: Clock) -> None:
    owner, other = (make_shim("98", database_url=database, lease_seconds=60) for _ in range(2))
    for _ in range(10):
        assert len(owner.sender.leases.renew()) == 1
        assert other.sender.leases.renew() == []
        clock.go_on(20)
    owner.sender.leases.renew()
    for seconds in (0, 60):
        clock.go_on(seconds)
        assert other.sender.leases.renew() == []
    clock.go_on(1)
    assert len(other.sender.leases.renew()) == 1


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shared.db'}"
    server: PostgreSQL = request.getfixturevalue("postgres")
    return server.database()


def test_each_process_has_a_key_of_its_own(database: str, make_shim: ShimMaker) -> None:
    one, two, three = (make_shim("91,92", database_url=database, lease_seconds=60) for _ in range(3))
    held = [shim.sender.leases.renew() for shim in (one, two, three)]
    assert [len(keys) for keys in held] == [1, 1, 0]
    assert held[0] != held[1]
    one.sender.leases.release()
    assert three.sender.leases.renew() == held[0]
    assert one.sender.leases.renew() == []


def test_a_dead_processs_work_is_taken_over(
    stack: DevStack, scenario: Scenario, database: str, make_shim: ShimMaker, clock: Clock
) -> None:
    dead, alive = (make_shim("93,94", database_url=database, lease_seconds=60) for _ in range(2))
    alive.sender.leases.renew()
    batch_id = place(dead, scenario, "09:00")
    with paused(stack):
        sent = work(dead, batch_id, State.SUBMITTED)
        stack.rpc("anvil_dropTransaction", sent.transaction_hash)
    own = alive.sender.address
    for _ in range(2):  # The dead one's lease stands still for longer than its term.
        clock.go_on(61)
        assert own in alive.sender.leases.renew()
    row = work(alive, batch_id, State.MINED)
    assert (row.signer, row.transaction_hash) == (sent.signer, sent.transaction_hash)
    assert row.signer != own
    assert alive.sender.address == own  # For new work.
    clock.go_on(20)
    assert alive.sender.leases.renew() == [own]
    with alive.store.read() as db:  # The other key is free for whoever comes.
        assert [*db.scalars(select(leases.c.address).where(leases.c.owner != ""))] == [own]
    assert work(alive, place(alive, scenario, "10:00"), State.MINED).signer == own


def test_who_lost_the_lease_can_not_sign(scenario: Scenario, database: str, make_shim: ShimMaker) -> None:
    late, other = (make_shim("95", database_url=database, lease_seconds=60) for _ in range(2))
    late.sender.leases.renew()
    with late.store.write() as db:
        db.execute(update(leases).values(owner=""))
    assert len(other.sender.leases.renew()) == 1
    batch_id = place(late, scenario, "09:00")
    with pytest.raises(LeaseLost):
        late.sender.tick()
    assert row_of(late, batch_id).state == State.ACCEPTED
    assert work(other, batch_id, State.MINED).booked == 1
    with other.store.read() as db:
        assert db.scalar(select(func.count()).select_from(attempts)) == 1


def test_who_lost_the_lease_can_not_replace(
    stack: DevStack, scenario: Scenario, database: str, make_shim: ShimMaker
) -> None:
    late, other = (make_shim("97", database_url=database, lease_seconds=60) for _ in range(2))
    with paused(stack):
        batch_id = place(late, scenario, "09:00")
        first = work(late, batch_id, State.SUBMITTED)
        with late.store.write() as db:
            db.execute(update(leases).values(owner=""))
        assert len(other.sender.leases.renew()) == 1
        with late.store.read() as db:
            [row] = rows = repository.in_flight(db, [first.signer])
        head = late.chain.node.head()._replace(base_fee=row.max_fee + 1)
        for shim, raises in ((late, pytest.raises(LeaseLost)), (other, nullcontext())):
            shim.sender._nonces.remember(rows, head)
            with raises:
                shim.sender._nonces.replace(rows, head)
        assert len(attempts_of(late, batch_id)) == 2
    assert work(other, batch_id, State.MINED).booked == 1


def test_a_lesson_wants_each_of_its_quarters() -> None:
    """Also those in the calendar's next word."""
    assert calendar_locks("tutor", [(255 * 900, 45), (9 * 900, 30)]) == {
        "tutor/0": 1 << 255 | 0b11 << 9,
        "tutor/1": 0b11,
    }


def test_a_cost_is_rounded_up() -> None:
    assert [fees.cost(1, fee) for fee in (0, 1, GWEI, GWEI + 1)] == [0, 1, 1, 2]


def test_the_same_rules_of_uniqueness_on_both_databases(database: str, make_shim: ShimMaker) -> None:
    shim = make_shim(database_url=database)
    row: dict[str, Any] = {"chain_id": 1, "signer": "0x1", "nonce": 7}
    add(shim, "a", **row)
    add(shim, "b", **row | {"nonce": 8})
    add(shim, "c", **row | {"chain_id": 2})
    with pytest.raises(IntegrityError):
        add(shim, "d", **row)
    with pytest.raises(IntegrityError), shim.store.write() as db:
        db.execute(insert(leases).values(address=None, owner="", renewals=0))


def test_what_a_day_cost_is_not_looked_for_in_all_that_was_ever_sent(shim: Services) -> None:
    """By the time of signing and by the state, on SQLite, which would else take the nonces' index."""
    asked: list[tuple[str, Any]] = []
    with shim.store.read() as db:
        listen(db, "before_cursor_execute", lambda _, __, query, values, *___: asked.append((query, values)))
        fees.Budget.of(db, shim.settings, 10**15)
        [(query, values)] = asked
        plan = [row[3] for row in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values)]
    assert any("transactions_by_signing" in step for step in plan)
    assert any("transactions_by_state" in step or "transactions_by_block" in step for step in plan)
    assert not any(step.startswith("SCAN") or "one_transaction_per_nonce" in step for step in plan)
