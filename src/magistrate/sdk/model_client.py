"""Small pieces that both drivers share: reading heads, calling judges, and what comes of it."""

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

# A judge keeps its own deadline; an edge gives up on one that does not, this much later.
GRACE_S = 0.25
# Characters of a subject that a judge which never waits is asked about at once. The local judge
# takes about 4 ms for them; more is noticed by whatever else runs in an event loop.
_SHORT = 2_000

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


def judged_at_once(session: Session, subject: Subject) -> bool:
    """Return whether to judge at once, right here: the judge never waits, and the text is short."""
    size = sum(len(part.text) for part in subject.parts)
    return session.judge.waits == "never" and size <= _SHORT


def judge_here(session: Session, subject: Subject, ask: AskModel, deadline_s: float) -> Outcome:
    """Judge on this thread; what a judge raises counts as a failure."""
    try:
        return session.engine.judge.judge(subject, session.settings, ask, deadline_s)
    except Exception as error:
        return broken(session.judge, type(error).__name__)


def failed_call(moderated: ModeratedRequest, error: Exception) -> ModelReply:
    """What a judge's call raised, as a reply. Re-raises what is no matter of the network, and notes
    it: the application's own request fails in the same way."""
    try:
        return failed(error)
    except Exception:
        moderated.note_not_sent(error)
        raise
