"""Webhooks: messages to other services about batches and acts, as https://www.standardwebhooks.com has them.

A message is stored for each endpoint in the transaction that changes the state: none is lost, and
none tells of a change that did not happen. Each endpoint has a thread of its own, so a slow one delays no
other. A delivery is claimed by putting off the next attempt, and the message is removed when the endpoint has
taken it: a process that is killed between leaves a message that is sent again, with the same id. A batch's
messages arrive in order.
"""

import asyncio
import json
import random
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks import Webhook

from api import metrics
from api.booking.models import Batch, frontend_id
from api.db import messages, repository
from api.db.messages import Message
from api.db.store import Store
from api.outbox.models import InFlight, State, Submission, TransactionKind
from api.settings import Settings
from creneau.order import MAX_SLOTS

log = structlog.get_logger()

_AT_ONCE = 8
_IDLE_SECONDS = 0.5
_LONGEST_PAUSE = 6 * 60 * 60
_GONE = 410

_EVENTS = {
    State.SUBMITTED: "submitted",
    State.MINED: "mined",
    State.FINAL: "final",
    State.REJECTED: "failed",
    State.EXPIRED: "failed",
}

EVENTS = {*_EVENTS.values(), "reorged"}
"""The changes that are told, as `batch.mined` or `act.mined`."""


class Webhooks:
    """The outbox of messages, and the threads that empty it."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._endpoints = [_Endpoint(store, settings, url) for url in settings.webhook_endpoints]

    def record(self, db: Connection, before: Submission | InFlight, state: State) -> None:
        """Store the messages about a submission that is in this state now, and was as `before`."""
        if not self._endpoints or not (events := _events(before.state, state)):
            return
        sent = repository.submission(db, before.id)
        if sent is None or (batch_id := sent.batch_id) is None:
            return  # A publication, say: everybody can see it.
        creates = sent.kind == TransactionKind.CREATE
        about, data = (
            ("batch", _of_batch(repository.batch(db, sent.id)))
            if creates
            else ("act", _of_act(sent, batch_id))
        )
        for event in (f"{about}.{name}" for name in events):
            body = {
                "type": event,
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "data": data,
            }
            messages.add(
                db,
                [endpoint.url for endpoint in self._endpoints],
                message_id=f"msg_{uuid.uuid4().hex}",
                batch_id=batch_id,
                event=event,
                body=json.dumps(body),
            )

    def start(self) -> None:
        """Start to deliver."""
        for endpoint in self._endpoints:
            endpoint.start()

    def stop(self) -> None:
        """End after the deliveries under way."""
        for endpoint in self._endpoints:
            endpoint.stopping.set()
        for endpoint in self._endpoints:
            if endpoint.is_alive():
                endpoint.join()


class _Endpoint(threading.Thread):
    """The deliveries to one URL."""

    def __init__(self, store: Store, settings: Settings, url: str) -> None:
        super().__init__(name="webhooks", daemon=True)
        self.url = url
        self.stopping = threading.Event()
        self._host = httpx.URL(url).host  # For the log: the rest of a URL may be a secret.
        self._store = store
        self._settings = settings
        self._keys = [Webhook(secret) for secret in settings.webhook_secrets]
        self._lease = int(4 * settings.webhook_timeout_seconds * 1_000_000)

    def run(self) -> None:
        """Deliver until the thread is to stop."""
        # Only a loop of events can leave an answer in the middle of a line.
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=None) as self._client:  # noqa: S113  # an attempt has a deadline
            while not self.stopping.is_set():
                claimed: list[Message] = []
                try:
                    claimed = messages.claim(self._store, self.url, _AT_ONCE, self._lease)
                    await asyncio.gather(*map(self._deliver, claimed))
                except SQLAlchemyError as error:
                    log.warning("the database does not answer", reason=type(error).__name__)
                    claimed = []
                if not claimed:
                    self.stopping.wait(_IDLE_SECONDS)

    async def _deliver(self, message: Message) -> None:
        moment = datetime.now(UTC)
        signatures = [key.sign(message.message_id, moment, message.body) for key in self._keys]
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message.message_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        try:
            status = await self._post(message.body, headers)
            answer = str(status)
        except (httpx.HTTPError, TimeoutError) as error:
            status, answer = 0, type(error).__name__
        attempt, delivered = message.attempts + 1, 200 <= status < 300
        dead = not delivered and (status == _GONE or attempt >= self._settings.webhook_attempts)
        # The attempts of many messages shall not come at once.
        pause = min(self._settings.webhook_retry_seconds * 4 ** (attempt - 1), _LONGEST_PAUSE)
        pause *= random.uniform(0.8, 1.2)  # noqa: S311  # not for secrets
        with self._store.write() as db:
            if delivered:
                messages.remove(db, message)
            else:
                messages.put_off(db, message, int(pause * 1_000_000), dead=dead)
        outcome = "delivered" if delivered else "dead" if dead else "failed"
        metrics.WEBHOOKS.labels(outcome).inc()
        ids = {"batch_id": message.batch_id, "type": message.event, "message_id": message.message_id}
        line = log.bind(**ids, host=self._host)
        (line.info if delivered else line.warning)(f"webhook {outcome}", attempt=attempt, answer=answer)

    async def _post(self, body: str, headers: dict[str, str]) -> int:
        """Return the status of the answer, of which nothing else is read."""
        deadline = asyncio.timeout(self._settings.webhook_timeout_seconds)
        sending = self._client.stream("POST", self.url, content=body, headers=headers)
        async with deadline, sending as answer:
            return answer.status_code


def _events(before: State, after: State) -> list[str]:
    """Return the events of a change of state, in order."""
    if before in {State.MINED, State.FINAL} and after in {State.SUBMITTED, State.ACCEPTED}:
        return ["reorged"]
    if before == State.REVERTING and after is State.SUBMITTED:
        return []  # Nothing was told of its block.
    if before == State.SIGNED and after is State.MINED:  # Its block came before the node's answer was stored.
        return ["submitted", "mined"]
    return [_EVENTS[after]] if after in _EVENTS else []


def _of_act(act: Submission, batch_id: str) -> dict[str, Any]:
    """Return ids, state and transaction of an act."""
    lessons = act.locks[batch_id]
    return {
        "actId": act.id,
        "batchId": batch_id,
        "bookingIds": [frontend_id(batch_id, place) for place in range(MAX_SLOTS) if lessons >> place & 1],
        "state": act.state,
        "transactionHash": act.transaction_hash,
        "blockNumber": act.block_number,
        "code": act.code,
    }


def _of_batch(batch: Batch | None) -> dict[str, Any]:
    """Return ids, state and totals: what is private stays where a token is needed to read it."""
    if batch is None:
        raise LookupError("a batch without a row")
    places = batch.places
    return {
        "batchId": batch.id,
        "state": batch.state,
        "studentId": batch.student_id,
        "tutorId": batch.tutor_id,
        "annonceId": batch.annonce_id,
        "bookingIds": [batch.booking_id(place) for place in places],
        "count": len(places),
        "totalAmountWei": str(batch.total),
        "transactionHash": batch.transaction_hash,
        "blockNumber": batch.block_number,
        "code": batch.code,
    }
