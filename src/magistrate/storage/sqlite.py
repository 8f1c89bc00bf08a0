"""The SQLite file of the review queue: private, durable, and marked as magistrate's.

This module creates the file and keeps it private to its owner, and turns errors of the disk into
plain messages. `reviews.py` decides who may decide what.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from magistrate.storage.review_clock import begin_counting, count_time, counted_for
from magistrate.storage.review_items import ReviewError
from magistrate.storage.review_schema import Ages, metadata

SCHEMA_VERSION = 1
APPLICATION_ID = 0x6D616772  # "magr": distinguishes this file from other programs' databases

_SCHEME = "sqlite:///"


class ReviewFile:
    """One SQLite file. `create`: create it if it does not exist. Implements `ReviewDatabase`.

    Raises `ReviewError` if the file cannot be used, on opening or later.
    """

    def __init__(self, store: str, *, create: bool, busy_timeout_s: float) -> None:
        self.path = _path_of(store)
        self.place = str(self.path)
        self._timeout = busy_timeout_s
        self._closed = False
        # One connection per operation: threads and forks share nothing, and no connection writes to
        # a file that has been deleted or replaced.
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
        """Close the file; further use raises `ReviewError`. May be called twice."""
        self._closed = True
        self._engine.dispose()

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: SQLite never creates the file itself, so the umask never decides its mode.
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,  # explicit BEGIN; Python would delay it
        )
        # A damaged text must not make the whole file unreadable: `review_rows` finds it.
        connection.text_factory = _text
        try:
            # With the rollback journal only one file remains between operations. EXTRA is FULL plus
            # a sync of the folder after the journal is deleted: without it a power cut could
            # restore the journal and undo a commit.
            connection.execute("PRAGMA synchronous=EXTRA")
            connection.execute("PRAGMA fullfsync=ON")  # macOS, where fsync alone does not flush
            connection.execute("PRAGMA secure_delete=ON")  # expired content leaves the disk
        except BaseException:
            connection.close()
            raise
        return connection

    def reading(self) -> AbstractContextManager[Connection]:
        """Open a transaction that reads, on its own connection.

        It ends without a commit, which SQLite refuses after it has met a damaged page.
        """
        return self.transaction("BEGIN")

    def writing(self) -> AbstractContextManager[Connection]:
        """Open a transaction that may write, on its own connection; no other can meanwhile."""
        return self.transaction("BEGIN IMMEDIATE")

    def ages(self, connection: Connection, now: datetime, steady_s: float) -> Ages:
        """Return for how long a review has been here, as the file has counted it."""
        passed = count_time(connection, now, steady_s)
        begin_counting(connection, passed)
        return lambda review_id: counted_for(connection, review_id, passed)

    def after_fork(self) -> None:
        """Do nothing: there is no connection between operations."""

    @contextmanager
    def transaction(
        self, begin: str, *, may_be_empty: bool = False
    ) -> Generator[Connection, None, None]:
        """Open a transaction on its own connection, after checking the file again."""
        if self._closed:
            raise ReviewError(f"{self.path}: this review store has been closed")
        with _plain_errors(self.path):
            _refuse_unsafe(self.path)
            with self._engine.connect() as connection:  # rolls back what is not committed
                connection.exec_driver_sql(begin)
                _identify(connection, self.path, may_be_empty=may_be_empty)
                _tighten(self.path)  # only now: another program's file must not be changed
                yield connection
                if begin != "BEGIN":
                    connection.commit()


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


def _path_of(store: str) -> Path:
    """Return the absolute path of a `sqlite:///path` URL.

    The path is not URL-decoded, and is relative to the working directory. Raises `ReviewError`.
    """
    name = store.removeprefix(_SCHEME)
    if name == store or "?" in name:
        raise ReviewError(f"review store {store!r}: write {_SCHEME}path/to/reviews.db")
    if name in ("", ":memory:") or name.startswith("file:") or "\0" in name:
        raise ReviewError(f"review store {store!r}: needs the path of a permanent file")
    return Path(os.path.abspath(name))


_creating = threading.Lock()


def _create_file(path: Path) -> None:
    """Create `path` empty with mode 0600, and missing folders with 0700, unless it exists.

    An existing file is never opened here: closing it would release the POSIX locks that SQLite
    holds on it in this process.
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
            path.chmod(0o600)  # the umask may have removed too much
            _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _refuse_unsafe(path: Path) -> None:
    """Raise `ReviewError` unless `path` is a plain file that is private or can be made private."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise ReviewError(f"{path}: no review store exists here") from None
    if stat.S_ISLNK(found.st_mode):
        raise ReviewError(f"{path}: is a symbolic link; give the path of the file itself")
    if not stat.S_ISREG(found.st_mode):
        raise ReviewError(f"{path}: is not a file")
    if os.name == "posix" and found.st_mode & 0o077 and found.st_uid != os.geteuid():
        raise ReviewError(f"{path}: belongs to another user and is open to others")


def _tighten(path: Path) -> None:
    """Remove all permissions of group and others from the file and SQLite's companion files."""
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
    """Raise `ReviewError` for a database that is not a review store, or of a newer version."""
    if _is_empty(connection):
        if may_be_empty:
            return
        raise ReviewError(f"{path}: is empty; the review store has been deleted")
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise ReviewError(f"{path}: is another program's database; give another path")
    version = _pragma(connection, "user_version")
    if version > SCHEMA_VERSION:
        raise ReviewError(
            f"{path}: was written by a newer magistrate (schema {version}; this one supports "
            f"{SCHEMA_VERSION}); upgrade magistrate"
        )
    if version != SCHEMA_VERSION:
        raise ReviewError(f"{path}: is damaged (schema {version})")


def _create_schema(connection: Connection) -> None:
    if _is_empty(connection):  # else another process has created it
        metadata.create_all(connection)
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
    """Turn errors of the disk or SQLite into `ReviewError`s of one sentence with the path."""
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
