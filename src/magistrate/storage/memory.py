"""State in the memory of one process: the default store.

Bounded and thread-safe. It holds digests instead of content, except for the content in
`BoundedStore`. `Unavailable` is never stored: the next request asks the judge again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress

from cachetools import LRUCache

from magistrate.core.decision_record import Decision
from magistrate.storage.expiring_map import ExpiringMap
from magistrate.verdicts import Verdict
from magistrate.wire.digests import canonical_json
from magistrate.wire.messages import JSON

# A conversation that pauses longer is judged again as a whole, once.
LIFETIME_S = 24 * 3600.0
APPROVALS = 200_000
VERDICTS = 20_000
DECISIONS = 10_000
CONTENT_BYTES = 64 * 1024 * 1024


class BoundedStore:
    """JSON by id, up to a total size. The least recently used entry is dropped first.

    The one place where content stays in memory: conversations that the provider holds between
    turns, and the questions of batches, without which their answers could not be judged in context.
    """

    def __init__(self, most_bytes: int = CONTENT_BYTES) -> None:
        self._lock = threading.Lock()
        self._items: LRUCache[str, JSON] = LRUCache(most_bytes, getsizeof=_size)

    def keep(self, key: str, value: JSON) -> None:
        """Store a value. A value larger than the whole store is not kept."""
        with self._lock, suppress(ValueError):
            self._items[key] = value

    def get(self, key: str) -> JSON | None:
        """Return the value, if it is still stored."""
        with self._lock:
            return self._items.get(key)


def _size(value: JSON) -> int:
    return len(canonical_json(value))


class DecisionCache:
    """The latest finished records by id."""

    def __init__(self, most: int = DECISIONS) -> None:
        # Re-entrant: the garbage collector may end a dropped stream while this thread holds it.
        self._lock = threading.RLock()
        self._items: LRUCache[str, Decision] = LRUCache(most)

    def keep(self, decision: Decision) -> None:
        """Store a record."""
        with self._lock:
            self._items[decision.id] = decision

    def get(self, decision_id: str) -> Decision:
        """Return a record. Raises KeyError for an id that is not stored."""
        with self._lock:
            return self._items[decision_id]

    def all(self) -> list[Decision]:
        """Return every record that is stored, oldest first."""
        with self._lock:
            return list(self._items.values())

    def clear(self) -> None:
        """Delete every record."""
        with self._lock:
            self._items.clear()

    def after_fork(self) -> None:
        """Replace the lock: a thread that is not in this process may hold it."""
        self._lock = threading.RLock()


class MemoryState:
    """The state of one process. Implements `StateStore`."""

    blocks = False

    def __init__(self) -> None:
        self.decisions = DecisionCache()
        self._begin()

    def _begin(self) -> None:
        self.threads = BoundedStore()
        self.batches = BoundedStore()
        self._lock = threading.Lock()
        self._approvals: ExpiringMap[str] = ExpiringMap(APPROVALS, LIFETIME_S)
        self._verdicts: ExpiringMap[Verdict] = ExpiringMap(VERDICTS, LIFETIME_S)

    def known(self, keys: Iterable[str]) -> Mapping[str, str]:
        """Return those of the approval keys that are stored, each with its decision's id."""
        with self._lock:
            found = ((key, self._approvals.get(key)) for key in keys)
            return {key: decision_id for key, decision_id in found if decision_id is not None}

    def remember(self, keys: Iterable[str], decision_id: str) -> None:
        """Store approval keys of a decision; a key that is already stored is renewed."""
        with self._lock:
            self._approvals.put(keys, decision_id)

    def verdict(self, key: str) -> Verdict | None:
        """Return an earlier verdict. It cost nothing this time, so its usage is zero."""
        with self._lock:
            found = self._verdicts.get(key)
        return None if found is None else found.without_usage()

    def keep_verdict(self, key: str, verdict: Verdict) -> None:
        """Store a verdict."""
        with self._lock:
            self._verdicts.put((key,), verdict)

    def claim(self, key: str, lifetime_s: float) -> str | None:
        """Claim a question: always, since `SingleFlight` has joined equal ones of this process."""
        return "claimed"

    def release(self, key: str, claim: str) -> None:
        """Give a claim up."""

    def thread(self, message_id: str) -> JSON | None:
        """Return the conversation that the provider holds under this id."""
        return self.threads.get(message_id)

    def keep_thread(self, message_id: str, conversation: JSON) -> None:
        """Store a conversation that the provider holds."""
        self.threads.keep(message_id, conversation)

    def batch(self, batch_id: str) -> JSON | None:
        """Return what was stored for a message batch."""
        return self.batches.get(batch_id)

    def keep_batch(self, batch_id: str, batch: JSON) -> None:
        """Store the questions of a message batch, and the refusals of omitted entries."""
        self.batches.keep(batch_id, batch)

    def decision(self, decision_id: str) -> Decision:
        """Return a finished record. Raises KeyError for an id that is not stored."""
        return self.decisions.get(decision_id)

    def keep_decision(self, decision: Decision) -> None:
        """Store a finished record."""
        self.decisions.keep(decision)

    def after_fork(self) -> None:
        """Empty the store in a child process, except for the records.

        Replaces the locks: a thread that does not exist there may hold them.
        """
        self.decisions.after_fork()
        self._begin()
