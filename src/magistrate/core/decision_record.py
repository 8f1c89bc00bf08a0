"""The record of one exchange: what was decided, why, and what it took."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

from magistrate.values import value
from magistrate.verdicts import (
    Action,
    DecisionAction,
    Failure,
    Finding,
    JudgeInfo,
    Stage,
    Usage,
)
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Uninspected

Upstream = Literal["not_sent", "completed", "cancelled", "streamed"]
Disclosed = Literal["added", "present", "owed"]


@value
class JudgeFailure:
    """One judgment that failed."""

    stage: Stage
    reason: Failure
    detail: str = ""


@value
class Decision:
    """The whole record of one exchange: audit event, review item and eval result are this shape.

    `action` is `unavailable` if there is no verdict (no judge answered, or none was awaited, and
    nothing more was delivered), or if an answer to be held could not be stored. A waiting caller
    receives `ModerationUnavailable`. `latency_ms` is the time from the request to the decision;
    `upstream` says how far the model call got. `disclosure` is None if none is owed. `domains`:
    what a reviewer of a held answer must be qualified in. `shadow` is the action that shadow mode
    suppressed. `platform` is what the provider's own safeguards reported about the answer, as far
    as it was read: a separate verdict, on which no action is taken. `continues_blocked`: the id of
    the decision that blocked an earlier turn, if this request was refused for asking again for it.
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
    continues_blocked: str | None = None

    @property
    def public(self) -> dict[str, Any]:
        """Return the part of the record that may reach a browser."""
        return {
            "id": self.id,
            "action": self.action,
            "disclosure": self.disclosure,
            "review_id": self.review_id,
        }

    @property
    def missing_judges(self) -> str:
        """Return which judges were not available and why, for people; without content."""
        said = (f"{each.stage} judge {each.reason} {each.detail}" for each in self.judge_failures)
        return "; ".join(each.strip() for each in said)

    def as_json(self, *, evidence: bool) -> dict[str, Any]:
        """Return the record as JSON. `evidence` adds judged content, so it must be stated."""
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
            "continues_blocked": self.continues_blocked,
        }

    def _platform(self, evidence: bool) -> JSON | None:
        # Safeguard results have no documented shape, so they may quote what was judged.
        if self.platform is None or evidence or "safeguard_results" not in self.platform:
            return self.platform
        return {**self.platform, "safeguard_results": "present"}


def _fields(item: object, *names: str) -> dict[str, Any]:
    return {name: getattr(item, name) for name in names}
