"""Decide what happens, from verdicts and settings. Deterministic; no I/O, no clock.

The order is allow < warn < hold < unavailable < block, and the strictest cause wins: a verdict
that blocks says more than a missing judge. Only this module decides whether to fail open or closed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from magistrate.settings import Settings
from magistrate.values import value
from magistrate.verdicts import (
    ACTIONS,
    DECISION_ACTIONS,
    GRADES,
    SEVERITIES,
    Action,
    DecisionAction,
    Failure,
    Finding,
    HighRiskAnswer,
    Outcome,
    Stage,
    Unavailable,
    Verdict,
    at_least,
)
from magistrate.wire.parts import Uninspected

# What an outage can cause. The content itself can cause every other failure, so those never
# fail open, whatever the settings say.
_OUTAGES: frozenset[Failure] = frozenset({"timeout", "overloaded", "error"})


@value
class StageDecision:
    """The decision on one stage.

    `action` is `unavailable` if a judge could not answer and the settings fail closed: this is not
    a verdict and is never presented as one. `domains`: what a reviewer of a held answer must be
    qualified in. `floor`: a clause that cannot be loosened was found. `shadowed`: the action that
    would have been taken outside shadow mode.
    """

    stage: Stage
    action: DecisionAction = "allow"
    domains: tuple[str, ...] = ()
    floor: bool = False
    shadowed: Action | None = None

    @property
    def stops(self) -> bool:
        """Return whether the exchange ends here, without an answer from the model."""
        return self.action in ("unavailable", "block")


def decide(
    settings: Settings,
    stage: Stage,
    outcomes: Iterable[Outcome],
    uninspected: Iterable[Uninspected] = (),
    *,
    can_act: bool = False,
) -> StageDecision:
    """Decide one stage from its outcomes and what could not be inspected.

    `can_act`: the request has effects before its answer is read, so its input never fails open.
    """
    causes: list[StageDecision] = []
    for outcome in outcomes:
        causes += [_on_finding(settings, stage, found) for found in outcome.findings]
        match outcome:
            case Verdict():
                if stage == "input" and outcome.continues_declined:
                    causes.append(StageDecision(stage, "block"))
                if stage == "output":
                    causes += [_on_high_risk(settings, item) for item in outcome.high_risk]
            case Unavailable():
                causes.append(_on_failure(settings, stage, outcome, can_act))
    causes += [
        StageDecision(stage, getattr(settings.on_uninspected, item.reason)) for item in uninspected
    ]
    if settings.release == "shadow":
        causes = [_in_shadow(cause) for cause in causes]
    return strictest(stage, causes)


def is_blocking(settings: Settings, stage: Stage, outcome: Outcome) -> bool:
    """Return whether this outcome alone ends the exchange, so upstream can be cancelled."""
    return decide(settings, stage, [outcome]).stops


def is_outage(outcome: Outcome) -> bool:
    """Return whether no judge was available for a reason that the content cannot have caused."""
    return isinstance(outcome, Unavailable) and outcome.reason in _OUTAGES and not outcome.floor


def blocks(settings: Settings, stage: Stage, found: Finding) -> bool:
    """Return whether this finding alone is a reason to block."""
    return _on_finding(settings, stage, found).action == "block"


def retainable(settings: Settings, findings: Iterable[Finding]) -> bool:
    """Return whether content with these findings may be stored at all.

    It may not if a finding is about a clause whose floor is unconditional."""
    touched = (found.clause for found in findings if found.grade != "none")
    return not any(settings.floor(clause) == SEVERITIES[0] for clause in touched)


def stricter(earlier: StageDecision, later: StageDecision) -> StageDecision:
    """Return the decision of two stages that decides the exchange: the later one if equal.

    What shadow mode suppressed in either is kept in the record.
    """
    decides = max(later, earlier, key=_strictness)  # of equals, `max` takes the first
    shadowed: list[Action] = [each.shadowed for each in (earlier, later) if each.shadowed]
    return replace(decides, shadowed=max(shadowed, key=ACTIONS.index)) if shadowed else decides


def _strictness(decided: StageDecision) -> int:
    return DECISION_ACTIONS.index(decided.action)


def strictest(stage: Stage, causes: list[StageDecision]) -> StageDecision:
    """Combine several causes in one stage. A cause may itself be an earlier combination."""
    if not causes:
        return StageDecision(stage)
    worst = max(causes, key=_strictness)
    domains = (domain for cause in causes for domain in cause.domains)
    shadowed: list[Action] = [cause.shadowed for cause in causes if cause.shadowed]
    return StageDecision(
        stage,
        worst.action,
        tuple(dict.fromkeys(domains)),
        any(cause.floor for cause in causes),
        max(shadowed, key=lambda action: ACTIONS.index(action), default=None),
    )


def _on_finding(settings: Settings, stage: Stage, found: Finding) -> StageDecision:
    if not at_least(found.grade, "unlikely", GRADES):
        return StageDecision(stage)
    clause = settings.policy.clauses[found.clause]
    if clause.evidence != "conversation":
        # Text alone cannot prove what happens across accounts or inside an app.
        suspicious = at_least(found.grade, "likely", GRADES)
        asked = settings.clause_action(found.clause, stage).action
        return StageDecision(stage, "warn" if suspicious and asked != "allow" else "allow")
    if at_least(found.grade, "likely", GRADES) and settings.floor_holds(
        found.clause, found.severity
    ):
        return StageDecision(stage, "block", floor=True)
    asked_for = settings.clause_action(found.clause, stage)
    if at_least(found.grade, asked_for.from_grade, GRADES) and at_least(
        found.severity, asked_for.from_severity, SEVERITIES
    ):
        section = settings.policy.section_of(found.clause)
        domains = (section.id,) if asked_for.action == "hold" else ()
        return StageDecision(stage, asked_for.action, domains=domains)
    return StageDecision(stage)


def _on_failure(
    settings: Settings, stage: Stage, failure: Unavailable, can_act: bool
) -> StageDecision:
    action: Action = getattr(settings.judge.on_failure, stage)
    if is_outage(failure) and action != "block" and not can_act:
        return StageDecision(stage, action)
    return StageDecision(stage, "unavailable")


def _on_high_risk(settings: Settings, answer: HighRiskAnswer) -> StageDecision:
    """Apply the policy's human-in-the-loop requirement to an answer in a high-risk domain."""
    app = settings.app
    use = next((use for use in settings.policy.high_risk if use.id == answer.domain), None)
    if app is None or use is None or answer.kind not in use.review_for:
        return StageDecision("output")
    if use.applies_when and not use.may_owe_review(app):
        return StageDecision("output")
    # General advice ("how to prepare for a hearing") is education; a recommendation or a decision
    # is about one person's case even if the text names no person.
    weighty = answer.individual or answer.kind != "advice"
    owed = (
        (app.audience == "consumer" and weighty)
        or (app.decides_about_individuals and answer.individual)
        or answer.kind == "publication"
    )
    if owed and answer.domain in app.high_risk and use.may_owe_review(app):
        return StageDecision("output", "hold", domains=(answer.domain,))
    return StageDecision("output", "warn" if weighty else "allow")


def _in_shadow(cause: StageDecision) -> StageDecision:
    if cause.floor or cause.action in ("allow", "warn", "unavailable"):
        return cause
    return StageDecision(cause.stage, "allow", shadowed=cause.action)
