"""The plan of a run, and the folder it is written to: made once, resumed after that."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from magistrate._version import __version__
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.kept_verdicts import take_over
from magistrate.evals.results import Result
from magistrate.evals.run_folder import (
    CASES,
    FORMAT,
    MANIFEST,
    RESULTS,
    SETTINGS,
    Writer,
    read_json,
    read_results,
    write_cases,
    write_json,
    write_settings,
    wrong,
)
from magistrate.evals.sampling import Sample
from magistrate.judging.base import Judge
from magistrate.settings import Settings
from magistrate.verdicts import JudgeInfo
from magistrate.wire.messages import JSON, is_object

Work = tuple[Case, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. `budget_usd` bounds what this session spends, as prices are known.

    `sample` says how `cases` were drawn, where they are a sample.
    """

    cases: Dataset
    settings: Settings
    judge: Judge
    repeat: int = 1
    concurrency: int = 16
    budget_usd: float | None = None
    sample: Sample | None = None

    def info(self) -> JudgeInfo:
        return self.judge.info(self.settings)


def manifest_of(
    cases: Dataset, settings: Settings, judge: JudgeInfo, repeat: int, sample: JSON | None
) -> JSON:
    """Everything a result may depend on, in names, versions and hashes."""
    return {
        "format": FORMAT,
        "cases": len(cases),
        "cases_hash": cases.hash,
        "case_files": list(cases.files),
        "sample": sample,
        "repeat": repeat,
        "policy": settings.policy.ref,
        "policy_hash": settings.policy.hash,
        "settings_hash": settings.hash,
        "judge": {"name": judge.name, "model": judge.model, "prompt_hash": judge.prompt_hash},
        "magistrate": __version__,
        "anthropic": version("anthropic"),
        "python": platform.python_version(),
    }


# What must be the same for a run to go on: the rest of the manifest only says where it was made.
# Cases may change: a verdict is kept by what was judged.
_SAME = ("format", "sample", "repeat", "policy_hash", "settings_hash", "judge")


def open_run(plan: Plan, folder: Path, *, resume: bool) -> list[Result]:
    """Make a run's folder or resume one, and return the results it has.

    Raises `SettingsError` if the folder holds something else, or a run of something else.
    """
    writer, before = begin(plan, folder, resume=resume)
    writer.close()
    return before


def begin(plan: Plan, folder: Path, *, resume: bool) -> tuple[Writer, list[Result]]:
    """As `open_run`, and the folder stays this process's own until the writer is closed.

    If the cases are not those that the run was begun with, they become its cases: what was judged
    of them keeps its verdicts, and the rest is put aside (`kept_verdicts`). Results are read under
    its lock, so that nothing is asked that another process just wrote.
    """
    sample = plan.sample.as_json() if plan.sample else None
    manifest = manifest_of(plan.cases, plan.settings, plan.info(), plan.repeat, sample)
    if (folder / MANIFEST).exists():
        before = read_json(folder / MANIFEST)
        if not resume:
            wrong(folder, "a run exists in this folder; --resume continues it")
        for key in _SAME:
            if _essence(before.get(key)) != _essence(manifest[key]):
                was, now = (_named(key, found.get(key)) for found in (before, manifest))
                said = f"another {key} ({was} before, {now} now)"
                wrong(folder / MANIFEST, f"was begun with {said}; begin a new run")
        writer = Writer(folder)
    else:
        before = manifest
        writer = make_folder(folder, manifest, plan.cases, plan.settings)
    try:
        if before.get("cases_hash") == manifest["cases_hash"]:
            return writer, read_results(folder / RESULTS)
        results, aside = take_over(folder, writer, plan.settings, plan.cases)
        now = {key: manifest[key] for key in ("cases", "cases_hash", "case_files", "sample")}
        write_json(folder / MANIFEST, before | now | {"put_aside": aside})
        return writer, results
    except BaseException:
        writer.close()
        raise


def _essence(value: object) -> object:
    """Return what must be the same; of a sample, not how many cases there were to draw from."""
    if is_object(value) and "seed" in value:
        return value.get("size"), value.get("seed")
    return value


def _named(key: str, value: object) -> object:
    if key != "sample":
        return value
    if not is_object(value):
        return "none"
    return f"--sample {value.get('size')} --seed {value.get('seed')} of {value.get('of')} cases"


def make_folder(folder: Path, manifest: JSON, cases: Dataset, settings: Settings) -> Writer:
    """Make a run's folder, the manifest last: with it there is a run."""
    # What a run leaves that was killed before it began.
    own = {RESULTS, CASES, SETTINGS, *(f"{name}.new" for name in (CASES, SETTINGS, MANIFEST))}
    if folder.exists() and (not folder.is_dir() or {each.name for each in folder.iterdir()} - own):
        wrong(folder, "exists and is not empty; give a new folder")
    if (folder / RESULTS).exists() and (folder / RESULTS).stat().st_size:
        wrong(folder, f"has results, but no {MANIFEST}; give a folder that is new")
    folder.mkdir(parents=True, exist_ok=True)
    writer = Writer(folder)
    try:
        if (folder / MANIFEST).exists():
            wrong(folder, "another process has just begun a run in here")
        write_cases(folder / CASES, cases)
        write_settings(folder / SETTINGS, settings)
        write_json(folder / MANIFEST, manifest | {"started": _now()})
    except BaseException:
        writer.close()
        raise
    return writer


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def left_over(plan: Plan, before: Iterable[Result], *, retry_failed: bool) -> list[Work]:
    """Return what a run still has to ask. With `retry_failed` also what has no verdict yet."""
    done = {result.key for result in before if result.verdict is not None or not retry_failed}
    return [
        (case, number)
        for number in range(plan.repeat)
        for case in plan.cases
        if (case.id, number) not in done
    ]
