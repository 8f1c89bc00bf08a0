"""Small pieces that both drivers share: reading heads and judges' replies, and missing verdicts."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx2

from magistrate.effects import Head
from magistrate.judges.base import ModelReply
from magistrate.messages import is_object
from magistrate.responses import EVENT_STREAMS

# A judge keeps its own deadline; an edge gives up on one that does not, this much later.
GRACE_S = 0.25

_judging: ContextVar[bool] = ContextVar("magistrate_judging", default=False)


@contextmanager
def judging() -> Generator[None, None, None]:
    """Mark what happens here as a judge's own call.

    A second `Moderation` further in must not judge the judge.
    """
    token = _judging.set(True)
    try:
        yield
    finally:
        _judging.reset(token)


def is_judging() -> bool:
    """Whether this is a judge's own call."""
    return _judging.get()


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
