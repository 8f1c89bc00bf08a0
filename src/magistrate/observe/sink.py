"""Where a finished decision goes: the audit log, the counters, and any other sink."""

from __future__ import annotations

from typing import Protocol

from magistrate.core.decision_record import Decision
from magistrate.settings import Settings


class Sink(Protocol):
    """Takes every finished decision. Must be thread-safe and must not raise."""

    def record(self, decision: Decision, settings: Settings) -> None: ...
