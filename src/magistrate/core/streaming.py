"""Moderate an answer as it is written: each window is judged, then released to the caller.

Part of the flow: a pure generator of effects. `windows` decides what may be released; this module
asks the judge, writes to the caller, and ends the stream.
"""

from __future__ import annotations

from collections import deque

from magistrate.core import replacement
from magistrate.core.decide import StageDecision
from magistrate.core.delivery import DeliveredStream
from magistrate.core.effects import (
    Cancel,
    Flow,
    Next,
    Open,
    PropagateError,
    Remember,
    Write,
    end,
    perform,
)
from magistrate.core.events import Chunk, End, Failed, Head, JudgeResult
from magistrate.core.exchange import Exchange
from magistrate.core.history import RequestHistory
from magistrate.core.outcomes import keep_thread, keys_when_answered, refuse, settle
from magistrate.core.questions import about_answer
from magistrate.core.windows import StreamBuffer
from magistrate.wire.content import Pieces, Windows, judged_so_far
from magistrate.wire.messages import JSON, platform_signals
from magistrate.wire.parts import Part
from magistrate.wire.sse import Decoder, Event

_READ, _WAIT = Next(read=True), Next(read=False)


def answer_stream(
    exchange: Exchange,
    history: RequestHistory,
    question: tuple[Part, ...],
    inbox: deque[Chunk | End | Failed],
) -> Flow[None]:
    exchange.upstream = "streamed"
    held = StreamBuffer(whole=exchange.held_whole)
    decoder, outlet = Decoder(), DeliveredStream()
    failed: BaseException | None = None
    asked: str | None = None
    judged: Windows = {}
    pieces = Pieces()
    yield from perform(Open({"id": exchange.id}, ours=False))
    while True:
        if held.due:
            held.take()
            exchange.output.note(held.unknown)
            held.unknown.clear()
            ticket = f"output-{len(exchange.output.outcomes)}"
            asking = about_answer(
                exchange,
                question,
                held.answer.message,
                ticket,
                judged=judged,
                pieces=pieces,
                final=held.ended,
            )
            judged = judged_so_far(held.answer.message, judged)
            if asking is not None:
                asked = ticket
                yield from perform(asking)
        if held.out and asked is None:
            decided = exchange.decide("output")
            exchange.platform = platform_signals(held.answer.message)
            if decided.stops:
                yield from _cut(exchange, history, decided, outlet)
                return
            if decided.action == "hold":
                exchange.upstream = "completed"
                whole = held.answer.message
                yield from refuse(exchange, history, decided, answer=whole, opened=True)
                return
            released = held.release()
            last = held.ended and held.empty
            yield from _write(exchange, history, outlet, released, held.answer.message, final=last)
            continue
        if held.ended and held.empty:
            break
        if inbox and held.wants_more:
            event = inbox.popleft()
        else:
            event = yield from perform(_READ if held.wants_more else _WAIT)
        match event:
            case JudgeResult(outcome=outcome):
                exchange.output.outcomes.append(outcome)
                asked = None
            case Chunk(data):
                for item in decoder.feed(data):
                    if passing := held.feed(item):
                        yield from _write(exchange, history, outlet, passing, {})
            case End() | Failed():
                for item in decoder.flush():
                    # Half an event without data means nothing to a client and cannot be judged.
                    # Half a ping would overtake the held events and run into them.
                    if item.data and item.type != "ping":
                        yield from _write(exchange, history, outlet, held.feed(item), {})
                held.end()
                failed = event.error if isinstance(event, Failed) else None
            case Head():
                pass
    if not outlet.settled:
        yield from _finish(exchange, history, outlet, held.answer.message)
    if failed is not None:
        yield from end(PropagateError(failed))


def _write(
    exchange: Exchange,
    history: RequestHistory,
    outlet: DeliveredStream,
    events: list[Event],
    answer: JSON,
    *,
    final: bool = False,
) -> Flow[None]:
    """Write events to the caller, with the disclosure before the first text.

    The decision is settled before the last byte leaves: a caller who has the answer can look the
    decision up.
    """
    for position, item in enumerate(events):
        if not outlet.has_text and outlet.starts_text(item):
            outlet.has_text = True
            text = exchange.disclosure_due(history, answer)
            if text is not None:
                exchange.disclosed = "owed" if exchange.structured else "added"
            if exchange.disclosed == "added" and text is not None:
                delta = replacement.disclosing_delta(item.data.get("index"), text)
                events = [*events[:position], delta, *events[position:]]
            break
    data = outlet.passing(events)
    if final:
        yield from _finish(exchange, history, outlet, answer)
    if data:
        yield from perform(Write(data))


def _finish(
    exchange: Exchange, history: RequestHistory, outlet: DeliveredStream, answer: JSON
) -> Flow[None]:
    outlet.settled = True
    exchange.platform = platform_signals(answer) or exchange.platform
    if not outlet.has_text and exchange.disclosure_due(history, {}) is not None:
        exchange.disclosed = "owed"
    yield from perform(Remember(keys_when_answered(exchange, history, outlet.delivered.message)))
    if answer.get("stop_reason"):  # it is complete, and all of it was delivered
        yield from keep_thread(exchange, history, answer)
    yield from settle(exchange)


def _cut(
    exchange: Exchange, history: RequestHistory, decided: StageDecision, outlet: DeliveredStream
) -> Flow[None]:
    """End a stream that must not continue, as a valid stream."""
    exchange.upstream = yield from perform(Cancel())
    missing = decided.action == "unavailable"
    if not outlet.begun or missing or exchange.settings.on_block == "raise":
        yield from refuse(exchange, history, decided, opened=True)
        return
    text = exchange.settings.texts.block
    usage: JSON = outlet.delivered.message.get("usage") or {}
    events = replacement.cut(
        exchange.id, text, next_index=outlet.next_index, open_index=outlet.open_block, usage=usage
    )
    yield from _write(exchange, history, outlet, events, {}, final=True)
