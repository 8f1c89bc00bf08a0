"""The settings of one app: the keys of `magistrate.yaml` and values derived from them.

Constraints between the parts of the file are a table in `checks.py`; `loader.py` reads the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, Field, PrivateAttr

from magistrate.config.diagnostics import Where
from magistrate.config.fields import FormatVersion, VariableName
from magistrate.config.schema import OWN_FILE, Strict
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
    StateUrl,
    StreamingSettings,
    Texts,
    Written,
)
from magistrate.verdicts import SEVERITIES, Action, Grade, Severity, Stage, at_least
from magistrate.wire.digests import fingerprint

# Fields that no decision and no text depends on; and names and places, printed as written.
_NO_DECISION = {"policy", "audit", "digest_key_env", "state", "streaming", "review"}
_ADDRESSES = ("name", "store", "state")


def _with(value: object, where: Where, text: str) -> object:
    """Return a copy of a part of the settings with `text` at `where`, if there is a text."""
    if not where:
        return text if isinstance(value, str) and text else value
    first, rest = where[0], where[1:]
    if isinstance(value, BaseModel):
        field = str(first)
        inner = _with(getattr(value, field), rest, text)
        return value.model_copy(update={field: inner})
    items = list(cast("tuple[object, ...]", value))
    items[int(first)] = _with(items[int(first)], rest, text)
    return tuple(items)


@dataclass(frozen=True, slots=True)
class ClauseAction:
    """The settings' action for one clause at one stage. A floor may require a stricter one."""

    action: Action
    from_grade: Grade
    from_severity: Severity


class SettingsModel(Strict):
    """The settings of one app: every key of the file, and values derived from them."""

    version: FormatVersion = 1
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
    state: StateUrl = "memory"
    digest_key_env: VariableName = "MAGISTRATE_KEY"

    # The values that hold a variable of the environment, as they are written in the file.
    _placeholders: dict[Where, str] = PrivateAttr(default_factory=dict[Where, str])

    def remember_written(self, places: Mapping[Where, str]) -> None:
        """Set how values with variables of the environment are written; the loader calls it."""
        self._placeholders = dict(places)

    def shown(self, where: Where, value: str) -> str:
        """Return the text to show for a value: as written, if it comes from the environment."""
        return self._placeholders.get(where, value)

    def from_environment(self, where: Where) -> bool:
        """Return whether the value at this place holds a variable of the environment."""
        return where in self._placeholders

    def printable(self) -> Self:
        """Return a copy to print: names, paths and texts from the environment are as written.

        Words, numbers and what the policy lists stay: they decide what the settings do. `hash` of
        the copy is another one.
        """
        twin = self
        for where, written in self._placeholders.items():
            if where[0] in ("texts", "disclosure", "judge") or where[-1] in _ADDRESSES:
                twin = cast("Self", _with(twin, where, written))
        return twin

    def printable_profile(self) -> dict[str, Any] | None:
        """Return the app profile as JSON, each word from the environment as it is written."""
        if self.app is None:
            return None
        data: dict[Any, Any] = self.app.model_dump(mode="json")
        for where, written in self._placeholders.items():
            if where in (("app", "name"), ("app", "organisation")):
                data[where[1]] = written
            elif where[:2] == ("app", "authorised"):
                data["authorised"][where[2]] = written
        return data

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
        """SHA-256 of all settings that affect decisions or the texts that people read.

        Variables of the environment count with their values: what is decided depends on them.
        """
        shape = self.model_dump(mode="json", exclude=_NO_DECISION)
        shape |= {"policy": self.policy.hash, "release": self.release}
        return fingerprint(shape)
