"""Make response objects of the SDK: new ones, or upstream's with another body.

The only module that uses private names of the SDK's responses; a contract test pins them.
"""

from __future__ import annotations

import json
from collections.abc import (
    AsyncIterator,
    Iterator,
)
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import httpx2
from anthropic import (
    Anthropic,
    APIRequest,
    APIResponse,
    APIResponseValidationError,
    AsyncAnthropic,
    AsyncAPIResponse,
    BaseModel,
)
from anthropic.lib.bedrock import AnthropicBedrock

from magistrate.core.effects import RejectAnswer
from magistrate.core.refusals import HEADER, header_value
from magistrate.sdk.bodies import AsyncBody, SyncBody, elapsed
from magistrate.sdk.errors import ModerationError
from magistrate.wire.messages import JSON, as_bytes

AnyResponse = APIResponse[Any] | AsyncAPIResponse[Any]
R = TypeVar("R", APIResponse[Any], AsyncAPIResponse[Any])

# The SDK returns decoded bytes, so these headers no longer describe the body. If there are two
# moderations, the header of the outer one replaces that of the inner one.
_DROPPED = frozenset(
    name.encode("ascii")
    for name in ("content-encoding", "content-length", "transfer-encoding", HEADER)
)
_SSE = "text/event-stream"
_BINARY = "application/vnd.amazon.eventstream"  # Bedrock's own framing of the same events
EVENT_STREAMS = frozenset({_SSE, _BINARY})


def rewritten(response: R, public: JSON, body: JSON | SyncBody | AsyncBody) -> R:
    """Return the upstream response with another body; all else is kept.

    A stream is server-sent events afterwards, whatever its framing was.
    """
    old = response.http_response
    # Unchanged bytes: what a proxy puts into a header need not be ASCII.
    headers = [(k, v) for k, v in old.headers.raw if k.lower() not in _DROPPED]
    headers.append((HEADER.encode("ascii"), header_value(public).encode("ascii")))
    new = object.__new__(type(response))  # what `copy.copy` does, but faster
    new.__dict__.update(response.__dict__)
    if not isinstance(body, dict) and _translator(response) is not None:
        headers = [(k, v) for k, v in headers if k.lower() != b"content-type"]
        headers.append((b"content-type", f"{_SSE}; charset=utf-8".encode("ascii")))
        new._client = _SpeaksSSE(response._client)  # pyright: ignore
    new._parsed_by_type = {}  # pyright: ignore[reportPrivateUsage] # else parse() has the old one
    new.http_response = httpx2.Response(
        old.status_code,
        headers=headers,
        extensions=old.extensions,
        request=old.request,
        history=old.history,
        default_encoding=old.default_encoding,
        **_body(body),
    )
    if not isinstance(body, dict):
        body.stands_for = old
    elif (took := elapsed(old)) is not None:
        new.http_response.elapsed = took
    return new


def synthetic(
    request: APIRequest, cls: type[R], public: JSON, body: JSON | SyncBody | AsyncBody
) -> R:
    """Return a response of our own, for a request without a (usable) upstream response."""
    kind = "application/json" if isinstance(body, dict) else f"{_SSE}; charset=utf-8"
    headers = {HEADER: header_value(public), "content-type": kind}
    return wrapped(_raw(request, headers, body), request, cls)


def declined(request: APIRequest, cls: type[R], status: int, body: JSON) -> R:
    """Return an error response in the API's format; the SDK raises its error for the status."""
    raw = _raw(request, {"content-type": "application/json"}, body)
    raw.status_code = status
    return wrapped(raw, request, cls)


def no_answer(response: AnyResponse, effect: RejectAnswer) -> Exception:
    """Return the exception for a response that is no answer. It carries none of its body.

    As in the SDK: what should be JSON and is not raises `JSONDecodeError`. Where the SDK would hand
    on something that is no message, such as the text of a page, `APIResponseValidationError`.
    """
    old = response.http_response
    kind = old.headers.get("content-type", "*").split(";")[0].strip().lower()
    if not effect.is_json and kind.endswith(("json", *EVENT_STREAMS)):
        return json.JSONDecodeError(f"upstream did not answer: {effect.detail}", "", 0)
    headers = [(k, v) for k, v in old.headers.raw if k.lower() not in _DROPPED]
    empty = httpx2.Response(old.status_code, headers=headers, request=old.request)
    message = f"upstream did not answer: {effect.detail} (content type {kind})"
    return APIResponseValidationError(empty, None, message=message)


def received(found: object, request: APIRequest, cls: type[R]) -> R:
    """Return the result of the rest of the middleware chain in the SDK's wrapper.

    A middleware further in may return a finished message of its own, which is judged like any
    other. Raises ModerationError for a result that cannot be read.
    """
    if isinstance(found, httpx2.Response):
        found = wrapped(found, request, cls)
    if isinstance(found, BaseModel):
        kind = {"content-type": "application/json"}
        return wrapped(_raw(request, kind, found.to_dict(mode="json")), request, cls)
    if not isinstance(found, cls):
        raise ModerationError(
            f"a middleware inside magistrate's returned {type(found).__name__}, which cannot be "
            f"judged; return {cls.__name__}, or place it before the Moderation"
        )
    try:
        _ = found.http_response.request
    except RuntimeError:  # a response that a middleware made may have no request
        found.http_response.request = _request(request)
    return found


def wrapped(raw: httpx2.Response, request: APIRequest, cls: type[R]) -> R:
    """Return a bare HTTP response in the SDK's wrapper.

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


# --- Bedrock's binary streams ---------------------------------------------------------------------


def events_of(response: APIResponse[Any]) -> Iterator[bytes]:
    """Return the body of a stream as server-sent events, unchanged or translated."""
    data = response.http_response.iter_bytes()
    translator = _translator(response)
    return data if translator is None else map(_framed, translator.iter_bytes(data))


def async_events_of(response: AsyncAPIResponse[Any]) -> AsyncIterator[bytes]:
    """The asynchronous version of `events_of`."""
    data = response.http_response.aiter_bytes()
    translator = _translator(response)
    if translator is None:
        return data
    return (_framed(found) async for found in translator.aiter_bytes(data))


class _SpeaksSSE:
    """A platform's client for parsing responses, but with server-sent events as framing."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _make_sse_decoder(self) -> Any:
        return _sse_decoder()


def _translator(response: AnyResponse) -> Any:
    """Return the SDK's decoder of a stream; None if the stream is server-sent events.

    The SDK asks the client for it and ignores the content type. But a bare response has only the
    client that we gave it, so there the content type is used.
    """
    decoder: Any = response._client._make_sse_decoder()  # pyright: ignore
    if type(decoder) is not type(_sse_decoder()):
        return decoder
    kind = response.http_response.headers.get("content-type", "")
    return _bedrock()._make_sse_decoder() if kind.startswith(_BINARY) else None  # pyright: ignore


def _sse_decoder() -> Any:
    return _parser(False)._make_sse_decoder()


def _framed(found: Any) -> bytes:
    """Return an event of the SDK as bytes, with a `data` line for each line of its data."""
    name = b" ".join(str(found.event or "").encode().splitlines())
    lines = [b"event: " + name, *(b"data: " + line for line in found.data.encode().splitlines())]
    return b"\n".join(lines) + b"\n\n"


def _raw(
    request: APIRequest, headers: dict[str, str], body: JSON | SyncBody | AsyncBody
) -> httpx2.Response:
    raw = httpx2.Response(200, headers=headers, **_body(body))
    raw.request = _request(request)
    raw.elapsed = timedelta()
    return raw


def _request(request: APIRequest) -> httpx2.Request:
    return httpx2.Request(request.method.upper(), "https://magistrate.invalid/v1/messages")


def _body(body: JSON | SyncBody | AsyncBody) -> dict[str, Any]:
    return {"content": as_bytes(body)} if isinstance(body, dict) else {"stream": body}


def _unreachable(_request: httpx2.Request) -> httpx2.Response:
    raise AssertionError("the parsing client must not send")


@cache
def _parser(asynchronous: bool) -> Any:
    """Return a client that never sends: the SDK's response wrapper uses it for parsing."""
    transport = httpx2.MockTransport(_unreachable)
    if asynchronous:
        return AsyncAnthropic(api_key="unused", http_client=httpx2.AsyncClient(transport=transport))
    return Anthropic(api_key="unused", http_client=httpx2.Client(transport=transport))


@cache
def _bedrock() -> AnthropicBedrock:
    """Return such a client for Bedrock; the sync one serves both, as both have the decoder."""
    client = httpx2.Client(transport=httpx2.MockTransport(_unreachable))
    return AnthropicBedrock(api_key="unused", aws_region="us-east-1", http_client=client)
