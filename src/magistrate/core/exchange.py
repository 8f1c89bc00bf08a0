"""One request and its state so far: what a flow carries, and the record of it.

Pure. The session makes an `Exchange`; the flow fills it in; `decision()` returns its record at any
time, so an exchange that is abandoned half way has one too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from magistrate.core.decide import StageDecision, retainable, stricter
from magistrate.core.decision_record import Decision, Disclosed, JudgeFailure, Upstream
from magistrate.core.disclosure import disclosure_duty
from magistrate.core.history import RequestHistory
from magistrate.core.stage_state import StageState
from magistrate.settings import Settings
from magistrate.verdicts import (
    JudgeInfo,
    Outcome,
    Stage,
    Unavailable,
    Usage,
    Verdict,
    not_awaited,
)
from magistrate.wire.digests import Digests
from magistrate.wire.messages import JSON, asks_for_structure, text_of


@dataclass(slots=True)
class Exchange:
    """One request in progress. `judge` is who would be asked, for a record without a verdict.

    `body` is the whole conversation, even if the request itself only continues one. `raises`:
    whether the edge can raise at its caller; over HTTP, a block is a refusal even under `raise`.
    """

    id: str
    body: JSON
    settings: Settings
    digests: Digests
    judge: JudgeInfo
    stream: bool
    threaded: bool = False  # the provider holds the turns before this request's own
    in_batch: bool = False
    raises: bool = True
    input: StageState = field(default_factory=StageState)
    output: StageState = field(default_factory=StageState)
    stage_decision: StageDecision = field(default_factory=lambda: StageDecision("input"))
    is_decided: bool = False  # whether `stage_decision` was decided
    upstream: Upstream = "not_sent"
    disclosed: Disclosed | None = None
    review_id: str | None = None
    continues_blocked: str | None = None
    platform: JSON | None = None

    @property
    def model(self) -> str:
        """Return the model the caller asked for."""
        return str(self.body.get("model") or "")

    @property
    def structured(self) -> bool:
        """Return whether the answer will be parsed as JSON, so we must not add text to it."""
        return asks_for_structure(self.body)

    @property
    def raises_when_blocked(self) -> bool:
        """Return whether a block, before anything was delivered, ends in an exception."""
        return self.settings.on_block == "raise" and self.raises and not self.in_batch

    @property
    def raises_when_held(self) -> bool:
        """Return whether an answer that is held for review ends in an exception."""
        return self.settings.on_hold == "raise" and self.raises and not self.in_batch

    @property
    def held_whole(self) -> bool:
        """Return whether a streamed answer is released in one piece or not at all."""
        return self.structured or self.settings.release == "message"

    def decide(self, stage: Stage, *, can_act: bool = False) -> StageDecision:
        """Decide a stage from what is known so far. The strictest stage decides the exchange."""
        state = self.input if stage == "input" else self.output
        found = state.decide(self.settings, stage, can_act=can_act)
        if found.action == "hold" and not self._may_store():
            # Holding an answer means storing it with its question, and this must not be stored.
            found = replace(found, action="block", domains=())
        self.stage_decision, self.is_decided = stricter(self.stage_decision, found), True
        return found

    def _may_store(self) -> bool:
        return retainable(self.settings, (*self.input.findings(), *self.output.findings()))

    def disclosure_due(self, history: RequestHistory, answer: JSON | None) -> str | None:
        """Return the disclosure text still needed; note a duty that is met or cannot be met.

        `answer` is the judged part of what the caller will see; None for a notice of ours, which
        contains no disclosure in its own words.
        """
        duty = disclosure_duty(self.settings)
        if not duty.owed:
            return None
        if duty.text is None:
            self.disclosed = "owed"
            return None
        said = answer is not None and (
            duty.text in text_of(answer.get("content"))
            or (duty.own_words and any(_discloses(outcome) for outcome in self.output.outcomes))
        )
        self.disclosed = "present" if said or history.carries(duty.text) else None
        return None if self.disclosed else duty.text

    def disclose_in_notice(self, history: RequestHistory) -> str | None:
        """Return the disclosure to put into a refusal or notice of ours, and note it."""
        text = self.disclosure_due(history, None)
        if text is None:
            return None
        self.disclosed = "owed" if self.structured else "added"
        return None if self.structured else text

    def abandoned(self) -> Decision:
        """Return the record of an exchange that the caller left or an error ended, as of now.

        It says which verdict was not awaited. Content that no judge allowed was not delivered, so
        the action is then not `allow`.
        """
        for stage, state in self._stages():
            if state.waiting or (stage == "input" and not self.is_decided):
                state.outcomes.append(not_awaited(self.judge))
                if self.upstream != "streamed":
                    self.stage_decision = stricter(
                        self.stage_decision, StageDecision(stage, "unavailable")
                    )
        if self.upstream == "streamed":
            self.upstream = "cancelled"
        return self.decision()

    def _stages(self) -> tuple[tuple[Stage, StageState], ...]:
        return ("input", self.input), ("output", self.output)

    def decision(self) -> Decision:
        """Return the record as of now. The session adds the time it took."""
        settings = self.settings
        failures: list[JudgeFailure] = []
        usage = Usage()
        judge = self.judge
        for stage, state in self._stages():
            for outcome in state.outcomes:
                usage, judge = usage + outcome.usage, outcome.judge
                if isinstance(outcome, Unavailable):
                    failures.append(JudgeFailure(stage, outcome.reason, outcome.detail))
        return Decision(
            id=self.id,
            action=self.stage_decision.action,
            disclosure=self.disclosed,
            stage=self.stage_decision.stage,
            policy=settings.policy.ref,
            policy_hash=settings.policy.hash,
            settings_hash=settings.hash,
            app=settings.app.name if settings.app else None,
            judge=judge,
            findings=(*self.input.findings(), *self.output.findings()),
            review_id=self.review_id,
            domains=self.stage_decision.domains if self.stage_decision.action == "hold" else (),
            uninspected=(*self.input.uninspected, *self.output.uninspected),
            judge_failures=tuple(failures),
            upstream=self.upstream,
            usage=usage,
            shadow=self.stage_decision.shadowed,
            platform=self.platform,
            continues_blocked=self.continues_blocked,
        )


def _discloses(outcome: Outcome) -> bool:
    return isinstance(outcome, Verdict) and outcome.discloses_ai
