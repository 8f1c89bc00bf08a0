"""`magistrate eval tune`: thresholds within a limit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magistrate.cli.eval_show import Folder, stop
from magistrate.cli.printing import (
    AsJson,
    console,
    pairs,
    paragraph,
    print_json,
    refuse,
    table,
    text,
)
from magistrate.config.diagnostics import SettingsError

if TYPE_CHECKING:
    from magistrate.evals.metrics.statistics import Estimate
    from magistrate.evals.tuning.intervention_costs import Budget, Effect
    from magistrate.evals.tuning.tune import Tuned


def tune_rows(
    run: Folder,
    max_fpr: Annotated[
        float | None,
        typer.Option(
            "--max-fpr",
            metavar="SHARE",
            help="The largest share of benign dev cases that may be held or blocked; 0.01 unless "
            "there is a budget.",
            show_default=False,
        ),
    ] = None,
    max_interventions: Annotated[
        float | None,
        typer.Option(
            "--max-interventions",
            metavar="N",
            help="A budget: at most N warnings, held answers and blocks in 1,000 judgments, at "
            "--prevalence.",
        ),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            "--max-cost",
            metavar="USD",
            help="A budget in dollars for 1,000 judgments: judging, as the run paid for it, and "
            "--cost-per-intervention, at --prevalence.",
        ),
    ] = None,
    prevalence: Annotated[
        float | None,
        typer.Option(
            "--prevalence",
            metavar="SHARE",
            help="Of a budget: the share of violating requests and answers you expect.",
        ),
    ] = None,
    cost_per_intervention: Annotated[
        float | None,
        typer.Option(
            "--cost-per-intervention",
            metavar="USD",
            help="Of a budget: what one costs you, such as the minutes of a reviewer.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the rows as YAML here."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Choose from which grade and severity each section acts: on dev cases, reported on test.

    Of all rows that keep the limit on dev, those that catch most violating dev cases. The limit is
    --max-fpr, or a budget: --max-interventions or --max-cost. A request and its answer are two
    judgments. Under a budget ordinary traffic, where the run has some, represents what does not
    violate; near misses, which are hard on purpose, are only reported.

    Nothing is judged again, and no threshold changes what judging costs: a finding has been paid
    for, whatever is done about it. To spend less on judging, run other `judge` settings.

    The rows are lines for `magistrate.yaml`; floors hold under any row.

    Exit codes: 0 rows were chosen; 2 wrong usage, a run that cannot be tuned, or a limit that no
    rows keep.
    """
    from magistrate.evals.run_folder import Run
    from magistrate.evals.tuning.intervention_costs import Budget
    from magistrate.evals.tuning.tune import tune

    budgeted = max_interventions is not None or max_cost is not None
    if not budgeted and (prevalence is not None or cost_per_intervention is not None):
        stop("--prevalence and --cost-per-intervention go with --max-interventions or --max-cost")
    if (max_fpr is not None) + (max_interventions is not None) + (max_cost is not None) > 1:
        stop("give one limit: --max-fpr, --max-interventions or --max-cost")
    limit: float | Budget = 0.01 if max_fpr is None else max_fpr
    if budgeted:
        if prevalence is None:
            stop("a budget depends on how much of the traffic violates: give --prevalence SHARE")
        try:
            limit = Budget(prevalence, max_interventions, max_cost, cost_per_intervention)
        except ValueError as error:
            stop(str(error))
    elif not 0 < limit < 1:
        stop("--max-fpr is a share between 0 and 1, such as 0.01")
    try:
        found = tune(Run.read(run), limit)
        if out is not None:
            out.write_text(found.patch, "utf-8")
    except SettingsError as error:
        refuse(error, as_json)
    except ModuleNotFoundError as error:
        stop(str(error))
    if as_json:
        print_json(_tuned_json(found))
    else:
        _print_tuned(found)


def _tuned_json(found: Tuned) -> dict[str, object]:
    from magistrate.evals.tuning.intervention_costs import Budget

    limit = found.limit
    return {
        "rows": {
            section: {"from_grade": grade, "from_severity": severity}
            for section, (grade, severity) in found.rows.items()
        },
        "limit": asdict(limit) if isinstance(limit, Budget) else {"max_fpr": limit},
        "benign_traffic": found.benign,
        "untouched": list(found.untouched),
        "supported": found.supported,
        "benign_test_cases_needed": found.needs,
        "before": {split: _numbers(each) for split, each in found.before.items()},
        "after": {split: _numbers(each) for split, each in found.after.items()},
    }


def _numbers(effect: Effect) -> dict[str, object]:
    said: dict[str, object] = {"recall": effect.recall.value, "fpr": effect.fpr.value}
    if effect.interventions is not None:
        said["near_misses"] = effect.aside.value
        said["interventions_per_1000"] = asdict(effect.interventions)
        said["judging_usd_per_1000"] = effect.judging_usd
        said["usd_per_1000"] = asdict(effect.usd) if effect.usd else None
    return said


def _print_tuned(found: Tuned) -> None:
    from magistrate.evals.report.words import share
    from magistrate.evals.tuning.intervention_costs import Budget

    shown = console()
    shown.print(
        text(found.patch if found.rows else "The rows in force are the best there are."),
        soft_wrap=True,
    )
    limit = found.limit
    headings = ["split", "", "violating cases stopped", "benign cases stopped"]
    if isinstance(limit, Budget):
        headings[2:] = ["violating cases caught", f"{found.benign} cases caught"]
        headings += ["near misses caught", "interventions in 1,000"]
        headings += ["dollars for 1,000"] * (limit.usd_each is not None)
    rows: list[list[str]] = []
    for split in ("dev", "test"):
        for when, effect in (("before", found.before[split]), ("after", found.after[split])):
            row = [split, when, share(effect.recall), share(effect.fpr)]
            if isinstance(limit, Budget):
                row += [share(effect.aside), _estimate(effect.interventions)]
                row += [_estimate(effect.usd)] * (limit.usd_each is not None)
            rows.append(row)
    table(shown, headings, rows)
    shown.print()
    pairs(shown, [("quote", "the test rows; the dev rows were chosen to look good")])
    if isinstance(limit, Budget):
        judging = found.before["dev"].judging_usd
        cost = "not known" if judging is None else f"${judging:,.4f} for 1,000 judgments"
        pairs(shown, [("judging", f"{cost}, under any thresholds")])
    if found.untouched:
        names = ", ".join(found.untouched)
        paragraph(shown, f"Left as they are, for want of violating dev cases to choose by: {names}")
    if found.supported:
        return
    if isinstance(limit, Budget):
        paragraph(
            shown,
            "The test cases do not show that the budget is kept: the interval of "
            "what was found on them reaches above it.",
        )
    else:
        paragraph(
            shown,
            f"No claim of {limit:.2%} can rest on this: it needs {found.needs:,} benign test "
            "cases without a false alarm.",
        )


def _estimate(found: Estimate | None) -> str:
    from magistrate.evals.report.words import NONE

    if found is None or found.value is None or found.interval is None:
        return NONE
    return f"{found.value:,.2f} ({found.interval.low:,.2f}–{found.interval.high:,.2f})"
