"""Moderate message batches: judge every entry before the batch is sent.

Pure generators of effects, like `flow`. A batch's entries can act before their answers are read,
so all are judged first. `batch_results` judges the answers. The results may be read by another
process than the one that made the batch; an answer whose question is unknown is judged by itself.
"""

from __future__ import annotations

import json
from collections import deque
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
    Recall,
    Relay,
    Remember,
    end,
    perform,
)
from magistrate.core.events import Chunk, End, Failed, Head, JudgeResult
from magistrate.core.exchange import Exchange
from magistrate.core.history import RequestHistory
from magistrate.core.outcomes import keys_when_allowed, keys_when_blocked, settle
from magistrate.core.questions import ask
from magistrate.settings import Settings
from magistrate.wire.messages import JSON, is_array, is_object
from magistrate.wire.parts import Uninspected

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


def unread_fields(body: JSON, index: int) -> list[Uninspected]:
    """Return what an entry, or the batch around it, carries besides its id and its parameters."""
    found = [Uninspected(name, "unknown_block") for name in sorted(body.keys() - {"requests"})]
    requests = body.get("requests")
    item: object = requests[index] if is_array(requests) else None
    if is_object(item):
        names = sorted(item.keys() - {"custom_id", "params"})
        found += [Uninspected(f"requests[{index}].{name}", "unknown_block") for name in names]
    return found


# --- making a batch -------------------------------------------------------------------------------


def moderate_batch(body: JSON, entries: list[Entry], settings: Settings) -> Flow[None]:
    """Judge every entry, then send the batch: all of it, without blocked entries, or not at all."""
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


def _whole_answer() -> Flow[JSON | Head | Failed]:
    """Return the batch object that was made; without one, the response's head or the failure."""
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
    message = refusals.refusal(
        exchange.id,
        exchange.model,
        exchange.settings.texts.block,
        structured=exchange.structured,
    )
    return {**message, "moderation": decision.public}
