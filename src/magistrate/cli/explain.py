"""`magistrate explain`: one rule in plain words, and what the configuration makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from magistrate.cli.printing import (
    UNUSABLE,
    AsJson,
    bullets,
    console,
    heading,
    paragraph,
    print_json,
    refuse,
    text,
)
from magistrate.cli.rule_text import Rule, print_rule
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
    settings = settings.printable()
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
        print_rule(console(), settings, rules[rule], found)


def describe(settings: Settings, rule: Rule) -> dict[str, Any]:
    """Return the rule and what the settings make of it, as JSON."""
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
