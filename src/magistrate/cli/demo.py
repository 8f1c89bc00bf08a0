"""`magistrate demo`: every outcome, shown by the real code against an API simulated on a port."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from magistrate.cli.printing import AsJson, console, print_json, refuse, text
from magistrate.config.diagnostics import SettingsError
from magistrate.wire.messages import JSON

if TYPE_CHECKING:
    from magistrate.cli.demo_player import Result

_STYLES = {"allow": "green", "warn": "yellow", "hold": "magenta", "block": "red"}
FAILED = 1


def demo(
    as_json: AsJson = False,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="WORD", help="Only conversations with WORD in the title."),
    ] = None,
    judge: Annotated[
        Literal["scripted", "local"],
        typer.Option(
            "--judge",
            help="local: type texts of your own, judged by the embedded judge (extra `local`).",
        ),
    ] = "scripted",
) -> None:
    """Watch requests and streams be judged, and come back allowed, disclosed, held or blocked.

    Needs no key and no network: model and judge are simulated on a local port. The clients, the
    judge's prompts and parsing, the decisions and the enforcement are the real ones.

    With --judge local you type the texts: each line is judged by the embedded judge.

    Exit codes: 0 every outcome was as expected; 1 one was not; 2 wrong usage, or the local judge
    is not installed.
    """
    if judge == "local":
        if as_json:
            raise typer.BadParameter(
                "--json goes with the scripted conversations only; for a text of your own there is "
                "`magistrate check --json`",
                param_hint="--json",
            )
        from magistrate.cli.demo_interactive import play

        try:
            play(console())
        except SettingsError as error:
            refuse(error, as_json)
        return
    from magistrate.cli.demo_player import moderations_by_app, play, release
    from magistrate.cli.demo_scenes import DEFAULT, JUDGE, REPLIES, SCENES
    from magistrate.testing import Simulator

    scenes = [scene for scene in SCENES if only is None or only in scene.title]
    if not scenes:
        raise typer.BadParameter(f"no conversation has {only!r} in its title", param_hint="--only")
    out = console()
    if not as_json:
        out.print(Text("magistrate demo", "bold"), Text("- a simulation, no key needed"))
        out.print(
            Text(
                "Model and judge are scripted on a local port; the rest is the real code. "
                "Loading the SDK takes a few seconds.\n",
                "dim",
            )
        )
    simulator = Simulator(list(REPLIES), judge=JUDGE, default=DEFAULT)
    with (
        tempfile.TemporaryDirectory() as folder,
        simulator.serve() as url,
        moderations_by_app(f"{folder}/reviews.db") as moderations,
    ):
        results = [play(scene, moderations, url, simulator) for scene in scenes]
        released = None if only else release(moderations["clinic"], results)
    failed = [result for result in results if result.wrong]
    if as_json:
        print_json({"ok": not failed, "scenes": [_as_json(result) for result in results]})
    else:
        _print(out, results, released)
        for result in failed:
            out.print(text(f"NOT AS EXPECTED: {result.scene.title}: {'; '.join(result.wrong)}"))
        asked, judged = len(simulator.api_requests), len(simulator.judge_requests)
        out.print(
            text(
                f"{len(results) - len(failed)} of {len(results)} conversations ended as expected "
                f"({asked} calls to the model, {judged} to the judge).",
                "bold green" if not failed else "bold red",
            )
        )
    if failed:
        raise typer.Exit(FAILED)


def _as_json(result: Result) -> JSON:
    return {
        "title": result.scene.title,
        "how": result.scene.how,
        "outcome": result.outcome,
        "disclosure": result.disclosure,
        "received": result.received,
        "decision_id": result.decision_id,
        "why": result.scene.why,
        "wrong": result.wrong,
    }


def _print(out: Console, results: list[Result], released: str | None) -> None:
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False, header_style="dim")
    table.add_column("what was sent", ratio=3)
    table.add_column("what came back", ratio=3)
    longest = max(len(word) for result in results for word in result.scene.why.split())
    # Wide enough for an id to stay in one piece, if the terminal is.
    wide = min(max(longest, out.width // 4), out.width * 2 // 5)
    table.add_column("why", width=wide, overflow="fold")
    for result in results:
        scene = result.scene
        last = scene.turns[-1]
        sent = Text.assemble((scene.title, "bold"), f" ({scene.how})\n")
        if len(scene.turns) > 1:
            sent.append(f"after {len(scene.turns) - 1} earlier turns\n", "dim")
        sent.append(("prefill: " if last[0] == "assistant" else "") + _short(last[1]), "dim")
        label = result.outcome.upper() if result.outcome in _STYLES else result.outcome
        back = Text.assemble((label, _STYLES.get(result.outcome, "red")))
        if result.disclosure == "added":
            back.append(" + DISCLOSURE", "cyan")
        back.append("\n" + _short(result.received), "dim")
        why = text(scene.why)
        if result.wrong:
            why.append("\nNOT AS EXPECTED", "bold red")
        table.add_row(sent, back, why)
        table.add_row()
    out.print(table)
    if released is not None:
        out.print(
            Text.assemble(
                ("Released ", "magenta"),
                "by dr.lee, one of the held answers was then fetched by its id:\n",
                (f"  {_short(released, 150)}\n", "dim"),
            )
        )


def _short(words: str, most: int = 110) -> str:
    line = " ".join(words.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
