"""What a stream that left must look like, for the leak proof: read by nobody but this code."""

from __future__ import annotations

import re
from typing import Any

from magistrate.settings import (
    DEFAULT_BLOCK_TEXT,
    DEFAULT_CHAT_DISCLOSURE,
    DEFAULT_HIGH_RISK_DISCLOSURE,
)
from magistrate.wire.message_builder import MessageBuilder
from magistrate.wire.sse import Decoder

# The one event of ours that may stand in a stream that nothing stopped: a disclosure.
OURS = re.compile(
    rb'event: content_block_delta\ndata: [^\n]*"'
    + f"{DEFAULT_CHAT_DISCLOSURE}(?: {DEFAULT_HIGH_RISK_DISCLOSURE})?".encode()
    + rb'(?:\\n){2}"[^\n]*\n\n'
)


def check_valid(
    written: bytes, decision_id: str, *, structured: bool, refused: bool = True
) -> None:
    """A stream that was cut is a valid one: every block closed, nothing after the end."""
    events = [item.data for item in Decoder().feed(written) if item.type != "ping" and item.data]
    assert [each["type"] for each in events].count("message_start") == 1
    opened: list[Any] = []
    for each in events:
        match each["type"]:
            case "content_block_start":
                assert each["index"] == len(opened)
                opened.append([each["content_block"]])
            case "content_block_delta":
                assert each["index"] == len(opened) - 1
                assert opened[-1][-1] != "closed"
            case "content_block_stop":
                assert each["index"] == len(opened) - 1
                opened[-1].append("closed")
            case _:
                pass
    assert all(block[-1] == "closed" for block in opened)
    assert [each["type"] for each in events[-2:]] == ["message_delta", "message_stop"]
    assert events[-2]["usage"]["output_tokens"] is not None
    message = read(written)
    if not refused:
        assert message["stop_reason"] == "end_turn"
        return
    assert message["stop_reason"] == "refusal"
    assert message["stop_details"]["magistrate"] == {"decision_id": decision_id}
    if structured:
        assert message["content"] == []
    else:
        assert message["content"][-1]["text"].endswith(DEFAULT_BLOCK_TEXT)


def read(written: bytes) -> dict[str, Any]:
    """The message that a stream adds up to."""
    builder = MessageBuilder()
    decoder = Decoder()
    for item in (*decoder.feed(written), *decoder.flush()):
        builder.feed(item)
    return builder.message
