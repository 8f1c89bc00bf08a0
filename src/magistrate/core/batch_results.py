"""Moderate the results of a message batch: judge every answer as its line streams. Pure."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from magistrate.core.batches import WIDTH
from magistrate.core.effects import (
    Flow,
    Forward,
    Next,
    Open,
    PropagateError,
    RecallBatch,
    RejectAnswer,
    Relay,
    StartJudging,
    Write,
    end,
    perform,
)
from magistrate.core.events import Chunk, End, Failed, Head, JudgeResult
from magistrate.core.exchange import Exchange
from magistrate.core.history import RequestHistory
from magistrate.core.outcomes import conclude, settle
from magistrate.core.questions import about_answer
from magistrate.wire.lines import LineDecoder
from magistrate.wire.messages import JSON, is_array, is_object, parsed
from magistrate.wire.parts import Uninspected, as_context
from magistrate.wire.shapes import ERROR, ID, WORD, Shape, left_over

# Results without an answer. Their error is the provider's own.
_NO_ANSWER = frozenset({"errored", "canceled", "expired"})
_LINE: Mapping[str, Shape] = {
    "custom_id": re.compile("[A-Za-z0-9_-]{1,64}"),  # as the API demands of the caller
    "result": {"type": WORD, "error": {"type": WORD, "error": ERROR, "request_id": ID}},
}
# A line of this many bytes without an end is given up.
MAX_LINE = 64 * 1024 * 1024


@dataclass(slots=True)
class _Line:
    """One line of the results. `unread`: what it carries besides its answer."""

    data: JSON
    exchange: Exchange | None = None
    history: RequestHistory | None = None
    unread: list[JSON] = field(default_factory=list[JSON])
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
    decoder = LineDecoder()
    backlog: deque[bytes] = deque()
    missing = set(questions)
    lines: deque[_Line] = deque()
    waiting: dict[str, _Line] = {}
    asked = 0
    ended: End | Failed | RejectAnswer | None = None
    while True:
        while backlog and len(lines) < WIDTH:
            data = _entry(backlog.popleft())
            if isinstance(data, RejectAnswer):
                backlog.clear()
                ended = data
                break
            missing.discard(data["custom_id"])
            line = _opened(data, questions, make)
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
            case Chunk(more):
                backlog.extend(decoder.feed(more))
                if decoder.size > MAX_LINE:
                    ended = RejectAnswer(is_json=False, detail="a line of the results has no end")
            case End() | Failed():
                ended = event
                if isinstance(event, End):  # else the last line is torn, as the error says
                    backlog.extend(decoder.flush())
            case Head():
                pass
    if isinstance(ended, Failed):
        yield from end(PropagateError(ended.error))
    if isinstance(ended, RejectAnswer):
        yield from end(ended)
    if missing:
        detail = f"{len(missing)} of the batch's {len(questions)} entries are missing"
        yield from end(RejectAnswer(is_json=True, detail=detail))
    for custom_id, message in omitted.items():
        result = {"type": "succeeded", "message": message}
        yield from perform(Write(_encoded({"custom_id": custom_id, "result": result})))


def _entry(raw: bytes) -> JSON | RejectAnswer:
    """Return the entry in a line. A line that is none means that the file is damaged or no file.

    Then the entries after it cannot be trusted to be all: an error says so, as for any upstream.
    """
    try:
        data = parsed(raw)
    except ValueError:
        return RejectAnswer(is_json=False, detail="a line of the results is not JSON")
    result = data.get("result") if is_object(data) else None
    named = is_object(data) and isinstance(data.get("custom_id"), str)
    kind = result.get("type") if is_object(result) else None
    whole = kind != "succeeded" or (is_object(result) and _has_content(result.get("message")))
    if is_object(data) and named and isinstance(kind, str) and whole:
        return data
    return RejectAnswer(is_json=True, detail="a line of the results is no entry of a batch")


def _has_content(message: object) -> bool:
    return is_object(message) and is_array(message.get("content"))


def _opened(data: JSON, questions: dict[str, JSON], make: Callable[[JSON], Exchange]) -> _Line:
    """Return a line, with an exchange if there is something to judge in it."""
    kind = data["result"]["type"]
    unread = left_over(_besides_answer(data), _LINE)
    if kind in _NO_ANSWER and not unread:
        return _Line(data)  # no answer, no content
    body = questions.get(data["custom_id"], {})
    exchange = make(body)
    exchange.in_batch, exchange.upstream = True, "completed"
    if kind != "succeeded" and kind not in _NO_ANSWER:
        exchange.output.note([Uninspected("result", "unknown_block")])
    history = RequestHistory.of(body, exchange.digests, redact=False)
    return _Line(data, exchange, history, [unread] if unread else [])


def _besides_answer(data: JSON) -> JSON:
    """Return a line without the message in it, which has a reader of its own."""
    result: JSON = data["result"]
    if result["type"] == "succeeded":
        return {**data, "result": {k: v for k, v in result.items() if k != "message"}}
    return data


def _message(line: _Line) -> JSON:
    """Return the answer in a line; {} if it has none."""
    result: JSON = line.data["result"]
    return result["message"] if result["type"] == "succeeded" else {}


def _question(line: _Line, ticket: str) -> StartJudging | None:
    if line.exchange is None or line.history is None:
        return None
    question = tuple(map(as_context, line.history.read()[0].parts))
    return about_answer(line.exchange, question, _message(line), ticket, unread=line.unread)


def _concluded(line: _Line) -> Flow[bytes]:
    """Return the bytes that the caller receives for a line."""
    if line.exchange is None or line.history is None:
        return _encoded(line.data)
    decided = line.exchange.decide("output")
    answer = _message(line)
    if not answer and decided.action in ("allow", "warn"):
        yield from settle(line.exchange)
        return _encoded(line.data)
    message = yield from conclude(line.exchange, line.history, decided, answer)
    result = {**line.data["result"], "type": "succeeded", "message": message}
    if decided.action in ("allow", "warn"):
        return _encoded({**line.data, "result": result})
    ours = {"type": "succeeded", "message": message}  # nothing of what was stopped goes with it
    return _encoded({"custom_id": line.data["custom_id"], "result": ours})


def _encoded(line: JSON) -> bytes:
    return json.dumps(line).encode() + b"\n"
