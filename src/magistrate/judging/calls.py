"""A judgment in progress: its calls, its deadline, and the usage of their attempts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tenacity import RetryCallState, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from magistrate.core.subject_size import total_size
from magistrate.judging.base import ModelReply
from magistrate.judging.plan import Question, Task, plan_judging
from magistrate.judging.prepared import Preparations
from magistrate.judging.prompt import Shown, labelled, make_prompt
from magistrate.judging.reply import read_reply
from magistrate.judging.retry_after import asked_wait
from magistrate.judging.rubric import Rubric
from magistrate.settings import Settings
from magistrate.verdicts import (
    Failure,
    JudgeInfo,
    Outcome,
    Screened,
    Unavailable,
    Usage,
)
from magistrate.wire.messages import JSON, is_object
from magistrate.wire.parts import Subject

_ATTEMPTS = 4
_LONG = 5_000  # tokens: above this, preparing a subject would block an event loop too long
# A retry would fail in the same way, because the content is the cause.
_FINAL: frozenset[Failure] = frozenset({"refused", "truncated", "too_long", "unsupported"})
_STANDING = frozenset({401, 403, 404})  # key, permissions or model name: waiting does not help
_BACKOFF = wait_random_exponential(multiplier=0.25, max=4)
_FAILURE_BY_STATUS: dict[int, Failure] = {
    400: "unsupported",
    408: "timeout",
    413: "too_long",
    429: "overloaded",
    503: "overloaded",
    529: "overloaded",
}


class Owner(Protocol):
    """What a judgment needs from its judge."""

    clear: Callable[[Subject], bool] | None
    prepared: Preparations

    def rubric(self, settings: Settings, task: Task) -> Rubric: ...

    def info(self, settings: Settings) -> JudgeInfo: ...


class Judgment:
    """A judgment in progress: its plan, its deadline, and the nonce that fences its subject."""

    outcome: Outcome

    def __init__(
        self, owner: Owner, subject: Subject, settings: Settings, deadline_s: float
    ) -> None:
        self.owner, self.subject, self.settings = owner, subject, settings
        self.give_up = time.monotonic() + deadline_s
        self.deadline_s = deadline_s
        self.info = owner.info(settings)
        self.prepared = owner.prepared.of(subject)
        self.nonce = self.prepared.nonce
        sizes = self.prepared.sizes(subject)
        self._plan = plan_judging(settings, subject, self.info, owner.clear, sizes=sizes)
        self._shown: dict[int, tuple[Subject, Shown]] = {}

    @property
    def late(self) -> bool:
        """Return whether the deadline has passed."""
        return time.monotonic() >= self.give_up

    def begin(self) -> list[Question] | None:
        return self._step(lambda: next(self._plan))

    def go_on(self, answers: list[Outcome | Screened]) -> list[Question] | None:
        return self._step(lambda: self._plan.send(answers))

    def _step(self, move: Callable[[], list[Question]]) -> list[Question] | None:
        try:
            return move()
        except StopIteration as end:
            self.outcome = end.value
            return None

    def call(self, question: Question) -> Call:
        return Call(self, question)

    def shown(self, subject: Subject) -> Shown:
        """Return the lines of one piece of the subject, made once for all questions about it."""
        kept = self._shown.get(id(subject))
        if kept is None:  # keep the subject too, so that its id is not reused
            kept = self._shown[id(subject)] = (subject, self.prepared.show(subject))
        return kept[1]


@dataclass(slots=True)
class Call:
    """One question: its prompt, and the usage of its attempts."""

    judgment: Judgment
    question: Question
    spent: Usage = field(default_factory=Usage)
    retry_after: float | None = None
    status: int = 0  # of the last attempt; 0 if there was no response

    @property
    def remaining(self) -> float:
        return max(0.05, self.judgment.give_up - time.monotonic())

    @property
    def is_long(self) -> bool:
        return total_size(self.question.subject.parts) > _LONG

    @property
    def rubric(self) -> Rubric:
        return self.judgment.owner.rubric(self.judgment.settings, self.question.task)

    def prompt(self) -> JSON:
        options = self.judgment.settings.judge
        effort = options.effort
        if self.question.task.screen and options.screen.effort is not None:
            effort = options.screen.effort
        return make_prompt(
            self.rubric,
            self.question.subject,
            nonce=self.judgment.nonce,
            model=self.question.model,
            max_tokens=options.max_tokens,
            effort=effort,
            shown=self.judgment.shown(self.question.subject),
        )

    def read(self, reply: ModelReply) -> Outcome | Screened:
        """Return the answer of one attempt, with the usage of all attempts so far."""
        info = replace(self.judgment.info, model=self.question.model)
        self.retry_after, self.status = asked_wait(reply.headers), reply.status
        if reply.failure is not None:
            return Unavailable(reply.failure, info, reply.detail, self.spent)
        if reply.status != 200:
            return Unavailable(*_failure(reply, info), usage=self.spent)
        if reply.body is None:
            return Unavailable("unparseable", info, "the response is not JSON", self.spent)
        # A screen names no parts, and making the labels takes time proportional to the history.
        parts = {} if self.question.task.screen else labelled(self.question.subject)
        read = self.judgment.owner.prepared.read
        answer = read_reply(reply.body, info, self.rubric, parts, read)
        self.spent = self.spent + answer.usage
        return replace(answer, usage=self.spent)

    def retrying(self) -> dict[str, Any]:
        """Return the retry policy, the same for sync and async."""
        return {
            "retry": self._worth_another,
            "wait": self._wait,
            "stop": stop_after_attempt(_ATTEMPTS) | stop_before_delay(self.remaining),
            "retry_error_callback": _last_outcome,
        }

    def _worth_another(self, state: RetryCallState) -> bool:
        if state.outcome is None or state.outcome.failed:
            return False  # do not retry a bug of ours or of a user's `ask`
        outcome: Outcome | Screened = state.outcome.result()
        if not isinstance(outcome, Unavailable) or outcome.reason in _FINAL:
            return False
        if self.status in _STANDING:
            return False
        return outcome.reason != "unparseable" or state.attempt_number < 2

    def _wait(self, state: RetryCallState) -> float:
        return _BACKOFF(state) if self.retry_after is None else self.retry_after


def _last_outcome(state: RetryCallState) -> Any:
    assert state.outcome is not None
    return state.outcome.result()


def _failure(reply: ModelReply, info: JudgeInfo) -> tuple[Failure, JudgeInfo, str]:
    """Name a failed status. `detail` has only the API's error type: messages can quote input."""
    body = reply.body or {}
    error = body.get("error")
    kind = str(error.get("type") or "") if is_object(error) else ""
    said = str(error.get("message") or "") if is_object(error) else ""
    reason = _FAILURE_BY_STATUS.get(reply.status, "error")
    if reply.status == 400 and "too long" in said:
        reason = "too_long"
    return reason, info, f"HTTP {reply.status} {kind}".strip()
