"""Decode escapes in a text: of URLs, of programming languages and JSON, of HTML.

Pure. Programs and pages need escapes, so only needless ones (which no tool writes) and whole
escaped words count.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias
from urllib.parse import unquote

from magistrate.text.readable import is_text

_Unescape: TypeAlias = Callable[[str], str]

_GAP = 24  # most characters between two escapes of one passage
_LONGEST = 16_000  # characters decoded at once: four times what can be shown
_NEEDLESS = 3  # escaped ASCII letters and digits: no tool escapes them, in any format
_WRITTEN = 4  # escaped letters of other scripts in a row
_NO_WORD = frozenset("\"'`<>()[]{}=&")
_AFTER = re.compile(r"[^\s\"'`<>()\[\]{}=&]{0,24}")
_ADDRESS = re.compile(r"://|\bwww\.")


def escaped(text: str) -> Iterator[tuple[str, str]]:
    """Yield the decoded passages of a text, as (how, text)."""
    for how, sign, pattern, unescape in _ESCAPES:
        if sign in text:
            for said in _unescaped(text, pattern, unescape, percent=sign == "%"):
                yield how, said


def _unescaped(
    text: str, pattern: re.Pattern[str], unescape: _Unescape, *, percent: bool
) -> Iterator[str]:
    """Yield decoded passages with suspicious escapes, extended to whole words.

    Programs and pages escape accents and ranges of letters, so only several escaped letters in a
    row count. URLs escape whole words, so in a URL only needless escapes count.
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
    """Return whether the characters before `at`, back to a space, contain the start of a URL."""
    before = text[max(0, at - 500) : at]
    words = before.split()
    return bool(words and not before[-1].isspace() and _ADDRESS.search(words[-1]))


def _passages(
    text: str, pattern: re.Pattern[str], unescape: _Unescape, *, rows: bool
) -> Iterator[tuple[int, int, int, int]]:
    """Yield start and end of passages with escapes close together, and two counts of letters.

    The counts are: needlessly escaped ASCII letters and digits, and escaped letters of other
    scripts (`rows`: the most in a row).
    """
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
    """Return a pattern for adjacent escapes. It begins with their first character, for speed."""
    return re.compile(f"{escape}(?:{escape}){{0,998}}+")


def _unslash(passage: str) -> str:
    """Decode escapes of programming languages, and bytes that form UTF-8 together."""

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
