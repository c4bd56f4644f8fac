"""All tables of the shim."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "actions",
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
    op.create_index("batches_by_listing", "batches", ["listing"])
    op.create_table(
        "blocks",
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("hash", sa.String(66), nullable=False),
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
    op.create_index("bookings_by_status", "bookings", ["status", "start"])
    op.create_index("bookings_of_student", "bookings", ["student", "start", "id"])
    op.create_index("bookings_of_tutor", "bookings", ["tutor", "start", "id"])
    op.create_table(
        "challenges",
        sa.Column("nonce", sa.String(32), primary_key=True),
        sa.Column("user_id", sa.String(64), nullable=False, index=True),
        sa.Column("wallet", sa.String(42), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    position = op.create_table(
        "index_position",
        sa.Column("chain_id", sa.BigInteger, nullable=False),
        sa.Column("escrow", sa.String(42), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(66), nullable=False),
    )
    op.bulk_insert(position, [{"chain_id": 0, "escrow": "", "number": -1, "hash": ""}])
    op.create_table(
        "leases",
        sa.Column("address", sa.String(42), primary_key=True),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("renewals", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.String(66), primary_key=True),
        sa.Column("student", sa.String(42), nullable=False),
        sa.Column("tutor", sa.String(42), nullable=False),
        sa.Column("listing", sa.String(66), nullable=False),
        sa.Column("hourly_rate", sa.String(78), nullable=False),
        sa.Column("allow_partial", sa.Boolean, nullable=False),
        sa.Column("deadline", sa.BigInteger, nullable=False),
        sa.Column("salt", sa.String(66), nullable=False, index=True),
        sa.Column("slots", sa.Text, nullable=False),
        sa.Column("booked", sa.BigInteger, nullable=False),
        sa.Column("total", sa.String(78), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("block_number", sa.BigInteger, nullable=False, index=True),
        sa.Column("transaction_hash", sa.String(66), nullable=False),
        sa.Column("instant", sa.Boolean, nullable=False),
    )
    op.create_table(
        "prepared_batches",
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
    op.create_table(
        "publications",
        sa.Column("tutor", sa.String(42), primary_key=True),
        sa.Column("listing", sa.String(66), primary_key=True),
        sa.Column("nonce", sa.BigInteger, primary_key=True),
        sa.Column("instant", sa.Boolean, nullable=False),
        sa.Column("block_number", sa.BigInteger, nullable=False, index=True),
    )
    op.create_table(
        "transactions",
        sa.Column("id", sa.String(66), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("call", sa.LargeBinary, nullable=False),
        sa.Column("publish", sa.LargeBinary),
        sa.Column("listing_nonce", sa.BigInteger),
        sa.Column("locks", sa.Text, nullable=False),
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
        sa.UniqueConstraint("chain_id", "signer", "nonce", name="one_transaction_per_nonce"),
    )
    op.create_index("transactions_by_signing", "transactions", ["signed_at"])
    op.create_index("transactions_by_state", "transactions", ["state", "created_at"])
    op.create_table(
        "users",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("profile_id", sa.String(64), unique=True),
        sa.Column("wallet", sa.String(42), nullable=False, unique=True),
        sa.Column("custodial_account", sa.String(64), unique=True),
        sa.Column("kept_account", sa.String(64), unique=True),
        sa.Column("schedule", sa.Text),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("message_id", sa.String(40), nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("batch_id", sa.String(66), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("dead", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("webhooks_due", "webhooks", ["dead", "endpoint", "due_at"])
    op.create_index("webhooks_of_batch", "webhooks", ["batch_id", "id"])
    op.create_table(
        "annonces",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tutor_id", sa.String(64), sa.ForeignKey("users.id"), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("hourly_rate", sa.String(78), nullable=False),
        sa.Column("time_zone", sa.String(64)),
    )
    op.create_table(
        "attempts",
        sa.Column("hash", sa.String(66), primary_key=True),
        sa.Column(
            "transaction_id", sa.String(66), sa.ForeignKey("transactions.id"), nullable=False, index=True
        ),
        sa.Column("signer", sa.String(42), nullable=False),
        sa.Column("nonce", sa.BigInteger, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("gas", sa.BigInteger, nullable=False),
        sa.Column("max_fee", sa.BigInteger, nullable=False),
        sa.Column("priority_fee", sa.BigInteger, nullable=False),
        sa.Column("is_noop", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
