"""The table of reviews, equal in every database, and what a database does for the review store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeAlias

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    MetaData,
    String,
    Table,
    Text,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

metadata = MetaData()
reviews = Table(
    "reviews",
    metadata,
    Column("id", String, primary_key=True),
    Column("app", String, nullable=False),
    Column("status", String, nullable=False),
    Column("domains", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),  # times: microseconds since 1970, UTC
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("decided_at", BigInteger),
    Column("reviewer", Text),
    Column("note", Text),
    Column("request", Text, nullable=False),
    Column("message", Text, nullable=False),  # the answer as it was held, never overwritten
    Column("edited", Text),  # the text that a reviewer released instead
    Column("decision", Text, nullable=False),
    CheckConstraint("status IN ('pending', 'approved', 'rejected')"),
)

# For how long a review has been stored, by a clock that is not set by hand on this machine, in
# microseconds; 0 if that is not known.
Ages: TypeAlias = Callable[[str], int]


def to_micros(moment: datetime) -> int:
    """Return a time as stored: microseconds since 1970, UTC."""
    return (moment - EPOCH) // timedelta(microseconds=1)


class ReviewDatabase(Protocol):
    """Where reviews are stored. Every method raises `ReviewError` where it cannot be used.

    `place` names it in messages, without a password.
    """

    place: str

    def reading(self) -> AbstractContextManager[Connection]:
        """Open a transaction that reads."""
        ...

    def writing(self) -> AbstractContextManager[Connection]:
        """Open a transaction that may write; it commits at its end."""
        ...

    def ages(self, connection: Connection, now: datetime, steady_s: float) -> Ages:
        """Return for how long a review has been stored. Within a transaction that may write."""
        ...

    def after_fork(self) -> None:
        """Make the database usable in a child process."""
        ...

    def close(self) -> None:
        """Close it; further use raises `ReviewError`. May be called twice."""
        ...
