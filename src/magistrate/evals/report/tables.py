"""The tables of a report: every number in it, as text in cells. Pure.

With two runs each column is repeated, marked A and B; with one it is not marked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from magistrate.evals.metrics.curves import Group, Scores
from magistrate.evals.metrics.levels import DETECTED_FROM
from magistrate.evals.metrics.measures import MIN_NAMED, Metrics
from magistrate.evals.metrics.statistics import Rate
from magistrate.evals.metrics.tradeoffs import RecallAt
from magistrate.evals.report.cells import LETTERS, Cell, Table, across, n, num, per_run, row
from magistrate.evals.report.words import NONE, estimate, share
from magistrate.evals.run_folder import Run
from magistrate.verdicts import GRADES

# --- what was measured ----------------------------------------------------------------------------


def measured(runs: Sequence[Run], metrics: Sequence[Metrics]) -> Table:
    """Return which run of which judge was measured, when, and every hash."""
    lines: list[tuple[str, Callable[[Run, Metrics], str]]] = [
        ("Run", lambda run, _: run.name),
        ("Begun", lambda run, _: _said(run.manifest.get("started"))),
        ("Judge", lambda run, _: _said(_judge(run, "name"))),
        ("Model", lambda run, _: _said(_judge(run, "model"))),
        ("Policy", lambda _, found: found.policy),
        ("Split", lambda _, found: found.split or "all"),
        ("Sample", lambda run, _: run.sampled or "all cases"),
        ("Cases judged", lambda _, found: f"{found.judged:,} of {found.cases:,}"),
        ("Times each", lambda run, _: _said(run.manifest.get("repeat"))),
        ("Judgments", lambda _, found: f"{found.judgments.n:,}"),
        ("Flagged means", lambda _, found: found.detection),
        ("Resampling", lambda _, found: f"{found.draws:,} draws, seed {found.seed}"),
        ("Hash of the prompt", lambda run, _: _said(_judge(run, "prompt_hash"))),
        ("Hash of the policy", lambda run, _: _said(run.manifest.get("policy_hash"))),
        ("Hash of the settings", lambda run, _: _said(run.manifest.get("settings_hash"))),
        ("Hash of the cases", lambda run, _: _said(run.manifest.get("cases_hash"))),
        ("magistrate", lambda run, _: _said(run.manifest.get("magistrate"))),
        ("anthropic SDK", lambda run, _: _said(run.manifest.get("anthropic"))),
        ("Python", lambda run, _: _said(run.manifest.get("python"))),
    ]
    return Table(
        "What was measured",
        ("", *per_run("Run", runs)),
        tuple(
            row(name, *(tell(run, found) for run, found in zip(runs, metrics, strict=True)))
            for name, tell in lines
        ),
    )


def _judge(run: Run, key: str) -> object:
    found: object = run.manifest.get("judge")
    return found.get(key) if isinstance(found, Mapping) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]


def _said(value: object) -> str:
    return NONE if value is None else str(value)


# --- groups of cases ------------------------------------------------------------------------------


def groups(
    caption: str,
    metrics: Sequence[Metrics],
    found: Sequence[Sequence[Group]],
    *,
    titles: Mapping[str, str] | None = None,
    filter_as: str | None = None,
    href: Callable[[str], str] | None = None,
    note: str = "",
) -> Table:
    """One row a group, of one kind, of each run. `filter_as`: the filter that leaves its cases.

    A count of what went wrong links to the cases that were counted.
    """
    titles = titles or {}
    also = {"contested": "yes" if filter_as == "contested" else "no"}
    by_name = [{group.name: group for group in groups} for groups in found]
    names = list(dict.fromkeys(name for each in by_name for name in each))
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        mine = [each.get(name) for each in by_name]

        def wrong(
            outcome: str, count: Callable[[Group], int], mine: list[Group | None] = mine
        ) -> list[Cell]:
            cells: list[Cell] = []
            for at, group in enumerate(mine):
                filters = also | {"outcome": outcome}
                filters |= {"run": LETTERS[at]} if len(found) > 1 else {}
                filters |= {"split": split} if (split := metrics[at].split) else {}
                filters |= {filter_as: group.name} if group and filter_as in _FILTERS else {}
                cells.append(n(count(group), **filters) if group else num(NONE))
            return cells

        rows.append(
            (
                Cell(titles.get(name, name), href(name) if href else None),
                num(_sizes(mine)),
                *across(mine, _of(lambda scores: share(scores.recall)), _caught_enforced),
                # A link leads to what was judged and missed; failures are cases of their own.
                *wrong("missed", lambda group: group.judged.fn - group.failed_violating),
                *across(mine, _of(lambda scores: share(scores.fpr)), _flagged_enforced),
                *wrong("alarm", lambda group: group.judged.fp),
                *across(mine, _of(lambda scores: share(scores.near_misses))),
                *across(mine, _of(lambda scores: share(scores.precision))),
                *across(mine, _of(lambda scores: estimate(scores.f1))),
            )
        )
    head = [title for name in _COLUMNS for title in per_run(name, found)]
    return Table(caption, ("", "Violating / harmless", *head), tuple(rows), note)


_FILTERS = ("section", "clause", "stage", "slice", "split")
_COLUMNS = (
    "Caught",
    "Caught, enforced",
    "Missed",
    "Harmless flagged",
    "Harmless flagged, enforced",
    "False alarms",
    "Near misses flagged",
    "Precision",
    "F1",
)


def _sizes(mine: Sequence[Group | None]) -> str:
    """Return `24 / 750`, once where the runs agree."""
    told = [f"{group.violating:,} / {group.benign:,}" if group else NONE for group in mine]
    if len(set(told)) == 1:
        return told[0]
    return ", ".join(f"{letter}: {each}" for letter, each in zip(LETTERS, told, strict=True))


def _caught_enforced(group: Group | None) -> str:
    return share(group.enforced.recall) if group else NONE


def _flagged_enforced(group: Group | None) -> str:
    return share(group.enforced.fpr) if group else NONE


def _of(tell: Callable[[Scores], str]) -> Callable[[Group | None], str]:
    return lambda group: tell(group.judged) if group else NONE


def clauses(found: Sequence[Metrics], titles: Mapping[str, str]) -> Table:
    """Return the clauses with enough cases, and how many have too few."""
    few = max(len(metrics.too_few) for metrics in found)
    note = f"{few:,} more have fewer than {MIN_NAMED} cases that name them." if few else ""
    by_clause = [metrics.clauses for metrics in found]
    return groups("By clause", found, by_clause, titles=titles, filter_as="clause", note=note)


def contested(found: Sequence[Metrics]) -> Table:
    """Return the cases on whose label reviewers disagree; no row where there are none."""
    groups_found = [[each.contested] if each.contested.n else [] for each in found]
    return groups(
        "Contested cases, as they are labelled", found, groups_found, filter_as="contested"
    )


def thresholds(name: str, found: Sequence[Group | None]) -> Table:
    """Return what acting from each grade on would catch and flag, from the points of the curves."""
    rows = [
        row(
            f"{grade}{' (as measured)' if grade == DETECTED_FROM else ''}",
            *across(
                [points(group, grade) for group in found],
                lambda at: share(at.caught),
                lambda at: share(at.flagged),
                lambda at: share(at.precision),
            ),
        )
        for grade in GRADES[1:]
    ]
    head = [
        title
        for column in ("Caught", "Harmless flagged", "Precision")
        for title in per_run(column, found)
    ]
    return Table(f"{name}: if flagged from this grade on", ("From grade", *head), tuple(rows))


@dataclass(frozen=True, slots=True)
class At:
    """What flagging from one grade on leads to."""

    caught: Rate
    flagged: Rate
    precision: Rate


def points(group: Group | None, grade: str) -> At:
    """Return what flagging from a grade on leads to in a group, by its calibration."""
    ok = caught = flagged = 0
    bad = group.failed_violating if group else 0  # no grade catches what has no verdict
    for line in group.calibration if group else ():
        bad, ok = bad + line.violating.hits, ok + line.violating.of - line.violating.hits
        if GRADES.index(line.grade) >= GRADES.index(grade):
            caught += line.violating.hits
            flagged += line.violating.of - line.violating.hits
    return At(
        Rate.count(caught, bad), Rate.count(flagged, ok), Rate.count(caught, caught + flagged)
    )


def areas(found: Sequence[Group | None]) -> str:
    """Return the areas under the curves of a group, in one line."""
    told: list[str] = []
    for at, group in enumerate(found):
        if group and group.judged.roc and group.judged.pr:
            whose = f"{LETTERS[at]}: " if len(found) > 1 else ""
            told.append(
                f"{whose}area under the ROC curve {group.judged.roc.area:.3f}, average "
                f"precision {group.judged.pr.area:.3f}"
            )
    return "; ".join(told)


def calibration(found: Sequence[Metrics]) -> Table:
    rows = [
        row(
            grade,
            *across(
                [metrics.overall.calibration[at].violating for metrics in found],
                lambda rate: f"{rate.of:,}",
                share,
            ),
        )
        for at, grade in enumerate(GRADES)
    ]
    head = per_run("Cases", found) + per_run("Violating", found)
    return Table("Of the cases of each grade, how many are violating", ("", *head), tuple(rows))


def limits(found: Sequence[Metrics]) -> Table:
    """Return the best recall at each limit of the false alarm rate, or why there is no number."""
    pairs = [metrics.overall.judged.recall_at for metrics in found]
    rows = [
        row(
            f"at most {100 * each[0].limit:g}%",
            *across(each, _from_grade, _best, lambda at: share(at.fpr) if at.fpr else NONE),
            *across(each, lambda at: NONE if at.refused else "yes" if at.proven else "no"),
        )
        for each in zip(*pairs, strict=True)
    ]
    columns = ("Flag from", "Caught", "Harmless flagged", "Shown by the sample")
    head = [title for name in columns for title in per_run(name, found)]
    return Table("The most that can be caught", ("Harmless flagged", *head), tuple(rows))


def _from_grade(at: RecallAt) -> str:
    return NONE if at.refused else at.grade or "nothing keeps it"


def _best(at: RecallAt) -> str:
    return at.refused or (share(at.recall) if at.recall else NONE)
