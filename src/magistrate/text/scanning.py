"""Search texts in linear time: find where a pattern can match at all.

Pure. Most texts contain nothing of interest. Byte operations, at a hundredth of the cost of a
regular expression, find where something can be; regular expressions run only there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

OTHER = "?"  # a character outside ASCII, in `ascii_of`


def ascii_of(text: str) -> bytes:
    """Return one byte per character. A question mark becomes NUL: it would look like `OTHER`."""
    return text.replace("?", "\0").encode("ascii", "replace")


def table(**kinds: str) -> bytes:
    """Return a `bytes.translate` table: each kind's characters to its letter, others to spaces."""
    kind_of = {ord(char): ord(kind) for kind, chars in kinds.items() for char in chars}
    return bytes(kind_of.get(code, ord(" ")) for code in range(256))


def runs(raw: bytes, alphabet: bytes, least: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of runs of at least `least` characters of an alphabet, `table(x=...)`.

    Runs are complete and never overlap, so that no character is read twice.
    """
    mask = raw.translate(alphabet)
    end = 0
    while (start := mask.find(b"x" * least, end)) >= 0:
        end = mask.find(b" ", start)
        end = len(mask) if end < 0 else end
        yield start, end


def ranges(chars: Iterable[str], gap: int = 0) -> str:
    """Return ranges for a character class: `re` tries characters beyond U+FFFF one by one.

    With `gap`, ranges also include gaps of up to that many other characters.
    """
    found: list[list[int]] = []
    for code in sorted(map(ord, chars)):
        if found and code - found[-1][1] <= gap + 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in found)
