"""Floors: the clauses that no policy may omit or weaken, and how a policy weakens them.

Their text is the built-in policy's. A judge reads it apart from what a team wrote (`floor_policy`,
`without_floors`): words around a clause could talk it away as well as words in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from magistrate.config.diagnostics import listed
from magistrate.policy.loader import builtin_policy, builtin_refs
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


# What a judge reads of a clause. Code cannot tell whether other words mean the same.
_TEXTS = {
    "title": "title",
    "rule": "rule",
    "counts": "list of what counts",
    "does_not_count": "list of what does not count",
    "severity": "text of a severity",
    "examples": "list of examples",
}


def _rewritten(own: Clause, built_in: Clause) -> str | None:
    """Return which part of a clause's text differs; None if no part does.

    An addition differs too: what is to count besides is a clause of the team's own.
    """
    return next(
        (said for name, said in _TEXTS.items() if getattr(own, name) != getattr(built_in, name)),
        None,
    )


def is_own(policy: Policy) -> bool:
    """Return whether a team wrote anything in a policy, so that floors must be judged apart."""
    return policy.ref not in builtin_refs() or policy.hash != builtin_policy(policy.ref).hash


@cache
def floor_policy() -> Policy:
    """Return the built-in policy with nothing but its clauses that have a floor."""
    return _only(builtin_policy(), keep=True)


def without_floors(policy: Policy) -> Policy:
    """Return a policy without the clauses that `floor_policy` has."""
    return _only(policy, keep=False)


def _only(policy: Policy, *, keep: bool) -> Policy:
    def chosen(clauses: tuple[Clause, ...]) -> tuple[Clause, ...]:
        return tuple(clause for clause in clauses if (clause.id in required_floors()) is keep)

    parts: dict[str, object] = {name: getattr(policy, name) for name in Policy.model_fields}
    parts["sections"] = tuple(
        section.model_copy(update={"clauses": clauses})
        for section in policy.sections
        if (clauses := chosen(section.clauses))
    )
    parts["integrity"] = chosen(policy.integrity)
    if keep:
        parts["high_risk"] = ()
    # A policy without sections is no policy file, but may be what is left to judge.
    return Policy.model_construct(None, **parts)


def _exceptions_to(policy: Policy, clause_id: str) -> list[PolicyException]:
    return [
        exception
        for section in policy.sections
        for exception in section.exceptions
        if clause_id in exception.applies_to
    ]
