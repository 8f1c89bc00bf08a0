"""How long a server asks to be left alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from magistrate.judging.base import ModelReply

_BUSY = frozenset({429, 503, 529})


def _now() -> datetime:
    return datetime.now(UTC)


def asked_wait(given: Mapping[str, str], now: Callable[[], datetime] = _now) -> float | None:
    """Return the seconds that a response's headers ask to wait; None where they do not say.

    As the SDK reads them: `retry-after-ms`, or `retry-after` in seconds or as a date; names of
    headers in any case.
    """
    headers = {name.lower(): value for name, value in given.items()}
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


def retry_after(reply: ModelReply, now: Callable[[], datetime] = _now) -> float | None:
    """Return the seconds until a busy server wants to be asked again.

    None where it does not say, or does not say that there is no time.
    """
    return asked_wait(reply.headers, now) if reply.status in _BUSY else None
