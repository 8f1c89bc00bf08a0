"""Moderate a request or an answer by itself: no answer is asked for, and none is delivered.

Pure generators of effects, like `flow`, with the same keys and records: an earlier turn is context,
each turn is judged once, and a turn that was blocked does not block what follows it. For callers
who only ask whether something may pass.
"""

from __future__ import annotations

from magistrate.core.decide import decide, is_outage
from magistrate.core.decision_record import Decision
from magistrate.core.effects import Flow, perform
from magistrate.core.exchange import Exchange
from magistrate.core.history import RequestHistory
from magistrate.core.outcomes import (
    hold,
    keys_when_blocked,
    note_continuation,
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
from magistrate.verdicts import Outcome, Stage, Verdict
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Extracted, Subject


def moderate_input(exchange: Exchange, around: Extracted) -> Flow[Decision]:
    """Judge a request's new turns and return the decision.

    `around`: what else came with the request. It is judged too, and is no part of its history.
    What the request can do before it is answered is not known, so it never fails open here.
    """
    history = yield from recall_history(exchange)
    subject, unread = history.read()
    subject = Subject("input", (*around.parts, *subject.parts))
    exchange.input.note((*around.uninspected, *unread))
    if any(part.judged for part in subject.parts):
        yield from perform(ask(exchange, "input", subject, "input"))
        exchange.input.outcomes.append(as_provoked((yield from await_outcome()), subject))
    decided = exchange.decide("input", can_act=True)
    note_continuation(exchange, history)
    if decided.stops:
        yield from remember(exchange, keys_when_blocked(exchange, history, decided))
    else:
        # It was judged in full: a judge that was not available stops it. Also with a warning: the
        # answer is not seen here, so nothing else makes the turn context.
        yield from remember(exchange, history.allowed_keys())
    _note_disclosure(exchange, history)
    return (yield from settle(exchange))


def moderate_answer(exchange: Exchange, message: JSON, around: Extracted) -> Flow[Decision]:
    """Judge a message of the model without its question and return the decision.

    An answer that a person must release is put into the review queue.
    """
    exchange.output.note(around.uninspected)
    asking = about_answer(exchange, around.parts, message, "output")
    if asking is not None:
        yield from perform(asking)
        outcome = as_provoked((yield from await_outcome()), asking.subject)
        exchange.output.outcomes.append(outcome)
    decided = exchange.decide("output")
    if decided.action == "hold":
        yield from hold(exchange, decided, message)
    return (yield from settle(exchange))


def _note_disclosure(exchange: Exchange, history: RequestHistory) -> None:
    """Note a disclosure that the answer owes: nobody can add it here."""
    if exchange.stage_decision.stops or exchange.disclosure_due(history, None) is None:
        return
    exchange.disclosed = "owed"


def only_outage(exchange: Exchange, stage: Stage) -> bool:
    """Return whether nothing but outages keeps a stage from passing, by what is known so far.

    Something does if the content can be the cause of a failure, if a floor was suspected, or if
    what was found would not pass anyway.
    """
    state = exchange.input if stage == "input" else exchange.output
    known: list[Outcome] = [
        Verdict(outcome.judge, outcome.findings) if is_outage(outcome) else outcome
        for outcome in state.outcomes
    ]
    decided = decide(exchange.settings, stage, known, state.uninspected, can_act=True)
    return decided.action in ("allow", "warn")
