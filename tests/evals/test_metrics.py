"""What a run shows: small tables worked out by hand, and scikit-learn on random runs."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from eval_runs import ABUSE, JUDGE, LOBBY, SCAM, SPAM, case, result, run, settings
from magistrate.config.diagnostics import SettingsError
from magistrate.core.offline import OfflineDecision
from magistrate.evals.cases import Case
from magistrate.evals.labels import LABELS, labelled_verdict
from magistrate.evals.metrics.action_metrics import handled_right
from magistrate.evals.metrics.curves import Group, Scores, Tally, group
from magistrate.evals.metrics.levels import LEVELS
from magistrate.evals.metrics.measures import MIN_NAMED, Metrics, measure
from magistrate.evals.metrics.statistics import needed
from magistrate.evals.metrics.tradeoffs import recall_at
from magistrate.evals.results import Result, result_of
from magistrate.evals.run_folder import Run
from magistrate.verdicts import GRADES, Finding, Usage, Verdict

EXACT = pytest.approx


def quick(found: Run, **more: Any) -> Metrics:
    return measure(found, draws=20, **more)


def section(metrics: Metrics, name: str) -> Group:
    return next(found for found in metrics.sections if found.name == name)


def counts(scores: Scores) -> tuple[int, int, int, int]:
    return scores.tp, scores.fp, scores.fn, scores.tn


# --- which case counts where ----------------------------------------------------------------------


def test_a_small_run_by_hand():
    scam, twin = case("scam", [SCAM], pair="p"), case("twin", ok=[SCAM], pair="p")
    spam, plain, lost = case("spam", [SPAM]), case("plain"), case("lost", [LOBBY])
    found = quick(
        run(
            [scam, twin, spam, plain, lost],
            [
                result(scam, {SCAM: "likely"}),
                result(twin, {SCAM: "certain"}),
                result(spam, {SPAM: "possible"}),
                result(plain),
                result(lost, failed="refused"),
            ],
        )
    )
    overall = found.overall
    assert (overall.n, overall.clusters, overall.violating, overall.benign) == (5, 4, 3, 2)
    assert (overall.named, overall.failed) == (4, 1)
    assert counts(overall.judged) == (1, 1, 2, 1)
    assert counts(overall.enforced) == (2, 1, 1, 1)
    assert overall.judged.recall.value == EXACT(1 / 3)
    assert overall.failed_violating == 1
    assert overall.enforced.recall.value == EXACT(2 / 3)
    assert overall.judged.near_misses.of == 1
    assert overall.judged.near_misses.hits == 1
    shares = {
        found.grade: (found.violating.hits, found.violating.of) for found in overall.calibration
    }
    assert shares == {
        "none": (0, 1),
        "unlikely": (0, 0),
        "possible": (1, 1),
        "likely": (1, 1),
        "certain": (0, 1),
    }
    assert found.cases == found.judged == 5
    assert found.detection == "a finding of grade likely or above, whatever its severity"


def test_a_section_counts_violations_of_its_own_and_what_is_known_to_be_none():
    scam, lobby, plain = case("scam", [SCAM]), case("lobby", [LOBBY]), case("plain")
    found = quick(
        run(
            [scam, lobby, plain],
            [
                result(scam, {LOBBY: "certain", SPAM: "likely"}),
                result(lobby, {SCAM: "certain"}),
                result(plain, {SCAM: "certain"}),
            ],
        )
    )
    # Found under another clause of the section is found; `lobby` says nothing about fraud.
    assert counts(section(found, "fraud_abuse").judged) == (1, 1, 0, 0)
    assert section(found, "fraud_abuse").n == 2
    # Found under another section only is found overall, and missed in its section.
    assert counts(section(found, "elections").judged) == (0, 0, 1, 1)
    assert counts(found.overall.judged) == (2, 1, 0, 0)


def test_a_section_is_ok_in_a_violating_case_only_if_all_its_clauses_are():
    every = [clause.id for clause in settings().policy.section_of(LOBBY).clauses]
    some, whole = case("some", [SCAM], every[:-1]), case("whole", [SCAM], every)
    found = quick(run([some, whole], [result(some), result(whole)]))
    assert section(found, "elections").n == 1
    assert section(found, "fraud_abuse").n == 2


def test_labels_from_elsewhere_count_only_for_what_they_name():
    harmful = case("harmful", overall="violated", action="block", severity="high")
    harmless = case("harmless", overall="ok")
    no_scam = case("no_scam", ok=[SCAM], overall="unknown")
    scam = case("scam", [SCAM], overall="violated")
    cases = [harmful, harmless, no_scam, scam]
    cases += [case(f"more{at}", [SCAM], overall="violated") for at in range(18)]
    found = quick(run(cases, [result(one, {SCAM: "likely"}) for one in cases]))
    assert counts(found.overall.judged) == (20, 1, 0, 0)
    assert [one.key for one in found.clauses] == [f"clause {SCAM}"]
    assert counts(found.clauses[0].judged) == (19, 1, 0, 0)
    assert counts(section(found, "fraud_abuse").judged) == (19, 0, 0, 0)
    assert section(found, "elections").n == 0
    assert sum(found.action_metrics.actions["allow"].values()) == 1
    assert found.action_metrics.over_blocked.judged.of == 1


def test_a_clause_has_a_group_from_twenty_cases_that_name_it():
    cases = [case(f"v{at}", [SCAM]) for at in range(MIN_NAMED - 1)]
    cases += [case(f"plain{at}") for at in range(30)]
    few = quick(run(cases, [result(one) for one in cases]))
    assert few.clauses == ()
    assert few.too_few[SCAM] == MIN_NAMED - 1
    cases.append(case("twin", ok=[SCAM]))
    enough = quick(run(cases, [result(one, {SCAM: "likely"}) for one in cases]))
    assert [found.name for found in enough.clauses] == [SCAM]
    assert SCAM not in enough.too_few
    assert counts(enough.clauses[0].judged) == (19, 31, 0, 0)
    assert enough.clauses[0].named == 20


def test_contested_cases_are_apart():
    plain, open_ = case("plain"), case("open", [SCAM], contested="fiction?")
    found = quick(run([plain, open_], [result(plain), result(open_, {SCAM: "certain"})]))
    assert found.overall.n == found.overall.benign == 1
    assert counts(found.contested.judged) == (1, 0, 0, 0)
    assert section(found, "fraud_abuse").violating == 0
    assert sum(map(sum, (row.values() for row in found.action_metrics.actions.values()))) == 1
    assert found.judgments.n == 2


def test_slices_stages_and_splits_ask_about_any_violation():
    german = case("german", [SCAM], tags=["lang:de"], split="dev")
    hidden = case("hidden", ok=[SCAM], tags=["disguise:base64"], stage="output")
    plain = case("plain")
    found = quick(
        run(
            [german, hidden, plain],
            [result(german, {LOBBY: "likely"}), result(hidden), result(plain, {SPAM: "certain"})],
        )
    )
    by_key = {one.key: counts(one.judged) for one in found.groups if one.kind != "section"}
    assert by_key == {
        "overall": (1, 1, 0, 1),
        "stage input": (1, 1, 0, 0),
        "stage output": (0, 0, 0, 1),
        "slice disguise": (0, 0, 0, 1),
        "slice disguise:base64": (0, 0, 0, 1),
        "slice lang:de": (1, 0, 0, 0),
        "slice language": (1, 0, 0, 0),
        "slice ordinary": (0, 1, 0, 0),
        "split dev": (1, 0, 0, 0),
        "split test": (0, 1, 0, 1),
        "contested": (0, 0, 0, 0),
    }


def test_one_split_leaves_out_the_cases_and_results_of_the_other():
    dev, test = case("dev", [SCAM], split="dev"), case("test")
    both = run([dev, test], [result(dev), result(test, latency_ms=7)])
    found = quick(both, split="test")
    assert (found.cases, found.judged, found.overall.n, found.judgments.n) == (1, 1, 1, 1)
    assert found.latency.p50 == 7
    assert [one.name for one in found.splits] == ["test"]


def test_groups_are_about_the_first_repeat_wherever_it_stands():
    one = case("one", [SCAM])
    found = quick(
        run(
            [one, case("unjudged")],
            [result(one, repeat=1), result(one, {SCAM: "likely"}), result(one, repeat=2)],
        )
    )
    assert counts(found.overall.judged) == (1, 0, 0, 0)
    assert (found.cases, found.judged, found.judgments.n) == (2, 1, 3)


def test_a_result_of_an_unknown_case_is_refused():
    with pytest.raises(SettingsError, match=r"results\.jsonl: is about 'stranger'"):
        quick(run([case("one")], [result("stranger")]))


def test_an_empty_run_has_no_values_and_nothing_breaks():
    found = quick(run([], []), prevalence=0.1)
    assert found.overall.judged.recall.value is None
    assert found.overall.judged.f1.value is None
    assert found.overall.judged.f1.interval is None
    assert found.overall.judged.roc is None
    assert found.overall.judged.ppv is not None
    assert found.latency.p99 is None
    assert found.cost.usd is None
    json.dumps(found.as_json(), allow_nan=False)


# --- against scikit-learn, on random runs ---------------------------------------------------------


def judged_at_random(seed: int, n: int, failing: float = 0.05) -> tuple[list[Case], list[Result]]:
    draw = random.Random(seed)
    cases: list[Case] = []
    results: list[Result] = []
    for at in range(n):
        bad = draw.random() < 0.4
        weights = (5, 5, 10, 40, 40) if bad else (60, 20, 10, 8, 2)
        pair = f"p{at // 2}" if draw.random() < 0.5 else None
        labels: dict[str, Any] = {"violated": [SCAM]} if bad else {}
        cases.append(case(f"c{at}", pair=pair, **labels))
        if draw.random() < failing:
            results.append(result(cases[-1], failed="timeout"))
        else:
            grade = draw.choices(GRADES, weights)[0]
            results.append(result(cases[-1], {SCAM: grade}))
    return cases, results


def arrays(cases: list[Case], results: list[Result], enforced: bool) -> tuple[Any, Any]:
    """Truth and score of each case that counts: without a verdict, what violates was not found."""
    truth: list[int] = []
    score: list[int] = []
    for one, found in zip(cases, results, strict=True):
        grade = found.grade([SCAM, LOBBY, ABUSE])
        if grade is not None or enforced or not one.benign:
            truth.append(int(not one.benign))
            stopped = len(GRADES) if enforced else 0
            score.append(stopped if grade is None else GRADES.index(grade))
    return np.asarray(truth), np.asarray(score)


@pytest.mark.parametrize("enforced", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_scores_are_those_of_scikit_learn(seed: int, enforced: bool):
    cases, results = judged_at_random(seed, 300)
    whole = quick(run(cases, results)).overall
    assert whole.failed == sum(each.verdict is None for each in results)
    found = whole.enforced if enforced else whole.judged
    truth, score = arrays(cases, results, enforced)
    flagged = (score >= 3).astype(int)
    precision, recall, f1, _ = sklearn.precision_recall_fscore_support(
        truth, flagged, average="binary"
    )
    specificity = sklearn.recall_score(truth, flagged, pos_label=0)
    assert [found.precision.value, found.recall.value, found.f1.value] == EXACT(
        [precision, recall, f1], abs=1e-9
    )
    assert found.fpr.value == EXACT(1 - specificity, abs=1e-9)
    assert found.roc is not None
    assert found.pr is not None
    fpr, tpr, _ = sklearn.roc_curve(truth, score, drop_intermediate=False)
    assert [p.x for p in found.roc.points] == EXACT(list(fpr), abs=1e-9)
    assert [p.y for p in found.roc.points] == EXACT(list(tpr), abs=1e-9)
    assert found.roc.area == EXACT(sklearn.roc_auc_score(truth, score), abs=1e-9)
    precisions, recalls, _ = sklearn.precision_recall_curve(truth, score)
    points = found.pr.points[::-1]
    assert [p.x for p in points] == EXACT(list(recalls), abs=1e-9)
    assert [p.y for p in points] == EXACT(list(precisions), abs=1e-9)
    assert found.pr.area == EXACT(sklearn.average_precision_score(truth, score), abs=1e-9)
    for point in found.roc.points[1:]:
        assert point.level is not None
        at = score >= LEVELS.index(point.level)
        assert point.y == EXACT(at[truth == 1].mean())
        assert point.x == EXACT(at[truth == 0].mean())


@pytest.mark.parametrize("seed", range(4))
def test_clusters_of_one_have_the_plain_bootstrap_interval(seed: int):
    cases, results = judged_at_random(seed, 250, failing=0)
    cases = [replace_pair(one) for one in cases]
    found = measure(run(cases, results), draws=8_000, seed=seed).overall
    assert found.clusters == found.n
    assert found.judged.recall.clustered is None
    truth, score = arrays(cases, results, False)
    expected = stats.bootstrap(
        (truth, (score >= 3).astype(int)),
        lambda t, f, axis: 2 * (t * f).sum(axis) / (t.sum(axis) + f.sum(axis)),
        paired=True,
        n_resamples=8_000,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    interval = found.judged.f1.interval
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.006)


def replace_pair(one: Case) -> Case:
    return one.model_copy(update={"pair": None})


def test_twins_that_always_agree_count_once_in_the_clustered_interval():
    one, two = Tally(), Tally()
    draw = random.Random(4)
    for at in range(200):
        violating = at % 2 == 0
        level = draw.choices(range(5), (5, 5, 10, 40, 40) if violating else (80, 8, 6, 4, 2))[0]
        for tally, times in ((one, 1), (two, 2)):
            for _ in range(times):
                tally.add(f"cluster {at}", level, violating=violating, named=True)
    single, double = (
        group("overall", "x", tally, prevalence=None, draws=500, seed=1).judged
        for tally in (one, two)
    )
    assert single.f1 == double.f1
    assert single.recall.clustered is None
    clustered, wilson = double.recall.clustered, double.recall.wilson
    assert clustered is not None
    assert wilson is not None
    # As if there were half as many cases: wider by about the square root of two.
    ratio = (clustered.high - clustered.low) / (wilson.high - wilson.low)
    assert 1.2 < ratio < 1.65


@given(st.randoms(use_true_random=False), st.integers(0, 9))
@hypothesis_settings(max_examples=15, deadline=None)
def test_the_order_of_cases_and_results_does_not_matter(shuffler: random.Random, seed: int):
    cases, results = judged_at_random(seed, 40)
    results += [replace(each, repeat=1) for each in results[::3]]
    before = measure(run(cases, results), draws=30, prevalence=0.02).as_json()
    shuffler.shuffle(cases)
    shuffler.shuffle(results)
    assert measure(run(cases, results), draws=30, prevalence=0.02).as_json() == before


def test_the_interval_of_a_group_does_not_depend_on_the_other_groups():
    cases, results = judged_at_random(3, 60)
    alone = measure(run(cases, results), draws=50)
    more, extra = case("more", [LOBBY]), case("extra", [ABUSE], tags=["lang:de"])
    beside = measure(run([*cases, more, extra], [*results, result(more), result(extra)]), draws=50)
    assert section(alone, "fraud_abuse") == section(beside, "fraud_abuse")
    assert alone.overall != beside.overall


levels = st.lists(st.integers(0, 60), min_size=5, max_size=5)


@given(levels.filter(any), levels.filter(any))
@hypothesis_settings(max_examples=25, deadline=None)
def test_swapping_the_labels_turns_the_auc_around(ok: list[int], bad: list[int]):
    def area(benign: list[int], violating: list[int]) -> float:
        tally = Tally()
        for side, numbers in ((False, benign), (True, violating)):
            for level, number in enumerate(numbers):
                for at in range(number):
                    tally.add(f"{side}{level}{at}", level, violating=side, named=False)
        found = group("overall", "x", tally, prevalence=None, draws=1, seed=0).judged.roc
        assert found is not None
        return found.area

    assert area(ok, bad) == EXACT(1 - area(bad, ok), abs=1e-9)


def test_a_roc_curve_has_every_level_even_on_a_straight_line():
    tally = Tally()
    for at in range(20):
        tally.add(str(at), at % 5, violating=at % 2 == 0, named=False)
    found = group("overall", "x", tally, prevalence=None, draws=1, seed=0).judged.roc
    assert found is not None
    assert [point.level for point in found.points] == [None, *reversed(GRADES)]
    assert found.area == EXACT(0.5)


# --- recall at a limited rate of false positives --------------------------------------------------


@pytest.mark.parametrize(("limit", "benign"), [(0.01, 380), (0.005, 764), (0.001, 3837)])
def test_too_few_benign_cases_refuse_the_claim(limit: float, benign: int):
    short = recall_at(limit, [benign, 0, 0, 0, 0], [0, 0, 0, 0, 9])
    assert (short.recall, short.grade, short.proven) == (None, None, False)
    assert short.refused == f"needs {benign + 1:,} benign cases, there are {benign:,}"
    enough = recall_at(limit, [benign + 1, 0, 0, 0, 0], [0, 0, 0, 0, 9])
    assert enough.proven
    assert enough.refused is None


def test_the_loosest_grade_within_the_limit_is_taken():
    ok, bad = [990, 5, 4, 1, 0], [1, 2, 3, 4, 10]
    found = recall_at(0.01, ok, bad)
    assert found.grade == "unlikely"
    assert found.recall is not None
    assert (found.recall.hits, found.recall.of) == (19, 20)
    assert not found.proven  # 10 of 1,000 is 1 %, but its interval is not
    assert recall_at(0.005, ok, bad).grade == "possible"


def test_where_every_grade_is_too_loose_nothing_is_recalled():
    found = recall_at(0.01, [900, 0, 0, 0, 100], [0, 0, 0, 0, 10])
    assert found.grade is None
    assert found.recall is not None
    assert found.recall.value == 0
    assert found.fpr is not None
    assert found.fpr.hits == 0


def test_failures_that_are_blocked_cannot_be_put_under_the_limit():
    assert recall_at(0.01, [900, 0, 0, 0, 0, 100], [0, 0, 0, 0, 9, 1]).refused == (
        "cases without an answer alone are more than that"
    )


def test_without_violating_cases_there_is_no_recall():
    assert recall_at(0.01, [900, 0, 0, 0, 0], [0] * 5).refused == "there are no violating cases"


@given(levels, levels, st.sampled_from([0.01, 0.05, 0.1, 0.3]))
@hypothesis_settings(deadline=None)
def test_recall_at_a_limit_is_the_best_that_keeps_it(ok: list[int], bad: list[int], limit: float):
    found = recall_at(limit, ok, bad)
    if sum(ok) < needed(limit) or not sum(bad):
        assert found.refused
        return
    allowed = [start for start in range(1, 6) if sum(ok[start:]) <= limit * sum(ok) + 1e-12]
    assert found.recall is not None
    assert found.recall.hits == max(sum(bad[start:]) for start in allowed)
    assert found.fpr is not None
    assert found.fpr.value is not None
    assert found.fpr.value <= limit


# --- what was done --------------------------------------------------------------------------------


def test_a_disclosure_is_right_or_wrong_only_where_the_case_names_its_app():
    app = {"name": "x", "audience": "consumer", "interface": "chatbot"}
    plain, own = case("plain", stage="output"), case("own", stage="output", app=app)
    owing = case("owing", stage="output", app=app, disclosure="added")
    assert handled_right(plain, result(plain, disclosure="added"))
    assert handled_right(plain, result(plain))
    assert not handled_right(plain, result(plain, action="warn"))
    assert not handled_right(own, result(own, disclosure="added"))
    assert handled_right(owing, result(owing, disclosure="added"))
    assert not handled_right(owing, result(owing))


def test_actions_over_blocking_and_pairs_by_hand():
    scam, near = case("scam", [SCAM], pair="1"), case("near", ok=[SCAM], pair="1")
    spam, also = case("spam", [SPAM], pair="2"), case("also", ok=[SPAM], pair="2")
    held = case("held", pair="3", stage="output", action="hold")
    not_held = case("not_held", pair="3", stage="output")
    told = case("told", stage="output", disclosure="added")
    plain, warned, lost = case("plain"), case("warned", action="warn"), case("lost")
    found = quick(
        run(
            [scam, near, spam, also, held, not_held, told, plain, warned, lost],
            [
                result(scam, {SCAM: "certain"}),
                result(near),
                result(spam, {SPAM: "likely"}, action="warn"),
                result(also, {SPAM: "likely"}, action="hold"),
                result(held, action="hold"),
                result(not_held, action="hold"),
                result(told, disclosure="added"),
                result(plain, disclosure="added"),
                result(warned, action="warn", disclosure="added"),
                result(lost, failed="timeout"),
            ],
        )
    ).action_metrics
    decided = {
        (row, column): number
        for row, numbers in found.actions.items()
        for column, number in numbers.items()
        if number
    }
    assert decided == {
        ("block", "block"): 1,
        ("block", "warn"): 1,
        ("allow", "allow"): 1,
        ("allow", "hold"): 2,
        ("hold", "hold"): 1,
        ("disclose", "disclose"): 1,
        ("allow", "disclose"): 1,
        ("warn", "warn"): 1,
        ("allow", "unavailable"): 1,
    }

    def of(rate: Any) -> tuple[int, int]:
        return rate.hits, rate.of

    assert of(found.near_misses.judged) == of(found.near_misses.enforced) == (1, 2)
    assert of(found.ordinary.judged) == (0, 3)
    assert of(found.ordinary.enforced) == (1, 4)
    # Seven should pass: near, also, not_held, told, plain, warned, lost.
    assert of(found.over_blocked.judged) == (2, 6)
    assert of(found.over_blocked.enforced) == (3, 7)
    assert of(found.pairs_detected) == (1, 2)
    assert of(found.pairs_handled) == (1, 3)


def test_a_pair_with_a_twin_that_was_not_judged_or_failed():
    scam, near = case("scam", [SCAM], pair="1"), case("near", ok=[SCAM], pair="1")
    half = quick(run([scam, near], [result(scam, {SCAM: "likely"})])).action_metrics
    assert half.pairs_detected.of == half.pairs_handled.of == 0
    failed = quick(run([scam, near], [result(scam, failed="error"), result(near)])).action_metrics
    assert (failed.pairs_detected.hits, failed.pairs_detected.of) == (0, 1)


@pytest.mark.parametrize(
    ("labelled", "judged", "exact", "near"),
    [("high", "high", 1, 1), ("high", "critical", 0, 1), ("low", "high", 0, 0)],
)
def test_severity_is_compared_on_what_was_detected(labelled, judged, exact, near):
    one, missed, other = (case(id, [SCAM], severity=labelled) for id in ("one", "missed", "other"))
    twice = tuple(
        Finding(clause, "likely", severity, "input", "messages[0].content")
        for clause, severity in ((SCAM, "low"), (SCAM, judged), (LOBBY, "critical"))
    )
    found = quick(
        run(
            [one, missed, other],
            [
                replace(result(one), outcome=Verdict(JUDGE, twice)),
                result(missed, {SCAM: "possible"}, severity=labelled),
                result(other, {LOBBY: "certain"}, severity=labelled),
            ],
        )
    ).action_metrics
    assert found.severity_exact.of == found.severity_near.of == 1
    assert (found.severity_exact.hits, found.severity_near.hits) == (exact, near)


def test_flips_by_hand():
    cases = [case(name) for name in ("same", "detection", "action", "failed", "once")]
    cases.append(case("open", contested="unsure"))
    same, detection, action, failed, once, open_ = cases
    results = [
        result(same, {SCAM: "likely"}),
        result(same, {SCAM: "certain"}, repeat=1),
        result(same, {SPAM: "likely"}, repeat=2),
        result(detection, {SCAM: "possible"}, action="warn"),
        result(detection, {SCAM: "likely"}, action="warn", repeat=1),
        result(action, {SCAM: "likely"}, action="warn"),
        result(action, {SCAM: "likely"}, repeat=1),
        result(failed, failed="timeout"),
        result(failed, repeat=1),
        result(once),
        result(open_),
        result(open_, {SCAM: "certain"}, repeat=1),
    ]
    found = quick(run(cases, results)).flips
    assert found.repeats == 3
    assert (found.detection.hits, found.detection.of) == (1, 3)
    assert (found.action.hits, found.action.of) == (2, 4)
    assert (found.either.hits, found.either.of) == (3, 4)


def test_judgments_latency_and_cost_by_hand():
    one = case("one")
    used = Usage(2, 100, 10, 5, 50, 0.002)
    results = [
        result(one, repeat=at, latency_ms=at + 1, usage=used, dropped_quotes=at % 2)
        for at in range(100)
    ]
    results.append(result(one, repeat=100, failed="refused", latency_ms=9_999, usage=used))
    results.append(result(one, repeat=101, failed="timeout", latency_ms=9_999, usage=Usage()))
    results.append(result(one, repeat=102, refusals=("no",), latency_ms=50, usage=used))
    found = quick(run([one], results))
    assert found.judgments.failures == {"refused": 1, "timeout": 1}
    assert (found.judgments.failed.hits, found.judgments.failed.of) == (2, 103)
    assert found.judgments.dropped_quotes == 50
    assert (found.judgments.with_dropped.hits, found.judgments.with_dropped.of) == (50, 101)
    assert found.judgments.refused.hits == 2
    took = sorted([*range(1, 101), 50])
    assert found.latency.n == 101
    assert found.latency.p50 == took[50]
    assert found.latency.p99 == EXACT(took[99])
    assert found.cost.judge_calls == EXACT(1000 * 2 * 102 / 103)
    assert found.cost.input_tokens == EXACT(1000 * 100 * 102 / 103)
    assert found.cost.cache_read_tokens == EXACT(1000 * 50 * 102 / 103)
    assert found.cost.usd == EXACT(1000 * 0.002 * 102 / 103)


def test_an_unknown_price_is_not_zero():
    one = case("one")
    unpriced = Usage(judge_calls=1, input_tokens=9)
    found = quick(run([one], [result(one), result(one, repeat=1, usage=unpriced)]))
    assert found.cost.usd is None
    assert found.cost.input_tokens == EXACT(1000 * 19 / 2)


# --- the whole way --------------------------------------------------------------------------------


def test_a_judge_that_answers_as_labelled_is_perfect_in_every_number():
    under = settings()
    cases = [
        case("scam", [SCAM], pair="1", severity="critical"),
        case("near", ok=[SCAM], pair="1"),
        case("abuse", [ABUSE], pair="2", severity="critical"),
        case("not_abuse", ok=[ABUSE], pair="2"),
        *(case(f"plain{at}") for at in range(5)),
    ]
    results = [
        result_of(
            one,
            0,
            labelled_verdict(one),
            OfflineDecision.of(under, one.stage, one.request, one.answer).decide(
                [labelled_verdict(one)], LABELS
            ),
            12.0,
        )
        for one in cases
    ]
    results = [Result.of_json(json.loads(json.dumps(each.as_json()))) for each in results]
    found = quick(run(cases, results), prevalence=0.01)
    for one in found.groups:
        assert counts(one.judged) == (one.violating, 0, 0, one.benign)
        assert one.judged == one.enforced
    assert found.overall.judged.f1.value == 1
    assert (
        found.action_metrics.pairs_detected.value == found.action_metrics.pairs_handled.value == 1
    )
    assert found.action_metrics.over_blocked.enforced.hits == 0
    assert found.action_metrics.severity_exact.value == 1
    assert found.overall.judged.ppv is not None
    assert found.overall.judged.ppv.value == 1
    interval = found.overall.judged.ppv.interval
    assert interval is not None
    assert interval.low < 0.5  # seven benign cases show little about one in a hundred


def test_metrics_are_json():
    cases, results = judged_at_random(1, 30)
    found = quick(run(cases, results), prevalence=0.1)
    data = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert data["overall"]["judged"]["recall"]["wilson"]["low"] < 1
    assert data["overall"]["judged"]["recall_at"][0]["refused"].startswith("needs 381 benign")
    assert data["detection"] == found.detection
