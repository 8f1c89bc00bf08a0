"""A policy: what is prohibited, what needs a person's review, what must be disclosed.

Policies are data: nothing in code knows the ids of the built-in one. What a team may do with a
policy is in `settings`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

from pydantic import Field

from magistrate.config.schema import Listed, Strict, Text
from magistrate.policy.schema import (
    INTEGRITY,
    Clause,
    DisclosureRule,
    DottedId,
    HighRiskUse,
    PolicyId,
    PolicySource,
    Section,
    Version,
)
from magistrate.wire.digests import fingerprint

DEFAULT_POLICY = "anthropic-usage-policy@2024-06-06"


class Policy(Strict):
    """A policy as loaded. Built-in and custom ones are the same to all code.

    `refusals`: the clause that a refusal of the judge models counts as a finding of, by the
    category the platform names; under the key `any`, where it names none or another.
    """

    id: PolicyId
    version: Version
    title: Text
    source: PolicySource | None = None
    sections: Annotated[Listed[Section], Field(min_length=1)]
    high_risk: Listed[HighRiskUse] = ()
    disclosure: Listed[DisclosureRule] = ()
    integrity: Listed[Clause] = ()
    refusals: dict[Text, DottedId] = Field(default_factory=dict)

    @property
    def ref(self) -> str:
        return f"{self.id}@{self.version}"

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the rules themselves: layout and comments of the file do not count."""
        return fingerprint(self.model_dump(mode="json"))

    @cached_property
    def clauses(self) -> dict[str, Clause]:
        """Every clause by id, in the order of the file; integrity clauses last."""
        sections = [clause for section in self.sections for clause in section.clauses]
        return {clause.id: clause for clause in (*sections, *self.integrity)}

    @cached_property
    def _section_by_clause(self) -> dict[str, Section]:
        return {clause.id: section for section in self.groups for clause in section.clauses}

    @cached_property
    def groups(self) -> tuple[Section, ...]:
        """The sections, and the integrity clauses as one more."""
        if not self.integrity:
            return self.sections
        title = "Integrity of third-party text"
        return (
            *self.sections,
            Section(id=INTEGRITY, title=title, clauses=self.integrity),
        )

    def section_of(self, clause_id: str) -> Section:
        """The group a clause stands in. Raises KeyError for an id the policy does not have."""
        return self._section_by_clause[clause_id]


class PolicyFile(Strict):
    """What a file may hold: a policy, or additions to an included one."""

    id: PolicyId
    version: Version
    title: Text
    source: PolicySource | None = None
    include: Text | None = None
    sections: Listed[Section] = ()
    high_risk: Listed[HighRiskUse] = ()
    disclosure: Listed[DisclosureRule] = ()
    integrity: Listed[Clause] = ()
    refusals: dict[Text, DottedId] = Field(default_factory=dict)
