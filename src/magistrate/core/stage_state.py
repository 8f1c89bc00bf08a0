"""One stage of an exchange so far: what its judges said, and what none could read. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from magistrate.core.decide import StageDecision, decide, strictest
from magistrate.settings import Settings
from magistrate.verdicts import Finding, Outcome, Stage, Unavailable, Verdict
from magistrate.wire.parts import Uninspected


@dataclass(slots=True)
class StageState:
    """One stage: the judge's outcomes, and what could not be inspected."""

    asked: int = 0
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    _unread: dict[Uninspected, None] = field(default_factory=dict[Uninspected, None])
    _decided: StageDecision | None = None
    _decided_of: tuple[int, int] = (0, 0)  # how many outcomes and unread items it covers

    @property
    def uninspected(self) -> tuple[Uninspected, ...]:
        """Return what could not be inspected, without duplicates."""
        return tuple(self._unread)

    def note(self, unread: Iterable[Uninspected]) -> None:
        """Add what could not be inspected."""
        self._unread.update(dict.fromkeys(unread))

    def decide(self, settings: Settings, stage: Stage, *, can_act: bool) -> StageDecision:
        """Decide the stage: combine the previous decision with what is new since then.

        A long stream has hundreds of verdicts and is decided after each of them.
        """
        outcomes, unread = self._decided_of
        found = decide(
            settings,
            stage,
            self.outcomes[outcomes:],
            islice(self._unread, unread, None),
            can_act=can_act,
        )
        if self._decided is not None:
            found = strictest(stage, [self._decided, found])
        self._decided, self._decided_of = found, (len(self.outcomes), len(self._unread))
        return found

    def findings(self) -> tuple[Finding, ...]:
        """Return every finding, without duplicates."""
        return tuple(dict.fromkeys(found for each in self.outcomes for found in each.findings))

    @property
    def waiting(self) -> bool:
        """Return whether a judge was asked and has not answered."""
        return len(self.outcomes) < self.asked

    @property
    def continues_declined(self) -> bool:
        """Return whether a judge said that the request asks again for what was declined before."""
        return any(isinstance(o, Verdict) and o.continues_declined for o in self.outcomes)

    @property
    def judged_in_full(self) -> bool:
        """Return whether no judge was unavailable."""
        return not any(isinstance(outcome, Unavailable) for outcome in self.outcomes)
