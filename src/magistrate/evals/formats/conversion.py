"""One row of an external data set, converted to a case. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, cast

from magistrate.config.diagnostics import Problem, SettingsError, described, listed, shown
from magistrate.config.schema import parsed
from magistrate.config.yaml_document import Document, Mark
from magistrate.core.decide import decide
from magistrate.evals.cases import Case
from magistrate.evals.formats.mapping import RowMapping, as_word, has, value_at
from magistrate.evals.formats.rows import Row
from magistrate.evals.labels import LABELS, labelled_verdict
from magistrate.settings import Settings
from magistrate.verdicts import Action, DecisionAction, Finding, Severity, Stage, Verdict
from magistrate.wire.messages import JSON, is_array, is_object

CHILD_SAFETY = "child safety"
UNLABELLED = "its labels say nothing about the policy"

_HALVED = re.compile("[\ud800-\udfff]")
_LANGUAGE = re.compile(r"([a-z]{2,3})([-_][a-z0-9]+)*")


class Unusable(Exception):
    """A row that is wrong, and why."""


class LeftOut(Exception):
    """A row that is valid but left out, and why."""


@dataclass(slots=True)
class Conversion:
    """Makes cases of rows. `child_safety`: whether rows about it are wanted.

    `actions` remembers what is expected of the same violations, `ids` the line of each case.
    """

    mapping: RowMapping
    settings: Settings
    child_safety: bool
    ids: dict[str, int] = field(default_factory=dict[str, int])
    actions: dict[tuple[str, ...], Action] = field(default_factory=dict[tuple[str, ...], Action])

    def case(self, row: Row) -> Case:
        """Return a row's case. Raise `Unusable`, `LeftOut`, or `SettingsError` (the mapping)."""
        mapping, values = self.mapping, row.values
        self._expected(values)
        self._wanted(values)
        named, tags = self._labels(values)
        sections = {group.id for group in self.settings.policy.groups}
        labels = {name: label for name, label in named.items() if name not in sections}
        overall = self._overall(values, violated="violated" in named.values())
        if overall == "unknown" and not named:
            raise LeftOut(UNLABELLED)
        data = self._words(values) | {
            "id": self._id(row),
            "stage": mapping.stage,
            "labels": labels,
            "sections": {name: label for name, label in named.items() if name in sections},
            "groups": self._groups(values),
            "overall": overall,
            "severity": mapping.severity if overall == "violated" else None,
            "action": "allow",
            "tags": list(dict.fromkeys((*mapping.tags, *tags, *self._language(values)))),
            "split": mapping.split,
            "note": self._note(row),
        }
        place = Document(None, data, {(): Mark(None, (row.line, 1))})
        case, problems, _ = parsed(Case, place)
        if case is None or problems:
            raise Unusable("; ".join(f"{p.path}: {p.message}" for p in problems))
        if (first := self.ids.setdefault(case.id, row.line)) != row.line:
            raise Unusable(f"the id '{case.id}' is taken by the row on line {first}")
        return case.model_copy(update={"action": self._action(case)})

    def _expected(self, values: JSON) -> None:
        for column, allowed in self.mapping.expect.items():
            known = self.mapping.words({column: list(allowed)}, column)
            for word in self.mapping.words(values, column):
                if word not in known:
                    raise Unusable(
                        f"column {column} says '{shown(word)}'; the mapping knows: "
                        f"{listed(str(value) for value in allowed)}"
                    )

    def _wanted(self, values: JSON) -> None:
        mapping = self.mapping
        if not self.child_safety and any(mapping.holds(w, values) for w in mapping.child_safety):
            raise LeftOut(CHILD_SAFETY)
        for exclusion in mapping.exclude:
            if mapping.holds(exclusion.when, values):
                raise LeftOut(exclusion.reason)

    def _labels(self, values: JSON) -> tuple[dict[str, str], list[str]]:
        labels: dict[str, str] = {}
        tags: list[str] = []
        for each in self.mapping.labels:
            if not self.mapping.holds(each.when, values):
                continue
            tags += each.tags
            said = [(c, "violated") for c in each.violated] + [(c, "ok") for c in each.ok]
            for clause, label in said:
                if labels.setdefault(clause, label) != label:
                    raise Unusable(f"its labels make {clause} both violated and ok")
        for section in self.settings.policy.groups:
            bad = [c.id for c in section.clauses if labels.get(c.id) == "violated"]
            if bad and labels.get(section.id) == "ok":
                raise Unusable(f"its labels make {section.id} ok, and {bad[0]} in it violated")
        return labels, tags

    def _groups(self, values: JSON) -> dict[str, str]:
        """Return the words of the group columns, as they are; several are joined."""
        found: dict[str, str] = {}
        for column in self.mapping.groups:
            value = value_at(values, column)
            said = value if is_array(value) else [value]
            words = [str(each).strip() for each in said if as_word(each) is not None]
            if words:
                found[column] = ", ".join(words)
        return found

    def _overall(self, values: JSON, *, violated: bool) -> str:
        asked, holds = self.mapping.overall, self.mapping.holds
        bad = (
            violated or asked.always == "violated" or any(holds(w, values) for w in asked.violated)
        )
        good = asked.always == "ok" or any(holds(w, values) for w in asked.ok)
        if bad and good:
            raise Unusable("its labels say both that something is violated and that nothing is")
        return "violated" if bad else "ok" if good else "unknown"

    def _words(self, values: JSON) -> dict[str, Any]:
        """Return what was said: `messages`, and `system` and `response` where there are any."""
        columns, said = self.mapping.columns, cast("dict[str, Any]", {})
        if columns.system is not None and (system := _text(values, columns.system)):
            said["system"] = system
        if columns.conversation is not None:
            turns = self._turns(values)
            last = next(iter(turns[-1]))
            wanted = "assistant" if self.mapping.stage == "output" else "user"
            if last != wanted:
                raise Unusable(f"its last turn is the {last}'s; wanted: the {wanted}'s")
            if wanted == "assistant":
                said["response"] = turns.pop()["assistant"]
            return said | {"messages": turns}
        *before, main = columns.prompt or ("",)  # one of both is there, as the mapping's check says
        pieces = [*(_text(values, name) for name in before), _text(values, main, needed=True)]
        said["messages"] = [{"user": "\n\n".join(piece for piece in pieces if piece)}]
        if columns.answer is not None:
            said["response"] = _text(values, columns.answer, needed=True)
        return said

    def _turns(self, values: JSON) -> list[dict[str, str]]:
        how = self.mapping.columns.conversation
        assert how is not None
        found: Any = value_at(values, how.column)
        if isinstance(found, str):
            try:
                found = json.loads(found)
            except (ValueError, RecursionError):
                found = None
        if not is_array(found) or not found or not all(map(is_object, found)):
            raise Unusable(f"column {how.column} holds no list of turns")
        turns: list[dict[str, str]] = []
        for number, turn in enumerate(cast("list[JSON]", found), 1):
            role = turn.get(how.role)
            known = how.roles.get(str(role), role if not how.roles else None)
            if known not in ("user", "assistant", "system"):
                raise Unusable(
                    f"turn {number} in column {how.column} has the role {described(role)}"
                )
            place = f"turn {number} in column {how.column}, the {known}'s: its key {how.content}"
            turns.append({str(known): _text(turn, how.content, needed=True, place=place)})
        return turns

    def _id(self, row: Row) -> str:
        column = self.mapping.columns.id
        given = None if column is None else value_at(row.values, column)
        if column is not None and given in (None, ""):
            raise Unusable(f"column {column} has no id")
        return f"{self.mapping.name}.{row.line if given is None else given}"

    def _language(self, values: JSON) -> list[str]:
        column = self.mapping.columns.language
        if column is None:
            return []
        for word in self.mapping.words(values, column):
            code = _LANGUAGE.fullmatch(word)
            if code is None:
                raise Unusable(f"column {column} says '{shown(word)}', which is no language code")
            return [] if code[1] in ("en", "eng") else [f"lang:{code[1]}"]
        return []

    def _note(self, row: Row) -> str:
        source = self.mapping.source
        note = f"{source.title} ({source.licence}, {source.url}), line {row.line}."
        return f"{note} {self.mapping.note}" if self.mapping.note else note

    def _action(self, case: Case) -> Action:
        """Return what is expected of a case: the mapping's word, or what its labels lead to."""
        if not case.violates:
            return "allow"
        if self.mapping.action is not None:
            return self.mapping.action
        violated = (*case.violated, *case.violated_sections)
        if violated not in self.actions:
            self.actions[violated] = self._derived(case)
        return self.actions[violated]

    def _derived(self, case: Case) -> Action:
        if case.violated:
            offline = case.offline(self.settings)
            return _of_a_verdict(offline.decide([labelled_verdict(case)], LABELS).action)
        possible = actions_of_any_clause(
            self.settings, case.stage, self.mapping.severity, case.violated_sections
        )
        if len(possible) > 1:
            message = (
                f"a violation of {self.mapping.severity} severity leads to "
                f"{listed(sorted(possible))}, depending on the clause, which this set does not "
                "say; give the mapping an `action`"
            )
            raise SettingsError([Problem(None, None, None, "action", message)])
        return possible.pop()


def _of_a_verdict(action: DecisionAction) -> Action:
    assert action != "unavailable", "labels are a verdict"
    return action


def actions_of_any_clause(
    settings: Settings, stage: Stage, severity: Severity, sections: Collection[str] = ()
) -> set[Action]:
    """Return what a certain violation of a clause that is not named could lead to.

    `sections`: those that the clause is in one of; none for any. Clauses that a conversation cannot
    prove are left aside, as are those about third-party text.
    """
    return {
        _of_a_verdict(decide(settings, stage, [Verdict(LABELS, (finding,))]).action)
        for section in settings.policy.sections
        if not sections or section.id in sections
        for clause in section.clauses
        if stage in clause.stages and clause.evidence == "conversation"
        for finding in [Finding(clause.id, "certain", severity, stage, "request")]
    }


def _text(row: JSON, column: str, *, needed: bool = False, place: str | None = None) -> str:
    """Return the words in a column; empty where there are none and none are needed.

    `place`: what to call it in a message, where that is no column of the file.
    """
    place = place or f"column {column}"
    found = value_at(row, column)
    if found is not None and not isinstance(found, str):
        raise Unusable(f"{place} holds {described(found)}; wanted: text")
    text = found or ""
    if needed and not text.strip():
        raise Unusable(f"{place} is {'empty' if has(row, column) else 'missing'}")
    if "\0" in text:
        raise Unusable(f"{place} has a NUL character in it")
    if _HALVED.search(text):
        raise Unusable(f"{place} has half a character in it, which is no Unicode text")
    return text
