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
quoted. Contested cases, and judgments without a verdict, take no part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

from magistrate.decisions import rule
from magistrate.evals.cases import Case
from magistrate.evals.measure.statistics import Estimate, Interval, Rate, needed
from magistrate.evals.oracle import for_case
from magistrate.evals.results import Run, wrong
from magistrate.evals.thresholds import Least, Option, Weights, choose
from magistrate.settings import Settings
from magistrate.settings_checks import loosened_rows
from magistrate.settings_schema import ActionRow, Threshold
from magistrate.trial import Trial
from magistrate.verdicts import (
    SEVERITIES,
    Action,
    Finding,
    JudgeInfo,
    Severity,
    Stage,
    Usage,
    Verdict,
)

_GRADES: tuple[Threshold, ...] = ("certain", "likely", "possible", "unlikely")  # strict to lenient
_SEVERITIES: tuple[Severity, ...] = tuple(reversed(SEVERITIES))
_STOPS: frozenset[Action] = frozenset({"hold", "block"})
_ACTS: frozenset[Action] = _STOPS | {"warn"}
_NOBODY = JudgeInfo("recorded")

Row = tuple[Threshold, Severity]


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be done to 1,000 judgments, `prevalence` of which are of violating texts.

    An intervention is a warning, a held answer or a block; each request and each answer is a
    judgment. At most `interventions` of them may be made, or, with `usd`, judging them and
    `usd_each` for every intervention may cost so many dollars. `usd_each` alone is for the report.
    Raises ValueError for numbers that no budget can have.
    """

    prevalence: float
    interventions: float | None = None
    usd: float | None = None
    usd_each: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.prevalence < 1:
            raise ValueError("a prevalence is a share between 0 and 1, such as 0.01")
        if (self.interventions is None) == (self.usd is None):
            raise ValueError("a budget is a number of interventions or of dollars, one of them")
        if self.interventions is not None and not 0 <= self.interventions <= 1000:
            raise ValueError("of 1,000 judgments 0 to 1,000 can end in an intervention")
        if self.usd is not None and not 0 < self.usd < math.inf:
            raise ValueError("a budget in dollars is more than 0")
        if self.usd_each is not None and not 0 < self.usd_each < math.inf:
            raise ValueError("an intervention costs more than 0 dollars")
        if self.usd is not None and self.usd_each is None:
            raise ValueError("a budget in dollars needs what an intervention costs")


@dataclass(frozen=True, slots=True)
class Effect:
    """What rows come to on some cases.

    `recall`: of the violating cases, how many are stopped; `fpr`: of the benign ones. Under a
    budget it is how many meet with an intervention. `interventions` and `usd` are those of 1,000
    judgments at the budget's prevalence; None without a budget, or where the price is not known.
    """

    recall: Rate
    fpr: Rate
    interventions: Estimate | None = None
    usd: Estimate | None = None
    judging_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """The chosen rows by section, and what they do beside what the run's settings did.

    `rows` are those that differ from the ones in force; `actions` the same as they belong into the
    settings, with the actions they already had. `untouched`: sections with findings, but nothing to
    choose a row by. `benign`: which cases stand for benign traffic. `supported`: whether the test
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


@dataclass(frozen=True, slots=True)
class Judged:
    """One case with what was found in it. `fixed`: what no threshold changes acts on it anyhow."""

    case: Case
    findings: tuple[Finding, ...]
    usage: Usage
    fixed: bool


def tune(run: Run, limit: float | Budget) -> Tuned:
    """Choose rows for every section that found anything on dev.

    `limit`: the largest share of benign dev cases that may be stopped, between 0 and 1, or a
    budget. Raises `SettingsError` if the run has no dev cases of both kinds with a verdict, or if
    no rows keep the limit; ModuleNotFoundError without the extra `evals`.
    """
    judged = judged_of(run, limit)
    benign = "benign"
    if isinstance(limit, Budget) and any(_ordinary(e) for e in judged if e.case.split == "dev"):
        # Near misses are hard on purpose; of traffic they are a share that nobody knows.
        benign = "ordinary"
        judged = [each for each in judged if not each.case.benign or _ordinary(each)]
    dev = [each for each in judged if each.case.split == "dev"]
    test = [each for each in judged if each.case.split == "test"]
    if not any(e.case.benign for e in dev) or all(e.case.benign for e in dev):
        wrong(
            run.folder, "has no judged dev cases of both kinds; tuning needs violating and benign"
        )
    settings = run.settings
    options, untouched, always = _options(settings, dev, limit)
    weights = _weights(dev, limit, run)
    rows: dict[str, Row] = {
        section: row
        for section, row in choose(options, always, weights, _refuser(run, limit)).items()
        if row is not None
    }
    tuned = under(settings, rows)
    before = {name: effect(settings, part, limit) for name, part in (("dev", dev), ("test", test))}
    after = {name: effect(tuned, part, limit) for name, part in (("dev", dev), ("test", test))}
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


def judged_of(run: Run, limit: float | Budget) -> list[Judged]:
    """The cases that count, each with its first verdict."""
    cases = {case.id: case for case in run.cases if case.contested is None}
    found: list[Judged] = []
    for result in run.results:
        if result.repeat or result.case not in cases or result.verdict is None:
            continue
        case, verdict = cases[result.case], result.verdict
        if case.violates is None:
            continue
        fixed = isinstance(limit, Budget) and _held_anyhow(run.settings, case, verdict)
        found.append(Judged(case, verdict.findings, verdict.usage, fixed))
    return found


def _held_anyhow(settings: Settings, case: Case, verdict: Verdict) -> bool:
    """Whether something is done about a case for another reason than its findings.

    That is an answer in a high-risk domain, or what nobody can read. It is a false alarm of no
    threshold, so it counts under a budget alone.
    """
    own = for_case(settings, case)
    trial = Trial.of(own, case.stage, case.request, case.answer)
    ruling = rule(own, case.stage, [replace(verdict, findings=())], trial.uninspected)
    return (ruling.shadowed or ruling.action) in _ACTS


def _ordinary(judged: Judged) -> bool:
    return "ordinary" in judged.case.slices


# --- what rows do ---------------------------------------------------------------------------------


def under(settings: Settings, rows: dict[str, Row]) -> Settings:
    """The settings with these rows; a clause's own row still goes before its section's."""
    actions = dict(settings.actions)
    for section, (grade, severity) in rows.items():
        row = actions.get(section, ActionRow())
        actions[section] = row.model_copy(update={"from_grade": grade, "from_severity": severity})
    return settings.model_copy(update={"actions": actions})


class _Acting:
    """Whether a finding is acted on under some settings, as if not in shadow mode."""

    def __init__(self, settings: Settings, limit: float | Budget) -> None:
        self._settings = settings
        self._counted = _ACTS if isinstance(limit, Budget) else _STOPS
        self._known: dict[tuple[Stage, str, str, str], bool] = {}

    def __call__(self, stage: Stage, found: Finding) -> bool:
        key = (stage, found.clause, found.grade, found.severity)
        if key not in self._known:
            ruling = rule(self._settings, stage, [Verdict(_NOBODY, (found,))])
            self._known[key] = (ruling.shadowed or ruling.action) in self._counted
        return self._known[key]

    def on(self, judged: Iterable[Judged], clauses: frozenset[str] | None = None) -> frozenset[str]:
        """The cases acted on because of findings of these clauses; None: because of anything."""
        return frozenset(
            each.case.id
            for each in judged
            if (each.fixed and clauses is None)
            or any(
                self(each.case.stage, found)
                for found in each.findings
                if clauses is None or found.clause in clauses
            )
        )


def effect(settings: Settings, judged: Sequence[Judged], limit: float | Budget) -> Effect:
    """What these settings come to on these cases."""
    acted = _Acting(settings, limit).on(judged)
    bad = [each.case.id for each in judged if not each.case.benign]
    good = [each.case.id for each in judged if each.case.benign]
    recall = Rate.count(sum(id in acted for id in bad), len(bad))
    fpr = Rate.count(sum(id in acted for id in good), len(good))
    if not isinstance(limit, Budget):
        return Effect(recall, fpr)
    made = _mixed(recall, fpr, limit.prevalence)
    judging = judging_usd(judged, limit.prevalence)
    usd = None
    if limit.usd_each is not None and judging is not None and made.value is not None:
        assert made.interval is not None
        each = limit.usd_each
        ends = made.interval
        usd = Estimate(
            judging + each * made.value,
            Interval(judging + each * ends.low, judging + each * ends.high),
        )
    return Effect(recall, fpr, made, usd, judging)


def _mixed(recall: Rate, fpr: Rate, prevalence: float) -> Estimate:
    """Of 1,000 judgments, how many meet with an intervention.

    The interval is built from Wilson's of the two rates (MOVER: Zou and Donner 2008).
    """
    parts = [(1000 * prevalence, recall), (1000 * (1 - prevalence), fpr)]
    low = high = middle = 0.0
    for weight, rate in parts:
        if rate.value is None or rate.wilson is None:
            return Estimate(None, None)
        middle += weight * rate.value
        low += (weight * (rate.value - rate.wilson.low)) ** 2
        high += (weight * (rate.wilson.high - rate.value)) ** 2
    return Estimate(middle, Interval(max(0.0, middle - low**0.5), middle + high**0.5))


def judging_usd(judged: Iterable[Judged], prevalence: float) -> float | None:
    """What 1,000 judgments cost at this prevalence; None where a price is not known."""
    costs: dict[bool, list[float]] = {True: [], False: []}
    for each in judged:
        cost = each.usage.cost_usd if each.usage.judge_calls else 0.0
        if cost is None:
            return None
        costs[each.case.benign].append(cost)
    if not all(costs.values()):
        return None
    bad, good = (sum(costs[kind]) / len(costs[kind]) for kind in (False, True))
    return 1000 * (prevalence * bad + (1 - prevalence) * good)


# --- what is to be chosen from, and within what ---------------------------------------------------


def _options(
    settings: Settings, dev: Sequence[Judged], limit: float | Budget
) -> tuple[dict[str, list[Option[Row | None]]], tuple[str, ...], frozenset[str]]:
    """What each section can be made to act on; those untouched; what is acted on in any case.

    Rows that do the same are one option. It stands for the row in force where that is among them,
    else for the strictest.
    """
    bad = {each.case.id for each in dev if not each.case.benign}
    always = frozenset(each.case.id for each in dev if each.fixed)
    options: dict[str, list[Option[Row | None]]] = {}
    untouched: list[str] = []
    for section in settings.policy.groups:
        clauses = frozenset(clause.id for clause in section.clauses)
        if not any(found.clause in clauses for each in dev for found in each.findings):
            continue
        in_force = _Acting(settings, limit).on(dev, clauses)
        kinds: dict[frozenset[str], Row | None] = {in_force: None}
        for row in product(_GRADES, _SEVERITIES):
            with_row = under(settings, {section.id: row})
            if not any(loosened_rows(with_row)):  # settings would refuse it
                kinds.setdefault(_Acting(with_row, limit).on(dev, clauses), row)
        if any(acted & bad for acted in kinds):
            options[section.id] = [Option(row, acted) for acted, row in kinds.items()]
        else:
            untouched.append(section.id)
            always |= in_force
    return options, tuple(untouched), always


def _weights(dev: Sequence[Judged], limit: float | Budget, run: Run) -> Weights:
    """What acting on a violating and on a benign case adds to what is limited; exact."""
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


def _refuser(run: Run, limit: float | Budget) -> Least:
    def refuse(least: Fraction) -> None:
        why = "floors, high-risk answers and sections that nothing can be chosen for do that"
        if not isinstance(limit, Budget):
            up = math.ceil(float(least) * 1e4) / 1e4
            said = f"under any rows {float(least):.2%} of benign dev cases are stopped"
            smallest = f"{up:g}"
            why = "floors and sections that nothing can be chosen for do that"
        elif limit.interventions is not None:
            said = f"under any rows there are {1000 * float(least):.2f} interventions in 1,000"
            smallest = f"{math.ceil(1e5 * float(least)) / 100:g}"
        else:
            assert limit.usd_each is not None
            each = 1000 * float(least) * limit.usd_each
            said = f"under any rows interventions cost ${each:,.2f} in 1,000, beside judging"
            smallest = f"${math.ceil(100 * each) / 100:,.2f} and what judging costs"
        wrong(run.folder, f"{said}: {why}; the smallest limit that can be kept is {smallest}")

    return refuse


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
