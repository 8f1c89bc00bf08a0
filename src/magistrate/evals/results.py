"""One judgment of one case, and the JSON it is recorded as. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from magistrate.core.decision_record import Decision
from magistrate.evals.cases import Case
from magistrate.verdicts import (
    DECISION_ACTIONS,
    GRADES,
    Failure,
    Grade,
    Outcome,
    Unavailable,
    Usage,
    Verdict,
)
from magistrate.wire.messages import JSON

OutcomeName = Literal["verdict"] | Failure


class BadNumber(ValueError):
    """A number that cannot be: NaN, infinite, below zero, or none at all."""


@dataclass(frozen=True, slots=True)
class Result:
    """One judgment of one case, and the decision it led to.

    `repeat` counts from 0. `decision` is the whole decision record as JSON, quotes included; its id
    is `case#repeat`. `latency_ms` is the time the judge took, waiting for rate limits not included;
    None where it was not measured, as in batches.
    """

    case: str
    repeat: int
    outcome: Outcome
    decision: JSON
    latency_ms: float | None

    @property
    def key(self) -> tuple[str, int]:
        return self.case, self.repeat

    @property
    def verdict(self) -> Verdict | None:
        """The judge's verdict; None where it could not answer."""
        return self.outcome if isinstance(self.outcome, Verdict) else None

    @property
    def ended(self) -> OutcomeName:
        """How the judgment ended: with a verdict, or the reason why there is none."""
        return "verdict" if isinstance(self.outcome, Verdict) else self.outcome.reason

    @property
    def action(self) -> str:
        return str(self.decision["action"])

    def grade(self, clauses: Iterable[str]) -> Grade | None:
        """Return the highest grade among findings of these clauses; None without a verdict."""
        if self.verdict is None:
            return None
        wanted = frozenset(clauses)
        found = {f.grade for f in self.verdict.findings if f.clause in wanted}
        for grade in reversed(GRADES):
            if grade in found:
                return grade
        return "none"

    def as_json(self) -> JSON:
        """Return the line of `results.jsonl`; `of_json` reads it back."""
        outcome = self.outcome
        said: JSON = {
            "judge": {
                "name": outcome.judge.name,
                "model": outcome.judge.model,
                "prompt_hash": outcome.judge.prompt_hash,
            },
            "usage": _fields(outcome.usage),
            "findings": [_fields(found) for found in outcome.findings],
        }
        if isinstance(outcome, Verdict):
            said |= {
                "high_risk": [_fields(answer) for answer in outcome.high_risk],
                "discloses_ai": outcome.discloses_ai,
                "dropped_quotes": outcome.dropped_quotes,
                "refusals": list(outcome.refusals),
            }
            if outcome.continues_declined:
                said["continues_declined"] = True
        else:
            said |= {"reason": outcome.reason, "detail": outcome.detail, "floor": outcome.floor}
        return {
            "case": self.case,
            "repeat": self.repeat,
            "ended": self.ended,
            "outcome": said,
            "decision": self.decision,
            "latency_ms": self.latency_ms,
        }

    @classmethod
    def of_json(cls, data: JSON) -> Result:
        """Return a line's result; raise KeyError, TypeError or ValueError for another shape."""
        said, ended, decision = data["outcome"], data["ended"], data["decision"]
        outcome: Outcome
        if ended == "verdict":
            if lost := _WHOLE - set(said):
                raise KeyError(*lost)  # findings that are lost must not read as nothing found
            outcome = _VERDICT.validate_python(said)
        else:
            outcome = _UNAVAILABLE.validate_python(said)
            if outcome.reason != ended:
                raise ValueError("`ended` and `reason` differ")
        case, repeat, took = data["case"], data["repeat"], data["latency_ms"]
        if type(case) is not str or type(repeat) is not int or repeat < 0:
            raise TypeError("a case or a repeat of another type")
        took = _number("latency_ms", took)
        if decision["action"] not in DECISION_ACTIONS:
            raise ValueError("no such action")
        if decision["action"] == "unavailable" and ended == "verdict":
            raise ValueError("a verdict, and yet no judge was available")
        _USAGE.validate_python(decision["usage"])
        for usage in (said.get("usage", {}), decision["usage"]):  # as written, not as understood
            _number("cost_usd", usage.get("cost_usd"))
        if _unexplained(outcome, decision):
            decision = {**decision, "action": "unavailable"}
        # Versions that had no word for it wrote 0 where the time was not measured.
        return cls(case, repeat, outcome, decision, took or None)


def _number(name: str, value: Any) -> float | None:
    """Return an amount of milliseconds or dollars; raise `BadNumber` if it can be none."""
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise BadNumber(f"{name} is {value!r}")
    return value


def _unexplained(outcome: Outcome, decision: JSON) -> bool:
    """Return whether only a missing judge can explain this block.

    Runs of versions that did not know the action `unavailable` recorded one as `block`.
    """
    found = outcome.findings or decision.get("uninspected")
    return decision["action"] == "block" and isinstance(outcome, Unavailable) and not found


# These files may be written by hand, so they are validated.
_VERDICT, _UNAVAILABLE = TypeAdapter(Verdict), TypeAdapter(Unavailable)
_USAGE = TypeAdapter(Usage)
_WHOLE = frozenset({"findings", "high_risk", "discloses_ai", "dropped_quotes", "refusals"})


def result_of(
    case: Case, repeat: int, outcome: Outcome, decision: Decision, latency_ms: float | None
) -> Result:
    """Return a result. What depends on the moment or on chance is left out of its decision."""
    took = None if latency_ms is None else round(latency_ms, 3) or None
    record = decision.as_json(evidence=True) | {"id": f"{case.id}#{repeat}", "latency_ms": None}
    return Result(case.id, repeat, outcome, record, took)


def _fields(item: Any) -> JSON:
    return {name: getattr(item, name) for name in item.__dataclass_fields__}
