"""Replaying a run: its verdicts decided again under other settings."""

from __future__ import annotations

from pathlib import Path

from magistrate.core.offline import OfflineDecision
from magistrate.evals.labels import for_case
from magistrate.evals.plan import make_folder, manifest_of
from magistrate.evals.results import result_of
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
            case = cases[result.case]
            offline = OfflineDecision.of(
                for_case(settings, case), case.stage, case.request, case.answer
            )
            decision = offline.decide([result.outcome], result.outcome.judge)
            writer.write(
                result_of(case, result.repeat, result.outcome, decision, result.latency_ms)
            )
    finally:
        writer.close()
