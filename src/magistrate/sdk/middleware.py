"""`Moderation`: the SDK middleware. Routing, and everything that outlives one request.

What happens to a request is `flow.moderate`; how its effects are performed is `sync_driver` and
`async_driver`. This module owns what they share: settings, judge, record, reviews, decisions.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import threading
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_origin
from weakref import WeakSet

import anthropic
import httpx2
from anthropic import APIRequest, APIResponse, AsyncAPIResponse, AsyncCallNext, CallNext
from cachetools import LRUCache

from magistrate.core.decide import Decision
from magistrate.engine.session import Case, batch_case, message_case, results_case
from magistrate.judging.base import Judge
from magistrate.judging.claude import ClaudeJudge
from magistrate.judging.selection import judge_for
from magistrate.observe import audit
from magistrate.sdk.async_driver import AsyncDriver
from magistrate.sdk.errors import ModerationError
from magistrate.sdk.model_client import is_judging
from magistrate.sdk.responses import wrapped
from magistrate.sdk.sync_driver import SyncDriver
from magistrate.sdk.threads import JudgeThreads
from magistrate.settings import Settings
from magistrate.storage.memory import Record
from magistrate.verdicts import JudgeInfo, Usage
from magistrate.wire.digests import Digests, sha256
from magistrate.wire.messages import JSON, is_object
from magistrate.wire.parts import Reason
from magistrate.wire.routes import SURFACES, route, unjudged_surface

if TYPE_CHECKING:
    from magistrate.storage.reviews import ReviewStore

SettingsSource = Settings | str | os.PathLike[str] | Mapping[str, Any] | None

_DECISIONS_KEPT = 10_000

_instances: WeakSet[Moderation] = WeakSet()

_warned_about_defaults = False
_warned_about_local_judge = False


class Moderation(anthropic.Middleware):
    """Moderates what an SDK client sends and receives. One instance serves any number of clients.

    `settings`: what `Settings.load` takes. `judge`: who decides, by default a Claude model asked
    through the client's own connection. Put it first in `middleware=[...]`: outermost.

    Raises `SettingsError` for a configuration that does not hold, and `ReviewError` if answers are
    to be held and the review store cannot be opened.
    """

    def __init__(self, settings: SettingsSource = None, *, judge: Judge | None = None) -> None:
        self.settings = Settings.load(settings)
        if settings is None and self.settings.source is None:
            _warn_about_defaults()
        self.judge: Judge = judge or judge_for(self.settings)
        if self.settings.judge.backend == "local" and judge is None:
            _warn_about_local_judge()
        self.record = Record()
        self._decisions: LRUCache[str, Decision] = LRUCache(_DECISIONS_KEPT)
        self._uninspected: Counter[Reason] = Counter()
        self._usage = Usage()
        # Re-entrant: the garbage collector may end a dropped stream while this thread holds it.
        self._lock = threading.RLock()
        # Threads that synchronous clients judge on; never shared with upstream calls.
        self.pool = JudgeThreads(self.settings.judge.concurrency)
        _instances.add(self)
        self._key = os.environ.get(self.settings.digest_key_env, "").encode()
        if not self._key:
            self._key = secrets.token_bytes(32)
        self.reviews: ReviewStore | None = None
        if self.settings.review is not None:
            from magistrate.storage.reviews import (
                ReviewStore,  # brings SQLAlchemy, which takes its time
            )

            app = self.settings.app.name if self.settings.app else "app"
            self.reviews = ReviewStore(self.settings.review, app=app)

    @staticmethod
    def after_fork() -> None:
        """Begin anew, in every instance of a child process: no thread of the parent's is there, and
        a lock may be held by one. Servers load an application, perhaps use it once, and fork.
        """
        for each in _instances:
            each.pool = JudgeThreads(each.settings.judge.concurrency)
            each.record = Record()
            each._lock = threading.RLock()
            if isinstance(each.judge, ClaudeJudge):
                each.judge.after_fork()

    # --- for applications -------------------------------------------------------------------------

    def decision(self, decision_id: str) -> Decision:
        """The record of a recent decision by its id (the last 10,000 are kept).

        Raises KeyError for an id that is unknown, or whose stream has not ended.
        """
        with self._lock:
            return self._decisions[decision_id]

    @property
    def uninspected(self) -> Counter[Reason]:
        """How many items no judge could read since this instance was made, by reason.

        Those of requests that were judged, and requests that no judge can read as a whole (to
        unknown endpoints, to surfaces that are not judged yet), passed or blocked.
        """
        with self._lock:
            return self._uninspected.copy()

    @property
    def usage(self) -> Usage:
        """What judging has taken since this instance was made, as far as decisions are settled.

        `cost_usd` is None once a model was asked whose price is not known.
        """
        with self._lock:
            return self._usage

    def close(self) -> None:
        """Release the judging threads and the review store. The instance must not be used after."""
        self.pool.close()
        if self.reviews is not None:
            self.reviews.close()

    # --- the SDK's side ---------------------------------------------------------------------------

    def handle(self, request: APIRequest, call_next: CallNext) -> APIResponse[Any]:
        """Moderate one HTTP attempt of a synchronous client."""
        case = None if is_judging(request) else self._open(request)
        if case is None:
            response: Any = call_next(request)
            return (
                wrapped(response, request, APIResponse)
                if isinstance(response, httpx2.Response)
                else response
            )
        return SyncDriver(case, call_next).respond()

    async def handle_async(
        self, request: APIRequest, call_next: AsyncCallNext
    ) -> AsyncAPIResponse[Any]:
        """Moderate one HTTP attempt of an asynchronous client. Needs asyncio."""
        case = None if is_judging(request) else self._open(request)
        if case is None:
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
        return await AsyncDriver(case, call_next).respond()

    def _open(self, request: APIRequest) -> Case | None:
        """A case for a request that is judged, None for one without content; else an error."""
        body = _body_of(request)
        match route(request.method, request.url):
            case "free":
                # A batch says where its results are, and that may be anywhere.
                return results_case(self, request) if _reads_lines(request) else None
            case "message":
                return message_case(self, request, _readable(body))
            case "batch":
                return batch_case(self, request, _readable(body))
            case "results":
                return results_case(self, request)
            case "surface" | "uninspected":
                return self._unjudged(request)

    def _unjudged(self, request: APIRequest) -> None:
        """Stop a request that no judge can read, unless the settings let it pass with a warning."""
        allowed = self.settings.on_uninspected
        call = f"{request.method.upper()} {request.url}"
        if (surface := unjudged_surface(request.url)) is not None:
            action = allowed.surfaces.get(surface, "block")
            words = f"magistrate does not moderate {SURFACES[surface]} yet, so {call} was not sent"
            key = f"surfaces: {{{surface}: warn}}"
        else:
            action = allowed.endpoint
            words, key = f"magistrate cannot inspect {call}, so it was not sent", "endpoint: warn"
        with self._lock:
            self._uninspected["endpoint"] += 1
        if action == "block":
            raise ModerationError(f"{words}; `on_uninspected: {{{key}}}` lets it pass unjudged")
        audit.warn("uninspected request", method=request.method, url=request.url, reason="endpoint")

    # --- shared by the drivers --------------------------------------------------------------------

    @cached_property
    def judge_info(self) -> JudgeInfo:
        """Who judges, and everything its verdicts depend on."""
        return self.judge.info(self.settings)

    @cached_property
    def digests(self) -> Digests:
        """Digests under the deployment's key, good for this policy, judge and settings only."""
        judge = self.judge_info
        about = [self.settings.policy.hash, self.settings.hash]
        return Digests(self._key, sha256([*about, judge.name, judge.model, judge.prompt_hash]))

    def settle(self, decision: Decision) -> None:
        """Put a final decision on record and into the audit."""
        with self._lock:
            self._decisions[decision.id] = decision
            self._uninspected.update(item.reason for item in decision.uninspected)
            self._usage += decision.usage
        audit.write(decision, self.settings)


def _reads_lines(request: APIRequest) -> bool:
    """Whether the SDK reads the response line by line, as it does the results of a batch."""
    kind = get_origin(request.cast_to) or request.cast_to
    return getattr(kind, "__name__", "") in ("JSONLDecoder", "AsyncJSONLDecoder")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Moderation.after_fork)


def _body_of(request: APIRequest) -> JSON | None:
    body = request.json
    if is_object(body):
        return body
    raw = request.options.content
    if isinstance(raw, bytes | bytearray):
        try:
            parsed: object = json.loads(raw, object_pairs_hook=_unambiguous)
        except (ValueError, RecursionError):
            return None
        return parsed if is_object(parsed) else None
    return None


def _readable(body: JSON | None) -> JSON:
    if body is None:
        raise ModerationError(
            "magistrate cannot read this request: send its body as JSON or as bytes"
        )
    return body


def _unambiguous(pairs: list[tuple[str, Any]]) -> JSON:
    """An object whose names are distinct: of two equal ones, a server may read the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


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
