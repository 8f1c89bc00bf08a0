"""`magistrate eval rescore`: the verdicts of a run, measured by the labels that cases have now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from magistrate.cli.eval_outcome import INCOMPLETE, print_run
from magistrate.cli.eval_show import Folder
from magistrate.cli.printing import AsJson, console, refuse, text
from magistrate.config.diagnostics import SettingsError


def rescore_run(
    run: Folder,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Case files (.yaml, .jsonl) or folders of them."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The new run's folder.")],
    split: Annotated[
        Literal["dev", "test", "all"], typer.Option("--split", help="Which cases.")
    ] = "all",
    as_json: AsJson = False,
) -> None:
    """Measure a run's verdicts by the labels that its cases have now; no judge is asked.

    For edits of labels, severities, expectations, ids or pairs. A verdict goes by what was judged:
    cases that are new or whose text was rewritten have none and are left out. To have them judged,
    continue the new run: `magistrate eval run PATH... --out DIR --resume`.

    Exit codes: 0 every verdict was used or its case is gone; 2 wrong usage, cases or a damaged run;
    3 the run that was given is not complete.
    """
    from magistrate.evals.case_files import load_cases
    from magistrate.evals.replay import rescore
    from magistrate.evals.run_folder import Run

    try:
        source = Run.read(run)
        cases = load_cases(paths, source.settings.policy).only(None if split == "all" else split)
        found = rescore(source, cases, out)
        made = Run.read(out)
    except SettingsError as error:
        refuse(error, as_json)
    aside = console(stderr=True)
    if found.new:
        aside.print(text(f"{len(found.new):,} cases were not judged yet, and are left out."))
    if found.unused:
        aside.print(text(f"{len(found.unused):,} verdicts are of cases that are not there now."))
    print_run(made, made.complete, "the run it measures again is not", as_json)
    if not made.complete:
        raise typer.Exit(INCOMPLETE)
