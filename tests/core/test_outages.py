"""The record tells outages from blocks: `unavailable` if and only if nobody decided.

The oracle below knows nothing of `decisions.py`: each outcome and each way to set things up says of
itself what matters, and what an exchange comes to follows from both. Every combination is played as
a flow; through both clients those where at most one stage is out of the ordinary.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from edges import CLAUSE, FLOOR, asking, both, edge
from magistrate import Blocked, Finding, HeldForReview, Moderation, ModerationUnavailable
from magistrate.core.decision_record import Decision
from magistrate.core.effects import RaiseDecision
from magistrate.core.events import Head
from magistrate.settings import Settings
from magistrate.testing import ScriptedJudge, Simulator, text
from magistrate.verdicts import (
    Failure,
    HighRiskAnswer,
    JudgeInfo,
    Outcome,
    Stage,
    Unavailable,
    Verdict,
)
from magistrate.wire.parts import Subject
from play import World, play

WHO = JudgeInfo("declared")
SAID = "the-answer-in-full"
OUTAGES = ("timeout", "overloaded", "error")


@dataclass(frozen=True)
class Said:
    """What a judge says of a stage. `bad`: enough to be blocked by default. `floor`: always."""

    grade: str | None = None
    clause: str = CLAUSE
    failure: Failure | None = None
    lost_floor: bool = False
    high_risk: bool = False

    @property
    def bad(self) -> bool:
        return self.grade == "likely"

    @property
    def floor(self) -> bool:
        return self.bad and self.clause == FLOOR

    def outcome(self, stage: Stage) -> Outcome:
        path = "messages[0].content" if stage == "input" else "response.content[0]"
        found = Finding(self.clause, self.grade, "high", stage, path) if self.grade else None  # type: ignore[arg-type]
        findings = (found,) if found else ()
        if self.failure is not None:
            return Unavailable(self.failure, WHO, floor=self.lost_floor, findings=findings)
        answers = (HighRiskAnswer("healthcare", "advice", True),) if self.high_risk else ()
        return Verdict(WHO, findings, answers)


@dataclass(frozen=True)
class Setup:
    """Some settings. `acts`: what is bad is blocked. `opens`: an outage of the input's judge does
    not stop the request."""

    acts: bool = True
    opens: bool = False
    more: dict[str, Any] = field(default_factory=dict)


SAYS: dict[str, Said] = {
    "nothing": Said(),
    "a suspicion": Said("possible"),
    "a violation": Said("likely"),
    "a violation with a floor": Said("likely", FLOOR),
    "high-risk advice": Said(high_risk=True),
    "an outage": Said(failure="timeout"),
    "an outage, a floor suspected": Said(failure="overloaded", lost_floor=True),
    "an outage after a suspicion": Said("possible", failure="error"),
    "an outage after a violation": Said("likely", failure="timeout"),
    "an outage after a violation with a floor": Said("likely", FLOOR, failure="timeout"),
    "what content can provoke": Said(failure="refused"),
}
WARN = {"actions": {"default": {"input": "warn", "output": "warn"}}}
OPEN = {"judge": {"on_failure": {"input": "allow"}}}
HELD = {
    "app": {"audience": "consumer", "interface": "chatbot", "high_risk": ["healthcare"]},
    "review": {
        "store": "sqlite:///reviews.db",
        "reviewers": [{"name": "dr.lee", "qualified_in": ["healthcare"]}],
    },
}
SETUPS: dict[str, Setup] = {
    "defaults": Setup(),
    "on_block: raise": Setup(more={"on_block": "raise"}),
    "before": Setup(more={"input_check": "before"}),
    "warnings": Setup(acts=False, more=WARN),
    "open": Setup(opens=True, more=OPEN),
    "open, with a warning": Setup(opens=True, more={"judge": {"on_failure": {"input": "warn"}}}),
    "open, warnings": Setup(acts=False, opens=True, more=WARN | OPEN),
    "shadow": Setup(acts=False, more={"streaming": {"release": "shadow"}}),
    "open, shadow": Setup(
        acts=False, opens=True, more={"streaming": {"release": "shadow"}, **OPEN}
    ),
    "held": Setup(more=HELD),
    "held, on_hold: raise": Setup(more={**HELD, "on_hold": "raise"}),
}


def stops(setup: Setup, stage: Stage, said: Said) -> str | None:
    """Why an exchange goes no further than this stage; None where it does."""
    if said.floor or (said.bad and setup.acts):
        return "block"
    passes = setup.opens and stage == "input" and said.failure in OUTAGES and not said.lost_floor
    return "unavailable" if said.failure is not None and not passes else None


def expected(setup: Setup, on_input: Said, on_output: Said) -> set[str]:
    """What may be on record of an exchange."""
    stopped = stops(setup, "input", on_input) or stops(setup, "output", on_output)
    if stopped:
        return {stopped}
    held = on_output.high_risk and "app" in setup.more
    return {"hold"} if held else {"allow", "warn"}


def check_explained(decision: Decision) -> None:
    """A block has a reason on record, and an outage has its own."""
    if decision.action == "block":
        assert decision.uninspected or any(f.grade == "likely" for f in decision.findings)
    if decision.action == "unavailable":
        assert decision.judge_failures


def judging(on_input: Said, on_output: Said) -> Any:
    def judge(subject: Subject) -> Outcome:
        said = on_input if subject.stage == "input" else on_output
        return said.outcome(subject.stage)

    return judge


PAIRS = list(product(SAYS.values(), SAYS.values()))
FEWER = [pair for pair in PAIRS if Said() in pair]
WHOLE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": SAID}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def events() -> Iterator[bytes]:
    yield from (
        f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()
        for data in [
            {"type": "message_start", "message": {**WHOLE, "content": [], "stop_reason": None}},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": SAID},
            },
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 1},
            },
            {"type": "message_stop"},
        ]
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", SETUPS)
def test_the_word_on_record_is_what_the_flow_ended_with(name: str, stream: bool) -> None:
    setup = SETUPS[name]
    chosen = Settings.load({"version": 1, **setup.more})
    body = asking("hi", stream=stream)
    for on_input, on_output in PAIRS:
        world = World(
            judging(on_input, on_output),
            head=Head(ok=True, sse=stream),
            chunks=list(events()) if stream else [json.dumps(WHOLE).encode()],
        )
        played = play(body, world, chosen, stream=stream)
        decision = played.decision
        assert decision.action in expected(setup, on_input, on_output), (on_input, on_output)
        ended = [effect.kind for effect in played.of(RaiseDecision)]
        assert (decision.action == "unavailable") == (ended == ["unavailable"])
        check_explained(decision)
        if decision.action in ("block", "hold", "unavailable"):
            assert SAID.encode() not in played.written


@both
@pytest.mark.parametrize("surface", ["create", "create(stream=True)"])
@pytest.mark.parametrize("name", SETUPS)
def test_the_word_on_record_is_what_the_caller_got(
    name: str, surface: str, flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    setup = SETUPS[name]
    raised = {
        "block": {Blocked} if "raise" in setup.more.get("on_block", "") else {type(None)},
        "hold": {HeldForReview} if "raise" in setup.more.get("on_hold", "") else {type(None)},
        "unavailable": {ModerationUnavailable},
    }
    said = list(FEWER[0])
    judge = ScriptedJudge(lambda subject: judging(*said)(subject))
    moderation = Moderation({"version": 1, **setup.more}, judge=judge)
    with edge(flavour, Simulator(text(SAID)), moderation=moderation) as at:
        for number, said[:] in enumerate(FEWER):
            got = at.ask(surface, asking(f"question {number}"))  # so that no verdict is remembered
            decision = at.decisions()[-1]
            assert len(at.decisions()) == number + 1
            assert decision.action in expected(setup, *said), said
            assert type(got.error) in raised.get(decision.action, {type(None)}), said
            if decision.action in ("block", "hold", "unavailable"):
                assert SAID not in got.seen
            if isinstance(got.error, ModerationUnavailable):
                assert got.error.decision == decision
                assert "no judge was available: " in str(got.error)
            check_explained(decision)


@pytest.mark.parametrize("name", SETUPS)
@pytest.mark.parametrize("said", SAYS)
def test_content_that_cannot_be_read_is_a_block_whatever_a_judge_says_of_the_rest(
    said: str, name: str
) -> None:
    """Also where the judge is missing: what it would have said would not have let this pass."""
    setup = SETUPS[name]
    unreadable = {"type": "something_new", "data": "?"}
    content = [{"type": "text", "text": "hi"}, unreadable]
    body = asking("hi") | {"messages": [{"role": "user", "content": content}]}
    world = World(judging(SAYS[said], Said()), chunks=[json.dumps(WHOLE).encode()])
    decision = play(body, world, Settings.load({"version": 1, **setup.more})).decision
    assert [item.reason for item in decision.uninspected] == ["unknown_block"]
    if "shadow" in name:  # there it stops nothing by itself
        assert decision.action in expected(setup, SAYS[said], Said())
    else:
        assert (decision.action, decision.stage) == ("block", "input")
