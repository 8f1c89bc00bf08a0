"""Cells and tables of a report, as values. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

LETTERS = ("A", "B")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cell:
    """The content of a cell; `href` is a place in the page; `number` aligns it as one."""

    text: str
    href: str | None = None
    number: bool = False
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row is its heading. `note` explains it below."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def row(*cells: Cell | str) -> tuple[Cell, ...]:
    """Return a row: plain text where no cell is given."""
    return tuple(Cell(cell) if isinstance(cell, str) else cell for cell in cells)


def n(value: int, **filters: str) -> Cell:
    """Return a count; with filters, a link to the cases that were counted, if there are any."""
    return Cell(f"{value:,}", cases(**filters) if filters and value else None, number=True)


def num(text: str) -> Cell:
    return Cell(text, number=True)


def cases(**filters: str) -> str:
    """Return the address, in the page, of the cases that filters leave."""
    return "#" + urlencode(filters)


def per_run(name: str, runs: Sequence[object]) -> list[str]:
    """Return a column's heading, once for each run."""
    return [name] if len(runs) == 1 else [f"{name}, {LETTERS[at]}" for at in range(len(runs))]


def across(items: Sequence[T], *makers: Callable[[T], str]) -> list[Cell]:
    """Return cells of each maker for each run."""
    return [num(make(item)) for make in makers for item in items]
