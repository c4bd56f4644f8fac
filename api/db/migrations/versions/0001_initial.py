"""All tables. The first release freezes their columns here; until then they stand in `tables` alone."""

from alembic import op

from api.db.tables import index_position, metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables, and a projection that has read nothing."""
    metadata.create_all(op.get_bind())
    op.bulk_insert(index_position, [{"chain_id": 0, "escrow": "", "number": -1, "hash": "", "anchor": ""}])
