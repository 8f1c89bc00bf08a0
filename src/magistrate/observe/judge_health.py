"""Whether the judge answers, as the latest decisions show it: no call is made to find out."""

from __future__ import annotations

import time
from collections.abc import Callable

from magistrate.core.decision_record import Decision
from magistrate.settings import Settings

# So many decisions in a row without a judge are no accident.
_IN_A_ROW = 5
# After this many seconds without a request, the judge is tried again with the next one.
_FORGOTTEN_AFTER_S = 60.0


class JudgeHealth:
    """A sink that counts decisions in a row for which no judge was available.

    Not exact across threads, which is enough for a health check.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._in_a_row = 0
        self._reason = ""
        self._last = 0.0

    def record(self, decision: Decision, settings: Settings) -> None:
        """Take note of a finished decision."""
        if decision.judge_failures:
            failed = decision.judge_failures[-1]
            self._in_a_row += 1
            self._reason = f"{failed.reason} {failed.detail}".rstrip()
            self._last = self._clock()
        elif decision.usage.judge_calls:
            self._in_a_row = 0

    def failing(self) -> str | None:
        """Return why the judge fails, if it failed for the latest decisions; else None."""
        recent = self._clock() - self._last < _FORGOTTEN_AFTER_S
        return self._reason if self._in_a_row >= _IN_A_ROW and recent else None
