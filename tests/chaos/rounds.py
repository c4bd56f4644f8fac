"""A shim in this process that works only when a test says so, on a database and with keys of its own."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from scenario import Scenario, rows_of, slot
from sqlalchemy import select, update
from waiting import until

from api.chain.rpc import NodeBehind, NodeUnavailable, RpcError
from api.db.tables import attempts, transactions
from api.outbox.models import State, TransactionKind
from api.schemas.requests import CreateBatchBookingData
from api.services import Services
from creneau.lifecycle import Action
from tools.dev_stack import DevStack

_KEYS = itertools.count(200)  # Each shim's own.


class Rounds:
    """One process of the shim, a round at a time."""

    def __init__(self, stack: DevStack, settings: Mapping[str, Any]) -> None:
        self.stack = stack
        index = settings.get("relayer_mnemonic_index") or next(_KEYS)
        for each in str(index).split(","):
            stack.rpc("anvil_setBalance", stack.account(int(each)).address, hex(10**20))
        own: dict[str, Any] = {"relayer_mnemonic_index": index, "resend_seconds": 0.001}
        own |= {"lease_seconds": 600, "follow_seconds": 1e-6}
        self.shim = Services.build(stack.settings.model_copy(update=own | settings), stack.directory)

    def place(self, scenario: Scenario, *times: str, key: str | None = None) -> str:
        """Accepts a batch; its id."""
        self.read()
        request = CreateBatchBookingData.model_validate(scenario.body(*map(slot, times)))
        return self.shim.bookings.create(scenario.student.id, request, key, "test").batch_id

    def act(self, user: str, action: Action, batch_id: str) -> str:
        """Accepts an act on all lessons of a batch; its id."""
        self.read()
        acts = self.shim.actions
        made = acts.do(acts.of_batch(action, batch_id, None, user), user, None, None, "test")
        assert made is not None
        return made

    def round(self) -> None:
        """One look of the sender, and one of the indexer, as their threads do it."""
        for look in (self.shim.sender.tick, self.read):
            with suppress(NodeUnavailable, RpcError):
                look()

    def read(self) -> None:
        """Reads to the end of the chain, from whichever nodes of a pool have it."""
        more, tries = True, 100
        while more:
            try:
                more = self.shim.indexer.tick()
            except NodeBehind:
                tries -= 1
                more = tries > 0

    def row(self, submission_id: str) -> Any:
        [row] = rows_of(self.shim.store, [submission_id])
        return row

    def work(self, submission_id: str, *states: State, meanwhile: Callable[[], object] | None = None) -> Any:
        """Rounds until the submission is in one of these states; what happens meanwhile, after each."""

        def arrives() -> bool:
            self.round()
            if self.row(submission_id).state in states:
                return True
            if meanwhile is not None:
                meanwhile()
            return False

        until(arrives, f"{self.row(submission_id).state} is none of {states}")
        return self.row(submission_id)

    def attempts(self, submission_id: str) -> Sequence[Any]:
        """All that was ever signed for it, the oldest first."""
        query = select(attempts).where(attempts.c.transaction_id == submission_id)
        with self.shim.store.read() as db:
            return [*db.execute(query.order_by(attempts.c.created_at))]

    def fillers(self) -> list[str]:
        """The ids of the transfers that only use a nonce."""
        query = select(transactions.c.id).where(transactions.c.kind == TransactionKind.NOOP)
        with self.shim.store.read() as db:
            return [*db.scalars(query)]

    def change(self, submission_id: str, **values: Any) -> None:
        """Changes the row, as time would."""
        with self.shim.store.write() as db:
            db.execute(update(transactions).where(transactions.c.id == submission_id).values(values))

    def raw(self, submission_id: str) -> str:
        """The bytes of its newest attempt."""
        return "0x" + bytes(self.attempts(submission_id)[-1].raw).hex()

    def again(self) -> None:
        """Forgets when it sent what and saw what: it does not wait for the next time."""
        self.shim.sender._nonces.timings.clear()
        self.shim.sender._looked_at = ""
