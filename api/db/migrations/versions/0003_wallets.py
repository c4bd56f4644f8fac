"""Batches that wait for a wallet's signature; wallets and schedules of users."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates the tables."""
    op.add_column("users", sa.Column("kept_index", sa.Integer))
    op.add_column("users", sa.Column("schedule", sa.Text))
    op.execute("UPDATE users SET kept_index = custody_index")
    op.create_index("users_by_kept_index", "users", ["kept_index"], unique=True)
    op.create_table(
        "challenges",
        sa.Column("nonce", sa.String(32), primary_key=True),
        sa.Column("user_id", sa.String(64), nullable=False, index=True),
        sa.Column("wallet", sa.String(42), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "prepared",
        sa.Column("id", sa.String(66), primary_key=True),
        sa.Column("student_id", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(255), nullable=False),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("batch", sa.Text, nullable=False),
        sa.Column("permit_value", sa.String(78)),
        sa.Column("permit_nonce", sa.String(78)),
        sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
        sa.UniqueConstraint("student_id", "idempotency_key", name="one_prepared_per_key"),
    )
