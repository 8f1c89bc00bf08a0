"""Moderate an answer as it is written: each window is judged, then released to the caller.

Part of the flow: a pure generator of effects. `windows` decides what may be released; this module
asks the judge, writes to the caller, and ends the stream.
"""

from __future__ import annotations

from collections import deque

from magistrate.core import refusals
from magistrate.core.decide import StageDecision
from magistrate.core.delivery import DeliveredStream
from magistrate.core.effects import (
    Cancel,
    Flow,
    Next,
    Open,
    PropagateError,
    RaiseDecision,
    RejectAnswer,
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
from magistrate.wire.event_fields import is_broken, is_no_event
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
    buffer = StreamBuffer(whole=exchange.held_whole)
    decoder, delivered = Decoder(), DeliveredStream()
    failed: BaseException | None = None
    rejected: RejectAnswer | None = None
    asked: str | None = None
    judged: Windows = {}
    pieces = Pieces()
    yield from perform(Open({"id": exchange.id}, ours=False))
    while True:
        if buffer.due:
            buffer.take()
            exchange.output.note(buffer.unknown)
            buffer.unknown.clear()
            ticket = f"output-{len(exchange.output.outcomes)}"
            asking = about_answer(
                exchange,
                question,
                buffer.answer.message,
                ticket,
                judged=judged,
                pieces=pieces,
                unread=buffer.answer.unread,
                final=buffer.ended,
            )
            judged = judged_so_far(buffer.answer.message, judged)
            if asking is not None:
                asked = ticket
                yield from perform(asking)
        if buffer.out and asked is None:
            decided = exchange.decide("output")
            exchange.platform = platform_signals(buffer.answer.message)
            if decided.stops:
                yield from _cut(exchange, history, decided, delivered)
                return
            if decided.action == "hold":
                exchange.upstream = "completed"
                whole = buffer.answer.message
                yield from refuse(exchange, history, decided, answer=whole, opened=True)
                return
            released = buffer.release()
            last = buffer.ended and buffer.empty
            yield from _write(
                exchange, history, delivered, released, buffer.answer.message, final=last
            )
            continue
        if buffer.ended and buffer.empty:
            break
        if inbox and buffer.wants_more:
            event = inbox.popleft()
        else:
            event = yield from perform(_READ if buffer.wants_more else _WAIT)
        match event:
            case JudgeResult(outcome=outcome):
                exchange.output.outcomes.append(outcome)
                asked = None
            case Chunk(data):
                for item in decoder.feed(data):
                    if is_broken(item):
                        # What came before it is still judged and released, as with any failure.
                        rejected = RejectAnswer(is_json=False, detail="an event is not JSON")
                        buffer.end()
                        break
                    if passing := buffer.feed(item):
                        yield from _write(exchange, history, delivered, passing, {})
            case End() | Failed():
                for item in decoder.flush():
                    if is_no_event(item):
                        rejected = RejectAnswer(is_json=False, detail="the stream has no events")
                    # Half an event without data means nothing to a client and cannot be judged.
                    # Half a ping would overtake the held events and run into them.
                    if item.data and item.type != "ping":
                        yield from _write(exchange, history, delivered, buffer.feed(item), {})
                buffer.end()
                failed = event.error if isinstance(event, Failed) else None
            case Head():
                pass
    if not delivered.settled:
        yield from _finish(exchange, history, delivered, buffer.answer.message)
    if rejected is not None:
        yield from end(rejected)
    if failed is not None:
        yield from end(PropagateError(failed))


def _write(
    exchange: Exchange,
    history: RequestHistory,
    delivered: DeliveredStream,
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
        if not delivered.has_text and delivered.starts_text(item):
            delivered.has_text = True
            text = exchange.disclosure_due(history, answer)
            if text is not None:
                exchange.disclosed = "owed" if exchange.structured else "added"
            if exchange.disclosed == "added" and text is not None:
                delta = refusals.disclosing_delta(item.data.get("index"), text)
                events = [*events[:position], delta, *events[position:]]
            break
    data = delivered.passing(events)
    if final:
        yield from _finish(exchange, history, delivered, answer)
    if data:
        yield from perform(Write(data))


def _finish(
    exchange: Exchange, history: RequestHistory, delivered: DeliveredStream, answer: JSON
) -> Flow[None]:
    delivered.settled = True
    exchange.platform = platform_signals(answer) or exchange.platform
    if not delivered.has_text and exchange.disclosure_due(history, {}) is not None:
        exchange.disclosed = "owed"
    yield from perform(
        Remember(keys_when_answered(exchange, history, delivered.message.message), exchange.id)
    )
    if answer.get("stop_reason"):  # it is complete, and all of it was delivered
        yield from keep_thread(exchange, history, answer)
    yield from settle(exchange)


def _cut(
    exchange: Exchange, history: RequestHistory, decided: StageDecision, delivered: DeliveredStream
) -> Flow[None]:
    """End a stream that must not continue, as a valid stream."""
    exchange.upstream = yield from perform(Cancel())
    if not delivered.begun or decided.action == "unavailable":
        yield from refuse(exchange, history, decided, opened=True)
        return
    if exchange.settings.on_block == "raise":  # also over HTTP: as an event of the stream
        decision = yield from settle(exchange)
        yield from end(RaiseDecision("blocked", decision))
    text = exchange.settings.texts.block
    usage: JSON = delivered.message.message.get("usage") or {}
    events = refusals.cut(
        exchange.id,
        text,
        next_index=delivered.next_index,
        open_index=delivered.open_block,
        usage=usage,
    )
    yield from _write(exchange, history, delivered, events, {}, final=True)
