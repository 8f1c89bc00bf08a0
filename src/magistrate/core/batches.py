"""Message batches: every entry judged before the batch is sent, every result as its line streams.

Pure generators of effects, like `flow`. A batch's entries can act before anybody reads their
answers, so all are judged first. Results may be read by another process than the one that made the
batch: an answer whose question is not known is then judged by itself.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from magistrate.core import replacement
from magistrate.core.decide import StageDecision
from magistrate.core.decision import Decision
from magistrate.core.effects import (
    Answer,
    Chunk,
    End,
    Failed,
    Flow,
    Forward,
    Head,
    JudgeResult,
    KeepBatch,
    Next,
    Open,
    PropagateError,
    RaiseDecision,
    Recall,
    RecallBatch,
    Relay,
    Remember,
    StartJudging,
    Write,
    end,
    perform,
)
from magistrate.core.exchange import Exchange
from magistrate.core.history import RequestHistory
from magistrate.core.outcomes import conclude, keys_when_allowed, keys_when_blocked, settle
from magistrate.core.questions import about_answer, ask
from magistrate.settings import Settings
from magistrate.wire.messages import JSON, is_array, is_object
from magistrate.wire.parts import Uninspected, as_context

# How many entries, or lines, are out for judgment at a time.
WIDTH = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One request of a batch."""

    custom_id: str
    exchange: Exchange


def entries_of(body: JSON) -> list[tuple[str, JSON]]:
    """The requests of a batch by `custom_id`, in order; entries of no known shape are {}."""
    found = body.get("requests")
    entries: list[tuple[str, JSON]] = []
    for item in found if is_array(found) else []:
        params = item.get("params") if is_object(item) else None
        name = str(item.get("custom_id")) if is_object(item) else ""
        entries.append((name, params if is_object(params) else {}))
    return entries


# --- making a batch -------------------------------------------------------------------------------


def moderate_batch(body: JSON, entries: list[Entry], settings: Settings) -> Flow[None]:
    """Judge every entry, then send the batch: whole, without what is blocked, or not at all."""
    histories, stage_decisions = yield from _judge_entries(entries, settings)
    stopped = [entry for entry in entries if stage_decisions[id(entry)].stops]
    missing = next((e for e in stopped if stage_decisions[id(e)].action == "unavailable"), None)
    if missing is not None:
        for entry in entries:
            if entry is not missing:
                yield from settle(entry.exchange)
        yield from end(RaiseDecision("unavailable", (yield from settle(missing.exchange))))
    decisions: dict[str, Decision] = {}
    for entry in stopped:
        decisions[entry.custom_id] = yield from settle(entry.exchange)
    kept = [entry for entry in entries if entry not in stopped]
    if stopped and (settings.batches.on_block == "refuse" or not kept):
        for entry in kept:
            yield from settle(entry.exchange)
        first = next(iter(decisions.values()))
        yield from end(RaiseDecision("blocked", first, decisions))

    yield from perform(Forward(_sent(body, entries, kept, histories)))
    for entry in kept:
        entry.exchange.upstream = "cancelled"  # unless it gets further
    answer = yield from _whole_answer()
    if isinstance(answer, Head | Failed):
        for entry in kept:
            yield from settle(entry.exchange)
        if isinstance(answer, Failed):
            yield from end(PropagateError(answer.error))
        yield from perform(Relay())
        return
    for entry in kept:
        entry.exchange.upstream = "completed"
        yield from settle(entry.exchange)
    omitted = {
        entry.custom_id: _refusal(entry.exchange, decisions[entry.custom_id]) for entry in stopped
    }
    if isinstance(answer.get("id"), str):
        questions = {entry.custom_id: entry.exchange.body for entry in kept}
        yield from perform(KeepBatch(answer["id"], questions, omitted))
    public: JSON = {"omitted": {name: decision.id for name, decision in decisions.items()}}
    yield from perform(Answer({**answer, "moderation": public}, public, ours=False))


def _judge_entries(
    entries: list[Entry], settings: Settings
) -> Flow[tuple[dict[int, RequestHistory], dict[int, StageDecision]]]:
    histories: dict[int, RequestHistory] = {}
    stage_decisions: dict[int, StageDecision] = {}
    queue, out = deque(entries), dict[str, Entry]()
    while queue or out:
        while queue and len(out) < WIDTH:
            entry = queue.popleft()
            exchange = entry.exchange
            history = RequestHistory.of(
                exchange.body, exchange.digests, redact=settings.history == "redact"
            )
            history = replace(history, known=(yield from perform(Recall(history.keys()))))
            histories[id(entry)] = history
            subject, unread = history.read()
            if not exchange.body:
                unread = (Uninspected("params", "unknown_block"),)
            exchange.input.note(unread)
            if any(part.judged for part in subject.parts):
                ticket = f"entry-{len(histories)}"
                out[ticket] = entry
                yield from perform(ask(exchange, "input", subject, ticket))
            else:
                stage_decisions[id(entry)] = exchange.decide("input", can_act=True)
        if out:
            event = yield from perform(Next(read=False))
            if isinstance(event, JudgeResult):
                entry = out.pop(event.ticket)
                exchange, history = entry.exchange, histories[id(entry)]
                exchange.input.outcomes.append(event.outcome)
                decided = stage_decisions[id(entry)] = exchange.decide("input", can_act=True)
                if not decided.stops and exchange.input.judged_in_full:
                    yield from perform(Remember(keys_when_allowed(exchange, history, decided)))
                else:
                    yield from perform(Remember(keys_when_blocked(exchange, history, decided)))
    return histories, stage_decisions


def _sent(
    body: JSON, entries: list[Entry], kept: list[Entry], histories: dict[int, RequestHistory]
) -> JSON | None:
    """The batch that travels upstream, or None if it is the one that came."""
    changed = {id(entry): histories[id(entry)].forwarded() for entry in kept}
    if len(kept) == len(entries) and not any(changed.values()):
        return None
    requests: list[Any] = body["requests"]
    sent: list[Any] = []
    for request, entry in zip(requests, entries, strict=True):
        if id(entry) in changed:
            params = changed[id(entry)]
            sent.append(request if params is None else {**request, "params": params})
    return {**body, "requests": sent}


def _whole_answer() -> Flow[JSON | Head | Failed]:
    """The batch object that was made, or the head or failure there is instead of one."""
    head: Head | None = None
    data = bytearray()
    while True:
        event = yield from perform(Next(read=True))
        match event:
            case Head(ok=False) | Failed():
                return event
            case Head():
                head = event
            case Chunk(more):
                data += more
            case End():
                break
            case JudgeResult():
                pass
    try:
        found: object = json.loads(bytes(data))
    except ValueError:
        found = None
    return found if is_object(found) else (head or Head(ok=False, sse=False))


def _refusal(exchange: Exchange, decision: Decision) -> JSON:
    message = replacement.refusal(
        exchange.id,
        exchange.model,
        exchange.settings.texts.block,
        structured=exchange.structured,
    )
    return {**message, "moderation": decision.public}


# --- reading results ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    """One line on its way. `raw`: it carries no answer and goes as it is."""

    data: JSON
    exchange: Exchange | None = None
    history: RequestHistory | None = None
    raw: bytes = b""
    waits: bool = False


def moderate_results(batch_id: str, make: Callable[[JSON], Exchange]) -> Flow[None]:
    """Judge the results of a batch line by line, a few at a time, in the order they come.

    `make` opens an exchange for a question; {} stands for one this process does not know. Entries
    that were left out of the batch are answered with their refusal at the end.
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
        # Only the first line is ever concluded, so what stands before a failure still arrives.
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
    """A line, with an exchange if it carries an answer."""
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
    """The answer in a line; {} for none that could be read."""
    result = line.data.get("result")
    message = result.get("message") if is_object(result) else None
    return message if is_object(message) and is_array(message.get("content")) else {}


def _question(line: _Line, ticket: str) -> StartJudging | None:
    if line.exchange is None or line.history is None:
        return None
    question = tuple(map(as_context, line.history.read()[0].parts))
    return about_answer(line.exchange, question, _message(line), ticket)


def _concluded(line: _Line) -> Flow[bytes]:
    """What the caller gets of a line."""
    if line.exchange is None or line.history is None:
        return line.raw
    decided = line.exchange.decide("output")
    message = yield from conclude(line.exchange, line.history, decided, _message(line))
    return _encoded({**line.data, "result": {"type": "succeeded", "message": message}})


def _encoded(line: JSON) -> bytes:
    return json.dumps(line).encode() + b"\n"
