"""The cases of a report, as the data that its page renders on demand. Pure.

All text of a case is hostile: here it stays plain data, and the page shows it as text only. How a
judgment came out is said here too, by the rules of `metrics`, so that the page decides nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from magistrate.evals.cases import Case, Label
from magistrate.evals.metrics.action_metrics import decided, expected, handled, level_of
from magistrate.evals.metrics.compare import Comparison
from magistrate.evals.metrics.levels import FAILED, LEVELS, detected
from magistrate.evals.metrics.measures import label_of
from magistrate.evals.results import Result
from magistrate.evals.run_folder import Run
from magistrate.policy import Policy
from magistrate.wire.messages import JSON, blocks, is_object

OutcomeWord = Literal["right", "missed", "alarm", "failed", "unlabelled"]
LONGEST_DATA = 2_000  # characters of one string in a block that is no text; base64, mostly
HIDDEN_FROM_FLOOR = "low"


def sensitive_clauses(policy: Policy, also: Collection[str] = ()) -> frozenset[str]:
    """Return the clauses whose cases are shown only when asked for.

    Those with a floor at every severity, which a policy gives to matters that should
    not be shown by chance; and those that `also` names, by their own id or that of their section.
    """
    return frozenset(
        clause.id
        for section in policy.groups
        for clause in section.clauses
        if clause.floor == HIDDEN_FROM_FLOOR or clause.id in also or section.id in also
    )


def case_data(
    runs: Sequence[Run], comparison: Comparison | None, sensitive: Collection[str] = ()
) -> JSON:
    """Return all cases of one or two runs, with what was judged and what the rules say, as JSON.

    A case whose content or labels differ between the runs has two entries.
    """
    rows = _rows(runs)
    policies = [run.settings.policy for run in runs]
    hidden = frozenset[str]().union(*(sensitive_clauses(each, sensitive) for each in policies))
    scopes = [_Scopes.of(each) for each in policies]
    changes = {flip.case: flip.change for flip in comparison.flips} if comparison else {}
    pairs: defaultdict[str, list[str]] = defaultdict(list)
    for at in rows:
        if at.case.pair is not None and at.case.id not in pairs[at.case.pair]:
            pairs[at.case.pair].append(at.case.id)
    return {
        "cases": [
            _row(at, scopes, hidden)
            | _set(
                twin=[id for id in pairs[at.case.pair or ""] if id != at.case.id],
                change=changes.get(at.case.id) if all(at.judged) else None,
            )
            for at in rows
        ],
        "clauses": _rubrics(policies),
        "sections": {s.id: s.title for each in policies for s in each.groups},
        "runs": [run.name for run in runs],
    }


def embedded(data: JSON) -> str:
    """JSON that is safe in a script element: nothing in it can end the element or begin a tag.

    A half of a surrogate pair stays as it is; whoever writes the page escapes it, which is the same
    to JSON.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


@dataclass(slots=True)
class _At:
    """One row: a case, and its results in each run, by repeat."""

    case: Case
    judged: list[list[Result]] = field(default_factory=list[list[Result]])


def _rows(runs: Sequence[Run]) -> list[_At]:
    rows: dict[tuple[str, str], _At] = {}
    for number, run in enumerate(runs):
        results: defaultdict[str, list[Result]] = defaultdict(list)
        for result in run.results:
            results[result.case].append(result)
        for case in run.cases:
            key = (case.id, case.hash if len(runs) > 1 else "")
            at = rows.setdefault(key, _At(case, [[] for _ in runs]))
            at.judged[number] = sorted(results[case.id], key=lambda result: result.repeat)
    return list(rows.values())


@dataclass(frozen=True, slots=True)
class _Scopes:
    """What a case can be asked about, apart from anything at all: sections and clauses."""

    clauses: Mapping[str, frozenset[str]]
    section_of: Mapping[str, str]

    @classmethod
    def of(cls, policy: Policy) -> _Scopes:
        sections = {s.id: frozenset(clause.id for clause in s.clauses) for s in policy.groups}
        return cls(
            sections | {id: frozenset([id]) for id in policy.clauses},
            {id: policy.section_of(id).id for id in policy.clauses},
        )

    def touched(self, case: Case, result: Result | None) -> Iterator[str]:
        """Yield the sections and clauses that a case names or the judge flagged."""
        found = result.verdict.findings if result and result.verdict else ()
        named = dict.fromkeys([*case.labels, *(f.clause for f in found if f.grade != "none")])
        known = [clause for clause in named if clause in self.section_of]
        whole = [name for name in case.sections if name in self.clauses]
        yield from dict.fromkeys([*(self.section_of[clause] for clause in known), *whole])
        yield from known


def outcome(
    case: Case,
    result: Result,
    clauses: Collection[str] | None = None,
    section: str | None = None,
) -> OutcomeWord | None:
    """Return the outcome of a judgment about these clauses; None: about any. See `label_of`.

    None where neither the labels nor the judge say anything about them.
    """
    level = level_of(result, clauses)
    label = label_of(case, clauses, section) if clauses is not None else _whole(case)
    if level == FAILED:
        return "failed"
    if label is None:
        return "unlabelled" if detected(level) else None
    if detected(level) == (label == "violated"):
        return "right"
    return "missed" if label == "violated" else "alarm"


def _whole(case: Case) -> Label | None:
    return None if case.violates is None else "violated" if case.violates else "ok"


def _row(at: _At, scopes: Sequence[_Scopes], hidden: frozenset[str]) -> JSON:
    case = at.case
    found = {
        f.clause
        for judged in at.judged
        for result in judged
        if result.verdict
        for f in result.verdict.findings
        if f.grade != "none"
    }
    return {
        "id": case.id,
        "stage": case.stage,
        "split": case.split,
        "labels": case.labels | case.sections,
        "violates": case.violates,
        "expected": expected(case),
        "said": list(_said(case)),
        "runs": [_judged(case, *each) for each in zip(at.judged, scopes, strict=True)],
    } | _set(
        severity=case.severity,
        tags=case.tags,
        slices=case.slices,
        pair=case.pair,
        note=case.note,
        contested=case.contested,
        high_risk=[answered.model_dump(mode="json") for answered in case.high_risk],
        app=case.app.model_dump(mode="json", exclude_defaults=True) if case.app else None,
        sensitive=not hidden.isdisjoint({*case.labels, *found})
        or any(
            not hidden.isdisjoint(scope.clauses.get(s, ()))
            for s in case.sections
            for scope in scopes
        ),
    )


def _judged(case: Case, judged: Sequence[Result], scopes: _Scopes) -> JSON | None:
    """Return one run's judgment of a case, the first repeat; None if there is none."""
    if not judged:
        return None
    first = judged[0]
    touched = dict.fromkeys(scopes.touched(case, first))
    return {
        "outcome": outcome(case, first),
        "about": _set(
            **{name: outcome(case, first, scopes.clauses[name], name) for name in touched}
        ),
        "decided": decided(first),
        "judged": [_result(result) for result in judged],
    } | _set(
        flipped=len({(detected(level_of(r)), handled(r)) for r in judged if r.verdict}) > 1
        or len({handled(r) for r in judged}) > 1
    )


def _result(result: Result) -> JSON:
    verdict = result.verdict
    data: JSON = {
        "action": handled(result),
        "level": LEVELS[level_of(result)],
        "ms": None if result.latency_ms is None else round(result.latency_ms),
    }
    if verdict is None:
        return data | _set(failed=result.ended, detail=getattr(result.outcome, "detail", ""))
    return data | _set(
        findings=[
            {"clause": f.clause, "grade": f.grade, "severity": f.severity, "path": f.path}
            | _set(evidence=f.evidence, reason=f.reason)
            for f in verdict.findings
        ],
        high_risk=[
            {"domain": a.domain, "kind": a.kind, "individual": a.individual}
            for a in verdict.high_risk
        ],
        discloses_ai=verdict.discloses_ai,
        dropped_quotes=verdict.dropped_quotes,
        refusals=verdict.refusals,
    )


def _set(**values: Any) -> JSON:
    """Only fields with a value: of 10,000 cases most lack most fields."""
    return {name: value for name, value in values.items() if value}


def _said(case: Case) -> Iterator[JSON]:
    """Everything that was said, in order, each part with who said it."""
    if case.system is not None:
        yield from _parts("system", case.system)
    if case.tools is not None:
        yield {"who": "tools", "text": _pretty(case.tools)}
    for turn in cast("list[JSON]", case.request["messages"]):
        yield from _parts(str(turn["role"]), turn["content"])
    if case.response is not None:
        yield from _parts("answer", case.answer["content"])


def _parts(who: str, content: object) -> Iterator[JSON]:
    for block in blocks(content):
        if is_object(block) and block.get("type") == "text":
            yield {"who": who, "text": str(block.get("text", ""))}
        else:
            kind = str(block.get("type", "")) if is_object(block) else ""
            yield {"who": who, "kind": kind or "unknown", "text": _pretty(block)}


def _pretty(value: object) -> str:
    return json.dumps(_shortened(value), indent=2, ensure_ascii=False)


def _shortened(value: object) -> object:
    if isinstance(value, str) and len(value) > LONGEST_DATA:
        return f"{value[:LONGEST_DATA]}… [{len(value):,} characters]"
    if isinstance(value, dict):
        return {k: _shortened(v) for k, v in cast("JSON", value).items()}
    if isinstance(value, list):
        return [_shortened(item) for item in cast("list[object]", value)]
    return value


def _rubrics(policies: Sequence[Policy]) -> dict[str, list[JSON]]:
    """Return the policy's text of each clause; two entries where the runs' policies differ."""
    found: defaultdict[str, list[JSON]] = defaultdict(list)
    for policy in policies:
        for id, clause in policy.clauses.items():
            rubric: JSON = {
                "title": clause.title,
                "rule": clause.rule,
                "policy": policy.ref,
            } | _set(
                counts=clause.counts,
                does_not_count=clause.does_not_count,
                severity=clause.severity,
                floor=clause.floor,
                section=policy.section_of(id).id,
            )
            if all(rubric | {"policy": ""} != known | {"policy": ""} for known in found[id]):
                found[id].append(rubric)
    return dict(found)
