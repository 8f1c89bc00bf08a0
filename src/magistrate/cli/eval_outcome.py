"""What became of a run, as `eval run` and `eval rescore` print it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from magistrate.cli.printing import console, pairs, print_json, text

if TYPE_CHECKING:
    from magistrate.evals.run_folder import Run

INCOMPLETE = 3


def print_run(finished: Run, done: bool, why: str, as_json: bool) -> None:
    """Say what became of a run. `why`: what it lacks, if it is not `done`."""
    from magistrate.evals.metrics.action_metrics import handled_right

    ended = Counter(result.ended for result in finished.results)
    # The first judgment of what has a label that is settled: all else expects nothing.
    cases = {case.id: case for case in finished.cases}
    settled = {
        case.id for case in finished.cases if case.violates is not None and case.contested is None
    }
    firsts = [each for each in finished.results if each.repeat == 0 and each.case in settled]
    right = sum(handled_right(cases[result.case], result) for result in firsts)
    usage = [result.outcome.usage for result in finished.results]
    costs = [each.cost_usd for each in usage if each.judge_calls]
    cost = None if any(each is None for each in costs) else sum(each or 0.0 for each in costs)
    found = {
        "run": str(finished.folder),
        "complete": done,
        "cases": len(finished.cases),
        "sample": finished.manifest.get("sample"),
        "judgments": len(finished.results),
        "ended": dict(ended),
        "as_expected": right,
        "as_expected_of": len(firsts),
        "judge_calls": sum(each.judge_calls for each in usage),
        "cost_usd": cost,
    }
    if as_json:
        print_json(found)
        return
    out = console()
    state = "complete" if done else f"not complete: {why}"
    out.print(text(f"{finished.folder}: {state}", "bold"), soft_wrap=True)
    rows = [
        ("judge", f"{finished.manifest['judge']['name']} {finished.manifest['judge']['model']}"),
        ("judgments", f"{len(finished.results):,} of {len(finished.cases):,} cases"),
        ("ended", ", ".join(f"{name} {count:,}" for name, count in sorted(ended.items()))),
        ("as expected", f"{right:,} of {len(firsts):,} labelled cases"),
        ("cost", "unknown" if cost is None else f"${cost:.4f}"),
    ]
    if aside := finished.manifest.get("put_aside"):
        rows.insert(2, ("put aside", f"{aside:,} verdicts of cases that are gone or rewritten"))
    if finished.sampled:
        rows.insert(1, ("sample", finished.sampled))
    pairs(out, rows)
    out.print(text(f"Next: magistrate eval report {finished.folder}"), soft_wrap=True)
