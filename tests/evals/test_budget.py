"""Money: whatever cases cost and whatever happens on the way, a run never costs more than it may.

The provider here keeps books of its own: it bills every request it received, also those whose reply
was lost, by the published prices written down below and not by those of the package.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from magistrate.config.diagnostics import SettingsError
from magistrate.evals.budget import SPENDING, Purse
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.plan import Plan
from magistrate.evals.run import Progress, run
from magistrate.evals.run_folder import RESULTS, Run
from magistrate.judging.base import ModelReply
from magistrate.judging.claude import ClaudeJudge
from magistrate.judging.retry_after import retry_after
from magistrate.settings import Settings
from magistrate.testing import finds
from magistrate.testing.judge_replies import render
from magistrate.testing.prompt_parser import parse_prompt
from magistrate.testing.replies import MessageReply
from magistrate.verdicts import JudgeInfo, Outcome, Usage, Verdict
from magistrate.wire.parts import Subject

JSON = dict[str, Any]
CLAUSE = "fraud_abuse.fake_reviews"
# claude-haiku-5-5, dollars a million tokens: input written to the cache, output.
SHORT, LONG, LONG_FROM = (0.125, 0.50), (0.625, 2.50), 100_000


def silent(progress: Progress) -> None:
    pass


def made(lengths: list[int]) -> Dataset:
    """Cases of so many words each; every second one violates."""
    cases: list[Case] = []
    for at, words in enumerate(lengths):
        bad = at % 2 == 0
        case: JSON = {
            "id": f"made.{at:04}",
            "stage": "input",
            "messages": [{"user": f"{'BAD' if bad else 'good'} {at} " + "word " * words}],
            "labels": {CLAUSE: "violated"} if bad else {},
            "action": "block" if bad else "allow",
            "split": "test",
        }
        cases.append(Case.model_validate(case | ({"severity": "medium"} if bad else {})))
    return Dataset(tuple(cases), ("made.jsonl",))


class Provider:
    """Bills what it receives, between a fifth of a token and one token a byte."""

    def __init__(self, seed: int, troubled: bool, killed_after: int | None = None) -> None:
        self.chance, self.troubled = random.Random(seed), troubled
        self.billed, self.received = 0.0, 0
        self.killed_after = killed_after

    async def __call__(self, body: JSON, timeout_s: float) -> ModelReply:
        self.received += 1
        await anyio.lowlevel.checkpoint()
        bad = self.chance.random() if self.troubled else 1.0
        if bad < 0.1:
            return ModelReply(429, {"type": "error"}, {"retry-after": "0"})
        sent = len(json.dumps(body, ensure_ascii=False).encode())
        inputs = int(sent * self.chance.uniform(0.2, 1.0))
        outputs = self.chance.randint(1, body["max_tokens"])
        rates = LONG if inputs > LONG_FROM else SHORT
        self.billed += (inputs * rates[0] + outputs * rates[1]) / 1_000_000
        if self.killed_after is not None and self.received >= self.killed_after:
            raise KeyboardInterrupt
        if bad < 0.2:
            return ModelReply(0, failure="timeout")
        parsed = parse_prompt(body)
        assert parsed is not None
        found = any("BAD" in part.text for part in parsed.parts)
        reply, _ = render(finds(CLAUSE, severity="medium"), parsed)
        assert isinstance(reply, MessageReply)
        said: Any = list(reply.content)
        if not found:
            empty = {"suspected": []} if parsed.groups else {"findings": []}
            more = {"discloses_ai": False} if parsed.groups or parsed.answers else {}
            more |= {"high_risk": []} if parsed.answers and not parsed.groups else {}
            said = [{"type": "text", "text": json.dumps(empty | more)}]
        if 0.2 <= bad < 0.3:
            said = [{"type": "text", "text": "it seems fine"}]
        usage = {"cache_creation_input_tokens": inputs, "input_tokens": 0, "output_tokens": outputs}
        return ModelReply(
            200,
            {"model": body["model"], "content": said, "stop_reason": "end_turn", "usage": usage},
        )


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pauses take no time, and neither do the judge's own."""
    real = anyio.sleep
    monkeypatch.setattr("anyio.sleep", lambda seconds: real(0))
    monkeypatch.setattr("magistrate.judging.calls._BACKOFF", lambda state: 0.0)
    yield


def session(plan: Plan, folder: Path, provider: Provider) -> bool | None:
    """One session of a run; None if it was interrupted."""
    resume = (folder / "manifest.json").exists()

    async def whole() -> bool:
        return await run(plan, folder, provider, silent, resume=resume, retry_failed=resume)

    try:
        return anyio.run(whole)
    except* KeyboardInterrupt:
        pass
    return None


@hypothesis_settings(max_examples=25)
@given(
    lengths=st.lists(
        st.one_of(st.integers(0, 40), st.integers(2_000, 9_000)), min_size=2, max_size=9
    ),
    budget=st.floats(0.001, 0.4),
    concurrency=st.sampled_from([1, 2, 5, 16]),
    kills=st.lists(st.integers(1, 12), max_size=3),
    troubled=st.booleans(),
    seed=st.integers(0, 1_000),
)
def test_no_run_costs_more_than_its_budget(
    lengths: list[int],
    budget: float,
    concurrency: int,
    kills: list[int],
    troubled: bool,
    seed: int,
):
    """Long after short cases, many at once, killed and resumed, with replies that never came."""
    cases = made(lengths)
    with tempfile.TemporaryDirectory() as name:
        folder, billed = Path(name) / "r", 0.0
        plan = Plan(cases, Settings(), ClaudeJudge(), concurrency=concurrency, budget_usd=budget)
        for at, killed_after in enumerate([*kills, None, None]):
            provider = Provider(seed + at, troubled, killed_after)
            session(plan, folder, provider)
            billed += provider.billed
            assert billed <= budget + 1e-9, f"session {at}"
        assert all(result.ended == "verdict" or troubled for result in Run.read(folder).results), (
            "what cannot be afforded is not judged; it has not failed"
        )


def test_a_budget_that_suffices_is_used(tmp_path: Path):
    """A limit that is kept by asking nobody would be no use."""
    cases = made([5, 3_000, 5, 20, 4_000, 5, 5, 5])
    whole = Provider(1, troubled=False)
    assert session(Plan(cases, Settings(), ClaudeJudge()), tmp_path / "free", whole)
    plan = Plan(cases, Settings(), ClaudeJudge(), concurrency=4, budget_usd=4 * whole.billed)
    assert session(plan, tmp_path / "enough", Provider(1, troubled=False))
    half = Provider(1, troubled=False)
    plan = Plan(cases, Settings(), ClaudeJudge(), concurrency=4, budget_usd=whole.billed / 2)
    assert session(plan, tmp_path / "half", half) is False
    assert whole.billed / 10 < half.billed <= whole.billed / 2


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_a_judge_that_makes_no_calls_keeps_a_budget_by_the_length_of_its_cases(
    concurrency: int, tmp_path: Path
):
    """Nothing says beforehand what its cases cost: here, by the length of each."""

    class Metered:
        spent = 0.0

        def info(self, settings: Settings) -> JudgeInfo:
            return JudgeInfo("metered")

        def judge(self, *_: Any) -> Outcome:
            raise AssertionError

        async def judge_async(self, subject: Subject, *_: Any) -> Outcome:
            await anyio.lowlevel.checkpoint()
            usd = 0.001 + len(subject.parts[-1].text) / 10_000
            self.spent += usd
            return Verdict(JudgeInfo("metered"), usage=Usage(1, 1, 1, cost_usd=usd))

    async def nobody(body: JSON, timeout_s: float) -> ModelReply:
        raise AssertionError

    judge = Metered()
    cases = made([2, 1, 400, 3, 800, 5, 900, 2, 1_000, 4])
    plan = Plan(cases, Settings(), judge, concurrency=concurrency, budget_usd=0.8)
    assert not anyio.run(lambda: run(plan, tmp_path / "r", nobody, silent))
    assert 0 < judge.spent <= 0.8


def test_the_first_case_may_be_the_longest(tmp_path: Path):
    cases = made([30_000, 5])
    provider = Provider(3, troubled=False)
    plan = Plan(cases, Settings(), ClaudeJudge(), budget_usd=0.004)
    assert session(plan, tmp_path / "r", provider) is False
    assert provider.received == 0


def test_a_session_without_a_budget_counts_in_one_that_has_one(tmp_path: Path):
    cases = made([5] * 6)
    first = Provider(1, troubled=False, killed_after=6)
    assert (
        session(Plan(cases, Settings(), ClaudeJudge(), concurrency=1), tmp_path / "r", first)
        is None
    )
    assert (tmp_path / "r" / SPENDING).exists()
    second = Provider(2, troubled=False)
    plan = Plan(cases, Settings(), ClaudeJudge(), budget_usd=first.billed)
    assert session(plan, tmp_path / "r", second) is False
    assert second.received == 0


def test_what_runs_of_older_versions_cost_is_read_from_their_results(tmp_path: Path):
    cases = made([5] * 4)
    provider = Provider(1, troubled=False)
    assert session(Plan(cases, Settings(), ClaudeJudge()), tmp_path / "r", provider)
    (tmp_path / "r" / SPENDING).unlink()
    purse = Purse.of(tmp_path / "r", 1.0, Run.read(tmp_path / "r").results)
    assert purse.spent == pytest.approx(provider.billed)


@pytest.mark.parametrize(
    "line",
    [
        '{"case": "a", "repeat": 0, "call": 1, "paid": NaN}',
        '{"case": "a", "repeat": 0, "call": 1, "paid": -1}',
        '{"case": "a", "repeat": 0, "call": 1, "paid": 1e999}',
        '{"case": "a", "repeat": 0}',
        "[]",
        "no json",
    ],
)
def test_books_that_were_changed_are_refused_with_their_line(line: str, tmp_path: Path):
    (tmp_path / SPENDING).write_text(
        '{"case": "a", "repeat": 0, "call": 1, "reserved": 0.1}\n' + line + "\n"
    )
    with pytest.raises(SettingsError, match=rf"{SPENDING}:2"):
        Purse.of(tmp_path, 1.0, [])
    assert not (tmp_path / RESULTS).exists()


# --- how long the server wants to be left alone ---------------------------------------------------

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"retry-after": "7"}, 7.0),
        (529, {"Retry-After": "0.5"}, 0.5),
        (503, {"retry-after": "Sun, 29 Nov 2026 12:00:30 GMT"}, 30.0),
        (429, {"retry-after": "Sun, 29 Nov 2026 11:00:00 GMT"}, 0.0),
        (429, {"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        (429, {"retry-after": "-3"}, None),
        (429, {"retry-after": "nan"}, None),
        (429, {"retry-after": "soon"}, None),
        (429, {}, None),
        (200, {"retry-after": "7"}, None),
        (401, {"retry-after": "7"}, None),
    ],
)
def test_what_a_server_asks_for_is_understood(
    status: int, headers: dict[str, str], seconds: float | None
):
    assert retry_after(ModelReply(status, None, headers), lambda: NOON) == seconds


async def test_nobody_asks_a_server_before_the_time_it_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Neither the case that was refused nor any other: the clock stands still but for pauses."""
    clock = [0.0]
    real = anyio.lowlevel.checkpoint

    async def sleep(seconds: float) -> None:
        await real()
        clock[0] += seconds

    monkeypatch.setattr("anyio.sleep", sleep)
    monkeypatch.setattr("anyio.current_time", lambda: clock[0])
    inner, until, early = Provider(1, troubled=False), [0.0], list[float]()

    async def ask(body: JSON, timeout_s: float) -> ModelReply:
        if clock[0] < until[0]:
            early.append(clock[0])
        if until[0] == 0.0:
            until[0] = clock[0] + 45
            return ModelReply(429, {"type": "error"}, {"retry-after": "45"})
        return await inner(body, timeout_s)

    settings = Settings.load({"judge": {"deadline_s": 5}})
    plan = Plan(made([5] * 6), settings, ClaudeJudge(), concurrency=1)
    assert await run(plan, tmp_path / "r", ask, silent)
    assert not early
    assert {result.ended for result in Run.read(tmp_path / "r").results} == {"verdict"}
