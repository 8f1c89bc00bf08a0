"""Running a judge over cases: bounded, resumable, within a budget.

A run asks about every case once (or `repeat` times) and writes each answer down before it counts.
What the server is too busy for is asked again later and slower, no sooner than the server says;
what stays unanswered is a result of its own, never "safe". No clock decides what a case's result
is, so a run that was interrupted and resumed ends as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import anyio

from magistrate.config.diagnostics import SettingsError
from magistrate.evals.budget import Estimate, OverBudget, Purse
from magistrate.evals.cases import Case
from magistrate.evals.kept_verdicts import PUT_ASIDE, read_aside
from magistrate.evals.labels import for_case
from magistrate.evals.plan import Plan, Work, begin, left_over
from magistrate.evals.results import Result, result_of
from magistrate.evals.run_folder import RESULTS, Writer, read_lines
from magistrate.judging.base import AskModelAsync, ModelReply
from magistrate.judging.retry_after import retry_after
from magistrate.verdicts import Failure, Outcome, Unavailable, Usage, Verdict, broken
from magistrate.wire.messages import JSON

PASSES = 4  # how often a case is asked about that the server had no time for
# What may be over a minute later. All other failures are about the case, or about the set-up.
_BUSY: frozenset[Failure] = frozenset({"overloaded", "timeout", "error"})
_PAUSE_S = 2.0  # after a rate limit, doubled for every further one in a row
_LONGEST_PAUSE_S = 60.0
_LONGEST_WAIT_S = 900.0  # that a server may ask for


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

    The budget is that of the whole run: what earlier sessions spent counts, and no call is made
    that could cost more than is left.

    `ask` sends a judge's request, one attempt. Cancelling leaves a folder that can be resumed: what
    was answered is on disk.
    """
    writer, before = begin(plan, folder, resume=resume)
    try:
        work = left_over(plan, before, retry_failed=retry_failed)
        total = len(plan.cases) * plan.repeat
        progress = Progress(total, total - len(work), total - len(work))
        lines = [result for _, result in read_lines(folder / RESULTS)]
        lines += [result for _, result in read_aside(folder / PUT_ASIDE)]
        purse = Purse.of(folder, plan.budget_usd, lines)
        session = _Session(plan, ask, writer, watch, progress, purse)
        return await session.work_through(work)
    finally:
        writer.close()


async def judge_case(
    plan: Plan, work: Work, ask: AskModelAsync, *, clock: Callable[[], float] = time.perf_counter
) -> Result:
    """Ask about one case, and decide. Raises `OverBudget` if `ask` does."""
    case, number = work
    settings = for_case(plan.settings, case)
    offline = case.offline(settings)
    began = clock()
    info = plan.judge.info(settings)
    outcome: Outcome = Verdict(info)  # nothing to judge
    if offline.subject is not None:
        try:
            outcome = await plan.judge.judge_async(
                offline.subject, settings, ask, settings.judge.deadline_s
            )
        except OverBudget:
            raise
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
    purse: Purse
    queue: deque[tuple[Work, int]] = field(default_factory=deque[tuple[Work, int]])
    running: int = 0
    limit: int = 1
    good: int = 0
    in_a_row: int = 0
    estimate: Estimate = field(default_factory=Estimate)
    begun: float = 0.0  # what the cases under way are likely to cost
    tight: bool = False  # a call was too dear: cases go one by one
    ended: bool = False
    not_before: float = 0.0  # on the clock of the event loop
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
                    likely = self._likely(item[0]) or 0.0
                    self.running += 1
                    self.begun += likely
                    group.start_soon(self._one, item, attempt, likely)
                if not self.running:
                    break  # what is left cannot be afforded
                self.freed = anyio.Event()
                await self.freed.wait()

    def _affordable(self) -> bool:
        """Return whether another case is likely to fit the budget, with those under way.

        Any call of it that does not is refused by the purse.
        """
        if self.plan.budget_usd is None:
            return True
        likely = self._likely(self.queue[0][0][0])
        if self.ended or (self.running and (self.tight or likely is None)):
            return False  # the first case goes alone: nothing is known of what one costs
        left = -math.inf if self.purse.unknown else self.plan.budget_usd - self.purse.spent
        return left > 0 and self.begun + (likely or 0.0) <= left

    def _likely(self, case: Case) -> float | None:
        return self.estimate.of(_length(case), calls=bool(self.purse.paid))

    async def _one(self, item: Work, attempt: int, likely: float) -> None:
        case, number = item
        alone = self.running == 1
        try:
            await self._wait_for_server()
            ask = self.purse.guarded((case.id, number), self._listening)
            try:
                result = await judge_case(self.plan, item, ask)
            except OverBudget:
                # With fewer at the same time less is reserved, and it may fit.
                self.queue.appendleft((item, attempt))
                self.ended, self.tight = alone and self.tight, True
                return
            usage = result.outcome.usage
            self.progress.usage += usage
            self.purse.tell(result.key, usage)
            self.estimate.learn(_length(case), usage.cost_usd or 0.0)
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
            self.begun -= likely
            self.running -= 1
            self.freed.set()

    async def _listening(self, body: JSON, timeout_s: float) -> ModelReply:
        """Ask, and note until when a server that has no time wants to be left alone."""
        reply = await self.ask(body, timeout_s)
        asked_for = retry_after(reply)
        if asked_for is not None:
            until = anyio.current_time() + min(asked_for, _LONGEST_WAIT_S)
            self.not_before = max(self.not_before, until)
        return reply

    async def _wait_for_server(self) -> None:
        left = self.not_before - anyio.current_time()
        if left > 0:
            await self._pause(left)

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
        await self._pause(max(pause, self.not_before - anyio.current_time()))

    async def _pause(self, seconds: float) -> None:
        self.progress.waiting_s = seconds
        self._tell()
        await anyio.sleep(seconds)
        self.progress.waiting_s = 0.0

    def _tell(self) -> None:
        self.progress.at_once = self.limit
        self.watch(self.progress)


def _length(case: Case) -> int:
    """Return how long a case is, in bytes, without what is the same in each."""
    more = "" if case.system is None and not case.tools else json.dumps([case.system, case.tools])
    return len((case.text + more).encode("utf-8", "surrogatepass"))


def _flat(group: BaseExceptionGroup[SettingsError]) -> Iterator[SettingsError]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _flat(each)
        else:
            yield each
