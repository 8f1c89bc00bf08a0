"""Frames of Anthropic's Inference Hooks, read as Messages API JSON, and the verdicts on them.

Pure. A frame holds text only: no system prompt, no tool definitions, no media. Its blocks become
the API's blocks at the same places, so that paths in findings are those of the frame. What the
protocol may add later stays under its own name, where the residue rule judges it: it is never an
error, and it never hides anything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Literal

from magistrate.values import value
from magistrate.wire.messages import JSON, is_array, is_object
from magistrate.wire.parts import Extracted, Part, Uninspected
from magistrate.wire.shapes import ID, WORD, Shape, is_free, left_over
from magistrate.wire.unknown_fields import dump, residue

Kind = Literal["prompt", "tool_call", "unknown"]

# What the protocol cuts or drops beyond, in characters.
MOST_REASON = 500
_REFERENCE = re.compile(r"[A-Za-z0-9._:/-]{1,50}")

_ADDRESS = re.compile(r"\S{0,320}")  # an email address: personal, and no content
_ENVELOPE: Mapping[str, Shape] = {
    "type": WORD,
    "request_id": ID,
    "tenant_id": ID,
    "session_id": ID,
    "model": ID,
}
# Read one level deeper, so that an unknown field of an actor does not show its address to a judge.
_NESTED: Mapping[str, Mapping[str, Shape]] = {
    "actor": {"type": WORD, "id": ID, "email_address": _ADDRESS},
    "source": {"application": WORD},
    "metadata": {},
}
# Where a field of a frame cannot keep its name, because the API's readers use it for another thing.
_ASIDE = "more"
_READERS_OWN = frozenset({_ASIDE, "unknown_deltas"})


class UnreadableFrame(ValueError):
    """A frame without what every frame has: a type, and messages."""


@value
class Frame:
    """One frame. `messages`: its turns; of a tool-call frame, only the last, the one to judge.

    `around`: what the frame carries besides its messages that the protocol did not state.
    """

    kind: Kind
    type: str
    request_id: str = ""
    model: str = ""
    messages: list[JSON] = field(default_factory=list[JSON])
    around: Extracted = Extracted()

    @property
    def request(self) -> JSON:
        """Return a prompt frame as a Messages API request."""
        return {"model": self.model, "messages": self.messages}


def read_frame(data: object) -> Frame:
    """Read a frame. Raises `UnreadableFrame` if it has no type, or its type's messages are missing.

    A frame of a type that is not known here is `unknown`: nothing in it is read.
    """
    named = data.get("type") if is_object(data) else None
    if not is_object(data) or not isinstance(named, str) or not named:
        raise UnreadableFrame("the body is not a JSON object with a type")
    request_id = _id(data.get("request_id"))
    if named not in ("prompt", "tool_call"):
        return Frame("unknown", named, request_id)
    sent = data.get("messages")
    if not is_array(sent) or (named == "tool_call" and not sent):
        raise UnreadableFrame(f"a frame of type {named} without messages")
    messages = [_turn(item) for item in (sent if named == "prompt" else sent[-1:])]
    return Frame(named, named, request_id, _id(data.get("model")), messages, _around(data))


def _id(found: object) -> str:
    return found if isinstance(found, str) and ID.fullmatch(found) else ""


def _around(data: JSON) -> Extracted:
    """Return what stands around the messages: no field of it is an error, and text in it is judged.

    It is judged with every frame, and no part of what identifies the conversation: a field that is
    new, or differs from frame to frame, must not make earlier turns unknown.
    """
    outer = {key: item for key, item in data.items() if key != "messages"}
    found: list[Part | Uninspected] = []
    for name, shapes in _NESTED.items():
        if is_object(inner := outer.get(name)):
            del outer[name]
            found += residue(inner, shapes, name, "app", "definition")
    return Extracted.of([*residue(outer, _ENVELOPE, "", "app", "definition"), *found])


# --- turns and blocks -----------------------------------------------------------------------------


def _turn(item: object) -> JSON:
    if not is_object(item):
        return {"role": "user", "content": _blocks([item])}
    role, content = item.get("role"), item.get("content")
    turn: JSON = {"role": role, "content": content}
    if role not in ("user", "assistant"):
        turn["role"] = "user"  # whoever it is, what they say reaches the model
        if not is_free(role, WORD):
            turn["author"] = role
    if is_array(content):
        turn["content"] = _blocks(content)
    elif content is not None and not isinstance(content, str):
        turn["content"] = _blocks([content])
    return _with_rest(turn, item, ("role", "content"))


def _blocks(content: list[object]) -> list[JSON]:
    return [_block(item) for item in content]


def _block(item: object) -> JSON:
    if not is_object(item):
        return {"type": "text", "text": item if isinstance(item, str) else dump(item)}
    match item.get("type"):
        case "tool_use":
            return _tool_use(item)
        case "tool_result":
            return _tool_result(item)
        case "attachment":
            return _attachment(item)
        case kind:  # `text`, or one that the protocol may add
            block: JSON = {"type": "text", **_text(item)}
            if not is_free(kind, WORD):
                block["block_type"] = kind
            return _with_rest(block, item, ("type", *_text(item)))


def _text(item: JSON) -> JSON:
    return {"text": item["text"]} if isinstance(item.get("text"), str) else {}


def _tool_use(item: JSON) -> JSON:
    given = item.get("input")
    block: JSON = {"type": "tool_use", "input": {} if given is None else given}
    for name, theirs in (("id", "id"), ("name", "tool_name")):
        if item.get(theirs) is not None:
            block[name] = item[theirs]
    info = item.get("tool_info")
    if is_object(info):
        info = dict(info)
        for name, theirs in (("toolset_name", "toolset_name"), ("server_name", "origin")):
            if isinstance(info.get(theirs), str):
                block[name] = info.pop(theirs)
        info = left_over(info, {"type": WORD})
    if info:
        block["tool_info"] = info
    return _with_rest(block, item, ("type", "id", "tool_name", "input", "tool_info"))


def _tool_result(item: JSON) -> JSON:
    content = item.get("content")
    if is_array(content):
        content = _blocks(content)
    elif content is not None and not isinstance(content, str):
        content = dump(content)
    block: JSON = {"type": "tool_result", "content": content}
    taken = ("tool_use_id", "tool_name")
    block |= {name: item[name] for name in taken if item.get(name) is not None}
    return _with_rest(block, item, ("type", "content", *taken))


def _attachment(item: JSON) -> JSON:
    text = item.get("text")
    source: JSON = {"type": "text", "data": text}
    if not isinstance(text, str) or (not text and item.get("size_bytes") != 0):
        source = {"type": "unread"}  # an image, say: there is something, and no text of it
    if item.get("media_type") is not None:
        source["media_type"] = item["media_type"]
    block: JSON = {"type": "document", "source": source}
    if item.get("file_name") is not None:
        block["title"] = item["file_name"]
    taken = ["type", "media_type", "file_name", *_text(item)]
    return _with_rest(block, item, taken)


def _with_rest(made: JSON, item: JSON, taken: Collection[str]) -> JSON:
    """Add the fields of an item that were not taken and carry content.

    Others, such as sizes and flags, are left out: a turn is recognised by what it says.
    """
    rest = left_over({key: each for key, each in item.items() if key not in taken}, {})
    aside = {key: rest.pop(key) for key in tuple(rest) if key in made or key in _READERS_OWN}
    return {**made, **rest, **({_ASIDE: aside} if aside else {})}


# --- verdicts -------------------------------------------------------------------------------------


def allow(ours: JSON) -> JSON:
    """Return the verdict that lets a frame pass. `ours`: an object of our own that rides along."""
    return {"action": "allow", "magistrate": ours}


def deny(reason: str, reference: str | None, ours: JSON) -> JSON:
    """Return the verdict that stops a frame.

    `reason` is shown to the user, cut to what the protocol takes; a `reference` that the protocol
    would drop is left out.
    """
    cut = reason if len(reason) <= MOST_REASON else f"{reason[: MOST_REASON - 1]}…"
    verdict: JSON = {"action": "deny", "deny_reason": cut}
    if reference and _REFERENCE.fullmatch(reference):
        verdict["reference_id"] = reference
    return {**verdict, "magistrate": ours}
