"""Read content blocks into parts.

Pure. Each reader takes the fields of one kind of block; what it leaves is `residue`. Content that
cannot be turned into a part becomes an `Uninspected` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from magistrate.wire.messages import JSON, blocks, is_array, is_object
from magistrate.wire.parts import Extract, Kind, Part, Role, Uninspected
from magistrate.wire.shapes import CACHE_MARK, CALLER, ID, OPAQUE, WORD, Shape
from magistrate.wire.sources import SOURCE, read_source, taken_labels
from magistrate.wire.unknown_fields import dump, residue

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
# Fields without content that any block may have.
_ANY_BLOCK: Mapping[str, Shape] = {"type": WORD, "cache_control": CACHE_MARK, "caller": CALLER}
_SEALED: Mapping[str, Shape] = {**_ANY_BLOCK, "signature": OPAQUE}
_IMAGE: Mapping[str, Shape] = {**_ANY_BLOCK, "transformations": {"oversized_image": WORD}}
_BY_REFERENCE: Mapping[str, Shape] = {**_ANY_BLOCK, "file_id": ID}


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
    left = dict(block)
    if left.pop("unknown_deltas", None):
        yield Uninspected(path, "unknown_block")
    shapes = _ANY_BLOCK
    match block.get("type"):
        case "text":
            if text := _taken(left, "text"):
                yield Part(path, role, kind, text)
            yield from _citations(left, path, role)
        case "thinking":
            if text := _taken(left, "thinking"):
                yield Part(path, role, "thinking", text)
            shapes = _SEALED
        case "redacted_thinking":
            left.pop("data", None)
            yield Uninspected(path, "encrypted")
        case "image":
            yield from read_source("image", left.pop("source", None), path, f"{path}.source", role)
            shapes = _IMAGE
        case "document":
            yield from _document(left, path, role)
        case "container_upload":
            yield Uninspected(path, "file")
            shapes = _BY_REFERENCE
        case "compaction":
            yield Part(path, role, "text", _taken(left, "content"))
            if left.pop("encrypted_content", None):
                yield Uninspected(path, "encrypted")
            if changes := left.pop("tool_changes", None):
                yield Part(f"{path}.tool_changes", role, "definition", dump(changes))
            shapes = _SEALED
        case "tool_addition" | "tool_removal":
            yield Part(path, role, "definition", dump(left.pop("tool", None)))
        case str(name) if name in _CALL_BLOCKS:
            labels = taken_labels(
                left,
                tool_name="name",
                tool_use_id="id",
                server="server_name",
                toolset="toolset_name",
            )
            yield Part(path, role, "tool_use", dump(left.pop("input", {})), labels=labels)
        case str(name) if name in _THIRD_PARTY_BLOCKS:
            yield from _third_party(left, path, role)
            kind = "third_party"
        case _:
            yield Uninspected(path, "unknown_block")
            return
    yield from residue(left, shapes, path, role, kind)


def _taken(left: JSON, name: str) -> str:
    """Take a field that is text. A value of another type stays, and is residue."""
    if isinstance(left.get(name), str):
        return str(left.pop(name))
    return ""


def _citations(left: JSON, path: str, role: Role) -> Extract:
    cited: object = left.get("citations")
    if is_array(cited):
        del left["citations"]
        if cited:
            yield Part(f"{path}.citations", role, "third_party", dump(cited))


def _document(left: JSON, path: str, role: Role) -> Extract:
    source: object = left.get("source")
    labels = taken_labels(left, title="title", context="context")
    match source.get("type") if is_object(source) else None:
        case "text" if is_object(source) and isinstance(source.get("data"), str):
            del left["source"]
            of_source = dict(source)
            text = str(of_source.pop("data"))
            yield Part(f"{path}.source", role, "third_party", text, labels=labels)
            yield from residue(of_source, SOURCE, f"{path}.source", role, "third_party")
        case "content" if is_object(source):
            del left["source"]
            of_source = dict(source)
            inner: object = of_source.pop("content", None)
            yield Part(path, role, "third_party", "", labels=labels)
            if not isinstance(inner, str) and not is_array(inner):
                yield Uninspected(f"{path}.source", "unknown_block")
            for index, item in enumerate(blocks(inner)):
                yield from read_block(item, f"{path}.source.content[{index}]", role, "third_party")
            yield from residue(of_source, SOURCE, f"{path}.source", role, "third_party")
        case _:
            if labels:
                yield Part(path, role, "third_party", "", labels=labels)
            left.pop("source", None)
            yield from read_source("document", source, f"{path}.source", f"{path}.source", role)


def _third_party(left: JSON, path: str, role: Role) -> Extract:
    """Take a result: all of it for a kind of block that is content as a whole."""
    kind: object = left.get("type")
    whole = kind in _WHOLE_BLOCKS
    labels = taken_labels(
        dict(left) if whole else left,
        kind="type",
        tool_use_id="tool_use_id",
        tool_name="tool_name",
        toolset="toolset_name",
        title="title",
        source="source",
        url="url",
    )
    opaque = _OPAQUE_FIELDS
    if whole:
        content: object = {name: item for name, item in left.items() if name != "type"}
        left.clear()
        opaque = {}
    else:
        content = left.pop("content", None)
    if isinstance(content, str) or content is None:
        yield Part(path, role, "third_party", content or "", labels=labels)
    elif is_array(content) and kind in ("tool_result", "search_result"):
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
