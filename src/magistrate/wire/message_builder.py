"""The message that a stream of events adds up to. Pure."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from magistrate.wire.event_fields import DELTA_FIELDS, applies, unread
from magistrate.wire.messages import JSON, blocks, is_array, is_object, parsed
from magistrate.wire.shapes import ANSWER, OPAQUE, is_free, left_over
from magistrate.wire.sse import Event

# Blocks whose input arrives in fragments of JSON.
CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


class MessageBuilder:
    """Builds the message JSON from the events of a stream.

    Everything that arrives is put into `content`, if necessary under a type of its own, or into
    `unread`: inspection must see a delta of an unknown kind, or for a block that never started.
    """

    def __init__(self) -> None:
        # What the events carried besides what became part of the message.
        self.unread: list[JSON] = []
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
        if rest := unread(item):
            self.unread.append(rest)
        if not data:
            return
        match item.type:
            case "content_block_delta":
                self._delta(self._position(str(data.get("index"))), data.get("delta"))
            case "message_start" if is_object(data.get("message")):
                start: JSON = data["message"]
                content: object = start.get("content")
                begun = blocks(content) or ([content] if content else [])
                self._set({key: item for key, item in start.items() if key != "content"})
                self._blocks.extend(begun)
            case "content_block_start":
                self._start(str(data.get("index")), data.get("content_block"))
            case "content_block_stop":
                self._close(self._position(str(data.get("index"))))
            case "message_delta":
                change, usage = data.get("delta"), data.get("usage")
                if is_object(change):
                    self._set({k: v for k, v in change.items() if k != "content"})
                if is_object(usage):
                    before = self._message.get("usage")
                    known = {key: value for key, value in usage.items() if value is not None}
                    self._set({"usage": {**(before if is_object(before) else {}), **known}})
            case _:
                pass

    def _set(self, fields: JSON) -> None:
        """Set fields of the message. What they replace was released, so it is kept to be judged."""
        for key, item in fields.items():
            before = self._message.get(key)
            if before != item and (replaced := left_over({key: before}, ANSWER)):
                self.unread.append(replaced)
            self._message[key] = item

    @property
    def _blocks(self) -> list[Any]:
        """The content without what was added since the last read."""
        return self._message.setdefault("content", [])

    def _start(self, index: str, block: object) -> None:
        at = self._at[index] = len(self._blocks)
        self._blocks.append(dict(block) if is_object(block) else block)
        # Fragments would replace an input that began filled, though the caller has it already: they
        # are kept apart then, as deltas of no known kind.
        if is_object(block) and str(block.get("type")) in CALLS and not block.get("input"):
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
        known = delta if is_object(delta) else {}
        kind = str(known.get("type"))
        if kind in DELTA_FIELDS and not applies(kind, known.get(DELTA_FIELDS[kind])):
            return  # it is `unread`
        match (block.get("type"), known.get("type")):
            case ("text", "text_delta"):
                self._grow(at, "text", known)
            case ("thinking", "thinking_delta"):
                self._grow(at, "thinking", known)
            case ("thinking", "signature_delta"):
                if not is_free(before := block.get("signature"), OPAQUE):
                    self.unread.append({"signature": before})
                block["signature"] = known.get("signature")
            case ("text", "citations_delta"):
                cited: object = block.get("citations")
                if not is_array(cited):
                    if cited is not None:
                        self.unread.append({"citations": cited})
                    cited = block["citations"] = []
                cited.append(known.get("citation"))
            case (_, "input_json_delta") if self._grown.get(at, ("",))[0] == "partial_json":
                self._grow(at, "partial_json", known)
            case ("compaction", "compaction_delta"):
                begun = block.get("content")
                if isinstance(begun, str) or begun is None:
                    block["content"] = (begun or "") + (known.get("content") or "")
                else:
                    self.unread.append({"content": known.get("content")})
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
            with suppress(ValueError):  # else it stays `unparseable`
                self._blocks[at]["input"] = parsed(pieces[0])
