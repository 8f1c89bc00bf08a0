"""Small pieces that both drivers share: reading heads, calling judges, and what comes of it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import httpx2
from anthropic import APIRequest

from magistrate.core.effects import Head
from magistrate.judging.base import AskModel, ModelReply
from magistrate.judging.connection import failed
from magistrate.sdk.responses import EVENT_STREAMS
from magistrate.verdicts import Outcome, broken
from magistrate.wire.messages import JSON, is_object
from magistrate.wire.parts import Subject

if TYPE_CHECKING:
    from magistrate.engine.session import Case

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


def judged_at_once(case: Case, subject: Subject) -> bool:
    """Whether to judge right here and now: the judge never waits, and the text is short."""
    return case.judge.waits == "never" and sum(len(part.text) for part in subject.parts) <= _SHORT


def judge_here(case: Case, subject: Subject, ask: AskModel, deadline_s: float) -> Outcome:
    """Judge on this thread; what a judge raises counts as a failure."""
    try:
        return case.moderation.judge.judge(subject, case.settings, ask, deadline_s)
    except Exception as error:
        return broken(case.judge, type(error).__name__)


def failed_call(case: Case, error: Exception) -> ModelReply:
    """What a judge's call raised, as a reply. Re-raises what is no matter of the network, and notes
    it: the application's own request fails in the same way."""
    try:
        return failed(error)
    except Exception:
        case.not_sent(error)
        raise
