"""The tables of a report about what was done: actions, failures, cost, two runs compared. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from magistrate.evals.metrics.action_metrics import DECIDED, EXPECTED, TwoWays
from magistrate.evals.metrics.attribution import NO_VERDICT, NOTHING
from magistrate.evals.metrics.compare import Comparison, Flip
from magistrate.evals.metrics.curves import Scores
from magistrate.evals.metrics.measures import Metrics
from magistrate.evals.metrics.paired import Compared, Paired
from magistrate.evals.metrics.statistics import Rate
from magistrate.evals.report.cells import Cell, Table, across, cases, num, per_run, row
from magistrate.evals.report.words import (
    NONE,
    difference,
    dollars,
    estimate,
    p_value,
    percent,
    seconds,
    share,
)

FLIPS_SHOWN = 200  # of the flipped cases in the page itself; all are among the cases

# --- what was done --------------------------------------------------------------------------------


def actions(metrics: Metrics, letter: str) -> Table:
    """Return the confusion matrix of actions."""
    found = metrics.action_metrics.actions
    also = {"contested": "no"} | ({"run": letter} if letter else {})
    also |= {"split": metrics.split} if metrics.split else {}
    rows = [
        (
            Cell(f"expected: {expected}"),
            *(
                Cell(
                    f"{found[expected][decided]:,}",
                    cases(**also, expected=expected, decided=decided)
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
        "added. “unavailable”: no judge was available.",
    )


def handling(found: Sequence[Metrics]) -> Table:
    """Over-blocking, pairs and severities."""
    each_run = [metrics.action_metrics for metrics in found]

    def ways(name: str, rates: Iterable[TwoWays]) -> tuple[Cell, ...]:
        known = list(rates)
        return row(name, *across(known, lambda r: share(r.judged), lambda r: share(r.enforced)))

    def single(name: str, rates: Iterable[Rate]) -> tuple[Cell, ...]:
        known = list(rates)
        return row(name, *across(known, share), *(num(NONE) for _ in known))

    head = per_run("On a verdict", found) + per_run("Enforced", found)
    return Table(
        "Stopped without reason, pairs, severity",
        ("", *head),
        (
            ways("Should have gone through, was stopped", (c.over_blocked for c in each_run)),
            ways("… of harmless twins of violating cases", (c.near_misses for c in each_run)),
            ways("… of ordinary traffic", (c.ordinary for c in each_run)),
            single("Pairs with both twins told apart", (c.pairs_detected for c in each_run)),
            single("Pairs with both twins handled right", (c.pairs_handled for c in each_run)),
            single("Severity as labelled", (c.severity_exact for c in each_run)),
            single("Severity at most one step off", (c.severity_near for c in each_run)),
        ),
        "Stopped: held or blocked; under “enforced” also for the lack of a verdict.",
    )


def both_ways(found: Sequence[Metrics]) -> Table:
    """Return the headline numbers as judged and as enforced."""

    judged = [metrics.overall.judged for metrics in found]
    enforced = [metrics.overall.enforced for metrics in found]

    def line(name: str, tell: Callable[[Scores], str]) -> tuple[Cell, ...]:
        return row(name, *across(judged, tell), *across(enforced, tell))

    rows = [
        line("Caught", lambda scores: share(scores.recall)),
        line("Harmless flagged", lambda scores: share(scores.fpr)),
        line("Precision", lambda scores: share(scores.precision)),
        line("F1", lambda scores: estimate(scores.f1)),
    ]
    if any(metrics.prevalence is not None for metrics in found):
        told = ", ".join(sorted({percent(metrics.prevalence) for metrics in found}))
        rows.append(
            line(
                f"Flags that are right, where {told} of traffic is violating and the rest ordinary",
                lambda scores: estimate(scores.ppv) if scores.ppv else NONE,
            )
        )
    head = per_run("Judged", found) + per_run("Enforced", found)
    return Table("All cases, both ways", ("", *head), tuple(rows))


def attribution(found: Sequence[Metrics]) -> Table:
    """Return how much was caught under what the labels say is violated."""
    told = [metrics.attribution for metrics in found]
    rows = (
        row("Caught under a rule that it breaks", *across(told, lambda each: share(each.clause))),
        row(
            "Caught under a section that it breaks", *across(told, lambda each: share(each.section))
        ),
        row("Caught under other sections only", *across(told, lambda each: share(each.elsewhere))),
    )
    note = "Of the violating cases that name a rule, or a section. A failure caught nothing."
    return Table("Caught for the right reason", ("", *per_run("Run", found)), rows, note)


def confusion(metrics: Metrics, letter: str, titles: Mapping[str, str]) -> Table:
    """Return under which section what violates each of them was caught."""
    found = metrics.attribution.confusion
    also = {"run": letter} if letter else {}
    also |= {"split": metrics.split} if metrics.split else {}
    names = [*found, *(name for counts in found.values() for name in counts)]
    columns = [name for name in (*titles, NOTHING, NO_VERDICT) if name in names]
    rows = [
        (
            Cell(titles.get(section, section), cases(**also, section=section)),
            *(
                Cell(f"{counts.get(name, 0):,}", number=True, strong=name == section)
                for name in columns
            ),
        )
        for section, counts in found.items()
    ]
    whose = f" ({letter})" if letter else ""
    return Table(
        f"What violates a section, and the section it was caught under{whose}",
        ("", *(titles.get(name, name) for name in columns)),
        tuple(rows),
        "In bold: the right one. A case that was caught under several sections is in each of them.",
    )


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
        caught, flagged = one.recall, one.false_positives
        return row(
            f"{name} (floor)" if one.floor and one.name != "overall" else name,
            num(f"{one.n:,}"),
            num(difference(one.recall_difference)),
            num(f"{caught.only_a:,} / {caught.only_b:,}"),
            num(_tested(caught)),
            num(difference(one.fpr_difference)),
            num(f"{flagged.only_a:,} / {flagged.only_b:,}"),
            num(_tested(flagged)),
            num(difference(one.f1_difference)),
        )

    enforced: list[tuple[Cell, ...]] = []
    if found.aside["failed in a"] or found.aside["failed in b"]:
        enforced.append(line("All, enforced", found.enforced_overall))
        enforced += [
            line(f"{titles.get(one.name, one.name)}, enforced", one)
            for one in found.enforced_sections
        ]
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
            *enforced,
        ),
        "p: how often chance alone would make as great a difference, by the exact McNemar test; "
        "for sections adjusted, by Holm's method, for being one of many. (floor): no setting can "
        "switch all of this section off. As judged, where nothing else is said; enforced, cases "
        "without a verdict count as caught or flagged where they were stopped.",
    )


def _tested(paired: Paired) -> str:
    if not paired.n:
        return NONE
    return p_value(paired.p if paired.adjusted is None else paired.adjusted)


_ORDER = {"lost": 0, "won": 1, "same": 2}


def flipped(found: Comparison) -> Table:
    """Return the cases that came out differently, the worst first."""

    def worst(flip: Flip) -> tuple[bool, int]:
        return not flip.floor_missed, _ORDER[flip.change]

    shown = sorted(found.flips, key=worst)[:FLIPS_SHOWN]
    rows = [
        row(
            Cell(flip.case, cases(case=flip.case)),
            f"{flip.change}{', floor missed' if flip.floor_missed else ''}"
            f"{', contested' if flip.contested else ''}",
            ", ".join(f"{clause}: {label}" for clause, label in flip.labels.items())
            or "no clause is named",
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
    return Table(f"{len(found.flips):,} cases that came out differently", head, tuple(rows), note)
