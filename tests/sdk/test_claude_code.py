"""What Claude Code 2.1.332 sent to a server that refused, sent again through the clients.

`tests/data/claude-code.jsonl` was recorded on 30 November 2026 in print mode. The client's own
prompts and descriptions are replaced by short texts and most of its tools are left out; everything
else is as it was sent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edges import CLAUSE, Got, both, edge
from magistrate.settings.schema import DEFAULT_BLOCK_TEXT
from magistrate.testing import (
    JudgeScript,
    Simulator,
    continues_declined,
    finds,
    text,
    when_judging,
)
from magistrate.testing.prompt_parser import parse_prompt

FILE = Path(__file__).parents[1] / "data" / "claude-code.jsonl"
RECORDED = {said["name"]: said for said in map(json.loads, FILE.read_text("utf-8").splitlines())}
BAD = "two plus two"
# What the server of the recording answered; the client sends back what it received.
REFUSAL = "This request was declined."
RULES = (
    when_judging(BAD, finds(CLAUSE)),
    when_judging("Say hello with Bash", finds(CLAUSE), stage="input"),
    when_judging("stopped by a safety classifier", continues_declined(), stage="input"),
    when_judging("my previous question", continues_declined(), stage="input"),
)


def body(name: str, **changed: str) -> dict[str, Any]:
    """Return a recorded body, with the refusal of ours in the place of the recorded one."""
    raw = json.dumps(RECORDED[name]["body"]).replace(REFUSAL, DEFAULT_BLOCK_TEXT)
    for old, new in changed.items():
        raw = raw.replace(old.replace("_", " "), new)
    found: dict[str, Any] = json.loads(raw)
    return found | {"model": "claude-haiku-5-5"}  # the SDK warns of models that end


def ask(at: Any, name: str, **changed: str) -> Got:
    """Send a recorded request; fields that the SDK's method does not know go as extra body."""
    sent = body(name, **changed)
    named = {key: sent.pop(key) for key in ("model", "max_tokens", "messages")}
    del sent["stream"]
    return at.ask("stream", named | {"extra_body": sent})


@both
@pytest.mark.parametrize(
    "names",
    [
        ("asked", "by itself", "asked again"),
        ("asked", "by itself later"),
        ("asked an older model", "an older model, by itself"),
        ("a tool's result", "by itself after a tool's result"),
    ],
)
def test_what_it_says_by_itself_does_not_undo_a_refusal(
    names: tuple[str, ...], flavour: str
) -> None:
    sim = Simulator(text("an unrelated answer"), judge=JudgeScript(*RULES))
    with edge(flavour, sim, settings={"input_check": "before"}) as at:
        for name in names:
            got = ask(at, name)
            assert got.error is None, got.error
            assert got.body["stop_reason"] == "refusal", name
            assert got.text == DEFAULT_BLOCK_TEXT
        assert sim.api_requests == [], "the model was asked nothing"
        first, *later = at.decisions()
        assert first.continues_blocked is None
        assert [one.continues_blocked for one in later][:1] == [first.id]
        assert all(one.continues_blocked for one in later)


@both
def test_a_new_question_in_its_conversation_is_answered(flavour: str) -> None:
    sim = Simulator(text("Lima."), judge=JudgeScript(*RULES))
    with edge(flavour, sim) as at:
        ask(at, "asked")
        ask(at, "by itself")
        got = ask(at, "asked again", Answer_my_previous_question="What is the capital of Peru?")
        assert got.text == "Lima."
        assert at.decisions()[-1].action == "allow"
        (sent,) = [r for r in sim.api_requests if "Peru" in json.dumps(r.body)]
        assert BAD not in json.dumps(sent.body)


@both
def test_its_requests_pass_unchanged_and_each_turn_is_judged_once(flavour: str) -> None:
    """All of it is known to us; a moved `cache_control` or a flattened turn is judged once."""
    names = ("asked", "by itself", "asked again")
    sim = Simulator(text(DEFAULT_BLOCK_TEXT), judge=JudgeScript())
    with edge(flavour, sim) as at:
        judged: list[set[str]] = []
        for name in names:
            earlier = len(sim.judge_requests)
            got = ask(at, name)
            assert (got.error, got.text) == (None, DEFAULT_BLOCK_TEXT)
            assert at.decisions()[-1].uninspected == ()
            prompts = [parse_prompt(r.body or {}) for r in sim.judge_requests[earlier:]]
            found = [p for p in prompts if p is not None and p.stage == "input"]
            judged.append({part.text for p in found for part in p.parts if part.judged})
        assert [dict(r.body or {}) for r in sim.api_requests] == [body(name) for name in names]
        assert "What is two plus two?" in judged[0]
        assert not any("What is two plus two?" in later for later in judged[1:])
        assert "Answer my previous question." in judged[2]
        assert "[description]" not in " ".join(judged[1] | judged[2]), "definitions are judged once"
