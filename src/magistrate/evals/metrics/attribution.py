"""Whether what was caught was caught for the right reason: under which clause and section. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from magistrate.evals.metrics.action_metrics import Judged
from magistrate.evals.metrics.levels import DETECTED_FROM
from magistrate.evals.metrics.statistics import Rate
from magistrate.policy import Policy
from magistrate.verdicts import GRADES, at_least

NOTHING, NO_VERDICT = "nothing", "no verdict"


@dataclass(frozen=True, slots=True)
class Attribution:
    """What was found in violating cases, against what their labels say is there.

    `clause`: of the cases whose labels name a violated clause, how many had one of those detected.
    `section`: of those whose labels name a violated section or clause, how many had anything
    detected in such a section; `elsewhere`: how many had something detected, but only in other
    sections. A case without a verdict is among those that had nothing detected.

    `confusion[section][found]`: of the cases that violate a section, how many had something
    detected in that one, in another that they are not labelled with, in none (`nothing`), or have
    `no verdict`. One case may count under several sections found.
    """

    clause: Rate
    section: Rate
    elsewhere: Rate
    confusion: dict[str, dict[str, int]]


def attribution(judged: Sequence[Judged], policy: Policy) -> Attribution:
    """Return what was found in these cases, each judged once; without contested cases."""
    counts = dict.fromkeys(("clauses", "clause", "sections", "section", "elsewhere"), 0)
    confusion: dict[str, dict[str, int]] = {}
    for case, result in judged:
        violated = frozenset(case.violated)
        sections = {policy.section_of(clause).id for clause in violated}
        sections |= set(case.violated_sections)
        findings = result.verdict.findings if result.verdict else ()
        found = {f.clause for f in findings if at_least(f.grade, DETECTED_FROM, GRADES)}
        there = {policy.section_of(clause).id for clause in found}
        if violated:
            counts["clauses"] += 1
            counts["clause"] += not violated.isdisjoint(found)
        if sections:
            counts["sections"] += 1
            counts["section"] += not sections.isdisjoint(there)
            counts["elsewhere"] += bool(there) and sections.isdisjoint(there)
        for section in sections:
            row = confusion.setdefault(section, {})
            others = there - (sections - {section})
            if result.verdict is None:
                others = {NO_VERDICT}
            for name in others or {NOTHING}:
                row[name] = row.get(name, 0) + 1
    return Attribution(
        Rate.count(counts["clause"], counts["clauses"]),
        Rate.count(counts["section"], counts["sections"]),
        Rate.count(counts["elsewhere"], counts["sections"]),
        {
            section.id: dict(sorted(confusion[section.id].items()))
            for section in policy.groups
            if section.id in confusion
        },
    )
