"""Share one judge call among equal questions that are asked concurrently."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from magistrate.verdicts import Outcome, Verdict

Resolve = Callable[[Verdict | None], None]


class SingleFlight:
    """Shares one judge call among equal questions that are asked concurrently. Thread-safe.

    The first caller is the leader: it asks the judge and resolves the question with the outcome.
    All others receive the verdict. If there is none, one of them receives None and becomes the
    leader, with its own deadline: an outage for one must not be an outage for all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[float, deque[Resolve]]] = {}

    def join(self, key: str, resolve: Resolve, lifetime_s: float) -> bool:
        """Return whether the caller is the leader. If not, `resolve` is called later, once.

        That can be on any thread. If a question is not resolved after `lifetime_s` seconds, its
        leader counts as gone, and the next caller is the leader.
        """
        now = time.monotonic()
        with self._lock:
            found = self._waiting.get(key)
            if found is not None and now - found[0] < lifetime_s:
                found[1].append(resolve)
                return False
            # Callers that waited for the previous leader now wait for this one.
            self._waiting[key] = (now, deque() if found is None else found[1])
            return True

    def resolve(self, key: str, outcome: Outcome | None) -> None:
        """Resolve a question that the caller leads, with its outcome or without one."""
        verdict = outcome if isinstance(outcome, Verdict) else None
        while True:
            with self._lock:
                waiting = self._waiting.get(key, (0.0, deque[Resolve]()))[1]
                if not waiting:
                    self._waiting.pop(key, None)
                    return
                follower = waiting.popleft()
                if verdict is None:  # the follower is now the leader, and its lifetime begins
                    self._waiting[key] = (time.monotonic(), waiting)
            try:
                follower(None if verdict is None else verdict.without_usage())
            except RuntimeError:  # its event loop or pool is closed: no caller waits there
                continue
            if verdict is None:
                return
