"""The audit: one event per decision, of one shape, and nothing in it that was not asked for."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

import processes
from edges import CLAUSE, FLOOR, Edge, asking, both, edge
from magistrate import Finding, Moderation, ModerationUnavailable
from magistrate.testing import (
    JudgeScript,
    ScriptedJudge,
    Simulator,
    error,
    finds,
    high_risk,
    refuses,
    text,
    when_judging,
)

BAD = "violating-words"
SECRET = "the-answer-in-full"

# The contract's record, field by field, and what logging adds to it.
RECORD: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "action": (str,),
    "disclosure": (str, type(None)),
    "stage": (str,),
    "policy": (str,),
    "policy_hash": (str,),
    "settings_hash": (str,),
    "app": (str, type(None)),
    "judge": (dict,),
    "findings": (list,),
    "review_id": (str, type(None)),
    "domains": list,
    "uninspected": (list,),
    "judge_failures": (list,),
    "upstream": (str,),
    "usage": (dict,),
    "latency_ms": (float, int),
    "shadow": (str, type(None)),
    "platform": (dict, type(None)),
    "continues_blocked": (str, type(None)),
}
LINE = {"event", "level", "timestamp"}


@contextmanager
def judged(level: int = logging.INFO) -> Iterator[list[logging.LogRecord]]:
    """What an application that listens at this level hears."""
    records: list[logging.LogRecord] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, handler = logging.getLogger("magistrate"), Listening()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def events(records: list[logging.LogRecord]) -> list[dict[str, Any]]:
    found = [json.loads(record.getMessage()) for record in records]
    return [event for event in found if event["event"] == "decision"]


def _leave(at: Edge) -> None:
    stream = at.run(at.client.messages.create(**asking("hi"), stream=True))
    at.run(stream.close())


CASES: dict[str, tuple[dict[str, Any], JudgeScript | None, str, str]] = {
    "allowed": ({}, None, "hi", "allow"),
    "blocked": ({}, JudgeScript(when_judging(BAD, finds(CLAUSE))), BAD, "block"),
    "raised": (
        {"on_block": "raise"},
        JudgeScript(when_judging(BAD, finds(CLAUSE))),
        BAD,
        "block",
    ),
    "answer blocked": (
        {},
        JudgeScript(when_judging(SECRET, finds(CLAUSE))),
        "hi",
        "block",
    ),
    "warned": (
        {"actions": {"default": {"output": "warn"}}},
        JudgeScript(when_judging(SECRET, finds(CLAUSE))),
        "hi",
        "warn",
    ),
    "unavailable": ({}, JudgeScript(when_judging("", refuses("bio"))), "hi", "unavailable"),
    "held": (
        {"app": {"audience": "consumer", "interface": "chatbot", "high_risk": ["healthcare"]}},
        JudgeScript(when_judging("", high_risk("healthcare"), stage="output")),
        "hi",
        "hold",
    ),
}


@both
@pytest.mark.parametrize("surface", ["create", "stream"])
@pytest.mark.parametrize("name", CASES)
def test_every_decision_is_one_event_of_the_contracts_shape(
    name: str, surface: str, flavour: str, tmp_path: Path
) -> None:
    settings, judge, said, action = CASES[name]
    if name == "held":
        reviewer = {"name": "dr.lee", "qualified_in": ["healthcare"]}
        store = {"store": f"sqlite:///{tmp_path}/reviews.db", "reviewers": [reviewer]}
        settings = {**settings, "review": store}
    sim = Simulator(text(SECRET), judge=judge)
    with judged() as records, edge(flavour, sim, settings=settings) as at:
        at.ask(surface, asking(said))
        (event,) = events(records)
        decision = at.decision()
        record = {key: value for key, value in event.items() if key not in LINE}
        assert record == json.loads(json.dumps(decision.as_json(evidence=False)))
    assert event["action"] == action
    assert set(event) == set(RECORD) | LINE
    for field, kinds in RECORD.items():
        assert isinstance(event[field], kinds), field
    assert set(event["judge"]) == {"name", "model", "prompt_hash"}
    for found in event["findings"]:
        assert set(found) == {"clause", "grade", "severity", "stage", "path"}
    for failure in event["judge_failures"]:
        assert set(failure) == {"stage", "reason", "detail"}
    assert set(event["usage"]) == {
        "judge_calls",
        "input_tokens",
        "output_tokens",
        "cache_write_tokens",
        "cache_read_tokens",
        "cost_usd",
    }
    assert event["latency_ms"] > 0
    assert event["usage"]["judge_calls"] >= 1
    assert "\n" not in records[-1].getMessage()
    levels = {"allow": logging.INFO, "unavailable": logging.ERROR}
    assert records[-1].levelno == levels.get(action, logging.WARNING)
    assert (event["review_id"] is not None) == (action == "hold")
    assert bool(event["domains"]) == (action == "hold")


@both
def test_who_leaves_early_is_an_event_too(flavour: str) -> None:
    sim = Simulator(text("Word after word. " * 200))
    with judged() as records, edge(flavour, sim) as at:
        _leave(at)
    (event,) = events(records)
    assert (event["action"], event["upstream"]) == ("allow", "cancelled")


def test_who_leaves_before_the_verdict_is_no_outage_to_be_alarmed_by() -> None:
    sim = Simulator(text("hello"))
    moderation = Moderation({"version": 1}, judge=ScriptedJudge(delay_s=5.0))
    with judged() as records, edge("async", sim, moderation=moderation) as at:

        async def leave() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await at.client.messages.create(**asking("hi"))

        at.run(leave())
    (event,) = events(records)
    assert (event["action"], event["level"]) == ("unavailable", "warning")


@both
@pytest.mark.parametrize("surface", ["create", "stream"])
def test_a_review_store_that_is_gone_is_an_outage(
    surface: str, flavour: str, tmp_path: Path
) -> None:
    """What could not be stored waits for nobody, so it is not on record as held."""
    held, judge, said, _ = CASES["held"]
    reviewer = {"name": "dr.lee", "qualified_in": ["healthcare"]}
    store = {"store": f"sqlite:///{tmp_path}/reviews.db", "reviewers": [reviewer]}
    with (
        judged() as records,
        edge(
            flavour, Simulator(text(SECRET), judge=judge), settings={**held, "review": store}
        ) as at,
    ):
        (tmp_path / "reviews.db").unlink()
        got = at.ask(surface, asking(said))
        assert type(got.error) is ModerationUnavailable
        assert "review store: " in str(got.error)
        assert got.error.decision == at.decision()
        assert SECRET not in got.seen
    (event,) = events(records)
    assert (event["action"], event["level"]) == ("unavailable", "error")
    assert (event["review_id"], event["domains"]) == (None, [])


@both
def test_a_failed_call_and_its_retries_are_an_event_each(flavour: str) -> None:
    sim = Simulator([error(529, retry_after=0.001), text("hello")])
    with judged() as records, edge(flavour, sim, max_retries=1) as at:
        at.ask("create", asking("hi"))
    first, second = events(records)
    assert first["id"] != second["id"]
    assert [first["usage"]["judge_calls"], second["usage"]["judge_calls"]] == [1, 1]
    assert first["upstream"] == second["upstream"] == "completed"


# --- content --------------------------------------------------------------------------------------


def line_for(flavour: str, content: str, clause: str, grade: str, **more: Any) -> str:
    """The audit line of a question in which the judge found and quoted something."""
    script = JudgeScript(when_judging(BAD, finds(clause, grade=grade), stage="input"))  # type: ignore[arg-type]
    settings: dict[str, Any] = {"audit": {"content": content}, **more}
    sim = Simulator(text(SECRET), judge=script)
    with judged() as records, edge(flavour, sim, settings=settings) as at:
        at.ask("create", asking(f"some {BAD} here"))
        line = records[-1].getMessage()
        (found,) = at.decision().findings
        assert (found.evidence == BAD) is (BAD in line), "the record says what the line says"
        assert (BAD in repr(at.decision())) is (BAD in line)
        if content == "none" or clause == FLOOR:
            assert BAD not in repr(vars(at.moderation.engine.state)), (
                "nor is it kept with the verdict"
            )
    return line


@both
@pytest.mark.parametrize(
    ("content", "grade", "quoted"),
    [
        ("none", "likely", False),
        ("none", "possible", False),
        ("flagged", "likely", True),
        ("flagged", "possible", False),
        ("all", "likely", True),
        ("all", "possible", True),
    ],
)
def test_content_is_quoted_only_where_the_settings_ask(
    content: str, grade: str, quoted: bool, flavour: str
) -> None:
    line = line_for(flavour, content, CLAUSE, grade)
    assert (BAD in line) is quoted
    assert SECRET not in line
    findings = json.loads(line)["findings"]
    assert ("evidence" in findings[0]) is quoted


@both
@pytest.mark.parametrize("content", ["none", "flagged", "all"])
@pytest.mark.parametrize("grade", ["unlikely", "possible", "certain"])
def test_what_must_not_be_kept_is_never_quoted(content: str, grade: str, flavour: str) -> None:
    """Child safety: whatever the settings ask, and however unsure the judge is."""
    assert BAD not in line_for(flavour, content, FLOOR, grade)


@both
def test_one_such_finding_keeps_every_quote_out(flavour: str) -> None:
    script = JudgeScript(
        when_judging(BAD, finds(FLOOR), stage="input"),
        when_judging("other-words", finds(CLAUSE), stage="input"),
    )
    sim = Simulator(text(SECRET), judge=script)
    settings = {"audit": {"content": "all"}}
    with judged() as records, edge(flavour, sim, settings=settings) as at:
        at.ask("create", asking(f"{BAD} and other-words"))
    assert BAD not in records[-1].getMessage()
    assert "other-words" not in records[-1].getMessage()


@both
@pytest.mark.parametrize("surface", ["create", "stream", "with_raw_response"])
def test_no_line_holds_a_key_a_header_or_a_user(surface: str, flavour: str) -> None:
    sim = Simulator(text(SECRET), judge=JudgeScript(when_judging(BAD, finds(CLAUSE))))
    options: dict[str, Any] = {
        "api_key": "sk-ant-secret-1",
        "default_headers": {"x-tenant": "secret-2", "cookie": "secret-3"},
        "default_query": {"q": "secret-4"},
    }
    settings = {"audit": {"content": "all"}}
    with judged(logging.DEBUG) as records, edge(flavour, sim, settings=settings, **options) as at:
        call = asking("hi", metadata={"user_id": "secret-5"}, extra_headers={"x-a": "secret-6"})
        at.ask(surface, call)
        at.ask(surface, {**call, "messages": [{"role": "user", "content": BAD}]})
    said = "\n".join(record.getMessage() for record in records)
    assert "secret" not in said
    assert len(events(records)) == 2


@both
def test_a_failing_judges_words_are_not_in_it(flavour: str) -> None:
    sim = Simulator(text("x"), judge=lambda _: error(400, message=f"cannot take {SECRET}"))
    settings = {"audit": {"content": "all"}}
    with judged() as records, edge(flavour, sim, settings=settings) as at:
        assert type(at.ask("create", asking("hi")).error) is ModerationUnavailable
    (event,) = events(records)
    assert event["judge_failures"] == [
        {"stage": "input", "reason": "unsupported", "detail": "HTTP 400 invalid_request_error"}
    ]
    assert SECRET not in records[-1].getMessage()


@both
@pytest.mark.parametrize("words", ["a\nb", 'a"}\n{"event": "decision"', "a\x1b[31m", "a\ud800b"])
def test_a_quote_cannot_break_the_line(words: str, flavour: str, tmp_path: Path) -> None:
    """Not into two lines, not out of its JSON, and not out of what a file can hold."""

    def script(subject: Any) -> Any:
        return ScriptedJudge.verdict(
            Finding(CLAUSE, "likely", "high", subject.stage, "messages[0].content", words)
        )

    moderation = Moderation(
        {"version": 1, "audit": {"content": "all"}}, judge=ScriptedJudge(script)
    )
    path = tmp_path / "audit.log"
    handler = logging.FileHandler(path, encoding="utf-8")
    logger = logging.getLogger("magistrate")
    logger.addHandler(handler)
    try:
        with edge(flavour, Simulator(text("x")), moderation=moderation) as at:
            at.ask("create", asking("hi"))
    finally:
        logger.removeHandler(handler)
        handler.close()
    (line,) = path.read_bytes().splitlines()
    assert json.loads(line)["findings"][0]["evidence"] == words


# --- the application's logging --------------------------------------------------------------------


@both
@pytest.mark.parametrize("surface", ["create", "stream"])
def test_a_handler_that_fails_decides_nothing(surface: str, flavour: str) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("disk full")

    logger, handler = logging.getLogger("magistrate"), Broken()
    logger.addHandler(handler)
    try:
        sim = Simulator(text("hello"), judge=JudgeScript(when_judging(BAD, finds(CLAUSE))))
        with edge(flavour, sim) as at:
            logger.setLevel(logging.INFO)
            assert at.ask(surface, asking("hi")).text == "hello"
            got = at.ask(surface, asking(BAD))
            assert got.error is None
            assert got.body["stop_reason"] == "refusal"
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


@both
def test_an_applications_structlog_configuration_changes_nothing(flavour: str) -> None:
    seen: list[Any] = []

    def intruder(_logger: Any, _method: str, event: Any) -> Any:
        seen.append(event)
        raise structlog.DropEvent

    structlog.configure(processors=[intruder], cache_logger_on_first_use=True)
    try:
        sim = Simulator(text("hello"))
        with judged() as records, edge(flavour, sim) as at:
            at.ask("create", asking("hi"))
        assert len(events(records)) == 1
        assert seen == []
    finally:
        structlog.reset_defaults()


QUIET = """
    import sys
    from magistrate import Anthropic
    from magistrate.testing import Simulator, JudgeScript, finds, text, when_judging
    import structlog
    before = structlog.get_config()
    sim = Simulator(text("hello"), judge=JudgeScript(when_judging("bad", finds("%s"))))
    client = Anthropic(api_key="k", http_client=sim.http_client())
    for said in ("hi", "bad"):
        client.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": said}]
        )
    with client.messages.stream(
        model="m", max_tokens=9, messages=[{"role": "user", "content": "more"}]
    ) as stream:
        stream.get_final_message()
    assert structlog.get_config() == before
    assert not structlog.is_configured()
    import logging
    assert logging.getLogger().handlers == []
"""


def test_an_unconfigured_application_finds_no_event_on_its_streams(tmp_path: Path) -> None:
    """Only the one warning that there is no configuration of ours either, on stderr."""
    done = processes.run(QUIET % CLAUSE, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("magistrate: no configuration found")


@both
def test_shadow_mode_is_marked_in_every_event(flavour: str) -> None:
    script = JudgeScript(when_judging(SECRET, finds(CLAUSE), stage="output"))
    sim = Simulator(text(SECRET), judge=script)
    settings = {"streaming": {"release": "shadow"}}
    with judged() as records, edge(flavour, sim, settings=settings) as at:
        got = at.ask("create", asking("hi"))
        assert got.text == SECRET
    (event,) = events(records)
    assert (event["action"], event["shadow"], event["release"]) == ("allow", "block", "shadow")
    assert records[-1].levelno == logging.WARNING
