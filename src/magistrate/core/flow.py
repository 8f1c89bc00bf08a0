"""Moderate one exchange, from request to answer, in the same way for every edge.

A generator that yields effects and is sent their replies. It does no I/O, has no clock and logs
nothing. Other modules decide the details: `history`, `wire.content` and `wire.parts` what is
judged, `decide` what a verdict means, `refusals` what the caller reads, `windows` what a stream
may release. `streaming` handles an answer as it is written; `outcomes` ends the exchange.
"""

from __future__ import annotations

from collections import deque

from magistrate.core.decide import StageDecision
from magistrate.core.effects import (
    Answer,
    Cancel,
    Flow,
    Forward,
    Next,
    PropagateError,
    RejectAnswer,
    Relay,
    end,
    perform,
)
from magistrate.core.events import Chunk, End, Failed, Head, JudgeResult
from magistrate.core.exchange import Exchange
from magistrate.core.history import RequestHistory
from magistrate.core.outcomes import (
    conclude,
    keys_when_allowed,
    keys_when_blocked,
    note_continuation,
    refuse,
    remember,
    settle,
)
from magistrate.core.questions import (
    about_answer,
    as_provoked,
    ask,
    await_outcome,
    recall_history,
)
from magistrate.core.streaming import answer_stream
from magistrate.wire.messages import JSON, acts_on_the_provider, is_array, is_object, parsed
from magistrate.wire.parts import Part, Subject, as_context

# How much of a stream is read ahead while the input is still being judged, in bytes.
_READ_AHEAD = 256 * 1024


def moderate(exchange: Exchange) -> Flow[None]:
    """Take one request to its end: an answer, a refusal, or an exception the edge raises."""
    settings = exchange.settings
    history = yield from recall_history(exchange)
    subject, unread = history.read()
    exchange.input.note(unread)
    can_act = acts_on_the_provider(exchange.body)
    first = settings.input_check == "before" or can_act or history.floor_found
    # A blocked turn never enters a thread, so a thread has nothing to redact.
    body = None if exchange.threaded else history.forwarded()

    asked = any(part.judged for part in subject.parts)
    if asked:
        yield from perform(ask(exchange, "input", subject, "input"))
    if not first:
        yield from perform(Forward(body))
        exchange.upstream = "cancelled"  # unless the call gets further
    inbox: deque[Chunk | End | Failed] = deque()
    head: Head | Failed | None = None
    if asked:
        head = yield from _await_input(exchange, subject, inbox, forwarded=not first)
    decided = exchange.decide("input", can_act=can_act)
    note_continuation(exchange, history)

    if decided.stops:
        exchange.upstream = yield from perform(Cancel())
        yield from refuse(
            exchange, history, decided, keys=keys_when_blocked(exchange, history, decided)
        )
        return
    if exchange.input.judged_in_full:
        yield from remember(exchange, keys_when_allowed(exchange, history, decided))

    if first:
        yield from perform(Forward(body))
        exchange.upstream = "cancelled"
    while head is None:
        event = yield from perform(Next(read=True))
        if isinstance(event, Head | Failed):
            head = event
    question = history.seen_by_model(subject.parts)
    if exchange.input.judged_in_full:
        question = tuple(map(as_context, question))
    match head:
        case Failed(error):
            yield from settle(exchange)
            yield from end(PropagateError(error))
        case Head(ok=False):
            exchange.upstream = "completed"
            yield from settle(exchange)
            yield from perform(Relay())
        case Head(sse=True):
            yield from answer_stream(exchange, history, question, inbox)
        case Head() if exchange.stream:
            exchange.upstream = yield from perform(Cancel())
            yield from settle(exchange)
            yield from end(RejectAnswer(is_json=False, detail="a stream was asked for"))
        case Head():
            yield from _answer_json(exchange, history, question, inbox)


def _await_input(
    exchange: Exchange,
    subject: Subject,
    inbox: deque[Chunk | End | Failed],
    *,
    forwarded: bool,
) -> Flow[Head | Failed | None]:
    """Wait for the input's verdict; keep upstream events that arrive meanwhile, unprocessed."""
    head: Head | Failed | None = None
    size = 0
    over = not forwarded
    while True:
        event = yield from perform(Next(read=not over and size < _READ_AHEAD))
        match event:
            case JudgeResult(outcome=outcome):
                exchange.input.outcomes.append(as_provoked(outcome, subject))
                return head
            case Head(ok=ok):
                head = event
                over = not ok  # an error is passed on unread
            case Failed() if head is None:
                head, over = event, True
            case Chunk(data):
                inbox.append(event)
                size += len(data)
            case End() | Failed():
                inbox.append(event)
                over = True


# --- an answer in one piece -----------------------------------------------------------------------


def _answer_json(
    exchange: Exchange,
    history: RequestHistory,
    question: tuple[Part, ...],
    inbox: deque[Chunk | End | Failed],
) -> Flow[None]:
    body = bytearray()
    while True:
        event = inbox.popleft() if inbox else (yield from perform(Next(read=True)))
        match event:
            case Chunk(data):
                body += data
            case Failed(error):
                yield from settle(exchange)
                yield from end(PropagateError(error))
                return
            case End():
                break
            case Head() | JudgeResult():
                pass
    exchange.upstream = "completed"
    message = yield from _message(exchange, bytes(body))
    decided = yield from _judge_output(exchange, question, message)
    given = yield from conclude(exchange, history, decided, message)
    ours = decided.action in ("block", "hold")
    yield from perform(Answer(given, given["moderation"], ours))


def _message(exchange: Exchange, body: bytes) -> Flow[JSON]:
    """Return the answer in a body. End the flow if there is none: upstream failed."""
    try:
        found = parsed(body)
    except ValueError:
        yield from settle(exchange)
        return (yield from end(RejectAnswer(is_json=False, detail="its body is not JSON")))
    if is_object(found) and is_array(found.get("content")):
        return found
    yield from settle(exchange)
    return (yield from end(RejectAnswer(is_json=True, detail="its body is not a message")))


def _judge_output(
    exchange: Exchange, question: tuple[Part, ...], message: JSON
) -> Flow[StageDecision]:
    """Judge a whole answer together with its question, and wait."""
    asking = about_answer(exchange, question, message, "output")
    if asking is not None:
        yield from perform(asking)
        exchange.output.outcomes.append((yield from await_outcome()))
    return exchange.decide("output")
