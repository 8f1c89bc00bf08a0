"""The file behind the review queue: private, durable, recognisably ours.

Here live the SQLite schema, how the file is created and kept to its owner, and what the disk says
in plain words. Who may decide what is `reviews`' business.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from magistrate.storage.review_items import ReviewError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x6D616772  # "magr": tells our file from any other program's database

_SCHEME = "sqlite:///"

_metadata = MetaData()
reviews = Table(
    "reviews",
    _metadata,
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
    Column("edited", Text),  # what a reviewer released in its place
    Column("decision", Text, nullable=False),
    CheckConstraint("status IN ('pending', 'approved', 'rejected')"),
)


class ReviewFile:
    """One SQLite file. `create`: make it if it is not there. Raises `ReviewError` if it cannot
    serve, then or later."""

    def __init__(self, store: str, *, create: bool, busy_timeout_s: float) -> None:
        self.path = _path_of(store)
        self._timeout = busy_timeout_s
        self._closed = False
        # A connection lives for one operation: nothing is shared between threads or forks, and
        # nobody keeps writing into a file that was deleted or replaced underneath.
        self._engine = create_engine(
            "sqlite://", creator=self._connect, poolclass=NullPool, hide_parameters=True
        )
        with _plain_errors(self.path):
            if create:
                _create_file(self.path)
            with self.transaction("BEGIN", may_be_empty=create) as connection:
                fresh = _is_empty(connection)
            if fresh:
                with self.transaction("BEGIN IMMEDIATE", may_be_empty=True) as connection:
                    _create_schema(connection)

    def close(self) -> None:
        """Refuse further use. May be called twice."""
        self._closed = True
        self._engine.dispose()

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: SQLite itself never creates the file, so it never gets the umask's mode.
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,  # BEGIN is ours; Python would delay it
        )
        try:
            # The rollback journal keeps one file at rest. EXTRA is FULL plus a sync of the folder
            # once the journal is gone: else a power cut could bring it back and undo a commit.
            connection.execute("PRAGMA synchronous=EXTRA")
            connection.execute("PRAGMA fullfsync=ON")  # macOS, where fsync alone does not flush
            connection.execute("PRAGMA secure_delete=ON")  # expired content leaves the disk
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def transaction(
        self, begin: str, *, may_be_empty: bool = False
    ) -> Generator[Connection, None, None]:
        """A transaction on a connection of its own, after another look at the file."""
        if self._closed:
            raise ReviewError(f"{self.path}: this review store has been closed")
        with _plain_errors(self.path):
            _refuse_unsafe(self.path)
            with self._engine.begin() as connection:
                connection.exec_driver_sql(begin)
                _identify(connection, self.path, may_be_empty=may_be_empty)
                _tighten(self.path)  # only now: another program's file is not ours to change
                yield connection


def _path_of(store: str) -> Path:
    """Return the absolute path a `sqlite:///path` URL names, literally; relative ones from here."""
    name = store.removeprefix(_SCHEME)
    if name == store or "?" in name:
        raise ReviewError(f"review store {store!r}: write {_SCHEME}path/to/reviews.db")
    if name in ("", ":memory:") or name.startswith("file:") or "\0" in name:
        raise ReviewError(f"review store {store!r}: needs the path of a file, as it must last")
    return Path(os.path.abspath(name))


_creating = threading.Lock()


def _create_file(path: Path) -> None:
    """Create `path` empty with mode 0600, and missing folders with 0700, unless it is there.

    An existing file is never opened here: closing it would drop the POSIX locks that SQLite holds
    on it in this process.
    """
    with _creating:
        if os.path.lexists(path):
            return
        missing = [path.parent, *path.parent.parents]
        for folder in reversed([folder for folder in missing if not folder.exists()]):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            _sync_folder(folder.parent)
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.close(descriptor)
            path.chmod(0o600)  # the umask may have taken too much
            _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _refuse_unsafe(path: Path) -> None:
    """Refuse what is not a plain file, and a file open to others that is not ours to close."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise ReviewError(f"{path}: there is no review store here") from None
    if stat.S_ISLNK(found.st_mode):
        raise ReviewError(f"{path}: is a symbolic link; give the path of the file itself")
    if not stat.S_ISREG(found.st_mode):
        raise ReviewError(f"{path}: is not a file")
    if os.name == "posix" and found.st_mode & 0o077 and found.st_uid != os.geteuid():
        raise ReviewError(f"{path}: is open to other users and belongs to another one")


def _tighten(path: Path) -> None:
    """Take every right of group and others from the file and from what SQLite puts beside it."""
    if os.name != "posix":
        return
    for name in (path, *(path.with_name(path.name + s) for s in ("-journal", "-wal", "-shm"))):
        with suppress(FileNotFoundError):
            if name.lstat().st_mode & 0o077:
                name.chmod(0o600)


def _is_empty(connection: Connection) -> bool:
    return (
        _pragma(connection, "application_id") == 0
        and not connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
    )


def _identify(connection: Connection, path: Path, *, may_be_empty: bool) -> None:
    """Refuse a database that is not a review store, or one of a newer magistrate."""
    if _is_empty(connection):
        if may_be_empty:
            return
        raise ReviewError(f"{path}: is empty; the review store that was here is gone")
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise ReviewError(f"{path}: is another program's database; give another path")
    version = _pragma(connection, "user_version")
    if version > SCHEMA_VERSION:
        raise ReviewError(
            f"{path}: was written by a newer magistrate (schema {version}, this one knows "
            f"{SCHEMA_VERSION}); upgrade magistrate"
        )
    if version != SCHEMA_VERSION:
        raise ReviewError(f"{path}: is damaged (schema {version})")


def _create_schema(connection: Connection) -> None:
    if _is_empty(connection):  # else another process was faster
        _metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
        connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())


_REASONS = {
    sqlite3.SQLITE_BUSY: "is locked by another process; nothing was changed",
    sqlite3.SQLITE_LOCKED: "is locked by another process; nothing was changed",
    sqlite3.SQLITE_FULL: "the disk is full; nothing was stored",
    sqlite3.SQLITE_READONLY: "is read-only; nothing was stored",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore it or move it away",
    sqlite3.SQLITE_NOTADB: "is not a database; restore it or give another path",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_TOOBIG: "the answer is too large to be stored",
}


@contextmanager
def _plain_errors(path: Path) -> Generator[None, None, None]:
    """Turn what the disk or SQLite says into one sentence with the path in it."""
    try:
        yield
    except OSError as error:
        raise ReviewError(f"{path}: {error.strerror or error}") from error
    except (sqlite3.Error, SQLAlchemyError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        # The low byte of an extended code is the primary one.
        code = getattr(cause, "sqlite_errorcode", None)
        reason = None if code is None else _REASONS.get(code & 0xFF)
        raise ReviewError(f"{path}: {reason or cause}") from error
    except (OverflowError, MemoryError) as error:
        raise ReviewError(f"{path}: the answer is too large to be stored") from error
