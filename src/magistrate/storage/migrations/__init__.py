"""The versions of the tables in PostgreSQL, and how to go from one to another."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text

SCHEMA = "magistrate"
HEAD = "0001"
LOCK = 0x6D616772  # "magr": the advisory lock of whoever changes the tables
BASE = "base"  # no tables at all


def version_of(connection: Connection) -> str | None:
    """Return the version of the tables; None where there are none."""
    if not inspect(connection).has_table("alembic_version", schema=SCHEMA):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {SCHEMA}.alembic_version"))
    version = found.scalar()
    return None if version is None else str(version)


def migrate(connection: Connection, version: str) -> None:
    """Bring the tables to a version, or with `BASE` remove them, in the connection's transaction.

    Removing them deletes what is in them.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "magistrate:storage/migrations")
    config.attributes["connection"] = connection
    if version == BASE:
        command.downgrade(config, BASE)
    else:
        command.upgrade(config, version)
