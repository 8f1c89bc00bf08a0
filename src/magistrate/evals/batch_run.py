"""Running a judge over cases by Message Batches: half the price, an answer within a day.

A judgment is a few rounds of questions (`deliberation`): each round of all cases is one batch, or
as many as its size asks for. Every batch is on disk before it is waited for, with the cases its
entries belong to, so a run that was killed resumes its batches instead of paying for them again.

    RUN/batches/round-0-0.json   the batch's id, and whose question each custom id is

Answers are read again from the batches on resuming: the rounds that follow from them are the same.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from magistrate.core.offline import OfflineDecision
from magistrate.evals.batch_calls import OVERLOADED, accepted, ended, results
from magistrate.evals.cases import Case
from magistrate.evals.labels import for_case
from magistrate.evals.plan import Plan, Work, begin, left_over
from magistrate.evals.results import result_of
from magistrate.evals.run import Progress, Watcher
from magistrate.evals.run_folder import Writer, read_json, write_json, wrong
from magistrate.judging.base import ModelReply
from magistrate.judging.calls import Call, Judgment
from magistrate.judging.claude import ClaudeJudge
from magistrate.judging.plan import Question
from magistrate.judging.prices import price_table
from magistrate.verdicts import JudgeInfo, Outcome, Screened, Usage, Verdict
from magistrate.wire.messages import JSON

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

FOLDER = "batches"
RETRY = "retry.json"  # where the rounds of a retry begin, while it is under way
# Of one batch; the API takes 100,000 requests and 256 MB.
MOST_ENTRIES = 10_000
MOST_BYTES = 200_000_000
_POLL_S = 30.0
_UNKNOWN_ID = (
    "The run was stopped while it made this batch, so its id is not known. Look for it in the "
    "Console and add it as `id`; if it is not there, delete this file"
)


@dataclass(slots=True)
class _Judged:
    """One case under way: its deliberation, and the questions that wait for an answer."""

    case: Case
    number: int
    offline: OfflineDecision
    info: JudgeInfo
    judgment: Judgment | None  # None: there is nothing to judge
    questions: list[Question] | None

    @property
    def name(self) -> str:
        """Whose question it is, and about what: a case may be rewritten while a batch is open."""
        return f"{self.case.id}#{self.number}@{self.case.judged_hash[:16]}"


async def run_in_batches(
    plan: Plan,
    folder: Path,
    client: AsyncAnthropic,
    watch: Watcher,
    *,
    resume: bool = False,
    retry_failed: bool = False,
) -> bool:
    """Run a plan into a folder through Message Batches; True: every case has a result.

    Raises `SettingsError` for a judge that is not the Claude judge, for a budget (what a batch
    costs is known only once it has ended), and where a batch cannot be made or read.
    """
    judge = plan.judge
    if not isinstance(judge, ClaudeJudge):
        wrong(folder, "only the Claude judge can be asked in batches")
    if plan.budget_usd is not None:
        wrong(
            folder, "a budget cannot be kept in batches: their cost is known when they have ended"
        )
    writer, before = begin(plan, folder, resume=resume)
    try:
        work = left_over(plan, before, retry_failed=retry_failed)
        total = len(plan.cases) * plan.repeat
        progress = Progress(total, total - len(work), total - len(work))
        (folder / FOLDER).mkdir(exist_ok=True)
        todo = [_begin(plan, judge, item) for item in work]
        number = _first_round(folder) if retry_failed else 0
        while todo:
            waiting = _settle(todo, writer, progress, watch)
            if not waiting:
                break
            replies = await _round(client, folder, number, waiting, watch, progress)
            for judged in waiting:
                assert judged.judgment is not None
                answers = [_halved(call.read(replies[custom])) for custom, call in _calls(judged)]
                judged.questions = judged.judgment.go_on(answers)
            todo, number = waiting, number + 1
        (folder / FOLDER / RETRY).unlink(missing_ok=True)
    finally:
        writer.close()
    return True


def _begin(plan: Plan, judge: ClaudeJudge, item: Work) -> _Judged:
    case, number = item
    settings = for_case(plan.settings, case)
    offline = case.offline(settings)
    info = judge.info(settings)
    if offline.subject is None:
        return _Judged(case, number, offline, info, None, None)
    # Nothing in a batch is in a hurry; the deadline is for single calls.
    judgment = Judgment(judge, offline.subject, settings, 0.0)
    return _Judged(case, number, offline, info, judgment, judgment.begin())


def _settle(
    todo: Sequence[_Judged], writer: Writer, progress: Progress, watch: Watcher
) -> list[_Judged]:
    """Write down what is decided, and return what still waits for answers."""
    waiting: list[_Judged] = []
    for judged in todo:
        if judged.questions:
            waiting.append(judged)
            continue
        outcome = judged.judgment.outcome if judged.judgment else Verdict(judged.info)
        decision = judged.offline.decide([outcome], judged.info)
        # How long a batch takes says nothing about the judge.
        result = result_of(judged.case, judged.number, outcome, decision, None)
        writer.write(result)
        progress.done += 1
        progress.usage += outcome.usage
        progress.failures += result.verdict is None
    watch(progress)
    return waiting


def _calls(judged: _Judged) -> Iterator[tuple[str, Call]]:
    """Yield the calls that a case waits for, by name."""
    if judged.judgment is not None:
        for index, question in enumerate(judged.questions or ()):
            yield f"{judged.name}/{index}", judged.judgment.call(question)


async def _round(
    client: AsyncAnthropic,
    folder: Path,
    number: int,
    waiting: Sequence[_Judged],
    watch: Watcher,
    progress: Progress,
) -> dict[str, ModelReply]:
    """Ask all questions of one round; the replies by the name of their question."""
    from anthropic import AnthropicError
    from httpx2 import HTTPError

    questions = {name: call.prompt() for judged in waiting for name, call in _calls(judged)}
    replies: dict[str, ModelReply] = {}
    asked: set[str] = set()
    kept = sorted((folder / FOLDER).glob(f"round-{number}-*.json"))
    batches: list[JSON] = []
    for batch in map(_kept, kept):
        if not questions.keys().isdisjoint(batch["entries"].values()):
            batches.append(batch)
            asked |= set(batch["entries"].values())
    fresh = {name: body for name, body in questions.items() if name not in asked}
    for index, chunk in enumerate(_chunks(fresh), len(kept)):
        batches.append(
            await _create(client, folder / FOLDER / f"round-{number}-{index}.json", chunk)
        )
    for batch in batches:
        try:
            while not await ended(client, batch["id"]):
                progress.waiting_s = _POLL_S
                watch(progress)
                await anyio.sleep(_POLL_S)
            progress.waiting_s = 0.0
            async for custom, reply in results(client, batch["id"]):
                if custom in batch["entries"]:
                    replies[batch["entries"][custom]] = reply
        except (AnthropicError, HTTPError) as error:  # the second: in the middle of results
            wrong(
                folder / FOLDER,
                f"the batch {batch['id']} cannot be read: {error} --resume tries again. If its "
                "results are gone (the API keeps them for 29 days), delete the file that names it, "
                "and its questions are asked again",
            )
    missing = ModelReply(0, failure="error")
    return {name: replies.get(name, missing) for name in questions}


def _chunks(questions: dict[str, JSON]) -> Iterator[dict[str, JSON]]:
    chunk: dict[str, JSON] = {}
    size = 0
    for name, body in questions.items():
        length = len(json.dumps(body))
        if chunk and (len(chunk) >= MOST_ENTRIES or size + length > MOST_BYTES):
            yield chunk
            chunk, size = {}, 0
        chunk[name] = body
        size += length
    if chunk:
        yield chunk


def _kept(file: Path) -> JSON:
    batch = read_json(file)
    if "id" not in batch:
        wrong(file, _UNKNOWN_ID)
    return batch


async def _create(client: AsyncAnthropic, file: Path, questions: dict[str, JSON]) -> JSON:
    """Make a batch. Its file is written first, so that no batch is paid for and forgotten."""
    from anthropic import AnthropicError, APIStatusError

    nonce = secrets.token_hex(4)
    entries = {f"q{index}-{nonce}": name for index, name in enumerate(questions)}
    write_json(file, {"entries": entries})
    requests: list[Any] = [
        {"custom_id": custom, "params": questions[name]} for custom, name in entries.items()
    ]
    try:
        made = await accepted(client, requests)
    except APIStatusError as error:
        if error.status_code < 500 or error.status_code == OVERLOADED:
            await anyio.Path(file).unlink()  # an answer that says no: there is no batch
            wrong(file.parent, f"the API took no batch: {error} --resume tries again")
        wrong(file, f"{error} {_UNKNOWN_ID}")
    except AnthropicError as error:
        wrong(file, f"{error} {_UNKNOWN_ID}")
    batch: JSON = {"id": made.id, "entries": entries}
    write_json(file, batch)
    return batch


def _halved(answer: Outcome | Screened) -> Outcome | Screened:
    """Return the same answer at the price of a batch."""
    cost = answer.usage.cost_usd
    if cost is None:
        return answer
    usage: Usage = replace(answer.usage, cost_usd=cost * price_table().batch_discount)
    return replace(answer, usage=usage)


def _first_round(folder: Path) -> int:
    """Return the first round of a retry: earlier rounds and one cut short keep their batches."""
    retry = folder / FOLDER / RETRY
    if retry.exists():
        return int(read_json(retry)["from"])
    rounds = [int(file.stem.split("-")[1]) for file in (folder / FOLDER).glob("round-*.json")]
    number = max(rounds, default=-1) + 1
    write_json(retry, {"from": number})
    return number
