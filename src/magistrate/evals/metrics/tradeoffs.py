"""What is caught, and what is flagged without reason, if findings count from some grade. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from magistrate.evals.metrics.levels import LEVELS, Level
from magistrate.evals.metrics.statistics import Rate, library, needed
from magistrate.verdicts import GRADES, Grade


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


def curves(ok: Sequence[int], bad: Sequence[int]) -> tuple[Curve | None, Curve | None]:
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
