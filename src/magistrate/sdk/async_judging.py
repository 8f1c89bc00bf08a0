"""The questions of one asynchronous exchange to its judge: a task each, given up in time."""

from __future__ import annotations

import asyncio
import contextvars

from anthropic import AsyncAPIResponse, AsyncCallNext

from magistrate.core.effects import StartJudging
from magistrate.core.events import FlowEvent, JudgeResult
from magistrate.judging.base import ModelReply
from magistrate.judging.connection import no_model, replied
from magistrate.sdk.model_client import GRACE_S, failed_call, judge_here, judged_at_once, judging
from magistrate.sdk.requests import ModeratedRequest
from magistrate.sdk.responses import received
from magistrate.verdicts import Outcome, Verdict, broken, no_answer
from magistrate.wire.messages import JSON


class AsyncJudging:
    """What was asked and not answered yet. Answers go into the mailbox of the exchange."""

    def __init__(
        self,
        moderated: ModeratedRequest,
        call_next: AsyncCallNext,
        mailbox: asyncio.Queue[FlowEvent],
    ) -> None:
        self._moderated = moderated
        self._session = moderated.session
        self._call_next = call_next
        self._mailbox = mailbox
        self.tasks: set[asyncio.Task[Outcome]] = set()
        self.waiting: set[str] = set()
        self._timers: list[asyncio.TimerHandle] = []

    async def ask(self, ask: StartJudging) -> None:
        """Begin to judge: in a task, or at once where that is quickly done."""
        session = self._session
        alone = not self.waiting
        self.waiting.add(ask.ticket)
        key, verdict = await session.remembered_async(ask.subject)
        if verdict is not None:
            self._answer(ask, verdict)
            return
        if alone and judged_at_once(session, ask.subject):  # of many, each would be quick, not all
            outcome = judge_here(session, ask.subject, no_model, session.settings.judge.deadline_s)
            self._answer(ask, await session.checked_async(ask.subject, key, outcome))
            return
        single_flight = session.engine.single_flight
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        patience_s = session.settings.judge.deadline_s + GRACE_S

        def lead() -> None:
            task = asyncio.create_task(self._judge(ask, key))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            # Also a task that is cancelled before its first step gets here.
            task.add_done_callback(lambda task: single_flight.resolve(key, _verdict_of(task)))

        def resolved(verdict: Verdict | None) -> None:
            if ask.ticket not in self.waiting:
                if verdict is None:
                    single_flight.resolve(key, None)  # nobody waits here any more
            elif verdict is None:
                lead()
            else:
                self._answer(ask, verdict)

        def resolve(verdict: Verdict | None) -> None:
            # On whatever thread: RuntimeError if the loop is closed. In our own context, since who
            # leads from then on asks under it, and not under that of the request before.
            loop.call_soon_threadsafe(resolved, verdict, context=context)

        if single_flight.join(key, resolve, patience_s):
            lead()
        else:  # somebody is asking just that; if they never say, this is over in time all the same
            late = JudgeResult(ask.ticket, no_answer(session.judge))
            self._timers.append(loop.call_later(patience_s, self._mailbox.put_nowait, late))

    def give_up(self) -> None:
        """Nobody waits any more."""
        self.waiting.clear()
        for timer in self._timers:
            timer.cancel()

    def _answer(self, ask: StartJudging, outcome: Outcome) -> None:
        self._mailbox.put_nowait(JudgeResult(ask.ticket, outcome))

    async def _judge(self, ask: StartJudging, key: str) -> Outcome:
        session = self._session
        deadline_s = session.settings.judge.deadline_s
        outcome: Outcome
        try:
            async with asyncio.timeout(deadline_s + GRACE_S):
                outcome = await session.engine.judge.judge_async(
                    ask.subject, session.settings, self._ask_model, deadline_s
                )
        except TimeoutError:
            outcome = no_answer(session.judge)
        except Exception as error:
            outcome = broken(session.judge, type(error).__name__)
        except BaseException as error:  # not only ours: nobody may wait for this verdict for ever
            self._answer(ask, broken(session.judge, type(error).__name__))
            raise
        outcome = await session.checked_async(ask.subject, key, outcome)
        self._answer(ask, outcome)
        return outcome

    async def _ask_model(self, body: JSON, timeout_s: float) -> ModelReply:
        with judging(body):
            try:
                request = self._moderated.to_judge(body, timeout_s)
                found = await self._call_next(request)
                raw = received(found, request, AsyncAPIResponse).http_response
                await raw.aread()
            except Exception as error:
                return failed_call(self._moderated, error)
        return replied(raw)


def _verdict_of(task: asyncio.Task[Outcome]) -> Outcome | None:
    return None if task.cancelled() or task.exception() is not None else task.result()
