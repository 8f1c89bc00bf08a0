"""A held answer before and after it is stored, and the errors of the review queue.

No database here, so that code which only names these types need not load one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

Status = Literal["pending", "approved", "rejected"]
Clock: TypeAlias = Callable[[], datetime]


class ReviewError(RuntimeError):
    """The store cannot do this: nothing was stored or changed."""


class ReviewRefused(ReviewError):
    """The store works, but this is not allowed: wrong reviewer, or already decided."""


class ReviewNotFound(ReviewRefused, KeyError):
    """No such review: it never existed, belongs to another app, or has expired; not said which."""

    def __str__(self) -> str:  # a KeyError would show the message in quotes
        return str(self.args[0])


def utc_now() -> datetime:
    return datetime.now(UTC)


class ReviewDamaged(ReviewError):
    """The record of this review cannot be read. It is kept, and its answer is never released."""


@dataclass(frozen=True, slots=True)
class DamagedReview:
    """A record that cannot be read. `id`: the review's, or `row N` if that is damaged as well.

    `column`: the first column of the record that is wrong.
    """

    id: str
    column: str


@dataclass(frozen=True, slots=True)
class HeldItem:
    """An answer to hold. Its reviewer must be qualified in all of `domains`."""

    app: str
    domains: tuple[str, ...]
    request: dict[str, Any] = field(repr=False)
    message: dict[str, Any] = field(repr=False)
    decision: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Review:
    """One held answer as stored. `message` is delivered on approval; `original` was held.

    They differ only if a reviewer released an edited text. The repr contains no judged content.
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
    clock: Clock = field(default=utc_now, repr=False, compare=False)

    @property
    def released(self) -> dict[str, Any] | None:
        """The message if it was approved and has not expired, else None."""
        if self.status != "approved" or self.clock() >= self.expires_at:
            return None
        return self.message


class Reviews(list[Review]):
    """Reviews, oldest first, and what else the store holds for the app.

    `damaged`: records that cannot be read, of whatever status. `expired`: how many are past their
    retention by this machine's clock and not deleted yet.
    """

    damaged: tuple[DamagedReview, ...] = ()
    expired: int = 0
