"""The rows of a CSV or JSONL file, one at a time, each with the line it begins on.

However large the file is, and whatever is wrong with it, only one row is held. A row that cannot be
read is given out as such, and the next one begins where it should.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, cast

from magistrate.config.diagnostics import Problem, SettingsError, listed, nearest
from magistrate.evals.case_files import MAX_LINE_BYTES
from magistrate.evals.formats.csv_records import csv_records
from magistrate.wire.messages import JSON, is_object, unique_keys

DELIMITERS = (",", ";", "\t", "|")
_SKIPPED = 1 << 20  # bytes of a row that is too long, held at a time


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the line it begins on (from 1), and its columns.

    `doubtful`: one of its lines, within quotation marks, has as many columns as a row.
    """

    line: int
    values: JSON
    doubtful: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and why."""

    line: int
    message: str


def read_rows(
    file: Path,
    format: Literal["csv", "jsonl"],
    columns: tuple[str, ...],
    delimiter: str | None = None,
) -> Iterator[Row | BadRow]:
    """Yield every row of a file; `.gz` files are unpacked on the way.

    `columns` are those that a CSV file must have. `delimiter`: what separates its values; without
    it, the first of `DELIMITERS` by which its header has those columns. Raises `SettingsError` if
    the file cannot be read or has no such columns.
    """
    try:
        with _opened(file) as stream:
            if format == "csv":
                yield from _csv(file, stream, columns, delimiter)
            else:
                yield from _jsonl(stream)
    except (OSError, EOFError, zlib.error) as error:
        said = getattr(error, "strerror", None) or error
        raise SettingsError(
            [Problem(str(file), None, None, "", f"cannot be read: {said}")]
        ) from None


@contextmanager
def _opened(file: Path) -> Generator[IO[bytes]]:
    with file.open("rb") as raw:
        if file.suffix == ".gz":
            with gzip.open(raw) as unpacked:
                yield cast("IO[bytes]", unpacked)
        else:
            yield raw


@dataclass(frozen=True, slots=True)
class _Record:
    """The bytes of a row. `raw` is None where there were too many to hold."""

    line: int
    raw: bytes | None
    wrong: str | None = None

    def text(self) -> str | BadRow:
        if self.wrong is not None:
            return BadRow(self.line, self.wrong)
        if self.raw is None:
            return BadRow(self.line, f"has more than {MAX_LINE_BYTES:,} bytes")
        try:
            text = self.raw.decode("utf-8-sig" if self.line == 1 else "utf-8")
        except UnicodeDecodeError as error:
            return BadRow(self.line, f"is not UTF-8 text (byte {error.start + 1} of the row)")
        if "\0" in text:
            return BadRow(self.line, "has a NUL character in it")
        return text


def _lines(stream: IO[bytes]) -> Iterator[_Record]:
    line, kept, too_long = 1, bytearray(), False
    while piece := stream.readline(_SKIPPED):
        too_long = too_long or len(kept) + len(piece) > MAX_LINE_BYTES
        if too_long:
            kept.clear()
        else:
            kept += piece
        if piece.endswith(b"\n"):
            yield _Record(line, None if too_long else bytes(kept))
            line, too_long = line + 1, False
            kept.clear()
    if kept or too_long:
        yield _Record(line, None if too_long else bytes(kept))


def _jsonl(stream: IO[bytes]) -> Iterator[Row | BadRow]:
    for record in _lines(stream):
        text = record.text()
        if isinstance(text, BadRow):
            yield text
            continue
        if not text.strip():
            continue
        try:
            data: object = json.loads(text, object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as error:
            yield BadRow(record.line, f"is not a JSON object: {error}")
            continue
        yield (
            Row(record.line, data)
            if is_object(data)
            else BadRow(record.line, "is not a JSON object")
        )


def _csv(
    file: Path, stream: IO[bytes], columns: tuple[str, ...], delimiter: str | None
) -> Iterator[Row | BadRow]:
    # The limit is the whole process's: it is only ever raised, to what a row may have anyway.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    if delimiter is None:
        delimiter = _sniffed(stream.readline(MAX_LINE_BYTES), columns)
        stream.seek(0)
    header: list[str] | None = None
    for line, raw, wrong in csv_records(stream, delimiter.encode(), MAX_LINE_BYTES):
        text = _Record(line, raw, wrong).text()
        found = text if isinstance(text, BadRow) else _values(line, text, delimiter)
        if header is None:
            if isinstance(found, BadRow):
                raise SettingsError([Problem(str(file), found.line, 1, "", found.message)])
            header = _header(file, found, columns)
        elif isinstance(found, BadRow):
            yield found
        elif found and len(found) != len(header):
            ends = line + str(text).rstrip("\r\n").count("\n")
            upto = f" (it goes on to line {ends}: is a quotation mark missing?)" * (ends > line)
            yield BadRow(line, f"has {len(found)} values, the header has {len(header)}{upto}")
        elif found:
            values = dict(zip(header, found, strict=True))
            yield Row(line, values, _doubtful(str(text), len(header), delimiter))
    if header is None:
        raise SettingsError([Problem(str(file), None, None, "", "is empty; a header is needed")])


def _sniffed(header: bytes, columns: tuple[str, ...]) -> str:
    text = header.decode("utf-8-sig", "replace")
    for delimiter in DELIMITERS:
        found = _values(1, text, delimiter)
        if not isinstance(found, BadRow) and set(columns) <= set(found):
            return delimiter
    return DELIMITERS[0]


def _doubtful(text: str, columns: int, delimiter: str) -> bool:
    """Return whether a quotation mark may be missing: a line in the row looks like a row itself."""
    _, *inside = text.rstrip("\r\n").split("\n")
    return any(line.count(delimiter) == columns - 1 for line in inside if columns > 1) and any(
        delimiter in line.partition('"')[0] for line in inside
    )


def _values(line: int, text: str, delimiter: str) -> list[str] | BadRow:
    try:
        rows = csv.reader([text], strict=True, delimiter=delimiter)
        return [value for values in rows for value in values]
    except csv.Error as error:
        return BadRow(line, f"is not CSV: {error}")


def _header(file: Path, header: list[str], columns: tuple[str, ...]) -> list[str]:
    wrong = [
        f"there is no column '{name}'; there are: {listed(header)}{nearest(name, header)}"
        for name in columns
        if name not in header
    ]
    wrong += [
        f"the column '{name}' occurs {header.count(name)} times"
        for name in dict.fromkeys(columns)
        if header.count(name) > 1
    ]
    if wrong:
        raise SettingsError(Problem(str(file), 1, 1, "", message) for message in wrong)
    return header
