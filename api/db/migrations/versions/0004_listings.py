"""An index to find a listing's annonce by, for lessons that were booked elsewhere."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Creates the index."""
    op.create_index("batches_by_listing", "batches", ["listing"])
