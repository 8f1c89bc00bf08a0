"""Server-sent events: bytes in, events out, and the message that a stream adds up to.

Pure push parsing. An event that nobody changed keeps the exact bytes it arrived in.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from magistrate.wire.messages import JSON, blocks, is_object

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
# An event as the API frames it, cut and split in one step; any other takes the long way.
_REGULAR = re.compile(rb"event: ([^\r\n]*)\ndata: ([^\r\n]*)\n\n")
# Blocks whose input arrives in fragments of JSON.
CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
# Where each kind of delta carries its content.
DELTA_FIELDS = {
    "citations_delta": "citation",
    "compaction_delta": "content",
    "input_json_delta": "partial_json",
    "signature_delta": "signature",
    "text_delta": "text",
    "thinking_delta": "thinking",
}
_JSON = json.JSONDecoder()
_CONTENT_FIELDS = frozenset(DELTA_FIELDS.values())
# And where it carries none, other kinds' being content that nobody would look for there.
_FOREIGN_FIELDS = {kind: _CONTENT_FIELDS - {own} for kind, own in DELTA_FIELDS.items()}


@dataclass(frozen=True, slots=True)
class Event:
    """One event: the bytes it arrived in (blank line included) and its parsed data.

    `data` is {} for comments, keep-alives and anything that is not a JSON object. `type` is what
    the data says, else the SSE event name.
    """

    raw: bytes
    name: str
    data: JSON
    type: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", str(self.data.get("type") or self.name))


def event(data: JSON) -> Event:
    """An event of our own, in the API's framing."""
    name = str(data["type"])
    payload = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    raw = f"event: {name}\ndata: {payload}\n\n".encode("utf-8", "surrogatepass")
    return Event(raw, name, data)


class Decoder:
    """Cuts a byte stream into events at blank lines, wherever the chunks happen to end."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._scanned = 0  # bytes of `_rest` known to hold no frame end: keeps feeding linear

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes."""
        self._rest += chunk
        found: list[Event] = []
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
        """What is left when the stream ends: an unfinished event, kept as it came."""
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
    found: object = None
    try:
        text = data.decode("utf-8", "surrogatepass").strip(" \t\r\n")
        value, end = _JSON.raw_decode(text)  # half the time of `loads`
        found = value if end == len(text) else None
    except (ValueError, RecursionError):  # also where there are no data
        pass
    return Event(raw, name.decode("utf-8", "replace"), found if is_object(found) else {})


@dataclass(slots=True)
class MessageBuilder:
    """The message JSON that a stream adds up to, as far as it has been fed.

    Whatever arrives ends up in `content`, under a type of its own if it has to: a delta for a block
    that never started, or of an unknown kind, must be seen by whoever inspects the message.
    """

    message: JSON = field(default_factory=dict[str, Any])
    _at: dict[str, int] = field(default_factory=dict[str, int])  # block index -> position
    _json: dict[int, str] = field(default_factory=dict[int, str])  # position -> fragments, open

    @property
    def content(self) -> list[Any]:
        """The content blocks so far. The input of a call still open is under `unparseable`."""
        return self.message.setdefault("content", [])

    def feed(self, item: Event) -> None:
        """Add one event."""
        data = item.data
        match item.type:
            case "content_block_delta":  # most events are
                self._delta(self._position(str(data.get("index"))), data.get("delta"))
            case "message_start" if is_object(data.get("message")):
                start: JSON = data["message"]
                content: object = start.get("content")
                begun = blocks(content) or ([content] if content else [])
                self.message = {**start, "content": [*self.content, *begun]}
            case "content_block_start":
                self._start(str(data.get("index")), data.get("content_block"))
            case "content_block_stop":
                self._close(self._position(str(data.get("index"))))
            case "message_delta":
                change, usage = data.get("delta"), data.get("usage")
                if is_object(change):
                    self.message.update({k: v for k, v in change.items() if k != "content"})
                if is_object(usage):
                    before = self.message.get("usage")
                    known = {key: value for key, value in usage.items() if value is not None}
                    self.message["usage"] = {**(before if is_object(before) else {}), **known}
            case _:
                pass

    def _start(self, index: str, block: object) -> None:
        at = self._at[index] = len(self.content)
        self.content.append(dict(block) if is_object(block) else block)
        if is_object(block) and str(block.get("type")) in CALLS:
            self._json[at] = ""

    def _position(self, index: str) -> int:
        if index not in self._at:
            self._at[index] = len(self.content)
            self.content.append({"type": "unknown"})
        return self._at[index]

    def _delta(self, at: int, delta: object) -> None:
        block = self.content[at]
        if not is_object(block):
            block = self.content[at] = {"type": "unknown", "start": block}
        known = delta if is_object(delta) and _is_regular(delta) else {}
        match (block.get("type"), known.get("type")):
            case ("text", "text_delta"):
                block["text"] = str(block.get("text") or "") + str(known.get("text") or "")
            case ("thinking", "thinking_delta"):
                grown = str(block.get("thinking") or "") + str(known.get("thinking") or "")
                block["thinking"] = grown
            case ("thinking", "signature_delta"):
                block["signature"] = known.get("signature")
            case ("text", "citations_delta"):
                block["citations"] = [*(block.get("citations") or []), known.get("citation")]
            case (_, "input_json_delta") if at in self._json:
                self._json[at] += str(known.get("partial_json") or "")
                block["input"] = {"unparseable": self._json[at]} if self._json[at] else {}
            case ("compaction", "compaction_delta"):
                block["content"] = str(block.get("content") or "") + str(known.get("content") or "")
                if known.get("encrypted_content"):
                    block["encrypted_content"] = known["encrypted_content"]
            case _:
                block["unknown_deltas"] = [*(block.get("unknown_deltas") or []), delta]

    def _close(self, at: int) -> None:
        fragments = self._json.pop(at, "")
        if fragments:
            with suppress(ValueError, RecursionError):  # else it stays `unparseable`
                self.content[at]["input"] = json.loads(fragments)


def _is_regular(delta: JSON) -> bool:
    """Whether a delta has no content where its kind has none: nobody would look for it there."""
    kind = str(delta.get("type"))
    return _FOREIGN_FIELDS.get(kind, _CONTENT_FIELDS).isdisjoint(delta)
