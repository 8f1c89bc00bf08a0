"""Moderate a message thread: a request that continues a conversation which the provider holds.

It is judged as the whole conversation. A thread that is unknown here is not continued: the request
is answered with the API's error for a lost thread, and on that error the SDK, like any client of
threads, sends the whole conversation again.
"""

from __future__ import annotations

from collections.abc import Callable

from magistrate.core.decide import StageDecision
from magistrate.core.effects import Flow, RecallThread, RespondError, end, perform
from magistrate.core.exchange import Exchange
from magistrate.core.flow import moderate
from magistrate.core.outcomes import settle
from magistrate.wire.messages import JSON, is_object, turns
from magistrate.wire.parts import Uninspected


def begins_thread(thread: object) -> bool:
    """Return whether the provider holds no turns before a request's own."""
    if not is_object(thread):
        return not thread
    return thread.get("type") == "create" and thread.get("previous_message_id") is None


def moderate_thread(body: JSON, make: Callable[[JSON], Exchange]) -> Flow[None]:
    """Moderate a request of a thread. `make` opens its exchange for the whole conversation."""
    thread: object = body.get("thread")
    known: JSON | None = {}
    if not begins_thread(thread):
        previous = thread.get("previous_message_id") if is_object(thread) else None
        known = yield from perform(RecallThread(str(previous)))
    whole = body
    if known:  # the provider applies what the request itself sets, so that is judged
        own = {key: value for key, value in body.items() if value is not None}
        whole = {**known, **own, "messages": [*turns(known), *turns(body)]}
    exchange = make(whole)
    if known is None:
        exchange.input.note([Uninspected("thread", "thread")])
        if exchange.settings.on_uninspected.thread == "block":
            yield from _decline(exchange)
    yield from moderate(exchange)


def _decline(exchange: Exchange) -> Flow[None]:
    """Answer as the API does for a thread it does not have (its error `thread_not_found`)."""
    exchange.stage_decision = StageDecision("input", "block")
    yield from settle(exchange)
    error: JSON = {
        "type": "not_found_error",
        "message": "This conversation is not known to magistrate; send it whole.",
        "details": {"error_code": "thread_not_found"},
    }
    yield from end(RespondError(404, {"type": "error", "error": error}))
