"""What the parts of a case, and the cases of a suite, demand of one another. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from magistrate.config.diagnostics import Problem, Where, nearest
from magistrate.config.yaml_document import Document
from magistrate.evals.cases import Case
from magistrate.policy import Policy


@dataclass(frozen=True, slots=True)
class Placed:
    """A case and its place in its file. `case` is None where it cannot be read."""

    document: Document
    where: Where
    case: Case | None

    def problem(self, message: str, *inside: str | int) -> Problem:
        return self.document.problem((*self.where, *inside), message)


def violations(item: Placed, case: Case, policy: Policy) -> Iterator[Problem]:
    for clause in case.labels:
        known = policy.clauses.get(clause)
        if known is None:
            close = nearest(clause, policy.clauses)
            if clause in {section.id for section in policy.groups}:
                close = "; a whole section is labelled under `sections`"
            yield item.problem(f"'{clause}' is no clause of {policy.ref}{close}", "labels", clause)
        elif case.stage not in known.stages:
            message = f"{clause} is not judged at the stage {case.stage}"
            yield item.problem(message, "labels", clause)
    sections = {section.id: section for section in policy.groups}
    for name, label in case.sections.items():
        if name not in sections:
            close = nearest(name, sections)
            yield item.problem(f"'{name}' is no section of {policy.ref}{close}", "sections", name)
            continue
        clauses = sections[name].clauses
        if not any(case.stage in clause.stages for clause in clauses):
            message = f"no clause of {name} is judged at the stage {case.stage}"
            yield item.problem(message, "sections", name)
        for clause in clauses:
            if label == "ok" and case.labels.get(clause.id) == "violated":
                message = f"{clause.id} is violated, so its section cannot be ok"
                yield item.problem(message, "sections", name)
    domains = [use.id for use in policy.high_risk]
    for index, answered in enumerate(case.high_risk):
        if answered.domain not in domains:
            close = nearest(answered.domain, domains)
            message = f"'{answered.domain}' is no high-risk use of {policy.ref}{close}"
            yield item.problem(message, "high_risk", index)
    last = next(iter(case.messages[-1]))
    if case.stage == "output" and case.response is None:
        yield item.problem("stage output needs the answer under `response`", "stage")
    if case.stage == "output" and last != "user":
        yield item.problem("the last message must be the user's: `response` answers it", "messages")
    if case.stage == "input":
        for key in ("response", "high_risk", "discloses_ai", "disclosure"):
            if getattr(case, key):
                yield item.problem(f"`{key}` belongs to stage output", key)
    for number, turn in enumerate(case.declined):
        if case.stage != "input" or not 0 <= turn < len(case.messages) - 1:
            message = "names an earlier message of a case of stage input, from 0"
            yield item.problem(message, "declined", number)
        elif "user" not in case.messages[turn]:
            yield item.problem(f"message {turn} is not the user's", "declined", number)
    if case.continues_declined and not case.declined:
        message = "nothing was declined: name the message under `declined`"
        yield item.problem(message, "continues_declined")
    if case.continues_declined and case.declined and not case.violates:
        message = "what was declined is asked for again: label it `overall: violated`"
        yield item.problem(message, "continues_declined")
    if case.overall in ("ok", "unknown"):
        for kind, labels in (("clause", case.labels), ("section", case.sections)):
            if "violated" in labels.values():
                message = f"a {kind} is violated, so `overall` can only be violated"
                yield item.problem(message, "overall")
    if case.severity is None and case.violates:
        yield item.problem("a case that violates a clause needs its `severity`", "labels")
    if case.severity is not None and not case.violates:
        yield item.problem("`severity` is that of a violation; there is none here", "severity")


def conflicts(placed: Sequence[Placed]) -> Iterator[Problem]:
    by_id: dict[str, Placed] = {}
    pairs: defaultdict[str, list[Placed]] = defaultdict(list)
    for item in placed:
        case = cast("Case", item.case)
        if (first := by_id.setdefault(case.id, item)) is not item:
            where = first.problem("")
            place = f"{where.file}:{where.line}" if where.line else where.file
            yield item.problem(f"the id '{case.id}' is taken by {place}", "id")
        if case.pair is not None:
            pairs[case.pair].append(item)
    for name, items in pairs.items():
        cases = [cast("Case", item.case) for item in items]
        first, one = items[0], cases[0]
        if len(items) != 2:
            has = "no twin" if len(items) == 1 else f"{len(items)} cases"
            yield first.problem(f"{one.id}: the pair '{name}' has {has}; a pair has two", "pair")
            continue
        other = cases[1]
        if one.split != other.split:
            message = f"{one.id} and {other.id} are a pair; they belong to one split"
            yield items[1].problem(message, "split")
        if one.stage != other.stage:
            message = f"{one.id} and {other.id} are a pair; they belong to one stage"
            yield items[1].problem(message, "stage")
        if one.benign == other.benign and (one.action, one.disclosure, one.high_risk) == (
            other.action,
            other.disclosure,
            other.high_risk,
        ):
            message = f"{one.id} and {other.id} are a pair, but nothing expected of them differs"
            yield items[1].problem(message, "pair")
