"""Runs: each case is judged once, whatever happens on the way, and what came of it is on disk."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import command_line
import processes
from command_line import environment
from magistrate.config.diagnostics import SettingsError
from magistrate.evals.case_files import load_cases
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.labels import LABELS, labelled_verdict
from magistrate.evals.plan import Plan, begin, left_over, open_run
from magistrate.evals.replay import replay
from magistrate.evals.results import Result
from magistrate.evals.run import PASSES, Progress, run
from magistrate.evals.run_folder import RESULTS, Run, read_results
from magistrate.judging.base import ModelReply
from magistrate.judging.claude import ClaudeJudge
from magistrate.settings import Settings
from magistrate.testing import JudgeScript, Simulator, finds, when_judging
from magistrate.testing.prompt_parser import parse_prompt
from magistrate.verdicts import JudgeInfo, Outcome, Unavailable, Usage, Verdict
from magistrate.wire.parts import Subject

JSON = dict[str, Any]
ROOT = Path(__file__).parents[2]
CASES = ROOT / "evals" / "cases"
CLAUSE = "fraud_abuse.fake_reviews"
GONE = object()


def some(count: int) -> Dataset:
    """Cases made up for the machinery; every third violates."""
    cases = (
        {
            "id": f"made.{n:04}",
            "stage": "input",
            "messages": [{"user": f"Case number {n}: {'BAD' if n % 3 == 0 else 'good'}"}],
            "labels": {CLAUSE: "violated"} if n % 3 == 0 else {},
            "action": "block" if n % 3 == 0 else "allow",
            "split": "test",
        }
        | ({"severity": "medium"} if n % 3 == 0 else {})
        for n in range(count)
    )
    return Dataset(tuple(Case.model_validate(case) for case in cases), ("made.jsonl",))


class LabelJudge:
    """Answers as labelled, after whatever `first` says; counts how often each case was asked."""

    def __init__(self, cases: Dataset, first: Callable[[str, int], Outcome | None] | None = None):
        self._by_text = {case.request["messages"][0]["content"]: case for case in cases}
        self._first = first or (lambda name, time: None)
        self.asked: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0

    def info(self, settings: Settings) -> JudgeInfo:
        return LABELS

    def judge(self, *_: Any) -> Outcome:
        raise AssertionError

    async def judge_async(self, subject: Subject, *_: Any) -> Outcome:
        case = self._by_text[subject.parts[-1].text]
        self.asked[case.id] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await anyio.lowlevel.checkpoint()
        self.at_once -= 1
        said = self._first(case.id, self.asked[case.id])
        return said or replace(labelled_verdict(case), usage=Usage(1, 100, 10, cost_usd=0.01))


async def nobody(body: JSON, timeout_s: float) -> ModelReply:
    raise AssertionError("nobody is asked")


def silent(progress: Progress) -> None:
    pass


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses, noted instead of waited for."""
    slept: list[float] = []

    async def nap(seconds: float) -> None:
        slept.append(seconds)

    real = anyio.sleep

    async def sleep(seconds: float) -> None:
        await (real(0) if seconds == 0 else nap(seconds))

    monkeypatch.setattr("anyio.sleep", sleep)
    return slept


def plan(cases: Dataset, judge: Any = None, **more: Any) -> Plan:
    return Plan(cases, more.pop("settings", Settings()), judge or LabelJudge(cases), **more)


async def test_every_case_has_one_result_as_its_labels_say(tmp_path: Path):
    cases = some(30)
    judge = LabelJudge(cases)
    seen: list[tuple[int, int]] = []
    watch = lambda now: seen.append((now.done, now.total))  # noqa: E731
    assert await run(plan(cases, judge), tmp_path / "r", nobody, watch)
    found = Run.read(tmp_path / "r")
    assert found.complete
    assert set(judge.asked.values()) == {1}
    assert [r.action for r in sorted(found.results, key=lambda r: r.case)] == [
        case.action for case in cases
    ]
    assert seen[0] == (0, 30)
    assert seen[-1] == (30, 30)
    assert found.cases.cases == cases.cases
    assert found.settings == Settings()
    assert found.manifest["judge"] == {"name": "labels", "model": None, "prompt_hash": None}


async def test_results_are_read_back_as_they_were(tmp_path: Path):
    cases = load_cases([CASES / "high_risk.yaml", CASES / "integrity.yaml"], Settings().policy)

    class Labels(LabelJudge):
        def __init__(self) -> None:
            self.asked = Counter()

        async def judge_async(self, subject: Subject, *_: Any) -> Outcome:
            for case in cases:
                texts = {part.text for part in subject.parts}
                if all(t in texts for t in [case.answer.get("content", [{}])[0].get("text", "")]):
                    return labelled_verdict(case)
            return Unavailable("refused", LABELS, "category bio", Usage(2, cost_usd=None))

    await run(plan(cases, Labels()), tmp_path / "r", nobody, silent)
    for result in Run.read(tmp_path / "r").results:
        assert Result.of_json(json.loads(json.dumps(result.as_json()))) == result


async def test_no_more_than_asked_for_are_judged_at_the_same_time(tmp_path: Path):
    cases = some(40)
    judge = LabelJudge(cases)
    await run(plan(cases, judge, concurrency=7), tmp_path / "r", nobody, silent)
    assert judge.most_at_once <= 7


async def test_cases_are_judged_as_often_as_asked_for(tmp_path: Path):
    cases = some(5)
    judge = LabelJudge(cases)
    await run(plan(cases, judge, repeat=3), tmp_path / "r", nobody, silent)
    assert set(judge.asked.values()) == {3}
    keys = {result.key for result in Run.read(tmp_path / "r").results}
    assert keys == {(case.id, number) for case in cases for number in range(3)}


# --- a server that has no time, a judge that fails ------------------------------------------------


def busy(times: int, reason: Any = "overloaded") -> Callable[[str, int], Outcome | None]:
    return lambda name, time: Unavailable(reason, LABELS) if time <= times else None


async def test_what_the_server_has_no_time_for_is_asked_again_later(
    tmp_path: Path, naps: list[float]
):
    cases = some(12)
    judge = LabelJudge(cases, busy(PASSES - 1))
    await run(plan(cases, judge), tmp_path / "r", nobody, silent)
    assert set(judge.asked.values()) == {PASSES}
    assert {result.ended for result in Run.read(tmp_path / "r").results} == {"verdict"}
    assert naps[0] == 2.0
    assert max(naps) > 2.0, "the pause grows while the server stays busy"


async def test_what_stays_unanswered_is_a_result_of_its_own_and_never_allowed(
    tmp_path: Path, naps: list[float]
):
    cases = some(6)
    await run(plan(cases, LabelJudge(cases, busy(99))), tmp_path / "r", nobody, silent)
    found = Run.read(tmp_path / "r")
    assert {result.ended for result in found.results} == {"overloaded"}
    assert {result.action for result in found.results} == {"unavailable"}
    assert found.complete


@pytest.mark.parametrize(
    ("reason", "unread", "read"),
    [(None, [], "block"), ("timeout", [], "unavailable"), ("timeout", ["media"], "block")],
)
async def test_a_run_made_before_the_record_told_outages_apart_is_read_as_one_that_does(
    reason: Any, unread: list[str], read: str, tmp_path: Path, naps: list[float]
):
    """What could not be read explains a block, and so does a verdict; an outage alone does not."""
    cases = Dataset(tuple(case for case in some(6) if case.action == "block"))
    await run(
        plan(cases, LabelJudge(cases, busy(99, reason) if reason else None)),
        tmp_path / "r",
        nobody,
        silent,
    )
    file = tmp_path / "r" / RESULTS
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line["decision"]["action"] = "block"
        line["decision"]["uninspected"] = [{"path": "a", "reason": each} for each in unread]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert {result.action for result in Run.read(tmp_path / "r").results} == {read}


@pytest.mark.parametrize("reason", ["refused", "unparseable", "truncated", "too_long"])
async def test_what_the_case_itself_caused_is_not_asked_again(
    reason: str, tmp_path: Path, naps: list[float]
):
    cases = some(4)
    judge = LabelJudge(cases, busy(99, reason))
    await run(plan(cases, judge), tmp_path / "r", nobody, silent)
    assert set(judge.asked.values()) == {1}
    assert {result.ended for result in Run.read(tmp_path / "r").results} == {reason}


async def test_a_judge_that_breaks_fails_its_case_and_no_other(tmp_path: Path, naps: list[float]):
    cases = some(6)

    def breaks(name: str, time: int) -> Outcome | None:
        if name == "made.0003":
            raise KeyError("oops")
        return None

    await run(plan(cases, LabelJudge(cases, breaks)), tmp_path / "r", nobody, silent)
    ended = {result.case: result.ended for result in Run.read(tmp_path / "r").results}
    assert ended.pop("made.0003") == "error"
    assert set(ended.values()) == {"verdict"}


async def test_rate_limits_slow_the_run_down_and_good_answers_speed_it_up(
    tmp_path: Path, naps: list[float]
):
    cases = some(60)
    limits: list[int] = []
    judge = LabelJudge(cases, lambda n, t: Unavailable("overloaded", LABELS) if t == 1 else None)
    watch = lambda now: limits.append(now.at_once)  # noqa: E731
    await run(plan(cases, judge, concurrency=16), tmp_path / "r", nobody, watch)
    assert min(limits) == 1
    assert limits[-1] > 1


# --- money ----------------------------------------------------------------------------------------


async def test_a_budget_ends_a_run_before_it_is_spent(tmp_path: Path):
    cases = some(50)
    judge = LabelJudge(cases)
    done = await run(
        plan(cases, judge, budget_usd=0.105, concurrency=3), tmp_path / "r", nobody, silent
    )
    assert not done
    found = Run.read(tmp_path / "r")
    spent = sum(result.outcome.usage.cost_usd or 0 for result in found.results)
    assert 0.05 < spent <= 0.105
    assert not found.complete


async def test_a_budget_is_kept_before_anybody_knows_what_a_judgment_costs(tmp_path: Path):
    """The first one goes alone: sixteen at once would be spent before the first bill."""
    cases = some(20)
    judge = LabelJudge(cases)
    for budget, asked in ((0.015, 1), (0.009, 1), (0.0, 0)):
        judge.asked.clear()
        folder = tmp_path / str(budget)
        assert not await run(plan(cases, judge, budget_usd=budget), folder, nobody, silent)
        assert sum(judge.asked.values()) == asked, budget
    judge.most_at_once = 0
    assert await run(plan(cases, judge, budget_usd=9.0), tmp_path / "r", nobody, silent)
    assert judge.most_at_once > 1


async def test_a_price_that_turns_out_unknown_ends_a_run_with_a_budget(tmp_path: Path):
    cases = some(20)
    unpriced = lambda name, time: Verdict(LABELS, usage=Usage(1, 100, 10))  # noqa: E731
    judge = LabelJudge(cases, unpriced)
    assert not await run(plan(cases, judge, budget_usd=9.0), tmp_path / "r", nobody, silent)
    assert sum(judge.asked.values()) == 1


async def test_a_run_that_a_budget_ended_goes_on_with_another(tmp_path: Path):
    cases = some(20)
    judge = LabelJudge(cases)
    folder = tmp_path / "r"
    await run(plan(cases, judge, budget_usd=0.05), folder, nobody, silent)
    assert await run(plan(cases, judge), folder, nobody, silent, resume=True)
    assert set(judge.asked.values()) == {1}


# --- resuming -------------------------------------------------------------------------------------


async def test_a_run_is_not_begun_twice_by_accident(tmp_path: Path):
    cases = some(3)
    await run(plan(cases), tmp_path / "r", nobody, silent)
    with pytest.raises(SettingsError, match="--resume continues it"):
        open_run(plan(cases), tmp_path / "r", resume=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(SettingsError, match="exists and is not empty"):
        open_run(plan(cases), tmp_path / "other", resume=False)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda p: replace(p, repeat=2), "repeat"),
        (lambda p: replace(p, settings=Settings.load({"on_block": "raise"})), "settings_hash"),
        (lambda p: replace(p, judge=ClaudeJudge()), "judge"),
    ],
)
async def test_a_run_goes_on_only_as_what_it_was(
    change: Callable[[Plan], Plan], named: str, tmp_path: Path
):
    begun = plan(some(3))
    open_run(begun, tmp_path / "r", resume=False)
    with pytest.raises(SettingsError, match=f"another {named}"):
        open_run(change(begun), tmp_path / "r", resume=True)
    assert open_run(replace(begun, concurrency=1), tmp_path / "r", resume=True) == []
    assert open_run(replace(begun, cases=some(4)), tmp_path / "r", resume=True) == []


async def test_half_a_line_is_dropped_and_its_case_asked_again(tmp_path: Path):
    cases = some(9)
    folder = tmp_path / "r"
    await run(plan(cases), folder, nobody, silent)
    whole = (folder / RESULTS).read_bytes()
    expected = comparable(folder)
    lines = whole.splitlines(keepends=True)
    for cut in (len(whole) - 1, len(whole) - 40, len(lines[0]) + 1, len(lines[0]), 3, 0):
        (folder / RESULTS).write_bytes(whole[:cut])
        judge = LabelJudge(cases)
        assert await run(plan(cases, judge), folder, nobody, silent, resume=True)
        left = whole[:cut].count(b"\n")
        assert sum(judge.asked.values()) == len(cases) - left
        assert Run.read(folder).complete
        assert comparable(folder) == expected
        assert (folder / RESULTS).read_bytes().count(b"\n") == len(cases)


async def test_failures_can_be_asked_about_again(tmp_path: Path, naps: list[float]):
    cases = some(6)
    folder = tmp_path / "r"
    await run(plan(cases, LabelJudge(cases, busy(99))), folder, nobody, silent)
    judge = LabelJudge(cases)
    assert await run(plan(cases, judge), folder, nobody, silent, resume=True)
    assert not judge.asked
    assert await run(plan(cases, judge), folder, nobody, silent, resume=True, retry_failed=True)
    assert set(judge.asked.values()) == {1}
    assert {result.ended for result in Run.read(folder).results} == {"verdict"}
    assert left_over(plan(cases), read_results(folder / RESULTS), retry_failed=True) == []


async def test_repeats_are_resumed_one_by_one(tmp_path: Path):
    cases = some(6)
    folder = tmp_path / "r"
    judge = LabelJudge(cases)
    await run(plan(cases, judge, repeat=3, budget_usd=0.075, concurrency=1), folder, nobody, silent)
    assert sum(judge.asked.values()) == 7
    assert await run(plan(cases, judge, repeat=3), folder, nobody, silent, resume=True)
    assert set(judge.asked.values()) == {3}
    keys = [result.key for result in Run.read(folder).results]
    assert sorted(keys) == sorted((case.id, number) for case in cases for number in range(3))


# --- a folder that is not one's own, and a disk that is full --------------------------------------


async def test_two_processes_do_not_write_one_run(tmp_path: Path):
    """The second one would ask, and pay for, what the first is asking."""
    pytest.importorskip("fcntl")
    cases = some(6)
    folder = tmp_path / "r"
    writer, _ = begin(plan(cases), folder, resume=False)
    judge = LabelJudge(cases)
    with pytest.raises(SettingsError, match="another process is writing this run"):
        await run(plan(cases, judge), folder, nobody, silent, resume=True)
    assert not judge.asked
    writer.close()
    assert await run(plan(cases, judge), folder, nobody, silent, resume=True)
    with pytest.raises(SettingsError, match="exists and is not empty"):
        replay(Run.read(folder), Settings(), folder)  # into itself


async def test_a_run_killed_before_it_began_can_be_begun(tmp_path: Path):
    """The manifest is written last. What was written before it is nobody's run."""
    cases = some(3)
    open_run(plan(some(5)), tmp_path / "r", resume=False)
    (tmp_path / "r" / "manifest.json").rename(tmp_path / "r" / "manifest.json.new")
    assert await run(plan(cases), tmp_path / "r", nobody, silent, resume=True)
    assert len(Run.read(tmp_path / "r").cases) == 3
    (tmp_path / "r" / "manifest.json").unlink()
    with pytest.raises(SettingsError, match=r"has results, but no manifest\.json"):
        open_run(plan(cases), tmp_path / "r", resume=True)


async def test_a_full_disk_ends_a_run_that_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cases = some(20)
    folder = tmp_path / "r"
    real, lines = os.fsync, Counter[str]()

    def full(fd: int) -> None:
        lines["written"] += 1
        if lines["written"] > 5:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    judge = LabelJudge(cases)
    with pytest.raises(SettingsError, match=r"results\.jsonl: cannot be written: No space left"):
        await run(plan(cases, judge, concurrency=4), folder, nobody, silent)
    monkeypatch.undo()
    assert len(Run.read(folder).results) == 5, "whole lines only"
    assert await run(plan(cases, judge), folder, nobody, silent, resume=True)
    assert Run.read(folder).complete


def test_a_folder_that_cannot_be_written_is_said_in_a_line(tmp_path: Path):
    """As by root too: a folder stands where the results are to be."""
    open_run(plan(some(3)), tmp_path / "r", resume=False)
    (tmp_path / "r" / RESULTS).unlink()
    (tmp_path / "r" / RESULTS).mkdir()
    with pytest.raises(SettingsError, match=r"results\.jsonl: cannot be written"):
        open_run(plan(some(3)), tmp_path / "r", resume=True)


# --- deciding again -------------------------------------------------------------------------------


async def test_a_run_is_decided_again_under_other_settings_without_a_judge(tmp_path: Path):
    cases = some(9)
    await run(plan(cases), tmp_path / "r", nobody, silent)
    before = Run.read(tmp_path / "r")
    milder = Settings.load({"actions": {"fraud_abuse": {"input": "warn"}}})
    replay(before, milder, tmp_path / "again")
    after = Run.read(tmp_path / "again")
    assert [r.outcome for r in after.results] == [r.outcome for r in before.results]
    assert {r.action for r in before.results} == {"block", "allow"}
    assert {r.action for r in after.results} == {"warn", "allow"}
    assert after.settings == milder
    assert after.manifest["judge"] == before.manifest["judge"]
    assert after.manifest["settings_hash"] != before.manifest["settings_hash"]


async def test_a_policy_without_a_clause_that_was_found_cannot_decide(tmp_path: Path):
    await run(plan(some(3)), tmp_path / "r", nobody, silent)
    policy = Settings().policy
    kept = tuple(section for section in policy.sections if section.id != "fraud_abuse")
    less = policy.model_copy(update={"sections": kept})
    house = Settings().model_copy(update={"policy": less})
    with pytest.raises(SettingsError, match="has no such clause"):
        replay(Run.read(tmp_path / "r"), house, tmp_path / "again")


async def test_a_policy_without_a_clause_that_cases_are_labelled_with_cannot_decide(tmp_path: Path):
    """Even where nothing was found: the labels would count nowhere, in silence."""
    cases = some(3)
    missed = lambda name, time: Verdict(LABELS)  # noqa: E731
    await run(plan(cases, LabelJudge(cases, missed)), tmp_path / "r", nobody, silent)
    policy = Settings().policy
    kept = tuple(section for section in policy.sections if section.id != "fraud_abuse")
    house = Settings().model_copy(update={"policy": policy.model_copy(update={"sections": kept})})
    with pytest.raises(SettingsError, match=r"labelled with fraud_abuse\.fake_reviews"):
        replay(Run.read(tmp_path / "r"), house, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    "change", [{"judge": None}, {"repeat": "3"}, {"repeat": None}, {"format": "1"}, {"judge": []}]
)
async def test_a_manifest_that_is_none_says_so(change: JSON, tmp_path: Path):
    await run(plan(some(3)), tmp_path / "r", nobody, silent)
    file = tmp_path / "r" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(SettingsError, match=r"manifest\.json"):
        Run.read(tmp_path / "r")


@pytest.mark.parametrize("file", ["manifest.json", "settings.json", "cases.jsonl", "results.jsonl"])
async def test_a_damaged_run_says_which_file(file: str, tmp_path: Path):
    await run(plan(some(3)), tmp_path / "r", nobody, silent)
    damaged = tmp_path / "r" / file
    damaged.write_text('{"format": 1, "no": "more"}\n')
    with pytest.raises(SettingsError) as caught:
        found = Run.read(tmp_path / "r")
        found.complete  # noqa: B018
    assert file in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("case", 7),
        ("case", "made.9999"),
        ("case", []),
        ("repeat", "0"),
        ("repeat", None),
        ("ended", "timeout"),
        ("latency_ms", "soon"),
        ("outcome.judge", None),
        ("outcome.findings", None),
        ("outcome.findings", GONE),
        ("outcome.findings.0.grade", "sure"),
        ("outcome.findings.0.grade", []),
        ("outcome.findings.0.clause", "fraud_abuse.no_such"),
        ("outcome.usage.cost_usd", "much"),
        ("decision.action", "hang"),
        ("decision.action", "unavailable"),
        ("decision.action", GONE),
        ("decision.usage", []),
        ("decision", None),
    ],
)
async def test_a_result_that_was_changed_is_named_and_never_read_as_another(
    path: str, value: object, tmp_path: Path
):
    await run(plan(some(1)), tmp_path / "r", nobody, silent)
    file = tmp_path / "r" / RESULTS
    line = json.loads(file.read_text())
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    inside: Any = line
    for key in way:
        inside = inside[key]
    inside[last] = value
    if value is GONE:
        del inside[last]
    file.write_text(json.dumps(line) + "\n")
    with pytest.raises(SettingsError, match=r"results\.jsonl"):
        Run.read(tmp_path / "r")


def test_a_folder_that_is_no_run_says_so(tmp_path: Path):
    with pytest.raises(SettingsError, match="made by `magistrate eval run`"):
        Run.read(tmp_path)


# --- the command, against a server, killed --------------------------------------------------------


def answers(cases: Dataset) -> JudgeScript:
    return JudgeScript(when_judging("BAD", finds(CLAUSE, severity="medium")))


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "magistrate", "eval", *words]


@contextmanager
def served(sim: Simulator) -> Iterator[str]:
    with sim.serve() as url:
        yield url


def comparable(folder: Path) -> dict[str, JSON]:
    """Results without the time they took."""
    found: dict[str, JSON] = {}
    for result in read_results(folder / RESULTS):
        data = result.as_json()
        del data["latency_ms"]
        found[result.case] = data
    return found


def written(folder: Path, cases: Dataset) -> Path:
    from magistrate.evals.run_folder import write_cases

    file = folder / "made.jsonl"
    write_cases(file, cases)
    return file


@pytest.mark.slow
def test_a_run_killed_at_ten_places_ends_as_one_that_was_not(tmp_path: Path):
    """SIGKILL, so nothing is tidied up. What was written down is never asked about again."""
    cases = some(240)
    file = written(tmp_path, cases)
    quiet = Simulator(judge=answers(cases))
    with served(quiet) as url:
        whole = tmp_path / "whole"
        words = ("eval", "run", str(file), "--out", str(whole), "--concurrency", "4")
        done = command_line.run(*words, url=url, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    killed = tmp_path / "killed"
    asked_after: Counter[str] = Counter()
    chance = random.Random(7)
    sim = Simulator(judge=answers(cases))
    with served(sim) as url:
        kills = 0
        while True:
            before = set(comparable(killed)) if (killed / RESULTS).exists() else set()
            seen = len(sim.judge_requests)
            resume = ["--resume"] if (killed / "manifest.json").exists() else []
            process = subprocess.Popen(
                command("run", str(file), "--out", str(killed), "--concurrency", "4", *resume),
                env=environment(url, tmp_path),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            goal = len(before) + chance.randint(3, 20)
            if kills < 10:
                until = time.monotonic() + 60
                while process.poll() is None and time.monotonic() < until:
                    results = killed / RESULTS
                    if results.exists() and results.read_bytes().count(b"\n") >= goal:
                        break
                    time.sleep(0.005)
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            else:
                assert process.wait(120) == 0
            for request in sim.judge_requests[seen:]:
                parsed = parse_prompt(request.body or {})
                assert parsed is not None
                if parsed.groups:
                    number = int(parsed.parts[-1].text.split()[2].rstrip(":"))
                    name = f"made.{number:04}"
                    assert name not in before, "it was on disk, and is asked about again"
                    asked_after[name] += 1
            if kills == 10 and process.returncode == 0:
                break
    assert comparable(killed) == comparable(whole)
    lines = [json.loads(line)["case"] for line in (killed / RESULTS).read_text().splitlines()]
    assert Counter(lines) == Counter(case.id for case in cases), "each case has one result"
    # Only what was under way at a kill can have been asked twice.
    assert sum(asked_after.values()) <= len(cases) + 4 * 10


def test_the_command_runs_resumes_and_says_what_came_of_it(tmp_path: Path):
    cases = some(12)
    file = written(tmp_path, cases)
    sim = Simulator(judge=answers(cases))
    with served(sim) as url:

        def call(*words: str) -> command_line.Ended:
            return command_line.run("eval", "run", *words, url=url, cwd=tmp_path)

        out = str(tmp_path / "r")
        done = call(str(file), "--out", out, "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["complete"]
        assert (said["cases"], said["judgments"], said["as_expected"]) == (12, 12, 12)
        assert said["judge_calls"] == 12 + 4  # a screen each, and a judgment of what it suspects
        asked = len(sim.judge_requests)
        again = call(str(file), "--out", out, "--resume")
        assert again.returncode == 0, again.stderr
        assert len(sim.judge_requests) == asked
        assert "12 of 12 labelled cases" in again.stdout
        refused = call(str(file), "--out", out)
        assert refused.returncode == 2
        assert "--resume continues it" in refused.stderr
        replayed = call("--replay", out, "--out", str(tmp_path / "again"))
        assert replayed.returncode == 0, replayed.stderr
        assert len(sim.judge_requests) == asked


def test_a_case_that_no_judge_answered_is_never_as_expected(tmp_path: Path, naps: list[float]):
    """Nor where the settings let such a request pass, which is what most of the cases expect."""
    cases = some(6)
    asked = plan(cases, LabelJudge(cases, busy(99)))
    anyio.run(lambda: run(asked, tmp_path / "r", nobody, silent))
    config = tmp_path / "open.yaml"
    for action in ("block", "allow"):
        config.write_text(f"judge: {{on_failure: {{input: {action}}}}}\n")
        out = tmp_path / action
        words = ("--replay", str(tmp_path / "r"), "--config", str(config), "--out", str(out))
        done = command_line.run("eval", "run", *words, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert (said["judgments"], said["as_expected"]) == (6, 0)
        assert said["ended"] == {"overloaded": 6}
        found = {result.action for result in Run.read(out).results}
        assert found == {"unavailable" if action == "block" else "allow"}


def test_deciding_a_part_of_a_run_again_is_no_complete_run(tmp_path: Path):
    """Results of 2 of 3 cases, both allowed: nobody is to take that for the whole."""
    file = written(tmp_path, some(3))

    def call(*words: str) -> command_line.Ended:
        return command_line.run("eval", "run", *words, cwd=tmp_path)

    whole = tmp_path / "r"
    assert call(str(file), "--judge", "local", "--out", str(whole)).returncode == 0
    lines = (whole / RESULTS).read_text().splitlines(keepends=True)
    (whole / RESULTS).write_text("".join(lines[:2]))
    done = call("--replay", str(whole), "--out", str(tmp_path / "again"))
    assert done.returncode == 3, done.stderr
    assert "not complete: the run it decides again is not" in done.stdout
    on = call(str(file), "--judge", "local", "--out", str(whole), "--resume")
    assert on.returncode == 0, on.stderr


def test_nothing_is_spent_on_a_suite_with_a_mistake_in_it(tmp_path: Path):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"id": "a"}\nnot json\n')
    sim = Simulator()
    with served(sim) as url:
        words = ("eval", "run", str(file), "--out", str(tmp_path / "r"))
        done = command_line.run(*words, url=url, cwd=tmp_path)
    assert done.returncode == 2
    assert "bad.jsonl:1" in done.stderr
    assert "bad.jsonl:2" in done.stderr
    assert sim.requests == []
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "cases.jsonl"], "--out DIR"),
        (["run", "--out", "r"], "give case files"),
        (["run", "cases.jsonl", "--out", "r", "--retry-failed"], "goes with --resume"),
        (["run", "nowhere.yaml", "--out", "r"], "this file does not exist"),
        (["run", "cases.jsonl", "--out", "r"], "no credentials for the Claude API"),
        (["run", "cases.jsonl", "--replay", "x", "--out", "r"], "--replay takes cases"),
        (["run", "cases.jsonl", "--out", "r", "--judge", "local", "--via", "batches"], "local"),
        (["run", "cases.jsonl", "--out", "r", "--budget", "0"], "above 0"),
        (["run", "cases.jsonl", "--out", "r", "--budget", "nan"], "above 0"),
        (["run", "cases.jsonl", "--out", "r", "--budget", "inf"], "above 0"),
    ],
)
def test_wrong_usage_is_said_in_a_line(words: list[str], said: str, tmp_path: Path):
    written(tmp_path, some(2)).rename(tmp_path / "cases.jsonl")
    done = command_line.run("eval", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_is_interrupted_says_how_to_go_on(tmp_path: Path):
    from magistrate.testing import slow

    file = written(tmp_path, some(50))
    sim = Simulator(judge=JudgeScript(when_judging("", slow(0.3))))
    with served(sim) as url:
        words = ("eval", "run", str(file), "--out", str(tmp_path / "r"), "--concurrency", "2")
        process = processes.Program(processes.COMMAND, *words, env=environment(url, tmp_path))
        until = time.monotonic() + 60
        while not sim.judge_requests and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.7)
        os.kill(process.pid, signal.SIGINT)
        done = process.wait()
    assert done.returncode == 130, done.stderr
    assert "--resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert Verdict  # the results so far are whole
    assert all(isinstance(result.outcome, Verdict) for result in Run.read(tmp_path / "r").results)
