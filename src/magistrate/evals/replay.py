"""The verdicts of a run, used again: under other settings, or under other labels."""

from __future__ import annotations

from pathlib import Path

from magistrate.evals.cases import Dataset
from magistrate.evals.kept_verdicts import PUT_ASIDE, Kept, decided_again, kept, read_aside
from magistrate.evals.plan import make_folder, manifest_of
from magistrate.evals.run_folder import Run, wrong
from magistrate.settings import Settings
from magistrate.verdicts import JudgeInfo


def replay(run: Run, settings: Settings, folder: Path) -> None:
    """Decide the verdicts of a run again, under other settings; no judge is asked.

    Raises `SettingsError` if the policy of the settings lacks a clause that the run found, or that
    its cases are labelled with.
    """
    known = settings.policy.clauses
    for case in run.cases:
        for clause in case.labels:
            if clause not in known:
                lacks = f"{settings.policy.ref} has no such clause"
                wrong(run.folder, f"has cases labelled with {clause}; {lacks}")
    for result in run.results:
        for found in result.verdict.findings if result.verdict else ():
            if found.clause not in known:
                lacks = f"{settings.policy.ref} has no such clause"
                wrong(run.folder, f"has findings of {found.clause}; {lacks}")
    before = run.manifest
    judge = JudgeInfo(**before["judge"])
    sample = before.get("sample")  # runs of older versions have none
    made = manifest_of(run.cases, settings, judge, int(before["repeat"]), sample)
    made |= {"case_files": before["case_files"], "replay_of": before["settings_hash"]}
    cases = {case.id: case for case in run.cases}
    writer = make_folder(folder, made, run.cases, settings)
    try:
        for result in run.results:
            writer.write(decided_again(settings, cases[result.case], result))
    finally:
        writer.close()


def rescore(run: Run, cases: Dataset, folder: Path) -> Kept:
    """Write a run of these cases with the verdicts that a run has of them; no judge is asked.

    Labels, ids, notes and expectations are those of `cases`. Verdicts go by what was judged, so a
    case that is new or was rewritten has none: it is left out, and is in `new` of what is returned.
    Raises `SettingsError` if no case has a verdict, or the folder is not new.
    """
    aside = read_aside(run.folder / PUT_ASIDE)
    found = kept(run.settings, run.cases, run.results, cases, aside)
    if not found.results:
        wrong(run.folder, "has no verdict of any of these cases")
    lacking = {case.id for case in found.new}
    judged = Dataset(tuple(case for case in cases if case.id not in lacking), cases.files)
    before = run.manifest
    judge = JudgeInfo(**before["judge"])
    made = manifest_of(judged, run.settings, judge, int(before["repeat"]), before.get("sample")) | {
        "rescore_of": before.get("cases_hash")
    }
    writer = make_folder(folder, made, judged, run.settings)
    try:
        for result in found.results:
            writer.write(result)
    finally:
        writer.close()
    return found
