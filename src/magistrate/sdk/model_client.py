"""Functions that both drivers share: read response heads, call judges, convert their errors."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx2
from anthropic import APIRequest

from magistrate.core.events import Head
from magistrate.engine.session import Session
from magistrate.judging.base import AskModel, ModelReply
from magistrate.judging.connection import failed
from magistrate.sdk.requests import ModeratedRequest
from magistrate.sdk.responses import EVENT_STREAMS
from magistrate.verdicts import Outcome, broken
from magistrate.wire.messages import JSON, is_object
from magistrate.wire.parts import Subject

# A judge keeps its own deadline. If it does not, the edge stops waiting this many seconds later.
GRACE_S = 0.25
# Most characters of a subject for which a judge that never waits is called at once. The local judge
# takes about 4 ms for them; a longer call would delay other tasks of the event loop noticeably.
_SHORT = 2_000

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


def judged_at_once(session: Session, subject: Subject) -> bool:
    """Return whether to judge at once on this thread: the judge never waits, the text is short."""
    size = sum(len(part.text) for part in subject.parts)
    return session.judge.waits == "never" and size <= _SHORT


def judge_here(session: Session, subject: Subject, ask: AskModel, deadline_s: float) -> Outcome:
    """Judge on this thread. An exception of the judge counts as a failure."""
    try:
        return session.engine.judge.judge(subject, session.settings, ask, deadline_s)
    except Exception as error:
        return broken(session.judge, type(error).__name__)


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
