"""A policy: what is prohibited, what needs a person's review, what must be disclosed.

Policies are data: no code knows the ids of the built-in one. `settings` decides how a policy is
applied.
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
    """A loaded policy. All code treats built-in and custom policies alike.

    `refusals`: the clause that a refusal by the judge models counts as a finding for, by the
    category that the platform names. The key `any` is for all other refusals.
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
        """SHA-256 of the policy's data; the layout and comments of the file do not count."""
        return fingerprint(self.model_dump(mode="json"))

    @cached_property
    def clauses(self) -> dict[str, Clause]:
        """Every clause by id, in file order; integrity clauses last."""
        sections = [clause for section in self.sections for clause in section.clauses]
        return {clause.id: clause for clause in (*sections, *self.integrity)}

    @cached_property
    def _section_by_clause(self) -> dict[str, Section]:
        return {clause.id: section for section in self.groups for clause in section.clauses}

    @cached_property
    def groups(self) -> tuple[Section, ...]:
        """The sections, and the integrity clauses as one more section."""
        if not self.integrity:
            return self.sections
        title = "Integrity of third-party text"
        return (
            *self.sections,
            Section(id=INTEGRITY, title=title, clauses=self.integrity),
        )

    def section_of(self, clause_id: str) -> Section:
        """Return the group that contains a clause. Raises KeyError for an unknown id."""
        return self._section_by_clause[clause_id]


class PolicyFile(Strict):
    """The content of a policy file: a policy, or additions to an included one."""

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
