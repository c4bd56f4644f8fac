"""The follower: whatever happens on the chain, by whomever, and whatever is taken back, the view shows it."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from eth_account.typed_transactions import TypedTransaction
from forked import Stack
from helpers import set_back
from hexbytes import HexBytes
from hypothesis import given
from hypothesis import strategies as st
from outside import ARBITRATION, DAY, DEFAULT_SHARE, HOUR, RATE, REVIEW, Booked, Following, Outside, statuses
from scenario import Scenario, slot
from sqlalchemy import text, update
from structlog.testing import capture_logs
from waiting import PATIENCE, until

from api.chain.rpc import Call, Node, NodeUnavailable, RpcError
from api.db.tables import index_position
from api.indexer.indexer import Indexer
from api.indexer.projection import _fold, split
from api.settings import Settings
from creneau.amounts import lesson_amount
from tools.dev_stack import DevStack

FINALITY = 4


@pytest.fixture(scope="module")
def stack() -> Iterator[DevStack]:
    """A chain of this module's own, which may be turned back; its shim is stopped, so nobody else acts."""
    settings = {"log_format": "json", "confirmations": FINALITY, "follow_seconds": 0.2}
    with Stack(settings=settings) as stack:
        stack.stop_shim()
        yield stack


@pytest.fixture(autouse=True)
def chain_that_is_turned_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a newest block that is lower than the one before is of a shorter chain, and of no node behind."""
    monkeypatch.setattr("api.chain.rpc._FORGET_SECONDS", 0)


@pytest.fixture
def shim(stack: DevStack) -> Iterator[None]:
    """The shim runs."""
    stack.start_shim()
    yield
    stack.stop_shim()


@pytest.fixture
def outside(stack: DevStack) -> Iterator[Outside]:
    """Wallets; what they do is undone at the end."""
    before = stack.rpc("evm_snapshot")
    yield Outside(stack)
    set_back(before, stack.rpc)


MakeFollowing = Callable[..., Following]


@pytest.fixture
def make_following(stack: DevStack, database_url: str) -> Iterator[MakeFollowing]:
    """Makes followers of one database, each as a process of its own would have it."""
    made: list[Following] = []

    def make(node: Node | None = None, **more: Any) -> Following:
        own = {"database_url": database_url, **more}
        made.append(Following(stack.settings.model_copy(update=own), node))
        return made[-1]

    yield make
    for following in made:
        following.close()


@pytest.fixture
def following(make_following: MakeFollowing) -> Following:
    return make_following()


def fresh_rows(following: Following, tmp_path: Path) -> dict[str, list[Any]]:
    """Rows of a view that were never there before."""
    fresh = Following(
        following.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'fresh.db'}"})
    )
    fresh.projection.clear()
    fresh.catch_up()
    rows = fresh.rows()
    fresh.close()
    return rows


# --- Each event ---


def test_lessons_from_their_creation_to_their_end(
    stack: DevStack, outside: Outside, following: Following
) -> None:
    batch = outside.book((60, 45, 30, 60, 90))
    created_at, created_in = outside.now(), stack.rpc("eth_blockNumber")
    following.catch_up()
    row = following.bookings()[batch.lesson(1)]
    assert row._asdict() == {
        "id": batch.lesson(1),
        "batch_id": batch.hex,
        "place": 1,
        "student": outside.student,
        "tutor": outside.tutor,
        "listing": "0x" + outside.listing.hex(),
        "start": batch.order.slots[1].start_unix,
        "minutes": 45,
        "amount": RATE * 45 // 60,
        "status": "PENDING",
        "to_tutor": None,
        "to_student": None,
        "cancelled_by": None,
        "created_at": created_at,
        "updated_at": created_at,
        "block_number": int(created_in, 16),
        "transaction_hash": row.transaction_hash,
    }
    [order] = following.rows()["orders"]
    assert order._asdict() == {
        "id": batch.hex,
        "student": outside.student,
        "tutor": outside.tutor,
        "listing": "0x" + outside.listing.hex(),
        "hourly_rate": RATE,
        "min_lessons": 1,
        "deadline": int(batch.order.deadline.timestamp()),
        "salt": "0x" + bytes(batch.order.salt).hex(),
        "slots": [[each.start_unix, each.minutes] for each in batch.order.slots],
        "booked": 0b11111,
        "total": sum(batch.order.amounts_wei),
        "created_at": created_at,
        "block_number": int(created_in, 16),
        "transaction_hash": row.transaction_hash,
        "instant": False,
    }

    outside.confirm(batch, 0b01111)
    following.catch_up()
    row = following.bookings()[batch.lesson(1)]
    assert (row.status, row.to_tutor, row.to_student) == ("CONFIRMED", None, None)
    assert (row.created_at, row.updated_at) == (created_at, outside.now())
    outside.check(following)

    outside.cancel(batch, 0b00001)
    outside.cancel(batch, 0b10000, by=outside.student)
    outside.at(batch.order.slots[3].start_unix)
    outside.dispute(batch, 0b00110 | 0b01000)
    following.catch_up()
    outside.check(following)
    by = [following.bookings()[batch.lesson(place)].cancelled_by for place in range(5)]
    assert by == [outside.tutor, None, None, None, outside.student]
    assert [following.bookings()[batch.lesson(place)].status for place in range(5)] == [
        "CANCELLED",
        "DISPUTED",
        "DISPUTED",
        "DISPUTED",
        "CANCELLED",
    ]
    outside.resolve(batch, 0b00110, 3_333)
    outside.complete(batch, 0b01000)
    following.catch_up()
    outside.check(following)
    rows = [following.bookings()[batch.lesson(place)] for place in range(5)]
    assert [(row.status, row.to_tutor, row.to_student) for row in rows] == [
        ("CANCELLED", 0, RATE),
        ("COMPLETED", (part := RATE * 45 // 60 * 3_333 // 10_000), RATE * 45 // 60 - part),
        ("COMPLETED", (part := RATE // 2 * 3_333 // 10_000), RATE // 2 - part),
        ("COMPLETED", RATE, 0),
        ("CANCELLED", 0, RATE * 90 // 60),
    ]
    assert len({row.transaction_hash for row in rows}) == 4


def test_a_lesson_is_confirmed_at_once_if_its_listing_was_instant_then(
    outside: Outside, make_following: MakeFollowing
) -> None:
    first = make_following()
    before = outside.book()
    outside.publish(instant=True)
    first.catch_up()  # The next look begins after the publication.
    instant = outside.book()
    outside.publish(instant=False)
    after = outside.book()
    first.catch_up()
    statuses = {row.batch_id: row.status for row in first.bookings().values()}
    assert [statuses[batch.hex] for batch in (before, instant, after)] == ["PENDING", "CONFIRMED", "PENDING"]
    outside.check(first)


def test_what_was_left_out_is_no_booking(outside: Outside, following: Following) -> None:
    taken = outside.book((60,))
    order = outside.order((60, 60))
    both = order.model_copy(update={"slots": (order.slots[0], taken.order.slots[0], order.slots[1])})
    batch = outside.create(both)
    following.catch_up()
    assert {row.place for row in following.bookings().values() if row.batch_id == batch.hex} == {0, 2}
    outside.check(following)


@pytest.mark.usefixtures("shim")
def test_what_the_shim_does_is_seen_like_anything_else(
    stack: DevStack, outside: Outside, following: Following
) -> None:
    scenario, answer = Scenario.of(stack), {}

    def is_booked() -> bool:
        # The chain was turned back between tests: what the shim sent on the longer one is sent again first.
        asked = scenario.book(slot("09:00"), slot("11:00", 52.5, 90), headers={"Idempotency-Key": "seen"})
        answer.update(asked.json()["data"])
        return asked.status_code == 200

    until(is_booked)
    following.catch_up()
    stored = {row.id: row for row in following.bookings().values() if row.batch_id == answer["batchId"]}
    assert {
        (each["blockchainTransactionId"], each["status"], int(each["amountWei"]), each["transactionHash"])
        for each in answer["bookings"]
    } == {(row.id, row.status, row.amount, row.transaction_hash) for row in stored.values()}
    outside.check(following)


@pytest.mark.usefixtures("shim")
def test_the_running_shim_follows_and_says_how_far(stack: DevStack, outside: Outside) -> None:
    outside.book()

    def lag() -> int:
        return int(stack.client().get("/readyz").json()["checks"]["view"]["lagBlocks"])

    shims = Following(stack.settings)  # Its database.
    head = int(stack.rpc("eth_blockNumber"), 16)
    try:
        until(lambda: shims.projection.position().number == head)
        until(lambda: lag() == 0)
        outside.check(shims)
    finally:
        shims.close()


def test_a_shim_whose_view_is_far_behind_is_not_ready(
    stack: DevStack, outside: Outside, database_url: str
) -> None:
    stack.start_shim(max_view_lag_blocks=2, follow_seconds=3600, database_url=database_url)
    outside.book((60,))
    stack.rpc("evm_mine")
    assert stack.client().get("/readyz").status_code == 200
    stack.rpc("evm_mine")
    until(lambda: stack.client().get("/readyz").status_code == 503)  # It may be a second old.
    refused = stack.client().get("/readyz")
    stack.stop_shim()
    view = refused.json()["checks"]["view"]
    assert (view["ok"], view["lagBlocks"]) == (False, 3)


# --- Ranges ---


class Counting(Node):
    """Refuses too many blocks at once, as some nodes do, and keeps what it was asked."""

    def __init__(self, url: str, most: int, *, silent: bool = False) -> None:
        super().__init__(url)
        self.most, self.silent = most, silent
        self.asked: list[int] = []

    def call_many(self, calls: Sequence[Call]) -> list[Any]:
        ranges = [call[1][0] for call in calls if call[0] == "eth_getLogs" and "toBlock" in call[1][0]]
        if ranges:
            [asked] = ranges
            self.asked.append(int(asked["toBlock"], 16) - int(asked["fromBlock"], 16) + 1)
            if self.asked[-1] > self.most:
                if self.silent:
                    raise NodeUnavailable("TimeoutError")
                return [RpcError({"code": -32005, "message": "query returned more than 10000 results"})] * 3
        return super().call_many(calls)


def test_events_are_asked_for_in_bounded_ranges(
    stack: DevStack, outside: Outside, make_following: MakeFollowing
) -> None:
    outside.book()
    stack.rpc("anvil_mine", hex(300))
    batch = outside.book()
    stack.rpc("anvil_mine", hex(FINALITY))
    node = Counting(stack.rpc_url, most=50)
    following = make_following(node, follow_blocks=50)
    following.catch_up()
    assert max(node.asked) == 50
    assert sum(node.asked) == int(stack.rpc("eth_blockNumber"), 16) - FINALITY - (
        stack.settings.deployment_block - 1
    )
    assert batch.lesson(0) in following.bookings()
    outside.check(following)


@pytest.mark.parametrize("silent", [False, True])
def test_a_range_that_is_too_large_for_the_node_is_halved_and_grows_again(
    stack: DevStack, outside: Outside, make_following: MakeFollowing, silent: bool
) -> None:
    outside.book()
    stack.rpc("anvil_mine", hex(300))
    node = Counting(stack.rpc_url, 10, silent=silent)
    following = make_following(node)

    def step() -> bool:
        try:
            return following.indexer.tick()
        except NodeUnavailable:
            assert silent
            return True

    while step():
        pass
    assert node.asked[:4] == [64, 32, 16, 8]
    assert node.asked.count(10) > 1
    node.most = 1000
    stack.rpc("anvil_mine", hex(300))
    following.catch_up()
    assert max(node.asked[-10:]) > 20
    outside.check(following)


def test_a_node_that_errs_is_waited_for(
    stack: DevStack, outside: Outside, make_following: MakeFollowing
) -> None:
    outside.book()
    stack.rpc("anvil_mine", hex(FINALITY))
    node = Counting(stack.rpc_url, 0)
    following = make_following(node, follow_blocks=1, follow_seconds=0.01)
    with capture_logs() as logs:
        following.indexer.start()
        until(lambda: len(node.asked) > 2)
        assert following.bookings() == {}
        node.most = 1
        until(lambda: len(following.bookings()) == 3)
        following.indexer.stop()
    assert {
        "event": "the node refuses to answer",
        "worker": "indexer",
        "reason": "query returned more than 10000 results",
        "log_level": "warning",
    } in logs
    outside.check(following)


def test_who_is_killed_between_two_ranges_goes_on_where_he_was(
    outside: Outside, make_following: MakeFollowing, tmp_path: Path
) -> None:
    batches = [outside.book() for _ in range(6)]
    for batch in batches:
        outside.confirm(batch, 0b011)
    positions = set()
    more = True
    while more:
        following = make_following(follow_blocks=3)
        more = following.indexer.tick()
        positions.add(following.projection.position())
    assert len(positions) > 4
    outside.check(following)
    assert following.rows() == fresh_rows(following, tmp_path)


def test_a_failure_within_a_range_leaves_the_view_as_it_was(
    outside: Outside, following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = outside.book()
    following.catch_up()
    before = following.rows()
    outside.confirm(batch, 1)
    outside.book()
    with monkeypatch.context() as patch:
        patch.setattr(
            "api.db.index.delete", lambda table: 1 / 0 if table.name == "blocks" else _delete(table)
        )
        with pytest.raises(ZeroDivisionError):
            following.indexer.tick()
    assert following.rows() == before
    following.catch_up()
    outside.check(following)


def _delete(table: Any) -> Any:
    from sqlalchemy import delete

    return delete(table)


# --- Reorganisations ---


def reorg(stack: DevStack, depth: int, again: Sequence[tuple[str, int]] = ()) -> None:
    """Replaces the newest blocks by as many others; with these raw transactions, in the blocks named."""
    stack.rpc("anvil_reorg", depth, [[raw, block] for raw, block in again])


@pytest.mark.parametrize("depth", [1, FINALITY - 1])
def test_after_a_reorganisation_the_view_is_the_chains(
    stack: DevStack, outside: Outside, following: Following, tmp_path: Path, depth: int
) -> None:
    batch = outside.book()
    outside.confirm(batch, 0b001)
    stack.rpc("anvil_mine", hex(FINALITY))
    outside.confirm(batch, 0b010)
    outside.cancel(batch, 0b001)
    outside.book()
    following.catch_up()
    outside.check(following)
    reorg(stack, depth)
    with capture_logs() as logs:
        following.catch_up()
    assert [(line["event"], line["blocks"]) for line in logs] == [("blocks were reorganised away", depth)]
    outside.check(following)
    kept = "CONFIRMED" if depth == FINALITY - 1 else "CANCELLED"
    assert following.bookings()[batch.lesson(0)].status == kept
    assert following.rows() == fresh_rows(following, tmp_path)


def test_the_thread_follows_a_reorganisation_within_two_periods(
    stack: DevStack, outside: Outside, make_following: MakeFollowing
) -> None:
    looks = 0
    following = make_following(follow_seconds=0.2)
    step = following.indexer.tick

    def counted() -> bool:
        nonlocal looks
        more = step()
        looks += not more
        return more

    following.indexer.tick = counted  # type: ignore[method-assign]
    following.indexer.start()
    batch = outside.book()
    outside.confirm(batch, 0b011)
    until(lambda: [row.status for row in following.bookings().values()].count("CONFIRMED") == 2)
    reorg(stack, 1)
    seen = looks
    until(lambda: looks > seen + 1)
    outside.check(following)
    assert {row.status for row in following.bookings().values()} == {"PENDING"}


def test_what_wakes_the_indexer_is_read_at_once(outside: Outside, make_following: MakeFollowing) -> None:
    """A receipt may be of a block that is newer than the head that another thread has just asked for."""
    following = make_following()
    settings = following.settings.model_copy(update={"follow_seconds": 3600})
    following.indexer = Indexer(following.projection, following.chain, settings)
    following.catch_up()
    batch = outside.book()
    assert not following.indexer.tick()
    assert following.bookings() == {}
    following.indexer.wake()
    following.catch_up()
    assert {row.batch_id for row in following.bookings().values()} == {batch.hex}
    assert not following.indexer.tick()


def test_a_creation_that_moves_to_another_block(
    stack: DevStack, outside: Outside, following: Following, tmp_path: Path
) -> None:
    batch = outside.book()
    following.catch_up()
    [first] = following.rows()["orders"]
    stack.rpc("evm_mine")
    following.catch_up()
    sent = stack.web3.eth.get_transaction(HexBytes(first.transaction_hash))
    fields = {
        "type": 2,
        "chainId": sent["chainId"],
        "nonce": sent["nonce"],
        "to": sent["to"],
        "value": 0,
        "gas": sent["gas"],
        "data": sent["input"],
        "maxFeePerGas": sent["maxFeePerGas"],
        "maxPriorityFeePerGas": sent["maxPriorityFeePerGas"],
    }
    raw = stack.account(4).sign_transaction(fields).raw_transaction
    assert TypedTransaction.from_bytes(raw).as_dict()["nonce"] == sent["nonce"]
    reorg(stack, 2, [("0x" + raw.hex().removeprefix("0x"), 1)])
    following.catch_up()
    [second] = following.rows()["orders"]
    assert second.id == first.id == batch.hex
    assert second.block_number == first.block_number + 1
    outside.check(following)
    assert following.rows() == fresh_rows(following, tmp_path)


def test_a_chain_that_was_turned_back_and_goes_on_otherwise(
    stack: DevStack, outside: Outside, following: Following
) -> None:
    batch = outside.book()
    point = stack.rpc("evm_snapshot")
    outside.confirm(batch, 0b111)
    outside.book()
    following.catch_up()
    set_back(point, stack.rpc)
    # Shorter than the view: perhaps the node is only behind. Seen again, it is believed.
    assert following.indexer.tick() is False
    assert len(following.bookings()) == 6
    following.catch_up()
    outside.check(following)
    assert {row.status for row in following.bookings().values()} == {"PENDING"}
    outside.cancel(batch, 0b010)
    following.catch_up()
    outside.check(following)


def test_a_node_that_is_behind_for_once_changes_nothing(
    stack: DevStack, outside: Outside, make_following: MakeFollowing
) -> None:
    class Behind(Node):
        latest: dict[str, Any] | None = None

        def call(self, method: str, *params: Any) -> Any:
            if params[:1] == ("latest",) and self.latest:
                return self.latest
            return super().call(method, *params)

    node = Behind(stack.rpc_url)
    following = make_following(node)
    outside.book()
    old = stack.rpc("eth_getBlockByNumber", "latest", False)
    outside.book()
    following.catch_up()
    before = following.rows()
    for _ in range(3):
        node.latest = old
        assert following.indexer.tick() is False
        node.latest = None
        assert following.indexer.tick() is False
    assert following.rows() == before
    node.latest = stack.rpc("eth_getBlockByNumber", hex(stack.settings.deployment_block), False)
    with capture_logs() as logs:
        for _ in range(3):
            assert following.indexer.tick() is False
    assert {line["event"] for line in logs} == {"the node is behind what is final"}
    assert following.rows() == before


def test_a_reorganisation_beyond_finality_is_an_error_and_everything_is_read_again(
    stack: DevStack, outside: Outside, following: Following, tmp_path: Path
) -> None:
    batch = outside.book()
    outside.confirm(batch, 0b001)
    stack.rpc("anvil_mine", hex(FINALITY + 2))
    following.catch_up()
    reorg(stack, FINALITY + 3)
    with capture_logs() as logs:
        following.catch_up()
    [line] = [line for line in logs if line["log_level"] == "error"]
    assert line["event"].startswith("a reorganisation beyond finality")
    outside.check(following)
    assert {row.status for row in following.bookings().values()} == {"PENDING"}
    assert following.rows() == fresh_rows(following, tmp_path)


def test_another_contract_s_view_is_dropped(outside: Outside, following: Following) -> None:
    outside.book()
    following.catch_up()
    with following.store.write() as db:
        db.execute(update(index_position).values(escrow="0x" + "11" * 20))
    assert following.projection.position() == (following.settings.deployment_block - 1, "")
    assert following.bookings() == {}
    following.catch_up()
    outside.check(following)


def test_what_is_final_is_not_kept_block_by_block(
    stack: DevStack, outside: Outside, following: Following
) -> None:
    for _ in range(3):
        outside.book()
        following.catch_up()
    stack.rpc("anvil_mine", "0x20")
    following.catch_up()
    head = int(stack.rpc("eth_blockNumber"), 16)
    assert [block.number for block in following.projection.kept()] == [*range(head, head - FINALITY - 1, -1)]


# --- Several processes ---


def test_of_several_followers_one_writes(
    stack: DevStack, outside: Outside, make_following: MakeFollowing, tmp_path: Path
) -> None:
    several = [make_following(follow_blocks=4, follow_seconds=0.01) for _ in range(3)]
    with capture_logs() as logs:
        for following in several:
            following.indexer.start()
        batches = []
        for turn in range(12):
            batches.append(outside.book((60, 30)))
            outside.confirm(batches[-1], 0b01)
            if turn % 4 == 3:
                outside.cancel(batches[turn // 2], 0b10)
                reorg(stack, 1)
        head = stack.rpc("eth_getBlockByNumber", "latest", False)["hash"]
        until(lambda: several[0].projection.position().hash == head)
        for following in several:
            following.indexer.stop()
    assert [line for line in logs if line["log_level"] in {"error", "critical"}] == []
    outside.check(several[0])
    assert several[0].rows() == fresh_rows(several[0], tmp_path)


def test_a_step_from_a_position_that_is_past_does_nothing(
    outside: Outside, make_following: MakeFollowing
) -> None:
    """Both have read the same blocks; the second comes to write when the first has."""
    one, other = make_following(), make_following()
    outside.book()
    barrier = threading.Barrier(2, timeout=PATIENCE)
    advance = other.projection.advance

    def late(*args: Any) -> None:
        barrier.wait()
        barrier.wait()
        advance(*args)

    other.projection.advance = late  # type: ignore[method-assign]
    thread = threading.Thread(target=other.indexer.tick)
    thread.start()
    barrier.wait()
    one.catch_up()
    before = one.rows()
    barrier.wait()
    thread.join()
    assert one.rows() == before


def test_one_that_begins_late_keeps_what_another_has_read(
    outside: Outside, make_following: MakeFollowing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen an empty view; the second comes to begin it when the first has read everything."""
    one, other = make_following(), make_following()
    outside.book()
    barrier = threading.Barrier(2, timeout=PATIENCE)
    write = other.store.write

    def late() -> Any:
        barrier.wait()
        barrier.wait()
        return write()

    monkeypatch.setattr(other.store, "write", late)
    thread = threading.Thread(target=other.projection.position)
    thread.start()
    barrier.wait()
    one.catch_up()
    before = one.rows()
    barrier.wait()
    thread.join()
    assert one.rows() == before


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_rebuild_beside_a_follower_leaves_nothing_of_what_that_adds(
    outside: Outside, make_following: MakeFollowing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rebuild waits for the follower's transaction before it deletes, not after."""
    one, other = make_following(), make_following()
    one.catch_up()
    outside.book()
    barrier = threading.Barrier(2, timeout=PATIENCE)

    def late(*args: Any) -> None:
        _fold(*args)
        barrier.wait()
        barrier.wait()

    def is_waiting() -> bool:
        query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        with one.store.read() as db:
            return bool(db.scalar(text(f"{query} and datname = current_database()")))

    monkeypatch.setattr("api.indexer.projection._fold", late)
    adding = threading.Thread(target=one.indexer.tick)
    adding.start()
    barrier.wait()
    clearing = threading.Thread(target=other.projection.clear)
    clearing.start()
    until(is_waiting)
    barrier.wait()
    adding.join()
    clearing.join()
    monkeypatch.undo()
    other.catch_up()
    assert other.rows() == fresh_rows(other, tmp_path)


# --- At random ---


@pytest.mark.parametrize("seed", [1, 2])
def test_after_anything_the_view_is_the_chains(
    stack: DevStack, outside: Outside, following: Following, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    batches: list[Booked] = []
    snapshots: list[tuple[str, int, list[Booked]]] = []

    def act(batch: Booked) -> None:
        chain = statuses(stack)
        lessons = {place: chain.get(batch.lesson(place)) for place in range(3)}
        if None in lessons.values():  # It was reorganised away.
            return
        status = dice.choice([*set(lessons.values())])
        these = [place for place in range(3) if lessons[place] == status]
        some = sum(1 << place for place in dice.sample(these, dice.randint(1, len(these))))
        first, last, now = batch.order.slots[0].start_unix, batch.order.slots[2].start_unix, outside.now()
        match status:
            case "PENDING" if now >= last:
                outside.cancel(batch, some, outside.stranger)
            case "PENDING" if now < first:
                dice.choice([outside.confirm, outside.cancel, outside.complete])(batch, some)
            case "CONFIRMED" if last <= now < first + REVIEW:
                dice.choice([outside.dispute, outside.cancel])(batch, some)
            case "CONFIRMED" if now > last + 2 * HOUR + REVIEW:
                outside.complete(batch, some, outside.stranger)
            case "DISPUTED" if now > last + 2 * HOUR + REVIEW + ARBITRATION:
                outside.resolve(batch, some, DEFAULT_SHARE, outside.stranger)
            case "DISPUTED":
                dice.choice([outside.resolve, outside.settle])(batch, some, dice.randint(0, 10_000))

    for turn in range(90):
        match dice.randrange(12):
            case 0 | 1 | 2:
                batches.append(outside.book([dice.choice((15, 45, 60, 105)) for _ in range(3)]))
            case 3:
                outside.publish(instant=dice.random() < 0.5)
            case 4:
                outside.at(outside.now() + dice.choice([HOUR, DAY, DAY, 20 * DAY]))
            case 5:
                reorg(stack, dice.randint(1, FINALITY - 1))
            case 6:
                snapshots.append(
                    (stack.rpc("evm_snapshot"), int(stack.rpc("eth_blockNumber"), 16), [*batches])
                )
            case 7 if snapshots:
                point, number, batches = snapshots.pop()
                if int(stack.rpc("eth_blockNumber"), 16) - number < FINALITY:
                    set_back(point, stack.rpc)
            case _ if batches:
                act(dice.choice(batches))
        if dice.random() < 0.5:
            following.catch_up()
            following.catch_up()  # A shorter chain is believed when it is seen again.
            if turn % 3 == 0:
                outside.check(following)
    stack.rpc("evm_mine")
    following.catch_up()
    outside.check(following)
    assert following.rows() == fresh_rows(following, tmp_path)


AMOUNTS = st.lists(st.integers(0, 2**97), min_size=1, max_size=40)


@given(AMOUNTS, st.integers(0, 10_000))
def test_the_parts_follow_from_their_sum(amounts: list[int], bps: int) -> None:
    parts = [amount * bps // 10_000 for amount in amounts]
    assert split(amounts, sum(parts)) == parts


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 32)), min_size=1, max_size=6))
def test_the_parts_follow_from_their_sum_of_tiny_amounts_too(lessons: list[tuple[int, int]]) -> None:
    amounts = [lesson_amount(rate, quarters * 15) for rate, quarters in lessons]
    for bps in range(0, 10_001, 97):
        parts = [amount * bps // 10_000 for amount in amounts]
        assert split(amounts, sum(parts)) == parts


def test_settings_name_the_deployment_block(stack: DevStack) -> None:
    assert isinstance(stack.settings, Settings)
    assert stack.settings.deployment_block > 0
