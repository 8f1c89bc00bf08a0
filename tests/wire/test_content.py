"""What must be judged: every block type, its place, and what is named as unread."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.wire.content import Pieces, Windows, judged_so_far, read_answer, read_request
from magistrate.wire.digests import Digests, GrowingDigest
from magistrate.wire.parts import Extracted, Part, Subject, as_context
from strategies import MARKED_BLOCKS, MARKER, any_text, json_values, marked_requests

JSON = dict[str, Any]
PATH = "messages[0].content[0]"
PNG = {"type": "base64", "media_type": "image/png", "data": "aGk="}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
HI = {"type": "text", "text": "hi"}


def part(
    kind_: str, text: str = "", path: str = PATH, attachment: JSON | None = None, /, **labels: str
) -> tuple[Any, ...]:
    return (path, kind_, text, labels, attachment)


def unread(reason: str, path: str = PATH) -> tuple[str, str]:
    return (path, reason)


def flat(found: Extracted) -> list[tuple[Any, ...]]:
    """What was read, then what could not be."""
    return [
        *((p.path, p.kind, p.text, p.labels, p.attachment) for p in found.parts),
        *((item.path, item.reason) for item in found.uninspected),
    ]


def in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The same rows: what was read, then what could not be."""
    return sorted(rows, key=lambda row: len(row) == 2)


ENCRYPTED, LISTING = "encrypted_code_execution_result", "mcp_tool_listing"
SEARCH = {"type": "web_search_result", "title": "A", "url": "https://a", "encrypted_content": "x"}
BLOCKS: list[tuple[str, Any, list[tuple[Any, ...]]]] = [
    ("text", HI, [part("text", "hi")]),
    ("empty text", {"type": "text", "text": ""}, []),
    ("text without text", {"type": "text"}, []),
    (
        "text that is none",
        {"type": "text", "text": ["hi"]},
        [part("text", '["hi"]', f"{PATH}.text")],
    ),
    (
        "a field of no known name",
        {**HI, "note": "x", "count": 3},
        [part("text", "hi"), part("text", "x", f"{PATH}.note")],
    ),
    (
        "a name that is a sentence",
        {**HI, "say this": None},
        [part("text", "hi"), part("text", '{"say this": null}', f"{PATH}.?")],
    ),
    (
        "citations that are none",
        {**HI, "citations": "x"},
        [part("text", "hi"), part("text", "x", f"{PATH}.citations")],
    ),
    (
        "a cache mark",
        {**HI, "cache_control": {"type": "ephemeral", "ttl": "5m"}},
        [part("text", "hi")],
    ),
    (
        "a cache mark that says something",
        {**HI, "cache_control": {"type": "ephemeral", "why": "x"}},
        [
            part("text", "hi"),
            part("text", '{"type": "ephemeral", "why": "x"}', PATH + ".cache_control"),
        ],
    ),
    (
        "a signature that is a sentence",
        {"type": "thinking", "thinking": "hm", "signature": "two words"},
        [part("thinking", "hm"), part("text", "two words", f"{PATH}.signature")],
    ),
    (
        "an image in a field of no known name",
        {**HI, "more": {"source": PNG}},
        [
            part("text", "hi"),
            part("text", json.dumps({"source": PNG}, sort_keys=True), f"{PATH}.more"),
            unread("unknown_field", f"{PATH}.more"),
        ],
    ),
    (
        "citations",
        {**HI, "citations": [{"cited_text": "é"}]},
        [
            part("text", "hi"),
            part("third_party", '[{"cited_text": "é"}]', f"{PATH}.citations"),
        ],
    ),
    ("no citations", {**HI, "citations": None}, [part("text", "hi")]),
    ("thinking", {"type": "thinking", "thinking": "hm"}, [part("thinking", "hm")]),
    ("empty thinking", {"type": "thinking", "thinking": "", "signature": "s"}, []),
    ("redacted thinking", {"type": "redacted_thinking", "data": "x"}, [unread("encrypted")]),
    (
        "image",
        {"type": "image", "source": PNG, "cache_control": {"type": "ephemeral"}},
        [part("media", "", PATH, {"type": "image", "source": PNG}, media_type="image/png")],
    ),
    ("image by url", {"type": "image", "source": {"type": "url", "url": "u"}}, [unread("media")]),
    (
        "image by id",
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        [unread("file")],
    ),
    ("image of a new kind", {"type": "image", "source": {"type": "x"}}, [unread("media")]),
    ("image without source", {"type": "image"}, [unread("media")]),
    (
        "document as text",
        {"type": "document", "title": "T", "context": "C", "source": {"type": "text", "data": "d"}},
        [part("third_party", "d", f"{PATH}.source", title="T", context="C")],
    ),
    (
        "document as string",
        {"type": "document", "source": {"type": "content", "content": "d"}},
        [
            part("third_party"),
            part("third_party", "d", f"{PATH}.source.content[0]"),
        ],
    ),
    (
        "document as blocks",
        {
            "type": "document",
            "title": "T",
            "source": {"type": "content", "content": [HI, {"type": "image", "source": PNG}]},
        },
        [
            part("third_party", title="T"),
            part("third_party", "hi", f"{PATH}.source.content[0]"),
            part(
                "media",
                "",
                f"{PATH}.source.content[1]",
                {"type": "image", "source": PNG},
                media_type="image/png",
            ),
        ],
    ),
    (
        "document of no known shape",
        {"type": "document", "source": {"type": "content", "content": {"text": "x"}}},
        [part("third_party"), unread("unknown_block", f"{PATH}.source")],
    ),
    (
        "document as pdf",
        {"type": "document", "title": "T", "source": PDF},
        [
            part("third_party", title="T"),
            part(
                "media",
                "",
                f"{PATH}.source",
                {"type": "document", "source": PDF},
                media_type="application/pdf",
            ),
        ],
    ),
    (
        "document by url",
        {"type": "document", "source": {"type": "url", "url": "u"}},
        [unread("media", f"{PATH}.source")],
    ),
    (
        "document by id",
        {"type": "document", "title": "T", "source": {"type": "file", "file_id": "f"}},
        [part("third_party", title="T"), unread("file", f"{PATH}.source")],
    ),
    ("document without source", {"type": "document"}, [unread("media", f"{PATH}.source")]),
    (
        "tool call",
        {"type": "tool_use", "id": "t", "name": "look", "input": {"b": 1, "a": "é"}},
        [part("tool_use", '{"a": "é", "b": 1}', tool_name="look", tool_use_id="t")],
    ),
    ("tool call without anything", {"type": "tool_use"}, [part("tool_use", "{}")]),
    (
        "server tool call",
        {"type": "server_tool_use", "id": "t", "name": "web_search", "input": {"query": "q"}},
        [part("tool_use", '{"query": "q"}', tool_name="web_search", tool_use_id="t")],
    ),
    (
        "mcp call",
        {"type": "mcp_tool_use", "id": "t", "name": "n", "server_name": "s", "input": {}},
        [part("tool_use", "{}", tool_name="n", tool_use_id="t", server="s")],
    ),
    (
        "call of a toolset",
        {"type": "tool_use", "id": "t", "name": "n", "input": {}, "toolset_name": "s"},
        [part("tool_use", "{}", tool_name="n", tool_use_id="t", toolset="s")],
    ),
    (
        "tool result",
        {"type": "tool_result", "tool_use_id": "t", "content": "ok", "is_error": True},
        [part("third_party", "ok", kind="tool_result", tool_use_id="t")],
    ),
    (
        "tool result without content",
        {"type": "tool_result", "tool_use_id": "t"},
        [part("third_party", kind="tool_result", tool_use_id="t")],
    ),
    (
        "tool result as blocks",
        {
            "type": "tool_result",
            "tool_use_id": "t",
            "content": [
                HI,
                "loose",
                {"type": "image", "source": PNG},
                {"type": "image", "source": {"type": "url", "url": "u"}},
                {"type": "tool_reference", "tool_name": "n"},
                {"type": "browser_state", "tabs": []},
                {"type": "novel"},
            ],
        },
        [
            part("third_party", kind="tool_result", tool_use_id="t"),
            part("third_party", "hi", f"{PATH}.content[0]"),
            part("third_party", "loose", f"{PATH}.content[1]"),
            part(
                "media",
                "",
                f"{PATH}.content[2]",
                {"type": "image", "source": PNG},
                media_type="image/png",
            ),
            unread("media", f"{PATH}.content[3]"),
            part(
                "third_party", "", f"{PATH}.content[4]", None, kind="tool_reference", tool_name="n"
            ),
            part("third_party", '{"tabs": []}', f"{PATH}.content[5]", None, kind="browser_state"),
            unread("unknown_block", f"{PATH}.content[6]"),
        ],
    ),
    (
        "search result",
        {"type": "search_result", "source": "s", "title": "T", "content": [HI]},
        [
            part("third_party", kind="search_result", source="s", title="T"),
            part("third_party", "hi", f"{PATH}.content[0]"),
        ],
    ),
    (
        "web search",
        {"type": "web_search_tool_result", "tool_use_id": "t", "content": [SEARCH]},
        [
            part(
                "third_party",
                '[{"title": "A", "type": "web_search_result", "url": "https://a"}]',
                kind="web_search_tool_result",
                tool_use_id="t",
            ),
            unread("encrypted", f"{PATH}.content"),
        ],
    ),
    (
        "web fetch of bytes",
        {"type": "web_fetch_tool_result", "content": {"content": {"source": PDF, "title": "T"}}},
        [
            part("third_party", '{"content": {"title": "T"}}', kind="web_fetch_tool_result"),
            unread("media", f"{PATH}.content"),
        ],
    ),
    (
        "code output",
        {
            "type": "code_execution_tool_result",
            "content": {"type": ENCRYPTED, "stdout": "", "encrypted_stdout": "y"},
        },
        [
            part(
                "third_party",
                f'{{"stdout": "", "type": "{ENCRYPTED}"}}',
                kind="code_execution_tool_result",
            ),
            unread("encrypted", f"{PATH}.content"),
        ],
    ),
    (
        "a server's own name for a field",
        {"type": "mcp_tool_listing", "tools": [{"properties": {"encrypted_note": "hear me"}}]},
        [
            part(
                "third_party",
                '{"tools": [{"properties": {"encrypted_note": "hear me"}}]}',
                kind="mcp_tool_listing",
            )
        ],
    ),
    (
        "a server's schema that looks like a result",
        {"type": "mcp_tool_listing", "tools": [SEARCH]},
        [part("third_party", json.dumps({"tools": [SEARCH]}, sort_keys=True), kind=LISTING)],
    ),
    (
        "what only looks encrypted",
        {"type": "code_execution_tool_result", "content": {"type": ENCRYPTED, "encrypted_x": "y"}},
        [
            part(
                "third_party",
                f'{{"encrypted_x": "y", "type": "{ENCRYPTED}"}}',
                kind="code_execution_tool_result",
            )
        ],
    ),
    (
        "mcp result",
        {"type": "mcp_tool_result", "tool_use_id": "t", "content": [HI]},
        [
            part(
                "third_party",
                '[{"text": "hi", "type": "text"}]',
                kind="mcp_tool_result",
                tool_use_id="t",
            )
        ],
    ),
    ("upload", {"type": "container_upload", "file_id": "f"}, [unread("file")]),
    ("compaction", {"type": "compaction", "content": "so far"}, [part("text", "so far")]),
    (
        "compaction with all",
        {"type": "compaction", "content": None, "encrypted_content": "x", "tool_changes": [{}]},
        [
            part("text"),
            unread("encrypted"),
            part("definition", "[{}]", f"{PATH}.tool_changes"),
        ],
    ),
    (
        "tool addition",
        {"type": "tool_addition", "tool": {"name": "look"}, "cache_control": {}},
        [part("definition", '{"name": "look"}')],
    ),
    (
        "tool removal",
        {"type": "tool_removal", "tool": {"name": "look"}},
        [part("definition", '{"name": "look"}')],
    ),
    ("unknown", {"type": "novelty", "text": "hi"}, [unread("unknown_block")]),
    ("type of no known kind", {"type": ["text"], "text": "hi"}, [unread("unknown_block")]),
    ("without type", {"text": "hi"}, [unread("unknown_block")]),
    ("empty object", {}, [unread("unknown_block")]),
    ("string", "hi", [part("text", "hi")]),
    ("none", None, [unread("unknown_block")]),
    ("number", 3, [unread("unknown_block")]),
    ("list", [HI], [unread("unknown_block")]),
    (
        "text with a delta nobody knows",
        {**HI, "unknown_deltas": [{}]},
        [unread("unknown_block"), part("text", "hi")],
    ),
]


@pytest.mark.parametrize(
    ("block", "found"), [row[1:] for row in BLOCKS], ids=[r[0] for r in BLOCKS]
)
def test_every_block_becomes_parts_or_is_named_with_a_reason(block: Any, found: list[Any]):
    request = read_request({"messages": [{"role": "user", "content": [block]}]})
    assert flat(request.turns[0]) == in_order(found)
    assert all(item.judged and item.role == "user" for item in request.turns[0].parts)


@pytest.mark.parametrize(
    ("block", "found"), [row[1:] for row in BLOCKS], ids=[r[0] for r in BLOCKS]
)
def test_blocks_of_an_answer_are_read_in_the_same_way(block: Any, found: list[Any]):
    answer = read_answer({"content": [block]})
    here = [(item[0].replace(PATH, "response.content[0]"), *item[1:]) for item in found]
    assert flat(answer) == in_order(here)
    assert all(item.role == "assistant" for item in answer.parts)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("hi", [part("text", "hi", "messages[0].content")]),
        ("", []),
        ([], []),
        (None, []),
        (7, [unread("unknown_block", "messages[0].content")]),
        ({"text": "hi"}, [unread("unknown_block", "messages[0].content")]),
        (["a", "b"], [part("text", "a"), part("text", "b", "messages[0].content[1]")]),
    ],
)
def test_a_turn_is_a_string_or_blocks_and_anything_else_is_named(content: Any, found: list[Any]):
    request = read_request({"messages": [{"role": "user", "content": content}]})
    assert flat(request.turns[0]) == in_order(found)


@pytest.mark.parametrize(
    ("role", "read_as"),
    [
        ("user", "user"),
        ("assistant", "assistant"),
        ("system", "system"),
        ("x", "assistant"),
        (None, "assistant"),
    ],
)
def test_a_turn_of_an_unknown_role_is_read_as_one_that_may_be_forged(role: Any, read_as: str):
    found, *others = read_request({"messages": [{"role": role, "content": "hi"}]}).turns[0].parts
    assert [other.text for other in others] == (["x"] if role == "x" else [])
    assert found.role == read_as


@pytest.mark.parametrize("turn", [None, "hi", 3, [], ["x"]])
def test_a_turn_that_is_no_object_is_named(turn: Any):
    request = read_request({"messages": [{"role": "user", "content": "a"}, turn]})
    assert flat(request.turns[1]) == [unread("unknown_block", "messages[1]")]


@pytest.mark.parametrize(
    ("fields", "system", "definitions"),
    [
        ({}, [], []),
        ({"system": "be kind"}, [part("text", "be kind", "system")], []),
        ({"system": [HI]}, [part("text", "hi", "system[0]")], []),
        ({"system": None}, [], []),
        ({"system": {"text": "x"}}, [unread("unknown_block", "system")], []),
        (
            {"tools": [{"name": "n", "description": "d"}]},
            [],
            [part("definition", '{"description": "d", "name": "n"}', "tools[0]", tool_name="n")],
        ),
        ({"tools": ["x"]}, [], [part("definition", '"x"', "tools[0]", tool_name="")]),
        ({"tools": None}, [], []),
        ({"tools": "x"}, [], [unread("unknown_block", "tools")]),
        ({"tools": {"name": "n"}}, [], [unread("unknown_block", "tools")]),
        (
            {"output_config": {"format": {"schema": {"type": "object"}}, "effort": "low"}},
            [],
            [
                part(
                    "definition",
                    '{"effort": "low", "format": {"schema": {"type": "object"}}}',
                    "output_config",
                )
            ],
        ),
        (
            {"output_config": {"effort": {"say": "x"}}},
            [],
            [part("definition", '{"effort": {"say": "x"}}', "output_config")],
        ),
        ({"output_config": {"effort": "low", "task_budget": 3}}, [], []),
        ({"output_config": None}, [], []),
        ({"output_format": {"x": "y"}}, [], [part("definition", '{"x": "y"}', "output_format")]),
        (
            {"context_management": {"edits": [{"instructions": "x"}]}},
            [],
            [part("definition", '{"edits": [{"instructions": "x"}]}', "context_management")],
        ),
        (
            {"novel": "x", "another": [1]},
            [],
            [
                part("definition", "[1]", "another"),
                part("definition", "x", "novel"),
            ],
        ),
        ({"novel": 3, "other": True, "third": None}, [], []),
        ({"messages": "hi"}, [], [unread("unknown_block", "messages")]),
        ({"messages": None}, [], [unread("unknown_block", "messages")]),
        (
            {"container": {"id": "c", "skills": [{"type": "anthropic", "skill_id": "pptx"}]}},
            [],
            [],
        ),
        (
            {"container": {"skills": [{"type": "custom", "skill_id": "s1"}, "odd"]}},
            [],
            [
                part(
                    "definition",
                    '{"skills": [{"skill_id": "s1", "type": "custom"}, "odd"]}',
                    "container",
                ),
                unread("file", "container.skills[0]"),
                unread("file", "container.skills[1]"),
            ],
        ),
        (
            {
                "max_tokens": 5,
                "model": "m",
                "metadata": {"user_id": "u"},
                "stop_sequences": [],
                "thinking": {"type": "adaptive"},
                "tool_choice": {"type": "auto"},
                "mcp_servers": [],
                "stream": True,
                "container": "c",
            },
            [],
            [],
        ),
        ({"stop_sequences": ["x"]}, [], [part("definition", '["x"]', "stop_sequences")]),
        (
            {"tool_choice": {"type": "tool", "name": "x"}},
            [],
            [part("definition", '{"name": "x", "type": "tool"}', "tool_choice")],
        ),
        (
            {"tools": [{"name": "x"}], "tool_choice": {"type": "tool", "name": "x"}},
            [],
            [part("definition", '{"name": "x"}', "tools[0]", tool_name="x")],
        ),
        (
            {"metadata": {"user_id": "u", "note": "x"}},
            [],
            [part("definition", '{"note": "x", "user_id": "u"}', "metadata")],
        ),
        (
            {"mcp_servers": [{"name": "n", "url": "https://x", "authorization_token": "secret"}]},
            [],
            [
                part("definition", '{"name": "n", "url": "https://x"}', "mcp_servers[0]"),
                unread("remote_tools", "mcp_servers[0]"),
            ],
        ),
        (
            {"mcp_servers": "x"},
            [],
            [part("definition", '"x"', "mcp_servers"), unread("remote_tools", "mcp_servers")],
        ),
        (
            {"container": {"skills": "x"}},
            [],
            [part("definition", '{"skills": "x"}', "container")],
        ),
        (
            {"a sentence": None, "other sentence": 3},
            [],
            [
                part("definition", '{"a sentence": null}', "?"),
                part("definition", '{"other sentence": 3}', "?"),
            ],
        ),
    ],
)
def test_what_stands_beside_the_turns_is_read_too(
    fields: JSON, system: list[Any], definitions: list[Any]
):
    found = read_request(fields)
    assert flat(found.setup) == in_order([*system, *definitions])
    assert found.turns == ()


def readable(found: Part) -> str:
    return json.dumps([found.text, found.labels, found.attachment], ensure_ascii=False)


@settings(deadline=None, max_examples=400)
@given(marked_requests())
def test_no_text_of_a_request_goes_unread_unnamed(body: JSON):
    content = read_request(body)
    found = (content.setup, *content.turns)
    read = any(MARKER in readable(part) for place in found for part in place.parts)
    named = [item.path for place in found for item in place.uninspected]
    places = {
        name if name != "messages" or not isinstance(value, list) else f"messages[{index}]"
        for name, value in body.items()
        for index, turn in enumerate(value if isinstance(value, list) else [value])
        if MARKER in json.dumps(turn)
    }
    assert read or any(path.startswith(tuple(places)) for path in named)


@pytest.mark.parametrize("name", MARKED_BLOCKS)
@pytest.mark.parametrize("before", [None, {}, {0: (0,)}])
def test_no_text_of_an_answer_goes_unread_unnamed(name: str, before: Windows | None):
    found = read_answer({"content": [MARKED_BLOCKS[name]]}, before)
    assert found.uninspected or any(MARKER in readable(part) for part in found.parts)


@settings(deadline=None, max_examples=300)
@given(json_values, json_values, json_values)
def test_any_json_can_be_read(one: Any, other: Any, third: Any):
    items = [one, {"type": "document", "source": other}, {"type": "tool_result", "content": third}]
    body = {"system": one, "tools": other, "messages": [{"role": "user", "content": items}, third]}
    found = read_request(body)
    assert len(found.turns) == 2
    read_answer({"content": items})
    for place in (found.setup, *found.turns):
        json.dumps([part.as_json() for part in place.parts])


@pytest.mark.parametrize("half", ["\ud800", "image/png\udc00"])
@pytest.mark.parametrize("field", ["media_type", "data", "more"])
def test_media_that_could_not_be_sent_to_a_judge_is_uninspected(half: str, field: str):
    """The judge's call would fail on half a character, and that would pass for an outage."""
    body = {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image", "source": {**PNG, field: half}}],
            }
        ]
    }
    found = read_request(body).turns[0]
    assert all(part.attachment is None for part in found.parts)
    assert [item.reason for item in found.uninspected] == ["media"]


# --- an answer that grows -------------------------------------------------------------------------


def split(found: Extracted) -> list[tuple[str, bool]]:
    return [(part.text, part.judged) for part in found.parts]


@pytest.mark.parametrize(
    ("block", "before", "found"),
    [
        (HI, None, [("hi", True)]),
        (HI, (0,), [("hi", True)]),
        (HI, (1,), [("h", False), ("i", True)]),
        (HI, (1, 2), [("h", False), ("i", False)]),
        (HI, (0, 0, 2), [("hi", False)]),
        (HI, (9,), [("hi", False)]),
        ({"type": "thinking", "thinking": "hmm"}, (1,), [("h", False), ("mm", True)]),
        (
            {"type": "thinking", "thinking": "hmm"},
            (1, 2),
            [("h", False), ("m", False), ("m", True)],
        ),
        ({"type": "tool_use", "input": {"a": 1}}, (0,), [('{"a": 1}', False)]),
        ({"type": "tool_use", "input": {"a": 1}}, None, [('{"a": 1}', True)]),
        (
            {**HI, "citations": [{"cited_text": "c"}]},
            (2,),
            [("hi", False), ('[{"cited_text": "c"}]', True)],
        ),
    ],
)
def test_what_an_earlier_verdict_covered_is_context(
    block: JSON, before: tuple[int, ...] | None, found: list[tuple[str, bool]]
):
    seen = {} if before is None else {0: before}
    pieces = Pieces()
    if before is not None:
        known = {name: item for name, item in block.items() if name != "citations"}
        read_answer({"content": [known]}, pieces=pieces)
    assert split(read_answer({"content": [block]}, seen, pieces)) == found


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("text", "thinking")), any_text), max_size=4), st.data())
def test_the_pieces_of_a_growing_answer_are_each_judged_once(
    blocks: list[tuple[str, str]], data: st.DataObject
):
    whole = [{"type": kind, kind: said} for kind, said in blocks]
    position = data.draw(st.integers(0, len(whole)))
    earlier = [dict(block) for block in whole[:position]]
    if earlier:
        kind, said = blocks[position - 1]
        earlier[-1][kind] = said[: data.draw(st.integers(0, len(said)))]
    first = read_answer({"content": earlier})
    then = read_answer({"content": whole}, judged_so_far({"content": earlier}, {}))
    judged = [text for text, judged in split(first) + split(then) if judged]
    assert sorted("".join(judged)) == sorted("".join(said for _, said in blocks))
    context = "".join(text for text, judged in split(then) if not judged)
    assert context == "".join(text for text, _ in split(first))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(("text", "thinking")), any_text), min_size=1, max_size=3),
    st.data(),
)
def test_pieces_that_are_kept_are_those_that_would_be_cut_anew(
    blocks: list[tuple[str, str]], data: st.DataObject
):
    texts = [(kind, said, 0) for kind, said in blocks]
    judged: Windows = {}
    pieces = Pieces()
    before = Extracted()
    for _ in range(4):
        texts = [
            (kind, said, data.draw(st.integers(shown, len(said)))) for kind, said, shown in texts
        ]
        message = {"content": [{"type": kind, kind: said[:shown]} for kind, said, shown in texts]}
        found = read_answer(message, judged, pieces)
        assert found == read_answer(message, judged)
        context = [part for part in found.parts if not part.judged]
        again = {id(part) for part in before.parts if not part.judged}
        assert again <= {id(item) for item in context}
        judged, before = judged_so_far(message, judged), found


def test_citations_are_judged_until_they_no_longer_grow():
    cited = {**HI, "citations": [{"cited_text": "c"}]}
    more = {**HI, "citations": [{"cited_text": "c"}, {"cited_text": "d"}]}
    call = {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}}
    pieces, judged = Pieces(), Windows()
    seen: list[list[bool]] = []
    for content in ([cited], [more], [more, call], [more, call]):
        found = read_answer({"content": content}, judged, pieces)
        seen.append([judged for _, judged in split(found)])
        judged = judged_so_far({"content": content}, judged)
    assert seen == [[True, True], [False, True], [False, False, True], [False, False, False]]


def test_windows_end_where_the_texts_of_an_answer_did():
    content = [HI, {"type": "thinking", "thinking": "hmm"}, {"type": "tool_use"}, "loose", None]
    first = judged_so_far({"content": content}, {})
    assert first == {0: (2,), 1: (3,), 2: (0,)}
    grown = [HI, {"type": "thinking", "thinking": "hmm, well"}, {"type": "tool_use"}]
    assert judged_so_far({"content": grown}, first) == {0: (2, 2), 1: (3, 9), 2: (0, 0)}


# --- the question ---------------------------------------------------------------------------------


def test_only_what_was_read_of_a_block_was_heard():
    odd = {"type": "thinking", "thinking": "a plan", "text": "a longer text that is not read"}
    judged = judged_so_far({"content": [odd]}, {})
    grown = {**odd, "thinking": "a plan that goes on"}
    [before, now, other] = read_answer({"content": [grown]}, judged).parts
    assert (other.path, other.text) == ("response.content[0].text", odd["text"])
    assert (before.text, before.judged) == ("a plan", False)
    assert (now.text, now.judged) == (" that goes on", True)


def test_a_part_as_context_keeps_everything_but_that_it_is_judged():
    item = Part("p", "user", "media", "t", labels={"a": "b"}, attachment={"type": "image"})
    again = as_context(item)
    assert not again.judged
    assert item.judged
    fields = ("path", "role", "kind", "text", "labels", "attachment")
    assert all(getattr(again, name) == getattr(item, name) for name in fields)


ONE = Part("p", "user", "text", "t")


def key(subject: Subject) -> str:
    return subject.digest(GrowingDigest(Digests(b"key", "scope"), "verdict"))


@pytest.mark.parametrize(
    "other",
    [
        Subject("output", (ONE,)),
        Subject("input", (ONE,), final=False),
        Subject("input", ()),
        Subject("input", (ONE, ONE)),
        Subject("input", (as_context(ONE),)),
        Subject("input", (Part("q", "user", "text", "t"),)),
        Subject("input", (Part("p", "assistant", "text", "t"),)),
        Subject("input", (Part("p", "user", "third_party", "t"),)),
        Subject("input", (Part("p", "user", "text", "u"),)),
        Subject("input", (Part("p", "user", "text", "t", labels={"a": "b"}),)),
        Subject("input", (Part("p", "user", "text", "t", attachment={}),)),
    ],
)
def test_everything_about_a_question_identifies_it(other: Subject):
    assert key(Subject("input", (ONE,))) != key(other)
    assert key(other) == key(other)
