"""`magistrate eval run`: ask a judge about labelled cases, and write down what it says."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from magistrate.cli.eval_outcome import INCOMPLETE, print_run
from magistrate.cli.printing import UNUSABLE, AsJson, console, refuse, text
from magistrate.config.diagnostics import SettingsError

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

    from magistrate.evals.plan import Plan
    from magistrate.judging.base import AskModelAsync
    from magistrate.settings import Settings

JudgeName = Literal["settings", "claude", "local"]


def run_cases(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH...]",
            help="Case files (.yaml, .jsonl) or folders of them.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The run's folder; new, unless --resume."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The magistrate.yaml to judge and decide under."),
    ] = None,
    judge: Annotated[
        JudgeName, typer.Option("--judge", help="Who judges: as the configuration says, or else.")
    ] = "settings",
    split: Annotated[
        Literal["dev", "test", "all"], typer.Option("--split", help="Which cases.")
    ] = "all",
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            min=1,
            metavar="N",
            help="Judge a random part of the cases: at most N, pairs whole, every section in its "
            "proportion.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            metavar="S",
            help="With --sample: another seed draws another sample, the same one the same.  "
            "[default: 0]",
            show_default=False,
        ),
    ] = None,
    repeat: Annotated[
        int, typer.Option("--repeat", min=1, max=100, help="How often each case is judged.")
    ] = 1,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            min=1,
            max=1000,
            help="Cases judged at the same time: 16, and 1 for the local judge, which waits for "
            "no network.",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            metavar="USD",
            help="Stop before the run has cost this, sessions before --resume included. No call is "
            "made that could cost more than is left.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run that is in --out. Of cases that were edited, added or renamed "
            "meanwhile, only those whose text was not judged yet are judged.",
        ),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="With --resume: ask again where there is no verdict."),
    ] = False,
    via: Annotated[
        Literal["calls", "batches"],
        typer.Option("--via", help="Single calls, or Message Batches at half the price."),
    ] = "calls",
    replayed: Annotated[
        Path | None,
        typer.Option("--replay", metavar="RUN", help="Decide that run's verdicts again; no judge."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a judge about labelled cases and write down its verdicts and what they lead to.

    The run's folder holds everything: `magistrate eval report` and `compare` read it. A run can be
    killed at any time; with --resume it continues, and nothing that was judged is judged again.

    Exit codes: 0 every case has a result; 2 wrong usage, configuration or cases; 3 the budget
    ended the run before its end, or --replay was given such a run; 130 it was interrupted.
    """
    from magistrate.evals.case_files import load_cases
    from magistrate.evals.plan import Plan
    from magistrate.evals.replay import replay
    from magistrate.evals.run_folder import Run
    from magistrate.evals.sampling import draw
    from magistrate.judging.selection import judge_for
    from magistrate.settings import Settings

    if out is None:
        _stop("give the run's folder: --out DIR")
    if retry_failed and not resume:
        _stop("--retry-failed goes with --resume")
    if seed is not None and sample is None:
        _stop("--seed goes with --sample: nothing else is drawn")
    if budget is not None and not 0 < budget < math.inf:
        _stop("--budget is a number of dollars above 0")
    try:
        if replayed is not None:
            if paths or judge != "settings" or split != "all" or repeat != 1 or sample:
                _stop("--replay takes cases and verdicts from the run; leave the other choices out")
            source = Run.read(replayed)
            replay(source, Settings.load(config), out)
            done = source.complete
        else:
            settings = _settings(config, judge)
            cases = load_cases(paths or _nothing(), settings.policy).only(
                None if split == "all" else split
            )
            if not len(cases):
                _stop(f"no cases of the split {split} in what was given")
            drawn = None
            if sample is not None:
                cases, drawn = draw(cases, settings.policy, sample, seed or 0)
            at_once = concurrency or (1 if settings.judge.backend == "local" else 16)
            plan = Plan(cases, settings, judge_for(settings), repeat, at_once, budget, drawn)
            _check_budget(plan)
            done = _run(plan, out, resume, retry_failed, via)
        finished = Run.read(out)
    except SettingsError as error:
        refuse(error, as_json)
    except KeyboardInterrupt:
        out_of = console(stderr=True)
        on = f"Go on with: --out {out} --resume"
        if replayed is not None:
            on = "No judge was asked. Begin again with a new folder"
        elif via == "batches":
            on += ". Batches that were sent are worked on meanwhile, and paid for once"
        out_of.print(text(f"\nInterrupted. {on}"), soft_wrap=True)
        raise typer.Exit(130) from None
    why = "the budget ended it" if replayed is None else "the run it decides again is not"
    print_run(finished, done, why, as_json)
    if not done:
        raise typer.Exit(INCOMPLETE)


def _nothing() -> NoReturn:
    _stop("give case files or folders of them, such as evals/cases")


def _stop(message: str) -> NoReturn:
    console(stderr=True).print(text(message), soft_wrap=True)
    raise typer.Exit(UNUSABLE)


def _settings(config: Path | None, judge: JudgeName) -> Settings:
    from magistrate.settings import Settings

    settings = Settings.load(config)
    if judge == "settings":
        return settings
    wanted = settings.judge.model_copy(update={"backend": judge})
    return settings.model_copy(update={"judge": wanted})


def _check_budget(plan: Plan) -> None:
    """A budget needs prices."""
    from magistrate.judging.prices import price_of

    model = plan.info().model
    if plan.budget_usd is not None and plan.settings.judge.backend == "claude":
        named = {model, plan.settings.judge.second_model, plan.settings.judge.screen.model}
        for each in named - {None}:
            if price_of(each) is None:
                _stop(f"--budget: the price of {each} is not known, so it could not be kept")


def _run(
    plan: Plan, out: Path, resume: bool, retry_failed: bool, via: Literal["calls", "batches"]
) -> bool:
    import anyio

    from magistrate.cli.eval_progress import shown_progress
    from magistrate.evals.run import run
    from magistrate.judging.connection import asking_async, no_model_async

    async def asked(ask: AskModelAsync) -> bool:
        with shown_progress(sys.stderr) as watch:
            return await run(plan, out, ask, watch, resume=resume, retry_failed=retry_failed)

    if plan.settings.judge.backend == "local":
        if via == "batches":
            _stop("--via batches: the local judge is asked in this process")
        return anyio.run(asked, no_model_async)
    client = _client()

    async def in_calls() -> bool:
        async with client:
            return await asked(asking_async(client))

    async def in_batches() -> bool:
        from magistrate.evals.batch_run import run_in_batches

        async with client:
            with shown_progress(sys.stderr) as watch:
                return await run_in_batches(
                    plan, out, client, watch, resume=resume, retry_failed=retry_failed
                )

    return anyio.run(in_calls if via == "calls" else in_batches)


def _client() -> AsyncAnthropic:
    import anthropic

    from magistrate.judging.connection import NO_CREDENTIALS, has_credentials

    client = anthropic.AsyncAnthropic(max_retries=0)
    if not has_credentials(client):
        _stop(NO_CREDENTIALS)
    return client
