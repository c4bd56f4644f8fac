"""Blocks of the outbox, compared with the chain's."""

import time
from collections.abc import Sequence

from api.chain.rpc import Head, Node, NodeBehind

_BEYOND_SECONDS = 10.0  # A block that is later than the head for so long is of a chain that was longer.


class Blocks:
    """Compares blocks; remembers those that no node has yet, or any more."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.beyond: dict[str, float] = {}
        """The hashes of blocks that are later than the head, and since when, by the monotonic clock."""

    def compare(self, blocks: Sequence[tuple[int, str]], head: Head) -> tuple[set[str], set[str]]:
        """Return the hashes of those blocks that the chain has no more, and of those that it has.

        A block that the node does not have may be still to come: receipts may be of later ones than the head.
        Raises `NodeBehind` if the node does not have the head.
        """
        if not blocks:
            self.beyond = {}
            return set(), set()
        numbers = [head.number, *(number for number, _ in blocks)]
        tip, *answers = self._node.call_many(
            [("eth_getBlockByNumber", [hex(number), False]) for number in numbers]
        )
        if not isinstance(tip, dict) or tip["hash"] != head.hash:
            raise NodeBehind("a node without the newest block")
        clock = time.monotonic()
        pairs = [*zip(blocks, answers, strict=True)]
        found = [(hash_, answer["hash"]) for (_, hash_), answer in pairs if isinstance(answer, dict)]
        self.beyond = {
            hash_: self.beyond.get(hash_, clock)
            for (number, hash_), answer in pairs
            if answer is None and number > head.number
        }
        orphaned = {hash_ for hash_, actual in found if actual != hash_}
        orphaned |= {hash_ for hash_, since in self.beyond.items() if clock - since >= _BEYOND_SECONDS}
        return orphaned, {hash_ for hash_, actual in found if actual == hash_}
