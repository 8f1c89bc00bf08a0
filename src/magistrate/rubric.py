"""The judge's prompt: a rubric from policy and profile, and the subject as fenced data.

Pure: templates come in as text. `parse_prompt` reads a prompt back; that it returns every field of
every part exactly, whatever the part contains, is what "the subject is data" means here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jinja2

from magistrate.digests import sha256
from magistrate.messages import JSON, is_array, is_object
from magistrate.policy import Clause
from magistrate.settings import Settings
from magistrate.subjects import Part, Subject
from magistrate.verdicts import ANSWER_KINDS, GRADES, SEVERITIES, Stage

_MARK = "magistrate judge · "
_ENVIRONMENT = jinja2.Environment(  # prompts are plain text, so no autoescape; JSON fences them
    undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
)


@cache
def _compiled(source: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(source)


@dataclass(frozen=True, slots=True)
class Templates:
    """The sources of the two templates in `prompts/`."""

    system: str
    subject: str


@dataclass(frozen=True, slots=True)
class Rubric:
    """What a judge of one stage is told, the same for every subject.

    `hash` covers the templates and everything rendered, neither nonce nor subject.
    """

    stage: Stage
    system: str
    schema: JSON
    clauses: tuple[str, ...]
    domains: tuple[str, ...]
    templates: Templates
    hash: str


@dataclass(frozen=True, slots=True)
class ParsedPrompt:
    """A judge's prompt, read back. `labels` maps the label of each part to its path."""

    stage: Stage
    parts: tuple[Part, ...]
    labels: dict[str, str]
    clauses: tuple[str, ...]
    domains: tuple[str, ...]
    final: bool


def make_rubric(settings: Settings, stage: Stage, templates: Templates) -> Rubric:
    """Render the rubric: the clauses that can be seen at this stage, for this app.

    High-risk domains are asked about only where an app profile gives them a meaning.
    """
    policy = settings.policy

    def shown(clauses: Sequence[Clause]) -> list[Clause]:
        return [clause for clause in clauses if stage in clause.stages]

    sections = [
        {"id": section.id, "title": section.title, "clauses": shown(section.clauses)}
        for section in policy.sections
    ]
    integrity = shown(policy.integrity)
    domains = policy.high_risk if stage == "output" and settings.app is not None else ()
    clauses = tuple(c.id for c in policy.clauses.values() if stage in c.stages)
    system = _compiled(templates.system).render(
        stage=stage,
        policy=policy,
        sections=sections,
        exceptions=settings.permitted_exceptions,
        integrity=integrity,
        app=settings.app,
        domains=domains,
    )
    ids = tuple(use.id for use in domains)
    schema = _schema(clauses, ids)
    digest = sha256([templates.system, templates.subject, system, schema])
    return Rubric(stage, system, schema, clauses, ids, templates, digest)


def _schema(clauses: tuple[str, ...], domains: tuple[str, ...]) -> JSON:
    """The reply's JSON schema. Every field is required: a missing one is not a "no"."""

    def record(**fields: JSON) -> JSON:
        return {
            "type": "object",
            "properties": fields,
            "required": list(fields),
            "additionalProperties": False,
        }

    def word(values: Sequence[str]) -> JSON:
        return {"type": "string", "enum": list(values)}

    text: JSON = {"type": "string"}
    finding = record(
        clause=word(clauses), grade=word(GRADES), severity=word(SEVERITIES), part=text, quote=text
    )
    answer = record(
        domain=word(domains or ("none",)), kind=word(ANSWER_KINDS), individual={"type": "boolean"}
    )
    return record(
        findings={"type": "array", "items": finding},
        high_risk={"type": "array", "items": answer},
        discloses_ai={"type": "boolean"},
    )


def labelled(subject: Subject) -> dict[str, Part]:
    """The parts of a subject under the labels that the judge sees."""
    return {f"p{number}": part for number, part in enumerate(subject.parts, 1)}


def make_prompt(
    rubric: Rubric, subject: Subject, *, nonce: str, model: str, max_tokens: int, effort: str | None
) -> JSON:
    """The Messages API request that asks a judge about a subject.

    `nonce` must be unpredictable and new for every call.
    """
    lines: list[str] = []
    attachments: list[JSON] = []
    for label, part in labelled(subject).items():
        line: JSON = {
            "part": label,
            "path": part.path,
            "role": part.role,
            "kind": part.kind,
            "judge": part.judged,
            "labels": part.labels,
            "text": part.text,
        }
        if part.attachment is not None:
            attachments += [{"type": "text", "text": f"Attachment of {label}:"}, part.attachment]
            line["attached"] = True
        lines.append(_one_line(line))
    text = _compiled(rubric.templates.subject).render(
        nonce=nonce, lines=lines, stage=subject.stage, final=subject.final
    )
    config: JSON = {"format": {"type": "json_schema", "schema": rubric.schema}}
    if effort is not None:
        config["effort"] = effort
    cached = {"type": "text", "text": rubric.system, "cache_control": {"type": "ephemeral"}}
    return {
        "model": model,
        "max_tokens": max_tokens,
        "system": [cached],
        "messages": [{"role": "user", "content": [{"type": "text", "text": text}, *attachments]}],
        "output_config": config,
    }


def _one_line(value: JSON) -> str:
    """JSON without a raw line break or a lone surrogate, and otherwise as a reader would see it."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)


def parse_prompt(body: JSON) -> ParsedPrompt | None:
    """Read a judge's prompt back; None if the request is not one of ours."""
    system = body.get("system")
    opening = system[0] if is_array(system) and system else None
    words = str(opening.get("text")) if is_object(opening) else ""
    if not words.startswith(_MARK):
        return None
    stage: Any = words.removeprefix(_MARK).split(" · ", 1)[0]
    schema = body["output_config"]["format"]["schema"]["properties"]
    content: list[Any] = body["messages"][0]["content"]
    _, _, fenced = content[0]["text"].partition("\n<<<")
    nonce, _, rest = fenced.partition("\n")
    inside, _, after = rest.partition(f"{nonce}>>>\n")
    attached = [block for block in content[1:] if block.get("type") != "text"]
    parts: list[Part] = []
    labels: dict[str, str] = {}
    for line in inside.split("\n")[:-1]:
        data = json.loads(line)
        part = Part(
            data["path"], data["role"], data["kind"], data["text"], data["judge"], data["labels"]
        )
        if data.get("attached"):
            part = replace(part, attachment=attached.pop(0))
        parts.append(part)
        labels[data["part"]] = part.path
    return ParsedPrompt(
        stage,
        tuple(parts),
        labels,
        tuple(schema["findings"]["items"]["properties"]["clause"]["enum"]),
        tuple(schema["high_risk"]["items"]["properties"]["domain"]["enum"]),
        "still being written" not in after,
    )
