"""Describe how a reader would understand a text, for the judge to see next to the text itself.

Pure, and linear in the length of the text. A judge receives a text unchanged. If a reader, or the
model, would understand something else, the judge also receives a reading: hidden characters by
name, the text without its disguise, and decoded encodings. Nothing here decides that a text is bad.

The size of a reading is bounded, however long the text: a prompt has room for hints, not for a
second copy. What is omitted is counted, since an empty reading would look like an honest text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from magistrate.text.encodings import decoded
from magistrate.text.hidden_characters import can_hide, strip
from magistrate.text.lookalikes import (
    CYRILLIC,
    FULL_WIDTH,
    LATIN,
    LATIN_BY_SCRIPT,
    SMALL,
    STYLED,
)
from magistrate.text.scanning import OTHER, ascii_of, ranges, table
from magistrate.text.spelling import can_be_leet, can_be_spread, fold_leet, join_spread
from magistrate.wire.messages import JSON

WHOLE = 8_000  # up to this many characters, a normalised text is shown whole: two pages
PASSAGE = 400  # characters per passage of a longer text: a disguised word with its sentence
PASSAGES = 16  # most passages; together no longer than a text that is shown whole


@dataclass(frozen=True, slots=True)
class Reading:
    """Hidden characters by name, the normalised text if it differs, and decoded payloads."""

    hidden: tuple[str, ...] = ()
    normalised: str | None = None
    decoded: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> JSON:
        """Return the fields for a part's line in the judge's prompt; empty for an honest text."""
        found: JSON = {}
        if self.hidden:
            found["hidden"] = list(self.hidden)
        if self.normalised is not None:
            found["normalised"] = self.normalised
        if self.decoded:
            found["decoded"] = [{"as": how, "text": text} for how, text in self.decoded]
        return found


def reading(text: str) -> Reading:
    """Return how a reader would understand a text. Never raises, whatever the text contains."""
    stripped = strip(text)
    return Reading(
        stripped.hidden,
        _normalised(text, stripped.text),
        decoded(stripped.text, stripped.payloads),
    )


def _normalised(text: str, seen: str) -> str | None:
    """Return the text, or the affected passages, without disguise; None if no word changes."""
    if _is_plain(text):
        return None
    if len(text) <= WHOLE:
        plain = _plain(text, seen)
        return plain if _differs(plain, text) else None
    shown: list[str] = []
    more = 0
    for passage in _PASSAGE.findall(text):
        if _is_plain(passage):
            continue
        plain = _plain(passage, strip(passage).text)
        if _differs(plain, passage):
            if len(shown) < PASSAGES:
                shown.append(plain.strip())
            else:
                more += 1
    if more:
        shown.append(f"{more} more passages")
    return " […] ".join(shown) or None


_PASSAGE = re.compile(f"[^\\n]{{1,{PASSAGE}}}(?:\\s|$)|[^\\n]{{1,{PASSAGE}}}")
_WORD = re.compile(r"\w+")


def _differs(plain: str, text: str) -> bool:
    """Return whether the words differ: an invisible character at the end does not count."""
    return plain != text and _WORD.findall(plain) != _WORD.findall(text)


def _plain(text: str, seen: str) -> str:
    """Return the text without its disguise. `seen` is the text without its hidden characters.

    Runs three rounds if the first changes anything, since one step can reveal work for an earlier
    one.
    """
    plain = _undressed(seen)
    for _ in range(2) if plain != text else ():
        plain = _undressed(strip(plain).text)
    return plain


def _is_plain(text: str) -> bool:
    """Return whether no step of `_plain` could change the text; cheap, and usually True."""
    odd = not text.isascii() and (_can_be_styled(text) or _can_be_mixed(text))
    return not (odd or can_hide(text) or can_be_spread(text) or can_be_leet(text))


def _undressed(text: str) -> str:
    if not text.isascii():
        text = _fold_lookalikes(_fold_styled(text))
    if can_be_spread(text):
        text = join_spread(text)
    return fold_leet(text) if can_be_leet(text) else text


# --- styled letters -------------------------------------------------------------------------------

_DRESSED = re.compile(f"[A-Za-z{ranges(STYLED | FULL_WIDTH)}]+")
_ODD_LETTER = re.compile(f"[{ranges(STYLED | FULL_WIDTH | SMALL, gap=8)}]")
_SMALL = re.compile(f"[{ranges(SMALL)}osvwxz]{{4,}}")
_WIDE = re.compile("[Ａ-Ｚａ-ｚ]")
_EAST_ASIAN = re.compile("[\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3]")


def _can_be_styled(text: str) -> bool:
    return _ODD_LETTER.search(text) is not None


def _fold_styled(text: str) -> str:
    """Replace styled letters, such as mathematical ones, where they form words.

    A single styled letter is a variable, a unit or a numeral, and full-width letters are normal in
    East Asian text: those are kept.
    """
    if not _can_be_styled(text):
        return text
    wide = len(_WIDE.findall(text))
    dressed = STYLED | FULL_WIDTH if wide > len(_EAST_ASIAN.findall(text)) else STYLED

    def fold(match: re.Match[str]) -> str:
        word = match[0]
        odd = sum(char in dressed for char in word)
        if odd >= 3 or (odd and len(word) - odd >= 2):
            return "".join(dressed.get(char, char) for char in word)
        return word

    def fold_small(match: re.Match[str]) -> str:
        word = match[0]
        return "".join(SMALL.get(char, char) for char in word) if _has(word, SMALL, 4) else word

    return _SMALL.sub(fold_small, _DRESSED.sub(fold, text))


def _has(word: str, table: dict[str, str], least: int) -> bool:
    return sum(char in table for char in word) >= least


# --- letters of another script --------------------------------------------------------------------

_LETTERS = re.compile(r"[^\W\d_]+")
_LOOKALIKE = re.compile(f"[{''.join(LATIN)}]")
_CYRILLIC_LETTER = re.compile("[Ѐ-ӿԀ-ԯ]")
_LATIN_LETTER = re.compile("[A-Za-z]")
_SHAPE = table(a="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", o=OTHER)


def _can_be_mixed(text: str) -> bool:
    """Return whether a word can mix scripts: an ASCII letter is next to a non-ASCII character."""
    if _LOOKALIKE.search(text) is None:
        return False
    shape = ascii_of(text).translate(_SHAPE)
    return b"ao" in shape or b"oa" in shape


def _fold_lookalikes(text: str) -> str:
    """Convert words that mix scripts to the text's main script: all letters of a word or none.

    A word of only look-alikes is ambiguous ("сор"): it is converted if another word is mixed.
    """
    if not _can_be_mixed(text):
        return text
    latin, cyrillic = len(_LATIN_LETTER.findall(text)), len(_CYRILLIC_LETTER.findall(text))
    if cyrillic > latin:
        return _LETTERS.sub(_to_cyrillic, text)
    mixed = False

    def fold(match: re.Match[str]) -> str:
        nonlocal mixed
        word = match[0]
        if word.isascii() or not _is_mixed(word):
            return word
        mixed = True
        return word.translate(_TO_LATIN)

    def fold_pure(match: re.Match[str]) -> str:
        word = match[0]
        return word.translate(_TO_LATIN) if all(char in LATIN for char in word) else word

    folded = _LETTERS.sub(fold, text)
    return _LETTERS.sub(fold_pure, folded) if mixed else folded


_TO_LATIN = str.maketrans(LATIN)
_TO_CYRILLIC = str.maketrans(CYRILLIC)


def _is_mixed(word: str) -> bool:
    """Return whether a word has ASCII letters, and all others are look-alikes of one script.

    Short words with Greek letters that are common symbols are formulas ("ρgh").
    """
    others = [char for char in word if not ("A" <= char <= "Z" or "a" <= char <= "z")]
    if not others or len(others) == len(word):
        return False
    if len(word) < 4 and any("α" <= char <= "ω" and char not in "ιου" for char in others):
        return False
    return any(all(char in table for char in others) for table in LATIN_BY_SCRIPT)


def _to_cyrillic(match: re.Match[str]) -> str:
    word = match[0]
    latin = [char for char in word if char.isascii()]
    if latin and len(latin) < len(word) and all(char in CYRILLIC for char in latin):
        return word.translate(_TO_CYRILLIC)
    return word
