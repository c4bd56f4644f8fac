"""The relayer's nine rules, each with its failure beside its success, and the leases of its keys.

The relayer of these tests has a database and keys of its own, and no thread: a test says when it does
a round.
"""

import itertools
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import EDU, Desk, paused, slot, watching
from dev_stack import DevStack
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

sys.path.insert(0, str(Path(__file__).parents[1]))

from postgres import PostgreSQL, postgres

from api import fees, relayer
from api.app import Shim
from api.fees import Offer
from api.leases import LeaseLost
from api.models import CreateBatchBookingData
from api.node import NodeUnavailable
from api.settings import Settings
from api.store import Kind, State, relayers, sends, transactions
from creneau import codec

__all__ = ["postgres"]

GWEI = 10**9
_KEYS = itertools.count(100)  # Each shim's own.

ShimMaker = Callable[..., Shim]


@pytest.fixture
def make_shim(stack: DevStack, tmp_path: Path) -> Iterator[ShimMaker]:
    """Shims of the test's own; settings may be given."""
    made: list[Shim] = []

    def make(keys: str | None = None, **more: Any) -> Shim:
        indices = keys or str(next(_KEYS))
        for index in indices.split(","):
            stack.rpc("anvil_setBalance", stack.account(int(index)).address, hex(10**20))
        own = {"database_url": f"sqlite:///{tmp_path / 'own.db'}", "relayer_mnemonic_index": indices}
        quick = {"resend_seconds": 0.001, "lease_seconds": 0.5}
        made.append(Shim(stack.settings.model_copy(update=own | quick | more), stack.directory))
        return made[-1]

    yield make
    for shim in made:
        shim.close()


@pytest.fixture
def shim(make_shim: ShimMaker) -> Shim:
    return make_shim()


def place(shim: Shim, desk: Desk, *times: str) -> str:
    request = CreateBatchBookingData.model_validate(desk.body(*map(slot, times)))
    return shim.bookings.place(desk.student.id, request, None, "test")


def row_of(shim: Shim, send_id: str) -> Any:
    [row] = shim.store.sends([send_id])
    return row


def work(shim: Shim, send_id: str, *states: State) -> Any:
    """Rounds until the send is in one of these states."""
    until = time.monotonic() + 15
    while time.monotonic() < until:
        shim.relayer._round()
        if (row := row_of(shim, send_id)).state in states:
            return row
    raise AssertionError(f"still {row.state}")


def attempts(shim: Shim, send_id: str) -> list[Any]:
    query = select(transactions).where(transactions.c.send_id == send_id).order_by(transactions.c.created_at)
    with shim.store.read() as db:
        return [*db.execute(query)]


def change(shim: Shim, send_id: str, **values: Any) -> None:
    with shim.store.write() as db:
        db.execute(update(sends).where(sends.c.id == send_id).values(values))


def no_sending(_: Any) -> set[str]:
    return set()


def spend_nonce(stack: DevStack, address: str, nonce: int) -> str:
    """An outsider who has the relayer's key."""
    stack.rpc("anvil_impersonateAccount", address)
    transaction = {"from": address, "to": address, "nonce": hex(nonce), "maxFeePerGas": hex(10**12)}
    return str(stack.rpc("eth_sendTransaction", transaction))


def test_the_states_are_drawn_as_they_are() -> None:
    drawn = re.findall(r"^    (\w+) +──> (\w+) ", relayer.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(
        (before, after) for before, targets in relayer.TRANSITIONS.items() for after in targets
    )
    assert {state for pair in drawn for state in pair} == {*State}


def test_1_what_was_created_is_never_created_again(stack: DevStack, desk: Desk, shim: Shim) -> None:
    """Not even by a database that has forgotten it."""
    batch_id = place(shim, desk, "09:00")
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
    assert desk.balance() == 965 * EDU
    other = place(shim, desk, "10:00")
    assert work(shim, other, State.MINED).transaction_hash != first.transaction_hash


def test_2_what_is_signed_is_stored_before_it_is_sent(
    stack: DevStack, desk: Desk, shim: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = place(shim, desk, "09:00")

    def fail(*_: Any) -> None:
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(shim.relayer._nonces, "sign", fail)
        with pytest.raises(OSError, match="no room"):
            shim.relayer._round()
    assert (row_of(shim, batch_id).state, row_of(shim, batch_id).nonce) == (State.ACCEPTED, None)
    with monkeypatch.context() as patch:
        patch.setattr(shim.relayer, "_send", fail)
        with pytest.raises(OSError, match="no room"):
            shim.relayer._round()
    signed = row_of(shim, batch_id)
    assert signed.state == State.SIGNED
    [stored] = attempts(shim, batch_id)
    assert "0x" + keccak(stored.raw).hex() == stored.hash == signed.transaction_hash
    assert stack.rpc("eth_getTransactionByHash", stored.hash) is None
    assert work(shim, batch_id, State.MINED).transaction_hash == stored.hash


def test_3_another_nonce_only_when_another_transaction_is_final_at_the_first(
    stack: DevStack, desk: Desk, shim: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = place(shim, desk, "09:00")
    with monkeypatch.context() as patch:
        patch.setattr(shim.relayer, "_send", no_sending)
        nonce = work(shim, batch_id, State.SIGNED).nonce
    spend_nonce(stack, shim.relayer.address, nonce)
    for _ in range(5):  # "Nonce too low" means: look.
        shim.relayer._send_after.clear()
        shim.relayer._round()
        assert (row_of(shim, batch_id).state, row_of(shim, batch_id).nonce) == (State.SIGNED, nonce)
    stack.rpc("anvil_mine", "0x2")
    shim.relayer._round()
    assert row_of(shim, batch_id).nonce == nonce
    for _ in range(2):
        stack.rpc("anvil_mine", "0x1")
        shim.relayer._round()
    row = work(shim, batch_id, State.MINED)
    assert (row.nonce, row.booked) == (nonce + 1, 1)
    assert len(attempts(shim, batch_id)) == 2
    assert desk.balance() == 965 * EDU


def test_3_an_error_of_the_node_moves_nothing(
    desk: Desk, shim: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = place(shim, desk, "09:00")

    def unavailable(*_: Any) -> None:
        raise NodeUnavailable("timeout")

    with monkeypatch.context() as patch:
        patch.setattr(shim.relayer, "_settle", unavailable)
        for _ in range(3):
            with pytest.raises(NodeUnavailable):
                shim.relayer._round()
    before = row_of(shim, batch_id)
    assert before.state == State.SIGNED
    after = work(shim, batch_id, State.MINED)
    assert (after.nonce, after.transaction_hash) == (before.nonce, before.transaction_hash)


def test_4_the_next_nonce_is_the_chains_or_follows_the_highest_row(
    stack: DevStack, desk: Desk, shim: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.book(slot("08:00")).status_code == 200  # Publishes.
    count = int(stack.rpc("eth_getTransactionCount", shim.relayer.address, "pending"), 16)
    with monkeypatch.context() as patch:
        patch.setattr(shim.relayer, "_send", no_sending)  # So the chain knows nothing of the first.
        ids = []
        for hour in ("09:00", "10:00"):
            ids.append(place(shim, desk, hour))
            shim.relayer._round()
    assert [row_of(shim, each).nonce for each in ids] == [count, count + 1]
    assert [work(shim, each, State.MINED).booked for each in ids] == [1, 1]
    spend_nonce(stack, shim.relayer.address, count + 2)
    assert work(shim, place(shim, desk, "11:00"), State.MINED).nonce == count + 3
    taken: dict[str, Any] = {"signer": shim.relayer.address, "nonce": count + 3, "wants": {}}
    with pytest.raises(IntegrityError), shim.store.write() as db:
        shim.store.enqueue(db, Kind.ACT, "another", b"", chain_id=shim.settings.chain_id, **taken)


def test_5_what_waits_too_long_is_replaced_within_the_caps(
    stack: DevStack, desk: Desk, make_shim: ShimMaker
) -> None:
    shim = make_shim(bump_seconds=0.01)
    batch_id = place(shim, desk, "09:00")
    with paused(stack):
        work(shim, batch_id, State.SUBMITTED)
        for _ in range(20):
            shim.relayer._round()
        assert len(attempts(shim, batch_id)) == 1  # Without blocks nothing is too cheap.
        while len(attempts(shim, batch_id)) < 3:
            stack.rpc("anvil_dropTransaction", row_of(shim, batch_id).transaction_hash)
            stack.rpc("evm_mine")
            shim.relayer._round()
    tried = attempts(shim, batch_id)
    assert len({each.nonce for each in tried}) == 1
    for old, new in itertools.pairwise(tried):
        assert new.max_fee >= old.max_fee * 1.1
        assert new.priority_fee >= old.priority_fee * 1.1
    row = work(shim, batch_id, State.MINED)
    assert row.transaction_hash in {each.hash for each in tried}
    assert (row.booked, desk.balance()) == (1, 965 * EDU)
    assert row.fee == fees.cost(row.gas_used, int(_receipt(stack, row)["effectiveGasPrice"], 16))


def _receipt(stack: DevStack, row: Any) -> Any:
    return stack.rpc("eth_getTransactionReceipt", row.transaction_hash)


def test_5_a_jump_of_the_base_fee_is_followed_up_to_the_cap(
    stack: DevStack, desk: Desk, make_shim: ShimMaker
) -> None:
    shim = make_shim(max_fee_wei=200 * GWEI)
    batch_id = place(shim, desk, "09:00")
    try:
        with paused(stack):
            work(shim, batch_id, State.SUBMITTED)
            stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(150 * GWEI))
            stack.rpc("evm_mine")
            shim.relayer._head = None
            shim.relayer._round()
            shim.relayer._round()
            first, second = attempts(shim, batch_id)
            assert first.max_fee < 100 * GWEI < 150 * GWEI <= second.max_fee <= 200 * GWEI
        assert work(shim, batch_id, State.MINED).transaction_hash == second.hash
        stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(250 * GWEI))
        stack.rpc("evm_mine")
        dear = place(shim, desk, "10:00")
        for _ in range(3):
            shim.relayer._round()
        assert (row_of(shim, dear).state, attempts(shim, dear)) == (State.ACCEPTED, [])
    finally:
        stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        stack.rpc("evm_mine")
    assert work(shim, dear, State.MINED).booked == 1


def test_5_a_day_costs_no_more_than_its_cap(stack: DevStack, desk: Desk, make_shim: ShimMaker) -> None:
    shim = make_shim(bump_seconds=0.001)
    first = place(shim, desk, "09:00")
    row = work(shim, first, State.MINED)
    shim.settings.max_daily_fee_wei = row.fee * GWEI + GWEI
    second = place(shim, desk, "10:00")
    for _ in range(3):
        shim.relayer._round()
    assert (row_of(shim, second).state, attempts(shim, second)) == (State.ACCEPTED, [])
    change(shim, first, signed_at=row.signed_at - 25 * 60 * 60 * 10**6)  # Yesterday.
    shim.settings.max_daily_fee_wei = 10**16
    with paused(stack):
        work(shim, second, State.SUBMITTED)
        shim.settings.max_daily_fee_wei = row_of(shim, second).cost * GWEI
        for _ in range(3):
            shim.relayer._round()
            shim.relayer._head["baseFeePerGas"] = hex(400 * GWEI)
        assert len(attempts(shim, second)) == 1
        shim.settings.max_daily_fee_wei = 10**19
        shim.relayer._head["baseFeePerGas"] = hex(200 * GWEI)
        shim.relayer._nonces._bump_after.clear()
        shim.relayer._round()
        assert len(attempts(shim, second)) == 2
    assert work(shim, second, State.MINED).booked == 1


def test_5_what_is_too_late_only_spends_its_nonce(stack: DevStack, desk: Desk, make_shim: ShimMaker) -> None:
    shim = make_shim(bump_seconds=0.01)
    late = place(shim, desk, "09:00")
    with paused(stack):
        sent = work(shim, late, State.SUBMITTED)
        stack.rpc("anvil_dropTransaction", sent.transaction_hash)
        change(shim, late, expires=1_600_000_000)
        while not attempts(shim, late)[-1].frees:
            shim.relayer._round()
        shim.relayer._round()
    row = work(shim, late, State.MINED)
    assert (row.succeeded, row.code, row.booked, row.nonce) == (False, "expired", 0, sent.nonce)
    assert desk.balance() == 1000 * EDU
    stack.rpc("anvil_mine", "0x3")
    assert work(shim, late, State.EXPIRED).transaction_hash == row.transaction_hash
    assert work(shim, place(shim, desk, "09:00"), State.MINED).nonce == sent.nonce + 1


def test_5_a_nonce_that_nobody_uses_is_spent(stack: DevStack, desk: Desk, make_shim: ShimMaker) -> None:
    """A node named a count that is too high, and the transaction waits for those before."""
    shim = make_shim(bump_seconds=0.3)
    batch_id = place(shim, desk, "09:00")
    count = int(stack.rpc("eth_getTransactionCount", shim.relayer.address, "pending"), 16)
    real, ahead = shim.relayer._node.batch, [1000]

    def lies(calls: Any) -> list[Any]:
        if calls and calls[0][0] == "eth_getBlockByNumber" and len(calls) > 2:
            block, mined, _, *rest = real(calls)
            return [block, mined, hex(count + ahead[0]), *rest]
        return real(calls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shim.relayer._node, "batch", lies)
        with pytest.raises(NodeUnavailable, match="too far ahead"):
            shim.relayer._round()
        assert row_of(shim, batch_id).state == State.ACCEPTED
        ahead[0] = 2
        shim.relayer._round()
    assert row_of(shim, batch_id).nonce == count + 2
    row = work(shim, batch_id, State.MINED)
    assert (row.nonce, row.booked) == (count + 2, 1)
    with shim.store.read() as db:
        filled = db.scalars(
            select(sends.c.nonce).where(sends.c.kind == Kind.GAP).order_by(sends.c.nonce)
        ).all()
    assert filled == [count, count + 1]


def test_6_a_reorganised_batch_is_sent_again_as_it_was(stack: DevStack, desk: Desk, shim: Shim) -> None:
    batch_id = place(shim, desk, "09:00")
    first = work(shim, batch_id, State.MINED)
    with paused(stack):
        stack.rpc("anvil_reorg", 1, [])
        shim.relayer._round()
        gone = row_of(shim, batch_id)
        assert (gone.state, gone.booked, gone.block_hash) == (State.SUBMITTED, None, None)
        for _ in range(3):
            shim.relayer._round()
    again = work(shim, batch_id, State.MINED)
    assert again.transaction_hash == first.transaction_hash
    assert again.block_hash != first.block_hash
    assert len(attempts(shim, batch_id)) == 1
    stack.rpc("anvil_mine", "0x2")
    for _ in range(3):
        shim.relayer._round()
    assert row_of(shim, batch_id).state == State.MINED
    stack.rpc("anvil_mine", "0x1")
    assert work(shim, batch_id, State.FINAL).booked == 1


def test_6_the_nodes_tag_says_what_is_final(stack: DevStack, desk: Desk, make_shim: ShimMaker) -> None:
    shim = make_shim(finality="finalized")
    batch_id = place(shim, desk, "09:00")
    work(shim, batch_id, State.MINED)
    stack.rpc("anvil_mine", "0x4")
    for _ in range(3):
        shim.relayer._round()
    assert row_of(shim, batch_id).state == State.MINED
    stack.rpc("anvil_mine", "0x60")
    work(shim, batch_id, State.FINAL)


def test_7_whoever_starts_finds_the_work(stack: DevStack, desk: Desk, make_shim: ShimMaker) -> None:
    first = make_shim("90")
    waits, sent = place(first, desk, "09:00"), place(first, desk, "10:00")
    with paused(stack):
        work(first, waits, State.SUBMITTED)
        hash_ = row_of(first, waits).transaction_hash
        assert row_of(first, sent).state == State.ACCEPTED  # The listing is published with the first.
    second = make_shim("90")
    rows = [work(second, each, State.MINED) for each in (waits, sent)]
    assert [row.booked for row in rows] == [1, 1]
    assert rows[0].transaction_hash == hash_


def test_8_what_would_revert_costs_no_gas(stack: DevStack, desk: Desk, shim: Shim) -> None:
    taken = place(shim, desk, "09:00")
    assert desk.book(slot("09:00")).status_code == 200
    free = place(shim, desk, "10:00")
    with watching(stack) as seen:
        refused, booked = work(shim, taken, State.REJECTED), work(shim, free, State.MINED)
    assert [(each["index"], each["code"]) for each in refused.left_out] == [(1, "taken")]
    assert [each["hash"] for each in seen.transactions] == [booked.transaction_hash]


def test_9_many_share_a_block(stack: DevStack, desk: Desk, shim: Shim) -> None:
    assert desk.book(slot("08:00")).status_code == 200  # Publishes.
    ids = [place(shim, desk, f"{hour:02}:00") for hour in range(9, 19)]
    with paused(stack):
        for batch_id in ids:
            work(shim, batch_id, State.SUBMITTED)
    rows = [work(shim, batch_id, State.MINED) for batch_id in ids]
    assert len({row.block_hash for row in rows}) == 1
    assert sorted(row.nonce for row in rows) == list(range(rows[0].nonce, rows[0].nonce + 10))


# --- Other kinds, fees ---


def test_an_act_takes_the_same_way(stack: DevStack, desk: Desk, shim: Shim) -> None:
    publish = codec.publish_data(desk.tutor.wallet, b"\1" * 32, 35 * EDU, instant=False)
    good = codec.multicall_data([])
    with shim.store.write() as db:
        for name, call in (("good", good), ("bad", publish)):
            wants = {"one": 1}
            shim.store.enqueue(db, Kind.ACT, name, call, chain_id=shim.settings.chain_id, wants=wants)
    done, refused = work(shim, "good", State.MINED), work(shim, "bad", State.REJECTED)
    assert done.succeeded
    assert refused.code == "refused"
    assert refused.nonce is None
    stack.rpc("anvil_mine", "0x3")
    work(shim, "good", State.FINAL)


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


def test_without_caps_a_replacement_pays_the_markets_price() -> None:
    settings = Settings.model_construct(max_fee_wei=500 * GWEI, max_cost_wei=10**18)
    assert fees.bumped(settings, Offer(100, 10), 50, 5, 21_000) == Offer(111, 11)
    assert fees.bumped(settings, Offer(100, 10), 500, 50, 21_000) == Offer(1050, 50)
    assert fees.bumped(settings, Offer(480 * GWEI, 10), 50, 5, 21_000) is None


# --- Several processes ---


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shared.db'}"
    server: PostgreSQL = request.getfixturevalue("postgres")
    return server.database()


def test_each_process_has_a_key_of_its_own(database: str, make_shim: ShimMaker) -> None:
    one, two, three = (make_shim("91,92", database_url=database, lease_seconds=60) for _ in range(3))
    held = [shim.relayer.leases.renew() for shim in (one, two, three)]
    assert [len(keys) for keys in held] == [1, 1, 0]
    assert held[0] != held[1]
    one.relayer.leases.release()
    assert three.relayer.leases.renew() == held[0]
    assert one.relayer.leases.renew() == []


def test_a_dead_processs_work_is_taken_over(
    stack: DevStack, desk: Desk, database: str, make_shim: ShimMaker
) -> None:
    dead, alive = (make_shim("93,94", database_url=database, lease_seconds=0.3) for _ in range(2))
    alive.relayer.leases.renew()
    batch_id = place(dead, desk, "09:00")
    with paused(stack):
        sent = work(dead, batch_id, State.SUBMITTED)
        stack.rpc("anvil_dropTransaction", sent.transaction_hash)
    own = alive.relayer.address
    row = work(alive, batch_id, State.MINED)
    assert (row.signer, row.transaction_hash) == (sent.signer, sent.transaction_hash)
    assert row.signer != own
    assert alive.relayer.address == own  # For new work.
    time.sleep(0.2)
    assert alive.relayer.leases.renew() == [own]
    assert work(alive, place(alive, desk, "10:00"), State.MINED).signer == own


def test_who_lost_the_lease_can_not_sign(desk: Desk, database: str, make_shim: ShimMaker) -> None:
    late, other = (make_shim("95", database_url=database, lease_seconds=60) for _ in range(2))
    late.relayer.leases.renew()
    with late.store.write() as db:
        db.execute(update(relayers).values(expires_at=0))
    assert len(other.relayer.leases.renew()) == 1
    batch_id = place(late, desk, "09:00")
    with pytest.raises(LeaseLost):
        late.relayer._round()
    assert row_of(late, batch_id).state == State.ACCEPTED
    assert work(other, batch_id, State.MINED).booked == 1
    with other.store.read() as db:
        assert db.scalar(select(func.count()).select_from(transactions)) == 1


def test_the_same_rules_of_uniqueness_on_both_databases(database: str, make_shim: ShimMaker) -> None:
    shim = make_shim(database_url=database)
    row: dict[str, Any] = {"chain_id": 1, "wants": {}, "signer": "0x1", "nonce": 7}
    with shim.store.write() as db:
        shim.store.enqueue(db, Kind.ACT, "a", b"", **row)
        shim.store.enqueue(db, Kind.ACT, "b", b"", **row | {"nonce": 8})
        shim.store.enqueue(db, Kind.ACT, "c", b"", **row | {"chain_id": 2})
    with pytest.raises(IntegrityError), shim.store.write() as db:
        shim.store.enqueue(db, Kind.ACT, "d", b"", **row)
    with pytest.raises(IntegrityError), shim.store.write() as db:
        db.execute(insert(relayers).values(address=None, owner="", expires_at=0))
