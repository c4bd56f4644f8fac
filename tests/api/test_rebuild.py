"""`python -m api rebuild`: the view is read again and has the same rows, whatever happens meanwhile."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Command, Stack

sys.path.insert(0, str(Path(__file__).parents[1] / "chaos"))

from outside import Following, Outside
from proxy import Proxy
from sqlalchemy import delete, update
from waiting import until

from api.db.tables import actions, bookings, orders
from api.settings import Settings
from tools.dev_stack import DevStack

FINALITY = 4


@pytest.fixture(scope="module")
def stack() -> Iterator[DevStack]:
    """A chain of this module's own, with a history; its shim is stopped."""
    with Stack(settings={"log_format": "json", "confirmations": FINALITY}) as stack:
        stack.stop_shim()
        outside = Outside(stack)
        for turn in range(20):
            batch = outside.book((60, 45, 30))
            outside.confirm(batch, 0b011)
            if turn % 3 == 0:
                outside.cancel(batch, 0b101)
            if turn % 3 == 1:
                outside.complete(batch, 0b110)
        yield stack


@pytest.fixture
def following(stack: DevStack, database_url: str) -> Iterator[Following]:
    """A view that has been read."""
    following = Following(stack.settings.model_copy(update={"database_url": database_url}))
    following.catch_up()
    yield following
    following.close()


def rebuild(settings: Settings) -> Command:
    """Start a rebuild with these settings."""
    given = settings.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return Command(settings.data_dir, ["rebuild"], given)


def test_after_a_rebuild_the_rows_are_the_same(stack: DevStack, following: Following) -> None:
    before = following.rows()
    assert len(before["bookings"]) == 60
    with following.store.write() as db:  # The view is not to be believed any more.
        db.execute(delete(bookings).where(bookings.c.place == 1))
        db.execute(update(bookings).values(status="CONFIRMED"))
        db.execute(delete(actions))
        db.execute(update(orders).values(instant=True))
    assert following.rows() != before
    done = rebuild(following.settings).ended()
    assert (done.returncode, done.stderr) == (0, "")
    head = int(stack.rpc("eth_blockNumber"), 16)
    assert done.stdout.splitlines()[-1].startswith(f"60 bookings up to block {head}, in ")
    assert following.rows() == before


def test_one_that_is_killed_anywhere_leaves_a_view_that_the_next_one_goes_on_with(
    following: Following,
) -> None:
    before = following.rows()
    end = following.projection.position()
    for target in random.Random(7).sample(range(10, end.number - 10), 2):
        with Proxy(following.settings.rpc_url, 7) as proxy:
            more = {"follow_blocks": 2, "rpc_url": proxy.url}
            proxy.hold(lambda call, last=target: first_block(call) > last)
            process = rebuild(following.settings.model_copy(update=more))
            until(lambda last=target: last <= following.projection.position().number < end.number)
            process.kill()
            process.ended()
        assert target <= following.projection.position().number < end.number
        following.catch_up()
        assert following.rows() == before


def first_block(call: dict[str, Any]) -> int:
    """From where on logs are asked for; 0 for any other call."""
    return int(call["params"][0].get("fromBlock", "0x0"), 16) if call["method"] == "eth_getLogs" else 0


def test_a_shim_that_runs_meanwhile_follows_on(stack: DevStack, following: Following) -> None:
    before = following.rows()
    stack.start_shim(database_url=following.settings.database_url, follow_seconds=0.01)
    done = rebuild(following.settings.model_copy(update={"follow_blocks": 3})).ended()
    assert done.returncode == 0
    assert following.rows() == before
    assert stack.client().get("/readyz").status_code == 200
    stack.stop_shim()


def test_without_a_node_nothing_is_dropped(following: Following) -> None:
    before = following.rows()
    done = rebuild(following.settings.model_copy(update={"rpc_url": "http://127.0.0.1:9"})).ended()
    said = "the node does not answer (NewConnectionError): does it run, at the address in CRENEAU_RPC_URL?"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, said)
    assert following.rows() == before
