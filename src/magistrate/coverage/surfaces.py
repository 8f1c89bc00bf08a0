"""How everything that the installed SDK can carry is treated, worked out rather than written down.

The SDK's source says which requests and which content there is; the code that moderates says what
it does with each. So a method or a type that nobody has heard of shows up as what happens to it.
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
from magistrate.wire.messages import JSON, is_array, is_object
from magistrate.wire.parts import Part, Uninspected
from magistrate.wire.routes import SURFACES, route, unjudged_surface
from magistrate.wire.sse import MessageBuilder, event

Treatment = Literal["inspected", "refused", "uninspected", "passes", "free"]

_JUDGED = {
    "message": "The request is judged, and its answer before anyone sees it.",
    "batch": "Every entry is judged before the batch is sent.",
    "results": "Every answer is judged as its line arrives.",
}
_READS = frozenset({"get", "delete"})
_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Treated:
    """One request of the SDK and what becomes of it. `why` is a sentence for people."""

    call: Call
    treatment: Treatment
    why: str


@dataclass(frozen=True, slots=True)
class Surface:
    """The requests of a resource and those below it; `names` are where it hangs on a client.

    `helpers` send nothing themselves: they make calls of the table.
    """

    names: tuple[str, ...]
    calls: tuple[Treated, ...]
    helpers: tuple[str, ...]

    @property
    def treatment(self) -> str:
        """All of it in a word: `partly` where content of one call is judged, of another is not."""
        found = {item.treatment for item in self.calls}
        if "inspected" in found:
            return "inspected" if found <= {"inspected", "free"} else "partly"
        order = ("refused", "uninspected", "passes", "free")
        return next(each for each in order if each in found)


def surfaces(sdk: Path) -> list[Surface]:
    """Every resource of an SDK. One and its twin under `beta` are one where they call the same."""
    names: dict[str, set[str]] = {}
    helpers: dict[str, set[str]] = {}
    found: dict[str, dict[tuple[str, ...], Treated]] = {}
    for call in calls(sdk):  # `beta` comes first, and gives way to its twin
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
    """What becomes of one request."""
    found: str = route(call.verb, call.example)
    if found == "surface" and (surface := unjudged_surface(call.example)) is not None:
        words = (
            f"magistrate does not moderate {SURFACES[surface]} yet: the call raises "
            f"ModerationError, unless `on_uninspected.surfaces.{surface}` lets it pass unjudged."
        )
        return Treated(call, "refused", words)
    if found == "uninspected":
        words = "Nobody knows what it carries: blocked, unless `on_uninspected.endpoint` allows it."
        return Treated(call, "uninspected", words)
    if found != "free":
        return Treated(call, "inspected", _JUDGED.get(found, f"It is judged as {found}."))
    if call.binary:
        return Treated(call, "passes", "The bytes of a file are handed over without judgment.")
    if call.verb in _READS:
        return Treated(call, "free", "It looks at metadata, or deletes.")
    return Treated(call, "free", "It brings no model output and puts nothing before a model.")


# --- content --------------------------------------------------------------------------------------

_IN_REQUESTS = {
    "ContentBlockParam": "content_block_param.py",
    "BetaContentBlockParam": "beta/beta_content_block_param.py",
}
_IN_ANSWERS = {
    "ContentBlock": "content_block.py",
    "BetaContentBlock": "beta/beta_content_block.py",
}
# What a tool result may hold besides: none of it may stand in a turn by itself.
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
    """One type of content and what becomes of it.

    `place`: in a request, in a tool result of one, in an answer, or in a stream. `judged_as`: what
    the judge is shown it as. `uninspected`: the reasons for what of it no judge can read. `unread`:
    fields that are in neither, although it was readable.
    """

    place: Literal["request", "result", "answer", "stream"]
    type: str
    judged_as: tuple[str, ...]
    uninspected: tuple[str, ...]
    unread: tuple[str, ...]


def kinds(sdk: Path) -> list[Kind]:
    """Every type of content in the SDK's unions of blocks and deltas.

    Raises LookupError where the SDK does not have them in the places that are known.
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
            raise LookupError(f"this SDK has no {name} in types/{file}, where it is looked for")
        found += samples
    return found


def _objects(values: object) -> list[JSON]:
    return (
        [each for each in values if is_object(each) and "type" in each] if is_array(values) else []
    )


def _by_type(
    place: Literal["request", "result", "answer", "stream"],
    samples: Iterable[JSON],
    read: Callable[[JSON], list[Part | Uninspected]],
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
            parts = [item for item in items if isinstance(item, Part)]
            hidden = [item for item in items if isinstance(item, Uninspected)]
            shown = json.dumps([[part.text, part.labels, part.attachment] for part in parts])
            judged |= {
                _AS[part.kind] for part in parts if part.text or part.attachment or part.labels
            }
            reasons |= {item.reason for item in hidden}
            missing = {field.strip("<>") for field in _texts(sample) if field not in shown}
            if parts or not hidden:  # else all of it is accounted for
                unread |= {field for field in missing if not _accounted(field, hidden)}
        yield Kind(place, name, *(tuple(sorted(each)) for each in (judged, reasons, unread)))


def _accounted(field: str, hidden: list[Uninspected]) -> bool:
    """Whether a field is part of what was said to be unreadable."""
    for item in hidden:
        if item.reason == "encrypted" and field.rpartition(".")[2].startswith("encrypted_"):
            return True
        inside = _INDEX.sub("", item.path.partition("content[0]")[2]).lstrip(".")
        if item.reason != "encrypted" and inside and field.startswith(inside):
            return True
    return False


def _texts(value: object) -> Iterator[str]:
    """Every text of a sample that is named after its place."""
    if isinstance(value, str) and value.startswith("<"):
        yield value
    elif is_object(value):
        for item in value.values():
            yield from _texts(item)
    elif is_array(value):
        for item in value:
            yield from _texts(item)


def _asked(block: JSON) -> list[Part | Uninspected]:
    read = read_request({"messages": [{"role": "user", "content": [block]}]})
    return [item for items in read.values() for item in items]


def _handed_in(block: JSON) -> list[Part | Uninspected]:
    return [
        item
        for item in _asked({"type": "tool_result", "content": [block]})
        if "].content[" in item.path
    ]


def _answered(block: JSON) -> list[Part | Uninspected]:
    return read_answer({"content": [block]})


def _streamed(delta: JSON, starts: list[JSON]) -> list[Part | Uninspected]:
    """What a delta is read as, within a block that it belongs to, if there is one."""
    found: list[Part | Uninspected] = []
    for start in starts:
        bare = _without_texts(start)
        builder = MessageBuilder()
        builder.feed(event({"type": "content_block_start", "index": 0, "content_block": bare}))
        before = read_answer(builder.message)
        builder.feed(event({"type": "content_block_delta", "index": 0, "delta": delta}))
        builder.feed(event({"type": "content_block_stop", "index": 0}))
        after = read_answer(builder.message)
        found = [item for item in after if item not in before]
        if not any(
            isinstance(item, Uninspected) and item.reason == "unknown_block" for item in after
        ):
            return found
    return found


def _without_texts(block: JSON) -> JSON:
    """A block as a stream begins it: there, and nothing said yet."""
    kept: dict[str, Any] = {key: block[key] for key in ("type", "id", "name") if key in block}
    return kept
