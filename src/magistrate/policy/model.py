"""A policy: what is prohibited, what needs a person's review, what must be disclosed.

The schema of policy files and their loader. Policies are data: nothing in code knows the ids of
the built-in one. What a team may do with a policy is in `settings.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from magistrate.config.diagnostics import Problem, SettingsError, listed, nearest
from magistrate.config.schema import Listed, Strict, Text, parsed
from magistrate.config.yaml_document import read
from magistrate.policy.checks import INTEGRITY, misfits
from magistrate.policy.schema import (
    Clause,
    DisclosureRule,
    DottedId,
    Example,
    HighRiskUse,
    PolicyException,
    PolicyId,
    PolicySource,
    Section,
    Source,
    Version,
)
from magistrate.verdicts import SEVERITIES, Severity, at_least

__all__ = [
    "DEFAULT_POLICY",
    "Clause",
    "DisclosureRule",
    "Example",
    "HighRiskUse",
    "Policy",
    "PolicyException",
    "PolicySource",
    "Section",
    "Source",
    "builtin_policy",
    "builtin_refs",
    "load_policy",
    "loosened_floors",
    "required_floors",
]

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
        canonical = json.dumps(
            self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, separators=(",", ":")
        )
        return hashlib.sha256(canonical.encode()).hexdigest()

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


def builtin_refs() -> tuple[str, ...]:
    """The references of the policies that come with the package."""
    names = (
        re.fullmatch(r"(.+)-(\d{4}-\d{2}-\d{2})\.yaml", entry.name)
        for entry in (files("magistrate") / "policy" / "builtin").iterdir()
    )
    return tuple(sorted(f"{name[1]}@{name[2]}" for name in names if name))


def builtin_policy(ref: str = DEFAULT_POLICY) -> Policy:
    """A policy that comes with the package; read once. Raises KeyError for an unknown one."""
    return _builtin(ref)


@cache  # on an argument that is always given: the default and its name are one policy
def _builtin(ref: str) -> Policy:
    if ref not in builtin_refs():
        raise KeyError(ref)
    with as_file(
        files("magistrate") / "policy" / "builtin" / f"{ref.replace('@', '-')}.yaml"
    ) as path:
        return _load_file(path)


def load_policy(source: str | os.PathLike[str], base: Path | None = None) -> Policy:
    """Load a policy by reference (`id@version`) or from a file, relative to `base`.

    Raises `SettingsError`; a wrong reference is a problem without a position.
    """
    text = os.fspath(source)
    if isinstance(source, str) and not _looks_like_path(text):
        if text in builtin_refs():
            return builtin_policy(text)
        raise SettingsError([Problem(None, None, None, "", unknown_ref(text))])
    return _load_file((base or Path()) / text)


def unknown_ref(ref: str) -> str:
    known = builtin_refs()
    return (
        f"found the policy '{ref}'; allowed: {listed(known)}, or the path of a .yaml file"
        f"{nearest(ref, known)}"
    )


@cache
def required_floors() -> Mapping[str, Severity]:
    """The clauses of the built-in policy that no policy may leave out, and their floors."""
    return {id: clause.floor for id, clause in builtin_policy().clauses.items() if clause.floor}


def _looks_like_path(text: str) -> bool:
    return text.endswith((".yaml", ".yml")) or "/" in text or os.sep in text


def _load_file(path: Path) -> Policy:
    document = read(path)
    found, problems, _ = parsed(PolicyFile, document)
    if problems or found is None:
        raise SettingsError(problems)
    included: Policy | None = None
    if found.include is not None:
        if found.include not in builtin_refs():
            raise SettingsError([document.problem(("include",), unknown_ref(found.include))])
        included = builtin_policy(found.include)
    problems = [document.misfit(wrong) for wrong in misfits(found, included)]
    if problems:
        raise SettingsError(problems)
    return _merged(found, included)


def _merged(found: PolicyFile, included: Policy | None) -> Policy:
    """The file's own sections behind the included ones; other parts replace the included ones."""
    parts: dict[str, Any] = {name: getattr(found, name) for name in Policy.model_fields}
    if included is not None:
        parts["sections"] = included.sections + found.sections
        for name in ("high_risk", "disclosure", "integrity", "refusals"):
            if name not in found.model_fields_set:
                parts[name] = getattr(included, name)
    return Policy(**parts)


def loosened_floors(policy: Policy) -> dict[str, str]:
    """Clauses that the built-in policy puts a floor under and `policy` weakens, and how."""
    weak: dict[str, str] = {}
    for id, floor in required_floors().items():
        own, built_in = policy.clauses.get(id), builtin_policy().clauses[id]
        if own is None:
            weak[id] = "is left out"
        elif own.floor is None or not at_least(floor, own.floor, SEVERITIES):
            weak[id] = f"has the floor {own.floor or 'none'} instead of {floor}"
        elif own.evidence != "conversation":
            weak[id] = f"has evidence: {own.evidence}, and would never be blocked"
        elif missing := set(built_in.stages) - set(own.stages):
            weak[id] = f"is not judged at the stage {listed(sorted(missing))}"
        elif changed := _rewritten(own, built_in):
            weak[id] = f"has another {changed} than there"
        elif excused := [
            exception.id
            for exception in _exceptions_to(policy, id)
            if exception not in _exceptions_to(builtin_policy(), id)
        ]:
            weak[id] = f"has the exception {listed(excused)}"
    return weak


def _rewritten(own: Clause, built_in: Clause) -> str | None:
    """What of a clause's text differs so that it may say less: more may count, and less be spared.

    Nobody can tell by reading whether other words mean the same, so none are taken.
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
