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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from magistrate.config.diagnostics import Problem, SettingsError, listed, nearest
from magistrate.evals.case_files import MAX_LINE_BYTES
from magistrate.wire.messages import JSON, is_object, unique_keys

_SKIPPED = 1 << 20  # bytes of a row that is too long, held at a time


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the line it begins on (from 1), and its columns."""

    line: int
    values: JSON


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and why."""

    line: int
    message: str


def read_rows(
    file: Path, format: Literal["csv", "jsonl"], columns: tuple[str, ...]
) -> Iterator[Row | BadRow]:
    """Yield every row of a file; `.gz` files are unpacked on the way.

    `columns` are those that a CSV file must have. Raises `SettingsError` if the file cannot be read
    or has no such columns.
    """
    try:
        with _opened(file) as stream:
            if format == "csv":
                yield from _csv(file, stream, columns)
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
    closed: bool = True

    def text(self) -> str | BadRow:
        if not self.closed:
            return BadRow(self.line, "a quotation mark is never closed")
        if self.raw is None:
            return BadRow(self.line, f"has more than {MAX_LINE_BYTES:,} bytes")
        try:
            text = self.raw.decode("utf-8-sig" if self.line == 1 else "utf-8")
        except UnicodeDecodeError as error:
            return BadRow(self.line, f"is not UTF-8 text (byte {error.start + 1} of the row)")
        if "\0" in text:
            return BadRow(self.line, "has a NUL character in it")
        return text


def _records(stream: IO[bytes], *, quoted: bool) -> Iterator[_Record]:
    """Rows as bytes; with `quoted`, a line break between quotation marks ends none.

    Within quotation marks a mark is doubled, so a row is over where their number is even.
    """
    begin = line = 1
    kept = bytearray()
    too_long = open_quote = False
    while piece := stream.readline(_SKIPPED):
        if quoted:
            open_quote ^= piece.count(b'"') % 2 == 1
        too_long = too_long or len(kept) + len(piece) > MAX_LINE_BYTES
        if too_long:
            kept.clear()
        else:
            kept += piece
        ended = piece.endswith(b"\n")
        line += ended
        if ended and not open_quote:
            yield _Record(begin, None if too_long else bytes(kept))
            begin, too_long = line, False
            kept.clear()
    if kept or too_long:
        yield _Record(begin, None if too_long else bytes(kept), not open_quote)


def _jsonl(stream: IO[bytes]) -> Iterator[Row | BadRow]:
    for record in _records(stream, quoted=False):
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


def _csv(file: Path, stream: IO[bytes], columns: tuple[str, ...]) -> Iterator[Row | BadRow]:
    # The limit is the whole process's: it is only ever raised, to what a row may have anyway.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    header: list[str] | None = None
    for record in _records(stream, quoted=True):
        text = record.text()
        found = text if isinstance(text, BadRow) else _values(record.line, text)
        if header is None:
            if isinstance(found, BadRow):
                raise SettingsError([Problem(str(file), found.line, 1, "", found.message)])
            header = _header(file, found, columns)
        elif isinstance(found, BadRow):
            yield found
        elif found and len(found) != len(header):
            yield BadRow(record.line, f"has {len(found)} values, the header has {len(header)}")
        elif found:
            yield Row(record.line, dict(zip(header, found, strict=True)))
    if header is None:
        raise SettingsError([Problem(str(file), None, None, "", "is empty; a header is needed")])


def _values(line: int, text: str) -> list[str] | BadRow:
    try:
        return [value for values in csv.reader([text], strict=True) for value in values]
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
