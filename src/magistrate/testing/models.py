"""The models of the simulated API: its catalogue, and which sampling parameters each takes.

Pure. The catalogue holds the ids and the retirement dates of the SDK's types. What those do not
state is left open as the API leaves it: no capabilities, and the epoch where a date is unknown. A
message may name any model, listed or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from magistrate.testing.replies import JSON

MODELS = (  # the most recent first, as the API lists them
    "claude-fable-5-2",
    "claude-mythos-5-2",
    "claude-haiku-5-5",
    "claude-sonnet-5-5",
    "claude-fable-5-1",
    "claude-opus-5-5",
    "claude-mythos-5-1",
    "claude-sonnet-5",
    "claude-fable-5",
    "claude-mythos-5",
    "claude-opus-5",
    "claude-opus-4-8",
    "claude-opus-4-7",
    "claude-mythos-preview",
    "claude-opus-4-6",
    "claude-sonnet-4-6",
    "claude-haiku-4-5",
    "claude-haiku-4-5-20251001",
    "claude-opus-4-5",
    "claude-opus-4-5-20251101",
    "claude-sonnet-4-5",
    "claude-sonnet-4-5-20250929",
)
RETIRES_AT = {  # the models that the SDK calls deprecated
    "claude-mythos-preview": "2026-06-30T00:00:00Z",
    "claude-opus-4-5": "2027-01-22T00:00:00Z",
    "claude-opus-4-5-20251101": "2027-01-22T00:00:00Z",
    "claude-sonnet-4-5": "2026-11-30T00:00:00Z",
    "claude-sonnet-4-5-20250929": "2026-11-30T00:00:00Z",
}
LIFECYCLES = ("active", "deprecated", "retired")
SAMPLING = ("temperature", "top_p", "top_k")
_LAST_SAMPLED = (4, 6)  # later models take the defaults only
_FIRST_EITHER = (4, 1)  # from here on, temperature or top_p, not both
_LEAST_TOP_P = 0.99  # what later models take as the default
_VERSION = re.compile(r"claude-[a-z]+-(\d{1,2})(?:-(\d{1,2}))?(?:-\d{8})?$")
_OLD_VERSION = re.compile(r"claude-(\d)(?:-(\d))?-[a-z]")
_UNKNOWN = "1970-01-01T00:00:00Z"


def catalogue(lifecycle: frozenset[str] = frozenset(LIFECYCLES[:2])) -> list[JSON]:
    """Return the models in these stages of life, as the API lists them."""
    return [each for each in map(_info, MODELS) if each["lifecycle"] in lifecycle]


def find(model: str) -> JSON | None:
    """Return one model of the catalogue as the API returns it, or None."""
    return _info(model) if model in MODELS else None


def sampling_complaints(fields: JSON) -> Iterator[str]:
    """Yield why the API refuses the sampling parameters of a request; its model is a text.

    The installed SDK has no such parameters: what is written here is what the API's documentation
    says. Models after Claude Opus 4.6 take no values but the defaults; earlier ones take them, but
    from 4.1 on not temperature and top_p together, and with thinking only some. Nothing is said
    against the values for a model of an unknown name.
    """
    given = {name: fields[name] for name in SAMPLING if fields.get(name) is not None}
    if not given:
        return
    for name, value in given.items():
        if name == "top_k":
            if type(value) is not int or value < 0:
                yield "top_k: Input should be an integer greater than or equal to 0"
        elif type(value) not in (int, float) or not 0 <= value <= 1:
            yield f"{name}: Input should be a number between 0 and 1"
    version = _version(fields["model"])
    if version is not None and version > _LAST_SAMPLED:
        for name, value in given.items():
            if not _is_default(name, value):
                yield f"{name}: sampling parameters are not supported by this model"
        return
    if version is not None and version >= _FIRST_EITHER and {"temperature", "top_p"} <= set(given):
        yield (
            "`temperature` and `top_p` cannot both be specified for this model."
            " Please use only one."
        )
    thinking: Any = fields.get("thinking")
    kind = cast(JSON, thinking).get("type") if isinstance(thinking, dict) else None
    if kind in ("enabled", "adaptive"):
        if given.get("temperature", 1) != 1:
            yield "`temperature` may only be set to 1 when thinking is enabled"
        if given.get("top_p", 1) < 0.95:
            yield "`top_p` must be greater than or equal to 0.95 when thinking is enabled"
        if "top_k" in given:
            yield "`top_k` must be unset when thinking is enabled"


def _is_default(name: str, value: Any) -> bool:
    return (name == "temperature" and value == 1) or (name == "top_p" and value >= _LEAST_TOP_P)


def _version(model: str) -> tuple[int, int] | None:
    """Return the version that the name of a model states, or None if it states none."""
    if found := _OLD_VERSION.match(model) or _VERSION.match(model):
        return int(found[1]), int(found[2] or 0)
    return (4, 7) if model == "claude-mythos-preview" else None


def _info(model: str) -> JSON:
    named = model.removeprefix("claude-").split("-")
    version = ".".join(part for part in named[1:] if len(part) < 8 and part.isdecimal())
    line = named[0]
    return {
        "type": "model",
        "id": model,
        "display_name": " ".join(["Claude", line.title(), version or named[1].title()]),
        "created_at": _UNKNOWN,
        "lifecycle": "deprecated" if model in RETIRES_AT else "active",
        "line": line,
        "capabilities": None,
        "deprecated_at": None,
        "retires_at": RETIRES_AT.get(model),
        "max_input_tokens": None,
        "max_tokens": None,
    }
