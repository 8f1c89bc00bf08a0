"""What a run shows: `measure(run)`.

Which case counts in which group, and how often what happened. The numbers of one group are in
`curves`, what was done to people in `conduct`. Pure.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from magistrate.evals.cases import Split
from magistrate.evals.conduct import Conduct, Cost, Flips, Judgments, Latency
from magistrate.evals.curves import Group
from magistrate.messages import JSON

MIN_NAMED = 20  # cases that name a clause in their labels, below which it has no group of its own


@dataclass(frozen=True, slots=True)
class Metrics:
    """All numbers of a run.

    `overall` asks of each case whether it violates anything, and whether the judge detected
    anything. A section or a clause asks about itself alone: a benign case counts everywhere, and
    one with a violation only where its labels say something. Groups and `conduct` are about the
    first repeat and leave contested cases out, which are in `contested`; `flips`, `judgments`,
    `latency` and `cost` are about all judgments. `split` None: of both splits.
    """

    run: str
    policy: str
    detection: str
    split: Split | None
    prevalence: float | None
    draws: int
    seed: int
    cases: int
    judged: int
    overall: Group
    sections: tuple[Group, ...]
    stages: tuple[Group, ...]
    slices: tuple[Group, ...]
    splits: tuple[Group, ...]
    clauses: tuple[Group, ...]
    contested: Group
    conduct: Conduct
    flips: Flips
    judgments: Judgments
    latency: Latency
    cost: Cost

    @property
    def groups(self) -> tuple[Group, ...]:
        """All groups, the overall one first and contested cases last."""
        return (
            self.overall,
            *self.sections,
            *self.stages,
            *self.slices,
            *self.splits,
            *self.clauses,
            self.contested,
        )

    def as_json(self) -> JSON:
        return asdict(self)
