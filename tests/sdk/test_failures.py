"""Judges that fail times upstreams that fail: each pair has the documented outcome, and no other.

A missing verdict is `ModerationUnavailable`, never a refusal and never "safe"; what upstream raises
is what the SDK raises without moderation; nothing unjudged has arrived before; nothing hangs.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx2
import pytest

from edges import CLAUSE, FLAVOURS, Edge, Got, asking, both, edge, plain
from magistrate import Finding, Moderation, ModerationUnavailable
from magistrate.testing import (
    JudgeReply,
    JudgeScript,
    LatencyProfile,
    Reply,
    ScriptedJudge,
    Simulator,
    cut,
    delayed,
    drop,
    empty,
    error,
    error_event,
    fails_with,
    finds,
    garbage,
    hang,
    html_error,
    not_json,
    prose,
    refuses,
    says,
    slow,
    stall,
    structured,
    text,
    truncated,
    when_judging,
    wrong_clause,
)
from magistrate.testing.prompt_parser import parse_prompt
from pairs import pairs

DEADLINE_S = 0.25
MARGIN_S = 5.0  # beyond the deadline: for slow machines, not for us
SECRET = "the-answer-in-full"
QUICK: dict[str, Any] = {"judge": {"deadline_s": DEADLINE_S}}
CLEAN = {"findings": [], "high_risk": [], "discloses_ai": False}

JUDGES: dict[str, tuple[JudgeReply, str]] = {
    "400": (fails_with(error(400)), "unsupported"),
    "401": (fails_with(error(401)), "error"),
    "403": (fails_with(error(403)), "error"),
    "404": (fails_with(error(404)), "error"),
    "413": (fails_with(error(413)), "too_long"),
    "429": (fails_with(error(429)), "overloaded"),
    "429, come back tomorrow": (fails_with(error(429, retry_after=86400)), "overloaded"),
    "500": (fails_with(error(500)), "error"),
    "529": (fails_with(error(529)), "overloaded"),
    "a prompt that is too long": (
        fails_with(error(400, message="prompt is too long: 250000 tokens")),
        "too_long",
    ),
    "a proxy's error page": (fails_with(html_error(502)), "error"),
    "a proxy's page": (fails_with(html_error(200)), "unparseable"),
    "no JSON": (fails_with(not_json()), "unparseable"),
    "refuses": (refuses("bio"), "refused"),
    "truncated": (truncated(), "truncated"),
    "prose": (prose(), "unparseable"),
    "a reply that is too deep": (prose("[" * 200_000), "unparseable"),
    "a reply that is huge": (prose("words " * 300_000), "unparseable"),
    "garbage": (garbage(), "unparseable"),
    "empty": (empty(), "unparseable"),
    "a clause of its own": (wrong_clause(), "unparseable"),
    "a list": (says([CLEAN]), "unparseable"),
    "a field too few": (says({"findings": []}), "unparseable"),
    "a field too many": (says({**CLEAN, "safe": True}), "unparseable"),
    "a grade of its own": (
        says({**CLEAN, "findings": [{"clause": CLAUSE, "grade": "sure", "severity": "high"}]}),
        "unparseable",
    ),
    "a tool call": (text(stop_reason="tool_use"), "unparseable"),
    "too slow": (slow(9), "timeout"),
    "silent": (fails_with(hang(9)), "timeout"),
    "stuck half way": (fails_with(stall(structured(CLEAN), seconds=9)), "timeout"),
    "gone at once": (fails_with(hang(0)), "error"),
    "gone half way": (fails_with(drop(structured(CLEAN))), "error"),
    "cut short": (fails_with(cut(structured(CLEAN))), "unparseable"),
}


# These wait for the deadline, as others of the table do.
_ALIKE = frozenset({"403", "404", "429", "a proxy's error page", "too slow", "gone half way"})
SOME_OR_ALL = [
    pytest.param(name, marks=pytest.mark.slow) if name in _ALIKE else name for name in JUDGES
]


@contextmanager
def prompt(seconds: float = DEADLINE_S) -> Iterator[None]:
    """Fails if what happens inside takes much longer than that."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds + MARGIN_S


def failing(name: str, stage: str) -> JudgeScript:
    return JudgeScript(when_judging("", JUDGES[name][0], stage=stage))  # type: ignore[arg-type]


def check_the_record(at: Edge, got: Got) -> None:
    """`unavailable` is on record if and only if the caller was told so; a block names its cause."""
    words = {decision.action for decision in at.decisions()}
    assert ("unavailable" in words) == isinstance(got.error, ModerationUnavailable)
    for decision in at.decisions():
        if decision.action == "block":
            assert decision.findings or decision.uninspected
        if decision.action == "unavailable":
            assert decision.judge_failures


def check_unavailable(at: Edge, got: Got, stage: str, reason: str) -> None:
    """The one thing that a missing judge comes to."""
    assert type(got.error) is ModerationUnavailable
    decision = got.error.decision
    assert decision is not None
    assert decision == at.moderation.decision(decision.id)
    assert decision.action == "unavailable"
    assert {(failure.stage, failure.reason) for failure in decision.judge_failures} == {
        (stage, reason)
    }
    assert decision.findings == ()
    assert f"no judge was available: {stage} judge {reason}" in str(got.error)
    check_the_record(at, got)
    assert SECRET not in got.seen
    assert "refusal" not in got.seen
    assert got.error.__cause__ is None


@pairs(flavour=FLAVOURS, name=SOME_OR_ALL, surface=["create", "stream"], stage=["input", "output"])
def test_a_missing_verdict_is_never_taken_for_one(
    name: str, stage: str, surface: str, flavour: str
) -> None:
    """And the SDK does not ask the model again for it."""
    sim = Simulator(text(SECRET), judge=failing(name, stage))
    with edge(flavour, sim, settings=QUICK, max_retries=2) as at:
        with prompt():
            got = at.ask(surface, asking("hi"))
        check_unavailable(at, got, stage, JUDGES[name][1])
        assert len(at.decisions()) == 1
    assert len(sim.api_requests) == 1 if stage == "output" else len(sim.api_requests) <= 1


@both
@pytest.mark.parametrize("name", ["refuses", "529", "silent", "gone half way", "a proxy's page"])
def test_a_judge_that_fails_half_way_through_a_stream_ends_it_there(
    name: str, flavour: str
) -> None:
    script = JudgeScript(when_judging(SECRET, JUDGES[name][0], stage="output"))
    sim = Simulator(text("Good words. " * 60 + SECRET + " and more." * 10), judge=script)
    with edge(flavour, sim, settings=QUICK) as at:
        with prompt():
            got = at.ask("stream", asking("hi"))
        check_unavailable(at, got, "output", JUDGES[name][1])
        assert "Good words." in got.seen
        assert "message_stop" not in got.seen


ANY_SURFACE = [
    "create",
    "stream",
    pytest.param("create(stream=True)", marks=pytest.mark.slow),
    pytest.param("with_raw_response", marks=pytest.mark.slow),
]


# --- upstreams that fail --------------------------------------------------------------------------

LONG = "Word after word after word. " * 30
UPSTREAMS: dict[str, tuple[Callable[[], list[Reply]], dict[str, Any]]] = {
    **{
        str(status): (lambda status=status: [error(status, retry_after=0.001)] * 3, {})
        for status in (400, 401, 403, 404, 413, 429, 500, 529)
    },
    "529, then an answer": (
        lambda: [error(529, retry_after=0.001), error(500, retry_after=0.001), text(LONG)],
        {},
    ),
    "an error page": (lambda: [html_error(502)], {"max_retries": 0}),
    "a redirect to nowhere": (lambda: [html_error(302)], {"max_retries": 0}),
    "cut": (lambda: [cut(text(LONG), after_events=20)], {"max_retries": 0}),
    "cut at once": (lambda: [cut(text(LONG), after_events=0)], {"max_retries": 0}),
    "dropped": (lambda: [drop(text(LONG), after_events=20)], {"max_retries": 0}),
    "dropped at the end": (lambda: [drop(text(LONG), after_events=-1)], {"max_retries": 0}),
    "an error event": (lambda: [error_event(text(LONG), after_events=20)], {"max_retries": 0}),
    "an error event at once": (
        lambda: [error_event(text(LONG), after_events=0)],
        {"max_retries": 0},
    ),
    "gone": (lambda: [hang(0)], {"max_retries": 0}),
    "silent": (lambda: [hang(9)], {"max_retries": 0, "timeout": 0.15}),
    "stuck half way": (
        lambda: [stall(text(LONG), after_events=20, seconds=9)],
        {"max_retries": 0, "timeout": 0.15},
    ),
    "late": (lambda: [delayed(text(LONG), 0.1)], {}),
}
# In the middle of a JSON body these leave half of it, which nobody can judge.
HALVED = frozenset({"cut", "cut at once"})


def told(got: Got) -> tuple[Any, ...]:
    """What the application learns of how a call ended."""
    if got.error is None:
        return (got.body.get("stop_reason"), got.text)
    status = getattr(got.error, "status_code", None)
    said = re.sub(r"req_sim_\d+", "", str(got.error))  # the simulator counts judges' requests too
    return (type(got.error), status, getattr(got.error, "type", None), said)


@pairs(flavour=FLAVOURS, surface=ANY_SURFACE, name=UPSTREAMS)
def test_upstream_fails_as_it_does_without_moderation(
    name: str, surface: str, flavour: str
) -> None:
    """The same exception after the same attempts; and a verdict serves all attempts of a call."""
    replies, options = UPSTREAMS[name]
    options = {"max_retries": 2, **options}
    if name in HALVED and surface in ("create", "with_raw_response"):
        return
    bare = Simulator(replies())
    with plain(flavour, bare, **options) as at:
        expected = at.ask(surface, asking("hi"))
    sim = Simulator(replies())
    with edge(flavour, sim, **options) as at:
        with prompt():
            got = at.ask(surface, asking("hi"))
        assert told(got) == told(expected)
        assert len(at.decisions()) == len(sim.api_requests)
        assert {decision.action for decision in at.decisions()} == {"allow"}
        assert "not_sent" not in {decision.upstream for decision in at.decisions()}
    assert len(sim.api_requests) == len(bare.api_requests)
    stages = [parse_prompt(r.body or {}).stage for r in sim.judge_requests]  # type: ignore[union-attr]
    assert stages.count("input") == 1
    assert expected.text.startswith(got.text)


JSON_TYPE = "application/json"
NO_ANSWERS: dict[str, tuple[int, str, bytes]] = {
    "a page": (200, "text/html", b"<html>\n\n<title>SECRET</title>\n\n</html>\n\n"),
    "a page that is called JSON": (200, JSON_TYPE, b"<html>\n\nSECRET\n\n</html>\n\n"),
    "nothing": (200, JSON_TYPE, b""),
    "nothing of no type": (200, "", b""),
    "no content": (204, "", b""),
    "an empty object": (200, JSON_TYPE, b"{}"),
    "half of one": (200, JSON_TYPE, b'{"type": "message", "content": [{"text": "SECRET'),
    "an error": (200, JSON_TYPE, b'{"type": "error", "error": {"message": "SECRET"}}'),
    "another object": (200, JSON_TYPE, b'{"choices": [{"text": "SECRET"}]}'),
    "a word": (200, JSON_TYPE, b'"SECRET"'),
    "null": (200, JSON_TYPE, b"null"),
    "too deep": (200, JSON_TYPE, b'{"content": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "bytes that are no text": (200, JSON_TYPE, b"\xff\xfe SECRET"),
}


@contextmanager
def answering(
    flavour: str, status: int, kind: str, data: bytes, *, moderated: bool
) -> Iterator[Edge]:
    """A client whose upstream answers every request of the application with these bytes."""
    sim = Simulator()
    judges = sim.http_client() if flavour == "sync" else sim.async_http_client()

    class Upstream(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
        def answer(self, request: httpx2.Request) -> httpx2.Response | None:
            if parse_prompt(json.loads(request.content)) is not None:
                return None
            headers = {"content-type": kind} if kind else {}
            return httpx2.Response(status, headers=headers, content=data, request=request)

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            return self.answer(request) or judges._transport.handle_request(request)  # type: ignore[union-attr, return-value]

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            found = self.answer(request)
            return found or await judges._transport.handle_async_request(request)  # type: ignore[union-attr]

    kind_of_client: Any = httpx2.Client if flavour == "sync" else httpx2.AsyncClient
    client = kind_of_client(transport=Upstream())
    with (edge if moderated else plain)(flavour, sim, http_client=client) as at:
        yield at


@pairs(flavour=FLAVOURS, surface=["create", "with_raw_response", "parse"], name=NO_ANSWERS)
def test_a_response_that_is_no_answer_is_an_upstream_error(
    name: str, surface: str, flavour: str
) -> None:
    """Ours never dresses it as a verdict: it raises what the SDK raises. Where the SDK hands on
    something that is no message, it raises the SDK's error for data that is not valid. It was a
    refusal before, which told the application that its user had asked for something forbidden.
    """
    status, kind, data = NO_ANSWERS[name]
    with answering(flavour, status, kind, data, moderated=False) as at:
        expected = at.ask("create", asking("hi")).error
    with answering(flavour, status, kind, data, moderated=True) as at:
        got = at.ask(surface, asking("hi"))
        assert "SECRET" not in got.seen
        assert "SECRET" not in repr(vars(got.error))
        if isinstance(expected, ValueError) and not isinstance(expected, UnicodeDecodeError):
            assert type(got.error) is type(expected)
        else:
            assert isinstance(
                got.error, anthropic.APIResponseValidationError | json.JSONDecodeError
            )
        assert at.decision().action == "allow"
        assert at.decision().uninspected == ()
        assert at.decision().upstream == "completed"


@pairs(
    flavour=FLAVOURS,
    surface=["stream", "create(stream=True)", "with_streaming_response(stream)"],
    name=["a page", "a page that is called JSON", "another object"],
)
def test_a_stream_that_is_none_is_an_upstream_error(name: str, surface: str, flavour: str) -> None:
    status, kind, data = NO_ANSWERS[name]
    with answering(flavour, status, kind, data, moderated=True) as at:
        got = at.ask(surface, asking("hi"))
        assert isinstance(got.error, anthropic.APIResponseValidationError | json.JSONDecodeError)
        assert "SECRET" not in got.seen
        assert at.decision().action == "allow"


STREAM_BEGINS = b"""event: message_start
data: {"type": "message_start", "message": {"id": "m", "content": [], "usage": {}}}

event: content_block_start
data: {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "fine"}}

"""
STREAM_ENDS = b"""event: content_block_stop
data: {"type": "content_block_stop", "index": 0}

event: message_stop
data: {"type": "message_stop"}

"""
FRAMES = {
    "a name": b"event: content_block_delta\n\n",
    "a retry": b"retry: 3000\n\n",
    "an id": b"id: 7\n\n",
    "no data": b"event: ping\ndata:\n\n",
    "an end of another API": b"data: [DONE]\n\n",
    "null without a name": b"data: null\n\n",
    "an object without a name": b"data: {}\n\n",
    "a comment": b": keep-alive\n\n",
    "words without a name": b"data: {half\n\n",
    "no JSON": b'event: content_block_delta\ndata: {"SECRET\n\n',
    "no JSON of an unknown name": b"event: novelty\ndata: SECRET\n\n",
    "no JSON for a ping": b"event: ping\ndata: half\n\n",
    "an error that is no JSON": b"event: error\ndata: busy\n\n",
}


@pairs(flavour=FLAVOURS, surface=["create(stream=True)", "stream"], name=FRAMES)
def test_a_frame_means_what_it_means_to_the_sdk(name: str, surface: str, flavour: str) -> None:
    """Frames that can carry nothing pass; what is no JSON is the SDK's error, never a refusal."""
    data = STREAM_BEGINS + FRAMES[name] + STREAM_ENDS
    with answering(flavour, 200, "text/event-stream", data, moderated=False) as at:
        expected = at.ask(surface, asking("hi"))
    with answering(flavour, 200, "text/event-stream", data, moderated=True) as at:
        got = at.ask(surface, asking("hi"))
        assert type(got.error) is type(expected.error)
        assert got.text == expected.text
        assert "SECRET" not in f"{got.seen} {got.error!r}"
        assert at.decision().action == "allow"


@both
@pytest.mark.parametrize("surface", ["create(stream=True)", "stream"])
def test_a_truncated_stream_stays_truncated(surface: str, flavour: str) -> None:
    """There is no `message_stop` that upstream did not send, and no made-up reason to stop."""
    sim = Simulator(cut(text(LONG), after_events=30))
    with edge(flavour, sim) as at:
        got = at.ask(surface, asking("hi"))
        assert got.error is None
        assert got.text and LONG.startswith(got.text)
        assert got.body["stop_reason"] is None
        assert "message_stop" not in got.seen
        assert at.decision().upstream == "streamed"


@both
@pytest.mark.parametrize("fault", [cut, drop, error_event])
def test_what_came_before_a_broken_end_was_judged(fault: Callable[..., Any], flavour: str) -> None:
    """The last piece of a stream that breaks is judged like any other."""
    script = JudgeScript(when_judging(SECRET, finds(CLAUSE), stage="output"))
    sim = Simulator(fault(text(f"{SECRET} and then {LONG}"), after_events=8), judge=script)
    with edge(flavour, sim) as at:
        got = at.ask("create(stream=True)", asking("hi"))
        assert SECRET not in got.seen
        assert got.error is None
        assert got.body["stop_reason"] == "refusal"


@both
def test_each_attempt_is_on_record_and_the_verdict_is_remembered(flavour: str) -> None:
    retry = error(529, retry_after=0.001)
    sim = Simulator([retry, retry, text("hello")])
    with edge(flavour, sim, max_retries=2) as at:
        assert at.ask("create", asking("hi")).text == "hello"
        calls = [decision.usage.judge_calls for decision in at.decisions()]
        assert calls == [1, 0, 1]
    assert len(sim.api_requests) == 3
    assert len(sim.judge_requests) == 2


# --- both at once ---------------------------------------------------------------------------------

SOME_UPSTREAMS = ["529", "an error page", "cut", "dropped", "an error event", "gone", "silent"]


def check_both(flavour: str, surface: str, judge: str, stage: str, upstream: str) -> None:
    replies, options = UPSTREAMS[upstream]
    sim = Simulator(replies(), judge=failing(judge, stage))
    with edge(flavour, sim, settings=QUICK, **{"max_retries": 2, **options}) as at:
        with prompt(DEADLINE_S + 0.6):
            got = at.ask(surface, asking("hi"))
        check_the_record(at, got)
        reached = "Word" in "".join(got.seen)
        if stage == "input":
            check_unavailable(at, got, stage, JUDGES[judge][1])
            assert len(sim.api_requests) <= 1
        elif isinstance(got.error, ModerationUnavailable):
            check_unavailable(at, got, stage, JUDGES[judge][1])
        elif got.error is not None:
            assert isinstance(
                got.error, anthropic.APIError | httpx2.HTTPError | json.JSONDecodeError
            )
        else:
            assert not got.text
            assert got.body.get("stop_reason") != "refusal"
        assert not reached


@pairs(
    flavour=FLAVOURS,
    surface=["create", "stream"],
    stage=["input", "output"],
    upstream=SOME_UPSTREAMS,
    judge=["refuses", pytest.param("silent", marks=pytest.mark.slow)],
)
def test_both_may_fail_at_once(
    judge: str, upstream: str, stage: str, surface: str, flavour: str
) -> None:
    check_both(flavour, surface, judge, stage, upstream)


@pytest.mark.exhaustive
@both
@pytest.mark.parametrize("surface", ["create", "create(stream=True)"])
@pytest.mark.parametrize("stage", ["input", "output"])
@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("judge", JUDGES)
def test_every_pair_may_fail_at_once(
    judge: str, upstream: str, stage: str, surface: str, flavour: str
) -> None:
    if upstream in ("late", "529, then an answer") and stage == "output":
        stage = "input"  # those answer in the end: a case of the first table
    check_both(flavour, surface, judge, stage, upstream)


# --- on a real port -------------------------------------------------------------------------------

PORT_CASES: dict[str, tuple[Reply, JudgeReply | None, str | None, type[Exception] | None]] = {
    "all is well": (text(LONG), None, None, None),
    "judge silent": (text(LONG), fails_with(hang(9)), "input", ModerationUnavailable),
    "judge silent on the answer": (
        text(LONG),
        fails_with(hang(9)),
        "output",
        ModerationUnavailable,
    ),
    "judge stuck": (
        text(LONG),
        fails_with(stall(structured(CLEAN), seconds=9)),
        "input",
        ModerationUnavailable,
    ),
    "judge gone": (text(LONG), fails_with(hang(0)), "input", ModerationUnavailable),
    "judge gone half way": (
        text(LONG),
        fails_with(drop(structured(CLEAN))),
        "output",
        ModerationUnavailable,
    ),
    "judge page": (text(LONG), fails_with(html_error(502)), "input", ModerationUnavailable),
    "judge refuses": (text(LONG), refuses(), "output", ModerationUnavailable),
    "upstream dropped": (drop(text(LONG), after_events=20), None, None, Exception),
    "upstream gone": (hang(0), None, None, anthropic.APIConnectionError),
    "upstream silent": (hang(9), None, None, anthropic.APITimeoutError),
    "upstream overloaded": (error(529), None, None, anthropic.APIStatusError),
    "upstream silent, judge silent": (hang(9), fails_with(hang(9)), "input", ModerationUnavailable),
    "upstream stuck, judge refuses": (
        stall(text(LONG), after_events=10, seconds=9),
        refuses(),
        "input",
        ModerationUnavailable,
    ),
}


@pairs(
    flavour=FLAVOURS,
    surface=[pytest.param("create", marks=pytest.mark.slow), "stream"],
    name=PORT_CASES,
)
def test_the_same_holds_on_a_real_connection(name: str, surface: str, flavour: str) -> None:
    reply, judge, stage, expected = PORT_CASES[name]
    script = JudgeScript(when_judging("", judge, stage=stage)) if judge else None  # type: ignore[arg-type]
    sim = Simulator(reply, judge=script)
    settings = QUICK if judge else {}
    with (
        sim.serve() as url,
        edge(flavour, sim, settings=settings, url=url, timeout=0.5) as at,
        prompt(1.0),
    ):
        got = at.ask(surface, asking("hi"))
        check_the_record(at, got)
        if expected is None:
            assert got.error is None
            assert got.text == LONG
        else:
            assert isinstance(got.error, expected)
            assert not isinstance(got.error, AssertionError | KeyError | AttributeError)
        if judge:
            assert "Word" not in got.seen
            assert "refusal" not in got.seen


# --- what the settings may open -------------------------------------------------------------------

OPEN: dict[str, Any] = {"judge": {"deadline_s": DEADLINE_S, "on_failure": {"input": "allow"}}}
OUTAGES = frozenset({"timeout", "overloaded", "error"})


@pairs(
    flavour=FLAVOURS,
    surface=[pytest.param("create", marks=pytest.mark.slow), "stream"],
    name=SOME_OR_ALL,
)
def test_only_an_outage_of_the_inputs_judge_may_be_passed_over(
    name: str, surface: str, flavour: str
) -> None:
    """The answer is then judged together with its question. What content can cause stays closed."""
    sim = Simulator(text(SECRET), judge=failing(name, "input"))
    with edge(flavour, sim, settings=OPEN) as at:
        with prompt():
            got = at.ask(surface, asking("hi"))
        reason = JUDGES[name][1]
        if reason not in OUTAGES:
            check_unavailable(at, got, "input", reason)
            return
        assert got.error is None
        assert got.text == SECRET
        assert at.decision().action == "allow"
        assert [failure.reason for failure in at.decision().judge_failures] == [reason]
        answer = parse_prompt(sim.judge_requests[-1].body or {})
        assert answer is not None
        assert [(part.text, part.judged) for part in answer.parts] == [("hi", True), (SECRET, True)]


@both
@pytest.mark.parametrize("surface", ["create", "stream"])
def test_a_bad_question_that_got_past_a_missing_judge_is_found_with_its_answer(
    surface: str, flavour: str
) -> None:
    script = JudgeScript(
        when_judging("bad-question", fails_with(error(529)), stage="input"),
        when_judging("bad-question", finds(CLAUSE), stage="output"),
    )
    sim = Simulator(text(SECRET), judge=script)
    with edge(flavour, sim, settings=OPEN) as at:
        got = at.ask(surface, asking("bad-question"))
        assert got.error is None
        assert got.body["stop_reason"] == "refusal"
        assert SECRET not in got.seen
        (found,) = at.decision().findings
        assert (found.stage, found.path) == ("output", "messages[0].content")


@both
def test_an_open_input_does_not_open_what_can_act(flavour: str) -> None:
    sim = Simulator(text(SECRET), judge=failing("529", "input"))
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    with edge(flavour, sim, settings=OPEN) as at:
        got = at.ask("create", asking("hi", tools=tools))
        check_unavailable(at, got, "input", "overloaded")
    assert sim.api_requests == []


@both
def test_an_open_input_does_not_open_the_answer(flavour: str) -> None:
    sim = Simulator(text(SECRET), judge=JudgeScript(when_judging("", fails_with(error(529)))))
    with edge(flavour, sim, settings=OPEN) as at:
        got = at.ask("create", asking("hi"))
        assert type(got.error) is ModerationUnavailable
        assert SECRET not in got.seen
        assert (at.decision().action, at.decision().stage) == ("unavailable", "output")
        stages = [failure.stage for failure in at.decision().judge_failures]
        assert stages == ["input", "output"]


# --- judges of the user's own ---------------------------------------------------------------------


def _raise(error: BaseException) -> Any:
    raise error


USER_JUDGES: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: None, "error"),
    "a string": (lambda: "safe", "error"),
    "a clause that is none": (
        lambda: ScriptedJudge.verdict(Finding("a.b", "likely", "high", "input", "x")),
        "error",
    ),
    "a grade that is none": (
        lambda: ScriptedJudge.verdict(Finding(CLAUSE, "LIKELY", "high", "input", "x")),  # type: ignore[arg-type]
        "error",
    ),
    "a bug": (lambda: _raise(KeyError(SECRET)), "error"),
    "an SDK error": (lambda: _raise(anthropic.APIConnectionError(request=_REQUEST)), "error"),
    "a timeout": (lambda: _raise(TimeoutError()), ""),
    "says so": (lambda: ScriptedJudge.unavailable("too_long"), "too_long"),
}
_REQUEST = httpx2.Request("POST", "https://example.invalid")


@both
@pytest.mark.parametrize("name", USER_JUDGES)
def test_a_judge_of_the_users_own_cannot_break_the_gate(name: str, flavour: str) -> None:
    """What is no verdict is a failure; its text stays out of the message."""
    answer, reason = USER_JUDGES[name]
    moderation = Moderation({"version": 1}, judge=ScriptedJudge(lambda _: answer()))
    sim = Simulator(text(SECRET))
    with edge(flavour, sim, moderation=moderation, max_retries=2) as at:
        got = at.ask("create", asking("hi"))
        assert type(got.error) is ModerationUnavailable
        assert SECRET not in str(got.error)
        check_the_record(at, got)
        (failure,) = at.decision().judge_failures
        assert failure.reason == reason or not reason
    assert len(sim.api_requests) <= 1


@both
def test_a_judge_that_ignores_its_deadline_is_given_up(flavour: str) -> None:
    moderation = Moderation({"version": 1, **QUICK}, judge=ScriptedJudge(delay_s=1.5))
    sim = Simulator(text(SECRET))
    with edge(flavour, sim, moderation=moderation) as at:
        started = time.monotonic()
        got = at.ask("create", asking("hi"))
        assert time.monotonic() - started < 1.4
        check_unavailable(at, got, "input", "timeout")


_SERVED = httpx2.Response(
    529, json={"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
)
_SERVED.request = _REQUEST
RAISED: dict[str, tuple[Exception, str]] = {
    "no connection": (anthropic.APIConnectionError(request=_REQUEST), "error"),
    "the SDK's timeout": (anthropic.APITimeoutError(request=_REQUEST), "timeout"),
    "a status": (anthropic.APIStatusError("busy", response=_SERVED, body=None), "overloaded"),
    "the HTTP client's timeout": (httpx2.ReadTimeout("late", request=_REQUEST), "timeout"),
    "half an answer": (httpx2.ReadError("gone", request=_REQUEST), "error"),
    "a bug": (KeyError(SECRET), "error"),
}


@pairs(flavour=FLAVOURS, stage=["input", "output"], name=RAISED)
def test_what_is_raised_for_a_judges_call_is_the_reason(
    name: str, stage: str, flavour: str
) -> None:
    """By a middleware further in, or by the HTTP client while the answer is read."""
    error, reason = RAISED[name]

    def fails(request: Any) -> bool:
        prompt = parse_prompt(request.json)
        return prompt is not None and prompt.stage == stage

    def inner(request: Any, call_next: Any) -> Any:
        if fails(request):
            raise error
        return call_next(request)

    async def inner_async(request: Any, call_next: Any) -> Any:
        if fails(request):
            raise error
        return await call_next(request)

    sim = Simulator(text(SECRET))
    middleware = [inner if flavour == "sync" else inner_async]
    with edge(flavour, sim, settings=QUICK, middleware=middleware) as at:
        got = at.ask("create", asking("hi"))
        if name == "a bug":
            assert got.error is error, "the application's own request would fail in the same way"
        else:
            assert type(got.error) is ModerationUnavailable
        failures = {(f.stage, f.reason) for f in at.decision().judge_failures}
        assert failures == {(stage, reason)}


# --- retries of the judge -------------------------------------------------------------------------


@both
@pytest.mark.parametrize("name", ["429", "500", "529", "gone at once", "prose", "garbage"])
def test_a_judge_that_fails_once_is_asked_again(name: str, flavour: str) -> None:
    script = JudgeScript(when_judging("", JUDGES[name][0], stage="input", times=1))
    sim = Simulator(text(SECRET), judge=script)
    with edge(flavour, sim) as at:
        got = at.ask("create", asking("hi"))
        assert got.error is None
        assert got.text == SECRET
        assert at.decision().judge_failures == ()
    assert len(sim.judge_requests) == 3


@both
@pytest.mark.parametrize("name", ["400", "413", "refuses", "truncated"])
def test_a_judge_that_would_fail_again_is_not_asked_again(name: str, flavour: str) -> None:
    sim = Simulator(text(SECRET), judge=failing(name, "input"))
    with edge(flavour, sim) as at:
        assert type(at.ask("create", asking("hi")).error) is ModerationUnavailable
    assert len(sim.judge_requests) == 1


@both
def test_the_judge_waits_as_long_as_it_is_told_to(flavour: str) -> None:
    reply = fails_with(error(429, retry_after=0.3))
    sim = Simulator(text(SECRET), judge=JudgeScript(when_judging("", reply, times=1)))
    with edge(flavour, sim) as at:
        assert at.ask("create", asking("hi")).error is None
    first, second, *_ = sim.judge_requests
    assert 0.29 <= second.started - first.started < MARGIN_S


@both
def test_a_wait_beyond_the_deadline_is_not_begun(flavour: str) -> None:
    sim = Simulator(text(SECRET), judge=failing("429, come back tomorrow", "input"))
    with edge(flavour, sim, settings={"judge": {"deadline_s": 30}}) as at, prompt(0):
        assert type(at.ask("create", asking("hi")).error) is ModerationUnavailable
    assert len(sim.judge_requests) == 1


@both
def test_a_missing_verdict_is_not_remembered(flavour: str) -> None:
    script = JudgeScript(when_judging("", refuses(), stage="input", times=1))
    sim = Simulator(text(SECRET), judge=script)
    with edge(flavour, sim) as at:
        assert type(at.ask("create", asking("hi")).error) is ModerationUnavailable
        assert at.ask("create", asking("hi")).text == SECRET


@both
def test_what_a_failing_judge_quotes_goes_nowhere(flavour: str) -> None:
    """Error messages of an API may quote its input; so may a judge that chats."""
    for reply in (error(400, message=f"cannot take {SECRET}"), prose(f"I read {SECRET}")):
        sim = Simulator(text("hello"), judge=JudgeScript(when_judging("", fails_with(reply))))
        with edge(flavour, sim) as at:
            got = at.ask("create", asking(SECRET))
            assert type(got.error) is ModerationUnavailable
            assert SECRET not in str(got.error)
            assert SECRET not in repr(at.decision())


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("chunking", ["bytes:1", "bytes:7", "line", "whole", "random:3"])
def test_answers_and_verdicts_in_any_pieces_come_to_the_same(chunking: str, flavour: str) -> None:
    profile = LatencyProfile(chunking=chunking)
    script = JudgeScript(when_judging(SECRET, finds(CLAUSE), stage="output"))
    answer = text("Grüße, 你好 🎉. " * 20 + SECRET)
    sim = Simulator(answer, judge=script, profile=profile, judge_profile=profile, gzip=True)
    with edge(flavour, sim) as at:
        for surface in ("create", "stream"):
            got = at.ask(surface, asking("hi"))
            assert got.error is None
            assert got.body["stop_reason"] == "refusal"
            assert SECRET not in got.seen
