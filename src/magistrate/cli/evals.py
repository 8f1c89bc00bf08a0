"""`magistrate eval ...`: labelled cases, runs over them, and what they show."""

from __future__ import annotations

from typing import ClassVar

import typer

from magistrate.cli.lazy import LazyGroup, Source


class EvalCommands(LazyGroup):
    """The commands of `magistrate eval`."""

    sources: ClassVar[dict[str, Source]] = {
        "run": Source(
            "magistrate.cli.eval_run",
            "run_cases",
            "Ask a judge about labelled cases and write down its verdicts and what they lead to.",
        ),
        "report": Source(
            "magistrate.cli.eval_show",
            "report",
            "Write what a run shows as one HTML file that needs no network, and say the main "
            "numbers.",
        ),
        "compare": Source(
            "magistrate.cli.eval_show",
            "compare_runs",
            "Compare two runs case by case, and hold the second one to rules.",
        ),
        "rescore": Source(
            "magistrate.cli.eval_rescore",
            "rescore_run",
            "Measure a run's verdicts by the labels that its cases have now; no judge is asked.",
        ),
        "tune": Source(
            "magistrate.cli.eval_tune",
            "tune_rows",
            "Choose from which grade and severity each section acts: on dev cases, reported on "
            "test.",
        ),
        "import": Source(
            "magistrate.cli.eval_data",
            "import_",
            "Import labelled rows of an external data set as cases.",
        ),
        "export": Source(
            "magistrate.cli.eval_data",
            "export",
            "Export cases as a task for another eval framework.",
        ),
        "check": Source(
            "magistrate.cli.eval_check",
            "check_cases",
            "Check case files, all of them at once, without judging anything.",
        ),
    }


app = typer.Typer(
    cls=EvalCommands,
    help="Measure a judge, a policy and settings on labelled cases.",
    no_args_is_help=True,
)
