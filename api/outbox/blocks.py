"""Blocks of the outbox, compared with the chain's."""

from collections.abc import Sequence

from api.chain.rpc import Head, Node, NodeBehind


def compare(node: Node, blocks: Sequence[tuple[int, str]], head: Head) -> tuple[set[str], set[str]]:
    """Return the hashes of those blocks that the chain has no more, and of those that it has.

    A block that the node does not have may be still to come: a receipt may be of a later block than the head.
    """
    if not blocks:
        return set(), set()
    numbers = [head.number, *(number for number, _ in blocks)]
    tip, *answers = node.call_many([("eth_getBlockByNumber", [hex(number), False]) for number in numbers])
    if not isinstance(tip, dict) or tip["hash"] != head.hash:
        raise NodeBehind("a node without the newest block")
    orphaned: set[str] = set()
    known: set[str] = set()
    for (_, hash_), answer in zip(blocks, answers, strict=True):
        if isinstance(answer, dict):
            (known if answer["hash"] == hash_ else orphaned).add(hash_)
    return orphaned, known
