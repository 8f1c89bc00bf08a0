"""What it takes to write the report of two runs of 10,000 results.

    python benchmarks/report.py [--results N] [--keep FILE]

The runs are those of `evals.py`, their cases lengthened to what people write. Nothing here passes
or fails.
"""

from __future__ import annotations

import argparse
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from evals import made_up
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.metrics.compare import compare
from magistrate.evals.metrics.measures import measure
from magistrate.evals.report.charts import Charts
from magistrate.evals.report.page import write_report
from magistrate.evals.run_folder import Run

WORDS = ["please", "look", "at", "this", "text", "again", "and", "say", "what", "it", "means"]
LONG = 120  # words of a case, about 500 characters
T = TypeVar("T")


def lengthened(run: Run, seed: int = 0) -> Run:
    """The run with cases as long as real ones are."""
    random_ = random.Random(seed)

    def longer(case: Case) -> Case:
        more = " ".join(random_.choices(WORDS, k=random_.randrange(2 * LONG)))
        turns = tuple({role: f"{said} {more}"} for t in case.messages for role, said in t.items())
        return Case.model_validate(case.model_dump() | {"messages": turns})

    return replace(run, cases=Dataset(tuple(map(longer, run.cases))))


def timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def rows(folder: Path, results: int, keep: Path | None) -> Iterator[tuple[str, str]]:
    runs: list[Run] = []
    for seed, name in enumerate(("baseline", "candidate")):
        made_up(folder / name, results, seed)
        runs.append(lengthened(Run.read(folder / name)))
    metrics = [measure(run, prevalence=0.01) for run in runs]
    comparison, took = timed(lambda: compare(*runs))
    yield "comparison", f"{took:.2f} s"
    file = keep or folder / "report.html"
    yield "import of altair and vl-convert", f"{timed(Charts.available)[1]:.2f} s"
    _, took = timed(lambda: write_report(runs[:1], file, metrics=metrics[:1]))
    yield "report of one run", f"{took:.2f} s, {file.stat().st_size / 1e6:.1f} MB"
    _, took = timed(lambda: write_report(runs, file, metrics=metrics, comparison=comparison))
    yield "report of two runs", f"{took:.2f} s, {file.stat().st_size / 1e6:.1f} MB"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--results", type=int, default=10_000)
    options.add_argument("--keep", type=Path, help="leave the report of two runs in this file")
    chosen = options.parse_args()
    table = Table(title=f"{chosen.results:,} results, Python {platform.python_version()}")
    table.add_column("what")
    table.add_column("took", justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder), chosen.results, chosen.keep):
            table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
