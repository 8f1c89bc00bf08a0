"""Performs a flow for an asynchronous client.

If the flow can only wait for upstream, the caller's own task waits. Otherwise a background task
owns the upstream call and puts what it reads into a mailbox, a few chunks ahead of the reader. Each
judgment is a task that also puts its outcome there. No task group or cancel scope stays open across
a `yield` to the caller, because the caller may close the stream from another task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import httpx2
from anthropic import AsyncAPIResponse, AsyncCallNext

from magistrate.core.decision_record import Upstream
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
from magistrate.core.events import Chunk, Failed, FlowEvent, JudgeResult
from magistrate.sdk.async_judging import AsyncJudging
from magistrate.sdk.async_upstream import AsyncUpstream
from magistrate.sdk.requests import ModeratedRequest
from magistrate.sdk.responses import (
    AsyncBody,
    declined,
    no_answer,
    rewritten,
    synthetic,
)
from magistrate.wire.messages import JSON

_Outward = Relay | Answer | RespondError | Open | Write


class AsyncDriver:
    """One exchange in the caller's event loop."""

    def __init__(self, moderated: ModeratedRequest, call_next: AsyncCallNext) -> None:
        self._moderated = moderated
        self._session = moderated.session
        self._flow = self._session.flow
        self._mailbox: asyncio.Queue[FlowEvent] = asyncio.Queue()
        self._aside: deque[FlowEvent] = deque()
        self._judging = AsyncJudging(moderated, call_next, self._mailbox)
        self._upstream = AsyncUpstream(moderated, call_next, self._mailbox)
        self._pump: asyncio.Task[None] | None = None

    async def respond(self) -> AsyncAPIResponse[Any]:
        """Run the flow until there is a response; a stream continues the flow as it is read."""
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
                    await outward.aclose()
                    return declined(self._moderated.request, AsyncAPIResponse, status, body)
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
            return synthetic(self._moderated.request, AsyncAPIResponse, public, body)
        return rewritten(self._upstream.response, public, body)

    async def _stream(self, outward: AsyncGenerator[_Outward, None]) -> AsyncGenerator[bytes, None]:
        try:
            async for effect in outward:
                if isinstance(effect, Write):
                    yield effect.data
        finally:
            await outward.aclose()

    def _interrupt(self) -> None:
        """Wake the reader, because another task closes the stream."""
        self._mailbox.put_nowait(Failed(httpx2.ReadError("closed while it was read")))
        if self._pump is not None:
            self._pump.cancel()

    async def _release(self) -> None:
        """Close flow, then judges, then upstream.

        Every exit runs this, so each exchange has a record.
        """
        self._flow.close()
        self._judging.give_up()
        await self._abandon()
        tasks = [task for task in (*self._judging.tasks, self._pump) if task and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(tasks)
        await self._upstream.close()

    async def _abandon(self) -> None:
        """Record how far each exchange got, without blocking the event loop."""
        if self._session.engine.state.blocks:
            with anyio.CancelScope(shield=True):
                await asyncio.to_thread(self._session.abandon)
        else:
            self._session.abandon()

    async def _drive(self) -> AsyncGenerator[_Outward, None]:
        # The `finally` also runs for a stream that is dropped unclosed: the loop closes generators.
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
                        await self._judging.ask(effect)
                    case Forward(body):
                        self._upstream.request = self._moderated.forwarded(body)
                    case Next(read):
                        reply = await self._next(read)
                    case Cancel():
                        reply = await self._cancel()
                    case PropagateError(error):
                        raise error
                    case RejectAnswer():
                        assert self._upstream.response is not None
                        raise no_answer(self._upstream.response, effect)
                    case RaiseDecision():
                        raise self._moderated.error(effect)
                    case Relay() | Answer() | RespondError() | Open() | Write():
                        yield effect
                    case _:  # a `StateEffect`, or the type checker says which one was forgotten
                        reply = await self._session.perform_async(effect)
        finally:
            await self._release()

    async def _next(self, read: bool) -> FlowEvent:
        """Return the next event from upstream or a judge, whichever is first."""
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
