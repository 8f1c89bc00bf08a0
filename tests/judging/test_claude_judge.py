"""The Claude judge against declared replies: what it asks, when again, what it makes of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from magistrate.judging.base import ModelReply
from magistrate.judging.claude import SETTINGS_KEPT, ClaudeJudge
from magistrate.judging.plan import tasks
from magistrate.judging.prompt import Shown, show
from magistrate.judging.rubric import Rubric, make_rubric
from magistrate.settings import DEFAULT_JUDGE_MODEL, Settings
from magistrate.testing.prompt_parser import parse_prompt
from magistrate.verdicts import Failure, Outcome, Unavailable, Verdict
from magistrate.wire.parts import Part, Subject

BUNDLED = {"strategy": "bundled", "deadline_s": 2}  # one call a judgment
SETTINGS = Settings.load({"version": 1, "judge": BUNDLED})
SUBJECT = Subject("input", (Part("messages[0].content", "user", "text", "hello there"),))
FOUND = {
    "clause": "fraud_abuse.spam",
    "grade": "likely",
    "severity": "medium",
    "part": "p1",
    "quote": "hello",
}


def says(*findings: dict[str, Any], **more: Any) -> ModelReply:
    report = {"findings": list(findings), "high_risk": [], "discloses_ai": False}
    message = {
        "model": "claude-test",
        "content": [{"type": "text", "text": json.dumps(report)}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 3, "cache_read_input_tokens": 7},
    }
    return ModelReply(200, {**message, **more})


def status(code: int, retry_after_ms: int | None = 1, message: str = "") -> ModelReply:
    headers = {} if retry_after_ms is None else {"retry-after-ms": str(retry_after_ms)}
    body = {"type": "error", "error": {"type": f"error_{code}", "message": message}}
    return ModelReply(code, body, headers)


PROSE = says(content=[{"type": "text", "text": "This is safe."}])


class Flavour:
    """The judge, asked from a thread or from a task; replies are served in order."""

    def __init__(self, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        self.asked: list[dict[str, Any]] = []
        self.timeouts: list[float] = []

    async def __call__(
        self,
        *replies: ModelReply,
        settings: Settings = SETTINGS,
        subject: Subject = SUBJECT,
        one: ClaudeJudge | None = None,
        serve: Iterator[ModelReply] | None = None,
    ) -> Outcome:
        rest = iter(replies) if serve is None else serve
        lock = threading.Lock()

        def ask(body: dict[str, Any], timeout_s: float) -> ModelReply:
            with lock:
                self.asked.append(body)
                self.timeouts.append(timeout_s)
                return next(rest)

        async def ask_async(body: dict[str, Any], timeout_s: float) -> ModelReply:
            return ask(body, timeout_s)

        judge = one or ClaudeJudge()
        deadline_s = settings.judge.deadline_s
        if self.asynchronous:
            return await judge.judge_async(subject, settings, ask_async, deadline_s)
        return judge.judge(subject, settings, ask, deadline_s)


@pytest.fixture(params=["sync", "async"])
def judge(request: pytest.FixtureRequest) -> Flavour:
    return Flavour(request.param == "async")


async def test_a_good_report_is_a_verdict(judge: Flavour) -> None:
    outcome = await judge(says(FOUND))
    assert isinstance(outcome, Verdict)
    (found,) = outcome.findings
    assert (found.clause, found.path, found.evidence) == (
        "fraud_abuse.spam",
        "messages[0].content",
        "hello",
    )
    assert outcome.judge.model == "claude-test"
    assert (outcome.usage.judge_calls, outcome.usage.cache_read_tokens) == (1, 7)
    assert outcome.usage.cost_usd is None


# What is asked again, and what is not: replies in order, the outcome, how often it was asked.
ATTEMPTS: list[tuple[str, list[ModelReply], Failure | None, int]] = [
    ("overload passes", [status(529), status(429), says()], None, 3),
    ("a server error passes", [status(500), says()], None, 2),
    ("a lost connection passes", [ModelReply(0, failure="error"), says()], None, 2),
    ("prose once", [PROSE, says()], None, 2),
    ("prose twice", [PROSE, PROSE, says()], "unparseable", 2),
    ("overload stays", [status(529)] * 9, "overloaded", 4),
    ("a refusal is final", [says(stop_reason="refusal"), says()], "refused", 1),
    ("a cut reply is final", [says(stop_reason="max_tokens"), says()], "truncated", 1),
    ("too long by status", [status(413), says()], "too_long", 1),
    ("too long by message", [status(400, message="prompt is too long"), says()], "too_long", 1),
    ("an invalid request is final", [status(400), says()], "unsupported", 1),
    ("a wrong key stays wrong", [status(401), says()], "error", 1),
    ("so do missing rights", [status(403), says()], "error", 1),
    ("so does a model nobody has", [status(404), says()], "error", 1),
    ("a full context is final", [says(stop_reason="model_context_window_exceeded")], "too_long", 1),
]


@pytest.mark.parametrize(
    ("name", "replies", "failure", "times"), ATTEMPTS, ids=[row[0] for row in ATTEMPTS]
)
async def test_outages_are_tried_again_and_answers_are_not(
    name: str, replies: list[ModelReply], failure: Failure | None, times: int, judge: Flavour
) -> None:
    outcome = await judge(*replies)
    assert len(judge.asked) == times
    assert (outcome.reason if isinstance(outcome, Unavailable) else None) == failure


async def test_the_usage_of_every_attempt_counts(judge: Flavour) -> None:
    outcome = await judge(PROSE, says())
    assert (outcome.usage.judge_calls, outcome.usage.input_tokens) == (2, 20)


async def test_no_attempt_starts_that_could_not_end_before_the_deadline(judge: Flavour) -> None:
    started = time.monotonic()
    outcome = await judge(status(529, retry_after_ms=60_000), says())
    assert isinstance(outcome, Unavailable)
    assert outcome.reason == "overloaded"
    assert time.monotonic() - started < 2
    assert len(judge.asked) == 1


async def test_each_attempt_gets_what_is_left_of_the_deadline(judge: Flavour) -> None:
    await judge(status(500, retry_after_ms=300), says())
    first, second = judge.timeouts
    assert first <= 2
    assert second <= first - 0.3


async def test_the_prompt_is_schema_constrained_cached_and_without_sampling(judge: Flavour) -> None:
    await judge(says())
    (body,) = judge.asked
    assert set(body) == {"model", "max_tokens", "system", "messages", "output_config"}
    assert body["model"] == DEFAULT_JUDGE_MODEL
    assert body["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert "hello there" not in body["system"][0]["text"]
    assert body["output_config"]["format"]["type"] == "json_schema"
    assert body["output_config"]["effort"] == "low"
    parsed = parse_prompt(body)
    assert parsed is not None
    assert parsed.parts == SUBJECT.parts


def code(body: dict[str, Any]) -> str:
    return body["messages"][0]["content"][0]["text"].partition("<<<")[2].strip()


async def test_the_code_of_the_fence_is_the_same_in_a_conversation_only(judge: Flavour) -> None:
    """The prompt of the next turn must begin alike; nobody who writes in one can know its code."""
    first = SUBJECT.parts[0]
    longer = Subject("input", (first, Part("messages[2].content", "user", "text", "and?")))
    other = Subject("input", (Part("messages[0].content", "user", "text", "hi there"),))
    one = ClaudeJudge()
    for subject in (SUBJECT, longer, other):
        await judge(says(), subject=subject, one=one)
    await judge(says(), subject=SUBJECT)  # another process
    same, again, different, elsewhere = map(code, judge.asked)
    assert same == again
    assert len({same, different, elsewhere}) == 3
    assert len(same) == 32


async def test_the_code_stays_when_what_was_judged_becomes_context(judge: Flavour) -> None:
    one = ClaudeJudge()
    known = Subject("input", (replace(SUBJECT.parts[0], judged=False), SUBJECT.parts[0]))
    await judge(says(), subject=SUBJECT, one=one)
    await judge(says(), subject=known, one=one)
    assert code(judge.asked[0]) == code(judge.asked[1])


async def test_model_and_effort_come_from_the_settings(judge: Flavour) -> None:
    options = BUNDLED | {"model": "claude-other", "effort": None, "max_tokens": 999}
    await judge(says(), settings=Settings.load({"version": 1, "judge": options}))
    (body,) = judge.asked
    assert (body["model"], body["max_tokens"]) == ("claude-other", 999)
    assert "effort" not in body["output_config"]


CHANGES: list[tuple[str, Callable[[], Settings], bool]] = [
    (
        "another effort",
        lambda: Settings.load({"version": 1, "judge": BUNDLED | {"effort": "high"}}),
        True,
    ),
    (
        "another strategy",
        lambda: Settings.load({"version": 1, "judge": {"deadline_s": 2}}),
        True,
    ),
    (
        "a profile",
        lambda: Settings.load(
            {
                "version": 1,
                "judge": BUNDLED,
                "app": {"audience": "internal", "interface": "agent"},
            }
        ),
        True,
    ),
    ("nothing", lambda: Settings.load({"version": 1, "judge": BUNDLED}), False),
    (
        "another deadline",
        lambda: Settings.load({"version": 1, "judge": BUNDLED | {"deadline_s": 3}}),
        False,
    ),
]


@pytest.mark.parametrize(("name", "make", "differs"), CHANGES, ids=[row[0] for row in CHANGES])
def test_the_prompt_hash_covers_what_the_judge_is_told(
    name: str, make: Callable[[], Settings], differs: bool
) -> None:
    judge = ClaudeJudge()
    before = judge.info(SETTINGS).prompt_hash
    assert (judge.info(make()).prompt_hash != before) is differs


async def test_details_for_operators_hold_no_content(judge: Flavour) -> None:
    outcome = await judge(status(400, message="bad text: hello there"))
    assert isinstance(outcome, Unavailable)
    assert outcome.detail == "HTTP 400 error_400"


# --- several calls for one judgment ---------------------------------------------------------------


def suspects(*groups: str) -> ModelReply:
    return says(content=[{"type": "text", "text": json.dumps(screened(*groups))}])


def screened(*groups: str) -> dict[str, Any]:
    return {"suspected": list(groups), "discloses_ai": False}


def finds(*findings: dict[str, Any]) -> ModelReply:
    return says(content=[{"type": "text", "text": json.dumps({"findings": list(findings)})}])


async def test_all_rounds_of_a_judgment_share_one_deadline(judge: Flavour) -> None:
    settings = Settings.load({"version": 1, "judge": {"deadline_s": 2}})
    late = [status(500, retry_after_ms=200), suspects("elections", "fraud_abuse"), finds(), finds()]
    assert isinstance(await judge(*late, settings=settings), Verdict)
    assert len(judge.timeouts) == 4
    assert all(timeout <= judge.timeouts[0] - 0.2 for timeout in judge.timeouts[1:])


async def test_past_the_deadline_nobody_is_asked(judge: Flavour) -> None:
    settings = Settings.load({"version": 1, "judge": {"deadline_s": 0.2}})

    def dawdling() -> Iterator[ModelReply]:
        time.sleep(0.3)
        yield suspects("elections", "fraud_abuse")
        raise AssertionError("asked past the deadline")

    outcome = await judge(settings=settings, serve=dawdling())
    assert isinstance(outcome, Unavailable)
    assert outcome.reason == "timeout"
    assert outcome.usage.judge_calls == 1
    assert len(judge.asked) == 1


async def test_what_an_application_raises_is_the_same_however_many_are_asked(
    judge: Flavour,
) -> None:
    def broken() -> Iterator[ModelReply]:
        yield suspects("elections", "fraud_abuse")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await judge(settings=Settings.load({"version": 1}), serve=broken())


LONG: dict[str, tuple[Part, ...]] = {
    "a text": (Part("a", "user", "text", "x" * 30_000),),
    "a label": (Part("a", "user", "text", "hi", labels={"title": "x" * 30_000}),),
    "many parts": tuple(Part(f"a[{i}]", "user", "text", "x") for i in range(300)),
}


@pytest.mark.parametrize("name", [*LONG, "none"])
async def test_a_long_subject_is_prepared_beside_the_event_loop(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def noted(subject: Subject, *rest: Any) -> Shown:
        threads.append(threading.current_thread())
        return show(subject, *rest)

    async def ask(body: dict[str, Any], seconds: float) -> ModelReply:
        return says()

    monkeypatch.setattr("magistrate.judging.prepared.show", noted)
    subject = Subject("input", LONG[name]) if name in LONG else SUBJECT
    outcome = await ClaudeJudge().judge_async(subject, SETTINGS, ask, 60)
    assert isinstance(outcome, Verdict)
    assert [thread is threading.current_thread() for thread in threads] == [name not in LONG]


def test_rubrics_of_settings_that_are_used_no_more_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def anew(*args: Any, **task: Any) -> Rubric:
        return replace(make_rubric(*args, **task))

    monkeypatch.setattr("magistrate.judging.claude.make_rubric", anew)
    judge = ClaudeJudge()
    task = tasks(SETTINGS, "input")[0]
    first = judge.rubric(SETTINGS, task)
    for number in range(SETTINGS_KEPT):
        assert judge.rubric(SETTINGS, task) is first
        app = {"name": f"app {number}", "audience": "consumer", "interface": "chatbot"}
        judge.info(Settings.load({"version": 1, "app": app}))
    assert judge.rubric(SETTINGS, task) is first, "the one in use is kept"
    for number in range(SETTINGS_KEPT):
        app = {"name": f"another app {number}", "audience": "consumer", "interface": "chatbot"}
        judge.info(Settings.load({"version": 1, "app": app}))
    assert judge.rubric(SETTINGS, task) is not first
