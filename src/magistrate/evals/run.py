"""Running a judge over cases: bounded, resumable, within a budget.

A run asks about every case once (or `repeat` times) and writes each answer down before it counts.
What the server is too busy for is asked again later and slower; what stays unanswered is a result
of its own, never "safe". No clock decides what a case's result is, so a run that was interrupted
and resumed ends as one that was not.
"""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import anyio

from magistrate._version import __version__
from magistrate.config.diagnostics import SettingsError
from magistrate.core.offline import OfflineDecision
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.labels import for_case
from magistrate.evals.results import (
    CASES,
    FORMAT,
    MANIFEST,
    RESULTS,
    SETTINGS,
    Result,
    Run,
    Writer,
    read_json,
    read_results,
    result_of,
    write_cases,
    write_json,
    write_settings,
    wrong,
)
from magistrate.evals.sampling import Sample
from magistrate.judging.base import AskModelAsync, Judge
from magistrate.settings import Settings
from magistrate.verdicts import Failure, JudgeInfo, Outcome, Unavailable, Usage, Verdict, broken
from magistrate.wire.messages import JSON, is_object

PASSES = 4  # how often a case is asked about that the server had no time for
# What may be over a minute later. All other failures are about the case, or about the set-up.
_BUSY: frozenset[Failure] = frozenset({"overloaded", "timeout", "error"})
_PAUSE_S = 2.0  # after a rate limit, doubled for every further one in a row
_LONGEST_PAUSE_S = 60.0

Work = tuple[Case, int]


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


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run. `budget_usd` bounds what this session spends, as prices are known.

    `sample` says how `cases` were drawn, where they are a sample.
    """

    cases: Dataset
    settings: Settings
    judge: Judge
    repeat: int = 1
    concurrency: int = 16
    budget_usd: float | None = None
    sample: Sample | None = None

    def info(self) -> JudgeInfo:
        return self.judge.info(self.settings)


def _manifest(
    cases: Dataset, settings: Settings, judge: JudgeInfo, repeat: int, sample: JSON | None
) -> JSON:
    """Everything a result may depend on, in names, versions and hashes."""
    return {
        "format": FORMAT,
        "cases": len(cases),
        "cases_hash": cases.hash,
        "case_files": list(cases.files),
        "sample": sample,
        "repeat": repeat,
        "policy": settings.policy.ref,
        "policy_hash": settings.policy.hash,
        "settings_hash": settings.hash,
        "judge": {"name": judge.name, "model": judge.model, "prompt_hash": judge.prompt_hash},
        "magistrate": __version__,
        "anthropic": version("anthropic"),
        "python": platform.python_version(),
    }


# What must be the same for a run to go on: the rest of the manifest only says where it was made.
_SAME = ("format", "sample", "cases_hash", "repeat", "policy_hash", "settings_hash", "judge")


def open_run(plan: Plan, folder: Path, *, resume: bool) -> list[Result]:
    """Make a run's folder, or take up one that was left off; what is there already.

    Raises `SettingsError` if the folder holds something else, or a run of something else.
    """
    writer, before = begin(plan, folder, resume=resume)
    writer.close()
    return before


def begin(plan: Plan, folder: Path, *, resume: bool) -> tuple[Writer, list[Result]]:
    """As `open_run`, and the folder stays this process's own until the writer is closed.

    What is there is read under its lock, so that nothing is asked that another process just wrote.
    """
    sample = plan.sample.as_json() if plan.sample else None
    manifest = _manifest(plan.cases, plan.settings, plan.info(), plan.repeat, sample)
    if (folder / MANIFEST).exists():
        before = read_json(folder / MANIFEST)
        if not resume:
            wrong(folder, "there is a run in here already; --resume goes on with it")
        for key in _SAME:
            if before.get(key) != manifest[key]:
                was, now = (_named(key, found.get(key)) for found in (before, manifest))
                said = f"another {key} ({was} before, {now} now)"
                wrong(folder / MANIFEST, f"was begun with {said}; begin a new run")
        writer = Writer(folder)
    else:
        writer = _make(folder, manifest, plan.cases, plan.settings)
    try:
        return writer, read_results(folder / RESULTS)
    except BaseException:
        writer.close()
        raise


def _named(key: str, value: object) -> object:
    if key != "sample":
        return value
    if not is_object(value):
        return "none"
    return f"--sample {value.get('size')} --seed {value.get('seed')} of {value.get('of')} cases"


def _make(folder: Path, manifest: JSON, cases: Dataset, settings: Settings) -> Writer:
    """Make a run's folder, the manifest last: with it there is a run."""
    # What a run leaves that was killed before it began.
    own = {RESULTS, CASES, SETTINGS, *(f"{name}.new" for name in (CASES, SETTINGS, MANIFEST))}
    if folder.exists() and (not folder.is_dir() or {each.name for each in folder.iterdir()} - own):
        wrong(folder, "is there already, with other things in it; give a folder that is new")
    if (folder / RESULTS).exists() and (folder / RESULTS).stat().st_size:
        wrong(folder, f"has results, but no {MANIFEST}; give a folder that is new")
    folder.mkdir(parents=True, exist_ok=True)
    writer = Writer(folder)
    try:
        if (folder / MANIFEST).exists():
            wrong(folder, "another process has just begun a run in here")
        write_cases(folder / CASES, cases)
        write_settings(folder / SETTINGS, settings)
        write_json(folder / MANIFEST, manifest | {"started": _now()})
    except BaseException:
        writer.close()
        raise
    return writer


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def left_over(plan: Plan, before: Iterable[Result], *, retry_failed: bool) -> list[Work]:
    """What a run still has to ask. With `retry_failed` also what has no verdict yet."""
    done = {result.key for result in before if result.verdict is not None or not retry_failed}
    return [
        (case, number)
        for number in range(plan.repeat)
        for case in plan.cases
        if (case.id, number) not in done
    ]


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
        """Whether another call fits the budget, those under way counted at the dearest so far."""
        budget = self.plan.budget_usd
        if budget is None:
            return True
        if self.dearest is None:
            # Nobody knows yet what a judgment costs: the first one goes alone.
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


def replay(run: Run, settings: Settings, folder: Path) -> None:
    """Decide the verdicts of a run again, under other settings; nobody is asked.

    Raises `SettingsError` if the policy of the settings lacks a clause that the run found, or that
    its cases are labelled with.
    """
    known = settings.policy.clauses
    for case in run.cases:
        for clause in case.labels:
            if clause not in known:
                lacks = f"{settings.policy.ref} has no such clause"
                wrong(run.folder, f"has cases labelled with {clause}; {lacks}")
    for result in run.results:
        for found in result.verdict.findings if result.verdict else ():
            if found.clause not in known:
                lacks = f"{settings.policy.ref} has no such clause"
                wrong(run.folder, f"has findings of {found.clause}; {lacks}")
    before = run.manifest
    judge = JudgeInfo(**before["judge"])
    sample = before.get("sample")  # runs of older versions have none
    made = _manifest(run.cases, settings, judge, int(before["repeat"]), sample)
    made |= {"case_files": before["case_files"], "replay_of": before["settings_hash"]}
    cases = {case.id: case for case in run.cases}
    writer = _make(folder, made, run.cases, settings)
    try:
        for result in run.results:
            case = cases[result.case]
            offline = OfflineDecision.of(
                for_case(settings, case), case.stage, case.request, case.answer
            )
            decision = offline.decide([result.outcome], result.outcome.judge)
            writer.write(
                result_of(case, result.repeat, result.outcome, decision, result.latency_ms)
            )
    finally:
        writer.close()
