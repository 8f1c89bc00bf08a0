"""How big what a judge reads is: one measure, for every limit.

Pure. In tokens, estimated at four bytes each. Whatever makes a judge's prompt longer counts: the
text of a part, its labels, what is attached to it, and that it is a part at all.
"""

from __future__ import annotations

from collections.abc import Iterable

from magistrate.core.windows import tokens
from magistrate.wire.parts import Part

_MEDIA_TOKENS = 3_000  # about what an image or a page costs, whatever its bytes
_LINE_TOKENS = 40  # path, role and kind of a part


def size_of(part: Part) -> int:
    """About how many tokens a part has in a judge's prompt."""
    labels = sum(tokens(name) + tokens(value) for name, value in part.labels.items())
    media = _MEDIA_TOKENS if part.attachment is not None else 0
    return tokens(part.text) + labels + media + _LINE_TOKENS


def total_size(parts: Iterable[Part]) -> int:
    """About how many tokens several parts have together."""
    return sum(map(size_of, parts))
