"""Escapes between other characters: of URLs, of programming languages and JSON, of HTML.

Pure. Programs and pages need them, so that only those count that no tool writes, or whole words.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias
from urllib.parse import unquote

from magistrate.text.readable import is_text

_Unescape: TypeAlias = Callable[[str], str]

_GAP = 24  # characters between two escapes of one passage
_LONGEST = 16_000  # characters decoded at once: four times what can be shown
_NEEDLESS = 3  # escaped letters and digits of ASCII: no tool writes them so, in any format
_WRITTEN = 4  # escaped letters of other scripts in a row
_NO_WORD = frozenset("\"'`<>()[]{}=&")
_AFTER = re.compile(r"[^\s\"'`<>()\[\]{}=&]{0,24}")
_ADDRESS = re.compile(r"://|\bwww\.")


def escaped(text: str) -> Iterator[tuple[str, str]]:
    """What escapes in a text say, as (how, text)."""
    for how, sign, pattern, unescape in _ESCAPES:
        if sign in text:
            for said in _unescaped(text, pattern, unescape, percent=sign == "%"):
                yield how, said


def _unescaped(
    text: str, pattern: re.Pattern[str], unescape: _Unescape, *, percent: bool
) -> Iterator[str]:
    """Passages with escapes that spell something, to the ends of their words.

    Programs and pages have accents and ranges of letters in escapes, so that only a word in a row
    counts; addresses have whole words, so that in one of them only needless ones count.
    """
    for start, end, needless, written in _passages(text, pattern, unescape, rows=not percent):
        if needless < _NEEDLESS and (
            written < (_NEEDLESS if percent else _WRITTEN)
            or (percent and _is_in_address(text, start))
        ):
            continue
        after = _AFTER.match(text, end)
        said = unescape(text[_word_start(text, start) : after.end() if after else end])
        if is_text(said):
            yield said


def _word_start(text: str, at: int) -> int:
    least = max(0, at - _GAP)
    while at > least and not (text[at - 1].isspace() or text[at - 1] in _NO_WORD):
        at -= 1
    return at


def _is_in_address(text: str, at: int) -> bool:
    """Whether what stands before a place, up to a space, begins as an address does."""
    before = text[max(0, at - 500) : at]
    words = before.split()
    return bool(words and not before[-1].isspace() and _ADDRESS.search(words[-1]))


def _passages(
    text: str, pattern: re.Pattern[str], unescape: _Unescape, *, rows: bool
) -> Iterator[tuple[int, int, int, int]]:
    """Where escapes stand close together; how many letters are needless, and how many others."""
    start = end = needless = written = 0
    for match in pattern.finditer(text):
        if end and (match.start() - end > _GAP or end - start > _LONGEST):
            yield start, end, needless, written
            end = needless = written = 0
        if not end:
            start = match.start()
        end = match.end()
        chars = unescape(match[0])
        needless += sum(char.isascii() and char.isalnum() for char in chars)
        letters = sum(not char.isascii() and char.isalpha() for char in chars)
        written = max(written, letters) if rows else written + letters
    if end:
        yield start, end, needless, written


_SLASHED = re.compile(
    r"\\\\{0,3}(?:u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})"
    r"|([0-3][0-7]{2}))"
)


def _row(escape: str) -> re.Pattern[str]:
    """Escapes side by side. Begins with the sign they begin with: that is found fast."""
    return re.compile(f"{escape}(?:{escape}){{0,998}}+")


def _unslash(passage: str) -> str:
    """Escapes of programming languages; bytes that are UTF-8 together are read so."""

    def char(match: re.Match[str]) -> str:
        octal = match[5]
        code = int(octal, 8) if octal else int(next(filter(None, match.groups())), 16)
        return chr(code) if code <= 0x10FFFF else "\ufffd"

    text = _SLASHED.sub(char, passage)
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


_ESCAPES: tuple[tuple[str, str, re.Pattern[str], _Unescape], ...] = (
    ("percent-encoding", "%", _row("%(?:25)*[0-9a-fA-F]{2}"), unquote),
    ("escapes", "\\", _row(_SLASHED.pattern), _unslash),
    ("HTML entities", "&#", _row("&#(?:\\d{1,7}|[xX][0-9a-fA-F]{1,6});?"), html.unescape),
)
