"""Split subjects that are too long for one call into pieces that overlap, so that all is judged.

Pure. Each part to judge is in some piece, whole or cut with an overlap. The context of a piece is
the end of what precedes it, as much as fits; of a part that does not fit, it is both ends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TypeAlias

from magistrate.core.subject_size import size_of, total_size
from magistrate.text.tokens import BYTES_PER_TOKEN
from magistrate.wire.parts import Part, Subject, as_context

# Most tokens of a subject in one call, estimated at four bytes each. With rubric and reply, a call
# stays below 100,000 tokens, where the default judge's price becomes five times as high
# (prices.yaml).
MOST_TOKENS = 60_000
# Bytes that neighbouring pieces of a cut text share: longer than a passage that is harmful by
# itself.
OVERLAP_BYTES = 2_000
_LEAST_PIECE = 2 * OVERLAP_BYTES  # half of it is not in the piece before
# With more pieces, the subject is not judged (`too_long`): it is longer than the context window of
# any model of the API.
MOST_PIECES = 24
_LEAST_BYTES = 200  # of an end that is shown: a shorter one is not useful
GAP = "[…]"  # before an end of a text whose middle is left out

_Earlier: TypeAlias = tuple[Part, memoryview]  # a cut part, and its text before a piece of it


def split(
    subject: Subject, most: int = MOST_TOKENS, *, sizes: Sequence[int] | None = None
) -> list[Subject]:
    """Return the subject in pieces of at most about `most` tokens, or unsplit if it fits.

    A quarter of a piece is for context. The list is empty if there would be more than `MOST_PIECES`
    pieces, or if the labels of a part, which each of its pieces repeats, leave no room for its
    text. Pass the `sizes` of the parts if they are known: measuring takes time proportional to the
    text.
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
    """Return the tokens of the smallest later piece of a part: its labels and twice the overlap.

    An attachment is in the first piece only.
    """
    bare = replace(part, text="", attachment=None)
    return min(size_of(part), size_of(bare) + _LEAST_PIECE // BYTES_PER_TOKEN)


def _runs(parts: Sequence[Part], room: int) -> Iterator[tuple[int, _Earlier | None, list[Part]]]:
    """Yield the parts to judge in runs that fit, with the context between them.

    A part that fits into no run is cut. Each run comes with the number of parts before it, and, if
    it begins inside a cut part, with that part's text before the run.
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
    """Yield a part in overlapping pieces, cut between characters, each with the text before it."""
    if size_of(part) <= room:
        yield None, part
        return
    data = _bytes(part)
    most = max(_LEAST_PIECE, (room - size_of(replace(part, text=""))) * BYTES_PER_TOKEN)
    start = 0
    while True:
        end = _between(data, start + most)
        # The attachment, if any, is in the first piece.
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
    """Return the last position up to `at` that is not inside a UTF-8 character."""
    at = min(at, len(data))
    while 0 < at < len(data) and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _context(
    parts: Sequence[Part], reached: Sequence[int], earlier: _Earlier | None, room: int
) -> list[Part]:
    """Return the context of a run: what directly precedes it, as much as fits.

    All of it is judged in another piece, or was judged earlier. `reached` is the number of tokens
    before each part, up to and including the first part of the run.

    Of a part that does not fit whole, both ends are shown: the request about a text is at its
    beginning or at its end. If the run begins inside a cut part, half of the room is for the text
    of that part before the run.

    The start of the context moves in steps of half the room. The prompts of successive turns must
    begin with the same text to be read from the provider's cache, and they would not if each turn
    pushed out an older one.
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
    """Return the text of a part as context, or only its two ends; nothing if both do not fit."""
    bare = replace(part, text="", judged=False, attachment=None)
    spare = (room - 2 * size_of(bare)) * BYTES_PER_TOKEN // 2
    if spare < _LEAST_BYTES:
        return []
    if len(data) <= 2 * spare:
        return [_part_of(bare, data)]
    head = _part_of(bare, data[: _between(data, spare)])
    tail = _part_of(bare, data[_between(data, len(data) - spare) :])
    return [head, replace(tail, text=f"{GAP} {tail.text}")]
