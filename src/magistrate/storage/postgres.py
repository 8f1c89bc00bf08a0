"""The review queue in PostgreSQL, for several processes and hosts. Extra `postgres`.

Its tables are in the schema `magistrate`, made and changed by the scripts in `migrations`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, create_engine, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from magistrate.storage.migrations import HEAD, LOCK, SCHEMA, migrate, version_of
from magistrate.storage.review_items import ReviewError
from magistrate.storage.review_schema import Ages, reviews

# Seconds for a connection, and for one statement.
CONNECT_S = 3
STATEMENT_S = 10
_CONNECTIONS = 5


class ReviewServer:
    """A PostgreSQL database. `create`: make the tables where there are none.

    Implements `ReviewDatabase`. Raises `ReviewError` if it cannot be used, on opening or later;
    a lost server is tried again with the next call.
    """

    def __init__(self, store: str, *, create: bool) -> None:
        self.place = place_of(store)
        self._closed = False
        self._engine = create_engine(
            _driver(store),
            hide_parameters=True,
            pool_size=_CONNECTIONS,
            max_overflow=_CONNECTIONS,
            pool_timeout=CONNECT_S,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": CONNECT_S,
                "options": f"-csearch_path={SCHEMA} -cstatement_timeout={STATEMENT_S}s",
            },
        )
        try:
            self._check_tables(create)
        except BaseException:
            self.close()
            raise

    def _check_tables(self, create: bool) -> None:
        with self._connected() as connection:
            version = version_of(connection)
            if version is None and create:
                # Two processes that start at once: the second waits, and finds the tables.
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
                if (version := version_of(connection)) is None:
                    migrate(connection, HEAD)
                    version = HEAD
            connection.commit()
        if version != HEAD:
            found = "no tables" if version is None else f"tables of version {version}"
            raise ReviewError(
                f"{self.place}: has {found}, and this magistrate needs version {HEAD}: run "
                "`magistrate db upgrade`, or install the magistrate that wrote them"
            )

    def reading(self) -> AbstractContextManager[Connection]:
        """Open a transaction that reads."""
        return self._transaction("READ ONLY")

    def writing(self) -> AbstractContextManager[Connection]:
        """Open a transaction that may write; it commits at its end."""
        return self._transaction("READ WRITE")

    def ages(self, connection: Connection, now: datetime, steady_s: float) -> Ages:
        """Return for how long a review has been stored, by the server's clock.

        With this process's own, that makes two clocks: neither alone deletes anything.
        """
        micros = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        there = int(connection.execute(micros).scalar_one())

        def age(review_id: str) -> int:
            created = select(reviews.c.created_at).where(reviews.c.id == review_id)
            found = connection.execute(created).scalar()
            return 0 if found is None else there - found

        return age

    def after_fork(self) -> None:
        """Forget the parent's connections, without closing them."""
        self._engine.dispose(close=False)

    def close(self) -> None:
        """Close the connections; further use raises `ReviewError`. May be called twice."""
        self._closed = True
        self._engine.dispose()

    @contextmanager
    def _transaction(self, mode: str) -> Generator[Connection, None, None]:
        if self._closed:
            raise ReviewError(f"{self.place}: this review store has been closed")
        with self._connected() as connection:  # rolls back what is not committed
            connection.execute(text(f"SET TRANSACTION {mode}"))
            yield connection
            connection.commit()

    @contextmanager
    def _connected(self) -> Generator[Connection, None, None]:
        with plain_errors(self.place), self._engine.connect() as connection:
            yield connection


@contextmanager
def locked(store: str) -> Generator[tuple[str, Connection], None, None]:
    """Open a transaction that no other changes the tables beside; it commits at its end."""
    place = place_of(store)
    engine = create_engine(
        _driver(store), hide_parameters=True, connect_args={"connect_timeout": CONNECT_S}
    )
    try:
        with plain_errors(place), engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            yield place, connection
    finally:
        engine.dispose()


@contextmanager
def plain_errors(place: str) -> Generator[None, None, None]:
    """Raise `ReviewError` for what goes wrong on the server, without what was sent to it."""
    try:
        yield
    except DBAPIError as error:
        why = type(error.orig).__name__ if error.orig is not None else type(error).__name__
        raise ReviewError(f"{place}: {why}") from None
    except (SQLAlchemyError, PoolTimeout) as error:
        raise ReviewError(f"{place}: {type(error).__name__}") from None


def place_of(store: str) -> str:
    """Return a server's address for people: without a password. Raises `ReviewError`."""
    try:
        found = make_url(store)
    except ArgumentError:
        raise ReviewError("the review store's address is no postgresql:// URL") from None
    where = f"{found.host or 'localhost'}:{found.port or 5432}"
    return f"PostgreSQL {where}/{found.database or ''}"


def _driver(store: str) -> Any:
    return make_url(store).set(drivername="postgresql+psycopg")
