"""Leases of the relayer's keys: each process signs with a key of its own, and renews its lease of it.

A process signs new work with one key. It takes another one only when that key's lease has run out and
transactions of the key are in flight, and gives it back when they are in blocks. Without a key it waits.

No two clocks are compared. Each renewal is counted; to the other processes a lease has run out when the
count stands still for the term, by their own clocks. Should two take a key, the database lets one sign.
"""

import time
import uuid
from collections.abc import Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from api.db import repository
from api.db.store import Store


class LeaseLost(Exception):
    """Another process has this key now."""


class Leases:
    """The leases of one process."""

    def __init__(self, store: Store, addresses: Sequence[str], seconds: float) -> None:
        self._store = store
        self._addresses = addresses
        self._term = seconds
        self._me = uuid.uuid4().hex
        self._seen: dict[str, tuple[int, float]] = {}  # Each lease's count, and since when.
        self._renew_after = 0.0
        self.held: list[str] = []  # The first is for new work.

    def renew(self) -> list[str]:
        """Renew the leases if it is time to, and take those that are due. Return the keys held then."""
        clock = time.monotonic()
        if self.held and clock < self._renew_after:
            return self.held
        self._register()
        with self._store.write() as db:
            leases = repository.lock_leases(db)
            for lease in leases:
                count, since = self._seen.get(lease.address, (None, clock))
                self._seen[lease.address] = lease.renewals, since if lease.renewals == count else clock
            mine = [lease.address for lease in leases if lease.owner == self._me]
            free = [
                lease.address for lease in leases if not lease.owner or self._ran_out(lease.address, clock)
            ]
            busy = repository.signers_in_flight(db, mine + free)
            candidates = [address for address in self._addresses if address in {*mine, *free}]
            candidates.sort(key=lambda address: (address not in self.held[:1], address not in busy))
            held = [address for place, address in enumerate(candidates) if place == 0 or address in busy]
            repository.hand_leases(db, set(mine) - set(held), "")
            repository.hand_leases(db, held, self._me)
        self.held, self._renew_after = held, clock + self._term / 3
        return held

    def fence(self, db: Connection, address: str) -> None:
        """Let one process at a time sign, and only the key's holder, until the transaction ends.

        Raises `LeaseLost`.
        """
        leases = repository.lock_leases(db)
        if address not in {lease.address for lease in leases if lease.owner == self._me}:
            self.held = []
            raise LeaseLost(address)

    def release(self) -> None:
        """Give all keys back at once."""
        with self._store.write() as db:
            repository.release_leases(db, self._me)
        self.held = []

    def _ran_out(self, address: str, clock: float) -> bool:
        return clock - self._seen[address][1] > self._term

    def _register(self) -> None:
        with self._store.read() as db:
            missing = set(self._addresses) - repository.leased_addresses(db)
        for address in missing:
            try:
                with self._store.write() as db:
                    repository.add_lease(db, address)
            except IntegrityError:
                continue  # Another process was quicker.
