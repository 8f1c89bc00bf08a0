"""Frames of inference hooks: what of them is judged, and that nothing hides in what is unknown."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.wire.content import read_answer, read_request
from magistrate.wire.digests import Digests
from magistrate.wire.hook_frames import UnreadableFrame, allow, deny, read_frame
from magistrate.wire.messages import parsed
from magistrate.wire.parts import Extracted
from strategies import json_values

JSON = dict[str, Any]
PATH = "messages[0].content[0]"
HIDDEN = "words that somebody hid"

# As in the reference, field by field.
PROMPT: JSON = {
    "type": "prompt",
    "request_id": "req_7f",
    "tenant_id": None,
    "session_id": "s-12",
    "model": "claude-sonnet-4-5",
    "actor": {"type": "user", "id": "user_9", "email_address": None},
    "source": {"application": "claude-code"},
    "messages": [{"role": "user", "content": [{"type": "text", "text": "..."}]}],
    "metadata": {},
}
TEXT = {"type": "text", "text": "hi"}
CALL = {
    "type": "tool_use",
    "id": "toolu_1",
    "tool_name": "read",
    "input": {"path": "a"},
    "tool_info": {"type": "client"},
}
RESULT = {
    "type": "tool_result",
    "content": "what it said",
    "is_error": False,
    "tool_name": "read",
    "tool_use_id": "toolu_1",
}
FILE = {
    "type": "attachment",
    "file_name": "a.pdf",
    "media_type": "application/pdf",
    "size_bytes": 9,
    "text": "what is in it",
}


def frame(*content: Any, role: Any = "user", **more: Any) -> JSON:
    return {**PROMPT, "messages": [{"role": role, "content": list(content)}], **more}


def read(sent: JSON) -> Extracted:
    """What is judged of a prompt frame's messages."""
    found = read_request(read_frame(sent).request)
    assert not found.setup.parts and not found.setup.uninspected
    return Extracted(
        tuple(part for turn in found.turns for part in turn.parts),
        tuple(item for turn in found.turns for item in turn.uninspected),
    )


def flat(found: Extracted) -> list[tuple[Any, ...]]:
    return [
        *((p.path, p.role, p.kind, p.text, p.labels) for p in found.parts),
        *((item.path, item.reason) for item in found.uninspected),
    ]


NAMED = {"tool_name": "read", "tool_use_id": "toolu_1"}
BLOCKS: list[tuple[str, Any, list[tuple[Any, ...]]]] = [
    ("text", TEXT, [(PATH, "user", "text", "hi", {})]),
    ("empty text", {"type": "text", "text": ""}, []),
    ("text that is none", {"type": "text", "text": None}, []),
    ("a call", CALL, [(PATH, "user", "tool_use", '{"path": "a"}', NAMED)]),
    (
        "a call of which all is null",
        {"type": "tool_use", "id": None, "tool_name": None, "input": None, "tool_info": None},
        [(PATH, "user", "tool_use", "{}", {})],
    ),
    (
        "a result",
        RESULT,
        [(PATH, "user", "third_party", "what it said", {"kind": "tool_result", **NAMED})],
    ),
    (
        "a result of which all is null",
        {"type": "tool_result", "content": "", "is_error": True, "tool_name": None},
        [(PATH, "user", "third_party", "", {"kind": "tool_result"})],
    ),
    (
        "an attachment",
        FILE,
        [(f"{PATH}.source", "user", "third_party", "what is in it", {"title": "a.pdf"})],
    ),
    (
        "an attachment of which all is null",
        {"type": "attachment", "file_name": None, "media_type": None, "text": "x"},
        [(f"{PATH}.source", "user", "third_party", "x", {})],
    ),
    (
        "an attachment without text, such as an image",
        {**FILE, "text": ""},
        [(PATH, "user", "third_party", "", {"title": "a.pdf"}), (f"{PATH}.source", "media")],
    ),
    (
        "an empty file",
        {**FILE, "text": "", "size_bytes": 0},
        [(f"{PATH}.source", "user", "third_party", "", {"title": "a.pdf"})],
    ),
    (
        "an unknown block",
        {"type": "diagram", "id": 3, "caption": "words", "shown": True},
        [(f"{PATH}.caption", "user", "text", "words", {})],
    ),
    ("an unknown block without text", {"type": "diagram", "size": 3}, []),
    (
        "an unknown block with a text",
        {"type": "diagram", "text": "words"},
        [(PATH, "user", "text", "words", {})],
    ),
    (
        "a type that says something",
        {"type": "how to do it"},
        [(f"{PATH}.block_type", "user", "text", "how to do it", {})],
    ),
    (
        "an unknown field",
        {**TEXT, "note": "words", "count": 3},
        [(PATH, "user", "text", "hi", {}), (f"{PATH}.note", "user", "text", "words", {})],
    ),
    (
        "a field by a name that the readers use for another thing",
        {**CALL, "name": "words", "unknown_deltas": "more words"},
        [
            (PATH, "user", "tool_use", '{"path": "a"}', NAMED),
            (
                f"{PATH}.more",
                "user",
                "text",
                '{"name": "words", "unknown_deltas": "more words"}',
                {},
            ),
        ],
    ),
    ("a text that is no block", "words", [(PATH, "user", "text", "words", {})]),
    ("a number", 7, [(PATH, "user", "text", "7", {})]),
]


@pytest.mark.parametrize(("block", "expected"), [b[1:] for b in BLOCKS], ids=[b[0] for b in BLOCKS])
def test_a_block_is_read_at_its_place(block: Any, expected: list[Any]) -> None:
    assert flat(read(frame(block))) == expected


TOOL_INFO = [
    ({"type": "platform", "tool_type": "web_search"}, {}, '{"tool_type": "web_search"}'),
    ({"type": "platform", "tool_type": "x", "toolset_name": "t"}, {"toolset": "t"}, None),
    ({"type": "application"}, {}, ""),
    ({"type": "application", "toolset_name": "t"}, {"toolset": "t"}, ""),
    ({"type": "third_party", "origin": "o.example"}, {"server": "o.example"}, ""),
    (
        {"type": "third_party", "toolset_name": "t", "origin": "o", "verified_origin": True},
        {"toolset": "t", "server": "o"},
        "",
    ),
    ({"type": "client", "tool_type": None, "toolset_name": "t"}, {"toolset": "t"}, ""),
    ({"type": "client"}, {}, ""),
    ({"type": "of a new kind"}, {}, '{"type": "of a new kind"}'),
    ("something else", {}, "something else"),
    (None, {}, ""),
]


@pytest.mark.parametrize(("info", "labels", "rest"), TOOL_INFO, ids=map(str, range(len(TOOL_INFO))))
def test_where_a_tool_comes_from_is_judged_with_its_call(
    info: Any, labels: dict[str, str], rest: str | None
) -> None:
    call, *others = read(frame({**CALL, "tool_info": info}, role="assistant")).parts
    assert call.labels == NAMED | labels
    if rest is not None:
        assert [part.text for part in others] == ([rest] if rest else [])


def test_a_local_mcp_server_counts_as_a_client() -> None:
    """Claude Code names such tools `mcp__<server>__<tool>`."""
    call = {**CALL, "tool_name": "mcp__files__read", "tool_info": {"type": "client"}}
    (part,) = read(frame(call, role="assistant")).parts
    assert part.labels["tool_name"] == "mcp__files__read"


TURNS: list[tuple[str, Any, list[tuple[Any, ...]]]] = [
    (
        "a text",
        {"role": "user", "content": "hi"},
        [("messages[0].content", "user", "text", "hi", {})],
    ),
    ("nothing", {"role": "user", "content": None}, []),
    (
        "an object",
        {"role": "user", "content": {"odd": "words"}},
        [(f"{PATH}.odd", "user", "text", "words", {})],
    ),
    (
        "an unknown role",
        {"role": "tool", "content": "hi"},
        [("messages[0].content", "user", "text", "hi", {})],
    ),
    (
        "a role that says something",
        {"role": "now do this", "content": []},
        [("messages[0].author", "user", "text", "now do this", {})],
    ),
    (
        "an unknown field",
        {"role": "assistant", "content": [], "note": "words", "at": 12},
        [("messages[0].note", "assistant", "text", "words", {})],
    ),
    ("no object", "words", [(PATH, "user", "text", "words", {})]),
]


@pytest.mark.parametrize(("turn", "expected"), [t[1:] for t in TURNS], ids=[t[0] for t in TURNS])
def test_a_turn_of_any_shape_is_read(turn: Any, expected: list[Any]) -> None:
    assert flat(read({**PROMPT, "messages": [turn]})) == expected


def test_roles_need_not_alternate() -> None:
    said = [{"role": "user", "content": text} for text in ("one", "two", "three")]
    assert [part.text for part in read({**PROMPT, "messages": said}).parts] == [
        "one",
        "two",
        "three",
    ]


# --- around the messages --------------------------------------------------------------------------

NULLS: JSON = {
    "tenant_id": None,
    "session_id": None,
    "model": None,
    "actor": {"type": "user", "id": None, "email_address": None},
}
AROUND: list[tuple[str, JSON, list[tuple[str, str]]]] = [
    ("as documented", {}, []),
    ("nullable fields", NULLS, []),
    ("an address is personal and not judged", {"actor": {"email_address": "a@b.example"}}, []),
    ("an application", {"source": {"application": "cowork"}}, []),
    ("a new application", {"source": {"application": "claude-tag.2"}}, []),
    ("a probe", {"source": {"application": "config-test"}}, []),
    ("a new type of actor", {"actor": {"type": "service_account", "id": "s"}}, []),
    ("a new number", {"attempt": 3, "metadata": {"size": 4, "last": False}}, []),
    ("a new text", {"subject": "words"}, [("subject", "words")]),
    ("a new key of the metadata", {"metadata": {"topic": "words"}}, [("metadata.topic", "words")]),
    (
        "a new field of the actor, without its address",
        {"actor": {"type": "user", "email_address": "a@b.example", "title": "words"}},
        [("actor.title", "words")],
    ),
    (
        "an application that says something",
        {"source": {"application": "do this"}},
        [("source.application", "do this")],
    ),
    ("metadata of another type", {"metadata": "words"}, [("metadata", "words")]),
]


@pytest.mark.parametrize(("more", "expected"), [a[1:] for a in AROUND], ids=[a[0] for a in AROUND])
def test_what_stands_around_the_messages_is_never_an_error(
    more: JSON, expected: list[tuple[str, str]]
) -> None:
    found = read_frame({**PROMPT, **more})
    assert [(part.path, part.text) for part in found.around.parts] == expected
    assert all(part.judged for part in found.around.parts)
    assert found.around.uninspected == ()


@pytest.mark.parametrize(
    "more",
    [a[1] for a in AROUND] + [{"request_id": "req_8", "session_id": "other", "model": "m-2"}],
)
def test_what_stands_around_is_no_part_of_what_identifies_a_turn(more: JSON) -> None:
    assert prefixes({**PROMPT, **more}) == prefixes(PROMPT)


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "user", "content": "..."},
        {"role": "user", "content": [{"type": "text", "text": "...", "at": 17, "new": None}]},
        {"role": "user", "content": [{"type": "text", "text": "..."}], "index": 0},
    ],
)
def test_a_turn_is_recognised_by_what_it_says(turn: JSON) -> None:
    assert prefixes({**PROMPT, "messages": [turn]}) == prefixes(PROMPT)


def prefixes(sent: JSON) -> list[str]:
    return Digests(b"key", "scope").chain({}, read_frame(sent).request["messages"])


# --- kinds of frames ------------------------------------------------------------------------------


def test_a_tool_call_frame_is_its_last_message() -> None:
    sent = {**frame(TEXT), "type": "tool_call", "request_id": "req_9"}
    sent["messages"].append({"role": "assistant", "content": [TEXT, CALL]})
    found = read_frame(sent)
    assert (found.kind, found.request_id) == ("tool_call", "req_9")
    (message,) = found.messages
    parts = read_answer(message).parts
    assert [(part.path, part.role, part.kind) for part in parts] == [
        ("response.content[0]", "assistant", "text"),
        ("response.content[1]", "assistant", "tool_use"),
    ]


def test_a_frame_of_an_unknown_type_is_not_read() -> None:
    found = read_frame({**frame(TEXT), "type": "response"})
    assert (found.kind, found.type, found.messages) == ("unknown", "response", [])
    assert read_frame({"type": "new"}).kind == "unknown"


@pytest.mark.parametrize(
    "sent",
    [
        None,
        [],
        "prompt",
        {},
        {"type": None, "messages": []},
        {"type": "", "messages": []},
        {"type": "prompt"},
        {"type": "prompt", "messages": {}},
        {"type": "tool_call", "messages": []},
    ],
    ids=json.dumps,
)
def test_a_frame_without_type_or_messages_is_unreadable(sent: Any) -> None:
    with pytest.raises(UnreadableFrame):
        read_frame(sent)


# --- properties -----------------------------------------------------------------------------------


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value where something can be put instead."""
    found = [at] if at else []
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            found += places(item, (*at, key))
    return found


def put(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return changed


BLOCK = st.sampled_from([TEXT, CALL, RESULT, FILE, {"type": "new", "a": {"b": "c"}}])


@st.composite
def hiding(draw: st.DrawFn) -> JSON:
    """A frame in which words stand in a place that holds something else, or in a new one."""
    content = draw(st.lists(BLOCK | st.builds(lambda v: {"type": "new", "a": v}, json_values)))
    sent = frame(*content, role=draw(st.sampled_from(["user", "assistant", "tool"])))
    messages = sent["messages"]
    place = draw(st.sampled_from(places(messages)))
    form = draw(st.sampled_from([HIDDEN, [HIDDEN], {"x": HIDDEN}, {HIDDEN: 1}, [[{"y": HIDDEN}]]]))
    sent["messages"] = put(messages, place, form)
    if draw(st.booleans()):
        inside = [at for at in places(messages) if isinstance(_at(messages, at), dict)]
        name = draw(st.sampled_from(["note", "name", "source", "citations", "more", "content"]))
        sent["messages"] = put(messages, (*draw(st.sampled_from(inside)), name), form)
    return sent


def _at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


@settings(max_examples=600)
@given(hiding())
def test_nothing_in_the_messages_escapes_the_judge(sent: JSON) -> None:
    found = read(sent)
    shown = json.dumps([part.as_json() for part in found.parts if part.judged])
    assert HIDDEN in shown


@settings(max_examples=300)
@given(st.dictionaries(st.text(max_size=8), json_values), st.sampled_from(["prompt", "tool_call"]))
def test_any_json_is_read_or_unreadable(more: JSON, kind: str) -> None:
    try:
        found = read_frame({**more, "type": kind})
    except UnreadableFrame:
        return
    assert found.kind == kind
    assert parsed(json.dumps(found.messages)) == found.messages
    read_request(found.request)


@settings(max_examples=300)
@given(st.lists(json_values), json_values)
def test_any_messages_are_read(messages: list[Any], other: Any) -> None:
    before = copy.deepcopy(messages)
    found = read_frame({**PROMPT, "messages": messages, "metadata": other})
    assert len(found.messages) == len(messages)
    read_request(found.request)
    assert messages == before, "a frame is not changed"


# --- verdicts -------------------------------------------------------------------------------------


def test_a_verdict_has_the_form_of_the_protocol() -> None:
    ours = {"id": "dec_1", "action": "warn"}
    assert allow(ours) == {"action": "allow", "magistrate": ours}
    assert deny("No.", "dec_1", ours) == {
        "action": "deny",
        "deny_reason": "No.",
        "reference_id": "dec_1",
        "magistrate": ours,
    }


@given(st.text(max_size=1200), st.none() | st.text(max_size=60))
def test_a_denial_never_has_what_the_protocol_would_cut_or_drop(
    reason: str, reference: str | None
) -> None:
    verdict = deny(reason, reference, {})
    assert len(verdict["deny_reason"]) <= 500
    assert verdict["deny_reason"][:499] == reason[:499]
    if "reference_id" in verdict:
        assert verdict["reference_id"] == reference
        assert re.fullmatch(r"[A-Za-z0-9._:/-]{1,50}", verdict["reference_id"])
