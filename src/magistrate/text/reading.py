"""What a reader would see, next to what was sent.

Pure, and linear in the length of the text. A judge gets a text as it is; where that is not what a
reader, or the model, would take from it, the judge gets this beside it: hidden characters by name,
the text without its disguise, and what encodings in it say. Nothing here says that a text is bad.

What is attached is bounded, however long the text: a prompt has room for hints, not for a second
copy. Whatever is left out is counted, since an empty hint would look like an honest text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from magistrate.text.encodings import decoded
from magistrate.text.hidden_characters import strip
from magistrate.text.lookalikes import (
    CYRILLIC,
    FULL_WIDTH,
    LATIN,
    LATIN_BY_SCRIPT,
    LEET,
    REGIONAL,
    SMALL,
    STYLED,
    VOWELS,
)
from magistrate.wire.messages import JSON

WHOLE = 8_000  # characters up to which a normalised text is attached whole: two pages
PASSAGE = 400  # characters of a passage of longer ones: a disguised word with its sentence
PASSAGES = 16  # of those; together no more than a text that is attached whole


@dataclass(frozen=True, slots=True)
class Reading:
    """Hidden characters by name, the normalised text where it differs, decoded payloads."""

    hidden: tuple[str, ...] = ()
    normalised: str | None = None
    decoded: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> JSON:
        """What stands on a part's line in the judge's prompt; empty for an honest text."""
        found: JSON = {}
        if self.hidden:
            found["hidden"] = list(self.hidden)
        if self.normalised is not None:
            found["normalised"] = self.normalised
        if self.decoded:
            found["decoded"] = [{"as": how, "text": text} for how, text in self.decoded]
        return found


def reading(text: str) -> Reading:
    """How a reader would take a text. Never raises, whatever is in it."""
    stripped = strip(text)
    return Reading(
        stripped.hidden,
        _normalised(text),
        decoded(stripped.text, stripped.payloads),
    )


def _normalised(text: str) -> str | None:
    """The text without its disguise, or the passages that had one; None if no word changes."""
    if len(text) <= WHOLE:
        plain = _plain(text)
        return plain if _differs(plain, text) else None
    shown: list[str] = []
    more = 0
    for passage in _PASSAGE.findall(text):
        plain = _plain(passage)
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
    """Whether a reader would take other words from it: an invisible character at an end is none."""
    return plain != text and _WORD.findall(plain) != _WORD.findall(text)


def _plain(text: str) -> str:
    """Three rounds where there is anything to do: one step can uncover work for an earlier one."""
    plain = _undressed(text)
    return text if plain == text else _undressed(_undressed(plain))


def _undressed(text: str) -> str:
    text = strip(text).text
    if not text.isascii():
        text = _fold_lookalikes(_fold_styled(text))
    return _fold_leet(_join_spread(text))


# --- letters in another dress ---------------------------------------------------------------------

_DRESSED = re.compile(f"[A-Za-z{''.join(STYLED)}{''.join(FULL_WIDTH)}]+")
_ODD_LETTER = re.compile(f"[{''.join(STYLED)}{''.join(FULL_WIDTH)}{''.join(SMALL)}]")
_SMALL = re.compile(f"[{''.join(SMALL)}osvwxz]{{4,}}")
_EAST_ASIAN = re.compile("[\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3]")


def _fold_styled(text: str) -> str:
    """Alphabets such as the mathematical ones, where they spell words.

    A single letter of them is a variable, a unit or a numeral, and full-width letters belong to
    East Asian text: those stay.
    """
    if _ODD_LETTER.search(text) is None:
        return text
    wide = len(re.findall("[Ａ-Ｚａ-ｚ]", text))
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


def _fold_lookalikes(text: str) -> str:
    """Words that mix scripts, in the one that the text is mostly in; all letters of a word or none.

    A word wholly of look-alikes is ambiguous ("сор"): it is folded where another one is mixed.
    """
    if _LOOKALIKE.search(text) is None:
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
    """Whether it has ASCII letters and, all others, look-alikes of one other script.

    Short ones with Greek letters that mean something are formulas ("ρgh").
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


# --- letters spread out ---------------------------------------------------------------------------

_LETTER = f"[A-Za-zÀ-ÖØ-öø-ɏͰ-ϿЀ-ӿ԰-֏{''.join(STYLED)}{''.join(FULL_WIDTH)}{''.join(REGIONAL)}]"
_SEPARATOR = "[ \\u00a0\\u2000-\\u200a.·•*_|/,+~=-]"
_RUN = (
    f"(?<![\\w'’🇦-🇿])(?<!\\w[.*_|/,+~=-]){_LETTER}(?:({_SEPARATOR}){_LETTER}(?:\\1{_LETTER})"
    "{%d,})(?![\\w'’🇦-🇿])(?![.*_|/,+~=-]\\w)"
)
_UNDRESSED = STYLED | FULL_WIDTH | REGIONAL
_SPREAD = re.compile(_RUN % 2)
_ALSO_SPREAD = re.compile(_RUN % 0)


def _join_spread(text: str) -> str:
    """Letters with the same sign between each two, four at least; where there are, also shorter."""
    signs: set[str] = set()

    def join(match: re.Match[str]) -> str:
        joined = "".join(_UNDRESSED.get(char, char) for char in match[0][::2])
        if not _could_be_word(joined):
            return match[0]
        signs.add(match[1])
        return joined

    def join_also(match: re.Match[str]) -> str:
        return match[0][::2] if match[1] in signs else match[0]

    joined = _SPREAD.sub(join, text)
    return _ALSO_SPREAD.sub(join_also, joined) if signs else joined


def _could_be_word(letters: str) -> bool:
    """Whether it has vowels and others, and is no enumeration: a row of variables is no word."""
    vowels = sum(char in VOWELS for char in letters)
    follows = sum(ord(b) - ord(a) == 1 for a, b in pairwise(letters))
    return 0 < vowels < len(letters) and follows < len(letters) - 2


# --- digits for letters ---------------------------------------------------------------------------

_LEET_WORD = re.compile(  # not a piece of an address, a path, an escape or a key
    r"(?<![\w@$.\\%#&+/=])(?=[A-Za-z]*[0-9@$])(?=[0-9@$]*[A-Za-z])[A-Za-z0-9@$]{2,24}"
    r"(?![\w@$+/=]|\.\w)"
)
_INSIDE = re.compile("[A-Za-z][013-9$]{1,3}[A-Za-z]")
_SEVERAL = re.compile("[013-9$][A-Za-z]+[013-9$]|00|33|44|55")  # not base64, i18n, a11y
_SURE = re.compile("[A-Za-z]+[013457$]+(?:[a-z]+[013457$]+)+[a-z]*")
_HEX = re.compile("[0-9a-fA-F]+")
_NO_WORD = re.compile("[b-df-hj-np-tv-xz]{5}|[aeiou]{4}", re.IGNORECASE)
_UNLEET = str.maketrans(LEET)


def _fold_leet(text: str) -> str:
    """Words with two or more digits for letters; where there are several such, also with one."""
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
    """Whether a word has digits for letters inside, and is no hash, version, unit or code."""
    letters = "".join(char for char in word if char.isalpha())
    others = len(word) - len(letters) - word.count("@")  # "checkout@v4" is no word
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
    """Whether it is so even alone: long, and mostly letters."""
    letters = sum(map(str.isalpha, word))
    return len(word) >= 6 and 2 * letters >= len(word) and _SURE.fullmatch(word) is not None
