"""Finality: the blocks of submissions, compared with the chain's, make some final and send others again."""

import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from sqlalchemy import Connection

from api.chain.escrow import Chain
from api.chain.rpc import Head, NodeBehind
from api.db import repository
from api.db.store import Store
from api.outbox.handlers import line
from api.outbox.models import IN_BLOCK, State, Submission

log = structlog.get_logger()

_NEWEST_FINAL = 16  # Final submissions whose blocks are compared: a slow process may call an old one final.
_MOST_FINAL = 1_000  # The same, once one of the blocks is gone.
_BEYOND_SECONDS = 10.0  # A block that is later than the head for so long is of a chain that was longer.


class Finality:
    """Looks after submissions that are in blocks; remembers blocks that no node has yet, or any more."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        seconds: float,
        moved: Callable[[Connection, Submission, State], None],
    ) -> None:
        """Take the `seconds` after which the newest final blocks are compared again.

        `moved` is called in the database transaction of each change of state.
        """
        self._store = store
        self._chain = chain
        self._node = chain.node
        self._seconds = seconds
        self._moved = moved
        self._compared = 0.0  # When the newest final blocks were, by the monotonic clock.
        self.beyond: dict[str, float] = {}
        """The hashes of blocks that are later than the head, and since when, by the monotonic clock."""

    # --- reverting, mined, final -> final, submitted, accepted ---

    def confirm(self, head: Head, finalized: int) -> bool:
        """Compare the blocks of submissions with the chain's. Return True if one of them was orphaned.

        Those up to the number `finalized` are final. Only a node that has the head is believed.
        """
        due = time.monotonic() - self._compared >= self._seconds
        with self._store.read() as db:
            blocks = repository.blocks(db, IN_BLOCK)
            newest = repository.final_blocks(db, _NEWEST_FINAL) if due else []
        orphaned, known = self._compare([*blocks, *newest], head)
        if due:
            self._compared = time.monotonic()
        if orphaned.intersection(hash_ for _, hash_ in newest):
            log.error("a reorganisation beyond finality: what was final is sent again", head=head.number)
            with self._store.read() as db:
                orphaned |= self._compare(repository.final_blocks(db, _MOST_FINAL), head)[0]
        final = {hash_ for number, hash_ in blocks if number <= finalized and hash_ in known}
        if not orphaned and not final:
            return False
        with self._store.write() as db:
            for each in repository.in_blocks(db, final, IN_BLOCK):
                if each.state is State.MINED and repository.advance(db, each.id, State.FINAL):
                    self._moved(db, each, State.FINAL)
                elif each.state is State.REVERTING and repository.unsign(db, each.id):
                    self._moved(db, each, State.ACCEPTED)
            self._orphan(db, repository.in_blocks(db, orphaned, (*IN_BLOCK, State.FINAL)))
        return bool(orphaned)

    def look_for_unused(self, mined: Mapping[str, int], head: Head) -> None:
        """Send again what is called final although the chain has not used its nonce up to the head."""
        chain_id, final = self._chain.domain.chain_id, []
        with self._store.read() as db:
            for signer, count in mined.items():
                final += repository.final_from(db, chain_id, signer, count, head.number)
        if final:
            log.error("what was final is in no block, and is sent again", head=head.number)
            with self._store.write() as db:
                self._orphan(db, final)

    def _orphan(self, db: Connection, submissions: Sequence[Submission]) -> None:
        for each in submissions:
            line(each).warning("the block was orphaned")
            # Without a nonce of its own, somebody else's transaction did the same.
            state = State.ACCEPTED if each.nonce is None else State.SUBMITTED
            if repository.unmine(db, each, state):
                self._moved(db, each, state)

    def _compare(self, blocks: Sequence[tuple[int, str]], head: Head) -> tuple[set[str], set[str]]:
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
