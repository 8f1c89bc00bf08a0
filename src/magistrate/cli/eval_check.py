"""`magistrate eval check`: are case files right, and do they expect what their labels lead to?"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from magistrate.cli.printing import AsJson, console, pairs, print_json, refuse, table, text
from magistrate.config.diagnostics import Problem, SettingsError
from magistrate.evals.case_files import load_cases
from magistrate.evals.cases import Case, Dataset
from magistrate.settings import Settings

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="Case files (.yaml, .jsonl) or folders of them."),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="The magistrate.yaml to decide under; else as everywhere."),
]


def check_cases(paths: Paths, config: Config = None, as_json: AsJson = False) -> None:
    """Check case files, all of them at once, without judging anything.

    Also says which cases do not expect what their own labels lead to under the configuration: a
    judge that answers exactly as labelled would miss them.

    Exit codes: 0 every case is valid; 2 something is wrong, with file and line.
    """
    from magistrate.evals.labels import unexpected

    try:
        settings = Settings.load(config)
        found = load_cases(paths, settings.policy)
        if problems := [
            Problem(None, None, None, case.id, words) for case, words in unexpected(found, settings)
        ]:
            raise SettingsError(problems)
    except SettingsError as error:
        refuse(error, as_json)
    summary = _summary(found)
    if as_json:
        print_json({"ok": True, **summary})
        return
    out = console()
    out.print(text(f"{len(found):,} cases in {len(found.files)} files, nothing wrong."))
    pairs(out, [(name, str(count)) for name, count in summary["counts"].items()])
    rows = [[name, *map(str, row)] for name, row in summary["sections"].items()]
    table(out, ["section", "violating", "ok", "dev", "test"], rows)


def _summary(cases: Dataset) -> dict[str, dict[str, Any]]:
    counts = {
        "stage input": sum(case.stage == "input" for case in cases),
        "stage output": sum(case.stage == "output" for case in cases),
        "pairs": len({case.pair for case in cases if case.pair}),
        "benign test cases": sum(case.benign and case.split == "test" for case in cases),
        "contested": sum(case.contested is not None for case in cases),
    }
    slices = Counter(name for case in cases for name in case.slices if ":" not in name)
    sections: dict[str, list[Case]] = {}
    for case in cases:
        sections.setdefault(_section(case), []).append(case)
    return {
        "counts": counts | dict(sorted(slices.items())),
        "sections": {
            name: [
                sum(case.violates is True for case in found),
                sum(case.benign for case in found),
                sum(case.split == "dev" for case in found),
                sum(case.split == "test" for case in found),
            ]
            for name, found in sorted(sections.items())
        },
    }


def _section(case: Case) -> str:
    return case.id.partition(".")[0]
