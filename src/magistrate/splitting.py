"""Subjects that are too long for one call, in pieces that overlap, so that nothing goes unread.

Pure. Everything that is to be judged stands in some piece, whole or cut with an overlap; the
context is what comes last before it, as much as fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from magistrate.subjects import Part, Subject
from magistrate.windows import BYTES_PER_TOKEN, tokens

# Tokens of a subject in one call, estimated at four bytes each. With rubric and reply it stays
# below the 100,000 from which the default judge's price is five times as high (prices.yaml).
MOST_TOKENS = 60_000
# Of a text that is cut, what both pieces have: more than a passage that does harm by itself.
OVERLAP_BYTES = 2_000
# Past this nothing is judged (`too_long`): more than any model of the API reads at once.
MOST_PIECES = 24
_MEDIA_TOKENS = 3_000  # about what an image or a page costs, whatever its bytes
_LINE_TOKENS = 40  # path, role and kind of a part


def split(subject: Subject, most: int = MOST_TOKENS) -> list[Subject]:
    """The subject in pieces of at most about `most` tokens each; itself if it is short enough.

    A quarter of a piece is for context. Empty if it would take more than `MOST_PIECES`.
    """
    if sum(map(_size, subject.parts)) <= most:
        return [subject]
    room = most - most // 4
    pieces: list[Subject] = []
    for run in _runs(subject.parts, room):
        first = next(i for i, part in enumerate(subject.parts) if part.path == run[0].path)
        context = _last_of(subject.parts[:first], most // 4)
        pieces.append(replace(subject, parts=(*context, *run)))
        if len(pieces) > MOST_PIECES:
            return []
    return pieces


def _size(part: Part) -> int:
    labels = sum(tokens(name) + tokens(value) for name, value in part.labels.items())
    media = _MEDIA_TOKENS if part.attachment is not None else 0
    return tokens(part.text) + labels + media + _LINE_TOKENS


def _runs(parts: Sequence[Part], room: int) -> Iterator[list[Part]]:
    """The parts to judge, in runs that fit; a part that fits no run is cut."""
    run: list[Part] = []
    used = 0
    for whole in parts:
        if not whole.judged:
            continue
        for part in _cut(whole, room):
            size = _size(part)
            if run and used + size > room:
                yield run
                run, used = [], 0
            run.append(part)
            used += size
    if run:
        yield run


def _cut(part: Part, room: int) -> Iterator[Part]:
    """A part in pieces that overlap, cut between characters."""
    if _size(part) <= room:
        yield part
        return
    data = part.text.encode("utf-8", "surrogatepass")
    most = max(2 * OVERLAP_BYTES, (room - _size(replace(part, text=""))) * BYTES_PER_TOKEN)
    start = 0
    while True:
        end = _between(data, start + most)
        # The attachment, if there is one, goes with the first piece.
        attachment = part.attachment if start == 0 else None
        text = data[start:end].decode("utf-8", "surrogatepass")
        yield replace(part, text=text, attachment=attachment)
        if end == len(data):
            return
        start = _between(data, end - OVERLAP_BYTES)


def _between(data: bytes, at: int) -> int:
    """The nearest place at or before `at` where no character of UTF-8 is cut."""
    at = min(at, len(data))
    while 0 < at < len(data) and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _last_of(parts: Sequence[Part], room: int) -> list[Part]:
    """As many of the last parts as fit, as context: judged elsewhere or before."""
    kept: list[Part] = []
    for part in reversed(parts):
        room -= _size(part)
        if room < 0:
            break
        kept.append(replace(part, judged=False))
    return kept[::-1]
