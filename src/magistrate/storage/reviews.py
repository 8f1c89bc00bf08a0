"""The review queue: answers held on disk, each decided exactly once.

This module decides who may decide, and how long items are kept; `sqlite.py` handles the file.
Request and answer are stored in full before `hold` returns, so a "pending" answer survives a crash.
Nothing here knows the SDK, and no error message contains judged content.
"""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from sqlalchemy import (
    Connection,
    delete,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.engine import Row

from magistrate.storage.review_items import (
    Clock,
    HeldItem,
    Review,
    ReviewError,
    ReviewNotFound,
    ReviewRefused,
    Status,
    utc_now,
)
from magistrate.storage.sqlite import ReviewFile, reviews

if TYPE_CHECKING:
    from magistrate.settings import ReviewSettings

BUSY_TIMEOUT_S = 5.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ID = re.compile(r"rev_[0-9a-f]{40}")


_Listed: TypeAlias = list[Review]  # in the class, `list` is a method


class ReviewStore:
    """The held answers of one app in one file.

    Safe to use from several threads and processes. Opening it creates the file if it does not exist
    (not with `create=False`). Every operation raises `ReviewError` if the file cannot be used.
    """

    def __init__(
        self,
        settings: ReviewSettings,
        *,
        app: str,
        now: Clock = utc_now,
        create: bool = True,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self._file = ReviewFile(settings.store, create=create, busy_timeout_s=busy_timeout_s)
        self._app = app
        self._now = now
        self._reviewers = settings.reviewers
        self._retention = timedelta(days=settings.retain_days)

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self._file.path

    def hold(self, item: HeldItem) -> str:
        """Store an answer durably and return its review id, which the decision record also has.

        Raises `ReviewError` for an item of another app, without domains, or that is not plain JSON.
        """
        if item.app != self._app:
            raise ReviewError(f"this store belongs to app {self._app!r}, not {item.app!r}")
        if not item.domains:
            raise ReviewError("a held answer needs a domain; without one no reviewer can decide it")
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
        with self._file.transaction("BEGIN IMMEDIATE") as connection:
            self._delete_expired(connection)
            connection.execute(insert(reviews).values(row))
        return review_id

    def get(self, review_id: str) -> Review:
        """Return one review of this app. Raises `ReviewNotFound` for any other id."""
        with self._file.transaction("BEGIN") as connection:
            return self._read(connection, review_id)

    def pending(self) -> _Listed:
        """Return the reviews that wait for a reviewer, oldest first."""
        return self.list("pending")

    def list(self, status: Status | None = None) -> _Listed:
        """Return this app's reviews, oldest first. Deletes expired ones."""
        query = select(reviews).where(reviews.c.app == self._app)
        if status is not None:
            query = query.where(reviews.c.status == status)
        with self._file.transaction("BEGIN IMMEDIATE") as connection:
            self._delete_expired(connection)
            rows = connection.execute(query.order_by(reviews.c.created_at, text("rowid"))).all()
        return [self._review(row) for row in rows]

    def approve(
        self,
        review_id: str,
        *,
        reviewer: str,
        note: str | None = None,
        message: dict[str, Any] | None = None,
    ) -> Review:
        """Release the answer, or `message` instead. Raises `ReviewRefused` if not allowed."""
        edited = None if message is None else _to_json(message, "edited message")
        return self._decide(review_id, "approved", reviewer, note, edited)

    def reject(self, review_id: str, *, reviewer: str, note: str | None = None) -> Review:
        """Decide that the answer is never released. Raises `ReviewRefused` if not allowed."""
        return self._decide(review_id, "rejected", reviewer, note, None)

    def may_decide(self, review: Review) -> tuple[str, ...]:
        """Return the names of the reviewers who are qualified in all domains of `review`."""
        names = dict.fromkeys(reviewer.name for reviewer in self._reviewers)
        return tuple(name for name in names if not self._lacks(name, review))

    def purge(self) -> int:
        """Delete reviews past their retention, even pending ones, and return how many."""
        with self._file.transaction("BEGIN IMMEDIATE") as connection:
            return self._delete_expired(connection)

    def close(self) -> None:
        """Close the store; further use raises `ReviewError`. May be called twice."""
        self._file.close()

    def _decide(
        self, review_id: str, status: Status, reviewer: str, note: str | None, edited: str | None
    ) -> Review:
        if reviewer not in {listed.name for listed in self._reviewers}:
            names = ", ".join(dict.fromkeys(listed.name for listed in self._reviewers))
            raise ReviewRefused(f"{reviewer!r} is not listed as a reviewer; listed: {names}")
        if note is not None:
            _encodable(note, "note")
        decided = update(reviews).values(
            status=status,
            decided_at=_to_micros(self._now()),
            reviewer=reviewer,
            note=note,
            edited=edited,
        )
        with self._file.transaction("BEGIN IMMEDIATE") as connection:
            review = self._read(connection, review_id)
            if lacking := self._lacks(reviewer, review):
                able = ", ".join(self.may_decide(review)) or "none of the listed reviewers"
                raise ReviewRefused(
                    f"{reviewer!r} is not qualified in {', '.join(lacking)}; may decide: {able}"
                )
            # Exactly once: the same statement checks that the row is pending and decides it.
            done = connection.execute(
                decided.where(
                    reviews.c.id == review_id,
                    reviews.c.app == self._app,
                    reviews.c.status == "pending",
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
        # A retention shortened later also applies to stored items; a longer one does not. Items of
        # other apps are deleted by their stored date, since their app may no longer run.
        shortened = (reviews.c.app == self._app) & (
            reviews.c.created_at <= _to_micros(now - self._retention)
        )
        expired = or_(reviews.c.expires_at <= _to_micros(now), shortened)
        return connection.execute(delete(reviews).where(expired)).rowcount

    def _read(self, connection: Connection, review_id: str) -> Review:
        if _ID.fullmatch(review_id):
            query = select(reviews).where(reviews.c.id == review_id, reviews.c.app == self._app)
            row = connection.execute(query).one_or_none()
            if row is not None:
                review = self._review(row)
                if self._now() < review.expires_at:
                    return review
        raise ReviewNotFound("no review with this id exists")

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


def _to_json(value: object, what: str) -> str:
    # ASCII: a lone surrogate in a text survives as an escape; SQLite could not store it directly.
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
