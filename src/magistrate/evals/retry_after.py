"""How long a server asks to be left alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from magistrate.judging.base import ModelReply

_BUSY = frozenset({429, 503, 529})


def _now() -> datetime:
    return datetime.now(UTC)


def retry_after(reply: ModelReply, now: Callable[[], datetime] = _now) -> float | None:
    """Return the seconds until a server wants to be asked again; None where it does not say.

    Read from `retry-after-ms`, or from `retry-after` in seconds or as a date; names of headers in
    any case. Only a reply that says that there is no time counts.
    """
    if reply.status not in _BUSY:
        return None
    headers = {name.lower(): value for name, value in reply.headers.items()}
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if seconds >= 0:
            return seconds
    try:
        then = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, (then - now()).total_seconds())
    except (TypeError, ValueError):
        return None
