"""The size of a judge's input: one measure for all limits.

Pure. Sizes are in tokens, estimated at four bytes each. Everything that makes the prompt longer
counts: a part's text, its labels, its attachment, and the line that introduces it.
"""

from __future__ import annotations

from collections.abc import Iterable

from magistrate.text.tokens import tokens
from magistrate.wire.parts import Part

_MEDIA_TOKENS = 3_000  # about the cost of an image or a page, independent of its bytes
_LINE_TOKENS = 40  # path, role and kind of a part


def size_of(part: Part) -> int:
    """Estimate the number of tokens of a part in a judge's prompt."""
    labels = sum(tokens(name) + tokens(value) for name, value in part.labels.items())
    media = _MEDIA_TOKENS if part.attachment is not None else 0
    return tokens(part.text) + labels + media + _LINE_TOKENS


def total_size(parts: Iterable[Part]) -> int:
    """Estimate the number of tokens of several parts together."""
    return sum(map(size_of, parts))
