"""Turn a judge's reply into a verdict, or into the reason why there is none.

Pure. The reply comes from a model that has just read hostile text, so it is checked as untrusted
input: an unknown clause, a missing field or prose around the JSON makes it unusable, not "safe".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from magistrate.judging.prices import priced
from magistrate.judging.reply_schema import NOTHING
from magistrate.judging.rubric import Rubric
from magistrate.text.reading import Reading, reading
from magistrate.verdicts import (
    AnswerKind,
    Failure,
    Finding,
    Grade,
    HighRiskAnswer,
    JudgeInfo,
    Outcome,
    Screened,
    Severity,
    Stage,
    Unavailable,
    Usage,
    Verdict,
)
from magistrate.wire.messages import JSON, blocks, is_object, unique_keys
from magistrate.wire.parts import Part


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Finding(_Strict):
    clause: str
    grade: Grade
    severity: Severity
    part: str
    quote: str


class _Explained(_Finding):
    reason: str


class _Answer(_Strict):
    domain: str
    kind: AnswerKind
    individual: bool


class _Findings(_Strict):
    findings: list[_Finding]


class _ExplainedFindings(_Strict):
    findings: list[_Explained]


class _Report(_Findings):
    high_risk: list[_Answer]
    discloses_ai: bool


class _ExplainedReport(_ExplainedFindings):
    high_risk: list[_Answer]
    discloses_ai: bool


class _Comparison(_Strict):
    continues_declined: bool


class _Screen(_Strict):
    suspected: list[str]
    discloses_ai: bool


def _shape(rubric: Rubric) -> type[_Strict]:
    """Return the pydantic model of the reply that a rubric asks for."""
    if rubric.compares:
        return _Comparison
    if rubric.screens:
        return _Screen
    if rubric.answers:
        return _ExplainedReport if rubric.explain else _Report
    return _ExplainedFindings if rubric.explain else _Findings


# Stop reasons with which the reply is not complete.
_CUT_SHORT: Mapping[str, Failure] = {
    "refusal": "refused",
    "max_tokens": "truncated",
    "model_context_window_exceeded": "too_long",
}


def read_reply(
    message: JSON,
    judge: JudgeInfo,
    rubric: Rubric,
    parts: Mapping[str, Part],
    read: Callable[[str], Reading] = reading,
) -> Outcome | Screened:
    """Read one Messages API message as the reply to a rubric, about a subject with these parts.

    A quote that does not occur in the part it names is dropped and counted; the finding stays.
    `read` is the function that read the parts for disguises.
    """
    judge = replace(judge, model=str(message.get("model") or judge.model))
    usage = read_usage(message, judge.model)
    if (reason := _CUT_SHORT.get(str(message.get("stop_reason")))) is not None:
        details = message.get("stop_details")
        category = details.get("category") if is_object(details) else None
        return Unavailable(reason, judge, f"category {category}" if category else "", usage)
    said = "".join(
        str(block.get("text") or "")
        for block in blocks(message.get("content"))
        if is_object(block) and block.get("type") == "text"
    )
    try:
        report = _shape(rubric).model_validate_json(said)
        json.loads(said, object_pairs_hook=unique_keys)
    except ValidationError as error:
        # The kind of error only: its text quotes the reply, and the reply quotes the subject.
        return Unavailable("unparseable", judge, error.errors()[0]["type"], usage)
    except ValueError:
        return Unavailable("unparseable", judge, "a duplicate key", usage)
    if isinstance(report, _Comparison):
        return Verdict(judge, usage=usage, continues_declined=report.continues_declined)
    if isinstance(report, _Screen):
        if not set(report.suspected) <= set(rubric.groups):
            return Unavailable("unparseable", judge, "a group that was not on offer", usage)
        suspected = tuple(group for group in rubric.groups if group in report.suspected)
        return Screened(judge, suspected, report.discloses_ai, usage)
    assert isinstance(report, _Findings | _ExplainedFindings)
    answers = report.high_risk if isinstance(report, _Report | _ExplainedReport) else []
    discloses = isinstance(report, _Report | _ExplainedReport) and report.discloses_ai
    # If there is nothing to choose from, the schema offers only `NOTHING`; some models write it.
    findings = [each for each in report.findings if rubric.clauses or each.clause != NOTHING]
    answers = [each for each in answers if rubric.domains or each.domain != NOTHING]
    if any(found.clause not in rubric.clauses for found in findings):
        return Unavailable("unparseable", judge, "a clause that was not on offer", usage)
    if any(answer.domain not in rubric.domains for answer in answers):
        return Unavailable("unparseable", judge, "a domain that was not on offer", usage)
    read_once = cache(read)  # many findings can name the same part
    found = [_finding(each, rubric.stage, parts, read_once) for each in findings]
    dropped = sum(
        bool(each.quote) and made.evidence is None
        for each, made in zip(findings, found, strict=True)
    )
    return Verdict(
        judge,
        tuple(made for made in found if made.grade != "none"),
        tuple(HighRiskAnswer(a.domain, a.kind, a.individual) for a in answers),
        discloses,
        usage,
        dropped,
    )


def _finding(
    found: _Finding, stage: Stage, parts: Mapping[str, Part], read: Callable[[str], Reading]
) -> Finding:
    part = parts.get(found.part)
    path = part.path if part else ("request" if stage == "input" else "response")
    quote = found.quote if part and found.quote and _occurs(found.quote, part, read) else None
    reason = found.reason if isinstance(found, _Explained) else None
    return Finding(found.clause, found.grade, found.severity, stage, path, quote, reason)


def _occurs(quote: str, part: Part, read: Callable[[str], Reading]) -> bool:
    """Return whether a quote is in a part as sent, or in its decoded forms that the judge saw."""
    if quote in part.text or any(quote in value for value in part.labels.values()):
        return True
    shown = read(part.text)
    views = [shown.normalised or "", *(text for _, text in shown.decoded)]
    return any(quote in view for view in views)


def read_usage(message: JSON, model: str | None) -> Usage:
    """Return the tokens of one judge call, as the API counted them, and their cost, if known."""
    found = message.get("usage")
    counts: JSON = found if is_object(found) else {}

    def count(name: str) -> int:
        value: Any = counts.get(name)
        return value if isinstance(value, int) else 0

    usage = Usage(
        judge_calls=1,
        input_tokens=count("input_tokens"),
        output_tokens=count("output_tokens"),
        cache_write_tokens=count("cache_creation_input_tokens"),
        cache_read_tokens=count("cache_read_input_tokens"),
    )
    return priced(usage, model)
