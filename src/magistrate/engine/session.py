"""One request under moderation: its flow, and the effects that both drivers perform alike.

What a request is (a message, a batch, the results of one) decides only which flow is played.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anthropic
from anthropic import APIRequest

from magistrate.core.batches import Entry, entries_of, moderate_batch, moderate_results
from magistrate.core.decide import Decision, JudgeFailure, is_blocking
from magistrate.core.effects import (
    Flow,
    HoldAnswer,
    KeepBatch,
    KeepThread,
    RaiseDecision,
    Recall,
    RecallBatch,
    Remember,
    Settle,
)
from magistrate.core.exchange import Exchange
from magistrate.core.flow import decline_thread, moderate
from magistrate.observe import audit
from magistrate.sdk.errors import Blocked, HeldForReview, ModerationError, ModerationUnavailable
from magistrate.verdicts import JudgeInfo, Outcome, Unavailable, Verdict, broken
from magistrate.wire.digests import GrowingDigest
from magistrate.wire.messages import JSON, is_object, turns
from magistrate.wire.parts import Subject, Uninspected
from magistrate.wire.routes import batch_id

if TYPE_CHECKING:
    from magistrate.sdk.middleware import Moderation


class Case:
    """One request, one flow, and the exchanges that still owe a record."""

    flow: Flow[None]

    def __init__(self, moderation: Moderation, request: APIRequest) -> None:
        self.moderation = moderation
        self.request = request
        self.settings = moderation.settings
        self.judge: JudgeInfo = moderation.judge_info
        self.stream = False  # a stream of events was asked for
        self.lines = False  # the response is read line by line, as it comes
        self.started = time.monotonic()
        self._digest = GrowingDigest(moderation.digests, "verdict")
        self._open: dict[str, Exchange] = {}
        self._settled: dict[str, Decision] = {}
        self._not_sent: Exception | None = None

    def exchange(self, body: JSON, *, stream: bool = False, threaded: bool = False) -> Exchange:
        """Open an exchange of this request."""
        made = Exchange(
            id=f"dec_{secrets.token_urlsafe(12)}",
            body=body,
            settings=self.settings,
            digests=self.moderation.digests,
            judge=self.judge,
            stream=stream,
            threaded=threaded,
        )
        self._open[made.id] = made
        return made

    # --- effects ----------------------------------------------------------------------------------

    def perform(self, effect: object) -> Any:
        """An effect that needs no waiting on the network. Its reply; or raises, to end the flow."""
        record = self.moderation.record
        match effect:
            case Recall(keys):
                return record.known(keys)
            case Remember(keys):
                return record.remember(keys)
            case Settle(decision):
                return self.settle(decision)
            case HoldAnswer():
                return self._store(effect)
            case KeepThread(message_id, conversation):
                return record.threads.keep(message_id, conversation)
            case KeepBatch(name, questions, omitted):
                return record.batches.keep(name, {"questions": questions, "omitted": omitted})
            case RecallBatch(name):
                kept = record.batches.get(name) or {}
                return kept.get("questions", {}), kept.get("omitted", {})
            case RaiseDecision(kind, decision, entries):
                raise self._refusal(kind, self._settled.get(decision.id, decision), entries)
            case _:
                raise AssertionError(f"no driver performs {effect!r}")

    def settle(self, decision: Decision) -> None:
        """Make a decision final, once."""
        if self._open.pop(decision.id, None) is None:
            return
        took = round((time.monotonic() - self.started) * 1000, 3)
        final = audit.kept(replace(decision, latency_ms=took), self.settings)
        # Only what may still be raised is kept: the results of a batch have no end in sight.
        self._settled = {decision.id: final}
        self.moderation.settle(final)

    def abandon(self) -> None:
        """The caller went away, or an exception ends the request: record how far each got."""
        for exchange in list(self._open.values()):
            self.settle(exchange.abandoned())

    def _store(self, effect: HoldAnswer) -> str:
        from magistrate.storage.review_items import HeldItem, ReviewError

        store = self.moderation.reviews
        item = HeldItem(
            app=effect.decision.app or "app",
            domains=effect.domains,
            request=effect.request,
            message=effect.message,
            decision=audit.kept(effect.decision, self.settings).as_json(evidence=True),
        )
        try:
            if store is None:
                raise ReviewError("no review store is configured")
            return store.hold(item)
        except ReviewError as error:
            decision = replace(effect.decision, action="unavailable", domains=())
            self.settle(decision)
            raise ModerationUnavailable(
                self._settled[decision.id], f"review store: {error}"
            ) from None

    def _refusal(self, kind: str, decision: Decision, entries: dict[str, Decision]) -> Exception:
        if kind == "blocked":
            settings = self.settings
            return Blocked(decision, {k: audit.kept(v, settings) for k, v in entries.items()})
        if kind == "held":
            return HeldForReview(decision)
        if self._not_sent is not None:
            return self._not_sent
        reasons = [
            f"{f.stage} judge {f.reason} {f.detail}".strip() for f in decision.judge_failures
        ]
        if any(map(_may_be_the_model, decision.judge_failures)):
            model = decision.judge.model
            reasons.append(f"set `judge.model` if this provider has no model called {model}")
        return ModerationUnavailable(decision, f"no judge was available: {'; '.join(reasons)}")

    # --- judging ----------------------------------------------------------------------------------

    def remembered(self, subject: Subject) -> tuple[str, Verdict | None]:
        """The subject's digest, and what was said of it before."""
        key = subject.digest(self._digest)
        return key, self.moderation.record.verdict(key)

    def judged(self, subject: Subject, key: str, outcome: Outcome) -> Outcome:
        """Remember a fresh outcome, if it is one to remember. What is none counts as a failure."""
        try:
            if not isinstance(outcome, Verdict | Unavailable):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError
            is_blocking(self.settings, subject.stage, outcome)
        except Exception as error:  # a judge of the user's own named a clause that is none, or such
            return broken(self.judge, f"unusable verdict: {type(error).__name__}")
        if isinstance(outcome, Verdict):
            self.moderation.record.keep(key, audit.verdict_kept(outcome, self.settings))
        return outcome

    def judge_request(self, body: JSON, timeout_s: float) -> APIRequest:
        """A request of the judge's own: none of the caller's headers, betas or parsers.

        Betas may be set for a whole client too; its other default headers may be what a proxy on
        the way asks for, so they stay.
        """
        options = type(self.request.options).construct(
            method="post",
            url=self._messages_url,
            json_data=body,
            timeout=timeout_s,
            headers={"anthropic-beta": anthropic.omit},
        )
        return APIRequest(options=options, cast_to=anthropic.types.Message, stream=False)

    @property
    def _messages_url(self) -> str:
        """Where this client sends messages: as this request does, if it is one."""
        path = self.request.url.split("?", 1)[0].rstrip("/")
        return self.request.url if path.endswith("messages") else "/v1/messages"

    def not_sent(self, error: Exception) -> None:
        """Keep why a judge's request could not be sent: no credentials, an extra that is missing.

        The application's own request fails in the same way, so what it gets is that error.
        """
        if not isinstance(error, anthropic.APIError | anthropic.RetryableError | ModerationError):
            self._not_sent = error

    def forwarded(self, body: JSON | None) -> APIRequest:
        """The request that travels upstream: the caller's own where nothing changed."""
        if body is None:
            return self.request
        changed = self.request.copy(body=body)
        changed.options.content = None
        return changed


def _may_be_the_model(failure: JudgeFailure) -> bool:
    """Whether the judge failed in the way of a provider that does not have its model."""
    unknown = failure.detail.startswith(("HTTP 400", "HTTP 404"))
    return unknown and failure.reason in ("unsupported", "error")


def message_case(moderation: Moderation, request: APIRequest, body: JSON) -> Case:
    """A Messages API call. One that continues a thread is judged as the conversation it continues.

    A thread this process has not seen is not continued: the API has an error for a thread it lost,
    and on it the SDK, like any client of threads, sends the whole conversation anew.
    """
    case = Case(moderation, request)
    case.stream = stream = request.stream or body.get("stream") is True
    thread = body.get("thread")
    if not thread:
        case.flow = moderate(case.exchange(body, stream=stream))
        return case
    previous = thread.get("previous_message_id") if is_object(thread) else None
    known = {} if _begins(thread) else moderation.record.threads.get(str(previous))
    whole = body
    if known:  # what the request itself sets is what the provider gets, so it is what is judged
        own = {key: value for key, value in body.items() if value is not None}
        whole = {**known, **own, "messages": [*turns(known), *turns(body)]}
    exchange = case.exchange(whole, stream=stream, threaded=True)
    if known is None:
        exchange.input.note([Uninspected("thread", "thread")])
        if moderation.settings.on_uninspected.thread == "block":
            case.flow = decline_thread(exchange)
            return case
    case.flow = moderate(exchange)
    return case


def _begins(thread: object) -> bool:
    """Whether nothing that the provider holds stands before a request's turns."""
    if not is_object(thread):
        return not thread
    return thread.get("type") == "create" and thread.get("previous_message_id") is None


def batch_case(moderation: Moderation, request: APIRequest, body: JSON) -> Case:
    """A call that makes a message batch."""
    case = Case(moderation, request)
    entries = [Entry(name, case.exchange(params)) for name, params in entries_of(body)]
    for entry in entries:
        entry.exchange.in_batch = True
        if not _begins(entry.exchange.body.get("thread")):
            entry.exchange.input.note([Uninspected("thread", "thread")])
    case.flow = moderate_batch(body, entries, moderation.settings)
    return case


def results_case(moderation: Moderation, request: APIRequest) -> Case:
    """A call that reads the results of a message batch."""
    case = Case(moderation, request)
    case.lines = True
    case.flow = moderate_results(batch_id(request.url), case.exchange)
    return case
