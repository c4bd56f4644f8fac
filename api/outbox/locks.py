"""Locks of submissions: named sets of bits, such as the quarters of an hour of a tutor's calendar.

Two submissions that need the same bit are never in flight at once. So a race is decided before gas is spent.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from api.db import repository
from api.outbox.models import Submission


def calendar_locks(tutor: str, order_slots: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Return the locks on a tutor's time: a bit for each quarter, by the words of the contract's calendar.

    Slots are unix starts in seconds, and minutes.
    """
    words: dict[str, int] = {}
    for start, minutes in order_slots:
        for quarter in range(start // 900, start // 900 + minutes // 15):
            word = f"{tutor}/{quarter // 256}"
            words[word] = words.get(word, 0) | 1 << quarter % 256
    return words


def conflicts(locks: Mapping[str, int], held: Mapping[str, int]) -> bool:
    """Return True if one of these locks is held."""
    return any(bits & held.get(name, 0) for name, bits in locks.items())


def acquire(locks: Mapping[str, int], held: dict[str, int]) -> None:
    """Add these locks to those that are held."""
    for name, bits in locks.items():
        held[name] = held.get(name, 0) | bits


def waits_for_others(db: Connection, submission: Submission) -> bool:
    """Return True if what may have to come before is not at its end.

    That is the creation of the batch that an action is about, and whatever was accepted earlier and needs
    the same bits: a reorganisation may have taken them back.
    """
    return any(
        each.id in submission.locks
        or (each.created_at < submission.created_at and conflicts(each.locks, submission.locks))
        for each in repository.unsettled(db)
        if each.id != submission.id
    )


def held_locks(db: Connection) -> dict[str, int]:
    """Return the locks of all submissions in flight."""
    held: dict[str, int] = {}
    for locks in repository.locks_in_flight(db):
        acquire(locks, held)
    return held
