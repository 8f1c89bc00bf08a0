"""The table of reviews. What a version has made never changes: the columns are written out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SCHEMA = "magistrate"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "reviews",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("app", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("domains", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
        sa.Column("decided_at", sa.BigInteger),
        sa.Column("reviewer", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("edited", sa.Text),
        sa.Column("decision", sa.Text, nullable=False),
        # In SQLite every table has this one.
        sa.Column("rowid", sa.BigInteger, sa.Identity(always=True), nullable=False, unique=True),
        sa.CheckConstraint("status IN ('pending', 'approved', 'rejected')"),
        schema=_SCHEMA,
    )


def downgrade() -> None:
    """Remove the table, with every review in it."""
    op.drop_table("reviews", schema=_SCHEMA)
