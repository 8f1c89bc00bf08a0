"""The numbers of a run in words and sentences, for people who read no metrics. Pure.

Of every rate the report shows one interval: from the lower of the two low ends to the higher of the
two high ends, where a rate has both Wilson's interval and one from resampling clusters. Neither is
to be trusted alone: the one takes twins for independent, the other is too narrow near 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from magistrate.evals.metrics.curves import Group
from magistrate.evals.metrics.measures import Metrics
from magistrate.evals.metrics.statistics import Estimate, Interval, Rate, needed
from magistrate.evals.run_folder import Run
from magistrate.policy import Policy

NONE = "–"  # where there is nothing to take a share of
FEW = 20  # violating cases of a section, below which it is not named among the weakest
SLIGHT = 100  # violating cases of a run, below which the overview warns
WEAKEST = 3


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing the overview says. `warning`: it limits what the rest may be taken for."""

    text: str
    warning: bool = False


def interval(rate: Rate) -> Interval | None:
    """Return the one interval of a rate that the report shows."""
    found = [each for each in (rate.wilson, rate.clustered) if each is not None]
    if not found:
        return None
    return Interval(min(each.low for each in found), max(each.high for each in found))


def percent(value: float | None) -> str:
    """Return a share with one decimal, never rounded to 0 or 100 where it is neither."""
    if value is None:
        return NONE
    if 0 < value < 0.0005:
        return "<0.1%"
    if 0.9995 <= value < 1:
        return ">99.9%"
    return f"{100 * value:.1f}%"


def bare(value: float | None) -> str:
    return percent(value).removesuffix("%")


def share(rate: Rate) -> str:
    """Return `87.0% (79.1–92.4)`."""
    ends = interval(rate)
    return percent(rate.value) + (f" ({bare(ends.low)}–{bare(ends.high)})" if ends else "")


def estimate(found: Estimate) -> str:
    """Return a number between 0 and 1 that is no plain share, as a percentage with its interval.

    Without it where resampling only ever gave one value: that is too little to resample, and no
    certainty.
    """
    ends = found.interval
    if ends is None or ends.low == ends.high:
        return percent(found.value)
    return f"{percent(found.value)} ({bare(ends.low)}–{bare(ends.high)})"


def difference(found: Estimate) -> str:
    """Return `+4.0 points (−1.2 to +9.1)`."""
    if found.value is None:
        return NONE
    ends = found.interval
    reach = f" ({_signed(ends.low)} to {_signed(ends.high)})" if ends else ""
    return f"{_signed(found.value)} points{reach}"


def _signed(value: float) -> str:
    points = f"{100 * value:+.1f}".replace("-", "−")
    return "0.0" if points in ("+0.0", "−0.0") else points


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def out_of(rate: Rate, whole: int) -> str:
    """Return `about 87 (79–92)`: how many of `whole` the rate means."""
    if rate.value is None:
        return NONE
    ends = interval(rate)
    if rate.hits in (0, rate.of):
        told = f"all {whole:,}" if rate.hits else "none"
    else:
        told = f"about {_count(rate.value, whole)}"
        told = told.replace("about <", "fewer than ").replace("about >", "more than ")
    return f"{told} ({_count(ends.low, whole)}–{_count(ends.high, whole)})" if ends else told


def _count(value: float, whole: int) -> str:
    """Return a share of `whole`, an integer from 1 on; never rounded to none or to all."""
    found = value * whole
    if found < 1 or whole - found < 0.5:
        told = f"{found:.1f}".removesuffix(".0")
        if told == "0" and value > 1e-9:
            return "<0.1"
        if told == f"{whole}" and value < 1 - 1e-9:
            return f">{whole - 0.1:,.1f}"
        return told
    return f"{found:,.0f}"


def counted(n: int, one: str) -> str:
    """Return `1 case`, `1,200 cases`."""
    return f"{n:,} {one}{'' if n == 1 else 's'}"


def seconds(ms: float | None) -> str:
    if ms is None:
        return NONE
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:,.1f} s"


def dollars(usd: float | None) -> str:
    """Dollars; an unknown price is not zero."""
    if usd is None:
        return "price not known"
    return f"${usd:,.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.4f}"


def section_titles(policy: Policy) -> Mapping[str, str]:
    return {section.id: section.title for section in policy.groups}


def overview(run: Run, metrics: Metrics) -> Iterator[Sentence]:
    """Yield what a run shows, the most important first, and what limits it."""
    yield from _limits(run, metrics)
    scores, actions, judged = metrics.overall.judged, metrics.action_metrics, metrics.judgments
    if scores.recall.of:
        found, stopped = out_of(scores.recall, 100), metrics.overall.enforced.recall
        also = ""
        if metrics.overall.failed:
            also = f"; with those it gave no verdict on, {out_of(stopped, 100)} were stopped"
        yield Sentence(f"Of 100 violating cases, it caught {found}{also}.")
        yield from _attributed(metrics)
    else:
        yield Sentence("No violating case was measured.", warning=True)
    if scores.fpr.of:
        found, stopped = out_of(scores.fpr, 1000), metrics.overall.enforced.fpr
        also = ""
        if metrics.overall.failed:
            also = f"; with those it gave no verdict on, {out_of(stopped, 1000)} were stopped"
        yield Sentence(f"Of 1,000 harmless cases, it flagged {found}{also}.")
    else:
        yield Sentence("No harmless case was measured.", warning=True)
    if actions.over_blocked.judged.of:
        stopped = out_of(actions.over_blocked.judged, 1000)
        yield Sentence(f"Of 1,000 cases that should have gone through, it stopped {stopped}.")
    if judged.failed.hits:
        failed, both = out_of(judged.failed, 1000), actions.over_blocked.enforced
        also = f". With them, {out_of(both, 1000)} of 1,000 were stopped" if both.of else ""
        yield Sentence(
            f"Of 1,000 judgments, it could not make {failed}. It did not catch those; whether they "
            f"were stopped is up to the settings{also}."
        )
    elif judged.n:
        yield Sentence("It gave a verdict on every case it was asked about.")
    if weak := weakest(metrics):
        titles = section_titles(run.settings.policy)
        told = "; ".join(
            f"{titles.get(group.name, group.name)}, {out_of(group.judged.recall, 100)} of 100"
            for group in weak
        )
        yield Sentence(f"It caught least in: {told}.")
    if metrics.flips.either.of:
        yield Sentence(
            f"Of 100 cases judged {metrics.flips.repeats} times, "
            f"{out_of(metrics.flips.either, 100)} did not come out the same each time."
        )
    if judged.n:
        took, cost = metrics.latency, metrics.cost
        price = f"{dollars(cost.usd)}" if cost.usd is not None else "an amount that is not known"
        time = "How long verdicts took was not measured"
        if took.n:
            time = (
                f"Half of the verdicts took at most {seconds(took.p50)}, 19 of 20 at most "
                f"{seconds(took.p95)}"
            )
        yield Sentence(f"{time}; 1,000 judgments cost {price}.")


def _attributed(metrics: Metrics) -> Iterator[Sentence]:
    found = metrics.attribution
    told = [
        f"{out_of(rate, 100)} under {what}"
        for rate, what in (
            (found.clause, "a rule that they break"),
            (found.section, "a section that they break"),
        )
        if rate.of
    ]
    if told:
        other = f"; {out_of(found.elsewhere, 100)} only under others" if found.section.of else ""
        yield Sentence(f"Of 100 of them, it caught {' and '.join(told)}{other}.")


def weakest(metrics: Metrics) -> tuple[Group, ...]:
    """Return the sections with the lowest recall, if anything was missed; not small ones."""
    known = [
        group
        for group in metrics.sections
        if group.judged.recall.of >= FEW and group.judged.recall.hits < group.judged.recall.of
    ]
    return tuple(sorted(known, key=lambda group: group.judged.recall.value or 0.0)[:WEAKEST])


def _limits(run: Run, metrics: Metrics) -> Iterator[Sentence]:
    wanted = metrics.cases
    if metrics.split and (others := len(run.cases) - wanted):
        yield Sentence(
            f"All numbers are of the split {metrics.split}, {counted(wanted, 'case')}; the run has "
            f"{others:,} more in the other split."
        )
    if metrics.judged < wanted:
        yield Sentence(
            f"This run is not complete: {metrics.judged:,} of "
            f"{counted(wanted, 'case')} have been judged.",
            warning=True,
        )
    elif not run.complete:
        yield Sentence("This run is not complete: some repeats are missing.", warning=True)
    splits = {group.name for group in metrics.splits if group.n}
    if "dev" in splits:
        part = "All" if splits == {"dev"} else "Some"
        yield Sentence(
            f"{part} of these cases are in the split dev, on which prompts and thresholds are "
            "tuned; only the split test shows how the judge does on cases it was not tuned for.",
            warning=True,
        )
    scores = metrics.overall.judged
    if 0 < scores.recall.of < SLIGHT:
        yield Sentence(
            f"Only {counted(scores.recall.of, 'violating case')}: read what was caught as a range.",
            warning=True,
        )
    if 0 < scores.fpr.of < (enough := needed(0.01)):
        yield Sentence(
            f"Only {counted(scores.fpr.of, 'harmless case')}: it takes {enough:,} to show that "
            "fewer than 1 of 100 are flagged.",
            warning=True,
        )
    if metrics.contested.n:
        yield Sentence(
            f"Reviewers disagree on {counted(metrics.contested.n, 'case')}, which all of this "
            "leaves out; see “Contested cases”."
        )
