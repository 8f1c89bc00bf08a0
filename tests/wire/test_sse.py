"""Server-sent events: bytes in, events out, and the message that a stream adds up to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic import Anthropic
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.testing import (
    Reply,
    Simulator,
    citations,
    raw_blocks,
    redacted_thinking,
    refusal,
    server_tool,
    structured,
    text,
    thinking,
    tool_use,
)
from magistrate.wire.content import read_answer
from magistrate.wire.message_builder import MessageBuilder
from magistrate.wire.sse import Decoder, Event, event
from strategies import any_text, chaos, cuts, json_values, streams, text_delta

JSON = dict[str, Any]


def decoded(*chunks: bytes) -> list[Event]:
    decoder = Decoder()
    found = [item for chunk in chunks for item in decoder.feed(chunk)]
    return found + decoder.flush()


# --- bytes and events -----------------------------------------------------------------------------

FRAMES = (
    b'event: ping\ndata: {"type": "ping"}\n\n',
    b": keep-alive\n\n",
    b":\r\n\r\n",
    'event: content_block_delta\ndata: {"type":"x","text":"Grüße 🎉👩‍🔬"}\n\n'.encode(),
    b'event: a\r\ndata: {"type": "a"}\r\n\r\n',
    b'event: b\rdata: {"type": "b"}\r\r',
    b'data: {"type": "mixed"}\n\r\n',
    b'data: {"type": "mixed"}\r\n\n',
    b'data: {"type":\ndata:  "two lines"}\n\n',
    b'id: 7\nretry: 10\nunknown: x\ndata:{"type": "fields"}\n\n',
    b"event: broken\ndata: {not json\n\n",
    b"data: [1, 2]\n\n",
    b"data\n\n",
    b"\n",
    b"\xff\xfe not utf-8\n\n",
)
TAILS = (
    b"",
    b"event: half\ndata: {",
    b": comment",
    "data: é".encode()[:-1],
    b"\r",
    b"data: {}\r\n",
)
wires = st.builds(
    lambda frames, tail: b"".join(frames) + tail,
    st.lists(st.sampled_from(FRAMES) | st.binary(max_size=12), max_size=8),
    st.sampled_from(TAILS),
)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_bytes_come_out_as_they_went_in_however_they_are_cut(data: st.DataObject):
    wire = data.draw(wires)
    found = decoded(*data.draw(cuts(wire)))
    joined = b"".join(item.raw for item in found)
    assert joined == wire or (joined == wire[: len(joined)] and not wire[len(joined) :].strip())


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_events_do_not_depend_on_where_the_chunks_end(data: st.DataObject):
    wire = data.draw(wires)
    assert decoded(*data.draw(cuts(wire))) == decoded(wire)


def test_one_byte_at_a_time_is_as_good_as_all_at_once():
    wire = b"".join(FRAMES)
    assert decoded(*(wire[i : i + 1] for i in range(len(wire)))) == decoded(wire)


@pytest.mark.parametrize(
    ("wire", "types"),
    [
        (b'event: a\ndata: {"type": "b"}\n\n', ["b"]),  # the data says what it is
        (b"event: a\ndata: {}\n\n", ["a"]),
        (b"event: a\n\n", ["a"]),
        (b"data: {}\n\n", [""]),
        (b": comment\n\n", [""]),
        (b'event: a\r\ndata: {"type":"b"}\r\n\r\nevent: c\r\n\r\n', ["b", "c"]),
        (b"event: a\n\r\nevent: ping\n\n", ["a", "ping"]),
        (b"event: a\r\n\nevent: ping\n\n", ["a", "ping"]),
        (b"event: a\r\revent: ping\r\r", ["a", "ping"]),
        (b"event: a\n", ["a"]),  # never finished
        (b"event: a\ndata: [1]\n\n", ["a"]),
        (b"event: a\ndata: {broken\n\n", ["a"]),
        (b"event: a\nevent: b\n\n", ["b"]),
        (b" event: a\n\n", [""]),
        (b'data: {"type": 5}\n\n', ["5"]),
        (b'data: {"type": null}\nevent: a\n\n', ["a"]),
    ],
)
def test_an_event_is_of_the_type_its_data_names_else_its_name(wire: bytes, types: list[str]):
    assert [item.type for item in decoded(wire)] == types


@pytest.mark.parametrize(
    ("wire", "data"),
    [
        (b'data: {"a":\ndata: 1}\n\n', {"a": 1}),
        (b'data:{"a": 1}\n\n', {"a": 1}),
        (b'event: a\ndata: \t {"a": 1} \n\n', {"a": 1}),
        (b'event: a\ndata: {"a": 1} {}\n\n', {}),
        (b'event: a\ndata: {"a": 1}\xc2\xa0\n\n', {}),
        (b'event: a\ndata: \xef\xbb\xbf{"a": 1}\n\n', {}),
        (b"data: [1]\n\n", {}),
        (b'data: "x"\n\n', {}),
        (b"data: " + b"[" * 100_000 + b"\n\n", {}),
        (b": x\n\n", {}),
    ],
    ids=[
        "two lines",
        "no space",
        "blanks",
        "two values",
        "a blank that is none in JSON",
        "byte order mark",
        "array",
        "string",
        "too deep",
        "comment",
    ],
)
def test_the_data_of_an_event_is_an_object_or_empty(wire: bytes, data: JSON):
    assert decoded(wire)[0].data == data


def read_slowly(data: bytes) -> JSON:
    """The data of an event as the standard library reads them."""
    try:
        found = json.loads(data.decode("utf-8", "surrogatepass").strip(" \t\r\n"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# Where parsers of JSON differ, or could.
_numbers = st.sampled_from(
    (
        *("0", "-0", "1.0", "1e0", "1E400", "-1e400", "NaN", "Infinity", "01", "+1", ".5"),
        *("18446744073709551616", "-9223372036854775809"),
    )
)
_strings = st.sampled_from(
    (
        *('"a"', '"\\u0061"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\udc00\\ud800"', '"\\/"'),
        *('"\\x"', '"é"', '"\x7f"', '"\x01"', '"\u2028"', '"\ud800"', '""', "'a'", "null"),
        *("true", "[", "{}", '"text_delta"', '"thinking_delta"', '"input_json_delta"'),
    )
)
_names = st.sampled_from(
    (
        *('"type"', '"index"', '"delta"', '"text"', '"thinking"', '"partial_json"'),
        *('"\\u0074ext"', '"x"'),
    )
)
_blanks = st.sampled_from(("", " ", "\t", "\x0c", "\xa0", "\ufeff", ","))
_json_text = st.recursive(
    _numbers | _strings,
    lambda inner: st.builds(
        lambda pairs, blank: "{" + ",".join(f"{key}:{blank}{item}" for key, item in pairs) + "}",
        st.lists(st.tuples(_names, inner), max_size=4),
        _blanks,
    ),
    max_leaves=8,
)
_delta_text = st.builds(
    lambda index, kind, name, piece, more, blank: (
        f'{{"type":"content_block_delta","index":{blank}{index},'
        f'"delta":{{"type":{kind},{name}:{piece}{more}}}}}{blank}'
    ),
    st.sampled_from(("0", "7", "-0", "1.0", "true", "null", "18446744073709551616", '"0"')),
    _strings,
    _names,
    _strings | _numbers,
    st.sampled_from(("", ',"text":"b"', ',"type":"text_delta"', ',"citation":1', ",")),
    _blanks,
)


@settings(deadline=None, max_examples=500)
@given(_delta_text | _json_text)
def test_the_data_of_an_event_are_what_the_standard_library_reads(data: str):
    raw = data.encode("utf-8", "surrogatepass")
    (item,) = decoded(b"event: a\ndata: " + raw + b"\n\n")
    assert repr(item.data) == repr(read_slowly(raw))  # which tells 1 from True, and knows NaN


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40))
def test_nor_do_bytes_that_are_no_json_make_a_difference(data: bytes):
    raw = data.replace(b"\r", b"").replace(b"\n", b"")
    for found in decoded(b"event: a\ndata: " + raw + b"\n\n"):
        assert repr(found.data) == repr(read_slowly(raw))


TEXT: JSON = text_delta(0, "x")


@pytest.mark.parametrize(
    ("change", "grows"),
    [
        ({}, ("text", "x")),
        ({"index": 5}, ("text", "x")),
        ({"delta": {"type": "text_delta", "text": ""}}, ("text", "")),
        ({"delta": {"type": "thinking_delta", "thinking": "x"}}, ("thinking", "x")),
        ({"delta": {"type": "input_json_delta", "partial_json": "x"}}, ("partial_json", "x")),
        ({"delta": {"type": "text_delta", "text": "x", "citation": "y"}}, ("", "")),
        ({"delta": {"type": "text_delta", "thinking": "x"}}, ("", "")),
        ({"delta": {"type": "text_delta", "text": None}}, ("", "")),
        ({"delta": {"type": "novel_delta", "text": "x"}}, ("", "")),
        ({"delta": {"type": ["text_delta"], "text": "x"}}, ("", "")),
        ({"delta": {"type": "signature_delta", "signature": "x"}}, ("", "")),
        ({"delta": "x"}, ("", "")),
        ({"more": "y"}, ("", "")),
        ({"index": None}, ("", "")),
        ({"index": True}, ("", "")),
        ({"index": "0"}, ("", "")),
        ({"type": "ping"}, ("", "")),
        ({"type": "content_block_start"}, ("", "")),
    ],
)
def test_an_event_is_a_piece_only_if_it_says_nothing_else(change: JSON, grows: tuple[str, str]):
    item = event({**TEXT, **change})
    assert (item.grows, item.piece) == grows
    assert [(each.grows, each.piece) for each in decoded(item.raw)] == [grows]


def test_an_event_is_no_piece_by_the_name_beside_its_data():
    data = {"index": 0, "delta": TEXT["delta"], "novelty": "y"}
    item = Event(b"", "content_block_delta", data)
    assert (item.type, item.grows, item.piece) == ("content_block_delta", "", "")


def test_nothing_is_said_of_an_event_before_it_is_complete():
    decoder = Decoder()
    assert decoder.feed(b'event: a\ndata: {"type": "a"}\n') == []
    assert [item.type for item in decoder.feed(b"\n")] == ["a"]
    assert decoder.flush() == []


@settings(deadline=None)
@given(
    st.dictionaries(any_text, any_text | json_values, max_size=4),
    st.sampled_from(("ping", "content_block_delta")),
)
def test_an_event_of_our_own_reads_back_as_it_was_written(data: JSON, kind: str):
    item = event({**data, "type": kind})
    try:
        item.raw.decode()
    except UnicodeDecodeError:
        return  # half of a surrogate pair has no bytes in UTF-8
    assert decoded(item.raw) == [item]


# --- what a stream adds up to ---------------------------------------------------------------------

CALL: JSON = {
    "model": "claude-haiku-5-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "hi"}],
}
REPLIES: dict[str, Reply] = {
    "text": text("Grüße an alle 🎉👩‍🔬 " * 9),
    "several texts": text("One.", "Two.", "Three."),
    "no content": text(),
    "empty text": text(""),
    "max tokens": text("Once upon a", stop_reason="max_tokens"),
    "stop sequence": text("One", stop_reason="stop_sequence", stop_sequence="END"),
    "thinking": thinking("First this, then that. " * 5, "So."),
    "redacted thinking": redacted_thinking("So."),
    "tool use": tool_use("look", {"at": ["x", {"y": "Grüße 🎉"}], "n": 1.5}, text="Let me see."),
    "tool use without input": tool_use("look"),
    "citations": citations("As it says.", "first", "second", document_title="Book"),
    "server tool": server_tool("what", "Found.", results=[("A", "https://a"), ("B", "https://b")]),
    "structured": structured({"a": [1, 2, {"b": None}]}),
    "refusal": refusal("cyber", partial="I can"),
    "usage": text("x", usage={"cache_read_input_tokens": 7, "output_tokens": 3}),
    "interleaved": raw_blocks(
        [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "text", "text": "Look:"},
            {"type": "tool_use", "id": "t1", "name": "a", "input": {"x": 1}},
            {"type": "tool_use", "id": "t2", "name": "b", "input": {}},
        ],
        stop_reason="tool_use",
    ),
}


def without_nothing(value: Any) -> Any:
    """JSON without nulls and empty arrays of citations, which the SDK leaves out or adds."""
    if isinstance(value, dict):
        return {
            key: without_nothing(item)
            for key, item in value.items()
            if item is not None and (key, item) != ("citations", [])
        }
    if isinstance(value, list):
        return [without_nothing(item) for item in value]
    return value


def events_of(reply: Reply, *, seed: int) -> list[Event]:
    with Simulator(reply, seed=seed).http_client() as http:
        answer = http.post(
            "https://api.anthropic.com/v1/messages",
            json={**CALL, "stream": True},
            headers={"x-api-key": "test", "anthropic-version": "2023-06-01"},
        )
    assert answer.status_code == 200, answer.text
    return decoded(answer.content)


def fed(events: list[Event]) -> MessageBuilder:
    builder = MessageBuilder()
    for item in events:
        builder.feed(item)
    return builder


def built(events: list[Event]) -> JSON:
    return fed(events).message


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", REPLIES)
def test_a_stream_adds_up_to_the_message_that_the_sdk_makes_of_it(name: str, seed: int):
    with Simulator(REPLIES[name], seed=seed).http_client() as http:
        client = Anthropic(api_key="test", http_client=http)
        with client.messages.stream(**CALL) as stream:
            expected = stream.get_final_message().to_dict()
    assert without_nothing(built(events_of(REPLIES[name], seed=seed))) == without_nothing(expected)


@pytest.mark.parametrize("name", REPLIES)
def test_a_stream_adds_up_to_the_message_that_is_sent_in_one_piece(name: str):
    with Simulator(REPLIES[name]).http_client() as http:
        client = Anthropic(api_key="test", http_client=http)
        expected = client.messages.create(**CALL).to_dict()
    assert without_nothing(built(events_of(REPLIES[name], seed=0))) == without_nothing(expected)


@settings(deadline=None)
@given(streams(), st.data())
def test_chunks_and_pings_make_no_difference_to_the_message(events: list[Event], data: Any):
    wire = b"".join(item.raw for item in events)
    quiet = [item for item in events if item.type != "ping"]
    assert built(decoded(*data.draw(cuts(wire)))) == built(quiet)


def start(index: object, block: object) -> Event:
    return event({"type": "content_block_start", "index": index, "content_block": block})


def delta(index: object, change: object) -> Event:
    return event({"type": "content_block_delta", "index": index, "delta": change})


def stop(index: object) -> Event:
    return event({"type": "content_block_stop", "index": index})


def fragment(said: str) -> JSON:
    return {"type": "input_json_delta", "partial_json": said}


TOOL = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
ODD: dict[str, list[Event]] = {
    "delta for a block that never began": [event(text_delta(3, "SECRET"))],
    "delta without an index": [delta(None, {"type": "text_delta", "text": "SECRET"})],
    "delta that is a string": [start(0, {"type": "text", "text": ""}), delta(0, "SECRET")],
    **{
        f"{kind} that begins with an input, {type(given).__name__}, and goes on": [
            start(0, {"type": kind, "id": "t", "name": "n", "input": given}),
            delta(0, {"type": "input_json_delta", "partial_json": '{"a": 1}'}),
            event({"type": "content_block_stop", "index": 0}),
        ]
        for kind in ("tool_use", "server_tool_use", "mcp_tool_use")
        for given in ({"b": "SECRET"}, "SECRET", ["SECRET"])
    },
    "unknown delta": [
        start(0, {"type": "text", "text": ""}),
        delta(0, {"type": "novel_delta", "novelty": "SECRET"}),
    ],
    "text for a tool": [start(0, TOOL), delta(0, {"type": "text_delta", "text": "SECRET"})],
    "input for a text": [start(0, {"type": "text", "text": ""}), delta(0, fragment("SECRET"))],
    "input for a search result": [
        start(0, {"type": "web_search_tool_result", "content": []}),
        delta(0, fragment("SECRET")),
        stop(0),
    ],
    "input after the end": [start(0, TOOL), stop(0), delta(0, fragment('"SECRET"'))],
    "input that never ends": [start(0, TOOL), delta(0, fragment('{"a": "SECRET'))],
    "input that is no JSON": [start(0, TOOL), delta(0, fragment('{"SECRET')), stop(0)],
    "input that is too deep": [
        start(0, TOOL),
        delta(0, fragment('["SECRET",' + "[" * 100_000)),
        stop(0),
    ],
    "signature with words": [
        start(0, {"type": "thinking", "thinking": ""}),
        delta(0, {"type": "signature_delta", "signature": "s", "thinking": "SECRET"}),
    ],
    "text with a citation": [
        start(0, {"type": "text", "text": ""}),
        delta(0, {"type": "text_delta", "text": "", "citation": "SECRET"}),
    ],
    "a block that is a string": [start(0, "SECRET")],
    "a block that is nothing": [start(0, None), event(text_delta(0, "SECRET"))],
    "unknown block": [start(0, {"type": "novelty", "words": "SECRET"})],
    "unknown block that grows": [
        start(0, {"type": "novelty"}),
        delta(0, {"type": "text_delta", "text": "SECRET"}),
    ],
    "an index used twice": [
        start(0, {"type": "text", "text": "SECRET"}),
        start(0, {"type": "text", "text": ""}),
        event(text_delta(0, "new")),
    ],
    "an index that is a list": [
        start([], {"type": "text", "text": ""}),
        event(text_delta([], "SECRET")),
    ],
    "content at the start": [
        event(
            {"type": "message_start", "message": {"content": [{"type": "novelty", "x": "SECRET"}]}}
        )
    ],
    "content at the start that is a string": [
        event({"type": "message_start", "message": {"content": "SECRET"}})
    ],
    "a second beginning": [
        start(0, {"type": "text", "text": "SECRET"}),
        event({"type": "message_start", "message": {"content": []}}),
        event(text_delta(0, "more")),
    ],
    "content that is replaced at the end": [
        start(0, {"type": "text", "text": "SECRET"}),
        event({"type": "message_delta", "delta": {"content": []}, "usage": {}}),
    ],
    "text of another type": [
        start(0, {"type": "text", "text": ""}),
        delta(0, {"type": "text_delta", "text": {"say": "SECRET"}}),
    ],
    "an event with a field of no known name": [
        event({"type": "message_stop", "more": {"say": "SECRET"}})
    ],
    "a word that a later event replaces": [
        event({"type": "message_delta", "delta": {"stop_sequence": "SECRET"}, "usage": {}}),
        event({"type": "message_delta", "delta": {"stop_sequence": None}, "usage": {}}),
    ],
    "a word that a second beginning replaces": [
        event({"type": "message_start", "message": {"note": "SECRET", "content": []}}),
        event({"type": "message_start", "message": {"note": "other", "content": []}}),
    ],
    "usage that a later event replaces": [
        event({"type": "message_start", "message": {"usage": "SECRET", "content": []}}),
        event({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 1}}),
    ],
    "a word in usage that a later event replaces": [
        event({"type": "message_start", "message": {"usage": {"note": "SECRET"}, "content": []}}),
        event({"type": "message_delta", "delta": {}, "usage": {"note": "other"}}),
    ],
    "a signature that a delta replaces": [
        start(0, {"type": "thinking", "thinking": "", "signature": "SECRET words"}),
        delta(0, {"type": "signature_delta", "signature": "c2ln"}),
    ],
    "citations that are none, and then some": [
        start(0, {"type": "text", "text": "a", "citations": "SECRET"}),
        delta(0, {"type": "citations_delta", "citation": {"cited_text": "a"}}),
    ],
    "an index that is a sentence": [start("SECRET words", {"type": "text", "text": ""})],
    "a name that is a sentence": Decoder().feed(
        b'event: SECRET words\ndata: {"type": "message_stop"}\n\n'
    ),
    "a line of no known kind": Decoder().feed(b'data: {"type": "ping"}\nmore: SECRET\n\n'),
    "an id that is a sentence": Decoder().feed(b'id: SECRET words\ndata: {"type": "ping"}\n\n'),
    "data that is a string": Decoder().feed(b'event: ping\ndata: "SECRET"\n\n'),
}


@pytest.mark.parametrize("name", ODD)
def test_whatever_arrives_can_be_read_or_is_named_as_unread(name: str):
    builder = fed(ODD[name])
    found = read_answer(builder.message, unread=builder.unread)
    assert found.uninspected or any("SECRET" in part.text for part in found.parts)


@pytest.mark.parametrize("name", ODD)
def test_nothing_that_arrives_is_lost(name: str):
    builder = fed(ODD[name])
    assert "SECRET" in json.dumps([builder.message, builder.unread])


@settings(deadline=None, max_examples=300)
@given(chaos)
def test_a_stream_that_makes_no_sense_is_no_error(events: list[Event]):
    message = built(events)
    read_answer(message)
    assert isinstance(message.get("content", []), list)


@settings(deadline=None)
@given(streams())
def test_feeding_does_not_change_the_events(events: list[Event]):
    before = [json.dumps(item.data) for item in events]
    built(events)
    assert [json.dumps(item.data) for item in events] == before


def taken_whole(item: Event) -> Event:
    """The same event, not recognised as a piece: what reads it has to look at all of it."""
    twin = Event(item.raw, item.name, item.data)
    twin.grows = twin.piece = ""  # type: ignore[misc]
    return twin


@settings(deadline=None, max_examples=300)
@given(streams() | chaos, st.data())
def test_a_message_is_the_same_however_it_is_fed_and_looked_at(events: list[Event], data: Any):
    expected = built([taken_whole(item) for item in events])
    assert built(events) == expected
    builder = MessageBuilder()
    for position, item in enumerate(events):
        builder.feed(item)
        if data.draw(st.booleans()):
            assert builder.message == built(events[: position + 1])
    assert builder.message == expected
    assert builder.content == expected.get("content", [])


def test_the_last_usage_counts_and_nulls_do_not():
    found = built(
        [
            event({"type": "message_start", "message": {"usage": {"input_tokens": 5, "x": 1}}}),
            event({"type": "message_delta", "delta": {}, "usage": {"input_tokens": None, "y": 2}}),
        ]
    )
    assert found["usage"] == {"input_tokens": 5, "x": 1, "y": 2}


def test_a_compaction_grows_by_its_deltas():
    found = built(
        [
            start(0, {"type": "compaction", "content": None}),
            delta(0, {"type": "compaction_delta", "content": "so "}),
            delta(0, {"type": "compaction_delta", "content": "far", "encrypted_content": "x"}),
        ]
    )
    assert found["content"] == [
        {"type": "compaction", "content": "so far", "encrypted_content": "x"}
    ]
