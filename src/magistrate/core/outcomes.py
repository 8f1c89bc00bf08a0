"""End an exchange: deliver, refuse or hold its answer, and settle its decision.

Part of the flow: pure generators of effects.
"""

from __future__ import annotations

from dataclasses import replace

from magistrate.core import refusals
from magistrate.core.decide import StageDecision, blocks, decide
from magistrate.core.decision_record import Decision
from magistrate.core.effects import (
    Answer,
    Flow,
    HoldAnswer,
    KeepThread,
    Open,
    RaiseDecision,
    Remember,
    Settle,
    StoreFailure,
    Write,
    end,
    perform,
)
from magistrate.core.exchange import Exchange
from magistrate.core.history import RequestHistory
from magistrate.wire.messages import JSON, platform_signals, turns


def settle(exchange: Exchange) -> Flow[Decision]:
    """Make the exchange's decision final and return the record."""
    return (yield from perform(Settle(exchange.decision())))


def remember(exchange: Exchange, keys: tuple[str, ...]) -> Flow[None]:
    """Store approval keys that follow from an exchange."""
    yield from perform(Remember(keys, exchange.id))


def note_continuation(exchange: Exchange, history: RequestHistory) -> None:
    """Note which decision a request goes on after, if a judge said that it asks the same again."""
    if exchange.input.continues_declined:
        exchange.continues_blocked = history.declined_by


def keys_when_allowed(
    exchange: Exchange, history: RequestHistory, decided: StageDecision
) -> tuple[str, ...]:
    """Return the keys to store for an input that was judged and may pass."""
    if decided.action == "allow" and decided.shadowed is None:
        return history.allowed_keys()
    return history.allowed_keys(warned_of=[found.path for found in exchange.input.findings()])


def keys_when_blocked(
    exchange: Exchange, history: RequestHistory, decided: StageDecision
) -> tuple[str, ...]:
    """Return the keys to store for a blocked input: of the turns that are the reason."""
    if decided.action != "block":
        return ()
    return history.blocked_keys(_causes(exchange), floor=decided.floor)


def _causes(exchange: Exchange) -> list[str]:
    """Return the paths each of which alone would block the input."""
    settings, judged = exchange.settings, exchange.input
    found = [f.path for f in judged.findings() if blocks(settings, "input", f)]
    unread = [
        u.path for u in judged.uninspected if decide(settings, "input", (), [u]).action == "block"
    ]
    return [*found, *unread]


def keys_when_answered(
    exchange: Exchange, history: RequestHistory, message: JSON
) -> tuple[str, ...]:
    """Return the keys to store for a delivered answer: with it, the turns before it become context.

    None if the input was not judged in full: the answer was judged together with it, but not
    everything that matters in an input matters in an answer.
    """
    if not exchange.input.judged_in_full:
        return ()
    refused = exchange.stage_decision.action == "block" and exchange.stage_decision.stage == "input"
    return history.answered_keys(message, _causes(exchange) if refused else None)


def conclude(
    exchange: Exchange,
    history: RequestHistory,
    decided: StageDecision,
    answer: JSON,
    keys: tuple[str, ...] = (),
) -> Flow[JSON]:
    """Settle the exchange and return the message that the caller receives in place of `answer`.

    `keys` say what was blocked. They are stored after the key that allows the refusal as context,
    so that a bounded store never drops them first. Ends the flow by raising, without returning, if
    the settings say so or no judge was available.
    """
    exchange.platform = platform_signals(answer) or exchange.platform
    match decided.action:
        case "unavailable" | "block":
            message = yield from _refusal(exchange, history, decided, keys)
        case "hold":
            message = yield from _pending(exchange, history, decided, answer)
        case _:
            message = _with_disclosure(exchange, history, answer)
    yield from perform(
        Remember((*keys_when_answered(exchange, history, message), *keys), exchange.id)
    )
    if decided.action in ("allow", "warn"):
        yield from keep_thread(exchange, history, answer)
    decision = yield from settle(exchange)
    return {**message, "moderation": decision.public}


def keep_thread(exchange: Exchange, history: RequestHistory, answer: JSON) -> Flow[None]:
    """Store what the provider holds from now on: the answer as written, without additions.

    Only for an answer that was delivered in full. A later request that continues from any other id
    is declined, and its client sends the whole conversation again.
    """
    if not exchange.threaded or not isinstance(answer.get("id"), str):
        return
    turn = {"role": "assistant", "content": answer.get("content")}
    held = {key: exchange.body.get(key) for key in ("system", "tools")}
    held["messages"] = [*turns(exchange.body), turn]
    yield from remember(exchange, keys_when_answered(exchange, history, answer))
    yield from perform(KeepThread(answer["id"], held))


def refuse(
    exchange: Exchange,
    history: RequestHistory,
    decided: StageDecision,
    *,
    answer: JSON | None = None,
    keys: tuple[str, ...] = (),
    opened: bool = False,
) -> Flow[None]:
    """Give the caller a message of ours instead of an answer: a refusal, or a pending notice."""
    message = yield from conclude(exchange, history, decided, answer or {}, keys)
    public: JSON = message["moderation"]
    if not exchange.stream:
        yield from perform(Answer(message, public, ours=True))
        return
    if not opened:
        yield from perform(Open(public, ours=True))
    yield from perform(Write(b"".join(item.raw for item in refusals.as_stream(message))))


def _refusal(
    exchange: Exchange, history: RequestHistory, decided: StageDecision, keys: tuple[str, ...]
) -> Flow[JSON]:
    """Return a refusal in the API's own shape. Always raises instead if no judge was available."""
    missing = decided.action == "unavailable"
    if missing or exchange.raises_when_blocked:
        yield from remember(exchange, keys)
        decision = yield from settle(exchange)
        yield from end(RaiseDecision("unavailable" if missing else "blocked", decision))
    return refusals.refusal(
        exchange.id,
        exchange.model,
        exchange.settings.texts.block,
        structured=exchange.structured,
        disclosure=exchange.disclose_in_notice(history),
    )


def _pending(
    exchange: Exchange, history: RequestHistory, decided: StageDecision, answer: JSON
) -> Flow[JSON]:
    """Put the answer into the review queue, and only then return the pending notice."""
    failure = yield from hold(exchange, decided, _with_disclosure(exchange, history, answer))
    if failure is not None:
        decision = yield from settle(exchange)
        detail = f"review store: {failure.reason}"
        return (yield from end(RaiseDecision("unavailable", decision, detail=detail)))
    if exchange.raises_when_held:
        decision = yield from settle(exchange)
        yield from end(RaiseDecision("held", decision))
    return refusals.pending_notice(
        exchange.id,
        exchange.model,
        exchange.settings.texts.hold,
        structured=exchange.structured,
        disclosure=exchange.disclose_in_notice(history),
    )


def hold(exchange: Exchange, decided: StageDecision, answer: JSON) -> Flow[StoreFailure | None]:
    """Put an answer into the review queue; if that fails, the exchange is `unavailable`."""
    held = yield from perform(
        HoldAnswer(decided.domains, exchange.body, answer, exchange.decision())
    )
    if isinstance(held, StoreFailure):
        exchange.stage_decision = replace(decided, action="unavailable", domains=())
        return held
    exchange.review_id = held
    return None


def _with_disclosure(exchange: Exchange, history: RequestHistory, answer: JSON) -> JSON:
    text = exchange.disclosure_due(history, answer)
    if text is None:
        return answer
    added = None if exchange.structured else refusals.disclosed(answer, text)
    exchange.disclosed = "owed" if added is None else "added"
    return added or answer
