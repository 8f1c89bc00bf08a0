"""Requests and responses between the gateway and its callers: bodies, headers, errors."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, TypeVar

import orjson
from starlette.types import Receive, Scope, Send

from magistrate.core.refusals import HEADER
from magistrate.wire.messages import JSON
from magistrate.wire.sse import event

P = ParamSpec("P")
T = TypeVar("T")
Headers = list[tuple[str, str]]

# Connection-specific fields (RFC 9110, 7.6.1), and what the other side computes by itself.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
    }
)
APP_HEADER = "magistrate-app"
_OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})
_NOT_SENT = _HOP_BY_HOP | _OVERRIDES | {"host", "accept-encoding", "expect", APP_HEADER}
# Bodies are delivered decoded, so the encoding that upstream used says nothing about them.
_NOT_RETURNED = _HOP_BY_HOP | {"content-encoding", HEADER}
SSE = "text/event-stream"
# A larger body is parsed and read on a thread: it takes too long for an event loop.
SMALL_BYTES = 256 * 1024
# Of one body: parsing more would hold every other request up for seconds.
MOST_VALUES = 500_000
JSON_TYPE: tuple[str, str] = ("content-type", "application/json")
# The SDKs obey this header: an error of ours comes again, however often it is asked.
NO_RETRY: tuple[str, str] = ("x-should-retry", "false")


# What some servers take for another path, or for its end.
_AMBIGUOUS = re.compile(r"//|\\|;|/\.{1,2}(?:/|$)|%(?:2e|2f|3b|3f|23|5c|00)", re.IGNORECASE)
_CHARSET = re.compile(r"charset=\"?([^\s\";]+)", re.IGNORECASE)
_READS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


class BadRequest(Exception):
    """A request that is answered with an error of the gateway's own."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


class CallerLeft(Exception):
    """The caller closed the connection before its request was complete."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that arrived whole. `target` is its path and query, exactly as they were sent.

    `began`: when its headers were there, in seconds of the monotonic clock.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    scheme: str = "http"
    began: float = field(default_factory=time.monotonic)

    def header(self, name: str) -> str | None:
        """Return the value of a header; the last, if it was sent more than once."""
        return next((value for key, value in reversed(self.headers) if key == name), None)

    @property
    def path(self) -> str:
        """Return the path without the query."""
        return self.target.partition("?")[0]

    def forwarded_headers(self) -> Headers:
        """Return the headers that go upstream: all that are not about this connection."""
        return _without(self.headers, _NOT_SENT)

    @property
    def base_url(self) -> str:
        """Return the address at which the caller reached the gateway."""
        return f"{self.scheme}://{self.header('host') or 'localhost'}"


async def off_loop(request: Request, call: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """Call a function that reads a request's body: on a thread, if that takes long."""
    if len(request.body) <= SMALL_BYTES:
        return call(*args, **more)
    return await asyncio.to_thread(call, *args, **more)


def head_of(scope: Scope) -> Request:
    """Return a request without its body.

    Raises `BadRequest` for one that two servers may read in two ways, or that is encoded.
    """
    try:
        headers = tuple((key.decode(), value.decode()) for key, value in scope["headers"])
    except UnicodeDecodeError:
        raise BadRequest(400, "invalid_request_error", "a header is not UTF-8") from None
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    target = (raw + (b"?" + query if query else b"")).decode("latin-1")
    head = Request(scope["method"], target, headers, b"", scope["scheme"])
    if not target.startswith("/") or _AMBIGUOUS.search(head.path):
        raise BadRequest(400, "invalid_request_error", "this path can be read in two ways")
    encodings = [value for key, value in headers if key == "content-encoding"]
    if any(value not in ("", "identity") for value in encodings):
        plain = f"send the body without content-encoding: {encodings[0]!r} cannot be judged"
        raise BadRequest(400, "invalid_request_error", plain)
    charset = _CHARSET.search(head.header("content-type") or "")
    if charset is not None and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise BadRequest(400, "invalid_request_error", "send the body as UTF-8")
    return head


async def read(
    head: Request, receive: Receive, *, most_bytes: int, idle_s: float, whole_s: float
) -> Request:
    """Read a request's body.

    Raises `BadRequest` for a body that is larger than `most_bytes`, takes longer than `whole_s`
    seconds, has a pause of more than `idle_s` seconds, holds more values than can be read at once,
    or belongs to a method that has none; `CallerLeft` for one that never ends.
    """
    pieces: list[bytes] = []
    size = 0
    more = True
    while more:
        left_s = min(idle_s, head.began + whole_s - time.monotonic())
        try:
            async with asyncio.timeout(left_s):
                message = await receive()
        except TimeoutError:
            late = f"no more data for {idle_s:g} s, or not all of it within {whole_s:g} s"
            raise BadRequest(408, "timeout_error", late) from None
        if message["type"] == "http.disconnect":
            raise CallerLeft
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > most_bytes:
            large = f"the body is larger than {most_bytes:,} bytes"
            raise BadRequest(413, "request_too_large", large)
        pieces.append(piece)
        more = message.get("more_body", False)
    if size and head.method in _READS:
        raise BadRequest(400, "invalid_request_error", f"{head.method} takes no body")
    body = b"".join(pieces)
    if body.count(b"{") + body.count(b"[") > MOST_VALUES:
        many = f"the body has more than {MOST_VALUES:,} objects and arrays"
        raise BadRequest(413, "request_too_large", many)
    return replace(head, body=body)


def returned_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return those of upstream's headers that the caller gets."""
    return _without(headers, _NOT_RETURNED)


def _without(headers: Iterable[tuple[str, str]], names: frozenset[str]) -> Headers:
    found = [(key.lower(), value) for key, value in headers]
    named = {
        name.strip().lower()
        for key, value in found
        if key == "connection"
        for name in value.split(",")
    }
    return [(key, value) for key, value in found if key not in names and key not in named]


def error_body(kind: str, message: str) -> JSON:
    """Return an error in the API's own shape."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}


def error_event(kind: str, message: str) -> bytes:
    """Return an error as the last event of a stream that has begun."""
    return event(error_body(kind, message)).raw


class Response:
    """The response to one request: started once, then written, then finished."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send the status and the headers."""
        self.started = True
        raw = [(key.encode(), value.encode(errors="surrogateescape")) for key, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; waits while the caller reads more slowly than upstream."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        """Send the last piece of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def json(self, status: int, body: Any, headers: Headers | None = None) -> None:
        """Send a whole JSON response."""
        await self.bytes(status, orjson.dumps(body), [*(headers or []), JSON_TYPE])

    async def bytes(self, status: int, data: bytes, headers: Headers) -> None:
        """Send a whole response."""
        await self.start(status, [*headers, ("content-length", str(len(data)))])
        await self.finish(data)

    async def error(
        self, status: int, kind: str, message: str, headers: Headers | None = None
    ) -> None:
        """Send an error in the API's own shape."""
        await self.json(status, error_body(kind, message), headers)
