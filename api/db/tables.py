"""The tables and the content of their columns.

Amounts in base units are decimal text, because they outgrow every integer column. Times are microseconds
of unix time.
"""

import time
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

from api.db import decimal_json as exact


def now() -> int:
    """Return the time as the tables have it: microseconds of unix time."""
    return time.time_ns() // 1000


class Exact(TypeDecorator[Any]):
    """A value as JSON text, its numbers exact."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, _: Dialect) -> str | None:
        """Return the column's form."""
        return None if value is None else exact.dumps(value)

    def process_result_value(self, value: Any, _: Dialect) -> Any:
        """Return the program's form."""
        return None if value is None else exact.loads(value)


class Wei(TypeDecorator[int]):
    """An integer of base units, as decimal text."""

    impl = String(78)
    cache_ok = True

    def process_bind_param(self, value: int | None, _: Dialect) -> str | None:
        """Return the column's form."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, _: Dialect) -> int | None:
        """Return the program's form."""
        return None if value is None else int(value)


metadata = MetaData()

users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("role", String(64), nullable=False),
    Column("profile_id", String(64), unique=True),
    Column("wallet", String(42), nullable=False, unique=True),
    Column("custodial_account", String(64), unique=True),  # The custodian's reference. Null: an own wallet.
    Column("kept_account", String(64), unique=True),  # The same, in force or not.
    Column("schedule", Exact),  # A tutor's hours, as people/schedule.py reads them; null: any.
    Column("first_name", Text),  # For people who share a lesson; so are the next two.
    Column("last_name", Text),
    Column("email", Text),
)

challenges = Table(
    "challenges",  # Messages for wallets to sign (EIP-4361), each good for one link.
    metadata,
    Column("nonce", String(32), primary_key=True),
    Column("user_id", String(64), nullable=False, index=True),
    Column("wallet", String(42), nullable=False),
    Column("message", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

annonces = Table(
    "annonces",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tutor_id", String(64), ForeignKey("users.id"), nullable=False),
    Column("title", Text, nullable=False),
    Column("hourly_rate", Wei, nullable=False),
    Column("time_zone", String(64)),
    Column("subject", Text),
    Column("description", Text),
    Column("level", Text),
    Column("teaching_mode", Text),
)

directory_entries = Table(
    "directory_entries",  # What an existing user service last said of names and listings.
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("entry", Exact, nullable=False),
)

lesson_notes = Table(
    "lesson_notes",  # Between student and tutor. Never on the chain, and never in a log.
    metadata,
    Column("id", String(66), primary_key=True),  # The lesson's on the chain.
    Column("tutor_notes", Text),
    Column("cancellation_reason", Text),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(66), primary_key=True),  # The contract's key.
    # The request
    Column("student_id", String(64), nullable=False),
    Column("tutor_id", String(64), nullable=False),
    Column("annonce_id", String(64), nullable=False),
    Column("idempotency_key", String(255), nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("description", Text),
    Column("student_notes", Text),
    Column("lessons", Exact, nullable=False),  # Those of the order, in its order: booking.models.Lesson.
    Column("failures", Exact, nullable=False),  # The others: booking.models.Failure.
    # The order
    Column("student", String(42), nullable=False),
    Column("tutor", String(42), nullable=False),
    Column("listing", String(66), nullable=False),
    Column("hourly_rate", Wei, nullable=False),
    Column("min_lessons", Integer, nullable=False),
    Column("deadline", BigInteger, nullable=False),  # Unix seconds.
    Column("salt", String(66), nullable=False),
    # The outcome
    Column("booked", BigInteger),  # Bit i: lesson i. Null until a block says so.
    Column("left_out", Exact),  # The order's lessons that the contract did not book.
    Column("instant", Boolean, nullable=False),  # Booked lessons are confirmed, not pending.
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("student_id", "idempotency_key", name="one_batch_per_key"),
    Index("batches_by_listing", "listing"),
)

prepared_batches = Table(
    "prepared_batches",  # Batches that wait for their student's signature. Nothing here is ever sent.
    metadata,
    Column("id", String(66), primary_key=True),
    Column("student_id", String(64), nullable=False),
    Column("idempotency_key", String(255), nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("batch", Exact, nullable=False),  # The row of `batches` that it becomes.
    Column("permit_value", Wei),  # Null: it needs no permit.
    Column("permit_nonce", Wei),
    Column("expires_at", BigInteger, nullable=False, index=True),
    UniqueConstraint("student_id", "idempotency_key", name="one_prepared_per_key"),
)

settlement_offers = Table(
    "settlement_offers",  # Splits that one party has signed, and the other may accept.
    metadata,
    Column("batch_id", String(66), primary_key=True),
    Column("by", String(42), primary_key=True),  # The party's account.
    Column("lessons", BigInteger, nullable=False),  # Bit i: lesson i.
    Column("share", Integer, nullable=False),  # The tutor's, in basis points.
    Column("deadline", BigInteger, nullable=False),  # Unix seconds.
    Column("signature", LargeBinary, nullable=False),
)

# --- The outbox ---

transactions = Table(
    "transactions",
    metadata,
    Column("id", String(66), primary_key=True),  # A creation's is the batch's.
    Column("kind", String(16), nullable=False),
    Column("request_id", String(64), nullable=False),
    # The call
    Column("call", LargeBinary, nullable=False),  # As accepted; it carries whatever signature it needs.
    Column("publishes", Boolean, nullable=False),  # The listing has to be, or was, published first.
    Column("listing_nonce", BigInteger),  # The listing's when it was accepted.
    Column("seen_block", BigInteger, nullable=False),  # Acceptance saw that the call can be made.
    Column("locks", Exact, nullable=False),  # {name: bits}: no two in flight hold the same bit.
    Column("expires", BigInteger),  # Unix seconds: the contract refuses it from then on.
    # The newest transaction
    Column("state", String(16), nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("signer", String(42)),
    Column("nonce", BigInteger),
    Column("transaction_hash", String(66)),  # Of the newest attempt, or of the one in a block.
    Column("signed_at", BigInteger),
    Column("cost", BigInteger),  # At most, in gwei.
    # The outcome
    Column("block_number", BigInteger),
    Column("block_hash", String(66)),
    Column("gas_used", BigInteger),
    Column("fee", BigInteger),  # Paid, in gwei.
    Column("succeeded", Boolean),
    Column("code", String(64)),  # Why the call was not carried out,
    Column("detail", Text),  # and in words.
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("chain_id", "signer", "nonce", name="one_transaction_per_nonce"),
    Index("transactions_by_state", "state", "created_at"),
    Index("transactions_by_block", "state", "block_number"),
    Index("transactions_by_signing", "signed_at"),
)

attempts = Table(
    "attempts",  # Every signed transaction: the first of a submission, and its replacements.
    metadata,
    Column("hash", String(66), primary_key=True),
    Column("transaction_id", String(66), ForeignKey("transactions.id"), nullable=False, index=True),
    Column("signer", String(42), nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("gas", BigInteger, nullable=False),
    Column("max_fee", BigInteger, nullable=False),
    Column("priority_fee", BigInteger, nullable=False),
    Column("is_noop", Boolean, nullable=False),  # A transfer of nothing, to use the nonce.
    Column("created_at", BigInteger, nullable=False),
)

webhooks = Table(
    "webhooks",  # Messages that wait for delivery: one for each change of a batch and each endpoint.
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),  # In order.
    Column("message_id", String(40), nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("batch_id", String(66), nullable=False),
    Column("event", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", BigInteger, nullable=False),  # The next attempt, also by another process.
    Column("dead", Boolean, nullable=False),  # Given up.
    Column("created_at", BigInteger, nullable=False),
    Index("webhooks_due", "dead", "endpoint", "due_at"),
    Index("webhooks_of_batch", "batch_id", "id"),
)

leases = Table(
    "leases",  # The right of a process to sign with a key.
    metadata,
    Column("address", String(42), primary_key=True),
    Column("owner", String(32), nullable=False),  # A process; empty: none.
    Column("renewals", BigInteger, nullable=False),  # Those of a dead process stand still.
)

# --- The projection: read from the contract's events by the indexer, and again by `rebuild` ---

orders = Table(
    "orders",  # Every batch on the chain, whoever sent it: the terms that later actions supply again.
    metadata,
    Column("id", String(66), primary_key=True),  # The contract's key.
    Column("student", String(42), nullable=False),
    Column("tutor", String(42), nullable=False),
    Column("listing", String(66), nullable=False),
    Column("hourly_rate", Wei, nullable=False),
    Column("min_lessons", Integer, nullable=False),
    Column("deadline", BigInteger, nullable=False),  # Unix seconds, as are all times of the projection.
    Column("salt", String(66), nullable=False, index=True),
    Column("slots", Exact, nullable=False),  # [[start, minutes], …]
    Column("booked", BigInteger, nullable=False),  # Bit i: lesson i.
    Column("total", Wei, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False, index=True),
    Column("transaction_hash", String(66), nullable=False),
    Column("instant", Boolean, nullable=False),  # Its lessons were confirmed from the beginning.
)

actions = Table(
    "actions",  # Actions on the lessons of orders: bookings follow from orders and actions.
    metadata,
    Column("block_number", BigInteger, primary_key=True),
    Column("log_index", BigInteger, primary_key=True),
    Column("batch_id", String(66), nullable=False, index=True),
    Column("lessons", BigInteger, nullable=False),  # Bit i: lesson i.
    Column("status", String(16), nullable=False),  # Their status afterwards.
    Column("to_tutor", Wei),  # Of what left the escrow; the rest went to the student. Null: nothing left.
    Column("cancelled_by", String(42)),  # The account, of a cancellation.
    Column("at", BigInteger, nullable=False),
    Column("transaction_hash", String(66), nullable=False),
)

event_transactions = Table(
    "event_transactions",  # Those that brought an event of the contract.
    metadata,
    Column("hash", String(66), primary_key=True),
    Column("block_number", BigInteger, nullable=False, index=True),
)

bookings = Table(
    "bookings",
    metadata,
    Column("id", String(66), primary_key=True),  # The batch's, with the place in its last byte.
    Column("batch_id", String(66), nullable=False, index=True),
    Column("place", Integer, nullable=False),  # In the order, from 0.
    Column("student", String(42), nullable=False),
    Column("tutor", String(42), nullable=False),
    Column("listing", String(66), nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("minutes", Integer, nullable=False),
    Column("amount", Wei, nullable=False),
    Column("status", String(16), nullable=False),  # PENDING, CONFIRMED, DISPUTED, COMPLETED, CANCELLED
    Column("to_tutor", Wei),  # Each party's part, once it left the escrow.
    Column("to_student", Wei),
    Column("cancelled_by", String(42)),  # The account that did it.
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),  # The block's time of the newest change,
    Column("block_number", BigInteger, nullable=False),  # its number,
    Column("transaction_hash", String(66), nullable=False),  # and the transaction.
    Index("bookings_of_student", "student", "start", "id"),
    Index("bookings_of_tutor", "tutor", "start", "id"),
    Index("bookings_by_status", "status", "start"),
)

transfers = Table(
    "transfers",  # Of the token, but for those of the escrow, which its own events tell.
    metadata,
    Column("block_number", BigInteger, primary_key=True),
    Column("log_index", BigInteger, primary_key=True),
    Column("sender", String(42), nullable=False, index=True),
    Column("recipient", String(42), nullable=False, index=True),
    Column("amount", Wei, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("transaction_hash", String(66), nullable=False),
)

blocks = Table(
    "blocks",  # Blocks that were read, as far back as a reorganisation may reach.
    metadata,
    Column("number", BigInteger, primary_key=True),
    Column("hash", String(66), nullable=False),
)

index_position = Table(
    "index_position",  # One row: the newest block of the projection, and its contract.
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("escrow", String(42), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("hash", String(66), nullable=False),  # Empty: nothing was read yet.
    Column("anchor", String(90), nullable=False),  # Number and hash of the deployment's block.
)
