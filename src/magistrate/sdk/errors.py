"""The exceptions that a caller may see, all subclasses of the SDK's base exception.

    anthropic.AnthropicError
    └── ModerationError            a request this version does not handle
        ├── Blocked                the policy forbids it, and `on_block: raise` is set
        ├── HeldForReview          a person has to release the answer, and `on_hold: raise` is set
        └── ModerationUnavailable  no judge was available, and the settings fail closed

The SDK retries none of them: it searches the `__cause__` chain for its own errors, and these are
never raised `from` one. Configuration errors are `SettingsError`, which needs no SDK.
"""

from __future__ import annotations

from anthropic import AnthropicError

from magistrate.core.decision_record import Decision, JudgeFailure
from magistrate.core.effects import RaiseDecision


class ModerationError(AnthropicError):
    """Moderation stopped a request from being sent, or its answer from being delivered.

    `decision` is the record, if one was made.
    """

    def __init__(self, message: str, decision: Decision | None = None) -> None:
        super().__init__(message)
        self.decision = decision


class Blocked(ModerationError):
    """The request or its answer violates the policy.

    `entries`: for a message batch, the decision on each violating entry by its `custom_id`.
    """

    decision: Decision

    def __init__(self, decision: Decision, entries: dict[str, Decision] | None = None) -> None:
        self.entries = entries or {}
        causes = sorted({found.clause for found in decision.findings})
        causes += sorted({f"uninspected ({item.reason})" for item in decision.uninspected})
        what = "The request was" if decision.stage == "input" else "The answer was"
        because = f": {', '.join(causes)}" if causes else ""
        if self.entries:
            what = f"The batch was not sent: {', '.join(self.entries)}"
        super().__init__(f"{what} blocked by moderation ({decision.id}){because}", decision)


class HeldForReview(ModerationError):
    """The answer is stored and waits for a qualified person; `review_id` finds it."""

    decision: Decision

    def __init__(self, decision: Decision) -> None:
        super().__init__(
            f"The answer is held for human review as {decision.review_id} ({decision.id})", decision
        )

    @property
    def review_id(self) -> str:
        """Return the id with which the released answer can be fetched."""
        return self.decision.review_id or ""


class ModerationUnavailable(ModerationError):
    """No judge was available, so nothing more was released. This is not a verdict.

    Also raised if an answer to be held could not be stored. `decision.action` is `unavailable`.
    """

    def __init__(self, decision: Decision | None, reason: str) -> None:
        where = f" ({decision.id})" if decision else ""
        super().__init__(f"Moderation is unavailable{where}: {reason}", decision)


def error_for(effect: RaiseDecision) -> ModerationError:
    """Return the exception for a decision that ends a request by raising."""
    decision = effect.decision
    match effect.kind:
        case "blocked":
            return Blocked(decision, effect.entries)
        case "held":
            return HeldForReview(decision)
        case "unavailable":
            if effect.detail:
                return ModerationUnavailable(decision, effect.detail)
            reasons = [decision.missing_judges]
            if any(map(_may_be_the_model, decision.judge_failures)):
                model = decision.judge.model
                reasons.append(f"set `judge.model` if this provider has no model called {model}")
            return ModerationUnavailable(decision, f"no judge was available: {'; '.join(reasons)}")


def _may_be_the_model(failure: JudgeFailure) -> bool:
    """Return whether the failure is typical of a provider that does not have the model."""
    unknown = failure.detail.startswith(("HTTP 400", "HTTP 404"))
    return unknown and failure.reason in ("unsupported", "error")
