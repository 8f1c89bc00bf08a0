"""From a judge's reply to a verdict, or to the reason why there is none.

Pure. The reply comes from a model that has just read hostile text, so it is checked as untrusted
input: an unknown clause, a missing field or prose around the JSON makes it unusable, not "safe".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from magistrate.messages import JSON, blocks, is_object
from magistrate.subjects import Part
from magistrate.verdicts import (
    AnswerKind,
    Failure,
    Finding,
    Grade,
    HighRiskAnswer,
    JudgeInfo,
    Outcome,
    Severity,
    Stage,
    Unavailable,
    Usage,
    Verdict,
)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Finding(_Strict):
    clause: str
    grade: Grade
    severity: Severity
    part: str
    quote: str


class _Answer(_Strict):
    domain: str
    kind: AnswerKind
    individual: bool


class _Report(_Strict):
    findings: list[_Finding]
    high_risk: list[_Answer]
    discloses_ai: bool


# Stop reasons under which the reply is not the judge's whole word.
_CUT_SHORT: Mapping[str, Failure] = {
    "refusal": "refused",
    "max_tokens": "truncated",
    "model_context_window_exceeded": "too_long",
}


def read_reply(
    message: JSON,
    judge: JudgeInfo,
    *,
    stage: Stage,
    clauses: Iterable[str],
    domains: Iterable[str],
    parts: Mapping[str, Part],
) -> Outcome:
    """Read one Messages API message as the judge's report on a subject with these parts.

    A quote that does not occur in the part it names is dropped; the finding stays.
    """
    usage = read_usage(message)
    judge = replace(judge, model=str(message.get("model") or judge.model))
    if (reason := _CUT_SHORT.get(str(message.get("stop_reason")))) is not None:
        details = message.get("stop_details")
        category = details.get("category") if is_object(details) else None
        return Unavailable(reason, judge, f"category {category}" if category else "", usage)
    texts = [
        str(block.get("text") or "")
        for block in blocks(message.get("content"))
        if is_object(block) and block.get("type") == "text"
    ]
    try:
        report = _Report.model_validate_json("".join(texts))
        json.loads("".join(texts), object_pairs_hook=_each_once)
    except ValidationError as error:
        # The kind of error only: its text quotes the reply, and the reply quotes the subject.
        return Unavailable("unparseable", judge, error.errors()[0]["type"], usage)
    except ValueError:
        return Unavailable("unparseable", judge, "a key that stands twice", usage)
    known, fields = set(clauses), set(domains)
    if any(found.clause not in known for found in report.findings):
        return Unavailable("unparseable", judge, "a clause that was not on offer", usage)
    if any(answer.domain not in fields for answer in report.high_risk):
        return Unavailable("unparseable", judge, "a domain that was not on offer", usage)
    return Verdict(
        judge,
        tuple(_finding(found, stage, parts) for found in report.findings if found.grade != "none"),
        tuple(HighRiskAnswer(a.domain, a.kind, a.individual) for a in report.high_risk),
        report.discloses_ai,
        usage,
    )


def _each_once(pairs: list[tuple[str, Any]]) -> JSON:
    """A JSON object; of two values for one key, no reader could say which the judge meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _finding(found: _Finding, stage: Stage, parts: Mapping[str, Part]) -> Finding:
    part = parts.get(found.part)
    path = part.path if part else ("request" if stage == "input" else "response")
    quote = found.quote if part and found.quote and found.quote in part.text else None
    return Finding(found.clause, found.grade, found.severity, stage, path, quote)


def read_usage(message: JSON) -> Usage:
    """The tokens one judge call took, as the API counted them. Prices are not known here."""
    found = message.get("usage")
    counts: JSON = found if is_object(found) else {}

    def count(name: str) -> int:
        value: Any = counts.get(name)
        return value if isinstance(value, int) else 0

    return Usage(
        judge_calls=1,
        input_tokens=count("input_tokens"),
        output_tokens=count("output_tokens"),
        cache_write_tokens=count("cache_creation_input_tokens"),
        cache_read_tokens=count("cache_read_input_tokens"),
    )
