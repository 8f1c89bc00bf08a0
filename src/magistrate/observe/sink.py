"""Where a finished decision goes: the audit, the counters, and whatever else listens."""

from __future__ import annotations

from typing import Protocol

from magistrate.core.decision import Decision
from magistrate.settings import Settings


class Sink(Protocol):
    """Takes every finished decision. Must be safe for threads, and must not raise."""

    def record(self, decision: Decision, settings: Settings) -> None: ...
