"""One judge call for equal questions that are asked at the same time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from magistrate.verdicts import Outcome, Verdict

Resolve = Callable[[Verdict | None], None]


class SingleFlight:
    """One judge call for equal questions that are asked at the same time. Safe for threads.

    The first caller leads: it asks the judge and resolves the question with the outcome. All others
    receive the verdict. Where there is none, one of them receives None and leads from then on, with
    a deadline of its own: an outage of one must not be the outage of all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[float, deque[Resolve]]] = {}

    def join(self, key: str, resolve: Resolve, lifetime_s: float) -> bool:
        """Return whether to lead. If not, `resolve` is called later, once, on any thread.

        A question that is not resolved after `lifetime_s` seconds is given up: its leader is gone.
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
        """End a question that the caller leads, with its outcome or without one."""
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
                follower(None if verdict is None else verdict.without_usage())
            except RuntimeError:  # its event loop or its pool is closed: nobody waits there
                continue
            if verdict is None:
                return
