"""Small pieces that both drivers share: reading heads and judges' replies, and missing verdicts."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx2
from anthropic import APIRequest

from magistrate.core.effects import Head
from magistrate.judging.base import ModelReply
from magistrate.sdk.responses import EVENT_STREAMS
from magistrate.wire.messages import JSON, is_object

# A judge keeps its own deadline; an edge gives up on one that does not, this much later.
GRACE_S = 0.25

_judging: ContextVar[JSON | None] = ContextVar("magistrate_judging", default=None)


@contextmanager
def judging(body: JSON) -> Generator[None, None, None]:
    """Mark a request with this body, made here, as a judge's own call.

    A second `Moderation` further in must not judge the judge. Only this very request is marked: a
    task that somebody starts meanwhile has this context for as long as it lives.
    """
    token = _judging.set(body)
    try:
        yield
    finally:
        _judging.reset(token)


def is_judging(request: APIRequest) -> bool:
    """Whether this request is a judge's own call."""
    if (asked := _judging.get()) is None:
        return False
    body: object = request.json
    return is_object(body) and body.get("messages") == asked["messages"]


def head_of(response: httpx2.Response, *, stream: bool) -> Head:
    """What the flow needs to know of a response.

    `stream`: a stream was asked for. The SDK then reads events whatever the body is called, and
    proxies and test servers do leave the name out.
    """
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    return Head(ok=response.is_success, sse=stream or kind in EVENT_STREAMS)


def model_reply(response: httpx2.Response) -> ModelReply:
    """A judge model's response, read to its end."""
    try:
        body: object = response.json()
    except ValueError:
        body = None
    return ModelReply(
        response.status_code, body if is_object(body) else None, dict(response.headers)
    )
