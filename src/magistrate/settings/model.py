"""The settings of one app: the keys of `magistrate.yaml` and what follows from them.

The rules that one part of the file imposes on another are a table in `checks.py`; reading a file
is `loader.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field

from magistrate.config.schema import OWN_FILE, Strict, must_be
from magistrate.policy import AppProfile, Policy, PolicyException, builtin_policy, required_floors
from magistrate.settings.schema import (
    ActionRow,
    AuditSettings,
    BatchSettings,
    DisclosureTexts,
    JudgeSettings,
    OnUninspected,
    ReviewSettings,
    StreamingSettings,
    Texts,
    Written,
)
from magistrate.verdicts import SEVERITIES, Action, Grade, Severity, Stage, at_least
from magistrate.wire.digests import fingerprint


def _one(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value == 1:
        return value
    raise must_be("1, the only version of this file there is")


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise must_be("the name of an environment variable")
    return value


@dataclass(frozen=True, slots=True)
class ClauseAction:
    """What the settings ask for one clause at one stage. A floor may ask for more."""

    action: Action
    from_grade: Grade
    from_severity: Severity


class SettingsModel(Strict):
    """The settings of one app: every key of the file, and what follows from them."""

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

    def clause_action(self, clause_id: str, stage: Stage) -> ClauseAction:
        """What is asked for one clause at one stage; KeyError for an id the policy has not."""
        return ClauseAction(
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
        return fingerprint(shape)
