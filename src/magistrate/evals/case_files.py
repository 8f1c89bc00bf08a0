"""Case files: YAML and JSONL read, with every problem by file, line and column."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from magistrate.config.diagnostics import Problem, SettingsError, Where, listed
from magistrate.config.schema import Listed, Strict, parsed
from magistrate.config.yaml_document import Document, Mark, read
from magistrate.evals.case_checks import Placed, conflicts, violations
from magistrate.evals.cases import Case, Dataset
from magistrate.policy import Policy
from magistrate.wire.messages import is_object, unique_keys

MAX_LINE_BYTES = 1_000_000  # of a JSONL file; the API takes more, but no labelled case needs it


class CaseFile(Strict):
    """A YAML file of cases."""

    cases: Listed[Any]


def load_cases(paths: Iterable[str | os.PathLike[str]], policy: Policy) -> Dataset:
    """Load case files (`.yaml`, `.yml`, `.jsonl`) and folders of them, and check them together.

    Raises `SettingsError` with every problem of every file: nothing is spent on a suite that has a
    mistake in it. Without any case that is a problem too.
    """
    problems: list[Problem] = []
    placed: list[Placed] = []
    names: list[str] = []
    for path in paths:
        for file in _files(Path(path), problems):
            names.append(str(file))
            try:
                reader = _lines if file.suffix == ".jsonl" else _yaml
                placed += reader(file, problems)
            except SettingsError as error:
                problems += error.problems
    for item in placed:
        if item.case is not None:
            problems += violations(item, item.case, policy)
    problems += conflicts([item for item in placed if item.case is not None])
    if not placed and not problems:
        problems.append(Problem(None, None, None, "", f"no cases in {listed(names) or 'no files'}"))
    if problems:
        raise SettingsError(sorted(problems, key=lambda at: (at.file or "", at.line or 0)))
    return Dataset(tuple(item.case for item in placed if item.case), tuple(names))


def _files(path: Path, problems: list[Problem]) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml", ".jsonl"))
    if not found:
        problems.append(Problem(str(path), None, None, "", "no .yaml or .jsonl file in here"))
    return found


def _yaml(file: Path, problems: list[Problem]) -> list[Placed]:
    document = read(file)
    whole, found, _ = parsed(CaseFile, document)
    problems += found
    if whole is None or found:
        return []
    placed: list[Placed] = []
    for index, data in enumerate(whole.cases):
        where: Where = ("cases", index)
        inner = Document(document.file, data, _Below(document.marks, where))
        placed.append(_case(inner, problems))
    return placed


class _Below(Mapping[Where, Mark]):
    """The positions under one case of a file, without copying those of all the others."""

    def __init__(self, marks: Mapping[Where, Mark], where: Where) -> None:
        self._marks, self._where = marks, where

    def __getitem__(self, key: Where) -> Mark:
        return self._marks[(*self._where, *key)]

    def __iter__(self) -> Iterator[Where]:
        depth = len(self._where)
        return (key[depth:] for key in self._marks if key[:depth] == self._where)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _lines(file: Path, problems: list[Problem]) -> list[Placed]:
    placed: list[Placed] = []

    def wrong(number: int, message: str) -> None:
        problems.append(Problem(str(file), number, 1, "", message))

    try:
        with file.open("rb") as stream:
            number = 0
            while raw := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    size = len(raw)
                    while not raw.endswith(b"\n") and (raw := stream.readline(1 << 20)):
                        size += len(raw)
                    wrong(number, f"this line has {size:,} bytes; allowed: {MAX_LINE_BYTES:,}")
                    continue
                if not raw.strip():
                    continue
                try:
                    data: object = json.loads(
                        raw.decode("utf-8-sig"), object_pairs_hook=unique_keys
                    )
                except UnicodeDecodeError:
                    wrong(number, "is not UTF-8 text; save the file as UTF-8")
                except (ValueError, RecursionError) as error:
                    wrong(number, f"is not a JSON object: {error}")
                else:
                    marks: dict[Where, Mark] = {(): Mark(None, (number, 1))}
                    placed.append(_case(Document(str(file), data, marks), problems))
    except OSError as error:
        raise SettingsError([Problem(str(file), None, None, "", f"{error.strerror}")]) from None
    return placed


def _case(document: Document, problems: list[Problem]) -> Placed:
    case, found, _ = parsed(Case, document)
    name = document.data.get("id") if is_object(document.data) else None
    for problem in found:
        # The id, where there is one, says more to the reader than `cases[17]`.
        path = f"{name}: {problem.path}" if isinstance(name, str) else problem.path
        problems.append(Problem(problem.file, problem.line, problem.column, path, problem.message))
    return Placed(document, (), None if found else case)
