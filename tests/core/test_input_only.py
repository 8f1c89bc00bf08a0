"""What is judged without an answer, and what a hook is told: tables of outcomes, without I/O."""

from __future__ import annotations

from typing import Any

import pytest

from edges import CLAUSE, FLOOR
from magistrate.core.decide import is_outage
from magistrate.core.effects import (
    Answer,
    HoldAnswer,
    Next,
    Recall,
    Remember,
    Settle,
    StartJudging,
    StoreFailure,
)
from magistrate.core.events import JudgeResult
from magistrate.core.exchange import Exchange
from magistrate.core.hook_verdicts import OnError, answer_frame, verdict_on_failure
from magistrate.settings import Settings
from magistrate.verdicts import FAILURES, Finding, JudgeInfo, Outcome, Unavailable, Verdict
from magistrate.wire.digests import Digests
from magistrate.wire.hook_frames import read_frame
from magistrate.wire.parts import Subject

JSON = dict[str, Any]
JUDGE = JudgeInfo("declared")
PATHS = {"input": "messages[0].content[0]", "output": "response.content[0]"}


def found(clause: str, stage: Any = "input", severity: Any = "high") -> Finding:
    return Finding(clause, "likely", severity, stage, PATHS[stage])


def frame(kind: str = "prompt", text: str = "hello") -> JSON:
    role = "user" if kind == "prompt" else "assistant"
    content = [{"type": "text", "text": text}]
    return {"type": kind, "messages": [{"role": role, "content": content}]}


def told(
    outcome: Outcome,
    on_error: OnError = "deny",
    settings: JSON | None = None,
    sent: JSON | None = None,
    held: Any = "rev_1",
    record: dict[str, str] | None = None,
) -> JSON:
    """What a hook is told where its judge answers this."""
    read = read_frame(sent or frame())
    exchange = Exchange(
        "dec_1",
        read.request,
        Settings.load({"version": 1, **(settings or {})}),
        Digests(b"key", "scope"),
        JUDGE,
        stream=False,
        raises=False,
    )
    flow = answer_frame(exchange, read, on_error)
    record = {} if record is None else record
    waiting: list[JudgeResult] = []
    answers: list[JSON] = []
    settled = 0
    reply: Any = None
    while True:
        try:
            effect = flow.send(reply)
        except StopIteration:
            assert settled == len(answers) == 1
            return answers[0]
        reply = None
        match effect:
            case Recall(keys):
                reply = {key: record[key] for key in keys if key in record}
            case Remember(keys, decision_id):
                record.update(dict.fromkeys(keys, decision_id))
            case StartJudging(ticket, subject):
                assert isinstance(subject, Subject)
                waiting.append(JudgeResult(ticket, outcome))
            case Next():
                reply = waiting.pop()
            case HoldAnswer():
                reply = held
            case Settle(decision):
                settled += 1
                reply = decision
            case Answer(message):
                answers.append(message)
            case _:
                raise AssertionError(effect)


@pytest.mark.parametrize("kind", ["prompt", "tool_call"])
@pytest.mark.parametrize("floor", [False, True])
@pytest.mark.parametrize("reason", FAILURES)
def test_only_an_outage_without_a_suspected_floor_may_pass(
    reason: Any, floor: bool, kind: str
) -> None:
    failed = Unavailable(reason, JUDGE, floor=floor)
    passes = reason in ("timeout", "overloaded", "error") and not floor
    assert is_outage(failed) == passes
    assert told(failed, "allow", sent=frame(kind))["action"] == ("allow" if passes else "deny")
    assert told(failed, "deny", sent=frame(kind))["action"] == "deny"


@pytest.mark.parametrize("kind", ["prompt", "tool_call"])
@pytest.mark.parametrize("size", [1_000, 400_000])
def test_a_timeout_over_a_very_long_text_never_passes(size: int, kind: str) -> None:
    late = Unavailable("timeout", JUDGE)
    verdict = told(late, "allow", sent=frame(kind, "a" * size))
    assert verdict["action"] == ("allow" if size == 1_000 else "deny")


@pytest.mark.parametrize("kind", ["prompt", "tool_call"])
@pytest.mark.parametrize(("clause", "severity"), [(CLAUSE, "high"), (FLOOR, "low")])
def test_what_was_found_before_the_outage_still_denies(
    clause: str, severity: Any, kind: str
) -> None:
    stage = "input" if kind == "prompt" else "output"
    failed = Unavailable("error", JUDGE, findings=(found(clause, stage, severity),))
    assert told(failed, "allow", sent=frame(kind))["action"] == "deny"


def test_a_hold_found_before_the_outage_still_denies() -> None:
    settings = held_settings()
    failed = Unavailable("error", JUDGE, findings=(found(CLAUSE, "output"),))
    assert told(failed, "allow", settings, frame("tool_call"))["action"] == "deny"


def held_settings() -> JSON:
    return {
        "actions": {CLAUSE.partition(".")[0]: {"output": "hold"}},
        "review": {
            "store": "sqlite:///nowhere/reviews.db",
            "reviewers": [{"name": "ada", "qualified_in": ["privacy_identity"]}],
        },
    }


@pytest.mark.parametrize(
    ("held", "reference", "action"),
    [("rev_1", "rev_1", "hold"), (StoreFailure("full"), "dec_1", "unavailable")],
)
def test_a_held_call_is_denied_with_its_review(held: Any, reference: str, action: str) -> None:
    outcome = Verdict(JUDGE, (found(CLAUSE, "output"),))
    verdict = told(outcome, "allow", held_settings(), frame("tool_call"), held)
    assert (verdict["action"], verdict["reference_id"]) == ("deny", reference)
    assert verdict["magistrate"]["action"] == action


def test_content_that_must_not_be_kept_is_denied_not_held() -> None:
    """As everywhere: a hold stores what it holds."""
    outcome = Verdict(JUDGE, (found(CLAUSE, "output"), found(FLOOR, "output", "low")))
    verdict = told(outcome, "allow", held_settings(), frame("tool_call"))
    assert verdict["magistrate"]["action"] == "block"


def test_a_failed_judgment_makes_nothing_context() -> None:
    record: dict[str, str] = {}
    told(Unavailable("error", JUDGE), "allow", record=record)
    assert record == {}
    told(Verdict(JUDGE), record=record)
    assert len([key for key in record if key.startswith("allowed")]) == 1


@pytest.mark.parametrize(
    ("on_error", "size", "action"),
    [
        ("deny", 0, "deny"),
        ("allow", 0, "allow"),
        ("allow", 200_000, "allow"),
        ("allow", 200_001, "deny"),
    ],
)
def test_a_failure_without_a_decision(on_error: OnError, size: int, action: str) -> None:
    verdict = verdict_on_failure(on_error, "deadline", None, late_over_bytes=size)
    assert verdict["action"] == action
    assert verdict["magistrate"]["failure"] == "deadline"
    assert "reference_id" not in verdict
