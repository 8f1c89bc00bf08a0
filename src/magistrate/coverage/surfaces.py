"""How each request and content type of the installed SDK is treated, derived from the code.

The SDK's source gives the requests and content types; the moderation code gives the treatment of
each. So new methods and types appear with their actual treatment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from magistrate.coverage.sdk_source import Call, Types, calls
from magistrate.wire.content import read_answer, read_request
from magistrate.wire.message_builder import MessageBuilder
from magistrate.wire.messages import JSON, is_array, is_object
from magistrate.wire.parts import Extracted, Uninspected
from magistrate.wire.routes import SURFACES, route, unjudged_surface
from magistrate.wire.sse import event

Treatment = Literal["inspected", "refused", "uninspected", "passes", "free"]

_JUDGED = {
    "message": "The request is judged, and its answer is judged before it is delivered.",
    "batch": "Every entry is judged before the batch is sent.",
    "results": "Every answer is judged as its line arrives.",
}
_READS = frozenset({"get", "delete"})
_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Treated:
    """One request of the SDK and its treatment. `why` is a sentence for people."""

    call: Call
    treatment: Treatment
    why: str


@dataclass(frozen=True, slots=True)
class Surface:
    """The requests of a resource and its subresources.

    `names`: its places on a client. `helpers`: methods that send nothing themselves but make calls
    in `calls`.
    """

    names: tuple[str, ...]
    calls: tuple[Treated, ...]
    helpers: tuple[str, ...]

    @property
    def treatment(self) -> str:
        """The treatment of all calls in one word; `partly` if only some content is judged."""
        found = {item.treatment for item in self.calls}
        if "inspected" in found:
            return "inspected" if found <= {"inspected", "free"} else "partly"
        order = ("refused", "uninspected", "passes", "free")
        return next(each for each in order if each in found)


def surfaces(sdk: Path) -> list[Surface]:
    """Return every resource of an SDK. A call and the same call under `beta` are one entry."""
    names: dict[str, set[str]] = {}
    helpers: dict[str, set[str]] = {}
    found: dict[str, dict[tuple[str, ...], Treated]] = {}
    for call in calls(sdk):  # `beta` comes first, and its twin replaces it
        bare = call.resource.removeprefix("beta.")
        top, _, below = bare.partition(".")
        names.setdefault(top, set()).add(top if bare == call.resource else f"beta.{top}")
        if call.verb:
            key = (bare, call.method, call.verb, call.path)
            found.setdefault(top, {})[key] = treated(call)
        else:
            helpers.setdefault(top, set()).add(f"{below}.{call.method}".lstrip("."))
    return [
        Surface(
            tuple(sorted(names[top], key=len)),
            tuple(found[top][key] for key in sorted(found[top])),
            tuple(sorted(helpers.get(top, ()))),
        )
        for top in sorted(found)
    ]


def treated(call: Call) -> Treated:
    """Return the treatment of one request."""
    found: str = route(call.verb, call.example)
    if found == "surface" and (surface := unjudged_surface(call.example)) is not None:
        words = (
            f"magistrate does not moderate {SURFACES[surface]} yet: the call raises "
            f"ModerationError, unless `on_uninspected.surfaces.{surface}` lets it pass unjudged."
        )
        return Treated(call, "refused", words)
    if found == "uninspected":
        words = "Its content is unknown: blocked, unless `on_uninspected.endpoint` allows it."
        return Treated(call, "uninspected", words)
    if found != "free":
        return Treated(call, "inspected", _JUDGED.get(found, f"It is judged as {found}."))
    if call.binary:
        return Treated(call, "passes", "The bytes of a file are delivered without being judged.")
    if call.verb in _READS:
        return Treated(call, "free", "It reads metadata, or deletes.")
    return Treated(call, "free", "It returns no model output and sends no model input.")


# --- content --------------------------------------------------------------------------------------

_IN_REQUESTS = {
    "ContentBlockParam": "content_block_param.py",
    "BetaContentBlockParam": "beta/beta_content_block_param.py",
}
_IN_ANSWERS = {
    "ContentBlock": "content_block.py",
    "BetaContentBlock": "beta/beta_content_block.py",
}
# Content that is allowed in a tool result but not directly in a turn.
_IN_RESULTS = {
    "ToolResultBlockParam": "tool_result_block_param.py",
    "BetaToolResultBlockParam": "beta/beta_tool_result_block_param.py",
}
_DELTAS = {
    "RawContentBlockDelta": "raw_content_block_delta.py",
    "BetaRawContentBlockDelta": "beta/beta_raw_content_block_delta.py",
}
_AS = {
    "text": "text",
    "thinking": "thinking",
    "tool_use": "tool call",
    "third_party": "third-party",
    "media": "attachment",
    "definition": "definition",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of content and its treatment.

    `place`: in a request, in a tool result of a request, in an answer, or in a stream. `judged_as`:
    the kinds of part that the judge sees. `uninspected`: the reasons why some of it cannot be read.
    `unread`: readable fields that are in neither.
    """

    place: Literal["request", "result", "answer", "stream"]
    type: str
    judged_as: tuple[str, ...]
    uninspected: tuple[str, ...]
    unread: tuple[str, ...]


def kinds(sdk: Path) -> list[Kind]:
    """Return every type of content in the SDK's unions of blocks and deltas.

    Raises LookupError if the SDK does not have a union in its known file.
    """
    requests = _samples(sdk, _IN_REQUESTS)
    starts = _samples(sdk, _IN_ANSWERS)
    deltas = _samples(sdk, _DELTAS)
    results = _samples(sdk, _IN_RESULTS)
    nested = [inner for result in results for inner in _objects(result.get("content"))]
    known = {block["type"] for block in requests}
    found: list[Kind] = []
    found += _by_type("request", requests, _asked)
    found += _by_type("result", [b for b in nested if b["type"] not in known], _handed_in)
    found += _by_type("answer", starts, _answered)
    found += _by_type("stream", deltas, lambda delta: _streamed(delta, starts))
    return found


def _samples(sdk: Path, unions: Mapping[str, str]) -> list[JSON]:
    found: list[JSON] = []
    for name, file in unions.items():
        samples = _objects(Types(sdk / "types" / file).samples(name))
        if not samples:
            raise LookupError(f"this SDK has no {name} in types/{file}, where it is expected")
        found += samples
    return found


def _objects(values: object) -> list[JSON]:
    return (
        [each for each in values if is_object(each) and "type" in each] if is_array(values) else []
    )


def _by_type(
    place: Literal["request", "result", "answer", "stream"],
    samples: Iterable[JSON],
    read: Callable[[JSON], Extracted],
) -> Iterator[Kind]:
    groups: dict[str, list[JSON]] = {}
    for sample in samples:
        groups.setdefault(str(sample["type"]), []).append(sample)
    for name in sorted(groups):
        judged: set[str] = set()
        reasons: set[str] = set()
        unread: set[str] = set()
        for sample in groups[name]:
            items = read(sample)
            parts, hidden = items.parts, items.uninspected
            shown = json.dumps([[part.text, part.labels, part.attachment] for part in parts])
            judged |= {
                _AS[part.kind] for part in parts if part.text or part.attachment or part.labels
            }
            reasons |= {item.reason for item in hidden}
            missing = {field.strip("=") for field in _texts(sample) if field not in shown}
            if parts or not hidden:  # else the whole block is uninspected
                unread |= {field for field in missing if not _accounted(field, hidden)}
        yield Kind(place, name, *(tuple(sorted(each)) for each in (judged, reasons, unread)))


def _accounted(field: str, hidden: tuple[Uninspected, ...]) -> bool:
    """Return whether a field belongs to content that is reported as uninspected."""
    for item in hidden:
        if item.reason == "encrypted" and field.rpartition(".")[2].startswith("encrypted_"):
            return True
        inside = _INDEX.sub("", item.path.partition("content[0]")[2]).lstrip(".")
        if item.reason != "encrypted" and inside and field.startswith(inside):
            return True
    return False


def _texts(value: object) -> Iterator[str]:
    """Yield every text of a sample that names its place."""
    if isinstance(value, str) and value.startswith("="):
        yield value
    elif is_object(value):
        for item in value.values():
            yield from _texts(item)
    elif is_array(value):
        for item in value:
            yield from _texts(item)


def _asked(block: JSON) -> Extracted:
    return read_request({"messages": [{"role": "user", "content": [block]}]}).turns[0]


def _handed_in(block: JSON) -> Extracted:
    found = _asked({"type": "tool_result", "content": [block]})
    everything = (*found.parts, *found.uninspected)
    return Extracted.of(item for item in everything if "].content[" in item.path)


def _answered(block: JSON) -> Extracted:
    return read_answer({"content": [block]})


def _streamed(delta: JSON, starts: list[JSON]) -> Extracted:
    """Return what a delta is read as, in a block that it belongs to if there is one."""
    found = Extracted()
    for start in starts:
        bare = _without_texts(start)
        builder = MessageBuilder()
        builder.feed(event({"type": "content_block_start", "index": 0, "content_block": bare}))
        before = read_answer(builder.message)
        known = (*before.parts, *before.uninspected)
        builder.feed(event({"type": "content_block_delta", "index": 0, "delta": delta}))
        builder.feed(event({"type": "content_block_stop", "index": 0}))
        after = read_answer(builder.message)
        everything = (*after.parts, *after.uninspected)
        found = Extracted.of(item for item in everything if item not in known)
        if not any(item.reason == "unknown_block" for item in after.uninspected):
            return found
    return found


def _without_texts(block: JSON) -> JSON:
    """Return a block as a stream starts it, without content."""
    kept: dict[str, Any] = {key: block[key] for key in ("type", "id", "name") if key in block}
    return kept
