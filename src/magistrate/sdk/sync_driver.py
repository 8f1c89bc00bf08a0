"""Performs a flow for a synchronous client.

Upstream stays on the caller's thread, so that its context variables, and its right to be
interrupted, are what they are without moderation. Judges work on threads of their own, unless the
caller has nothing else to do and the judge keeps its deadline. A thread that is blocked reading
cannot also wait for a verdict, so a verdict that ends the exchange wakes it by shutting the socket
down.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any, assert_never

import httpx2
from anthropic import APIResponse, CallNext

from magistrate.core.decision import Upstream
from magistrate.core.effects import (
    Answer,
    Cancel,
    Chunk,
    End,
    Failed,
    Forward,
    Head,
    HoldAnswer,
    JudgeResult,
    KeepBatch,
    KeepThread,
    Next,
    Open,
    PropagateError,
    RaiseDecision,
    Recall,
    RecallBatch,
    RecallThread,
    Relay,
    Remember,
    RespondError,
    Settle,
    StartJudging,
    Write,
)
from magistrate.sdk.model_client import head_of
from magistrate.sdk.requests import ModeratedRequest
from magistrate.sdk.responses import SyncBody, declined, events_of, received, rewritten, synthetic
from magistrate.sdk.sync_judging import Judging
from magistrate.sdk.threads import JudgeThreads
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
        self._upstream = _Upstream(moderated, call_next)
        self._judging = Judging(moderated, call_next, pool, self._upstream.interrupt)
        self._aside: Failed | None = None

    def respond(self) -> APIResponse[Any]:
        """Run the flow until the caller has a response; a stream runs on as it is read."""
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
        """The one way out: flow, then judges, then upstream; an exchange always has a record."""
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
                case RaiseDecision():
                    raise self._moderated.error(effect)
                case Relay() | Answer() | RespondError() | Open() | Write():
                    self._judging.go_on()  # the caller may take its time with it
                    yield effect
                case (
                    Recall()
                    | Remember()
                    | RecallThread()
                    | KeepThread()
                    | RecallBatch()
                    | KeepBatch()
                    | HoldAnswer()
                    | Settle()
                ):
                    reply = self._session.perform(effect)
                case _:
                    assert_never(effect)

    def _next(self, read: bool) -> Head | Chunk | End | Failed | JudgeResult:
        """Whichever comes first."""
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
            self._aside = event  # probably our own doing: the verdict explains it
            return judged
        return event


class _Upstream:
    """The upstream call, on the caller's thread; judging threads may interrupt it."""

    def __init__(self, moderated: ModeratedRequest, call_next: CallNext) -> None:
        self._moderated = moderated
        self._session = moderated.session
        self._call_next = call_next
        self.request = moderated.request
        self.response: APIResponse[Any] | None = None
        self.over = False  # nothing more can be read
        self._sse = False
        self._chunks: Iterator[bytes] | None = None
        self._complete = False
        self._guard = threading.Lock()  # held to change, or act on, `_reading`
        self._reading = False
        self._doomed = False

    def read(self) -> Head | Chunk | End | Failed:
        """Send the request and return its head; after that, what comes next of the body."""
        try:
            if self.response is None:
                found = self._call_next(self.request)
                self.response = received(found, self._moderated.request, APIResponse)
                head = head_of(self.response.http_response, stream=self._session.stream)
                self._sse = head.sse
                return head
            if self._chunks is None:
                self._chunks = _body(self.response, sse=self._sse, lines=self._session.lines)
            with self._guard:
                if self._doomed:
                    raise httpx2.ReadError("given up after a verdict")
                self._reading = True
            try:
                data = next(self._chunks, None)
            finally:
                with self._guard:
                    self._reading = False
        except Exception as error:
            self.over = True
            return Failed(error)
        if data is None:
            self.over = self._complete = True
            return End()
        return Chunk(data)

    def interrupt(self) -> None:
        """Wake the thread that is reading a body that no longer matters.

        A connection may be back in the pool an instant before the reader says so; shutting it down
        then costs another request a retry, never a wrong answer.
        """
        with self._guard:
            self._doomed = True
            if not self._reading or self.response is None:
                return
            extensions = self.response.http_response.extensions
            if extensions.get("http_version") == b"HTTP/2":
                return  # the socket belongs to other requests too
            stream = extensions.get("network_stream")
            sock = stream.get_extra_info("socket") if stream is not None else None
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def cancel(self) -> Upstream:
        """Give the call up; how far it had got."""
        if self.response is None:
            # A call that raised was sent; one that was never started was not.
            return "cancelled" if self.over else "not_sent"
        if self._complete:
            return "completed"
        self.response.close()
        return "cancelled"

    def hand_over(self) -> APIResponse[Any]:
        """Give up the response, unread and open, to the caller."""
        assert self.response is not None
        response, self.response = self.response, None
        return response

    def close(self) -> None:
        """Close what was not read to its end."""
        if self.response is not None and not self.response.is_closed:
            self.response.close()


def _body(response: APIResponse[Any], *, sse: bool, lines: bool) -> Iterator[bytes]:
    if sse:
        yield from events_of(response)
    elif lines:
        yield from response.http_response.iter_bytes()
    else:  # of use only when all of it is there
        yield response.http_response.read()
