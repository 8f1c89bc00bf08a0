"""Rows of the review file as `Review`s. A row that no version of magistrate wrote is damaged.

What is in the file is untrusted: a disk can fail, and other programs can write into it. No message
here contains judged content.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any, NoReturn, cast, get_args

from sqlalchemy import Connection, Integer, literal_column, select
from sqlalchemy.engine import Row
from sqlalchemy.exc import DatabaseError

from magistrate.storage.review_items import Clock, Review, ReviewError, Status
from magistrate.storage.review_schema import EPOCH, reviews

REVIEW_ID = re.compile(r"rev_[0-9a-f]{40}")
rowid_column = literal_column("rowid", Integer)
STATUSES: tuple[Status, ...] = get_args(Status)

_DAY = timedelta(days=1)
_LONGEST = timedelta(days=36_500)  # the longest `retain_days` that settings allow


class DamagedRow(Exception):
    """A row cannot be read. `column`: the first column that is wrong."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


def to_json(value: object, what: str) -> str:
    """Return a value as JSON text. Raises `ReviewError` if it is not plain JSON."""
    # ASCII: a lone surrogate in a text survives as an escape; SQLite could not store it directly.
    try:
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise ReviewError(f"the {what} is not plain JSON and cannot be stored") from None


def encodable(value: str, what: str) -> None:
    """Raise `ReviewError` for a text that not every database can store."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ReviewError(f"the {what} is not valid text") from None
    if "\0" in value:
        raise ReviewError(f"the {what} holds a NUL character")


def is_text(value: object) -> bool:
    """Return whether a stored value is text: bytes that are no UTF-8 are read as surrogates."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def label(review_id: object, rowid: int) -> str:
    """Return the review's id, or where the row is in the file if its id is damaged too."""
    known = isinstance(review_id, str) and REVIEW_ID.fullmatch(review_id)
    return str(review_id) if known else f"row {rowid}"


def row_at(connection: Connection, rowid: int) -> Row[Any]:
    """Return a row. Raises `DamagedRow` if a page of it cannot be read."""
    try:
        return connection.execute(select(reviews).where(rowid_column == rowid)).one()
    except DatabaseError:
        raise DamagedRow("page") from None


def retained(review: Review) -> int:
    """Return for how long a review is kept, in microseconds."""
    return (review.expires_at - review.created_at) // timedelta(microseconds=1)


def review_of(row: Row[Any], retention: timedelta | None, clock: Clock) -> Review:
    """Return a row as a `Review` that expires when stored, or after `retention` if that is sooner.

    Raises `DamagedRow` for the first column, in their order, with a value that was not written
    there: of another type, that cannot be read, or that contradicts another column.
    """
    id = _text(row, "id")
    if not REVIEW_ID.fullmatch(id):
        raise DamagedRow("id")
    app = _text(row, "app")
    status = _text(row, "status")
    if status not in STATUSES:
        raise DamagedRow("status")
    domains = _domains(row.domains)
    created = _time(row, "created_at")
    expires = _time(row, "expires_at")
    if (expires - created) % _DAY or not _DAY <= expires - created <= _LONGEST:
        raise DamagedRow("expires_at")  # or created_at: they are whole days apart
    pending = status == "pending"
    for column in ("decided_at", "reviewer"):
        if (getattr(row, column) is None) is not pending:
            raise DamagedRow(column)
    original = _object(row, "message")
    released = status == "approved" and row.edited is not None
    if row.edited is not None and not released:
        raise DamagedRow("edited")
    if pending and row.note is not None:
        raise DamagedRow("note")
    return Review(
        id=id,
        app=app,
        status=status,
        domains=domains,
        created_at=created,
        expires_at=created + min(expires - created, retention or expires - created),
        decided_at=None if pending else _time(row, "decided_at"),
        reviewer=None if pending else _text(row, "reviewer"),
        note=None if row.note is None else _text(row, "note"),
        request=_object(row, "request"),
        message=_object(row, "edited") if released else original,
        original=original,
        decision=_object(row, "decision"),
        clock=clock,
    )


def _text(row: Row[Any], column: str) -> str:
    value: object = getattr(row, column)
    if isinstance(value, str) and is_text(value):
        return value
    raise DamagedRow(column)


def _time(row: Row[Any], column: str) -> datetime:
    value: object = getattr(row, column)
    if not isinstance(value, int):
        raise DamagedRow(column)
    try:
        return EPOCH + timedelta(microseconds=value)
    except OverflowError:
        raise DamagedRow(column) from None


def _domains(stored: object) -> tuple[str, ...]:
    found = _json(stored, "domains")
    names = cast("list[object]", found) if isinstance(found, list) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise DamagedRow("domains")
    return tuple(cast("list[str]", names))


def _object(row: Row[Any], column: str) -> dict[str, Any]:
    value = _json(getattr(row, column), column)
    if not isinstance(value, dict):
        raise DamagedRow(column)
    return cast("dict[str, Any]", value)


def _json(stored: object, column: str) -> object:
    if not isinstance(stored, str) or not stored.isascii():  # it is written with escapes
        raise DamagedRow(column)
    try:
        return json.loads(stored, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise DamagedRow(column) from None


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)  # NaN and infinity are never written
