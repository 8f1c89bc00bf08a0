"""What changed from one run to another, in sentences for people who read no metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from magistrate.evals.metrics.compare import Comparison
from magistrate.evals.metrics.paired import Compared
from magistrate.evals.metrics.statistics import ALPHA
from magistrate.evals.report.words import Sentence, counted, difference, p_value


def changes(found: Comparison) -> Iterator[Sentence]:
    """Yield what changed from run A to run B, in words."""
    if not found.same_policy:
        yield Sentence(
            "The runs were judged under different policies. What changed is the policy and the "
            "judge together.",
            warning=True,
        )
    if left := sum(found.left_out.values()):
        why = ", ".join(f"{n:,} {name}" for name, n in found.left_out.items() if n)
        yield Sentence(f"{counted(left, 'case')} cannot be compared: {why}.", warning=True)
    overall = found.overall
    failed = [found.aside[f"failed in {run}"] for run in ("a", "b")]
    more = ""
    if any(failed):
        more = (
            f" A has no verdict on {failed[0]:,} of them, B none on {failed[1]:,}: as judged, what "
            "violates is missed there; as enforced, it is stopped unless the settings let it pass."
        )
    yield Sentence(f"Both runs were asked about {counted(found.compared, 'case')}.{more}")
    if overall.recall.n:
        yield Sentence(
            f"Of {counted(overall.recall.n, 'violating case')}, B caught "
            f"{overall.recall.only_b:,} that A missed, and missed {overall.recall.only_a:,} that A "
            f"caught: {difference(overall.recall_difference)}, {_chance(overall.recall.p)}."
        )
    if overall.false_positives.n:
        wrong = overall.false_positives
        yield Sentence(
            f"Of {counted(wrong.n, 'harmless case')}, B flagged {wrong.only_b:,} that A let "
            f"be, and let be {wrong.only_a:,} that A flagged: "
            f"{difference(overall.fpr_difference)}, {_chance(wrong.p)}."
        )
    if any(failed):
        done = found.enforced_overall
        told = [
            f"{difference(change)} of the {what} cases, {_chance(paired.p)}"
            for what, change, paired in (
                ("violating", done.recall_difference, done.recall),
                ("harmless", done.fpr_difference, done.false_positives),
            )
            if paired.n
        ]
        yield Sentence(f"As enforced, B caught or stopped {'; and '.join(told)}.")
    if floor := sum(flip.floor_missed for flip in found.flips):
        yield Sentence(
            f"B misses {counted(floor, 'case')} of the gravest kind, on a floor no setting can "
            "lower, that A found.",
            warning=True,
        )
    if worse := [one for one in found.sections if _is_worse(one)]:
        names = ", ".join(one.name for one in worse)
        yield Sentence(f"More than chance explains was lost in: {names}.", warning=True)


def _is_worse(one: Compared) -> bool:
    paired = one.recall
    return (1.0 if paired.adjusted is None else paired.adjusted) < ALPHA and (
        paired.only_a > paired.only_b
    )


def _chance(p: float) -> str:
    if p < ALPHA:
        return f"more than chance explains (p = {p_value(p)})".replace("= <", "< ")
    return f"which chance may explain (p = {p_value(p)})"
