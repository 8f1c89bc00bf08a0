"""The Claude judge: sends what `deliberation` asks, schema-constrained, within one deadline.

tenacity is the only owner of retries: a judge's call is one HTTP attempt, outside the SDK's own
retry loop, so attempts never multiply. An outage is tried again while the deadline lasts, an
unusable reply once.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from cachetools import LRUCache
from tenacity import AsyncRetrying, RetryCallState, Retrying, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from magistrate.judging.base import AskModel, AskModelAsync, ModelReply
from magistrate.judging.plan import Question, Task, plan_judging, tasks
from magistrate.judging.prepared import Preparations
from magistrate.judging.prompt import Shown, labelled, make_prompt
from magistrate.judging.reply import read_reply
from magistrate.judging.rubric import Rubric, make_rubric, make_screen
from magistrate.judging.templates import templates
from magistrate.settings import DEFAULT_JUDGE_MODEL, Settings
from magistrate.verdicts import (
    STAGES,
    Failure,
    JudgeInfo,
    Outcome,
    Screened,
    Unavailable,
    Usage,
    no_answer,
)
from magistrate.wire.digests import sha256
from magistrate.wire.messages import JSON, is_object
from magistrate.wire.parts import Subject
from magistrate.wire.sizes import total_size

_ATTEMPTS = 4
# Calls of one judgment. A sync client's have a thread each, so at most so many for each of its
# `judge.concurrency` judgments: a long subject takes none from others.
_AT_ONCE = 8
# Rubrics of so many settings are kept, half a megabyte each: an application has one, an eval suite
# may have one a case.
SETTINGS_KEPT = 8
_LONG = 5_000  # tokens of a subject that take longer to prepare than an event loop may stand
# Asking again would get the same answer: the content is the cause.
_FINAL: frozenset[Failure] = frozenset({"refused", "truncated", "too_long", "unsupported"})
_STANDING = frozenset({401, 403, 404})  # a key, its rights, or the model's name: no wait mends them
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
    """Asks Claude models, through the moderated client's own connection.

    What is asked in which order is `deliberation`; here it is sent, read and tried again. The model
    is `judge.model` of the settings, else the project's default. `clear` says of what nobody needs
    to be asked about: the local judge, where the settings ask for it; `clear_by` identifies it.
    """

    def __init__(
        self, clear: Callable[[Subject], bool] | None = None, *, clear_by: str = ""
    ) -> None:
        self.clear = clear
        self.clear_by = clear_by
        self._told: LRUCache[str, PromptCache] = LRUCache(SETTINGS_KEPT)
        self._lock = threading.Lock()
        self._key = secrets.token_bytes(32)
        self.prepared = Preparations(self._key)

    def rubric(self, settings: Settings, task: Task) -> Rubric:
        """What this judge is told for a task under these settings; rendered once."""
        rubrics = self._under(settings).rubrics
        if task not in rubrics:
            rubrics[task] = (
                make_screen(settings, task.stage, templates())
                if task.screen
                else make_rubric(
                    settings,
                    task.stage,
                    templates(),
                    groups=task.groups,
                    third_party=task.third_party,
                )
            )
        return rubrics[task]

    def info(self, settings: Settings) -> JudgeInfo:
        """Name, model, and a hash over the prompts of all tasks and how they are asked."""
        told = self._under(settings)
        if told.info is None:
            prompts = [
                self.rubric(settings, task).hash
                for stage in STAGES
                for task in tasks(settings, stage)
            ]
            asked = settings.judge.model_dump(mode="json", exclude={"deadline_s", "on_failure"})
            model = settings.judge.model or DEFAULT_JUDGE_MODEL
            digest = sha256([prompts, asked, self.clear_by])
            told.info = JudgeInfo("claude", model, digest, waits="within_deadline")
        return told.info

    def after_fork(self) -> None:
        """In a child process: the locks may be held by threads that are not there."""
        self._lock = threading.Lock()
        self.prepared = Preparations(self._key)  # the key stays: so do the codes of conversations

    def _under(self, settings: Settings) -> PromptCache:
        with self._lock:
            found = self._told.get(settings.hash)
            if found is None:
                found = self._told[settings.hash] = PromptCache()
            return found

    def judge(
        self, subject: Subject, settings: Settings, ask: AskModel, deadline_s: float
    ) -> Outcome:
        """Judge on this thread, and on others where several calls go out at the same time.

        Answers within about `deadline_s` seconds.
        """
        calls = Judgment(self, subject, settings, deadline_s)

        def one(question: Question) -> Outcome | Screened:
            if calls.late:
                return no_answer(calls.info)
            call = calls.call(question)

            def attempt() -> Outcome | Screened:
                return call.read(ask(call.prompt(), call.remaining))

            return Retrying(**call.retrying())(attempt)

        questions = calls.begin()
        while questions is not None:
            if len(questions) == 1:
                answers = [one(questions[0])]
            else:
                with ThreadPoolExecutor(min(_AT_ONCE, len(questions)), "magistrate-ask") as pool:
                    asked = [
                        pool.submit(contextvars.copy_context().run, one, question)
                        for question in questions
                    ]
                answers = [future.result() for future in asked]
            questions = calls.go_on(answers)
        return calls.outcome

    async def judge_async(
        self, subject: Subject, settings: Settings, ask: AskModelAsync, deadline_s: float
    ) -> Outcome:
        """Judge in this task, and in others where several calls go out at the same time."""
        calls = Judgment(self, subject, settings, deadline_s)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(question: Question) -> Outcome | Screened:
            async with limit:
                if calls.late:
                    return no_answer(calls.info)
                call = calls.call(question)
                if call.is_long:  # the lines are kept: the prompt itself is then quickly made
                    await asyncio.to_thread(calls.shown, question.subject)

                async def attempt() -> Outcome | Screened:
                    return call.read(await ask(call.prompt(), call.remaining))

                return await AsyncRetrying(**call.retrying())(attempt)

        questions = calls.begin()
        while questions is not None:
            if len(questions) == 1:
                answers = [await one(questions[0])]
            else:
                try:
                    async with asyncio.TaskGroup() as group:
                        asked = [group.create_task(one(question)) for question in questions]
                except BaseExceptionGroup as errors:  # as it is where one call goes out
                    raise errors.exceptions[0] from None
                answers = [task.result() for task in asked]
            questions = calls.go_on(answers)
        return calls.outcome


@dataclass(slots=True)
class PromptCache:
    """What judges are told under some settings, as far as anybody asked."""

    rubrics: dict[Task, Rubric] = field(default_factory=dict[Task, Rubric])
    info: JudgeInfo | None = None


class Judgment:
    """A judgment under way: its deliberation, its clock, and the code that fences its subject."""

    outcome: Outcome

    def __init__(
        self, owner: ClaudeJudge, subject: Subject, settings: Settings, deadline_s: float
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
        """Whether the deadline has passed."""
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
        """The lines of one piece of the subject, made once for all that is asked about it."""
        kept = self._shown.get(id(subject))
        if kept is None:  # the subject is kept along, so that its id stays its own
            kept = self._shown[id(subject)] = (subject, self.prepared.show(subject))
        return kept[1]


@dataclass(slots=True)
class Call:
    """One question: its prompt, and what its attempts have cost."""

    judgment: Judgment
    question: Question
    spent: Usage = field(default_factory=Usage)
    retry_after: float | None = None
    status: int = 0  # of the last attempt; 0 where no answer came

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
        """One attempt's answer, with the usage of all attempts so far."""
        info = replace(self.judgment.info, model=self.question.model)
        self.retry_after, self.status = _retry_after(reply), reply.status
        if reply.failure is not None:
            return Unavailable(reply.failure, info, reply.detail, self.spent)
        if reply.status != 200:
            return Unavailable(*_failure(reply, info), usage=self.spent)
        if reply.body is None:
            return Unavailable("unparseable", info, "the response is not JSON", self.spent)
        # A screen names no parts; and labels take time that grows with all that was said before.
        parts = {} if self.question.task.screen else labelled(self.question.subject)
        read = self.judgment.owner.prepared.read
        answer = read_reply(reply.body, info, self.rubric, parts, read)
        self.spent = self.spent + answer.usage
        return replace(answer, usage=self.spent)

    def retrying(self) -> dict[str, Any]:
        """The retry policy, the same for both flavours."""
        return {
            "retry": self._worth_another,
            "wait": self._wait,
            "stop": stop_after_attempt(_ATTEMPTS) | stop_before_delay(self.remaining),
            "retry_error_callback": _last_outcome,
        }

    def _worth_another(self, state: RetryCallState) -> bool:
        if state.outcome is None or state.outcome.failed:
            return False  # a bug of ours or of a user's `ask` is not retried
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
