"""Orders are found by their salt, for requests whose key the outbox does not know any more."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Creates the index."""
    op.create_index("ix_orders_salt", "orders", ["salt"])
