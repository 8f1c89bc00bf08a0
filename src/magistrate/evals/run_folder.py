"""A run on disk: what was asked, of which judge, and one line for every judgment.

    RUN/manifest.json   who judged, under what, over which cases: every hash and version
    RUN/settings.json   the settings and the policy as they were, so that a run can be decided again
    RUN/cases.jsonl     the cases as they were, so that a report needs nothing else
    RUN/results.jsonl   one `Result` a line, in the order they came in

A line is complete or absent: a run that was killed while writing one continues without it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, cast

from magistrate.config.diagnostics import Problem, SettingsError
from magistrate.config.schema import parsed
from magistrate.config.yaml_document import Document
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.results import BadNumber, Result
from magistrate.settings import Settings
from magistrate.wire.messages import JSON, is_object

FORMAT = 1
MANIFEST, SETTINGS, CASES, RESULTS = (
    "manifest.json",
    "settings.json",
    "cases.jsonl",
    "results.jsonl",
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run that was read back: its manifest, cases, settings, and results by case and repeat."""

    folder: Path
    manifest: JSON
    settings: Settings
    cases: Dataset
    results: tuple[Result, ...]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def sampled(self) -> str | None:
        """How its cases were drawn, in words; None where they were not."""
        found: object = self.manifest.get("sample")
        if not is_object(found):
            return None
        said = f"{len(self.cases):,} of {found.get('of')} cases, seed {found.get('seed')}"
        missing = [str(name) for name in cast("list[object]", found.get("missing") or [])]
        return said + (f", none of {', '.join(missing)}" if missing else "")

    @property
    def complete(self) -> bool:
        """Whether every case was judged as often as it was to be."""
        return len(self.results) >= len(self.cases) * int(self.manifest["repeat"])

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Run:
        """Read a run's folder. Raises `SettingsError` for one that is none, or is damaged."""
        path = Path(folder)
        manifest = read_json(path / MANIFEST)
        if manifest.get("format") != FORMAT:
            wrong(
                path / MANIFEST, f"format {manifest.get('format')!r}; this version reads {FORMAT}"
            )
        if missing := sorted({"cases", "repeat", "judge", "settings_hash"} - set(manifest)):
            wrong(path / MANIFEST, f"lacks {missing[0]}; the file was changed")
        if type(manifest["repeat"]) is not int or not is_object(manifest["judge"]):
            wrong(path / MANIFEST, "is no manifest of a run; the file was changed")
        settings, cases = read_settings(path / SETTINGS), read_cases(path / CASES)
        results = tuple(read_results(path / RESULTS))
        _fit(path / RESULTS, settings, cases, results)
        return cls(path, manifest, settings, cases, results)


def _fit(file: Path, settings: Settings, cases: Dataset, results: Iterable[Result]) -> None:
    """Raise `SettingsError` for results about cases or clauses that the run does not have."""
    ids = {case.id for case in cases}
    for result in results:
        if result.case not in ids:
            wrong(file, f"is about '{result.case}', which is no case of the run")
        for found in result.verdict.findings if result.verdict else ():
            if found.clause not in settings.policy.clauses:
                wrong(file, f"{result.case}: '{found.clause}' is no clause of the run's policy")


def wrong(file: Path, message: str, line: int | None = None) -> NoReturn:
    """Raise `SettingsError` about one file of a run."""
    raise SettingsError([Problem(str(file), line, 1 if line else None, "", message)]) from None


def read_json(file: Path) -> JSON:
    try:
        found: object = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        wrong(file, "there is no such file; a run's folder is made by `magistrate eval run`")
    except (OSError, ValueError) as error:
        wrong(file, f"cannot be read: {error}")
    if not is_object(found):
        wrong(file, "is not a JSON object")
    return found


def write_settings(file: Path, settings: Settings) -> None:
    """Write settings with their policy, so that `read_settings` makes the same of any version."""
    data = settings.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    data["policy"] = settings.policy.model_dump(mode="json", exclude_none=True)
    write_json(file, data)


def read_settings(file: Path) -> Settings:
    """Return the settings of a run, the policy among them. Raise `SettingsError`."""
    try:
        return Settings.model_validate_json(json.dumps(read_json(file)))
    except ValueError as error:
        if isinstance(error, SettingsError):
            raise
        wrong(file, "was written by another version of magistrate, or changed since")


def read_cases(file: Path) -> Dataset:
    """Return the cases of a run, which were checked when they were written."""
    found: list[Case] = []
    for number, data in json_lines(file):
        case, problems, _ = parsed(Case, Document(str(file), data))
        if case is None or problems:
            wrong(file, "is no case; the file was changed", number)
        else:
            found.append(case)
    return Dataset(tuple(found), (str(file),))


def read_results(file: Path) -> list[Result]:
    """Return the results so far; none without a file. A line cut short is left out.

    A judgment that failed may have been asked for again: its last line counts. Raises
    `SettingsError` for two lines that give one judgment different verdicts, with both of them.
    """
    found: dict[tuple[str, int], tuple[int, Result]] = {}
    for number, result in read_lines(file):
        first, before = found.get(result.key, (number, result))
        if before.verdict is not None and before.as_json() != result.as_json():
            wrong(
                file,
                f"says of {result.case}, repeat {result.repeat}, something else than line {first} "
                "does; delete the line that is wrong",
                number,
            )
        found[result.key] = number, result
    return [result for _, result in found.values()]


def read_lines(file: Path) -> list[tuple[int, Result]]:
    """Return every line of results with its number, also those that a later line replaced."""
    found: list[tuple[int, Result]] = []
    for number, data in json_lines(file):
        try:
            found.append((number, Result.of_json(data)))
        except (KeyError, TypeError, ValueError) as error:
            why = f" ({error})" if isinstance(error, BadNumber) else ""
            wrong(file, f"is no result{why}; the file was changed", number)
    return found


def json_lines(file: Path) -> list[tuple[int, JSON]]:
    """Return the lines of a JSONL file with their numbers; none without a file.

    What follows the last line break was cut short by a kill, and is left out. Raises
    `SettingsError` for another line that is not JSON.
    """
    if not file.exists():
        return []
    raw = file.read_bytes()
    lines = raw.split(b"\n")
    found: list[tuple[int, JSON]] = []
    for number, line in enumerate(lines[:-1], 1):
        if not line.strip():
            continue
        try:
            data: object = json.loads(line, parse_constant=_no_number)
        except BadNumber as error:
            wrong(file, f"{error}; the file was changed", number)
        except ValueError:
            wrong(file, "is not JSON; the file was changed", number)
        else:
            found.append((number, cast("JSON", data)))
    return found


def _no_number(word: str) -> NoReturn:
    raise BadNumber(f"{word} is no number in JSON")


class Writer:
    """Appends results, each on disk before the next call of `write` returns.

    One process at a time: raises `SettingsError` while another one writes into the folder, and
    where it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / RESULTS
        try:
            # Unbuffered: what could not be written must not be tried again on closing.
            self._stream = self._file.open("a+b", buffering=0)
        except OSError as error:
            wrong(self._file, f"cannot be written: {error.strerror}")
        try:
            _lock(self._stream)
        except OSError:
            self._stream.close()
            wrong(folder, "another process is writing this run; let it end, or stop it")
        self._stream.seek(0)
        raw = self._stream.read()
        self._stream.truncate(raw.rfind(b"\n") + 1)  # a line that was cut short by a kill

    def write(self, result: Result) -> None:
        """Append a result, whole or not at all. Raises `SettingsError` on a full disk and such."""
        line = json.dumps(result.as_json(), ensure_ascii=False, separators=(",", ":"))
        left = memoryview(line.encode("utf-8", "backslashreplace") + b"\n")
        end = self._stream.seek(0, os.SEEK_END)
        try:
            while left:
                left = left[self._stream.write(left) :]
            os.fsync(self._stream.fileno())
        except OSError as error:
            with suppress(OSError):
                self._stream.truncate(end)
            wrong(self._file, f"cannot be written: {error.strerror}; --resume continues from here")

    def replace(self, results: Iterable[Result]) -> None:
        """Write other results in place of those there are, all or none; stay the only writer."""
        fresh = self._file.with_name(self._file.name + ".new")
        write_lines(fresh, (result.as_json() for result in results))
        try:
            stream = fresh.open("a+b", buffering=0)
            try:
                _lock(stream)
                fresh.replace(self._file)
            except BaseException:
                stream.close()
                raise
        except OSError as error:
            wrong(self._file, f"cannot be written: {error.strerror}")
        self._stream.close()
        self._stream = stream

    def close(self) -> None:
        self._stream.close()


def _lock(stream: IO[bytes]) -> None:
    """Raise OSError if another process holds the file. A kill frees it."""
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows, where two runs into one folder go unnoticed
        return
    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_json(file: Path, data: JSON) -> None:
    """Write a JSON file, whole or not at all."""
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")
    fresh.replace(file)


def write_cases(file: Path, cases: Iterable[Case]) -> None:
    """Write cases as JSONL, whole or not at all."""
    write_lines(file, (case.model_dump(mode="json", exclude_defaults=True) for case in cases))


def write_lines(file: Path, lines: Iterable[JSON]) -> None:
    """Write a JSONL file, whole or not at all."""
    fresh = file.with_name(file.name + ".new")
    with fresh.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        for line in lines:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    fresh.replace(file)
