"""The record: which digests were allowed or blocked, and what judges said before.

Bounded memory, one record per `Moderation`, safe for threads. Of content it holds digests, apart
from what `BoundedStore` is for. `Unavailable` is never remembered: the next request asks again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from cachetools import LRUCache

from magistrate.storage.expiring import ExpiringMap
from magistrate.verdicts import Outcome, Usage, Verdict
from magistrate.wire.digests import canonical_json
from magistrate.wire.messages import JSON

# A conversation that pauses longer is judged again as a whole, once.
LIFETIME_S = 24 * 3600.0
MARKS = 200_000
VERDICTS = 20_000
KEPT_BYTES = 64 * 1024 * 1024


class BoundedStore:
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


Resolve = Callable[[Verdict | None], None]


class SingleFlight:
    """One judge call for equal questions that are asked at the same time. Safe for threads.

    Who joins first leads: asks, and lands the flight with what came of it. All others are told the
    verdict. Where there is none, one of them is told None and leads from then on, with a deadline
    of its own: an outage of one must not be the outage of all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[float, deque[Resolve]]] = {}

    def join(self, key: str, resolve: Resolve, lifetime_s: float) -> bool:
        """Whether to lead. If not, `land` is called later, once, on any thread.

        A flight that has not landed after `lifetime_s` is given up: its leader is gone.
        """
        now = time.monotonic()
        with self._lock:
            found = self._waiting.get(key)
            if found is not None and now - found[0] < lifetime_s:
                found[1].append(resolve)
                return False
            # Who waited for a leader that is gone waits for this one.
            self._waiting[key] = (now, deque() if found is None else found[1])
            return True

    def resolve(self, key: str, outcome: Outcome | None) -> None:
        """The leader's question is answered, or will not be."""
        verdict = outcome if isinstance(outcome, Verdict) else None
        while True:
            with self._lock:
                waiting = self._waiting.get(key, (0.0, deque[Resolve]()))[1]
                if not waiting:
                    self._waiting.pop(key, None)
                    return
                follower = waiting.popleft()
                if verdict is None:  # it leads now, and its time begins
                    self._waiting[key] = (time.monotonic(), waiting)
            try:
                follower(None if verdict is None else free(verdict))
            except RuntimeError:  # its event loop or its pool is closed: nobody waits there
                continue
            if verdict is None:
                return


def free(verdict: Verdict) -> Verdict:
    """A verdict that somebody else has paid for."""
    return replace(verdict, usage=Usage())


class Record:
    """Marks (digests that are on record) and verdicts by the digest of their subject."""

    def __init__(self) -> None:
        self.threads = BoundedStore()
        self.batches = BoundedStore()
        self.single_flight = SingleFlight()
        self._lock = threading.Lock()
        self._marks: ExpiringMap[Literal[True]] = ExpiringMap(MARKS, LIFETIME_S)
        self._verdicts: ExpiringMap[Verdict] = ExpiringMap(VERDICTS, LIFETIME_S)

    def known(self, keys: Iterable[str]) -> frozenset[str]:
        """Those of the digests that are on record."""
        with self._lock:
            return frozenset([key for key in keys if self._marks.get(key)])

    def remember(self, keys: Iterable[str]) -> None:
        """Put digests on record; a digest that is there already is renewed."""
        with self._lock:
            self._marks.put(keys, True)

    def verdict(self, key: str) -> Verdict | None:
        """An earlier verdict. It cost nothing this time, so its usage is zero."""
        with self._lock:
            found = self._verdicts.get(key)
        return None if found is None else free(found)

    def keep(self, key: str, verdict: Verdict) -> None:
        """Remember a verdict."""
        with self._lock:
            self._verdicts.put((key,), verdict)
