"""`magistrate coverage`: what of the installed SDK is judged, what is refused, what cannot be read.

Worked out from the SDK's source and from the code that moderates each time it is asked for.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from magistrate.cli.printing import (
    UNUSABLE,
    AsJson,
    bullets,
    console,
    heading,
    pairs,
    paragraph,
    print_json,
    text,
)
from magistrate.coverage.sdk_source import Call, installed
from magistrate.coverage.surfaces import Kind, Surface, Treatment, kinds, surfaces

_MEANINGS = {
    "inspected": "judged before it goes on",
    "partly": "some calls are judged, others refused, uninspected or passed",
    "refused": "not moderated yet: blocked, unless `on_uninspected.surfaces` allows it",
    "uninspected": "unknown: blocked, unless `on_uninspected.endpoint` allows it",
    "passes": "content that is handed over without judgment",
    "free": "brings no model output, puts nothing before a model",
}
# More names than this are a number.
_NAMED = 12
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


def coverage(as_json: AsJson = False) -> None:
    """Show which calls and which content of the installed SDK are judged.

    Exit codes: 0 done; 2 there is no SDK, or none that can be read.
    """
    try:
        sdk = installed()
        found, content = surfaces(sdk), kinds(sdk)
    except (ModuleNotFoundError, LookupError) as error:
        if as_json:
            print_json({"ok": False, "problem": str(error)})
        else:
            console(stderr=True).print(text(error))
        raise typer.Exit(UNUSABLE) from None
    if as_json:
        print_json(
            {
                "sdk": version("anthropic"),
                "surfaces": [_as_json(surface) for surface in found],
                "content": [asdict(kind) for kind in content],
            }
        )
        return
    out = console()
    paragraph(out, f"What becomes of the calls and the content of anthropic {version('anthropic')}")
    heading(out, "Words")
    pairs(out, [(f"  {word}", meaning) for word, meaning in _MEANINGS.items()])
    for word in _MEANINGS:
        for surface in found:
            if surface.treatment == word != "free":
                _print_surface(out, surface)
    heading(out, "Without content")
    free = [surface for surface in found if surface.treatment == "free"]
    bullets(out, [f"{', '.join(each.names)}: {len(each.calls)} calls" for each in free])
    heading(out, "Content blocks of requests, tool results and answers")
    _print_kinds(out, [kind for kind in content if kind.place != "stream"])
    heading(out, "Deltas of a stream")
    _print_kinds(out, [kind for kind in content if kind.place == "stream"])
    out.print()
    paragraph(
        out,
        "What no judge can read follows `on_uninspected`, a table by reason, and blocks by "
        f"default. In blocks that are judged, these fields are not read: {_unread(content)}.",
    )


def _as_json(surface: Surface) -> dict[str, Any]:
    return {
        "names": surface.names,
        "treatment": surface.treatment,
        "helpers": surface.helpers,
        "calls": [
            {
                "resource": item.call.resource,
                "method": item.call.method,
                "http": item.call.verb.upper(),
                "path": item.call.path,
                "treatment": item.treatment,
                "why": item.why,
            }
            for item in surface.calls
        ],
    }


def _print_surface(out: Console, surface: Surface) -> None:
    """What is sent where, grouped by why it is treated as it is; metadata only by name."""
    heading(out, f"{', '.join(surface.names)}: {surface.treatment}")
    groups: dict[tuple[Treatment, str], dict[str, list[str]]] = {}
    for item in surface.calls:
        paths = groups.setdefault((item.treatment, item.why), {})
        path = f"{item.call.verb.upper()} {_PLACEHOLDER.sub('{id}', item.call.path)}"
        paths.setdefault(path, []).append(_name(item.call))
    for (treatment, why), paths in sorted(groups.items(), key=lambda group: group[0][0] == "free"):
        if treatment == "free":
            continue
        paragraph(out, why, indent=2)
        grid = Table.grid(padding=(0, 1))
        for _ in range(3):
            grid.add_column(overflow="fold")
        for path, methods in paths.items():
            grid.add_row(text(f"  {treatment}"), text(", ".join(methods)), text(path))
        out.print(grid)
    free = [_name(item.call) for item in surface.calls if item.treatment == "free"]
    if free:
        words = ", ".join(free) if len(free) <= _NAMED else f"{len(free)} other calls"
        paragraph(out, f"free: {words}", indent=2)
    if surface.helpers:
        paragraph(out, f"by way of these calls: {', '.join(surface.helpers)}", indent=2)


def _name(call: Call) -> str:
    """Return a method as it is called on its surface: `batches.create`."""
    below = call.resource.removeprefix("beta.").partition(".")[2]
    return f"{below}.{call.method}" if below else call.method


def _print_kinds(out: Console, found: list[Kind]) -> None:
    rows: dict[str, tuple[set[str], set[str]]] = {}
    for kind in found:
        judged, reasons = rows.setdefault(kind.type, (set(), set()))
        judged.update(kind.judged_as)
        reasons.update(kind.uninspected)
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    grid.add_column("type", no_wrap=True)
    grid.add_column("judged as")
    grid.add_column("uninspected")
    for name in sorted(rows):
        grid.add_row(text(name), *(text(", ".join(sorted(each)) or "-") for each in rows[name]))
    out.print(grid)


def _unread(found: list[Kind]) -> str:
    return ", ".join(sorted({field for kind in found for field in kind.unread})) or "none"
