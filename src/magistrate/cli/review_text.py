"""Held answers as text on a terminal.

All that is printed from a review is untrusted: hidden characters are made visible, and content is
indented so that it cannot pass for a line of ours.
"""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from magistrate.storage.review_items import Review


def summary(review: Review) -> dict[str, Any]:
    return {
        "id": review.id,
        "app": review.app,
        "status": review.status,
        "domains": review.domains,
        "created_at": review.created_at.isoformat(),
        "expires_at": review.expires_at.isoformat(),
        "decided_at": review.decided_at.isoformat() if review.decided_at else None,
        "reviewer": review.reviewer,
        "note": review.note,
    }


def terminal() -> Console:
    if isinstance(out := cast("object", sys.stdout), io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")  # a narrow terminal is no reason to fail
    return Console(markup=False, highlight=False, emoji=False)


def print_line(console: Console, line: str) -> None:
    # soft_wrap: an id that is broken over two lines cannot be copied
    console.print(Text(visible(line)), soft_wrap=True)


def print_section(console: Console, title: str, parts: Iterable[tuple[str, str]]) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    for label, body in parts:
        if label:
            console.print(Padding(Text(visible(label), style="dim"), (0, 0, 0, 2)))
        # Padding indents wrapped lines too, so content never starts where our headings do.
        console.print(Padding(Text(visible(body, lines=True)), (0, 0, 0, 4)))


def dates(review: Review) -> str:
    """When it expires, and by whom it was decided if it was."""
    if review.decided_at is None:
        return f"expires {review.expires_at:%Y-%m-%d %H:%M} UTC, undecided or not"
    note = f": {review.note}" if review.note else ""
    return f"{review.status} {review.decided_at:%Y-%m-%d %H:%M} UTC by {review.reviewer}{note}"


def reasons(review: Review) -> list[tuple[str, str]]:
    decision = review.decision
    lines = [f"needs a reviewer qualified in {', '.join(review.domains)}"]
    for found in objects(decision.get("findings")):
        told = " ".join(str(found.get(key, "?")) for key in ("clause", "grade", "severity", "path"))
        evidence = found.get("evidence")
        lines.append(f"{told}: {evidence}" if evidence else told)
    lines.append(f"decision {decision.get('id')} under {decision.get('policy')}")
    return [("", line) for line in lines]


def question(request: dict[str, Any]) -> list[tuple[str, str]]:
    parts = [("system", body) for _, body in blocks(request.get("system"))]
    for turn in objects(request.get("messages")):
        role = str(turn.get("role"))
        for kind, body in blocks(turn.get("content")):
            parts.append((f"{role} {kind}".strip(), body))
    return parts


def blocks(content: object) -> list[tuple[str, str]]:
    """Return (kind, text) of content: a string, a list of blocks, or whatever else was sent."""
    if content is None or content == []:
        return []
    if not isinstance(content, list):
        return [("", content if isinstance(content, str) else _compact(content))]
    parts: list[tuple[str, str]] = []
    for block in cast("list[object]", content):
        match block:
            case {"type": "text", "text": str(words)}:
                parts.append(("", words))
            case {"type": str(kind)}:
                parts.append((kind, _compact(block)))
            case _:
                parts.append(("", _compact(block)))
    return parts


def objects(value: object) -> list[dict[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


# Categories that show nothing or change what surrounds them, and other invisible characters:
# fillers, the grapheme joiner, variation selectors.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_HIDDEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code) for code in (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
}


def visible(text: str, *, lines: bool = False) -> str:
    """Return `text` with hidden and control characters written out; newlines stay if `lines`."""
    kept = "\n\t" if lines else ""
    return "".join(
        f"<U+{ord(char):04X}>"
        if char not in kept
        and (char in _HIDDEN or unicodedata.category(char) in _HIDDEN_CATEGORIES)
        else char
        for char in (text.replace("\r\n", "\n") if lines else text)
    )
