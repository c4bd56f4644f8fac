"""Messages for wallets to sign (EIP-4361), as typed records. Each is good for one link."""

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, insert, select

from api.db.tables import challenges


@dataclass(frozen=True)
class Challenge:
    """A message that links a wallet to a user once the wallet has signed it."""

    nonce: str
    user_id: str
    wallet: str
    message: str
    expires_at: int  # Microseconds of unix time.


def challenge(db: Connection, user_id: str) -> Challenge | None:
    """Return the newest challenge of a user."""
    mine = select(challenges).where(challenges.c.user_id == user_id)
    row = db.execute(mine.order_by(challenges.c.expires_at.desc()).limit(1)).one_or_none()
    return None if row is None else Challenge(**row._mapping)


def replace(db: Connection, challenge: Challenge) -> None:
    """Store a challenge in place of all others of its user."""
    db.execute(delete(challenges).where(challenges.c.user_id == challenge.user_id))
    db.execute(insert(challenges), asdict(challenge))


def use(db: Connection, nonce: str) -> bool:
    """Remove a challenge. Return True if it was there: only one request can use it."""
    return bool(db.execute(delete(challenges).where(challenges.c.nonce == nonce)).rowcount)
