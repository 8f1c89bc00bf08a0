"""What must be judged: a request or an answer as a `Subject`, with every part's place and role.

Pure. A `Subject` is one question to a judge. Its parts are in the order a reader meets them; parts
with `judged=False` are context that was allowed before, all others are what the verdict is about.
Whatever cannot be turned into a part is named, with its reason, as `Uninspected`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from itertools import pairwise
from typing import Any, Literal

from magistrate.values import value
from magistrate.verdicts import Stage
from magistrate.wire.digests import GrowingDigest
from magistrate.wire.messages import JSON, blocks, is_array, is_object, turns

Role = Literal["system", "user", "assistant", "app"]
Kind = Literal[
    "text",  # written by the role it stands under
    "thinking",
    "tool_use",  # a call: its arguments as JSON, its name among the labels
    "third_party",  # tool results, fetched pages, documents: nobody in the conversation wrote it
    "media",  # an image or document that a judge must look at; `attachment` holds the block
    "definition",  # tool definitions, answer schemas and other fields of the request
]
Reason = Literal[
    "file", "media", "encrypted", "thread", "unknown_block", "unknown_event", "endpoint"
]


# Weak references: what a judge has prepared of an exchange it keeps for as long as its first part.
@value(weakref_slot=True)
class Part:
    """One piece of content: where it stands, whose it is, and its text.

    `labels` are names that came with it (tool name, document title, media type, ids): attackers can
    write there too, so the judge sees them.
    """

    path: str
    role: Role
    kind: Kind
    text: str
    judged: bool = True
    labels: dict[str, str] = field(default_factory=dict[str, str])
    attachment: JSON | None = None

    def as_json(self) -> list[Any]:
        """Everything about it, as JSON."""
        return [
            self.path,
            self.role,
            self.kind,
            self.text,
            self.judged,
            self.labels,
            self.attachment,
        ]


@value
class Uninspected:
    """Content that no judge could read, and why."""

    path: str
    reason: Reason


@value
class Subject:
    """One question to a judge. `final` is False for a window of an answer still being written."""

    stage: Stage
    parts: tuple[Part, ...]
    final: bool = True

    def digest(self, growing: GrowingDigest) -> str:
        """What the question is recognised by: everything about it."""
        # The context that one window of an answer begins with, the next one begins with too.
        context = next((at for at, part in enumerate(self.parts) if part.judged), len(self.parts))
        return growing.of(self.parts, context, [self.stage, self.final])


Extract = Iterator[Part | Uninspected]

# Fields of a request that say how to answer, not what about. Any other field is read as content.
_SETTINGS_FIELDS = frozenset(
    {
        "betas",
        "billing_policy",
        "cache_control",
        "container",
        "effort",
        "inference_geo",
        "max_tokens",
        "mcp_servers",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "thread",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
        "user_profile_id",
        "workspace_id",
    }
)

# Results that arrive complete and were written by nobody in the conversation.
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
# Those that have no `content`: the whole block is what was written.
_WHOLE_BLOCKS = frozenset({"browser_state", "fallback", "mcp_tool_listing"})
# The field of a result that only the provider can read, by the type of the object it stands in. Not
# by its name alone: a server chooses the names in the schemas of its tools.
_OPAQUE_FIELDS = {
    "advisor_redacted_result": "encrypted_content",
    "encrypted_code_execution_result": "encrypted_stdout",
    "web_search_result": "encrypted_content",
    "web_search_result_location": "encrypted_index",
}
_CALL_BLOCKS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


def read_request(body: JSON) -> dict[str, list[Part | Uninspected]]:
    """The content of a request by place: `system`, `definitions`, then one key per turn index."""
    found: dict[str, list[Part | Uninspected]] = {
        "system": list(_content(body.get("system"), "system", "system")),
        "definitions": list(_definitions(body)),
    }
    for index, message in enumerate(turns(body)):
        place = f"messages[{index}]"
        if not is_object(message):
            found[str(index)] = [Uninspected(place, "unknown_block")]
            continue
        named = message.get("role")
        role: Role = "user" if named == "user" else "system" if named == "system" else "assistant"
        found[str(index)] = list(_content(message.get("content"), f"{place}.content", role))
    if "messages" in body and not is_array(body["messages"]):
        found["definitions"].append(Uninspected("messages", "unknown_block"))
    return found


Windows = dict[int, tuple[int, ...]]  # by block: after how many characters windows ended


class Pieces:
    """Context of one answer, kept from window to window, so that it is cut and hashed once."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[tuple[int, ...], list[Part]]] = {}  # by path: ends, pieces
        self._others: dict[str, Part] = {}

    def of_text(self, whole: Part, ends: tuple[int, ...]) -> list[Part]:
        """A text that grows, in pieces that end where windows did."""
        known, pieces = self._texts.get(whole.path, ((), []))
        if ends[: len(known)] != known:
            known, pieces = (), []
        for start, end in pairwise((known[-1] if known else 0, *ends[len(known) :])):
            if end > start:
                pieces.append(_piece(whole, whole.text[start:end], judged=False))
        self._texts[whole.path] = ends, pieces
        return pieces

    def of_other(self, part: Part) -> tuple[Part, bool]:
        """Any other part as context, and whether it was read before just so."""
        context = as_context(part)
        known = self._others.setdefault(part.path, context)
        if known is not context and known == context:
            return known, True
        self._others[part.path] = context
        return context, False


def read_answer(
    message: JSON, judged: Windows | None = None, pieces: Pieces | None = None
) -> list[Part | Uninspected]:
    """The content of an answer.

    `heard` says where the windows of earlier verdicts ended in each block: that much is context, in
    the same pieces as it was judged in, so that prompts begin alike; the rest is judged. `pieces`
    keeps the context for the next time.
    """
    found: list[Part | Uninspected] = []
    kept = pieces or Pieces()
    for index, block in enumerate(blocks(message.get("content"))):
        before = (judged or {}).get(index)
        for item in _block(block, f"response.content[{index}]", "assistant"):
            if isinstance(item, Uninspected):
                found.append(item)
            elif item.kind not in ("text", "thinking"):
                context, again = kept.of_other(item)
                # Citations can still grow after their text was heard.
                new = not again if item.path.endswith(".citations") else before is None
                found.append(item if new else context)
            elif before is None:
                found.append(item)
            else:
                found += kept.of_text(item, before)
                if item.text[before[-1] :]:
                    found.append(_piece(item, item.text[before[-1] :], judged=True))
    return found


def judged_so_far(message: JSON, judged: Windows) -> Windows:
    """What `read_answer` takes the next time, when all of this message has been judged."""
    now: Windows = {}
    for index, block in enumerate(blocks(message.get("content"))):
        if is_object(block):
            said = block.get(str(block.get("type")))  # "text" or "thinking": as read above
            length = len(said) if isinstance(said, str) else 0
            now[index] = (*judged.get(index, ()), length)
    return now


def as_context(part: Part) -> Part:
    """The same part, as something the judge reads but does not judge."""
    return _piece(part, part.text, judged=False) if part.judged else part


def _piece(part: Part, text: str, *, judged: bool) -> Part:
    return Part(part.path, part.role, part.kind, text, judged, part.labels, part.attachment)


def _definitions(body: JSON) -> Extract:
    tools = body.get("tools")
    if tools is not None and not is_array(tools):
        yield Uninspected("tools", "unknown_block")
    for index, tool in enumerate(tools if is_array(tools) else []):
        name = str(tool.get("name") or "") if is_object(tool) else ""
        yield Part(f"tools[{index}]", "app", "definition", _dump(tool), labels={"tool_name": name})
    container = body.get("container")
    skills = container.get("skills") if is_object(container) else None
    for index, skill in enumerate(skills if is_array(skills) else []):
        if not (is_object(skill) and skill.get("type") == "anthropic"):
            yield Uninspected(f"container.skills[{index}]", "file")
    for key in ("output_config", "output_format"):
        value = body.get(key)
        if value and not (is_object(value) and set(value) <= {"effort", "task_budget"}):
            yield Part(key, "app", "definition", _dump(value))
    for key in sorted(set(body) - _SETTINGS_FIELDS):
        if body[key] is not None and not isinstance(body[key], bool | int | float):
            yield Part(key, "app", "definition", _dump(body[key]))


def _content(content: object, path: str, role: Role) -> Extract:
    if content is None:
        return
    if isinstance(content, str):
        if content:
            yield Part(path, role, "text", content)
    elif is_array(content):
        for index, block in enumerate(content):
            yield from _block(block, f"{path}[{index}]", role)
    else:
        yield Uninspected(path, "unknown_block")


def _block(block: object, path: str, role: Role, kind: Kind = "text") -> Extract:
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
                yield Part(f"{path}.citations", role, "third_party", _dump(cited))
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
                yield Part(f"{path}.tool_changes", role, "definition", _dump(changes))
        case "tool_addition" | "tool_removal":
            yield Part(path, role, "definition", _dump(block.get("tool")))
        case str(name) if name in _CALL_BLOCKS:
            labels = _labels(
                block,
                tool_name="name",
                tool_use_id="id",
                server="server_name",
                toolset="toolset_name",
            )
            yield Part(path, role, "tool_use", _dump(block.get("input", {})), labels=labels)
        case str(name) if name in _THIRD_PARTY_BLOCKS:
            yield from _third_party(block, path, role)
        case _:
            yield Uninspected(path, "unknown_block")


def _media(block: JSON, path: str, role: Role) -> Extract:
    source = block.get("source")
    kind = source.get("type") if is_object(source) else None
    if is_object(source) and kind == "base64" and _whole_unicode(source):
        # Bytes in the request are the bytes the model gets. What a URL serves to a judge may not
        # be what it serves to the model, so a URL is not something a judge can vouch for.
        labels = _labels(source, media_type="media_type")
        attachment = {key: block[key] for key in ("type", "source")}
        yield Part(path, role, "media", "", labels=labels, attachment=attachment)
    else:
        yield Uninspected(path, "file" if kind == "file" else "media")


def _whole_unicode(value: object) -> bool:
    """Whether all text in a JSON value can be sent. Half a character would fail the judge's call,
    and look like an outage."""
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
                yield from _block(item, f"{path}.source.content[{index}]", role, "third_party")
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
            yield from _block(item, f"{path}.content[{index}]", role, "third_party")
    else:
        hidden: list[str] = []
        readable = _without_opaque(content, opaque, hidden.append)
        yield Part(path, role, "third_party", _dump(readable), labels=labels)
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
        label: value if isinstance(value := block[key], str) else _dump(value)
        for label, key in fields.items()
        if block.get(key) is not None
    }


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
