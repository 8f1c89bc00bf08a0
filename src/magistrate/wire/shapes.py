"""Which values carry no content: the written list of such fields, each with its reason.

Pure. Everything that is not listed here, and that no reader takes, is judged (see `residue`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from magistrate.wire.messages import JSON, is_array, is_object

# The shape of a value without content: a pattern for a string, the shapes of an object's fields,
# or a one-item list with the shape of an array's items. None: nothing is known about the value.
Shape: TypeAlias = "re.Pattern[str] | Mapping[str, Shape] | Sequence[Shape] | None"

# A value that the API lists, an API model's name, or a date.
WORD = re.compile(r"[A-Za-z0-9_.:/@+\[\]-]{0,100}")
# Ids pair blocks and name things at the provider; no model reads them as text.
ID = re.compile(r"[A-Za-z0-9_.:/@=+-]{0,256}")
# Seals and encrypted values that only the provider can make and read; it rejects any other.
OPAQUE = re.compile(r"[A-Za-z0-9_+/=.-]*")
# The API's limit for `metadata.user_id`, which no model reads.
USER_ID = re.compile(r".{0,256}", re.DOTALL)
# The provider's own words about a failure. The SDK raises them; they are no part of an answer.
ERROR_TEXT = re.compile(r".*", re.DOTALL)

# Where the provider caches.
CACHE_MARK: Shape = {"type": WORD, "ttl": WORD}
# Who made a call: the model, or a server tool's code.
CALLER: Shape = {"type": WORD, "tool_id": ID}
ERROR: Shape = {"type": WORD, "message": ERROR_TEXT, "details": {"error_code": WORD, "field": WORD}}
# What is billed. Numbers need no shape.
USAGE: Shape = {
    "inference_geo": WORD,
    "service_tier": WORD,
    "speed": WORD,
    "iterations": [{"type": WORD, "model": ID}],
    "fallback_credit": {"status": {"type": WORD}},
}
CONTAINER: Shape = {
    "id": ID,
    "expires_at": WORD,
    "skills": [{"type": WORD, "skill_id": ID, "version": WORD}],
}
# Fields of an answer besides its content. `stop_details.explanation` and `stop_sequence` are
# sentences that an application may show, so they are residue.
ANSWER: Mapping[str, Shape] = {
    "id": ID,
    "type": WORD,
    "role": WORD,
    "model": ID,
    "stop_reason": WORD,
    "stop_details": {
        "type": WORD,
        "category": WORD,
        "fallback_credit_token": OPAQUE,
        "recommended_model": ID,
        "magistrate": {"decision_id": ID},
    },
    "diagnostics": {"cache_miss_reason": {"type": WORD}},
    "input_transformations": [{"type": WORD, "reason": WORD, "path": ID}],
    "container": CONTAINER,
    "usage": USAGE,
    "context_management": {"applied_edits": [{"type": WORD}]},
}
# Fields of a request that configure the answer. `system`, `messages` and `tools` have readers.
SETTINGS: Mapping[str, Shape] = {
    "betas": [WORD],
    "billing_policy": {"type": WORD, "bill_to": WORD},
    "cache_control": CACHE_MARK,
    "container": ID,
    "diagnostics": {"previous_message_id": ID},
    "effort": WORD,
    "fallback_credit_token": OPAQUE,
    "inference_geo": WORD,
    "metadata": {"user_id": USER_ID},
    "model": ID,
    "output_config": {"effort": WORD, "task_budget": {"type": WORD}},
    "service_tier": WORD,
    "speed": WORD,
    "thinking": {
        "type": WORD,
        "display": WORD,
        "block_binding": {"prefix_mismatch_behavior": WORD},
    },
    "thread": {"type": WORD, "previous_message_id": ID},
    "tool_choice": {"type": WORD},
    "user_profile_id": ID,
    "workspace_id": ID,
}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_INT64 = 1 << 63


def is_free(value: object, shape: Shape = None) -> bool:
    """Return whether a value carries no content.

    Numbers, booleans, null and empty values carry none, whatever they stand for. Strings carry
    none only in their shape, and names of fields only if they are plain names.
    """
    if value is None or isinstance(value, bool | float):
        return True
    if isinstance(value, int):
        return -_INT64 <= value < _INT64  # the digits of a longer one could spell something
    if isinstance(value, str):
        return not value or (isinstance(shape, re.Pattern) and shape.fullmatch(value) is not None)
    if is_object(value):
        known: Mapping[str, Shape] = shape if isinstance(shape, Mapping) else {}
        return all(is_name(key) and is_free(item, known.get(key)) for key, item in value.items())
    if is_array(value):
        each = shape[0] if isinstance(shape, list | tuple) else None
        return not value or (each is not None and all(is_free(item, each) for item in value))
    return False


def is_name(key: object) -> bool:
    """Return whether the name of a field is a plain name, so that it says nothing itself."""
    return isinstance(key, str) and _NAME.fullmatch(key) is not None


def left_over(fields: JSON, shapes: Mapping[str, Shape]) -> JSON:
    """Return the fields that carry content, of those that no reader took."""
    return {
        key: item
        for key, item in fields.items()
        if not (is_free(item, shapes.get(key)) and is_name(key))
    }
