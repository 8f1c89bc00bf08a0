"""The numbers a share of cases comes with: intervals, tests, and when a claim needs more cases.

Pure. numpy, scipy and scikit-learn enter the package here and in `curves`, by `library`, when they
are first needed: importing this imports none of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from statistics import NormalDist
from typing import Any, TypeVar
from zlib import crc32

CONFIDENCE = 0.95  # of every interval, two-sided
ALPHA = 0.05  # of every test
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
Name = TypeVar("Name", bound=str)


def library(name: str) -> Any:
    """Return a module of the extra `evals`; raise ModuleNotFoundError with how to install it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        what = f"eval statistics need {error.name}: pip install 'magistrate[evals]'"
        raise ModuleNotFoundError(what, name=error.name) from None


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rate:
    """`hits` of `of`. `value` and `wilson` are None where there is nothing to take a share of.

    `wilson` takes cases for independent. `clustered` comes from resampling whole clusters, where
    some cluster has more than one case; it is too narrow near 0 and 1, where `wilson` is not.
    """

    hits: int
    of: int
    value: float | None
    wilson: Interval | None
    clustered: Interval | None = None

    @classmethod
    def count(cls, hits: int, of: int, clustered: Interval | None = None) -> Rate:
        return cls(hits, of, hits / of if of else None, wilson(hits, of), clustered)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that is no plain share, such as F1 or a difference of two recalls."""

    value: float | None
    interval: Interval | None


@lru_cache(10_000)
def wilson(hits: int, of: int) -> Interval | None:
    """Wilson's score interval for `hits` of `of` independent cases; None for none."""
    if not of:
        return None
    found = library("scipy.stats").binomtest(hits, of).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))


# --- statistics of four counts --------------------------------------------------------------------


def fractions(tp: Any, fp: Any, fn: Any, tn: Any) -> dict[str, tuple[Any, Any]]:
    """Precision, recall, F1 and FPR as numerator and denominator; of numbers or of arrays."""
    return {
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "f1": (2 * tp, 2 * tp + fp + fn),
        "fpr": (fp, fp + tn),
    }


def share(top: Any, bottom: Any) -> Any:
    """Element by element; NaN where there is nothing to take a share of."""
    np = library("numpy")
    whole = np.asarray(bottom, float)
    return np.divide(top, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


# --- intervals from resampling --------------------------------------------------------------------


def resampled(clusters: Iterable[Sequence[int]], draws: int, seed: int, name: str = "") -> Any:
    """Column sums of as many clusters, drawn with replacement, `draws` times.

    A cluster is a row of counts. Returns an array of one row a draw. Clusters that are equal are
    drawn together, by the multinomial distribution: the same as drawing each by itself, but its
    cost depends on how many kinds of cluster there are. `name` gives each use a stream of random
    numbers of its own, so that what one group shows does not depend on which others there are.
    """
    np = library("numpy")
    kinds = sorted(Counter(map(tuple, clusters)).items())  # sorted: their order does not matter
    numbers = np.asarray([number for _, number in kinds])
    random = np.random.default_rng([seed, crc32(name.encode())])
    drawn = random.multinomial(numbers.sum(), numbers / numbers.sum(), size=draws)
    return drawn @ np.asarray([kind for kind, _ in kinds])


def percentiles(draws: Any) -> Interval | None:
    """Return the middle 95 % of the draws that have a value."""
    np = library("numpy")
    known = np.asarray(draws, float)
    known = known[~np.isnan(known)]
    if not known.size:
        return None
    low, high = np.quantile(known, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(float(low), float(high))


# --- tests ----------------------------------------------------------------------------------------


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p of the exact McNemar test: is one more often alone in being right?

    Takes the pairs on which the two differ. Without any, 1.
    """
    differ = only_first + only_second
    if not differ:
        return 1.0
    return float(library("scipy.stats").binomtest(only_first, differ, 0.5).pvalue)


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Return each p adjusted for the number of tests, by Holm's step-down method."""
    adjusted: dict[Name, float] = {}
    worst = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        worst = max(worst, min(1.0, p_values[name] * (len(p_values) - rank)))
        adjusted[name] = worst
    return {name: adjusted[name] for name in p_values}


# --- what a sample can show -----------------------------------------------------------------------


def needed(limit: float) -> int:
    """Return how many cases without an error show that a rate of errors is at most `limit`.

    That is, how many put the upper end of Wilson's interval at or below it. Raises ValueError
    unless 0 < limit < 1.
    """
    if not 0 < limit < 1:
        raise ValueError(f"no sample shows a rate of {limit}")
    # At zero errors in n the upper end is z² / (n + z²).
    return math.ceil(round(_Z**2 * (1 - limit) / limit, 9))


def needed_discordant(tests: int) -> int:
    """Return how many cases must change one way for the exact McNemar test to see it.

    `tests`: how many tests Holm's method adjusts for.
    """
    return math.ceil(1 - math.log2(ALPHA / max(1, tests)))


def ppv(hits: int, positives: int, alarms: int, negatives: int, prevalence: float) -> Estimate:
    """Return the share of alarms that are right where `prevalence` of the traffic is violating.

    From recall (`hits` of `positives`) and FPR (`alarms` of `negatives`), by Bayes. The interval is
    that of the delta method on the logit (Mercaldo, Lau, Zhou 2007), taking cases for independent.
    Where one of the rates is 0 or 1 it is built around rates with half a case added to each side,
    and reaches to the value. Raises ValueError unless 0 < prevalence < 1.
    """
    if not 0 < prevalence < 1:
        raise ValueError(f"a prevalence lies between 0 and 1, and is neither; found {prevalence}")
    if not positives or not negatives:
        return Estimate(None, None)
    right = prevalence * hits / positives
    wrong = (1 - prevalence) * alarms / negatives
    value = right / (right + wrong) if right + wrong else None
    edge = hits in (0, positives) or alarms in (0, negatives)
    half = 0.5 if edge else 0.0
    recall, fpr = ((k + half) / (n + 2 * half) for k, n in ((hits, positives), (alarms, negatives)))
    middle = math.log(prevalence / (1 - prevalence)) + math.log(recall) - math.log(fpr)
    spread = (1 - recall) / (recall * (positives + 2 * half))
    spread += (1 - fpr) / (fpr * (negatives + 2 * half))
    reach = _Z * math.sqrt(spread)
    known = [float(library("scipy.special").expit(middle + side)) for side in (-reach, reach)]
    if value is not None:
        known.append(value)
    return Estimate(value, Interval(min(known), max(known)))
