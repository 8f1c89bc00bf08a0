"""Performs a flow for a synchronous client.

The upstream call is on the caller's thread, so that context variables and interrupts work as they
do without moderation. Judges work on separate threads, unless the caller has nothing else to do and
the judge keeps its deadline. A thread that is blocked reading cannot also wait for a verdict, so a
verdict that ends the exchange wakes it by shutting down the socket.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from anthropic import APIResponse, CallNext

from magistrate.core.effects import (
    Answer,
    Cancel,
    Forward,
    Next,
    Open,
    PropagateError,
    RaiseDecision,
    RejectAnswer,
    Relay,
    RespondError,
    StartJudging,
    Write,
)
from magistrate.core.events import Chunk, End, Failed, Head, JudgeResult
from magistrate.sdk.judge_threads import JudgeThreads
from magistrate.sdk.requests import ModeratedRequest
from magistrate.sdk.responses import SyncBody, declined, no_answer, rewritten, synthetic
from magistrate.sdk.sync_judging import Judging
from magistrate.sdk.sync_upstream import SyncUpstream
from magistrate.storage.base import StoreError
from magistrate.wire.messages import JSON

_Outward = Relay | Answer | RespondError | Open | Write


class SyncDriver:
    """One exchange on the caller's thread."""

    def __init__(
        self, moderated: ModeratedRequest, call_next: CallNext, pool: JudgeThreads
    ) -> None:
        self._moderated = moderated
        self._session = moderated.session
        self._flow = self._session.flow
        self._upstream = SyncUpstream(moderated, call_next)
        self._judging = Judging(moderated, call_next, pool, self._upstream.interrupt)
        self._aside: Failed | None = None

    def respond(self) -> APIResponse[Any]:
        """Run the flow until there is a response; a stream continues the flow as it is read."""
        outward = self._drive()
        try:
            first = next(outward)
            match first:
                case Open(public, ours):
                    body = SyncBody(self._stream(outward), outward.close, self._upstream.interrupt)
                    return self._rewritten(public, body, ours)
                case Answer(message, public, ours):
                    for _ in outward:
                        raise AssertionError("nothing follows an answer")
                    return self._rewritten(public, message, ours)
                case RespondError(status, body):
                    outward.close()
                    return declined(self._moderated.request, APIResponse, status, body)
                case Relay():
                    response = self._upstream.hand_over()
                    for _ in outward:
                        raise AssertionError("nothing follows a relayed response")
                    return response
                case Write():
                    raise AssertionError("a stream must be opened first")
        except BaseException:
            outward.close()
            raise

    def _rewritten(self, public: JSON, body: JSON | SyncBody, ours: bool) -> APIResponse[Any]:
        if ours or self._upstream.response is None:
            return synthetic(self._moderated.request, APIResponse, public, body)
        return rewritten(self._upstream.response, public, body)

    def _stream(self, outward: Generator[_Outward, None, None]) -> Generator[bytes, None, None]:
        try:
            for effect in outward:
                if isinstance(effect, Write):
                    yield effect.data
        finally:
            outward.close()

    def _release(self) -> None:
        """Close flow, then judges, then upstream.

        Every exit runs this, so each exchange has a record.
        """
        self._flow.close()
        self._judging.give_up()
        self._session.abandon()
        self._upstream.close()

    def _drive(self) -> Generator[_Outward, None, None]:
        try:
            yield from self._effects()
        finally:
            self._release()

    def _effects(self) -> Generator[_Outward, None, None]:
        reply: Any = None
        while True:
            try:
                effect = self._flow.send(reply)
            except StopIteration:
                return
            reply = None
            match effect:
                case StartJudging():
                    self._judging.ask(effect)
                case Forward(body):
                    self._upstream.request = self._moderated.forwarded(body)
                case Next(read):
                    reply = self._next(read)
                case Cancel():
                    reply = self._upstream.cancel()
                case PropagateError(error):
                    raise error
                case RejectAnswer():
                    assert self._upstream.response is not None
                    raise no_answer(self._upstream.response, effect)
                case RaiseDecision():
                    raise self._moderated.error(effect)
                case Relay() | Answer() | RespondError() | Open() | Write():
                    self._judging.go_on()  # the caller may take long with it
                    yield effect
                case _:  # a `StateEffect`, or the type checker says which one was forgotten
                    try:
                        reply = self._session.perform(effect)
                    except StoreError as error:
                        ended = self._session.store_failed(error)
                        raise self._moderated.error(ended) from None

    def _next(self, read: bool) -> Head | Chunk | End | Failed | JudgeResult:
        """Return the next event from upstream or a judge, whichever is first."""
        if not read or (self._upstream.over and self._aside is None):
            return self._judging.wait()
        self._judging.go_on()
        if (judged := self._judging.answered()) is not None:
            return judged
        if self._aside is not None:
            failed, self._aside = self._aside, None
            return failed
        event = self._upstream.read()
        if isinstance(event, Failed) and (judged := self._judging.answered()) is not None:
            self._aside = event  # probably our own interrupt, which the verdict explains
            return judged
        return event
