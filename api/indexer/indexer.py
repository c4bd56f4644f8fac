"""The follower: one thread that reads the contract's events, block by block, into the view.

What is final is asked for in ranges of blocks, as long as the node can answer. Blocks that may still be
reorganised are asked for one by one: each must name the one before as its parent, and its events are those of
its hash, so that no answer can mix two chains. When the newest block that was read is no longer the chain's,
the view goes back to the newest one that still is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from api.chain.escrow import Chain, final_block
from api.chain.rpc import MOST_CALLS, Call, NodeUnavailable, RpcError
from api.indexer.projection import Block, IndexedEvent, Projection
from api.settings import Settings
from api.worker import Worker
from creneau.events import ESCROW_TOPICS, decode_log
from creneau.types import to_hex

log = structlog.get_logger()

_FIRST_BLOCKS = 64  # Are asked for at once; then more and more, or fewer.
_MANY_EVENTS = 500  # With more in a range it gets shorter: for the memory, and for others who want to write.

Head = Mapping[str, Any]
"""A block's header, as the node gives it."""


class Indexer(Worker):
    """Keeps the view at the chain's head."""

    def __init__(
        self,
        view: Projection,
        chain: Chain,
        settings: Settings,
        caught_up: Callable[[Head], None] = lambda _: None,
    ) -> None:
        """`caught_up` is told of the head each time that the view is found there."""
        super().__init__("indexer", settings.follow_seconds)
        self._view = view
        self._chain = chain
        self._node = chain.node
        self._settings = settings
        self._caught_up = caught_up
        self.head = 0  # The number of the newest block that was seen.
        self._span = min(_FIRST_BLOCKS, settings.follow_blocks)
        self._shorter = ""  # The head of the chain when it was last seen to be shorter than the view.

    def run_once(self) -> float:
        """A step; how long to pause then."""
        return 0 if self.tick() else self._settings.follow_seconds

    def tick(self) -> bool:
        """Reads the next blocks, or takes some back. Whether to look again at once."""
        at = self._view.position()
        head = self._node.call("eth_getBlockByNumber", "latest", False)
        if head is None:
            raise NodeUnavailable("no head")
        self.head = number = int(head["number"], 16)
        shorter, self._shorter = self._shorter, ""
        if head["hash"] == at.hash:
            self._caught_up(head)
            return False
        if number <= at.number:
            return bool(at.hash) and self._shorten(at, Block(number, head["hash"]), shorter)
        final = final_block(self._node, self._settings, head)
        if at.number < final:
            self._read_range(at, final)
        else:
            self._read_blocks(at, number, final)
        return True

    # --- Forward ---

    def _read_range(self, at: Block, final: int) -> None:
        """The next blocks of those that are final."""
        last = min(at.number + self._span, final)
        span, self._span = self._span, max(self._span // 2, 1)  # If it fails.
        logs, tip, base = self._node.call_many(
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
        _require([tip, base])
        if at.hash and base["hash"] != at.hash:
            self._reorganised(at, self._view.kept())
            return
        numbers = sorted({entry["blockNumber"] for entry in logs}, key=lambda number: int(number, 16))
        headers = self._node.call_many([_header(int(number, 16)) for number in numbers])
        _require(headers)
        self._view.advance(at, [_block(tip)], self._entries(headers, logs), final)
        self._span = (
            max(span // 2, 1)
            if len(logs) > _MANY_EVENTS
            else min(span + span // 8 + 1, self._settings.follow_blocks)
        )

    def _read_blocks(self, at: Block, head: int, final: int) -> None:
        """The next blocks of those that are not."""
        numbers = range(at.number + 1, min(head, at.number + MOST_CALLS) + 1)
        headers = self._node.call_many([_header(number) for number in numbers])
        _require(headers)
        if at.hash and headers[0]["parentHash"] != at.hash:
            self._reorganised(at, self._view.kept())
            return
        parents = [header["hash"] for header in headers[:-1]]
        if parents != [header["parentHash"] for header in headers[1:]]:
            raise NodeUnavailable("a reorganisation under way")
        logs = self._node.call_many([self._logs(blockHash=header["hash"]) for header in headers])
        _require(logs)
        entries = self._entries(headers, [entry for block in logs for entry in block])
        self._view.advance(at, [_block(header) for header in headers], entries, final)

    def _entries(self, headers: Sequence[Head], logs: Sequence[Mapping[str, Any]]) -> list[IndexedEvent]:
        """The logs as events, in the chain's order."""
        times = {header["hash"]: int(header["timestamp"], 16) for header in headers}
        entries: list[IndexedEvent] = []
        for entry in logs:
            if entry["blockHash"] not in times:
                raise NodeUnavailable("events of another block")
            event = decode_log(entry, self._chain.escrow)
            if event is not None:
                number, index = int(entry["blockNumber"], 16), int(entry["logIndex"], 16)
                timestamp = times[entry["blockHash"]]
                entries.append(IndexedEvent(event, number, index, timestamp, entry["transactionHash"]))
        return sorted(entries, key=lambda entry: (entry.block_number, entry.log_index))

    def _logs(self, **blocks: str) -> Call:
        topics = [[to_hex(topic) for topic in ESCROW_TOPICS]]
        return "eth_getLogs", [{"address": self._chain.escrow, "topics": topics, **blocks}]

    # --- Back ---

    def _shorten(self, at: Block, head: Block, seen: str) -> bool:
        """The chain ends before the view does. A node that is behind is waited for, once."""
        kept = [block for block in self._view.kept() if block.number <= head.number]
        if not kept:
            log.warning("the node is behind what is final", head=head.number, view=at.number)
            return False
        if kept[0] == head and seen != head.hash:
            self._shorter = head.hash
            return False
        self._reorganised(at, kept)
        return True

    def _reorganised(self, at: Block, kept: Sequence[Block]) -> None:
        """Goes back to the newest of these blocks that the chain still has."""
        headers = self._node.call_many([_header(block.number) for block in kept])
        _require(headers)
        for block, header in zip(kept, headers, strict=True):
            if header["hash"] == block.hash:
                log.warning("blocks were reorganised away", blocks=at.number - block.number, to=block.number)
                self._view.roll_back(at, block)
                return
        log.error("a reorganisation beyond finality: the view is read again from the deployment on")
        self._view.clear(at)


def _header(number: int) -> Call:
    return "eth_getBlockByNumber", [hex(number), False]


def _block(header: Head) -> Block:
    return Block(int(header["number"], 16), header["hash"])


def _require(answers: Sequence[Any]) -> None:
    """Raises unless the node has answered all of it: it may be behind what it said itself."""
    if any(answer is None or isinstance(answer, RpcError) for answer in answers):
        raise NodeUnavailable("a node behind its own head")
