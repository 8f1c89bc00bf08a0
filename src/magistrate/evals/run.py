"""Running a judge over cases: bounded, resumable, within a budget.

A run asks about every case once (or `repeat` times) and writes each answer down before it counts.
What the server is too busy for is asked again later and slower; what stays unanswered is a result
of its own, never "safe". No clock decides what a case's result is, so a run that was interrupted
and resumed ends as one that was not.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import anyio

from magistrate.config.diagnostics import SettingsError
from magistrate.core.offline import OfflineDecision
from magistrate.evals.labels import for_case
from magistrate.evals.plan import Plan, Work, begin, left_over
from magistrate.evals.results import Result, result_of
from magistrate.evals.run_folder import Writer
from magistrate.judging.base import AskModelAsync
from magistrate.verdicts import Failure, Outcome, Unavailable, Usage, Verdict, broken

PASSES = 4  # how often a case is asked about that the server had no time for
# What may be over a minute later. All other failures are about the case, or about the set-up.
_BUSY: frozenset[Failure] = frozenset({"overloaded", "timeout", "error"})
_PAUSE_S = 2.0  # after a rate limit, doubled for every further one in a row
_LONGEST_PAUSE_S = 60.0


class Watcher(Protocol):
    """Is told how a run goes; the progress bar."""

    def __call__(self, progress: Progress, /) -> None: ...


@dataclass(slots=True)
class Progress:
    """Where a run is. `spent` is what this session cost; None: the price is not known."""

    total: int
    done: int = 0
    resumed: int = 0
    failures: int = 0
    waiting_s: float = 0.0
    at_once: int = 0
    usage: Usage = field(default_factory=Usage)

    @property
    def spent(self) -> float | None:
        return self.usage.cost_usd if self.usage.judge_calls else 0.0


async def run(
    plan: Plan,
    folder: Path,
    ask: AskModelAsync,
    watch: Watcher,
    *,
    resume: bool = False,
    retry_failed: bool = False,
) -> bool:
    """Run a plan into a folder; True if it is complete, False if the budget ended it.

    `ask` sends a judge's request, one attempt. Cancelling leaves a folder that can be resumed: what
    was answered is on disk.
    """
    writer, before = begin(plan, folder, resume=resume)
    try:
        work = left_over(plan, before, retry_failed=retry_failed)
        total = len(plan.cases) * plan.repeat
        progress = Progress(total, total - len(work), total - len(work))
        session = _Session(plan, ask, writer, watch, progress)
        return await session.work_through(work)
    finally:
        writer.close()


async def judge_case(
    plan: Plan, work: Work, ask: AskModelAsync, *, clock: Callable[[], float] = time.perf_counter
) -> Result:
    """Ask about one case, and decide."""
    case, number = work
    settings = for_case(plan.settings, case)
    offline = OfflineDecision.of(settings, case.stage, case.request, case.answer)
    began = clock()
    info = plan.judge.info(settings)
    outcome: Outcome = Verdict(info)  # nothing to judge
    if offline.subject is not None:
        try:
            outcome = await plan.judge.judge_async(
                offline.subject, settings, ask, settings.judge.deadline_s
            )
        except Exception as error:
            outcome = broken(info, type(error).__name__)
    took = (clock() - began) * 1000
    return result_of(case, number, outcome, offline.decide([outcome], info), took)


@dataclass(slots=True)
class _Session:
    """One sitting: workers, and how fast the server lets them go.

    The number at once is halved by a rate limit and grows by one after as many good answers.
    """

    plan: Plan
    ask: AskModelAsync
    writer: Writer
    watch: Watcher
    progress: Progress
    queue: deque[tuple[Work, int]] = field(default_factory=deque[tuple[Work, int]])
    running: int = 0
    limit: int = 1
    good: int = 0
    in_a_row: int = 0
    dearest: float | None = None
    freed: anyio.Event = field(default_factory=anyio.Event)

    async def work_through(self, work: Sequence[Work]) -> bool:
        self.queue.extend((each, 1) for each in work)
        self.limit = self.plan.concurrency
        self._tell()
        broken_off: SettingsError | None = None
        try:
            await self._work()
        except* SettingsError as group:  # the results cannot be written
            broken_off = next(each for each in _flat(group))
        if broken_off is not None:
            raise broken_off
        return not self.queue

    async def _work(self) -> None:
        async with anyio.create_task_group() as group:
            while self.queue or self.running:
                while self.queue and self.running < self.limit and self._affordable():
                    item, attempt = self.queue.popleft()
                    self.running += 1
                    group.start_soon(self._one, item, attempt)
                if not self.running:
                    break  # what is left cannot be afforded
                self.freed = anyio.Event()
                await self.freed.wait()

    def _affordable(self) -> bool:
        """Return whether another call fits the budget; open calls cost as much as the dearest."""
        budget = self.plan.budget_usd
        if budget is None:
            return True
        if self.dearest is None:
            # The cost of a judgment is not known yet: the first one goes alone.
            return not self.running and budget > 0
        spent = self.progress.spent
        return spent is not None and spent + (self.running + 1) * self.dearest <= budget

    async def _one(self, item: Work, attempt: int) -> None:
        try:
            result = await judge_case(self.plan, item, self.ask)
            usage = result.outcome.usage
            self.progress.usage += usage
            self.dearest = max(self.dearest or 0.0, usage.cost_usd or 0.0)
            busy = isinstance(result.outcome, Unavailable) and result.ended in _BUSY
            if busy and attempt < PASSES:
                self.queue.append((item, attempt + 1))
                await self._slow_down()
                return
            if not busy:
                self._speed_up()
            self.writer.write(result)
            self.progress.done += 1
            self.progress.failures += result.verdict is None
            self._tell()
        finally:
            self.running -= 1
            self.freed.set()

    def _speed_up(self) -> None:
        self.in_a_row = 0
        self.good += 1
        if self.good >= self.limit and self.limit < self.plan.concurrency:
            self.good, self.limit = 0, self.limit + 1

    async def _slow_down(self) -> None:
        self.good = 0
        self.limit = max(1, self.limit // 2)
        pause = min(_LONGEST_PAUSE_S, _PAUSE_S * 2.0**self.in_a_row)
        self.in_a_row += 1
        self.progress.waiting_s = pause
        self._tell()
        await anyio.sleep(pause)
        self.progress.waiting_s = 0.0

    def _tell(self) -> None:
        self.progress.at_once = self.limit
        self.watch(self.progress)


def _flat(group: BaseExceptionGroup[SettingsError]) -> Iterator[SettingsError]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _flat(each)
        else:
            yield each
