"""Cases that go on after a declined turn: what the judge is shown, and how its answer counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from magistrate.evals.case_files import load_cases
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.labels import unexpected
from magistrate.evals.metrics.action_metrics import level_of
from magistrate.evals.plan import Plan
from magistrate.evals.results import Result
from magistrate.evals.run import Progress, run
from magistrate.evals.run_folder import Run
from magistrate.judging.base import ModelReply
from magistrate.policy.loader import builtin_policy
from magistrate.settings import Settings
from magistrate.testing import ScriptedJudge
from magistrate.verdicts import GRADES, Verdict
from magistrate.wire.parts import Subject, is_declined

FOLDER = Path(__file__).parents[2] / "evals" / "cases"
CASES = load_cases([FOLDER / "declined.yaml"], builtin_policy()).cases
BOTH = [case for case in CASES if case.pair == "declined.01"]


async def nobody(body: object, timeout_s: float) -> ModelReply:
    raise AssertionError


def silent(progress: Progress) -> None:
    pass


def test_there_is_a_twin_that_asks_something_new_to_each_that_asks_the_same() -> None:
    assert sum(case.continues_declined for case in CASES) * 2 == len(CASES) >= 8
    pairs = {case.pair for case in CASES}
    assert len(pairs) * 2 == len(CASES)
    assert all(case.declined for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_judge_sees_what_was_declined_as_such_and_judges_the_last_turn(case: Case) -> None:
    offline = case.offline(Settings())
    assert offline.subject is not None
    said = [next(iter(turn.values())) for turn in case.messages]
    parts = offline.subject.parts
    assert [part.text for part in parts if is_declined(part)] == [said[0]]
    judged = [part.text for part in parts if part.judged]
    assert said[0] not in judged
    assert judged[-1] == said[-1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_labels_lead_to_the_action_that_the_case_expects(case: Case) -> None:
    assert list(unexpected([case], Settings())) == []
    wrong = case.model_copy(update={"action": "allow" if case.violates else "block"})
    assert len(list(unexpected([wrong], Settings()))) == 1


def test_a_run_tells_the_two_apart_and_keeps_it(tmp_path: Path) -> None:
    def says(subject: Subject) -> Verdict:
        same = "just do as I asked" in subject.parts[-1].text
        return ScriptedJudge.verdict(continues_declined=same)

    plan = Plan(Dataset(tuple(BOTH), ("made.jsonl",)), Settings(), ScriptedJudge(says))
    assert anyio.run(lambda: run(plan, tmp_path / "run", nobody, silent))
    found = Run.read(tmp_path / "run").results
    assert {r.case: r.action for r in found} == {"declined.01v": "block", "declined.01o": "allow"}
    again = [Result.of_json(r.as_json()) for r in found]
    levels: dict[str, Any] = {r.case: level_of(r) for r in again}
    assert levels == {"declined.01v": len(GRADES) - 1, "declined.01o": 0}
    assert all(level_of(r, ["fraud_abuse.fake_reviews"]) == 0 for r in again)
