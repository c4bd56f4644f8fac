"""Webhooks: what becomes of batches, told to other services as https://www.standardwebhooks.com has it.

A message is stored for each endpoint in the transaction that changes the batch's state: none is lost, and
none tells what did not happen. Each endpoint has a thread of its own, so a slow one delays nobody else. A
delivery is claimed by putting off the next attempt, and the row goes when the endpoint has taken it: who is
killed between leaves a message that is sent again, with the same id. A batch's messages arrive in order.
"""

import json
import random
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import structlog
from sqlalchemy import Connection, Row, delete, exists, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks import Webhook

from api import metrics
from api.booking.models import Batch
from api.db import repository
from api.db.store import Store
from api.db.tables import now, webhooks
from api.outbox.models import InFlight, State, Submission, TransactionKind
from api.settings import Settings

log = structlog.get_logger()

_AT_ONCE = 8
_IDLE_SECONDS = 0.5
_LONGEST_PAUSE = 6 * 60 * 60
_GONE = 410

_EVENTS = {
    State.SUBMITTED: "batch.submitted",
    State.MINED: "batch.mined",
    State.FINAL: "batch.final",
    State.FAILED: "batch.failed",
    State.REJECTED: "batch.failed",
    State.EXPIRED: "batch.failed",
}


class Webhooks:
    """The outbox of messages, and the threads that empty it."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._endpoints = [_Endpoint(store, settings, url) for url in settings.webhook_endpoints]

    def record(self, db: Connection, before: Submission | InFlight, state: State) -> None:
        """Store the messages about a submission that is in this state now, and was as `before`."""
        if before.kind != TransactionKind.CREATE or not self._endpoints:
            return
        for event in _events(before.state, state):
            message_id = f"msg_{uuid.uuid4().hex}"
            body = json.dumps(
                {
                    "type": event,
                    "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                    "data": _data(repository.batch(db, before.id)),
                }
            )
            message: dict[str, Any] = {
                "message_id": message_id,
                "batch_id": before.id,
                "event": event,
                "body": body,
            }
            rest = {"attempts": 0, "due_at": 0, "dead": False, "created_at": now()}
            urls = [{"endpoint": endpoint.url} for endpoint in self._endpoints]
            db.execute(insert(webhooks), [message | rest | url for url in urls])

    def start(self) -> None:
        """Starts to deliver."""
        for endpoint in self._endpoints:
            endpoint.start()

    def stop(self) -> None:
        """Ends when what is just being sent is answered."""
        for endpoint in self._endpoints:
            endpoint.stopping.set()
        for endpoint in self._endpoints:
            if endpoint.is_alive():
                endpoint.join()


class _Endpoint(threading.Thread):
    """Delivers to one URL."""

    def __init__(self, store: Store, settings: Settings, url: str) -> None:
        super().__init__(name="webhooks", daemon=True)
        self.url = url
        self.stopping = threading.Event()
        self._host = httpx.URL(url).host  # What is logged: the rest of a URL may be a secret.
        self._store = store
        self._settings = settings
        self._keys = [Webhook(secret) for secret in settings.webhook_secrets]
        self._lease = int(4 * settings.webhook_timeout_seconds * 1_000_000)

    def run(self) -> None:
        """The loop."""
        timeout = self._settings.webhook_timeout_seconds
        with httpx.Client(timeout=timeout) as self._client, ThreadPoolExecutor(_AT_ONCE) as pool:
            while not self.stopping.is_set():
                rows: Sequence[Row[Any]] = ()
                try:
                    rows = self._claim()
                    list(pool.map(self._deliver, rows))
                except SQLAlchemyError as error:
                    log.warning("the database does not answer", reason=type(error).__name__)
                    rows = ()
                if not rows:
                    self.stopping.wait(_IDLE_SECONDS)

    def _claim(self) -> Sequence[Row[Any]]:
        """What is due, and nobody else's for a while. Of each batch only the first that is not delivered."""
        earlier = webhooks.alias()
        before = (
            (earlier.c.batch_id == webhooks.c.batch_id)
            & (earlier.c.endpoint == self.url)
            & (earlier.c.id < webhooks.c.id)
            & earlier.c.dead.is_(False)
        )
        mine = (webhooks.c.endpoint == self.url) & webhooks.c.dead.is_(False) & (webhooks.c.due_at <= now())
        due = select(webhooks).where(mine, ~exists().where(before)).order_by(webhooks.c.id).limit(_AT_ONCE)
        with self._store.read() as db:
            if db.execute(due.limit(1)).first() is None:
                return ()
        with self._store.write() as db:
            rows = db.execute(due.with_for_update(skip_locked=True)).all()
            claimed = update(webhooks).where(webhooks.c.id.in_([row.id for row in rows]))
            db.execute(claimed.values(due_at=now() + self._lease, attempts=webhooks.c.attempts + 1))
        return rows

    def _deliver(self, row: Row[Any]) -> None:
        moment = datetime.now(UTC)
        signatures = [key.sign(row.message_id, moment, row.body) for key in self._keys]
        headers = {
            "Content-Type": "application/json",
            "webhook-id": row.message_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        try:
            status = self._client.post(self.url, content=row.body, headers=headers).status_code
            answer = str(status)
        except httpx.HTTPError as error:
            status, answer = 0, type(error).__name__
        attempt, this = row.attempts + 1, webhooks.c.id == row.id
        delivered = 200 <= status < 300
        dead = not delivered and (status == _GONE or attempt >= self._settings.webhook_attempts)
        # The attempts of many messages shall not come at once.
        pause = min(self._settings.webhook_retry_seconds * 4 ** (attempt - 1), _LONGEST_PAUSE)
        pause *= random.uniform(0.8, 1.2)  # noqa: S311  # not for secrets
        with self._store.write() as db:
            if delivered:
                db.execute(delete(webhooks).where(this))
            else:
                db.execute(update(webhooks).where(this).values(dead=dead, due_at=now() + int(pause * 10**6)))
        outcome = "delivered" if delivered else "dead" if dead else "failed"
        metrics.WEBHOOKS.labels(outcome).inc()
        line = log.bind(batch_id=row.batch_id, type=row.event, message_id=row.message_id, host=self._host)
        (line.info if delivered else line.warning)(f"webhook {outcome}", attempt=attempt, answer=answer)


def _events(before: str, after: State) -> list[str]:
    if before == State.MINED and after in {State.SUBMITTED, State.ACCEPTED}:
        return ["batch.reorged"]
    if before == State.SIGNED and after is State.MINED:  # Its block came before the node's answer was stored.
        return ["batch.submitted", "batch.mined"]
    return [_EVENTS[after]] if after in _EVENTS else []


def _data(batch: Batch | None) -> dict[str, Any]:
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
