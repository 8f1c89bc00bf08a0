"""The review queue's store: answers held on disk, and the one decision each of them gets.

Here live the SQLite file, what keeps it private and durable, and the rules of who may decide. The
question and the answer are stored whole before `hold` returns, so a caller is told "pending" only
of what survives a crash. Nothing here knows the SDK, and no error message carries content.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
import stat
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

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
    delete,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.engine import Row
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from magistrate.settings import ReviewSettings

Status = Literal["pending", "approved", "rejected"]
Clock: TypeAlias = Callable[[], datetime]

SCHEMA_VERSION = 1
APPLICATION_ID = 0x6D616772  # "magr": tells our file from any other program's database
BUSY_TIMEOUT_S = 5.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEME = "sqlite:///"
_ID = re.compile(r"rev_[0-9a-f]{40}")

_metadata = MetaData()
_reviews = Table(
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


class ReviewError(RuntimeError):
    """The store cannot do what was asked: nothing was stored, or nothing was changed."""


class ReviewRefused(ReviewError):
    """The store works, but this is not allowed: wrong reviewer, or already decided."""


class ReviewNotFound(ReviewRefused, KeyError):
    """No such review here: never was, another app's, or past its retention. Which is not told."""

    def __str__(self) -> str:  # a KeyError would show the message in quotes
        return str(self.args[0])


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class HeldItem:
    """What is handed over to be held. A reviewer must be qualified in all of `domains`."""

    app: str
    domains: tuple[str, ...]
    request: dict[str, Any] = field(repr=False)
    message: dict[str, Any] = field(repr=False)
    decision: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Review:
    """One held answer as it stands. `message` is what would be delivered, `original` what was held.

    They differ only where a reviewer released an edited text. Content stays out of the repr.
    """

    id: str
    app: str
    status: Status
    domains: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    reviewer: str | None
    note: str | None = field(repr=False)
    request: dict[str, Any] = field(repr=False)
    message: dict[str, Any] = field(repr=False)
    original: dict[str, Any] = field(repr=False)
    decision: dict[str, Any] = field(repr=False)
    clock: Clock = field(default=_utc_now, repr=False, compare=False)

    @property
    def released(self) -> dict[str, Any] | None:
        """The message, if it was approved and has not expired; else None."""
        if self.status != "approved" or self.clock() >= self.expires_at:
            return None
        return self.message


_Listed: TypeAlias = list[Review]  # inside the class, `list` is its method


class ReviewStore:
    """The held answers of one app in one file.

    Safe to use from several threads and processes. Opening it creates the file (`create=False`:
    only opens what is there). Every operation raises `ReviewError` when the file cannot serve it.
    """

    def __init__(
        self,
        settings: ReviewSettings,
        *,
        app: str,
        now: Clock = _utc_now,
        create: bool = True,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self.path = _path_of(settings.store)
        self._app = app
        self._now = now
        self._reviewers = settings.reviewers
        self._retention = timedelta(days=settings.retain_days)
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
            with self._transaction("BEGIN", may_be_empty=create) as connection:
                fresh = _is_empty(connection)
            if fresh:
                with self._transaction("BEGIN IMMEDIATE", may_be_empty=True) as connection:
                    _create_schema(connection)

    def hold(self, item: HeldItem) -> str:
        """Store an answer, durably; return its review id. The decision record gets that id too."""
        if item.app != self._app:
            raise ReviewError(f"this store belongs to app {self._app!r}, not {item.app!r}")
        if not item.domains:
            raise ReviewError("an answer held in no domain has nobody who may release it")
        review_id = f"rev_{secrets.token_hex(20)}"
        now = self._now()
        row = {
            "id": review_id,
            "app": item.app,
            "status": "pending",
            "domains": _to_json(list(item.domains), "domains"),
            "created_at": _to_micros(now),
            "expires_at": _to_micros(now + self._retention),
            "request": _to_json(item.request, "request"),
            "message": _to_json(item.message, "message"),
            "decision": _to_json({**item.decision, "review_id": review_id}, "decision"),
        }
        with self._transaction("BEGIN IMMEDIATE") as connection:
            self._delete_expired(connection)
            connection.execute(insert(_reviews).values(row))
        return review_id

    def get(self, review_id: str) -> Review:
        """Return one review of this app; `ReviewNotFound` for every other id."""
        with self._transaction("BEGIN") as connection:
            return self._read(connection, review_id)

    def pending(self) -> _Listed:
        """Return what waits for a reviewer, oldest first."""
        return self.list("pending")

    def list(self, status: Status | None = None) -> _Listed:
        """Return this app's reviews, oldest first. Deletes what has expired."""
        query = select(_reviews).where(_reviews.c.app == self._app)
        if status is not None:
            query = query.where(_reviews.c.status == status)
        with self._transaction("BEGIN IMMEDIATE") as connection:
            self._delete_expired(connection)
            rows = connection.execute(query.order_by(_reviews.c.created_at, text("rowid"))).all()
        return [self._review(row) for row in rows]

    def approve(
        self,
        review_id: str,
        *,
        reviewer: str,
        note: str | None = None,
        message: dict[str, Any] | None = None,
    ) -> Review:
        """Release the answer, or `message` in its place. `ReviewRefused` says why not."""
        edited = None if message is None else _to_json(message, "edited message")
        return self._decide(review_id, "approved", reviewer, note, edited)

    def reject(self, review_id: str, *, reviewer: str, note: str | None = None) -> Review:
        """Decide that the answer is never released. `ReviewRefused` says why not."""
        return self._decide(review_id, "rejected", reviewer, note, None)

    def may_decide(self, review: Review) -> tuple[str, ...]:
        """Return the names of the listed reviewers qualified in all domains of `review`."""
        names = dict.fromkeys(reviewer.name for reviewer in self._reviewers)
        return tuple(name for name in names if not self._lacks(name, review))

    def purge(self) -> int:
        """Delete what is past its retention, still pending or not; return how many."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            return self._delete_expired(connection)

    def close(self) -> None:
        """Refuse further use. May be called twice."""
        self._closed = True
        self._engine.dispose()

    def _decide(
        self, review_id: str, status: Status, reviewer: str, note: str | None, edited: str | None
    ) -> Review:
        if reviewer not in {listed.name for listed in self._reviewers}:
            raise ReviewRefused(f"{reviewer!r} is not listed as a reviewer")
        if note is not None:
            _encodable(note, "note")
        decided = update(_reviews).values(
            status=status,
            decided_at=_to_micros(self._now()),
            reviewer=reviewer,
            note=note,
            edited=edited,
        )
        with self._transaction("BEGIN IMMEDIATE") as connection:
            review = self._read(connection, review_id)
            if lacking := self._lacks(reviewer, review):
                raise ReviewRefused(f"{reviewer!r} is not qualified in {', '.join(lacking)}")
            # Exactly once: the row is pending in the very statement that decides it.
            done = connection.execute(
                decided.where(
                    _reviews.c.id == review_id,
                    _reviews.c.app == self._app,
                    _reviews.c.status == "pending",
                )
            )
            if done.rowcount != 1:
                when = review.decided_at or review.created_at
                raise ReviewRefused(
                    f"already {review.status} by {review.reviewer!r} at {when:%Y-%m-%d %H:%M} UTC"
                )
            return self._read(connection, review_id)

    def _lacks(self, reviewer: str, review: Review) -> tuple[str, ...]:
        listed = [entry for entry in self._reviewers if entry.name == reviewer]
        has = {domain for entry in listed for domain in entry.qualified_in}
        return tuple(domain for domain in review.domains if domain not in has)

    def _delete_expired(self, connection: Connection) -> int:
        now = self._now()
        # A retention shortened later counts for what is already stored; a longer one does not.
        # Other apps' items go by the date they were stored with: their app may be gone.
        shortened = (_reviews.c.app == self._app) & (
            _reviews.c.created_at <= _to_micros(now - self._retention)
        )
        expired = or_(_reviews.c.expires_at <= _to_micros(now), shortened)
        return connection.execute(delete(_reviews).where(expired)).rowcount

    def _read(self, connection: Connection, review_id: str) -> Review:
        if _ID.fullmatch(review_id):
            query = select(_reviews).where(_reviews.c.id == review_id, _reviews.c.app == self._app)
            row = connection.execute(query).one_or_none()
            if row is not None:
                review = self._review(row)
                if self._now() < review.expires_at:
                    return review
        raise ReviewNotFound("there is no review with this id")

    def _review(self, row: Row[Any]) -> Review:
        try:
            created = _from_micros(row.created_at)
            original = _from_json(row.message)
            return Review(
                id=row.id,
                app=row.app,
                status=row.status,
                domains=tuple(json.loads(row.domains)),
                created_at=created,
                expires_at=min(_from_micros(row.expires_at), created + self._retention),
                decided_at=None if row.decided_at is None else _from_micros(row.decided_at),
                reviewer=row.reviewer,
                note=row.note,
                request=_from_json(row.request),
                message=original if row.edited is None else _from_json(row.edited),
                original=original,
                decision=_from_json(row.decision),
                clock=self._now,
            )
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise ReviewError(f"{self.path}: the record of {row.id} is damaged") from None

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
    def _transaction(self, begin: str, *, may_be_empty: bool = False) -> Generator[Connection]:
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
def _plain_errors(path: Path) -> Generator[None]:
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


def _to_json(value: object, what: str) -> str:
    # ASCII: a lone surrogate in a text survives as an escape; SQLite could not take it as it is.
    try:
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise ReviewError(f"the {what} is not plain JSON and cannot be stored") from None


def _from_json(stored: str) -> dict[str, Any]:
    value = json.loads(stored)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return cast("dict[str, Any]", value)


def _encodable(value: str, what: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ReviewError(f"the {what} is not valid text") from None


def _to_micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _from_micros(stored: int) -> datetime:
    return _EPOCH + timedelta(microseconds=stored)
