"""Entries as an existing user service last said them, by kind and id, within the caller's connection."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from api.db.tables import directory_entries as table


def entries(db: Connection, kind: str, ids: Collection[str]) -> dict[str, Any]:
    """Return those of these entries that are kept."""
    rows = db.execute(select(table.c.id, table.c.entry).where(table.c.kind == kind, table.c.id.in_(ids)))
    return {row.id: row.entry for row in rows}


def keep(db: Connection, kind: str, new: Mapping[str, Any]) -> None:
    """Keep entries in place of earlier ones; none for those that are None."""
    db.execute(delete(table).where(table.c.kind == kind, table.c.id.in_(new)))
    rows = [{"kind": kind, "id": id_, "entry": entry} for id_, entry in new.items() if entry is not None]
    if rows:
        db.execute(insert(table), rows)
