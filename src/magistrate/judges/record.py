"""The record: which digests were allowed or blocked, and what judges said before.

Bounded memory, one record per `Moderation`, safe for threads. It holds keyed digests and verdicts,
never content. `Unavailable` is never remembered: the next request asks again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from cachetools import TTLCache

from magistrate.verdicts import Outcome, Usage, Verdict

# A conversation that pauses longer is judged again as a whole, once.
LIFETIME_S = 24 * 3600.0
MARKS = 200_000
VERDICTS = 20_000


class Record:
    """Marks (digests that are on record) and verdicts by the digest of their subject."""

    def __init__(self) -> None:
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
