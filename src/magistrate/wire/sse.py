"""Server-sent events: parse bytes into events, and events into the message they form.

Pure push parsing. An unchanged event keeps the exact bytes in which it arrived.
"""

from __future__ import annotations

import json
import re
from dataclasses import field
from typing import Final

import orjson

from magistrate.values import value
from magistrate.wire.messages import JSON, is_object, parsed

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
# An event as the API frames it, matched and split in one step; others take the slow path.
_REGULAR = re.compile(rb"event: ([^\r\n]*)\ndata: ([^\r\n]*)\n\n")
# Other lines that say nothing. Comments (their key is empty) are read by nobody, whatever they say.
_SILENT_LINE = re.compile(rb"id:? ?[A-Za-z0-9_.:/+=-]{0,256}|retry:? ?[0-9]{0,20}")
# The deltas that make up nearly all of a stream, and the field of the block that each extends.
_GROWING = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


@value
class Event:
    """One event: the bytes in which it arrived (blank line included) and its parsed data.

    `data` is {} for comments, keep-alives and anything that is not a JSON object; `other` is then
    the data's value: None without data, `BROKEN` if it is no JSON. `stray`: lines of the frame that
    no client of server-sent events reads. `type` is the type in the data, else the event's name.
    `piece` is what the event adds to the text, thinking or input of a block, and `grows` the field
    of the delta that contains it. They are set only if the event contains nothing else, so that
    reading them reads the whole event; else both are empty.
    """

    raw: bytes
    name: str
    data: JSON
    other: object = None
    stray: str = ""
    type: str = field(init=False, repr=False, compare=False)
    grows: str = field(init=False, repr=False, compare=False)
    piece: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = self.data.get("type")
        usual = named == "content_block_delta" and self.name in _USUAL_NAMES and not self.stray
        found = _growth(self.data) if usual else _NO_GROWTH
        self.grows, self.piece = found  # pyright: ignore[reportAttributeAccessIssue]
        self.type = str(named or self.name)  # pyright: ignore[reportAttributeAccessIssue]


_NO_GROWTH = "", ""
_USUAL_NAMES = frozenset({"content_block_delta", "", "completion"})  # the last by Bedrock
BROKEN: Final = "BROKEN"  # compared by identity
# The end of a stream in another API's framing; some proxies add it.
_DONE = "[DONE]"
# An unfinished event of this many bytes is given up. The API's own requests are limited to half.
MAX_EVENT = 64 * 1024 * 1024


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
        if len(self._rest) > MAX_EVENT:
            self._rest, self._scanned = bytearray(), 0
            found.append(Event(b"", "message", {}, BROKEN))
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
    name, lines, stray = b"", list[bytes](), list[bytes]()
    for line in raw.splitlines():
        key, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if key == b"event":
            name = value
        elif key == b"data":
            lines.append(value)
        elif key and not _SILENT_LINE.fullmatch(line):
            stray.append(line)
    return _read(raw, name, b"\n".join(lines), b"\n".join(stray).decode("utf-8", "replace"))


def _read(raw: bytes, name: bytes, data: bytes, stray: str = "") -> Event:
    named = name.decode("utf-8", "replace")
    try:
        fast: object = orjson.loads(data)
    except ValueError:
        fast = None
    if is_object(fast) and (item := Event(raw, named, fast, stray=stray)).grows:
        return item
    # The standard library parses all others: orjson rounds large integers, rejects lone surrogates
    # and NaN, and allows deeper nesting.
    try:
        text = data.decode("utf-8", "surrogatepass").strip(" \t\r\n")
        found = None if text in ("", _DONE) else parsed(text)
    except ValueError:  # also for what is no text
        return Event(raw, named, {}, BROKEN, stray)
    if is_object(found):
        return Event(raw, named, found, stray=stray)
    return Event(raw, named, {}, found, stray)
