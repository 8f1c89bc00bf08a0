"""Views of Messages API JSON: turns, blocks, redacted forms.

Pure. The JSON stays a dict, so fields that this version does not know survive untouched. No
function changes its argument.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeGuard

import orjson

JSON = dict[str, Any]

# Replaces a blocked turn before it is sent upstream or shown to a judge.
PLACEHOLDER = "[This message was removed by content moderation.]"

# Tools executed by the caller's own code. Any other `type` runs at the provider, or is unknown.
_CLIENT_TOOL_PREFIXES = ("bash_", "text_editor_", "computer_", "memory_", "browser_")


def is_object(value: object) -> TypeGuard[JSON]:
    """Return whether `value` is a JSON object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Return whether `value` is a JSON array."""
    return isinstance(value, list)


def unique_keys(pairs: list[tuple[str, Any]]) -> JSON:
    """Return a JSON object (`object_pairs_hook`). Raise ValueError for a duplicate key.

    Of two equal keys readers take different ones, so such an object means two things.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("duplicate key")
    return found


# Deeper than any content: readers that call themselves for each level must not run out of stack.
MAX_DEPTH = 200


def parsed(text: str | bytes, *, unique: bool = False) -> object:
    """Return a JSON value. Raise ValueError for what is no JSON or nested more than 200 deep.

    `unique`: also for an object with a key twice.
    """
    try:
        found: object = json.loads(text, object_pairs_hook=unique_keys if unique else None)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    opening = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    brackets = sum(text.count(each) for each in opening)  # pyright: ignore[reportArgumentType]
    if brackets > MAX_DEPTH and _is_deeper(found, MAX_DEPTH):
        raise ValueError("nested too deeply")
    return found


def as_bytes(body: JSON) -> bytes:
    """Return a JSON object as UTF-8, with every value kept as `parsed` reads it."""
    with suppress(TypeError):  # for large integers, and lone surrogates, which `json` escapes again
        found = orjson.dumps(body)
        if orjson.loads(found) == body:  # false with a NaN, which orjson writes as null
            return found
    return json.dumps(body).encode()


def _is_deeper(value: object, depth: int) -> bool:
    level = [value]
    while level and depth >= 0:
        inner: list[object] = []
        for item in level:
            inner += item.values() if is_object(item) else item if is_array(item) else ()
        level, depth = inner, depth - 1
    return bool(level)


def turns(body: JSON) -> list[Any]:
    """Return the conversation's turns as sent; empty if `messages` is missing or not an array."""
    found = body.get("messages")
    return found if is_array(found) else []


def blocks(content: object) -> list[Any]:
    """Return the content blocks of a turn; a plain string is one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if is_array(content) else []


def text_of(content: object) -> str:
    """Return the joined text blocks of a turn."""
    return "".join(
        str(block.get("text", ""))
        for block in blocks(content)
        if is_object(block) and block.get("type") == "text"
    )


def asks_for_structure(body: JSON) -> bool:
    """Return whether the SDK will parse every text block of the answer as JSON."""
    config = body.get("output_config")
    return bool(is_object(config) and config.get("format")) or bool(body.get("output_format"))


def platform_signals(message: JSON) -> JSON | None:
    """Return what the provider says about the safety of an answer, or None.

    That is: a refusal that magistrate did not write, and safeguard results.
    """
    found: JSON = {}
    details: object = message.get("stop_details")
    details = details if is_object(details) else {}
    if message.get("stop_reason") == "refusal" and "magistrate" not in details:
        found = {"stop_reason": "refusal", "category": details.get("category")}
    if message.get("safeguard_results") is not None:
        found["safeguard_results"] = message["safeguard_results"]
    return found or None


def acts_on_the_provider(body: JSON) -> bool:
    """Return whether the request can have effects before its answer is read.

    Server tools, MCP servers and containers run at the provider, and threads are stored there. A
    tool `type` counts as a server tool unless it is known to be executed by the caller.
    """
    if body.get("mcp_servers") or body.get("container") or body.get("thread"):
        return True
    for tool in _tools(body):
        kind = tool.get("type") if is_object(tool) else None
        if isinstance(kind, str) and kind != "custom":
            if kind.startswith(_CLIENT_TOOL_PREFIXES):
                continue
            return True
    return False


def _tools(body: JSON) -> Iterator[object]:
    """Yield every tool that a request defines, in `tools` or in a turn that adds one."""
    tools = body.get("tools")
    yield from tools if is_array(tools) else []
    for turn in turns(body):
        for block in blocks(turn.get("content")) if is_object(turn) else []:
            match block.get("type") if is_object(block) else None:
                case "tool_addition":
                    changes: object = [block]
                case "compaction" if is_object(block):
                    changes = block.get("tool_changes")
                case _:
                    continue
            for change in changes if is_array(changes) else []:
                tool = change.get("tool") if is_object(change) else None
                if is_object(tool) and "definition" in tool:
                    yield tool["definition"]


def redacted(message: JSON) -> JSON:
    """Return the turn with its content replaced by a placeholder.

    Tool calls and tool results keep their ids, since the API pairs them.
    """
    kept: list[JSON] = []
    for block in blocks(message.get("content")):
        match block.get("type") if is_object(block) else None:
            case "tool_result":
                name = block.get("tool_use_id")
                kept.append({"type": "tool_result", "tool_use_id": name, "content": PLACEHOLDER})
            case "tool_use":
                kept.append({key: block.get(key) for key in ("type", "id", "name")} | {"input": {}})
            case _:
                pass
    return {"role": message.get("role"), "content": kept or PLACEHOLDER}
