"""Constraints between the parts of a policy file: ids, references, facts of an app.

Each check takes a file whose single values are valid, and yields the violations and their places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from magistrate.config.diagnostics import ConstraintViolation, Where, listed, nearest
from magistrate.policy.app_profile import FACTS
from magistrate.policy.model import Policy, PolicyFile
from magistrate.policy.schema import INTEGRITY, Clause

# Words that cannot be a section's id: keys of the settings' `actions`, groups of a judge's task.
RESERVED = ("default", INTEGRITY, "answer")


def violations(policy: PolicyFile, included: Policy | None) -> Iterator[ConstraintViolation]:
    """Yield every constraint violation of a policy file."""
    if not policy.sections and included is None:
        yield ConstraintViolation(
            ("sections",), "a policy needs at least one section or an `include`"
        )
    taken = {section.id for section in included.sections} if included else set[str]()
    for s, section in enumerate(policy.sections):
        at: Where = ("sections", s)
        if section.id in taken:
            yield ConstraintViolation(
                (*at, "id"), f"the included policy already has a section '{section.id}'"
            )
        if section.id in RESERVED:
            yield ConstraintViolation(
                (*at, "id"), f"'{section.id}' is a reserved word; choose another id"
            )
        for c, clause in enumerate(section.clauses):
            yield from _check_clause(clause, section.id, (*at, "clauses", c))
            if clause.action is not None:
                message = "only integrity clauses can have an action here; set it in the settings"
                yield ConstraintViolation((*at, "clauses", c, "action"), message)
        own = [clause.id for clause in section.clauses]
        for e, exception in enumerate(section.exceptions):
            spot: Where = (*at, "exceptions", e)
            for i, id in enumerate(exception.applies_to):
                if id not in own:
                    message = f"found '{id}'; allowed: {listed(own)}{nearest(id, own)}"
                    yield ConstraintViolation((*spot, "applies_to", i), message)
            yield from _check_facts(exception.requires, (*spot, "requires"))
        yield from _unique(own, (*at, "clauses"))
        ids = own + [exception.id for exception in section.exceptions]
        if len(own) == len(set(own)):
            yield from _unique(ids[len(own) :], (*at, "exceptions"), own)
    for c, clause in enumerate(policy.integrity):
        yield from _check_clause(clause, INTEGRITY, (INTEGRITY, c))
        if clause.action == "hold":
            message = "found hold; allowed: allow, warn, block: only the settings can choose hold"
            yield ConstraintViolation((INTEGRITY, c, "action"), message)
    for u, use in enumerate(policy.high_risk):
        yield from _check_facts(use.applies_when, ("high_risk", u, "applies_when"))
    for r, rule in enumerate(policy.disclosure):
        yield from _check_facts(rule.when, ("disclosure", r, "when"))
    section_ids = [section.id for section in policy.sections]
    yield from _unique(section_ids, ("sections",))
    yield from _unique([clause.id for clause in policy.integrity], (INTEGRITY,))
    # Reviewers are qualified in sections or high-risk uses: an id must mean one of them.
    uses = [use.id for use in policy.high_risk]
    yield from _unique(uses, ("high_risk",), [*taken, *section_ids, *RESERVED])
    rules = [rule.id for rule in policy.disclosure]
    yield from _unique(rules, ("disclosure",), [*taken, *section_ids, *uses])
    known = {clause.id: clause for section in policy.sections for clause in section.clauses}
    known |= included.clauses if included else {}
    for category, id in policy.refusals.items():
        at = ("refusals", category)
        if id not in known:
            yield ConstraintViolation(
                at, f"'{id}' is not a clause of this policy{nearest(id, known)}"
            )
        elif known[id].evidence != "conversation":
            yield ConstraintViolation(
                at, f"'{id}' is never blocked, since text cannot prove it; choose another"
            )


def _check_clause(clause: Clause, group: str, at: Where) -> Iterator[ConstraintViolation]:
    if not clause.id.startswith(f"{group}."):
        slug = clause.id.partition(".")[2]
        message = f"found '{clause.id}'; the id of a clause of '{group}' must be {group}.{slug}"
        yield ConstraintViolation((*at, "id"), message)
    if clause.floor and clause.evidence != "conversation":
        message = "a clause that text cannot prove is never blocked, so it cannot have a floor"
        yield ConstraintViolation((*at, "floor"), message)
    if len(set(clause.stages)) != len(clause.stages):
        yield ConstraintViolation((*at, "stages"), "name each stage only once")


def _check_facts(facts: Mapping[str, tuple[Any, ...]], at: Where) -> Iterator[ConstraintViolation]:
    for name, values in facts.items():
        if name not in FACTS:
            message = f"unknown fact '{name}' of an app; allowed: {listed(FACTS)}"
            yield ConstraintViolation((*at, name), message + nearest(name, FACTS), on_key=True)
            continue
        allowed = FACTS[name]
        for i, value in enumerate(values):
            words = [str(word).lower() for word in allowed or ()]
            if allowed is None and not isinstance(value, str):
                yield ConstraintViolation(
                    (*at, name, i), f"found {str(value).lower()}; allowed: a word"
                )
            elif allowed is not None and value not in allowed:
                message = f"found {value}; allowed: {listed(words)}{nearest(value, words)}"
                yield ConstraintViolation((*at, name, i), message)


def _unique(
    ids: list[str], at: Where, taken: list[str] | None = None
) -> Iterator[ConstraintViolation]:
    counted = Counter([*(taken or ()), *ids])
    seen = set(taken or ())
    for i, id in enumerate(ids):
        if id in seen and counted[id] > 1:
            yield ConstraintViolation((*at, i, "id"), f"the id '{id}' is used twice")
        seen.add(id)
