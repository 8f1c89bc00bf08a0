"""Decide about a request or an answer that already exists: no model is asked to complete it.

Pure. `magistrate check` and the eval suites decide here, with the code of `decide` and `exchange`,
so that they report what an application would have received.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from magistrate.core.decision_record import Decision
from magistrate.core.exchange import Exchange
from magistrate.core.history import RequestHistory
from magistrate.settings import Settings
from magistrate.verdicts import JudgeInfo, Outcome, Stage
from magistrate.wire.content import read_answer
from magistrate.wire.digests import Digests
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Subject, Uninspected, as_context


@dataclass(frozen=True, slots=True)
class OfflineDecision:
    """One question to a judge, and how its answer is decided.

    `subject` is None if there is nothing to judge: no text, or only what no judge can read.
    """

    settings: Settings
    stage: Stage
    body: JSON
    answer: JSON
    subject: Subject | None
    uninspected: tuple[Uninspected, ...]

    @classmethod
    def of(
        cls,
        settings: Settings,
        stage: Stage,
        body: JSON,
        answer: JSON,
        declined: Collection[int] = (),
    ) -> OfflineDecision:
        """Read a Messages API request and, for stage `output`, the message that answered it.

        `declined`: the numbers of turns that count as blocked before.
        """
        history = RequestHistory.of(body, _digests(), redact=True)
        known = {history.turn_keys[number].blocked: "dec_earlier" for number in declined}
        asked, unread = replace(history, known=known).read()
        if stage == "output":
            found = read_answer(answer)
            unread = found.uninspected
            asked = Subject("output", (*map(as_context, asked.parts), *found.parts))
        judged = any(part.judged for part in asked.parts)
        return cls(settings, stage, body, answer, asked if judged else None, unread)

    def decide(self, outcomes: Iterable[Outcome], judge: JudgeInfo) -> Decision:
        """Return the decision for these outcomes. `judge` names who would have been asked."""
        exchange = Exchange(
            id=f"dec_{secrets.token_urlsafe(12)}",
            body=self.body,
            settings=self.settings,
            digests=_digests(),
            judge=judge,
            stream=False,
        )
        state = exchange.input if self.stage == "input" else exchange.output
        state.outcomes += outcomes
        state.note(self.uninspected)
        exchange.decide(self.stage)
        history = RequestHistory.of(self.body, exchange.digests, redact=True)
        if self.stage == "output" and exchange.stage_decision.action != "unavailable":
            allowed = exchange.stage_decision.action in ("allow", "warn")
            due = exchange.disclosure_due(history, self.answer if allowed else None)
            if due is not None:
                exchange.disclosed = "owed" if exchange.structured else "added"
        return exchange.decision()


def _digests() -> Digests:
    """Return digests under a random key: nothing is stored between decisions, so any key works."""
    return Digests(secrets.token_bytes(32), "trial")
