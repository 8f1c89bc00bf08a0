"""`magistrate eval report` and `compare`: what runs show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from magistrate.cli.printing import (
    UNUSABLE,
    AsJson,
    console,
    heading,
    paragraph,
    print_json,
    refuse,
    table,
    text,
)
from magistrate.config.diagnostics import SettingsError, nearest

if TYPE_CHECKING:
    from magistrate.evals.gates.checks import Gate
    from magistrate.evals.metrics.measures import Metrics
    from magistrate.evals.run_folder import Run

FAILED = 1

Split = Annotated[
    Literal["dev", "test", "all"],
    typer.Option("--split", help="Of which cases; dev is for tuning."),
]
Draws = Annotated[int, typer.Option("--draws", min=100, max=100_000, help="Bootstrap draws.")]
Folder = Annotated[Path, typer.Argument(metavar="RUN", help="A folder of `magistrate eval run`.")]


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN [RUN]", help="One run, or two side by side: baseline first."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The HTML file; else report.html in the run."),
    ] = None,
    hide: Annotated[
        list[str] | None,
        typer.Option(
            "--hide",
            metavar="ID",
            help="Show texts about this section or clause only on a click, as those of child "
            "safety always are. May be given more than once.",
        ),
    ] = None,
    split: Split = "test",
    prevalence: Annotated[
        float | None,
        typer.Option(
            "--prevalence", metavar="SHARE", help="Share of violating traffic you expect."
        ),
    ] = None,
    draws: Draws = 1000,
    as_json: AsJson = False,
) -> None:
    """Write what a run shows as one HTML file that needs no network, and say the main numbers.

    Exit codes: 0 written; 2 wrong usage or a damaged run.
    """
    from magistrate.evals.metrics.compare import compare
    from magistrate.evals.metrics.measures import measure
    from magistrate.evals.report.page import write_report
    from magistrate.evals.run_folder import Run

    if not 1 <= len(runs) <= 2:
        stop("give one run, or two to see side by side")
    part = None if split == "all" else split
    try:
        found = [Run.read(folder) for folder in runs]
        numbers = [measure(run, prevalence=prevalence, draws=draws, split=part) for run in found]
        both = compare(found[0], found[1], draws=draws, split=part) if len(found) == 2 else None
        file = out or runs[-1] / "report.html"
        known = [
            *found[-1].settings.policy.clauses,
            *(g.id for g in found[-1].settings.policy.groups),
        ]
        for id in hide or ():
            if id not in known:
                stop(f"--hide: '{id}' is no section or clause{nearest(id, known)}")
        write_report(found, file, metrics=numbers, comparison=both, sensitive=hide or ())
    except SettingsError as error:
        refuse(error, as_json)
    except (ModuleNotFoundError, ValueError) as error:
        stop(str(error))
    if as_json:
        print_json(
            {
                "report": str(file),
                "metrics": [each.as_json() for each in numbers],
                "comparison": both.as_json() if both else None,
            }
        )
        return
    out_of = console()
    for run, metrics in zip(found, numbers, strict=True):
        _print(run, metrics)
    out_of.print()
    out_of.print(text(f"Report: {file}"), soft_wrap=True)


def _print(run: Run, metrics: Metrics) -> None:
    from magistrate.evals.report.words import overview, share

    out = console()
    heading(out, f"{run.folder}")
    for sentence in overview(run, metrics):
        paragraph(out, f"{sentence.text}")
    told = {"recall": "recall", "fpr": "false positives"}
    ways = ("judged", "enforced") if metrics.overall.failed else ("judged",)
    rows = [
        [group.name, str(group.violating)]
        + [share(getattr(getattr(group, way), rate)) for rate in told for way in ways]
        for group in (metrics.overall, *metrics.sections)
        if group.violating
    ]
    out.print()
    names = list(told.values())
    if len(ways) > 1:
        names = [f"{name}, {way}" for name in names for way in ways]
    table(out, ["section", "violating", *names], rows)
    if len(ways) == 1 and metrics.judged:
        paragraph(out, "Every case has a verdict: what was judged was enforced.")


def compare_runs(
    a: Annotated[Path, typer.Argument(metavar="BASELINE", help="The run to compare with.")],
    b: Annotated[Path, typer.Argument(metavar="RUN", help="The run in question.")],
    gates: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            metavar="RULE",
            help="A rule RUN must pass, such as 'lost cases <= 3', 'enforced ordinary <= 0.01', "
            "'judged recall >= 0.8', 'no significant recall loss in any floor section'. May be "
            "given more than once.",
        ),
    ] = None,
    gate_file: Annotated[
        Path | None,
        typer.Option("--gates", metavar="FILE", help="A YAML file of rules, under `gates`."),
    ] = None,
    split: Split = "test",
    draws: Draws = 1000,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="Write the summary here too."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs case by case, and hold the second one to rules.

    Prints Markdown fit for a pull request: differences with intervals and exact tests, every case
    that flipped, and the rules. Numbers come as judged, what the judge found: a violating case
    without a verdict is missed; and as enforced, what was done: it counts as stopped, unless the
    settings let it pass. A rule says which it means; without a word, as judged.

    Exit codes: 0 every rule passed; 1 one did not; 2 wrong usage, or a run that cannot be read.
    """
    from magistrate.evals.gates.checks import check
    from magistrate.evals.gates.rules import read_rules
    from magistrate.evals.metrics.compare import compare
    from magistrate.evals.metrics.measures import measure
    from magistrate.evals.report.comparison import as_markdown
    from magistrate.evals.run_folder import Run

    part = None if split == "all" else split
    try:
        rules = read_rules(gates or (), gate_file)
        first, second = Run.read(a), Run.read(b)
        found = compare(first, second, draws=draws, split=part)
        if not found.compared:
            why = ", ".join(f"{count:,} {name}" for name, count in found.left_out.items() if count)
            of = f" of the split {split}" if part else ""
            stop(f"no case{of} was judged in both runs ({why or 'they have none'})")
        held = check(rules, measure(second, draws=draws, split=part), found) if rules else ()
    except SettingsError as error:
        refuse(error, as_json)
    except (ModuleNotFoundError, ValueError) as error:
        stop(str(error))
    said = as_markdown(found) + _gates(held)
    if markdown is not None:
        markdown.write_text(said, "utf-8")
    if as_json:
        passed = [
            {"rule": each.rule, "passed": each.passed, "because": each.because} for each in held
        ]
        print_json({"comparison": found.as_json(), "gates": passed})
    else:
        console().print(text(said), soft_wrap=True)
    if not all(each.passed for each in held):
        raise typer.Exit(FAILED)


def _gates(held: tuple[Gate, ...]) -> str:
    if not held:
        return ""
    rows = [
        f"| {'passed' if each.passed else '**failed**'} | {each.rule} | {each.because} |"
        for each in held
    ]
    return "\n".join(["", "| gate | rule | because |", "|---|---|---|", *rows, ""])


def stop(message: str) -> NoReturn:
    """Say what is wrong with how a command was used, and exit."""
    console(stderr=True).print(text(message), soft_wrap=True)
    raise typer.Exit(UNUSABLE)
