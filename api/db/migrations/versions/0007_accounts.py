"""Custodial accounts by the person's id: an index of 62 bits. Those that were numbered keep their numbers."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Makes room. SQLite's integers have it."""
    if op.get_bind().dialect.name != "sqlite":
        for column in ("custody_index", "kept_index"):
            op.alter_column("users", column, type_=sa.BigInteger)
