"""What `load.py` found: tables, a JSON file, and two such files side by side in Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from load_timing import Row
from rich.console import Console
from rich.table import Table

TITLES = {
    "calls": "CPU of a call and of a stream's event",
    "turns": "CPU of a call, by the turn of its conversation (async)",
    "streams": "CPU of a stream, every window of it judged (async)",
    "judge": "CPU of the Claude judge alone: prompts and replies, without its calls",
    "crowd": "CPU of a stream, many at once",
    "peer": "openai-guardrails, one keyword, beside the openai SDK",
    "instructions": "Instructions in user space",
    "slow": "One slow judge",
    "memory": "Memory",
}


@dataclass(slots=True)
class Report:
    """Rows and facts by part, and what they were found with."""

    about: dict[str, str] = field(default_factory=dict[str, str])
    rows: list[Row] = field(default_factory=list[Row])
    facts: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    @staticmethod
    def load(path: Path) -> Report:
        found = json.loads(path.read_text("utf-8"))
        rows = [Row(**row) for row in found["rows"]]
        return Report(found["about"], rows, found["facts"])

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", "utf-8")

    def put(self, part: str, rows: list[Row], facts: dict[str, str]) -> None:
        """What a part found, in place of what it found before."""
        self.rows = [row for row in self.rows if row.part != part] + rows
        if facts:
            self.facts[part] = facts

    def of(self, part: str) -> dict[str, Row]:
        return {row.name: row for row in self.rows if row.part == part}


def show(console: Console, part: str, rows: list[Row], facts: dict[str, str]) -> None:
    """The table of a part; facts beside rows stand below it."""
    columns = _columns(rows) if rows else []
    below = [f"{name}: {value}" for name, value in facts.items()] if rows else []
    table = Table(title=TITLES[part], title_justify="left", show_header=bool(rows))
    lines = [list(fact) for fact in facts.items()]
    if rows:
        lines = [[of(row) for _, of in columns] for row in rows]
    for number, column in enumerate([name for name, _ in columns] if rows else ["", ""]):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    console.print(table, *below, "", sep="\n")


def _columns(rows: list[Row]) -> list[tuple[str, Callable[[Row], str]]]:
    """What to tell of each row: amounts, ratios to the first; where rows have them, costs by token
    and by call."""
    base, *others = rows[0].values
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("", lambda row: row.name),
        (base, lambda row: amount(row.values[base], row.unit)),
    ]
    for each in others:
        columns += [
            (each, lambda row, v=each: amount(row.values[v], row.unit)),
            ("ratio", lambda row, v=each: f"{row.ratio(v):.2f}"),
        ]
    if any(row.tokens for row in rows):
        columns += [
            (f"{v}, a token", lambda row, v=v: amount(_added(row, v) / row.tokens, row.unit))
            for v in others
        ]
    if any(row.calls for row in rows):
        columns += [
            ("judge calls", lambda row: f"{row.calls:,}" if row.calls else ""),
            ("each", lambda row: amount(_of_judge(row), row.unit) if row.calls else ""),
        ]
    return columns


def _added(row: Row, variant: str) -> float:
    return row.values[variant] - row.values[row.base]


def _of_judge(row: Row) -> float:
    """What one call of the Claude judge took: its preparation, or all that it added."""
    took = row.values.get("preparation") or row.values["claude"] - row.values["instant"]
    return took / row.calls


def amount(value: float, unit: str) -> str:
    """A number with its unit, in three digits or so."""
    if unit != "s":
        return f"{value:,.0f}"
    size = abs(value)
    if size < 1e-4:
        return f"{value * 1e6:,.1f} µs"
    if size < 1e-2:
        return f"{value * 1e6:,.0f} µs"
    return f"{value * 1e3:,.1f} ms" if size < 1 else f"{value:,.1f} s"


def compared(old: Report, new: Report) -> str:
    """Both side by side, in Markdown: amounts, and in brackets their ratio to the first variant."""
    lines: list[str] = []
    for part, title in TITLES.items():
        before, after = old.of(part), new.of(part)
        facts = old.facts.get(part, {}), new.facts.get(part, {})
        if before or after:
            some = next(iter((after or before).values()))
            heads = [f"{variant} {when}" for variant in some.values for when in ("before", "after")]
            lines += ["", f"**{title}**", "", *_head(heads)]
            for name in dict.fromkeys([*before, *after]):
                cells = [
                    _cell(found.get(name), variant)
                    for variant in some.values
                    for found in (before, after)
                ]
                lines.append(f"| {name} | {' | '.join(cells)} |")
        elif any(facts):
            lines += ["", f"**{title}**", "", *_head(["before", "after"])]
            for name in dict.fromkeys([*facts[0], *facts[1]]):
                found = [each.get(name, "–") for each in facts]
                lines.append(f"| {name} | {' | '.join(found)} |")
    about = [", ".join(report.about.values()) for report in (old, new)]
    return "\n".join([*lines[1:], "", f"Before: {about[0]}. After: {about[1]}."])


def _head(columns: list[str]) -> list[str]:
    return [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]


def _cell(row: Row | None, variant: str) -> str:
    if row is None or variant not in row.values:
        return "–"
    said = amount(row.values[variant], row.unit)
    if variant == row.base:
        return said
    token = f"; {amount(_added(row, variant) / row.tokens, row.unit)} a token" if row.tokens else ""
    return f"{said} ({row.ratio(variant):.2f}{token})"
