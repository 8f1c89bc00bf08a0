"""What the flow asks a judge about an exchange, and which outcomes would end it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from magistrate.core.decide import is_blocking
from magistrate.core.effects import Flow, Next, Recall, StartJudging, perform
from magistrate.core.events import JudgeResult
from magistrate.core.exchange import Exchange
from magistrate.core.history import RequestHistory
from magistrate.core.subject_size import total_size
from magistrate.verdicts import Outcome, Stage, Unavailable
from magistrate.wire.content import Pieces, Windows, read_answer
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Part, Subject

# This many tokens are searched for disguised text in well under a second or two, whatever they say.
READ_AT_ONCE = 50_000


def recall_history(exchange: Exchange) -> Flow[RequestHistory]:
    """Return the exchange's request with what is stored about its turns."""
    redact = exchange.settings.history == "redact"
    history = RequestHistory.of(exchange.body, exchange.digests, redact=redact)
    return replace(history, known=(yield from perform(Recall(history.keys()))))


def ask(exchange: Exchange, stage: Stage, subject: Subject, ticket: str) -> StartJudging:
    """Return the effect that asks about a subject, and count it.

    It tells the edge which outcomes alone end the upstream call. In a batch none does, since other
    entries wait for the same call.
    """

    def fatal(outcome: Outcome) -> bool:
        return not exchange.in_batch and is_blocking(exchange.settings, stage, outcome)

    state = exchange.input if stage == "input" else exchange.output
    state.asked += 1
    return StartJudging(ticket, subject, fatal)


def about_answer(
    exchange: Exchange,
    question: tuple[Part, ...],
    message: JSON,
    ticket: str,
    *,
    judged: Windows | None = None,
    pieces: Pieces | None = None,
    unread: Sequence[object] = (),
    final: bool = True,
) -> StartJudging | None:
    """Return the effect that asks about an answer, or its new part, together with its question.

    Notes what cannot be read. None if there is nothing new to judge.
    """
    found = read_answer(message, judged, pieces, unread)
    exchange.output.note(found.uninspected)
    if not any(part.judged for part in found.parts):
        return None
    return ask(exchange, "output", Subject("output", (*question, *found.parts), final), ticket)


def await_outcome() -> Flow[Outcome]:
    """Wait for the answer to the only question that was asked."""
    while True:
        event = yield from perform(Next(read=False))
        if isinstance(event, JudgeResult):
            return event.outcome


def as_provoked(outcome: Outcome, subject: Subject) -> Outcome:
    """Return a timeout over a very long text as `too_long`; return other outcomes unchanged.

    Reading such a text may have taken the time. Its author can cause this, so it must not fail
    open as an outage does.
    """
    late = isinstance(outcome, Unavailable) and outcome.reason == "timeout"
    size = total_size(part for part in subject.parts if part.judged) if late else 0
    if not late or size <= READ_AT_ONCE:
        return outcome
    return replace(outcome, reason="too_long", detail=f"{size:,} tokens took too long to judge")
