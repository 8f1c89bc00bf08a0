"""Whether a run passes rules: each gate with the numbers that opened or closed it. Pure.

A claim that the sample could not have shown, however well the judge did, is not passed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from magistrate.config.diagnostics import Problem, SettingsError, listed, nearest
from magistrate.evals.gates.rules import (
    ONE_WAY,
    RATES,
    LostRule,
    NewRule,
    RateRule,
    Rule,
    SignificanceRule,
)
from magistrate.evals.metrics.compare import Comparison
from magistrate.evals.metrics.curves import Scores
from magistrate.evals.metrics.measures import MIN_NAMED, Metrics
from magistrate.evals.metrics.paired import Compared, Paired
from magistrate.evals.metrics.statistics import ALPHA, Estimate, Rate, needed, needed_discordant


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule as written, whether the run passed it, and the numbers that say so."""

    rule: str
    passed: bool
    because: str


def check(
    rules: Iterable[Rule], metrics: Metrics, comparison: Comparison | None = None
) -> tuple[Gate, ...]:
    """Return the gate of every rule, in order.

    `comparison` is that of the run with its baseline. Raises `SettingsError` for rules about what
    the run does not have: another section, clause, slice, or a baseline.
    """
    gates: list[Gate] = []
    problems: list[Problem] = []
    for rule in rules:
        try:
            passed, because = _check(rule, metrics, comparison)
        except ValueError as error:
            problems.append(Problem(None, None, None, rule.text, str(error)))
        else:
            gates.append(Gate(rule.text, passed, because))
    if problems:
        raise SettingsError(problems)
    return tuple(gates)


def _check(rule: Rule, metrics: Metrics, comparison: Comparison | None) -> tuple[bool, str]:
    if isinstance(rule, RateRule):
        return _rate(rule, metrics)
    if comparison is None:
        raise ValueError("needs a baseline run to compare with")
    match rule:
        case LostRule():
            passed, because = _lost(rule, comparison)
        case NewRule():
            passed, because = _new(rule, comparison)
        case SignificanceRule():
            passed, because = _significant(rule, comparison)
    return passed, because + _unseen(comparison)


def _unseen(comparison: Comparison) -> str:
    """Return what was not compared: a run could pass by leaving out the cases it fails."""
    counts = comparison.left_out | {"contested": comparison.aside["contested"]}
    some = [f"{count:,} {why}" for why, count in counts.items() if count]
    said = f" (not compared: {', '.join(some)})" if some else ""
    failed = [(name, comparison.aside[f"failed in {name}"]) for name in ("a", "b")]
    without = [f"{count:,} in {name}" for name, count in failed if count]
    return said + (f" (without a verdict: {', '.join(without)})" if without else "")


def _rate(rule: RateRule, metrics: Metrics) -> tuple[bool, str]:
    groups = {group.key: group for group in metrics.groups}
    if rule.group not in groups:
        kind, _, name = rule.group.partition(" ")
        if kind == "clause" and name in metrics.too_few:
            named = metrics.too_few[name]
            return False, f"needs {MIN_NAMED} cases that name the clause, there are {named}"
        known = [group.name for group in metrics.groups if group.kind == kind]
        message = f"'{name}' is no {kind} of this run; allowed: {listed(known, 10)}"
        raise ValueError(message + nearest(name, known))
    group = groups[rule.group]
    scores = group.enforced if rule.enforced else group.judged
    found = _found(rule, metrics, scores)
    sign, noun = RATES[rule.rate]
    errors = rule.limit if sign == "<=" else 1 - rule.limit
    if isinstance(found, Estimate):
        # With every case right recall may still be as low as Wilson's r, and F1 then 2r / (1 + r).
        of, interval, errors = scores.recall.of, found.interval, 2 * errors / (1 + errors)
    else:
        of, interval = found.of, found.wilson
    if of < (enough := needed(errors)):
        return False, f"needs {enough:,} {noun}, there are {of:,}"
    if found.value is None or interval is None:
        return False, "has no value"
    passed = found.value <= rule.limit if sign == "<=" else found.value >= rule.limit
    way = "" if rule.rate in ONE_WAY else "enforced " if rule.enforced else "judged "
    reach = f"[{interval.low:.4f}, {interval.high:.4f}]"
    return passed, f"{way}{rule.rate} {found.value:.4f} {reach} of {of:,} {noun}"


def _found(rule: RateRule, metrics: Metrics, scores: Scores) -> Rate | Estimate:
    """Return the number a rule is about."""
    way = "enforced" if rule.enforced else "judged"
    match rule.rate:
        case "flip_rate":
            return metrics.flips.either
        case "failures":
            return metrics.judgments.failed
        case "right_clause":
            return metrics.attribution.clause
        case "right_section":
            return metrics.attribution.section
        case "over_blocked" | "ordinary":
            return getattr(getattr(metrics.action_metrics, rule.rate), way)
        case _:
            return getattr(scores, rule.rate)


def _lost(rule: LostRule, comparison: Comparison) -> tuple[bool, str]:
    settled = [flip for flip in comparison.flips if not flip.contested]
    lost = [flip.case for flip in settled if flip.change == "lost"]
    if comparison.compared == comparison.aside["contested"]:
        return False, "no case was compared"
    return len(lost) <= rule.limit, f"{len(lost):,} lost{_named(lost)}"


def _new(rule: NewRule, comparison: Comparison) -> tuple[bool, str]:
    if rule.floor:
        missed = [
            flip.case
            for flip in comparison.flips
            if (flip.floor_passed if rule.enforced else flip.floor_missed)
        ]
        if not comparison.floors:
            return False, "no case at or above a floor was compared"
        of = f"of {comparison.floors:,} cases at or above a floor"
        return not missed, f"{len(missed):,} newly missed {of}{_named(missed)}"
    row = _overall(rule, comparison)
    if rule.section is not None:
        row = _section(rule.section, rule, comparison)
    counts = row.recall if rule.misses else row.false_positives
    noun = "violating" if rule.misses else "benign"
    new = counts.only_a if rule.misses else counts.only_b
    if not counts.n:
        return False, f"no {noun} case was compared"
    what = "missed" if rule.misses else "flagged"
    return not new, f"{new:,} newly {what} of {counts.n:,} {noun} cases"


def _named(cases: list[str]) -> str:
    return f": {listed(cases, 10)}" if cases else ""


def _overall(rule: NewRule | SignificanceRule, comparison: Comparison) -> Compared:
    return comparison.enforced_overall if rule.enforced else comparison.overall


def _sections(rule: NewRule | SignificanceRule, comparison: Comparison) -> tuple[Compared, ...]:
    return comparison.enforced_sections if rule.enforced else comparison.sections


def _section(name: str, rule: NewRule | SignificanceRule, comparison: Comparison) -> Compared:
    rows = {row.name: row for row in _sections(rule, comparison)}
    if name not in rows:
        message = f"'{name}' is no section of {comparison.policy}; allowed: {listed(rows)}"
        raise ValueError(message + nearest(name, rows))
    return rows[name]


def _significant(rule: SignificanceRule, comparison: Comparison) -> tuple[bool, str]:
    several = rule.where in ("any section", "any floor section")
    if rule.section is not None:
        rows = [_section(rule.section, rule, comparison)]
    elif several:
        every = _sections(rule, comparison)
        rows = [row for row in every if rule.where == "any section" or row.floor]
    else:
        rows = [_overall(rule, comparison)]
    noun = "violating" if rule.recall else "benign"
    tested = [(row, row.recall if rule.recall else row.false_positives) for row in rows]
    tested = [(row, counts) for row, counts in tested if counts.n]
    if not tested:
        return False, f"no {noun} case was compared"
    worse: list[str] = []
    short: list[str] = []
    for row, counts in tested:
        enough = needed_discordant(counts.tests if several else 1)
        p = counts.adjusted if several and counts.adjusted is not None else counts.p
        if counts.n < enough:
            short.append(f"{row.name} needs {enough} {noun} cases, there are {counts.n}")
        elif p < ALPHA and _worse(rule, counts):
            worse.append(f"{row.name} {_counts(counts)}, p {p:.4f}")
    if worse or short:
        return False, "; ".join([*worse, *short])
    least = min(c.adjusted if several and c.adjusted is not None else c.p for _, c in tested)
    return True, f"{len(tested)} tested, least p {least:.4f}"


def _worse(rule: SignificanceRule, counts: Paired) -> bool:
    return counts.only_a > counts.only_b if rule.recall else counts.only_b > counts.only_a


def _counts(counts: Paired) -> str:
    return f"{counts.both + counts.only_a:,} → {counts.both + counts.only_b:,} of {counts.n:,}"
