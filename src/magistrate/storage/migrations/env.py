"""What alembic runs: the scripts of `versions`, on the connection that `migrate` gives."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from magistrate.storage.migrations import SCHEMA
from magistrate.storage.review_schema import metadata

connection: Connection = context.config.attributes["connection"]
connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
context.configure(connection=connection, target_metadata=metadata, version_table_schema=SCHEMA)
with context.begin_transaction():
    context.run_migrations()
