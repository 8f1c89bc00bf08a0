"""What was seen to fail in the nearest peer (openai-guardrails 0.3.6), run against ours.

One test a row of the notes on it, named after the row; its docstring says what the peer did.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import anthropic
import httpx2
import pytest

from edges import CLAUSE, FLAVOURS, STREAMS, STRUCTURED, SURFACES, asking, both, edge
from magistrate import Blocked, Moderation, ModerationUnavailable
from magistrate.testing import (
    JudgeReply,
    JudgeScript,
    LatencyProfile,
    ScriptedJudge,
    Simulator,
    empty,
    error,
    fails_with,
    finds,
    garbage,
    refuses,
    slow,
    structured,
    text,
    tool_use,
    when_judging,
)
from pairs import pairs
from server_side import Batches

BAD = "violating-words"
JUDGE = JudgeScript(when_judging(BAD, finds(CLAUSE)))
LOOKUP = {"name": "lookup", "description": "Looks up.", "input_schema": {"type": "object"}}
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()


@both
def test_with_options_and_copy(flavour: str) -> None:
    """The peer's clients raise TypeError: the copy is made without its own required argument."""
    sim = Simulator(text("hello"), judge=JUDGE)
    with edge(flavour, sim, settings={"input_check": "before"}) as at:
        for copied in (at.client.with_options(timeout=5), at.client.copy()):
            assert type(copied) is type(at.client)
            assert at.run(copied.messages.create(**asking("hi"))).content[0].text == "hello"
            refused = at.run(copied.messages.create(**asking(BAD)))
            assert refused.stop_reason == "refusal"
    assert len(sim.api_requests) == 2


@both
@pytest.mark.parametrize("surface", SURFACES)
def test_raw_streaming_response_parse_and_stream(surface: str, flavour: str) -> None:
    """On the peer's chat completions these are AttributeErrors: its wrapper has only `create`."""
    sim = Simulator(structured({"said": "hello"}) if surface in STRUCTURED else text("hello"))
    with edge(flavour, sim) as at:
        got = at.ask(surface, asking("hi"))
        assert got.error is None
        assert "hello" in got.text


@both
@pytest.mark.parametrize("accessor", ["with_raw_response", "with_streaming_response"])
def test_the_raw_accessor_of_the_whole_client(accessor: str, flavour: str) -> None:
    """The peer's guarded client has none; nor list, cancel or input items on its resources."""
    sim = Simulator(text("hello"), judge=JUDGE)
    with edge(flavour, sim) as at:
        messages = getattr(at.client, accessor).messages
        for said, expected in (("hi", "end_turn"), (BAD, "refusal")):
            if accessor == "with_raw_response":
                response = at.run(messages.create(**asking(said)))
                assert at.run(response.parse()).stop_reason == expected
            else:
                with at.opened(messages.create(**asking(said))) as response:
                    assert at.run(response.parse()).stop_reason == expected
        assert [decision.action for decision in at.decisions()] == ["allow", "block"]


@both
@pytest.mark.parametrize("call", ["retrieve", "cancel", "delete"])
def test_list_cancel_and_their_like(call: str, flavour: str) -> None:
    """Beside what is judged, the peer's wrapped resources lose the methods that need no judge."""
    with edge(flavour, Simulator(), http_client=_batches(flavour, Batches())) as at:
        method = getattr(at.client.messages.batches, call)
        assert at.run(method("msgbatch_1")).id == "msgbatch_1"
        assert at.decisions() == []


def _batches(flavour: str, server: Batches) -> Any:
    transport = httpx2.MockTransport(server)
    if flavour == "sync":
        return httpx2.Client(transport=transport)
    return httpx2.AsyncClient(transport=transport)


@both
@pytest.mark.parametrize("surface", ["beta.create", "beta.stream", "beta.parse", "tool_runner"])
def test_beta_is_judged(surface: str, flavour: str) -> None:
    """The peer hands out the plain client's `beta`: all of it works, and none of it is judged."""
    sim = Simulator(text("hello"), judge=JUDGE)
    with edge(flavour, sim, settings={"input_check": "before"}) as at:
        assert at.ask(surface, asking(BAD)).body["stop_reason"] == "refusal"
        assert at.decision().action == "block"
    assert sim.api_requests == []


@both
@pytest.mark.parametrize("beta", [False, True])
def test_batches_are_judged(beta: bool, flavour: str) -> None:
    """The peer's `client.batches` is the plain client's: it works, unjudged."""
    server = Batches()
    judge = ScriptedJudge(ScriptedJudge.finding(BAD, CLAUSE))
    moderation = Moderation({"version": 1}, judge=judge)
    http = _batches(flavour, server)
    with edge(flavour, Simulator(), moderation=moderation, http_client=http) as at:
        messages = at.client.beta.messages if beta else at.client.messages
        entries: Any = [{"custom_id": said, "params": asking(said)} for said in ("hi", BAD)]
        with pytest.raises(Blocked) as caught:
            at.run(messages.batches.create(requests=entries))
        assert list(caught.value.entries) == [BAD]
    assert server.made == []


@both
def test_results_are_of_the_sdks_own_types(flavour: str) -> None:
    """The peer returns wrappers that are no ChatCompletion, and bare generators for streams."""
    sim = Simulator(text("hello"))
    with edge(flavour, sim) as at:
        message = at.run(at.client.messages.create(**asking("hi")))
        assert isinstance(message, anthropic.types.Message)
        assert type(message) is anthropic.types.Message
        stream = at.run(at.client.messages.create(**asking("hi"), stream=True))
        assert type(stream) is (anthropic.Stream if flavour == "sync" else anthropic.AsyncStream)
        assert stream.response.status_code == 200
        with at.opened(stream) as events:
            kinds = [item.type for item in at.items(events)]
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
        assert stream.response.is_closed


FAILURES: dict[str, tuple[JudgeReply, str]] = {
    "refuses": (refuses(), "refused"),
    "returns nothing": (empty(), "unparseable"),
    "returns malformed JSON": (garbage(), "unparseable"),
    "gets HTTP 400": (fails_with(error(400)), "unsupported"),
}


@pairs(flavour=FLAVOURS, stage=["input", "output"], surface=["create", "stream"], name=FAILURES)
def test_a_judge_that_refuses_or_answers_nonsense(
    name: str, surface: str, stage: Any, flavour: str
) -> None:
    """With the peer each of the four lets the request pass: an error counts as safe."""
    reply, reason = FAILURES[name]
    sim = Simulator(text("an-answer"), judge=JudgeScript(when_judging("", reply, stage=stage)))
    with edge(flavour, sim) as at:
        got = at.ask(surface, asking(BAD))
        assert type(got.error) is ModerationUnavailable
        assert "an-answer" not in got.seen
        failures = {(f.stage, f.reason) for f in at.decision().judge_failures}
        assert failures == {(stage, reason)}


@both
@pytest.mark.parametrize("surface", ["create", "stream"])
def test_an_input_that_is_blocked_first_costs_no_model_call(surface: str, flavour: str) -> None:
    """The peer's check trips after 0.07 s, but its main call was made and runs to its end."""
    sim = Simulator(text("hello"), judge=JUDGE)
    with edge(flavour, sim, settings={"input_check": "before"}) as at:
        assert at.ask(surface, asking(BAD)).body["stop_reason"] == "refusal"
        assert at.decision().upstream == "not_sent"
    assert sim.api_requests == []


@both
def test_an_input_that_is_blocked_beside_cuts_the_model_call(flavour: str) -> None:
    """The same with both calls under way: ours does not pay for the rest of the answer."""
    judge = JudgeScript(when_judging(BAD, slow(0.07, finds(CLAUSE)), stage="input"))
    long = LatencyProfile(per_event_s=0.2)
    sim = Simulator(text("word " * 400), judge=judge, profile=long)
    with edge(flavour, sim) as at:
        began = time.monotonic()
        got = at.ask("stream", asking(BAD))
        assert got.body["stop_reason"] == "refusal"
        assert "word" not in got.seen
        assert at.decision().upstream == "cancelled"
        assert time.monotonic() - began < 10, "the whole answer would take 20 s"
    assert sim.settle()
    assert [request.closed_early for request in sim.api_requests] == [True]


@both
@pytest.mark.parametrize("surface", sorted(STREAMS - STRUCTURED))
def test_flagged_streamed_output(surface: str, flavour: str) -> None:
    """The peer delivers all six text chunks before its tripwire."""
    sim = Simulator(text(*[f"{BAD} part {number}. " for number in range(6)]), judge=JUDGE)
    with edge(flavour, sim) as at:
        got = at.ask(surface, asking("hi"))
        assert got.error is None
        assert got.body["stop_reason"] == "refusal"
        assert "part" not in got.seen
        assert BAD not in got.seen


@both
@pytest.mark.parametrize("surface", ["create", "create(stream=True)", "stream", "beta.stream"])
def test_a_streamed_tool_call_with_violating_arguments(surface: str, flavour: str) -> None:
    """The peer makes no judge call at all for it."""
    sim = Simulator(tool_use("lookup", {"query": BAD}), judge=JUDGE)
    with edge(flavour, sim) as at:
        got = at.ask(surface, asking("hi", tools=[LOOKUP]))
        assert got.body["stop_reason"] == "refusal"
        assert all(block["type"] == "text" for block in got.body["content"])
        assert BAD not in got.seen
    judged = [request.body for request in sim.judge_requests]
    assert any(BAD in json.dumps(body) for body in judged)


@both
@pytest.mark.parametrize("surface", ["create", "stream"])
@pytest.mark.parametrize("at_block", [1, 4])
def test_a_second_answer_beside_the_first(at_block: int, surface: str, flavour: str) -> None:
    """With `n=2` the peer judges the first choice only. The Messages API has one answer of many
    blocks, so it is the later block here."""
    parts = [BAD if number == at_block else "fine words" for number in range(5)]
    sim = Simulator(text(*parts), judge=JUDGE)
    with edge(flavour, sim) as at:
        got = at.ask(surface, asking("hi"))
        assert got.body["stop_reason"] == "refusal"
        assert BAD not in got.seen


@both
def test_an_image_only_message(flavour: str) -> None:
    """The peer's judge sees an empty string, and the request passes. Ours is shown the image."""
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    turn = {"role": "user", "content": [{"type": "image", "source": source}]}
    sim = Simulator(text("hello"))
    with edge(flavour, sim) as at:
        assert at.ask("create", {**asking("hi"), "messages": [turn]}).text == "hello"
    judged = json.dumps([request.body for request in sim.judge_requests])
    assert PIXEL in judged


@both
@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "container_upload", "file_id": "file_1"},
    ],
    ids=["document", "image", "image by url", "container upload"],
)
def test_a_file_part(block: Any, flavour: str) -> None:
    """The peer's judge sees an empty string, and the request passes."""
    sim = Simulator(text("hello"))
    with edge(flavour, sim, settings={"input_check": "before"}) as at:
        got = at.ask("create", {**asking("hi"), "messages": [{"role": "user", "content": [block]}]})
        assert got.body["stop_reason"] == "refusal"
        assert [item.reason for item in at.decision().uninspected] in (["file"], ["media"])
    assert sim.api_requests == []


@both
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_violating_text_twelve_messages_back(role: str, flavour: str) -> None:
    """The peer judges the last turns only: what is further back is invisible to it."""
    said = [BAD if role == "user" else "hi", BAD if role == "assistant" else "Hello."]
    call = asking(*said, *[f"turn {number}" for number in range(11)])
    sim = Simulator(text("hello"), judge=JUDGE)
    with edge(flavour, sim, settings={"input_check": "before"}) as at:
        assert at.ask("create", call).body["stop_reason"] == "refusal"
    assert sim.api_requests == []


@both
def test_violating_tool_arguments_in_the_history(flavour: str) -> None:
    """With `max_turns: 1` the peer passes them."""
    use = {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {"query": BAD}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "fine"}
    call = asking("hi", tools=[LOOKUP])
    call["messages"] += [
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    sim = Simulator(text("hello"), judge=JUDGE)
    with edge(flavour, sim, settings={"input_check": "before"}) as at:
        assert at.ask("create", call).body["stop_reason"] == "refusal"
    assert sim.api_requests == []


@both
@pytest.mark.parametrize("surface", sorted(STREAMS - STRUCTURED))
def test_the_results_after_a_stream(surface: str, flavour: str) -> None:
    """The peer's results object always has an empty list for the output of a stream."""
    warned = {"actions": {"default": {"output": "warn"}}}
    sim = Simulator(text(f"Well, {BAD}."), judge=JUDGE)
    with edge(flavour, sim, settings=warned) as at:
        got = at.ask(surface, asking("hi"))
        assert got.header is not None
        decision = at.moderation.decision(got.header["id"])
        assert decision.action == "warn"
        assert [(found.clause, found.stage) for found in decision.findings] == [(CLAUSE, "output")]
        assert decision.usage.judge_calls >= 2


def test_the_sync_client_inside_a_running_loop() -> None:
    """The peer's sync client runs a loop of its own, and fails where one is running."""
    sim = Simulator(text("hello"), judge=JUDGE)

    async def ask(create: Any) -> tuple[Any, Any]:
        return create(**asking("hi")), create(**asking(BAD))

    with asyncio.Runner() as runner, edge("sync", sim) as at:
        allowed, blocked = runner.run(ask(at.client.messages.create))
    assert (allowed.stop_reason, blocked.stop_reason) == ("end_turn", "refusal")
