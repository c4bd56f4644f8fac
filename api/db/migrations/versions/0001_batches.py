"""Users, annonces, batches, and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "users",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("profile_id", sa.String(64), unique=True),
        sa.Column("wallet", sa.String(42), nullable=False, unique=True),
        sa.Column("custody_index", sa.Integer, unique=True),
    )
    op.create_table(
        "annonces",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tutor_id", sa.String(64), sa.ForeignKey("users.id"), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("hourly_rate", sa.String(78), nullable=False),
        sa.Column("time_zone", sa.String(64)),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.String(66), primary_key=True),
        sa.Column("student_id", sa.String(64), nullable=False),
        sa.Column("tutor_id", sa.String(64), nullable=False),
        sa.Column("annonce_id", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(255), nullable=False),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("student_notes", sa.Text),
        sa.Column("lessons", sa.Text, nullable=False),
        sa.Column("failures", sa.Text, nullable=False),
        sa.Column("student", sa.String(42), nullable=False),
        sa.Column("tutor", sa.String(42), nullable=False),
        sa.Column("listing", sa.String(66), nullable=False),
        sa.Column("hourly_rate", sa.String(78), nullable=False),
        sa.Column("allow_partial", sa.Boolean, nullable=False),
        sa.Column("deadline", sa.BigInteger, nullable=False),
        sa.Column("salt", sa.String(66), nullable=False),
        sa.Column("booked", sa.BigInteger),
        sa.Column("left_out", sa.Text),
        sa.Column("instant", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("student_id", "idempotency_key", name="one_batch_per_key"),
    )
    op.create_table(
        "sends",
        sa.Column("id", sa.String(66), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("call", sa.LargeBinary, nullable=False),
        sa.Column("publish", sa.LargeBinary),
        sa.Column("listing_nonce", sa.BigInteger),
        sa.Column("wants", sa.Text, nullable=False),
        sa.Column("expires", sa.BigInteger),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("chain_id", sa.BigInteger, nullable=False),
        sa.Column("signer", sa.String(42)),
        sa.Column("nonce", sa.BigInteger),
        sa.Column("publishes", sa.Boolean, nullable=False),
        sa.Column("transaction_hash", sa.String(66)),
        sa.Column("signed_at", sa.BigInteger),
        sa.Column("cost", sa.BigInteger),
        sa.Column("block_number", sa.BigInteger),
        sa.Column("block_hash", sa.String(66)),
        sa.Column("gas_used", sa.BigInteger),
        sa.Column("fee", sa.BigInteger),
        sa.Column("succeeded", sa.Boolean),
        sa.Column("code", sa.String(64)),
        sa.Column("detail", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("chain_id", "signer", "nonce", name="one_send_per_nonce"),
    )
    op.create_index("sends_by_state", "sends", ["state", "created_at"])
    op.create_index("sends_by_signing", "sends", ["signed_at"])
    op.create_table(
        "transactions",
        sa.Column("hash", sa.String(66), primary_key=True),
        sa.Column("send_id", sa.String(66), sa.ForeignKey("sends.id"), nullable=False, index=True),
        sa.Column("signer", sa.String(42), nullable=False),
        sa.Column("nonce", sa.BigInteger, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("gas", sa.BigInteger, nullable=False),
        sa.Column("max_fee", sa.BigInteger, nullable=False),
        sa.Column("priority_fee", sa.BigInteger, nullable=False),
        sa.Column("frees", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "relayers",
        sa.Column("address", sa.String(42), primary_key=True),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("renewals", sa.BigInteger, nullable=False),
    )
