"""Thresholds for each section, chosen on dev within a limit, and tried on test.

What is chosen is a row of `actions`: from which grade and severity a section's findings act.
Nothing is judged again: a run's verdicts are decided under candidate rows, and of all combinations
that keep the limit the one is taken that catches most violating dev cases (`thresholds`). The limit
is a share of benign cases that may be stopped, or a `Budget`: how often something may be done to
traffic, or what that may cost.

A threshold changes what is done about a finding, never what is asked: what judging costs is the
same under every row. Floors hold under every row, as they do in the settings. A section without a
violating dev case that some row catches keeps the row in force: there is nothing to choose it by.

Chosen numbers are too good on the cases they were chosen on; only those of the test split are to be
quoted. What takes no part, and how failures count, is said in `intervention_costs`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import NoReturn

from magistrate.evals.metrics.statistics import needed
from magistrate.evals.run_folder import Run, wrong
from magistrate.evals.tuning.intervention_costs import (
    Acting,
    Budget,
    Effect,
    Judged,
    effect,
    judged_of,
    judging_usd,
    ordinary,
)
from magistrate.evals.tuning.thresholds import Option, OverLimit, Weights, choose
from magistrate.settings import Settings
from magistrate.settings.checks import loosened_rows
from magistrate.settings.schema import ActionRow, Threshold
from magistrate.verdicts import SEVERITIES, Severity

_GRADES: tuple[Threshold, ...] = ("certain", "likely", "possible", "unlikely")  # strict to lenient
_SEVERITIES: tuple[Severity, ...] = tuple(reversed(SEVERITIES))


Row = tuple[Threshold, Severity]


@dataclass(frozen=True, slots=True)
class Tuned:
    """The chosen rows by section, and what they do, compared with the run's settings.

    `rows` are those that differ from the ones in force; `actions` the same as they belong into the
    settings, with the actions they already had. `untouched`: sections with findings, but nothing to
    choose a row by. `benign`: which cases represent benign traffic. `supported`: whether the test
    cases are enough to show that the limit is kept; for a share of benign cases, `needs` of them.
    """

    rows: dict[str, Row]
    actions: dict[str, ActionRow]
    limit: float | Budget
    benign: str
    untouched: tuple[str, ...]
    before: dict[str, Effect]
    after: dict[str, Effect]
    supported: bool
    needs: int | None

    @property
    def patch(self) -> str:
        """The rows as lines of a `magistrate.yaml`."""
        if not self.actions:
            return ""
        lines: list[str] = []
        for section, row in self.actions.items():
            said = row.model_dump(exclude_none=True)
            lines.append(f"  {section}: {{{', '.join(f'{k}: {v}' for k, v in said.items())}}}")
        return "\n".join(["actions:", *lines]) + "\n"


def tune(run: Run, limit: float | Budget) -> Tuned:
    """Choose rows for every section that found anything on dev.

    `limit`: the largest share of benign dev cases that may be stopped, between 0 and 1, or a
    budget. Raises `SettingsError` if the run has no dev cases of both kinds with a verdict, or if
    no rows keep the limit; ModuleNotFoundError without the extra `evals`.
    """
    judged = judged_of(run, limit)
    benign, aside = "benign", list[Judged]()
    if isinstance(limit, Budget) and any(ordinary(e) for e in judged if e.case.split == "dev"):
        # Near misses are hard on purpose; their share of traffic is unknown.
        benign = "ordinary"
        aside = [each for each in judged if each.case.benign and not ordinary(each)]
        judged = [each for each in judged if not each.case.benign or ordinary(each)]
    dev = _of("dev", judged)
    if not any(e.case.benign for e in dev) or all(e.case.benign for e in dev):
        lacks = "has no judged dev cases of both kinds; tuning needs violating and benign ones"
        wrong(run.folder, lacks)
    settings = run.settings
    options, untouched, always = _options(settings, dev, limit)
    weights = _weights(dev, limit, run)
    try:
        chosen = choose(options, always, weights)
    except OverLimit as error:
        _refuse(run, limit, error.least)
    rows = {section: row for section, row in chosen.items() if row is not None}
    tuned = under(settings, rows)
    before, after = (
        {
            split: effect(now, _of(split, judged), limit, _of(split, aside))
            for split in ("dev", "test")
        }
        for now in (settings, tuned)
    )
    supported, needs = _supported(limit, after["test"])
    return Tuned(
        rows,
        {section: tuned.actions[section] for section in rows},
        limit,
        benign,
        untouched,
        before,
        after,
        supported,
        needs,
    )


def under(settings: Settings, rows: dict[str, Row]) -> Settings:
    """Return the settings with these rows; a clause's own row still goes before its section's."""
    actions = dict(settings.actions)
    for section, (grade, severity) in rows.items():
        row = actions.get(section, ActionRow())
        actions[section] = row.model_copy(update={"from_grade": grade, "from_severity": severity})
    return settings.model_copy(update={"actions": actions})


# --- what is to be chosen from, and within what ---------------------------------------------------


def _of(split: str, judged: Sequence[Judged]) -> list[Judged]:
    return [each for each in judged if each.case.split == split]


def _options(
    settings: Settings, dev: Sequence[Judged], limit: float | Budget
) -> tuple[dict[str, list[Option[Row | None]]], tuple[str, ...], frozenset[str]]:
    """Return each section's options, the untouched sections, and what is acted on anyway.

    Rows that do the same are one option. It represents the row in force where that is among them,
    else the strictest.
    """
    bad = {each.case.id for each in dev if not each.case.benign}
    always = frozenset(each.case.id for each in dev if each.fixed)
    options: dict[str, list[Option[Row | None]]] = {}
    untouched: list[str] = []
    for section in settings.policy.groups:
        clauses = frozenset(clause.id for clause in section.clauses)
        if not any(found.clause in clauses for each in dev for found in each.findings):
            continue
        in_force = Acting(settings, limit).on(dev, clauses)
        kinds: dict[frozenset[str], Row | None] = {in_force: None}
        for row in product(_GRADES, _SEVERITIES):
            with_row = under(settings, {section.id: row})
            if not any(loosened_rows(with_row)):  # settings would refuse it
                kinds.setdefault(Acting(with_row, limit).on(dev, clauses), row)
        if any(acted & bad for acted in kinds):
            options[section.id] = [Option(row, acted) for acted, row in kinds.items()]
        else:
            untouched.append(section.id)
            always |= in_force
    return options, tuple(untouched), always


def _weights(dev: Sequence[Judged], limit: float | Budget, run: Run) -> Weights:
    """Return what acting on a violating and on a benign case adds to what is limited; exact."""
    bad = frozenset(each.case.id for each in dev if not each.case.benign)
    good = frozenset(each.case.id for each in dev if each.case.benign)
    if not isinstance(limit, Budget):
        return Weights(bad, good, Fraction(0), Fraction(1, len(good)), Fraction(str(limit)))
    share = Fraction(str(limit.prevalence))
    if limit.interventions is not None:
        most = Fraction(str(limit.interventions)) / 1000
    else:
        assert limit.usd is not None and limit.usd_each is not None
        judging = judging_usd(dev, limit.prevalence)
        if judging is None:
            wrong(run.folder, "what its judgments cost is not known; a budget in dollars needs it")
        left = Fraction(str(limit.usd)) - Fraction(judging)
        if left < 0:
            wrong(
                run.folder,
                f"judging alone costs ${judging:,.4f} for 1,000 at this prevalence, and no "
                "threshold changes that; `judge.strategy`, the models and `screen.skip_clear` do",
            )
        most = left / Fraction(str(limit.usd_each)) / 1000
    return Weights(bad, good, share / len(bad), (1 - share) / len(good), most)


def _refuse(run: Run, limit: float | Budget, least: Fraction) -> NoReturn:
    """Raise `SettingsError` for a limit below the least that any rows reach."""
    why = "floors and sections that nothing can be chosen for do that"
    if not isinstance(limit, Budget):
        said = f"under any rows {float(least):.2%} of benign dev cases are stopped"
        smallest = f"{_up(least, 10_000):g}"
    else:
        why = f"high-risk answers, {why}"
        if limit.interventions is not None:
            said = f"under any rows there are {1000 * float(least):.2f} interventions in 1,000"
            smallest = f"{_up(1000 * least, 100):g}"
        else:
            assert limit.usd_each is not None
            usd = 1000 * least * Fraction(str(limit.usd_each))
            said = f"under any rows interventions cost ${float(usd):,.2f} in 1,000, plus judging"
            smallest = f"${_up(usd, 100):,.2f} and what judging costs"
    wrong(run.folder, f"{said}: {why}; the smallest limit that can be kept is {smallest}")


def _up(number: Fraction, steps: int) -> float:
    """Rounded up to so many steps of 1, so that what is said can be asked for."""
    return math.ceil(number * steps) / steps


def _supported(limit: float | Budget, test: Effect) -> tuple[bool, int | None]:
    if not isinstance(limit, Budget):
        enough = needed(limit)
        return test.fpr.of >= enough, enough
    found, most = (
        (test.interventions, limit.interventions)
        if limit.interventions is not None
        else (test.usd, limit.usd)
    )
    if found is None or found.interval is None or most is None:
        return False, None
    return found.interval.high <= most, None
