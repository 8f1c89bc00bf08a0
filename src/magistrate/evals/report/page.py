"""`eval report`: one HTML file that shows what one run found, or compares two.

The file is complete in itself and its Content-Security-Policy forbids it to load or send anything.
The overview, tables and charts are plain HTML and SVG; the cases are JSON, listed by a script.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from magistrate.evals.metrics.compare import Comparison
from magistrate.evals.metrics.curves import Group
from magistrate.evals.metrics.levels import DETECTED_FROM
from magistrate.evals.metrics.measures import Metrics
from magistrate.evals.metrics.statistics import Interval, Rate
from magistrate.evals.report import action_tables as done
from magistrate.evals.report import tables
from magistrate.evals.report.cases import case_data, embedded
from magistrate.evals.report.cells import LETTERS, cases
from magistrate.evals.report.changes import changes
from magistrate.evals.report.charts import Charts, Mark
from magistrate.evals.report.words import interval, overview, section_titles, share
from magistrate.evals.run_folder import Run
from magistrate.verdicts import GRADES


def write_report(
    runs: Sequence[Run],
    file: Path,
    *,
    metrics: Sequence[Metrics],
    comparison: Comparison | None = None,
    sensitive: Collection[str] = (),
) -> None:
    """Write the report of one run, or of two: the baseline, and the run that is compared with it.

    `metrics` has those of each run; `comparison` is that of the two. The text of cases about a
    sensitive matter is shown only on request: of clauses that the policy puts a floor under at
    every severity, and of those in `sensitive`, ids of clauses or of sections. Raises ValueError
    for another number of runs or metrics or a file that is a folder, and OSError where the file
    cannot be written.
    """
    if len(runs) not in (1, 2) or len(metrics) != len(runs):
        raise ValueError(f"a report is about one run or two, with the metrics of each: {len(runs)}")
    html = page(runs, metrics, comparison, sensitive, Charts.available())
    if file.is_dir():
        raise ValueError(f"{file} is a folder; give the name of a file")
    fresh = file.with_name(file.name + ".new")  # whole or not at all
    # Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes the JSON escape of it.
    fresh.write_text(html, "utf-8", errors="backslashreplace", newline="\n")
    fresh.replace(file)


def page(
    runs: Sequence[Run],
    metrics: Sequence[Metrics],
    comparison: Comparison | None,
    sensitive: Collection[str],
    charts: Charts,
) -> str:
    """Return the whole page."""
    titles: dict[str, str] = {}
    clause_titles: dict[str, str] = {}
    for run in runs:
        titles |= section_titles(run.settings.policy)
        clause_titles |= {id: c.title for id, c in run.settings.policy.clauses.items()}
    letters = LETTERS if len(runs) > 1 else ("",)
    each = tuple(zip(letters, runs, metrics, strict=True))
    style, script = _source("page.css"), _source("page.js")
    overall = [found.overall for found in metrics]
    return _template().render(
        title="Eval report: " + " and ".join(run.name for run in runs),
        csp=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(embedded(case_data(runs, comparison, sensitive))),
        runs=[
            {"letter": letter, "name": run.name, "sentences": list(overview(run, found))}
            for letter, run, found in each
        ],
        changes=list(changes(comparison)) if comparison else [],
        compared=done.compared(comparison, titles) if comparison else None,
        flipped=done.flipped(comparison) if comparison else None,
        sections=[_section(name, title, metrics, charts) for name, title in titles.items()],
        caught=_by_section(charts, metrics, titles, "recall", "caught"),
        flagged=_by_section(charts, metrics, titles, "fpr", "flagged"),
        by_section=tables.groups(
            "By section",
            metrics,
            [found.sections for found in metrics],
            titles=titles,
            filter_as="section",
            href=anchor,
        ),
        attribution=done.attribution(metrics),
        confusion=[done.confusion(found, letter, titles) for letter, _, found in each],
        handling=done.handling(metrics),
        actions=[done.actions(found, letter) for letter, _, found in each],
        by_stage=tables.groups(
            "By stage", metrics, [found.stages for found in metrics], filter_as="stage"
        ),
        by_split=tables.groups(
            "By split", metrics, [found.splits for found in metrics], filter_as="split"
        ),
        by_slice=tables.groups(
            "By kind of case", metrics, [found.slices for found in metrics], filter_as="slice"
        ),
        by_clause=tables.clauses(metrics, clause_titles),
        calibrated=_calibrated(charts, metrics),
        calibration=tables.calibration(metrics),
        tradeoff=_tradeoff(charts, overall),
        thresholds=tables.thresholds("All cases", overall),
        areas=tables.areas(overall),
        limits=tables.limits(metrics),
        failures=done.failures(metrics),
        both_ways=done.both_ways(metrics),
        flips=done.flips(metrics) if any(found.flips.repeats > 1 for found in metrics) else None,
        cost=done.cost(metrics),
        contested=tables.contested(metrics),
        measured=tables.measured(runs, metrics),
        detection=metrics[0].detection,
    )


def anchor(section: str) -> str:
    """Return the place of a section's own part in the page."""
    return f"#section-{section}"


def _section(
    name: str, title: str, metrics: Sequence[Metrics], charts: Charts
) -> Mapping[str, object]:
    found = [next((g for g in each.sections if g.name == name), None) for each in metrics]
    letters = LETTERS if len(found) > 1 else ("",)
    told = [
        f"{letter}{': ' * bool(letter)}caught {share(group.judged.recall)}"
        for letter, group in zip(letters, found, strict=True)
        if group
    ]
    return {
        "anchor": anchor(name).removeprefix("#"),
        "title": title,
        "lead": "; ".join(told),
        "chart": _tradeoff(charts, found),
        "thresholds": tables.thresholds(title, found),
        "areas": tables.areas(found),
        "href": cases(section=name),
    }


# --- charts ---------------------------------------------------------------------------------------


def _by_section(
    charts: Charts,
    metrics: Sequence[Metrics],
    titles: Mapping[str, str],
    rate: str,
    title: str,
) -> Markup:
    marks = [
        mark
        for at, found in enumerate(metrics)
        for group in found.sections
        if (mark := _mark(titles[group.name], LETTERS[at], getattr(group.judged, rate)))
    ]
    return Markup(charts.whiskers(marks, title))


def _calibrated(charts: Charts, metrics: Sequence[Metrics]) -> Markup:
    marks = [
        mark
        for at, found in enumerate(metrics)
        for line in found.overall.calibration
        if (mark := _mark(line.grade, LETTERS[at], line.violating))
    ]
    return Markup(charts.whiskers(marks, "violating"))


def _mark(name: str, run: str, rate: Rate) -> Mark | None:
    ends = interval(rate)
    return None if rate.value is None or ends is None else Mark(name, run, rate.value, ends)


def _tradeoff(charts: Charts, found: Sequence[Group | None]) -> Markup:
    marks: list[Mark] = []
    for letter, group in zip(LETTERS, found, strict=False):
        for grade in reversed(GRADES[1:]):
            at = tables.points(group, grade)
            if at.caught.value is None or at.flagged.value is None:
                continue
            marks.append(
                Mark(
                    grade,
                    letter,
                    at.caught.value,
                    interval(at.caught) or Interval(0.0, 1.0),
                    at.flagged.value,
                    interval(at.flagged) or Interval(0.0, 1.0),
                    strong=grade == DETECTED_FROM,
                )
            )
    return Markup(charts.tradeoff(marks))


# --- the file -------------------------------------------------------------------------------------


@cache
def _source(name: str) -> str:
    return (files("magistrate.evals.report") / name).read_text("utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_source("page.html.j2"))


def _policy(style: str, script: str) -> str:
    """Return a Content-Security-Policy under which this style and this script alone work."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
