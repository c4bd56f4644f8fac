"""Alembic's entry: runs the migrations on the connection, and in the transaction, that the store gives."""

from alembic import context

from api.db.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
