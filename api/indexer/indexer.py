"""The indexer: a worker that reads the contract's events, block by block, into the projection.

Finalized blocks are asked for in ranges, as long as the node can answer. Blocks that may still be
reorganised are asked for one by one: each must name the one before as its parent, and its events are those of
its hash, so that no answer can mix two chains. When the newest block that was read is no longer the chain's,
the projection goes back to the newest one that still is.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from api.chain.escrow import Chain, final_block
from api.chain.rpc import MOST_CALLS, Call, Head, NodeBehind, NodeUnavailable, RpcError
from api.indexer.models import Block
from api.indexer.projection import IndexedEvent, Projection
from api.settings import Settings
from api.worker import Worker
from creneau.events import ESCROW_TOPICS, TRANSFER, decode_log
from creneau.types import to_hex

log = structlog.get_logger()

_LEAST_SECONDS = 0.1  # From the head to the next look: under load many blocks share one.
_FIRST_BLOCKS = 64  # Asked for at once in the beginning; then more and more, or fewer.
_MANY_EVENTS = 500  # With more in a range it gets shorter: for the memory, and for others who want to write.


class Indexer(Worker):
    """Keeps the projection at the chain's head."""

    def __init__(
        self,
        projection: Projection,
        chain: Chain,
        settings: Settings,
        caught_up: Callable[[Head], None] = lambda _: None,
    ) -> None:
        """`caught_up` is called with the head each time that the projection is found there."""
        super().__init__("indexer", settings.follow_seconds)
        self._projection = projection
        self._chain = chain
        self._node = chain.node
        self._settings = settings
        self._caught_up = caught_up
        self.head = 0  # The number of the newest block that was seen.
        self.reached = -1
        """The newest block at which the projection was found complete; -1: none since the start."""
        self._span = min(_FIRST_BLOCKS, settings.follow_blocks)
        self._shorter = ""  # The chain's head when it was last seen to be shorter than the projection.
        self._woken = False
        self._reached_at = 0.0  # When the head was reached last, by the monotonic clock.

    def wake(self) -> None:
        """End the sleep: a block has something, and may be newer than the head that was seen last."""
        self._woken = True
        super().wake()

    def run_once(self) -> float:
        """Run one pass. Return the seconds to sleep before the next."""
        time.sleep(max(self._reached_at + _LEAST_SECONDS - time.monotonic(), 0))
        if self.tick():
            return 0
        self._reached_at = time.monotonic()
        return self._settings.follow_seconds

    def tick(self) -> bool:
        """Read the next blocks, or take some back. Return True if there may be more to do at once."""
        at = self._projection.position()
        woken, self._woken = self._woken, False
        head = self._chain.head(within=0 if woken else 0.9 * self._settings.follow_seconds)
        self.head = head.number
        shorter, self._shorter = self._shorter, ""
        if head.hash == at.hash:
            self.reached = head.number
            self._caught_up(head)
            return False
        if head.number <= at.number:
            return bool(at.hash) and self._shorten(at, _block(head), shorter)
        finalized = final_block(self._node, self._settings, head)
        if at.number < finalized:
            self._read_range(at, finalized)
        else:
            self._read_blocks(at, head.number, finalized)
        return True

    # --- Forward ---

    def _read_range(self, at: Block, finalized: int) -> None:
        """Read the next finalized blocks."""
        last = min(at.number + self._span, finalized)
        span, self._span = self._span, max(self._span // 2, 1)  # If it fails.
        logs, *ends = self._node.call_many(
            [
                self._logs(fromBlock=hex(at.number + 1), toBlock=hex(last)),
                _header(last),
                _header(max(at.number, 0)),
            ]
        )
        if isinstance(logs, RpcError):
            if span > 1:
                log.info("the node does not tell of so many blocks at once", blocks=span, reason=logs.message)
                return
            raise logs
        tip, base = _heads(ends)
        if at.hash and base.hash != at.hash:
            self._reorganised(at, self._projection.kept())
            return
        numbers = sorted({int(each["blockNumber"], 16) for each in logs})
        heads = _heads(self._node.call_many([_header(number) for number in numbers]))
        self._projection.advance(at, [_block(tip)], self._events(heads, logs), finalized)
        self._span = (
            max(span // 2, 1)
            if len(logs) > _MANY_EVENTS
            else min(span + span // 8 + 1, self._settings.follow_blocks)
        )

    def _read_blocks(self, at: Block, newest: int, finalized: int) -> None:
        """Read the next blocks that are not finalized."""
        numbers = range(at.number + 1, min(newest, at.number + MOST_CALLS) + 1)
        heads = _heads(self._node.call_many([_header(number) for number in numbers]))
        if at.hash and heads[0].parent_hash != at.hash:
            self._reorganised(at, self._projection.kept())
            return
        if [head.hash for head in heads[:-1]] != [head.parent_hash for head in heads[1:]]:
            raise NodeUnavailable("a reorganisation under way")
        logs = self._node.call_many([self._logs(blockHash=head.hash) for head in heads])
        _require(logs)
        events = self._events(heads, [each for block in logs for each in block])
        self._projection.advance(at, [_block(head) for head in heads], events, finalized)

    def _events(self, heads: Sequence[Head], logs: Sequence[Mapping[str, Any]]) -> list[IndexedEvent]:
        """Return the logs as events, in the chain's order."""
        times = {head.hash: head.timestamp for head in heads}
        events: list[IndexedEvent] = []
        for each in logs:
            if each["blockHash"] not in times:
                raise NodeUnavailable("events of another block")
            event = decode_log(each, self._chain.escrow)
            if event is not None:
                number, index = int(each["blockNumber"], 16), int(each["logIndex"], 16)
                timestamp = times[each["blockHash"]]
                events.append(IndexedEvent(event, number, index, timestamp, each["transactionHash"]))
        return sorted(events, key=lambda event: (event.block_number, event.log_index))

    def _logs(self, **blocks: str) -> Call:
        topics = [[to_hex(topic) for topic in (*ESCROW_TOPICS, TRANSFER)]]
        contracts = [self._chain.escrow, self._chain.token]
        return "eth_getLogs", [{"address": contracts, "topics": topics, **blocks}]

    # --- Back ---

    def _shorten(self, at: Block, head: Block, seen: str) -> bool:
        """Go back to the end of a chain that is shorter than the projection.

        A node that is behind is waited for, once.
        """
        kept = [block for block in self._projection.kept() if block.number <= head.number]
        if not kept:
            log.warning("the node is behind what is final", head=head.number, view=at.number)
            return False
        if kept[0] == head and seen != head.hash:
            self._shorter = head.hash
            return False
        self._reorganised(at, kept)
        return True

    def _reorganised(self, at: Block, kept: Sequence[Block]) -> None:
        """Go back to the newest of these blocks that the chain still has."""
        heads = _heads(self._node.call_many([_header(block.number) for block in kept]))
        for block, head in zip(kept, heads, strict=True):
            if head.hash == block.hash:
                log.warning("blocks were reorganised away", blocks=at.number - block.number, to=block.number)
                self._projection.roll_back(at, block)
                return
        log.error("a reorganisation beyond finality: the view is read again from the deployment on")
        self._projection.clear(at)


def _header(number: int) -> Call:
    return "eth_getBlockByNumber", [hex(number), False]


def _block(head: Head) -> Block:
    return Block(head.number, head.hash)


def _heads(answers: Sequence[Any]) -> list[Head]:
    _require(answers)
    return [Head.from_rpc(answer) for answer in answers]


def _require(answers: Sequence[Any]) -> None:
    """Raise `NodeUnavailable` unless the node has all of it: it may be behind its own answers."""
    if any(answer is None or isinstance(answer, RpcError) for answer in answers):
        raise NodeBehind("a node behind its own head")
