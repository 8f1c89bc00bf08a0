"""Read requests and answers into the parts to judge, each with its path and role.

Pure. Single blocks are read in `blocks.py`; the types of the result are in `parts.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from magistrate.values import value
from magistrate.wire.blocks import read_block, read_content
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
from magistrate.wire.shapes import ANSWER, CONTAINER, SETTINGS, is_free, left_over
from magistrate.wire.unknown_fields import dump, read_residue, residue

# Fields of a request that are read in their own places.
_READ_APART = frozenset({"messages", "system", "tools", "mcp_servers"})
# A credential: no model reads it, and no judge may.
_SECRET = "authorization_token"


@value
class RequestContent:
    """The content of a request by place."""

    setup: Extracted  # system prompt, tools, answer schemas and other fields
    turns: tuple[Extracted, ...]


def read_request(body: JSON, setup: JSON | None = None) -> RequestContent:
    """Return the content of a request. `setup`: its `setup_of`, if the caller has it already."""
    definitions = _definitions(body, setup_of(body) if setup is None else setup)
    return RequestContent(
        Extracted.of([*read_content(body.get("system"), "system", "system"), *definitions]),
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
    rest = {key: item for key, item in turn.items() if key != "content"}
    if named in ("user", "assistant", "system"):
        del rest["role"]
    yield from residue(rest, {}, place, role)


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
    message: JSON,
    judged: Windows | None = None,
    pieces: Pieces | None = None,
    unread: Sequence[object] = (),
) -> Extracted:
    """Return the content of an answer.

    `judged`: where the windows of earlier verdicts ended in each block. The text before is context,
    in the pieces in which it was judged, so that prompts begin alike; the rest is to be judged.
    `pieces` keeps the context for the next call. `unread`: what else a stream brought, from its
    `MessageBuilder`.
    """
    found: list[Part | Uninspected] = []
    kept = pieces or Pieces()
    for index, block in enumerate(blocks(message.get("content"))):
        before = (judged or {}).get(index)
        path = f"response.content[{index}]"
        for item in read_block(block, path, "assistant"):
            if isinstance(item, Uninspected):
                found.append(item)
            elif item.path != path or item.kind not in ("text", "thinking"):
                # What did not change was judged with an earlier window.
                context, again = kept.of_other(item)
                found.append(context if again else item)
            elif before is None:
                found.append(item)
            else:
                found += kept.of_text(item, before)
                if item.text[before[-1] :]:
                    found.append(piece(item, item.text[before[-1] :], judged=True))
    for item in _besides_content(message, unread):
        if isinstance(item, Part):
            context, again = kept.of_other(item)
            item = context if again else item
        found.append(item)
    return Extracted.of(found)


def _besides_content(message: JSON, unread: Sequence[object]) -> Extract:
    fields = {key: item for key, item in message.items() if key != "content"}
    yield from residue(fields, ANSWER, "response", "assistant")
    for index, item in enumerate(unread):
        yield from read_residue(item, f"response.event[{index}]", "assistant")


def judged_so_far(message: JSON, judged: Windows) -> Windows:
    """Return the `judged` argument for the next `read_answer`, once this message is judged."""
    now: Windows = {}
    for index, block in enumerate(blocks(message.get("content"))):
        if is_object(block):
            said = block.get(str(block.get("type")))  # "text" or "thinking": as read above
            length = len(said) if isinstance(said, str) else 0
            now[index] = (*judged.get(index, ()), length)
    return now


def setup_of(body: JSON) -> JSON:
    """Return what a request has besides its turns that carries content, without credentials.

    With the turns it is all that a verdict depends on: the same turns under another system prompt
    or other tools are another question.
    """
    found = left_over({k: v for k, v in body.items() if k != "messages"}, SETTINGS)
    if is_array(servers := found.get("mcp_servers")):
        found["mcp_servers"] = [_without_secret(server) for server in servers]
    if is_free(found.get("container"), CONTAINER):
        found.pop("container", None)
    choice: object = found.get("tool_choice")
    if (
        is_object(choice)
        and _names_a_tool(choice, body.get("tools"))  # that tool is judged
        and is_free({**choice, "name": None}, SETTINGS["tool_choice"])
    ):
        del found["tool_choice"]
    return found


def _names_a_tool(choice: JSON, tools: object) -> bool:
    name: object = choice.get("name")
    return isinstance(name, str) and any(
        is_object(tool) and tool.get("name") == name for tool in (tools if is_array(tools) else [])
    )


def _without_secret(server: object) -> object:
    if is_object(server) and isinstance(server.get(_SECRET), str):
        return {key: item for key, item in server.items() if key != _SECRET}
    return server


def _definitions(body: JSON, setup: JSON) -> Extract:
    tools = body.get("tools")
    if tools is not None and not is_array(tools):
        yield Uninspected("tools", "unknown_block")
    for index, tool in enumerate(tools if is_array(tools) else []):
        name = str(tool.get("name") or "") if is_object(tool) else ""
        yield Part(f"tools[{index}]", "app", "definition", dump(tool), labels={"tool_name": name})
    yield from _servers(setup.get("mcp_servers"))
    rest = {key: item for key, item in setup.items() if key not in _READ_APART}
    container: object = body.get("container")
    skills = container.get("skills") if is_object(container) else None
    for index, skill in enumerate(skills if is_array(skills) else []):
        if not (is_object(skill) and skill.get("type") == "anthropic"):
            yield Uninspected(f"container.skills[{index}]", "file")
    for key in sorted(rest):
        yield from residue({key: rest[key]}, SETTINGS, "", "app", "definition")
    if "messages" in body and not is_array(body["messages"]):
        yield Uninspected("messages", "unknown_block")


def _servers(servers: object) -> Extract:
    """Read MCP servers: named here, while their tools are defined elsewhere and not judged.

    Calls of such tools and their results are judged in the answer that holds them.
    """
    for index, server in enumerate(servers if is_array(servers) else []):
        yield Uninspected(f"mcp_servers[{index}]", "remote_tools")
        yield Part(f"mcp_servers[{index}]", "app", "definition", dump(server))
    if servers is not None and not is_array(servers):
        yield Uninspected("mcp_servers", "remote_tools")
        yield Part("mcp_servers", "app", "definition", dump(servers))
