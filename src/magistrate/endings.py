"""How an exchange ends: settled, refused, held, or given an answer of ours.

Part of the flow: pure generators of effects.
"""

from __future__ import annotations

from magistrate import enforcement
from magistrate.conversation import Conversation
from magistrate.decisions import Decision, Ruling
from magistrate.effects import (
    Answer,
    Flow,
    Open,
    Refuse,
    Remember,
    Settle,
    Store,
    Write,
    perform,
)
from magistrate.exchange import Exchange
from magistrate.messages import JSON


def settle(exchange: Exchange) -> Flow[Decision]:
    decision = exchange.decision()
    yield from perform(Settle(decision))
    return decision


def refuse(
    exchange: Exchange, talk: Conversation, ruling: Ruling, *, opened: bool = False
) -> Flow[None]:
    """Refuse in the API's own shape, or raise. A judge that is missing always raises."""
    raises = ruling.unavailable or exchange.settings.on_block == "raise"
    disclosure = None if raises else exchange.disclose_in_notice(talk)
    decision = exchange.decision()
    if raises:
        yield from perform(Settle(decision))
        kind = "unavailable" if ruling.unavailable else "blocked"
        yield from perform(Refuse(kind, decision))
        return
    message = enforcement.refusal(
        decision.public,
        exchange.model,
        exchange.settings.texts.block,
        structured=exchange.structured,
        disclosure=disclosure,
    )
    yield from give(exchange, talk, decision, message, opened)


def hold(
    exchange: Exchange, talk: Conversation, ruling: Ruling, answer: JSON, *, opened: bool
) -> Flow[None]:
    """Put the answer into the review queue, then tell the caller that it is pending."""
    released = answer
    if (text := exchange.disclosure_due(talk, answer)) is not None and not exchange.structured:
        released = enforcement.disclosed(answer, text) or answer
    exchange.review_id = yield from perform(Store(ruling.domains, released, exchange.decision()))
    raises = exchange.settings.on_hold == "raise"
    disclosure = None if raises else exchange.disclose_in_notice(talk)
    decision = exchange.decision()
    if raises:
        yield from perform(Settle(decision))
        yield from perform(Refuse("held", decision))
        return
    message = enforcement.pending_notice(
        decision.public,
        exchange.model,
        exchange.settings.texts.hold,
        structured=exchange.structured,
        disclosure=disclosure,
    )
    yield from give(exchange, talk, decision, message, opened)


def give(
    exchange: Exchange, talk: Conversation, decision: Decision, message: JSON, opened: bool
) -> Flow[None]:
    yield from perform(Remember(talk.answered_keys(message)))
    yield from perform(Settle(decision))
    if not exchange.stream:
        yield from perform(Answer(message, decision.public, ours=True))
        return
    if not opened:
        yield from perform(Open(decision.public, ours=True))
    yield from perform(Write(b"".join(item.raw for item in enforcement.as_stream(message))))
