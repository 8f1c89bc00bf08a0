"""Moderate message batches: judge every entry before the batch is sent.

Pure generators of effects, like `flow`. A batch's entries can act before their answers are read,
so all are judged first. `batch_results` judges the answers. The results may be read by another
process than the one that made the batch; an answer whose question is unknown is judged by itself.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from magistrate.core import refusals
from magistrate.core.decide import StageDecision
from magistrate.core.decision_record import Decision
from magistrate.core.effects import (
    Answer,
    Flow,
    Forward,
    KeepBatch,
    Next,
    PropagateError,
    RaiseDecision,
    RejectAnswer,
    Relay,
    Remember,
    end,
    perform,
)
from magistrate.core.events import Chunk, End, Failed, Head, JudgeResult
from magistrate.core.exchange import Exchange
from magistrate.core.history import RequestHistory
from magistrate.core.outcomes import (
    keys_when_allowed,
    keys_when_blocked,
    note_continuation,
    settle,
)
from magistrate.core.questions import ask, recall_history
from magistrate.settings import Settings
from magistrate.wire.messages import JSON, is_array, is_object, parsed
from magistrate.wire.parts import Extracted, Uninspected
from magistrate.wire.shapes import Shape
from magistrate.wire.unknown_fields import residue

# The API demands this of the caller's own names for entries.
_ENTRY: Mapping[str, Shape] = {"custom_id": re.compile("[A-Za-z0-9_-]{1,64}")}
# How many entries, or lines, are judged at the same time.
WIDTH = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One request of a batch."""

    custom_id: str
    exchange: Exchange


def entries_of(body: JSON) -> list[tuple[str, JSON]]:
    """Return a batch's requests by `custom_id`, in order; an entry of unknown shape becomes {}."""
    found = body.get("requests")
    if not is_array(found):  # whatever it is, it is sent: one entry that cannot be read
        return [("", {})]
    entries: list[tuple[str, JSON]] = []
    for item in found:
        params = item.get("params") if is_object(item) else None
        name = str(item.get("custom_id")) if is_object(item) else ""
        entries.append((name, params if is_object(params) else {}))
    return entries


def _besides_params(body: JSON, index: int) -> Extracted:
    """Return what an entry, and the batch around it, carries besides the entry's parameters."""
    around = {name: item for name, item in body.items() if name != "requests"}
    requests = body.get("requests")
    item: object = requests[index] if is_array(requests) else None
    found = [*residue(around, {}, "", "app", "definition")]
    if is_object(item):
        own = {name: each for name, each in item.items() if name != "params"}
        found += residue(own, _ENTRY, f"requests[{index}]", "app", "definition")
    return Extracted.of(found)


# --- making a batch -------------------------------------------------------------------------------


def moderate_batch(body: JSON, entries: list[Entry], settings: Settings) -> Flow[None]:
    """Judge every entry, then send the batch: all of it, without blocked entries, or not at all."""
    histories, stage_decisions = yield from _judge_entries(body, entries)
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
    if isinstance(answer, Head | Failed | RejectAnswer):
        for entry in kept:
            yield from settle(entry.exchange)
        if isinstance(answer, Failed):
            yield from end(PropagateError(answer.error))
        if isinstance(answer, RejectAnswer):
            yield from end(answer)
        yield from perform(Relay())
        return
    for entry in kept:
        entry.exchange.upstream = "completed"
        yield from settle(entry.exchange)
    omitted = {
        entry.custom_id: _refusal(entry.exchange, decisions[entry.custom_id]) for entry in stopped
    }
    questions = {entry.custom_id: entry.exchange.body for entry in kept}
    yield from perform(KeepBatch(answer["id"], questions, omitted))
    public: JSON = {"omitted": {name: decision.id for name, decision in decisions.items()}}
    yield from perform(Answer({**answer, "moderation": public}, public, ours=False))


def _judge_entries(
    body: JSON, entries: list[Entry]
) -> Flow[tuple[dict[int, RequestHistory], dict[int, StageDecision]]]:
    histories: dict[int, RequestHistory] = {}
    stage_decisions: dict[int, StageDecision] = {}
    queue, out = deque(enumerate(entries)), dict[str, Entry]()
    while queue or out:
        while queue and len(out) < WIDTH:
            index, entry = queue.popleft()
            exchange = entry.exchange
            history = yield from recall_history(exchange)
            histories[id(entry)] = history
            subject, unread = history.read()
            besides = _besides_params(body, index)
            subject = replace(subject, parts=(*besides.parts, *subject.parts))
            if not exchange.body:
                unread = (Uninspected("params", "unknown_block"),)
            exchange.input.note((*besides.uninspected, *unread))
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
                note_continuation(exchange, history)
                decided = stage_decisions[id(entry)] = exchange.decide("input", can_act=True)
                if not decided.stops and exchange.input.judged_in_full:
                    yield from perform(
                        Remember(keys_when_allowed(exchange, history, decided), exchange.id)
                    )
                else:
                    yield from perform(
                        Remember(keys_when_blocked(exchange, history, decided), exchange.id)
                    )
    return histories, stage_decisions


def _sent(
    body: JSON, entries: list[Entry], kept: list[Entry], histories: dict[int, RequestHistory]
) -> JSON | None:
    """Return the batch to send upstream, or None to send the caller's unchanged."""
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


def _whole_answer() -> Flow[JSON | Head | Failed | RejectAnswer]:
    """Return the batch object that was made; without one, the response's head or the failure."""
    data = bytearray()
    while True:
        event = yield from perform(Next(read=True))
        match event:
            case Head(ok=False) | Failed():
                return event
            case Head():
                pass
            case Chunk(more):
                data += more
            case End():
                break
            case JudgeResult():
                pass
    return _batch_object(bytes(data))


def _batch_object(data: bytes) -> JSON | RejectAnswer:
    try:
        found = parsed(data)
    except ValueError:
        return RejectAnswer(is_json=False, detail="its body is not JSON")
    if is_object(found) and isinstance(found.get("id"), str):
        return found
    return RejectAnswer(is_json=True, detail="its body is not a batch")


def _refusal(exchange: Exchange, decision: Decision) -> JSON:
    message = refusals.refusal(
        exchange.id,
        exchange.model,
        exchange.settings.texts.block,
        structured=exchange.structured,
    )
    return {**message, "moderation": decision.public}
