"""What each client said in each case, to be printed at the end."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One case. `asked`: requests of the client; `calls`: those that reached the model."""

    client: str
    way: str
    outcome: str
    asked: int
    calls: int
    said: str


ROWS: list[Row] = []


def note(client: str, way: str, outcome: str, calls: int, asked: int, got: Any) -> None:
    """Keep what a client made of an answer."""
    said = [_short(f"error {got.status or ''}".rstrip() + f": {got.error}") if got.error else ""]
    said += [f"ran {name}({json.dumps(given)})" for name, given in got.calls]
    said += [f"value {json.dumps(got.value)}" if got.value is not None else ""]
    said += [_short(got.text) if got.text not in (got.error or "") else ""]
    said += [f"[{got.stop}]" if got.stop else ""]
    ROWS.append(Row(client, way, outcome, asked, calls, " | ".join(filter(None, said))))


_ID = re.compile(r"dec_[\w-]{16}|(req|msg)_sim_\d+|127\.0\.0\.1:\d+")


def _short(text: str) -> str:
    """Return a text on one line, its middle left out where it is long; names of ids are short."""
    text = " ".join(_ID.sub(lambda found: found[0][:4] + "…", text).split())
    return text if len(text) <= 170 else f"{text[:110]} … {text[-50:]}"


def lines() -> list[str]:
    """Return the table, the cases of a client together."""
    rows = sorted(ROWS, key=lambda row: row.client)
    shown = [("client", "way", "outcome", "asked", "model", "what it said")]
    shown += [(r.client, r.way, r.outcome, str(r.asked), str(r.calls), r.said) for r in rows]
    widths = [max(len(row[at]) for row in shown) for at in range(5)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]])
        for row in shown
    ]
