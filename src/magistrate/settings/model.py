"""The app team's file, `magistrate.yaml`: its schema, where it is looked for, what it resolves to.

`Settings.load` is the door: every problem of a file comes out of it in one `SettingsError`. The
rules that one part of the file imposes on another are a table in `settings_checks.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr

from magistrate.config.diagnostics import Problem, SettingsError, described
from magistrate.config.schema import OWN_FILE, Strict, must_be, parsed
from magistrate.config.yaml_document import Document, given, read
from magistrate.policy.app_profile import AppProfile, Audience, Interface
from magistrate.policy.model import (
    Policy,
    PolicyException,
    builtin_policy,
    load_policy,
    required_floors,
)
from magistrate.settings import checks
from magistrate.settings.schema import (
    DEFAULT_BLOCK_TEXT,
    DEFAULT_CHAT_DISCLOSURE,
    DEFAULT_HIGH_RISK_DISCLOSURE,
    DEFAULT_HOLD_TEXT,
    DEFAULT_JUDGE_MODEL,
    ActionRow,
    AuditSettings,
    BatchSettings,
    DisclosureTexts,
    JudgeSettings,
    OnFailure,
    OnUninspected,
    Reviewer,
    ReviewSettings,
    StreamingSettings,
    Texts,
    Written,
)
from magistrate.verdicts import SEVERITIES, Action, Grade, Severity, Stage, at_least

__all__ = [
    "DEFAULT_BLOCK_TEXT",
    "DEFAULT_CHAT_DISCLOSURE",
    "DEFAULT_HIGH_RISK_DISCLOSURE",
    "DEFAULT_HOLD_TEXT",
    "DEFAULT_JUDGE_MODEL",
    "ActionRow",
    "AppProfile",
    "Audience",
    "AuditSettings",
    "DisclosureTexts",
    "Interface",
    "JudgeSettings",
    "OnFailure",
    "OnUninspected",
    "Problem",
    "ReviewSettings",
    "Reviewer",
    "Rule",
    "Settings",
    "SettingsError",
    "StreamingSettings",
    "Texts",
]

CONFIG_VARIABLE = "MAGISTRATE_CONFIG"
CONFIG_FILE = "magistrate.yaml"


def _one(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value == 1:
        return value
    raise must_be("1, the only version of this file there is")


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise must_be("the name of an environment variable")
    return value


@dataclass(frozen=True, slots=True)
class Rule:
    """What the settings ask for one clause at one stage. A floor may ask for more."""

    action: Action
    from_grade: Grade
    from_severity: Severity


class Settings(Strict):
    """The settings of one app, checked. Made by `load`; immutable."""

    version: Annotated[Literal[1], BeforeValidator(_one)] = 1
    policy: Annotated[Policy, OWN_FILE] = Field(default_factory=builtin_policy)
    app: Annotated[AppProfile | None, Written] = None
    judge: JudgeSettings = JudgeSettings()
    input_check: Literal["concurrent", "before"] = "concurrent"
    actions: dict[str, ActionRow] = Field(default_factory=dict)
    on_block: Literal["refuse", "raise"] = "refuse"
    on_hold: Literal["notice", "raise"] = "notice"
    history: Literal["redact", "send"] = "redact"
    texts: Texts = Texts()
    disclosure: DisclosureTexts = DisclosureTexts()
    review: Annotated[ReviewSettings | None, Written] = None
    streaming: StreamingSettings = StreamingSettings()
    batches: BatchSettings = BatchSettings()
    on_uninspected: OnUninspected = OnUninspected()
    audit: AuditSettings = AuditSettings()
    digest_key_env: Annotated[str, AfterValidator(_variable)] = "MAGISTRATE_KEY"

    _source: str | None = PrivateAttr(default=None)

    @classmethod
    def load(
        cls,
        source: Settings | str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        cwd: str | os.PathLike[str] | None = None,
    ) -> Settings:
        """Load settings from a path, a mapping, or where they are by convention.

        None looks at $MAGISTRATE_CONFIG, then at ./magistrate.yaml, then takes the defaults.
        Relative paths are relative to `cwd`; a policy's path to the file that names it.
        Raises `SettingsError` with every problem found, `TypeError` for what is no source.
        """
        here = Path(cwd) if cwd is not None else Path()
        if isinstance(source, Settings):
            return _checked(source, given({}), [], frozenset())
        if isinstance(source, Mapping):
            return _from_document(given(source), here)
        if source is None:
            source = environ.get(CONFIG_VARIABLE) or None
        if source is None:
            if not os.path.lexists(here / CONFIG_FILE):
                return cls()
            source = CONFIG_FILE
        if not isinstance(source, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"found {described(source)}; allowed for moderation settings: the path of a file, "
                "a mapping, Settings, or None (and a Moderation, where a client is made)"
            )
        path = here / source
        document = read(path)
        if document.data is None:
            message = "the file is empty; write at least `version: 1`"
            raise SettingsError([*document.problems, Problem(str(path), 1, 1, "", message)])
        settings = _from_document(document, path.parent)
        settings._source = str(path)
        return settings

    @property
    def source(self) -> str | None:
        """The file these settings came from; None for defaults and mappings."""
        return self._source

    @cached_property
    def release(self) -> Literal["window", "message", "shadow"]:
        """How streams are released: never in windows where an answer may have to be held."""
        asked = self.streaming.release
        return "message" if asked == "window" and self.may_hold else asked

    @property
    def may_hold(self) -> bool:
        """Whether an answer could be held for review under this profile and these actions."""
        return any(row.output == "hold" for row in self.actions.values()) or any(
            use.may_owe_review(self.app)
            for use in self.policy.high_risk
            if self.app is not None and use.id in self.app.high_risk
        )

    @property
    def permitted_exceptions(self) -> tuple[PolicyException, ...]:
        """The policy's exceptions that this profile declares the facts for."""
        exceptions = (rule for section in self.policy.sections for rule in section.exceptions)
        return tuple(rule for rule in exceptions if rule.permitted_to(self.app))

    def rule(self, clause_id: str, stage: Stage) -> Rule:
        """What is asked for one clause at one stage; KeyError for an id the policy has not."""
        return Rule(
            cast("Action", self.deciding_row(clause_id, stage)[1]),
            cast("Grade", self.deciding_row(clause_id, "from_grade")[1]),
            cast("Severity", self.deciding_row(clause_id, "from_severity")[1]),
        )

    def deciding_row(
        self, clause_id: str, field: Literal["input", "output", "from_grade", "from_severity"]
    ) -> tuple[str | None, str]:
        """Which key of `actions` says what one field is, and what it says; None: no row does.

        The clause's row goes before its section's and that before `default`. An integrity clause's
        own action stands between: `default` is about prohibitions, and should not make an agent
        stop at every page it reads.
        """
        clause = self.policy.clauses[clause_id]
        for key in (clause_id, self.policy.section_of(clause_id).id):
            if (row := self.actions.get(key)) and (value := getattr(row, field)):
                return key, value
        if field in ("input", "output") and clause.action is not None:
            return None, clause.action
        if (row := self.actions.get("default")) and (value := getattr(row, field)):
            return "default", value
        built_in = {"from_grade": "likely", "from_severity": "medium"}
        return None, built_in.get(field, "block")

    def floor(self, clause_id: str) -> Severity | None:
        """The severity from which nothing loosens a clause: the policy's, or the built-in one's."""
        clause = self.policy.clauses.get(clause_id)
        floors = {clause.floor if clause else None, required_floors().get(clause_id)}
        return next((level for level in SEVERITIES if level in floors), None)

    def floor_holds(self, clause_id: str, severity: Severity) -> bool:
        """Whether a finding of this severity stands on the floor of its clause."""
        floor = self.floor(clause_id)
        return floor is not None and at_least(severity, floor, SEVERITIES)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of everything here that shapes decisions or what people read."""
        shape = self.model_dump(
            mode="json", exclude={"policy", "audit", "digest_key_env", "streaming", "review"}
        )
        shape |= {"policy": self.policy.hash, "release": self.release}
        canonical = json.dumps(shape, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _from_document(document: Document, base: Path) -> Settings:
    """Build settings from plain data, and say everything that is wrong with it at once."""
    problems: list[Problem] = []
    data = document.data
    unknown_policy = False
    if isinstance(data, dict) and "policy" in data:
        data = dict(cast("dict[str, Any]", data))
        policy = data.pop("policy")
        try:
            if isinstance(policy, str | os.PathLike):
                policy = load_policy(cast("str | os.PathLike[str]", policy), base)
            elif not isinstance(policy, Policy):
                found = document.written(("policy",)) or described(policy)
                message = f"found {found}; allowed: a policy's reference or the path of a file"
                raise SettingsError([Problem(None, None, None, "", message)])
            data["policy"] = policy
        except SettingsError as error:
            unknown_policy = True
            for problem in error.problems:
                if problem.line is None:  # not in the policy's file but in the way it is named
                    place = f"{problem.file}: " if problem.file else ""
                    problem = document.problem(("policy",), place + problem.message)
                problems.append(problem)
        document = Document(document.file, data, document.marks, document.problems)
    settings, found, broken = parsed(Settings, document)
    problems += found
    if settings is None:
        raise SettingsError(problems)
    if unknown_policy:
        broken |= {"policy"}
    return _checked(settings, document, problems, broken)


def _checked(
    settings: Settings, document: Document, problems: list[Problem], broken: frozenset[str]
) -> Settings:
    """The settings, unless something is wrong with them: in itself, or in how it fits together."""
    for check in checks.CHECKS:
        if broken.isdisjoint(check.needs):
            problems += [document.misfit(found) for found in check.find(settings)]
    if problems:
        raise SettingsError(sorted(problems, key=lambda at: (at.line or 0, at.column or 0)))
    return settings
