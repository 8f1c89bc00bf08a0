"""Mappings: how the rows of an external labelled set become cases. The schema.

A mapping says where in a row the words are, what its labels mean under our clauses, and what is
left out. What it does not say is unknown, never negative.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field

from magistrate.config.schema import Listed, Strict, Text, must_be
from magistrate.evals.cases import Label, Split, Tag
from magistrate.verdicts import Action, Severity, Stage
from magistrate.wire.messages import JSON, is_array, is_object

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_WHOLE = re.compile(r"([-+]?[0-9]+)\.0+")  # as pandas writes 1 in a column with gaps


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise must_be("small letters, digits, _ and -, which ids of cases begin with")
    return value


def _one_or_more(value: object) -> object:
    return cast("object", value) if isinstance(value, list | tuple) else (value,)


def _constant(value: object) -> object:
    if value is not None and not isinstance(value, bool | int | float | str):
        raise must_be("a word, a number, true, false, or null for a value that is missing")
    return value


Name = Annotated[str, AfterValidator(_name)]
Values = Annotated[
    Listed[Annotated[Any, AfterValidator(_constant)]],
    BeforeValidator(_one_or_more),
    Field(min_length=1),
]
When = Annotated[dict[Text, Values], Field(min_length=1)]
Texts = Annotated[Listed[Text], BeforeValidator(_one_or_more), Field(min_length=1)]


class Origin(Strict):
    """Where a set comes from. The note of every case names it."""

    title: Text
    url: Text
    licence: Text


class Turns(Strict):
    """A column with a whole conversation: a JSON list of turns, each with a role and its words."""

    column: Text
    role: Text = "role"
    content: Text = "content"
    roles: dict[Text, Literal["user", "assistant", "system"]] = Field(default_factory=dict)


class Columns(Strict):
    """Where in a row the words are. `a.b` is the key b of the mapping in column a.

    Several columns under `prompt` are put together with a blank line; only the last must have
    something in it. Without an `id`, cases are numbered by their line. `language` holds
    codes such as de, de-AT or DE_DE; English is not tagged.
    """

    prompt: Texts | None = None
    answer: Text | None = None
    conversation: Turns | None = None
    system: Text | None = None
    id: Text | None = None
    language: Text | None = None


class LabelRule(Strict):
    """What is known of a row in which all of `when` holds.

    `violated` and `ok` name clauses, or whole sections: of one that is violated it is not known
    which clause is.
    """

    when: When
    violated: Listed[Text] = ()
    ok: Listed[Text] = ()
    tags: Listed[Tag] = ()


class Overall(Strict):
    """Which rows violate anything at all, and which nothing; any other row is unknown.

    `always` is for sets whose rows are all of one kind.
    """

    always: Label | None = None
    violated: Listed[When] = ()
    ok: Listed[When] = ()


class Exclusion(Strict):
    """Rows that are left out, and the reason that the summary gives."""

    reason: Text
    when: When


class RowMapping(Strict):
    """A mapping file.

    `several`: columns that hold more than one word, and what separates them. `expect`: all words a
    column may hold; a row with another is wrong, since its meaning is not decided. `missing`:
    words that mean no value. `child_safety`: rows about it, which only those get who ask for
    them; an empty list says that the set does not mark them. `groups`: columns by whose words the
    cases are reported too, where a file has them. `severity` is given to every
    violation, and `action` is what is expected of one; without it, what the settings lead to.
    """

    name: Name
    source: Origin
    format: Literal["csv", "jsonl"]
    stage: Stage
    columns: Columns
    several: dict[Text, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    expect: dict[Text, Values] = Field(default_factory=dict)
    missing: Values = ("",)
    overall: Overall = Overall()
    labels: Listed[LabelRule] = ()
    child_safety: Listed[When]
    groups: Listed[Text] = ()
    exclude: Listed[Exclusion] = ()
    severity: Severity = "medium"
    action: Action | None = None
    split: Split = "test"
    tags: Listed[Tag] = ()
    note: Text | None = None

    @property
    def conditions(self) -> Iterator[When]:
        """Every condition that a row is asked about."""
        yield from (*self.overall.violated, *self.overall.ok, *self.child_safety)
        yield from (rule.when for rule in self.labels)
        yield from (rule.when for rule in self.exclude)

    @property
    def used(self) -> tuple[str, ...]:
        """Every column that a file must have, in the order of the mapping."""
        where = self.columns
        named: list[str | None] = [
            *(where.prompt or ()),
            where.answer,
            where.conversation.column if where.conversation else None,
            where.system,
            where.id,
            where.language,
            *self.several,
            *self.expect,
            *(column for when in self.conditions for column in when),
        ]
        return tuple(dict.fromkeys(name for name in named if name))

    def words(self, row: JSON, column: str) -> tuple[str, ...]:
        """Return what a column of a row says, to be compared; nothing where it is missing."""
        value = value_at(row, column)
        found: Iterable[Any]
        if is_array(value):
            found = value
        elif column in self.several and isinstance(value, str):
            found = value.split(self.several[column])
        else:
            found = (value,)
        none = {as_word(word) for word in self.missing}
        words = (as_word(item) for item in found)
        return tuple(word for word in words if word is not None and word not in none)

    def holds(self, when: When, row: JSON) -> bool:
        """Return whether every column of a condition has one of its values; `null`: none at all."""
        return all(
            any(as_word(value) in (self.words(row, column) or (None,)) for value in values)
            for column, values in when.items()
        )


def value_at(row: JSON, column: str) -> Any:
    """Return the value of a column, or of the key `b` in `a` for `a.b`; None if it is not there."""
    if column in row:
        return row[column]
    head, _, rest = column.partition(".")
    inner = row.get(head)
    return value_at(inner, rest) if rest and is_object(inner) else None


def has(row: JSON, column: str) -> bool:
    """Return whether a row has a column at all, even if it is empty there."""
    if column in row:
        return True
    head, _, rest = column.partition(".")
    inner = row.get(head)
    return bool(rest) and is_object(inner) and has(inner, rest)


def as_word(value: object) -> str | None:
    """Return a value as labels are compared: without case, spaces around it, or a needless `.0`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    word = str(value).strip().casefold()
    whole = _WHOLE.fullmatch(word)
    return whole[1] if whole else word or None
