"""Every way to ask through the SDK, and every outcome: what the application gets.

One table of surfaces times one table of outcomes, over the sync and the async client.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

import magistrate
from edges import (
    CLAUSE,
    FLAVOURS,
    HEADERS,
    STREAMS,
    STRUCTURED,
    SURFACES,
    Edge,
    Got,
    asking,
    both,
    edge,
)
from magistrate import Blocked, HeldForReview, ModerationUnavailable
from magistrate.core.refusals import HEADER
from magistrate.settings import (
    DEFAULT_BLOCK_TEXT,
    DEFAULT_CHAT_DISCLOSURE,
    DEFAULT_HOLD_TEXT,
)
from magistrate.testing import (
    JudgeScript,
    Reply,
    Simulator,
    error,
    finds,
    high_risk,
    refuses,
    structured,
    text,
    tool_use,
    when_judging,
)
from pairs import pairs

BAD = "violating-words"
SECRET = "the-answer-in-full"

TYPES: dict[str, tuple[str, str]] = {
    "create": ("Message", "Message"),
    "create(stream=True)": ("Stream", "AsyncStream"),
    "stream": ("ParsedMessage", "ParsedMessage"),
    "parse": ("ParsedMessage", "ParsedMessage"),
    "stream(output_format)": ("ParsedMessage", "ParsedMessage"),
    "with_raw_response": ("Message", "Message"),
    "with_raw_response(stream)": ("Stream", "AsyncStream"),
    "with_streaming_response": ("Message", "Message"),
    "with_streaming_response(stream)": ("APIResponse", "AsyncAPIResponse"),
    "post": ("Message", "Message"),
    "post(httpx2.Response)": ("Response", "Response"),
    "beta.create": ("BetaMessage", "BetaMessage"),
    "beta.create(stream=True)": ("Stream", "AsyncStream"),
    "beta.stream": ("ParsedBetaMessage", "ParsedBetaMessage"),
    "beta.parse": ("ParsedBetaMessage", "ParsedBetaMessage"),
    "tool_runner": ("ParsedBetaMessage", "ParsedBetaMessage"),
}

CHATBOT: dict[str, Any] = {"audience": "consumer", "interface": "chatbot"}


@dataclass(frozen=True)
class Outcome:
    """One thing that can become of a question. `sent`: what the simulator may have been asked."""

    judge: JudgeScript
    action: str
    stage: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    said: str = "hi"
    answer: str = SECRET
    raises: type[Exception] | None = None
    sent: tuple[int, ...] = (1,)
    upstream: tuple[str, ...] = ("completed", "streamed", "cancelled")
    disclosure: str | None = None


BAD_INPUT = JudgeScript(when_judging(BAD, finds(CLAUSE), stage="input"))
BAD_OUTPUT = JudgeScript(when_judging(SECRET, finds(CLAUSE), stage="output"))
IN_HEALTHCARE = JudgeScript(when_judging("", high_risk("healthcare"), stage="output"))
INPUT_DOWN = JudgeScript(when_judging("", refuses(), stage="input"))
OUTPUT_DOWN = JudgeScript(when_judging("", refuses(), stage="output"))
BESIDE = {"sent": (0, 1), "upstream": ("not_sent", "cancelled", "completed")}
BEFORE = {"sent": (0,), "upstream": ("not_sent",)}

OUTCOMES: dict[str, Outcome] = {
    "allowed": Outcome(JudgeScript(), "allow", "output"),
    "warned": Outcome(BAD_OUTPUT, "warn", "output", {"actions": {"default": {"output": "warn"}}}),
    "input blocked beside": Outcome(BAD_INPUT, "block", "input", said=BAD, **BESIDE),
    "input blocked before": Outcome(
        BAD_INPUT, "block", "input", {"input_check": "before"}, BAD, **BEFORE
    ),
    "input blocked, raising": Outcome(
        BAD_INPUT,
        "block",
        "input",
        {"input_check": "before", "on_block": "raise"},
        BAD,
        raises=Blocked,
        **BEFORE,
    ),
    "output blocked": Outcome(BAD_OUTPUT, "block", "output"),
    "output blocked, raising": Outcome(
        BAD_OUTPUT, "block", "output", {"on_block": "raise"}, raises=Blocked
    ),
    "held": Outcome(
        IN_HEALTHCARE, "hold", "output", {"app": {**CHATBOT, "high_risk": ["healthcare"]}}
    ),
    "held, raising": Outcome(
        IN_HEALTHCARE,
        "hold",
        "output",
        {"app": {**CHATBOT, "high_risk": ["healthcare"]}, "on_hold": "raise"},
        raises=HeldForReview,
    ),
    "disclosed": Outcome(JudgeScript(), "allow", "output", {"app": CHATBOT}, disclosure="added"),
    "blocked and disclosed": Outcome(
        BAD_OUTPUT, "block", "output", {"app": CHATBOT}, disclosure="added"
    ),
    "no judge for the input": Outcome(
        INPUT_DOWN, "unavailable", "input", raises=ModerationUnavailable, **BESIDE
    ),
    "no judge for the input, before": Outcome(
        INPUT_DOWN,
        "unavailable",
        "input",
        {"input_check": "before"},
        raises=ModerationUnavailable,
        **BEFORE,
    ),
    "no judge for the output": Outcome(
        OUTPUT_DOWN, "unavailable", "output", raises=ModerationUnavailable
    ),
}


def settings_for(outcome: Outcome, at: Path) -> dict[str, Any]:
    """The outcome's settings, with a review store where answers may be held."""
    settings = dict(outcome.settings)
    if "high_risk" in settings.get("app", {}):
        reviewer = {"name": "dr.lee", "qualified_in": ["healthcare"]}
        settings["review"] = {"store": f"sqlite:///{at}/reviews.db", "reviewers": [reviewer]}
    return settings


def answer_for(surface: str, said: str) -> Reply:
    return structured({"said": said}) if surface in STRUCTURED else text(said)


@pairs(flavour=FLAVOURS, name=OUTCOMES, surface=SURFACES)
def test_every_surface_has_every_outcome(
    surface: str, name: str, flavour: str, tmp_path: Path
) -> None:
    outcome = OUTCOMES[name]
    sim = Simulator(answer_for(surface, outcome.answer), judge=outcome.judge)
    with edge(flavour, sim, settings=settings_for(outcome, tmp_path)) as at:
        got = at.ask(surface, asking(outcome.said))
        check_the_record(at, outcome, got)
        if outcome.raises is None:
            check_the_answer(at, surface, name, outcome, got)
        else:
            assert type(got.error) is outcome.raises
        if outcome.action in ("block", "hold", "unavailable"):
            assert SECRET not in got.seen
            assert BAD not in got.seen
            assert CLAUSE not in got.seen, "which rule it was is not for the reader"
    assert len(sim.api_requests) in outcome.sent
    assert sim.problems == []


def check_the_record(at: Edge, outcome: Outcome, got: Got) -> None:
    """The decision says what happened, and whether the provider has seen the request."""
    decision = at.decision()
    assert (decision.action, decision.stage) == (outcome.action, outcome.stage)
    assert decision.upstream in outcome.upstream
    assert (decision.upstream == "not_sent") == (not at.sim.api_requests)
    if isinstance(got.error, magistrate.ModerationError):
        assert got.error.decision is not None
        assert got.error.decision.id == decision.id
    if outcome.raises is ModerationUnavailable:
        assert [failure.stage for failure in decision.judge_failures] == [outcome.stage]
    else:
        assert decision.judge_failures == ()
    if outcome.action == "hold":
        assert decision.review_id


def check_the_answer(at: Edge, surface: str, name: str, outcome: Outcome, got: Got) -> None:
    """The type the SDK promises, our marks where they belong, and nowhere else."""
    assert got.error is None
    decision = at.decision()
    assert type(got.value).__name__.split("[")[0] == TYPES[surface][at.flavour == "async"]
    assert decision.id == (got.header or got.moderation or {})["id"]
    if surface in HEADERS:
        # An upstream stream begins before its outcome is known; ours does not.
        begins_early = surface in STREAMS and outcome.stage == "output"
        known = {"id": decision.id} if begins_early else decision.public
        assert got.header in (known, decision.public)
    if surface not in STREAMS:
        assert got.moderation == decision.public
        if isinstance(got.value, anthropic.BaseModel):
            assert got.value.moderation == decision.public  # type: ignore[attr-defined]
    said = {"block": DEFAULT_BLOCK_TEXT, "hold": DEFAULT_HOLD_TEXT}.get(outcome.action, SECRET)
    disclosed = "chatbot" in str(outcome.settings)
    if surface in STRUCTURED:
        assert decision.disclosure == ("owed" if disclosed else None)
        if outcome.action in ("block", "hold"):
            assert got.body["content"] == []
            assert got.value.parsed_output is None
        else:
            assert got.value.parsed_output.said == SECRET
    elif disclosed:
        both_texts = f"{DEFAULT_CHAT_DISCLOSURE} AI helped to prepare this answer."
        opening = both_texts if outcome.action == "hold" else DEFAULT_CHAT_DISCLOSURE
        assert decision.disclosure == "added"
        assert got.text == f"{opening}\n\n{said}"
    else:
        assert decision.disclosure is None
        assert got.text == said
    if outcome.action == "block":
        assert got.body["stop_reason"] == "refusal"
        assert got.body["stop_details"]["magistrate"] == {"decision_id": decision.id}
        assert got.body["stop_details"]["type"] == "refusal"
    else:
        assert got.body["stop_reason"] == "end_turn"
        assert not got.body.get("stop_details")


@both
@pytest.mark.parametrize("surface", sorted(STREAMS - STRUCTURED))
def test_a_stream_is_cut_where_the_answer_turns_bad(surface: str, flavour: str) -> None:
    """What was allowed before stays; nothing of the window that violates arrives."""
    answer = "Good words. " * 60 + SECRET + " and more bad words." * 10
    sim = Simulator(text(answer), judge=BAD_OUTPUT)
    with edge(flavour, sim) as at:
        got = at.ask(surface, asking("hi"))
        assert got.error is None
        assert got.text.startswith("Good words. Good words. ")
        assert got.text.endswith(DEFAULT_BLOCK_TEXT)
        assert SECRET[:8] not in got.seen
        assert got.body["stop_reason"] == "refusal"
        assert [block["type"] for block in got.body["content"]] == ["text", "text"]
        assert at.decision().action == "block"


@both
@pytest.mark.parametrize("surface", sorted(STREAMS - STRUCTURED))
def test_raising_half_way_through_a_stream_ends_it_there(surface: str, flavour: str) -> None:
    answer = "Good words. " * 60 + SECRET
    sim = Simulator(text(answer), judge=BAD_OUTPUT)
    with edge(flavour, sim, settings={"on_block": "raise"}) as at:
        got = at.ask(surface, asking("hi"))
        assert isinstance(got.error, Blocked)
        assert "Good words." in got.seen
        assert SECRET[:8] not in got.seen
        assert "message_stop" not in got.seen


@both
@pytest.mark.parametrize("surface", ["tool_runner", "create", "stream", "beta.stream"])
def test_a_blocked_tool_call_is_never_seen(surface: str, flavour: str) -> None:
    """Half a tool call looks like a whole one to an agent, so none of it may arrive."""
    call = tool_use("clock", {"note": SECRET}, text="Let me see.")
    sim = Simulator(call, judge=BAD_OUTPUT)
    tools = [] if surface == "tool_runner" else [CLOCK]
    with edge(flavour, sim) as at:
        got = at.ask(surface, asking("hi", **({"tools": tools} if tools else {})))
        assert got.error is None
        assert got.body["stop_reason"] == "refusal"
        assert all(block["type"] == "text" for block in got.body["content"])
        assert SECRET not in got.seen
    assert len(sim.api_requests) == 1


CLOCK = {"name": "clock", "description": "", "input_schema": {"type": "object", "properties": {}}}


@both
def test_an_allowed_tool_call_runs_and_its_result_is_judged(flavour: str) -> None:
    """Each turn of a tool runner is a request of its own, and judged as one."""
    sim = Simulator([tool_use("clock"), text("It is noon.")])
    with edge(flavour, sim) as at:
        got = at.ask("tool_runner", asking("what time is it?"))
        assert got.text == "It is noon."
        assert [decision.action for decision in at.decisions()] == ["allow", "allow"]
    judged = json.dumps([request.body for request in sim.judge_requests])
    assert "tool_result" in judged and "noon" in judged


@both
def test_text_stream_yields_only_what_was_allowed(flavour: str) -> None:
    sim = Simulator(text("Good words. " * 60 + SECRET), judge=BAD_OUTPUT)
    with edge(flavour, sim) as at, at.opened(at.client.messages.stream(**asking("hi"))) as stream:
        texts = list(at.items(stream.text_stream))
    assert "".join(texts).endswith(DEFAULT_BLOCK_TEXT)
    assert SECRET[:8] not in "".join(texts)


@both
def test_lines_of_a_streaming_response_are_those_of_a_valid_stream(flavour: str) -> None:
    sim = Simulator(text("hello"), judge=BAD_INPUT)
    with edge(flavour, sim) as at:
        manager = at.client.messages.with_streaming_response.create(**asking(BAD), stream=True)
        with at.opened(manager) as response:
            lines = list(at.items(response.iter_lines()))
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert events == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(line == "" or line.startswith(("event: ", "data: ")) for line in lines)


@both
def test_the_decision_of_a_stream_is_on_record_when_it_has_ended(flavour: str) -> None:
    sim = Simulator(text("Good words. " * 60))
    with edge(flavour, sim) as at:
        stream = at.run(at.client.messages.create(**asking("hi"), stream=True))
        decision_id = json.loads(stream.response.headers[HEADER])["id"]
        events = at.items(stream)
        next(events)
        with pytest.raises(KeyError):
            at.moderation.decision(decision_id)
        kinds = [item.type for item in events]
        assert kinds[-1] == "message_stop"
        assert at.moderation.decision(decision_id).action == "allow"


@both
def test_an_answer_keeps_what_upstream_sent_with_it(flavour: str) -> None:
    """Headers, ids, usage and unknown fields are the provider's."""
    sim = Simulator(text("hello", usage={"input_tokens": 77, "novel_count": 3}), gzip=True)
    with edge(flavour, sim) as at:
        response = at.run(at.client.messages.with_raw_response.create(**asking("hi")))
        message = at.run(response.parse())
        assert response.headers["request-id"] == message._request_id
        assert response.headers["anthropic-organization-id"]
        assert "content-encoding" not in response.headers
        assert message.usage.input_tokens == 77
        assert message.usage.novel_count == 3  # type: ignore[attr-defined]
        assert message.id.startswith("msg_sim_")
        assert response.http_request.url.path == "/v1/messages"
        assert response.status_code == 200


@both
def test_a_refusal_of_ours_looks_like_a_response(flavour: str) -> None:
    sim = Simulator(text("hello"), judge=BAD_INPUT)
    with edge(flavour, sim) as at:
        response = at.run(at.client.messages.with_raw_response.create(**asking(BAD)))
        assert response.status_code == 200
        assert response.http_request.method == "POST"
        assert response.url.path == "/v1/messages"
        message = at.run(response.parse())
        assert message.model == "claude-haiku-5-5"
        assert message.id == f"msg_magistrate_{at.decision().id}"
        assert message.usage.output_tokens == 0


@both
@pytest.mark.parametrize("surface", ["create", "stream", "parse"])
def test_compressed_answers_are_judged_as_what_they_say(surface: str, flavour: str) -> None:
    sim = Simulator(answer_for(surface, SECRET), judge=BAD_OUTPUT, gzip=True)
    with edge(flavour, sim) as at:
        got = at.ask(surface, asking("hi"))
        assert got.error is None
        assert got.body["stop_reason"] == "refusal"
        assert SECRET not in got.seen


@both
def test_the_judge_is_asked_without_the_callers_headers_and_betas(flavour: str) -> None:
    sim = Simulator(text("hello"))
    with edge(flavour, sim) as at:
        at.run(
            at.client.beta.messages.create(
                **asking("hi", metadata={"user_id": "u-1"}),
                betas=["files-api-2025-04-14"],
                extra_headers={"x-tenant": "acme"},
                extra_query={"trace": "1"},
            )
        )
    (api,) = sim.api_requests
    assert api.headers["x-tenant"] == "acme"
    assert "files-api-2025-04-14" in api.headers["anthropic-beta"]
    assert "trace=1" in api.path
    assert len(sim.judge_requests) == 2
    for request in sim.judge_requests:
        assert "x-tenant" not in request.headers
        assert "anthropic-beta" not in request.headers
        assert request.path == "/v1/messages"
        assert request.body is not None
        assert set(request.body) == {"model", "max_tokens", "system", "messages", "output_config"}


@both
def test_a_bare_response_that_failed_is_raised_and_retried_as_without_moderation(
    flavour: str,
) -> None:
    """With middleware the SDK hands out a bare 529 unless somebody wraps it."""
    sim = Simulator([error(529, retry_after=0.001), error(529, retry_after=0.001), text("hello")])
    with edge(flavour, sim, max_retries=2) as at:
        got = at.ask("post(httpx2.Response)", asking("hi"))
        assert got.text == "hello"
        assert type(got.value) is httpx2.Response
    assert len(sim.api_requests) == 3


@both
def test_the_judges_own_request_carries_no_betas_and_none_of_the_calls_headers(
    flavour: str,
) -> None:
    sim = Simulator(text("hello"))
    with edge(flavour, sim, default_headers={"anthropic-beta": "client-wide-2026-01-01"}) as at:
        call = asking("hi", extra_headers={"x-of-this-call": "secret"}, extra_query={"q": "1"})
        at.ask("create", call)
    (sent,) = sim.api_requests
    assert sent.headers["anthropic-beta"] == "client-wide-2026-01-01"
    assert sent.headers["x-of-this-call"] == "secret"
    assert len(sim.judge_requests) == 2
    for asked in sim.judge_requests:
        assert "anthropic-beta" not in asked.headers
        assert "x-of-this-call" not in asked.headers
        assert "q=1" not in asked.path
