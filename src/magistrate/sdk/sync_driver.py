"""Performs a flow for a synchronous client.

Upstream stays on the caller's thread, so that its context variables, and its right to be
interrupted, are what they are without moderation; judges run on a pool of their own. A thread that
is blocked reading cannot also wait for a verdict, so a verdict that ends the exchange wakes it by
shutting the socket down.
"""

from __future__ import annotations

import contextvars
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
from anthropic import APIResponse, CallNext

from magistrate.core.effects import (
    Answer,
    Ask,
    Cancel,
    Chunk,
    Decline,
    End,
    Failed,
    Forward,
    Head,
    Heard,
    Next,
    Open,
    Relay,
    Reraise,
    Write,
)
from magistrate.judging.base import ModelReply, named
from magistrate.sdk.model_client import GRACE_S, head_of, judging, model_reply
from magistrate.sdk.responses import SyncBody, declined, events_of, received, rewritten, synthetic
from magistrate.verdicts import Outcome, Verdict, broken, no_answer
from magistrate.wire.messages import JSON

if TYPE_CHECKING:
    from magistrate.engine.session import Case

_Outward = Relay | Answer | Decline | Open | Write


class SyncDriver:
    """One exchange on the caller's thread."""

    def __init__(self, case: Case, call_next: CallNext) -> None:
        self._case = case
        self._call_next = call_next
        self._flow = case.flow
        self._mailbox: SimpleQueue[Heard] = SimpleQueue()
        self._waiting: dict[str, float] = {}  # ticket -> when the driver gives up on it
        self._request = case.request
        self._response: APIResponse[Any] | None = None
        self._sse = False
        self._chunks: Iterator[bytes] | None = None
        self._aside: Failed | None = None
        self._over = False  # nothing more can be read
        self._complete = False
        self._guard = threading.Lock()  # held to change, or act on, `_reading`
        self._reading = False
        self._doomed = False

    def respond(self) -> APIResponse[Any]:
        """Run the flow until the caller has a response; a stream runs on as it is read."""
        outward = self._drive()
        try:
            first = next(outward)
            match first:
                case Open(public, ours):
                    body = SyncBody(self._stream(outward), outward.close, self._interrupt)
                    return self._rewritten(public, body, ours)
                case Answer(message, public, ours):
                    for _ in outward:
                        raise AssertionError("nothing follows an answer")
                    return self._rewritten(public, message, ours)
                case Decline(status, body):
                    for _ in outward:
                        raise AssertionError("nothing follows a declined request")
                    return declined(self._case.request, APIResponse, status, body)
                case Relay():
                    response, self._response = self._response, None  # the caller's to close now
                    for _ in outward:
                        raise AssertionError("nothing follows a relayed response")
                    assert response is not None
                    return response
                case Write():
                    raise AssertionError("a stream must be opened first")
        except BaseException:
            outward.close()
            raise

    def _rewritten(self, public: JSON, body: JSON | SyncBody, ours: bool) -> APIResponse[Any]:
        if ours or self._response is None:
            return synthetic(self._case.request, APIResponse, public, body)
        return rewritten(self._response, public, body)

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
        self._waiting.clear()
        self._case.abandon()
        if self._response is not None and not self._response.is_closed:
            self._response.close()

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
                case Ask():
                    self._ask(effect)
                case Forward(body):
                    self._request = self._case.forwarded(body)
                case Next(read):
                    reply = self._next(read)
                case Cancel():
                    reply = self._cancel()
                case Reraise(error):
                    raise error
                case Relay() | Answer() | Decline() | Open() | Write():
                    yield effect
                case _:
                    reply = self._case.perform(effect)

    # --- judging, on the pool ---------------------------------------------------------------------

    def _ask(self, ask: Ask) -> None:
        key, verdict = self._case.remembered(ask.subject)
        deadline_s = self._case.settings.judge.deadline_s
        self._waiting[ask.ticket] = time.monotonic() + deadline_s + GRACE_S
        if verdict is not None:
            self._mailbox.put(Heard(ask.ticket, verdict))
            return
        context = contextvars.copy_context()
        give_up = time.monotonic() + deadline_s
        flights = self._case.moderation.record.flights

        def lead() -> None:
            self._case.moderation.pool.submit(context.run, self._judge, ask, key, give_up)

        def land(verdict: Verdict | None) -> None:
            if verdict is None:
                lead()
            else:
                self._deliver(ask, verdict)

        if not flights.join(key, land, deadline_s + GRACE_S):
            return  # somebody is asking just that
        try:
            lead()
        except RuntimeError:  # the interpreter, or the Moderation, is shutting down
            flights.land(key, None)
            self._mailbox.put(Heard(ask.ticket, broken(self._case.judge, "shutting down")))

    def _judge(self, ask: Ask, key: str, give_up: float) -> None:
        case = self._case
        outcome: Outcome | None = None
        try:
            if ask.ticket not in self._waiting:
                return  # the caller left while this waited for a free thread
            remaining = give_up - time.monotonic()  # that wait counts
            try:
                judge = case.moderation.judge
                outcome = (
                    judge.judge(ask.subject, case.settings, self._ask_model, remaining)
                    if remaining > 0
                    else no_answer(case.judge)
                )
            except Exception as error:
                outcome = broken(case.judge, type(error).__name__)
            outcome = case.heard(ask.subject, key, outcome)
            self._deliver(ask, outcome)
        finally:
            case.moderation.record.flights.land(key, outcome)

    def _deliver(self, ask: Ask, outcome: Outcome) -> None:
        self._mailbox.put(Heard(ask.ticket, outcome))
        if ask.fatal(outcome):
            self._interrupt()

    def _ask_model(self, body: JSON, timeout_s: float) -> ModelReply:
        with judging(body):
            try:
                request = self._case.judge_request(body, timeout_s)
                raw = received(self._call_next(request), request, APIResponse).http_response
                raw.read()
            except anthropic.APITimeoutError:
                return ModelReply(0, failure="timeout")
            except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
                return ModelReply(0, failure="error", detail=named(error))
            except Exception as error:
                self._case.not_sent(error)
                raise
        return model_reply(raw)

    def _interrupt(self) -> None:
        """Wake the thread that is reading a body that no longer matters.

        A connection may be back in the pool an instant before the reader says so; shutting it down
        then costs another request a retry, never a wrong answer.
        """
        with self._guard:
            self._doomed = True
            if not self._reading or self._response is None:
                return
            extensions = self._response.http_response.extensions
            if extensions.get("http_version") == b"HTTP/2":
                return  # the socket belongs to other requests too
            stream = extensions.get("network_stream")
            sock = stream.get_extra_info("socket") if stream is not None else None
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    # --- whichever comes first --------------------------------------------------------------------

    def _next(self, read: bool) -> Head | Chunk | End | Failed | Heard:
        if (heard := self._poll()) is not None:
            return heard
        if self._aside is not None and read:
            failed, self._aside = self._aside, None
            return failed
        if not read or self._over:
            return self._wait()
        happened = self._read()
        if isinstance(happened, Failed) and (heard := self._poll()) is not None:
            self._aside = happened  # probably our own doing: the verdict explains it
            return heard
        return happened

    def _poll(self) -> Heard | None:
        """A verdict that is there already, or overdue."""
        while not self._mailbox.empty():
            heard = self._mailbox.get_nowait()
            if self._waiting.pop(heard.ticket, None) is not None:
                return heard
        if not self._waiting:
            return None
        now = time.monotonic()
        for ticket, give_up in list(self._waiting.items()):
            if give_up <= now:
                del self._waiting[ticket]
                return Heard(ticket, no_answer(self._case.judge))
        return None

    def _wait(self) -> Heard:
        """The next verdict, or its absence when the deadline has passed."""
        while True:
            if (heard := self._poll()) is not None:
                return heard
            if not self._waiting:
                raise AssertionError("waiting for a verdict that nobody was asked for")
            remaining = min(self._waiting.values()) - time.monotonic()
            with suppress(Empty):
                arrived = self._mailbox.get(timeout=max(0.0, remaining))
                if self._waiting.pop(arrived.ticket, None) is not None:
                    return arrived

    # --- upstream, on the caller's thread ---------------------------------------------------------

    def _read(self) -> Head | Chunk | End | Failed:
        try:
            if self._response is None:
                found = self._call_next(self._request)
                self._response = received(found, self._case.request, APIResponse)
                head = head_of(self._response.http_response, stream=self._case.stream)
                self._sse = head.sse
                return head
            if self._chunks is None:
                raw = self._response.http_response
                self._chunks = events_of(self._response) if self._sse else raw.iter_bytes()
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
            self._over = True
            return Failed(error)
        if data is None:
            self._over = self._complete = True
            return End()
        return Chunk(data)

    def _cancel(self) -> Any:
        if self._response is None:
            # A call that raised was sent; one that was never started was not.
            return "cancelled" if self._over else "not_sent"
        if self._complete:
            return "completed"
        self._response.close()
        return "cancelled"
