"""The parts of a policy file and their allowed values.

Constraints between the parts are in `checks.py`; the whole policy is in `model.py`.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field

from magistrate.config.diagnostics import listed
from magistrate.config.schema import Listed, Strict, Text, must_be
from magistrate.policy.app_profile import AppProfile, Facts, holds
from magistrate.verdicts import SEVERITIES, Action, AnswerKind, Severity, Stage


def _named(pattern: str, allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise must_be(allowed)
        return value

    return AfterValidator(check)


def _ascending(value: dict[Severity, str]) -> dict[Severity, str]:
    if not value:
        raise must_be("a text for at least one of " + listed(SEVERITIES))
    return {level: value[level] for level in SEVERITIES if level in value}


def _iso_date(value: object) -> object:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise must_be("a date such as 2024-06-06") from None


def _alternatives(value: object) -> object:
    return cast("object", value) if isinstance(value, list | tuple) else (value,)


def _fact(value: object) -> object:
    if not isinstance(value, bool | str):
        raise must_be("a word, or true or false")
    return value


INTEGRITY = "integrity"  # the group of clauses about third-party text; never a section's id

Id = Annotated[str, _named(r"[a-z0-9_]+", "lowercase letters, digits and underscores")]
DottedId = Annotated[str, _named(r"[a-z0-9_]+\.[a-z0-9_]+", "an id such as section.name")]
PolicyId = Annotated[
    str, _named(r"[a-z0-9]+(-[a-z0-9]+)*", "lowercase letters, digits and hyphens")
]
Version = Annotated[str, _named(r"[A-Za-z0-9][A-Za-z0-9._-]*", "a version such as 2024-06-06")]
Date = Annotated[date, BeforeValidator(_iso_date)]
_Value = Annotated[Any, AfterValidator(_fact)]
Conditions = dict[str, Annotated[Listed[_Value], BeforeValidator(_alternatives)]]
Number = Annotated[int, Field(ge=1)]


class PolicySource(Strict):
    """The document that a policy restates."""

    name: Text
    url: Text | None = None
    effective: Date | None = None


class Source(Strict):
    """The place of a rule in that document: section, bullet, and nested bullet."""

    section: Number
    item: Number | None = None
    sub: Number | None = None

    def __str__(self) -> str:
        names = (("section", self.section), ("item", self.item), ("sub-item", self.sub))
        return ", ".join(f"{name} {number}" for name, number in names if number)


class Example(Strict):
    """A pair of texts that differ only in what makes one a violation."""

    violates: Text
    does_not: Text


class Clause(Strict):
    """One prohibition, or (in `integrity`) one check of third-party text.

    `floor`: no setting can loosen the clause at or above this severity. `action`: the default
    action of an integrity clause; None for others, whose actions the settings choose.
    """

    id: DottedId
    title: Text
    rule: Text
    counts: Listed[Text] = ()
    does_not_count: Listed[Text] = ()
    stages: Annotated[Listed[Stage], Field(min_length=1)]
    severity: Annotated[dict[Severity, Text], AfterValidator(_ascending)]
    floor: Severity | None = None
    evidence: Literal["conversation", "account", "app"] = "conversation"
    examples: Listed[Example] = ()
    source: Source | None = None
    action: Action | None = None


class PolicyException(Strict):
    """A use that some clauses of the section permit if the profile declares the required facts."""

    id: DottedId
    title: Text
    rule: Text
    applies_to: Annotated[Listed[DottedId], Field(min_length=1)]
    requires: Annotated[Conditions, Field(min_length=1)]
    source: Source | None = None

    def permitted_to(self, app: AppProfile | None) -> bool:
        return holds(cast("Facts", self.requires), app)


class Section(Strict):
    """A group of related clauses; the settings can name them as one."""

    id: Id
    title: Text
    clauses: Annotated[Listed[Clause], Field(min_length=1)]
    exceptions: Listed[PolicyException] = ()
    source: Source | None = None


class HighRiskUse(Strict):
    """A domain in which answers require review by a qualified person, disclosure, or both."""

    id: Id
    title: Text
    rule: Text
    counts: Listed[Text] = ()
    does_not_count: Listed[Text] = ()
    requirements: Annotated[Listed[Literal["human_review", "disclosure"]], Field(min_length=1)]
    review_for: Listed[AnswerKind] = ("advice", "recommendation", "decision")
    applies_when: Conditions = Field(default_factory=dict)
    source: Source | None = None

    def may_owe_review(self, app: AppProfile | None) -> bool:
        """Return whether this domain can require review of an app's answers."""
        if app is None or "human_review" not in self.requirements:
            return False
        if self.applies_when:
            return holds(cast("Facts", self.applies_when), app)
        return app.audience == "consumer" or app.decides_about_individuals


class DisclosureRule(Strict):
    """A rule by which apps with certain profiles must tell people that they use an AI."""

    id: Id
    title: Text
    rule: Text
    when: Annotated[Conditions, Field(min_length=1)]
    source: Source | None = None

    def owed_by(self, app: AppProfile | None) -> bool:
        return holds(cast("Facts", self.when), app)
