"""What the events of a stream carry, and what of it becomes part of the message.

Pure. `MessageBuilder` applies the known fields; what is left is `unread`, and is judged like any
other residue (see `residue`).
"""

from __future__ import annotations

from collections.abc import Mapping

from magistrate.wire.messages import JSON, is_object
from magistrate.wire.shapes import ANSWER, ERROR, ID, OPAQUE, WORD, Shape, is_free, left_over
from magistrate.wire.sse import BROKEN, Event

# The field that contains the content of each kind of delta.
DELTA_FIELDS = {
    "citations_delta": "citation",
    "compaction_delta": "content",
    "input_json_delta": "partial_json",
    "signature_delta": "signature",
    "text_delta": "text",
    "thinking_delta": "thinking",
}
_ANY_EVENT: Mapping[str, Shape] = {"type": WORD}
_EVENTS: Mapping[str, Mapping[str, Shape]] = {
    "error": {"type": WORD, "error": ERROR, "request_id": ID},
    "message_delta": {**ANSWER, "type": WORD},
}


def unread(event: Event) -> JSON:
    """Return the fields of an event that carry content and do not become part of the message."""
    if event.grows:
        return {}
    rest = dict(event.data)
    match event.type:
        case "message_start" if is_object(rest.get("message")):
            del rest["message"]
        case "content_block_start":
            rest.pop("content_block", None)
        case "content_block_delta" if is_object(delta := rest.get("delta")):
            rest["delta"] = _unread_of_delta(delta)
        case "message_delta":
            if is_object(delta := rest.get("delta")):
                rest["delta"] = {"content": delta.get("content")}
            if is_object(rest.get("usage")):
                del rest["usage"]
        case _:
            pass
    found = left_over(rest, _EVENTS.get(event.type, _ANY_EVENT))
    if event.stray or not (is_free(event.other) and is_free(event.name, WORD)):
        found["frame"] = event.raw.decode("utf-8", "replace").strip()
    return found


def _unread_of_delta(delta: JSON) -> JSON:
    kind = str(delta.get("type"))
    own = DELTA_FIELDS.get(kind)
    if own is None:
        return {}  # the whole delta is kept, as one of an unknown kind
    rest = {key: item for key, item in delta.items() if not (key == own and applies(kind, item))}
    if kind == "compaction_delta":
        rest.pop("encrypted_content", None)
    return left_over(rest, _ANY_EVENT)


def applies(kind: str, content: object) -> bool:
    """Return whether the content of a delta has the type that its block can take in."""
    if kind == "signature_delta":
        return is_free(content, OPAQUE)
    return kind == "citations_delta" or content is None or isinstance(content, str)


def is_broken(event: Event) -> bool:
    """Return whether the SDK would fail on this event, or the stream is none.

    An event with a name must have JSON as its data; the SDK skips those without a name and pings,
    and raises an `error` whatever it says.
    """
    named = event.name not in ("", "ping", "error")
    return (event.other is BROKEN and named) or is_no_event(event)


def is_no_event(event: Event) -> bool:
    """Return whether a frame is nothing but lines of another format, such as those of a page."""
    return bool(event.stray) and not event.data and event.other is None and not event.name
