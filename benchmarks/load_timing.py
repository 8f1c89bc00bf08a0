"""CPU time of what runs in turn, best round by best round. Standard library only: `load_peer.py`
runs it under another interpreter."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """What one thing took, by variant; the first variant is what the others are compared with.

    `unit`: seconds of CPU, or instructions. `tokens` of the stream, and `calls` of the judge, that
    one run has, where a cost by token or by call says something.
    """

    part: str
    name: str
    values: dict[str, float]
    unit: str = "s"
    tokens: int = 0
    calls: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def base(self) -> str:
        return next(iter(self.values))

    def ratio(self, variant: str) -> float:
        return self.values[variant] / self.values[self.base]


def alternating(
    runs: Mapping[str, Callable[[], object]],
    seconds: float,
    *,
    per: int = 1,
    before: Callable[[], object] | None = None,
) -> dict[str, float]:
    """The CPU seconds that each run takes per unit; `seconds` is how long to go on, at least once.

    Rounds alternate, and the best of each counts: what else the machine does can only add. They
    should be short, a few milliseconds, so that some of them have the machine to themselves. No
    collection of garbage right before one: it would leave the processor's caches cold. `before`
    runs ahead of each round, untimed.
    """
    best = dict.fromkeys(runs, float("inf"))
    gc.collect()
    until = time.monotonic() + seconds
    while True:
        if before is not None:
            before()
        for name, run in runs.items():
            started = time.process_time()
            run()
            best[name] = min(best[name], (time.process_time() - started) / per)
        if time.monotonic() >= until:
            return best
