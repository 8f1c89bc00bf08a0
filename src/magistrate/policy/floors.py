"""Floors: the clauses that no policy may omit or weaken, and how a policy weakens them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from magistrate.config.diagnostics import listed
from magistrate.policy.loader import builtin_policy
from magistrate.policy.model import Policy
from magistrate.policy.schema import Clause, PolicyException
from magistrate.verdicts import SEVERITIES, Severity, at_least


@cache
def required_floors() -> Mapping[str, Severity]:
    """Return the clauses that no policy may omit (the built-in policy's), with their floors."""
    return {id: clause.floor for id, clause in builtin_policy().clauses.items() if clause.floor}


def loosened_floors(policy: Policy) -> dict[str, str]:
    """Return the clauses with a required floor that `policy` weakens, and how it does."""
    weak: dict[str, str] = {}
    for id, floor in required_floors().items():
        own, built_in = policy.clauses.get(id), builtin_policy().clauses[id]
        if own is None:
            weak[id] = "is missing"
        elif own.floor is None or not at_least(floor, own.floor, SEVERITIES):
            weak[id] = f"has the floor {own.floor or 'none'} instead of {floor}"
        elif own.evidence != "conversation":
            weak[id] = f"has evidence: {own.evidence}, and would never be blocked"
        elif missing := set(built_in.stages) - set(own.stages):
            weak[id] = f"is not judged at the stage {listed(sorted(missing))}"
        elif changed := _rewritten(own, built_in):
            weak[id] = f"has a different {changed}"
        elif excused := [
            exception.id
            for exception in _exceptions_to(policy, id)
            if exception not in _exceptions_to(builtin_policy(), id)
        ]:
            weak[id] = f"has the exception {listed(excused)}"
    return weak


def _rewritten(own: Clause, built_in: Clause) -> str | None:
    """Return which part of a clause's text may weaken it; None if no part does.

    `counts` may only be longer, and `does_not_count` only shorter. Code cannot tell whether other
    words mean the same, so every other change counts as weaker.
    """
    if own.rule != built_in.rule:
        return "rule"
    if not set(built_in.counts) <= set(own.counts):
        return "list of what counts"
    if not set(own.does_not_count) <= set(built_in.does_not_count):
        return "list of what does not count"
    return "text of a severity" if own.severity != built_in.severity else None


def _exceptions_to(policy: Policy, clause_id: str) -> list[PolicyException]:
    return [
        exception
        for section in policy.sections
        for exception in section.exceptions
        if clause_id in exception.applies_to
    ]
