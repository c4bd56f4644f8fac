"""Messages that wait for their delivery to webhooks, as typed records. Times are in microseconds."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, insert, select, update

from api.db.store import Store
from api.db.tables import now, webhooks


@dataclass(frozen=True)
class Message:
    """A message for one endpoint; `attempts` have failed so far."""

    id: int
    message_id: str
    batch_id: str
    event: str
    body: str
    attempts: int


_FIELDS = [webhooks.c[name] for name in ("id", "message_id", "batch_id", "event", "body", "attempts")]


def add(
    db: Connection, endpoints: Collection[str], *, message_id: str, batch_id: str, event: str, body: str
) -> None:
    """Store a message for each endpoint."""
    message = {"message_id": message_id, "batch_id": batch_id, "event": event, "body": body}
    rest = {"attempts": 0, "due_at": 0, "dead": False, "created_at": now()}
    db.execute(insert(webhooks), [{**message, **rest, "endpoint": endpoint} for endpoint in endpoints])


def claim(store: Store, endpoint: str, limit: int, lease: int) -> list[Message]:
    """Claim the messages that are due, at most one per batch, so that deliveries stay in order.

    A claim counts as an attempt, and puts the next one off for the lease.
    """
    earlier = webhooks.alias()
    before = (
        (earlier.c.batch_id == webhooks.c.batch_id)
        & (earlier.c.endpoint == endpoint)
        & (earlier.c.id < webhooks.c.id)
        & earlier.c.dead.is_(False)
    )
    mine = (webhooks.c.endpoint == endpoint) & webhooks.c.dead.is_(False) & (webhooks.c.due_at <= now())
    due = select(*_FIELDS).where(mine, ~exists().where(before)).order_by(webhooks.c.id).limit(limit)
    with store.read() as db:
        if db.execute(due.limit(1)).first() is None:
            return []
    with store.write() as db:
        messages = [Message(**row._mapping) for row in db.execute(due.with_for_update(skip_locked=True))]
        claimed = update(webhooks).where(webhooks.c.id.in_([each.id for each in messages]))
        db.execute(claimed.values(due_at=now() + lease, attempts=webhooks.c.attempts + 1))
    return messages


def remove(db: Connection, message: Message) -> None:
    """Remove a message that was delivered."""
    db.execute(delete(webhooks).where(webhooks.c.id == message.id))


def put_off(db: Connection, message: Message, pause: int, *, dead: bool) -> None:
    """Put a message off, or give it up if it is dead."""
    db.execute(update(webhooks).where(webhooks.c.id == message.id).values(dead=dead, due_at=now() + pause))
