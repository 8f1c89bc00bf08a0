"""The way of one exchange, from request to answer, told once for every edge.

A generator that yields effects and is sent what happened. It does no I/O, has no clock and logs
nothing. Rules live elsewhere: what is judged in `conversation` and `subjects`, what a verdict means
in `decisions`, what the caller reads in `enforcement`, what a stream may release in `windows`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from magistrate import enforcement
from magistrate.conversation import Conversation
from magistrate.decisions import Decision, Ruling, is_blocking
from magistrate.effects import (
    Answer,
    Ask,
    Cancel,
    Chunk,
    End,
    Failed,
    Flow,
    Forward,
    Head,
    Heard,
    Next,
    Open,
    Recall,
    Refuse,
    Relay,
    Remember,
    Reraise,
    Settle,
    Store,
    Write,
    perform,
)
from magistrate.exchange import Exchange
from magistrate.messages import JSON, acts_on_the_provider, is_object
from magistrate.sse import Decoder, Event, MessageBuilder
from magistrate.subjects import (
    Part,
    Subject,
    Uninspected,
    answer_lengths,
    as_context,
    read_answer,
)
from magistrate.verdicts import Outcome, Stage
from magistrate.windows import Holdback

# How much of a stream is read ahead while the input is still being judged, in bytes.
_READ_AHEAD = 256 * 1024


def moderate(exchange: Exchange) -> Flow[None]:
    """Take one request to its end: an answer, a refusal, or an exception the edge raises."""
    settings = exchange.settings
    talk = Conversation.of(exchange.body, exchange.digests, redact=settings.history == "redact")
    talk = replace(talk, known=(yield from perform(Recall(talk.keys()))))
    subject, exchange.input.uninspected = talk.read()
    can_act = acts_on_the_provider(exchange.body)
    first = settings.input_check == "before" or can_act or talk.floor_found

    asked = any(part.judged for part in subject.parts)
    if asked:
        yield from perform(_ask(exchange, "input", subject, "input"))
    if not first:
        yield from perform(Forward(talk.forwarded()))
    inbox: deque[Chunk | End | Failed] = deque()
    head: Head | Failed | None = None
    if asked:
        head = yield from _hear_input(exchange, inbox, forwarded=not first)
    ruling = exchange.rule("input", can_act=can_act)

    if ruling.action == "block":
        exchange.upstream = yield from perform(Cancel())
        if not ruling.unavailable:
            found = exchange.input.findings()
            yield from perform(Remember(talk.blocked_keys(found, floor=ruling.floor)))
        yield from _refuse(exchange, talk, ruling)
        return
    if exchange.input.heard_in_full:
        yield from perform(Remember(talk.allowed_keys()))

    if first:
        yield from perform(Forward(talk.forwarded()))
    while head is None:
        happened = yield from perform(Next(read=True))
        if isinstance(happened, Head | Failed):
            head = happened
    question = subject.parts
    if exchange.input.heard_in_full:
        question = tuple(map(as_context, question))
    match head:
        case Failed(error):
            yield from _settle(exchange)
            yield from perform(Reraise(error))
        case Head(ok=False):
            exchange.upstream = "completed"
            yield from _settle(exchange)
            yield from perform(Relay())
        case Head(sse=True):
            yield from _answer_stream(exchange, talk, question, inbox)
        case Head() if exchange.stream:
            exchange.upstream = yield from perform(Cancel())
            exchange.output.uninspected = (Uninspected("response", "unknown_block"),)
            yield from _refuse(exchange, talk, exchange.rule("output"))
        case Head():
            yield from _answer_json(exchange, talk, question, inbox)


def _ask(exchange: Exchange, stage: Stage, subject: Subject, ticket: str) -> Ask:
    def fatal(outcome: Outcome) -> bool:
        return is_blocking(exchange.settings, stage, outcome)

    return Ask(ticket, subject, fatal)


def _hear_input(
    exchange: Exchange, inbox: deque[Chunk | End | Failed], *, forwarded: bool
) -> Flow[Head | Failed | None]:
    """Wait for the input's verdict; whatever upstream says meanwhile is kept, not acted on."""
    head: Head | Failed | None = None
    size = 0
    over = not forwarded
    while True:
        happened = yield from perform(Next(read=not over and size < _READ_AHEAD))
        match happened:
            case Heard(outcome=outcome):
                exchange.input.outcomes.append(outcome)
                return head
            case Head(ok=ok):
                head = happened
                over = not ok  # an error is handed on unread
            case Failed() if head is None:
                head, over = happened, True
            case Chunk(data):
                inbox.append(happened)
                size += len(data)
            case End() | Failed():
                inbox.append(happened)
                over = True


# --- an answer in one piece -----------------------------------------------------------------------


def _answer_json(
    exchange: Exchange,
    talk: Conversation,
    question: tuple[Part, ...],
    inbox: deque[Chunk | End | Failed],
) -> Flow[None]:
    body = bytearray()
    while True:
        happened = inbox.popleft() if inbox else (yield from perform(Next(read=True)))
        match happened:
            case Chunk(data):
                body += data
            case Failed(error):
                yield from _settle(exchange)
                yield from perform(Reraise(error))
                return
            case End():
                break
            case Head() | Heard():
                pass
    exchange.upstream = "completed"
    message = _parsed(bytes(body))
    if message is None:
        exchange.output.uninspected = (Uninspected("response", "unknown_block"),)
        message = {}
    ruling = yield from _hear_output(exchange, question, message)
    if ruling.action == "block":
        yield from _refuse(exchange, talk, ruling)
    elif ruling.action == "hold":
        yield from _hold(exchange, talk, ruling, message, opened=False)
    else:
        delivered = message
        if (text := exchange.disclosure_due(talk, message)) is not None:
            with_it = None if exchange.structured else enforcement.disclosed(message, text)
            exchange.disclosed = "added" if with_it else "owed"
            delivered = with_it or message
        yield from perform(Remember(talk.answered_keys(delivered)))
        decision = yield from _settle(exchange)
        public = decision.public
        yield from perform(Answer({**delivered, "moderation": public}, public, ours=False))


def _parsed(body: bytes) -> JSON | None:
    try:
        found: object = json.loads(body)
    except ValueError:
        return None
    return found if is_object(found) and isinstance(found.get("content"), list) else None


def _hear_output(
    exchange: Exchange,
    question: tuple[Part, ...],
    message: JSON,
    *,
    seen: dict[int, int] | None = None,
    ticket: str = "output",
    final: bool = True,
) -> Flow[Ruling]:
    """Judge an answer (or what is new of it) together with its question, and wait."""
    if (ask := _output_question(exchange, question, message, seen, ticket, final)) is not None:
        yield from perform(ask)
        while True:
            happened = yield from perform(Next(read=False))
            if isinstance(happened, Heard):
                exchange.output.outcomes.append(happened.outcome)
                break
    return exchange.rule("output")


def _output_question(
    exchange: Exchange,
    question: tuple[Part, ...],
    message: JSON,
    seen: dict[int, int] | None,
    ticket: str,
    final: bool,
) -> Ask | None:
    items = read_answer(message, seen)
    unread = (item for item in items if isinstance(item, Uninspected))
    exchange.output.uninspected = tuple(dict.fromkeys((*exchange.output.uninspected, *unread)))
    parts = tuple(item for item in items if isinstance(item, Part))
    if not any(part.judged for part in parts):
        return None
    return _ask(exchange, "output", Subject("output", (*question, *parts), final), ticket)


# --- an answer as it is written -------------------------------------------------------------------


def _answer_stream(
    exchange: Exchange,
    talk: Conversation,
    question: tuple[Part, ...],
    inbox: deque[Chunk | End | Failed],
) -> Flow[None]:
    exchange.upstream = "streamed"
    held = Holdback(whole=exchange.held_whole)
    decoder, outlet = Decoder(), _Outlet()
    failed: BaseException | None = None
    asked: str | None = None
    seen: dict[int, int] = {}
    yield from perform(Open({"id": exchange.id}, ours=False))
    while True:
        if held.due:
            held.take()
            exchange.output.uninspected = tuple(
                dict.fromkeys((*exchange.output.uninspected, *held.unknown))
            )
            ticket = f"output-{len(exchange.output.outcomes)}"
            ask = _output_question(
                exchange, question, held.answer.message, seen, ticket, held.ended
            )
            seen = answer_lengths(held.answer.message)
            if ask is not None:
                asked = ticket
                yield from perform(ask)
        if held.out and asked is None:
            ruling = exchange.rule("output")
            if ruling.action == "block":
                yield from _cut(exchange, talk, ruling, outlet)
                return
            if ruling.action == "hold":
                exchange.upstream = "completed"
                yield from _hold(exchange, talk, ruling, held.answer.message, opened=True)
                return
            released = held.release()
            last = held.ended and held.empty
            yield from _write(exchange, talk, outlet, released, held.answer.message, final=last)
            continue
        if held.ended and held.empty:
            break
        if inbox and held.wants_more:
            happened = inbox.popleft()
        else:
            happened = yield from perform(Next(read=held.wants_more))
        match happened:
            case Heard(outcome=outcome):
                exchange.output.outcomes.append(outcome)
                asked = None
            case Chunk(data):
                for item in decoder.feed(data):
                    yield from _write(exchange, talk, outlet, held.feed(item), {})
            case End() | Failed():
                for item in decoder.flush():
                    yield from _write(exchange, talk, outlet, held.feed(item), {})
                held.end()
                failed = happened.error if isinstance(happened, Failed) else None
            case Head():
                pass
    if not outlet.settled:
        yield from _finish(exchange, talk, outlet)
    if failed is not None:
        yield from perform(Reraise(failed))


class _Outlet:
    """What has been handed to the caller, and what state that leaves the stream in."""

    def __init__(self) -> None:
        self.delivered = MessageBuilder()
        self.begun = False
        self.open_block: int | None = None
        self.next_index = 0
        self.has_text = False
        self.settled = False

    def passing(self, events: Iterable[Event]) -> bytes:
        """Note events on their way out; their bytes."""
        out = bytearray()
        for item in events:
            self.delivered.feed(item)
            index = item.data.get("index")
            match item.type:
                case "message_start":
                    self.begun = True
                case "content_block_start" if isinstance(index, int):
                    self.open_block, self.next_index = index, index + 1
                case "content_block_stop":
                    self.open_block = None
                case _:
                    pass
            out += item.raw
        return bytes(out)

    def starts_text(self, item: Event) -> bool:
        """Whether this event brings the first text of the answer."""
        delta = item.data.get("delta")
        return (
            item.type == "content_block_delta"
            and is_object(delta)
            and delta.get("type") == "text_delta"
            and bool(delta.get("text"))
        )


def _write(
    exchange: Exchange,
    talk: Conversation,
    outlet: _Outlet,
    events: list[Event],
    answer: JSON,
    *,
    final: bool = False,
) -> Flow[None]:
    """Hand events on, with the disclosure ahead of the first text.

    The decision is settled before the last byte leaves: who has the answer can ask for it.
    """
    for position, item in enumerate(events):
        if not outlet.has_text and outlet.starts_text(item):
            outlet.has_text = True
            text = exchange.disclosure_due(talk, answer)
            if text is not None:
                exchange.disclosed = "owed" if exchange.structured else "added"
            if exchange.disclosed == "added" and text is not None:
                delta = enforcement.disclosing_delta(item.data.get("index"), text)
                events = [*events[:position], delta, *events[position:]]
            break
    data = outlet.passing(events)
    if final:
        yield from _finish(exchange, talk, outlet)
    if data:
        yield from perform(Write(data))


def _finish(exchange: Exchange, talk: Conversation, outlet: _Outlet) -> Flow[None]:
    outlet.settled = True
    if not outlet.has_text and exchange.disclosure_due(talk, {}) is not None:
        exchange.disclosed = "owed"
    yield from perform(Remember(talk.answered_keys(outlet.delivered.message)))
    yield from _settle(exchange)


def _cut(exchange: Exchange, talk: Conversation, ruling: Ruling, outlet: _Outlet) -> Flow[None]:
    """End a stream that must not go on, as a valid stream."""
    exchange.upstream = yield from perform(Cancel())
    if not outlet.begun or ruling.unavailable or exchange.settings.on_block == "raise":
        yield from _refuse(exchange, talk, ruling, opened=True)
        return
    text = exchange.settings.texts.block
    public = exchange.decision().public
    usage: JSON = outlet.delivered.message.get("usage") or {}
    events = enforcement.cut(
        public, text, next_index=outlet.next_index, open_index=outlet.open_block, usage=usage
    )
    yield from _write(exchange, talk, outlet, events, {}, final=True)


# --- endings --------------------------------------------------------------------------------------


def _settle(exchange: Exchange) -> Flow[Decision]:
    decision = exchange.decision()
    yield from perform(Settle(decision))
    return decision


def _refuse(
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
    yield from _ours(exchange, talk, decision, message, opened)


def _hold(
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
    yield from _ours(exchange, talk, decision, message, opened)


def _ours(
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
