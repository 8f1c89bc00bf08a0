"""`magistrate eval import` and `magistrate eval export`: cases from elsewhere, and for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from magistrate.cli.eval_show import stop
from magistrate.cli.printing import (
    AsJson,
    bullets,
    console,
    heading,
    pairs,
    paragraph,
    print_json,
    refuse,
    table,
    text,
)
from magistrate.config.diagnostics import SettingsError
from magistrate.evals.case_files import load_cases
from magistrate.evals.cases import Split
from magistrate.evals.formats.importing import MAX_PROBLEMS, Imported, import_rows
from magistrate.evals.formats.mapping_files import load_mapping, ready
from magistrate.settings import Settings

Config = Annotated[
    Path | None,
    typer.Option("--config", help="The magistrate.yaml to decide under; else as everywhere."),
]


def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A CSV, TSV or .jsonl file, or one of them as .gz."),
    ],
    mapping: Annotated[
        str,
        typer.Option(
            "--mapping",
            metavar="NAME|FILE",
            help=f"A ready mapping ({', '.join(ready())}), or the path of one of your own.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The new case file, ending in .jsonl.")],
    delimiter: Annotated[
        str | None,
        typer.Option(
            "--delimiter",
            metavar="CHAR",
            help="What separates the values of a CSV file: one character, or `tab`. Else the first "
            "of , ; tab | by which the header has the mapping's columns.",
            show_default=False,
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without the rows that cannot be used.")
    ] = False,
    include_child_safety: Annotated[
        bool,
        typer.Option(
            "--include-child-safety",
            help="Also import rows about child safety. Having such material can be an offence: "
            "a decision to take with legal advice.",
        ),
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Import labelled rows of an external data set as cases.

    A label that is not there is unknown, never negative; rows about child safety are left out.
    Where a set says only which section is violated, so does the case. Columns that the mapping
    names under `groups`, such as hazard or type, become groups of the report.

    Public sets are for reporting: their cases are imported into the split `test`.

    Exit codes: 0 the case file was written; 2 it was not, and every problem is listed.
    """
    if delimiter is not None:
        delimiter = "\t" if delimiter in ("tab", "\\t") else delimiter
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
            stop("--delimiter is one character such as ; or the word tab, and no quotation mark")
    try:
        settings = Settings.load(config)
        chosen = load_mapping(mapping, settings.policy)
        found = import_rows(
            file,
            chosen,
            settings,
            out,
            child_safety=include_child_safety,
            skip_bad=skip_bad,
            delimiter=delimiter,
        )
    except SettingsError as error:
        refuse(error, as_json)
    if as_json:
        names = ("file", "line", "message")
        bad = [{name: getattr(problem, name) for name in names} for problem in found.problems]
        print_json({"ok": True, "out": str(out), **found.as_json(), "problems": bad})
        return
    _print(out, found)


def _print(file: Path, found: Imported) -> None:
    out, aside = console(), console(stderr=True)
    for problem in found.problems:
        aside.print(text(problem), soft_wrap=True)
    if found.bad > MAX_PROBLEMS:
        aside.print(text(f"and {found.bad - MAX_PROBLEMS:,} more rows that cannot be used"))
    out.print(text(f"{found.cases:,} cases of {found.rows:,} rows are in {file}."))
    pairs(
        out,
        [
            ("violating", f"{found.violating:,}"),
            ("benign", f"{found.benign:,}"),
            ("only some clauses known", f"{found.unknown:,}"),
            ("could not be used", f"{found.bad:,}"),
        ],
    )
    if found.left_out:
        heading(out, "Left out")
        pairs(out, [(reason, f"{count:,}") for reason, count in found.left_out.most_common()])
    if found.clauses:
        heading(out, "Labels")
        rows = [
            [clause, str(each["violated"]), str(each["ok"]), str(each["unknown"])]
            for clause, each in found.as_json()["clauses"].items()
        ]
        table(out, ["clause or section", "violated", "ok", "unknown"], rows)
        paragraph(out, "All others are unknown in every case.")
    if found.notices:
        heading(aside, "Note")
        bullets(aside, found.notices)


def export(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Case files (.yaml, .jsonl) or folders of them."),
    ],
    to: Annotated[Literal["inspect-ai"], typer.Option("--to", help="What to make of them.")],
    out: Annotated[Path, typer.Option("--out", help="A new or empty folder.")],
    split: Annotated[Split | None, typer.Option("--split", help="Only cases of one split.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Export cases as a task for another eval framework.

    `inspect-ai`: a dataset, the rubric as a judge reads it, and a task that runs with
    `inspect eval FOLDER/task.py --model ...`. magistrate is not needed to run it.

    Exit codes: 0 the folder was written; 2 it was not, and every problem is listed.
    """
    from magistrate.evals.formats.exporting import export_inspect

    assert to == "inspect-ai"
    try:
        settings = Settings.load(config)
        found = export_inspect(load_cases(paths, settings.policy).only(split), settings, out)
    except SettingsError as error:
        refuse(error, as_json)
    if as_json:
        print_json({"ok": True, "out": str(out), **found.as_json()})
        return
    screen = console()
    screen.print(text(f"{found.cases:,} samples and {found.rubrics} rubrics are in {out}."))
    if found.left_out:
        heading(screen, "Left out")
        pairs(screen, [(reason, f"{count:,}") for reason, count in found.left_out.most_common()])
    screen.print(text(f"\nRun it with: inspect eval {out / 'task.py'} --model PROVIDER/MODEL"))
