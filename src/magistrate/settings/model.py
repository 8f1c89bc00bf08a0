"""The settings of one app: the keys of `magistrate.yaml` and values derived from them.

Constraints between the parts of the file are a table in `checks.py`; `loader.py` reads the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field

from magistrate.config.schema import OWN_FILE, Strict, must_be
from magistrate.policy import (
    DEFAULT_APP_NAME,
    AppProfile,
    Policy,
    PolicyException,
    builtin_policy,
    floor_policy,
    is_own,
    required_floors,
    without_floors,
)
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
    raise must_be("1, the only version of this file")


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise must_be("the name of an environment variable")
    return value


@dataclass(frozen=True, slots=True)
class ClauseAction:
    """The settings' action for one clause at one stage. A floor may require a stricter one."""

    action: Action
    from_grade: Grade
    from_severity: Severity


class SettingsModel(Strict):
    """The settings of one app: every key of the file, and values derived from them."""

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

    @property
    def app_name(self) -> str:
        """The name under which held answers are stored: of the declared app, else the default."""
        return self.app.name if self.app else DEFAULT_APP_NAME

    @cached_property
    def release(self) -> Literal["window", "message", "shadow"]:
        """How streams are released: never in windows if an answer may have to be held."""
        asked = self.streaming.release
        return "message" if asked == "window" and self.may_hold else asked

    @property
    def may_hold(self) -> bool:
        """Whether this profile and these actions can hold an answer for review."""
        return any(row.output == "hold" for row in self.actions.values()) or any(
            use.may_owe_review(self.app)
            for use in self.policy.high_risk
            if self.app is not None and use.id in self.app.high_risk
        )

    @cached_property
    def judged_policies(self) -> tuple[Policy, ...]:
        """The policy in the pieces that judges read in prompts of their own.

        It is one piece, unless a team wrote any of it. Then the floors are a second one: no word
        of the team's stands in the prompt that a floor is judged by.
        """
        if not is_own(self.policy):
            return (self.policy,)
        return without_floors(self.policy), floor_policy()

    @property
    def permitted_exceptions(self) -> tuple[PolicyException, ...]:
        """The policy's exceptions whose required facts this profile declares."""
        exceptions = (rule for section in self.policy.sections for rule in section.exceptions)
        return tuple(rule for rule in exceptions if rule.permitted_to(self.app))

    def clause_action(self, clause_id: str, stage: Stage) -> ClauseAction:
        """Return the action for one clause at one stage. Raises KeyError for an unknown id."""
        return ClauseAction(
            cast("Action", self.deciding_row(clause_id, stage)[1]),
            cast("Grade", self.deciding_row(clause_id, "from_grade")[1]),
            cast("Severity", self.deciding_row(clause_id, "from_severity")[1]),
        )

    def deciding_row(
        self, clause_id: str, field: Literal["input", "output", "from_grade", "from_severity"]
    ) -> tuple[str | None, str]:
        """Return the key of `actions` that sets one field (None: no row does), and its value.

        The clause's row is used before its section's, and that before `default`. An integrity
        clause's own action is used before `default`, which is about prohibitions and should not
        make an agent stop at every page it reads.
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
        """Return the lower of the clause's floors in this and the built-in policy, or None."""
        clause = self.policy.clauses.get(clause_id)
        floors = {clause.floor if clause else None, required_floors().get(clause_id)}
        return next((level for level in SEVERITIES if level in floors), None)

    def floor_holds(self, clause_id: str, severity: Severity) -> bool:
        """Return whether a finding of this severity is at or above the floor of its clause."""
        floor = self.floor(clause_id)
        return floor is not None and at_least(severity, floor, SEVERITIES)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all settings that affect decisions or the texts that people read."""
        shape = self.model_dump(
            mode="json", exclude={"policy", "audit", "digest_key_env", "streaming", "review"}
        )
        shape |= {"policy": self.policy.hash, "release": self.release}
        return fingerprint(shape)
