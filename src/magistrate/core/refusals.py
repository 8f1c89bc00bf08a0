"""What the caller receives: refusal, pending notice, disclosure, warning, as JSON and as a stream.

Pure. A message of ours is always a valid Messages API message, and always marked as ours, so that
it is not mistaken for the platform's own refusal.
"""

from __future__ import annotations

import json
from typing import Any

from magistrate.wire.messages import JSON, is_object
from magistrate.wire.sse import Event, event

HEADER = "magistrate-decision"
_SYNTHETIC_ID = "msg_magistrate_"
# Servers and clients take headers of some kilobytes; a batch may name thousands of entries.
_MOST_HEADER = 4096


def header_value(public: JSON) -> str:
    """Return the public part of a decision as the value of `HEADER`: JSON in ASCII.

    What is a list or an object is left out where all of it would be too long; the body has it.
    """
    value = json.dumps(public, separators=(",", ":"))
    if len(value) <= _MOST_HEADER:
        return value
    kept = {key: item for key, item in public.items() if not isinstance(item, dict | list)}
    return json.dumps({**kept, "truncated": True}, separators=(",", ":"))


def refusal(
    decision_id: str, model: str, text: str, *, structured: bool, disclosure: str | None = None
) -> JSON:
    """Return a refusal in the API's own shape.

    `content` is empty if structured output was asked for, since the SDK parses every text block
    of such an answer as JSON.
    """
    return _message(decision_id, model, text, structured, disclosure) | {
        "stop_reason": "refusal",
        "stop_details": stop_details(decision_id, text),
    }


def pending_notice(
    decision_id: str, model: str, text: str, *, structured: bool, disclosure: str | None = None
) -> JSON:
    """Return the message that the caller receives while a person reviews the answer."""
    return _message(decision_id, model, text, structured, disclosure) | {"stop_reason": "end_turn"}


def stop_details(decision_id: str, text: str) -> JSON:
    """Return our mark on a refusal: the platform's own refusals never carry `magistrate`."""
    return {
        "type": "refusal",
        "category": None,
        "explanation": text,
        "magistrate": {"decision_id": decision_id},
    }


def _message(
    decision_id: str, model: str, text: str, structured: bool, disclosure: str | None
) -> JSON:
    words = f"{disclosure}\n\n{text}" if disclosure else text
    return {
        "id": f"{_SYNTHETIC_ID}{decision_id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [] if structured else [{"type": "text", "text": words}],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def disclosed(message: JSON, text: str) -> JSON | None:
    """Return the answer with the disclosure before its first text, or None if it has no text.

    It goes inside the first text block, not into a block of its own: applications read
    `content[0].text`, and must not lose the answer behind the disclosure.
    """
    content: list[Any] = list(message.get("content") or [])
    for index, block in enumerate(content):
        if is_object(block) and block.get("type") == "text" and block.get("text"):
            content[index] = {**block, "text": f"{text}\n\n{block['text']}"}
            return {**message, "content": content}
    return None


def disclosing_delta(index: object, text: str) -> Event:
    """Return the disclosure for a stream: a delta to send before the first text delta."""
    return event(
        {
            "type": "content_block_delta",
            "index": index,
            "delta": {"type": "text_delta", "text": f"{text}\n\n"},
        }
    )


def as_stream(message: JSON) -> list[Event]:
    """Return a message of ours (text blocks only) as the events the API would have sent."""
    start: JSON = {**message, "content": [], "stop_reason": None}
    start.pop("stop_details", None)
    events = [event({"type": "message_start", "message": start})]
    for index, block in enumerate(message["content"]):
        events += _text_block(index, block["text"])
    delta = {
        key: message[key]
        for key in ("stop_reason", "stop_sequence", "stop_details")
        if key in message
    }
    usage = {"output_tokens": message["usage"]["output_tokens"]}
    events.append(event({"type": "message_delta", "delta": delta, "usage": usage}))
    events.append(event({"type": "message_stop"}))
    return events


def cut(
    decision_id: str, text: str, *, next_index: int, open_index: int | None, usage: JSON
) -> list[Event]:
    """Return the events that end a stream, blocked half way, as a valid stream.

    They close the open block and add the refusal as its own block, with the last usage seen.
    """
    events: list[Event] = []
    if open_index is not None:
        events.append(event({"type": "content_block_stop", "index": open_index}))
    events += _text_block(next_index, text)
    delta = {
        "stop_reason": "refusal",
        "stop_sequence": None,
        "stop_details": stop_details(decision_id, text),
    }
    counted = {"output_tokens": 0} | {k: v for k, v in usage.items() if v is not None}
    events.append(event({"type": "message_delta", "delta": delta, "usage": counted}))
    events.append(event({"type": "message_stop"}))
    return events


def _text_block(index: int, text: str) -> list[Event]:
    return [
        event(
            {
                "type": "content_block_start",
                "index": index,
                "content_block": {"type": "text", "text": ""},
            }
        ),
        event(
            {
                "type": "content_block_delta",
                "index": index,
                "delta": {"type": "text_delta", "text": text},
            }
        ),
        event({"type": "content_block_stop", "index": index}),
    ]
