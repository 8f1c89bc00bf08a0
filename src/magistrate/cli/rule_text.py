"""One rule of the policy as text on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from magistrate.cli.printing import bullets, heading, pairs, paragraph, table
from magistrate.policy import Clause, DisclosureRule, HighRiskUse, PolicyException, Section
from magistrate.settings import Settings

Rule = Section | Clause | PolicyException | HighRiskUse | DisclosureRule

_STAGES = {"input": "requests", "output": "answers"}


def print_rule(out: Console, settings: Settings, rule: Rule, found: dict[str, Any]) -> None:
    heading(out, f"{rule.title} ({found['kind']} {rule.id})")
    if not isinstance(rule, Section):
        paragraph(out, rule.rule)
    if found["source"]:
        paragraph(out, f"Source: {found['source']}")
    match rule:
        case Section():
            _print_section(out, rule, found)
        case Clause():
            _print_clause(out, rule, found)
        case PolicyException():
            _print_exception(out, settings, rule)
        case HighRiskUse():
            _print_use(out, rule, found)
        case DisclosureRule():
            _print_duty(out, rule, found)
    out.print()


def _print_section(out: Console, section: Section, found: dict[str, Any]) -> None:
    heading(out, "Clauses, and what happens on a finding")
    rows = [
        [
            clause["id"].partition(".")[2],
            clause["stages"].get("input", {}).get("action", "-"),
            clause["stages"].get("output", {}).get("action", "-"),
            f"{clause['from_grade']['value']}, {clause['from_severity']['value']}",
            clause["floor"] or "-",
        ]
        for clause in found["clauses"]
    ]
    headings = [f"{section.id}.", "request", "answer", "from grade, severity", "floor"]
    table(out, headings, rows)
    if section.exceptions:
        heading(out, "Exceptions")
        bullets(out, [f"{exception.id}: {exception.title}" for exception in section.exceptions])


def _print_clause(out: Console, clause: Clause, found: dict[str, Any]) -> None:
    _print_scope(out, clause)
    heading(out, "Severity")
    pairs(out, [(f"  {level}", words) for level, words in clause.severity.items()])
    heading(out, "What it takes to show it")
    paragraph(out, found["evidence_means"], indent=2)
    if clause.examples:
        heading(out, "Examples")
        for example in clause.examples:
            pairs(out, [("  violates", example.violates), ("  does not", example.does_not)])
    now = found["effective"]
    heading(out, "What happens under this configuration")
    rows = [
        (f"  {_STAGES[stage]}", row["action"], f"decided by {row['decided_by']}")
        for stage, row in now["stages"].items()
    ]
    for name in ("from_grade", "from_severity"):
        row = now[name]
        rows.append((f"  {name}", row["value"], f"decided by {row['decided_by']}"))
    pairs(out, rows)
    unjudged = [words for stage, words in _STAGES.items() if stage not in clause.stages]
    if unjudged:
        paragraph(out, f"It is not looked for in {unjudged[0]}.", indent=2)
    if now["floor"]:
        floor = f"Floor: a finding that is at least likely and at least {now['floor']} is blocked"
        paragraph(out, f"{floor} whatever the settings say.", indent=2)


def _print_scope(out: Console, rule: Clause | HighRiskUse) -> None:
    for words, lines in (("Counts", rule.counts), ("Does not count", rule.does_not_count)):
        if lines:
            heading(out, words)
            bullets(out, lines)


def _conditions(facts: Mapping[str, Any]) -> list[str]:
    return [
        f"app.{name}: {' or '.join(str(value).lower() for value in values)}"
        for name, values in facts.items()
    ]


def _print_exception(out: Console, settings: Settings, exception: PolicyException) -> None:
    heading(out, "Permits what these clauses prohibit")
    bullets(out, exception.applies_to)
    heading(out, "To apps that declare")
    bullets(out, _conditions(exception.requires))
    here = "applies" if exception.permitted_to(settings.app) else "does not apply"
    paragraph(out, f"Under this configuration it {here}.")


def _print_use(out: Console, use: HighRiskUse, found: dict[str, Any]) -> None:
    _print_scope(out, use)
    heading(out, "What it asks of an integration")
    lines: list[str] = []
    if "human_review" in use.requirements:
        kinds = ", ".join(use.review_for)
        lines.append(f"A qualified person reviews before release: {kinds}.")
        lines += [f"Only if {condition}." for condition in _conditions(use.applies_when)]
    if "disclosure" in use.requirements:
        lines.append("People are told that AI helped.")
    bullets(out, lines)
    heading(out, "Under this configuration")
    if not found["declared"]:
        words = "It is not declared in app.high_risk: answers in this domain lead to a warning."
    elif found["may_owe_review"]:
        words = f"Such answers are held. Released by: {', '.join(found['reviewers'])}."
    else:
        words = "It is declared, but no answer of this app owes review."
    paragraph(out, words, indent=2)


def _print_duty(out: Console, duty: DisclosureRule, found: dict[str, Any]) -> None:
    heading(out, "Applies to apps that declare")
    bullets(out, _conditions(duty.when))
    heading(out, "Under this configuration")
    if not found["owed_here"]:
        paragraph(out, "It does not apply.", indent=2)
        return
    if found["disclosure"]["text"]:
        paragraph(out, f'"{found["disclosure"]["text"]}"', indent=2)
    paragraph(out, found["disclosure"]["words"], indent=2)
