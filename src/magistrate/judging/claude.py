"""The Claude judge: sends the questions of `judging.plan`, with a JSON schema and one deadline.

Only tenacity retries: a judge's call is one HTTP attempt, outside the SDK's own retry loop, so
attempts never multiply. An outage is retried until the deadline, an unusable reply once.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cachetools import LRUCache
from tenacity import AsyncRetrying, Retrying

from magistrate.judging.base import AskModel, AskModelAsync
from magistrate.judging.calls import Judgment
from magistrate.judging.plan import Question, Task, tasks
from magistrate.judging.prepared import Preparations
from magistrate.judging.rubric import Rubric, make_comparison, make_rubric, make_screen
from magistrate.judging.templates import templates
from magistrate.settings import DEFAULT_JUDGE_MODEL, Settings
from magistrate.verdicts import (
    STAGES,
    JudgeInfo,
    Outcome,
    Screened,
    no_answer,
)
from magistrate.wire.digests import sha256
from magistrate.wire.parts import Subject

# Concurrent calls of one judgment. In a sync client each call has its own thread, so there are at
# most this many threads for each of its `judge.concurrency` judgments. A long subject takes no
# threads from other judgments.
_AT_ONCE = 8
# For how many settings rubrics are cached, half a megabyte each. An application has one; an eval
# suite may have one per test case.
SETTINGS_KEPT = 8


class ClaudeJudge:
    """Asks Claude models, through the moderated client's own connection.

    `judging.plan` determines what is asked and in which order; this class sends the questions,
    reads the replies and retries. The model is `judge.model` of the settings, else the project's
    default. `clear` returns whether no model needs to be asked about a subject: it is the local
    judge's, if the settings ask for that. `clear_by` identifies it.
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
        """Return the rubric for a task under these settings; rendered once."""
        rubrics = self._under(settings).rubrics
        if task not in rubrics:
            rubrics[task] = (
                make_comparison(settings, task.stage, templates())
                if task.compares
                else make_screen(settings, task.stage, templates(), floors=task.floors)
                if task.screen
                else make_rubric(
                    settings,
                    task.stage,
                    templates(),
                    groups=task.groups,
                    third_party=task.third_party,
                    floors=task.floors,
                )
            )
        return rubrics[task]

    def info(self, settings: Settings) -> JudgeInfo:
        """Return name, model, and a hash of the prompts of all tasks and the judge's settings."""
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
            # `waits` stays unknown: a server that trickles bytes outlasts the timeout of a call, so
            # the driver has to end the wait.
            told.info = JudgeInfo("claude", model, digest)
        return told.info

    def after_fork(self) -> None:
        """Reset in a child process: threads that do not exist here may hold the locks."""
        self._lock = threading.Lock()
        self.prepared = Preparations(self._key)  # same key, so that conversations keep their nonces

    def _under(self, settings: Settings) -> PromptCache:
        with self._lock:
            found = self._told.get(settings.hash)
            if found is None:
                found = self._told[settings.hash] = PromptCache()
            return found

    def judge(
        self, subject: Subject, settings: Settings, ask: AskModel, deadline_s: float
    ) -> Outcome:
        """Judge on this thread, and on more threads for concurrent calls.

        Returns within about `deadline_s` seconds.
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
        """Judge in this task, and in more tasks for concurrent calls."""
        calls = Judgment(self, subject, settings, deadline_s)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(question: Question) -> Outcome | Screened:
            async with limit:
                if calls.late:
                    return no_answer(calls.info)
                call = calls.call(question)
                if call.is_long:  # caches the lines; the prompt is then made fast
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
                except BaseExceptionGroup as errors:  # the same error as with one call
                    raise errors.exceptions[0] from None
                answers = [task.result() for task in asked]
            questions = calls.go_on(answers)
        return calls.outcome


@dataclass(slots=True)
class PromptCache:
    """The rubrics and the info for one `Settings`, as far as they have been made."""

    rubrics: dict[Task, Rubric] = field(default_factory=dict[Task, Rubric])
    info: JudgeInfo | None = None
