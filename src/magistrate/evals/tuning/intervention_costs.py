"""What thresholds do on judged cases: which of them are acted on, how often, at what cost.

Pure. Contested cases take no part, and neither do harmless ones without a verdict. A violating case
without one is caught under no threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from magistrate.core.decide import decide
from magistrate.evals.cases import Case
from magistrate.evals.labels import for_case
from magistrate.evals.metrics.statistics import Estimate, Interval, Rate
from magistrate.evals.run_folder import Run
from magistrate.settings import Settings
from magistrate.verdicts import Finding, JudgeInfo, Stage, Usage, Verdict

_STOPS = frozenset({"hold", "block"})
_ACTS = frozenset({"warn", "hold", "block"})
_RECORDED = JudgeInfo("recorded")


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
    """What rows do on some cases.

    `recall`: of the violating cases, how many are stopped; `fpr`: of the benign ones. Under a
    budget it is how many meet with an intervention. `interventions` and `usd` are those of 1,000
    judgments at the budget's prevalence; None without a budget, or where the price is not known.
    `aside`: of the benign cases that represent no traffic, how many have an intervention.
    """

    recall: Rate
    fpr: Rate
    aside: Rate
    interventions: Estimate | None = None
    usd: Estimate | None = None
    judging_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """One case with what was found in it. `fixed`: what no threshold changes acts on it anyhow."""

    case: Case
    findings: tuple[Finding, ...]
    usage: Usage
    fixed: bool


def judged_of(run: Run, limit: float | Budget) -> list[Judged]:
    """Return the cases that count, each with its first verdict; none finds nothing."""
    cases = {case.id: case for case in run.cases if case.contested is None}
    found: list[Judged] = []
    for result in run.results:
        if result.repeat or result.case not in cases:
            continue
        case, verdict = cases[result.case], result.verdict
        if case.violates is None:
            continue
        if verdict is None:
            if case.violates:  # else a judge that fails would seem the better
                found.append(Judged(case, (), result.outcome.usage, fixed=False))
            continue
        fixed = isinstance(limit, Budget) and _held_anyhow(run.settings, case, verdict)
        found.append(Judged(case, verdict.findings, verdict.usage, fixed))
    return found


def _held_anyhow(settings: Settings, case: Case, verdict: Verdict) -> bool:
    """Return whether something is done about a case for another reason than its findings.

    That is an answer in a high-risk domain, or content that cannot be read. It is a false alarm of
    no threshold, so it counts under a budget alone.
    """
    own = for_case(settings, case)
    offline = case.offline(own)
    decided = decide(own, case.stage, [replace(verdict, findings=())], offline.uninspected)
    return (decided.shadowed or decided.action) in _ACTS


def ordinary(judged: Judged) -> bool:
    """Return whether a case is one of ordinary traffic."""
    return "ordinary" in judged.case.slices


class Acting:
    """Whether a finding is acted on under some settings, as if not in shadow mode."""

    def __init__(self, settings: Settings, limit: float | Budget) -> None:
        self._settings = settings
        self._counted = _ACTS if isinstance(limit, Budget) else _STOPS
        self._known: dict[tuple[Stage, str, str, str], bool] = {}

    def __call__(self, stage: Stage, found: Finding) -> bool:
        key = (stage, found.clause, found.grade, found.severity)
        if key not in self._known:
            decided = decide(self._settings, stage, [Verdict(_RECORDED, (found,))])
            self._known[key] = (decided.shadowed or decided.action) in self._counted
        return self._known[key]

    def on(self, judged: Iterable[Judged], clauses: frozenset[str] | None = None) -> frozenset[str]:
        """Return the cases acted on because of findings of these clauses; None: of any cause."""
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


def effect(
    settings: Settings,
    judged: Sequence[Judged],
    limit: float | Budget,
    aside: Sequence[Judged] = (),
) -> Effect:
    """Return what these settings do on these cases, and on those that represent no traffic."""
    acting = Acting(settings, limit)
    acted = acting.on(judged)
    bad = [each.case.id for each in judged if not each.case.benign]
    good = [each.case.id for each in judged if each.case.benign]
    recall = Rate.count(sum(id in acted for id in bad), len(bad))
    fpr = Rate.count(sum(id in acted for id in good), len(good))
    near = Rate.count(len(acting.on(aside)), len(aside))
    if not isinstance(limit, Budget):
        return Effect(recall, fpr, near)
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
    return Effect(recall, fpr, near, made, usd, judging)


def _mixed(recall: Rate, fpr: Rate, prevalence: float) -> Estimate:
    """Return how many of 1,000 judgments have an intervention.

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
    """Return what 1,000 judgments cost at this prevalence; None where a price is not known."""
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
