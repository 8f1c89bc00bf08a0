"""Make the JSON schema of a judge's reply. Every field is required. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from magistrate.verdicts import ANSWER_KINDS, GRADES, SEVERITIES
from magistrate.wire.messages import JSON

NOTHING = "none"  # the only value if there is nothing to choose from: an enum cannot be empty


def record_schema(**fields: JSON) -> JSON:
    """Return the schema of an object. Every field is required: a missing one is not a "no"."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def word_schema(values: Sequence[str]) -> JSON:
    return {"type": "string", "enum": list(values) or [NOTHING]}


def judgment_schema(
    clauses: tuple[str, ...], domains: tuple[str, ...], *, answers: bool, explain: bool
) -> JSON:
    text: JSON = {"type": "string"}
    finding: dict[str, JSON] = {
        "clause": word_schema(clauses),
        "grade": word_schema(GRADES),
        "severity": word_schema(SEVERITIES),
        "part": text,
        "quote": text,
    }
    if explain:
        finding["reason"] = text
    fields: dict[str, JSON] = {"findings": {"type": "array", "items": record_schema(**finding)}}
    if answers:
        answer = record_schema(
            domain=word_schema(domains),
            kind=word_schema(ANSWER_KINDS),
            individual={"type": "boolean"},
        )
        fields["high_risk"] = {"type": "array", "items": answer}
        fields["discloses_ai"] = {"type": "boolean"}
    return record_schema(**fields)
