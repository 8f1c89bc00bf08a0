"""Mapping files: loaded by name or path, and checked against a policy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from magistrate.config.diagnostics import (
    ConstraintViolation,
    Problem,
    SettingsError,
    Where,
    listed,
    nearest,
)
from magistrate.config.schema import parsed
from magistrate.config.yaml_document import Document, read
from magistrate.evals.formats.mapping import Overall, RowMapping, as_word
from magistrate.policy import Policy
from magistrate.verdicts import Stage


@cache
def ready() -> tuple[str, ...]:
    """Return the names of the mappings that come with the package."""
    folder = files("magistrate.evals.formats") / "mappings"
    return tuple(
        sorted(e.name.removesuffix(".yaml") for e in folder.iterdir() if e.name.endswith(".yaml"))
    )


def load_mapping(source: str | os.PathLike[str], policy: Policy) -> RowMapping:
    """Load a mapping by the name of a ready one, or from a file, and check it against a policy.

    Raises `SettingsError` with everything that is wrong with it.
    """
    name = os.fspath(source)
    if name in ready():
        with as_file(files("magistrate.evals.formats") / "mappings" / f"{name}.yaml") as path:
            return _checked(read(path), policy)
    if not name.endswith((".yaml", ".yml")) and not Path(name).exists():
        known = ready()
        message = (
            f"found the mapping '{name}'; allowed: {listed(known)}, or the path of a .yaml file"
            f"{nearest(name, known)}"
        )
        raise SettingsError([Problem(None, None, None, "", message)])
    return _checked(read(name), policy)


def _checked(document: Document, policy: Policy) -> RowMapping:
    mapping, problems, _ = parsed(RowMapping, document)
    if mapping is not None and not problems:
        problems = [document.problem_of(wrong) for wrong in _violations(mapping, policy)]
    if mapping is None or problems:
        raise SettingsError(problems)
    return mapping


def _violations(mapping: RowMapping, policy: Policy) -> Iterator[ConstraintViolation]:
    columns, overall = mapping.columns, mapping.overall
    if (columns.prompt is None) == (columns.conversation is None):
        yield ConstraintViolation(("columns",), "give either `prompt` or `conversation`")
    if columns.conversation is None and mapping.stage == "output" and columns.answer is None:
        yield ConstraintViolation(
            ("columns",), "stage output needs the answer's column under `answer`"
        )
    if columns.answer is not None and mapping.stage == "input":
        yield ConstraintViolation(("columns", "answer"), "`answer` belongs to stage output")
    if columns.answer is not None and columns.conversation is not None:
        yield ConstraintViolation(
            ("columns", "answer"), "the last turn of the conversation is the answer"
        )
    if overall.always is not None and (overall.violated or overall.ok):
        yield ConstraintViolation(
            ("overall", "always"), "`always` leaves nothing for `violated` and `ok`"
        )
    if overall == Overall() and not any(rule.violated or rule.ok for rule in mapping.labels):
        yield ConstraintViolation((), "nothing here labels a row; give `overall` or `labels`")
    for index, rule in enumerate(mapping.labels):
        where: Where = ("labels", index)
        if not (rule.violated or rule.ok or rule.tags):
            yield ConstraintViolation(
                where, "this rule says nothing; give `violated`, `ok` or `tags`"
            )
        for clause in sorted(set(rule.violated) & set(rule.ok)):
            yield ConstraintViolation(where, f"{clause} is both violated and ok")
        yield from _clauses((*where, "violated"), rule.violated, mapping.stage, policy)
        yield from _clauses((*where, "ok"), rule.ok, mapping.stage, policy)
    yield from _unexpected(mapping)


def _clauses(
    where: Where, clauses: Iterable[str], stage: Stage, policy: Policy
) -> Iterator[ConstraintViolation]:
    sections = {section.id: section for section in policy.groups}
    for index, clause in enumerate(clauses):
        if clause in sections:
            if not any(stage in each.stages for each in sections[clause].clauses):
                yield ConstraintViolation(
                    (*where, index), f"no clause of {clause} is judged at the stage {stage}"
                )
            continue
        known = policy.clauses.get(clause)
        if known is None:
            close = nearest(clause, [*policy.clauses, *sections])
            yield ConstraintViolation(
                (*where, index), f"'{clause}' is no clause or section of {policy.ref}{close}"
            )
        elif stage not in known.stages:
            yield ConstraintViolation(
                (*where, index), f"{clause} is not judged at the stage {stage}"
            )


def _unexpected(mapping: RowMapping) -> Iterator[ConstraintViolation]:
    """Conditions on words that `expect` says never occur."""
    allowed: Mapping[str, set[str | None]] = {
        column: {None, *map(as_word, values)} for column, values in mapping.expect.items()
    }
    for when in mapping.conditions:
        for column, values in when.items():
            for value in values:
                if column in allowed and as_word(value) not in allowed[column]:
                    close = nearest(value, map(str, mapping.expect[column]))
                    message = f"a condition asks for '{value}', which is not expected{close}"
                    yield ConstraintViolation(("expect", column), message)
