"""Server-sent events: parse bytes into events, and events into the message they form.

Pure push parsing. An unchanged event keeps the exact bytes in which it arrived.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import field
from typing import Any

import orjson

from magistrate.values import value
from magistrate.wire.messages import JSON, blocks, is_object

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
# An event as the API frames it, matched and split in one step; others take the slow path.
_REGULAR = re.compile(rb"event: ([^\r\n]*)\ndata: ([^\r\n]*)\n\n")
# Blocks whose input arrives in fragments of JSON.
CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
# The field that contains the content of each kind of delta.
DELTA_FIELDS = {
    "citations_delta": "citation",
    "compaction_delta": "content",
    "input_json_delta": "partial_json",
    "signature_delta": "signature",
    "text_delta": "text",
    "thinking_delta": "thinking",
}
# The deltas that make up nearly all of a stream, and the field of the block that each extends.
_GROWING = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
_JSON = json.JSONDecoder()
_CONTENT_FIELDS = frozenset(DELTA_FIELDS.values())
# The content fields of other kinds: content in them would not be looked for in this kind.
_FOREIGN_FIELDS = {kind: _CONTENT_FIELDS - {own} for kind, own in DELTA_FIELDS.items()}


@value
class Event:
    """One event: the bytes in which it arrived (blank line included) and its parsed data.

    `data` is {} for comments, keep-alives and anything that is not a JSON object. `type` is the
    type in the data, else the SSE event name. `piece` is what the event adds to the text, thinking
    or input of a block, and `grows` the field of the delta that contains it. They are set only if
    the event contains nothing else, so that reading them reads the whole event; else both are
    empty.
    """

    raw: bytes
    name: str
    data: JSON
    type: str = field(init=False, repr=False, compare=False)
    grows: str = field(init=False, repr=False, compare=False)
    piece: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = self.data.get("type")
        found = _growth(self.data) if named == "content_block_delta" else _NO_GROWTH
        self.grows, self.piece = found  # pyright: ignore[reportAttributeAccessIssue]
        self.type = str(named or self.name)  # pyright: ignore[reportAttributeAccessIssue]


_NO_GROWTH = "", ""


def _growth(data: JSON) -> tuple[str, str]:
    delta: object = data.get("delta")
    if len(data) != 3 or type(data.get("index")) is not int:
        return _NO_GROWTH
    if not is_object(delta) or len(delta) != 2 or type(kind := delta.get("type")) is not str:
        return _NO_GROWTH
    piece = delta.get(grows := _GROWING.get(kind, ""))
    return (grows, piece) if type(piece) is str else _NO_GROWTH


def event(data: JSON) -> Event:
    """Make an event in the API's framing."""
    name = str(data["type"])
    payload = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    raw = f"event: {name}\ndata: {payload}\n\n".encode("utf-8", "surrogatepass")
    return Event(raw, name, data)


class Decoder:
    """Cuts a byte stream into events at blank lines, independent of where chunks end."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._scanned = 0  # bytes of `_rest` known to contain no frame end: keeps feeding linear

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes."""
        found: list[Event] = []
        if not self._rest:  # the usual case, and a chunk is usually whole events
            end = 0
            while regular := _REGULAR.match(chunk, end):
                found.append(_read(regular[0], regular[1], regular[2]))
                end = regular.end()
            if end == len(chunk):
                return found
            chunk = chunk[end:]
        self._rest += chunk
        while self._rest:
            regular = None if self._scanned else _REGULAR.match(self._rest)
            if regular is not None:
                end = regular.end()
                found.append(_read(regular[0], regular[1], regular[2]))
            elif (end := self._frame_end()) is not None:
                found.append(_parse(bytes(self._rest[:end])))
            else:
                break
            del self._rest[:end]
            self._scanned = 0
        return found

    def _frame_end(self) -> int | None:
        found = _BLANK_LINE.search(self._rest, max(0, self._scanned - 3))
        if found is None or (found.end() == len(self._rest) and found[0].endswith(b"\r")):
            self._scanned = len(self._rest)
            return None  # a \r at the end may be half a line break
        return found.end()

    def flush(self) -> list[Event]:
        """Return the unfinished event at the end of the stream, unchanged, if there is one."""
        raw, self._rest, self._scanned = bytes(self._rest), bytearray(), 0
        return [_parse(raw)] if raw.strip() else []


def _parse(raw: bytes) -> Event:
    name, lines = b"", list[bytes]()
    for line in raw.splitlines():
        key, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if key == b"event":
            name = value
        elif key == b"data":
            lines.append(value)
    return _read(raw, name, b"\n".join(lines))


def _read(raw: bytes, name: bytes, data: bytes) -> Event:
    named = name.decode("utf-8", "replace")
    try:
        fast: object = orjson.loads(data)
    except ValueError:
        fast = None
    if is_object(fast) and (item := Event(raw, named, fast)).grows:
        return item
    # The standard library parses all others: orjson rounds large integers, rejects lone surrogates
    # and NaN, and allows deeper nesting.
    found: object = None
    try:
        text = data.decode("utf-8", "surrogatepass").strip(" \t\r\n")
        value, end = _JSON.raw_decode(text)  # half the time of `loads`
        found = value if end == len(text) else None
    except (ValueError, RecursionError):  # also for events without data
        pass
    return Event(raw, named, found if is_object(found) else {})


class MessageBuilder:
    """Builds the message JSON from the events of a stream.

    Everything that arrives is put into `content`, if necessary under a type of its own: inspection
    of the message must see a delta of an unknown kind, or for a block that never started.
    """

    def __init__(self) -> None:
        self._message: JSON = {}
        self._at: dict[str, int] = {}  # block index -> position
        # By position of an open block: the field of its deltas, and what they added since the last
        # read (for a call: all of its input, which cannot be parsed before its end). Joined only on
        # demand: appending strings one by one takes quadratic time.
        self._grown: dict[int, tuple[str, list[str]]] = {}

    @property
    def message(self) -> JSON:
        """The message so far. The input of an unfinished call is under `unparseable`."""
        for at in self._grown:
            self._join(at)
        return self._message

    @property
    def content(self) -> list[Any]:
        """The content blocks so far."""
        return self.message.setdefault("content", [])

    def feed(self, item: Event) -> None:
        """Add one event."""
        data = item.data
        if item.grows:  # most events do
            at = self._at.get(str(data["index"]), -1)
            growing = self._grown.get(at)
            if growing is not None and growing[0] == item.grows:
                growing[1].append(item.piece)
                return
        match item.type:
            case "content_block_delta":
                self._delta(self._position(str(data.get("index"))), data.get("delta"))
            case "message_start" if is_object(data.get("message")):
                start: JSON = data["message"]
                content: object = start.get("content")
                begun = blocks(content) or ([content] if content else [])
                self._message = {**start, "content": [*self._blocks, *begun]}
            case "content_block_start":
                self._start(str(data.get("index")), data.get("content_block"))
            case "content_block_stop":
                self._close(self._position(str(data.get("index"))))
            case "message_delta":
                change, usage = data.get("delta"), data.get("usage")
                if is_object(change):
                    self._message.update({k: v for k, v in change.items() if k != "content"})
                if is_object(usage):
                    before = self._message.get("usage")
                    known = {key: value for key, value in usage.items() if value is not None}
                    self._message["usage"] = {**(before if is_object(before) else {}), **known}
            case _:
                pass

    @property
    def _blocks(self) -> list[Any]:
        """The content without what was added since the last read."""
        return self._message.setdefault("content", [])

    def _start(self, index: str, block: object) -> None:
        at = self._at[index] = len(self._blocks)
        self._blocks.append(dict(block) if is_object(block) else block)
        if is_object(block) and str(block.get("type")) in CALLS:
            self._grown[at] = ("partial_json", [])

    def _position(self, index: str) -> int:
        if index not in self._at:
            self._at[index] = len(self._blocks)
            self._blocks.append({"type": "unknown"})
        return self._at[index]

    def _delta(self, at: int, delta: object) -> None:
        block = self._blocks[at]
        if not is_object(block):
            block = self._blocks[at] = {"type": "unknown", "start": block}
        known = delta if is_object(delta) and _is_regular(delta) else {}
        match (block.get("type"), known.get("type")):
            case ("text", "text_delta"):
                self._grow(at, "text", known)
            case ("thinking", "thinking_delta"):
                self._grow(at, "thinking", known)
            case ("thinking", "signature_delta"):
                block["signature"] = known.get("signature")
            case ("text", "citations_delta"):
                block["citations"] = [*(block.get("citations") or []), known.get("citation")]
            case (_, "input_json_delta") if self._grown.get(at, ("",))[0] == "partial_json":
                self._grow(at, "partial_json", known)
            case ("compaction", "compaction_delta"):
                block["content"] = str(block.get("content") or "") + str(known.get("content") or "")
                if known.get("encrypted_content"):
                    block["encrypted_content"] = known["encrypted_content"]
            case _:
                block["unknown_deltas"] = [*(block.get("unknown_deltas") or []), delta]

    def _grow(self, at: int, name: str, delta: JSON) -> None:
        self._grown.setdefault(at, (name, []))[1].append(str(delta.get(name) or ""))

    def _join(self, at: int) -> None:
        name, pieces = self._grown[at]
        block = self._blocks[at]
        if not pieces:
            return
        if name == "partial_json":
            pieces[:] = ["".join(pieces)]
            block["input"] = {"unparseable": pieces[0]} if pieces[0] else {}
        else:
            block[name] = "".join([str(block.get(name) or ""), *pieces])
            pieces.clear()

    def _close(self, at: int) -> None:
        if at not in self._grown:
            return
        self._join(at)
        name, pieces = self._grown.pop(at)
        if name == "partial_json" and pieces and pieces[0]:
            with suppress(ValueError, RecursionError):  # else it stays `unparseable`
                self._blocks[at]["input"] = json.loads(pieces[0])


def _is_regular(delta: JSON) -> bool:
    """Return whether a delta has no content in another kind's field, where it would be missed."""
    kind = str(delta.get("type"))
    return _FOREIGN_FIELDS.get(kind, _CONTENT_FIELDS).isdisjoint(delta)
