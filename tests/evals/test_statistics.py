"""Eval statistics against scipy, scikit-learn, statsmodels, and against their own definitions."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from magistrate.evals.metrics.statistics import (
    fractions,
    holm,
    library,
    mcnemar,
    needed,
    needed_discordant,
    percentiles,
    ppv,
    resampled,
    share,
    wilson,
)

EXACT = pytest.approx  # with abs=1e-9 below
counts = st.integers(0, 400)
tables = st.lists(st.tuples(counts, counts, counts), min_size=1, max_size=30)


def reference(name: str):
    """A function of statsmodels, whose import warns on some versions of pandas."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from statsmodels.stats import contingency_tables, multitest, proportion
    modules = (contingency_tables, multitest, proportion)
    return next(getattr(module, name) for module in modules if hasattr(module, name))


# --- against the libraries ------------------------------------------------------------------------


@given(st.integers(1, 5_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None)
def test_wilson_is_that_of_statsmodels(counted: tuple[int, int]):
    hits, of = counted
    low, high = reference("proportion_confint")(hits, of, method="wilson")
    found = wilson(hits, of)
    assert found is not None
    assert (found.low, found.high) == EXACT((low, high), abs=1e-9)


def test_a_share_of_nothing_has_no_interval():
    assert wilson(0, 0) is None


@given(st.integers(0, 300), st.integers(0, 300))
@settings(deadline=None)
def test_mcnemar_is_that_of_statsmodels(b: int, c: int):
    table = [[7, b], [c, 5]]
    assert mcnemar(b, c) == EXACT(reference("mcnemar")(table, exact=True).pvalue, abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(deadline=None)
def test_holm_is_that_of_statsmodels(p_values: list[float]):
    with patch.object(gc, "collect"):  # which statsmodels calls every time
        expected = reference("multipletests")(p_values, method="holm")[1]
    found = holm({str(at): p for at, p in enumerate(p_values)})
    assert list(found.values()) == EXACT(list(expected), abs=1e-9)
    assert list(found) == [str(at) for at in range(len(p_values))]


@pytest.mark.parametrize("seed", range(20))
def test_rates_are_those_of_scikit_learn(seed: int):
    random = np.random.default_rng(seed)
    truth, flagged = random.integers(0, 2, (2, 200))
    tn, fp, fn, tp = sklearn.confusion_matrix(truth, flagged).ravel()
    found = {name: top / bottom for name, (top, bottom) in fractions(tp, fp, fn, tn).items()}
    precision, recall, f1, _ = sklearn.precision_recall_fscore_support(
        truth, flagged, average="binary"
    )
    negatives = sklearn.recall_score(truth, flagged, pos_label=0)
    assert found == EXACT(
        {"precision": precision, "recall": recall, "f1": f1, "fpr": 1 - negatives}, abs=1e-9
    )


@given(st.tuples(*[st.integers(1, 99)] * 4))
def test_swapping_the_labels_swaps_recall_and_specificity(counted: tuple[int, ...]):
    tp, fp, fn, tn = counted
    one, other = fractions(tp, fp, fn, tn), fractions(tn, fn, fp, tp)
    assert other["recall"][0] / other["recall"][1] == EXACT(1 - fp / (fp + tn))
    assert one["fpr"] == (fp, fp + tn)
    assert 1 - one["recall"][0] / one["recall"][1] == EXACT(other["fpr"][0] / other["fpr"][1])


def test_a_share_of_nothing_is_no_number():
    assert np.isnan(share(np.array([0, 1]), np.array([0, 2]))).tolist() == [True, False]


# --- resampling -----------------------------------------------------------------------------------


@given(tables, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_clusters_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert (resampled(rows, 50, 3, "x") == resampled(shuffled, 50, 3, "x")).all()


@given(tables)
@settings(max_examples=30, deadline=None)
def test_every_draw_has_as_many_clusters_as_there_are(rows):
    drawn = resampled([(1, *row) for row in rows], 40, 0)
    assert (drawn[:, 0] == len(rows)).all()


def test_equal_seeds_and_names_draw_the_same_and_others_do_not():
    rows = [(0, 1), (1, 0), (1, 1), (2, 5)] * 5
    first = resampled(rows, 100, 1, "a")
    assert (first == resampled(rows, 100, 1, "a")).all()
    assert (first != resampled(rows, 100, 1, "b")).any()
    assert (first != resampled(rows, 100, 2, "a")).any()


@pytest.mark.parametrize("seed", range(5))
def test_resampling_has_the_moments_of_drawing_each_cluster_by_itself(seed: int):
    random = np.random.default_rng(seed)
    rows = random.integers(0, 4, (60, 3))
    drawn = resampled(rows.tolist(), 40_000, seed)
    # n independent draws from the empirical distribution: mean n·m, covariance n·S (with 1/n).
    assert drawn.mean(0) == pytest.approx(60 * rows.mean(0), rel=0.01)
    expected = 60 * np.cov(rows.T, bias=True)
    assert np.cov(drawn.T) == pytest.approx(expected, abs=0.04 * expected.max())


@pytest.mark.parametrize("seed", range(5))
def test_resampling_is_distributed_as_drawing_rows_by_their_number(seed: int):
    random = np.random.default_rng(100 + seed)
    rows = random.binomial(2, 0.4, (50, 2))
    plain = rows[random.integers(0, 50, (4_000, 50))].sum(1)
    ours = resampled(rows.tolist(), 4_000, seed)
    for column in (0, 1):
        assert stats.ks_2samp(plain[:, column], ours[:, column]).pvalue > 0.001
    ratio = [table[:, 0] / table.sum(1) for table in (plain, ours)]
    assert stats.ks_2samp(*ratio).pvalue > 0.001


def test_clusters_of_one_give_the_interval_of_scipys_bootstrap():
    random = np.random.default_rng(5)
    hits = (random.random(300) < 0.8).astype(int)
    drawn = resampled([(int(hit), 1) for hit in hits], 20_000, 0)
    found = percentiles(drawn[:, 0] / drawn[:, 1])
    expected = stats.bootstrap(
        (hits,), np.mean, n_resamples=20_000, method="percentile", rng=random
    ).confidence_interval
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_percentiles_leave_out_draws_without_a_value():
    found = percentiles([np.nan, *range(101), np.nan])
    assert found is not None
    assert (found.low, found.high) == (2.5, 97.5)
    assert percentiles([np.nan]) is None
    assert percentiles([]) is None


# --- what a sample can show -----------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "cases"), [(0.01, 381), (0.005, 765), (0.001, 3838)])
def test_cases_needed_for_the_usual_claims(limit: float, cases: int):
    assert needed(limit) == cases


@given(st.floats(0.000_01, 0.999))
@settings(deadline=None)
def test_as_many_cases_as_needed_show_it_and_one_fewer_does_not(limit: float):
    n = needed(limit)
    enough, short = wilson(0, n), wilson(0, n - 1)
    assert enough is not None
    assert enough.high <= limit * (1 + 1e-9)
    assert short is None or short.high > limit * (1 - 1e-9)


@pytest.mark.parametrize("limit", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_no_sample_shows_what_is_no_rate(limit: float):
    with pytest.raises(ValueError, match="no sample"):
        needed(limit)


@given(st.integers(1, 200))
@settings(deadline=None)
def test_needed_changes_are_the_fewest_that_holm_could_find(tests: int):
    expected = next(k for k in range(1, 60) if tests * stats.binomtest(k, k).pvalue < 0.05)
    assert needed_discordant(tests) == expected


# --- positive predictive value --------------------------------------------------------------------


def test_ppv_by_hand():
    # Of 10,000: 100 violating, 80 found; 9,900 benign, 198 flagged.
    found = ppv(80, 100, 4, 200, 0.01)
    assert found.value == EXACT(80 / (80 + 198))


def test_ppv_without_anything_flagged_or_without_cases_has_no_value():
    assert ppv(0, 10, 0, 10, 0.5).value is None
    assert ppv(0, 0, 0, 10, 0.5).interval is None
    assert ppv(1, 2, 0, 0, 0.5).interval is None


def test_at_the_edge_half_a_case_on_each_side_keeps_the_interval_of_ppv_honest():
    # 10 of 10 found, 0 of 100 flagged, one in ten violating: as 10.5 of 11 and 0.5 of 101.
    found = ppv(10, 10, 0, 100, 0.1)
    recall, fpr = 10.5 / 11, 0.5 / 101
    middle = math.log(recall / fpr / 9)
    spread = math.sqrt((1 - recall) / 10.5 + (1 - fpr) / 0.5)
    assert found.value == 1
    assert found.interval is not None
    assert found.interval.low == EXACT(1 / (1 + math.exp(1.959963984540054 * spread - middle)))
    assert found.interval.high == 1


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -1.0, math.nan])
def test_ppv_needs_a_prevalence(prevalence: float):
    with pytest.raises(ValueError, match="prevalence"):
        ppv(1, 2, 1, 2, prevalence)


@given(st.integers(1, 200), st.integers(1, 400), st.floats(0.001, 0.9), st.data())
@settings(deadline=None)
def test_the_interval_of_ppv_has_its_value_in_it_and_is_never_a_point(n, m, prevalence, data):
    hits, alarms = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    found = ppv(hits, n, alarms, m, prevalence)
    assert found.interval is not None
    assert 0 <= found.interval.low < found.interval.high <= 1
    if found.value is not None:
        assert found.interval.low <= found.value <= found.interval.high


@given(st.integers(20, 200), st.integers(20, 400), st.floats(0.001, 0.9), st.data())
@settings(deadline=None)
def test_the_interval_of_ppv_is_the_delta_method_worked_out_numerically(n, m, prevalence, data):
    hits, alarms = data.draw(st.integers(1, n - 1)), data.draw(st.integers(1, m - 1))
    recall, fpr = hits / n, alarms / m

    def logit(r: float, f: float) -> float:
        return math.log(prevalence * r / ((1 - prevalence) * f))

    step = 1e-6
    by_recall = (logit(recall + step, fpr) - logit(recall - step, fpr)) / (2 * step)
    by_fpr = (logit(recall, fpr + step) - logit(recall, fpr - step)) / (2 * step)
    deviation = math.sqrt(
        by_recall**2 * recall * (1 - recall) / n + by_fpr**2 * fpr * (1 - fpr) / m
    )
    ends = [logit(recall, fpr) + side * 1.959963984540054 * deviation for side in (-1, 1)]
    found = ppv(hits, n, alarms, m, prevalence)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx(
        tuple(1 / (1 + math.exp(-end)) for end in ends), rel=1e-5
    )


@pytest.mark.parametrize(
    ("recall", "fpr", "n", "m"), [(0.8, 0.02, 150, 600), (0.97, 0.004, 80, 800)]
)
def test_the_interval_of_ppv_covers_the_truth_as_often_as_it_says(recall, fpr, n, m):
    random = np.random.default_rng(1)
    truth = 0.05 * recall / (0.05 * recall + 0.95 * fpr)
    covered = 0
    for hits, alarms in zip(
        random.binomial(n, recall, 1_000), random.binomial(m, fpr, 1_000), strict=True
    ):
        interval = ppv(int(hits), n, int(alarms), m, 0.05).interval
        assert interval is not None
        covered += interval.low <= truth <= interval.high
    assert covered >= 930


@given(st.integers(1, 99), st.integers(1, 99), st.floats(0.01, 0.98))
@settings(deadline=None)
def test_ppv_rises_with_prevalence(hits: int, alarms: int, prevalence: float):
    low, high = (ppv(hits, 100, alarms, 100, p).value for p in (prevalence, prevalence + 0.01))
    assume(low is not None and high is not None)
    assert low < high


# --- the libraries are an extra -------------------------------------------------------------------


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'magistrate\[evals\]'"):
        library("scipy.stats")


def test_importing_the_statistics_imports_no_library():
    code = (
        "import sys, magistrate.evals.gates.checks, magistrate.evals.report.comparison;"
        "print([m for m in ('numpy', 'scipy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
