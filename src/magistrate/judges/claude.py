"""The Claude judge: one schema-constrained call with the whole rubric, within one deadline.

tenacity is the only owner of retries: a judge's call is one HTTP attempt, outside the SDK's own
retry loop, so attempts never multiply. An outage is tried again while the deadline lasts, an
unusable reply once.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, Retrying, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from magistrate.digests import sha256
from magistrate.judges.base import AskModel, AskModelAsync, ModelReply
from magistrate.messages import JSON, is_object
from magistrate.prompts import templates
from magistrate.replies import read_reply
from magistrate.rubric import Rubric, labelled, make_prompt, make_rubric
from magistrate.settings import DEFAULT_JUDGE_MODEL, Settings
from magistrate.subjects import Subject
from magistrate.verdicts import Failure, JudgeInfo, Outcome, Stage, Unavailable, Usage

_ATTEMPTS = 4
# Asking again would get the same answer: the content is the cause.
_FINAL: frozenset[Failure] = frozenset({"refused", "truncated", "too_long", "unsupported"})
_BACKOFF = wait_random_exponential(multiplier=0.25, max=4)

_FAILURE_BY_STATUS: dict[int, Failure] = {
    400: "unsupported",
    408: "timeout",
    413: "too_long",
    429: "overloaded",
    503: "overloaded",
    529: "overloaded",
}


class ClaudeJudge:
    """Asks a Claude model, through the moderated client's own connection.

    The model is `judge.model` of the settings, else the project's default.
    """

    def __init__(self) -> None:
        self._rubrics: dict[tuple[str, Stage], Rubric] = {}

    def rubric(self, settings: Settings, stage: Stage) -> Rubric:
        """What this judge is told at a stage under these settings; rendered once."""
        key = (settings.hash, stage)
        if key not in self._rubrics:
            self._rubrics[key] = make_rubric(settings, stage, templates())
        return self._rubrics[key]

    def info(self, settings: Settings) -> JudgeInfo:
        """Name, model, and a hash over the prompts of both stages and how they are asked."""
        prompts = [self.rubric(settings, stage).hash for stage in ("input", "output")]
        asked = [settings.judge.effort, settings.judge.max_tokens]
        model = settings.judge.model or DEFAULT_JUDGE_MODEL
        return JudgeInfo("claude", model, sha256([prompts, asked]))

    def judge(
        self, subject: Subject, settings: Settings, ask: AskModel, deadline_s: float
    ) -> Outcome:
        """Judge on this thread. Answers within about `deadline_s` seconds."""
        call = _Call(self, subject, settings, deadline_s)

        def attempt() -> Outcome:
            return call.read(ask(call.prompt(), call.remaining))

        return Retrying(**call.retrying())(attempt)

    async def judge_async(
        self, subject: Subject, settings: Settings, ask: AskModelAsync, deadline_s: float
    ) -> Outcome:
        """Judge in this task."""
        call = _Call(self, subject, settings, deadline_s)

        async def attempt() -> Outcome:
            return call.read(await ask(call.prompt(), call.remaining))

        return await AsyncRetrying(**call.retrying())(attempt)


@dataclass(slots=True)
class _Call:
    """One judgment: its prompt, its clock, and what its attempts have cost."""

    owner: ClaudeJudge
    subject: Subject
    settings: Settings
    deadline_s: float
    started: float = field(default_factory=time.monotonic)
    spent: Usage = field(default_factory=Usage)
    retry_after: float | None = None

    @property
    def remaining(self) -> float:
        return max(0.05, self.deadline_s - (time.monotonic() - self.started))

    @property
    def rubric(self) -> Rubric:
        return self.owner.rubric(self.settings, self.subject.stage)

    def prompt(self) -> JSON:
        options = self.settings.judge
        return make_prompt(
            self.rubric,
            self.subject,
            nonce=secrets.token_hex(16),
            model=options.model or DEFAULT_JUDGE_MODEL,
            max_tokens=options.max_tokens,
            effort=options.effort,
        )

    def read(self, reply: ModelReply) -> Outcome:
        """One attempt's outcome, with the usage of all attempts so far."""
        info = self.owner.info(self.settings)
        self.retry_after = _retry_after(reply)
        if reply.failure is not None:
            return Unavailable(reply.failure, info, usage=self.spent)
        if reply.status != 200:
            return Unavailable(*_failure(reply, info), usage=self.spent)
        if reply.body is None:
            return Unavailable("unparseable", info, "the response is not JSON", self.spent)
        outcome = read_reply(
            reply.body,
            info,
            stage=self.subject.stage,
            clauses=self.rubric.clauses,
            domains=self.rubric.domains,
            parts=labelled(self.subject),
        )
        self.spent = self.spent + outcome.usage
        return replace(outcome, usage=self.spent)

    def retrying(self) -> dict[str, Any]:
        """The retry policy, the same for both flavours."""
        return {
            "retry": self._worth_another,
            "wait": self._wait,
            "stop": stop_after_attempt(_ATTEMPTS) | stop_before_delay(self.deadline_s),
            "retry_error_callback": _last_outcome,
        }

    def _worth_another(self, state: RetryCallState) -> bool:
        if state.outcome is None or state.outcome.failed:
            return False  # a bug of ours or of a user's `ask` is not retried
        outcome: Outcome = state.outcome.result()
        if not isinstance(outcome, Unavailable) or outcome.reason in _FINAL:
            return False
        return outcome.reason != "unparseable" or state.attempt_number < 2

    def _wait(self, state: RetryCallState) -> float:
        return _BACKOFF(state) if self.retry_after is None else self.retry_after


def _last_outcome(state: RetryCallState) -> Any:
    assert state.outcome is not None
    return state.outcome.result()


def _failure(reply: ModelReply, info: JudgeInfo) -> tuple[Failure, JudgeInfo, str]:
    """Name a failed status. `detail` holds the API's error type only: messages can quote input."""
    body = reply.body or {}
    error = body.get("error")
    kind = str(error.get("type") or "") if is_object(error) else ""
    said = str(error.get("message") or "") if is_object(error) else ""
    reason = _FAILURE_BY_STATUS.get(reply.status, "error")
    if reply.status == 400 and "too long" in said:
        reason = "too_long"
    return reason, info, f"HTTP {reply.status} {kind}".strip()


def _retry_after(reply: ModelReply) -> float | None:
    """Seconds the server asks to wait, from the headers the SDK honours too."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(reply.headers.get(name, "")) / unit
        except ValueError:
            continue
        if seconds >= 0:
            return seconds
    return None
