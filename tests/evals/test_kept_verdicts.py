"""Verdicts are kept by what was judged: only what is new is judged, under whatever labels."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import command_line
from magistrate.config.diagnostics import SettingsError
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.kept_verdicts import PUT_ASIDE
from magistrate.evals.plan import Plan
from magistrate.evals.replay import rescore
from magistrate.evals.run import Progress, run
from magistrate.evals.run_folder import RESULTS, Run, Writer, write_cases
from magistrate.judging.base import ModelReply
from magistrate.settings import Settings
from magistrate.verdicts import Finding, JudgeInfo, Outcome, Usage, Verdict
from magistrate.wire.parts import Subject

JSON = dict[str, Any]
CLAUSE, OTHER = "fraud_abuse.fake_reviews", "fraud_abuse.spam"
INFO = JudgeInfo("by text")


class ByText:
    """Finds something in every text with BAD in it; counts what it was asked about."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def info(self, settings: Settings) -> JudgeInfo:
        return INFO

    def judge(self, *_: Any) -> Outcome:
        raise AssertionError

    async def judge_async(self, subject: Subject, *_: Any) -> Outcome:
        await anyio.lowlevel.checkpoint()
        text = subject.parts[-1].text
        self.asked[text] += 1
        path = subject.parts[-1].path
        found = (Finding(CLAUSE, "certain", "medium", "input", path),) if "BAD" in text else ()
        return Verdict(INFO, found, usage=Usage(1, 1, 1, cost_usd=0.01))


def case(id: str, text: str, *, violated: str | None = None, **more: Any) -> Case:
    data: JSON = {
        "id": id,
        "stage": "input",
        "messages": [{"user": text}],
        "labels": {violated: "violated"} if violated else {},
        "action": "block" if violated else "allow",
        "split": "test",
    }
    return Case.model_validate(data | ({"severity": "medium"} if violated else {}) | more)


async def nobody(body: JSON, timeout_s: float) -> ModelReply:
    raise AssertionError


def silent(progress: Progress) -> None:
    pass


def judged(cases: list[Case], folder: Path, judge: ByText, **more: Any) -> bool:
    plan = Plan(Dataset(tuple(cases), ("made.jsonl",)), Settings(), judge, **more)
    resume = (folder / "manifest.json").exists()
    return anyio.run(lambda: run(plan, folder, nobody, silent, resume=resume))


def test_after_an_edit_only_what_is_new_is_judged(tmp_path: Path):
    folder, judge = tmp_path / "r", ByText()
    first = [case("a", "BAD one"), case("b", "good one"), case("c", "BAD two"), case("d", "gone")]
    judged(first, folder, judge, repeat=2)
    judge.asked.clear()
    now = [
        case("a", "BAD one", violated=CLAUSE, note="relabelled", tags=["lang:de"]),
        case("b", "good one, rewritten"),
        case("renamed", "BAD two"),
        case("new", "BAD three"),
    ]
    assert judged(now, folder, judge, repeat=2)
    assert judge.asked == {"good one, rewritten": 2, "BAD three": 2}
    found = Run.read(folder)
    assert found.complete
    assert found.cases.cases == tuple(now)
    keys = Counter(result.key for result in found.results)
    assert keys == {(one.id, at): 1 for one in now for at in (0, 1)}
    for result in found.results:
        text = next(one.text for one in now if one.id == result.case)
        assert (result.action == "block") is ("BAD" in text)
        assert result.decision["id"] == f"{result.case}#{result.repeat}"
    aside = (folder / PUT_ASIDE).read_text()
    assert aside.count("\n") == found.manifest["put_aside"] == 4


def test_what_was_put_aside_comes_back_with_its_case(tmp_path: Path):
    folder, judge = tmp_path / "r", ByText()
    both = [case("a", "one"), case("b", "BAD two")]
    judged(both, folder, judge)
    judged(both[:1], folder, judge)
    assert judged(both, folder, judge)
    assert set(judge.asked.values()) == {1}
    assert {r.case: r.action for r in Run.read(folder).results} == {"a": "allow", "b": "block"}
    assert (folder / PUT_ASIDE).read_text() == ""


def test_stage_and_app_are_part_of_what_is_judged(tmp_path: Path):
    folder, judge = tmp_path / "r", ByText()
    judged([case("a", "one"), case("b", "two")], folder, judge)
    app = {"name": "shop", "audience": "consumer", "interface": "chatbot"}
    judged([case("a", "one"), case("b", "two", app=app)], folder, judge)
    assert judge.asked == {"one": 1, "two": 2}


def test_two_cases_with_one_text_are_judged_each_by_itself(tmp_path: Path):
    folder, judge = tmp_path / "r", ByText()
    judged([case("a", "same")], folder, judge)
    judged([case("b", "same"), case("c", "same")], folder, judge)
    assert judge.asked == {"same": 2}


def test_the_wrong_files_do_not_take_a_run_over(tmp_path: Path):
    folder, judge = tmp_path / "r", ByText()
    judged([case("a", "one")], folder, judge)
    before = (folder / RESULTS).read_bytes()
    with pytest.raises(SettingsError, match="no case of this run"):
        judged([case("b", "other")], folder, judge)
    assert (folder / RESULTS).read_bytes() == before


edits = st.lists(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(["BAD 1", "ok 2", "BAD 3", "ok 4"])),
        min_size=1,
        max_size=6,
        unique_by=lambda item: item[0],
    ),
    min_size=2,
    max_size=5,
)


@hypothesis_settings(max_examples=40)
@given(edits, st.integers(1, 2))
def test_however_cases_are_edited_a_run_ends_as_a_new_one_would(
    versions: list[list[tuple[str, str]]], repeat: int
):
    """And no text is judged more often than the most cases that had it at one time."""
    with tempfile.TemporaryDirectory() as name:
        folder, judge = Path(name) / "r", ByText()
        for version in versions:
            # One case stays, so that it is one run.
            cases = [case("stays", "BAD 0"), *(case(id, text) for id, text in version)]
            assert judged(cases, folder, judge, repeat=repeat)
            found = {result.key: result.action for result in Run.read(folder).results}
            assert found == {
                (one.id, at): "block" if "BAD" in one.text else "allow"
                for one in cases
                for at in range(repeat)
            }
        for text, times in judge.asked.items():
            most = max([sum(each == text for _, each in version) for version in versions] + [1])
            assert times == repeat * most if text != "BAD 0" else times == repeat


@pytest.mark.parametrize("at", range(1, 6))
def test_a_kill_while_cases_are_taken_over_loses_no_verdict(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """At each of the files that are put in place, before it is."""
    folder, judge = tmp_path / "r", ByText()
    first = [case("a", "one"), case("b", "BAD two"), case("c", "three")]
    judged(first, folder, judge)
    judged(first[:2], folder, judge)  # c is put aside
    now = [first[0], first[2], case("d", "four")]  # b goes, c comes back
    done = Counter[str]()
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        done["files"] += 1
        if done["files"] == at:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        judged(now, folder, judge)
    monkeypatch.undo()
    assert judged(now, folder, judge)
    assert judged(first, folder, judge)
    assert judge.asked == {"one": 1, "BAD two": 1, "three": 1, "four": 1}


def test_a_writer_that_replaced_its_file_stays_the_only_one(tmp_path: Path):
    pytest.importorskip("fcntl")
    judged([case("a", "one")], tmp_path / "r", ByText())
    writer = Writer(tmp_path / "r")
    writer.replace(Run.read(tmp_path / "r").results)
    with pytest.raises(SettingsError, match="another process"):
        Writer(tmp_path / "r")
    writer.close()
    Writer(tmp_path / "r").close()


# --- rescore --------------------------------------------------------------------------------------


def test_a_run_is_measured_by_the_labels_that_cases_have_now(tmp_path: Path):
    judge = ByText()
    first = [case("a", "BAD one"), case("b", "good one"), case("gone", "BAD two")]
    judged(first, tmp_path / "r", judge)
    judge.asked.clear()
    now = [
        case("renamed", "BAD one", violated=CLAUSE),
        case("b", "good one", violated=OTHER),
        case("new", "never judged"),
    ]
    found = rescore(Run.read(tmp_path / "r"), Dataset(tuple(now), ("now.jsonl",)), tmp_path / "s")
    assert not judge.asked
    assert [one.id for one in found.new] == ["new"]
    assert [result.case for _, result in found.unused] == ["gone"]
    made = Run.read(tmp_path / "s")
    assert made.complete
    assert made.cases.cases == tuple(now[:2])
    assert {r.case: r.action for r in made.results} == {"renamed": "block", "b": "allow"}
    with pytest.raises(SettingsError, match="no verdict of any of these cases"):
        rescore(Run.read(tmp_path / "r"), Dataset((now[2],)), tmp_path / "t")
    # It goes on as any run: only what is new is asked about.
    assert judged(now, tmp_path / "s", judge)
    assert judge.asked == {"never judged": 1}


def test_the_command_measures_again_and_goes_on(tmp_path: Path):
    def call(*words: str) -> command_line.Ended:
        return command_line.run("eval", *words, cwd=tmp_path)

    file = tmp_path / "cases.jsonl"
    write_cases(file, [case("a", "Hello there."), case("b", "What is the time?")])
    assert call("run", str(file), "--judge", "local", "--out", "r").returncode == 0
    write_cases(file, [case("a", "Hello there.", violated=CLAUSE), case("c", "And the date?")])
    done = call("rescore", "r", str(file), "--out", "s", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["cases"], said["judgments"]) == (1, 1)
    assert (said["as_expected"], said["as_expected_of"]) == (0, 1)
    assert "1 cases were not judged yet" in done.stderr
    assert "1 verdicts are of cases that are not there now" in done.stderr
    on = call("run", str(file), "--judge", "local", "--out", "s", "--resume", "--json")
    assert on.returncode == 0, on.stderr
    assert json.loads(on.stdout)["judgments"] == 2
    assert call("rescore", "r", str(file), "--out", "s").returncode == 2


# --- what is as expected --------------------------------------------------------------------------


def test_only_the_first_judgment_of_a_settled_label_can_be_as_expected(tmp_path: Path):
    """Repeats are not more cases, and a row without a label expects nothing."""
    cases = [
        case("right", "BAD one", violated=CLAUSE),
        case("wrong", "good", violated=CLAUSE),
        case("unlabelled", "good too", overall="unknown"),
        case("contested", "good three", contested="satire?"),
        case("fine", "good four"),
    ]
    judged(cases, tmp_path / "r", ByText(), repeat=3)
    words = ("--replay", str(tmp_path / "r"), "--out", str(tmp_path / "again"), "--json")
    done = command_line.run("eval", "run", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["judgments"] == 15
    assert (said["as_expected"], said["as_expected_of"]) == (2, 3)


# --- results that cannot be -----------------------------------------------------------------------


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "-1", "1e999", "true", '"5"'])
@pytest.mark.parametrize("key", ["latency_ms", "cost_usd"])
def test_a_number_that_cannot_be_is_refused_with_file_and_line(
    key: str, number: str, tmp_path: Path
):
    judged([case("a", "one"), case("b", "two")], tmp_path / "r", ByText())
    file = tmp_path / "r" / RESULTS
    lines = file.read_text().splitlines()
    data = json.loads(lines[1])
    if key == "latency_ms":
        data["latency_ms"] = "HERE"
    else:
        data["outcome"]["usage"]["cost_usd"] = "HERE"
    lines[1] = json.dumps(data).replace('"HERE"', number)
    file.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(SettingsError, match=r"results\.jsonl:2"):
        Run.read(tmp_path / "r")


def test_lines_that_contradict_each_other_are_both_named(tmp_path: Path):
    judged([case("a", "one"), case("b", "BAD two")], tmp_path / "r", ByText())
    file = tmp_path / "r" / RESULTS
    lines = file.read_text().splitlines()
    file.write_text("".join(line + "\n" for line in [*lines, lines[0]]))
    assert len(Run.read(tmp_path / "r").results) == 2, "the same twice contradicts nothing"
    other = json.loads(lines[1])
    other["outcome"]["findings"], other["decision"]["action"] = [], "allow"
    file.write_text("".join(line + "\n" for line in [*lines, json.dumps(other)]))
    with pytest.raises(SettingsError, match=r"results\.jsonl:3.*line 2"):
        Run.read(tmp_path / "r")
