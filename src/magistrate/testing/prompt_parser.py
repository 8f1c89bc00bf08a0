"""A judge's prompt, read back: the proof that the subject is data. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from magistrate.judging.rubric import MARK
from magistrate.verdicts import Stage
from magistrate.wire.messages import JSON, is_array, is_object
from magistrate.wire.parts import Part

_JUDGED = re.compile(
    r"(?:Report|Screen) on the parts? (?P<labels>[p0-9, -]+) of this (?:input|output)"
)


@dataclass(frozen=True, slots=True)
class ParsedPrompt:
    """A judge's prompt, read back. `labels` maps the label of each part to its path.

    `groups` are what a screen may name; empty for a judgment, whose `clauses` and `domains` are
    what may be found. `compares`: it asks whether the new parts continue a declined turn.
    """

    stage: Stage
    parts: tuple[Part, ...]
    labels: dict[str, str]
    groups: tuple[str, ...]
    clauses: tuple[str, ...]
    domains: tuple[str, ...]
    final: bool
    answers: bool
    explain: bool = False
    compares: bool = False


def parse_prompt(body: JSON) -> ParsedPrompt | None:
    """Read a judge's prompt back; None if the request is not one of ours."""
    system = body.get("system")
    opening = system[0] if is_array(system) and system else None
    words = str(opening.get("text")) if is_object(opening) else ""
    if not words.startswith(MARK):
        return None
    schema: JSON = body["output_config"]["format"]["schema"]["properties"]
    content: list[JSON] = body["messages"][0]["content"]
    closing = str(content[-1]["text"])
    stage: Any = "output" if " this output" in closing else "input"
    parts: list[Part] = []
    labels: dict[str, str] = {}
    attached = False
    for block in content[1:-1]:
        if attached:
            bare = {key: value for key, value in block.items() if key != "cache_control"}
            parts[-1] = replace(parts[-1], attachment=bare)
            attached = False
            continue
        data = json.loads(block["text"])
        parts.append(_part(data, parts[-1] if parts else None))
        labels[data["part"]] = parts[-1].path
        attached = "attached" in data
    judged = _numbers(closing)
    parts = [replace(part, judged=i in judged) for i, part in enumerate(parts, 1)]
    finding: JSON = schema["findings"]["items"]["properties"] if "findings" in schema else {}
    return ParsedPrompt(
        stage,
        tuple(parts),
        labels,
        _offered(schema["suspected"]["items"]) if "suspected" in schema else (),
        _offered(finding["clause"]) if finding else (),
        _offered(schema["high_risk"]["items"]["properties"]["domain"])
        if "high_risk" in schema
        else (),
        "still being written" not in closing,
        "discloses_ai" in schema,
        "reason" in finding,
        "continues_declined" in schema,
    )


def _part(data: JSON, before: Part | None) -> Part:
    if "continues" in data:
        assert before is not None
        return replace(before, text=data["text"])
    return Part(
        data["path"], data["role"], data["kind"], data["text"], labels=data.get("labels") or {}
    )


def _offered(word: JSON) -> tuple[str, ...]:
    return tuple(value for value in word["enum"] if value != "none")


def _numbers(closing: str) -> frozenset[int]:
    found = _JUDGED.search(closing)
    if found is None:
        return frozenset()
    numbers: set[int] = set()
    for piece in found["labels"].split(","):
        ends = [int(label) for label in re.findall(r"p(\d+)", piece)]
        numbers.update(range(ends[0], ends[-1] + 1))
    return frozenset(numbers)
