"""Subjects that are too long for one call, in pieces that overlap, so that nothing goes unread.

Pure. Everything that is to be judged stands in some piece, whole or cut with an overlap; the
context is what comes last before it, as much as fits, and both ends of what does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from magistrate.core.windows import BYTES_PER_TOKEN, tokens
from magistrate.wire.content import Part, Subject

# Tokens of a subject in one call, estimated at four bytes each. With rubric and reply it stays
# below the 100,000 from which the default judge's price is five times as high (prices.yaml).
MOST_TOKENS = 60_000
# Of a text that is cut, what both pieces have: more than a passage that does harm by itself.
OVERLAP_BYTES = 2_000
# Past this nothing is judged (`too_long`): more than any model of the API reads at once.
MOST_PIECES = 24
_MEDIA_TOKENS = 3_000  # about what an image or a page costs, whatever its bytes
_LINE_TOKENS = 40  # path, role and kind of a part
_LEAST_BYTES = 200  # of an end that is shown: less says nothing
GAP = "[…]"  # before an end that is shown without what comes before it


def split(subject: Subject, most: int = MOST_TOKENS) -> list[Subject]:
    """The subject in pieces of at most about `most` tokens each; itself if it is short enough.

    A quarter of a piece is for context. Empty if it would take more than `MOST_PIECES`.
    """
    if sum(map(_size, subject.parts)) <= most:
        return [subject]
    pieces: list[Subject] = []
    for before, earlier, run in _runs(subject.parts, most - most // 4):
        context = _context(before, earlier, most // 4)
        pieces.append(replace(subject, parts=(*context, *run)))
        if len(pieces) > MOST_PIECES:
            return []
    return pieces


def _size(part: Part) -> int:
    labels = sum(tokens(name) + tokens(value) for name, value in part.labels.items())
    media = _MEDIA_TOKENS if part.attachment is not None else 0
    return tokens(part.text) + labels + media + _LINE_TOKENS


def _runs(
    parts: Sequence[Part], room: int
) -> Iterator[tuple[Sequence[Part], Part | None, list[Part]]]:
    """The parts to judge in runs that fit, with the context between them; what fits none is cut.

    With each run come the parts before it, and what stands before it in a part that is cut.
    """
    run: list[Part] = []
    between: list[Part] = []
    used, begins, cut = 0, 0, None
    for index, whole in enumerate(parts):
        if not whole.judged:
            between.append(whole)
            continue
        for earlier, part in _cut(whole, room):
            size = sum(map(_size, between)) + _size(part)
            if run and used + size > room:
                yield parts[:begins], cut, run
                run, used = [], 0
            if not run:
                between, size, begins, cut = [], _size(part), index, earlier
            run += [*between, part]
            used += size
            between = []
    if run:
        yield parts[:begins], cut, run


def _cut(part: Part, room: int) -> Iterator[tuple[Part | None, Part]]:
    """A part in pieces that overlap, cut between characters; with each, what stands before it."""
    if _size(part) <= room:
        yield None, part
        return
    data = _bytes(part)
    most = max(2 * OVERLAP_BYTES, (room - _size(replace(part, text=""))) * BYTES_PER_TOKEN)
    start = 0
    while True:
        end = _between(data, start + most)
        # The attachment, if there is one, goes with the first piece.
        attachment = part.attachment if start == 0 else None
        earlier = _part_of(part, data[:start]) if start else None
        yield earlier, replace(_part_of(part, data[start:end]), attachment=attachment)
        if end == len(data):
            return
        start = _between(data, end - OVERLAP_BYTES)


def _bytes(part: Part) -> bytes:
    return part.text.encode("utf-8", "surrogatepass")


def _part_of(part: Part, data: bytes) -> Part:
    return replace(part, text=data.decode("utf-8", "surrogatepass"), attachment=None)


def _between(data: bytes, at: int) -> int:
    """The nearest place at or before `at` where no character of UTF-8 is cut."""
    at = min(at, len(data))
    while 0 < at < len(data) and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _context(before: Sequence[Part], earlier: Part | None, room: int) -> list[Part]:
    """What comes last before a run, at most what fits: judged elsewhere, or before.

    Of a part that begins too early, both ends: a request stands at the beginning of what it is
    about, or at its end. Half of the room is for what stands before a piece in the part that was
    cut.

    Where the context begins moves on in steps of half the room: the prompts of a conversation that
    goes on must begin alike to be read from the provider's cache, which they would not if every
    turn pushed out another.
    """
    kept: list[Part] = []
    if earlier is not None:
        kept = _ends(earlier, room // 2)
        room -= sum(map(_size, kept))
    sizes = [_size(part) for part in before]
    step = max(1, room // 2)
    begins = -(-max(0, sum(sizes) - room) // step) * step  # tokens from the start, rounded up
    context: list[Part] = []
    end = 0
    for part, size in zip(before, sizes, strict=True):
        end += size
        if end - size >= begins:
            context.append(replace(part, judged=False))
        elif end > begins:
            context += _ends(part, end - begins)
    return [*context, *kept]


def _ends(part: Part, room: int) -> list[Part]:
    """A part as context, or its beginning and its end; nothing where there is no room for both."""
    bare = replace(part, text="", judged=False, attachment=None)
    spare = (room - 2 * _size(bare)) * BYTES_PER_TOKEN // 2
    if spare < _LEAST_BYTES:
        return []
    data = _bytes(part)
    if len(data) <= 2 * spare:
        return [replace(bare, text=part.text)]
    head = _part_of(bare, data[: _between(data, spare)])
    tail = _part_of(bare, data[_between(data, len(data) - spare) :])
    return [head, replace(tail, text=f"{GAP} {tail.text}")]
