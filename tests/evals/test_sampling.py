"""Samples of cases: random, the same again, twins together, every section in its proportion."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import command_line
from eval_runs import ABUSE, LOBBY, SCAM, case, result, run
from magistrate.config.diagnostics import SettingsError
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.metrics.compare import compare
from magistrate.evals.plan import Plan, open_run
from magistrate.evals.replay import replay as replayed
from magistrate.evals.report.comparison import as_markdown
from magistrate.evals.run_folder import Run, write_cases
from magistrate.evals.sampling import draw
from magistrate.judging.local import LocalJudge
from magistrate.settings import Settings
from own_cases import own_cases

POLICY = Settings().policy


def suite(scams: int = 10, lobby: int = 4, abuse: int = 2, ordinary: int = 40) -> Dataset:
    """Pairs of three sections, and ordinary cases."""
    cases: list[Case] = []
    for clause, pairs in ((SCAM, scams), (LOBBY, lobby), (ABUSE, abuse)):
        for n in range(pairs):
            name = f"{clause}.{n}"
            cases += [
                case(f"{name}v", [clause], pair=name),
                case(f"{name}o", ok=[clause], pair=name),
            ]
    cases += [case(f"ordinary.{n}") for n in range(ordinary)]
    return Dataset(tuple(cases), ("made.yaml",))


def sections(cases: Dataset) -> Counter[str]:
    return Counter(case.id.partition(".")[0] for case in cases)


def ids(cases: Dataset) -> list[str]:
    return [case.id for case in cases]


def test_every_section_has_its_proportion():
    """72 cases: 20 scams, 8 lobby, 4 abuse, 40 ordinary; half of each in half the number."""
    found, sample = draw(suite(), POLICY, 36, 5)
    assert sections(found) == {"fraud_abuse": 10, "elections": 4, "child_safety": 2, "ordinary": 20}
    assert (sample.size, sample.seed, sample.of, sample.missing) == (36, 5, 72, ())


def test_a_small_section_stays_in_while_there_is_room():
    """In proportion child safety would have half a case of 9; it has a pair."""
    found, sample = draw(suite(), POLICY, 9, 0)
    assert sections(found)["child_safety"] == 2
    assert set(sections(found)) == {"fraud_abuse", "elections", "child_safety", "ordinary"}
    assert not sample.missing
    _, sample = draw(suite(), POLICY, 4, 0)
    assert sample.missing, "three pairs and one more do not fit into four"


@given(
    st.integers(1, 60),
    st.integers(0, 1000),
    st.tuples(*[st.integers(0, 6)] * 3),
    st.integers(0, 20),
)
@settings(deadline=None)
def test_samples_keep_their_promises(
    size: int, seed: int, pairs: tuple[int, int, int], ordinary: int
):
    cases = suite(*pairs, ordinary)
    found, sample = draw(cases, POLICY, size, seed)
    assert min(size, len(cases)) - len(found) in (0, 1)
    twins = Counter(case.pair for case in found if case.pair)
    assert set(twins.values()) <= {2}
    order = ids(cases)
    assert ids(found) == sorted(ids(found), key=order.index), "in the order of the files"
    assert ids(draw(Dataset(cases.cases[::-1]), POLICY, size, seed)[0]) == ids(found)[::-1]
    if size >= 7:  # room for a pair of each and an ordinary one
        assert not sample.missing


def test_another_seed_draws_another_sample_and_the_same_the_same():
    drawn = {tuple(ids(draw(suite(), POLICY, 20, seed)[0])) for seed in range(20)}
    assert len(drawn) > 15
    # Pinned: a sample that a run names must be drawn again by any version.
    assert ids(draw(suite(0, 2, 0, 6), POLICY, 4, 7)[0]) == [
        "elections.lobbying.0v",
        "elections.lobbying.0o",
        "ordinary.2",
        "ordinary.5",
    ]


def test_every_case_has_the_same_chance():
    """Of 40 ordinary cases 20 are drawn, 400 times: each about 200 times, within five sigma."""
    drawn = Counter(
        id for seed in range(400) for id in ids(draw(suite(0, 0, 0, 40), POLICY, 20, seed)[0])
    )
    assert len(drawn) == 40
    assert all(150 <= times <= 250 for times in drawn.values())


def test_our_own_suite_keeps_every_section_in_a_hundred_cases():
    cases = own_cases()
    found, sample = draw(cases, POLICY, 100, 0)
    assert len(found) in (99, 100)
    assert not sample.missing
    named = {POLICY.section_of(clause).id for case in found for clause in case.labels}
    assert named == {group.id for group in POLICY.groups}
    everything, sample = draw(cases, POLICY, 10**6, 0)
    assert (len(everything), sample.of) == (len(cases), len(cases))


def test_no_sample_is_empty():
    with pytest.raises(ValueError, match="at least one"):
        draw(suite(), POLICY, 0, 0)


# --- in a run -------------------------------------------------------------------------------------


def plan(size: int | None, seed: int = 0) -> Plan:
    cases, sample = (suite(), None) if size is None else draw(suite(), POLICY, size, seed)
    return Plan(cases, Settings(), LocalJudge(), sample=sample)


def test_the_manifest_names_the_sample_and_a_run_goes_on_with_no_other(tmp_path: Path):
    open_run(plan(20, 3), tmp_path / "r", resume=False)
    made = Run.read(tmp_path / "r")
    assert made.manifest["sample"] == {"size": 20, "seed": 3, "of": 72, "missing": []}
    assert made.sampled == "20 of 72 cases, seed 3"
    assert open_run(plan(20, 3), tmp_path / "r", resume=True) == []
    for other, said in (
        (plan(20, 4), "--seed 3 of 72 cases before, --sample 20 --seed 4 of"),
        (plan(21, 3), "--sample 20 --seed 3 of 72 cases before, --sample 21 "),
        (plan(None), "before, none now"),
    ):
        with pytest.raises(SettingsError, match=said):
            open_run(other, tmp_path / "r", resume=True)
    open_run(plan(None), tmp_path / "whole", resume=False)
    with pytest.raises(SettingsError, match=r"another sample .none before"):
        open_run(plan(20), tmp_path / "whole", resume=True)


def test_a_run_from_before_there_were_samples_goes_on(tmp_path: Path):
    open_run(plan(None), tmp_path / "r", resume=False)
    manifest = tmp_path / "r" / "manifest.json"
    data = json.loads(manifest.read_text())
    del data["sample"]
    manifest.write_text(json.dumps(data))
    assert open_run(plan(None), tmp_path / "r", resume=True) == []
    assert Run.read(tmp_path / "r").sampled is None


def test_deciding_again_keeps_the_sample(tmp_path: Path):
    open_run(plan(20, 3), tmp_path / "r", resume=False)
    replayed(Run.read(tmp_path / "r"), Settings(), tmp_path / "again")
    assert Run.read(tmp_path / "again").sampled == "20 of 72 cases, seed 3"


def test_two_samples_are_compared_on_what_both_have_and_that_is_said():
    runs: list[Run] = []
    for name, seed in (("a", 1), ("b", 2)):
        cases, sample = draw(suite(), POLICY, 40, seed)
        made = run(cases, [result(each) for each in cases], name)
        runs.append(replace(made, manifest=made.manifest | {"sample": sample.as_json()}))
    found = compare(*runs, draws=10)
    common = {case.id for case in runs[0].cases} & {case.id for case in runs[1].cases}
    assert 0 < found.compared == len(common) < 40
    said = as_markdown(found)
    assert "Samples: a of 40 of 72 cases, seed 1; b of 40 of 72 cases, seed 2" in said
    assert "only cases in both are compared" in said
    assert f"{40 - len(common)} only in a, {40 - len(common)} only in b" in said
    assert "compared is" not in as_markdown(compare(runs[0], runs[0], draws=10))
    assert "Samples" not in as_markdown(compare(*[replace(r, manifest={}) for r in runs], draws=10))


# --- the command ----------------------------------------------------------------------------------


def call(*words: str) -> command_line.Ended:
    return command_line.run("eval", *words, variables={"COLUMNS": "200"})


def test_the_command_judges_a_sample(tmp_path: Path):
    file = tmp_path / "cases.jsonl"
    write_cases(file, suite())
    words = ["run", str(file), "--judge", "local", "--sample", "12"]
    done = call(*words, "--out", str(tmp_path / "a"))
    assert done.returncode == 0, done.stderr
    assert "12 of 72 cases, seed 0" in done.stdout
    assert len(Run.read(tmp_path / "a").results) == 12
    refused = call(*words, "--out", str(tmp_path / "a"), "--seed", "1", "--resume")
    assert refused.returncode == 2
    assert "begun with another sample" in refused.stderr
    fewer = call(*words[:-1], "2", "--out", str(tmp_path / "b"), "--json")
    assert json.loads(fewer.stdout)["sample"]["missing"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "1"], "--seed goes with --sample"),
        (["--sample", "0"], "--sample"),
        (["--sample", "5", "--replay", "r"], "--replay takes cases"),
        (["--split", "dev"], "no cases of the split dev"),
    ],
)
def test_wrong_samples_are_said_in_a_line(words: list[str], said: str, tmp_path: Path):
    file = tmp_path / "cases.jsonl"
    write_cases(file, suite(1, 0, 0, 0))
    paths = [] if "--replay" in words else [str(file)]
    done = call("run", *paths, "--judge", "settings", "--out", str(tmp_path / "r"), *words)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert not (tmp_path / "r").exists()


def test_runs_without_a_case_in_common_are_not_compared(tmp_path: Path):
    for name, cases in (("a", suite(2, 0, 0, 0)), ("b", suite(0, 2, 0, 0))):
        write_cases(tmp_path / f"{name}.jsonl", cases)
        call(
            "run",
            str(tmp_path / f"{name}.jsonl"),
            "--judge",
            "local",
            "--out",
            str(tmp_path / name),
        )
    done = call("compare", str(tmp_path / "a"), str(tmp_path / "b"))
    assert done.returncode == 2
    assert (
        "no case of the split test was judged in both runs (4 only in a, 4 only in b)"
        in done.stderr
    )
