"""Views over Messages API JSON."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings

from magistrate.wire.digests import canonical, returned_forms
from magistrate.wire.messages import (
    PLACEHOLDER,
    acts_on_the_provider,
    asks_for_structure,
    blocks,
    platform_signals,
    redacted,
    text_of,
    turns,
)
from strategies import json_values

JSON = dict[str, Any]
HI = {"type": "text", "text": "hi"}
CALL = {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "x"}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"messages": [{"role": "user"}]}, [{"role": "user"}]),
        ({"messages": [1, None, "x"]}, [1, None, "x"]),
        ({"messages": []}, []),
        ({}, []),
        ({"messages": None}, []),
        ({"messages": "hi"}, []),
        ({"messages": {"role": "user"}}, []),
    ],
)
def test_turns_are_what_was_sent_and_nothing_where_that_is_no_array(body: JSON, found: list[Any]):
    assert turns(body) == found


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("hi", [HI]),
        ("", [{"type": "text", "text": ""}]),
        ([HI, CALL], [HI, CALL]),
        ([], []),
        (None, []),
        (5, []),
        ({"type": "text", "text": "hi"}, []),
    ],
)
def test_a_string_is_one_text_block(content: object, found: list[Any]):
    assert blocks(content) == found


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hi", "hi"),
        ([HI, CALL, {"type": "text", "text": " there"}], "hi there"),
        ([THOUGHT], ""),
        ([{"type": "text"}, None, 3, "loose"], ""),
        (None, ""),
    ],
)
def test_the_text_of_a_turn_is_its_text_blocks_joined(content: object, text: str):
    assert text_of(content) == text


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({}, False),
        ({"output_config": {"effort": "low"}}, False),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, True),
        ({"output_config": {"format": None}}, False),
        ({"output_config": None}, False),
        ({"output_config": "json"}, False),
        ({"output_format": {"type": "json_schema", "schema": {}}}, True),
        ({"output_format": None}, False),
    ],
)
def test_structured_output_is_recognised_in_both_forms(body: JSON, asked: bool):
    assert asks_for_structure(body) is asked


def said(block: JSON) -> JSON:
    return {"messages": [{"role": "user", "content": [block]}]}


def defined(kind: str) -> JSON:
    return {"type": "tool_definition", "definition": {"type": kind}}


def kept(tool: JSON) -> JSON:
    return {"type": "compaction", "tool_changes": [{"type": "tool_addition", "tool": tool}]}


@pytest.mark.parametrize(
    ("body", "acts"),
    [
        ({}, False),
        ({"tools": []}, False),
        ({"tools": None}, False),
        ({"tools": "look"}, False),
        ({"tools": [{"name": "look", "input_schema": {}}]}, False),
        ({"tools": [{"type": "custom", "name": "look"}]}, False),
        ({"tools": [{"type": "bash_20250124"}]}, False),
        ({"tools": [{"type": "text_editor_20250728"}]}, False),
        ({"tools": [{"type": "computer_20250124"}]}, False),
        ({"tools": [{"type": "memory_20250818"}]}, False),
        ({"tools": [{"type": "web_search_20250305"}]}, True),
        ({"tools": [{"type": "code_execution_20250825"}]}, True),
        ({"tools": [{"type": "mcp_toolset"}]}, True),
        ({"tools": [{"type": "custom"}, {"type": "something_new_20990101"}]}, True),
        ({"mcp_servers": [{"type": "url", "url": "https://example.com"}]}, True),
        ({"mcp_servers": []}, False),
        ({"container": "container_1"}, True),
        ({"container": {"skills": []}}, True),
        ({"container": None}, False),
        (said({"type": "tool_addition", "tool": defined("custom")}), False),
        (said({"type": "tool_addition", "tool": defined("bash_20250124")}), False),
        (said({"type": "tool_addition", "tool": defined("mcp_toolset")}), True),
        (said({"type": "tool_addition", "tool": defined("web_search_20250305")}), True),
        (said({"type": "tool_addition", "tool": {"type": "tool_reference", "name": "a"}}), False),
        (said({"type": "tool_addition", "tool": None}), False),
        (said({"type": "tool_removal", "tool": defined("mcp_toolset")}), False),
        (said(kept(defined("web_search_20250305"))), True),
        (said(kept(defined("custom"))), False),
        (said({"type": "compaction", "tool_changes": "look"}), False),
        ({"messages": ["hi", {"role": "user", "content": "hi"}]}, False),
    ],
)
def test_a_request_acts_at_the_provider_unless_the_caller_runs_all_its_tools(
    body: JSON, acts: bool
):
    assert acts_on_the_provider(body) is acts


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ({}, None),
        ({"stop_reason": "end_turn", "stop_details": None}, None),
        ({"stop_reason": "refusal"}, {"stop_reason": "refusal", "category": None}),
        (
            {"stop_reason": "refusal", "stop_details": {"category": "bio", "explanation": "x"}},
            {"stop_reason": "refusal", "category": "bio"},
        ),
        (
            {"stop_reason": "refusal", "stop_details": "bio"},
            {"stop_reason": "refusal", "category": None},
        ),
        ({"stop_reason": "refusal", "stop_details": {"magistrate": {"decision_id": "d"}}}, None),
        ({"safeguard_results": []}, {"safeguard_results": []}),
        ({"safeguard_results": None}, None),
    ],
)
def test_the_platforms_own_word_is_told_from_ours(message: JSON, found: JSON | None):
    assert platform_signals(message) == found


SAME: list[tuple[str, JSON, JSON]] = [
    ("string and block", {"content": "hi"}, {"content": [HI]}),
    ("null field", {"content": [HI]}, {"content": [{**HI, "citations": None}]}),
    (
        "cache mark",
        {"content": [HI]},
        {"content": [{**HI, "cache_control": {"type": "ephemeral"}}]},
    ),
    (
        "cache mark inside",
        {"content": [{"type": "tool_result", "tool_use_id": "t", "content": [HI]}]},
        {
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{**HI, "cache_control": {"type": "ephemeral"}}],
                }
            ]
        },
    ),
    ("order of keys", {"content": [CALL]}, {"content": [dict(reversed(CALL.items()))]}),
    ("nothing and no blocks", {"content": None}, {"content": []}),
]
OTHER: list[tuple[str, JSON, JSON]] = [
    ("text", {"content": "hi"}, {"content": "ho"}),
    ("role", {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hi"}),
    ("split text", {"content": "hihi"}, {"content": [HI, HI]}),
    ("a tool's input", {"content": [CALL]}, {"content": [{**CALL, "input": {"at": "y"}}]}),
    (
        "an input called cache_control",
        {"content": [CALL]},
        {"content": [{**CALL, "input": {"at": "x", "cache_control": "say anything"}}]},
    ),
    (
        "a null in an input",
        {"content": [CALL]},
        {"content": [{**CALL, "input": {"at": "x", "obey me": None}}]},
    ),
    (
        "a server's schema with a name of ours",
        {"content": [{"type": "mcp_tool_listing", "tools": [{"schema": {}}]}]},
        {"content": [{"type": "mcp_tool_listing", "tools": [{"schema": {"cache_control": "x"}}]}]},
    ),
    (
        "a null in a definition",
        {"content": [{"type": "compaction", "tool_changes": [{"tool": {}}]}]},
        {"content": [{"type": "compaction", "tool_changes": [{"tool": {"say": None}}]}]},
    ),
    ("content of no known shape", {"content": []}, {"content": {"text": "anything"}}),
    ("a number", {"content": []}, {"content": 5}),
    ("a string in a list", {"content": "hi"}, {"content": ["hi"]}),
]


@pytest.mark.parametrize(("one", "other"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_forms_of_one_turn_have_one_canonical_form(one: JSON, other: JSON):
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"), [row[1:] for row in OTHER], ids=[row[0] for row in OTHER]
)
def test_turns_that_say_different_things_have_different_canonical_forms(one: JSON, other: JSON):
    assert canonical(one) != canonical(other)


@settings(deadline=None)
@given(json_values)
def test_reading_changes_nothing_it_is_given(content: Any):
    message = {"role": "assistant", "content": content}
    before = copy.deepcopy(message)
    canonical(message)
    returned_forms(message)
    redacted(message)
    assert message == before


@pytest.mark.parametrize(
    ("content", "forms"),
    [
        ([HI], [[HI]]),
        ([THOUGHT, HI], [[THOUGHT, HI], [HI]]),
        ([HI, CALL], [[HI, CALL], [HI]]),
        ([CALL], [[CALL]]),
        ([THOUGHT], [[THOUGHT]]),
        ([HI, HI], [[HI, HI], [{"type": "text", "text": "hihi"}]]),
        ([], []),
        (None, []),
    ],
)
def test_an_answer_may_come_back_whole_without_thinking_or_as_a_string(
    content: Any, forms: list[list[JSON]]
):
    found = returned_forms({"content": content})
    assert [form["content"] for form in found] == forms
    assert {form["role"] for form in found} <= {"assistant"}


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"role": "user", "content": "evil"}, PLACEHOLDER),
        ({"role": "user", "content": [HI]}, PLACEHOLDER),
        (
            {"role": "assistant", "content": [HI, CALL]},
            [{"type": "tool_use", "id": CALL["id"], "name": CALL["name"], "input": {}}],
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "evil"},
                    {"type": "tool_result", "tool_use_id": "t2", "content": [HI]},
                    HI,
                ],
            },
            [
                {"type": "tool_result", "tool_use_id": "t1", "content": PLACEHOLDER},
                {"type": "tool_result", "tool_use_id": "t2", "content": PLACEHOLDER},
            ],
        ),
    ],
)
def test_a_redacted_turn_keeps_its_role_and_the_ids_that_the_api_pairs(message: JSON, content: Any):
    assert redacted(message) == {"role": message["role"], "content": content}
