"""Ask the judge the questions of one synchronous exchange, on a suitable thread, in time."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from anthropic import APIResponse, CallNext

from magistrate.core.effects import StartJudging
from magistrate.core.events import JudgeResult
from magistrate.engine.claims import Claim
from magistrate.engine.judge_calls import GRACE_S, judge_here, judged_at_once
from magistrate.judging.base import ModelReply
from magistrate.judging.connection import replied
from magistrate.sdk.judge_threads import JudgeThreads
from magistrate.sdk.model_client import failed_call, judging
from magistrate.sdk.requests import ModeratedRequest
from magistrate.sdk.responses import received
from magistrate.verdicts import Outcome, Verdict, broken, no_answer
from magistrate.wire.messages import JSON


class Judging:
    """The questions to the judge and its answers.

    A judge works on a thread of the `Moderation`, concurrently with the caller's thread. If the
    caller's thread would only wait, and the judge keeps its deadline by itself, it works on the
    caller's thread. `on_fatal` is called, on any thread, for an outcome that ends the exchange.
    """

    def __init__(
        self,
        moderated: ModeratedRequest,
        call_next: CallNext,
        pool: JudgeThreads,
        on_fatal: Callable[[], None],
    ) -> None:
        self._moderated = moderated
        self._session = moderated.session
        self._pool = pool
        self._call_next = call_next
        self._on_fatal = on_fatal
        self._asked: list[
            StartJudging
        ] = []  # not begun: the thread depends on what the caller does next
        self._waiting: dict[str, float] = {}  # ticket -> when to stop waiting
        self._mailbox: SimpleQueue[JudgeResult] = SimpleQueue()

    def ask(self, ask: StartJudging) -> None:
        """Note a question. The judge is asked when the caller goes on or waits."""
        self._asked.append(ask)

    def go_on(self) -> None:
        """Judge on other threads, because the caller's thread now does something else."""
        if self._asked:
            self._begin(alone=False)

    def answered(self) -> JudgeResult | None:
        """Return an answer that is available or overdue; None if there is none."""
        while not self._mailbox.empty():
            judged = self._mailbox.get_nowait()
            if self._waiting.pop(judged.ticket, None) is not None:
                return judged
        if not self._waiting:
            return None
        now = time.monotonic()
        for ticket, give_up in list(self._waiting.items()):
            if give_up <= now:
                del self._waiting[ticket]
                return JudgeResult(ticket, no_answer(self._session.judge))
        return None

    def wait(self) -> JudgeResult:
        """Wait for the next answer and return it, or a failure after the deadline."""
        if self._asked:
            self._begin(alone=len(self._asked) == 1 and not self._waiting)
        while True:
            if (judged := self.answered()) is not None:
                return judged
            if not self._waiting:
                raise AssertionError("waiting for a verdict that nobody was asked for")
            remaining = min(self._waiting.values()) - time.monotonic()
            with suppress(Empty):
                arrived = self._mailbox.get(timeout=max(0.0, remaining))
                if self._waiting.pop(arrived.ticket, None) is not None:
                    return arrived

    def give_up(self) -> None:
        """Stop waiting for answers."""
        self._asked.clear()
        self._waiting.clear()

    def _begin(self, *, alone: bool) -> None:
        asked, self._asked = self._asked, []
        for ask in asked:
            self._start(ask, alone=alone)

    def _start(self, ask: StartJudging, *, alone: bool) -> None:
        session = self._session
        key, verdict = session.remembered(ask.subject)
        give_up = time.monotonic() + session.deadline_s
        self._waiting[ask.ticket] = give_up + GRACE_S
        if verdict is not None:
            self._mailbox.put(JudgeResult(ask.ticket, verdict))
            return
        context = contextvars.copy_context()
        pool, single_flight = self._pool, session.engine.single_flight

        def work() -> None:
            context.run(self._judge, ask, key, give_up)

        def resolve(verdict: Verdict | None) -> None:
            if verdict is None:
                pool.submit(work)
            else:
                self._deliver(ask, verdict)

        if not single_flight.join(key, resolve, session.deadline_s + GRACE_S):
            return  # another caller is asking the same
        if judged_at_once(session, ask.subject) or (alone and session.judge.waits != "unknown"):
            work()
            return
        try:
            pool.submit(work)
        except RuntimeError:  # the interpreter, or the Moderation, is shutting down
            single_flight.resolve(key, None)
            self._mailbox.put(JudgeResult(ask.ticket, broken(session.judge, "shutting down")))

    def _judge(self, ask: StartJudging, key: str, give_up: float) -> None:
        """Judge on this thread and deliver the outcome. Always resolve the single flight."""
        session = self._session
        outcome: Outcome | None = None
        try:
            if ask.ticket not in self._waiting:
                return  # the caller left while this waited for a free thread
            claim = Claim(session, key, give_up)
            outcome = claim.wait()
            remaining = give_up - time.monotonic()  # the time waiting for a thread counts
            if outcome is None and remaining > 0:
                outcome = judge_here(session, ask.subject, self._ask_model, remaining)
            outcome = session.checked(ask.subject, key, outcome or no_answer(session.judge))
            claim.release()
            self._deliver(ask, outcome)
        finally:
            session.engine.single_flight.resolve(key, outcome)

    def _deliver(self, ask: StartJudging, outcome: Outcome) -> None:
        self._mailbox.put(JudgeResult(ask.ticket, outcome))
        if ask.fatal(outcome):
            self._on_fatal()

    def _ask_model(self, body: JSON, timeout_s: float) -> ModelReply:
        with judging(body):
            try:
                request = self._moderated.to_judge(body, timeout_s)
                raw = received(self._call_next(request), request, APIResponse).http_response
                raw.read()
            except Exception as error:
                return failed_call(self._moderated, error)
        return replied(raw)
