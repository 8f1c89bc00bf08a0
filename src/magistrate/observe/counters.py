"""Totals of usage and of uninspected items over the decisions of this process."""

from __future__ import annotations

import threading
from collections import Counter

from magistrate.core.decision_record import Decision
from magistrate.settings import Settings
from magistrate.verdicts import Usage
from magistrate.wire.parts import Reason


class Counters:
    """Totals since the start. Thread-safe."""

    def __init__(self) -> None:
        # Re-entrant: the garbage collector may end a dropped stream while this thread holds it.
        self._lock = threading.RLock()
        self._uninspected: Counter[Reason] = Counter()
        self._usage = Usage()

    @property
    def uninspected(self) -> Counter[Reason]:
        """Return how many items no judge could read, by reason."""
        with self._lock:
            return self._uninspected.copy()

    @property
    def usage(self) -> Usage:
        """Return the judges' usage. `cost_usd` is None once a model of unknown price was asked."""
        with self._lock:
            return self._usage

    def record(self, decision: Decision, settings: Settings) -> None:
        """Add a finished decision."""
        with self._lock:
            self._uninspected.update(item.reason for item in decision.uninspected)
            self._usage += decision.usage

    def count_uninspected(self, reason: Reason) -> None:
        """Count a request that no judge can read at all, whether it passed or was stopped."""
        with self._lock:
            self._uninspected[reason] += 1

    def after_fork(self) -> None:
        """Replace the lock: a thread that is not in this process may hold it."""
        self._lock = threading.RLock()
