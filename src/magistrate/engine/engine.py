"""What all edges share and what outlives a request: settings, judge, stores, sinks.

One engine serves any number of requests, from any edge and any thread. It knows no SDK.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from magistrate.config.diagnostics import Problem, SettingsError
from magistrate.core.decision_record import Decision
from magistrate.judging.base import Judge
from magistrate.judging.claude import ClaudeJudge
from magistrate.judging.single_flight import SingleFlight
from magistrate.observe import audit
from magistrate.observe.audit import Audit
from magistrate.observe.counters import Counters
from magistrate.observe.judge_health import JudgeHealth
from magistrate.observe.sink import Sink
from magistrate.settings import Settings
from magistrate.storage.base import StateStore, StoreError
from magistrate.storage.memory import MemoryState
from magistrate.storage.review_items import ReviewError
from magistrate.verdicts import JudgeInfo
from magistrate.wire.digests import Digests, sha256

if TYPE_CHECKING:
    from magistrate.storage.reviews import ReviewStore

P = ParamSpec("P")
T = TypeVar("T")


class Engine:
    """Moderation without an edge. `state`: the store of state, by default that of the settings.

    Raises `ReviewError` if answers are to be held and the review store cannot be opened, and
    `SettingsError` if the state cannot be shared as the settings say.
    """

    def __init__(self, settings: Settings, judge: Judge, state: StateStore | None = None) -> None:
        self.settings = settings
        self.judge = judge
        self.single_flight = SingleFlight()
        self.counters = Counters()
        self.judge_health = JudgeHealth()
        self.sinks: tuple[Sink, ...] = (self.counters, self.judge_health, Audit())
        self.reviews = _review_store(settings)
        # If the deployment sets no key, use one for this process.
        key = os.environ.get(settings.digest_key_env, "").encode()
        self._key = key or secrets.token_bytes(32)
        self.state: StateStore = _state_store(settings, key) if state is None else state

    @cached_property
    def judge_info(self) -> JudgeInfo:
        """Return which judge is used, and everything its verdicts depend on."""
        return self.judge.info(self.settings)

    @cached_property
    def digests(self) -> Digests:
        """Return digests under the deployment's key, only for this policy, judge and settings."""
        judge = self.judge_info
        about = [self.settings.policy.hash, self.settings.hash]
        return Digests(self._key, sha256([*about, judge.name, judge.model, judge.prompt_hash]))

    def record(self, decision: Decision) -> None:
        """Store a finished decision and give it to every sink.

        Every sink has it also where the store fails: it is the trace of what happened.
        """
        try:
            self.state.keep_decision(decision)
        except StoreError as error:
            audit.warn("a decision was not stored", id=decision.id, reason=str(error))
        for sink in self.sinks:
            sink.record(decision, self.settings)

    def add_sink(self, sink: Sink) -> None:
        """Give every decision from now on to another sink too."""
        self.sinks = (*self.sinks, sink)

    async def off_loop(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that uses the state store, without blocking the event loop."""
        if self.state.blocks:
            return await asyncio.to_thread(call, *args, **kwargs)
        return call(*args, **kwargs)

    def not_ready(self) -> list[str]:
        """Return why requests cannot be served now, one line each. May wait for a store."""
        found: list[str] = []
        try:
            self.state.known(())
        except StoreError as error:
            found.append(str(error))
        try:
            if self.reviews is not None:
                self.reviews.check()
        except ReviewError as error:
            found.append(f"review store: {error}")
        if (wrong := self.judge_health.failing()) is not None:
            found.append(f"judge: {wrong}")
        return found

    def after_fork(self) -> None:
        """Make the engine usable in a child process.

        The parent's threads do not exist there, and one of them may hold a lock.
        """
        self.state.after_fork()
        self.single_flight = SingleFlight()
        self.counters.after_fork()
        if self.reviews is not None:
            self.reviews.after_fork()
        if isinstance(self.judge, ClaudeJudge):
            self.judge.after_fork()

    def close(self) -> None:
        """Close the review store. The engine must not be used afterwards."""
        if self.reviews is not None:
            self.reviews.close()


def _state_store(settings: Settings, key: bytes) -> StateStore:
    if settings.state == "memory":
        return MemoryState()
    if not key:
        message = (
            f"state is shared, so the environment variable {settings.digest_key_env} must hold one "
            "secret for all processes: without it none could read what another stored"
        )
        raise SettingsError([Problem(settings.source, None, None, "state", message)])
    try:
        from magistrate.storage.redis import RedisState
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: pip install 'magistrate[redis]'"
        raise SettingsError([Problem(settings.source, None, None, "state", message)]) from None
    return RedisState(settings.state, key=key, app=settings.app_name)


def _review_store(settings: Settings) -> ReviewStore | None:
    if settings.review is None:
        return None
    from magistrate.storage.reviews import ReviewStore  # imports SQLAlchemy, which is slow

    return ReviewStore(settings.review, app=settings.app_name)
