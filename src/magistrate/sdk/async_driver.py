"""Performs a flow for an asynchronous client.

Where the flow can only wait for upstream, the caller's own task does. Else a background task owns
the upstream call and puts what it reads into a mailbox, a few chunks ahead of the reader; each
judgment is a task that puts its outcome there too. No task group or cancel scope stays open across
a `yield` to the caller: the caller may close the stream from another task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
from anthropic import APIRequest, AsyncAPIResponse, AsyncCallNext

from magistrate.core.decide import Upstream
from magistrate.core.effects import (
    Answer,
    Cancel,
    Chunk,
    End,
    Failed,
    FlowEvent,
    Forward,
    Head,
    HoldAnswer,
    JudgeResult,
    Next,
    Open,
    PropagateError,
    Relay,
    RespondError,
    StartJudging,
    Write,
)
from magistrate.sdk.async_judging import AsyncJudging
from magistrate.sdk.model_client import head_of
from magistrate.sdk.responses import (
    AsyncBody,
    async_events_of,
    declined,
    received,
    rewritten,
    synthetic,
)
from magistrate.wire.messages import JSON

if TYPE_CHECKING:
    from magistrate.engine.session import Case

_Outward = Relay | Answer | RespondError | Open | Write

# Chunks that upstream may be ahead of the flow: enough to keep the connection busy.
_AHEAD = 8


class AsyncDriver:
    """One exchange in the caller's event loop."""

    def __init__(self, case: Case, call_next: AsyncCallNext) -> None:
        self._case = case
        self._flow = case.flow
        self._mailbox: asyncio.Queue[FlowEvent] = asyncio.Queue()
        self._aside: deque[FlowEvent] = deque()
        self._judging = AsyncJudging(case, call_next, self._mailbox)
        self._upstream = _Upstream(case, call_next, self._mailbox)
        self._pump: asyncio.Task[None] | None = None

    async def respond(self) -> AsyncAPIResponse[Any]:
        """Run the flow until the caller has a response; a stream runs on as it is read."""
        outward = self._drive()
        try:
            match await anext(outward):
                case Open(public, ours):
                    body = AsyncBody(self._stream(outward), outward.aclose, self._interrupt)
                    return self._rewritten(public, body, ours)
                case Answer(message, public, ours):
                    async for _ in outward:
                        raise AssertionError("nothing follows an answer")
                    return self._rewritten(public, message, ours)
                case RespondError(status, body):
                    async for _ in outward:
                        raise AssertionError("nothing follows a declined request")
                    return declined(self._case.request, AsyncAPIResponse, status, body)
                case Relay():
                    response = self._upstream.hand_over()
                    async for _ in outward:
                        raise AssertionError("nothing follows a relayed response")
                    return response
                case Write():
                    raise AssertionError("a stream must be opened first")
        except BaseException:
            await outward.aclose()
            raise

    def _rewritten(self, public: JSON, body: JSON | AsyncBody, ours: bool) -> AsyncAPIResponse[Any]:
        if ours or self._upstream.response is None:
            return synthetic(self._case.request, AsyncAPIResponse, public, body)
        return rewritten(self._upstream.response, public, body)

    async def _stream(self, outward: AsyncGenerator[_Outward, None]) -> AsyncGenerator[bytes, None]:
        try:
            async for effect in outward:
                if isinstance(effect, Write):
                    yield effect.data
        finally:
            await outward.aclose()

    def _interrupt(self) -> None:
        """Another task closes the stream that its reader waits for."""
        self._mailbox.put_nowait(Failed(httpx2.ReadError("closed while it was read")))
        if self._pump is not None:
            self._pump.cancel()

    async def _release(self) -> None:
        """The one way out: flow, then judges, then upstream; an exchange always has a record."""
        self._flow.close()
        self._judging.give_up()
        self._case.abandon()
        tasks = [task for task in (*self._judging.tasks, self._pump) if task and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(tasks)
        await self._upstream.close()

    async def _drive(self) -> AsyncGenerator[_Outward, None]:
        # A stream that its caller drops unclosed gets here too: the event loop closes generators.
        reply: Any = None
        try:
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
                        self._upstream.request = self._case.forwarded(body)
                    case Next(read):
                        reply = await self._next(read)
                    case Cancel():
                        reply = await self._cancel()
                    case PropagateError(error):
                        raise error
                    case Relay() | Answer() | RespondError() | Open() | Write():
                        yield effect
                    case HoldAnswer():
                        reply = await asyncio.to_thread(self._case.perform, effect)
                    case _:
                        reply = self._case.perform(effect)
        finally:
            await self._release()

    async def _next(self, read: bool) -> FlowEvent:
        """Whichever comes first."""
        upstream, waiting, mailbox = self._upstream, self._judging.waiting, self._mailbox
        if read:
            upstream.go_on()
            if self._aside:
                return self._given(self._aside.popleft())
        while True:
            if not mailbox.empty():
                event = mailbox.get_nowait()
            else:
                if self._pump is None and upstream.pending:
                    if not waiting and not upstream.pieces:
                        return await upstream.next()
                    self._pump = asyncio.create_task(upstream.run())
                event = await mailbox.get()
            if isinstance(event, JudgeResult):
                if event.ticket in waiting:
                    waiting.discard(event.ticket)
                    return event
            elif read:
                return self._given(event)
            else:
                self._aside.append(event)

    def _given(self, event: FlowEvent) -> FlowEvent:
        if isinstance(event, Chunk):
            self._upstream.ahead -= 1
        return event

    async def _cancel(self) -> Upstream:
        if self._upstream.complete:
            return "completed"
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
        await self._upstream.close()
        return "cancelled" if self._upstream.sent else "not_sent"


class _Upstream:
    """The upstream call: a step at a time, or run ahead in a task. Holds no reference to the
    driver."""

    def __init__(
        self, case: Case, call_next: AsyncCallNext, mailbox: asyncio.Queue[FlowEvent]
    ) -> None:
        self._case = case
        self._call_next = call_next
        self._mailbox = mailbox
        self._room = asyncio.Event()  # for the task to read on
        self._kept = True
        self._sse = False
        self.request: APIRequest | None = None
        self.response: AsyncAPIResponse[Any] | None = None
        self.pieces = False  # the body is used as it comes, and the caller may leave meanwhile
        self.sent = False  # a task that is cancelled before its first step has sent nothing
        self.complete = False
        self.over = False  # nothing more can be read
        self.ahead = 0  # chunks that the flow has not taken yet

    @property
    def pending(self) -> bool:
        """Whether there is a call, and more of it to come."""
        return self.request is not None and not self.over

    def go_on(self) -> None:
        """The flow reads on: let the body run ahead. Not for each chunk, so that the tasks take
        turns less often, but before the last one that is there."""
        if self.response is not None and self.ahead <= _AHEAD // 2:
            self._room.set()

    def hand_over(self) -> AsyncAPIResponse[Any]:
        """Give up the response, unread and open, to the caller."""
        assert self.response is not None
        self._kept = False
        return self.response

    async def close(self) -> None:
        """Close what was not read to its end."""
        if self.response is None or not self._kept or self.response.http_response.is_closed:
            return  # a scope is dear
        with anyio.CancelScope(shield=True):
            await self.response.http_response.aclose()

    async def next(self) -> FlowEvent:
        """Send the request and return its head; after that, the body in one piece."""
        try:
            if self.response is None:
                return await self._send()
            data = await self.response.http_response.aread()
        except Exception as error:
            self.over = True
            return Failed(error)
        self.over = self.complete = True
        self._mailbox.put_nowait(End())
        return Chunk(data)

    async def run(self) -> None:
        """Put what is to come into the mailbox: head, chunks and end."""
        try:
            try:
                if self.response is None:
                    self._mailbox.put_nowait(await self._send())
                await self._room.wait()
                async for data in self._body():
                    self._mailbox.put_nowait(Chunk(data))
                    self.ahead += 1
                    if self.ahead >= _AHEAD:
                        self._room.clear()
                        await self._room.wait()
                self.over = self.complete = True
                self._mailbox.put_nowait(End())
            finally:
                await self.close()
        except Exception as error:
            self._mailbox.put_nowait(Failed(error))
        except BaseException as error:  # a cancellation that is not ours must not hang the caller
            self._mailbox.put_nowait(Failed(error))
            raise

    async def _send(self) -> Head:
        assert self.request is not None
        self.sent = True
        found = await self._call_next(self.request)
        self.response = received(found, self._case.request, AsyncAPIResponse)
        head = head_of(self.response.http_response, stream=self._case.stream)
        self._sse, self.pieces = head.sse, head.sse or self._case.lines
        return head

    def _body(self) -> AsyncIterator[bytes]:
        assert self.response is not None
        if self._sse:
            return async_events_of(self.response)
        raw = self.response.http_response
        return raw.aiter_bytes() if self.pieces else _whole(raw)


async def _whole(raw: httpx2.Response) -> AsyncIterator[bytes]:
    """A body that is of use only when all of it is there."""
    yield await raw.aread()
