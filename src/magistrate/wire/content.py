"""Read requests and answers into the parts to judge, each with its path and role.

Pure. Single blocks are read in `blocks.py`; the types of the result are in `parts.py`.
"""

from __future__ import annotations

from itertools import pairwise

from magistrate.values import value
from magistrate.wire.blocks import dump, read_block, read_content
from magistrate.wire.messages import JSON, blocks, is_array, is_object, turns
from magistrate.wire.parts import (
    Extract,
    Extracted,
    Part,
    Role,
    Uninspected,
    as_context,
    piece,
)

# Fields of a request that configure the answer. Any other field is read as content.
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


@value
class RequestContent:
    """The content of a request by place."""

    system: Extracted
    definitions: Extracted  # tools, answer schemas and other fields
    turns: tuple[Extracted, ...]


def read_request(body: JSON) -> RequestContent:
    """Return the content of a request."""
    return RequestContent(
        Extracted.of(read_content(body.get("system"), "system", "system")),
        Extracted.of(_definitions(body)),
        tuple([Extracted.of(_turn(index, turn)) for index, turn in enumerate(turns(body))]),
    )


def _turn(index: int, turn: object) -> Extract:
    place = f"messages[{index}]"
    if not is_object(turn):
        yield Uninspected(place, "unknown_block")
        return
    named = turn.get("role")
    role: Role = "user" if named == "user" else "system" if named == "system" else "assistant"
    yield from read_content(turn.get("content"), f"{place}.content", role)


Windows = dict[int, tuple[int, ...]]  # by block index: the character offsets where windows ended


class Pieces:
    """The context of one answer, kept between windows so that it is cut and hashed only once."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[tuple[int, ...], list[Part]]] = {}  # by path: ends, pieces
        self._others: dict[str, Part] = {}

    def of_text(self, whole: Part, ends: tuple[int, ...]) -> list[Part]:
        """Cut a growing text into pieces that end where its windows ended."""
        known, pieces = self._texts.get(whole.path, ((), []))
        if ends[: len(known)] != known:
            known, pieces = (), []
        for start, end in pairwise((known[-1] if known else 0, *ends[len(known) :])):
            if end > start:
                pieces.append(piece(whole, whole.text[start:end], judged=False))
        self._texts[whole.path] = ends, pieces
        return pieces

    def of_other(self, part: Part) -> tuple[Part, bool]:
        """Return any other part as context, and whether an equal part was read before."""
        context = as_context(part)
        known = self._others.setdefault(part.path, context)
        if known is not context and known == context:
            return known, True
        self._others[part.path] = context
        return context, False


def read_answer(
    message: JSON, judged: Windows | None = None, pieces: Pieces | None = None
) -> Extracted:
    """Return the content of an answer.

    `judged`: where the windows of earlier verdicts ended in each block. The text before is context,
    in the pieces in which it was judged, so that prompts begin alike; the rest is to be judged.
    `pieces` keeps the context for the next call.
    """
    found: list[Part | Uninspected] = []
    kept = pieces or Pieces()
    for index, block in enumerate(blocks(message.get("content"))):
        before = (judged or {}).get(index)
        for item in read_block(block, f"response.content[{index}]", "assistant"):
            if isinstance(item, Uninspected):
                found.append(item)
            elif item.kind not in ("text", "thinking"):
                context, again = kept.of_other(item)
                # Citations can still grow after their text was judged.
                new = not again if item.path.endswith(".citations") else before is None
                found.append(item if new else context)
            elif before is None:
                found.append(item)
            else:
                found += kept.of_text(item, before)
                if item.text[before[-1] :]:
                    found.append(piece(item, item.text[before[-1] :], judged=True))
    return Extracted.of(found)


def judged_so_far(message: JSON, judged: Windows) -> Windows:
    """Return the `judged` argument for the next `read_answer`, once this message is judged."""
    now: Windows = {}
    for index, block in enumerate(blocks(message.get("content"))):
        if is_object(block):
            said = block.get(str(block.get("type")))  # "text" or "thinking": as read above
            length = len(said) if isinstance(said, str) else 0
            now[index] = (*judged.get(index, ()), length)
    return now


def _definitions(body: JSON) -> Extract:
    tools = body.get("tools")
    if tools is not None and not is_array(tools):
        yield Uninspected("tools", "unknown_block")
    for index, tool in enumerate(tools if is_array(tools) else []):
        name = str(tool.get("name") or "") if is_object(tool) else ""
        yield Part(f"tools[{index}]", "app", "definition", dump(tool), labels={"tool_name": name})
    container = body.get("container")
    skills = container.get("skills") if is_object(container) else None
    for index, skill in enumerate(skills if is_array(skills) else []):
        if not (is_object(skill) and skill.get("type") == "anthropic"):
            yield Uninspected(f"container.skills[{index}]", "file")
    for key in ("output_config", "output_format"):
        value = body.get(key)
        if value and not (is_object(value) and set(value) <= {"effort", "task_budget"}):
            yield Part(key, "app", "definition", dump(value))
    for key in sorted(set(body) - _SETTINGS_FIELDS):
        if body[key] is not None and not isinstance(body[key], bool | int | float):
            yield Part(key, "app", "definition", dump(body[key]))
    if "messages" in body and not is_array(body["messages"]):
        yield Uninspected("messages", "unknown_block")
