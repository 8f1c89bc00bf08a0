"""One request and what has become of it so far: the state a flow carries, and its record.

Pure. The edge makes an `Exchange`; the flow fills it in; `decision()` is its record at any time,
so an exchange that is abandoned half way has one too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice

from magistrate.core.decide import StageDecision, decide, retainable, stricter, strictest
from magistrate.core.decision import Decision, Disclosed, JudgeFailure, Upstream
from magistrate.core.disclosure import disclosure_duty
from magistrate.core.history import RequestHistory
from magistrate.settings import Settings
from magistrate.verdicts import (
    Finding,
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
from magistrate.wire.parts import Uninspected


@dataclass(slots=True)
class StageState:
    """One stage: what the judge said, and what nobody could read."""

    asked: int = 0
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    _unread: dict[Uninspected, None] = field(default_factory=dict[Uninspected, None])
    _decided: StageDecision | None = None
    _decided_of: tuple[int, int] = (0, 0)  # of how many outcomes and things unread

    @property
    def uninspected(self) -> tuple[Uninspected, ...]:
        """What nobody could read, each once."""
        return tuple(self._unread)

    def note(self, unread: Iterable[Uninspected]) -> None:
        """Add what nobody could read."""
        self._unread.update(dict.fromkeys(unread))

    def decide(self, settings: Settings, stage: Stage, *, can_act: bool) -> StageDecision:
        """What the stage comes to: what it came to before, and what is new since then.

        A long stream has hundreds of verdicts and is ruled after each of them.
        """
        outcomes, unread = self._decided_of
        found = decide(
            settings,
            stage,
            self.outcomes[outcomes:],
            islice(self._unread, unread, None),
            can_act=can_act,
        )
        if self._decided is not None:
            found = strictest(stage, [self._decided, found])
        self._decided, self._decided_of = found, (len(self.outcomes), len(self._unread))
        return found

    def findings(self) -> tuple[Finding, ...]:
        """Every finding, each once."""
        return tuple(dict.fromkeys(found for each in self.outcomes for found in each.findings))

    @property
    def waiting(self) -> bool:
        """Whether a judge was asked who has not answered."""
        return len(self.outcomes) < self.asked

    @property
    def judged_in_full(self) -> bool:
        """Whether no judge was missing."""
        return not any(isinstance(outcome, Unavailable) for outcome in self.outcomes)


@dataclass(slots=True)
class Exchange:
    """One request on its way. `judge` is who would be asked, for a record without a verdict.

    `body` is the whole conversation, also where the request itself only continues one.
    """

    id: str
    body: JSON
    settings: Settings
    digests: Digests
    judge: JudgeInfo
    stream: bool
    threaded: bool = False  # the provider holds the turns before this request's own
    in_batch: bool = False
    input: StageState = field(default_factory=StageState)
    output: StageState = field(default_factory=StageState)
    stage_decision: StageDecision = field(default_factory=lambda: StageDecision("input"))
    is_decided: bool = False  # whether `ruling` says anything yet
    upstream: Upstream = "not_sent"
    disclosed: Disclosed | None = None
    review_id: str | None = None
    platform: JSON | None = None

    @property
    def model(self) -> str:
        """The model the caller asked for."""
        return str(self.body.get("model") or "")

    @property
    def structured(self) -> bool:
        """Whether the answer will be parsed as JSON, so that no text of ours may join it."""
        return asks_for_structure(self.body)

    @property
    def held_whole(self) -> bool:
        """Whether a streamed answer is released in one piece or not at all."""
        return self.structured or self.settings.release == "message"

    def decide(self, stage: Stage, *, can_act: bool = False) -> StageDecision:
        """Decide a stage from what is known of it. The strictest stage decides the exchange."""
        state = self.input if stage == "input" else self.output
        found = state.decide(self.settings, stage, can_act=can_act)
        if found.action == "hold" and not self._may_store():
            # To hold an answer is to store it with its question, which must not be kept at all.
            found = replace(found, action="block", domains=())
        self.stage_decision, self.is_decided = stricter(self.stage_decision, found), True
        return found

    def _may_store(self) -> bool:
        return retainable(self.settings, (*self.input.findings(), *self.output.findings()))

    def disclosure_due(self, history: RequestHistory, answer: JSON | None) -> str | None:
        """The disclosure text that is still needed; notes a duty that is met or cannot be.

        `answer` is as much as has been judged of what the caller will see; None for a notice of
        ours, which says nothing of the kind in words of its own.
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
        """The disclosure for a refusal or notice of ours."""
        text = self.disclosure_due(history, None)
        if text is None:
            return None
        self.disclosed = "owed" if self.structured else "added"
        return None if self.structured else text

    def abandoned(self) -> Decision:
        """The record where the caller left, or an error ended the request: as of now, and whose
        verdict was not waited for. What no judge allowed was not given out, so it is no `allow`.
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
        """The record as of now. The edge adds the time it took."""
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
        )


def _discloses(outcome: Outcome) -> bool:
    return isinstance(outcome, Verdict) and outcome.discloses_ai
