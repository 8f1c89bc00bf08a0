"""What a test declares the Messages API to answer; `faults.py` has what can happen to a reply.

Only declarations live here. A reply knows nothing of JSON or SSE, of HTTP or of time: `wire.py`
turns one declaration into the bytes of either form, so both forms always say the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

JSON: TypeAlias = dict[str, Any]
Headers: TypeAlias = tuple[tuple[str, str], ...]

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class MessageReply:
    """A message of the model. `content` holds the blocks as the JSON form of the API has them;
    a `tool_use` block without an `id` is given one when it is sent."""

    content: tuple[JSON, ...]
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    stop_details: JSON | None = None
    usage: Mapping[str, Any] | None = None  # laid over the counts that are worked out


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error answer with the API's documented envelope."""

    status: int
    type: str
    message: str
    headers: Headers = ()
    code: str | None = None  # `error_code` in the details of the error


@dataclass(frozen=True, slots=True)
class RawReply:
    """Bytes that do not come from the API's own code, as a proxy or a broken server sends them.

    `sse` is what a streaming request receives instead, where that differs.
    """

    status: int
    content_type: str
    content: bytes
    sse: bytes | None = None


@dataclass(frozen=True, slots=True)
class Faulty:
    """A reply that something happens to after a number of events.

    Pings are not counted; a negative number counts from the end. Where the answer is not a stream
    the fault strikes in the middle of the body instead, and an error event becomes an error answer.
    """

    reply: Reply
    fault: Literal["cut", "drop", "error_event", "stall"]
    after_events: int
    seconds: float = 0.0
    error: ErrorReply | None = None


@dataclass(frozen=True, slots=True)
class Delayed:
    """A reply whose first byte comes late. With `reply=None` none comes: the connection closes."""

    reply: Reply | None
    seconds: float


Reply: TypeAlias = MessageReply | ErrorReply | RawReply | Faulty | Delayed


@dataclass(frozen=True, slots=True)
class When:
    """A reply kept for requests whose last user turn contains `needle`; it is never used up."""

    needle: str
    reply: Reply


Replies: TypeAlias = Reply | When | Sequence[Reply | When] | Callable[[JSON], Reply]


def when(needle: str, reply: Reply) -> When:
    """Answer `reply` to every request whose last user turn contains `needle`."""
    return When(needle, reply)


def text(
    *texts: str,
    stop_reason: str = "end_turn",
    stop_sequence: str | None = None,
    usage: Mapping[str, Any] | None = None,
) -> MessageReply:
    """Return one text block for each string; with none, a message without content."""
    blocks = tuple[JSON, ...]({"type": "text", "text": each} for each in texts)
    return MessageReply(blocks, stop_reason, stop_sequence, usage=usage)


def thinking(thought: str, *texts: str, signature: str | None = None) -> MessageReply:
    """Return a thinking block with its signature, then text blocks."""
    if signature is None:
        signature = base64.b64encode(hashlib.sha256(thought.encode()).digest()).decode()
    block: JSON = {"type": "thinking", "thinking": thought, "signature": signature}
    return MessageReply((block, *text(*texts).content))


def redacted_thinking(*texts: str, data: str = "c2ltdWxhdGVkIGNpcGhlcnRleHQ=") -> MessageReply:
    """Return a redacted thinking block, whose data cannot be read, then text blocks."""
    return MessageReply(({"type": "redacted_thinking", "data": data}, *text(*texts).content))


def tool_use(
    name: str,
    input: Mapping[str, Any] | None = None,
    *,
    id: str | None = None,
    text: str = "",
) -> MessageReply:
    """Return a call of one of the request's tools, after `text` if there is any."""
    call: JSON = {"type": "tool_use", "id": id, "name": name, "input": dict(input or {})}
    said: tuple[JSON, ...] = ({"type": "text", "text": text},) if text else ()
    return MessageReply((*said, call), stop_reason="tool_use")


def structured(obj: Any) -> MessageReply:
    """Return a structured answer: `obj` as JSON in one text block."""
    return text(json.dumps(obj, ensure_ascii=False))


def refusal(
    category: str | None = None,
    explanation: str | None = "This request was declined.",
    *,
    partial: str = "",
) -> MessageReply:
    """Return the platform's own refusal, after `partial` if the model had begun to answer."""
    details: JSON = {"type": "refusal", "category": category, "explanation": explanation}
    return MessageReply(text(*([partial] if partial else [])).content, "refusal", None, details)


def compaction(
    summary: str | None, *texts: str, signature: str | None = None, pause: bool = True
) -> MessageReply:
    """Return a compaction block, whose `summary` is None where compacting failed, then text blocks.

    `pause`: the answer stops there with `stop_reason: "compaction"`, as that of a request with
    `compaction` does, or of one whose edit asks to pause after compacting.
    """
    block: JSON = {"type": "compaction", "content": summary, "encrypted_content": None}
    if signature is not None:
        block["signature"] = signature
    return MessageReply((block, *text(*texts).content), "compaction" if pause else "end_turn")


def citations(said: str, *cited: str, document_title: str | None = None) -> MessageReply:
    """Return a text block that cites the given passages of the first document of the request."""
    start = 0
    found: list[JSON] = []
    for passage in cited:
        found.append(
            {
                "type": "char_location",
                "cited_text": passage,
                "document_index": 0,
                "document_title": document_title,
                "start_char_index": start,
                "end_char_index": start + len(passage),
            }
        )
        start += len(passage)
    return MessageReply(({"type": "text", "text": said, "citations": found},))


def server_tool(
    query: str,
    *texts: str,
    results: Sequence[tuple[str, str]] = (("A page", "https://example.com/page"),),
) -> MessageReply:
    """Return a web search that the API ran: the call, its results as (title, url), then text."""
    call: JSON = {
        "type": "server_tool_use",
        "id": None,
        "name": "web_search",
        "input": {"query": query},
    }
    found: list[JSON] = [
        {
            "type": "web_search_result",
            "title": title,
            "url": url,
            "encrypted_content": base64.b64encode(f"{title} {url}".encode()).decode(),
            "page_age": None,
        }
        for title, url in results
    ]
    result: JSON = {"type": "web_search_tool_result", "tool_use_id": None, "content": found}
    usage = {"server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0}}
    return MessageReply((call, result, *text(*texts).content), usage=usage)


def raw_blocks(blocks: Sequence[JSON], *, stop_reason: str = "end_turn") -> MessageReply:
    """Content blocks as given. In a stream, blocks of unknown types are complete at their start."""
    return MessageReply(tuple(blocks), stop_reason)


def error(
    status: int,
    type: str | None = None,
    message: str | None = None,
    *,
    retry_after: float | None = None,
    code: str | None = None,
) -> ErrorReply:
    """Return an error answer; the type follows from the status.

    `code` is the `error_code` in its details, for the errors that have one.
    `retry_after` is sent as the API does, in whole seconds (rounded up). A fraction is sent too,
    as `retry-after-ms`, which the SDK reads first: 0.001 keeps a test of retries fast.
    """
    headers: list[tuple[str, str]] = []
    if retry_after is not None:
        headers.append(("retry-after", str(-int(-retry_after // 1))))
        if retry_after % 1:
            headers.append(("retry-after-ms", f"{retry_after * 1000:g}"))
    kind = type or ERROR_TYPES.get(status, "api_error")
    said = message or f"Simulated {kind.replace('_', ' ')}."
    return ErrorReply(status, kind, said, tuple(headers), code)


def checked(reply: Reply) -> Reply:
    """Return `reply` if it is one; raises `TypeError` for what a test passed by mistake."""
    if not isinstance(reply, Reply):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{reply!r} is not a reply: declare one, such as text('Hello.')")
    return reply
