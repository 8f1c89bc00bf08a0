"""Normalise words with separators between their letters, or with digits in place of letters.

Pure. Programs and tables contain much that looks like either, so a single short word never counts:
there must be several words, or a longer one.
"""

from __future__ import annotations

import re
from itertools import pairwise

from magistrate.text.lookalikes import FULL_WIDTH, LEET, REGIONAL, STYLED, VOWELS
from magistrate.text.scanning import ascii_of, ranges, table

# --- letters spread out ---------------------------------------------------------------------------

_UNDRESSED = STYLED | FULL_WIDTH | REGIONAL
_LETTER = f"[A-Za-zÀ-ÖØ-öø-ɏͰ-ϿЀ-ӿ԰-֏{ranges(_UNDRESSED)}]"
_SEPARATOR = "[ \\u00a0\\u2000-\\u200a.·•*_|/,+~=-]"
# A letter that is not part of a longer word, nor joined to one by a different separator.
_ALONE = f"{_LETTER}(?![\\w'’🇦-🇿])(?!(?!\\1)[.*_|/,+~=-]\\w)"
_RUN = f"(?<![\\w'’🇦-🇿])(?<!\\w[.*_|/,+~=-]){_LETTER}({_SEPARATOR}){_ALONE}(?:\\1{_ALONE}){{%d,}}+"
_SPREAD = re.compile(_RUN % 2)
_ALSO_SPREAD = re.compile(_RUN % 0)
_GOES_ON = re.compile(r"[.*_|/,+~=-]\w")
# The last three letters of four: a search that begins with the separator is fast.
_CAN_BE_SPREAD = re.compile(f"({_SEPARATOR}){_LETTER}\\1{_LETTER}\\1{_LETTER}(?![\\w'’🇦-🇿])")


def can_be_spread(text: str) -> bool:
    """Return whether `join_spread` could change any part of a text; cheap."""
    return _CAN_BE_SPREAD.search(text) is not None


def join_spread(text: str) -> str:
    """Join letters with the same separator between them: runs of at least four letters.

    If a text has such a run, shorter runs with its separator are joined too.
    """
    signs: set[str] = set()

    def join(match: re.Match[str]) -> str:
        end = _end(match)
        joined = "".join(_UNDRESSED.get(char, char) for char in text[match.start() : end : 2])
        if len(joined) < 4 or not _could_be_word(joined):
            return match[0]
        signs.add(match[1])
        return joined + text[end : match.end()]

    joined = _SPREAD.sub(join, text)
    return _ALSO_SPREAD.sub(lambda match: _shorter(match, signs), joined) if signs else joined


def _shorter(match: re.Match[str], signs: set[str]) -> str:
    end = _end(match)
    if match[1] not in signs or end - match.start() < 3:
        return match[0]
    return match.string[match.start() : end : 2] + match.string[end : match.end()]


def _end(match: re.Match[str]) -> int:
    """Return the end of a run, without final letters that belong to the text after it."""
    end = match.end()
    while end > match.start() + 1 and _GOES_ON.match(match.string, end):
        end -= 2
    return end


def _could_be_word(letters: str) -> bool:
    """Return whether letters have vowels and consonants, and are not an enumeration (a, b, c)."""
    vowels = sum(char in VOWELS for char in letters)
    follows = sum(ord(b) - ord(a) == 1 for a, b in pairwise(letters))
    return 0 < vowels < len(letters) and follows < len(letters) - 2


# --- digits for letters ---------------------------------------------------------------------------

_LEET_WORD = re.compile(  # not part of a URL, a path, an escape or a key
    r"(?<![\w@$.\\%#&+/=])(?=[A-Za-z]{0,23}[0-9@$])(?=[0-9@$]{0,23}[A-Za-z])[A-Za-z0-9@$]{2,24}"
    r"(?![\w@$+/=]|\.\w)"
)
_INSIDE = re.compile("[A-Za-z][013-9$]{1,3}[A-Za-z]")
_SHAPE = table(a="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", d="013456789$")
_INSIDE_SHAPES = (b"ada", b"adda", b"addda")
_SEVERAL = re.compile("[013-9$][A-Za-z]+[013-9$]|00|33|44|55")  # not base64, i18n, a11y
_SURE = re.compile("[A-Za-z]++[013457$]++(?:[a-z]++[013457$]++)++[a-z]*+")
_HEX = re.compile("[0-9a-fA-F]+")
_NO_WORD = re.compile("[b-df-hj-np-tv-xz]{5}|[aeiou]{4}", re.IGNORECASE)
_UNLEET = str.maketrans(LEET)


def can_be_leet(text: str) -> bool:
    """Return whether `fold_leet` could change any part of a text; cheap."""
    shape = ascii_of(text).translate(_SHAPE)
    return any(inside in shape for inside in _INSIDE_SHAPES)


def fold_leet(text: str) -> str:
    """Replace digits in words with at least two digits for letters.

    If a text has several such words, words with one digit are changed too.
    """
    words = {word for word in _LEET_WORD.findall(text) if _is_leet(word)}
    spoken = len(words) > 1
    if not spoken:
        words = {word for word in words if _is_surely_leet(word)}
    if not words:
        return text

    def fold(match: re.Match[str]) -> str:
        word = match[0]
        folds = word in words or (spoken and _could_be_leet(word))
        if not folds:
            return word
        plain = word.translate(_UNLEET)
        letters = [char for char in word if char.isalpha()]
        return plain.upper() if len(letters) > 1 and all(map(str.isupper, letters)) else plain

    return _LEET_WORD.sub(fold, text)


def _could_be_leet(word: str) -> bool:
    return not word.startswith("0x") and all(char.isalpha() or char in LEET for char in word)


def _is_leet(word: str) -> bool:
    """Return whether a word has digits for letters, and is not a hash, version, unit or code."""
    letters = "".join(char for char in word if char.isalpha())
    others = len(word) - len(letters) - word.count("@")  # "checkout@v4" is not a word
    return (
        len(word) >= 4
        and len(letters) >= 2
        and others >= 2
        and (letters[1:].islower() or letters.isupper())
        and _could_be_leet(word)
        and _INSIDE.search(word) is not None
        and _SEVERAL.search(word) is not None
        and _HEX.fullmatch(word) is None
        and _NO_WORD.search(word.translate(_UNLEET)) is None
    )


def _is_surely_leet(word: str) -> bool:
    """Return whether one such word alone is enough: long, and mostly letters."""
    letters = sum(map(str.isalpha, word))
    return len(word) >= 6 and 2 * letters >= len(word) and _SURE.fullmatch(word) is not None
