"""One import is all that changes: an application prints the same with ours as with the SDK's."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from magistrate.settings import DEFAULT_BLOCK_TEXT
from magistrate.testing import (
    JudgeScript,
    Reply,
    Simulator,
    error,
    finds,
    hang,
    structured,
    text,
    tool_use,
    when_judging,
)

APP = Path(__file__).parents[1] / "data" / "app_plain.py"
THEIRS = "from anthropic import Anthropic, AsyncAnthropic\n"
OURS = "from magistrate import Anthropic, AsyncAnthropic\n"
STORY = "Once upon a time there was a naïve fox 🦊. " * 12


def reply(body: dict[str, Any]) -> Reply:
    """What the API says to the application, by what it was asked."""
    last = body["messages"][-1]["content"]
    asked = last if isinstance(last, str) else json.dumps(last)
    match asked:
        case "overloaded":
            return error(529, retry_after=0.001)
        case "forbidden":
            return error(403)
        case "gone":
            return hang(0)
        case "Which city?":
            return structured({"name": "Bern", "people": 134000})
        case "Tell me a story.":
            return text(STORY)
        case "How is the weather in Bern?":
            return tool_use("weather", {"city": "Bern"}, id="toolu_1", text="Let me see.")
        case _ if "tool_result" in asked:
            return text(json.loads(asked)[0]["content"])
        case _:
            return text(f"You said: {asked}")


def transcript(source: str, url: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the application prints."""
    module = types.ModuleType("app_plain")
    sys.modules["app_plain"] = module
    try:
        exec(compile(source, str(APP), "exec"), module.__dict__)
        module.main(url)
    finally:
        del sys.modules["app_plain"]
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def bodies(sim: Simulator) -> list[str]:
    """What the application sent; some of it at the same time, so in any order."""
    return sorted(json.dumps(request.body, sort_keys=True) for request in sim.api_requests)


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a deployment: the file stands beside the application."""
    (tmp_path / "magistrate.yaml").write_text("version: 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAGISTRATE_CONFIG", raising=False)


def test_an_application_prints_the_same_with_the_import_swapped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = APP.read_text(encoding="utf-8")
    assert source.count(THEIRS) == 1
    plain, moderated = Simulator(reply), Simulator(reply)
    with plain.serve() as url:
        expected = transcript(source, url, capsys)
    with moderated.serve() as url:
        got = transcript(source.replace(THEIRS, OURS), url, capsys)
    assert got == expected
    assert "status: OverloadedError 529" in got
    assert STORY in got
    assert bodies(moderated) == bodies(plain), "and sends the same"
    assert len(moderated.judge_requests) > 20
    assert plain.problems == moderated.problems == []


def test_the_same_application_gets_refusals_where_the_policy_forbids(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a line of its own for it: a refused turn is a message like any other."""
    source = APP.read_text(encoding="utf-8").replace(THEIRS, OURS)
    clause = "misinformation.conspiracy"
    sim = Simulator(reply, judge=JudgeScript(when_judging("story", finds(clause), stage="input")))
    with sim.serve() as url:
        got = transcript(source, url, capsys)
    assert "naïve fox" not in got
    assert f"chat: {DEFAULT_BLOCK_TEXT} | refusal" in got
    assert "You said: Another one." in got, "what follows is answered"
    assert "agent: It is raining in Bern." in got
