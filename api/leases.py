"""Which process may sign with which relayer key: leases in the database, renewed by the relayer's loop.

A process signs new work with one key. It takes another one only when the lease has run out and transactions
of that key are under way, and gives it back when they are in blocks. Without a key a process waits for one.
"""

import uuid
from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from api.store import UNDER_WAY, Store, now, relayers, sends


class LeaseLost(Exception):
    """Another process has this key now."""


class Leases:
    """This process's keys."""

    def __init__(self, store: Store, addresses: Sequence[str], seconds: float) -> None:
        self._store = store
        self._addresses = addresses
        self._term = int(seconds * 1_000_000)
        self._me = uuid.uuid4().hex
        self._renewed = 0
        self.held: list[str] = []  # The first is for new work.

    def renew(self) -> list[str]:
        """Prolongs the leases when it is time to, takes those that are to be taken; what is held then."""
        moment = now()
        if self.held and abs(moment - self._renewed) < self._term // 3:
            return self.held
        self._register()
        with self._store.write() as db:
            rows = db.execute(_LOCKED).all()
            mine = [row.address for row in rows if row.owner == self._me]
            free = [row.address for row in rows if row.expires_at < moment and row.owner != self._me]
            busy = set(
                db.scalars(
                    select(sends.c.signer).where(
                        sends.c.state.in_(UNDER_WAY), sends.c.signer.in_(mine + free)
                    )
                )
            )
            wanted = [address for address in self._addresses if address in {*mine, *free}]
            wanted.sort(key=lambda address: (address not in self.held[:1], address not in busy))
            held = [address for place, address in enumerate(wanted) if place == 0 or address in busy]
            self._set(db, set(mine) - set(held), "", 0)
            self._set(db, set(held), self._me, moment + self._term)
        self.held, self._renewed = held, moment
        return held

    def fence(self, db: Connection, address: str) -> None:
        """Lets one process at a time sign, and only one whose key it is, until the transaction ends."""
        if address not in {row.address for row in db.execute(_LOCKED) if row.owner == self._me}:
            self.held = []
            raise LeaseLost(address)

    def release(self) -> None:
        """Gives all keys back at once."""
        with self._store.write() as db:
            mine = update(relayers).where(relayers.c.owner == self._me)
            db.execute(mine.values(owner="", expires_at=0))
        self.held = []

    def _register(self) -> None:
        with self._store.read() as db:
            missing = set(self._addresses) - set(db.scalars(select(relayers.c.address)))
        for address in missing:
            try:
                with self._store.write() as db:
                    db.execute(insert(relayers).values(address=address, owner="", expires_at=0))
            except IntegrityError:
                continue  # Another process was quicker.

    @staticmethod
    def _set(db: Connection, addresses: set[str], owner: str, expires_at: int) -> None:
        if addresses:
            these = update(relayers).where(relayers.c.address.in_(addresses))
            db.execute(these.values(owner=owner, expires_at=expires_at))


_LOCKED = select(relayers).order_by(relayers.c.address).with_for_update()
