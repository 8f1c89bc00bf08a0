"""Ask the judge the questions of one asynchronous exchange: one task each, with a timeout."""

from __future__ import annotations

import asyncio
import contextvars
import time

from magistrate.core.effects import StartJudging
from magistrate.core.events import FlowEvent, JudgeResult
from magistrate.engine.claims import Claim
from magistrate.engine.judge_calls import GRACE_S, judge_here, judged_at_once
from magistrate.engine.session import Session
from magistrate.judging.base import AskModelAsync
from magistrate.judging.connection import no_model
from magistrate.verdicts import Outcome, Verdict, broken, no_answer


class AsyncJudging:
    """The questions without an answer yet. Answers are put into the mailbox of the exchange."""

    def __init__(
        self, session: Session, ask_model: AskModelAsync, mailbox: asyncio.Queue[FlowEvent]
    ) -> None:
        self._session = session
        self._ask_model = ask_model
        self._mailbox = mailbox
        self.tasks: set[asyncio.Task[Outcome]] = set()
        self.waiting: set[str] = set()
        self._timers: list[asyncio.TimerHandle] = []

    async def ask(self, ask: StartJudging) -> None:
        """Begin to judge: in a task, or at once if that is fast."""
        session = self._session
        alone = not self.waiting
        self.waiting.add(ask.ticket)
        key, verdict = await session.remembered_async(ask.subject)
        if verdict is not None:
            self._answer(ask, verdict)
            return
        if alone and judged_at_once(session, ask.subject):  # several at once would not be fast
            outcome = judge_here(session, ask.subject, no_model, session.deadline_s)
            self._answer(ask, await session.checked_async(ask.subject, key, outcome))
            return
        single_flight = session.engine.single_flight
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        patience_s = session.deadline_s + GRACE_S

        def lead() -> None:
            task = asyncio.create_task(self._judge(ask, key))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            # Also called for a task that is cancelled before its first step.
            task.add_done_callback(lambda task: single_flight.resolve(key, _verdict_of(task)))

        def resolved(verdict: Verdict | None) -> None:
            if ask.ticket not in self.waiting:
                if verdict is None:
                    single_flight.resolve(key, None)  # no longer waiting here
            elif verdict is None:
                lead()
            else:
                self._answer(ask, verdict)

        def resolve(verdict: Verdict | None) -> None:
            # Called on any thread; raises RuntimeError if the loop is closed. Runs in our own
            # context, because a new leader must call the judge in its own request's context, not in
            # that of the previous leader.
            loop.call_soon_threadsafe(resolved, verdict, context=context)

        if single_flight.join(key, resolve, patience_s):
            lead()
        else:  # another caller is asking the same; if it never resolves, stop waiting
            late = JudgeResult(ask.ticket, no_answer(session.judge))
            self._timers.append(loop.call_later(patience_s, self._mailbox.put_nowait, late))

    def give_up(self) -> None:
        """Stop waiting for answers."""
        self.waiting.clear()
        for timer in self._timers:
            timer.cancel()

    def _answer(self, ask: StartJudging, outcome: Outcome) -> None:
        self._mailbox.put_nowait(JudgeResult(ask.ticket, outcome))

    async def _judge(self, ask: StartJudging, key: str) -> Outcome:
        session = self._session
        until = time.monotonic() + session.deadline_s
        claim = Claim(session, key, until)
        outcome: Outcome
        try:
            async with asyncio.timeout(session.deadline_s + GRACE_S):
                outcome = await claim.wait_async() or await session.engine.judge.judge_async(
                    ask.subject, session.settings, self._ask_model, until - time.monotonic()
                )
        except TimeoutError:
            outcome = no_answer(session.judge)
        except Exception as error:
            outcome = broken(session.judge, type(error).__name__)
        except BaseException as error:  # also a foreign one: the caller must not wait for ever
            self._answer(ask, broken(session.judge, type(error).__name__))
            claim.abandon()
            raise
        outcome = await session.checked_async(ask.subject, key, outcome)
        self._answer(ask, outcome)
        await session.engine.off_loop(claim.release)
        return outcome


def _verdict_of(task: asyncio.Task[Outcome]) -> Outcome | None:
    return None if task.cancelled() or task.exception() is not None else task.result()
