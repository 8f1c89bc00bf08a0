"""A comparison as Markdown, for a pull request. Pure text; quotes nothing that was judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from magistrate.evals.metrics.compare import Comparison, Flip
from magistrate.evals.metrics.paired import Compared, Paired
from magistrate.evals.metrics.statistics import ALPHA, Estimate

_CHANGES = ("lost", "won", "same")


def as_markdown(found: Comparison, most: int = 50) -> str:
    """Return a comparison for a pull request, with at most `most` flipped cases, lost ones first.

    Ids, labels and actions only; nothing that a case or a judge said.
    """
    changes = {change: sum(f.change == change for f in found.flips) for change in _CHANGES}
    lines = [
        f"### `{_cell(found.b)}` against `{_cell(found.a)}`",
        "",
        f"{found.compared:,} cases compared"
        + (f" of the split {found.split}" if found.split else "")
        + f" under {found.policy}; {changes['lost']:,} lost, {changes['won']:,} won, "
        f"{changes['same']:,} changed otherwise.",
    ]
    if not found.same_policy:
        lines.append("The runs were judged under different policies; sections are those of b.")
    samples = [
        f"{name} of {sample}"
        for name, sample in (("a", found.sample_a), ("b", found.sample_b))
        if sample
    ]
    if samples:
        only = "; only cases in both are compared" if found.sample_a != found.sample_b else ""
        lines.append(f"Samples: {'; '.join(samples)}{only}.")
    if any(found.left_out.values()):
        some = ", ".join(f"{count:,} {why}" for why, count in found.left_out.items() if count)
        lines.append(f"Left out: {some}.")
    if contested := found.aside["contested"]:
        lines.append(f"In the flips only: {contested:,} contested.")
    failed = {name: found.aside[f"failed in {name}"] for name in ("a", "b")}
    lines += ["", *_sections(found.overall, found.sections)]
    if any(failed.values()):
        told = ", ".join(f"{count:,} in {name}" for name, count in failed.items())
        lines += [
            "",
            f"That is what was judged: of {told} there is no verdict, so what violates was missed, "
            "and what is harmless is left out. What was enforced, where they count as stopped "
            "unless the settings let them pass:",
            "",
            *_sections(found.enforced_overall, found.enforced_sections),
        ]
    else:
        lines += ["", "Every case has a verdict in both: what was judged was enforced."]
    if found.flips:
        lines += ["", *_flips(found.flips, most)]
    return "\n".join(lines) + "\n"


def _sections(overall: Compared, sections: Iterable[Compared]) -> Iterator[str]:
    yield "| section | cases | recall | p | FPR | p | F1 |"
    yield "|---|---:|---|---|---|---|---|"
    shown = [row for row in sections if row.n]
    for row in (overall, *shown):
        recall, fpr = row.recall, row.false_positives
        yield _row(
            [
                f"**{row.name}**" if row is overall else row.name,
                f"{row.n:,}",
                _change(recall, row.recall_difference),
                _p(recall),
                _change(fpr, row.fpr_difference),
                _p(fpr),
                _points(row.f1_difference),
            ]
        )
    tests = max((row.recall.tests for row in shown), default=1)
    yield ""
    yield (
        "Counts are a → b; differences in percentage points with 95 % "
        "intervals from resampling clusters. p of the exact McNemar test, in sections adjusted by "
        f"Holm's method for up to {tests} of them; * below {ALPHA}."
    )


def _change(row: Paired, difference: Estimate) -> str:
    if not row.n:
        return "no cases"
    before, after = row.both + row.only_a, row.both + row.only_b
    return f"{before:,} → {after:,} of {row.n:,}; {_points(difference)}"


def _points(found: Estimate) -> str:
    if found.value is None:
        return ""
    if found.interval is None:
        return f"{100 * found.value:+.1f}"
    low, high = 100 * found.interval.low, 100 * found.interval.high
    return f"{100 * found.value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _p(row: Paired) -> str:
    if not row.n:
        return ""
    p = row.p if row.adjusted is None else row.adjusted
    return ("<0.001" if p < 0.001 else f"{p:.3f}") + ("*" if p < ALPHA else "")


def _flips(flips: Iterable[Flip], most: int) -> Iterator[str]:
    ranked = sorted(flips, key=lambda f: (not f.floor_missed, _CHANGES.index(f.change), f.case))
    yield f"<details><summary>{len(ranked):,} flipped cases</summary>"
    yield ""
    yield "| case | violated | expected | a | b | change |"
    yield "|---|---|---|---|---|---|"
    for flip in ranked[:most]:
        violated = [clause for clause, label in flip.labels.items() if label == "violated"]
        yield _row(
            [
                f"`{_cell(flip.case)}`" + (" (contested)" if flip.contested else ""),
                ", ".join(violated) or "nothing",
                flip.expected,
                f"{flip.level_a}, {flip.action_a}",
                f"{flip.level_b}, {flip.action_b}",
                flip.change + (", floor missed" if flip.floor_missed else ""),
            ]
        )
    if len(ranked) > most:
        yield _row([f"and {len(ranked) - most:,} more", *[""] * 5])
    yield ""
    yield "</details>"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Return a name that comes from outside, unable to end its cell or its code."""
    return text.replace("`", "'").replace("|", "/").replace("\n", " ").replace("\r", " ")
