"""Thresholds for each section, chosen on dev under a bound on false alarms, and tried on test.

What is chosen is a row of `actions`: from which grade and severity a section's findings act.
Nothing is judged again: a run's verdicts are decided under candidate rows. The search is greedy:
from rows at which nothing acts but floors, the step that catches most violating cases for the false
alarms it adds, until the bound is reached. Floors hold under every row, as they do in the settings.

Chosen numbers are too good on the cases they were chosen on; only those of the test split are to be
quoted. Contested cases, and judgments without a verdict, take no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from magistrate.decisions import blocks
from magistrate.evals.cases import Case
from magistrate.evals.measure.statistics import Rate, needed
from magistrate.evals.results import Result, Run
from magistrate.problems import Problem, SettingsError
from magistrate.settings import Settings
from magistrate.settings_schema import ActionRow, Threshold
from magistrate.verdicts import SEVERITIES, Finding, Severity

_GRADES: tuple[Threshold, ...] = ("certain", "likely", "possible", "unlikely")  # strict to lenient
_SEVERITIES: tuple[Severity, ...] = tuple(reversed(SEVERITIES))

Row = tuple[Threshold, Severity]
NOTHING: Row = ("certain", "critical")


@dataclass(frozen=True, slots=True)
class Effect:
    """What rows come to on some cases: the violating ones stopped, the benign ones stopped."""

    recall: Rate
    fpr: Rate


@dataclass(frozen=True, slots=True)
class Tuned:
    """The chosen rows by section, and what they do beside what the run's settings did.

    `bound` is the largest share of benign dev cases that may be stopped. `supported`: whether there
    are enough benign test cases to show a rate below it (`needs` so many).
    """

    rows: dict[str, Row]
    bound: float
    before: dict[str, Effect]
    after: dict[str, Effect]
    supported: bool
    needs: int

    @property
    def patch(self) -> str:
        """The rows as lines of a `magistrate.yaml`."""
        lines = [
            f"  {section}: {{from_grade: {grade}, from_severity: {severity}}}"
            for section, (grade, severity) in self.rows.items()
        ]
        return "\n".join(["actions:", *lines]) + "\n"


@dataclass(frozen=True, slots=True)
class _Judged:
    case: Case
    findings: tuple[Finding, ...]


def tune(run: Run, bound: float) -> Tuned:
    """Choose rows for every section that found anything on dev.

    `bound`: the largest share of benign dev cases that may be stopped, between 0 and 1. Raises
    `SettingsError` if the run has no dev cases with a verdict, or none that violate.
    """
    judged = _judged(run)
    dev = [each for each in judged if each.case.split == "dev"]
    test = [each for each in judged if each.case.split == "test"]
    if not any(e.case.benign for e in dev) or all(e.case.benign for e in dev):
        message = "has no judged dev cases of both kinds; tuning needs violating and benign ones"
        raise SettingsError([Problem(str(run.folder), None, None, "", message)])
    settings = run.settings
    sections = _sections(settings, dev)
    rows = _search(settings, dev, sections, bound)
    tuned = _under(settings, rows)
    enough = needed(bound)
    return Tuned(
        {section: row for section, row in rows.items() if row != _current(settings, section)},
        bound,
        {"dev": effect(settings, dev), "test": effect(settings, test)},
        {"dev": effect(tuned, dev), "test": effect(tuned, test)},
        sum(each.case.benign for each in test) >= enough,
        enough,
    )


def _judged(run: Run) -> list[_Judged]:
    cases = {case.id: case for case in run.cases if case.contested is None}
    firsts: Iterable[Result] = (r for r in run.results if r.repeat == 0 and r.case in cases)
    return [_Judged(cases[r.case], r.verdict.findings) for r in firsts if r.verdict is not None]


def _sections(settings: Settings, dev: Sequence[_Judged]) -> list[str]:
    """The sections with findings, in the order of the policy."""
    found = {settings.policy.section_of(f.clause).id for each in dev for f in each.findings}
    return [section.id for section in settings.policy.sections if section.id in found]


def _current(settings: Settings, section: str) -> Row:
    """The row in force for a section's clauses; that of its first, where they differ."""
    clause = next(s for s in settings.policy.sections if s.id == section).clauses[0]
    rule = settings.rule(clause.id, "input")
    assert rule.from_grade != "none"
    return rule.from_grade, rule.from_severity


def _under(settings: Settings, rows: dict[str, Row]) -> Settings:
    """The settings with these rows; a clause's own row still goes before its section's."""
    actions = dict(settings.actions)
    for section, (grade, severity) in rows.items():
        row = actions.get(section, ActionRow())
        actions[section] = row.model_copy(update={"from_grade": grade, "from_severity": severity})
    return settings.model_copy(update={"actions": actions})


def _stopped(settings: Settings, judged: Iterable[_Judged]) -> set[str]:
    return {
        each.case.id
        for each in judged
        if any(blocks(settings, each.case.stage, found) for found in each.findings)
    }


def effect(settings: Settings, judged: Sequence[_Judged]) -> Effect:
    """How many violating and benign cases are stopped under these settings."""
    stopped = _stopped(settings, judged)
    bad = [each.case.id for each in judged if not each.case.benign]
    good = [each.case.id for each in judged if each.case.benign]
    return Effect(
        Rate.count(sum(id in stopped for id in bad), len(bad)),
        Rate.count(sum(id in stopped for id in good), len(good)),
    )


def _search(
    settings: Settings, dev: Sequence[_Judged], sections: Sequence[str], bound: float
) -> dict[str, Row]:
    bad = {each.case.id for each in dev if not each.case.benign}
    good = {each.case.id for each in dev if each.case.benign}
    allowed = int(bound * len(good))
    # What each row of a section stops by itself; the floors among it, whatever the row.
    stops = {
        (section, row): _stopped(_under(settings, {section: row}), _only(settings, dev, section))
        for section in sections
        for row in product(_GRADES, _SEVERITIES)
    }
    rows: dict[str, Row] = dict.fromkeys(sections, NOTHING)

    def stopped(rows: dict[str, Row]) -> set[str]:
        return set[str]().union(*(stops[each] for each in rows.items()))

    now = stopped(rows)
    while True:
        best: tuple[float, int, str, Row] | None = None
        for (section, row), own in stops.items():
            if not own > stops[section, rows[section]]:
                continue
            after = stopped(rows | {section: row})
            alarms, caught = len(after & good), len(after & bad) - len(now & bad)
            if alarms > allowed or not caught:
                continue
            added = alarms - len(now & good)
            rank = (caught / (added + 0.5), caught)
            if best is None or rank > best[:2]:
                best = (*rank, section, row)
        if best is None:
            return rows
        rows[best[2]] = best[3]
        now = stopped(rows)


def _only(settings: Settings, dev: Sequence[_Judged], section: str) -> list[_Judged]:
    return [
        _Judged(
            each.case,
            tuple(f for f in each.findings if settings.policy.section_of(f.clause).id == section),
        )
        for each in dev
    ]
