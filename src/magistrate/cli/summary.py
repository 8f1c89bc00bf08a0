"""What settings mean, as plain data in plain words: shared by `validate` and `explain`.

Nothing is printed here and nothing decided: floors, rows and duties are asked of their owners.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from magistrate.core.disclosure import disclosure_duty
from magistrate.policy import Clause, Section
from magistrate.settings import DEFAULT_JUDGE_MODEL, Settings
from magistrate.verdicts import ACTIONS, SEVERITIES, STAGES, Action, at_least

EVIDENCE = {
    "conversation": "The conversation itself can show it.",
    "account": "It shows across conversations or accounts; one conversation can only raise a "
    "suspicion, so it leads to a warning at most.",
    "app": "It depends on facts about the app that no text can show; a conversation can only "
    "raise a suspicion, so it leads to a warning at most.",
}
ORDERS = {
    "concurrent": "Requests are judged during the call to the model: the provider sees a request "
    "before its verdict, the caller sees nothing until then. A request that can act by itself "
    "(server tools, MCP servers, containers, batches) is judged first all the same.",
    "before": "Requests are judged first; what is blocked never reaches the provider.",
}
RELEASES = {
    "window": "Streams are released in small windows, each behind its own verdict.",
    "message": "Streams are released whole, once the entire answer has been judged.",
    "shadow": "SHADOW: streams and answers pass unchanged and verdicts are only recorded; nothing "
    "but floors is enforced.",
}


def row_name(key: str | None, clause: Clause | None = None) -> str:
    """Return how to call the row of `actions` that decided something."""
    if key is not None:
        return f"actions.{key}"
    return "the policy" if clause and clause.action else "built-in default"


def effective(settings: Settings, clause: Clause) -> dict[str, Any]:
    """Return what happens on a finding of this clause, for each stage, and which row decided it."""
    stages: dict[str, Any] = {}
    for stage in STAGES:
        if stage not in clause.stages:
            continue
        key, action = settings.deciding_row(clause.id, stage)
        stages[stage] = {
            "action": _provable(clause, cast("Action", action)),
            "decided_by": row_name(key, clause),
        }
    result: dict[str, Any] = {"stages": stages}
    for field in ("from_grade", "from_severity"):
        key, value = settings.deciding_row(clause.id, field)
        result[field] = {"value": value, "decided_by": row_name(key)}
    if clause.evidence != "conversation":  # such a warning asks for a grade only
        result["from_grade"] = {"value": "likely", "decided_by": "the clause's evidence"}
        result["from_severity"] = {"value": SEVERITIES[0], "decided_by": "the clause's evidence"}
    return result | {"floor": settings.floor(clause.id)}


def _provable(clause: Clause, action: Action) -> Action:
    capped = clause.evidence != "conversation" and at_least(action, "warn", ACTIONS)
    return "warn" if capped else action


def actions(settings: Settings) -> list[dict[str, Any]]:
    """Return a row for each section, and one for each clause of it that is treated otherwise."""
    return [row for group in settings.policy.groups for row in _section_rows(settings, group)]


def _section_rows(settings: Settings, group: Section) -> Iterator[dict[str, Any]]:
    treated = [(clause, _treatment(settings, clause)) for clause in group.clauses]
    kinds = [tuple(treatment.values()) for _, treatment in treated]
    usual = max(kinds, key=kinds.count)
    yield {
        "section": group.id,
        "clause": None,
        "clauses": len(group.clauses),
        **next(treatment for _, treatment in treated if tuple(treatment.values()) == usual),
    }
    for clause, treatment in treated:
        if tuple(treatment.values()) != usual:
            yield {"section": group.id, "clause": clause.id, "clauses": 1, **treatment}


def _treatment(settings: Settings, clause: Clause) -> dict[str, Any]:
    found = effective(settings, clause)
    action = {stage: found["stages"].get(stage, {}).get("action") for stage in STAGES}
    thresholds = {name: found[name]["value"] for name in ("from_grade", "from_severity")}
    floor, severity = found["floor"], thresholds["from_severity"]
    lower = floor is not None and SEVERITIES.index(floor) < SEVERITIES.index(severity)
    return action | thresholds | {"floor": floor if lower else None}


def floors(settings: Settings) -> dict[str, list[str]]:
    """Clauses that nothing loosens, by the severity from which that holds."""
    levels: dict[str, list[str]] = {}
    for group in settings.policy.groups:
        found = {clause.id: settings.floor(clause.id) for clause in group.clauses}
        whole = set(found.values())
        if len(whole) == 1 and (level := whole.pop()):
            levels.setdefault(level, []).append(f"all of {group.id}")
            continue
        for id, level in found.items():
            if level:
                levels.setdefault(level, []).append(id)
    return {level: levels[level] for level in SEVERITIES if level in levels}


def disclosure(settings: Settings) -> dict[str, Any]:
    """Return which rules make the app disclose AI, and what is said where."""
    app = settings.app
    rules = [rule.id for rule in settings.policy.disclosure if rule.owed_by(app)]
    rules += [
        use.id
        for use in settings.policy.high_risk
        if app and use.id in app.high_risk and "disclosure" in use.requirements
    ]
    duty = disclosure_duty(settings)
    if not duty.owed:
        words = "Nothing is added to answers: no rule of the policy asks it of this app."
    elif duty.text is None:
        words = (
            "People must be told that AI is used, but this interface has no chat to say it in: "
            "the app itself must do so. Every decision records it as owed."
        )
    else:
        words = "Put before the first answer of a conversation that does not carry it yet."
    return {"owed": duty.owed, "because_of": rules, "text": duty.text, "words": words}


def holding(settings: Settings) -> dict[str, Any]:
    """Return whether answers can be held for review, where, and who may release them."""
    app, review = settings.app, settings.review
    domains = [
        use.id
        for use in settings.policy.high_risk
        if app and use.id in app.high_risk and use.may_owe_review(app)
    ]
    for group in settings.policy.groups:
        rows = [effective(settings, clause)["stages"].get("output") for clause in group.clauses]
        if any(row and row["action"] == "hold" for row in rows):
            domains.append(group.id)
    return {
        "may_hold": settings.may_hold,
        "store": review.store if review else None,
        "retain_days": review.retain_days if review else None,
        "released_by": {
            domain: [who.name for who in review.reviewers if domain in who.qualified_in]
            for domain in domains
            if review
        },
    }


def notes(settings: Settings) -> Iterator[str]:
    """Yield what a reader of the file may not expect."""
    yield from _profile_notes(settings)
    yield from _row_notes(settings)
    failing = settings.judge.on_failure.input
    if failing != "block":
        yield (
            f"judge.on_failure.input is {failing}: while the judge is out of reach, requests are "
            "passed on unjudged. Answers are still blocked, and so is a judge that refuses."
        )
    if settings.judge.backend == "local":
        yield (
            "judge.backend is local: the embedded judge misses most violations (its numbers are in "
            "docs/local-judge.md). It is for development and offline tests, not for real users."
        )
    elif settings.judge.screen.skip_clear == "local":
        yield (
            "judge.screen.skip_clear is local: no model reads what the embedded judge sees nothing "
            "in, floors included."
        )
    if settings.streaming.release == "window" and settings.release == "message":
        yield "Streams are released whole instead of in windows, because answers can be held."
    if settings.release == "shadow":
        yield "Shadow mode enforces nothing but floors. Do not leave it on by mistake."
    if settings.audit.content != "none":
        which = "flagged" if settings.audit.content == "flagged" else "all"
        yield f"Audit events quote content of {which} messages. Child-safety content never is."


def _profile_notes(settings: Settings) -> Iterator[str]:
    app = settings.app
    if app is None:
        yield (
            "There is no `app:`. Without a declared profile nothing is disclosed and no answer is "
            "held for review, whatever the policy asks of such apps."
        )
        return
    for use in settings.policy.high_risk:
        if use.id in app.high_risk and not use.may_owe_review(app):
            yield (
                f"{use.id} is declared, but no answer of this app owes review: that takes "
                + _review_condition(use.applies_when)
            )
    if app.decides_about_individuals and not app.high_risk:
        yield "The app decides about individuals, but declares no `high_risk` domain: none is held."
    asked = [
        str(word)
        for section in settings.policy.sections
        for exception in section.exceptions
        for word in exception.requires.get("authorised", ())
    ]
    for i, word in enumerate(app.authorised):
        if word not in asked:
            said = settings.shown(("app", "authorised", i), word)
            yield f"app.authorised: no exception of the policy asks for '{said}'."
    for exception in settings.permitted_exceptions:
        yield f"The exception {exception.id} applies: {exception.title}."


def _review_condition(facts: dict[str, Any]) -> str:
    if not facts:
        return "`app.audience: consumer`, or `app.decides_about_individuals: true`."
    return "; ".join(
        f"`app.{name}: {' or '.join(str(value).lower() for value in values)}`"
        for name, values in facts.items()
    )


def _row_notes(settings: Settings) -> Iterator[str]:
    for key, row in settings.actions.items():
        named = settings.policy.clauses.get(key)
        clauses = [named] if named else _beneath(settings, key)
        loosens = {row.input, row.output} - {None, "block"} or row.from_grade == "certain"
        raises = row.from_severity in ("high", "critical")  # the built-in default is medium
        floored = [clause.id for clause in clauses if settings.floor(clause.id)]
        if floored and (loosens or raises):
            kept = f"{len(floored)} of its clauses have floors, which stay in force"
            yield f"actions.{key}: {kept}."
        unprovable = [clause.id for clause in clauses if clause.evidence != "conversation"]
        if named and unprovable and {row.input, row.output} & {"hold", "block"}:
            yield f"actions.{key}: text cannot prove this; it leads to a warning at most."
        for stage in STAGES:
            if named and getattr(row, stage) and stage not in named.stages:
                yield f"actions.{key}.{stage} has no effect: it is not judged at that stage."
    default = settings.actions.get("default")
    checks = [clause.id for clause in settings.policy.integrity if clause.action]
    if checks and default and (default.input or default.output):
        yield (
            f"actions.default does not change checks of third-party text ({', '.join(checks)}): "
            "they have an action of their own. Add a row for them to change it."
        )


def _beneath(settings: Settings, key: str) -> list[Clause]:
    groups = settings.policy.groups
    return [clause for group in groups if key in ("default", group.id) for clause in group.clauses]


def outline(settings: Settings) -> dict[str, Any]:
    """Return the whole of it, as JSON. No name, path or text from the environment is in it."""
    hash, settings = settings.hash, settings.printable()
    policy = settings.policy
    return {
        "ok": True,
        "file": settings.source,
        "policy": {
            "ref": policy.ref,
            "title": policy.title,
            "hash": policy.hash,
            "sections": len(policy.sections),
            "clauses": sum(len(section.clauses) for section in policy.sections),
        },
        "settings_hash": hash,
        "app": settings.printable_profile(),
        "judge": {
            "backend": settings.judge.backend,
            "strategy": settings.judge.strategy,
            "second_model": settings.judge.second_model,
            "model": settings.judge.model or DEFAULT_JUDGE_MODEL,
            "deadline_s": settings.judge.deadline_s,
            "on_failure": settings.judge.on_failure.model_dump(mode="json"),
        },
        "input_check": settings.input_check,
        "release": settings.release,
        "actions": actions(settings),
        "floors": floors(settings),
        "disclosure": disclosure(settings),
        "review": holding(settings),
        "on_block": settings.on_block,
        "on_hold": settings.on_hold,
        "on_uninspected": settings.on_uninspected.model_dump(mode="json"),
        "audit_content": settings.audit.content,
        "notes": list(notes(settings)),
    }
