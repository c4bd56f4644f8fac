"""The view of the chain, before which no new order is made: the database may be an older copy.

What such a copy does not know of a request is on the chain, or on its way there with a nonce that the copy
does not know either. So a process that has just started first lets the indexer reach the head, then waits
until no transaction of the relayer's is pending that is not in the table, and lets it reach the head again.
A node of a pool may have shown an older head: what has taken a lesson is told when that block was read.

Whichever process takes blocks back, or reads all of the chain anew, the view is behind the head that this
process found it at, and complete again when it is there or at the end of a shorter chain.
"""

from collections.abc import Sequence

from api.booking.queries import wait_until
from api.chain.escrow import Chain
from api.chain.rpc import Head, NodeUnavailable, RpcError
from api.db import index, repository
from api.db.store import Store
from api.indexer.indexer import Indexer

_PATIENCE_SECONDS = 5.0


class View:
    """Says whether all that was ever sent is known."""

    def __init__(self, store: Store, chain: Chain, addresses: Sequence[str], indexer: Indexer) -> None:
        """`addresses` are those that send, in this process or in another one."""
        self._store = store
        self._chain = chain
        self._addresses = addresses
        self._indexer = indexer
        self._from: int | None = None  # Up to this block nothing is on its way that the table lacks.

    def is_complete(self) -> bool:
        """Return True if all is known. Raises `NodeUnavailable`."""
        was_complete, reached = self._was_complete(), self._indexer.reached
        return was_complete and self._position() >= reached

    def require_complete(self) -> int:
        """Return a block up to which all is known: a view that ends before it is being read anew.

        Blocks that were reorganised away are waited for. Raises `NodeUnavailable` if not all is known: the
        same request may have been sent before.
        """
        was_complete, reached = self._was_complete(), self._indexer.reached
        if not (was_complete and wait_until(lambda: self._position() >= reached, _PATIENCE_SECONDS)):
            raise NodeUnavailable("not all is read of the chain yet")
        return reached

    def _was_complete(self) -> bool:
        """Return True if this process found the view complete."""
        if self._from is None and self._indexer.reached >= 0:
            self._from = self._needed()
        return self._from is not None and self._indexer.reached >= self._from

    def _position(self) -> int:
        with self._store.read() as db:
            return index.position(db)[2].number

    def require(self, block: Head) -> None:
        """Wait until the projection has this block. Raises `NodeUnavailable` if it does not come to that."""

        def is_read() -> bool:
            with self._store.read() as db:
                return index.has_block(db, block.number, block.hash)

        if not is_read():
            self._indexer.wake()
            if not wait_until(is_read, _PATIENCE_SECONDS):
                raise NodeUnavailable(f"the block {block.number} is not read yet")

    def _needed(self) -> int | None:
        """Return the block up to which the chain has to be read; None while more is on its way."""
        answers = self._chain.node.call_many(
            [
                ("eth_getTransactionCount", [address, tag])
                for address in self._addresses
                for tag in ("latest", "pending")
            ]
        )
        if any(isinstance(answer, RpcError) for answer in answers):
            raise NodeUnavailable("no count of transactions")
        counts = [int(answer, 16) for answer in answers]
        needed = 0
        with self._store.read() as db:
            for address, mined, pending in zip(self._addresses, counts[::2], counts[1::2], strict=True):
                highest = repository.highest_nonce(db, self._chain.domain.chain_id, address)
                known = 0 if highest is None else highest + 1
                if pending > max(mined, known):
                    return None
                if mined > known:
                    needed = self._chain.head().number
        return needed
