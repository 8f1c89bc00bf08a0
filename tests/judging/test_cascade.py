"""One judgment through the whole way: a moderated client, its judge's calls, the decision.

What is asked in which order is in `test_deliberation`; here it is what arrives at the provider,
from both kinds of client, and what the application gets.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx2
import pytest

from edges import CLAUSE, FLOOR, Edge, asking, both, edge
from magistrate import Blocked, ModerationUnavailable
from magistrate.judging.chunks import MOST_TOKENS
from magistrate.policy import builtin_policy
from magistrate.settings import DEFAULT_JUDGE_MODEL
from magistrate.testing import (
    Judgement,
    JudgeReply,
    JudgeScript,
    Simulator,
    error,
    fails_with,
    finds,
    high_risk,
    nothing,
    refuses,
    text,
    when_judging,
)
from magistrate.testing.judge_script import judged_parts_with
from magistrate.testing.prompt_parser import ParsedPrompt, parse_prompt
from magistrate.testing.transport import SimulatorTransport
from magistrate.verdicts import Stage

JSON = dict[str, Any]
BAD = "the forbidden words"
SECTIONS = [section.id for section in builtin_policy().sections]
SECTION = CLAUSE.partition(".")[0]
OTHER = "elections.lobbying"
APP: JSON = {"name": "acme", "audience": "consumer", "interface": "chatbot"}
STRONG, QUICK, SECOND = "claude-opus-5-5", "claude-haiku-4-5", "claude-sonnet-5-5"


@dataclass
class Asked:
    """A judge's prompt together with the model that was asked."""

    prompt: ParsedPrompt
    body: JSON

    def __getattr__(self, name: str) -> Any:
        return getattr(self.prompt, name)

    @property
    def model(self) -> str:
        return self.body["model"]

    @property
    def about(self) -> str:
        """`screen`, `all`, or the group that the judgment is of."""
        if self.prompt.groups:
            return "screen"
        groups = {clause.partition(".")[0] for clause in self.prompt.clauses}
        return "all" if len(groups) > 1 else next(iter(groups), "answer")

    def has(self, words: str) -> bool:
        return bool(judged_parts_with(words, self.prompt.parts))


def asked(body: JSON) -> Any:
    """An `Asked`, or None for a request that is no judge's."""
    prompt = parse_prompt(body)
    return Asked(prompt, body) if prompt else None


def simulator(judge: Callable[[Any], JudgeReply] | None = None, said: str = "Hello.") -> Simulator:
    return Simulator(default=text(said), judge=judge, parse_prompt=asked)


def calls(sim: Simulator, stage: Stage | None = None) -> list[Asked]:
    found = [asked(request.body or {}) for request in sim.judge_requests]
    return [each for each in found if each and stage in (None, each.prompt.stage)]


def abouts(sim: Simulator, stage: Stage | None = None) -> list[str]:
    return [each.about for each in calls(sim, stage)]


def ask(at: Edge, *texts: str, **more: Any) -> Any:
    return at.run(at.client.messages.create(**asking(*texts, **more)))


FINDS = JudgeScript(when_judging(BAD, finds(CLAUSE)))


# --- what is asked, and what it comes to ----------------------------------------------------------


@both
def test_what_nobody_suspects_costs_one_call_a_stage(flavour: str) -> None:
    sim = simulator()
    with edge(flavour, sim) as at:
        assert ask(at, "Hi.").content[0].text == "Hello."
        decision = at.decision()
    assert [(each.stage, each.about) for each in calls(sim)] == [
        ("input", "screen"),
        ("output", "screen"),
    ]
    assert decision.usage.judge_calls == 2
    assert decision.judge.model == DEFAULT_JUDGE_MODEL
    assert decision.judge.prompt_hash


@both
@pytest.mark.parametrize("stage", ["input", "output"])
def test_what_is_found_was_suspected_first(flavour: str, stage: Stage) -> None:
    sim = simulator(FINDS, BAD if stage == "output" else "Hello.")
    with edge(flavour, sim, settings={"audit": {"content": "flagged"}}) as at:
        message = ask(at, BAD if stage == "input" else "Hi.")
        decision = at.decision()
    assert message.stop_reason == "refusal"
    assert BAD not in message.to_json()
    assert abouts(sim, stage) == ["screen", SECTION]
    [found] = decision.findings
    assert (found.clause, found.stage, found.evidence) == (CLAUSE, stage, BAD)
    assert decision.usage.judge_calls == len(sim.judge_requests)


@both
def test_the_word_of_the_judgment_is_final(flavour: str) -> None:
    def judge(prompt: Asked) -> JudgeReply:
        return finds(CLAUSE) if prompt.groups else nothing()

    sim = simulator(judge)
    with edge(flavour, sim) as at:
        assert ask(at, "Hi.").content[0].text == "Hello."
        assert at.decision().findings == ()
    assert abouts(sim) == ["screen", SECTION] * 2


class Together(SimulatorTransport):
    """Delivers judgments only when so many of them are under way at the same time."""

    def __init__(self, sim: Simulator, count: int) -> None:
        super().__init__(sim)
        self._threads = threading.Barrier(count)
        self._tasks = asyncio.Barrier(count)

    @staticmethod
    def _waits(request: httpx2.Request) -> bool:
        found = asked(json.loads(request.content))
        return found is not None and found.about != "screen"

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        if self._waits(request):
            self._threads.wait(20)
        return super().handle_request(request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        if self._waits(request):
            async with asyncio.timeout(20):
                await self._tasks.wait()
        return await super().handle_async_request(request)


@both
def test_judgments_of_several_groups_are_under_way_at_the_same_time(flavour: str) -> None:
    clauses = (CLAUSE, OTHER, "fraud_abuse.spam")
    found = sum(map(finds, clauses), Judgement())
    sim = simulator(JudgeScript(when_judging(BAD, found)))
    transport = Together(sim, len(clauses))
    client = httpx2.Client if flavour == "sync" else httpx2.AsyncClient
    slow = {"judge": {"deadline_s": 60}}
    with edge(flavour, sim, settings=slow, http_client=client(transport=transport)) as at:
        assert ask(at, BAD).stop_reason == "refusal"
        decision = at.decision()
    assert {found.clause for found in decision.findings} == set(clauses)
    assert decision.usage.judge_calls == 1 + len(clauses)


@both
@pytest.mark.parametrize("where", ["the screen", "the judgment"])
def test_without_one_of_its_calls_there_is_no_verdict(flavour: str, where: str) -> None:
    def judge(prompt: Asked) -> JudgeReply:
        fails = bool(prompt.groups) == (where == "the screen")
        return fails_with(error(400)) if fails else finds(CLAUSE)

    sim = simulator(judge)
    with edge(flavour, sim) as at:
        with pytest.raises(ModerationUnavailable):
            ask(at, "Hi.")
        decision = at.decision()
    [failure] = decision.judge_failures
    assert (failure.stage, failure.reason) == ("input", "unsupported")
    assert abouts(sim) == ["screen", *([SECTION] if where == "the judgment" else [])]


@both
@pytest.mark.parametrize("order", [(CLAUSE, OTHER), (OTHER, CLAUSE)])
def test_what_one_judgment_finds_blocks_although_another_is_missing(
    flavour: str, order: tuple[str, str]
) -> None:
    broken, found = order

    def judge(prompt: Asked) -> JudgeReply:
        if prompt.about == broken.partition(".")[0]:
            return fails_with(error(400))
        return finds(broken) + finds(found)

    sim = simulator(judge)
    with edge(flavour, sim, settings={"on_block": "raise"}) as at:
        with pytest.raises(Blocked):
            ask(at, "Hi.")
        assert [each.clause for each in at.decision().findings] == [found]


# --- other models, other ways ---------------------------------------------------------------------


@both
def test_what_one_model_refuses_goes_to_the_second(flavour: str) -> None:
    def judge(prompt: Asked) -> JudgeReply:
        if prompt.model != SECOND:
            return refuses("cyber")
        return FINDS(prompt.prompt)

    settings = {"judge": {"second_model": SECOND}}
    sim = simulator(judge)
    with edge(flavour, sim, settings=settings) as at:
        assert ask(at, "Hi.").content[0].text == "Hello."
        assert ask(at, BAD).stop_reason == "refusal"
        last = at.decisions()[-1]
    assert [each.model for each in calls(sim)] == [DEFAULT_JUDGE_MODEL, SECOND] * 4
    assert last.judge.model == SECOND
    assert [found.clause for found in last.findings] == [CLAUSE]


@both
def test_what_both_models_refuse_is_a_finding_of_what_they_call_it(flavour: str) -> None:
    sim = simulator(lambda prompt: refuses("cyber"))
    with edge(flavour, sim, settings={"judge": {"second_model": SECOND}}) as at:
        assert ask(at, "Hi.").stop_reason == "refusal"
        decision = at.decision()
    assert [f.clause for f in decision.findings] == ["fraud_abuse.scams_phishing_malware"]
    assert decision.usage.judge_calls == 2


@both
def test_screens_and_judgments_by_models_of_their_own(flavour: str) -> None:
    settings = {"judge": {"model": STRONG, "screen": {"model": QUICK, "effort": "high"}}}
    sim = simulator(FINDS)
    with edge(flavour, sim, settings=settings) as at:
        ask(at, "Hi.")
        ask(at, BAD)
        clean, blocked = at.decisions()
    assert [each.model for each in calls(sim)] == [QUICK, QUICK, QUICK, STRONG]
    efforts = [each.body["output_config"]["effort"] for each in calls(sim)]
    assert efforts == ["high", "high", "high", "low"]
    assert (clean.judge.model, blocked.judge.model) == (QUICK, STRONG)
    per_token = 1 / 1_000_000  # haiku 4.5 costs 1 and 5 dollars per million
    assert clean.usage.cost_usd == pytest.approx(
        clean.usage.input_tokens * per_token + clean.usage.output_tokens * 5 * per_token
    )


@both
def test_reasons_are_given_by_judgments_where_they_are_asked_for(flavour: str) -> None:
    sim = simulator(FINDS)
    settings = {"judge": {"explain": True}, "audit": {"content": "flagged"}}
    with edge(flavour, sim, settings=settings) as at:
        assert ask(at, BAD).stop_reason == "refusal"
        [found] = at.decision().findings
    assert found.reason
    assert [each.prompt.explain for each in calls(sim)] == [False, True]


WAYS = {"bundled": ["all"], "focused": SECTIONS, "cascade": ["screen"]}


@both
@pytest.mark.parametrize("strategy", WAYS)
def test_every_strategy_asks_in_its_way_and_finds_the_same(flavour: str, strategy: str) -> None:
    sim = simulator(FINDS)
    with edge(flavour, sim, settings={"judge": {"strategy": strategy}}) as at:
        assert ask(at, "Hi.").content[0].text == "Hello."
        assert sorted(abouts(sim, "input")) == sorted(abouts(sim, "output"))
        assert sorted(abouts(sim, "input")) == sorted(WAYS[strategy])
        assert ask(at, BAD).stop_reason == "refusal"
        decision = at.decisions()[-1]
        assert [found.clause for found in decision.findings] == [CLAUSE]
        assert sum(each.usage.judge_calls for each in at.decisions()) == len(sim.judge_requests)
    assert sim.problems == []


@both
def test_what_an_answer_is_decides_through_the_cascade_too(flavour: str) -> None:
    sim = simulator(JudgeScript(when_judging("", high_risk("healthcare"), stage="output")))
    with edge(flavour, sim, settings={"app": APP}) as at:  # healthcare is not declared
        assert ask(at, "Hi.").content[0].text.endswith("Hello.")
        assert at.decision().action == "warn"
    assert abouts(sim, "output") == ["screen", "answer"]


# --- streams --------------------------------------------------------------------------------------

STORY = [f"Sentence {number} of a long and harmless story. " for number in range(60)]


def streamed(at: Edge, *texts: str) -> str:
    stream = at.run(at.client.messages.create(**asking(*texts), stream=True))
    return "".join(item.to_json() for item in at.items(stream))


@both
def test_every_window_of_a_stream_is_screened_and_begins_like_the_one_before(flavour: str) -> None:
    sim = simulator(said="".join(STORY))
    with edge(flavour, sim) as at:
        seen = streamed(at, "Tell me a story.")
        assert at.decision().usage.judge_calls == len(sim.judge_requests)
    assert "Sentence 59" in seen
    windows = calls(sim, "output")
    assert len(windows) > 1
    assert {each.about for each in windows} == {"screen"}
    judged = "".join(p.text for each in windows for p in each.prompt.parts if p.judged)
    assert judged == "".join(STORY)
    blocks = [[block["text"] for block in each.body["messages"][0]["content"]] for each in windows]
    for before, after in pairwise(blocks):
        assert after[: len(before) - 1] == before[:-1]


@both
@pytest.mark.parametrize(("clause", "release"), [(CLAUSE, "window"), (FLOOR, "shadow")])
def test_a_stream_is_cut_by_what_its_judgment_finds(
    flavour: str, clause: str, release: str
) -> None:
    """Also in shadow mode where a floor is touched: the screen alone is no verdict there either."""
    said = "".join([*STORY[:30], BAD, *STORY[30:]])
    sim = simulator(JudgeScript(when_judging(BAD, finds(clause))), said)
    with edge(flavour, sim, settings={"streaming": {"release": release}}) as at:
        seen = streamed(at, "Tell me a story.")
        decision = at.decision()
    assert "Sentence 0 " in seen
    assert BAD not in seen
    assert "Sentence 59" not in seen
    assert '"refusal"' in seen
    assert [found.clause for found in decision.findings] == [clause]
    assert "screen" in abouts(sim, "output")
    assert clause.partition(".")[0] in abouts(sim, "output")


@both
def test_child_safety_holds_whatever_the_settings_say(flavour: str) -> None:
    settings = {
        "actions": {"default": {"input": "allow", "from_grade": "certain"}},
        "judge": {"on_failure": {"input": "allow"}},
        "streaming": {"release": "shadow"},
    }
    sim = simulator(JudgeScript(when_judging(BAD, finds(FLOOR, severity="low"))))
    with edge(flavour, sim, settings=settings) as at:
        assert ask(at, BAD).stop_reason == "refusal"
        assert ask(at, "Hi.").content[0].text == "Hello."
    assert abouts(sim, "input") == ["screen", "child_safety", "screen"]


# --- what it cost, and what was shown -------------------------------------------------------------


@both
def test_the_usage_of_everything_adds_up(flavour: str) -> None:
    sim = simulator(FINDS)
    with edge(flavour, sim) as at:
        for said in ("Hi.", BAD, "Hi.", "Hello?"):  # one of them again: it costs nothing
            ask(at, said)
        total, decisions = at.moderation.usage, at.decisions()
    assert total.judge_calls == len(sim.judge_requests) == 6
    assert [each.usage.judge_calls for each in decisions] == [2, 2, 0, 2]
    for name in ("input_tokens", "output_tokens"):
        assert getattr(total, name) == sum(getattr(each.usage, name) for each in decisions)
    # haiku 5.5 costs 0.10 and 0.50 dollars per million
    dollars = (total.input_tokens * 0.10 + total.output_tokens * 0.50) / 1_000_000
    assert total.cost_usd == pytest.approx(dollars)


@both
def test_the_price_of_a_model_that_is_not_in_the_table_is_unknown(flavour: str) -> None:
    sim = simulator(FINDS)
    with edge(flavour, sim, settings={"judge": {"model": "some-judge"}}) as at:
        ask(at, "Hi.")
        assert at.decision().usage.cost_usd is None
        assert at.moderation.usage.cost_usd is None
        assert at.moderation.usage.judge_calls == 2


@both
@pytest.mark.parametrize("place", ["front", "middle", "end"])
def test_a_long_request_is_read_to_its_end(flavour: str, place: str) -> None:
    filler = "All is well in the garden today. "
    half = filler * (MOST_TOKENS * 4 // len(filler))
    said = {"front": BAD + half * 2, "middle": half + BAD + half, "end": half * 2 + BAD}
    sim = simulator(FINDS)
    with edge(flavour, sim, settings={"judge": {"deadline_s": 60}}) as at:
        assert ask(at, said[place]).stop_reason == "refusal"
        assert [found.clause for found in at.decision().findings] == [CLAUSE]
    screens = [each for each in calls(sim) if each.about == "screen"]
    assert len(screens) >= 3
    assert abouts(sim).count(SECTION) in (1, 2)  # two where it stands in the overlap


@both
def test_what_is_hidden_in_a_text_is_shown_to_every_judge_of_it(flavour: str) -> None:
    hidden = "Ple\u200base ex\u0440lain: " + BAD
    sim = simulator(FINDS)
    with edge(flavour, sim) as at:
        assert ask(at, hidden).stop_reason == "refusal"
    for each in calls(sim):
        line = json.loads(each.body["messages"][0]["content"][1]["text"])
        assert line["text"] == hidden
        assert any("ZERO WIDTH SPACE" in name.upper() for name in line["hidden"])
        assert line["normalised"] == "Please explain: " + BAD
    assert abouts(sim) == ["screen", SECTION]
