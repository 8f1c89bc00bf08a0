"""How everything that the installed SDK can carry is treated, worked out rather than written down.

The SDK's source says which requests and which content there is; the code that moderates says what
it does with each. So a method or a type that nobody has heard of shows up as what happens to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from magistrate.messages import JSON, is_array, is_object
from magistrate.routes import route, unhandled_surface
from magistrate.sdk_source import Call, Types, calls
from magistrate.sse import MessageBuilder, event
from magistrate.subjects import Part, Uninspected, read_answer, read_request

Treatment = Literal["inspected", "refused", "uninspected", "passes", "free"]

_JUDGED = {
    "message": "The request is judged, and its answer before anyone sees it.",
    "batch": "Every entry is judged before the batch is sent.",
    "results": "Every answer is judged as its line arrives.",
}
_READS = frozenset({"get", "delete"})


@dataclass(frozen=True, slots=True)
class Treated:
    """One request of the SDK and what becomes of it. `why` is a sentence for people."""

    call: Call
    treatment: Treatment
    why: str


@dataclass(frozen=True, slots=True)
class Surface:
    """The requests of one resource; `names` are where it hangs on a client."""

    names: tuple[str, ...]
    calls: tuple[Treated, ...]

    @property
    def treatment(self) -> str:
        """All of it in a word: `partly` where content of one call is judged, of another is not."""
        found = {treated.treatment for treated in self.calls}
        if "inspected" in found:
            return "inspected" if found <= {"inspected", "free"} else "partly"
        order = ("refused", "uninspected", "passes", "free")
        return next(each for each in order if each in found)


def surfaces(sdk: Path) -> list[Surface]:
    """Every resource of an SDK; one and its twin under `beta` are one where their paths agree."""
    found: dict[str, list[Treated]] = {}
    for call in calls(sdk):
        found.setdefault(call.resource, []).append(treated(call))
    result: list[Surface] = []
    for name, group in found.items():
        bare = name.removeprefix("beta.")
        if bare != name and bare in found:
            continue
        names = [each for each in (bare, f"beta.{bare}") if each in found]
        mine = {_shape(item): item for each in reversed(names) for item in found[each]}
        result.append(Surface(tuple(names), tuple(mine[key] for key in sorted(mine))))
    return sorted(result, key=lambda surface: surface.names[0].removeprefix("beta."))


def _shape(item: Treated) -> tuple[str, str, str]:
    return item.call.method, item.call.verb, item.call.path


def treated(call: Call) -> Treated:
    """What becomes of one request."""
    found: str = route(call.verb, call.example)
    if found == "refused":
        what = unhandled_surface(call.example) or "this"
        words = f"magistrate does not moderate {what} yet: the call raises ModerationError."
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

_BLOCKS: dict[str, tuple[str, str]] = {
    "ContentBlockParam": ("request", "content_block_param.py"),
    "BetaContentBlockParam": ("request", "beta/beta_content_block_param.py"),
    "ContentBlock": ("answer", "content_block.py"),
    "BetaContentBlock": ("answer", "beta/beta_content_block.py"),
}
# What a tool result may hold besides: none of it may stand in a turn by itself.
_IN_RESULTS: dict[str, str] = {
    "ToolResultBlockParam": "tool_result_block_param.py",
    "BetaToolResultBlockParam": "beta/beta_tool_result_block_param.py",
}
_DELTAS: dict[str, str] = {
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
    """Every type of content in the SDK's unions of blocks and deltas."""
    types = sdk / "types"
    found: list[Kind] = []
    starts: list[JSON] = []
    requests: list[JSON] = []
    for name, (place, file) in _BLOCKS.items():
        samples = _objects(Types(types / file).samples(name))
        (requests if place == "request" else starts).extend(samples)
    nested = [
        inner
        for name, file in _IN_RESULTS.items()
        for sample in _objects(Types(types / file).samples(name))
        for inner in _objects(sample.get("content"))
    ]
    deltas = [
        delta
        for name, file in _DELTAS.items()
        for delta in _objects(Types(types / file).samples(name))
    ]
    known = {block["type"] for block in requests}
    found += _by_type("request", requests, _asked)
    found += _by_type("result", [b for b in nested if b["type"] not in known], _handed_in)
    found += _by_type("answer", starts, _answered)
    found += _by_type("stream", deltas, lambda delta: _streamed(delta, starts))
    return found


def _objects(values: object) -> list[JSON]:
    return [each for each in values if is_object(each) and "type" in each] if is_array(values) else []


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
            hidden = [item.reason for item in items if isinstance(item, Uninspected)]
            shown = json.dumps([[part.text, part.labels, part.attachment] for part in parts])
            judged |= {_AS[part.kind] for part in parts if _says_something(part)}
            reasons |= set(hidden)
            missing = {place for place in _texts(sample) if json.dumps(place)[1:-1] not in shown}
            if parts or not hidden:
                unread |= {field.strip("<>") for field in missing}
        unread = {field for field in unread if not field.split(".")[-1].startswith("encrypted_")}
        yield Kind(place, name, *(tuple(sorted(each)) for each in (judged, reasons, unread)))


def _says_something(part: Part) -> bool:
    return bool(part.text or part.labels or part.attachment)


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
        if not any(isinstance(item, Uninspected) and item.reason == "unknown_block" for item in after):
            return found
    return found


def _without_texts(block: JSON) -> JSON:
    """A block as a stream begins it: there, and nothing said yet."""
    kept: dict[str, Any] = {key: block[key] for key in ("type", "id", "name") if key in block}
    return kept
