"""What was judged and what was enforced: no number and no rule rewards a judge that fails."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eval_runs import ABUSE, JUDGE, LOBBY, SCAM, SPAM, case, result, run
from magistrate.evals.cases import Case
from magistrate.evals.gates.checks import check
from magistrate.evals.gates.rules import parse
from magistrate.evals.metrics.compare import Comparison, compare
from magistrate.evals.metrics.measures import Metrics, measure
from magistrate.evals.report.changes import changes
from magistrate.evals.report.comparison import as_markdown
from magistrate.evals.report.words import overview
from magistrate.evals.results import Result
from magistrate.evals.run_folder import Run
from magistrate.evals.tuning.tune import tune
from magistrate.verdicts import FAILURES, Unavailable

GRADED = ["none", "unlikely", "possible", "likely", "certain"]


def many() -> list[Case]:
    found = [case(f"v{at}", [SCAM]) for at in range(60)]
    found += [case(f"a{at}", [ABUSE]) for at in range(10)]
    found += [case(f"n{at}", ok=[SCAM], pair=f"p{at}") for at in range(10)]
    found += [case(f"t{at}", [SCAM], pair=f"p{at}") for at in range(10)]
    return found + [case(f"b{at}") for at in range(120)]


def judged(cases: Iterable[Case], seed: int) -> list[Result]:
    chance = random.Random(seed)
    found: list[Result] = []
    for one in cases:
        clause = next(iter(one.labels), SCAM)
        weights = [2, 1, 1, 3, 5] if one.violates else [12, 2, 1, 1, 1]
        found.append(result(one, {clause: chance.choices(GRADED, weights)[0]}))
    return found


def failing(results: list[Result], which: set[int], passed: set[int], reason: Any) -> list[Result]:
    """The same results, but for some there is no verdict; of those some were let pass."""
    return [
        replace(
            one,
            outcome=Unavailable(reason, JUDGE, usage=one.outcome.usage),
            decision=one.decision | {"action": "allow" if at in passed else "unavailable"},
        )
        if at in which
        else one
        for at, one in enumerate(results)
    ]


subsets = st.sets(st.integers(0, 209), max_size=210)


@hypothesis_settings(max_examples=10)
@given(st.integers(0, 50), subsets, subsets, st.sampled_from(FAILURES))
def test_failing_never_improves_what_was_judged(
    seed: int, which: set[int], passed: set[int], reason: Any
):
    """Whatever is left unanswered, and whether or not it was let pass; worked out by hand."""
    cases = many()
    whole = judged(cases, seed)
    less = failing(whole, which, passed, reason)
    before, after = (measure(run(cases, each), draws=5) for each in (whole, less))
    bad = [at for at, one in enumerate(cases) if one.violates]
    good = [at for at, one in enumerate(cases) if not one.violates]
    flags = [any(f.grade in ("likely", "certain") for f in one.outcome.findings) for one in whole]
    found = after.overall.judged
    assert found.recall.hits == sum(flags[at] and at not in which for at in bad)
    assert found.recall.of == len(bad)
    assert found.recall.hits <= before.overall.judged.recall.hits
    assert found.fpr.of == sum(at not in which for at in good)
    assert found.fpr.hits == sum(flags[at] and at not in which for at in good)
    assert (found.roc is None) == (found.fpr.of == 0)
    stopped = [flags[at] if at not in which else at not in passed for at in range(len(cases))]
    enforced = after.overall.enforced
    assert enforced.recall.hits == sum(stopped[at] for at in bad)
    assert enforced.fpr.hits == sum(stopped[at] for at in good)
    assert (enforced.recall.of, enforced.fpr.of) == (len(bad), len(good))
    over = after.action_metrics.over_blocked.enforced
    assert over.hits == sum(stopped[at] for at in good)
    section = next(each for each in after.sections if each.name == "fraud_abuse")
    assert section.judged.recall.of == sum(one.labels.get(SCAM) == "violated" for one in cases)
    assert after.attribution.clause.of == len(bad)


@hypothesis_settings(max_examples=10)
@given(st.integers(0, 50), subsets, subsets)
def test_a_comparison_counts_a_failure_as_it_was_judged_and_as_it_was_enforced(
    seed: int, which: set[int], passed: set[int]
):
    cases = many()
    whole = judged(cases, seed)
    less = failing(whole, which, passed, "refused")
    found = compare(run(cases, whole, "a"), run(cases, less, "b"), draws=5)
    flags = [any(f.grade in ("likely", "certain") for f in one.outcome.findings) for one in whole]
    bad = [at for at, one in enumerate(cases) if one.violates]
    good = [at for at, one in enumerate(cases) if not one.violates]
    lost = sum(flags[at] and at in which for at in bad)
    assert (found.overall.recall.only_a, found.overall.recall.only_b) == (lost, 0)
    assert found.overall.recall.n == len(bad)
    assert found.overall.false_positives.n == sum(at not in which for at in good)
    assert found.overall.false_positives.only_a == found.overall.false_positives.only_b == 0
    done = found.enforced_overall
    through = sum(flags[at] and at in which & passed for at in bad)
    assert done.recall.only_a == through
    assert done.recall.only_b == sum(not flags[at] and at in which - passed for at in bad)
    assert done.false_positives.only_b == sum(not flags[at] and at in which - passed for at in good)
    assert (done.recall.n, done.false_positives.n) == (len(bad), len(good))
    floor = [at for at in bad if cases[at].labels.get(ABUSE) and flags[at] and at in which]
    assert sum(flip.floor_missed for flip in found.flips) == len(floor)
    assert sum(flip.floor_passed for flip in found.flips) == len(set(floor) & passed)


def outage(passing: bool) -> tuple[Run, Run]:
    """A baseline that finds all, and a run whose judge never answers."""
    cases = many()
    right = [
        result(one, {next(iter(one.labels)): "certain"} if one.violates else None) for one in cases
    ]
    every = set(range(len(cases)))
    gone = failing(right, every, every if passing else set(), "refused")
    return run(cases, right, "a"), run(cases, gone, "b")


@cache
def outage_in_numbers(passing: bool) -> tuple[Metrics, Comparison]:
    a, b = outage(passing)
    return measure(b, draws=5), compare(a, b, draws=5)


@pytest.mark.parametrize("passing", [False, True])
@pytest.mark.parametrize(
    ("rule", "kept_if_stopped", "kept_if_let_pass"),
    [
        ("recall >= 0.5", False, False),
        ("judged recall >= 0.5", False, False),
        ("enforced recall >= 0.5", True, False),
        ("section fraud_abuse recall >= 0.5", False, False),
        ("section fraud_abuse enforced recall >= 0.5", True, False),
        ("fpr <= 0.2", False, False),  # of no case it was judged
        ("enforced fpr <= 0.2", False, True),
        ("ordinary <= 0.2", False, False),
        ("enforced ordinary <= 0.2", False, True),
        ("right_clause >= 0.5", False, False),
        ("right_section >= 0.5", False, False),
        ("lost cases <= 3", False, False),
        ("no new misses", False, False),
        ("no new judged misses", False, False),
        ("no new enforced misses", True, False),
        ("no new misses in floor clauses", False, False),
        ("no new enforced misses in floor clauses", True, False),
        ("no new enforced false positives", False, True),
        ("no significant recall loss", False, False),
        ("no significant enforced recall loss", True, False),
        ("no significant judged recall loss in any section", False, False),
        ("no significant enforced fpr rise", False, True),
        ("no significant enforced fpr rise in section fraud_abuse", False, True),
    ],
)
def test_rules_name_the_way_that_they_count(
    rule: str, kept_if_stopped: bool, kept_if_let_pass: bool, passing: bool
):
    (held,) = check([parse(rule)], *outage_in_numbers(passing))
    assert held.passed is (kept_if_let_pass if passing else kept_if_stopped), held.because


def test_both_ways_are_said_in_words():
    a, b = outage(passing=False)
    told = as_markdown(compare(a, b, draws=20))
    assert "80 → 0 of 80" in told
    assert "80 → 80 of 80" in told
    assert "0 in a, 210 in b there is no verdict" in told
    assert "what was judged was enforced" in as_markdown(compare(a, a, draws=20))
    said = " ".join(each.text for each in overview(b, measure(b, draws=20)))
    assert "Of 100 violating cases, it caught none" in said
    assert "with those it gave no verdict on, all 100" in said
    changed = " ".join(each.text for each in changes(compare(a, b, draws=20)))
    assert "B none on 210" in changed
    assert "As enforced" in changed


# --- for the right reason -------------------------------------------------------------------------


def test_what_was_caught_under_another_rule_is_told_apart_by_hand():
    both = case("both", [SCAM, LOBBY])
    cases = [
        case("right", [SCAM]),
        case("sibling", [SCAM]),
        case("elsewhere", [SCAM]),
        case("weak", [SCAM]),
        case("missed", [LOBBY]),
        case("failed", [LOBBY]),
        both,
        case("plain"),
        case("open", [SCAM], contested="fiction?"),
    ]
    found = measure(
        run(
            cases,
            [
                result("right", {SCAM: "likely", LOBBY: "certain"}),
                result("sibling", {SPAM: "certain"}),
                result("elsewhere", {LOBBY: "likely", SCAM: "possible"}),
                result("weak", {SCAM: "possible"}),
                result("missed"),
                result("failed", failed="timeout"),
                result("both", {LOBBY: "certain"}),
                result("plain", {SCAM: "certain"}),
                result("open", {LOBBY: "certain"}),
            ],
        ),
        draws=5,
    ).attribution
    assert (found.clause.hits, found.clause.of) == (2, 7)
    assert (found.section.hits, found.section.of) == (3, 7)
    assert found.elsewhere.hits == 1
    assert found.confusion == {
        "fraud_abuse": {"elections": 2, "fraud_abuse": 2, "nothing": 2},
        "elections": {"elections": 1, "no verdict": 1, "nothing": 1},
    }


def test_a_judge_that_always_says_the_same_catches_all_and_is_right_in_one_section():
    policy = run([], []).settings.policy
    clauses = [
        next(c.id for c in section.clauses if "input" in c.stages) for section in policy.sections
    ]
    cases = [case(f"c{at}", [clause]) for at, clause in enumerate(clauses)]
    found = measure(run(cases, [result(one, {SCAM: "certain"}) for one in cases]), draws=5)
    assert found.overall.judged.recall.value == 1.0
    assert found.attribution.section.hits == 1
    assert found.attribution.elsewhere.hits == len(cases) - 1


# --- what an alarm is worth -----------------------------------------------------------------------


@hypothesis_settings(max_examples=20)
@given(
    st.integers(0, 9), st.integers(0, 10), st.integers(0, 19), st.sampled_from([0.001, 0.01, 0.3])
)
def test_the_worth_of_an_alarm_is_that_in_ordinary_traffic(
    caught: int, near: int, alarms: int, prevalence: float
):
    """By Bayes, with the false alarms of ordinary cases; near misses change nothing."""
    cases = [case(f"v{at}", [SCAM], pair=f"p{at}") for at in range(10)]
    cases += [case(f"n{at}", ok=[SCAM], pair=f"p{at}") for at in range(10)]
    cases += [case(f"b{at}") for at in range(20)]
    flagged = [*range(caught), *range(10, 10 + near), *range(20, 20 + alarms)]
    results = [
        result(one, {SCAM: "certain"} if at in flagged else None) for at, one in enumerate(cases)
    ]
    found = measure(run(cases, results), prevalence=prevalence, draws=5)
    right, wrong = prevalence * caught / 10, (1 - prevalence) * alarms / 20
    section = next(each for each in found.sections if each.name == "fraud_abuse")
    for group in (found.overall, section):
        assert group.judged.ppv is not None
        if right + wrong:
            assert group.judged.ppv.value == pytest.approx(right / (right + wrong))
        else:
            assert group.judged.ppv.value is None


def test_without_ordinary_traffic_nobody_knows_what_an_alarm_is_worth():
    cases = [case("v", [SCAM], pair="p"), case("n", ok=[SCAM], pair="p")]
    found = measure(run(cases, [result(one) for one in cases]), prevalence=0.1, draws=5)
    assert found.overall.judged.ppv is not None
    assert found.overall.judged.ppv.value is None


# --- thresholds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("failed", [0, 4, 9])
def test_thresholds_are_not_the_better_for_a_judge_that_fails(failed: int):
    """Of ten violating cases of each split, some without a verdict: no threshold catches those."""
    cases = [case(f"{s}v{at}", [SCAM], split=s) for s in ("dev", "test") for at in range(10)]
    cases += [case(f"{s}b{at}", split=s) for s in ("dev", "test") for at in range(20)]
    results = [
        result(one, {SCAM: "likely"} if one.violates else None)
        if int(one.id.lstrip("devtsb")) >= failed
        else result(one, failed="refused")
        for one in cases
    ]
    found = tune(run(cases, results), 0.2)
    for split in ("dev", "test"):
        effect = found.after[split]
        assert (effect.recall.hits, effect.recall.of) == (10 - failed, 10)
        assert effect.fpr.of == 20 - failed
