"""One request under moderation: its flow, and the effects that need no network.

The kind of request (a message, a batch, a batch's results) decides only which flow runs. A session
uses the settings that are in force when it begins.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, assert_never

from magistrate.core.decide import is_blocking
from magistrate.core.decision_record import Decision
from magistrate.core.effects import (
    Flow,
    HoldAnswer,
    KeepBatch,
    KeepThread,
    RaiseDecision,
    Recall,
    RecallBatch,
    RecallThread,
    Remember,
    Settle,
    StateEffect,
    StoreFailure,
)
from magistrate.core.exchange import Exchange
from magistrate.engine.engine import Engine
from magistrate.observe import audit
from magistrate.storage.base import StoreError
from magistrate.storage.review_items import HeldItem, ReviewError
from magistrate.verdicts import JudgeInfo, Outcome, Unavailable, Verdict, broken
from magistrate.wire.digests import GrowingDigest
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Subject


class Session:
    """One request, one flow, and the exchanges whose decision is not final yet.

    `stream`: a stream of events was asked for. `lines`: the response is read line by line.
    `raises`: whether the edge can raise at its caller.
    """

    flow: Flow[None]

    def __init__(
        self, engine: Engine, *, stream: bool = False, lines: bool = False, raises: bool = True
    ) -> None:
        self.engine = engine
        self.raises = raises
        self.is_large = False  # reading its request would hold an event loop up
        self.settings = engine.settings
        self.judge: JudgeInfo = engine.judge_info
        self.stream = stream
        self.lines = lines
        # How long a judge may take, in seconds: an edge lowers it to what its caller waits for.
        self.deadline_s = engine.settings.judge.deadline_s
        self._started = time.monotonic()
        self._digest = GrowingDigest(engine.digests, "verdict")
        self._open: dict[str, Exchange] = {}
        self._latest: Decision | None = None

    def exchange(self, body: JSON, *, threaded: bool = False) -> Exchange:
        """Open an exchange of this request."""
        made = Exchange(
            id=f"dec_{secrets.token_urlsafe(12)}",
            body=body,
            settings=self.settings,
            digests=self.engine.digests,
            judge=self.judge,
            stream=self.stream,
            threaded=threaded,
            raises=self.raises,
        )
        self._open[made.id] = made
        return made

    # --- effects ----------------------------------------------------------------------------------

    def perform(self, effect: StateEffect) -> Any:
        """Perform an effect on the stores and return its reply. May wait for a store.

        Raises `StoreError` where the state store fails: `store_failed` says how the request ends.
        """
        state = self.engine.state
        match effect:
            case Recall(keys):
                return state.known(keys)
            case Remember(keys, decision_id):
                return state.remember(keys, decision_id)
            case Settle(decision):
                return self._settle(decision)
            case HoldAnswer():
                return self._hold(effect)
            case RecallThread(message_id):
                return state.thread(message_id)
            case KeepThread(message_id, conversation):
                return state.keep_thread(message_id, conversation)
            case KeepBatch(name, questions, omitted):
                return state.keep_batch(name, {"questions": questions, "omitted": omitted})
            case RecallBatch(name):
                kept = state.batch(name) or {}
                return kept.get("questions", {}), kept.get("omitted", {})
            case _:
                assert_never(effect)

    async def perform_async(self, effect: StateEffect) -> Any:
        """Perform an effect without blocking the event loop: on a thread if it may wait."""
        if isinstance(effect, HoldAnswer):
            return await asyncio.to_thread(self.perform, effect)
        return await self.engine.off_loop(self.perform, effect)

    def _settle(self, decision: Decision) -> Decision:
        """Make a decision final, once, with its latency and only the quotes that may be kept."""
        took = round((time.monotonic() - self._started) * 1000, 3)
        final = audit.kept(replace(decision, latency_ms=took), self.settings)
        if self._open.pop(decision.id, None) is not None:
            self.engine.record(final)
            self._latest = final
        return final

    def store_failed(self, error: StoreError) -> RaiseDecision:
        """Return how a request ends whose state cannot be read or stored: nothing is released."""
        for exchange in list(self._open.values()):
            exchange.stage_decision = replace(exchange.stage_decision, action="unavailable")
            self._settle(exchange.decision())
        assert self._latest is not None, "a session has an exchange"
        return RaiseDecision("unavailable", self._latest, detail=f"state store: {error}")

    def abandon(self) -> None:
        """Record how far each open exchange got: the caller left, or an exception ended it."""
        for exchange in list(self._open.values()):
            self._settle(exchange.abandoned())

    def _hold(self, effect: HoldAnswer) -> str | StoreFailure:
        store = self.engine.reviews
        if store is None:
            return StoreFailure("no review store is configured")
        item = HeldItem(
            app=self.settings.app_name,
            domains=effect.domains,
            request=effect.request,
            message=effect.message,
            decision=audit.kept(effect.decision, self.settings).as_json(evidence=True),
        )
        try:
            return store.hold(item)
        except ReviewError as error:
            return StoreFailure(str(error))

    # --- judging ----------------------------------------------------------------------------------

    def remembered(self, subject: Subject) -> tuple[str, Verdict | None]:
        """Return the subject's digest, and the verdict that is stored for it."""
        key = subject.digest(self._digest)
        try:
            return key, self.engine.state.verdict(key)
        except StoreError:  # it is asked again, which costs a call
            return key, None

    async def remembered_async(self, subject: Subject) -> tuple[str, Verdict | None]:
        """Return the same without blocking the event loop."""
        return await self.engine.off_loop(self.remembered, subject)

    def checked(self, subject: Subject, key: str, outcome: Outcome) -> Outcome:
        """Return a judge's outcome, and store it if it is a verdict.

        An answer that cannot be used counts as a failure: a judge of the user's own may name a
        clause that does not exist.
        """
        try:
            if not isinstance(outcome, Verdict | Unavailable):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError
            is_blocking(self.settings, subject.stage, outcome)
        except Exception as error:
            return broken(self.judge, f"unusable verdict: {type(error).__name__}")
        if isinstance(outcome, Verdict):
            kept = audit.verdict_kept(outcome, self.settings)
            with suppress(StoreError):  # the next to ask pays for it
                self.engine.state.keep_verdict(key, kept)
        return outcome

    async def checked_async(self, subject: Subject, key: str, outcome: Outcome) -> Outcome:
        """Return the same without blocking the event loop."""
        return await self.engine.off_loop(self.checked, subject, key, outcome)
