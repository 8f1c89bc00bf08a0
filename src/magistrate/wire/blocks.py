"""Read content blocks into parts.

Pure. Content that cannot be turned into a part becomes an `Uninspected` with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from magistrate.wire.messages import JSON, blocks, is_array, is_object
from magistrate.wire.parts import Extract, Kind, Part, Role, Uninspected

# Results that arrive complete and were not written in the conversation.
_THIRD_PARTY_BLOCKS = frozenset(
    {
        "advisor_tool_result",
        "bash_code_execution_tool_result",
        "browser_state",
        "code_execution_tool_result",
        "fallback",
        "mcp_tool_listing",
        "mcp_tool_result",
        "search_result",
        "text_editor_code_execution_tool_result",
        "tool_reference",
        "tool_result",
        "tool_search_tool_result",
        "web_fetch_tool_result",
        "web_search_tool_result",
    }
)
# Those without `content`: the whole block is content.
_WHOLE_BLOCKS = frozenset({"browser_state", "fallback", "mcp_tool_listing"})
# The field of a result that only the provider can read, by the type of the object that has it. The
# name alone is not enough: a server chooses the names in the schemas of its tools.
_OPAQUE_FIELDS = {
    "advisor_redacted_result": "encrypted_content",
    "encrypted_code_execution_result": "encrypted_stdout",
    "web_search_result": "encrypted_content",
    "web_search_result_location": "encrypted_index",
}
_CALL_BLOCKS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


def read_content(content: object, path: str, role: Role) -> Extract:
    if content is None:
        return
    if isinstance(content, str):
        if content:
            yield Part(path, role, "text", content)
    elif is_array(content):
        for index, block in enumerate(content):
            yield from read_block(block, f"{path}[{index}]", role)
    else:
        yield Uninspected(path, "unknown_block")


def read_block(block: object, path: str, role: Role, kind: Kind = "text") -> Extract:
    if isinstance(block, str):
        yield Part(path, role, kind, block)
        return
    if not is_object(block):
        yield Uninspected(path, "unknown_block")
        return
    if block.get("unknown_deltas"):
        yield Uninspected(path, "unknown_block")
    match block.get("type"):
        case "text":
            if block.get("text"):
                yield Part(path, role, kind, str(block["text"]))
            cited = block.get("citations")
            if is_array(cited) and cited:
                yield Part(f"{path}.citations", role, "third_party", dump(cited))
        case "thinking":
            if block.get("thinking"):
                yield Part(path, role, "thinking", str(block["thinking"]))
        case "redacted_thinking":
            yield Uninspected(path, "encrypted")
        case "image":
            yield from _media(block, path, role)
        case "document":
            yield from _document(block, path, role)
        case "container_upload":
            yield Uninspected(path, "file")
        case "compaction":
            yield Part(path, role, "text", str(block.get("content") or ""))
            if block.get("encrypted_content"):
                yield Uninspected(path, "encrypted")
            if changes := block.get("tool_changes"):
                yield Part(f"{path}.tool_changes", role, "definition", dump(changes))
        case "tool_addition" | "tool_removal":
            yield Part(path, role, "definition", dump(block.get("tool")))
        case str(name) if name in _CALL_BLOCKS:
            labels = _labels(
                block,
                tool_name="name",
                tool_use_id="id",
                server="server_name",
                toolset="toolset_name",
            )
            yield Part(path, role, "tool_use", dump(block.get("input", {})), labels=labels)
        case str(name) if name in _THIRD_PARTY_BLOCKS:
            yield from _third_party(block, path, role)
        case _:
            yield Uninspected(path, "unknown_block")


def _media(block: JSON, path: str, role: Role) -> Extract:
    source = block.get("source")
    kind = source.get("type") if is_object(source) else None
    if is_object(source) and kind == "base64" and _whole_unicode(source):
        # The model receives exactly the bytes in the request. A URL may serve a judge something
        # else than the model, so its content cannot be judged.
        labels = _labels(source, media_type="media_type")
        attachment = {key: block[key] for key in ("type", "source")}
        yield Part(path, role, "media", "", labels=labels, attachment=attachment)
    else:
        yield Uninspected(path, "file" if kind == "file" else "media")


def _whole_unicode(value: object) -> bool:
    """Return whether all text in a JSON value is valid Unicode.

    A lone surrogate would make the judge's call fail and look like an outage.
    """
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)
    if is_object(value):
        return all(_whole_unicode(key) and _whole_unicode(item) for key, item in value.items())
    return not is_array(value) or all(map(_whole_unicode, value))


def _document(block: JSON, path: str, role: Role) -> Extract:
    source = block.get("source")
    labels = _labels(block, title="title", context="context")
    match source.get("type") if is_object(source) else None:
        case "text" if is_object(source):
            text = str(source.get("data") or "")
            yield Part(f"{path}.source", role, "third_party", text, labels=labels)
        case "content" if is_object(source):
            inner: object = source.get("content")
            yield Part(path, role, "third_party", "", labels=labels)
            if not isinstance(inner, str) and not is_array(inner):
                yield Uninspected(f"{path}.source", "unknown_block")
            for index, item in enumerate(blocks(inner)):
                yield from read_block(item, f"{path}.source.content[{index}]", role, "third_party")
        case _:
            if labels:
                yield Part(path, role, "third_party", "", labels=labels)
            yield from _media(block, f"{path}.source", role)


def _third_party(block: JSON, path: str, role: Role) -> Extract:
    labels = _labels(
        block,
        kind="type",
        tool_use_id="tool_use_id",
        tool_name="tool_name",
        toolset="toolset_name",
        title="title",
        source="source",
        url="url",
    )
    content: object = block.get("content")
    opaque = _OPAQUE_FIELDS
    if block.get("type") in _WHOLE_BLOCKS:
        content = {key: value for key, value in block.items() if key != "type"}
        opaque = {}
    if isinstance(content, str) or content is None:
        yield Part(path, role, "third_party", content or "", labels=labels)
    elif is_array(content) and block.get("type") in ("tool_result", "search_result"):
        yield Part(path, role, "third_party", "", labels=labels)
        for index, item in enumerate(content):
            yield from read_block(item, f"{path}.content[{index}]", role, "third_party")
    else:
        hidden: list[str] = []
        readable = _without_opaque(content, opaque, hidden.append)
        yield Part(path, role, "third_party", dump(readable), labels=labels)
        for where in hidden:
            yield Uninspected(f"{path}.content", "media" if where == "base64" else "encrypted")


def _without_opaque(
    value: object, opaque: Mapping[str, str], report: Callable[[str], None]
) -> object:
    if is_array(value):
        return [_without_opaque(item, opaque, report) for item in value]
    if not is_object(value):
        return value
    kept: JSON = {}
    for key, item in value.items():
        if key == opaque.get(str(value.get("type"))) and isinstance(item, str):
            report("encrypted")
        elif key == "source" and is_object(item) and item.get("type") == "base64":
            report("base64")
        else:
            kept[key] = _without_opaque(item, opaque, report)
    return kept


def _labels(block: JSON, **fields: str) -> dict[str, str]:
    return {
        label: value if isinstance(value := block[key], str) else dump(value)
        for label, key in fields.items()
        if block.get(key) is not None
    }


def dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
