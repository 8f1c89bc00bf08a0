"""From verdicts and settings to what happens. Deterministic; no I/O, no clock.

The order is allow < warn < hold < unavailable < block, and the strictest cause wins: a verdict
that blocks says more than a judge that is missing. Fail-open or fail-closed is decided here and
nowhere else. Disclosure is a duty of its own, beside any action.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field, replace
from typing import Any, Literal

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
    JudgeInfo,
    Outcome,
    Stage,
    Unavailable,
    Usage,
    Verdict,
    at_least,
)
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Uninspected

Upstream = Literal["not_sent", "completed", "cancelled", "streamed"]
Disclosed = Literal["added", "present", "owed"]

# What an outage can cause. Every other failure can be provoked by the content itself, so it never
# fails open, whatever the settings say.
_OUTAGES: frozenset[Failure] = frozenset({"timeout", "overloaded", "error"})


@value
class StageDecision:
    """What one stage comes to.

    `action` is `unavailable` where a judge could not answer and the settings fail closed: nobody's
    verdict, and never presented as one. `domains`: what a reviewer of a held answer must be
    qualified in. `floor`: a clause that cannot be loosened was found. `shadowed`: what would have
    happened outside shadow mode.
    """

    stage: Stage
    action: DecisionAction = "allow"
    domains: tuple[str, ...] = ()
    floor: bool = False
    shadowed: Action | None = None

    @property
    def stops(self) -> bool:
        """Whether the exchange ends here, with no answer of the model's."""
        return self.action in ("unavailable", "block")


@value
class JudgeFailure:
    """One judgment that did not come about."""

    stage: Stage
    reason: Failure
    detail: str = ""


@value
class Decision:
    """The whole record of one exchange: audit event, review item and eval result are this shape.

    `action` is `unavailable` where nobody decided: no judge answered, or none was waited for, and
    nothing was given out; or an answer to be held could not be stored. A caller who waits gets
    `ModerationUnavailable`. `latency_ms` is the time from the request to the decision; `upstream`
    says how far the model call got. `disclosure` is None where none is owed. `domains`: what a
    reviewer of a held answer must be qualified in. `shadow` is the action that shadow mode
    suppressed. `platform` is what the provider's own safeguards said of the answer, as far as it
    was read: a verdict beside ours, on which no action is taken.
    """

    id: str
    action: DecisionAction
    disclosure: Disclosed | None
    stage: Stage
    policy: str
    policy_hash: str
    settings_hash: str
    app: str | None
    judge: JudgeInfo
    findings: tuple[Finding, ...] = ()
    review_id: str | None = None
    domains: tuple[str, ...] = ()
    uninspected: tuple[Uninspected, ...] = ()
    judge_failures: tuple[JudgeFailure, ...] = ()
    upstream: Upstream = "not_sent"
    usage: Usage = field(default_factory=Usage)
    latency_ms: float = 0.0
    shadow: Action | None = None
    platform: JSON | None = None

    @property
    def public(self) -> dict[str, Any]:
        """The part of the record that may reach a browser."""
        return {
            "id": self.id,
            "action": self.action,
            "disclosure": self.disclosure,
            "review_id": self.review_id,
        }

    def as_json(self, *, evidence: bool) -> dict[str, Any]:
        """The record as JSON. `evidence` quotes judged content, so it is asked for by name."""
        return {
            "id": self.id,
            "action": self.action,
            "disclosure": self.disclosure,
            "stage": self.stage,
            "policy": self.policy,
            "policy_hash": self.policy_hash,
            "settings_hash": self.settings_hash,
            "app": self.app,
            "judge": _fields(self.judge, "name", "model", "prompt_hash"),
            "findings": [
                _fields(found, "clause", "grade", "severity", "stage", "path")
                | ({"evidence": found.evidence} if evidence and found.evidence else {})
                for found in self.findings
            ],
            "review_id": self.review_id,
            "domains": list(self.domains),
            "uninspected": [_fields(item, "path", "reason") for item in self.uninspected],
            "judge_failures": [
                _fields(item, "stage", "reason", "detail") for item in self.judge_failures
            ],
            "upstream": self.upstream,
            "usage": _fields(
                self.usage,
                "judge_calls",
                "input_tokens",
                "output_tokens",
                "cache_write_tokens",
                "cache_read_tokens",
                "cost_usd",
            ),
            "latency_ms": self.latency_ms,
            "shadow": self.shadow,
            "platform": self._platform(evidence),
        }

    def _platform(self, evidence: bool) -> JSON | None:
        # Safeguard results have no documented shape, so they may quote what was judged.
        if self.platform is None or evidence or "safeguard_results" not in self.platform:
            return self.platform
        return {**self.platform, "safeguard_results": "present"}


def _fields(item: object, *names: str) -> dict[str, Any]:
    return {name: getattr(item, name) for name in names}


def decide(
    settings: Settings,
    stage: Stage,
    outcomes: Iterable[Outcome],
    uninspected: Iterable[Uninspected] = (),
    *,
    can_act: bool = False,
) -> StageDecision:
    """What the verdicts of one stage come to.

    `can_act`: the request has effects before its answer is read, so its input never fails open.
    """
    causes: list[StageDecision] = []
    for outcome in outcomes:
        causes += [_on_finding(settings, stage, found) for found in outcome.findings]
        match outcome:
            case Verdict():
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
    """Whether this outcome alone ends the exchange, so that upstream need not go on."""
    return decide(settings, stage, [outcome]).stops


def blocks(settings: Settings, stage: Stage, found: Finding) -> bool:
    """Whether this finding alone is a reason to block."""
    return _on_finding(settings, stage, found).action == "block"


def retainable(settings: Settings, findings: Iterable[Finding]) -> bool:
    """Whether the content in which this was found may be kept at all: not where a clause was
    touched whose floor is unconditional."""
    touched = (found.clause for found in findings if found.grade != "none")
    return not any(settings.floor(clause) == SEVERITIES[0] for clause in touched)


def stricter(earlier: StageDecision, later: StageDecision) -> StageDecision:
    """Of two stages' rulings, the one that decides the exchange: the later one where equal.

    What shadow mode suppressed in either stays on record.
    """
    decides = max(later, earlier, key=_strictness)  # of equals, `max` takes the first
    shadowed: list[Action] = [each.shadowed for each in (earlier, later) if each.shadowed]
    return replace(decides, shadowed=max(shadowed, key=ACTIONS.index)) if shadowed else decides


def _strictness(decided: StageDecision) -> int:
    return DECISION_ACTIONS.index(decided.action)


def strictest(stage: Stage, causes: list[StageDecision]) -> StageDecision:
    """What several causes in one stage come to. Each may be what others came to before."""
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
        # A text cannot prove what happens across accounts or inside an app.
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
    if failure.reason in _OUTAGES and action != "block" and not can_act and not failure.floor:
        return StageDecision(stage, action)
    return StageDecision(stage, "unavailable")


def _on_high_risk(settings: Settings, answer: HighRiskAnswer) -> StageDecision:
    """The policy's human-in-the-loop requirement, for an answer the judge puts into a domain."""
    app = settings.app
    use = next((use for use in settings.policy.high_risk if use.id == answer.domain), None)
    if app is None or use is None or answer.kind not in use.review_for:
        return StageDecision("output")
    if use.applies_when and not use.may_owe_review(app):
        return StageDecision("output")
    # General advice ("how to prepare for a hearing") is education; a recommendation or a decision
    # is about somebody's case even where the text names nobody.
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


@value
class Duty:
    """The AI disclosure an integration owes. `text` is None where there is no chat to put it in.

    `own_words`: an answer that says in its own words that an AI speaks has done enough. It has not
    where the person must learn that AI informed a decision.
    """

    owed: bool
    text: str | None = None
    own_words: bool = True


def disclosure_duty(settings: Settings) -> Duty:
    """What the app profile owes, from the policy's disclosure rules and high-risk uses."""
    app = settings.app
    if app is None:
        return Duty(owed=False)
    chat = any(rule.owed_by(app) for rule in settings.policy.disclosure)
    informed = any(
        use.id in app.high_risk and "disclosure" in use.requirements
        for use in settings.policy.high_risk
    )
    if not chat and not informed:
        return Duty(owed=False)
    if app.interface not in ("chatbot", "agent"):
        return Duty(owed=True)
    texts = settings.disclosure
    sentences = [texts.chat] * chat + [texts.high_risk] * informed
    return Duty(owed=True, text=" ".join(sentences), own_words=not informed)
