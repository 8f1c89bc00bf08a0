"""`magistrate demo`: every outcome, shown by the real code against an API simulated on a port."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from magistrate.cli.printing import AsJson, console, print_json, refuse, text
from magistrate.config.diagnostics import SettingsError
from magistrate.wire.messages import JSON

if TYPE_CHECKING:
    from magistrate.cli.demo_scenes import Scene
    from magistrate.sdk.middleware import Moderation

_STYLES = {"allow": "green", "warn": "yellow", "hold": "magenta", "block": "red"}
_MODEL = "claude-sonnet-5-5"
FAILED = 1


@dataclass(slots=True)
class Result:
    """What came of a scene, and what in it was not as it should be."""

    scene: Scene
    outcome: str
    received: str
    decision_id: str | None
    disclosure: str | None
    wrong: list[str]


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
        _moderations(f"{folder}/reviews.db") as moderations,
    ):
        results = [_play(scene, moderations, url, simulator) for scene in scenes]
        released = None if only else _release(moderations["clinic"], results)
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


@contextmanager
def _moderations(store: str) -> Generator[dict[str, Moderation], None, None]:
    """One `Moderation` per app, kept over the scenes, as an app keeps its client."""
    from magistrate.cli.demo_scenes import clinic
    from magistrate.sdk.middleware import Moderation

    made: dict[str, Moderation] = {"clinic": Moderation(clinic(store))}
    try:
        yield made
    finally:
        for moderation in made.values():
            moderation.close()


def _moderation(scene: Scene, made: dict[str, Moderation]) -> Moderation:
    from magistrate.sdk.middleware import Moderation

    if scene.config == "clinic":
        return made["clinic"]
    key = json.dumps(scene.config, sort_keys=True)
    if key not in made:
        made[key] = Moderation(scene.config)
    return made[key]


def _play(scene: Scene, made: dict[str, Moderation], url: str, simulator: Any) -> Result:
    """Have one conversation through a drop-in client, and compare."""
    from magistrate.sdk.errors import ModerationError

    moderation = _moderation(scene, made)
    call: dict[str, Any] = {
        "model": _MODEL,
        "max_tokens": 400,
        "messages": [{"role": role, "content": words} for role, words in scene.turns],
    }
    if scene.tools:
        call["tools"] = scene.tools
    before = len(simulator.api_requests)
    try:
        message = _send(scene, moderation, url, call)
    except ModerationError as error:
        decision = error.decision
        received: JSON = {}
        outcome = type(error).__name__
        shown = f"raised {outcome}"
    else:
        received = message.to_dict()
        decision = moderation.decision(received["moderation"]["id"])
        outcome = decision.action
        shown = "".join(block.get("text", "") for block in received["content"])
    travelled = [request.body for request in simulator.api_requests[before:]]
    wrong = list(_differences(scene, outcome, received, decision, json.dumps(travelled)))
    return Result(
        scene,
        outcome,
        shown or f"(no text, stop_reason {received.get('stop_reason')})",
        decision.id if decision else None,
        decision.disclosure if decision else None,
        wrong,
    )


def _send(scene: Scene, moderation: Moderation, url: str, call: JSON) -> Any:
    """The call an application would make. A stream's message gets the id from the header."""
    from magistrate.sdk.clients import Anthropic, AsyncAnthropic

    def with_id(message: Any, headers: Any) -> Any:
        message.moderation = json.loads(headers["magistrate-decision"])
        return message

    api: Any
    if scene.how in ("JSON", "stream"):
        with Anthropic(api_key="demo", base_url=url, moderation=moderation) as api:
            if scene.how == "JSON":
                return api.messages.create(**call)
            with api.messages.stream(**call) as stream:
                return with_id(stream.get_final_message(), stream.response.headers)

    async def send() -> Any:
        api: Any
        async with AsyncAnthropic(api_key="demo", base_url=url, moderation=moderation) as api:
            if scene.how == "async JSON":
                return await api.messages.create(**call)
            async with api.messages.stream(**call) as stream:
                return with_id(await stream.get_final_message(), stream.response.headers)

    return asyncio.run(send())


def _differences(
    scene: Scene, outcome: str, received: JSON, decision: Any, travelled: str
) -> Iterator[str]:
    expected = scene.raises or scene.action
    if outcome != expected:
        yield f"expected {expected}, got {outcome}"
        return
    if decision.disclosure != scene.disclosure and scene.raises is None:
        yield f"disclosure {decision.disclosure}, expected {scene.disclosure}"
    if scene.raises is None and received["stop_reason"] != scene.stop_reason:
        yield f"stop_reason {received['stop_reason']}, expected {scene.stop_reason}"
    ours = "magistrate" in (received.get("stop_details") or {})
    if ours != (outcome == "block"):
        yield "a refusal of ours is not marked" if not ours else "a refusal is marked as ours"
    got = json.dumps(received)
    for words in scene.shows:
        if words not in got:
            yield f"{words!r} did not arrive"
    for words in scene.hides:
        if words in got:
            yield f"{words!r} leaked"
    if scene.upstream is not None and scene.upstream not in travelled:
        yield f"{scene.upstream!r} did not travel upstream"
    if scene.withheld is not None and scene.withheld in travelled:
        yield f"{scene.withheld!r} travelled upstream"


def _release(clinic: Moderation, results: list[Result]) -> str:
    """Release the first held answer as its reviewer would, and fetch it as the app would."""
    assert clinic.reviews is not None
    waiting = clinic.reviews.pending()
    clinic.reviews.approve(waiting[0].id, reviewer="dr.lee", note="demo")
    released = clinic.reviews.get(waiting[0].id).released
    words = "".join(block.get("text", "") for block in (released or {}).get("content", []))
    if "half a tablet" not in words:
        results[0].wrong.append("the released answer is not the one that was held")
    return words


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
