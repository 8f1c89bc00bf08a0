"""How commands about the configuration print: plain lines, tables and problems.

Everything goes out as `rich.text.Text`, so that nothing in a file is taken for markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from magistrate.config.diagnostics import SettingsError

if TYPE_CHECKING:
    from magistrate.verdicts import Finding

UNUSABLE = 2

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]


class _Console(Console):
    """A console that leaves out the spaces with which rich fills lines up, but for terminals."""

    def print(self, *objects: Any, **options: Any) -> None:
        if self.is_terminal:
            return super().print(*objects, **options)
        with self.capture() as captured:
            super().print(*objects, **options)
        lines = captured.get().split("\n")
        self.file.write("\n".join(line.rstrip(" ") for line in lines))
        self.file.flush()


def console(*, stderr: bool = False) -> Console:
    """Return a console that adds no colours of its own to what it prints."""
    return _Console(highlight=False, stderr=stderr)


def text(words: object, style: str = "") -> Text:
    """Text from a file, with control characters made visible."""
    shown = "".join(
        char if char.isprintable() or char == "\n" else f"<U+{ord(char):04X}>"
        for char in str(words)
    )
    return Text(shown, style=style)


def heading(out: Console, words: str) -> None:
    out.print()
    out.print(text(words, "bold"))


def paragraph(out: Console, words: object, indent: int = 0) -> None:
    out.print(Padding(text(words), (0, 0, 0, indent)))


def bullets(out: Console, lines: list[str] | tuple[str, ...]) -> None:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=3, justify="right")
    grid.add_column()
    for line in lines:
        grid.add_row("-", text(line))
    out.print(grid)


def pairs(out: Console, rows: list[tuple[str, ...]]) -> None:
    """Columns without headings: what, and what about it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    for row in rows:
        grid.add_row(*(text(cell) for cell in row))
    out.print(grid)


def table(out: Console, headings: list[str], rows: list[list[str]]) -> None:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in headings:
        grid.add_column(Text(name), overflow="fold")
    for row in rows:
        grid.add_row(*(text(cell) for cell in row))
    out.print(grid)


def findings(out: Console, found: Iterable[Finding]) -> None:
    """Two lines a finding: in a table, its id would be broken in a narrow terminal."""
    for each in found:
        out.print(text(f"{each.clause}  {each.grade}, {each.severity}"), soft_wrap=True)
        quote = f': "{each.evidence}"' if each.evidence else ""
        paragraph(out, f"in {each.path}{quote}", indent=2)


def print_json(data: dict[str, Any]) -> None:
    json.dump(data, sys.stdout, indent=2, ensure_ascii=True)
    sys.stdout.write("\n")


def refuse(error: SettingsError, as_json: bool) -> NoReturn:
    """Print every problem and exit; long lines stay whole, so that editors find the place."""
    if as_json:
        names = ("file", "line", "column", "path", "message")
        problems = [{name: getattr(problem, name) for name in names} for problem in error.problems]
        print_json({"ok": False, "problems": problems})
    else:
        out = console(stderr=True)
        for problem in error.problems:
            out.print(text(problem), soft_wrap=True)
        count = len(error.problems)
        out.print(text(f"\n{count} problem{'s' if count != 1 else ''} found."))
    raise typer.Exit(UNUSABLE)
