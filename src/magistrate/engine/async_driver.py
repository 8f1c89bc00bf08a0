"""Performs a flow in an event loop, for every asynchronous edge.

If the flow can only wait for upstream, the caller's own task waits. Otherwise a background task
owns the upstream call and puts what it reads into a mailbox, a few chunks ahead of the reader. Each
judgment is a task that also puts its outcome there. No task group or cancel scope stays open across
a `yield` to the caller, because the caller may close the stream from another task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Protocol

import anyio

from magistrate.core.decision_record import Upstream
from magistrate.core.effects import (
    Answer,
    AnyEffect,
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
    StateEffect,
    Write,
)
from magistrate.core.events import Chunk, Failed, FlowEvent, JudgeResult
from magistrate.engine.async_judging import AsyncJudging
from magistrate.engine.async_upstream import AsyncCall, AsyncUpstream
from magistrate.engine.session import Session
from magistrate.judging.base import ModelReply
from magistrate.storage.base import StoreError
from magistrate.wire.messages import JSON

# What an edge gives to its caller. `Answer`, `RespondError` and `Relay` come first and alone, or a
# stream: `Open`, then any number of `Write`.
Outward = Relay | Answer | RespondError | Open | Write


class AsyncEdge(AsyncCall, Protocol):
    """What differs between asynchronous edges: the upstream call, and what the caller is told."""

    async def ask_model(self, body: JSON, timeout_s: float) -> ModelReply:
        """Send a judge's request the way the caller's request goes."""
        ...

    def error(self, effect: RaiseDecision | RejectAnswer) -> Exception:
        """Return the exception that ends the request."""
        ...


class AsyncDriver:
    """One exchange in the caller's event loop."""

    def __init__(self, session: Session, edge: AsyncEdge) -> None:
        self._session = session
        self._edge = edge
        self._flow = session.flow
        self._mailbox: asyncio.Queue[FlowEvent] = asyncio.Queue()
        self._aside: deque[FlowEvent] = deque()
        self._judging = AsyncJudging(session, edge.ask_model, self._mailbox)
        self._upstream = AsyncUpstream(edge, self._mailbox, in_lines=session.lines)
        self._pump: asyncio.Task[None] | None = None

    def interrupt(self, error: Exception) -> None:
        """Wake the reader with an error, because another task closes the stream."""
        self._mailbox.put_nowait(Failed(error))
        if self._pump is not None:
            self._pump.cancel()

    async def run(self) -> AsyncGenerator[Outward, None]:
        """Run the flow and yield what the caller gets. Close the generator to end early.

        Raises what the flow ends with: an upstream failure, or `AsyncEdge.error`.
        """
        # The `finally` also runs for a stream that is dropped unclosed: the loop closes generators.
        reply: Any = None
        begun = not self._session.is_large
        try:
            while True:
                try:
                    # The first step reads the request; the others read what arrives.
                    effect = self._flow.send(reply) if begun else await self._begin()
                except StopIteration:
                    return
                reply, begun = None, True
                match effect:
                    case StartJudging():
                        await self._judging.ask(effect)
                    case Forward(body):
                        self._upstream.forward(body)
                    case Next(read):
                        reply = await self._next(read)
                    case Cancel():
                        reply = await self._cancel()
                    case PropagateError(error):
                        raise error
                    case RaiseDecision() | RejectAnswer():
                        raise self._edge.error(effect)
                    case Relay():
                        self._upstream.hand_over()
                        yield effect
                    case Answer() | RespondError() | Open() | Write():
                        yield effect
                    case _:  # a `StateEffect`, or the type checker says which one was forgotten
                        reply = await self._perform(effect)
        finally:
            await self._release()

    async def _begin(self) -> AnyEffect:
        """Read the request on a thread."""
        return await asyncio.to_thread(self._flow.send, None)

    async def _perform(self, effect: StateEffect) -> Any:
        try:
            return await self._session.perform_async(effect)
        except StoreError as error:
            ended = await self._session.engine.off_loop(self._session.store_failed, error)
            raise self._edge.error(ended) from None

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
