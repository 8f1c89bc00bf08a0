"""The record: which digests were allowed or blocked, and what judges said before.

Bounded memory, one record per `Moderation`, safe for threads. Of content it holds digests, apart
from what `Keep` is for. `Unavailable` is never remembered: the next request asks again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress

from cachetools import LRUCache, TTLCache

from magistrate.digests import canonical_json
from magistrate.messages import JSON
from magistrate.verdicts import Outcome, Usage, Verdict

# A conversation that pauses longer is judged again as a whole, once.
LIFETIME_S = 24 * 3600.0
MARKS = 200_000
VERDICTS = 20_000
KEPT_BYTES = 64 * 1024 * 1024


class Keep:
    """JSON by id, up to a total size. What is used least is forgotten first.

    The one place where content stays in memory: conversations that the provider holds between
    turns, and the questions of batches, without which their answers could not be judged in context.
    """

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._lock = threading.Lock()
        self._items: LRUCache[str, JSON] = LRUCache(most_bytes, getsizeof=_size)

    def keep(self, key: str, value: JSON) -> None:
        """Keep a value; one larger than everything together may be is not kept."""
        with self._lock, suppress(ValueError):
            self._items[key] = value

    def get(self, key: str) -> JSON | None:
        """The value, if it is still there."""
        with self._lock:
            return self._items.get(key)


def _size(value: JSON) -> int:
    return len(canonical_json(value))


class Record:
    """Marks (digests that are on record) and verdicts by the digest of their subject."""

    def __init__(self) -> None:
        self.threads = Keep()
        self.batches = Keep()
        self._lock = threading.Lock()
        self._marks: TTLCache[str, bool] = TTLCache(MARKS, LIFETIME_S)
        self._verdicts: TTLCache[str, Verdict] = TTLCache(VERDICTS, LIFETIME_S)

    def known(self, keys: Iterable[str]) -> frozenset[str]:
        """Those of the digests that are on record."""
        with self._lock:
            return frozenset(key for key in keys if key in self._marks)

    def remember(self, keys: Iterable[str]) -> None:
        """Put digests on record; a digest that is there already is renewed."""
        with self._lock:
            for key in keys:
                self._marks[key] = True

    def verdict(self, key: str) -> Verdict | None:
        """An earlier verdict. It cost nothing this time, so its usage is zero."""
        with self._lock:
            found = self._verdicts.get(key)
        if found is None:
            return None
        return Verdict(found.judge, found.findings, found.high_risk, found.discloses_ai, Usage())

    def keep(self, key: str, outcome: Outcome) -> None:
        """Remember a verdict; an `Unavailable` is not one."""
        if isinstance(outcome, Verdict):
            with self._lock:
                self._verdicts[key] = outcome
