"""Thresholds by section: chosen on dev within a limit, and reported on test."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import command_line
from magistrate.config.diagnostics import SettingsError
from magistrate.core.offline import OfflineDecision
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.plan import Plan, open_run
from magistrate.evals.results import result_of
from magistrate.evals.run_folder import Run, Writer
from magistrate.evals.tuning.intervention_costs import Budget, effect, judged_of
from magistrate.evals.tuning.thresholds import Option, OverLimit, Weights, choose
from magistrate.evals.tuning.tune import tune
from magistrate.settings import Settings
from magistrate.verdicts import Finding, Grade, JudgeInfo, Severity, Stage, Usage, Verdict

WHO = JudgeInfo("made")
FRAUD, LOBBY, CHILD = "fraud_abuse.spam", "elections.lobbying", "child_safety.csam"
Found = tuple[str, Grade, Severity]


def made(
    rows: list[tuple[str, str | None, list[Found]]],
    folder: Path,
    *,
    settings: Settings | None = None,
    stage: Stage = "input",
    usd: float | None = 0.2,
) -> Run:
    """A run: split, the clause that is violated or None, what the judge found.

    `near ` before a clause makes it a near miss. A violating case costs twice as much as others.
    """
    settings = settings or Settings()
    cases: list[Case] = []
    verdicts: list[Verdict] = []
    for number, (split, named, found) in enumerate(rows):
        near = named is not None and named.startswith("near ")
        violated = None if near else named
        data: dict[str, Any] = {
            "id": f"c.{number}",
            "stage": stage,
            "messages": [{"user": f"case {number}"}],
            "response": f"answer {number}" if stage == "output" else None,
            "labels": {named.removeprefix("near "): "ok" if near else "violated"} if named else {},
            "action": "block" if violated else "allow",
            "split": split,
        } | ({"severity": "high"} if violated else {})
        cases.append(Case.model_validate(data))
        cost = None if usd is None else usd * (2 if violated else 1)
        findings = (Finding(c, g, s, stage, "messages[0].content") for c, g, s in found)
        verdicts.append(Verdict(WHO, tuple(findings), usage=Usage(1, 100, 10, cost_usd=cost)))

    class Judge:
        def info(self, settings: Settings) -> JudgeInfo:
            return WHO

    dataset = Dataset(tuple(cases), ("made",))
    open_run(Plan(dataset, settings, Judge()), folder, resume=False)  # type: ignore[arg-type]
    writer = Writer(folder)
    for case, verdict in zip(cases, verdicts, strict=True):
        offline = OfflineDecision.of(settings, stage, case.request, case.answer)
        writer.write(result_of(case, 0, verdict, offline.decide([verdict], WHO), 1.0))
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
    """So a limit below what floors stop can be kept by no row, and that is said."""
    run = made(
        [
            *rows("dev", CHILD, (CHILD, "likely", "low"), times=3),
            *rows("dev", None, (CHILD, "likely", "low"), times=2),
            *rows("dev", None, times=20),
        ],
        tmp_path / "r",
    )
    with pytest.raises(SettingsError, match=r"9\.09% of benign dev cases .* is 0\.091"):
        tune(run, 0.01)
    found = tune(run, 0.091)
    assert found.after["dev"].recall.value == 1
    assert found.after["dev"].fpr.value == 2 / 22
    assert found.rows == {}, "settings would refuse a stricter row, and no looser one does more"


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
    assert settings.clause_action(FRAUD, "input").from_grade == "possible"
    assert settings.clause_action(FRAUD, "input").from_severity == "low"
    assert effect(settings, judged_of(run, 0.01), 0.01).recall == found.after["dev"].recall


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


def test_rows_that_do_the_same_leave_the_one_in_force(tmp_path: Path):
    """What is certain here is caught by stricter rows too; that is no reason to become stricter."""
    run = made(
        [
            *rows("dev", FRAUD, (FRAUD, "certain", "critical"), times=6),
            *rows("dev", None, times=50),
        ],
        tmp_path / "r",
    )
    assert tune(run, 0.01).rows == {}


def test_a_section_that_nothing_can_be_chosen_for_is_left_as_it_is(tmp_path: Path):
    """Elections: one false alarm, and no violating case. Closing it would catch none in future."""
    run = made(
        [
            *rows("dev", FRAUD, (FRAUD, "possible", "medium"), times=6),
            *rows("dev", None, (LOBBY, "certain", "high"), times=1),
            *rows("dev", None, times=49),
        ],
        tmp_path / "r",
    )
    found = tune(run, 0.02)
    assert found.untouched == ("elections",)
    assert found.rows == {"fraud_abuse": ("possible", "medium")}
    assert found.after["dev"].fpr.value == 0.02
    with pytest.raises(SettingsError, match="sections that nothing can be chosen for"):
        tune(run, 0.01)


def test_a_row_keeps_the_actions_it_had(tmp_path: Path):
    """Held answers are stopped ones; a patch that dropped `hold` would block them."""
    settings = Settings.load(
        {
            "actions": {"elections": {"output": "hold"}},
            "review": {
                "store": "sqlite:///x.db",
                "reviewers": [{"name": "a", "qualified_in": ["elections"]}],
            },
        }
    )
    run = made(
        [
            *rows("dev", LOBBY, (LOBBY, "possible", "medium"), times=3),
            *rows("dev", None, times=9),
        ],
        tmp_path / "r",
        settings=settings,
        stage="output",
    )
    found = tune(run, 0.1)
    assert "elections: {output: hold, from_grade: possible, from_severity: medium}" in found.patch
    assert found.after["dev"].recall.value == 1


# --- budgets --------------------------------------------------------------------------------------


def priced(folder: Path) -> Run:
    """20 violating and 100 ordinary cases on dev.

    Fraud from `possible` catches 10 more and alarms 1; elections from `possible` catches 6 more and
    alarms 2. Near misses alarm always, and are not traffic.
    """
    return made(
        [
            *rows("dev", FRAUD, (FRAUD, "likely", "medium"), times=4),
            *rows("dev", FRAUD, (FRAUD, "possible", "medium"), times=10),
            *rows("dev", LOBBY, (LOBBY, "possible", "medium"), times=6),
            *rows("dev", None, (FRAUD, "possible", "medium"), times=1),
            *rows("dev", None, (LOBBY, "possible", "medium"), times=2),
            *rows("dev", None, times=97),
            *rows("dev", f"near {FRAUD}", (FRAUD, "certain", "high"), times=30),
            *rows("test", FRAUD, (FRAUD, "possible", "medium"), times=2),
            *rows("test", None, times=50),
        ],
        folder,
    )


@pytest.mark.parametrize(
    ("most", "expected", "made_of_1000"),
    [
        # At a prevalence of 1 %: 10 violating and 990 benign of 1,000. As it is: 10 * 4 / 20 = 2.
        (2.0, {}, 2.0),
        (6.0, {}, 2.0),
        # Fraud: 10 * 14 / 20 + 990 * 1 / 100 = 7 + 9.9.
        (16.9, {"fraud_abuse"}, 16.9),
        (16.89, {}, 2.0),
        (36.7, {"fraud_abuse"}, 16.9),
        # Both: 10 * 20 / 20 + 990 * 3 / 100 = 10 + 29.7.
        (39.7, {"fraud_abuse", "elections"}, 39.7),
    ],
)
def test_a_budget_of_interventions_by_hand(
    most: float, expected: set[str], made_of_1000: float, tmp_path: Path
):
    found = tune(priced(tmp_path / "r"), Budget(0.01, interventions=most))
    assert set(found.rows) == set(expected)
    after = found.after["dev"].interventions
    assert after is not None
    assert after.value == pytest.approx(made_of_1000)
    assert found.benign == "ordinary"
    assert found.before["dev"].fpr.of == 100
    assert found.before["dev"].aside.value == 1, "near misses are reported, and do not count"


def test_a_budget_in_dollars_pays_for_judging_first(tmp_path: Path):
    """Judging is $0.40 a violating and $0.20 another: $202 for 1,000 at 1 %. One is $2.50."""
    run = priced(tmp_path / "r")
    enough = 202 + 2.5 * 16.9
    found = tune(run, Budget(0.01, usd=enough + 1e-6, usd_each=2.5))
    assert set(found.rows) == {"fraud_abuse"}
    after = found.after["dev"]
    assert after.judging_usd == pytest.approx(202)
    assert after.usd is not None
    assert after.usd.value == pytest.approx(enough)
    assert tune(run, Budget(0.01, usd=enough - 0.01, usd_each=2.5)).rows == {}
    with pytest.raises(SettingsError, match=r"judging alone costs \$202\.0000 for 1,000"):
        tune(run, Budget(0.01, usd=201.0, usd_each=2.5))
    with pytest.raises(SettingsError, match="interventions cost"):
        tune(
            made(
                [*rows("dev", CHILD, (CHILD, "likely", "low")), *rows("dev", None)],
                tmp_path / "floors",
            ),
            Budget(0.5, usd=301.0, usd_each=1.0),
        )


def test_the_price_must_be_known(tmp_path: Path):
    run = made(
        [*rows("dev", FRAUD, (FRAUD, "likely", "high")), *rows("dev", None)],
        tmp_path / "r",
        usd=None,
    )
    assert tune(run, Budget(0.5, interventions=600)).before["dev"].judging_usd is None
    with pytest.raises(SettingsError, match="cost is not known"):
        tune(run, Budget(0.5, usd=5, usd_each=1))


def test_what_no_threshold_changes_counts_in_a_budget(tmp_path: Path):
    """A floor under half of all violating cases makes 5 interventions of 1,000 at 1 %."""
    run = made(
        [
            *rows("dev", CHILD, (CHILD, "likely", "low"), times=5),
            *rows("dev", FRAUD, (FRAUD, "possible", "medium"), times=5),
            *rows("dev", None, times=20),
        ],
        tmp_path / "r",
    )
    assert tune(run, Budget(0.01, interventions=5)).rows == {}
    assert set(tune(run, Budget(0.01, interventions=10)).rows) == {"fraud_abuse"}
    with pytest.raises(SettingsError, match=r"there are 5\.00 interventions .* kept is 5"):
        tune(run, Budget(0.01, interventions=4.99))


def test_a_budget_is_supported_by_the_test_split_alone(tmp_path: Path):
    """16.9 of 1,000 on dev; on test none of 50, which says no more than below 81 of 1,000."""
    run = priced(tmp_path / "r")
    assert not tune(run, Budget(0.01, interventions=17)).supported
    assert tune(run, Budget(0.01, interventions=100)).supported


def test_shadow_mode_is_tuned_as_what_it_would_do(tmp_path: Path):
    run = made(
        [
            *rows("dev", FRAUD, (FRAUD, "possible", "medium"), times=5),
            *rows("dev", None, times=20),
        ],
        tmp_path / "r",
        settings=Settings.load({"streaming": {"release": "shadow"}}),
    )
    for limit in (0.01, Budget(0.01, interventions=20)):
        assert set(tune(run, limit).rows) == {"fraud_abuse"}


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0.0, 5, None, None), "prevalence"),
        ((1.0, 5, None, None), "prevalence"),
        ((float("nan"), 5, None, None), "prevalence"),
        ((0.01, None, None, None), "one of them"),
        ((0.01, 5, 5, 1), "one of them"),
        ((0.01, -1, None, None), "0 to 1,000"),
        ((0.01, 1001, None, None), "0 to 1,000"),
        ((0.01, float("nan"), None, None), "0 to 1,000"),
        ((0.01, None, 0, 1), "more than 0"),
        ((0.01, None, float("inf"), 1), "more than 0"),
        ((0.01, None, 5, None), "needs what an intervention costs"),
        ((0.01, None, 5, 0), "costs more than 0"),
        ((0.01, 5, None, float("nan")), "costs more than 0"),
    ],
)
def test_impossible_budgets_are_refused(numbers: tuple[Any, ...], said: str):
    with pytest.raises(ValueError, match=said):
        Budget(*numbers)


# --- the search -----------------------------------------------------------------------------------

BAD = [f"b{n}" for n in range(6)]
GOOD = [f"g{n}" for n in range(5)]
acted = st.frozensets(st.sampled_from(BAD + GOOD), max_size=7)


@given(
    st.lists(st.lists(acted, min_size=1, max_size=4), min_size=1, max_size=4),
    st.frozensets(st.sampled_from(BAD + GOOD), max_size=2),
    st.sampled_from(["0", "0.01", "0.2", "0.5"]),
    st.fractions(0, 1, max_denominator=60),
)
@settings(max_examples=60, deadline=None)
def test_no_choice_within_the_limit_catches_more(
    sections: list[list[frozenset[str]]], always: frozenset[str], share: str, limit: Fraction
):
    """Against trying every combination. Prevalence 0 is a limit on benign cases alone."""
    weights = Weights(
        frozenset(BAD),
        frozenset(GOOD),
        Fraction(share) / len(BAD),
        (1 - Fraction(share)) / len(GOOD),
        limit,
    )
    options = {
        str(name): [Option(row, cases) for row, cases in enumerate(each)]
        for name, each in enumerate(sections)
    }
    outcomes = [
        always.union(*(options[str(n)][row].acts_on for n, row in enumerate(rows)))
        for rows in product(*(range(len(each)) for each in sections))
    ]
    within = [one for one in outcomes if weights.cost(one) <= limit]
    try:
        chosen = choose(options, always, weights)
    except OverLimit as error:
        assert not within
        assert error.least == min(map(weights.cost, outcomes))
        return
    reached = always.union(*(options[name][row].acts_on for name, row in chosen.items()))
    assert weights.cost(reached) <= limit
    most = max(len(one & weights.violating) for one in within)
    assert len(reached & weights.violating) == most
    equals = [one for one in within if len(one & weights.violating) == most]
    assert weights.cost(reached) == min(map(weights.cost, equals))


# --- the command ----------------------------------------------------------------------------------


def call(*words: str) -> command_line.Ended:
    return command_line.run("eval", "tune", *words, variables={"COLUMNS": "200"})


def test_the_command_keeps_a_budget_and_says_what_it_comes_to(tmp_path: Path):
    priced(tmp_path / "r")
    words = ["--max-interventions", "17", "--prevalence", "0.01", "--cost-per-intervention", "2.5"]
    done = call(str(tmp_path / "r"), *words)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "fraud_abuse: {from_grade: possible, from_severity: medium}" in said
    assert "ordinary cases caught near misses caught interventions in 1,000 dollars" in said
    assert "16.90 (" in said, "interventions"
    assert "244.25 (" in said, "dollars: 202 and 2.5 times 16.9"
    assert "$202.0000 for 1,000 judgments, under any thresholds" in said
    assert "do not show that the budget is kept" in said
    done = call(str(tmp_path / "r"), *words, "--json")
    found = json.loads(done.stdout)
    assert found["limit"]["interventions"] == 17
    assert found["after"]["dev"]["interventions_per_1000"]["value"] == pytest.approx(16.9)
    assert found["benign_traffic"] == "ordinary"
    assert found["after"]["dev"]["near_misses"] == 1.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-interventions", "5"], "give --prevalence"),
        (["--max-cost", "5", "--prevalence", "0.1"], "needs what an intervention costs"),
        (["--prevalence", "0.1"], "go with --max-interventions or --max-cost"),
        (["--max-fpr", "0.1", "--max-interventions", "5", "--prevalence", "0.1"], "one limit"),
        (["--max-interventions", "5", "--prevalence", "1"], "share between 0 and 1"),
        (["--max-fpr", "nan"], "share between 0 and 1"),
        (["--max-interventions", "1", "--prevalence", "0.01"], "such file"),
    ],
)
def test_wrong_limits_are_said_in_a_line(words: list[str], said: str, tmp_path: Path):
    done = call(str(tmp_path / "none"), *words)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert "Traceback" not in done.stderr


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
    words = [str(tmp_path / "r"), "--max-fpr", "0.02"]
    done = call(*words, "--out", str(tmp_path / "rows.yaml"))
    assert done.returncode == 0, done.stderr
    assert "fraud_abuse: {from_grade: possible, from_severity: medium}" in done.stdout
    assert (tmp_path / "rows.yaml").read_text().startswith("actions:\n")
    assert "benign test cases" in " ".join(done.stdout.split())
    done = call(*words, "--json")
    said = json.loads(done.stdout)
    assert said["after"]["test"]["recall"] == 1.0
    assert said["rows"] == {"fraud_abuse": {"from_grade": "possible", "from_severity": "medium"}}
