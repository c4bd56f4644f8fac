"""Offers of settlements, as typed records: what one party of a batch has agreed to, and the other may."""

from sqlalchemy import Connection, delete, insert, select

from api.booking.models import SettlementOffer
from api.db.tables import settlement_offers


def add(db: Connection, offer: SettlementOffer) -> None:
    """Store an offer, in place of any that the same party made for the batch."""
    withdraw(db, offer.batch_id, offer.by)
    db.execute(insert(settlement_offers), vars(offer))


def withdraw(db: Connection, batch_id: str, by: str) -> None:
    """Remove a party's offer for a batch."""
    table = settlement_offers.c
    db.execute(delete(settlement_offers).where(table.batch_id == batch_id, table.by == by))


def of_batch(db: Connection, batch_id: str) -> list[SettlementOffer]:
    """Return the offers for a batch, at most one of each party."""
    rows = db.execute(select(settlement_offers).where(settlement_offers.c.batch_id == batch_id))
    return [SettlementOffer(**row._mapping) for row in rows]
