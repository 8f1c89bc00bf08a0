"""What it takes to measure a run of 10,000 results.

    python benchmarks/evals.py [--results N] [--keep FOLDER]

The run is made up from a seed: half of it pairs of a violating case and its ok twin, half ordinary
traffic, with grades drawn so that a judge with faults comes out. Decisions are real. Nothing here
passes or fails.
"""

from __future__ import annotations

import argparse
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from magistrate.core.offline import OfflineDecision
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.metrics.compare import compare
from magistrate.evals.metrics.measures import measure
from magistrate.evals.report.comparison import as_markdown
from magistrate.evals.results import Result, result_of
from magistrate.evals.run_folder import (
    CASES,
    FORMAT,
    MANIFEST,
    SETTINGS,
    Run,
    Writer,
    write_cases,
    write_json,
    write_settings,
)
from magistrate.evals.tuning.intervention_costs import Budget
from magistrate.evals.tuning.tune import tune
from magistrate.settings import Settings
from magistrate.verdicts import (
    FAILURES,
    GRADES,
    SEVERITIES,
    Finding,
    JudgeInfo,
    Outcome,
    Unavailable,
    Usage,
    Verdict,
)

JUDGE = JudgeInfo("benchmark", "none", "0" * 64)
DRAWS = 1000
# How often each grade is given to a violating case, to its twin, and to ordinary traffic.
WEIGHTS = {
    "violating": (6, 4, 10, 30, 50),
    "twin": (70, 14, 8, 5, 3),
    "ordinary": (960, 30, 8, 1, 1),
}
_EVERY = {"tr": 5, "de": 7}  # which cases are also in another language


# --- a run that nobody judged ---------------------------------------------------------------------


def made_up(folder: Path, results: int, seed: int = 0) -> None:
    """Write a run of this many results, one a case, into a new folder."""
    settings = Settings()
    cases = list(_cases(settings, results))
    folder.mkdir(parents=True)
    write_cases(folder / CASES, cases)
    write_settings(folder / SETTINGS, settings)
    write_json(
        folder / MANIFEST,
        {"format": FORMAT, "cases": len(cases), "cases_hash": Dataset(tuple(cases)).hash}
        | {"repeat": 1, "judge": {"name": JUDGE.name}, "settings_hash": settings.hash},
    )
    random_ = random.Random(seed)
    writer = Writer(folder)
    try:
        for case in cases:
            writer.write(_result(case, settings, random_))
    finally:
        writer.close()


def _cases(settings: Settings, number: int) -> Iterator[Case]:
    clauses = list(settings.policy.clauses.values())
    for index in range(number):
        kind = "ordinary" if index % 4 >= 2 else "violating" if index % 4 == 0 else "twin"
        pair = index // 4
        clause = clauses[pair % len(clauses)]
        stage = clause.stages[pair % len(clause.stages)] if kind != "ordinary" else "input"
        data: dict[str, Any] = {
            "id": f"{kind}-{pair}-{index % 4}",
            "stage": stage,
            "messages": [{"user": f"A made-up question, number {index}."}],
            "response": f"A made-up answer, number {index}." if stage == "output" else None,
            "labels": {} if kind == "ordinary" else {clause.id: "ok"},
            "action": "allow",
            "split": "dev" if pair % 4 == 0 else "test",
            "tags": [f"lang:{lang}" for lang, every in _EVERY.items() if pair % every == 0],
            "pair": None if kind == "ordinary" else f"pair-{pair}",
        }
        if kind == "violating":
            severity = SEVERITIES[pair % len(SEVERITIES)]
            data |= {"labels": {clause.id: "violated"}, "severity": severity, "action": "block"}
        yield Case.model_validate(data)


def _result(case: Case, settings: Settings, random_: random.Random) -> Result:
    kind = case.id.partition("-")[0]
    usage = Usage(1, 1_200 + random_.randrange(400), 60, 0, 2_000, 0.000_2)
    took = random_.lognormvariate(7, 0.4)
    outcome: Outcome
    if random_.random() < 0.005:
        outcome = Unavailable(random_.choice(FAILURES), JUDGE, usage=usage)
    else:
        clause = next(iter(case.labels), "fraud_abuse.scams_phishing_malware")
        grade = random_.choices(GRADES, WEIGHTS[kind])[0]
        path = "messages[0].content" if case.stage == "input" else "response.content[0]"
        severity = random_.choice(SEVERITIES)
        found = (Finding(clause, grade, severity, case.stage, path),) if grade != "none" else ()
        outcome = Verdict(JUDGE, found, usage=usage)
    offline = OfflineDecision.of(settings, case.stage, case.request, case.answer)
    return result_of(case, 0, outcome, offline.decide([outcome], JUDGE), took)


# --- what is timed --------------------------------------------------------------------------------


def seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """The best of some rounds, in seconds."""

    def once() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return min(once() for _ in range(rounds))


def metrics_seconds(run: Run) -> float:
    """All metrics with their bootstrap intervals."""
    return seconds(lambda: measure(run, draws=DRAWS, prevalence=0.01))


def compare_seconds(a: Run, b: Run) -> float:
    """A comparison, its intervals and its Markdown."""
    return seconds(lambda: as_markdown(compare(a, b, draws=DRAWS)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--results", type=int, default=10_000)
    options.add_argument("--keep", type=Path, help="leave the made-up runs in this new folder")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = chosen.keep or Path(temporary) / "runs"
        rows = list(_rows(folder, chosen.results))
    python = platform.python_version()
    table = Table(title=f"{chosen.results:,} results, {DRAWS:,} draws, Python {python}")
    table.add_column("what")
    table.add_column("seconds", justify="right")
    for what, took in rows:
        table.add_row(what, f"{took:.2f}")
    Console().print(table)


def _rows(folder: Path, results: int) -> Iterator[tuple[str, float]]:
    began = time.perf_counter()
    for seed, name in enumerate(("a", "b")):
        made_up(folder / name, results, seed)
    yield "making up two runs", time.perf_counter() - began
    a, b = Run.read(folder / "a"), Run.read(folder / "b")
    yield "reading one", seconds(lambda: Run.read(folder / "a"), 1)
    yield "metrics, first time with imports", seconds(lambda: measure(a, draws=DRAWS), 1)
    yield "metrics", metrics_seconds(a)
    yield "comparison", compare_seconds(a, b)
    yield "tuning within a share of false alarms", seconds(lambda: tune(a, 0.02), 1)
    yield "tuning within a budget", seconds(lambda: tune(a, Budget(0.01, interventions=50)), 1)


if __name__ == "__main__":
    main()
