"""Two runs over the same cases: one row of their comparison, and its tests. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from magistrate.evals.cases import Case
from magistrate.evals.metrics.action_metrics import level_of, was_stopped
from magistrate.evals.metrics.levels import detected
from magistrate.evals.metrics.measures import label_of
from magistrate.evals.metrics.statistics import (
    Estimate,
    fractions,
    holm,
    library,
    mcnemar,
    percentiles,
    resampled,
    share,
)
from magistrate.evals.results import Result

Way = Literal["judged", "enforced"]


@dataclass(frozen=True, slots=True)
class Paired:
    """How often both, only one, and neither of two runs did something.

    `p` is that of the exact McNemar test, which takes cases for independent: of a violating case
    and its ok twin, `recall` and `false_positives` count one each, `correct` both. `adjusted` is p
    adjusted by Holm's method over the `tests` sections that have a case to test; None for the
    overall row and where there is no case.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float
    adjusted: float | None = None
    tests: int = 1

    @property
    def n(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither


@dataclass(frozen=True, slots=True)
class Compared:
    """One section, or all, on the cases that both runs were asked about.

    `judged`: what the judges found. A violating case without a verdict is missed; a benign one that
    either run has no verdict on is left out. `enforced`: what then was done. A case without a
    verdict counts as detected where it was stopped.

    `correct` counts right detections over all these cases, `recall` detections of violating ones,
    `false_positives` detections of benign ones. The differences are b minus a, with intervals from
    resampling clusters. `floor`: a clause of the section has a floor.
    """

    name: str
    way: Way
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
class Both:
    """A case and its first judgment in either run."""

    case: Case
    a: Result
    b: Result

    @property
    def with_verdicts(self) -> bool:
        return self.a.verdict is not None and self.b.verdict is not None


def compared(
    name: str,
    both: Iterable[Both],
    clauses: Collection[str] | None,
    *,
    way: Way,
    floor: bool,
    draws: int,
    seed: int,
) -> Compared:
    """Return one row: of a section and its clauses, or, without clauses, of all.

    A cluster's columns are bits: violating, detected by a, detected by b.
    """
    np = library("numpy")
    clusters: defaultdict[str, list[int]] = defaultdict(lambda: [0] * 8)
    for one in both:
        if clauses is None:
            violating = one.case.violates
        else:
            label = label_of(one.case, clauses, name)
            violating = None if label is None else label == "violated"
        if violating is None or (way == "judged" and not violating and not one.with_verdicts):
            continue
        by_a, by_b = (_detected(result, clauses, way) for result in (one.a, one.b))
        clusters[one.case.cluster][4 * violating + 2 * by_a + by_b] += 1
    rows = list(clusters.values()) or [[0] * 8]
    seen = np.asarray(rows, np.int64).sum(0)
    drawn = resampled(rows, draws, seed, f"compare {name}")
    ok_neither, ok_b, ok_a, ok_both, missed, found_b, found_a, found_both = seen.tolist()
    differences = _differences(drawn)
    return Compared(
        name,
        way,
        int(seen.sum()),
        len(clusters),
        floor,
        _paired(ok_neither + found_both, ok_b + found_a, ok_a + found_b, ok_both + missed),
        _paired(found_both, found_a, found_b, missed),
        _paired(ok_both, ok_a, ok_b, ok_neither),
        *(
            Estimate(None if np.isnan(value) else float(value), percentiles(differences[name]))
            for name, value in _differences(seen).items()
        ),
    )


def _detected(result: Result, clauses: Collection[str] | None, way: Way) -> bool:
    stopped = way == "enforced" and result.verdict is None and was_stopped(result)
    return stopped or detected(level_of(result, clauses))


def _paired(both: int, only_a: int, only_b: int, neither: int) -> Paired:
    return Paired(both, only_a, only_b, neither, mcnemar(only_a, only_b))


def _differences(sums: Any) -> dict[str, Any]:
    """Recall, FPR and F1 of b minus those of a; of one row of sums, or of many."""
    ok_neither, ok_b, ok_a, ok_both, missed, found_b, found_a, found_both = (
        sums[..., column] for column in range(8)
    )
    of_a = fractions(found_both + found_a, ok_both + ok_a, missed + found_b, ok_neither + ok_b)
    of_b = fractions(found_both + found_b, ok_both + ok_b, missed + found_a, ok_neither + ok_a)
    return {name: share(*of_b[name]) - share(*of_a[name]) for name in ("recall", "fpr", "f1")}


def adjusted(sections: Sequence[Compared]) -> tuple[Compared, ...]:
    """Holm's method over the sections, for each of the three tests by itself."""
    found = list(sections)
    for test in ("correct", "recall", "false_positives"):
        rows: dict[str, Paired] = {row.name: getattr(row, test) for row in found}
        p_values = holm({name: row.p for name, row in rows.items() if row.n})
        found = [
            replace(
                row,
                **{
                    test: replace(
                        rows[row.name], adjusted=p_values.get(row.name), tests=len(p_values)
                    )
                },
            )
            for row in found
        ]
    return tuple(found)
