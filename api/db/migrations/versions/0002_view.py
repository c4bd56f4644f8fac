"""The view of the contract's events: orders, what was done to them, bookings, and the blocks read."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "orders",
        sa.Column("id", sa.String(66), primary_key=True),
        sa.Column("student", sa.String(42), nullable=False),
        sa.Column("tutor", sa.String(42), nullable=False),
        sa.Column("listing", sa.String(66), nullable=False),
        sa.Column("hourly_rate", sa.String(78), nullable=False),
        sa.Column("allow_partial", sa.Boolean, nullable=False),
        sa.Column("deadline", sa.BigInteger, nullable=False),
        sa.Column("salt", sa.String(66), nullable=False),
        sa.Column("slots", sa.Text, nullable=False),
        sa.Column("booked", sa.BigInteger, nullable=False),
        sa.Column("total", sa.String(78), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("block_number", sa.BigInteger, nullable=False, index=True),
        sa.Column("transaction_hash", sa.String(66), nullable=False),
        sa.Column("instant", sa.Boolean, nullable=False),
    )
    op.create_table(
        "acts",
        sa.Column("block_number", sa.BigInteger, primary_key=True),
        sa.Column("log_index", sa.BigInteger, primary_key=True),
        sa.Column("batch_id", sa.String(66), nullable=False, index=True),
        sa.Column("lessons", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("to_tutor", sa.String(78)),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("transaction_hash", sa.String(66), nullable=False),
    )
    op.create_table(
        "publications",
        sa.Column("tutor", sa.String(42), primary_key=True),
        sa.Column("listing", sa.String(66), primary_key=True),
        sa.Column("nonce", sa.BigInteger, primary_key=True),
        sa.Column("instant", sa.Boolean, nullable=False),
        sa.Column("block_number", sa.BigInteger, nullable=False, index=True),
    )
    op.create_table(
        "bookings",
        sa.Column("id", sa.String(66), primary_key=True),
        sa.Column("batch_id", sa.String(66), nullable=False, index=True),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("student", sa.String(42), nullable=False),
        sa.Column("tutor", sa.String(42), nullable=False),
        sa.Column("listing", sa.String(66), nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("minutes", sa.Integer, nullable=False),
        sa.Column("amount", sa.String(78), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("to_tutor", sa.String(78)),
        sa.Column("to_student", sa.String(78)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("transaction_hash", sa.String(66), nullable=False),
    )
    op.create_table(
        "blocks",
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("hash", sa.String(66), nullable=False),
    )
    followed = op.create_table(
        "followed",
        sa.Column("chain_id", sa.BigInteger, nullable=False),
        sa.Column("escrow", sa.String(42), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(66), nullable=False),
    )
    op.bulk_insert(followed, [{"chain_id": 0, "escrow": "", "number": -1, "hash": ""}])
    op.create_index("bookings_of_student", "bookings", ["student", "start", "id"])
    op.create_index("bookings_of_tutor", "bookings", ["tutor", "start", "id"])
    op.create_index("bookings_by_status", "bookings", ["status", "start"])
