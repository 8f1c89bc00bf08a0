"""Functions that both drivers share: read response heads, mark and convert judges' calls."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx2
from anthropic import APIRequest

from magistrate.core.events import Head
from magistrate.judging.base import ModelReply
from magistrate.judging.connection import failed
from magistrate.sdk.requests import ModeratedRequest
from magistrate.sdk.responses import EVENT_STREAMS
from magistrate.wire.messages import JSON, is_object

_judging: ContextVar[JSON | None] = ContextVar("magistrate_judging", default=None)


@contextmanager
def judging(body: JSON) -> Generator[None, None, None]:
    """Mark a request with this body, made in this context, as a judge's own call.

    A second `Moderation` further in must not moderate the judge's call. Only this request is
    marked, not the context: a task that starts meanwhile keeps the context for its whole life.
    """
    token = _judging.set(body)
    try:
        yield
    finally:
        _judging.reset(token)


def is_judging(request: APIRequest) -> bool:
    """Return whether this request is a judge's own call."""
    if (asked := _judging.get()) is None:
        return False
    body: object = request.json
    return is_object(body) and body.get("messages") == asked["messages"]


def head_of(response: httpx2.Response, *, stream: bool) -> Head:
    """Return what the flow needs to know about a response.

    `stream`: a stream was asked for. The SDK then reads events whatever the content type is, and
    some proxies and test servers omit it.
    """
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    return Head(ok=response.is_success, sse=stream or kind in EVENT_STREAMS)


def failed_call(moderated: ModeratedRequest, error: Exception) -> ModelReply:
    """Convert the error of a judge's call into a reply.

    An error that is not a network error is noted and re-raised: the application's own request
    fails in the same way.
    """
    try:
        return failed(error)
    except Exception:
        moderated.note_not_sent(error)
        raise
