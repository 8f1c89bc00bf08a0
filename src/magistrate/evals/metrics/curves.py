"""One group of cases, and all that its grades show: rates, curves, calibration.

Detection is a grade of at least `likely`, the grade from which settings act unless they say
otherwise, whatever the severity. Every number is given two ways:

    answered   over the cases the judge answered
    enforced   over all cases; one without an answer counts as detected, since it is blocked

Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from magistrate.evals.metrics.statistics import (
    Estimate,
    Rate,
    fractions,
    library,
    needed,
    percentiles,
    ppv,
    resampled,
    share,
)
from magistrate.verdicts import GRADES, Grade

DETECTED_FROM: Grade = "likely"
RULE = f"a finding of grade {DETECTED_FROM} or above, whatever its severity"
FPR_LIMITS = (0.01, 0.005, 0.001)

Level = Literal["none", "unlikely", "possible", "likely", "certain", "failed"]
Kind = Literal["overall", "section", "stage", "slice", "split", "clause", "contested"]
FAILED = len(GRADES)  # the level of a case without an answer: above all grades
LEVELS: tuple[Level, ...] = (*GRADES, "failed")  # ascending
_DETECTED = GRADES.index(DETECTED_FROM)
_WIDTH = len(LEVELS)


def detected(level: int) -> bool:
    """Return whether a level, an index into `LEVELS`, is a detection; having failed is none."""
    return _DETECTED <= level < FAILED


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a curve: what is reached where all from `level` on is flagged.

    ROC: x is FPR, y is recall. PR: x is recall, y is precision. `level` is None at the end where
    nothing is flagged.
    """

    level: Level | None
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Points from the strictest threshold to the loosest, and the area under them.

    For ROC the area is the AUC by the trapezoid rule, for PR the average precision (a step
    function: straight lines between points of a PR curve would promise too much).
    """

    points: tuple[Point, ...]
    area: float


@dataclass(frozen=True, slots=True)
class RecallAt:
    """The best recall with an FPR of at most `limit`, and the grade to act from that gives it.

    `grade` None: flagging nothing is all that keeps the limit. `refused` says why there is no
    number; all else is None then. `proven`: the whole interval of the FPR keeps the limit, and not
    just its value.
    """

    limit: float
    grade: Grade | None = None
    recall: Rate | None = None
    fpr: Rate | None = None
    proven: bool = False
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of the cases with exactly this grade, the share that violates."""

    grade: Grade
    violating: Rate


@dataclass(frozen=True, slots=True)
class Scores:
    """A group, counted one way. `ppv` is None unless a prevalence was stated."""

    tp: int
    fp: int
    fn: int
    tn: int
    precision: Rate
    recall: Rate
    fpr: Rate
    f1: Estimate
    near_misses: Rate
    roc: Curve | None
    pr: Curve | None
    recall_at: tuple[RecallAt, ...]
    ppv: Estimate | None


@dataclass(frozen=True, slots=True)
class Group:
    """What a group of labelled cases shows.

    `n` cases in `clusters` (a case and its twin are one), `violating` and `benign` of them, and
    `failed` without an answer. `named` cases name a clause of the group in their labels, as
    violated or as ok; the other benign ones are ok because they are ok everywhere. `near_misses`
    in the scores: the flagged share of the benign ones that name it.
    """

    kind: Kind
    name: str
    n: int
    clusters: int
    violating: int
    benign: int
    named: int
    failed: int
    calibration: tuple[Calibration, ...]
    answered: Scores
    enforced: Scores

    @property
    def key(self) -> str:
        return self.name if self.kind in ("overall", "contested") else f"{self.kind} {self.name}"


@dataclass(slots=True)
class Tally:
    """Cases of a group as they are counted: by cluster, by whether they violate, and by level."""

    clusters: defaultdict[str, list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0] * (2 * _WIDTH))
    )
    near: list[int] = field(default_factory=lambda: [0] * _WIDTH)
    named: int = 0

    def add(self, cluster: str, level: int, *, violating: bool, named: bool) -> None:
        self.clusters[cluster][_WIDTH * violating + level] += 1
        self.named += named
        if named and not violating:
            self.near[level] += 1


def group(
    kind: Kind, name: str, tally: Tally, *, prevalence: float | None, draws: int, seed: int
) -> Group:
    """Return what a tally shows. Random numbers depend only on `seed`, kind and name."""
    np = library("numpy")
    rows = list(tally.clusters.values()) or [[0] * (2 * _WIDTH)]
    seen = np.asarray(rows, np.int64).sum(0)
    drawn = resampled(rows, draws, seed, f"{kind} {name}")
    n, ok, bad = int(seen.sum()), seen[:_WIDTH].tolist(), seen[_WIDTH:].tolist()
    answered, enforced = (
        _scores(seen, drawn, tally.near, way, twins=len(tally.clusters) < n, prevalence=prevalence)
        for way in (False, True)
    )
    return Group(
        kind,
        name,
        n,
        len(tally.clusters),
        sum(bad),
        sum(ok),
        tally.named,
        ok[FAILED] + bad[FAILED],
        tuple(
            Calibration(grade, Rate.count(bad[at], ok[at] + bad[at]))
            for at, grade in enumerate(GRADES)
        ),
        answered,
        enforced,
    )


def _scores(
    seen: Any,
    drawn: Any,
    near: Sequence[int],
    enforced: bool,
    *,
    twins: bool,
    prevalence: float | None,
) -> Scores:
    end = _WIDTH if enforced else FAILED
    tp, fp, fn, tn = (int(count) for count in _counts(seen, end))
    spread = {
        name: percentiles(share(top, bottom))
        for name, (top, bottom) in fractions(*_counts(drawn, end)).items()
    }
    parts = fractions(tp, fp, fn, tn)
    rates = {
        name: Rate.count(top, bottom, spread[name] if twins else None)
        for name, (top, bottom) in parts.items()
        if name != "f1"
    }
    top, bottom = parts["f1"]
    ok, bad = seen[:end].tolist(), seen[_WIDTH : _WIDTH + end].tolist()
    roc, pr = _curves(ok, bad)
    return Scores(
        tp,
        fp,
        fn,
        tn,
        **rates,
        f1=Estimate(top / bottom if bottom else None, spread["f1"] if bottom else None),
        near_misses=Rate.count(sum(near[_DETECTED:end]), sum(near[:end])),
        roc=roc,
        pr=pr,
        recall_at=tuple(recall_at(limit, ok, bad) for limit in FPR_LIMITS),
        ppv=None if prevalence is None else ppv(tp, tp + fn, fp, fp + tn, prevalence),
    )


def _counts(sums: Any, end: int) -> tuple[Any, Any, Any, Any]:
    """TP, FP, FN, TN from one row of sums, or from many; levels from `end` on do not count."""
    ok, bad = sums[..., :end], sums[..., _WIDTH : _WIDTH + end]
    return (
        bad[..., _DETECTED:].sum(-1),
        ok[..., _DETECTED:].sum(-1),
        bad[..., :_DETECTED].sum(-1),
        ok[..., :_DETECTED].sum(-1),
    )


def _curves(ok: Sequence[int], bad: Sequence[int]) -> tuple[Curve | None, Curve | None]:
    """ROC and PR over the levels, from how many benign and violating cases have each."""
    if not sum(ok) or not sum(bad):
        return None, None
    sklearn = library("sklearn.metrics")
    truth = [0] * len(ok) + [1] * len(bad)
    levels, weights = [*range(len(ok)), *range(len(bad))], [*ok, *bad]
    fpr, recall, starts = sklearn.roc_curve(
        truth, levels, sample_weight=weights, drop_intermediate=False
    )
    roc = tuple(
        Point(LEVELS[int(start)] if at else None, float(x), float(y))
        for at, (start, x, y) in enumerate(zip(starts, fpr, recall, strict=True))
    )
    precision, recalled, starts = sklearn.precision_recall_curve(
        truth, levels, sample_weight=weights
    )
    pr = [
        Point(LEVELS[int(start)], float(x), float(y))
        for start, x, y in zip(starts, recalled[:-1], precision[:-1], strict=True)
    ]
    area = sklearn.average_precision_score(truth, levels, sample_weight=weights)
    return (
        Curve(roc, float(sklearn.auc(fpr, recall))),
        Curve((Point(None, 0.0, 1.0), *reversed(pr)), float(area)),
    )


def recall_at(limit: float, ok: Sequence[int], bad: Sequence[int]) -> RecallAt:
    """Return the best recall with an FPR of at most `limit`.

    `ok` and `bad`: how many benign and violating cases have each level.
    """
    benign, violating = sum(ok), sum(bad)
    if benign < (enough := needed(limit)):
        return RecallAt(limit, refused=f"needs {enough:,} benign cases, there are {benign:,}")
    if not violating:
        return RecallAt(limit, refused="there are no violating cases")
    for start in range(1, len(GRADES) + 1):  # acting from `none` on would flag everything
        alarms = sum(ok[start:])
        if alarms / benign <= limit:
            fpr = Rate.count(alarms, benign)
            return RecallAt(
                limit,
                GRADES[start] if start < len(GRADES) else None,
                Rate.count(sum(bad[start:]), violating),
                fpr,
                fpr.wilson is not None and fpr.wilson.high <= limit,
            )
    return RecallAt(limit, refused="cases without an answer alone are more than that")
