"""`Moderation`: the SDK middleware, a thin edge over an `Engine`.

`core.flow` determines what happens to a request; `sync_driver` and `engine.async_driver` perform
its effects.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import anthropic
import httpx2
from anthropic import APIRequest, APIResponse, AsyncAPIResponse, AsyncCallNext, CallNext

from magistrate.core.decision_record import Decision
from magistrate.engine.engine import Engine
from magistrate.engine.routing import Stopped, open_session
from magistrate.judging.base import Judge
from magistrate.judging.selection import judge_for
from magistrate.observe import audit
from magistrate.sdk.async_edge import AsyncClientEdge
from magistrate.sdk.errors import ModerationError
from magistrate.sdk.judge_threads import JudgeThreads
from magistrate.sdk.model_client import is_judging
from magistrate.sdk.requests import ModeratedRequest, body_of, reads_lines
from magistrate.sdk.responses import wrapped
from magistrate.sdk.sync_driver import SyncDriver
from magistrate.sdk.timeouts import within
from magistrate.settings import Settings
from magistrate.verdicts import Usage
from magistrate.wire.parts import Reason

if TYPE_CHECKING:
    from magistrate.storage.reviews import ReviewStore

SettingsSource = Settings | str | os.PathLike[str] | Mapping[str, Any] | None

_instances: WeakSet[Moderation] = WeakSet()

_warned_about_defaults = False
_warned_about_local_judge = False


class Moderation(anthropic.Middleware):
    """Moderates what an SDK client sends and receives. One instance serves any number of clients.

    `settings`: what `Settings.load` takes. `judge`: the judge, by default a Claude model called
    through the client's own connection. Put the instance first in `middleware=[...]`, so that it is
    outermost.

    Raises `SettingsError` for an invalid configuration, and `ReviewError` if answers are to be held
    and the review store cannot be opened.
    """

    def __init__(self, settings: SettingsSource = None, *, judge: Judge | None = None) -> None:
        loaded = Settings.load(settings)
        if settings is None and loaded.source is None:
            _warn_about_defaults()
        chosen = judge or judge_for(loaded)
        if loaded.judge.backend == "local" and judge is None:
            _warn_about_local_judge()
        self.engine = Engine(loaded, chosen)
        # Threads that synchronous clients judge on; never shared with upstream calls.
        self.pool = JudgeThreads(loaded.judge.concurrency)
        _instances.add(self)

    @staticmethod
    def after_fork() -> None:
        """Make every instance usable in a child process.

        Servers load an application, may already use it, and then fork.
        """
        for each in _instances:
            each.pool = JudgeThreads(each.settings.judge.concurrency)
            each.engine.after_fork()

    # --- for applications -------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """Return the current settings."""
        return self.engine.settings

    @property
    def judge(self) -> Judge:
        """Return the judge."""
        return self.engine.judge

    @property
    def reviews(self) -> ReviewStore | None:
        """Return the store of held answers; None if none is configured."""
        return self.engine.reviews

    def decision(self, decision_id: str) -> Decision:
        """Return the record of a recent decision by its id (the last 10,000 are kept).

        Raises KeyError for an id that is unknown, or whose stream has not ended.
        """
        return self.engine.state.decision(decision_id)

    @property
    def uninspected(self) -> Counter[Reason]:
        """Return how many items no judge could read since this instance was made, by reason.

        These are items of judged requests, and whole requests that no judge can read (to unknown
        endpoints, to surfaces that are not judged yet), whether passed or blocked.
        """
        return self.engine.counters.uninspected

    @property
    def usage(self) -> Usage:
        """Return the usage of judging since this instance was made, of final decisions only.

        `cost_usd` is None once a model with an unknown price was asked.
        """
        return self.engine.counters.usage

    def close(self) -> None:
        """Release the judging threads and the review store. Do not use the instance afterwards."""
        self.pool.close()
        self.engine.close()

    # --- the SDK's side ---------------------------------------------------------------------------

    def handle(self, request: APIRequest, call_next: CallNext) -> APIResponse[Any]:
        """Moderate one HTTP attempt of a synchronous client."""
        moderated = self._open(request)
        if moderated is None:
            response: Any = call_next(request)
            return (
                wrapped(response, request, APIResponse)
                if isinstance(response, httpx2.Response)
                else response
            )
        return SyncDriver(moderated, call_next, self.pool).respond()

    async def handle_async(
        self, request: APIRequest, call_next: AsyncCallNext
    ) -> AsyncAPIResponse[Any]:
        """Moderate one HTTP attempt of an asynchronous client. Needs asyncio."""
        moderated = self._open(request)
        if moderated is None:
            response: Any = await call_next(request)
            return (
                wrapped(response, request, AsyncAPIResponse)
                if isinstance(response, httpx2.Response)
                else response
            )
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ModerationError("magistrate needs asyncio; trio is not supported") from None
        return await AsyncClientEdge(moderated, call_next).respond()

    def _open(self, request: APIRequest) -> ModeratedRequest | None:
        """Return a request with its session; None for one that needs no moderation."""
        if is_judging(request):
            return None
        session = open_session(
            self.engine,
            request.method,
            request.url,
            body_of(request),
            stream=bool(request.stream),
            lines=reads_lines(request),
        )
        if isinstance(session, Stopped):
            raise ModerationError(session.reason)
        if session is None:
            return None
        session.deadline_s = within(request, session.deadline_s)
        return ModeratedRequest(session, request)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Moderation.after_fork)


def _warn_about_local_judge() -> None:
    global _warned_about_local_judge
    if not _warned_about_local_judge:
        _warned_about_local_judge = True
        audit.warn_developers(
            "the embedded judge decides (judge.backend: local): it misses most violations and is "
            "for development and offline tests, not for real users"
        )


def _warn_about_defaults() -> None:
    global _warned_about_defaults
    if not _warned_about_defaults:
        _warned_about_defaults = True
        audit.warn_developers(
            "no configuration found: prohibitions are enforced with the default actions; nothing "
            "is disclosed or held for review, since only a declared app profile asks for that"
        )
