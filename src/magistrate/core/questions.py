"""What the flow asks a judge about an exchange, and which outcomes would end it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from magistrate.core.decide import is_blocking
from magistrate.core.effects import StartJudging
from magistrate.core.exchange import Exchange
from magistrate.verdicts import Outcome, Stage
from magistrate.wire.content import Pieces, Windows, read_answer
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Part, Subject


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
