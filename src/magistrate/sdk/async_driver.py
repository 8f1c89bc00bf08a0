"""Performs a flow for an asynchronous client.

One background task owns the upstream call and puts what it reads into a mailbox, a few chunks ahead
of the reader; each judgment is a task that puts its outcome there too. No task group or cancel
scope stays open across a `yield` to the caller: the caller may close the stream from another task.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import anthropic
import anyio
import httpx2
from anthropic import AsyncAPIResponse, AsyncCallNext

from magistrate.core.effects import (
    Answer,
    Ask,
    Cancel,
    Chunk,
    Decline,
    End,
    Failed,
    Forward,
    Happening,
    Heard,
    Next,
    Open,
    Relay,
    Reraise,
    Store,
    Write,
)
from magistrate.judging.base import ModelReply, named
from magistrate.sdk.model_client import GRACE_S, head_of, judging, model_reply
from magistrate.sdk.responses import (
    AsyncBody,
    async_events_of,
    declined,
    received,
    rewritten,
    synthetic,
)
from magistrate.verdicts import Outcome, Verdict, broken, no_answer
from magistrate.wire.messages import JSON

if TYPE_CHECKING:
    from magistrate.engine.session import Case

_Outward = Relay | Answer | Decline | Open | Write

# Chunks that upstream may be ahead of the flow: enough to keep the connection busy.
_AHEAD = 8


class AsyncDriver:
    """One exchange in the caller's event loop."""

    def __init__(self, case: Case, call_next: AsyncCallNext) -> None:
        self._case = case
        self._call_next = call_next
        self._flow = case.flow
        self._mailbox: asyncio.Queue[Happening] = asyncio.Queue()
        self._aside: deque[Happening] = deque()
        self._waiting: set[str] = set()
        self._judges: set[asyncio.Task[Outcome]] = set()
        self._timers: list[asyncio.TimerHandle] = []
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
                case Decline(status, body):
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
        self._waiting.clear()
        for timer in self._timers:
            timer.cancel()
        self._case.abandon()
        tasks = [task for task in (*self._judges, self._pump) if task and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(tasks)

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
                    case Ask():
                        self._ask(effect)
                    case Forward(body):
                        request = self._case.forwarded(body)
                        self._pump = asyncio.create_task(self._upstream.run(request))
                    case Next(read):
                        reply = await self._next(read)
                    case Cancel():
                        reply = await self._cancel()
                    case Reraise(error):
                        raise error
                    case Relay() | Answer() | Decline() | Open() | Write():
                        yield effect
                    case Store():
                        reply = await asyncio.to_thread(self._case.perform, effect)
                    case _:
                        reply = self._case.perform(effect)
        finally:
            await self._release()

    # --- judging ----------------------------------------------------------------------------------

    def _ask(self, ask: Ask) -> None:
        self._waiting.add(ask.ticket)
        key, verdict = self._case.remembered(ask.subject)
        if verdict is not None:
            self._mailbox.put_nowait(Heard(ask.ticket, verdict))
            return
        flights = self._case.moderation.record.flights
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        patience_s = self._case.settings.judge.deadline_s + GRACE_S

        def lead() -> None:
            task = asyncio.create_task(self._judge(ask, key))
            self._judges.add(task)
            task.add_done_callback(self._judges.discard)
            # Also a task that is cancelled before its first step gets here.
            task.add_done_callback(lambda task: flights.land(key, _verdict_of(task)))

        def landed(verdict: Verdict | None) -> None:
            if ask.ticket not in self._waiting:
                if verdict is None:
                    flights.land(key, None)  # nobody waits here any more
            elif verdict is None:
                lead()
            else:
                self._mailbox.put_nowait(Heard(ask.ticket, verdict))

        def land(verdict: Verdict | None) -> None:
            # On whatever thread: RuntimeError if the loop is closed. In our own context, since who
            # leads from then on asks under it, and not under that of the request before.
            loop.call_soon_threadsafe(landed, verdict, context=context)

        if flights.join(key, land, patience_s):
            lead()
        else:  # somebody is asking just that; if they never say, this is over in time all the same
            late = Heard(ask.ticket, no_answer(self._case.judge))
            self._timers.append(loop.call_later(patience_s, self._mailbox.put_nowait, late))

    async def _judge(self, ask: Ask, key: str) -> Outcome:
        case = self._case
        deadline_s = case.settings.judge.deadline_s
        outcome: Outcome
        try:
            async with asyncio.timeout(deadline_s + GRACE_S):
                outcome = await case.moderation.judge.judge_async(
                    ask.subject, case.settings, self._ask_model, deadline_s
                )
        except TimeoutError:
            outcome = no_answer(case.judge)
        except Exception as error:
            outcome = broken(case.judge, type(error).__name__)
        except BaseException as error:  # not only ours: nobody may wait for this verdict for ever
            outcome = broken(case.judge, type(error).__name__)
            self._mailbox.put_nowait(Heard(ask.ticket, outcome))
            raise
        outcome = case.heard(ask.subject, key, outcome)
        self._mailbox.put_nowait(Heard(ask.ticket, outcome))
        return outcome

    async def _ask_model(self, body: JSON, timeout_s: float) -> ModelReply:
        with judging(body):
            try:
                request = self._case.judge_request(body, timeout_s)
                found = await self._call_next(request)
                raw = received(found, request, AsyncAPIResponse).http_response
                await raw.aread()
            except anthropic.APITimeoutError:
                return ModelReply(0, failure="timeout")
            except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
                return ModelReply(0, failure="error", detail=named(error))
            except Exception as error:
                self._case.not_sent(error)
                raise
        return model_reply(raw)

    # --- whichever comes first --------------------------------------------------------------------

    async def _next(self, read: bool) -> Happening:
        if read and self._aside:
            self._upstream.more()
            return self._aside.popleft()
        if read:
            self._upstream.more()
        while True:
            happened = await self._mailbox.get()
            if isinstance(happened, Heard):
                if happened.ticket in self._waiting:
                    self._waiting.discard(happened.ticket)
                    return happened
            elif read:
                return happened
            else:
                self._aside.append(happened)

    async def _cancel(self) -> Any:
        if self._pump is None:
            return "not_sent"
        if self._upstream.complete:
            return "completed"
        self._pump.cancel()
        await asyncio.wait([self._pump])
        return "cancelled" if self._upstream.sent else "not_sent"


def _verdict_of(task: asyncio.Task[Outcome]) -> Outcome | None:
    return None if task.cancelled() or task.exception() is not None else task.result()


class _Upstream:
    """The upstream call in a task of its own. Holds no reference to the driver."""

    def __init__(
        self, case: Case, call_next: AsyncCallNext, mailbox: asyncio.Queue[Happening]
    ) -> None:
        self._case = case
        self._call_next = call_next
        self._mailbox = mailbox
        self._room = asyncio.Semaphore(0)
        self._started = False
        self.response: AsyncAPIResponse[Any] | None = None
        self.sent = False  # a task that is cancelled before its first step has sent nothing
        self.complete = False
        self._kept = True

    def more(self) -> None:
        """The flow reads on: let the body run ahead by one more chunk."""
        if self.response is None:
            return
        for _ in range(1 if self._started else _AHEAD):
            self._room.release()
        self._started = True

    def hand_over(self) -> AsyncAPIResponse[Any]:
        """Give up the response, unread and open, to the caller."""
        assert self.response is not None
        self._kept = False
        return self.response

    async def run(self, request: Any) -> None:
        """Send the request; put its head, chunks and end into the mailbox."""
        self.sent = True
        try:
            found = await self._call_next(request)
            self.response = received(found, self._case.request, AsyncAPIResponse)
            raw = self.response.http_response
            try:
                head = head_of(raw, stream=self._case.stream)
                self._mailbox.put_nowait(head)
                await self._room.acquire()
                events = async_events_of(self.response) if head.sse else raw.aiter_bytes()
                async for data in events:
                    self._mailbox.put_nowait(Chunk(data))
                    await self._room.acquire()
                self.complete = True
                self._mailbox.put_nowait(End())
            finally:
                if self._kept and not raw.is_closed:  # read to its end it is, and a scope is dear
                    with anyio.CancelScope(shield=True):
                        await raw.aclose()
        except Exception as error:
            self._mailbox.put_nowait(Failed(error))
        except BaseException as error:  # a cancellation that is not ours must not hang the caller
            self._mailbox.put_nowait(Failed(error))
            raise
