"""Moderate the results of a message batch: judge every answer as its line streams. Pure."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from magistrate.core.batches import WIDTH
from magistrate.core.effects import (
    Flow,
    Forward,
    Next,
    Open,
    PropagateError,
    RecallBatch,
    Relay,
    StartJudging,
    Write,
    end,
    perform,
)
from magistrate.core.events import Chunk, End, Failed, Head, JudgeResult
from magistrate.core.exchange import Exchange
from magistrate.core.history import RequestHistory
from magistrate.core.outcomes import conclude
from magistrate.core.questions import about_answer
from magistrate.wire.messages import JSON, is_array, is_object
from magistrate.wire.parts import Uninspected, as_context


@dataclass(slots=True)
class _Line:
    """One line of the results. `raw`: a line without an answer, passed on unchanged."""

    data: JSON
    exchange: Exchange | None = None
    history: RequestHistory | None = None
    raw: bytes = b""
    waits: bool = False


def moderate_results(batch_id: str, make: Callable[[JSON], Exchange]) -> Flow[None]:
    """Judge the results of a batch line by line, a few at a time, in the order they arrive.

    `make` opens an exchange for a question, or for {} if this process does not know the question.
    Entries that were left out of the batch are answered with their refusal at the end.
    """
    questions, omitted = yield from perform(RecallBatch(batch_id))
    yield from perform(Forward(None))
    head = yield from perform(Next(read=True))
    if isinstance(head, Failed):
        yield from end(PropagateError(head.error))
    if not isinstance(head, Head) or not head.ok:
        yield from perform(Relay())
        return
    yield from perform(Open({"batch_id": batch_id}, ours=False))
    rest = bytearray()
    backlog: deque[bytes] = deque()
    lines: deque[_Line] = deque()
    waiting: dict[str, _Line] = {}
    asked = 0
    ended: End | Failed | None = None
    while True:
        while backlog and len(lines) < WIDTH:
            line = _opened(backlog.popleft(), questions, make)
            lines.append(line)
            asked += 1
            ticket = f"line-{asked}"
            if (asking := _question(line, ticket)) is not None:
                waiting[ticket] = line
                line.waits = True
                yield from perform(asking)
        # Only the first line is ever concluded, so the lines before a failure still arrive.
        while lines and not lines[0].waits:
            yield from perform(Write((yield from _concluded(lines.popleft()))))
        if backlog and len(lines) < WIDTH:
            continue
        if not lines and ended is not None:
            break
        event = yield from perform(Next(read=ended is None and not backlog))
        match event:
            case JudgeResult(ticket, outcome):
                line = waiting.pop(ticket)
                line.waits = False
                if line.exchange is not None:
                    line.exchange.output.outcomes.append(outcome)
            case Chunk(data):
                *whole, tail = (bytes(rest) + data).split(b"\n")
                rest = bytearray(tail)
                backlog.extend(whole)
            case End() | Failed():
                ended = event
                backlog.append(bytes(rest))
            case Head():
                pass
    if isinstance(ended, Failed):
        yield from end(PropagateError(ended.error))
    for custom_id, message in omitted.items():
        result = {"type": "succeeded", "message": message}
        yield from perform(Write(_encoded({"custom_id": custom_id, "result": result})))


def _opened(raw: bytes, questions: dict[str, JSON], make: Callable[[JSON], Exchange]) -> _Line:
    """Return a parsed line, with an exchange if it carries an answer."""
    if not raw.strip():
        return _Line({})
    try:
        data: object = json.loads(raw)
    except ValueError:
        data = None
    result = data.get("result") if is_object(data) else None
    kind = result.get("type") if is_object(result) else None
    if is_object(data) and kind in ("errored", "canceled", "expired"):
        return _Line(data, raw=raw + b"\n")  # no answer, no content
    line = _Line(data if is_object(data) else {})
    body = questions.get(str(line.data.get("custom_id")), {})
    exchange = line.exchange = make(body)
    exchange.in_batch, exchange.upstream = True, "completed"
    line.history = RequestHistory.of(body, exchange.digests, redact=False)
    if kind != "succeeded" or "content" not in _message(line):
        exchange.output.note([Uninspected("response", "unknown_block")])
    return line


def _message(line: _Line) -> JSON:
    """Return the answer in a line, or {} if none can be read."""
    result = line.data.get("result")
    message = result.get("message") if is_object(result) else None
    return message if is_object(message) and is_array(message.get("content")) else {}


def _question(line: _Line, ticket: str) -> StartJudging | None:
    if line.exchange is None or line.history is None:
        return None
    question = tuple(map(as_context, line.history.read()[0].parts))
    return about_answer(line.exchange, question, _message(line), ticket)


def _concluded(line: _Line) -> Flow[bytes]:
    """Return the bytes that the caller receives for a line."""
    if line.exchange is None or line.history is None:
        return line.raw
    decided = line.exchange.decide("output")
    message = yield from conclude(line.exchange, line.history, decided, _message(line))
    return _encoded({**line.data, "result": {"type": "succeeded", "message": message}})


def _encoded(line: JSON) -> bytes:
    return json.dumps(line).encode() + b"\n"
