"""A run on disk: what was asked, of whom, and one line for every judgment.

    RUN/manifest.json   who judged, under what, over which cases: every hash and version
    RUN/settings.json   the settings and the policy as they were, so that a run can be decided again
    RUN/cases.jsonl     the cases as they were, so that a report needs nothing else
    RUN/results.jsonl   one `Result` a line, in the order they came in

A line is whole or it is not there: a run that was killed in the middle of one goes on without it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, cast

from pydantic import TypeAdapter

from magistrate.config.diagnostics import Problem, SettingsError
from magistrate.config.schema import parsed
from magistrate.config.yaml_document import Document
from magistrate.core.decide import Decision
from magistrate.evals.cases import Case, Dataset
from magistrate.settings import Settings
from magistrate.verdicts import (
    DECISION_ACTIONS,
    GRADES,
    Failure,
    Grade,
    Outcome,
    Unavailable,
    Usage,
    Verdict,
)
from magistrate.wire.messages import JSON, is_object

FORMAT = 1
MANIFEST, SETTINGS, CASES, RESULTS = (
    "manifest.json",
    "settings.json",
    "cases.jsonl",
    "results.jsonl",
)
OutcomeName = Literal["verdict"] | Failure


@dataclass(frozen=True, slots=True)
class Result:
    """One judgment of one case, and the decision it led to.

    `repeat` counts from 0. `decision` is the whole decision record as JSON, quotes included; its id
    is `case#repeat`. `latency_ms` is the time the judge took, waiting for rate limits not included.
    """

    case: str
    repeat: int
    outcome: Outcome
    decision: JSON
    latency_ms: float

    @property
    def key(self) -> tuple[str, int]:
        return self.case, self.repeat

    @property
    def verdict(self) -> Verdict | None:
        """The judge's verdict; None where it could not answer."""
        return self.outcome if isinstance(self.outcome, Verdict) else None

    @property
    def ended(self) -> OutcomeName:
        """How the judgment ended: with a verdict, or the reason why there is none."""
        return "verdict" if isinstance(self.outcome, Verdict) else self.outcome.reason

    @property
    def action(self) -> str:
        return str(self.decision["action"])

    def grade(self, clauses: Iterable[str]) -> Grade | None:
        """The highest grade among findings of these clauses; None without a verdict."""
        if self.verdict is None:
            return None
        wanted = frozenset(clauses)
        found = {f.grade for f in self.verdict.findings if f.clause in wanted}
        for grade in reversed(GRADES):
            if grade in found:
                return grade
        return "none"

    def as_json(self) -> JSON:
        """The line of `results.jsonl`; `of_json` reads it back."""
        outcome = self.outcome
        said: JSON = {
            "judge": {
                "name": outcome.judge.name,
                "model": outcome.judge.model,
                "prompt_hash": outcome.judge.prompt_hash,
            },
            "usage": _fields(outcome.usage),
            "findings": [_fields(found) for found in outcome.findings],
        }
        if isinstance(outcome, Verdict):
            said |= {
                "high_risk": [_fields(answer) for answer in outcome.high_risk],
                "discloses_ai": outcome.discloses_ai,
                "dropped_quotes": outcome.dropped_quotes,
                "refusals": list(outcome.refusals),
            }
        else:
            said |= {"reason": outcome.reason, "detail": outcome.detail, "floor": outcome.floor}
        return {
            "case": self.case,
            "repeat": self.repeat,
            "ended": self.ended,
            "outcome": said,
            "decision": self.decision,
            "latency_ms": self.latency_ms,
        }

    @classmethod
    def of_json(cls, data: JSON) -> Result:
        """Raises KeyError, TypeError or ValueError for a line of another shape."""
        said, ended, decision = data["outcome"], data["ended"], data["decision"]
        outcome: Outcome
        if ended == "verdict":
            if lost := _WHOLE - set(said):
                raise KeyError(*lost)  # findings that are lost must not read as nothing found
            outcome = _VERDICT.validate_python(said)
        else:
            outcome = _UNAVAILABLE.validate_python(said)
            if outcome.reason != ended:
                raise ValueError("it says in two ways how it ended")
        case, repeat, took = data["case"], data["repeat"], data["latency_ms"]
        if type(case) is not str or type(repeat) is not int or type(took) not in (int, float):
            raise TypeError("a case, a number or a time of another type")
        if decision["action"] not in DECISION_ACTIONS:
            raise ValueError("no such action")
        if decision["action"] == "unavailable" and ended == "verdict":
            raise ValueError("a verdict, and yet no judge was available")
        _USAGE.validate_python(decision["usage"])
        if _unexplained(outcome, decision):
            decision = {**decision, "action": "unavailable"}
        return cls(case, repeat, outcome, decision, took)


def _unexplained(outcome: Outcome, decision: JSON) -> bool:
    """Whether only a missing judge can be why this is a block: runs made before there was a word
    for that said so."""
    missing = isinstance(outcome, Unavailable) and decision["action"] == "block"
    return missing and not outcome.findings and not decision.get("uninspected")


# Whoever writes these files by hand makes the mistakes that people make.
_VERDICT, _UNAVAILABLE = TypeAdapter(Verdict), TypeAdapter(Unavailable)
_USAGE = TypeAdapter(Usage)
_WHOLE = frozenset({"findings", "high_risk", "discloses_ai", "dropped_quotes", "refusals"})


def result_of(
    case: Case, repeat: int, outcome: Outcome, decision: Decision, latency_ms: float
) -> Result:
    """A result. What depends on the moment or on chance is left out of its decision."""
    record = decision.as_json(evidence=True) | {"id": f"{case.id}#{repeat}", "latency_ms": None}
    return Result(case.id, repeat, outcome, record, round(latency_ms, 3))


def _fields(item: Any) -> JSON:
    return {name: getattr(item, name) for name in item.__dataclass_fields__}


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
    """Raises `SettingsError` for results about what the run does not have."""
    ids = {case.id for case in cases}
    for result in results:
        if result.case not in ids:
            wrong(file, f"is about '{result.case}', which is no case of the run")
        for found in result.verdict.findings if result.verdict else ():
            if found.clause not in settings.policy.clauses:
                wrong(file, f"{result.case}: '{found.clause}' is no clause of the run's policy")


def wrong(file: Path, message: str, line: int | None = None) -> NoReturn:
    """Raises `SettingsError` about one file of a run."""
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
    """The settings of a run, the policy among them. Raises `SettingsError`."""
    try:
        return Settings.model_validate_json(json.dumps(read_json(file)))
    except ValueError as error:
        if isinstance(error, SettingsError):
            raise
        wrong(file, "was written by another version of magistrate, or changed since")


def read_cases(file: Path) -> Dataset:
    """The cases of a run, which were checked when they were written."""
    found: list[Case] = []
    for number, data in _json_lines(file):
        case, problems, _ = parsed(Case, Document(str(file), data))
        if case is None or problems:
            wrong(file, "is no case; the file was changed", number)
        else:
            found.append(case)
    return Dataset(tuple(found), (str(file),))


def read_results(file: Path) -> list[Result]:
    """The results of a run so far; none where there is no file. A line cut short is left out."""
    found: dict[tuple[str, int], Result] = {}
    for number, data in _json_lines(file):
        try:
            result = Result.of_json(data)
        except (KeyError, TypeError, ValueError):
            wrong(file, "is no result; the file was changed", number)
        else:
            found[result.key] = result
    return list(found.values())


def _json_lines(file: Path) -> list[tuple[int, JSON]]:
    if not file.exists():
        return []
    raw = file.read_bytes()
    lines = raw.split(b"\n")
    found: list[tuple[int, JSON]] = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last line break is cut short
        if not line.strip():
            continue
        try:
            data: object = json.loads(line)
        except ValueError:
            wrong(file, "is not JSON; the file was changed", number)
        else:
            found.append((number, cast("JSON", data)))
    return found


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
            wrong(self._file, f"cannot be written: {error.strerror}; --resume goes on from here")

    def close(self) -> None:
        self._stream.close()


def _lock(stream: IO[bytes]) -> None:
    """Raises OSError if another process holds the file. A kill frees it."""
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows, where two runs into one folder go unnoticed
        return
    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_json(file: Path, data: JSON) -> None:
    """Write a JSON file, whole or not at all."""
    beside = file.with_name(file.name + ".new")
    beside.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")
    beside.replace(file)


def write_cases(file: Path, cases: Iterable[Case]) -> None:
    """Write cases as JSONL, whole or not at all."""
    beside = file.with_name(file.name + ".new")
    with beside.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        for case in cases:
            data = case.model_dump(mode="json", exclude_defaults=True)
            stream.write(json.dumps(data, ensure_ascii=False) + "\n")
    beside.replace(file)
