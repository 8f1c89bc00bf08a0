"""The tables of a report: every number in it, as text in cells. Pure.

With two runs a column stands twice, marked A and B; with one it is not marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from magistrate.evals.compare import Compared, Comparison, Flip
from magistrate.evals.conduct import DECIDED, EXPECTED, TwoWays
from magistrate.evals.curves import DETECTED_FROM, Group, RecallAt, Scores
from magistrate.evals.metrics import MIN_NAMED, Metrics
from magistrate.evals.report_words import (
    NONE,
    difference,
    dollars,
    estimate,
    p_value,
    percent,
    seconds,
    share,
)
from magistrate.evals.results import Run
from magistrate.evals.statistics import Rate
from magistrate.verdicts import GRADES

FLIPS_SHOWN = 200  # of the flipped cases in the page itself; all are among the cases
LETTERS = ("A", "B")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell; `href` is a place in the page; `number` aligns it as one."""

    text: str
    href: str | None = None
    number: bool = False
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row is its heading. `note` explains it below."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def row(*cells: Cell | str) -> tuple[Cell, ...]:
    """A row: plain text where no cell is given."""
    return tuple(Cell(cell) if isinstance(cell, str) else cell for cell in cells)


def n(value: int, **filters: str) -> Cell:
    """A count; with filters, a link to the cases that were counted, if there are any."""
    return Cell(f"{value:,}", cases(**filters) if filters and value else None, number=True)


def num(text: str) -> Cell:
    return Cell(text, number=True)


def cases(**filters: str) -> str:
    """The address, in the page, of the cases that filters leave."""
    return "#" + urlencode(filters)


def per_run(name: str, runs: Sequence[object]) -> list[str]:
    """A column's heading, once for each run."""
    return [name] if len(runs) == 1 else [f"{name}, {LETTERS[at]}" for at in range(len(runs))]


def across(items: Sequence[T], *makers: Callable[[T], str]) -> list[Cell]:
    """Cells of each maker for each run."""
    return [num(make(item)) for make in makers for item in items]


# --- what was measured ----------------------------------------------------------------------------


def measured(runs: Sequence[Run], metrics: Sequence[Metrics]) -> Table:
    """Of whom, when, under what, with which hashes."""
    lines: list[tuple[str, Callable[[Run, Metrics], str]]] = [
        ("Run", lambda run, _: run.name),
        ("Begun", lambda run, _: _said(run.manifest.get("started"))),
        ("Judge", lambda run, _: _said(_judge(run, "name"))),
        ("Model", lambda run, _: _said(_judge(run, "model"))),
        ("Policy", lambda _, found: found.policy),
        ("Split", lambda _, found: found.split or "all"),
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
    found: Sequence[Sequence[Group]],
    *,
    titles: Mapping[str, str] | None = None,
    filter_as: str | None = None,
    href: Callable[[str], str] | None = None,
    note: str = "",
) -> Table:
    """One row a group, of one kind, of each run. `filter_as`: the filter that leaves its cases."""
    titles = titles or {}
    by_name = [{group.name: group for group in groups} for groups in found]
    names = list(dict.fromkeys(name for each in by_name for name in each))
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        mine = [each.get(name) for each in by_name]
        link = href(name) if href else None
        cells = [Cell(titles.get(name, name), link), *across(mine, _cases)]
        cells += across(mine, _of(_recall), _of(_fpr), _of(_near), _of(_precision), _of(_f1))
        for wanted, outcome in ((_missed, "missed"), (_alarms, "alarm")):
            for at, group in enumerate(mine):
                filters = {"outcome": outcome} | ({"run": LETTERS[at]} if len(found) > 1 else {})
                filters |= {filter_as: name} if filter_as else {}
                cells.append(n(wanted(group), **filters) if group else num(NONE))
        rows.append(tuple(cells))
    columns = (
        "Breaking / harmless",
        "Caught",
        "Harmless flagged",
        "Near misses flagged",
        "Precision",
        "F1",
        "Missed",
        "False alarms",
    )
    head = [title for name in columns for title in per_run(name, found)]
    return Table(caption, ("", *head), tuple(rows), note)


def _of(tell: Callable[[Scores], str]) -> Callable[[Group | None], str]:
    return lambda group: tell(group.answered) if group else NONE


def _cases(group: Group | None) -> str:
    return f"{group.violating:,} / {group.benign:,}" if group else NONE


def _recall(scores: Scores) -> str:
    return share(scores.recall)


def _fpr(scores: Scores) -> str:
    return share(scores.fpr)


def _near(scores: Scores) -> str:
    return share(scores.near_misses)


def _precision(scores: Scores) -> str:
    return share(scores.precision)


def _f1(scores: Scores) -> str:
    return estimate(scores.f1)


def _missed(group: Group) -> int:
    return group.answered.fn


def _alarms(group: Group) -> int:
    return group.answered.fp


def clauses(found: Sequence[Metrics], titles: Mapping[str, str]) -> Table:
    """The clauses with enough cases, and how many have too few."""
    few = max(len(metrics.too_few) for metrics in found)
    note = f"{few:,} more have fewer than {MIN_NAMED} cases that name them." if few else ""
    return groups(
        "By clause", [m.clauses for m in found], titles=titles, filter_as="clause", note=note
    )


def thresholds(name: str, found: Sequence[Group | None]) -> Table:
    """What acting from each grade on would catch and flag, from the points of the curves."""
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
    """What flagging from one grade on comes to."""

    caught: Rate
    flagged: Rate
    precision: Rate


def points(group: Group | None, grade: str) -> At:
    """What flagging from a grade on comes to in a group, by its calibration."""
    bad = ok = caught = flagged = 0
    for line in group.calibration if group else ():
        bad, ok = bad + line.violating.hits, ok + line.violating.of - line.violating.hits
        if GRADES.index(line.grade) >= GRADES.index(grade):
            caught += line.violating.hits
            flagged += line.violating.of - line.violating.hits
    return At(
        Rate.count(caught, bad), Rate.count(flagged, ok), Rate.count(caught, caught + flagged)
    )


def areas(found: Sequence[Group | None]) -> str:
    """The areas under the curves of a group, in one line."""
    told: list[str] = []
    for at, group in enumerate(found):
        if group and group.answered.roc and group.answered.pr:
            whose = f"{LETTERS[at]}: " if len(found) > 1 else ""
            told.append(
                f"{whose}area under the ROC curve {group.answered.roc.area:.3f}, average "
                f"precision {group.answered.pr.area:.3f}"
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
    head = per_run("Cases", found) + per_run("Break the policy", found)
    return Table("Of the cases of each grade, how many do break the policy", ("", *head), tuple(rows))


def limits(found: Sequence[Metrics]) -> Table:
    """The best recall at each limit of the false alarm rate, or why there is no number."""
    pairs = [metrics.overall.answered.recall_at for metrics in found]
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


# --- what was done --------------------------------------------------------------------------------


def actions(metrics: Metrics, letter: str) -> Table:
    """The confusion matrix of actions."""
    found = metrics.conduct.actions
    rows = [
        (
            Cell(f"expected: {expected}"),
            *(
                Cell(
                    f"{found[expected][decided]:,}",
                    cases(expected=expected, decided=decided, contested="no")
                    + (f"&run={letter}" if letter else "")
                    if found[expected][decided]
                    else None,
                    number=True,
                    strong=expected == decided,
                )
                for decided in DECIDED
            ),
        )
        for expected in EXPECTED
    ]
    whose = f" ({letter})" if letter else ""
    return Table(
        f"What should have been done, and what was{whose}",
        ("", *DECIDED),
        tuple(rows),
        "Where both are the same, in bold, it was right. “disclose”: allowed, with a disclosure "
        "added. “failed”: the judge gave no answer.",
    )


def handling(found: Sequence[Metrics]) -> Table:
    """Over-blocking, pairs and severities."""
    conducts = [metrics.conduct for metrics in found]

    def ways(name: str, rates: Iterable[TwoWays]) -> tuple[Cell, ...]:
        known = list(rates)
        return row(name, *across(known, lambda r: share(r.answered), lambda r: share(r.enforced)))

    def single(name: str, rates: Iterable[Rate]) -> tuple[Cell, ...]:
        known = list(rates)
        return row(name, *across(known, share), *(num(NONE) for _ in known))

    head = per_run("Answered", found) + per_run("Failures counted as blocked", found)
    return Table(
        "Stopped without reason, pairs, severity",
        ("", *head),
        (
            ways("Should have gone through, was stopped", (c.over_blocked for c in conducts)),
            ways("… of harmless twins of breaking cases", (c.near_misses for c in conducts)),
            ways("… of ordinary traffic", (c.ordinary for c in conducts)),
            single("Pairs with both twins told apart", (c.pairs_detected for c in conducts)),
            single("Pairs with both twins handled right", (c.pairs_handled for c in conducts)),
            single("Severity as labelled", (c.severity_exact for c in conducts)),
            single("Severity at most one step off", (c.severity_near for c in conducts)),
        ),
        "Stopped: held or blocked.",
    )


def both_ways(found: Sequence[Metrics]) -> Table:
    """The headline numbers with failures left out, and with failures as blocked."""

    def line(name: str, tell: Callable[[Scores], str]) -> tuple[Cell, ...]:
        answered = [metrics.overall.answered for metrics in found]
        enforced = [metrics.overall.enforced for metrics in found]
        return row(name, *across(answered, tell), *across(enforced, tell))

    rows = [line("Caught", _recall), line("Harmless flagged", _fpr)]
    rows += [line("Precision", _precision), line("F1", _f1)]
    if any(metrics.prevalence is not None for metrics in found):
        told = ", ".join(sorted({percent(metrics.prevalence) for metrics in found}))
        rows.append(
            line(
                f"Flags that are right, where {told} of traffic breaks the policy",
                lambda scores: estimate(scores.ppv) if scores.ppv else NONE,
            )
        )
    head = per_run("Answered", found) + per_run("Failures counted as blocked", found)
    return Table("All cases, both ways", ("", *head), tuple(rows))


def failures(found: Sequence[Metrics]) -> Table:
    """Why there was no verdict, and what was odd about those there were."""
    judged = [metrics.judgments for metrics in found]
    reasons = sorted({reason for each in judged for reason in each.failures})
    rows = [row("Judgments", *across(judged, lambda each: f"{each.n:,}"))]
    rows.append(row("Without a verdict", *across(judged, lambda each: share(each.failed))))
    for reason in reasons:
        told = [f"{each.failures.get(reason, 0):,}" for each in judged]
        rows.append(row(f"… because: {reason.replace('_', ' ')}", *map(num, told)))
    rows.append(row("A judge model refused", *across(judged, lambda each: share(each.refused))))
    rows.append(
        row("A quote was not in the text", *across(judged, lambda each: share(each.with_dropped)))
    )
    return Table("Judgments that failed", ("", *per_run("Run", found)), tuple(rows))


def cost(found: Sequence[Metrics]) -> Table:
    """Time a verdict took; calls, tokens and dollars per 1,000 judgments."""
    took, paid = [m.latency for m in found], [m.cost for m in found]
    rows = [
        row("Half took at most", *across(took, lambda each: seconds(each.p50))),
        row("9 of 10 at most", *across(took, lambda each: seconds(each.p90))),
        row("19 of 20 at most", *across(took, lambda each: seconds(each.p95))),
        row("99 of 100 at most", *across(took, lambda each: seconds(each.p99))),
        row("Calls, per 1,000 judgments", *across(paid, lambda c: _thousands(c.judge_calls))),
        row("Input tokens", *across(paid, lambda c: _thousands(c.input_tokens))),
        row("… written to the cache", *across(paid, lambda c: _thousands(c.cache_write_tokens))),
        row("… read from the cache", *across(paid, lambda c: _thousands(c.cache_read_tokens))),
        row("Output tokens", *across(paid, lambda c: _thousands(c.output_tokens))),
        row("Dollars, per 1,000 judgments", *across(paid, lambda c: dollars(c.usd))),
    ]
    return Table("Time and money", ("", *per_run("Run", found)), tuple(rows))


def _thousands(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"


def flips(found: Sequence[Metrics]) -> Table:
    told = [metrics.flips for metrics in found]
    rows = (
        row("Flagged or not", *across(told, lambda each: share(each.detection))),
        row("What was done", *across(told, lambda each: share(each.action))),
        row("Either", *across(told, lambda each: share(each.either))),
    )
    return Table("Not the same each time", ("", *per_run("Run", found)), rows)


# --- two runs -------------------------------------------------------------------------------------


def compared(found: Comparison, titles: Mapping[str, str]) -> Table:
    """From A to B: all cases, and each section."""

    def line(name: str, one: Compared) -> tuple[Cell, ...]:
        paired = one.recall
        return row(
            f"{name} (floor)" if one.floor and one is not found.overall else name,
            num(f"{one.n:,}"),
            num(difference(one.recall_difference)),
            num(f"{paired.only_a:,} / {paired.only_b:,}"),
            num(_tested(paired.p, paired.adjusted)),
            num(difference(one.fpr_difference)),
            num(f"{one.false_positives.only_a:,} / {one.false_positives.only_b:,}"),
            num(_tested(one.false_positives.p, one.false_positives.adjusted)),
            num(difference(one.f1_difference)),
        )

    return Table(
        "From A to B",
        (
            "",
            "Cases",
            "Caught",
            "Caught only by A / B",
            "p",
            "Harmless flagged",
            "Flagged only by A / B",
            "p",
            "F1",
        ),
        (
            line("All", found.overall),
            *(line(titles.get(one.name, one.name), one) for one in found.sections),
        ),
        "p: how often chance alone would make as great a difference, by the exact McNemar test; "
        "for sections adjusted, by Holm's method, for being one of many. (floor): no setting can "
        "switch all of this section off.",
    )


def _tested(p: float, adjusted: float | None) -> str:
    return p_value(p if adjusted is None else adjusted)


_ORDER = {"lost": 0, "won": 1, "same": 2}


def flipped(found: Comparison) -> Table:
    """The cases that came out differently, the worst first."""

    def worst(flip: Flip) -> tuple[bool, int]:
        return not flip.floor_missed, _ORDER[flip.change]

    shown = sorted(found.flips, key=worst)[:FLIPS_SHOWN]
    rows = [
        row(
            Cell(flip.case, cases(case=flip.case)),
            f"{flip.change}{', floor missed' if flip.floor_missed else ''}"
            f"{', contested' if flip.contested else ''}",
            ", ".join(f"{clause}: {label}" for clause, label in flip.labels.items()) or "harmless",
            flip.severity or NONE,
            flip.expected,
            f"{flip.level_a}, {flip.action_a}",
            f"{flip.level_b}, {flip.action_b}",
        )
        for flip in shown
    ]
    more = len(found.flips) - len(shown)
    note = f"{more:,} more are among the cases, under “changed”." if more > 0 else ""
    head = ("Case", "From A to B", "Labels", "Severity", "Expected", "A", "B")
    return Table(f"Cases that came out differently: {len(found.flips):,}", head, tuple(rows), note)
