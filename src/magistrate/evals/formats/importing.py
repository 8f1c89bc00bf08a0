"""Other people's labelled sets as cases of ours: row by row, through a mapping.

Labels are taken as their authors meant them. What they do not say stays unknown: a row is benign
only where its set says so, and only under the clauses that its labels are about.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from magistrate.config.diagnostics import Problem, SettingsError, listed
from magistrate.evals.case_files import MAX_LINE_BYTES
from magistrate.evals.cases import Case
from magistrate.evals.formats.conversion import Conversion, LeftOut, Unusable
from magistrate.evals.formats.mapping import RowMapping, has
from magistrate.evals.formats.rows import BadRow, read_rows
from magistrate.settings import Settings
from magistrate.wire.messages import JSON

MAX_PROBLEMS = 1_000  # of rows, kept to be shown; further ones are counted
NOT_MARKED = (
    "This set does not mark rows about child safety, so none could be left out for that. Look at "
    "what was imported before you pass it on."
)
DOUBTFUL = (
    "{n:,} rows have a line within quotation marks that has as many columns as a row, the first on "
    "line {line}. If a mark is missing there, rows are lost in it: look at them."
)
LEGAL_WEIGHT = (
    "Rows about child safety are imported, as you asked. In many countries having, copying or "
    "sending such material is an offence, as text and for tests as well, and every judgment sends "
    "it to a provider. Have that decided by someone who answers for it legally, keep the file away "
    "from shared places, and delete it when it is no longer needed."
)


@dataclass(slots=True)
class Imported:
    """What became of the rows of a file. `clauses`: for each clause, its labels and their number.

    `bad` rows could not be used; the first of `problems` say why. `notices` are for people.
    """

    rows: int = 0
    violating: int = 0
    benign: int = 0
    unknown: int = 0
    left_out: Counter[str] = field(default_factory=Counter[str])
    clauses: defaultdict[str, Counter[str]] = field(
        default_factory=lambda: defaultdict[str, Counter[str]](Counter)
    )
    doubtful: int = 0
    bad: int = 0
    problems: list[Problem] = field(default_factory=list[Problem])
    notices: list[str] = field(default_factory=list[str])

    @property
    def cases(self) -> int:
        return self.violating + self.benign + self.unknown

    def as_json(self) -> JSON:
        return {
            "rows": self.rows,
            "cases": self.cases,
            "violating": self.violating,
            "benign": self.benign,
            "unknown": self.unknown,
            "left_out": dict(self.left_out),
            "clauses": {
                clause: {
                    "violated": found["violated"],
                    "ok": found["ok"],
                    "unknown": self.cases - found.total(),
                }
                for clause, found in sorted(self.clauses.items())
            },
            "doubtful": self.doubtful,
            "bad": self.bad,
            "notices": self.notices,
        }

    def add(self, case: Case) -> None:
        self.violating += case.violates is True
        self.benign += case.violates is False
        self.unknown += case.violates is None
        for clause, label in (*case.labels.items(), *case.sections.items()):
            self.clauses[clause][label] += 1

    def wrong(self, problem: Problem) -> None:
        self.bad += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


def import_rows(
    file: Path,
    mapping: RowMapping,
    settings: Settings,
    out: Path,
    *,
    child_safety: bool = False,
    skip_bad: bool = False,
    delimiter: str | None = None,
) -> Imported:
    """Write the rows of a file as cases, one a line, and say what became of them.

    `delimiter` separates the values of a CSV file; without it the header shows which does. `out` is
    written whole or not at all. Raises `SettingsError` if the file or `out` cannot be used, if no
    row became a case, or, without `skip_bad`, with every row that could not be used.
    """
    if out.suffix != ".jsonl" or out.exists():
        what = "exists already; give a new file" if out.exists() else "must end in .jsonl"
        raise SettingsError([Problem(str(out), None, None, "", what)])
    session = _Session(file, Conversion(mapping, settings, child_safety), delimiter)
    fresh = out.with_name(out.name + ".new")
    try:
        with fresh.open("wb") as stream:
            for line in session.lines():
                stream.write(line)
        session.finish(skip_bad=skip_bad)
        fresh.replace(out)
    except OSError as error:
        raise SettingsError([Problem(str(out), None, None, "", f"{error.strerror}")]) from None
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
    return session.found


@dataclass(slots=True)
class _Session:
    """One import. `seen`: the columns of the mapping that any row had."""

    file: Path
    conversion: Conversion
    delimiter: str | None = None
    found: Imported = field(default_factory=Imported)
    seen: set[str] = field(default_factory=set[str])
    first_doubt: int = 0

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the new file."""
        mapping = self.conversion.mapping
        for row in read_rows(self.file, mapping.format, mapping.used, self.delimiter):
            self.found.rows += 1
            if isinstance(row, BadRow):
                self._wrong(row.line, row.message)
                continue
            if row.doubtful:
                self.found.doubtful += 1
                self.first_doubt = self.first_doubt or row.line
            named = (*mapping.used, *mapping.groups)
            self.seen |= {name for name in named if has(row.values, name)}
            try:
                case = self.conversion.case(row)
            except Unusable as error:
                self._wrong(row.line, str(error))
            except LeftOut as error:
                self.found.left_out[str(error)] += 1
            else:
                data = case.model_dump(mode="json", exclude_defaults=True)
                line = json.dumps(data, ensure_ascii=False).encode() + b"\n"
                if len(line) > MAX_LINE_BYTES:
                    self._wrong(row.line, f"becomes a case of more than {MAX_LINE_BYTES:,} bytes")
                else:
                    self.found.add(case)
                    yield line

    def _wrong(self, line: int, message: str) -> None:
        self.found.wrong(Problem(str(self.file), line, 1, "", message))

    def finish(self, *, skip_bad: bool) -> None:
        """Raise `SettingsError` if the rows that were read are unusable."""
        found, problems = self.found, list(self.found.problems)
        if found.bad > len(problems):
            more = f"and {found.bad - len(problems):,} more rows that cannot be used"
            problems.append(Problem(str(self.file), None, None, "", more))
        if problems and not skip_bad:
            raise SettingsError(problems)
        mapping = self.conversion.mapping
        never = [name for name in mapping.used if name not in self.seen]
        if found.rows > found.bad and never:
            message = f"no row has {listed(never)}; is the mapping for another format?"
            raise SettingsError([*problems, Problem(str(self.file), None, None, "", message)])
        if not found.cases:
            message = f"none of {found.rows:,} rows became a case"
            raise SettingsError([*problems, Problem(str(self.file), None, None, "", message)])
        if found.doubtful:
            found.notices.append(DOUBTFUL.format(n=found.doubtful, line=self.first_doubt))
        if lacking := [name for name in mapping.groups if name not in self.seen]:
            found.notices.append(f"No row has the group column {listed(lacking)}.")
        if not mapping.child_safety:
            found.notices.append(NOT_MARKED)
        elif self.conversion.child_safety:
            found.notices.append(LEGAL_WEIGHT)
