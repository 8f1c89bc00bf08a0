"""`magistrate explain`: one rule in plain words, and what the configuration makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from magistrate.cli.printing import (
    UNUSABLE,
    AsJson,
    bullets,
    console,
    heading,
    pairs,
    paragraph,
    print_json,
    refuse,
    table,
    text,
)
from magistrate.cli.summary import EVIDENCE, disclosure, effective, holding
from magistrate.policy import (
    Clause,
    DisclosureRule,
    HighRiskUse,
    Policy,
    PolicyException,
    Section,
    Source,
)
from magistrate.settings import Settings, SettingsError

Rule = Section | Clause | PolicyException | HighRiskUse | DisclosureRule

_STAGES = {"input": "requests", "output": "answers"}
_KINDS = {
    Section: "section",
    Clause: "clause",
    PolicyException: "exception",
    HighRiskUse: "high-risk use",
    DisclosureRule: "disclosure rule",
}


def explain(
    rule: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]",
            help="A clause, section, exception, high-risk use or disclosure rule. "
            "Without it: all ids.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The magistrate.yaml to explain it under."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain a rule of the policy, and what the configuration makes of it.

    Exit codes: 0 done; 2 there is no such rule, or the configuration is wrong.
    """
    try:
        settings = Settings.load(config)
    except SettingsError as error:
        refuse(error, as_json)
    if rule is None:
        _print_index(settings.policy, as_json)
        return
    rules = _rules(settings.policy)
    if rule not in rules:
        _refuse_unknown(rule, rules, as_json)
    found = describe(settings, rules[rule])
    if as_json:
        print_json(found)
    else:
        _print(console(), settings, rules[rule], found)


def describe(settings: Settings, rule: Rule) -> dict[str, Any]:
    """The rule and what the settings make of it, as JSON."""
    policy = settings.policy
    found: dict[str, Any] = {"kind": _KINDS[type(rule)], "policy": policy.ref}
    if isinstance(rule, Section):
        found |= {"id": rule.id, "title": rule.title}
        found["clauses"] = [
            {"id": clause.id, "title": clause.title, **effective(settings, clause)}
            for clause in rule.clauses
        ]
        found["exceptions"] = [exception.id for exception in rule.exceptions]
    else:
        found |= rule.model_dump(mode="json", exclude={"source"})
    match rule:
        case Clause():
            found["effective"] = effective(settings, rule)
            found["evidence_means"] = EVIDENCE[rule.evidence]
        case PolicyException():
            found["applies_here"] = rule.permitted_to(settings.app)
        case HighRiskUse():
            declared = settings.app is not None and rule.id in settings.app.high_risk
            found["declared"] = declared
            found["may_owe_review"] = declared and rule.may_owe_review(settings.app)
            found["reviewers"] = holding(settings)["released_by"].get(rule.id, [])
        case DisclosureRule():
            found["owed_here"] = rule.owed_by(settings.app)
            found["disclosure"] = disclosure(settings)
        case Section():
            pass
    found["source"] = _source(policy, rule.source)
    return found


def _rules(policy: Policy) -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for section in policy.groups:
        rules[section.id] = section
        rules |= {clause.id: clause for clause in section.clauses}
        rules |= {exception.id: exception for exception in section.exceptions}
    rules |= {use.id: use for use in policy.high_risk}
    return rules | {duty.id: duty for duty in policy.disclosure}


def _source(policy: Policy, source: Source | None) -> str | None:
    if source is None:
        return None
    document = policy.source.name if policy.source else policy.title
    url = f" <{policy.source.url}>" if policy.source and policy.source.url else ""
    return f"{document}, {source}{url}"


def _refuse_unknown(word: str, rules: Mapping[str, Rule], as_json: bool) -> None:
    # People often give the second half of an id.
    slugs = {id.rpartition(".")[2]: id for id in rules}
    close = get_close_matches(word.lower(), [*rules, *slugs], n=5, cutoff=0.7)
    nearest = list(dict.fromkeys(slugs.get(id, id) if id not in rules else id for id in close))
    if as_json:
        print_json({"ok": False, "found": word, "nearest": nearest})
    else:
        out = console(stderr=True)
        out.print(text(f"There is no rule '{word}' in the policy."))
        if nearest:
            out.print(text("Nearest:"))
            bullets(out, nearest)
        out.print(text("`magistrate explain` lists all of them."))
    raise typer.Exit(UNUSABLE)


def _print_index(policy: Policy, as_json: bool) -> None:
    parts: dict[str, dict[str, str]] = {}
    for section in policy.groups:
        inside = (*section.clauses, *section.exceptions)
        parts[section.id] = {rule.id: rule.title for rule in inside}
    extra = {
        "high_risk": {use.id: use.title for use in policy.high_risk},
        "disclosure": {duty.id: duty.title for duty in policy.disclosure},
    }
    if as_json:
        print_json({"policy": policy.ref, "sections": parts, **extra})
        return
    out = console()
    paragraph(out, f"{policy.title} ({policy.ref})")
    titles = {section.id: section.title for section in policy.groups}
    for id, inside in parts.items():
        heading(out, f"{id}: {titles[id]}")
        bullets(out, list(inside))
    for words, inside in (
        ("High-risk uses", extra["high_risk"]),
        ("Disclosure rules", extra["disclosure"]),
    ):
        if inside:
            heading(out, words)
            bullets(out, list(inside))


def _print(out: Console, settings: Settings, rule: Rule, found: dict[str, Any]) -> None:
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
