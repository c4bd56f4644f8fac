"""Which process may sign with which relayer key: leases in the database, renewed by the relayer's loop.

A process signs new work with one key. It takes another one only when the lease has run out and transactions
of that key are under way, and gives it back when they are in blocks. Without a key a process waits for one.

No two clocks are compared. Whoever renews a lease counts that; to the others it has run out when the count
stands still for the term, by their own clocks. Should two take a key for theirs, the database lets one sign.
"""

import time
import uuid
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from api.db.store import Store
from api.db.tables import leases, transactions
from api.outbox.models import IN_FLIGHT


class LeaseLost(Exception):
    """Another process has this key now."""


class Leases:
    """This process's keys."""

    def __init__(self, store: Store, addresses: Sequence[str], seconds: float) -> None:
        self._store = store
        self._addresses = addresses
        self._term = seconds
        self._me = uuid.uuid4().hex
        self._seen: dict[str, tuple[int, float]] = {}  # Each lease's count, and since when.
        self._renew_after = 0.0
        self.held: list[str] = []  # The first is for new work.

    def renew(self) -> list[str]:
        """Prolongs the leases when it is time to, takes those that are to be taken; what is held then."""
        clock = time.monotonic()
        if self.held and clock < self._renew_after:
            return self.held
        self._register()
        with self._store.write() as db:
            rows = db.execute(_LOCKED).all()
            for row in rows:
                count, since = self._seen.get(row.address, (None, clock))
                self._seen[row.address] = row.renewals, since if row.renewals == count else clock
            mine = [row.address for row in rows if row.owner == self._me]
            free = [row.address for row in rows if row.owner == "" or self._ran_out(row.address, clock)]
            unsettled = transactions.c.state.in_(IN_FLIGHT) & transactions.c.signer.in_(mine + free)
            busy = set(db.scalars(select(transactions.c.signer).where(unsettled)))
            wanted = [address for address in self._addresses if address in {*mine, *free}]
            wanted.sort(key=lambda address: (address not in self.held[:1], address not in busy))
            held = [address for place, address in enumerate(wanted) if place == 0 or address in busy]
            _hand(db, set(mine) - set(held), "")
            _hand(db, held, self._me)
        self.held, self._renew_after = held, clock + self._term / 3
        return held

    def fence(self, db: Connection, address: str) -> None:
        """Lets one process at a time sign, and only one whose key it is, until the transaction ends."""
        if address not in {row.address for row in db.execute(_LOCKED) if row.owner == self._me}:
            self.held = []
            raise LeaseLost(address)

    def release(self) -> None:
        """Gives all keys back at once."""
        with self._store.write() as db:
            db.execute(update(leases).where(leases.c.owner == self._me).values(owner=""))
        self.held = []

    def _ran_out(self, address: str, clock: float) -> bool:
        return clock - self._seen[address][1] > self._term

    def _register(self) -> None:
        with self._store.read() as db:
            missing = set(self._addresses) - set(db.scalars(select(leases.c.address)))
        for address in missing:
            try:
                with self._store.write() as db:
                    db.execute(insert(leases).values(address=address, owner="", renewals=0))
            except IntegrityError:
                continue  # Another process was quicker.


def _hand(db: Connection, addresses: Collection[str], owner: str) -> None:
    if addresses:
        these = update(leases).where(leases.c.address.in_(addresses))
        db.execute(these.values(owner=owner, renewals=leases.c.renewals + 1))


_LOCKED = select(leases).order_by(leases.c.address).with_for_update()
