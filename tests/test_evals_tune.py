"""Thresholds by section: chosen on dev under a bound on false alarms, and reported on test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from magistrate.evals.cases import Case, Dataset
from magistrate.evals.results import Run, Writer, result_of
from magistrate.evals.run import Plan, open_run
from magistrate.evals.tune import effect, tune
from magistrate.problems import SettingsError
from magistrate.settings import Settings
from magistrate.trial import Trial
from magistrate.verdicts import Finding, Grade, JudgeInfo, Severity, Verdict

WHO = JudgeInfo("made")
FRAUD, LOBBY, CHILD = "fraud_abuse.spam", "elections.lobbying", "child_safety.csam"
Found = tuple[str, Grade, Severity]


def made(rows: list[tuple[str, str | None, list[Found]]], folder: Path) -> Run:
    """A run: split, the clause that is violated or None, what the judge found."""
    cases: list[Case] = []
    verdicts: list[Verdict] = []
    for number, (split, violated, found) in enumerate(rows):
        data: dict[str, Any] = {
            "id": f"c.{number}",
            "stage": "input",
            "messages": [{"user": f"case {number}"}],
            "labels": {violated: "violated"} if violated else {},
            "action": "block" if violated else "allow",
            "split": split,
        } | ({"severity": "high"} if violated else {})
        cases.append(Case.model_validate(data))
        verdicts.append(
            Verdict(
                WHO, tuple(Finding(c, g, s, "input", "messages[0].content") for c, g, s in found)
            )
        )

    class Judge:
        def info(self, settings: Settings) -> JudgeInfo:
            return WHO

    settings = Settings()
    dataset = Dataset(tuple(cases), ("made",))
    open_run(Plan(dataset, settings, Judge()), folder, resume=False)  # type: ignore[arg-type]
    writer = Writer(folder)
    for case, verdict in zip(cases, verdicts, strict=True):
        trial = Trial.of(settings, "input", case.request, {})
        writer.write(result_of(case, 0, verdict, trial.decide([verdict], WHO), 1.0))
    writer.close()
    return Run.read(folder)


def rows(
    split: str, clause: str | None, *found: Found, times: int = 1
) -> list[tuple[str, str | None, list[Found]]]:
    return [(split, clause, list(found))] * times


def test_the_loosest_row_within_the_bound_is_chosen_for_each_section(tmp_path: Path):
    """Fraud: `possible` catches more and alarms nobody. Elections: it alarms too many."""
    run = made(
        [
            *rows("dev", FRAUD, (FRAUD, "possible", "medium"), times=6),
            *rows("dev", FRAUD, (FRAUD, "likely", "medium"), times=4),
            *rows("dev", LOBBY, (LOBBY, "likely", "medium"), times=5),
            *rows("dev", LOBBY, (LOBBY, "possible", "medium"), times=1),
            *rows("dev", None, (LOBBY, "possible", "medium"), times=20),
            *rows("dev", None, times=80),
            *rows("test", FRAUD, (FRAUD, "possible", "medium"), times=3),
            *rows("test", None, (FRAUD, "possible", "medium"), times=1),
            *rows("test", None, times=9),
        ],
        tmp_path / "r",
    )
    found = tune(run, 0.05)
    assert found.rows == {"fraud_abuse": ("possible", "medium")}
    assert (found.before["dev"].recall.value, found.after["dev"].recall.value) == (9 / 16, 15 / 16)
    assert found.after["dev"].fpr.value == 0
    # What looked free on dev is not on test, and it is test that is reported.
    assert (found.before["test"].recall.value, found.after["test"].recall.value) == (0, 1)
    assert (found.before["test"].fpr.value, found.after["test"].fpr.value) == (0, 0.1)


def test_no_more_benign_cases_are_stopped_than_the_bound_allows(tmp_path: Path):
    run = made(
        [
            *rows("dev", FRAUD, (FRAUD, "possible", "medium"), times=10),
            *rows("dev", LOBBY, (LOBBY, "likely", "high"), times=2),
            *rows("dev", None, (FRAUD, "possible", "medium"), times=3),
            *rows("dev", None, (LOBBY, "likely", "high"), times=3),
            *rows("dev", None, times=94),
        ],
        tmp_path / "r",
    )
    for bound, fpr in ((0.029, 0.0), (0.03, 0.03), (0.059, 0.03), (0.06, 0.06)):
        found = tune(run, bound)
        assert found.after["dev"].fpr.value == pytest.approx(fpr), bound
    # With room for one of the two, it is the one that catches more.
    assert tune(run, 0.03).after["dev"].recall.value == 10 / 12


def test_a_floor_holds_under_every_row(tmp_path: Path):
    """Even where it stops a benign case and the bound allows none."""
    run = made(
        [
            *rows("dev", CHILD, (CHILD, "likely", "low"), times=3),
            *rows("dev", None, (CHILD, "likely", "low"), times=2),
            *rows("dev", None, times=20),
        ],
        tmp_path / "r",
    )
    found = tune(run, 0.01)
    assert found.after["dev"].recall.value == 1
    assert found.after["dev"].fpr.value == 2 / 22


def test_the_patch_is_what_settings_take_and_does_what_was_promised(tmp_path: Path):
    run = made(
        [
            *rows("dev", FRAUD, (FRAUD, "possible", "low"), times=6),
            *rows("dev", None, times=50),
        ],
        tmp_path / "r",
    )
    found = tune(run, 0.01)
    file = tmp_path / "magistrate.yaml"
    file.write_text("version: 1\n" + found.patch)
    settings = Settings.load(file)
    assert settings.rule(FRAUD, "input").from_grade == "possible"
    assert settings.rule(FRAUD, "input").from_severity == "low"
    from magistrate.evals.tune import _judged

    assert effect(settings, _judged(run)).recall == found.after["dev"].recall


def test_a_claim_needs_enough_benign_test_cases(tmp_path: Path):
    run = made(
        [
            *rows("dev", FRAUD, (FRAUD, "likely", "high")),
            *rows("dev", None),
            *rows("test", None, times=200),
        ],
        tmp_path / "r",
    )
    assert tune(run, 0.05).supported
    few = tune(run, 0.005)
    assert not few.supported
    assert few.needs == 765


@pytest.mark.parametrize("clause", [None, FRAUD])
def test_dev_must_have_both_kinds(clause: str | None, tmp_path: Path):
    run = made([*rows("dev", clause, times=5), *rows("test", FRAUD)], tmp_path / "r")
    with pytest.raises(SettingsError, match="needs violating and benign ones"):
        tune(run, 0.01)


def test_the_command_writes_the_rows_and_says_both_splits(tmp_path: Path):
    made(
        [
            *rows("dev", FRAUD, (FRAUD, "possible", "medium"), times=6),
            *rows("dev", None, times=50),
            *rows("test", FRAUD, (FRAUD, "possible", "medium"), times=2),
            *rows("test", None, times=5),
        ],
        tmp_path / "r",
    )
    words = ["eval", "tune", str(tmp_path / "r"), "--max-fpr", "0.02"]
    done = subprocess.run(
        [sys.executable, "-m", "magistrate", *words, "--out", str(tmp_path / "rows.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "fraud_abuse: {from_grade: possible, from_severity: medium}" in done.stdout
    assert (tmp_path / "rows.yaml").read_text().startswith("actions:\n")
    assert "benign test cases" in " ".join(done.stdout.split())
    done = subprocess.run(
        [sys.executable, "-m", "magistrate", *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads(done.stdout)
    assert said["after"]["test"]["recall"] == 1.0
    assert said["rows"] == {"fraud_abuse": {"from_grade": "possible", "from_severity": "medium"}}
