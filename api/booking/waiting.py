"""Requests that wait for the block of what they asked for, while threads and other processes work on it."""

import asyncio
import functools
from collections.abc import Callable, Collection
from typing import TypeVar
from weakref import WeakValueDictionary

import anyio.to_thread

from api.db import repository
from api.db.store import Store
from api.outbox.models import IN_FLIGHT, State, Submission

_LOOK_SECONDS = 2.0  # How soon a submission is noticed that another process settled.
_THREADS = 32
_AWAITED = (State.ACCEPTED, *IN_FLIGHT)

_Result = TypeVar("_Result")


class Waiting:
    """Wakes requests when the sender has settled their submissions."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        self._draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._limiter: anyio.CapacityLimiter | None = None

    async def in_thread(self, work: Callable[..., _Result], *args: object) -> _Result:
        """Run work that waits for the database or the node."""
        if self._limiter is None:
            self._loop = asyncio.get_running_loop()
            self._limiter = anyio.CapacityLimiter(_THREADS)
        return await anyio.to_thread.run_sync(functools.partial(work, *args), limiter=self._limiter)

    async def wait(self, submission_id: str, seconds: float) -> Submission:
        """Return the submission once it is settled, or as it is after so many seconds.

        One that did nothing in its block is not waited for: it takes until that block is final.
        """
        until = asyncio.get_running_loop().time() + seconds
        event = self._events.setdefault(submission_id, asyncio.Event())
        while True:
            submission = await self.in_thread(self._find, submission_id)
            left = until - asyncio.get_running_loop().time()
            if submission.state not in _AWAITED or left <= 0 or self._draining:
                return submission
            try:
                await asyncio.wait_for(event.wait(), min(left, _LOOK_SECONDS))
            except TimeoutError:
                continue

    def _find(self, submission_id: str) -> Submission:
        with self._store.read() as db:
            [submission] = repository.submissions(db, [submission_id])
        return submission

    def settled(self, submission_ids: Collection[str]) -> None:
        """Wake the requests that wait for these submissions. The sender calls this from its thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._set, submission_ids)

    def drain(self) -> None:
        """Answer all that wait, and let no request wait any more: another process goes on with the work."""
        self._draining = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._set, list(self._events))

    def _set(self, submission_ids: Collection[str]) -> None:
        for submission_id in submission_ids:
            if event := self._events.get(submission_id):
                event.set()
