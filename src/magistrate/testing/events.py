"""Declared messages in the API's two forms: one JSON object, or the events of a stream.

Pure. The order of events and the names of fields are the API's; both forms come from one
declaration, so that a client which adds up the stream has the JSON.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from magistrate.testing.replies import JSON, ErrorReply, MessageReply

FINAL_USAGE = (  # the cumulative counts that `message_delta` repeats
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
)
FINAL_ONLY = ("output_tokens_details", "server_tool_use")  # not known at the start
PING_EVERY = 12  # deltas between two pings


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the request shows in its answer. `serial` counts requests and makes the ids.

    `cached`: the counters of a prompt cache, where there is one.
    """

    body: JSON
    serial: int = 1
    seed: int = 0
    cached: JSON | None = None

    @property
    def streams(self) -> bool:
        return self.body.get("stream") is True


def request_id(serial: int) -> str:
    return f"req_sim_{serial:06d}"


def message(reply: MessageReply, asked: Asked) -> JSON:
    """Return the JSON form of `reply`."""
    reply = _with_ids(reply, asked.serial)
    return {
        "id": f"msg_sim_{asked.serial:06d}",
        "type": "message",
        "role": "assistant",
        "model": asked.body.get("model", "unknown"),
        "content": [dict(block) for block in reply.content],
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "stop_details": reply.stop_details,
        "usage": _usage(reply, asked),
    }


def count_tokens(value: Any) -> int:
    """Return a rough but deterministic count: four characters of all texts are a token."""
    return characters(value) // 4 + 1


def characters(value: Any) -> int:
    """Return how long all texts in JSON are together; marks for the prompt cache are none."""
    match value:
        case str():
            return len(value)
        case dict():
            fields = cast(JSON, value)
            return sum(characters(fields[key]) for key in fields if key != "cache_control")
        case list():
            return sum(characters(each) for each in cast(list[Any], value))
        case _:
            return 0


def dump(value: Any) -> bytes:
    """Compact JSON in UTF-8, as the API writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _with_ids(reply: MessageReply, serial: int) -> MessageReply:
    """Return `reply` with deterministic ids for the tool calls that were declared without one."""
    last = ""
    blocks: list[JSON] = []
    for index, block in enumerate(reply.content):
        match block:
            case {"type": "tool_use" | "server_tool_use" as kind, "id": None}:
                prefix = "toolu" if kind == "tool_use" else "srvtoolu"
                last = f"{prefix}_sim_{serial:06d}_{index}"
                blocks.append({**block, "id": last})
            case {"tool_use_id": None}:
                blocks.append({**block, "tool_use_id": last})
            case _:
                blocks.append(block)
    return replace(reply, content=tuple(blocks))


def _usage(reply: MessageReply, asked: Asked) -> JSON:
    counted = [asked.body.get(name) for name in ("system", "tools", "messages")]
    usage: JSON = {
        "input_tokens": count_tokens(counted),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": count_tokens(list(reply.content)),
        "service_tier": "standard",
    }
    return {**usage, **(asked.cached or {}), **(reply.usage or {})}


def error_body(reply: ErrorReply, serial: int) -> JSON:
    """Return the documented error envelope."""
    said: JSON = {"type": reply.type, "message": reply.message}
    if reply.code is not None:
        said["details"] = {"error_code": reply.code}
    return {"type": "error", "error": said, "request_id": request_id(serial)}


def frame(event: JSON) -> bytes:
    """Return an event as server-sent bytes."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dump(event))


def events(reply: MessageReply, asked: Asked) -> Iterator[JSON]:
    """Yield the stream form of `reply`."""
    whole = message(reply, asked)
    usage = whole["usage"]
    final = {name: usage[name] for name in FINAL_USAGE if name in usage}
    start: JSON = {**whole, "content": [], "stop_reason": None, "stop_sequence": None}
    opening = {name: count for name, count in usage.items() if name not in FINAL_ONLY}
    start |= {"stop_details": None, "usage": {**opening, "output_tokens": 1}}
    ping: JSON = {"type": "ping"}
    yield {"type": "message_start", "message": start}
    if not whole["content"]:
        yield ping
    deltas = 0
    for index, block in enumerate(whole["content"]):
        opened, pieces = _open(block, f"{asked.seed}:{index}")
        yield {"type": "content_block_start", "index": index, "content_block": opened}
        if index == 0:
            yield ping
        for delta in pieces:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
            deltas += 1
            if deltas % PING_EVERY == 0:
                yield ping
        yield {"type": "content_block_stop", "index": index}
    stop = {name: whole[name] for name in ("stop_reason", "stop_sequence", "stop_details")}
    yield {"type": "message_delta", "delta": stop, "usage": final}
    yield {"type": "message_stop"}


def _open(block: JSON, seed: str) -> tuple[JSON, list[JSON]]:
    """Return a block as it is at its start, and the deltas that complete it."""
    match block:
        case {"type": "text", "text": str(said)}:
            cited: list[JSON] | None = block.get("citations")
            opened = {**block, "text": ""}
            deltas: list[JSON] = [{"type": "text_delta", "text": part} for part in _cut(said, seed)]
            if cited:
                opened["citations"] = []
                deltas += [{"type": "citations_delta", "citation": each} for each in cited]
            return opened, deltas
        case {"type": "thinking", "thinking": str(thought), "signature": signature}:
            deltas = [{"type": "thinking_delta", "thinking": part} for part in _cut(thought, seed)]
            deltas.append({"type": "signature_delta", "signature": signature})
            return {**block, "thinking": "", "signature": ""}, deltas
        case {"type": "tool_use" | "server_tool_use", "input": _}:
            # The API opens with an empty fragment, and sends no other one for an empty input.
            written = json.dumps(block["input"], ensure_ascii=False) if block["input"] else ""
            fragments = ["", *_cut(written, seed)]
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in fragments]
            return {**block, "input": {}}, deltas
        case {"type": "compaction"}:
            told = {name: block.get(name) for name in ("content", "encrypted_content")}
            opened = {**block, "content": None, "encrypted_content": None}
            return opened, [{"type": "compaction_delta", **told}]
        case _:
            return block, []


def _cut(said: str, seed: str) -> Iterator[str]:
    """Yield `said` in pieces of up to a few words, cut inside words too; fixed by the seed."""
    dice = random.Random(f"{seed}:{said}")
    while said:
        size = dice.randint(1, 24)
        yield said[:size]
        said = said[size:]
