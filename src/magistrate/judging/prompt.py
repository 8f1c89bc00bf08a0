"""Make a judge's prompt, with the subject as fenced data.

Pure. `testing.prompt_parser` reads every field of every part back exactly, whatever the part
contains: that is what "the subject is data" means here.

Each part is one line and each line one content block. No line depends on what is judged in this
call. So the next turn of a conversation, or the next window of an answer, begins with the same
blocks as the call before, and the provider's prompt cache can supply them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from magistrate.judging.prices import min_cacheable
from magistrate.judging.rubric import Rubric, compiled
from magistrate.text.reading import Reading, reading
from magistrate.text.tokens import tokens
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Part, Subject

Read = Callable[[str], Reading]

_ENCODER = json.JSONEncoder(ensure_ascii=False)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def labelled(subject: Subject) -> dict[str, Part]:
    """Return the parts of a subject by the labels that the judge sees."""
    return {f"p{number}": part for number, part in enumerate(subject.parts, 1)}


@dataclass(frozen=True, slots=True)
class Shown:
    """The lines of a subject as content blocks, the same for every judge of it.

    For each of the `parts`, `until` is the number of blocks up to its end, and `sizes` the number
    of tokens in them. `ends`: the last part of the context, and the last judged part if the next
    prompt can be the same up to there.
    """

    parts: tuple[Part, ...]
    blocks: tuple[JSON, ...]
    until: tuple[int, ...]
    sizes: tuple[int, ...]
    ends: tuple[int, ...]


def show(subject: Subject, earlier: Shown | None = None, read: Read = reading) -> Shown:
    """Return the lines of a subject; the first ones from `earlier`, as far as they are the same.

    Takes time proportional to the other lines: each is read for disguises (by `read`) and
    serialised.
    """
    parts = subject.parts
    same = 0 if earlier is None else same_lines(earlier.parts, parts)
    blocks, until, sizes = list[JSON](), list[int](), list[int]()
    if earlier is not None and same:
        until, sizes = list(earlier.until[:same]), list(earlier.sizes[:same])
        blocks = list(earlier.blocks[: until[-1]])
    for index, part in enumerate(parts[same:], same):
        line = _line(f"p{index + 1}", part, parts[index - 1] if index else None, read)
        blocks.append(_text(line))
        if part.attachment is not None:
            blocks.append(dict(part.attachment))
        until.append(len(blocks))
        sizes.append((sizes[-1] if sizes else 0) + tokens(line))
    return Shown(parts, tuple(blocks), tuple(until), tuple(sizes), _ends(subject))


def same_lines(earlier: Sequence[Part], parts: Sequence[Part]) -> int:
    """Return how many parts at the beginning have the same line in both.

    Each window of a stream compares all parts before it, so the cost is quadratic in the length of
    the stream: about 30 ns per part for the same object, and 200 ns for another object with the
    same text.
    """
    for index, (one, other) in enumerate(zip(earlier, parts, strict=False)):
        if one is not other and not _same_line(one, other):
            return index
    return min(len(earlier), len(parts))


def _same_line(one: Part, other: Part) -> bool:
    """Return whether two parts differ at most in whether they are judged.

    Attachments are compared by identity: in Python 1 == True, but they differ as JSON.
    """
    return (
        one.text == other.text
        and one.path == other.path
        and one.role == other.role
        and one.kind == other.kind
        and one.attachment is other.attachment
        and one.labels == other.labels
        and (not one.labels or [*one.labels] == [*other.labels])  # in the same order
    )


def _ends(subject: Subject) -> tuple[int, ...]:
    """Return the last part of the context and the last judged part, in order."""
    ends: list[int] = []
    for judged in (False, True):
        if judged and subject.stage == "output" and subject.final:
            continue  # no later call reads it: as a turn, the answer has another path
        indices = range(len(subject.parts) - 1, -1, -1)
        ends += [i for i in indices if subject.parts[i].judged is judged][:1]
    return tuple(sorted(ends))


def make_prompt(
    rubric: Rubric,
    subject: Subject,
    *,
    nonce: str,
    model: str,
    max_tokens: int,
    effort: str | None,
    shown: Shown | None = None,
) -> JSON:
    """Return the Messages API request that asks a judge about a subject.

    The authors of the subject must not be able to know `nonce`. It may be the same for a whole
    conversation: lines are JSON, so no line can look like the fence, even if its author knows the
    nonce. `shown` is `show(subject)`, for several questions about the same subject.
    """
    shown = shown or show(subject)
    opening, closing = _around(rubric, subject, nonce)
    # Copies, about 60 ns each: the next window uses the same blocks, and the request passes
    # through code of the application.
    content: list[JSON] = [_text(opening), *map(dict, shown.blocks), _text(closing)]
    _set_breakpoints(rubric, content, shown, model)
    config: JSON = {"format": {"type": "json_schema", "schema": rubric.schema}}
    if effort is not None:
        config["effort"] = effort
    return {
        "model": model,
        "max_tokens": max_tokens,
        "system": [_text(rubric.system) | {"cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": content}],
        "output_config": config,
    }


def _set_breakpoints(rubric: Rubric, content: list[JSON], shown: Shown, model: str) -> None:
    """Set cache breakpoints after the context and the judged parts, if the prefix is long enough.

    These two and the rubric's are three; the API allows four. The one after the context reads what
    the previous call wrote. The one after the judged parts writes for the next call, if that can
    begin with the same text.
    """
    least = min_cacheable(model)
    before = _tokens_of_rubric(rubric.system) + tokens(content[0]["text"])
    for end in shown.ends:
        if before + shown.sizes[end] >= least:
            at = shown.until[end]  # after the opening, which is one block
            content[at] = content[at] | {"cache_control": {"type": "ephemeral"}}


@lru_cache(maxsize=256)
def _tokens_of_rubric(system: str) -> int:
    return tokens(system)


def _around(rubric: Rubric, subject: Subject, nonce: str) -> tuple[str, str]:
    """Return the text before and after the lines."""
    judged = _ranges(number for number, part in enumerate(subject.parts, 1) if part.judged)
    whole = compiled(rubric.templates.subject).render(
        nonce=nonce,
        lines="\x00",
        judged=judged,
        several="," in judged or "-" in judged,
        stage=subject.stage,
        final=subject.final,
        screens=rubric.screens,
    )
    opening, _, closing = whole.partition("\x00")
    return opening, closing


def _ranges(numbers: Iterable[int]) -> str:
    """Format `1, 2, 3, 7` as `p1-p3, p7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"p{a}" if a == b else f"p{a}-p{b}" for a, b in runs)


def _text(text: str) -> JSON:
    return {"type": "text", "text": text}


def _line(label: str, part: Part, before: Part | None, read: Read) -> str:
    """Return a part as JSON, on one line with its line break.

    A part that continues the text of the part before is only marked as such: an answer that is
    judged in windows has many.
    """
    line: JSON = {"part": label}
    if _continues(part, before):
        line["continues"] = True
    else:
        line |= {"path": part.path, "role": part.role, "kind": part.kind}
        if part.labels:
            line["labels"] = part.labels
    line["text"] = part.text
    if part.attachment is not None:
        line["attached"] = "the next block"
    line |= read(part.text).as_json()
    named = {key: read(value).as_json() for key, value in part.labels.items()}
    if any(named.values()):
        line["in_labels"] = {key: found for key, found in named.items() if found}
    return _one_line(line) + "\n"


def _continues(part: Part, before: Part | None) -> bool:
    return (
        before is not None
        and part.kind in ("text", "thinking")
        and before.attachment is None
        and part.attachment is None
        and not part.labels
        and (part.path, part.role, part.kind, part.labels)
        == (before.path, before.role, before.kind, before.labels)
    )


def _one_line(value: JSON) -> str:
    """Return JSON without raw line breaks or lone surrogates; other characters stay readable."""
    text = _ENCODER.encode(value)
    return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
