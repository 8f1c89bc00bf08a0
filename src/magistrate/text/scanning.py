"""How a text is searched in linear time: where in it a pattern can match at all.

Pure. Most texts hold nothing that is looked for. Whether they can is told by byte operations, which
cost a hundredth of a regular expression; those then run only where there is reason to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

OTHER = "?"  # a character outside ASCII, in `ascii_of`


def ascii_of(text: str) -> bytes:
    """One byte a character. A question mark as it is would look like `OTHER`: it becomes NUL."""
    return text.replace("?", "\0").encode("ascii", "replace")


def table(**kinds: str) -> bytes:
    """For `bytes.translate`: the characters of each kind to the kind's letter, others to spaces."""
    kind_of = {ord(char): ord(kind) for kind, chars in kinds.items() for char in chars}
    return bytes(kind_of.get(code, ord(" ")) for code in range(256))


def runs(raw: bytes, alphabet: bytes, least: int) -> Iterator[tuple[int, int]]:
    """Where at least so many characters of an alphabet, `table(x=...)`, stand in a row.

    Each run is whole, so that whoever reads one never reads a character twice.
    """
    mask = raw.translate(alphabet)
    end = 0
    while (start := mask.find(b"x" * least, end)) >= 0:
        end = mask.find(b" ", start)
        end = len(mask) if end < 0 else end
        yield start, end


def ranges(chars: Iterable[str], gap: int = 0) -> str:
    """Characters for a character class, in ranges: `re` tries those beyond U+FFFF one by one.

    With a gap, what stands between two characters at most so far apart is taken along.
    """
    found: list[list[int]] = []
    for code in sorted(map(ord, chars)):
        if found and code - found[-1][1] <= gap + 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in found)
