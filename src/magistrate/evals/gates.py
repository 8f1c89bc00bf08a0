"""Rules that a run must pass, in words: `fpr <= 0.02`, `no new misses in floor clauses`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from magistrate.evals.compare import Comparison
from magistrate.evals.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule as written, whether the run passed it, and the numbers that say so."""

    rule: str
    passed: bool
    because: str


def check(
    rules: Sequence[str], metrics: Metrics, comparison: Comparison | None = None
) -> tuple[Gate, ...]:
    """Every rule, in order. Raises `SettingsError` with all rules that cannot be read."""
    raise NotImplementedError
