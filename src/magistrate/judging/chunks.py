"""Subjects that are too long for one call, in pieces that overlap, so that nothing goes unread.

Pure. Everything that is to be judged stands in some piece, whole or cut with an overlap; the
context is what comes last before it, as much as fits, and both ends of what does not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TypeAlias

from magistrate.core.sizes import size_of, total_size
from magistrate.text.tokens import BYTES_PER_TOKEN
from magistrate.wire.parts import Part, Subject, as_context

# Tokens of a subject in one call, estimated at four bytes each. With rubric and reply it stays
# below the 100,000 from which the default judge's price is five times as high (prices.yaml).
MOST_TOKENS = 60_000
# Of a text that is cut, what both pieces have: more than a passage that does harm by itself.
OVERLAP_BYTES = 2_000
_LEAST_PIECE = 2 * OVERLAP_BYTES  # half of it is new
# Past this nothing is judged (`too_long`): more than any model of the API reads at once.
MOST_PIECES = 24
_LEAST_BYTES = 200  # of an end that is shown: less says nothing
GAP = "[…]"  # before an end that is shown without what comes before it

_Earlier: TypeAlias = tuple[Part, memoryview]  # a part that is cut, and its text up to some place


def split(
    subject: Subject, most: int = MOST_TOKENS, *, sizes: Sequence[int] | None = None
) -> list[Subject]:
    """The subject in pieces of at most about `most` tokens each; itself if it is short enough.

    A quarter of a piece is for context. Empty if it would take more than `MOST_PIECES`, or if the
    labels of a part, which stand in each of its pieces, leave no room for its text. `sizes` are
    those of its parts, where they are known: to measure a text takes time that grows with it.
    """
    reached = list(accumulate(map(size_of, subject.parts) if sizes is None else sizes, initial=0))
    if reached[-1] <= most:
        return [subject]
    room = most - most // 4
    if any(part.judged and _least(part) > room for part in subject.parts):
        return []
    pieces: list[Subject] = []
    for before, earlier, run in _runs(subject.parts, room):
        context = _context(subject.parts, reached[: before + 1], earlier, most // 4)
        pieces.append(replace(subject, parts=(*context, *run)))
        if len(pieces) > MOST_PIECES:
            return []
    return pieces


def _least(part: Part) -> int:
    """Tokens of the smallest later piece of a part: its labels, and of its text twice the overlap.

    What is attached goes with the first piece only.
    """
    bare = replace(part, text="", attachment=None)
    return min(size_of(part), size_of(bare) + _LEAST_PIECE // BYTES_PER_TOKEN)


def _runs(parts: Sequence[Part], room: int) -> Iterator[tuple[int, _Earlier | None, list[Part]]]:
    """The parts to judge in runs that fit, with the context between them; what fits none is cut.

    With each run come how many parts stand before it, and what does in a part that is cut.
    """
    run: list[Part] = []
    between: list[Part] = []
    used, gap, begins, cut = 0, 0, 0, None
    for index, whole in enumerate(parts):
        if not whole.judged:
            between.append(whole)
            gap += size_of(whole)
            continue
        for earlier, part in _cut(whole, room):
            size = size_of(part)
            if run and used + gap + size > room:
                yield begins, cut, run
                run, used = [], 0
            if not run:
                between, gap, begins, cut = [], 0, index, earlier
            run += [*between, part]
            used += gap + size
            between, gap = [], 0
    if run:
        yield begins, cut, run


def _cut(part: Part, room: int) -> Iterator[tuple[_Earlier | None, Part]]:
    """A part in pieces that overlap, cut between characters; with each, what stands before it."""
    if size_of(part) <= room:
        yield None, part
        return
    data = _bytes(part)
    most = max(_LEAST_PIECE, (room - size_of(replace(part, text=""))) * BYTES_PER_TOKEN)
    start = 0
    while True:
        end = _between(data, start + most)
        # The attachment, if there is one, goes with the first piece.
        attachment = part.attachment if start == 0 else None
        earlier = (part, data[:start]) if start else None
        yield earlier, replace(_part_of(part, data[start:end]), attachment=attachment)
        if end == len(data):
            return
        start = _between(data, end - OVERLAP_BYTES)


def _bytes(part: Part) -> memoryview:
    return memoryview(part.text.encode("utf-8", "surrogatepass"))


def _part_of(part: Part, data: memoryview) -> Part:
    return replace(part, text=str(data, "utf-8", "surrogatepass"), attachment=None)


def _between(data: memoryview, at: int) -> int:
    """The nearest place at or before `at` where no character of UTF-8 is cut."""
    at = min(at, len(data))
    while 0 < at < len(data) and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _context(
    parts: Sequence[Part], reached: Sequence[int], earlier: _Earlier | None, room: int
) -> list[Part]:
    """What comes last before a run, at most what fits: judged elsewhere, or before.

    `reached` is how many tokens stand before each of the parts up to the run, which is the last.

    Of a part that begins too early, both ends: a request stands at the beginning of what it is
    about, or at its end. Half of the room is for what stands before a piece in the part that was
    cut.

    Where the context begins moves on in steps of half the room: the prompts of a conversation that
    goes on must begin alike to be read from the provider's cache, which they would not if every
    turn pushed out another.
    """
    kept: list[Part] = []
    if earlier is not None:
        kept = _ends(*earlier, room // 2)
        room -= total_size(kept)
    step = max(1, room // 2)
    begins = -(-max(0, reached[-1] - room) // step) * step  # tokens from the start, rounded up
    run = len(reached) - 1
    first = bisect_left(reached, begins, hi=run)
    context = [as_context(part) for part in parts[first:run]]
    if first and (over := reached[first] - begins) > 0:
        context = [*_ends(parts[first - 1], _bytes(parts[first - 1]), over), *context]
    return [*context, *kept]


def _ends(part: Part, data: memoryview, room: int) -> list[Part]:
    """Text of a part as context, or its beginning and its end; nothing without room for both."""
    bare = replace(part, text="", judged=False, attachment=None)
    spare = (room - 2 * size_of(bare)) * BYTES_PER_TOKEN // 2
    if spare < _LEAST_BYTES:
        return []
    if len(data) <= 2 * spare:
        return [_part_of(bare, data)]
    head = _part_of(bare, data[: _between(data, spare)])
    tail = _part_of(bare, data[_between(data, len(data) - spare) :])
    return [head, replace(tail, text=f"{GAP} {tail.text}")]
