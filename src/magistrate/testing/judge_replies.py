"""The reply of the API that carries what a scripted judge says. Pure."""

from __future__ import annotations

from magistrate.testing.faults import delayed
from magistrate.testing.judge_script import (
    Judgement,
    JudgeReply,
    ParsedPrompt,
    Slow,
    judged_parts_with,
)
from magistrate.testing.replies import JSON, Reply, checked, structured

QUOTE = 60  # characters quoted where a rule names no words


def render(reply: JudgeReply, prompt: ParsedPrompt) -> tuple[Reply, list[str]]:
    """Return the wire reply for what a judge says, and what a test should know about it.

    A screen names the groups of what would be found. A judgment leaves out what is not on offer: a
    judge held to the schema cannot write it.
    """
    match reply:
        case Slow():
            inner, notes = render(reply.then, prompt)
            return delayed(inner, reply.seconds), notes
        case Judgement() if prompt.compares:
            return structured({"continues_declined": reply.continues_declined}), []
        case Judgement():
            return _screen(reply, prompt) if prompt.groups else _verdict(reply, prompt)
        case _:
            return checked(reply), []


def _screen(judgement: Judgement, prompt: ParsedPrompt) -> tuple[Reply, list[str]]:
    """Return the groups that a first pass names, and what it would have to name but cannot."""
    groups = [found.clause.partition(".")[0] for found in judgement.findings]
    groups += ["answer"] * bool(judgement.high_risk)
    notes = [
        f"the group {group!r} is not on offer in the {prompt.stage} stage"
        f" (on offer: {', '.join(prompt.groups)})"
        for group in dict.fromkeys(groups)
        if group not in prompt.groups
    ]
    suspected = [group for group in prompt.groups if group in groups]
    said = {"suspected": suspected, "discloses_ai": judgement.discloses_ai}
    return structured(said), notes


def _verdict(judgement: Judgement, prompt: ParsedPrompt) -> tuple[Reply, list[str]]:
    notes: list[str] = []
    findings: list[JSON] = []
    domains: list[JSON] = []
    # A judgment that follows a screen is about some of the groups only; that is no mistake.
    sections = {clause.partition(".")[0] for clause in prompt.clauses}
    whole = len(sections) > 1
    for found in judgement.findings:
        if found.clause not in prompt.clauses:
            if whole or found.clause.partition(".")[0] in sections:
                notes.append(_not_on_offer("clause", found.clause, prompt))
            continue
        label, quote = _place(found.quote or "", prompt)
        findings.append(
            {
                "clause": found.clause,
                "grade": found.grade,
                "severity": found.severity,
                "part": label,
                "quote": quote,
            }
            | ({"reason": "The script says so."} if prompt.explain else {})
        )
    for entry in judgement.high_risk:
        if entry.domain not in prompt.domains:
            if whole or prompt.domains:
                notes.append(_not_on_offer("domain", entry.domain, prompt))
            continue
        domains.append({"domain": entry.domain, "kind": entry.kind, "individual": entry.individual})
    verdict: JSON = {"findings": findings}
    if prompt.answers:
        verdict |= {"high_risk": domains, "discloses_ai": judgement.discloses_ai}
    return structured(verdict), notes


def _not_on_offer(what: str, name: str, prompt: ParsedPrompt) -> str:
    offered = ", ".join(prompt.clauses if what == "clause" else prompt.domains) or "none"
    return f"the {what} {name!r} is not on offer in the {prompt.stage} stage (on offer: {offered})"


def _place(quote: str, prompt: ParsedPrompt) -> tuple[str, str]:
    """Return the label of the judged part that holds `quote`, and the words to quote from it."""
    labels = dict(zip(map(id, prompt.parts), prompt.labels, strict=True))
    for part in judged_parts_with(quote, prompt.parts):
        words = quote or part.text[:QUOTE]
        return labels[id(part)], words.encode(errors="replace").decode()  # no lone surrogates
    judged = [labels[id(part)] for part in prompt.parts if part.judged]
    return (judged[0] if judged else ""), quote
