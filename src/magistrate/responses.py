"""The SDK's response objects: ours in its place, or its own with another body.

The only file that uses names of the SDK with a leading underscore; a contract test pins them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import cache
from typing import Any, TypeVar

import httpx2
from anthropic import (
    Anthropic,
    APIRequest,
    APIResponse,
    AsyncAnthropic,
    AsyncAPIResponse,
    BaseModel,
)

from magistrate.enforcement import HEADER
from magistrate.errors import ModerationError
from magistrate.messages import JSON

AnyResponse = APIResponse[Any] | AsyncAPIResponse[Any]
R = TypeVar("R", APIResponse[Any], AsyncAPIResponse[Any])

# The SDK hands over decoded bytes, so these no longer describe the body.
_DROPPED = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class SyncBody(httpx2.SyncByteStream):
    """A body produced by a generator. Closing it closes the generator, then what feeds it.

    Both, because a body that nobody began to read has a generator whose `finally` does not run.
    """

    def __init__(self, chunks: Generator[bytes, None, None], close: Callable[[], None]) -> None:
        self._chunks = chunks
        self._close = close

    def __iter__(self) -> Generator[bytes, None, None]:
        yield from self._chunks

    def close(self) -> None:
        self._chunks.close()
        self._close()


class AsyncBody(httpx2.AsyncByteStream):
    """The same, asynchronous."""

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], close: Callable[[], Awaitable[None]]
    ) -> None:
        self._chunks = chunks
        self._close = close

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._chunks:
            yield chunk

    async def aclose(self) -> None:
        await self._chunks.aclose()
        await self._close()


def rewritten(response: R, public: JSON, body: JSON | SyncBody | AsyncBody) -> R:
    """The upstream response with another body, everything else kept."""
    old = response.http_response
    headers = [(k, v) for k, v in old.headers.multi_items() if k.lower() not in _DROPPED]
    headers.append((HEADER, _header(public)))
    new = copy.copy(response)
    new._parsed_by_type = {}  # pyright: ignore[reportPrivateUsage] # else parse() has the old one
    new.http_response = httpx2.Response(
        old.status_code,
        headers=headers,
        extensions=old.extensions,
        request=old.request,
        **_body(body),
    )
    return new


def synthetic(
    request: APIRequest, cls: type[R], public: JSON, body: JSON | SyncBody | AsyncBody
) -> R:
    """A response of our own, for a request that has no (usable) upstream response."""
    kind = "application/json" if isinstance(body, dict) else "text/event-stream; charset=utf-8"
    headers = {HEADER: _header(public), "content-type": kind}
    return wrapped(_raw(request, headers, body), request, cls)


def declined(request: APIRequest, cls: type[R], status: int, body: JSON) -> R:
    """An error response of the API's own shape; the SDK raises what it raises for such a status."""
    raw = _raw(request, {"content-type": "application/json"}, body)
    raw.status_code = status
    return wrapped(raw, request, cls)


def received(found: object, request: APIRequest, cls: type[R]) -> R:
    """What the rest of the chain returned, in the SDK's wrapper.

    A middleware further in may answer with a finished message of its own, which is judged like any
    other. Raises ModerationError for what cannot be read.
    """
    if isinstance(found, httpx2.Response):
        return wrapped(found, request, cls)
    if isinstance(found, BaseModel):
        kind = {"content-type": "application/json"}
        return wrapped(_raw(request, kind, found.to_dict(mode="json")), request, cls)
    if not isinstance(found, cls):
        raise ModerationError(
            f"a middleware inside magistrate's returned {type(found).__name__}, which cannot be "
            f"judged; return {cls.__name__}, or place it before the Moderation"
        )
    return found


def wrapped(raw: httpx2.Response, request: APIRequest, cls: type[R]) -> R:
    """A bare HTTP response as the SDK's wrapper.

    The SDK returns it bare for `cast_to=httpx2.Response` when there is middleware, and then neither
    raises nor retries error statuses; wrapped, it does both.
    """
    return cls(
        raw=raw,
        cast_to=request.cast_to,
        client=_parser(cls is AsyncAPIResponse),
        stream=request.stream,
        stream_cls=request.stream_cls,
        options=request.options,
        retries_taken=request.retries_taken,
    )


def _raw(
    request: APIRequest, headers: dict[str, str], body: JSON | SyncBody | AsyncBody
) -> httpx2.Response:
    raw = httpx2.Response(200, headers=headers, **_body(body))
    raw.request = httpx2.Request(request.method.upper(), "https://magistrate.invalid/v1/messages")
    return raw


def _header(public: JSON) -> str:
    return json.dumps(public, separators=(",", ":"))


def _body(body: JSON | SyncBody | AsyncBody) -> dict[str, Any]:
    # ASCII, so that a lone surrogate that came as an escape leaves as one.
    return {"content": json.dumps(body).encode()} if isinstance(body, dict) else {"stream": body}


@cache
def _parser(asynchronous: bool) -> Any:
    """A client that never sends: the SDK's response wrapper borrows its parsing methods."""

    def unreachable(_request: httpx2.Request) -> httpx2.Response:
        raise AssertionError("the parsing client must not send")

    transport = httpx2.MockTransport(unreachable)
    if asynchronous:
        return AsyncAnthropic(api_key="unused", http_client=httpx2.AsyncClient(transport=transport))
    return Anthropic(api_key="unused", http_client=httpx2.Client(transport=transport))
