"""The review queue: answers held durably, each decided exactly once.

This module decides who may decide, and when items are deleted; `sqlite.py` and `postgres.py` are
where they are, `review_rows.py` what is in a row, `review_clock.py` how old one is. Request and
answer are stored in full before `hold` returns, so they survive a crash. No message has content.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, insert, or_, select, update
from sqlalchemy.engine import Row

from magistrate.storage.databases import open_database
from magistrate.storage.review_clock import SteadyClock, steady_clock
from magistrate.storage.review_items import (
    Clock,
    DamagedReview,
    HeldItem,
    Review,
    ReviewDamaged,
    ReviewError,
    ReviewNotFound,
    ReviewRefused,
    Reviews,
    Status,
    utc_now,
)
from magistrate.storage.review_rows import (
    REVIEW_ID,
    STATUSES,
    DamagedRow,
    encodable,
    is_text,
    label,
    retained,
    review_of,
    row_at,
    rowid_column,
    to_json,
)
from magistrate.storage.review_schema import Ages, reviews, to_micros

if TYPE_CHECKING:
    from magistrate.settings import ReviewSettings

BUSY_TIMEOUT_S = 5.0


class ReviewStore:
    """The held answers of one app, in a SQLite file or in PostgreSQL.

    Safe to use from several threads and processes. Opening it creates what does not exist (not with
    `create=False`). Every operation raises `ReviewError` if the database cannot be used.

    A review is deleted when its retention has passed, decided or not: by `hold`, `approve`,
    `reject` and `purge`, never by reading. By the clock alone it only stops being shown and
    released; it is deleted once the store itself has counted its retention (`review_clock.py`), so
    a clock that jumped deletes nothing. A damaged record is never deleted here.
    """

    def __init__(
        self,
        settings: ReviewSettings,
        *,
        app: str,
        now: Clock = utc_now,
        steady: SteadyClock = steady_clock,
        create: bool = True,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self._database = open_database(settings.store, create, busy_timeout_s)
        self._app = app
        self._now = now
        self._steady = steady
        self._reviewers = settings.reviewers
        self._retention = timedelta(days=settings.retain_days)

    @property
    def place(self) -> str:
        """The file or the server, for people."""
        return self._database.place

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
            "domains": to_json(list(item.domains), "domains"),
            "created_at": to_micros(now),
            "expires_at": to_micros(now + self._retention),
            "request": to_json(item.request, "request"),
            "message": to_json(item.message, "message"),
            "decision": to_json({**item.decision, "review_id": review_id}, "decision"),
        }
        self._delete_expired()
        with self._database.writing() as connection:
            connection.execute(insert(reviews).values(row))
            self._count(connection)
        return review_id

    def get(self, review_id: str) -> Review:
        """Return one review of this app.

        Raises `ReviewNotFound` for any other id, `ReviewDamaged` if its record cannot be read.
        """
        with self._database.reading() as connection:
            return self._read(connection, review_id)

    def pending(self) -> Reviews:
        """Return the reviews that wait for a reviewer, oldest first."""
        return self.list("pending")

    def list(self, status: Status | None = None) -> Reviews:
        """Return this app's reviews, oldest first. Deletes nothing.

        Its `damaged` names the records that cannot be read, whatever status they seem to have, and
        those of which nobody can say which app's they are.
        """
        found, damaged = Reviews(), list[DamagedReview]()
        with self._database.reading() as connection:
            for rowid, review_id in self._rows(connection, status):
                try:
                    review = self._review(row_at(connection, rowid))
                except DamagedRow as error:
                    damaged.append(DamagedReview(label(review_id, rowid), error.column))
                    continue
                if self._now() < review.expires_at:
                    found.append(review)
                else:
                    found.expired += 1
        found.damaged = tuple(damaged)
        return found

    def approve(
        self,
        review_id: str,
        *,
        reviewer: str,
        note: str | None = None,
        message: dict[str, Any] | None = None,
    ) -> Review:
        """Release the answer, or `message` instead. Raises `ReviewRefused` if not allowed."""
        edited = None if message is None else to_json(message, "edited message")
        return self._decide(review_id, "approved", reviewer, note, edited)

    def reject(self, review_id: str, *, reviewer: str, note: str | None = None) -> Review:
        """Decide that the answer is never released. Raises `ReviewRefused` if not allowed."""
        return self._decide(review_id, "rejected", reviewer, note, None)

    def may_decide(self, review: Review) -> tuple[str, ...]:
        """Return the names of the reviewers who are qualified in all domains of `review`."""
        names = dict.fromkeys(reviewer.name for reviewer in self._reviewers)
        return tuple(name for name in names if not self._lacks(name, review))

    def purge(self, *, trust_clock: bool = False) -> int:
        """Delete reviews past their retention, even pending ones, and return how many.

        `trust_clock`: by this machine's clock alone, if its time is known to be correct.
        """
        with self._database.writing() as connection:
            self._count(connection)
        return self._delete_expired(trust_clock=trust_clock)

    def check(self) -> None:
        """Raise `ReviewError` if the store cannot be used now."""
        with self._database.reading():
            pass

    def after_fork(self) -> None:
        """Make the store usable in a child process."""
        self._database.after_fork()

    def close(self) -> None:
        """Close the store; further use raises `ReviewError`. May be called twice."""
        self._database.close()

    def _decide(
        self, review_id: str, status: Status, reviewer: str, note: str | None, edited: str | None
    ) -> Review:
        if reviewer not in {listed.name for listed in self._reviewers}:
            names = ", ".join(dict.fromkeys(listed.name for listed in self._reviewers))
            raise ReviewRefused(f"{reviewer!r} is not listed as a reviewer; listed: {names}")
        if note is not None:
            encodable(note, "note")
        decided = update(reviews).values(
            status=status,
            decided_at=to_micros(self._now()),
            reviewer=reviewer,
            note=note,
            edited=edited,
        )
        self._delete_expired()
        with self._database.writing() as connection:
            self._count(connection)
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

    def _delete_expired(self, *, trust_clock: bool = False) -> int:
        # Read first, on its own: a damaged page makes a transaction unable to write.
        with self._database.reading() as connection:
            expired = [*self._expired(connection)]
        if not expired:
            return 0
        with self._database.writing() as connection:
            age = self._count(connection)
            due = [
                review.id for review in expired if trust_clock or age(review.id) >= retained(review)
            ]
            for review_id in due:
                connection.execute(delete(reviews).where(reviews.c.id == review_id))
        return len(due)

    def _expired(self, connection: Connection) -> Iterator[Review]:
        """Yield the reviews of all apps that are past their retention by the clock."""
        now = self._now()
        # A retention shortened later also applies to stored items; a longer one does not. Items of
        # other apps are deleted by their stored date, since their app may no longer run.
        shortened = (reviews.c.app == self._app) & (
            reviews.c.created_at <= to_micros(now - self._retention)
        )
        expired = or_(reviews.c.expires_at <= to_micros(now), shortened)
        for rowid in connection.execute(select(rowid_column).where(expired)).scalars().all():
            try:
                yield self._review(row_at(connection, rowid))
            except DamagedRow:
                continue

    def _count(self, connection: Connection) -> Ages:
        return self._database.ages(connection, self._now(), self._steady())

    def _rows(self, connection: Connection, status: Status | None) -> Iterator[tuple[int, object]]:
        """Yield row and id of this app's reviews with a status, and of what may be one of them."""
        columns = select(rowid_column, reviews.c.id, reviews.c.app, reviews.c.status)
        for row in connection.execute(columns.order_by(reviews.c.created_at, rowid_column)).all():
            ours = row.app == self._app or not is_text(row.app)
            if ours and (status in (None, row.status) or row.status not in STATUSES):
                yield row.rowid, row.id

    def _read(self, connection: Connection, review_id: str) -> Review:
        if REVIEW_ID.fullmatch(review_id):
            query = select(rowid_column, reviews.c.app).where(reviews.c.id == review_id)
            found = connection.execute(query).one_or_none()
            if found is not None and (found.app == self._app or not is_text(found.app)):
                try:
                    review = self._review(row_at(connection, found.rowid))
                except DamagedRow as error:
                    message = f"the record of {review_id} is damaged ({error.column})"
                    raise ReviewDamaged(f"{self.place}: {message}") from None
                if self._now() < review.expires_at:
                    return review
        raise ReviewNotFound("no review with this id exists")

    def _review(self, row: Row[Any]) -> Review:
        """Return a row as a review. Raises `DamagedRow`."""
        return review_of(row, self._retention if row.app == self._app else None, self._now)
