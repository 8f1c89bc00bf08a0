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
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any

import anthropic
import httpx2
from anthropic import APIRequest, APIResponse, AsyncAPIResponse, AsyncCallNext, CallNext
from cachetools import LRUCache

from magistrate import audit
from magistrate.async_driver import AsyncDriver
from magistrate.decisions import Decision, is_blocking
from magistrate.digests import Digests, sha256
from magistrate.effects import Recall, Refuse, Remember, Settle, Store
from magistrate.errors import Blocked, HeldForReview, ModerationError, ModerationUnavailable
from magistrate.exchange import Exchange
from magistrate.judges import ClaudeJudge, Judge
from magistrate.judges.record import Record
from magistrate.messages import JSON, is_object
from magistrate.responses import wrapped
from magistrate.reviews import HeldItem, ReviewError, ReviewStore
from magistrate.routes import route, unhandled_surface
from magistrate.settings import Settings
from magistrate.subjects import Subject
from magistrate.sync_driver import SyncDriver
from magistrate.transfers import broken, is_judging
from magistrate.verdicts import JudgeInfo, Outcome, Unavailable, Verdict

SettingsSource = Settings | str | os.PathLike[str] | Mapping[str, Any] | None

_DECISIONS_KEPT = 10_000

_warned_about_defaults = False


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
        self.judge: Judge = judge or ClaudeJudge()
        self.record = Record()
        self._decisions: LRUCache[str, Decision] = LRUCache(_DECISIONS_KEPT)
        # Re-entrant: the garbage collector may end a dropped stream while this thread holds it.
        self._lock = threading.RLock()
        # Threads that synchronous clients judge on; never shared with upstream calls.
        self.pool = ThreadPoolExecutor(self.settings.judge.concurrency, "magistrate-judge")
        self._key = os.environ.get(self.settings.digest_key_env, "").encode()
        if not self._key:
            self._key = secrets.token_bytes(32)
        self.reviews: ReviewStore | None = None
        if self.settings.review is not None:
            app = self.settings.app.name if self.settings.app else "app"
            self.reviews = ReviewStore(self.settings.review, app=app)

    # --- for applications -------------------------------------------------------------------------

    def decision(self, decision_id: str) -> Decision:
        """The record of a recent decision by its id (the last 10,000 are kept).

        Raises KeyError for an id that is unknown, or whose stream has not ended.
        """
        with self._lock:
            return self._decisions[decision_id]

    def close(self) -> None:
        """Release the judging threads and the review store. The instance must not be used after."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        if self.reviews is not None:
            self.reviews.close()

    # --- the SDK's side ---------------------------------------------------------------------------

    def handle(self, request: APIRequest, call_next: CallNext) -> APIResponse[Any]:
        """Moderate one HTTP attempt of a synchronous client."""
        case = None if is_judging() else self._open(request)
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
        case = None if is_judging() else self._open(request)
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
        match route(request.method, request.url, body):
            case "free":
                return None
            case "judged" if body is not None:
                return Case(self, request, body)
            case "judged":
                raise ModerationError(
                    "magistrate cannot read this request: send its body as JSON or as bytes"
                )
            case "refused":
                what = unhandled_surface(request.url) or "message threads"
                raise ModerationError(
                    f"magistrate does not moderate {what} yet, so {request.method.upper()} "
                    f"{request.url} was not sent"
                )
            case "uninspected":
                if self.settings.on_uninspected.endpoint == "block":
                    raise ModerationError(
                        f"magistrate cannot inspect {request.method.upper()} {request.url}, so it "
                        "was not sent; `on_uninspected: {endpoint: warn}` lets it pass"
                    )
                audit.warn(
                    "uninspected request", method=request.method, url=request.url, reason="endpoint"
                )
                return None

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
        audit.write(decision, self.settings)


class Case:
    """One request under moderation: what both drivers need, and the effects they share."""

    def __init__(self, moderation: Moderation, request: APIRequest, body: JSON) -> None:
        self.moderation = moderation
        self.request = request
        self.settings = moderation.settings
        self.started = time.monotonic()
        self.settled: Decision | None = None
        self.exchange = Exchange(
            id=f"dec_{secrets.token_urlsafe(12)}",
            body=body,
            settings=moderation.settings,
            digests=moderation.digests,
            judge=moderation.judge_info,
            stream=request.stream or body.get("stream") is True,
        )

    def perform(self, effect: object) -> Any:
        """An effect that needs no waiting on the network. Its reply; or raises, to end the flow."""
        moderation = self.moderation
        match effect:
            case Recall(keys):
                return moderation.record.known(keys)
            case Remember(keys):
                return moderation.record.remember(keys)
            case Settle(decision):
                return self.settle(decision)
            case Store():
                return self._store(effect)
            case Refuse(kind, decision):
                raise self._refusal(kind, self.settled or decision)
            case _:
                raise AssertionError(f"no driver performs {effect!r}")

    def settle(self, decision: Decision) -> None:
        """Make a decision final, once."""
        if self.settled:
            return
        took = round((time.monotonic() - self.started) * 1000, 3)
        self.settled = replace(decision, latency_ms=took)
        self.moderation.settle(self.settled)

    def abandon(self) -> None:
        """The caller went away, or an exception ends the exchange: record how far it got."""
        if not self.settled:
            if self.exchange.upstream == "streamed":
                self.exchange.upstream = "cancelled"
            self.settle(self.exchange.decision())

    def _store(self, effect: Store) -> str:
        store = self.moderation.reviews
        evidence = audit.retainable(effect.decision, self.settings)
        item = HeldItem(
            app=effect.decision.app or "app",
            domains=effect.domains,
            request=self.exchange.body,
            message=effect.message,
            decision=effect.decision.as_json(evidence=evidence),
        )
        try:
            if store is None:
                raise ReviewError("no review store is configured")
            return store.hold(item)
        except ReviewError as error:
            raise ModerationUnavailable(effect.decision, f"review store: {error}") from None

    def _refusal(self, kind: str, decision: Decision) -> ModerationError:
        if kind == "blocked":
            return Blocked(decision)
        if kind == "held":
            return HeldForReview(decision)
        reasons = [
            f"{f.stage} judge {f.reason} {f.detail}".strip() for f in decision.judge_failures
        ]
        return ModerationUnavailable(decision, "; ".join(reasons) or "nobody could judge")

    # --- judging ----------------------------------------------------------------------------------

    def remembered(self, subject: Subject) -> tuple[str, Verdict | None]:
        """The subject's digest, and what was said of it before."""
        key = self.exchange.digests.of("verdict", subject.as_json())
        return key, self.moderation.record.verdict(key)

    def heard(self, subject: Subject, key: str, outcome: Outcome) -> Outcome:
        """Remember a fresh outcome, if it is one to remember. What is none counts as a failure."""
        try:
            if not isinstance(outcome, Verdict | Unavailable):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError
            is_blocking(self.settings, subject.stage, outcome)
        except Exception as error:  # a judge of the user's own named a clause that is none, or such
            return broken(self.exchange.judge, f"unusable verdict: {type(error).__name__}")
        self.moderation.record.keep(key, outcome)
        return outcome

    def judge_request(self, body: JSON, timeout_s: float) -> APIRequest:
        """A request of the judge's own: none of the caller's headers, betas or parsers."""
        options = type(self.request.options).construct(
            method="post", url=self.request.url, json_data=body, timeout=timeout_s
        )
        return APIRequest(options=options, cast_to=anthropic.types.Message, stream=False)

    def forwarded(self, body: JSON | None) -> APIRequest:
        """The request that travels upstream: the caller's own where nothing changed."""
        if body is None:
            return self.request
        changed = self.request.copy(body=body)
        changed.options.content = None
        return changed


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


def _unambiguous(pairs: list[tuple[str, Any]]) -> JSON:
    """An object whose names are distinct: of two equal ones, a server may read the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _warn_about_defaults() -> None:
    global _warned_about_defaults
    if not _warned_about_defaults:
        _warned_about_defaults = True
        audit.warn(
            "no configuration found: prohibitions are enforced with the default actions; nothing "
            "is disclosed or held for review, since only a declared app profile asks for that"
        )
