"""What changed from one run to another, on the cases that both judged. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from magistrate.evals.cases import Split
from magistrate.evals.curves import Level
from magistrate.evals.statistics import Estimate
from magistrate.messages import JSON
from magistrate.verdicts import Severity, Stage

Change = Literal["lost", "won", "same"]


@dataclass(frozen=True, slots=True)
class Paired:
    """How often both, only one, and neither of two runs did something.

    `p` is that of the exact McNemar test. `adjusted` is p adjusted by Holm's method over all
    sections of the comparison; None for the overall row.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float
    adjusted: float | None = None

    @property
    def n(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither


@dataclass(frozen=True, slots=True)
class Compared:
    """One section, or all, on the cases that both runs answered.

    `correct` counts right detections over all cases, `recall` detections of violating ones,
    `false_positives` detections of benign ones. The differences are b minus a, with intervals from
    resampling clusters. `floor`: a clause of the section has a floor.
    """

    name: str
    n: int
    clusters: int
    floor: bool
    correct: Paired
    recall: Paired
    false_positives: Paired
    recall_difference: Estimate
    fpr_difference: Estimate
    f1_difference: Estimate


@dataclass(frozen=True, slots=True)
class Flip:
    """A case whose detection, action, or having an answer differs between the runs.

    `change`: from a to b, what is expected of it was lost or won; `same` where both are wrong, or
    right in detection but handled differently. `floor_missed`: it violates a clause on whose floor
    it stands; a found it under some floor clause, and b under none though it answered.
    """

    case: str
    stage: Stage
    split: Split
    contested: bool
    labels: dict[str, str]
    severity: Severity | None
    expected: str
    level_a: Level
    level_b: Level
    action_a: str
    action_b: str
    change: Change
    floor_missed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Run b measured against run a, the baseline.

    `left_out` counts cases by why they are not compared: `only in a`, `only in b`, `changed` (same
    id, other content or labels), `not judged in a`, `not judged in b`. `contested`, `failed in a`
    and `failed in b` are compared as `flips` only.
    """

    a: str
    b: str
    policy: str
    same_policy: bool
    split: Split | None
    draws: int
    seed: int
    compared: int
    left_out: dict[str, int]
    flips_only: dict[str, int]
    overall: Compared
    sections: tuple[Compared, ...]
    flips: tuple[Flip, ...]

    def as_json(self) -> JSON:
        return asdict(self)
