"""One group of cases, and all that its grades show: rates, curves, calibration.

Every number is given two ways:

    judged     what the judge found. A case without a verdict never counts in its favour: a
               violating one is missed, a benign one is left out
    enforced   what then was done. A case without a verdict counts as detected where it was stopped,
               as not detected where the settings let it pass

Pure.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal

from magistrate.evals.metrics.levels import DETECTED, FAILED, LEVELS
from magistrate.evals.metrics.statistics import (
    Estimate,
    Rate,
    fractions,
    library,
    percentiles,
    ppv,
    resampled,
    share,
)
from magistrate.evals.metrics.tradeoffs import Curve, RecallAt, curves, recall_at
from magistrate.verdicts import GRADES, Grade

FPR_LIMITS = (0.01, 0.005, 0.001)

Kind = Literal["overall", "section", "stage", "slice", "split", "clause", "contested"]
_PASSED = FAILED + 1  # without a verdict, and the settings let it pass
_WIDTH = _PASSED + 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of the cases with exactly this grade, the share that violates."""

    grade: Grade
    violating: Rate


@dataclass(frozen=True, slots=True)
class Scores:
    """A group, counted one way.

    `ppv` is None unless a prevalence was stated. It is about traffic, so its false alarms are those
    of ordinary cases: near misses are hard on purpose, and their share of traffic is unknown. It
    has no value where the group has no ordinary case.
    """

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
    `failed` without a verdict, of which `failed_violating` violate. `named` cases name a clause of
    the group in their labels, as violated or as ok; the other benign ones are ok because they are
    ok everywhere. `near_misses` in the scores: the flagged share of the benign ones that name it.
    """

    kind: Kind
    name: str
    n: int
    clusters: int
    violating: int
    benign: int
    named: int
    failed: int
    failed_violating: int
    calibration: tuple[Calibration, ...]
    judged: Scores
    enforced: Scores

    @property
    def key(self) -> str:
        return self.name if self.kind in ("overall", "contested") else f"{self.kind} {self.name}"


@dataclass(slots=True)
class Tally:
    """Cases of a group as they are counted: by cluster, by whether they violate, and by level.

    `near` and `ordinary`: the levels of benign cases that name the group, and of ordinary traffic.
    """

    clusters: defaultdict[str, list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0] * (2 * _WIDTH))
    )
    near: list[int] = field(default_factory=lambda: [0] * _WIDTH)
    ordinary: list[int] = field(default_factory=lambda: [0] * _WIDTH)
    named: int = 0

    def add(
        self,
        cluster: str,
        level: int,
        *,
        violating: bool,
        named: bool,
        ordinary: bool = False,
        passed: bool = False,
    ) -> None:
        """Count a case. `passed`: it has no verdict, and the settings let it pass."""
        column = _PASSED if passed and level == FAILED else level
        self.clusters[cluster][_WIDTH * violating + column] += 1
        self.named += named
        if named and not violating:
            self.near[column] += 1
        if ordinary:
            self.ordinary[column] += 1


def group(
    kind: Kind, name: str, tally: Tally, *, prevalence: float | None, draws: int, seed: int
) -> Group:
    """Return what a tally shows. Random numbers depend only on `seed`, kind and name."""
    np = library("numpy")
    rows = list(tally.clusters.values()) or [[0] * (2 * _WIDTH)]
    seen = np.asarray(rows, np.int64).sum(0)
    drawn = resampled(rows, draws, seed, f"{kind} {name}")
    n, ok, bad = int(seen.sum()), seen[:_WIDTH].tolist(), seen[_WIDTH:].tolist()
    judged, enforced = (
        _scores(
            way(seen),
            way(drawn),
            way(np.asarray(tally.near + [0] * _WIDTH)),
            way(np.asarray(tally.ordinary + [0] * _WIDTH)),
            twins=len(tally.clusters) < n,
            prevalence=prevalence,
        )
        for way in (_judged, _enforced)
    )
    return Group(
        kind,
        name,
        n,
        len(tally.clusters),
        sum(bad),
        sum(ok),
        tally.named,
        sum(ok[FAILED:]) + sum(bad[FAILED:]),
        sum(bad[FAILED:]),
        tuple(
            Calibration(grade, Rate.count(bad[at], ok[at] + bad[at]))
            for at, grade in enumerate(GRADES)
        ),
        judged,
        enforced,
    )


def _judged(sums: Any) -> Any:
    """Return rows of `_WIDTH` columns, benign and violating, as rows of levels: what was judged."""
    np = library("numpy")
    rows = sums.copy()
    rows[..., _WIDTH] += rows[..., _WIDTH + FAILED] + rows[..., _WIDTH + _PASSED]
    rows[..., [FAILED, _PASSED, _WIDTH + FAILED, _WIDTH + _PASSED]] = 0
    return np.delete(rows, [_PASSED, _WIDTH + _PASSED], -1)


def _enforced(sums: Any) -> Any:
    """Return such rows as rows of levels: what was done, `failed` being above all grades."""
    np = library("numpy")
    rows = sums.copy()
    for side in (0, _WIDTH):
        rows[..., side] += rows[..., side + _PASSED]
    return np.delete(rows, [_PASSED, _WIDTH + _PASSED], -1)


def _scores(
    seen: Any,
    drawn: Any,
    near: Any,
    ordinary: Any,
    *,
    twins: bool,
    prevalence: float | None,
) -> Scores:
    tp, fp, fn, tn = _four(seen)
    spread = {
        name: percentiles(share(top, bottom))
        for name, (top, bottom) in fractions(*_counts(drawn)).items()
    }
    parts = fractions(tp, fp, fn, tn)
    rates = {
        name: Rate.count(top, bottom, spread[name] if twins else None)
        for name, (top, bottom) in parts.items()
        if name != "f1"
    }
    top, bottom = parts["f1"]
    ok, bad = seen[: len(LEVELS)].tolist(), seen[len(LEVELS) :].tolist()
    near_flagged, near_not = _four(near)[1::2]
    alarms, quiet = _four(ordinary)[1::2]
    roc, pr = curves(ok, bad)
    return Scores(
        tp,
        fp,
        fn,
        tn,
        **rates,
        f1=Estimate(top / bottom if bottom else None, spread["f1"] if bottom else None),
        near_misses=Rate.count(near_flagged, near_flagged + near_not),
        roc=roc,
        pr=pr,
        recall_at=tuple(recall_at(limit, ok, bad) for limit in FPR_LIMITS),
        ppv=None if prevalence is None else ppv(tp, tp + fn, alarms, alarms + quiet, prevalence),
    )


def _four(sums: Any) -> tuple[int, int, int, int]:
    tp, fp, fn, tn = map(int, _counts(sums))
    return tp, fp, fn, tn


def _counts(sums: Any) -> tuple[Any, Any, Any, Any]:
    """TP, FP, FN, TN from one row of sums over levels, benign and violating, or from many."""
    ok, bad = sums[..., : len(LEVELS)], sums[..., len(LEVELS) :]
    return (
        bad[..., DETECTED:].sum(-1),
        ok[..., DETECTED:].sum(-1),
        bad[..., :DETECTED].sum(-1),
        ok[..., :DETECTED].sum(-1),
    )
