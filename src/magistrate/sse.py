"""Server-sent events: bytes in, events out, and the message that a stream adds up to.

Pure push parsing. An event that nobody changed keeps the exact bytes it arrived in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from magistrate.messages import JSON, is_object


@dataclass(frozen=True, slots=True)
class Event:
    """One event: the bytes it arrived in (blank line included) and its parsed data.

    `data` is {} for comments, keep-alives and anything that is not a JSON object.
    """

    raw: bytes
    name: str
    data: JSON

    @property
    def type(self) -> str:
        """The event's type: what the data says, else the SSE event name."""
        return str(self.data.get("type") or self.name)


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
        while (end := self._frame_end()) is not None:
            raw = bytes(self._rest[:end])
            del self._rest[:end]
            self._scanned = 0
            found.append(_parse(raw))
        return found

    def _frame_end(self) -> int | None:
        start = max(0, self._scanned - 3)
        ends = [
            at + len(mark)
            for mark in (b"\n\n", b"\r\n\r\n", b"\r\r")
            if (at := self._rest.find(mark, start)) >= 0
        ]
        if not ends:
            self._scanned = len(self._rest)
            return None
        return min(ends)

    def flush(self) -> list[Event]:
        """What is left when the stream ends: an unfinished event, kept as it came."""
        raw, self._rest, self._scanned = bytes(self._rest), bytearray(), 0
        return [_parse(raw)] if raw.strip() else []


def _parse(raw: bytes) -> Event:
    name, lines = "", list[bytes]()
    for line in raw.splitlines():
        key, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if key == b"event":
            name = value.decode("utf-8", "replace")
        elif key == b"data":
            lines.append(value)
    try:
        data: object = json.loads(b"\n".join(lines)) if lines else {}
    except ValueError:
        data = {}
    return Event(raw, name, data if is_object(data) else {})


@dataclass(slots=True)
class MessageBuilder:
    """The message JSON that a stream adds up to, as far as it has been fed.

    Whatever arrives ends up in `content`, under a type of its own if it has to: a delta for a block
    that never started, or of an unknown kind, must be seen by whoever inspects the message.
    """

    message: JSON = field(default_factory=dict[str, Any])
    _at: dict[Any, int] = field(default_factory=dict[Any, int])  # block index -> position
    _json: dict[int, str] = field(default_factory=dict[int, str])  # position -> fragments

    @property
    def content(self) -> list[Any]:
        """The content blocks so far. A tool call has input {} until its block is closed."""
        return self.message.setdefault("content", [])

    def feed(self, item: Event) -> None:
        """Add one event."""
        data = item.data
        match item.type:
            case "message_start" if is_object(data.get("message")):
                start: JSON = data["message"]
                self.message = {**start, "content": list(start.get("content") or [])}
            case "content_block_start" if is_object(data.get("content_block")):
                self._at[data.get("index")] = len(self.content)
                self.content.append(dict(data["content_block"]))
            case "content_block_delta" if is_object(data.get("delta")):
                self._delta(self._position(data.get("index")), data["delta"])
            case "content_block_stop":
                self._close(self._position(data.get("index")))
            case "message_delta":
                change: JSON = data.get("delta") or {}
                usage: JSON = data.get("usage") or {}
                known = {key: value for key, value in usage.items() if value is not None}
                self.message.update(change)
                self.message["usage"] = {**(self.message.get("usage") or {}), **known}
            case _:
                pass

    def _position(self, index: object) -> int:
        if index not in self._at:
            self._at[index] = len(self.content)
            self.content.append({"type": "unknown"})
        return self._at[index]

    def _delta(self, at: int, delta: JSON) -> None:
        block = self.content[at]
        match (block.get("type"), delta.get("type")):
            case ("text", "text_delta"):
                block["text"] = str(block.get("text") or "") + str(delta.get("text") or "")
            case ("thinking", "thinking_delta"):
                grown = str(block.get("thinking") or "") + str(delta.get("thinking") or "")
                block["thinking"] = grown
            case ("thinking", "signature_delta"):
                block["signature"] = delta.get("signature")
            case ("text", "citations_delta"):
                block["citations"] = [*(block.get("citations") or []), delta.get("citation")]
            case (_, "input_json_delta"):
                self._json[at] = self._json.get(at, "") + str(delta.get("partial_json") or "")
            case ("compaction", "compaction_delta"):
                block["content"] = str(block.get("content") or "") + str(delta.get("content") or "")
            case _:
                block.setdefault("unknown_deltas", []).append(delta)

    def _close(self, at: int) -> None:
        if at not in self._json:
            return
        fragment = self._json.pop(at)
        try:
            self.content[at]["input"] = json.loads(fragment) if fragment.strip() else {}
        except ValueError:
            self.content[at]["input"] = {"unparseable": fragment}
