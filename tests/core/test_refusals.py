"""What the caller receives: always a valid message or stream, always marked as ours."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from anthropic.types import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.core.refusals import (
    as_stream,
    cut,
    disclosed,
    disclosing_delta,
    pending_notice,
    refusal,
    stop_details,
)
from magistrate.wire.message_builder import MessageBuilder
from magistrate.wire.sse import Decoder, Event, event
from strategies import streams

JSON = dict[str, Any]
ID = "dec_1"
TEXT = "Not permitted here. Grüße 🎉"
DISCLOSURE = "You are talking to an AI assistant."
CALL: JSON = {
    "model": "claude-haiku-5-5",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}


def client(content: bytes, kind: str) -> Anthropic:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": kind}, content=content)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return Anthropic(api_key="test", http_client=http)


def streamed(events: list[Event]) -> Message:
    """What the SDK makes of a stream."""
    wire = b"".join(item.raw for item in events)
    with client(wire, "text/event-stream") as sdk, sdk.messages.stream(**CALL) as stream:
        seen = [item.type for item in stream]
        assert seen[-1] == "message_stop"
        return stream.get_final_message()


def received(message: JSON) -> Message:
    """What the SDK makes of a message in one piece."""
    with client(json.dumps(message).encode(), "application/json") as sdk:
        return sdk.messages.create(**CALL)


def built(events: list[Event]) -> JSON:
    builder = MessageBuilder()
    for item in events:
        builder.feed(item)
    return builder.message


NOTICES = {
    "refusal": (refusal, "refusal"),
    "pending": (pending_notice, "end_turn"),
}


@pytest.mark.parametrize("name", NOTICES)
@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("disclosure", [None, DISCLOSURE])
def test_a_message_of_ours_is_the_same_in_one_piece_and_as_a_stream(
    name: str, structured: bool, disclosure: str | None
):
    make, reason = NOTICES[name]
    message = make(ID, "the-model", TEXT, structured=structured, disclosure=disclosure)
    words = f"{DISCLOSURE}\n\n{TEXT}" if disclosure else TEXT
    for found in (received(message), streamed(as_stream(message))):
        assert [block.to_dict()["text"] for block in found.content] == [words] * (not structured)
        assert (found.stop_reason, found.stop_sequence) == (reason, None)
        assert (found.id, found.model) == ("msg_magistrate_dec_1", "the-model")
        assert (found.role, found.type) == ("assistant", "message")
        assert (found.usage.input_tokens, found.usage.output_tokens) == (0, 0)


@pytest.mark.parametrize("structured", [True, False])
def test_a_refusal_of_ours_cannot_be_taken_for_the_platforms(structured: bool):
    message = refusal(ID, "m", TEXT, structured=structured)
    for found in (received(message), streamed(as_stream(message))):
        assert found.stop_details is not None
        details = found.stop_details.to_dict()
        assert details["magistrate"] == {"decision_id": "dec_1"}
        assert (details["type"], details["explanation"]) == ("refusal", TEXT)
        assert details.get("category") is None


def test_a_pending_notice_is_no_refusal():
    message = pending_notice(ID, "m", TEXT, structured=False)
    assert "stop_details" not in message
    assert streamed(as_stream(message)).stop_details is None


def test_a_stream_of_ours_adds_up_to_its_message():
    for structured in (True, False):
        message = refusal(ID, "m", TEXT, structured=structured)
        assert built(as_stream(message)) == message


def test_the_answer_is_not_in_the_first_event_of_a_stream_of_ours():
    [first, *_] = as_stream(refusal(ID, "m", TEXT, structured=False))
    assert first.data["message"]["content"] == []
    assert first.data["message"]["stop_reason"] is None
    assert "stop_details" not in first.data["message"]


def test_nothing_of_a_decision_but_its_id_is_in_a_message_of_ours():
    message = refusal(ID, "m", TEXT, structured=False)
    assert set(message) == {
        "id",
        "type",
        "role",
        "model",
        "content",
        "stop_reason",
        "stop_sequence",
        "stop_details",
        "usage",
    }
    assert stop_details(ID, TEXT)["magistrate"] == {"decision_id": ID}


# --- a stream that is blocked half way ------------------------------------------------------------


def state_of(events: list[Event]) -> tuple[int | None, int]:
    """The open block and the next index after these events."""
    opened: int | None = None
    following = 0
    for item in events:
        if item.type == "content_block_start":
            opened, following = item.data["index"], item.data["index"] + 1
        elif item.type == "content_block_stop":
            opened = None
    return opened, following


@settings(deadline=None, max_examples=150)
@given(streams(truncated=False), st.data())
def test_a_stream_may_be_cut_after_any_event_and_stays_valid(
    events: list[Event], data: st.DataObject
):
    events = [item for item in events if item.type not in ("message_delta", "message_stop")]
    begun = 1 + next(i for i, item in enumerate(events) if item.type == "message_start")
    kept = events[: data.draw(st.integers(begun, len(events)))]
    opened, following = state_of(kept)
    usage = built(kept)["usage"]
    end = cut(ID, TEXT, next_index=following, open_index=opened, usage=usage)
    found = streamed([*kept, *end])
    assert found.content[-1].to_dict()["text"] == TEXT
    assert len(found.content) == following + 1
    assert found.stop_reason == "refusal"
    assert found.stop_details is not None
    assert found.stop_details.to_dict()["magistrate"] == {"decision_id": "dec_1"}
    assert (found.usage.input_tokens, found.usage.output_tokens) == (3, 1)
    whole = built([*kept, *end])
    closed = built([*kept, *(item for item in end[:1] if opened is not None)])
    assert whole["content"][:-1] == closed["content"]
    assert whole["content"][-1] == {"type": "text", "text": TEXT}


def test_what_was_released_before_the_cut_stays_as_it_was():
    kept = as_stream(refusal(ID, "m", "half", structured=False))[:3]
    end = cut(ID, TEXT, next_index=1, open_index=0, usage={})
    found = streamed([*kept, *end])
    assert [block.to_dict()["text"] for block in found.content] == ["half", TEXT]


@pytest.mark.parametrize(
    ("open_index", "types"),
    [
        (None, []),
        (4, ["content_block_stop"]),
    ],
)
def test_only_a_block_that_is_open_is_closed(open_index: int | None, types: list[str]):
    end = cut(ID, TEXT, next_index=5, open_index=open_index, usage={})
    assert [item.type for item in end] == [
        *types,
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert [item.data["index"] for item in end[:-2]] == [4] * len(types) + [5, 5, 5]


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({}, {"output_tokens": 0}),
        ({"output_tokens": 7}, {"output_tokens": 7}),
        (
            {"input_tokens": 3, "output_tokens": 7, "cache_read_input_tokens": None},
            {"input_tokens": 3, "output_tokens": 7},
        ),
        ({"output_tokens": None}, {"output_tokens": 0}),
    ],
)
def test_a_cut_stream_ends_with_the_last_usage_seen(usage: JSON, counted: JSON):
    end = cut(ID, TEXT, next_index=0, open_index=None, usage=usage)
    assert end[-2].data["usage"] == counted


# --- disclosure -----------------------------------------------------------------------------------

WITH = f"{DISCLOSURE}\n\nhi"
HI = {"type": "text", "text": "hi"}
EMPTY = {"type": "text", "text": ""}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
TOOL = {"type": "tool_use", "id": "t", "name": "n", "input": {}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([HI], [{**HI, "text": WITH}]),
        ([HI, HI], [{**HI, "text": WITH}, HI]),
        ([THOUGHT, HI], [THOUGHT, {**HI, "text": WITH}]),
        ([EMPTY, HI], [EMPTY, {**HI, "text": WITH}]),
        ([TOOL, HI], [TOOL, {**HI, "text": WITH}]),
        ([{**HI, "citations": [{}]}], [{**HI, "citations": [{}], "text": WITH}]),
        (["loose", HI], ["loose", {**HI, "text": WITH}]),
        ([TOOL], None),
        ([THOUGHT], None),
        ([EMPTY], None),
        ([{"type": "text"}], None),
        ([], None),
        (None, None),
    ],
)
def test_the_disclosure_goes_into_the_first_text_of_an_answer(content: Any, expected: Any):
    message = {"id": "msg_1", "content": content, "novel": 1}
    before = json.dumps(message)
    found = disclosed(message, DISCLOSURE)
    assert found == (None if expected is None else {**message, "content": expected})
    assert json.dumps(message) == before


def test_the_disclosure_in_a_stream_says_what_it_says_in_one_piece():
    message = refusal(ID, "m", "hi", structured=False)
    events = as_stream(message)
    place = next(i for i, item in enumerate(events) if item.type == "content_block_delta")
    events.insert(place, disclosing_delta(0, DISCLOSURE))
    in_one_piece = disclosed(message, DISCLOSURE)
    assert in_one_piece is not None
    assert streamed(events).content[0].to_dict()["text"] == in_one_piece["content"][0]["text"]
    assert built(events) == in_one_piece


def test_events_of_ours_are_framed_as_the_apis():
    for item in as_stream(refusal(ID, "m", TEXT, structured=False)):
        assert Decoder().feed(item.raw) == [item]
        assert item == event(item.data)
        assert item.raw.startswith(f"event: {item.type}\ndata: {{".encode())
